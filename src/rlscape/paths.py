"""Where results and figures are, and what runs are called."""

from pathlib import Path

from rlscape.settings.scale import Config


def results_dir(config: Config) -> Path:
    """All results of a scale."""
    return config.results / config.scale


def figures_dir(config: Config) -> Path:
    """All figures of a scale."""
    return config.figures / config.scale


def run_name(arm: str, seed: int) -> str:
    """``("scalerl", 3)`` -> ``"scalerl-s3"``."""
    return f"{arm}-s{seed}"


def parse_run_name(run: str) -> tuple[str, int]:
    """``"scalerl-s3"`` -> ``("scalerl", 3)``.

    Raises:
        ValueError: it is no name of a run.
    """
    arm, mark, seed = run.rpartition("-s")
    if not mark or not seed.isdecimal():
        raise ValueError(f"{run}: not a run; expected <arm>-s<seed>")
    return arm, int(seed)


def curve_name(run: str, task: str, first_task: str) -> str:
    """What the forecast and the fit of a run's learning curve on a task are called: one curve per task."""
    return run if task == first_task else f"{run}_{task}"
