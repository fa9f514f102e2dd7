"""``rlscape compare``: what the logs of two or more recipes say about their differences."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rlscape.cli.fit import add_log_arguments, check_plot, fit_options, read_log
from rlscape.errors import MetricsError

if TYPE_CHECKING:
    from rlscape.tools.curves.log_comparison import Crossing, LogComparison, Pair, Quantity
    from rlscape.tools.curves.logs import Log
    from rlscape.tools.curves.seeds import Estimate

HELP = "compare the training curves of two or more recipes, with intervals"

DESCRIPTION = """\
Compare recipes with the first one named, the reference, each by a fit of the scaling curve (see rlscape fit --help).

  A        the asymptote, where the data of both recipes allow a forecast
  value    the curve at the last compute that both have, whatever the verdict
  B        the steepness if both have the mean A; not given where A is shown to differ
  compute  to a common level, 0.7 of the way from R_0 to the reference's A; a bound where it is not reached
  crossing where the fitted curves cross

Each is called higher, lower or "no difference shown", which comes with the smallest difference that the data could have
shown at 80% power: (t_c + t_80) SE, SE = half the interval / t_c. B and compute are ratios.

With two runs or more of both recipes, intervals are over seeds: Student's t, paired where the runs of both have the
same names (file stems, or values of the column that tells seeds apart), otherwise Welch's. With one run, intervals are
those within the run: they do not hold how much another seed would differ, too narrow for a claim about recipes.

RECIPE is FILE, or NAME=FILE[,FILE...] with a file per seed; a file may hold several seeds. A single RECIPE that holds
several runs, such as an export of Weights & Biases, is taken apart: each run is compared with the first.
"""
EPILOG = """\
examples:
  rlscape compare grpo.csv cispo.csv --x gpu_hours --y eval/pass@1 --samples 16000
  rlscape compare grpo=g0.csv,g1.csv,g2.csv cispo=c0.csv,c1.csv,c2.csv --plot compare.png
  rlscape compare wandb_export.csv --y eval/reward --bounds -1 1 --json

Exit codes: 0 done, whatever the verdict, 1 input that cannot be used, 2 wrong command line.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See ``rlscape compare --help``."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument(
        "recipes", nargs="+", metavar="RECIPE", help="FILE or NAME=FILE[,FILE...]; the first is the reference"
    )
    add_log_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Compare, print the result, and draw it if asked to."""
    from rlscape.tools.curves.log_comparison import compare_logs

    check_plot(arguments.plot)
    options = fit_options(arguments)
    logs = read_recipes(arguments)
    comparison = compare_logs(logs, options)
    for note in comparison.notes:
        print(f"note: {note}", file=sys.stderr)
    if arguments.plot:
        from rlscape.tools.curves.plots import draw_comparison, save

        save(draw_comparison(logs, comparison, options.bounds), arguments.plot)
    print(json.dumps(comparison.to_dict(), indent=2) if arguments.json else describe(comparison))


def read_recipes(arguments: argparse.Namespace) -> "dict[str, Log]":
    """The logs of all recipes by name, in the order of the command line.

    Raises:
        MetricsError: a file cannot be used, a name occurs twice, or there is one recipe of one run.
    """
    from rlscape.tools.curves.logs import Log, file_labels

    named = [split_recipe(text) for text in arguments.recipes]
    labels = file_labels([paths[0] for _, paths in named])
    logs: dict[str, Log] = {}
    for (name, paths), label in zip(named, labels, strict=True):
        name = name or label
        if name in logs:
            raise MetricsError(f"{name}: two recipes have this name; give each its own: NAME=FILE")
        logs[name] = read_log(paths, arguments)
    if len(logs) > 1:
        return logs
    ((name, log),) = logs.items()
    if len(log.series) == 1:
        raise MetricsError(f"{name}: one recipe of one run; name another to compare it with: FILE or NAME=FILE")
    return {series.name: Log((series,), log.x_column, log.y_column, log.notes) for series in log.series}


def split_recipe(text: str) -> tuple[str, list[Path]]:
    """``"NAME=FILE,FILE"`` -> name (empty if there is none) and files; a file may have ``=`` and ``,`` in its name.

    Raises:
        MetricsError: no file is named.
    """
    if Path(text).is_file():
        return "", [Path(text)]
    name, equals, files = text.partition("=")
    if not equals:
        name, files = "", text
    paths = [Path(files)] if Path(files).is_file() else [Path(part) for part in files.split(",") if part]
    if not paths or equals and not name:
        raise MetricsError(f"{text!r}: a recipe is FILE or NAME=FILE[,FILE...]")
    return name, paths


def describe(comparison: "LogComparison") -> str:
    """The comparison as text: a line per recipe, then every recipe against the reference."""
    percent = f"{100 * comparison.confidence:g}%"
    reference = comparison.recipes[0].name
    width = max(6, *(len(recipe.name) for recipe in comparison.recipes))
    lines = [
        f"{comparison.y_column} by {comparison.x_column}; {percent} intervals; reference: {reference}",
        "",
        f"{'recipe':{width}}  runs  {'last':>10}  {'A':>8}  {'B':>8}  {'C_mid':>10}  {'R_0':>8}  verdict",
    ]
    for recipe in comparison.recipes:
        parts = f"{_number(recipe.A)}  {_number(recipe.B)}  {_number(recipe.C_mid, 10)}  {_number(recipe.R_0)}"
        reason = f": {recipe.reason}" if recipe.verdict == "refused" else ""
        last = f"{recipe.last_compute:>10.4g}"
        lines.append(f"{recipe.name:{width}}  {recipe.runs:>4}  {last}  {parts}  {recipe.verdict}{reason}")
    for pair in comparison.pairs:
        lines += ["", *_describe_pair(pair, comparison, reference)]
    return "\n".join(lines)


def _number(value: "Estimate", width: int = 8) -> str:
    return f"{'-':>{width}}" if value.estimate != value.estimate else f"{value.estimate:>{width}.4g}"


def _describe_pair(pair: "Pair", comparison: "LogComparison", reference: str) -> list[str]:
    names = {
        "A": "A",
        "value": f"value at {pair.last_common:.4g}",
        "B": f"B if both have A {comparison.ceiling:.4g}",
        "compute": f"compute to {comparison.level:.4g}",
    }
    lines = [f"{pair.recipe} against {reference}"]
    for quantity in pair.quantities:
        lines.append(f"  {names[quantity.name]:26}{_describe_quantity(quantity)}")
    lines += [f"  {'crossing':26}{_describe_crossing(crossing)}" for crossing in pair.crossings]
    methods = list(dict.fromkeys(quantity.method for quantity in pair.quantities if quantity.method))
    if methods:
        shared = pair.residual_correlation
        taken = f"; noise that the recipes share (correlation {shared:.2g} or more) taken off" if shared > 0 else ""
        lines.append(f"  intervals: {', '.join(methods)}{taken}")
    return lines + [f"  {caveat}" for caveat in pair.caveats]


def _describe_quantity(quantity: "Quantity") -> str:
    """``"+0.031 [+0.010, +0.052]  higher"``, ratios as ``"x0.71 [0.60, 0.84]  lower"``."""
    if quantity.verdict == "not compared":
        return f"not compared ({quantity.reason})"
    value = quantity.difference
    if quantity.scale == "difference":
        shown = f"{value.estimate:+.3g} [{value.low:+.3g}, {value.high:+.3g}]"
        could = f"{quantity.detectable:.2g}"
    else:
        high = "no limit" if value.high == float("inf") else f"{value.high:.3g}"
        shown = f"x{value.estimate:.3g} [{value.low:.3g}, {high}]"
        could = f"a factor of {quantity.detectable:.3g}"
    speed = {"higher": " (slower)", "lower": " (faster)"}.get(quantity.verdict, "")
    verdict = quantity.verdict + (speed if quantity.name == "compute" else "")
    if verdict == "no difference shown" and quantity.detectable == quantity.detectable:
        one = "one of " if quantity.scale == "difference" else ""
        verdict += f" (could have shown {one}{could})"
    values = f"{quantity.recipe:.4g} against {quantity.reference:.4g}"
    reason = f"; {quantity.reason}" if quantity.reason else ""
    return f"{shown:30}  {verdict}; {values}{reason}"


def _describe_crossing(crossing: "Crossing") -> str:
    where = "extrapolated" if crossing.extrapolated else "within the data"
    shown = "the leads before and after are shown" if crossing.shown else "a lead before or after is not shown"
    return f"at {crossing.compute:.4g} ({where}): {crossing.leads_after} is higher after it; {shown}"
