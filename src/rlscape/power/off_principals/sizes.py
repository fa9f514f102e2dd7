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
    rates = recorded.start + np.asarray(recorded.progress[arm].gain(share))
    rates[:-1] += rng.normal(0, recorded.spread["evaluation"], len(rates) - 1)
    rates[-1] += rng.normal(0, recorded.spread["pass_rate"])
    return rates


# O1


class Sparser(NamedTuple):
    """Sparsity of RL less that of SFT, in negligible ones; None: what the recorded sizes make of it."""

    norm: float
    """At equal norm, between snapshots."""
    pass_rate: float
    """At equal pass rate, between snapshots."""
    rate: float | None = None
    """At the end, SFT at RL's learning rate."""
    as_run: float | None = None


# Paper: differences of final models of unequal size (RL 36-92%, SFT 0.6-18.8%; 0.5 where both start from one base).
# Here: a tenth of that difference between models of equal size or pass rate.
MATCHED = 5.0
SPARSER: dict[str, Sparser] = {
    "holds": Sparser(MATCHED, MATCHED),
    "fails": Sparser(0.0, 0.0),
    "edge norm": Sparser(1.0, MATCHED),
    "edge pass rate": Sparser(MATCHED, 1.0),
    "edge learning rate": Sparser(MATCHED, MATCHED, rate=1.0),
    "edge as run": Sparser(MATCHED, MATCHED, as_run=1.0),
}
GROWTH = 0.8
"""Exponent of an update's size over the steps: between that of independent steps, 0.5, and of coherent ones, 1."""


def sparser(simulation: Simulation, truth: Sparser) -> Maker:
    """O1: RL and SFT of the recorded sizes, whose sparsity differs at equal size, at equal pass rate and at the end.

    What SFT at RL's rate has at equal pass rate follows from how fast it learns; at the end the entries of an update
    may be distributed otherwise than on the way.
    """
    config, recorded = simulation.config, simulation.recorded.weights
    rl, sft, slow = simulation.claim.arms
    negligible = simulation.claim.threshold("negligible")
    beyond = {arm: truth.norm * negligible if arm == rl else 0.0 for arm in simulation.claim.arms}
    sparse = isotropic(recorded.size[rl]) + beyond[rl]
    late = {
        arm: 0.0 if less is None else float(sparse - less * negligible - isotropic(recorded.size[arm]))
        for arm, less in {rl: None, sft: truth.as_run, slow: truth.rate}.items()
    }
    as_large = np.tan(np.pi / 2 * (1 - sparse + truth.pass_rate * negligible))
    as_able = recorded.progress[slow].share_at(float(recorded.progress[rl].gain(1)))
    pace = {rl: 1.0, slow: as_able / (as_large / recorded.size[slow]) ** (1 / GROWTH)}
    steps = {arm: evaluated(config, arm) for arm in pace}

    def of_run(arm: str, rng: np.random.Generator) -> dict[str, float]:
        x = recorded.size[arm] * np.exp(rng.normal(0, recorded.spread["log_x"]))
        own = beyond[arm] + rng.normal(0, recorded.spread["sparsity"])
        return {"x": x, "own": own, "last": float(np.clip(isotropic(x) + own + late[arm], 0, 1))}

    def sparsity(run: dict[str, float], x: np.ndarray | float) -> np.ndarray:
        return np.clip(isotropic(x) + run["own"], 0, 1)

    def make(rng: np.random.Generator) -> Tables:
        drawn = {(arm, seed): of_run(arm, rng) for _, arm, seed in runs(config, simulation.claim.arms)}
        tables: Tables = {}
        for (arm, seed), run in drawn.items():
            name = run_name(arm, seed)
            linear = {"sparsity": run["last"], "x": run["x"], "exact_zero_share": 0.0}
            linear["isotropic_sparsity"] = float(isotropic(run["x"]))
            tables[f"geometry/{name}/summary.json"] = {"linear": linear}
            if arm in steps:
                share = steps[arm] / steps[arm][-1]
                x = run["x"] * share**GROWTH
                tables[f"runs/{name}/metrics.parquet"] = rows(
                    step=steps[arm],
                    pass_rate=evaluations(recorded, arm, pace[arm] * share, rng),
                    x=x,
                    sparsity=np.append(sparsity(run, x)[:-1], run["last"]),
                )
        for seed in seeds_of(config, *simulation.claim.arms):
            of = {arm: drawn[arm, seed] for arm in simulation.claim.arms}
            other = {
                "as_run": of[sft]["last"],
                "rate": of[slow]["last"],
                "norm": float(sparsity(of[sft], of[rl]["x"])),
            }
            tables[f"geometry/matching-s{seed}.parquet"] = pd.DataFrame(
                {"matching": matching, "method": method, "seed": seed, "sparsity": value}
                for matching, of_sft in other.items()
                for method, value in (("rl", of[rl]["last"]), ("sft", of_sft))
            )
        return tables

    return make


# O2


class Rounding(NamedTuple):
    """What sparsity owes to other things than an update's size and rounding."""

    octaves: float = 0.5
    """Of the size that an isotropic update of this sparsity would have, beyond the accuracy that the claim allows, at
    the largest rate; at the others as here."""
    zeros: float = 0.0
    """Share of fp32 weights that did not change at all, at the largest rate, in what the claim allows."""
    exchanged: float = 0.0
    """Chance that a seed's update at the largest rate has the size of that two rates below, and vice versa."""


# Paper: no numbers. Here: entries that are not Gaussian, half an octave off (uniform and Laplace ones are up to 0.6
# off); or structure, 2 octaves off (1.2 to 4.6) at one end of the rates, and twice the zeros that the claim allows.
# Of seven ranks, exchanging two that are two apart leaves a correlation of 6 / 7: in 0.7 of the seeds, 0.9.
ROUNDING: dict[str, Rounding] = {
    "holds": Rounding(),
    "fails": Rounding(octaves=2.0, zeros=TWICE),
    "edge rate": Rounding(exchanged=0.7),
    "edge octaves": Rounding(octaves=1.0),
    "edge zeros": Rounding(zeros=1.0),
}


def rounded(simulation: Simulation, truth: Rounding) -> Maker:
    """O2: runs of the recorded sizes; arms by their rates."""
    config, recorded, claim = simulation.config, simulation.recorded.weights, simulation.claim
    *_, lower, _, largest = claim.arms
    swap = {lower: largest, largest: lower}
    truths = dict.fromkeys(claim.arms, Rounding()) | {largest: truth}

    def make(rng: np.random.Generator) -> Tables:
        tables: Tables = {}
        exchanged = {seed: rng.random() < truth.exchanged for seed in seeds_of(config, *claim.arms)}
        for run, arm, seed in runs(config, claim.arms):
            of_size = swap.get(arm, arm) if exchanged.get(seed, False) else arm
            x = recorded.size[of_size] * np.exp(rng.normal(0, recorded.spread["log_x"]))
            as_if = x / 2 ** (truths[arm].octaves + rng.normal(0, recorded.spread["octaves"]))
            zeros = truths[arm].zeros * claim.threshold("exact_zeros") + rng.normal(0, recorded.spread["exact_zeros"])
            tables[f"geometry/{run}/summary.json"] = {
                "linear": {
                    "sparsity": float(isotropic(as_if)) + claim.threshold("accuracy"),
                    "x": x,
                    "isotropic_sparsity": float(isotropic(x)),
                    "exact_zero_share": abs(zeros),
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
    scale = {RL: 1.0, SLOW: float(cost * path.kl[-1] / slow.kl_at(slow.share_at(float(path.gain(1)))))}

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
            share = steps[arm] / steps[arm][-1]
            kl = scale[arm] * np.asarray(recorded.progress[arm].kl_at(share))
            kl *= np.exp(rng.normal(0, spread["log_kl"]))
            rates = evaluations(recorded, arm, share, rng)
            tables[f"runs/{run}/metrics.parquet"] = rows(step=steps[arm], pass_rate=rates)
            updates = tables.get(f"runs/{run}/updates.parquet", rows(step=steps[arm][1:]))
            kl_by_step = dict(zip(steps[arm], kl, strict=True))
            tables[f"runs/{run}/updates.parquet"] = updates.assign(kl_from_start=updates["step"].map(kl_by_step))
        return tables

    return make
