# What all rules share: the validated settings, which runs there are, and which files a rule depends on.
import csv
import hashlib
import os
import re
import shlex
import sys
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError

from rlscape.catalogue import (
    ARMS,
    FIGURES,
    arms_of,
    base_of,
    has_task,
    parse_run_name,
    resolve_run,
    runs_of,
    with_catalogue,
)
from rlscape.config import ConfigError, parse_config
from rlscape.imports import source_files

try:
    SOURCE = workflow.configfiles[-1]
    CONFIG = with_catalogue(parse_config(config, source=SOURCE), source=SOURCE)
except ConfigError as error:
    raise WorkflowError(str(error)) from None

# Jobs run the Python that runs Snakemake, also when its environment is not activated.
shell.prefix(f"export PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH; ")

# What a job that runs a model takes of `--resources gpu=1`.
GPUS = int(CONFIG.device == "cuda")

# The paper whose learning curves are fitted, and the one whose weights are measured.
SCALERL_ARMS = [arm for arm in CONFIG.seeds if ARMS[arm].paper == "scalerl"]
OFF_PRINCIPALS_ARMS = [arm for arm in CONFIG.seeds if ARMS[arm].paper == "off_principals"]
RL_ARMS = [arm for arm in CONFIG.seeds if ARMS[arm].method == "rl"]
SFT_ARMS = [arm for arm in CONFIG.seeds if ARMS[arm].method == "sft"]

PAPERS = {
    "scalerl": "The Art of Scaling Reinforcement Learning Compute",
    "off_principals": "The Path Not Taken",
}
FIGURE_MODULES = [f"figures.{figure.paper}.{figure.stem}" for figure in FIGURES]
NOTEBOOKS = sorted(file.stem for file in Path(workflow.basedir, "notebooks").glob("*.ipynb"))

# What these modules say reaches a rule resolved, through `params`, or does not change a result. So adding an
# arm reruns nothing, while a changed number reruns just the rules whose settings contain it.
SETTINGS_MODULES = {"catalogue", "config", "errors", "files", "rl.recipes", "settings"}


# Files


def in_repository(*parts):
    """A file of the repository, relative to the working directory: moving both changes nothing."""
    return os.path.relpath(os.path.join(workflow.basedir, *parts))


CLAIMS = in_repository("config", "claims.yaml")


def code(*modules, leave_out=()):
    """The source files behind some modules: their content, and no time stamp, decides about reruns."""
    package = Path(workflow.basedir, "src", "rlscape")
    return [
        os.path.relpath(file) for file in source_files(package, modules, SETTINGS_MODULES.union(leave_out))
    ]


def model_files(directory):
    """The files of a Hugging Face model directory that its readers need."""
    return [f"{directory}/config.json", f"{directory}/model.safetensors"]


def base_model_of_run(wildcards):
    return model_files(f"<results>/bases/{resolve_run(CONFIG, wildcards.run).base_name}")


def base_evaluation_of_run(wildcards):
    return f"<results>/bases/{resolve_run(CONFIG, wildcards.run).base_name}/evaluation.json"


def results_of_arms(arms):
    """What is known about all runs of some arms: their curves, and their fits or their geometry."""
    geometry = ("matrices.parquet", "spectra.parquet", "masks.npz", "summary.json")
    files = []
    for run in runs_of(CONFIG, arms):
        arm, _ = parse_run_name(run)
        base = resolve_run(CONFIG, run).base_name
        files += [
            f"<results>/bases/{base}/evaluation.json",
            f"<results>/runs/{run}/metrics.parquet",
            f"<results>/runs/{run}/run.json",
        ]
        if arm in RL_ARMS:
            files.append(f"<results>/runs/{run}/updates.parquet")
        if arm in SCALERL_ARMS:
            files += [
                f"<results>/{kind}/{run}{task}.json"
                for kind in ("forecasts", "fits")
                for task in curves_of(arm)
            ]
        if arm in OFF_PRINCIPALS_ARMS:
            files += [f"<results>/geometry/{run}/{name}" for name in geometry]
    return list(dict.fromkeys(files))


def curves_of(arm):
    """What the learning curves of an arm's runs are called after the run's name: one curve per task."""
    return ["", "_code"] if has_task(arm, "code") else [""]


def picture_files(stem):
    return [f"<figures>/{stem}.{suffix}" for suffix in ("svg", "png", "csv")]


def figure_files(figure):
    return picture_files(f"{figure.paper}/{figure.stem}")


def figure_at(wildcards):
    here = (wildcards.paper, wildcards.stem)
    return next(figure for figure in FIGURES if (figure.paper, figure.stem) == here)


def results_of_figure(wildcards):
    return results_of_arms(arms_of(CONFIG, figure_at(wildcards)))


def code_of_figure(wildcards):
    return code("cli.plot", f"figures.{wildcards.paper}.{wildcards.stem}")


# Parameters


def one_of(names):
    """A wildcard constraint."""
    return "|".join(names)


def directory_of(name):
    """The directory of the named output."""
    return lambda wildcards, output: os.path.dirname(output[name])


def input_directory_of(name):
    """The directory of the first of the named inputs."""
    return lambda wildcards, input: os.path.dirname(input[name][0])


def without_suffix_of(name):
    """The named output without its suffix."""
    return lambda wildcards, output: os.path.splitext(output[name])[0]


def run_settings(wildcards):
    return resolve_run(CONFIG, wildcards.run).model_dump_json()


def study_of_base(wildcards):
    """The study whose evaluation settings measure a base: that of the first arm that starts from it."""
    arm = next(arm for arm in CONFIG.seeds if base_of(CONFIG, arm) == wildcards.base)
    return getattr(CONFIG, ARMS[arm].paper)


def code_option(wildcards):
    """The settings of the code task, for a base that knows it."""
    if not CONFIG.bases[wildcards.base].pretraining.code_rate:
        return ""
    return f"--code {shlex.quote(CONFIG.code.model_dump_json())}"


def scratch_of_run(wildcards, input):
    """Where an interrupted run keeps its state: other code or other settings are another place."""
    digest = hashlib.sha256(run_settings(wildcards).encode())
    for file in input.code:
        digest.update(Path(file).read_bytes())
    return f"{CONFIG.results_dir}/scratch/{wildcards.run}-{digest.hexdigest()[:12]}"


def settings_of_arms(arms):
    """The scale's settings with the seeds of some arms only: other arms are no reason to plot again."""
    return CONFIG.changed(seeds={arm: CONFIG.seeds[arm] for arm in arms}).model_dump_json()


def describe_arms(arms):
    """What the catalogue says about some arms: a new label is a reason to plot again."""
    return [ARMS[arm].model_dump_json() for arm in arms]


# Report


def as_rst(text):
    """Text whose marks are no markup."""
    return re.sub(r"([\\*`|_])", r"\\\1", text)


def read_register():
    """The claims with what was seen, once it is known; captions find them as `snakemake.config["register"]`."""
    table = CONFIG.results_dir / "claims.csv"
    seen = {}
    if table.exists():
        with table.open(newline="") as file:
            seen = {row["id"]: f"{row['verdict']}. {row['reason']}" for row in csv.DictReader(file)}
    register = []
    for claim in yaml.safe_load(Path(CLAIMS).read_text())["claims"]:
        texts = {key: claim[key] for key in ("id", "text", "evidence", "criterion")}
        texts["seen"] = seen.get(claim["id"], "not evaluated yet")
        register.append({key: as_rst(text) for key, text in texts.items()} | {"figures": claim["figures"]})
    return register


config["register"] = read_register()

# How to read each figure, by target; captions find it as `snakemake.config["reading"]`.
config["reading"] = {
    file.stem: file.read_text().strip()
    for file in Path(workflow.basedir, "workflow", "report", "figures").glob("*.rst")
}
