"""Result files by name: what the rules of figures, claims and notebooks take as inputs, and what a record holds.

All paths are below a scale's results. Nothing here reads a file.
"""

from collections.abc import Iterable
from typing import assert_never

from rlscape.catalogue import (
    ARMS,
    arms_of,
    curved_bases,
    figures_of,
    first_run,
    measured_arms,
    resolve_run,
    runs_of,
    seeds_of,
    tasks_of,
)
from rlscape.catalogue.arms import Figure, Measurement
from rlscape.paths import curve_name, parse_run_name
from rlscape.results.bias import MATCHED
from rlscape.settings.scale import Config

OF_RUNS = {
    "over_time": ("over_time.parquet", "profiles.parquet"),
    "operators": ("operators.parquet", "mantissa.parquet"),
    "spectra": ("spectra.parquet",),
}
"""Measurement -> its files in the directory of each run's geometry."""


def of_arms(config: Config, arms: Iterable[str]) -> list[str]:
    """What is known about all runs of some arms: their curves, and their fits or their geometry."""
    files = []
    for run in runs_of(config, arms):
        arm, _ = parse_run_name(run)
        files += [f"bases/{resolve_run(config, run).base_name}/evaluation.json"]
        files += [f"runs/{run}/{name}" for name in ("metrics.parquet", "updates.parquet", "run.json")]
        match ARMS[arm].paper:
            case "scalerl":
                curves = [curve_name(run, task, tasks_of(arm)[0]) for task in tasks_of(arm)]
                files += [f"{kind}/{curve}.json" for kind in ("forecasts", "fits") for curve in curves]
            case "off_principals":
                geometry = () if ARMS[arm].restricted else ("matrices.parquet", "summary.json")
                files += [f"geometry/{run}/{name}" for name in geometry]
            case _:
                assert_never(ARMS[arm].paper)
    return list(dict.fromkeys(files))


def of_figure(config: Config, figure: Figure) -> list[str]:
    """What a figure reads: all about its arms, and what is measured for it."""
    arms = arms_of(config, figure)
    measured = (file for kind in figure.measurements for file in of_measurement(config, kind, arms))
    return list(dict.fromkeys([*of_arms(config, arms), *measured]))


def of_scale(config: Config) -> list[str]:
    """All that figures, claims and notebooks may read."""
    files = [file for figure in figures_of(config) for file in of_figure(config, figure)]
    return list(dict.fromkeys([*of_arms(config, config.seeds), *files]))


def of_measurement(config: Config, measurement: Measurement, arms: Iterable[str]) -> list[str]:
    """The files of what is measured beyond that; per run, on some arms."""
    match measurement:
        case "over_time" | "operators" | "spectra":
            kept = [arm for arm in arms if ARMS[arm].snapshots or measurement != "over_time"]
            return [f"geometry/{run}/{name}" for run in runs_of(config, kept) for name in OF_RUNS[measurement]]
        case "masks":
            return [f"geometry/{first_run(config, arm)}/masks.npz" for arm in arms]
        case "margins":
            return [f"geometry/{run}/margins.parquet" for run in runs_of(config, measured_arms(config, measurement))]
        case "ratios":
            return [f"ratios/{arm}.parquet" for arm in measured_arms(config, measurement)]
        case "matching":
            families = {name: family for name, family in MATCHED.items() if {*family} <= {*arms}}
            return [
                f"geometry/{name}-s{seed}.parquet"
                for name, family in families.items()
                for seed in seeds_of(config, *family)
            ]
        case "curvature":
            return [f"geometry/curvature-{base}.parquet" for base in curved_bases(config)]
        case "landscape":
            return ["geometry/landscape.parquet"]
        case "pairs_footprint" | "pairs_intervened" | "pairs_shared":
            return [f"geometry/{kind}_{measurement.removeprefix('pairs_')}.parquet" for kind in ("pairs", "stripes")]
        case "recorded_sizes":
            return []  # of another scale
        case _:
            assert_never(measurement)
