"""What the virtual clock alone makes of an arm: accelerator-seconds per update, by algebra, whatever the arm learns.

A ratio in compute is this factor times the ratio in updates (but for how phases start and end).
"""

from collections.abc import Iterable, Mapping
from typing import assert_never

from rlscape.catalogue import resolve_run
from rlscape.results import curves
from rlscape.rl.clock import Clock
from rlscape.scaling.uncertainty import Interval, log_t_interval
from rlscape.settings.recipe import Schedule
from rlscape.settings.scale import Config


def seconds_per_update(schedule: Schedule, generating: float, training: float) -> float:
    """What an update takes if its tokens take so many seconds to generate and so many to train on.

    Alternating phases take the sum, a pipeline that never runs dry the longer of the two.
    """
    match schedule:
        case "ppo_off_policy":
            return generating + training
        case "pipeline":
            return max(generating, training)
        case _:
            assert_never(schedule)


def compute_per_update(config: Config, arms: Iterable[str]) -> dict[str, dict[int, float]]:
    """Arm -> seed -> accelerator-seconds per update, from the run's tokens per update and the rates of its clock."""
    found: dict[str, dict[int, float]] = {}
    for run, rows in curves.metrics(config, arms).groupby("run", sort=False):
        last = rows.loc[rows["step"].idxmax()]
        settings = resolve_run(config, str(run))
        assert settings.recipe is not None, "an RL run"
        active_parameters = round(last["flops"] / (2 * last["tokens_generated"] + 6 * last["tokens_trained"]))
        clock = Clock.of(settings.rl, active_parameters)
        seconds = seconds_per_update(
            settings.recipe.schedule,
            last["tokens_generated"] / last["step"] * clock.seconds_per_generated_token,
            last["tokens_trained"] / last["step"] * clock.seconds_per_trained_token,
        )
        found.setdefault(settings.arm, {})[settings.seed] = clock.accelerators * seconds
    return found


def clock_factor(first: Mapping[int, float], second: Mapping[int, float]) -> Interval:
    """The ratio of compute per update, first over second: geometric mean over paired seeds, with t limits."""
    return log_t_interval(first[seed] / second[seed] for seed in first if seed in second)
