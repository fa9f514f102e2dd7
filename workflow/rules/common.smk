# What all rules share: the validated settings, which runs there are, and which files a rule depends on.
import csv
import functools
import hashlib
import json
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
    INTERVENTIONS,
    arms_of,
    base_of,
    has_task,
    parse_run_name,
    resolve_run,
    runs_of,
    start_of,
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

# Seeds that RL, SFT and SFT at RL's learning rate have in common.
MATCHED_SEEDS = range(min(CONFIG.seeds[arm] for arm in ("rlvr", "sft", "sft_lr_thirtieth")))

PAPERS = {
    "scalerl": "The Art of Scaling Reinforcement Learning Compute",
    "off_principals": "The Path Not Taken",
}
FIGURE_MODULES = [f"figures.{figure.paper}.{figure.stem}" for figure in FIGURES]
NOTEBOOKS = sorted(file.stem for file in Path(workflow.basedir, "notebooks").glob("*.ipynb"))

# What these modules say reaches a rule resolved, through its other parameters, or does not change a result. So
# adding an arm reruns nothing, while a changed number reruns just the rules whose settings contain it.
SETTINGS_MODULES = frozenset({"catalogue", "config", "errors", "files", "rl.recipes", "settings"})


# Files


def in_repository(*parts):
    """A file of the repository, relative to the working directory: moving both changes nothing."""
    return os.path.relpath(os.path.join(workflow.basedir, *parts))


CLAIMS = in_repository("config", "claims.yaml")


@functools.cache
def code(*modules, leave_out=frozenset()):
    """A digest of the source files behind some modules: their content, and no time stamp, decides about reruns.

    As inputs, some fifty files per job, they would cost Snakemake's scheduler a third of a core.
    """
    package = Path(workflow.basedir, "src", "rlscape")
    digest = hashlib.sha256()
    for file in source_files(package, modules, SETTINGS_MODULES | leave_out):
        digest.update(file.relative_to(package).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def model_files(directory):
    """The files of a Hugging Face model directory that its readers need."""
    return [f"{directory}/config.json", f"{directory}/model.safetensors"]


def start_of_run(wildcards, run=None):
    """The model that a run starts from."""
    return model_files(f"<results>/{start_of(CONFIG, run or wildcards.run)}")


def trained_files(run, snapshots=False):
    """What a measurement may read of a run's directory; the first lies in it."""
    files = [f"<results>/runs/{run}/metrics.parquet", *model_files(f"<results>/runs/{run}/model")]
    return files + ([f"<results>/runs/{run}/snapshots.safetensors"] if snapshots else [])


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
            f"<results>/runs/{run}/updates.parquet",
            f"<results>/runs/{run}/run.json",
        ]
        if arm in SCALERL_ARMS:
            files += [
                f"<results>/{kind}/{run}{task}.json"
                for kind in ("forecasts", "fits")
                for task in curves_of(arm)
            ]
        if arm in OFF_PRINCIPALS_ARMS and not ARMS[arm].restricted:
            files += [f"<results>/geometry/{run}/{name}" for name in geometry]
    return list(dict.fromkeys(files))


def curves_of(arm):
    """What the learning curves of an arm's runs are called after the run's name: one curve per task."""
    return ["", "_code"] if has_task(arm, "code") else [""]


def runs_of_group(group):
    """The runs whose updates are compared with each other."""
    if group == "footprint":
        footprint = [arm for arm in OFF_PRINCIPALS_ARMS if arm.startswith("footprint_")]
        return [f"{arm}-s0" for arm in (*footprint, "rlvr", "sft")]
    arms = ("rlvr", "rlvr_intervened", "rlvr_sgd", "rlvr_intervened_sgd")
    return runs_of(CONFIG, [arm for arm in arms if arm in CONFIG.seeds])


def models_of_group(wildcards):
    files = []
    for run in runs_of_group(wildcards.group):
        settings = resolve_run(CONFIG, run)
        files += model_files(f"<results>/bases/{settings.base_name}")
        files += model_files(f"<results>/runs/{run}/model")
        if settings.intervention:
            changed = f"<results>/{start_of(CONFIG, run)}"
            files += [*model_files(changed), f"{changed}/intervention.json"]
    return list(dict.fromkeys(files))


def compared_runs(wildcards):
    runs = []
    for run in runs_of_group(wildcards.group):
        settings = resolve_run(CONFIG, run)
        base, root = CONFIG.results_dir / "bases" / settings.base_name, CONFIG.results_dir
        paths = {"base": root / start_of(CONFIG, run), "model": root / "runs" / run / "model"}
        if settings.intervention:
            paths["original"] = base
        runs.append({"run": run} | {name: str(path) for name, path in paths.items()})
    return json.dumps({"runs": runs})


def picture_files(stem):
    return [f"<figures>/{stem}.{suffix}" for suffix in ("svg", "png", "csv")]


def figure_files(figure):
    return picture_files(f"{figure.paper}/{figure.stem}")


def figure_at(wildcards):
    here = (wildcards.paper, wildcards.stem)
    return next(figure for figure in FIGURES if (figure.paper, figure.stem) == here)


def results_of_figure(wildcards):
    figure = figure_at(wildcards)
    arms = arms_of(CONFIG, figure)
    return results_of_arms(arms) + results_of_measurements(figure.measurements, arms)


def results_of_measurements(measurements, arms):
    """The files of what is measured beyond single runs; per run, on some arms."""
    files = []
    for measurement in measurements:
        if measurement == "over_time":
            runs = runs_of(CONFIG, [arm for arm in arms if ARMS[arm].snapshots])
            names = [f"{run}/{name}" for run in runs for name in ("over_time", "profiles")]
        elif measurement == "operators":
            names = [f"{run}/{name}" for run in runs_of(CONFIG, arms) for name in ("operators", "mantissa")]
        elif measurement == "matching":
            names = [f"matching-s{seed}" for seed in MATCHED_SEEDS]
        elif measurement.startswith("pairs_"):
            names = [measurement, measurement.replace("pairs", "stripes")]
        else:
            names = [measurement]
        files += [f"<results>/geometry/{name}.parquet" for name in names]
    return files


def code_of_training(wildcards):
    """What trains a run; modules of other methods are no reason to train it again."""
    arm = ARMS[parse_run_name(wildcards.run)[0]]
    others = {
        "rl.trainer": arm.method == "rl",
        "adapters": arm.adapter is not None,
        "sparse": arm.mask is not None,
        "sft": arm.method == "sft",
        "preference": arm.method in ("dpo", "simpo"),
    }
    return code("cli.train", leave_out=frozenset(module for module, used in others.items() if not used))


def code_of_figure(wildcards):
    return code("cli.plot", f"figures.{wildcards.paper}.{wildcards.stem}")


# Parameters


def one_of(names):
    """A wildcard constraint."""
    return "|".join(names)


def runs_pattern(methods, snapshots):
    """A wildcard constraint: the runs of some methods that keep snapshots, or those that do not."""
    arms = [arm for arm in CONFIG.seeds if ARMS[arm].method in methods and ARMS[arm].snapshots == snapshots]
    return rf"({one_of(arms)})-s\d+"


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


def task_options(wildcards):
    """The settings of tasks beside math, for a base that knows them."""
    pretraining = CONFIG.bases[wildcards.base].pretraining
    options = {"code": pretraining.code_rate, "agents": pretraining.agent_rate}
    known = [task for task, rate in options.items() if rate]
    return " ".join(f"--{task} {shlex.quote(getattr(CONFIG, task).model_dump_json())}" for task in known)


def scratch_of_run(wildcards):
    """Where an interrupted run keeps its state: other code or other settings are another place."""
    digest = hashlib.sha256(f"{run_settings(wildcards)}{code_of_training(wildcards)}".encode())
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
