"""``rlscape fit``: fit a run's curve from its log, and forecast it or refuse to."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlscape.tools.curves.log_fit import FitOptions, Point, Report
    from rlscape.tools.curves.logs import Log
    from rlscape.tools.curves.seeds import Estimate

HELP = "fit a training curve, with intervals, and forecast it or refuse to"

DESCRIPTION = """\
Fit the scaling curve of RL training (arXiv 2510.13786, Eq 1) to the log of a run, or to several runs of one recipe:

  y(C) = R_0 + (A - R_0) / (1 + (C_mid / C)^B)

C is the x column (compute, GPU hours, tokens or steps), A the asymptote, B the steepness, C_mid the compute at which
half of the rise is done, R_0 the initial value. R_0 is estimated unless --initial gives it; rows at C = 0 measure it.

verdicts:
  forecast  the data say where the curve goes: forecast, with intervals
  refused   they do not (they end before 2 C_mid, do not bound C_mid, a straight line fits as well, or the run
            falls); the reason says why and, where the data tell, how much more compute would do
  flat      no rise beyond the noise: nothing learnt, or on the plateau throughout

LOG is CSV, JSON lines, parquet, a trainer_state.json or a CSV export of Weights & Biases. Several files are several
seeds of one recipe. All intervals are of the curve, without the noise of single evaluations.
"""
EPILOG = """\
examples:
  rlscape fit metrics.csv
  rlscape fit seed0.csv seed1.csv seed2.csv --x gpu_hours --y eval/pass@1 --samples 16000 --until 5000 --plot fit.png

--json prints A, B, C_mid, R_0 (each estimate, low, high), verdict, reason, forecast (a list of compute, low, estimate,
high), rivals, skill, plateau, residual_correlation, seeds, notes and what they rest on; null is "cannot be given" or,
as a limit, "no limit".

Exit codes: 0 done, whatever the verdict, 1 input that cannot be used, 2 wrong command line.
"""
NAMES = {
    "sigmoid": "sigmoid",
    "power_law": "power law",
    "exponential_saturation": "exponential saturation",
    "line": "straight line in compute",
    "log_line": "straight line in log compute",
    "last_value": "the last value stays",
}
SOURCES = {"known": "given", "measured": "rows at 0", "estimated": "estimated"}


def add_log_arguments(parser: argparse.ArgumentParser) -> None:
    """The options by which a log is read and fitted, those that every command on logs has."""
    columns = parser.add_argument_group("the log")
    columns.add_argument("--x", metavar="COLUMN", help="compute, tokens or steps (default: found by its name)")
    columns.add_argument("--y", metavar="COLUMN", help="pass rate, accuracy or reward (default: found by its name)")
    columns.add_argument(
        "--samples",
        metavar="N|COLUMN",
        help="samples behind each y, prompts times answers, as a number or a column: their binomial error is the "
        "least noise (default: column 'samples', or the noise of the residuals)",
    )
    columns.add_argument("--seeds", metavar="COLUMN", help="column that tells the runs in a file apart")
    columns.add_argument(
        "--bounds",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        default=(0.0, 1.0),
        help="range that y can have: 0 100 for percent, -1 1 for such a reward (default: 0 1)",
    )
    fit = parser.add_argument_group("the fit")
    fit.add_argument("--initial", type=float, metavar="R0", help="R_0, if it is known")
    fit.add_argument(
        "--improvement", type=float, metavar="D", help="difference in y that counts (default: 2%% of the bounds' range)"
    )
    fit.add_argument("--confidence", type=float, metavar="P", default=0.95, help="of the intervals (default: 0.95)")
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print JSON")
    output.add_argument("--plot", type=Path, metavar="FILE", help="draw the data and the fit, PNG or SVG by the suffix")


def fit_options(arguments: argparse.Namespace) -> "FitOptions":
    """The options of :func:`add_log_arguments`, and ``--within`` and ``--until`` where a command has them.

    Raises:
        ConfigError: a value makes no sense.
    """
    from rlscape.tools.curves.log_fit import FitOptions

    named = ("initial", "improvement", "confidence", "within", "until")
    given = {name: getattr(arguments, name) for name in named if hasattr(arguments, name)}
    return FitOptions(bounds=tuple(arguments.bounds), **given)


def read_log(paths: list[Path], arguments: argparse.Namespace) -> "Log":
    """The runs of one recipe, read with the options of :func:`add_log_arguments`.

    Raises:
        MetricsError: a file or a column cannot be used.
    """
    from rlscape.tools.curves.logs import read_logs

    return read_logs(paths, x=arguments.x, y=arguments.y, samples=arguments.samples, seeds=arguments.seeds)


def check_plot(plot: Path | None) -> None:
    """Refuse other suffixes before any work is done.

    Raises:
        ConfigError: the suffix is neither .png nor .svg.
    """
    from rlscape.errors import ConfigError

    if plot is not None and plot.suffix.lower() not in (".png", ".svg"):
        raise ConfigError(f"--plot {plot}: the suffix says the format; give .png or .svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See ``rlscape fit --help``."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="a training log; several: one per seed")
    add_log_arguments(parser)
    ask = parser.add_argument_group("the forecast")
    ask.add_argument("--until", type=float, metavar="COMPUTE", help="its end (default: 4 times the last compute)")
    ask.add_argument(
        "--within",
        type=float,
        metavar="FACTOR",
        default=2.0,
        help="say whether y improves by more than D within this many times the last compute (default: 2)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Fit, print the report, and draw it if asked to."""
    from rlscape.tools.curves.log_fit import fit_log

    check_plot(arguments.plot)
    options = fit_options(arguments)
    log = read_log(arguments.logs, arguments)
    report = fit_log(log, options)
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    if arguments.plot:
        from rlscape.tools.curves.plots import draw_fit, save

        save(draw_fit(log, report), arguments.plot)
    print(json.dumps(report.to_dict(), indent=2) if arguments.json else describe(report))


def with_limits(value: "Estimate | Point", digits: int = 4) -> str:
    """``"0.6102    0.603 to 0.6181"``; "-" for what cannot be given, "no limit" for limits that the data do not set."""
    if value.estimate != value.estimate:
        return f"{'-':>10}"
    low = f"{value.low:.{digits}g}" if value.low == value.low else "?"
    high = "no limit" if value.high == float("inf") else f"{value.high:.{digits}g}"
    return f"{value.estimate:>10.{digits}g}    {low} to {high}"


def describe(report: "Report") -> str:
    """The report as text: verdict, parameters, forecast, rivals, plateau, noise."""
    percent = f"{100 * report.confidence:g}%"
    lines = [f"verdict: {report.verdict}", f"  {report.reason}", ""]
    if report.plateau is not None:
        what = "level" if report.verdict == "flat" else "asymptote"
        rows = {
            f"A      {what}": report.A,
            "B      steepness": report.B,
            "C_mid  midpoint": report.C_mid,
            f"R_0    start ({SOURCES[report.initial_source]})": report.R_0,
        }
        lines += [f"{'':24}{'estimate':>10}    {percent} interval"]
        lines += [f"{name:24}{with_limits(value)}" for name, value in rows.items()] + [""]
    if report.forecast:
        lines += [f"forecast of {report.y_column} (the data end at {report.x_column} {report.last_compute:.6g})"]
        lines += [f"{report.x_column:>24.24}{'estimate':>10}    {percent} interval"]
        for point in report.forecast[::2]:
            lines.append(f"{point.compute:>24.6g}{with_limits(point)}")
        lines.append("")
    lines += _describe_held_out(report)
    if report.plateau is not None:
        gain = report.plateau.improvement
        lines += [
            f"will it improve by more than {report.plateau.threshold:g} within {report.plateau.within:g}x compute? "
            f"{report.plateau.answer} ({gain.estimate:.3g}, {percent} interval {gain.low:.3g} to {gain.high:.3g})",
            _describe_noise(report),
        ]
    return "\n".join(lines).rstrip()


def _describe_held_out(report: "Report") -> list[str]:
    """Mean absolute errors of all forms on the later part."""
    held_out = report.held_out
    if held_out is None:
        return []
    if held_out.reason:
        return [f"held-out error: {held_out.reason}", ""]
    reach = f", {held_out.reach:.2g} of its C_mid" if held_out.reach == held_out.reach else ""
    title = (
        f"fitted up to {held_out.cutoff:.6g} ({held_out.fitted} points{reach}), "
        f"error on the {held_out.points} points after it"
    )
    rows = [
        f"  {NAMES[form]:30}" + (f"{error:>9.3g}" if error == error else f"{'no fit':>9}")
        for form, error in held_out.errors.items()
    ]
    if report.skill == report.skill:
        rows.append(f"  skill of the sigmoid against the last value: {report.skill:.2g} (1 perfect, below 0 worse)")
    return [title, *rows, ""]


def _describe_noise(report: "Report") -> str:
    """What the intervals were widened by."""
    parts = []
    if report.dispersion == report.dispersion:
        parts.append(f"scatter {report.dispersion:.2g} times binomial")
    if report.residual_correlation == report.residual_correlation:
        parts.append(f"residuals of {report.seeds} runs correlate {report.residual_correlation:.2g}")
    if report.lag_correlation == report.lag_correlation:
        parts.append(f"neighbouring residuals correlate {report.lag_correlation:.2g}")
    parts.append(f"variance multiplied by {report.inflation:.2g} for correlation")
    return f"noise: {', '.join(parts)}"
