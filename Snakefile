# Every figure, table, claim and notebook of both papers:
#
#   snakemake --cores 8 all                                 the default scale
#   snakemake --cores 8 scalerl_fig5                        one figure and only what it needs
#   snakemake --cores 2 all --configfile config/smoke.yaml  another scale
#
# What runs there are and which figure needs which is src/rlscape/catalogue/; how large they are is config/.
from snakemake.utils import min_version

min_version("9.19")


# A scale's file is complete in itself: the default is never a layer under another one.
if not workflow.overwrite_configfiles:

    configfile: os.path.relpath(os.path.join(workflow.basedir, "config", "config.yaml"))


include: "workflow/rules/common.smk"
include: "workflow/rules/register.smk"


pathvars:
    results=str(results_dir(CONFIG)),
    figures=str(figures_dir(CONFIG)),
    logs=str(results_dir(CONFIG) / "logs"),
    benchmarks=str(results_dir(CONFIG) / "benchmarks"),


report: "workflow/report/workflow.rst"


# The image that the lock in envs/ is made for; jobs run in the active environment unless asked otherwise.
container: "docker://python:3.11"


include: "workflow/rules/pretrain.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/fit.smk"
include: "workflow/rules/compared.smk"
include: "workflow/rules/measure.smk"
include: "workflow/rules/plot.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/power.smk"
include: "workflow/rules/notebooks.smk"
include: "workflow/rules/pilots.smk"


rule all:
    default_target: True
    input:
        [figure_files(figure) for figure in SCALE_FIGURES],
        picture_files("scoreboard"),
        "<results>/claims.csv",
        expand("<results>/notebooks/{notebook}.ipynb", notebook=NOTEBOOKS),


for figure in SCALE_FIGURES:

    rule:
        name:
            figure.target
        input:
            figure_files(figure),


for paper in sorted({figure.paper for figure in SCALE_FIGURES if "table" in figure.stem}):

    rule:
        name:
            f"{paper}_tables"
        input:
            [
                figure_files(figure)
                for figure in SCALE_FIGURES
                if figure.paper == paper and "table" in figure.stem
            ],


rule scoreboard:
    input:
        picture_files("scoreboard"),


rule pilots:
    input:
        picture_files("pilots"),
