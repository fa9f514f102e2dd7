"""How often the intervals of ``rlscape fit`` hold the truth, and what it says of data that allow no forecast.

    python benchmarks/coverage.py --json

Every simulation goes through the function behind the command (:func:`rlscape.tools.curves.log_fit.fit_log`). What is
simulated and what came out: benchmarks/README.md.
"""

import argparse
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from rlscape.files import provenance
from rlscape.scaling.records import plain
from rlscape.scaling.sigmoid import FloatArray, sigmoid
from rlscape.tools.curves.log_fit import FitOptions, Report, fit_log
from rlscape.tools.curves.logs import Log, Series

R_0 = 0.40
SAMPLES = 1000 * 16
POINTS = 75
FIRST, LAST = 0.3, 4.0
"""Compute of the first and the last evaluation, in C_mid."""


class Truth(NamedTuple):
    """A curve of the paper."""

    A: float
    B: float
    C_mid: float

    def at(self, compute: Any) -> FloatArray:
        """The pass rate."""
        return sigmoid(compute, self.A, self.B, self.C_mid, R_0)


TABLE_1 = {
    # arXiv 2510.13786, Table 1
    "32k tokens": Truth(0.645, 1.89, 11272),
    "8 generations": Truth(0.585, 2.44, 2542),
    "24 generations": Truth(0.590, 2.22, 3054),
    "32 generations": Truth(0.595, 2.07, 2936),
    "Scout": Truth(0.710, 1.65, 4242),
    "batch 512": Truth(0.605, 1.77, 2818),
    "batch 2048": Truth(0.645, 1.70, 10909),
    "joint, math": Truth(0.595, 2.05, 2896),
    "joint, code": Truth(0.615, 1.09, 1675),
}


def evaluations(truth: Truth) -> FloatArray:
    """Compute of the evaluations."""
    return np.geomspace(FIRST, LAST, POINTS) * truth.C_mid


def of_rates(compute: FloatArray, *rates: FloatArray, known: bool = True) -> Log:
    """A log of one or several runs."""
    samples = np.full(len(compute), float(SAMPLES)) if known else None
    runs = tuple(Series(f"seed{number}", compute, rate, samples) for number, rate in enumerate(rates))
    return Log(runs, "compute", "pass_rate", ())


def binomial(rates: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Observed pass rates."""
    return rng.binomial(SAMPLES, rates) / SAMPLES


def gaussian(rates: FloatArray, noise: FloatArray) -> FloatArray:
    """Pass rates with standard normal noise scaled to the binomial error."""
    return np.clip(rates + noise * np.sqrt(rates * (1 - rates) / SAMPLES), 0, 1)


def one_run(truth: Truth, rng: np.random.Generator) -> Log:
    """A run with binomial noise, its samples known."""
    compute = evaluations(truth)
    return of_rates(compute, binomial(truth.at(compute), rng))


def samples_unknown(truth: Truth, rng: np.random.Generator) -> Log:
    """The same without the samples."""
    compute = evaluations(truth)
    return of_rates(compute, binomial(truth.at(compute), rng), known=False)


def overdispersed(truth: Truth, rng: np.random.Generator) -> Log:
    """Scatter twice the binomial error, the samples known."""
    compute = evaluations(truth)
    return of_rates(compute, gaussian(truth.at(compute), 2 * rng.standard_normal(POINTS)))


def autocorrelated(truth: Truth, rng: np.random.Generator) -> Log:
    """Neighbouring errors correlate by 0.5."""
    compute = evaluations(truth)
    noise = rng.standard_normal(POINTS)
    for i in range(1, POINTS):
        noise[i] = 0.5 * noise[i - 1] + np.sqrt(0.75) * noise[i]
    return of_rates(compute, gaussian(truth.at(compute), noise))


def independent_seeds(truth: Truth, rng: np.random.Generator) -> Log:
    """Three runs."""
    compute = evaluations(truth)
    return of_rates(compute, *(binomial(truth.at(compute), rng) for _ in range(3)))


def shared_noise(truth: Truth, rng: np.random.Generator) -> Log:
    """Three runs whose errors correlate by 0.5."""
    compute = evaluations(truth)
    common = rng.standard_normal(POINTS)
    errors = [np.sqrt(0.5) * (common + rng.standard_normal(POINTS)) for _ in range(3)]
    return of_rates(compute, *(gaussian(truth.at(compute), error) for error in errors))


def different_seeds(truth: Truth, rng: np.random.Generator) -> Log:
    """Three runs whose own A differ, with a standard deviation of 0.01."""
    compute = evaluations(truth)
    own = [truth._replace(A=truth.A + 0.01 * rng.standard_normal()) for _ in range(3)]
    return of_rates(compute, *(binomial(run.at(compute), rng) for run in own))


def cut_at_C_mid(truth: Truth, rng: np.random.Generator) -> Log:
    """A run that has ended at C_mid."""
    compute = evaluations(truth)
    compute = compute[compute <= truth.C_mid]
    return of_rates(compute, binomial(truth.at(compute), rng))


def flat(truth: Truth, rng: np.random.Generator) -> Log:
    """No rise."""
    return of_rates(evaluations(truth), binomial(np.full(POINTS, truth.A), rng))


def linear(truth: Truth, rng: np.random.Generator) -> Log:
    """A straight line in compute, from R_0 to A."""
    compute = evaluations(truth)
    return of_rates(compute, binomial(R_0 + (truth.A - R_0) * compute / compute[-1], rng))


def log_linear(truth: Truth, rng: np.random.Generator) -> Log:
    """A straight line in log compute, from R_0 to A."""
    return of_rates(evaluations(truth), binomial(np.linspace(R_0, truth.A, POINTS), rng))


def falling(truth: Truth, rng: np.random.Generator) -> Log:
    """The curve backwards."""
    compute = evaluations(truth)
    return of_rates(compute, binomial(truth.at(compute)[::-1], rng))


CURVES: tuple[Callable[[Truth, np.random.Generator], Log], ...] = (
    *(one_run, samples_unknown, overdispersed, autocorrelated),
    *(independent_seeds, shared_noise, different_seeds, cut_at_C_mid),
)
"""Data from the sigmoid: the intervals have a truth to hold."""
OTHERS = (flat, linear, log_linear, falling)
SCENARIOS = {scenario.__name__: scenario for scenario in (*CURVES, *OTHERS)}


@dataclass(frozen=True)
class Outcome:
    """One simulation."""

    configuration: str
    verdict: str
    covered: dict[str, bool]
    """By quantity; none if there is no truth."""
    width: float
    """Of the interval of A."""


def truths(truth: Truth, report: Report) -> dict[str, tuple[Any, float]]:
    """What the report gives an interval of, and its true value."""
    last = report.last_compute
    found: dict[str, tuple[Any, float]] = {
        "A": (report.A, truth.A),
        "B": (report.B, truth.B),
        "C_mid": (report.C_mid, truth.C_mid),
        "R_0": (report.R_0, R_0),
    }
    if report.plateau is not None:
        gain = float(truth.at(report.plateau.within * last) - truth.at(last))
        found["improvement"] = (report.plateau.improvement, gain)
    if report.forecast:
        furthest = report.forecast[-1]
        found["forecast"] = (furthest, float(truth.at(furthest.compute)))
    return found


def simulate(name: str, configuration: str, rng: np.random.Generator) -> Outcome:
    """Make a log, fit it, and see which intervals hold the truth."""
    scenario, truth = SCENARIOS[name], TABLE_1[configuration]
    report = fit_log(scenario(truth, rng), FitOptions())
    covered = {}
    if scenario in CURVES:
        known = truths(truth, report)
        covered = {quantity: bool(value.low <= true <= value.high) for quantity, (value, true) in known.items()}
    return Outcome(configuration, report.verdict, covered, report.A.high - report.A.low)


def share(hits: int, total: int) -> dict[str, float]:
    """A share with its 95% interval (Wilson)."""
    z = 1.96
    middle = (hits + z**2 / 2) / (total + z**2)
    half = z / (total + z**2) * np.sqrt(hits * (total - hits) / total + z**2 / 4)
    return {"share": hits / total, "low": float(middle - half), "high": float(middle + half), "of": total}


def summarise(outcomes: list[Outcome]) -> dict[str, Any]:
    """Verdicts, coverage by quantity, coverage of A by configuration, median width of the interval of A."""
    covered: dict[str, list[bool]] = defaultdict(list)
    of_A: dict[str, list[bool]] = defaultdict(list)
    for outcome in outcomes:
        for quantity, hit in outcome.covered.items():
            covered[quantity].append(hit)
        if "A" in outcome.covered:
            of_A[outcome.configuration].append(outcome.covered["A"])
    return {
        "simulations": len(outcomes),
        "verdicts": dict(Counter(outcome.verdict for outcome in outcomes)),
        "refused_by_configuration": dict(
            Counter(outcome.configuration for outcome in outcomes if outcome.verdict == "refused")
        ),
        "coverage": {quantity: share(sum(hits), len(hits)) for quantity, hits in covered.items()},
        "coverage_of_A_by_configuration": {name: share(sum(hits), len(hits)) for name, hits in of_A.items()},
        "median_width_of_A": float(np.median([outcome.width for outcome in outcomes])),
    }


def run(simulations: int, seed: int, scenarios: list[str]) -> dict[str, Any]:
    """All scenarios; the configurations take turns."""
    results = {}
    configurations = list(TABLE_1)
    for name in scenarios:
        started = time.monotonic()
        number = list(SCENARIOS).index(name)
        outcomes = [
            simulate(name, configurations[i % len(configurations)], np.random.default_rng((seed, number, i)))
            for i in tqdm(range(simulations), desc=name, unit="fit", disable=None)
        ]
        results[name] = summarise(outcomes) | {"seconds_per_fit": (time.monotonic() - started) / simulations}
    return results


def format_scenarios(results: dict[str, Any]) -> str:
    """For people: per scenario verdicts and coverage."""
    lines = []
    for name, result in results.items():
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in result["verdicts"].items())
        lines.append(f"{name}: {verdicts}; {result['seconds_per_fit']:.3f} s per fit")
        for quantity, found in result["coverage"].items():
            share, low, high = (100 * found[key] for key in ("share", "low", "high"))
            lines.append(f"  {quantity:12} {share:5.1f}%  ({low:.1f} to {high:.1f}) of {found['of']}")
        if name == "one_run":
            for configuration, found in result["coverage_of_A_by_configuration"].items():
                lines.append(f"    A, {configuration:16} {100 * found['share']:5.1f}% of {found['of']}")
        if refused := result["refused_by_configuration"]:
            lines.append(
                "  refused: " + ", ".join(f"{configuration} {count}" for configuration, count in refused.items())
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=500, help="per scenario (default: 500)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS), metavar="NAME")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    arguments = parser.parse_args()
    if arguments.simulations < 1:
        parser.error("--simulations must be at least 1")
    results = run(arguments.simulations, arguments.seed, arguments.scenarios)
    values = {"seed": arguments.seed, "scenarios": results, "provenance": provenance()}
    print(json.dumps(plain(values)) if arguments.json else format_scenarios(results))


if __name__ == "__main__":
    main()
