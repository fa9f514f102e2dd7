"""The worlds of P1's claims: the curve of every arm where a claim holds, where it fails, and where it nearly holds.

Paper: ceilings in pass rate, above R_0 = 0.40. Here: those below ScaleRL's at the same share of its rise, those above
it at the same share of the error that it leaves, so that none exceeds 1; ratios of compute as they are. What a claim
does not speak of (steepness, midpoint, compute per step, mismatch, truncation) is as recorded.

In ``fails`` the opposite of the claim is as large as the claim, or 2 delta. In each ``edge`` one part of the criterion
fails by as little as can be: a difference of exactly the margin, a ratio of 1, a share of one half.
"""

from functools import partial
from math import isnan, log

from rlscape.catalogue import ARMS, first_run, resolve_run
from rlscape.figures.scalerl.paper_values import (
    FIG2,
    FIG4,
    FIG5,
    FIG6,
    FIG7,
    FIG8B,
    FIG16_ENTROPY,
    FIG20,
    R_0,
    SCALERL,
    TABLE_1,
    Fit,
)
from rlscape.power.runs import Draw, Truth, design_of
from rlscape.power.worlds import Simulation, Simulator, Worlds
from rlscape.scaling.arm_comparison import MARGIN_SHARE
from rlscape.scaling.windows import Form

Truths = dict[str, Truth]

DELTA = MARGIN_SHARE
"""The margin delta, in rises of the reference arm."""
OFTEN = 2 / 3
"""Probability that a run of an unstable arm collapses. Paper: one run of one. Here: Laplace's rule for that."""
MINIMAX_RATIO = 4.1 / 2.6
"""C_mid of MiniMax over ScaleRL's: Figure 2's curves, digitised."""
INJECTED = 0.02
"""Mean |log rho| that a noisy generator head leaves, above the bound of the claims that need one; the recorded one
with 3 mantissa bits."""
FITTED = ("scalerl", "deepseek_grpo", "qwen_dapo", "magistral", "minimax", "large_batch")
LOO_RATIOS = {arm: row.C_55 / FIG7["scalerl"].C_55 for arm, row in FIG7.items() if arm != "scalerl"}
"""Compute to a pass rate of 0.55, over ScaleRL's."""
ENTROPY_GAP = (FIG16_ENTROPY["scalerl"][1] - FIG16_ENTROPY["large_batch"][1]) / (
    FIG16_ENTROPY["scalerl"][0] - FIG16_ENTROPY["scalerl"][1]
)
"""By how much the larger batch's entropy ends lower, in falls of ScaleRL's."""

STANDARD = Truth(C_mid=1.0)
"""ScaleRL's own curve, for arms that are compared with it by compute."""
LATE = Truth(A=0.6, late=0.4)
"""A curve that half a run does not foretell: in the second half it rises by another 4 delta."""
NEARLY_FORETOLD = Truth(A=0.8, late=2 * DELTA)
"""Its second half lies delta above the forecast, in the mean."""


def paper(fit: Fit, **others: object) -> Truth:
    """A paper's ceiling, carried over."""
    truth = Truth(**others)  # type: ignore[arg-type]
    if fit.A <= SCALERL.A:
        return truth._replace(A=(fit.A - R_0) / (SCALERL.A - R_0))
    return truth._replace(error=(1 - fit.A) / (1 - SCALERL.A))


def lower(truth: Truth, by: float = DELTA) -> Truth:
    """With a lower ceiling, in rises of the reference arm."""
    return truth._replace(A=truth.A - by)


def later(ratio: float) -> Truth:
    """ScaleRL's own curve, every point of it at ``ratio`` times the compute."""
    return Truth(C_mid=ratio)


def midpoint(fit: Fit) -> float:
    """A paper's midpoint in those of ScaleRL."""
    assert not isnan(fit.C_mid), "the paper states none"
    return fit.C_mid / SCALERL.C_mid


def _ceilings() -> dict[str, dict[str, Truths]]:
    """Claims of which ceiling lies above which."""
    recipes = {arm: paper(FIG2[arm]) for arm in ("deepseek_grpo", "qwen_dapo", "magistral")}
    pipelines = {arm: paper(FIG4[arm]) for arm in ("baseline", "pipeline4", "pipeline12")}
    losses = {arm: paper(FIG5[arm]) for arm in ("baseline", "cispo", "gspo")}
    at_margin = lower(losses["baseline"], -DELTA)
    # Paper: bf16 against FP32. Here: either dose of the noise that stands for bf16.
    noisy = paper(FIG5["baseline"], mismatch=INJECTED)
    heads = {"fp32_head": paper(FIG5["fp32_head"]), "head_m2": noisy, "head_m1": noisy}
    gain = (FIG8B["moe"].A - FIG8B["moe_bf16_head"].A) / (SCALERL.A - R_0)
    cispo = dict.fromkeys(("cispo_head_m2", "cispo_head_m1"), Truth(mismatch=INJECTED))
    moe = dict.fromkeys(("moe_head_m2", "moe_head_m1"), Truth(A=1 - gain, mismatch=INJECTED))
    crossed = heads | cispo | moe
    selected = {arm: paper(FIG6[arm]) for arm in FIG6}
    selected["no_positive_resampling"] = selected["no_positive_resampling"]._replace(pool_left=0.9)
    left_out = {"scalerl": STANDARD, **{arm: later(LOO_RATIOS[arm]) for arm in ("loo_batch", "loo_uniform")}}
    selection = selected | left_out
    gspo = {arm: paper(FIG20["gspo"], collapse=0.25) for arm in FIG20} | {"gspo_1e4": paper(FIG20["gspo_1e4"])}
    usual = gspo["gspo"].A
    # Paper: no values; a range above 2 delta and a peak inside, by the text. Here: 3 delta, at the second clip.
    peak = {"dapo_clip_020": Truth(A=0.8), "baseline": Truth(), "dapo_clip_028": Truth(A=0.95)}
    peak["dapo_clip_040"] = Truth(A=0.7)
    return {
        "S4": {"holds": recipes, "fails": {}} | {f"edge {arm}": recipes | {arm: Truth(A=1 - DELTA)} for arm in recipes},
        "S8": {
            "holds": pipelines,
            "fails": dict.fromkeys(pipelines, pipelines["baseline"]),
            "edge lower": pipelines | {"pipeline12": pipelines["baseline"]},
            "edge equal": pipelines | {"pipeline4": lower(pipelines["pipeline4"])},
        },
        "S9": {
            "holds": losses,
            "fails": dict.fromkeys(losses, losses["baseline"]),
            "edge cispo": losses | {"cispo": at_margin},
            "edge gspo": losses | {"gspo": at_margin},
            "edge equal": losses | {"cispo": lower(losses["gspo"], -DELTA)},
        },
        "S10": {
            "holds": heads,
            "fails": heads | dict.fromkeys(("head_m2", "head_m1"), Truth(mismatch=INJECTED)),
        }
        | {f"edge {arm}": heads | {arm: Truth(A=1 - DELTA, mismatch=INJECTED)} for arm in ("head_m2", "head_m1")},
        "S11": {
            "holds": crossed,
            "fails": dict.fromkeys(crossed, Truth(mismatch=INJECTED)),
            "edge interaction": crossed | {"head_m2": Truth(mismatch=INJECTED)},
            "edge cispo": crossed | {"cispo_head_m2": Truth(A=1 - DELTA, mismatch=INJECTED)},
            "edge larger": crossed | {"moe_head_m2": Truth(mismatch=INJECTED)},
        },
        "S12": {
            "holds": selection,
            "fails": selection | {"zero_variance_filter": lower(selected["baseline"], 2 * DELTA)},
            "edge filter": selection | {"zero_variance_filter": selected["baseline"]},
            "edge resampling": selection | {"no_positive_resampling": selected["baseline"]._replace(pool_left=0.9)},
            "edge ceiling": selection | {"loo_batch": lower(selection["loo_batch"])},
            "edge compute": selection | {"loo_uniform": STANDARD},
        },
        "S15": {
            "holds": peak,
            "fails": {"cispo_cap_8": Truth(A=1 - 2 * DELTA)},
            "edge range": {arm: Truth(A=1 - (1 - truth.A) * 2 / 3) for arm, truth in peak.items()},
            "edge cap": peak | {"cispo_cap_8": Truth(A=1 - DELTA)},
        },
        # Paper: "diverges at times". Here: one run in four.
        "S16": {
            "holds": gspo,
            "fails": dict.fromkeys(gspo, Truth(A=usual)),
            "edge small": gspo | {"gspo_1e4": Truth(A=usual - DELTA)},
            "edge large": gspo | {"gspo_1e2": Truth(A=usual - DELTA, collapse=0.25)},
            "edge collapse": {arm: truth._replace(collapse=0.2) for arm, truth in gspo.items()}
            | dict.fromkeys(("cispo", "cispo_cap_4", "cispo_cap_8"), Truth(collapse=0.2)),
        },
    }


def _equal_ceilings() -> dict[str, dict[str, Truths]]:
    """Claims of equal ceilings, and of compute to reach them."""
    minimax = {"scalerl": STANDARD, "minimax": later(MINIMAX_RATIO)}
    penalty = {"scalerl": STANDARD, "loo_length_penalty": later(LOO_RATIOS["loo_length_penalty"])}
    left_out = {"scalerl": STANDARD, **{arm: later(ratio) for arm, ratio in LOO_RATIOS.items()}}
    closest = min(LOO_RATIOS, key=lambda arm: LOO_RATIOS[arm])
    one_aggregation = ("prompt_average", "token_average", "batch_norm", "no_norm")
    generations = ("generations_8", "generations_24", "generations_32")
    return {
        "S5": {
            "holds": minimax,
            "fails": minimax | {"minimax": later(1 / MINIMAX_RATIO)},
            "edge compute": minimax | {"minimax": STANDARD},
            "edge ceiling": minimax | {"minimax": lower(minimax["minimax"])},
        },
        "S13": {"holds": {}, "fails": {"token_average": Truth(A=1 - 2 * DELTA)}}
        | {f"edge {arm}": {arm: Truth(A=1 - DELTA)} for arm in one_aggregation},
        "S14": {
            "holds": left_out,
            "fails": left_out | {closest: lower(left_out[closest], 2 * DELTA)},
            "edge ceiling": left_out | {closest: lower(left_out[closest])},
            "edge compute": left_out | {closest: STANDARD},
        },
        "S19": {
            "holds": penalty,
            "fails": penalty | {"loo_length_penalty": later(1 / LOO_RATIOS["loo_length_penalty"])},
            "edge compute": penalty | {"loo_length_penalty": STANDARD},
            "edge ceiling": penalty | {"loo_length_penalty": lower(penalty["loo_length_penalty"])},
        },
        "S23": {"holds": {}, "fails": {"generations_8": Truth(A=1 - 2 * DELTA)}}
        | {f"edge {arm}": {arm: Truth(A=1 - DELTA)} for arm in generations},
        "S28": {
            "holds": {},
            "fails": {"scalerl": Truth(A_spread=2 * DELTA)},
            "edge": {"scalerl": Truth(A_spread=DELTA)},
        },
    }


def _shapes() -> dict[str, dict[str, Truths]]:
    """Claims of forecasts, of collapse and of what else a run records."""
    power_law = Truth(power_law=True, B=0.8)
    two_stages = dict.fromkeys(FITTED[1:], Truth(A=1 - 1.5 * DELTA, late=1.5 * DELTA))
    falls = Truth(collapse=OFTEN)
    truncated = falls._replace(truncation_before_collapse=0.15)
    long_budget = paper(TABLE_1["long_budget", "math"], C_mid=midpoint(TABLE_1["long_budget", "math"]))
    large_batch = paper(TABLE_1["large_batch", "math"], C_mid=midpoint(TABLE_1["large_batch", "math"]))
    moe = paper(TABLE_1["moe", "math"], C_mid=midpoint(TABLE_1["moe", "math"]))
    budgets = {"scalerl": STANDARD, "long_budget": long_budget}
    batches = {"scalerl": STANDARD, "large_batch": large_batch}
    stalls = batches | {"small_batch": Truth(stalls=True)}
    sizes = batches | {"moe": moe}
    code = TABLE_1["math_and_code", "code"]
    joint = paper(TABLE_1["math_and_code", "math"], code=paper(code, B=code.B, C_mid=midpoint(code)))
    gap, larger = partial(Truth, transfer=1.5), {"large_batch": Truth(transfer=1.5, entropy_gap=ENTROPY_GAP)}
    # Figure 13b's curves, which cross where Figure 5b's do.
    early = paper(FIG5["baseline"], B=FIG5["baseline"].B, C_mid=800 / 2300, mismatch=INJECTED)
    crossing = {"fp32_head": Truth(B=FIG5["fp32_head"].B, C_mid=1.0), "head_m2": early, "head_m1": early}
    return {
        "S1": {
            "holds": {},
            "fails": {"large_batch": LATE},
            "edge scalerl": {"scalerl": NEARLY_FORETOLD},
            "edge large_batch": {"large_batch": NEARLY_FORETOLD},
        },
        "S2": {
            "holds": {},
            "fails": dict.fromkeys(FITTED, power_law),
            "edge": dict.fromkeys(FITTED, Truth(instead=power_law, chance=0.5)),
        },
        "S3": {
            "holds": {},
            "fails": two_stages,
            "edge": {arm: Truth(instead=truth, chance=0.5) for arm, truth in two_stages.items()},
        },
        "S6": {
            "holds": {"deepseek_grpo": falls},
            "fails": {},
            "edge": dict.fromkeys(("deepseek_grpo", "scalerl"), Truth(collapse=OFTEN / 2)),
        },
        "S17": {
            "holds": {"deepseek_grpo": truncated},
            "fails": {"deepseek_grpo": falls},
            "edge": {"deepseek_grpo": truncated._replace(instead=falls, chance=0.5)},
        },
        # The paper's share of steps below 5% and a growth with length, on as many truncated completions as recorded.
        "S18": {
            "holds": dict.fromkeys(("scalerl", "long_budget"), Truth(grows=0.5)),
            "fails": dict.fromkeys(("scalerl", "long_budget"), Truth(grows=-0.5)),
            "edge": dict.fromkeys(("scalerl", "long_budget"), Truth(grows=0.0)),
        },
        "S20": {
            "holds": budgets,
            "fails": budgets | {"long_budget": STANDARD},
            "edge ceiling": budgets | {"long_budget": later(midpoint(TABLE_1["long_budget", "math"]))},
            "edge midpoint": budgets | {"long_budget": long_budget._replace(C_mid=1.0)},
        },
        "S21": {
            "holds": stalls,
            "fails": stalls | {"large_batch": STANDARD},
            "edge ceiling": stalls | {"large_batch": later(midpoint(TABLE_1["large_batch", "math"]))},
            "edge midpoint": stalls | {"large_batch": large_batch._replace(C_mid=1.0)},
            "edge stall": stalls | {"small_batch": Truth()},
        },
        "S22": {
            "holds": {},
            "fails": dict.fromkeys(FITTED, Truth(transfer=0.0)) | {"scalerl": Truth()},
            "edge": dict.fromkeys(FITTED[1:4], Truth(transfer=-0.3)),
        },
        "S24": {
            "holds": {"math_and_code": joint},
            "fails": {"math_and_code": LATE._replace(code=LATE)},
            "edge math": {"math_and_code": NEARLY_FORETOLD._replace(code=joint.code)},
            "edge code": {"math_and_code": joint._replace(code=NEARLY_FORETOLD)},
        },
        "S25": {
            "holds": sizes,
            "fails": sizes | {"moe": large_batch},
            "edge ceiling": sizes | {"moe": moe._replace(error=1.0, A=1.0)},
            "edge compute": sizes | {"moe": moe._replace(C_mid=large_batch.C_mid)},
        },
        "S26": {
            "holds": larger,
            "fails": {"large_batch": gap(entropy_gap=4 * ENTROPY_GAP)},
            "edge entropy": {"large_batch": gap(entropy_gap=2.7 * ENTROPY_GAP)},
            "edge downstream": {"large_batch": Truth(entropy_gap=ENTROPY_GAP)},
        },
        "S27": {
            "holds": crossing,
            "fails": dict.fromkeys(crossing, Truth(mismatch=INJECTED)),
            "edge": crossing | {"head_m2": early._replace(instead=Truth(mismatch=INJECTED), chance=0.5)},
        },
    }


FORMS: dict[str, tuple[Form, ...]] = {"S2": ("sigmoid", "power_law"), "S3": ("sigmoid",)}
"""What the claims on windows of a run fit to them."""
WORLDS: dict[str, dict[str, Truths]] = _ceilings() | _equal_ceilings() | _shapes()


def _by_updates(simulation: Simulation) -> dict[str, Truths]:
    """S7: two arms that need the same number of updates, of which each costs its own compute."""
    arms = simulation.recorded.curves.arms
    dearer = arms["ppo8"].compute_per_step / arms["baseline"].compute_per_step
    holds = {"baseline": STANDARD, "ppo8": later(dearer)}
    return {
        "holds": holds,
        "fails": holds | {"ppo8": STANDARD},
        "edge updates": holds | {"ppo8": later(simulation.claim.threshold("max_ratio") * dearer)},
        "edge ceiling": holds | {"ppo8": lower(holds["ppo8"])},
    }


def _slope(simulation: Simulation) -> Truths:
    """S15 without a peak: ceilings of DAPO's arms that are linear in the logarithm of the upper clip."""
    arms = simulation.claim.arms[:4]
    recipes = (resolve_run(simulation.config, first_run(simulation.config, arm)).recipe for arm in arms)
    clips = [log(recipe.clip_high) for recipe in recipes if recipe is not None]
    low, high = min(clips), max(clips)
    return {arm: Truth(A=0.7 + 0.3 * (clip - low) / (high - low)) for arm, clip in zip(arms, clips, strict=True)}


def truths_of(simulation: Simulation) -> dict[str, Truths]:
    """World of the simulated claim -> arm -> its curve; arms that are not named are as ScaleRL."""
    match simulation.claim.id:
        case "S7":
            return _by_updates(simulation)
        case "S15":
            return WORLDS["S15"] | {"edge peak": _slope(simulation)}
        case claim:
            return WORLDS[claim]


def simulate(simulation: Simulation) -> Worlds:
    """The worlds of a claim of P1."""
    config, recorded = simulation.config, simulation.recorded.curves
    arms = [arm for arm in config.seeds if ARMS[arm].paper == "scalerl"]
    designs = {arm: design_of(config, recorded, arm) for arm in arms}
    reference = simulation.conventions.reference_arm

    def draw(truths: Truths, number: int) -> Draw:
        by_arm = {arm: truths.get(arm, Truth()) for arm in arms}
        return Draw(config, designs, recorded, reference, by_arm, number, FORMS.get(simulation.claim.id, ()))

    return {world: partial(draw, truths) for world, truths in truths_of(simulation).items()}


SIMULATORS: dict[str, Simulator] = dict.fromkeys(["S7", *WORLDS], simulate)
