"""``rlscape fit`` as a function: a run's curve, what it forecasts, and whether it may forecast at all.

Differences from the pipeline's forecast (:mod:`rlscape.scaling.forecast`), which fits runs whose base model has been
measured and whose samples are known:

1. R_0 is free unless it is known; rows at zero compute are observations of it like any other.
2. Intervals are profile-likelihood intervals (:mod:`rlscape.tools.curves.intervals`), for several runs widened by their
   differences and by what they share (:mod:`rlscape.tools.curves.seeds`).
3. A straight line, a fall and the absence of a trend are called what they are (:mod:`rlscape.tools.curves.verdicts`).
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from rlscape.errors import ConfigError
from rlscape.scaling.records import plain
from rlscape.tools.curves.held_out import RIVALS, HeldOut, hold_out
from rlscape.tools.curves.logs import Log
from rlscape.tools.curves.seeds import MOST_POINTS, Estimate, PooledRuns, check_bounds
from rlscape.tools.curves.verdicts import Verdict, fewest_points, flat_level, judge

Answer = Literal["yes", "no", "undecided"]
InitialSource = Literal["known", "measured", "estimated"]

IMPROVEMENT_SHARE = 0.02
"""Of the range of the bounds: the improvement that counts, unless another is given."""
FURTHEST = 4.0
"""The forecast ends at this many times the last compute, unless another end is given."""
FORECAST_POINTS = 9
CURVE_POINTS = 60
UNKNOWN = Estimate(np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class FitOptions:
    """How a log is fitted; values of y are in the log's units.

    Raises:
        ConfigError: a value makes no sense.
    """

    bounds: tuple[float, float] = (0.0, 1.0)
    """The least and the largest value that y can have."""
    initial: float | None = None
    """R_0 if it is known."""
    confidence: float = 0.95
    """Of all intervals."""
    improvement: float | None = None
    """The improvement that counts; None: 2% of the range of the bounds."""
    within: float = 2.0
    """The improvement is asked for within this many times the last compute."""
    until: float | None = None
    """Compute up to which to forecast; None: four times the last."""
    held_out: float = 0.5
    """Share of the compute that the forms are fitted to when the rest is held out."""
    minimum_reach: float = 2.0
    """A forecast is refused when the data end before this many fitted C_mid."""

    def __post_init__(self) -> None:
        low, high = self.bounds
        if not low < high:
            raise ConfigError(f"--bounds {low:g} {high:g}: the first has to be below the second")
        if self.initial is not None and not low <= self.initial < high:
            raise ConfigError(f"--initial {self.initial:g} does not lie within the bounds {low:g} and {high:g}")
        if not 0.5 < self.confidence < 1:
            raise ConfigError(f"--confidence {self.confidence:g} does not lie between 0.5 and 1")
        if self.within <= 1:
            raise ConfigError(f"--within {self.within:g}: a factor on the last compute, above 1")
        if self.improvement is not None and self.improvement <= 0:
            raise ConfigError(f"--improvement {self.improvement:g}: give a positive one")

    @property
    def scale(self) -> float:
        """Units of the log per unit of the scale from 0 to 1."""
        return self.bounds[1] - self.bounds[0]

    @property
    def margin(self) -> float:
        """The improvement that counts, in the log's units."""
        return IMPROVEMENT_SHARE * self.scale if self.improvement is None else self.improvement

    def to_unit(self, value: float | None) -> float | None:
        """A value of y on the scale from 0 to 1."""
        return None if value is None else (value - self.bounds[0]) / self.scale


@dataclass(frozen=True)
class Point:
    """The curve at a compute, without the noise of single evaluations."""

    compute: float
    low: float
    estimate: float
    high: float


@dataclass(frozen=True)
class Rival:
    """Another form than the sigmoid and its error on the held-out points."""

    form: str
    held_out_error: float
    """Mean absolute error in the log's units; NaN where it could not be fitted."""
    skill: float
    """1 - error / error of the last value."""


@dataclass(frozen=True)
class Plateau:
    """Whether the curve improves by more than ``threshold`` until ``within`` times the last compute."""

    answer: Answer
    improvement: Estimate
    threshold: float
    within: float


@dataclass(frozen=True)
class Report:
    """What a log says about its run; values of y are in the log's units, what cannot be given is NaN."""

    verdict: Verdict
    reason: str
    seeds: int
    last_compute: float
    initial_source: InitialSource
    """R_0 was given, has rows at zero compute, or follows from the curve alone."""
    confidence: float
    bounds: tuple[float, float]
    x_column: str
    y_column: str
    notes: tuple[str, ...]
    A: Estimate = UNKNOWN
    """The asymptote; of a flat run its level."""
    B: Estimate = UNKNOWN
    C_mid: Estimate = UNKNOWN
    R_0: Estimate = UNKNOWN
    forecast: tuple[Point, ...] = ()
    """From the last compute on; empty unless the verdict is ``forecast``."""
    curve: tuple[Point, ...] = ()
    """The fit over the data; empty for runs that are flat or fall."""
    reach: float = np.nan
    """The last compute in fitted C_mid."""
    compute_needed: float = np.nan
    """At which a forecast may be made, if it is refused and the data say it."""
    plateau: Plateau | None = None
    held_out: HeldOut | None = None
    """With the errors of the sigmoid and of the last value too."""
    rivals: tuple[Rival, ...] = ()
    skill: float = np.nan
    """Of the sigmoid on held-out points, against "the last value stays": 1 is perfect, below 0 is worse."""
    residual_correlation: float = np.nan
    """Between runs."""
    lag_correlation: float = np.nan
    """Of neighbouring residuals within runs."""
    dispersion: float = np.nan
    """Variance of the residuals over the binomial, if the samples are known."""
    inflation: float = 1.0
    """Of the variance, by both correlations."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, null where a number is not finite."""
        return plain(asdict(self))


def fit_log(log: Log, options: FitOptions) -> Report:
    """Fit the runs of a log as one recipe; see :func:`fit_runs` for the errors."""
    return fit_runs(log, options)[0]


def fit_runs(log: Log, options: FitOptions) -> tuple[Report, PooledRuns | None]:
    """Fit the runs of a log as one recipe: what to say of it, and the fits, None if there are too few points.

    Raises:
        MetricsError: a value of y lies outside the bounds.
        ConfigError: the forecast is to end before the data do.
    """
    check_bounds(log, options.bounds)
    last = max(float(series.x.max()) for series in log.series)
    until = FURTHEST * last if options.until is None else options.until
    if until <= last:
        raise ConfigError(f"--until {until:g} lies before the end of the data at {last:g}; give a larger one")
    measured = any(series.x[0] == 0 for series in log.series)
    unfitted = Report(
        verdict="refused",
        reason="",
        seeds=len(log.series),
        last_compute=last,
        initial_source="known" if options.initial is not None else "measured" if measured else "estimated",
        confidence=options.confidence,
        bounds=options.bounds,
        x_column=log.x_column,
        y_column=log.y_column,
        notes=_notes(log, options, measured),
    )
    initial = options.to_unit(options.initial)
    needed = fewest_points(initial)
    for series in log.series:
        found = int((series.x > 0).sum())
        if found < needed:
            reason = f"{series.name} has {found} points at positive {log.x_column}, at least {needed} are needed"
            return replace(unfitted, reason=f"{reason}: evaluate more often or train for longer"), None

    pooled = PooledRuns.of(log.series, options.bounds, initial, options.confidence)
    profile = pooled.profile
    judgement = judge(pooled, options.margin / options.scale, options.minimum_reach)
    held_out = hold_out(profile.points, options.held_out, initial, options.confidence, options.scale)
    fitted = replace(
        unfitted,
        verdict=judgement.verdict,
        reason=judgement.reason,
        compute_needed=judgement.compute_needed,
        rivals=tuple(Rival(form, held_out.errors[form], held_out.skill(form)) for form in RIVALS),
        held_out=held_out,
        skill=held_out.skill("sigmoid"),
        residual_correlation=pooled.correlation,
        lag_correlation=pooled.lag_correlation,
        dispersion=profile.fit.sse / profile.degrees if profile.points.known_noise else np.nan,
        inflation=pooled.inflation,
    )
    if judgement.falls:
        return fitted, pooled
    if judgement.verdict == "flat":
        level, change = flat_level(pooled, options.within)
        start = _in_units(pooled.R_0, options) if fitted.initial_source != "estimated" else UNKNOWN
        return replace(fitted, A=_in_units(level, options), R_0=start, plateau=_plateau(change, options)), pooled
    first = float(profile.points.compute[profile.points.compute > 0].min())
    beyond = np.geomspace(last, until, FORECAST_POINTS)
    report = replace(
        fitted,
        reach=last / profile.fit.C_mid,
        A=_in_units(pooled.A, options),
        B=pooled.B,
        C_mid=pooled.C_mid(),
        R_0=_in_units(pooled.R_0, options),
        curve=_curve(pooled, np.geomspace(first, last, CURVE_POINTS), options),
        forecast=_curve(pooled, beyond, options) if judgement.verdict == "forecast" else (),
        plateau=_plateau(pooled.change(last, options.within * last), options),
    )
    return report, pooled


def _notes(log: Log, options: FitOptions, measured: bool) -> tuple[str, ...]:
    """The log's notes, and what was done to its rows."""
    notes = list(log.notes)
    long = [series for series in log.series if len(series.x) > MOST_POINTS]
    for series in long:
        notes.append(f"{series.name}: {len(series.x)} rows, averaged over bins of {log.x_column} (log-spaced)")
    if options.initial is not None and measured:
        notes.append(f"R_0 is given: rows at {log.x_column} = 0 are left out")
    if any(series.samples is None for series in log.series):
        notes.append("samples are not known: the noise is that of the residuals")
    if len(log.series) == 1:
        notes.append("one run: the intervals do not hold how much another seed would differ")
    return tuple(notes)


def _in_units(value: Estimate, options: FitOptions) -> Estimate:
    low = options.bounds[0]
    return Estimate(*(low + options.scale * part for part in (value.estimate, value.low, value.high)))


def _curve(pooled: PooledRuns, compute: np.ndarray, options: FitOptions) -> tuple[Point, ...]:
    values = ((float(c), _in_units(pooled.at(float(c)), options)) for c in compute)
    return tuple(Point(c, value.low, value.estimate, value.high) for c, value in values)


def _plateau(change: Estimate, options: FitOptions) -> Plateau:
    """The answer to a change on the scale from 0 to 1."""
    change = Estimate(*(options.scale * part for part in (change.estimate, change.low, change.high)))
    answer: Answer = "undecided"
    if change.low > options.margin:
        answer = "yes"
    elif change.high <= options.margin:
        answer = "no"
    return Plateau(answer, change, options.margin, options.within)
