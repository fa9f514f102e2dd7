# What all rules share: the validated settings, which runs there are, and which files a rule depends on.
import csv
import functools
import hashlib
import json
import os
import re
import shlex
import sys
from itertools import chain
from pathlib import Path

import yaml
from pydantic import TypeAdapter
from snakemake.exceptions import WorkflowError

from rlscape.catalogue import (
    ARMS,
    CHOICE_REFERENCE,
    FIGURES,
    arms_of,
    base_of,
    choices_of,
    curved_bases,
    figures_of,
    first_run,
    measured_arms,
    resolve_run,
    runs_of,
    seeds_of,
    start_of,
    tasks_of,
    with_figure,
    with_catalogue,
)
from rlscape.catalogue.off_principals import INTERVENTIONS
from rlscape.catalogue.styles import ARM_STYLES
from rlscape.errors import UserError
from rlscape.imports import DATA_MODULES, source_files
from rlscape.machine import memory_mb, training_mb
from rlscape.models.checkpoints import cached_per_token, checkpoint_files, find_checkpoint, parameters_in
from rlscape.paths import figures_dir, parse_run_name, results_dir, run_name
from rlscape.results import needed
from rlscape.results.bias import MATCHED
from rlscape.rl.batches import most_sequences
from rlscape.settings.base_model import BaseSettings, CheckpointSettings
from rlscape.settings.reading import parse_config
from rlscape.tasks.base import column_prefix
from rlscape.tasks.registry import Tasks
from rlscape.tasks.sets import source_of

try:
    SOURCE = workflow.configfiles[-1]
    CONFIG = with_catalogue(parse_config(config, source=SOURCE), source=SOURCE)
    # The directories of the checkpoints that runs start from, by base; other bases are made from scratch.
    CHECKPOINTS = {
        base: find_checkpoint(CONFIG.bases[base], base)
        for base in dict.fromkeys(base_of(CONFIG, arm) for arm in CONFIG.seeds)
        if isinstance(CONFIG.bases[base], CheckpointSettings)
    }
except UserError as error:
    raise WorkflowError(str(error)) from None

# Jobs run the Python that runs Snakemake, also when its environment is not activated, and large tensors lie in large
# pages where the C library is glibc (2.35 or newer).
shell.prefix(
    f"export PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH"
    " GLIBC_TUNABLES=${{GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}}; "
)

# Of a prompt with its chat template, where memory is reckoned; how long prompts are is known when they are made (49
# tokens for sums).
PROMPT_TOKENS = 64

# What a job that runs a model takes of `--resources gpu=1`.
GPUS = int(CONFIG.device == "cuda")

# Jobs that run here together ask for no more than that, unless `--resources mem_mb=N` says otherwise. A profile could
# only name a number; a cluster's executor asks for each job's own.
if not {"mem", "mem_mb", "mem_mib"} & set(workflow.global_resources):
    workflow.register_resource("mem_mb", memory_mb())

SCRATCH = [base for base, settings in CONFIG.bases.items() if isinstance(settings, BaseSettings)]

# What the scale makes.
SCALE_FIGURES = figures_of(CONFIG)
# The bases whose curvature is measured, where the scale has the figure.
CURVED = curved_bases(CONFIG) if "off_principals_control_curvature" in CONFIG.targets else {}
# Those whose learning curves are fitted.
SCALERL_ARMS = [arm for arm in CONFIG.seeds if ARMS[arm].paper == "scalerl"]

NOTEBOOK_PAPERS = {"scaling": "scalerl", "geometry": "off_principals"}
PAPERS = {
    "scalerl": "The Art of Scaling Reinforcement Learning Compute",
    "off_principals": "The Path Not Taken",
}
FIGURE_MODULES = [f"figures.{figure.paper}.{figure.stem}" for figure in SCALE_FIGURES]
# A notebook reads the figures of a paper, but those of extra arms; a scale without all of them does not run it.
NOTEBOOKS = sorted(
    file.stem
    for file in Path(workflow.basedir, "notebooks").glob("*.ipynb")
    if {
        figure.target
        for figure in FIGURES
        if figure.paper == NOTEBOOK_PAPERS.get(file.stem, figure.paper)
        and not any(ARMS[arm].extra for arm in figure.arms)
    }
    <= set(CONFIG.targets)
)


# Files


def in_repository(*parts):
    """A file of the repository, relative to the working directory: moving both changes nothing."""
    return os.path.relpath(os.path.join(workflow.basedir, *parts))


@functools.cache
def code(*modules, tasks=(), leave_out=frozenset()):
    """A digest of the source files behind some modules: their content, and no time stamp, decides about reruns.

    As inputs, some fifty files per job, they would cost Snakemake's scheduler a third of a core. Of the tasks, those
    that are named count, with the modules that make them: a job that makes problems depends on its own tasks and on
    no other.
    """
    package = Path(workflow.basedir, "src", "rlscape")
    modules = [*modules, *(f"tasks.{source_of(task, CONFIG.tasks[task])}" for task in tasks)]
    files = source_files(package, modules, DATA_MODULES | leave_out)
    assert tasks or package / "tasks" / "sets.py" not in files, f"{modules}: which tasks?"
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(package).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def model_files(directory):
    """The files of a Hugging Face model directory that its readers need."""
    return [f"{directory}/config.json", f"{directory}/model.safetensors"]


def start_of_run(wildcards, run=None):
    """The model that a run starts from."""
    return model_files(f"<results>/{start_of(CONFIG, run or wildcards.run)}")


def starts_of_scale(wildcards):
    """The models that runs start from and that no run trains."""
    starts = {start_of(CONFIG, run) for run in runs_of(CONFIG, CONFIG.seeds)}
    return [
        file
        for start in sorted(starts)
        if start.startswith("bases/")
        for file in model_files(f"<results>/{start}")
    ]


def teacher_of_run(wildcards):
    """The model that samples what a run trains on, if it is not the run's own."""
    teacher = resolve_run(CONFIG, wildcards.run).teacher
    return model_files(f"<results>/runs/{teacher}/model") if teacher else []


def discarded_of_run(wildcards):
    """What rounding took from the base that a run starts from, if it is that of a checkpoint, unchanged."""
    start = start_of(CONFIG, wildcards.run)
    rounded = start in {f"bases/{base}" for base in CHECKPOINTS}
    return [f"<results>/{start}/discarded/model.safetensors"] if rounded else []


def trained_files(run, snapshots=False):
    """What a measurement may read of a run's directory; the first lies in it."""
    files = [f"<results>/runs/{run}/metrics.parquet", *model_files(f"<results>/runs/{run}/model")]
    return files + ([f"<results>/runs/{run}/snapshots"] if snapshots else [])


def base_evaluation_of_run(wildcards):
    return f"<results>/bases/{resolve_run(CONFIG, wildcards.run).base_name}/evaluation.json"


def task_of_curve(wildcards):
    """The task of a learning curve: the one in its name, or the run's first."""
    return wildcards.other[1:] or tasks_of(parse_run_name(wildcards.run)[0])[0]


def picture_files(stem):
    return [f"<figures>/{stem}.{suffix}" for suffix in ("svg", "png", "csv")]


def figure_files(figure):
    return picture_files(f"{figure.paper}/{figure.stem}")


def figure_at(wildcards):
    here = (wildcards.paper, wildcards.stem)
    return next(figure for figure in FIGURES if (figure.paper, figure.stem) == here)


def results_of_figure(wildcards):
    figure = figure_at(wildcards)
    shown = "recorded_sizes" in figure.measurements and CONFIG.recorded_sizes
    return [f"<results>/{file}" for file in needed.of_figure(CONFIG, figure)] + (
        [str(shown)] if shown else []
    )


def results_of_choices():
    """What the choices of pilots read."""
    files = []
    for choice in choices_of(CONFIG):
        names = (*choice.candidates, *choice.against, CHOICE_REFERENCE)
        arms = [name for name in names if name in CONFIG.seeds]
        for run in runs_of(CONFIG, arms):
            files += [f"<results>/runs/{run}/{table}.parquet" for table in ("metrics", "updates")]
            files += [f"<results>/forecasts/{run}.json"] if choice.quantity == "promises" else []
    return list(dict.fromkeys(files))


def results_of_scale():
    """All that figures, claims and notebooks may read."""
    return [f"<results>/{file}" for file in needed.of_scale(CONFIG)]


def code_of_training(wildcards):
    """What trains a run; modules of other methods are no reason to train it again."""
    name, _ = parse_run_name(wildcards.run)
    arm = ARMS[name]
    others = {
        "training.rl": arm.method == "rl",
        "training.adapters": arm.adapter is not None,
        "training.masks": arm.mask is not None,
        "training.sft": arm.method == "sft",
        "training.preference": arm.method in ("dpo", "simpo"),
    }
    unused = frozenset(module for module, used in others.items() if not used)
    return code("pipeline.train", tasks=tasks_of(name), leave_out=unused)


def tasks_of_base(base):
    """Of every task that a base learns from scratch, or that runs from a checkpoint train on, its settings."""
    tasks = (
        CONFIG.bases[base].pretraining.mix
        if base in SCRATCH
        else chain.from_iterable(tasks_of(arm) for arm in CONFIG.seeds if base_of(CONFIG, arm) == base)
    )
    return {task: CONFIG.tasks[task] for task in dict.fromkeys(tasks)}


def code_of_base(module):
    """What makes or evaluates a base, which depends on its tasks."""
    return lambda wildcards: code(module, tasks=tuple(tasks_of_base(wildcards.base)))


def code_of_figure(wildcards):
    return code("pipeline.plot_figure", f"figures.{wildcards.paper}.{wildcards.stem}")


# Parameters


def one_of(names):
    """A wildcard constraint; of no names, nothing fits."""
    return "|".join(names) or "(?!)"


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


def option_of(name):
    """The option that names the directory of the named inputs; none where there are none."""
    return lambda wildcards, input: (
        f"--{name} {shlex.quote(os.path.dirname(input[name][0]))}" if input[name] else ""
    )


def without_suffix_of(name):
    """The named output without its suffix."""
    return lambda wildcards, output: os.path.splitext(output[name])[0]


def memory_of_models(base, cached_tokens=0, kept=False):
    """What a job takes that trains or samples a model made from a base, in MiB; of a checkpoint, by its size."""
    if base in SCRATCH:
        return 2000
    directory = CHECKPOINTS[base]
    return training_mb(parameters_in(directory), cached_tokens * cached_per_token(directory), kept=kept)


def memory_of_base(wildcards):
    return memory_of_models(wildcards.base)


def memory_of_run(wildcards):
    """Of reinforcement learning with as many sequences in flight as there may be; prompts have PROMPT_TOKENS."""
    settings = resolve_run(CONFIG, wildcards.run)
    if settings.recipe is None:
        return memory_of_models(settings.base_name)
    budget = PROMPT_TOKENS + settings.rl.thinking_tokens + settings.rl.answer_tokens
    pipelined = settings.recipe.schedule == "pipeline"
    return memory_of_models(settings.base_name, most_sequences(settings) * budget, kept=pipelined)


def memory_of_measurement(wildcards):
    """What a job takes that compares models, in MiB; of checkpoints as much as training the largest of them."""
    return max(memory_of_models(base) for base in CONFIG.bases)


def run_settings(wildcards):
    return resolve_run(CONFIG, wildcards.run).model_dump_json()


def study_of_base(wildcards):
    """The study whose evaluation settings measure a base: that of the first arm that starts from it."""
    arm = next(arm for arm in CONFIG.seeds if base_of(CONFIG, arm) == wildcards.base)
    return getattr(CONFIG, ARMS[arm].paper)


def task_settings(wildcards):
    """The settings of the tasks of a base, as JSON."""
    return TypeAdapter(Tasks).dump_json(tasks_of_base(wildcards.base)).decode()


def scratch_of_run(wildcards):
    """Where an interrupted run keeps its state: other code or other settings are another place."""
    digest = hashlib.sha256(f"{run_settings(wildcards)}{code_of_training(wildcards)}".encode())
    return f"{results_dir(CONFIG)}/scratch/{wildcards.run}-{digest.hexdigest()[:12]}"


def settings_of_figure(wildcards):
    """The scale's settings with a figure and the seeds of its arms only: others are no reason to plot it again."""
    return with_figure(CONFIG, figure_at(wildcards)).model_dump_json()


def describe_arms(arms):
    """What the catalogue says about some arms: a new label or colour is a reason to plot again."""
    return [f"{ARMS[arm].model_dump_json()} {ARM_STYLES[arm]}" for arm in arms]


def describe_figures():
    """What the catalogue says about the scale's figures: a claim may ask which arms a figure has."""
    return [figure.model_dump_json() for figure in SCALE_FIGURES]


# Report


def as_rst(text):
    """Text whose marks are no markup."""
    return re.sub(r"([\\*`|_])", r"\\\1", text)


# How to read each figure, by target; captions find it as `snakemake.config["reading"]`.
config["reading"] = {
    file.stem: file.read_text().strip()
    for file in Path(workflow.basedir, "workflow", "report", "figures").glob("*.rst")
}
