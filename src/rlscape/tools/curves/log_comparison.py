"""``rlscape compare`` as a function: two or more recipes against the first of them, quantity by quantity.

1. A, the asymptote, if the data of both recipes allow a forecast (:mod:`rlscape.tools.curves.log_fit`).
2. The value at the last compute that both recipes have, whatever the verdict.
3. B at a common ceiling, the mean A of the recipes that allow a forecast: B and C_mid of unequal ceilings do not
   compare (P1, Figure 7). A ratio, given that the recipes do share that ceiling; where A is shown to differ it is not
   given, since recipes of equal B then seem to differ in B as well.
4. The compute to a common level, ``R_0 + 0.7 (A - R_0)`` of the reference, or, if its A is not known, 0.7 of the way to
   its last fitted value. A ratio; a recipe that does not reach the level within its data is censored there.
5. The compute at which the fitted curves cross, and whether the lead before and after is more than noise.

How differences get their intervals: :mod:`rlscape.tools.curves.differences`. Each recipe is compared with the reference
at the stated confidence; with many recipes some differences are shown by chance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from rlscape.errors import MetricsError
from rlscape.scaling.arm_comparison import common_level, reach_level
from rlscape.scaling.records import plain
from rlscape.scaling.sigmoid import crossings
from rlscape.tools.curves.differences import Difference, Measured
from rlscape.tools.curves.intervals import predict
from rlscape.tools.curves.log_fit import FURTHEST, UNKNOWN, FitOptions, Point
from rlscape.tools.curves.log_fit import Verdict as FitVerdict
from rlscape.tools.curves.logs import Log, normal_name
from rlscape.tools.curves.quantities import Both, Fitted, first_compute, log_B_at, log_compute_to
from rlscape.tools.curves.seeds import Estimate, PooledRuns

Verdict = Literal["higher", "lower", "no difference shown", "not compared"]
Scale = Literal["difference", "ratio"]

LEAD_POINTS = 6
"""Compute values per stretch between crossings at which a lead may show."""


@dataclass(frozen=True)
class Quantity:
    """One quantity of a recipe against that of the reference."""

    name: Literal["A", "value", "B", "compute"]
    scale: Scale
    """Of ``difference`` and ``detectable``: recipe less reference, in the log's units, or recipe over reference."""
    recipe: float
    reference: float
    difference: Estimate
    """Limits are 0 or infinite where the data set none, as for a level that is not reached."""
    detectable: float
    """The smallest difference (the ratio nearest to 1, above it) that the data could have shown at 80% power."""
    verdict: Verdict
    method: str
    reason: str = ""
    """Why it is not compared, or what limits the comparison."""


@dataclass(frozen=True)
class Crossing:
    """Where the fitted curves cross."""

    compute: float
    extrapolated: bool
    """Beyond the data of one of the two recipes."""
    leads_after: str
    """The recipe that is higher from there on."""
    shown: bool
    """Whether the leads before and after it are both more than noise."""


@dataclass(frozen=True)
class Summary:
    """One recipe; values of y are in the log's units, NaN where the data do not say."""

    name: str
    runs: int
    last_compute: float
    verdict: FitVerdict
    reason: str
    A: Estimate
    B: Estimate
    C_mid: Estimate
    R_0: Estimate
    compute_to_level: float
    censored: bool
    """Whether the level is not reached by the last compute, which then stands in for ``compute_to_level``."""
    curve: tuple[Point, ...]
    forecast: tuple[Point, ...]


@dataclass(frozen=True)
class Pair:
    """A recipe against the reference."""

    recipe: str
    quantities: tuple[Quantity, ...]
    crossings: tuple[Crossing, ...]
    last_common: float
    """The compute of ``value``."""
    residual_correlation: float
    """Between the mean residuals of the two recipes, lower limit; what they share is taken off the interval."""
    caveats: tuple[str, ...]


@dataclass(frozen=True)
class LogComparison:
    """Recipes, the first being the reference, and the others against it."""

    recipes: tuple[Summary, ...]
    pairs: tuple[Pair, ...]
    level: float
    """Of ``compute``; NaN if the reference does not rise."""
    ceiling: float
    """Of ``B``; NaN if no A is known."""
    confidence: float
    x_column: str
    y_column: str
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, null where a number is not finite."""
        return plain(asdict(self))


def compare_logs(logs: Mapping[str, Log], options: FitOptions | None = None) -> LogComparison:
    """Compare recipes with the first.

    Args:
        logs: by the recipe's name, at least two.
        options: bounds, R_0 and confidence; all recipes share them.

    Raises:
        MetricsError: fewer than two recipes, logs with other columns than the first, or values outside the bounds.
    """
    options = options or FitOptions()
    if len(logs) < 2:
        raise MetricsError("one recipe; name at least two: rlscape compare FILE FILE")
    first = next(iter(logs.values()))
    for name, log in logs.items():
        for option in ("x", "y"):
            mine, other = (getattr(each, f"{option}_column") for each in (first, log))
            if normal_name(mine) != normal_name(other):
                raise MetricsError(
                    f"{name}: {option} is column {other!r}, but {mine!r} in {next(iter(logs))}; "
                    "name columns that all recipes have, --x COLUMN --y COLUMN, or rename one"
                )
    fitted = [Fitted.of(name, log, options) for name, log in logs.items()]
    level, ceiling = _common_level(fitted[0]), _common_ceiling(fitted)
    return LogComparison(
        recipes=tuple(_summarise(one, level, options) for one in fitted),
        pairs=tuple(_compare(one, fitted[0], level, ceiling, options) for one in fitted[1:]),
        level=_in_units(level, options),
        ceiling=_in_units(ceiling, options),
        confidence=options.confidence,
        x_column=first.x_column,
        y_column=first.y_column,
        notes=tuple(f"{one.name}: {note}" for one in fitted for note in one.report.notes),
    )


def _in_units(value: float, options: FitOptions) -> float:
    return options.bounds[0] + options.scale * value


def _granted(one: Fitted) -> PooledRuns | None:
    """The fits, if they allow a forecast."""
    return one.pooled if one.report.verdict == "forecast" else None


def _common_level(reference: Fitted) -> float:
    """tau on the scale from 0 to 1; NaN if the reference does not rise."""
    if reference.pooled is None or reference.report.verdict == "flat":
        return np.nan
    fit = reference.pooled.profile.fit
    highest = fit.A if _granted(reference) else float(predict(fit, reference.pooled.last))
    return common_level(highest, fit.R_0) if highest > fit.R_0 else np.nan


def _common_ceiling(fitted: Sequence[Fitted]) -> float:
    """The mean A, on the scale from 0 to 1; NaN if none is known."""
    known = [pooled.profile.fit.A for one in fitted if (pooled := _granted(one))]
    return float(np.mean(known)) if known else np.nan


def _summarise(one: Fitted, level: float, options: FitOptions) -> Summary:
    report = one.report
    known = report.verdict == "forecast"
    reached, censored = np.nan, False
    if one.pooled is not None and not np.isnan(level):
        found = reach_level(one.pooled.profile.fit, level, one.pooled.last)
        reached, censored = found.compute, found.censored
    return Summary(
        name=one.name,
        runs=len(one.log.series),
        last_compute=report.last_compute,
        verdict=report.verdict,
        reason=report.reason,
        A=report.A if known else UNKNOWN,
        B=report.B if known else UNKNOWN,
        C_mid=report.C_mid if known else UNKNOWN,
        R_0=report.R_0,
        compute_to_level=reached,
        censored=censored,
        curve=report.curve,
        forecast=report.forecast,
    )


def _not_compared(name: Literal["A", "value", "B", "compute"], scale: Scale, reason: str) -> Quantity:
    return Quantity(name, scale, np.nan, np.nan, UNKNOWN, np.nan, "not compared", "", reason)


def _verdict(estimate: Estimate, neutral: float) -> Verdict:
    if np.isnan(estimate.low + estimate.high):
        return "not compared"
    if estimate.low > neutral:
        return "higher"
    return "lower" if estimate.high < neutral else "no difference shown"


def _difference(
    name: Literal["A", "value"], values: tuple[Measured, Measured, Difference], options: FitOptions
) -> Quantity:
    first, second, found = values
    scaled = Estimate(
        *(options.scale * part for part in (found.estimate.estimate, found.estimate.low, found.estimate.high))
    )
    small = max(-scaled.low, scaled.high) < options.margin
    return Quantity(
        name,
        "difference",
        _in_units(first.pooled, options),
        _in_units(second.pooled, options),
        scaled,
        options.scale * found.detectable,
        _verdict(scaled, 0.0),
        found.method,
        f"any difference is below {options.margin:g}, the one that counts" if small else "",
    )


def _ratio(
    name: Literal["B", "compute"], first: Measured, second: Measured, found: Difference, reason: str = ""
) -> Quantity:
    with np.errstate(over="ignore"):
        parts = (found.estimate.estimate, found.estimate.low, found.estimate.high)
        ratio = Estimate(*(float(np.exp(part)) for part in parts))
        detectable = float(np.exp(found.detectable))
    return Quantity(
        name,
        "ratio",
        float(np.exp(first.pooled)),
        float(np.exp(second.pooled)),
        ratio,
        detectable,
        _verdict(ratio, 1.0),
        found.method,
        reason,
    )


def _unknown_A(one: Fitted, reference: Fitted) -> str:
    """Whose A the data do not say; empty if both are known."""
    unknown = [f"{each.name} ({each.report.verdict})" for each in (one, reference) if each.report.verdict != "forecast"]
    return f"no forecast of {' and of '.join(unknown)}" if unknown else ""


def _compare(one: Fitted, reference: Fitted, level: float, ceiling: float, options: FitOptions) -> Pair:
    last = min(one.report.last_compute, reference.report.last_compute)
    unknown = _unknown_A(one, reference)
    if one.pooled is None or reference.pooled is None:
        nothing: list[Quantity] = [
            _not_compared("A", "difference", unknown),
            _not_compared("value", "difference", unknown),
            _not_compared("B", "ratio", unknown),
            _not_compared("compute", "ratio", unknown),
        ]
        return Pair(one.name, tuple(nothing), (), last, np.nan, ())
    if one.pooled.last < first_compute(reference.pooled) or reference.pooled.last < first_compute(one.pooled):
        raise MetricsError(
            f"{one.name} and {reference.name} have no compute in common "
            f"({first_compute(one.pooled):g} to {one.pooled.last:g}, {first_compute(reference.pooled):g} to "
            f"{reference.pooled.last:g}); do both count {one.log.x_column!r} in the same unit?"
        )
    both = Both.of(one, reference, one.pooled, reference.pooled, options)
    of_A = _difference("A", both.at(np.inf, options), options) if not unknown else None
    quantities = (
        of_A or _not_compared("A", "difference", unknown),
        _difference("value", both.at(last, options), options),
        _compare_B(both, ceiling, of_A, options) if of_A else _not_compared("B", "ratio", unknown),
        _compare_compute(both, level, options),
    )
    return Pair(
        recipe=one.name,
        quantities=quantities,
        crossings=_crossings(both, last, not unknown, options),
        last_common=last,
        residual_correlation=both.shared.of_means,
        caveats=_caveats(both),
    )


def _compare_B(both: Both, ceiling: float, of_A: Quantity, options: FitOptions) -> Quantity:
    if of_A.verdict != "no difference shown":
        return _not_compared("B", "ratio", "the A differ: no ceiling is common")
    first = log_B_at(both.one, both.pooled, ceiling, options)
    second = log_B_at(both.reference, both.pooled_reference, ceiling, options)
    for measured, each in ((first, both.one), (second, both.reference)):
        if np.isnan(measured.pooled):
            return _not_compared(
                "B", "ratio", f"{each.name}: no fit at the common ceiling, or B on the end of its range"
            )
    return _ratio("B", first, second, both.subtract(first, second, None, options))


def _compare_compute(both: Both, level: float, options: FitOptions) -> Quantity:
    if np.isnan(level):
        return _not_compared("compute", "ratio", f"{both.reference.name} does not rise: no level to reach")
    above = [each.name for each in (both.one, both.reference) if any(fit.R_0 >= level for fit in each.fits)]
    if above:
        return _not_compared("compute", "ratio", f"{' and '.join(above)} starts above the level")
    (first, first_censored), (second, second_censored) = (
        log_compute_to(each, pooled, level)
        for each, pooled in ((both.one, both.pooled), (both.reference, both.pooled_reference))
    )
    at = float(np.exp(first.pooled)), float(np.exp(second.pooled))
    found = both.subtract(first, second, at, options)
    censored = [each.name for each, is_so in ((both.one, first_censored), (both.reference, second_censored)) if is_so]
    if not censored:
        return _ratio("compute", first, second, found)
    low = -np.inf if second_censored else found.estimate.low
    high = np.inf if first_censored else found.estimate.high
    bounded = Difference(Estimate(found.estimate.estimate, low, high), np.nan, found.method)
    reason = f"not reached within the data by {' and '.join(censored)}: the ratio is a bound"
    return _ratio("compute", first, second, bounded, reason)


def _crossings(both: Both, last: float, beyond: bool, options: FitOptions) -> tuple[Crossing, ...]:
    """Where the pooled fits cross within the data of both, and beyond if both allow a forecast."""
    fits = both.pooled.profile.fit, both.pooled_reference.profile.fit
    lowest = max(first_compute(both.pooled), first_compute(both.pooled_reference))
    highest = FURTHEST * max(both.pooled.last, both.pooled_reference.last) if beyond else last
    first, second = (lambda compute, fit=fit: predict(fit, compute) for fit in fits)
    ends = np.array([lowest, np.sqrt(lowest * highest), highest])
    if np.allclose(first(ends), second(ends), rtol=0, atol=1e-9):
        return ()  # the same curve
    found = crossings(first, second, lowest, highest)
    stretches = [_lead(both, start, end, options) for start, end in pairwise([lowest, *found.tolist(), highest])]
    names = {1: both.one.name, -1: both.reference.name}
    return tuple(
        Crossing(compute, compute > last, names[after[0]], before[1] and after[1] and before[0] != after[0])
        for compute, before, after in zip(found.tolist(), stretches[:-1], stretches[1:], strict=True)
    )


def _lead(both: Both, start: float, end: float, options: FitOptions) -> tuple[int, bool]:
    """Whether the recipe (1) or the reference (-1) is higher in a stretch, and whether that is shown anywhere in it."""
    values = [
        both.at(float(compute), options)[2].estimate for compute in np.geomspace(start, end, LEAD_POINTS + 2)[1:-1]
    ]
    sign = 1 if sum(value.estimate for value in values) > 0 else -1
    return sign, any(value.low > 0 if sign > 0 else value.high < 0 for value in values)


def _caveats(both: Both) -> tuple[str, ...]:
    caveats = []
    single = [each.name for each in (both.one, both.reference) if len(each.log.series) == 1]
    if single:
        caveats.append(
            f"one run of {' and of '.join(single)}: seed-to-seed variation is not included, so the intervals are too "
            "narrow for a claim about recipes"
        )
    starts = both.one.report.R_0, both.reference.report.R_0
    if starts[0].low > starts[1].high or starts[1].low > starts[0].high:
        caveats.append(
            f"they start from unequal R_0 ({starts[0].estimate:.4g} and {starts[1].estimate:.4g}), perhaps from other "
            "base models: to reach a level they have unequal ways to go"
        )
    return tuple(caveats)
