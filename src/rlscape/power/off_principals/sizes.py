"""Worlds of the claims on how many weights change and how far a step goes: O1, O2 and O6."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from rlscape.catalogue import resolve_run, seeds_of
from rlscape.paths import run_name
from rlscape.power.off_principals.tables import TWICE, Maker, Tables, rows, runs
from rlscape.power.recorded_weights import RL, SLOW, RecordedWeights
from rlscape.power.worlds import Simulation
from rlscape.results.bias import step_bound
from rlscape.settings.scale import Config

BF16 = 355.0
"""Relative norm of an update of size x = 1, inverse: the mean of half a rounding step over the weight."""
RANGE = 3.0
"""The largest step's KL over the mean one."""


def isotropic(x: np.ndarray | float) -> np.ndarray | float:
    """Sparsity of an isotropic update of this size."""
    return 1 - 2 / np.pi * np.arctan(x)


def evaluated(config: Config, arm: str) -> np.ndarray:
    """Steps of an arm's evaluations, the start included."""
    settings = resolve_run(config, run_name(arm, 0))
    steps = settings.sft.steps if settings.sft else settings.rl.steps
    return np.rint(np.linspace(0, steps, settings.evaluation.evaluations + 1)).astype(int)


def evaluations(recorded: RecordedWeights, arm: str, share: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pass rates of a run at these shares of its steps, the last of which is its end."""
    path = recorded.progress[arm]
    rates = recorded.start + np.interp(share, (0, *path.share), (0, *path.gain))
    rates[:-1] += rng.normal(0, recorded.spread["evaluation"], len(rates) - 1)
    rates[-1] += rng.normal(0, recorded.spread["pass_rate"])
    return rates


# O1

# Paper: differences of final models of unequal size (RL 36-92%, SFT 0.6-18.8%; 0.5 where both start from one base).
# Here: sizes as recorded, and a tenth of that difference between models of equal size.
SPARSER: dict[str, float] = {"holds": 0.05, "fails": 0.0}
GROWTH = 0.8
"""Exponent of an update's size over the steps: between that of independent steps, 0.5, and of coherent ones, 1."""


def sparser(simulation: Simulation, excess: float) -> Maker:
    """O1: RL and SFT of the recorded sizes, whose sparsity differs at equal size."""
    config, recorded = simulation.config, simulation.recorded.weights
    beyond = {arm: excess if arm == RL else 0.0 for arm in simulation.claim.arms}
    steps = {arm: evaluated(config, arm) for arm in (RL, SLOW)}

    def of_run(arm: str, rng: np.random.Generator) -> dict[str, float]:
        x = recorded.size[arm] * np.exp(rng.normal(0, recorded.spread["log_x"]))
        return {"x": x, "own": beyond[arm] + rng.normal(0, recorded.spread["sparsity"])}

    def sparsity(run: dict[str, float], x: np.ndarray | float) -> np.ndarray:
        return np.clip(isotropic(x) + run["own"], 0, 1)

    def make(rng: np.random.Generator) -> Tables:
        drawn = {(arm, seed): of_run(arm, rng) for _, arm, seed in runs(config, simulation.claim.arms)}
        tables: Tables = {}
        for (arm, seed), run in drawn.items():
            name = run_name(arm, seed)
            linear = {"sparsity": float(sparsity(run, run["x"])), "x": run["x"], "exact_zero_share": 0.0}
            linear["isotropic_sparsity"] = float(isotropic(run["x"]))
            tables[f"geometry/{name}/summary.json"] = {"linear": linear}
            if arm in steps:
                share = steps[arm] / steps[arm][-1]
                x = run["x"] * share**GROWTH
                tables[f"runs/{name}/metrics.parquet"] = rows(
                    step=steps[arm],
                    pass_rate=evaluations(recorded, arm, share, rng),
                    relative_norm=x / BF16,
                    sparsity=sparsity(run, x),
                )
        rl, sft, slow = simulation.claim.arms
        for seed in seeds_of(config, *simulation.claim.arms):
            of = {arm: drawn[arm, seed] for arm in simulation.claim.arms}
            own = float(sparsity(of[rl], of[rl]["x"]))
            other = {
                "as_run": sparsity(of[sft], of[sft]["x"]),
                "rate": sparsity(of[slow], of[slow]["x"]),
                "norm": sparsity(of[sft], of[rl]["x"]),
            }
            tables[f"geometry/matching-s{seed}.parquet"] = pd.DataFrame(
                {"matching": matching, "method": method, "seed": seed, "sparsity": float(value)}
                for matching, of_sft in other.items()
                for method, value in (("rl", own), ("sft", of_sft))
            )
        return tables

    return make


# O2


class Rounding(NamedTuple):
    """What an update's sparsity owes to other things than its size and rounding."""

    octaves: float
    """Of the size that an isotropic update of this sparsity would have."""
    zeros: float
    """Share of fp32 weights that did not change at all, in what the claim allows."""


# Paper: no numbers. Here: entries that are not Gaussian, half an octave off (uniform and Laplace ones are up to 0.6
# off); or structure, 2 octaves off (1.2 to 4.6), and twice the zeros that the claim allows.
ROUNDING: dict[str, Rounding] = {"holds": Rounding(0.5, 0.0), "fails": Rounding(2.0, TWICE)}


def rounded(simulation: Simulation, truth: Rounding) -> Maker:
    """O2: runs of the recorded sizes."""
    config, recorded = simulation.config, simulation.recorded.weights
    zeros = truth.zeros * simulation.claim.threshold("exact_zeros")

    def make(rng: np.random.Generator) -> Tables:
        tables: Tables = {}
        for run, arm, _ in runs(config, simulation.claim.arms):
            x = recorded.size[arm] * np.exp(rng.normal(0, recorded.spread["log_x"]))
            as_if = x / 2 ** (truth.octaves + rng.normal(0, recorded.spread["octaves"]))
            tables[f"geometry/{run}/summary.json"] = {
                "linear": {
                    "sparsity": float(isotropic(as_if)),
                    "x": x,
                    "isotropic_sparsity": float(isotropic(x)),
                    "exact_zero_share": zeros + abs(rng.normal(0, recorded.spread["exact_zeros"])),
                }
            }
        return tables

    return make


# O6


class Leash(NamedTuple):
    """How far steps go in KL."""

    largest: float
    """KL of the largest step, in the bound."""
    slope: float
    """Of the logarithm of a step's KL on that of the rate, less 2, in slope_margin."""
    cost: float
    """KL(pi_0 || pi) of SFT at equal pass rate over RL's, less 1, in margin_share."""


# Paper: bounded by eps^2, no numbers for SFT. Here: half the bound, or twice it; a KL that grows as the rate does.
LEASHED = Leash(0.5, 0.0, TWICE)
LEASH: dict[str, Leash] = {
    "holds": LEASHED,
    "fails": Leash(2.0, -TWICE, 0.0),
    "edge largest step": LEASHED._replace(largest=1.0),
    "edge slope above": LEASHED._replace(slope=1.0),
    "edge slope below": LEASHED._replace(slope=-1.0),
    "edge cost": LEASHED._replace(cost=1.0),
}


def leashed(simulation: Simulation, truth: Leash) -> Maker:
    """O6: RL at several rates, and SFT at RL's own rate.

    What a rate's KL has of its own, in every seed, leaves the slope over all rates and the own rate's KL as planted.
    """
    config, recorded = simulation.config, simulation.recorded.weights
    spread, own = recorded.spread, simulation.claim.arms[0]
    settings = {arm: resolve_run(config, run_name(arm, 0)).rl for arm in simulation.claim.arms}
    log_rates = np.log([each.learning_rate for each in settings.values()])
    rates_over_own = dict(zip(settings, log_rates - log_rates[0], strict=True))
    recipe = resolve_run(config, run_name(own, 0)).recipe
    assert recipe is not None, "an RL arm"
    largest = truth.largest * step_bound(recipe)
    slope = 2 + truth.slope * simulation.claim.threshold("slope_margin")
    steps = {arm: evaluated(config, arm) for arm in (RL, SLOW)}
    path, slow = recorded.progress[RL], recorded.progress[SLOW]
    cost = 1 + truth.cost * simulation.conventions.margin_share
    at_equal = float(np.interp(path.gain[-1], (0, *slow.gain), (0, *slow.kl)))
    scale = {RL: 1.0, SLOW: cost * path.kl[-1] / at_equal}

    def make(rng: np.random.Generator) -> Tables:
        tables: Tables = {}
        bend = rng.normal(0, spread["log_kl_by_rate"], len(log_rates))
        bend -= np.polyval(np.polyfit(log_rates, bend, 1), log_rates)
        of_rate = dict(zip(settings, bend - bend[0], strict=True))
        for run, arm, _ in runs(config, settings):
            off = rng.normal(0, spread["log_kl_step"]) + slope * rates_over_own[arm] + of_rate[arm]
            kl = np.full(settings[arm].steps, largest / RANGE * np.exp(off))
            kl[0] *= RANGE
            tables[f"runs/{run}/updates.parquet"] = rows(
                step=np.arange(1, len(kl) + 1), kl_step=kl, clip_fraction=0.0, kl_from_start=np.nan
            )
        for run, arm, _ in runs(config, (RL, SLOW)):
            share, measured = steps[arm] / steps[arm][-1], recorded.progress[arm]
            kl = scale[arm] * np.interp(share, (0, *measured.share), (0, *measured.kl))
            kl *= np.exp(rng.normal(0, spread["log_kl"]))
            rates = evaluations(recorded, arm, share, rng)
            tables[f"runs/{run}/metrics.parquet"] = rows(step=steps[arm], pass_rate=rates)
            updates = tables.get(f"runs/{run}/updates.parquet", rows(step=steps[arm][1:]))
            kl_by_step = dict(zip(steps[arm], kl, strict=True))
            tables[f"runs/{run}/updates.parquet"] = updates.assign(kl_from_start=updates["step"].map(kl_by_step))
        return tables

    return make
