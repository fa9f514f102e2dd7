"""What pilots choose: of the arms that show what they must show, those that a rule prefers.

The rules are in :mod:`rlscape.catalogue.pilots`; nothing here knows a claim.
"""

from collections.abc import Callable, Sequence
from typing import assert_never

import pandas as pd

from rlscape.catalogue import CHOICE_REFERENCE, choices_of
from rlscape.catalogue.pilots import Choice, Quantity
from rlscape.results import curves, restricted
from rlscape.scaling.arm_comparison import equivalence_margin
from rlscape.scaling.stability import collapsed
from rlscape.scaling.uncertainty import paired_differences, t_interval
from rlscape.settings.scale import Config

LAST = 3
"""Evaluations whose mean is a run's end."""


def choose(choice: Choice, shown: pd.DataFrame, ends: pd.DataFrame) -> pd.DataFrame:
    """Apply the rule of a choice among arms.

    Args:
        shown: a row per run: arm, seed and, as ``value``, the quantity.
        ends: the same of the runs' ends.

    Returns:
        A row per candidate: choice, arm, against, seeds; the quantity, its mean over seeds as ``value`` and
        ``value_against``; ``end``, and as ``effect`` the end less that of ``against``, paired by seed, with t limits;
        ``within``, whether the value lies in the window; ``outermost``, whether the candidate is the first or last of
        several, beyond which none was tried; ``chosen``.
    """
    low, high = choice.window
    partners = choice.against if len(choice.against) > 1 else choice.against * len(choice.candidates)
    rows = []
    for place, (arm, against) in enumerate(zip(choice.candidates, partners, strict=True)):
        value, value_against = (float(shown.loc[shown["arm"] == name, "value"].mean()) for name in (arm, against))
        end = _by_seed(ends, arm)
        of_arm, effect = t_interval(end.values()), t_interval(paired_differences(end, _by_seed(ends, against)))
        rows.append(
            {
                "choice": choice.name,
                "arm": arm,
                "against": against,
                "seeds": of_arm.seeds,
                "quantity": choice.quantity,
                "value": value,
                "value_against": value_against,
                "end": of_arm.estimate,
                "end_low": of_arm.low,
                "end_high": of_arm.high,
                "effect": effect.estimate,
                "effect_low": effect.low,
                "effect_high": effect.high,
                "within": low <= value <= high,
                "outermost": len(choice.candidates) > 1 and place in (0, len(choice.candidates) - 1),
            }
        )
    frame = pd.DataFrame(rows)
    within = frame[frame["within"]]
    match choice.prefer:
        case "first":
            preferred = within.index[:1]
        case "highest_end":
            preferred = within.nlargest(1, "end").index
        case "all":
            preferred = within.index
        case _:
            assert_never(choice.prefer)
    return frame.assign(chosen=frame.index.isin(preferred))


def _by_seed(runs: pd.DataFrame, arm: str) -> dict[int, float]:
    """Seed -> value of an arm's runs."""
    return runs[runs["arm"] == arm].set_index("seed")["value"].to_dict()


def choices(config: Config) -> pd.DataFrame:
    """Every choice that the scale's arms allow, as :func:`choose` returns them.

    One that refers to an earlier choice is left out where that did not choose one arm.
    """
    frames: list[pd.DataFrame] = []
    chosen: dict[str, list[str]] = {}
    for choice in choices_of(config):
        candidates, against = (
            tuple(arm for name in names for arm in chosen.get(name, [name]))
            for names in (choice.candidates, choice.against)
        )
        if (len(candidates), len(against)) != (len(choice.candidates), len(choice.against)):
            continue
        arms = list(dict.fromkeys((*candidates, *against)))
        metrics = curves.metrics(config, arms)
        shown = QUANTITIES[choice.quantity](config, arms)
        resolved = choice.changed(candidates=candidates, against=against)
        frames.append(choose(resolved, _runs(metrics, shown), _runs(metrics, ends(metrics))))
        chosen[choice.name] = frames[-1].loc[frames[-1]["chosen"], "arm"].tolist()
    return pd.concat(frames, ignore_index=True)


def _runs(metrics: pd.DataFrame, values: pd.Series) -> pd.DataFrame:
    """(run, arm, seed, value) of values by run."""
    runs = metrics.drop_duplicates("run")[["run", "arm", "seed"]]
    return runs.assign(value=runs["run"].map(values.astype(float)))


def ends(metrics: pd.DataFrame) -> pd.Series:
    """Mean pass rate of the last evaluations, by run."""
    return metrics.sort_values("step").groupby("run").tail(LAST).groupby("run")["pass_rate"].mean()


# Quantities, by run


def _margin(config: Config) -> float:
    """What counts as no difference, as in the claims, with the reference arm's end in place of its ceiling."""
    metrics = curves.metrics(config, [CHOICE_REFERENCE])
    return equivalence_margin(float(ends(metrics).mean()), float(metrics.loc[metrics["step"] == 0, "pass_rate"].mean()))


def collapses(config: Config, arms: Sequence[str]) -> pd.Series:
    """Whether the validation curve falls by the margin below its running best and stays there, as in the claims."""
    margin = _margin(config)
    curves_of_runs = curves.metrics(config, arms).sort_values("step").groupby("run")["pass_rate"]
    return curves_of_runs.apply(lambda rates: collapsed(rates, margin))


def falls(config: Config, arms: Sequence[str]) -> pd.Series:
    """Whether the training pass rate loses half of its peak, as in the claims on adapters."""
    return restricted.stability(config, arms).set_index("run")["collapsed"]


def cut_at_start(config: Config, arms: Sequence[str]) -> pd.Series:
    """The larger of the shares of truncated and of interrupted completions at step 0; a completion may be both."""
    metrics = curves.metrics(config, arms)
    first = metrics[metrics["step"] == 0].set_index("run")
    return first[["truncation_rate", "interruption_rate"]].max(axis=1)


def clipped(config: Config, arms: Sequence[str]) -> pd.Series:
    """Share of tokens whose ratio the loss clips or caps, mean over updates."""
    return curves.updates(config, arms).groupby("run")["clip_fraction"].mean()


def promises(config: Config, arms: Sequence[str]) -> pd.Series:
    """Whether a forecast is granted and puts the end of the run beyond the margin from R_0."""
    margin = _margin(config)
    found = {}
    for run, forecast in curves.forecasts(config, arms).items():
        fit = forecast.fitted.fits["least_squares"]
        rise = float(fit.predict(forecast.total_compute)) - fit.R_0
        found[run] = forecast.verdict == "forecast" and abs(rise) > margin
    return pd.Series(found)


def learns(config: Config, arms: Sequence[str]) -> pd.Series:
    """The gain of runs that have room for one and something to reward: a start between 0.1 and 0.4; of others 0."""
    metrics = curves.metrics(config, arms)
    start = metrics[metrics["step"] == 0].set_index("run")["pass_rate"]
    return (ends(metrics) - start).where(start.between(0.1, 0.4), 0.0)


QUANTITIES: dict[Quantity, Callable[[Config, Sequence[str]], pd.Series]] = {
    "collapsed": collapses,
    "falls": falls,
    "cut_at_start": cut_at_start,
    "clipped": clipped,
    "promises": promises,
    "learns": learns,
}
