"""Recipes and what sets them apart: losses, the head's precision, schedules, and which prompts are trained on."""

from collections.abc import Sequence

from rlscape.claims.parts import Part, beyond_nothing, conclude
from rlscape.claims.register import (
    INCONCLUSIVE,
    NOT_REPLICATED,
    REPLICATED,
    Claim,
    Conventions,
    Outcome,
    Verdict,
)
from rlscape.claims.scalerl.shared import (
    ceiling_above,
    ceiling_raised,
    ceilings,
    ceilings_equal,
    compute_saved,
    margin_of,
    no_mismatch,
    stable_fits,
    unknown_ceilings,
    without_clock,
)
from rlscape.results import curves
from rlscape.scaling.arm_comparison import SEEDS_FOR_NEUTRAL
from rlscape.scaling.arms import RunFit, reference_level
from rlscape.scaling.uncertainty import Interval, paired_differences, t_interval
from rlscape.settings.scale import Config


def ceilings_above(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S4. Arms: the higher one, then those below it."""
    margin = margin_of(conventions, config)
    higher, *others = claim.arms
    runs = stable_fits(config, claim.arms, margin, conventions)
    return conclude([ceiling_above(runs, higher, other, margin) for other in others], f"delta {margin:.3f}")


def same_ceiling_less_compute(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S5, S19. Arms: the faster one (the reference of C_tau), then the slower one."""
    margin = margin_of(conventions, config)
    fast, slow = claim.arms
    runs = stable_fits(config, claim.arms, margin, conventions)
    level = reference_level(runs, fast)
    parts = [compute_saved(runs, slow, fast, level), *ceilings_equal(runs, [(fast, slow)], margin)]
    return conclude(parts, f"delta {margin:.3f}; {without_clock(config, runs, slow, fast, level)}")


def faster_by_throughput(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S7. Arms: the pipeline (the reference of C_tau), then PPO-off-policy."""
    margin = margin_of(conventions, config)
    fast, slow = claim.arms
    runs = stable_fits(config, claim.arms, margin, conventions)
    level = reference_level(runs, fast)
    ratio = curves.reached_ratio("step", config, runs, slow, fast, level).interval
    low, high = claim.threshold("min_ratio"), claim.threshold("max_ratio")
    parts = [
        compute_saved(runs, slow, fast, level),
        *ceilings_equal(runs, [(fast, slow)], margin),
        Part("ratio of updates at C_tau", ratio, _within(ratio, low, high)),
    ]
    apart = without_clock(config, runs, slow, fast, level)
    return conclude(parts, f"delta {margin:.3f}, tau {level:.3f}; {apart}")


def _within(interval: Interval, low: float, high: float) -> Verdict:
    if low <= interval.low and interval.high <= high and interval.seeds >= SEEDS_FOR_NEUTRAL:
        return REPLICATED
    return NOT_REPLICATED if interval.low > high or interval.high < low else INCONCLUSIVE


def equal_and_lower(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S8. Arms: the common one, the one with the same ceiling, the one with a lower ceiling."""
    margin = margin_of(conventions, config)
    common, same, lower = claim.arms
    runs = stable_fits(config, claim.arms, margin, conventions)
    parts = [ceiling_raised(runs, common, lower, margin), *ceilings_equal(runs, [(same, common)], margin)]
    return conclude(parts, f"delta {margin:.3f}")


def two_ceilings_above_and_equal(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S9. Arms: the lower one, then the two higher ones."""
    margin = margin_of(conventions, config)
    low, first, second = claim.arms
    runs = stable_fits(config, claim.arms, margin, conventions)
    parts = [ceiling_above(runs, arm, low, margin) for arm in (first, second)]
    return conclude([*parts, *ceilings_equal(runs, [(first, second)], margin)], f"delta {margin:.3f}")


def head_precision(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S10. Arms: the one with the FP32 head, then those with noisy generator heads, whose mismatch is the condition."""
    margin = margin_of(conventions, config)
    with_fp32, *noisy = claim.arms
    runs = stable_fits(config, claim.arms, margin, conventions)
    parts = [ceiling_above(runs, with_fp32, arm, margin) for arm in noisy]
    return conclude(parts, f"delta {margin:.3f}", no_mismatch(claim, config, noisy))


def head_precision_by_loss(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S11. Arms: of CISPO, of DAPO and of the larger model: with the FP32 head, then with each noisy one."""
    margin = margin_of(conventions, config)
    count = len(claim.arms) // 3
    (cispo_fp32, *cispo), (dapo_fp32, *dapo), (large_fp32, *large) = (
        claim.arms[start : start + count] for start in range(0, len(claim.arms), count)
    )
    runs = stable_fits(config, claim.arms, margin, conventions)
    parts = []
    for noisy_cispo, noisy_dapo, noisy_large in zip(cispo, dapo, large, strict=True):
        gains = _gains(runs, dapo_fp32, noisy_dapo), _gains(runs, cispo_fp32, noisy_cispo)
        interaction = t_interval(paired_differences(*gains))
        known = not unknown_ceilings(runs, (dapo_fp32, noisy_dapo, cispo_fp32, noisy_cispo))
        measure = f"gain of A over {noisy_dapo} less over {noisy_cispo}"
        parts += [
            Part(measure, interaction, beyond_nothing(interaction, margin) if known else INCONCLUSIVE),
            *ceilings_equal(runs, [(cispo_fp32, noisy_cispo)], margin),
            ceiling_raised(runs, large_fp32, noisy_large, margin),
        ]
    return conclude(parts, f"delta {margin:.3f}", no_mismatch(claim, config, (*dapo, *cispo, *large)))


def _gains(runs: Sequence[RunFit], fp32: str, noisy: str) -> dict[int, float]:
    """A(fp32) - A(noisy) by seed."""
    first, second = ceilings(runs, fp32), ceilings(runs, noisy)
    return {seed: first[seed] - second[seed] for seed in first.keys() & second.keys()}


def prompt_selection_helps(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S12. Arms: the baseline, it with each of the two selections, ScaleRL, and it without each of them."""
    margin = margin_of(conventions, config)
    baseline, filtered, dropping, scalerl, *without = claim.arms
    runs = stable_fits(config, claim.arms, margin, conventions)
    level = reference_level(runs, scalerl)
    parts = [
        *(ceiling_raised(runs, arm, baseline, margin) for arm in (filtered, dropping)),
        *ceilings_equal(runs, [(scalerl, arm) for arm in without], margin),
        *(compute_saved(runs, arm, scalerl, level) for arm in without),
    ]
    pools = curves.updates(config, [dropping]).groupby("run")["pool_size"]
    removed, least = float((1 - pools.min() / pools.max()).mean()), claim.threshold("min_removed")
    lack = f"{dropping} removes {removed:.2g} of the pool, less than {least:g}" if removed < least else ""
    return conclude(parts, f"delta {margin:.3f}", lack)
