"""Criteria of several parts: each part is judged on its own, and together they give the verdict."""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from rlscape.claims.register import (
    INCONCLUSIVE,
    NOT_REPLICATED,
    NOT_TESTABLE,
    REPLICATED,
    Outcome,
    Part,
    Side,
    Verdict,
    outcome,
)
from rlscape.scaling.arm_comparison import SEEDS_FOR_NEUTRAL, judge
from rlscape.scaling.arm_comparison import Verdict as Judgement
from rlscape.scaling.uncertainty import Interval, t_interval


def conclude(parts: Sequence[Part], note: str, lack: str = "", seeds: int | None = None) -> Outcome:
    """The outcome of a conjunction; its effect is that of the part that decides.

    That is the first refuted one; without one, the first open one; otherwise the first.

    Args:
        note: begins the reason.
        lack: why the criterion cannot be tested; empty if it can.
        seeds: of every arm, where the intervals' units are not seeds; ``note`` then says what they are.
    """
    for verdict in (NOT_REPLICATED, INCONCLUSIVE, REPLICATED):
        deciding = next((part for part in parts if part.verdict == verdict), None)
        if deciding is not None:
            break
    assert deciding is not None, "a criterion has at least one part"
    reason = "; ".join([*([lack] if lack else []), note, *map(str, parts)])
    found = outcome(NOT_TESTABLE if lack else deciding.verdict, deciding.measure, deciding.interval, reason, seeds)
    return replace(found, parts=tuple(parts))


# Judging an interval


def censored(interval: Interval, at_most: bool = False, at_least: bool = False) -> Interval:
    """The interval of values of which some are bounds: it has no lower limit where they are upper ones, and vice versa.

    Such values enter at their bound; dropping them would leave the runs that suit.
    """
    low = -math.inf if at_most else interval.low
    return Interval(interval.estimate, low, math.inf if at_least else interval.high, interval.seeds)


def above(interval: Interval, limit: float = 0.0) -> Verdict:
    """Replicated if it lies above the limit, not replicated if at or below."""
    if interval.low > limit:
        return REPLICATED
    return NOT_REPLICATED if interval.high <= limit else INCONCLUSIVE


def below(interval: Interval, limit: float = 0.0) -> Verdict:
    """Replicated if it lies below the limit, not replicated if at or above."""
    if interval.high < limit:
        return REPLICATED
    return NOT_REPLICATED if interval.low >= limit else INCONCLUSIVE


def on_side(interval: Interval, side: Side = "above", margin: float = 0.0) -> Verdict:
    """Replicated if it lies beyond the margin on that side; not replicated if on the other one, or neutral."""
    return beyond(judge(interval, margin), side)


def beyond(judged: Judgement, side: Side = "above") -> Verdict:
    """:func:`on_side` of a difference that has been judged."""
    if judged == side:
        return REPLICATED
    return INCONCLUSIVE if judged == "inconclusive" else NOT_REPLICATED


def beyond_nothing(interval: Interval, margin: float) -> Verdict:
    """As :func:`above` zero; an interval that contains zero and is neutral is not replicated either."""
    verdict = above(interval)
    return NOT_REPLICATED if verdict == INCONCLUSIVE and judge(interval, margin) == "neutral" else verdict


def neutral(interval: Interval, margin: float) -> Verdict:
    """Replicated if neutral, not replicated if it lies beyond the margin."""
    return within(judge(interval, margin))


def within(judged: Judgement) -> Verdict:
    """:func:`neutral` of a difference that has been judged."""
    if judged == "neutral":
        return REPLICATED
    return NOT_REPLICATED if judged in ("above", "below") else INCONCLUSIVE


# Judging units: settings, bases


def of_units(measure: str, values: pd.Series, side: Side, margin: float) -> Part:
    """:func:`on_side` of the interval over units, ``values`` being one each."""
    interval = t_interval(values)
    return Part(measure, interval, on_side(interval, side, margin))


BEYOND_ZERO: dict[Side, Callable[[pd.Series, float], pd.Series]] = {"above": operator.gt, "below": operator.lt}


def in_most(measure: str, values: pd.Series, side: Side, min_share: float) -> Part:
    """How many units lie on the claimed side of 0: in ``min_share`` of them it holds, in one half or fewer it does not.

    A unit without a value (no weight changed) has no side. Fewer than five units decide nothing.

    Args:
        values: by unit; those against are named.
    """
    on = BEYOND_ZERO[side](values, 0)
    share, against = float(on.mean()), values.index[~on]
    verdict: Verdict = INCONCLUSIVE
    if len(values) >= SEEDS_FOR_NEUTRAL and (share >= min_share or share <= 0.5):
        verdict = REPLICATED if share >= min_share else NOT_REPLICATED
    named = f" (against: {', '.join(against)})" if len(against) else ""
    return Part(f"share with {measure} {side} 0{named}", Interval(share, math.nan, math.nan, len(values)), verdict)
