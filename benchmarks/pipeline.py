"""Core-seconds per stage of a finished, or partly finished, pipeline: imports and start-up included.

    python benchmarks/pipeline.py --chart pipeline.png

Reads what Snakemake recorded of every job (``<results>/<scale>/benchmarks``); a stage is a rule. A job has one
thread, so its wall seconds are core-seconds. Of a job that was killed and resumed, only the last part is there.

Start-up is measured now, not read: the seconds and the peak memory of a process that imports what the rule's
entry imports and ends, times the number of jobs. What a job imports later (its figure's module, the model class
of a base) and the kernel of a notebook count as work.

Wall time on N cores is a projection: pretraining and base evaluation, then training, then everything after,
each as jobs that wait for no other, packed longest first; a job takes as long as recorded, whatever ran beside
it then. The memory of N jobs side by side is the sum of the N largest peaks.
"""

import argparse
import csv
import heapq
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rlscape.catalogue import load_scale
from rlscape.errors import ResultError, UserError, fail_clearly
from rlscape.files import atomic
from rlscape.paths import results_dir

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMPORTS: dict[str, tuple[str, ...]] = {
    # rule: what its process imports before it works; in the order of the pipeline
    "pretrain_base": ("rlscape.pipeline.pretrain_base",),
    "start_base": ("rlscape.pipeline.start_base",),
    "evaluate_base": ("rlscape.pipeline.evaluate_base",),
    "intervene_base": ("rlscape.pipeline.intervene_base",),
    "snap_start": ("rlscape.pipeline.snap_start",),
    "train_rl": ("rlscape.pipeline.train", "rlscape.rl.trainer"),
    "train_with_trl": ("rlscape.pipeline.train", "rlscape.training.sft"),
    "fit_curve": ("rlscape.pipeline.fit_curve",),
    "summarise_fits": ("rlscape.pipeline.summarise_fits",),
    "measure_geometry": ("rlscape.pipeline.measure_geometry",),
    "measure_over_time": ("rlscape.pipeline.measure_over_time",),
    "measure_operators": ("rlscape.pipeline.measure_operators",),
    "measure_margins": ("rlscape.pipeline.measure_margins",),
    "measure_matching": ("rlscape.pipeline.measure_matching",),
    "measure_pairs": ("rlscape.pipeline.measure_pairs",),
    "measure_landscape": ("rlscape.pipeline.measure_landscape",),
    "measure_curvature": ("rlscape.pipeline.measure_curvature",),
    "measure_ratios": ("rlscape.pipeline.measure_ratios",),
    "choose_pilots": ("rlscape.pipeline.choose_pilots",),
    "plot_pilots": ("rlscape.pipeline.plot_figure", "rlscape.figures.pilots"),
    "plot_figure": ("rlscape.pipeline.plot_figure",),
    "evaluate_claims": ("rlscape.pipeline.evaluate_claims",),
    "plot_scoreboard": ("rlscape.pipeline.plot_figure",),
    "execute_notebook": ("rlscape.pipeline.execute_notebook",),
    "measure_scatter": ("rlscape.pipeline.measure_scatter",),
    "estimate_power": ("rlscape.pipeline.estimate_power",),
    "power": ("rlscape.pipeline.gather_power",),
}
FIRST = ("pretrain_base", "start_base", "evaluate_base", "intervene_base")
SECOND = ("train_rl", "train_with_trl")
STARTS = 3
"""Processes that are timed per start-up; the median counts."""
NOT_MEASURED = ("", "-", "NA")
"""What Snakemake writes when a job was over before it was looked at."""
MAXRSS_UNIT = 2**20 if sys.platform == "darwin" else 2**10
"""``ru_maxrss`` of one MB."""
CHARACTER, LINE = 0.075, 0.14
"""Inches that a label of the chart needs per character, and across."""
CHART_SUFFIXES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Job:
    """One job as Snakemake recorded it."""

    stage: str
    name: str
    seconds: float
    cpu_seconds: float | None
    peak_rss_mb: float | None

    @property
    def part(self) -> str:
        """The run without its seed, i.e. the arm; of other jobs, the name."""
        return re.sub(r"-s\d+$", "", self.name)


class Startup(NamedTuple):
    """What a process takes to start and import."""

    seconds: float
    peak_rss_mb: float


@dataclass(frozen=True)
class Stage:
    """All jobs of a rule; None is what was not measured."""

    stage: str
    jobs: int
    core_seconds: float
    median_seconds: float
    cpu_per_wall: float | None
    startup_seconds: float | None
    startup_peak_rss_mb: float | None
    peak_rss_mb: float | None


def read_job(file: Path, directory: Path) -> Job:
    """``<rule>.tsv`` or ``<rule>/<name>.tsv`` under ``directory``.

    Raises:
        ResultError: the file has no row or no wall seconds.
    """
    stage, *rest = file.relative_to(directory).with_suffix("").parts
    with file.open(newline="") as lines:
        row = next(csv.DictReader(lines, delimiter="\t"), {})
    try:
        seconds, cpu_seconds, peak = (
            None if (row.get(column) or "") in NOT_MEASURED else float(row[column])
            for column in ("s", "cpu_time", "max_rss")
        )
    except ValueError as error:
        raise ResultError(f"{file}: {error}; delete the job's output and run snakemake again") from None
    if seconds is None:
        raise ResultError(f"{file}: no seconds in column s; delete the job's output and run snakemake again")
    return Job(stage, "_".join(rest) or stage, seconds, cpu_seconds, peak)


def read_jobs(directory: Path) -> list[Job]:
    """Every recorded job, in the order of the pipeline.

    Raises:
        ResultError: there is none, or a file cannot be used.
    """
    jobs = [read_job(file, directory) for file in sorted(directory.rglob("*.tsv"))]
    if not jobs:
        raise ResultError(f"{directory}: no benchmark files; run snakemake first")
    order = list(IMPORTS)
    return sorted(jobs, key=lambda job: order.index(job.stage) if job.stage in order else len(order))


@cache
def measure_startup(modules: tuple[str, ...]) -> Startup:
    """Seconds and peak memory of a process that imports ``modules``, with one thread as a job has.

    Raises:
        UserError: they cannot be imported.
    """
    peak = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    command = [sys.executable, "-c", f"import {', '.join(modules)}; {peak}"]
    starts = []
    for _ in range(STARTS):
        started = time.perf_counter()
        process = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        seconds = time.perf_counter() - started
        if process.returncode:
            reason = process.stderr.strip().rpartition("\n")[2]
            raise UserError(f"{', '.join(modules)}: cannot be imported ({reason}); mend it or pass --no-startup")
        starts.append(Startup(seconds, int(process.stdout) / MAXRSS_UNIT))
    return Startup(*map(statistics.median, zip(*starts, strict=True)))


def no_startup(_: tuple[str, ...]) -> None:
    """In place of :func:`measure_startup`: nothing is measured."""


def by_stage(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    return {stage: [job for job in jobs if job.stage == stage] for stage in dict.fromkeys(job.stage for job in jobs)}


def summarise_stage(stage: str, jobs: Sequence[Job], measure: Callable[[tuple[str, ...]], Startup | None]) -> Stage:
    """A rule's jobs; of a rule that the workflow no longer has, without start-up."""
    with_cpu = [(job.cpu_seconds, job.seconds) for job in jobs if job.cpu_seconds is not None]
    wall = sum(seconds for _, seconds in with_cpu)
    startup = measure(IMPORTS[stage]) if stage in IMPORTS else None
    return Stage(
        stage=stage,
        jobs=len(jobs),
        core_seconds=sum(job.seconds for job in jobs),
        median_seconds=statistics.median(job.seconds for job in jobs),
        cpu_per_wall=sum(cpu for cpu, _ in with_cpu) / wall if wall else None,
        startup_seconds=startup and startup.seconds * len(jobs),
        startup_peak_rss_mb=startup and startup.peak_rss_mb,
        peak_rss_mb=max((job.peak_rss_mb for job in jobs if job.peak_rss_mb is not None), default=None),
    )


def wall_seconds(jobs: Sequence[Job], cores: int) -> float:
    """The projection: three phases, in each the longest job first, to the core that is free first."""
    phases: list[list[float]] = [[], [], []]
    for job in jobs:
        phases[0 if job.stage in FIRST else 1 if job.stage in SECOND else 2].append(job.seconds)
    total = 0.0
    for phase in phases:
        free = [0.0] * cores
        for seconds in sorted(phase, reverse=True):
            heapq.heappushpop(free, free[0] + seconds)
        total += max(free)
    return total


def largest_memory(jobs: Sequence[Job], cores: int) -> float:
    """MB of the ``cores`` jobs with the largest peaks."""
    return sum(sorted((job.peak_rss_mb or 0 for job in jobs), reverse=True)[:cores])


def rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in values.items()}


def summarise(jobs: Sequence[Job], stages: Sequence[Stage], cores: Sequence[int]) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "stages": [rounded(asdict(stage)) for stage in stages],
        "core_hours": round(sum(job.seconds for job in jobs) / 3600, 3),
        "wall_minutes": {str(count): round(wall_seconds(jobs, count) / 60, 2) for count in cores},
        "memory_mb": {str(count): round(largest_memory(jobs, count), 1) for count in cores},
    }


def format_table(jobs: Sequence[Job], stages: Sequence[Stage], cores: Sequence[int]) -> str:
    """Stages with their sum, then the projection; ``-`` is what was not measured."""

    def number(value: float | None, digits: int = 1) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    total = sum(stage.core_seconds for stage in stages)
    startups = [stage.startup_seconds for stage in stages if stage.startup_seconds is not None]
    startup = sum(startups) if startups else None
    rows = [("stage", "jobs", "core-s", "share", "median s", "start-up s", "start-up MB", "peak MB", "CPU/wall")]
    for stage in stages:
        rows.append(
            (
                stage.stage,
                str(stage.jobs),
                number(stage.core_seconds),
                f"{stage.core_seconds / total:.1%}",
                number(stage.median_seconds),
                number(stage.startup_seconds),
                number(stage.startup_peak_rss_mb, 0),
                number(stage.peak_rss_mb, 0),
                number(stage.cpu_per_wall, 2),
            )
        )
    peak = max((job.peak_rss_mb for job in jobs if job.peak_rss_mb is not None), default=None)
    rows.append(("all", str(len(jobs)), number(total), "100.0%", "", number(startup), "", number(peak, 0), ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    share = "" if startup is None else f", {startup / total:.1%} of them start-up"
    lines += ["", f"{total:.0f} core-seconds = {total / 3600:.2f} core-hours{share}"]
    for count in cores:
        lines.append(
            f"{count:3d} {'core: ' if count == 1 else 'cores:'} {wall_seconds(jobs, count) / 60:7.1f} min (projected),"
            f" {largest_memory(jobs, count):6.0f} MB at most"
        )
    return "\n".join(lines)


def draw_chart(jobs: Sequence[Job], stages: Sequence[Stage], source: str) -> "Figure":
    """Like a flame graph: the run in stages, above each stage its arms, above that its start-up and its work."""
    from matplotlib.patches import Patch

    from rlscape.figures.style import INDIGO, INK, PALETTE, RC, add_note, new_figure

    measured = any(stage.startup_seconds is not None for stage in stages)
    rows = ["stage", "arm, base\nor figure", *(["start-up (dark)\nand work"] if measured else [])]
    width, row_height, margin = 12.0, 1.0, 1.7
    figure = new_figure(width, row_height * len(rows) + margin)
    axes = figure.subplots()
    total = sum(stage.core_seconds for stage in stages) / 60
    inches_per_minute = (width - 1.2) / total
    colours = dict(zip(IMPORTS, cycle([*PALETTE, INDIGO]), strict=False))

    def bar(row: int, left: float, minutes: float, label: str, colour: str, alpha: float, ink: str = INK) -> None:
        axes.barh(row, minutes, left=left, height=0.94, color=colour, alpha=alpha, edgecolor="white", linewidth=0.5)
        room = minutes * inches_per_minute
        length = CHARACTER * len(label)
        if length < room or (length < row_height and LINE < room):
            rotation = 0 if length < room else 90
            style = {"ha": "center", "va": "center_baseline", "fontsize": RC["xtick.labelsize"], "color": ink}
            axes.text(left + minutes / 2, row, label, rotation=rotation, rotation_mode="anchor", **style)

    start = 0.0
    handles = []
    for stage in stages:
        colour = colours.get(stage.stage, INK)
        minutes = stage.core_seconds / 60
        share = minutes / total
        bar(0, start, minutes, stage.stage, colour, alpha=0.75)
        left = start
        parts: dict[str, float] = {}
        for job in jobs:
            if job.stage == stage.stage:
                parts[job.part] = parts.get(job.part, 0.0) + job.seconds / 60
        for part, size in sorted(parts.items(), key=lambda item: -item[1]):
            bar(1, left, size, part, colour, alpha=0.45)
            left += size
        if measured:
            startup = min((stage.startup_seconds or 0.0) / 60, minutes)
            work = minutes - startup
            bar(2, start, startup, f"{startup:.1f} min", INK, alpha=0.8, ink="white")
            bar(2, start + startup, work, f"{work:.1f} min", colour, alpha=0.25)
        handles.append(Patch(color=colour, alpha=0.75, label=f"{stage.stage}  {minutes:.1f} min, {share:.1%}"))
        start += minutes
    axes.set(xlim=(0, total), ylim=(-0.5, len(rows) - 0.5), xlabel="core-minutes (one job has one core)")
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    figure.legend(handles=handles, loc="outside upper left", ncols=4, handlelength=1.0)
    startup = sum(stage.startup_seconds or 0.0 for stage in stages) / 60
    add_note(
        figure,
        source,
        f"{len(jobs)} jobs, {total / 60:.2f} core-hours",
        f"start-up {startup:.1f} core-minutes ({startup / total:.1%})" if measured else "",
    )
    return figure


def write_chart(figure: "Figure", path: Path) -> None:
    with atomic(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix("."))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="config/config.yaml", help="scale whose results are read")
    parser.add_argument("--results", type=Path, help="directory of the scale's results (default: the config's)")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2, 8], help="for the projection")
    parser.add_argument("--no-startup", action="store_true", help="do not measure imports (takes minutes)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--chart", type=Path, help="write a bar chart here")
    arguments = parser.parse_args()
    if min(arguments.cores) < 1:
        parser.error("--cores must be at least 1")
    if arguments.chart and arguments.chart.suffix not in CHART_SUFFIXES:
        parser.error(f"--chart must end in {', '.join(CHART_SUFFIXES)}")

    results = arguments.results or results_dir(load_scale(arguments.config))
    jobs = read_jobs(results / "benchmarks")
    measure = no_startup if arguments.no_startup else measure_startup
    stages = [summarise_stage(stage, members, measure) for stage, members in by_stage(jobs).items()]
    if arguments.chart:
        write_chart(draw_chart(jobs, stages, str(results)), arguments.chart)
    if arguments.json:
        print(json.dumps(summarise(jobs, stages, arguments.cores)))
    else:
        print(format_table(jobs, stages, arguments.cores))


if __name__ == "__main__":
    fail_clearly(main)
