"""Sweeps of one choice, and ScaleRL with one choice taken away."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy.stats import ttest_1samp

from rlscape.catalogue import first_run, resolve_run
from rlscape.claims.parts import Part, below, conclude
from rlscape.claims.register import (
    INCONCLUSIVE,
    NOT_REPLICATED,
    REPLICATED,
    Claim,
    Conventions,
    Outcome,
    Verdict,
    span,
)
from rlscape.claims.scalerl.shared import (
    ceiling_above,
    ceiling_difference,
    ceilings,
    ceilings_equal,
    compute_ratio,
    margin_of,
    stable_fits,
    unknown_ceilings,
)
from rlscape.claims.scalerl.stability import more_collapses
from rlscape.scaling.arms import RunFit, reached_by_seed, reference_level
from rlscape.scaling.uncertainty import paired_differences, t_interval
from rlscape.settings.scale import Config


def ceilings_neutral(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S23. Arms: those with the same ceiling."""
    margin = margin_of(conventions, config)
    runs = stable_fits(config, claim.arms, margin, conventions)
    return conclude(ceilings_equal(runs, combinations(claim.arms, 2), margin), f"delta {margin:.3f}")


def two_neutral_families(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S13. Arms: the one in both families, prompt and token average, two more normalisations."""
    margin = margin_of(conventions, config)
    common, prompt, token, *normalisations = claim.arms
    runs = stable_fits(config, claim.arms, margin, conventions)
    families = ((common, prompt, token), (common, *normalisations))
    parts = ceilings_equal(runs, (pair for family in families for pair in combinations(family, 2)), margin)
    flag = span(ceiling_difference(runs, token, common))
    return conclude(parts, f"delta {margin:.3f}; the token average is {flag} above the sample average")


def every_choice_saves_compute(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S14. Arms: ScaleRL (the reference of C_tau), then it without each of its choices."""
    margin = margin_of(conventions, config)
    scalerl, *without = claim.arms
    runs = stable_fits(config, claim.arms, margin, conventions)
    level, alpha = reference_level(runs, scalerl), claim.threshold("alpha")
    more = holm([_p_value(runs, arm, scalerl, level, "greater") for arm in without])
    less = holm([_p_value(runs, arm, scalerl, level, "less") for arm in without])
    parts = ceilings_equal(runs, [(scalerl, arm) for arm in without], margin)
    for arm, p_more, p_less in zip(without, more, less, strict=True):
        verdict: Verdict = REPLICATED if p_more < alpha else NOT_REPLICATED if p_less < alpha else INCONCLUSIVE
        ratio = compute_ratio(runs, arm, scalerl, level).interval
        parts.append(Part(f"C_tau({arm}) / C_tau({scalerl}) (p = {p_more:.2g})", ratio, verdict))
    return conclude(parts, f"delta {margin:.3f}")


def _p_value(runs: Sequence[RunFit], slow: str, fast: str, level: float, side: str) -> float:
    """Of a paired t test on the logarithm of C_tau; 1 if it has fewer than two pairs or censoring undoes it.

    A censored run enters at its bound: a ratio above 1 then needs the denominators, one below 1 the numerators.
    """
    numerators, denominators = (reached_by_seed(runs, arm, level) for arm in (slow, fast))
    bounding = denominators if side == "greater" else numerators
    paired = numerators.keys() & denominators.keys()
    if len(paired) < 2 or any(bounding[seed].censored for seed in paired):
        return 1.0
    log_ratios = paired_differences(
        *({seed: float(np.log(run.compute)) for seed, run in runs.items()} for runs in (numerators, denominators))
    )
    return float(np.nan_to_num(ttest_1samp(log_ratios, 0.0, alternative=side).pvalue, nan=1.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the given order."""
    count = len(p_values)
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values)[order] * np.arange(count, 0, -1)
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in adjusted]


def clip_matters_for_one_loss(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S15. Arms: four upper clips of DAPO, three caps of CISPO."""
    margin = margin_of(conventions, config)
    dapo, cispo = claim.arms[:4], claim.arms[4:]
    runs = stable_fits(config, claim.arms, margin, conventions)
    means = {arm: np.nan_to_num(t_interval(ceilings(runs, arm).values()).estimate) for arm in dapo}
    highest, lowest = max(dapo, key=lambda arm: means[arm]), min(dapo, key=lambda arm: means[arm])
    curvature = t_interval(_curvatures(runs, dapo, config))
    bends = INCONCLUSIVE if unknown_ceilings(runs, dapo) else below(curvature)
    parts = [
        ceiling_above(runs, highest, lowest, claim.threshold("range_share") * margin),
        Part("quadratic coefficient of A in log clip", curvature, bends),
        *ceilings_equal(runs, combinations(cispo, 2), margin),
    ]
    return conclude(parts, f"delta {margin:.3f}")


def _curvatures(runs: Sequence[RunFit], arms: Sequence[str], config: Config) -> list[float]:
    """Per seed that all arms have, the quadratic coefficient of A in the logarithm of the upper clip."""
    recipes = [resolve_run(config, first_run(config, arm)).recipe for arm in arms]
    clips = np.log([recipe.clip_high for recipe in recipes if recipe is not None])
    by_seed = [ceilings(runs, arm) for arm in arms]
    shared = sorted(set.intersection(*map(set, by_seed)))
    heights = np.array([[of_arm[seed] for of_arm in by_seed] for seed in shared])
    complete = heights[np.isfinite(heights).all(axis=1)]
    return [float(np.polyfit(clips, values, 2)[0]) for values in complete]


def clip_scale_and_divergence(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S16. Arms: GSPO at its scale, at one too small, at two larger ones; CISPO with its three caps."""
    margin = margin_of(conventions, config)
    gspo, cispo = claim.arms[:4], claim.arms[4:]
    usual, small, *larger = gspo
    runs = stable_fits(config, gspo, margin, conventions)
    collapses, note = more_collapses(gspo, cispo, margin, claim, conventions, config)
    parts = [
        ceiling_above(runs, usual, small, margin),
        *ceilings_equal(runs, combinations((usual, *larger), 2), margin),
        collapses,
    ]
    return conclude(parts, f"delta {margin:.3f}; {note}")
