"""Worlds of the claims on runs that train a mask or an adapter only: O11, O12 and O13."""

from typing import NamedTuple

import numpy as np

from rlscape.catalogue import ARMS
from rlscape.figures.off_principals.paper_tables import TABLE_5
from rlscape.power.off_principals.tables import TWICE, Maker, Tables, rows, runs
from rlscape.power.recorded_weights import RL
from rlscape.power.worlds import Simulation
from rlscape.results.restricted import COLLAPSE, learning_rate

# O11


class Masked(NamedTuple):
    """What training a mask does."""

    distance: float
    """Of its KL curve to the dense one, in the claim's negligible distances; negative ahead of it."""
    pass_rate: float
    """At the end, less that of dense training."""
    margins: float = 0.0
    """By how many margins it is lower still."""


def _masked(mask: str, distance: float) -> Masked:
    return Masked(distance, (TABLE_5[f"mask_{mask}"].average - TABLE_5["mask_dense"].average) / 100)


# Paper: pass rates of Table 5; of KL, that safe tracks dense and that principal is the slowest. Here: random and the
# complement twice as far as is negligible, and principal four times as far as they, so that between what follows and
# what is slowest there is room for random.
SLOWEST = 4 * TWICE
RANKED = {
    "mask_safe": _masked("safe", 0.0),
    "mask_random": _masked("random", TWICE),
    "mask_principal": _masked("principal", SLOWEST),
    "mask_complement": _masked("complement", TWICE),
}


class Ranking(NamedTuple):
    """What is true in a world."""

    masks: dict[str, Masked]
    distance: float = 0.0
    """Of safe, in the claim's follow_share of the principal one's; random is TWICE further off. Negative: ahead."""
    lacks: float = 0.0
    """What safe lacks in pass rate, in the claim's follow_share of what principal lacks. Negative: ahead."""


MASKED: dict[str, Ranking] = {
    "holds": Ranking(RANKED),
    "fails": Ranking({}),
    "edge safe behind": Ranking(RANKED | {"mask_safe": _masked("safe", TWICE - 1)}),
    "edge safe ahead": Ranking(RANKED | {"mask_safe": _masked("safe", 1 - TWICE)}),
    "edge follows behind": Ranking(RANKED, distance=1.0),
    "edge follows ahead": Ranking(RANKED, distance=-1.0),
    "edge principal against random": Ranking(
        RANKED | {"mask_random": _masked("random", SLOWEST - 1), "mask_complement": _masked("complement", 1.0)}
    ),
    "edge principal against complement": Ranking(RANKED | {"mask_complement": _masked("complement", SLOWEST - 1)}),
    "edge pass rate": Ranking(RANKED | {"mask_principal": Masked(SLOWEST, RANKED["mask_safe"].pass_rate, margins=1.0)}),
    "edge pass rate follows": Ranking(RANKED, lacks=1.0),
    "edge pass rate ahead": Ranking(RANKED, lacks=-1.0),
}
EQUAL = Masked(2 * TWICE, 0.0)
"""Every mask where the claim does not hold."""
CURVE = 10
"""Steps of a KL curve."""


def ranked(simulation: Simulation, ranking: Ranking) -> Maker:
    """O11: KL grows linearly; a mask's curve is lower by its distance."""
    config, recorded, claim = simulation.config, simulation.recorded.weights, simulation.claim
    spread, negligible, share = recorded.spread, claim.threshold("negligible"), claim.threshold("follow_share")
    masks = dict(ranking.masks)
    if ranking.distance:
        off = ranking.distance * share * SLOWEST
        masks |= {"mask_safe": _masked("safe", off), "mask_random": _masked("random", abs(off) + TWICE)}
    if ranking.lacks:
        masks["mask_safe"] = Masked(0.0, ranking.lacks * share * RANKED["mask_principal"].pass_rate)
    truths = {"mask_dense": Masked(0.0, 0.0)} | dict.fromkeys(claim.arms[1:], EQUAL) | masks
    steps = np.arange(1, CURVE + 1)
    gain = float(recorded.progress[RL].gain(1))
    margin = simulation.conventions.margin_share * gain

    def make(rng: np.random.Generator) -> Tables:
        tables: Tables = {}
        for run, arm, _ in runs(config, claim.arms):
            truth = truths[arm]
            kl = steps * (1 - truth.distance * negligible) * np.exp(rng.normal(0, spread["log_kl_area"]))
            tables[f"runs/{run}/updates.parquet"] = rows(step=steps, kl_to_start=kl)
            rate = recorded.start + gain + truth.pass_rate - truth.margins * margin
            rate += rng.normal(0, spread["pass_rate"])
            tables[f"runs/{run}/metrics.parquet"] = rows(step=[0, CURVE], pass_rate=[recorded.start, rate])
        return tables

    return make


# O12

GAINS: dict[str, float] = {"holds": 0.0, "fails": TWICE, "edge": 1.0}
"""Pass rate of PiSSA less that of LoRA at the same rank and rate, in margin_share of full fine-tuning's gain."""


def _lora(arm: str) -> str:
    return arm.replace("pissa", "lora")


def gaining(simulation: Simulation, gain: float) -> Maker:
    """O12: LoRA's pass rates as recorded, PiSSA's so much higher at every rank and rate."""
    config, recorded = simulation.config, simulation.recorded.weights
    full, *adapters = simulation.claim.arms
    of_full = float(recorded.progress[full].gain(1))
    higher = gain * simulation.conventions.margin_share * of_full
    levels = {full: recorded.start + of_full}
    for arm in adapters:
        levels[arm] = recorded.adapters[_lora(arm)][0] + (higher if arm != _lora(arm) else 0.0)

    def make(rng: np.random.Generator) -> Tables:
        return {
            f"runs/{run}/metrics.parquet": rows(
                step=[0, 1], pass_rate=[recorded.start, rng.normal(levels[arm], recorded.spread["pass_rate"])]
            )
            for run, arm, _ in runs(config, levels)
        }

    return make


# O13


# Paper: PiSSA's curves fall at the high rates, no numbers. Here: collapse follows the size of a run's steps, of which
# PiSSA's are larger at equal rates; that alone makes it collapse at lower rates where the claim fails. There is no edge
# of rates alone: where the ratio of step sizes is as in ``holds``, that of rates is larger.
COLLAPSING: dict[str, float] = {"holds": TWICE, "fails": 0.0, "edge step size": 1.0}
"""Logarithm of the step size at which half of LoRA's runs collapse over PiSSA's, in negligible ones."""
WIDTH = 0.3
"""Of the logistic curve, in logarithms of the step size: nearly all runs collapse at twice the size at which half do.
Paper: one run each. Here: sharp enough that three rates show both ends."""
PEAK = 0.5
FALLEN = PEAK * (1 - COLLAPSE) / 2
LENGTH = 20
"""Steps of a run, the second half of which a collapsed one spends at :data:`FALLEN`."""


def collapsing(simulation: Simulation, apart: float) -> Maker:
    """O13: runs of recorded step sizes, which collapse at random by their logarithm."""
    config, recorded = simulation.config, simulation.recorded.weights
    arms = simulation.claim.arms
    sizes = {arm: np.log(recorded.adapters[arm][1]) for arm in arms}
    rates = {arm: learning_rate(config, arm) for arm in arms}
    middle = np.mean([sizes[arm] for arm in arms if rates[arm] in sorted(set(rates.values()))[-2:]])
    shift = apart * simulation.claim.threshold("negligible") / 2
    half = {"pissa": middle - shift, "lora": middle + shift}
    kinds = {arm: adapter.kind for arm in arms if (adapter := ARMS[arm].adapter)}
    steps = np.arange(1, LENGTH + 1)

    def make(rng: np.random.Generator) -> Tables:
        tables: Tables = {}
        for run, arm, _ in runs(config, arms):
            size = sizes[arm] + rng.normal(0, recorded.spread["log_x"])
            chance = 1 / (1 + np.exp(-(size - half[kinds[arm]]) / WIDTH))
            rest = FALLEN if rng.random() < chance else PEAK
            tables[f"runs/{run}/updates.parquet"] = rows(step=steps, pass_rate=np.where(steps > LENGTH / 2, rest, PEAK))
            tables[f"runs/{run}/metrics.parquet"] = rows(step=[0, 1], pass_rate=PEAK, relative_norm=[0.0, np.exp(size)])
        return tables

    return make
