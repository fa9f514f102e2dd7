"""Evaluators of P2's claims (arXiv 2511.08567) on bias: over time, per step, at equal size, and by operator."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from rlscape.catalogue import first_run, resolve_run, seeds_of
from rlscape.claims.parts import Part, above, below, beyond, censored, conclude, neutral
from rlscape.claims.register import (
    Claim,
    Conventions,
    Outcome,
    span,
)
from rlscape.results import bias, curves
from rlscape.scaling.arm_comparison import judge_by_share
from rlscape.scaling.uncertainty import Interval, paired_differences, t_interval
from rlscape.settings.scale import Config

STRIPES = {"q": "row", "o": "column"}
"""The axes of Figure 3."""


def early_and_stable(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O5. Arms: the one that is judged, then others that are reported."""
    stability = bias.rank_stability(bias.profiles(config, claim.arms), STRIPES)
    by_seed = stability.groupby(["arm", "seed"])[["share", "new"]].mean()
    judged, *others = ({name: t_interval(by_seed.loc[arm, name]) for name in by_seed} for arm in claim.arms)
    parts = [
        Part("first to last", judged["share"], above(judged["share"], claim.threshold("min_correlation"))),
        Part("with new changes", judged["new"], above(judged["new"], claim.threshold("negligible"))),
    ]
    reported = [
        f"{arm}: {span(found['share'])}, new {span(found['new'])}"
        for arm, found in zip(claim.arms[1:], others, strict=True)
    ]
    return conclude(parts, "rank correlations of q rows and o columns" + "".join(f"; {each}" for each in reported))


def small_steps_without_penalty(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O6. Arms: RL at its own rate, then at other rates."""
    own = claim.arms[0]
    recipe = resolve_run(config, first_run(config, own)).recipe
    assert recipe is not None, "an RL arm"
    updates = curves.updates(config, claim.arms)
    largest = t_interval(updates[updates["arm"] == own].groupby("seed")["kl_step"].max())
    bound = bias.step_bound(recipe)
    off_square = t_interval(slope - 2 for slope in _slopes(updates, config, claim.arms))
    cost = _kl_at_equal_gain(config)
    clipped = updates[updates["arm"] == own]["clip_fraction"].mean()
    parts = [
        Part("largest KL of a step", largest, below(largest, bound)),
        Part("log-log slope in the rate, less 2", off_square, neutral(off_square, claim.threshold("slope_margin"))),
        Part("KL(sft) - KL(rlvr) at equal pass rate", cost(0), beyond(judge_by_share(cost, conventions.margin_share))),
    ]
    return conclude(parts, f"bound {bound:.3g}; the clip takes the gradient of {clipped:.2%} of tokens")


def _slopes(updates: pd.DataFrame, config: Config, arms: Sequence[str]) -> list[float]:
    """Of the logarithm of an arm's mean KL of a step on that of its rate, for each seed that all arms have.

    What the rates have in common over seeds, such as a bend, is part of the slope and not of its scatter.
    """
    positive = updates[updates["kl_step"] > 0]
    kl = positive.groupby(["seed", "arm"])["kl_step"].mean().unstack().reindex(columns=arms)
    rates = [resolve_run(config, first_run(config, arm)).rl.learning_rate for arm in arms]
    complete = np.log(kl.dropna())
    return list(np.polyfit(np.log(rates), complete.T, 1)[0]) if len(complete) else []


def _kl_at_equal_gain(config: Config) -> Callable[[float], Interval]:
    """KL(pi_0 || pi) of SFT at RL's learning rate and final pass rate less that of RL, paired by seed.

    And less so many times that of RL more.

    SFT that never reaches the pass rate would have to move further, and one that is beyond it at first had moved less:
    their KL bounds the difference from below and from above. Nothing bounds it where SFT's curves are misread.
    """
    rl, _, sft = bias.MATCHED_ARMS
    metrics, updates = (
        {key: rows for key, rows in table(config, (rl, sft)).groupby(["arm", "seed"])}
        for table in (curves.metrics, curves.updates)
    )
    kl: dict[str, dict[int, float]] = {rl: {}, sft: {}}
    readings, levels = [], {}
    for seed in seeds_of(config, rl, sft):
        kl[rl][seed] = updates[rl, seed]["kl_from_start"].iloc[-1]
        levels[seed] = metrics[rl, seed]["pass_rate"].iloc[-1]
        found = bias.kl_at_pass_rate(metrics[sft, seed], updates[sft, seed], levels[seed])
        kl[sft][seed] = found.value
        readings.append(found)
    misread = bias.misread((metrics[sft, seed], level) for seed, level in levels.items())
    return lambda times: censored(
        _less(kl[sft], kl[rl], times),
        at_most=misread or any(found.early for found in readings),
        at_least=misread or any(found.late for found in readings),
    )


def _less(first: Mapping[int, float], second: Mapping[int, float], times: float) -> Interval:
    """The first less ``1 + times`` the second, paired by seed."""
    return t_interval(paired_differences(first, {seed: (1 + times) * value for seed, value in second.items()}))


def _differences(table: pd.DataFrame, matching: str, statistic: str) -> Callable[[float], Interval]:
    """SFT less RL in one matching, and so many times RL more, paired by seed."""
    of_matching = table[table["matching"] == matching].set_index(["method", "seed"])[statistic]
    methods = {method: values.droplevel("method").to_dict() for method, values in of_matching.groupby("method")}
    return partial(_less, methods.get("sft", {}), methods.get("rl", {}))


AS_RUN = {"nss": "NSS", "largest_angle": "largest angle"}
AT_EQUAL_NORM = AS_RUN | {"efficiency": "e", "energy_both_over_chance": "energy share over chance"}


def keeps_spectrum_at_equal_norm(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O7. Arms: RL and SFT, as :mod:`rlscape.pipeline.measure_matching` compares them."""
    table = bias.matching(config)
    parts = []
    for matching, statistics in (("as_run", AS_RUN), ("norm", AT_EQUAL_NORM)):
        for statistic, name in statistics.items():
            difference = _differences(table, matching, statistic)
            verdict = beyond(judge_by_share(difference, conventions.margin_share))
            parts.append(Part(f"{name}, {bias.MATCHINGS[matching]}", difference(0), verdict))
    snapshot = _differences(table, "norm_snapshot", "nss")(0)
    return conclude(parts, f"SFT minus RL; NSS, {bias.MATCHINGS['norm_snapshot']}: {span(snapshot)}")
