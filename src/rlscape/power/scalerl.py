"""The worlds of P1's claims: the curve of every arm where a claim holds, and where it does not.

Paper: differences of A against a rise of 0.21. Here: the same shares of the rise that ScaleRL had, up to a ceiling of
1; ratios of compute as they are. What a claim does not speak of (steepness, midpoint, compute per step) is as
recorded, and where a claim is of equal ceilings, they differ by 2 delta in the world where it fails.
"""

from collections.abc import Callable, Mapping
from math import isnan

from rlscape.catalogue import ARMS
from rlscape.figures.scalerl.paper_values import (
    FIG2,
    FIG4,
    FIG5,
    FIG6,
    FIG7,
    FIG8B,
    FIG20,
    R_0,
    SCALERL,
    TABLE_1,
    Fit,
)
from rlscape.power.runs import Draw, Truth, design_of
from rlscape.power.worlds import Simulation, Simulator, World
from rlscape.results.files import Source

Truths = Mapping[str, Truth]

DELTA = 0.1
"""The margin delta in rises of the reference arm: ``margin_share`` of the register."""
OFF = 1 - 2 * DELTA
"""A ceiling 2 delta below ScaleRL's."""
OFTEN = 0.9
"""Share of the runs of an unstable arm that collapse. Paper: one run of one does."""
MINIMAX_C_MID = 4.1 / 2.6
"""C_mid of MiniMax over ScaleRL's: Figure 2's curves, digitised."""


def share(fit: Fit) -> float:
    """A paper's ceiling in rises of ScaleRL."""
    return (fit.A - R_0) / (SCALERL.A - R_0)


def midpoint(fit: Fit) -> float | None:
    """A paper's midpoint in those of ScaleRL; None if it is not stated."""
    return None if isnan(fit.C_mid) else fit.C_mid / SCALERL.C_mid


def reached_later(ratio: float) -> Truth:
    """ScaleRL's own curve, every point of it at ``ratio`` times the compute."""
    return Truth(C_mid=ratio)


STANDARD = Truth(C_mid=1.0)
"""ScaleRL's own midpoint, for arms that are compared with it by compute."""
LATE_RISE = Truth(A=0.6, late=0.4)
"""A curve that half a run does not foretell: it bends up in the second half, by 4 delta in the end."""
FITTED = ("scalerl", "deepseek_grpo", "qwen_dapo", "magistral", "minimax", "large_batch")
LOO_RATIOS = {arm: row.C_55 / FIG7["scalerl"].C_55 for arm, row in FIG7.items() if arm != "scalerl"}
"""Compute to a pass rate of 0.55, over ScaleRL's."""
NEUTRAL_BATCH = {"small_batch": Truth(stalls=True), "scalerl": Truth()}

HOLDS: dict[str, Truths] = {
    "S1": {},
    "S2": {},
    "S3": {},
    "S4": {arm: Truth(A=share(FIG2[arm])) for arm in ("deepseek_grpo", "qwen_dapo", "magistral")},
    "S5": {"scalerl": STANDARD, "minimax": reached_later(MINIMAX_C_MID)},
    "S6": {"deepseek_grpo": Truth(collapse=OFTEN)},
    "S8": {arm: Truth(A=share(FIG4[arm])) for arm in ("baseline", "pipeline4", "pipeline12")},
    "S9": {arm: Truth(A=share(FIG5[arm])) for arm in ("baseline", "cispo", "gspo")},
    "S10": {arm: Truth(A=share(FIG5[arm])) for arm in ("baseline", "fp32_head")},
    "S11": {arm: Truth(A=share(FIG5[arm])) for arm in ("baseline", "fp32_head")}
    | {"moe": Truth(), "moe_bf16_head": Truth(A=1 - (FIG8B["moe"].A - FIG8B["moe_bf16_head"].A) / (SCALERL.A - R_0))},
    "S12": {arm: Truth(A=share(FIG6[arm]), pool_left=0.7) for arm in FIG6}
    | {"scalerl": STANDARD, **{arm: reached_later(LOO_RATIOS[arm]) for arm in ("loo_batch", "loo_uniform")}},
    "S13": {},
    "S14": {"scalerl": STANDARD, **{arm: reached_later(ratio) for arm, ratio in LOO_RATIOS.items()}},
    # Paper: no values; a range above 2 delta and a peak inside, by the text. Here: 3 delta, at its second clip.
    "S15": {"dapo_clip_020": Truth(A=0.8), "baseline": Truth(), "dapo_clip_028": Truth(A=0.95)}
    | {"dapo_clip_040": Truth(A=0.7)},
    # Paper: "diverges at times". Here: one run in two.
    "S16": {
        arm: Truth(A=share(FIG20[arm]) if arm == "gspo_1e4" else share(FIG20["gspo"]), collapse=0.5) for arm in FIG20
    },
    "S17": {"deepseek_grpo": Truth(collapse=OFTEN, truncation_before_collapse=0.15)},
    "S18": {"scalerl": Truth(truncation=(0.02, 0.5)), "long_budget": Truth(truncation=(0.02, 0.5))},
    "S19": {"scalerl": STANDARD, "loo_length_penalty": reached_later(LOO_RATIOS["loo_length_penalty"])},
    "S20": {"scalerl": STANDARD, "long_budget": Truth(share(TABLE_1["long_budget", "math"]), C_mid=11272 / 2542)},
    "S21": NEUTRAL_BATCH | {"large_batch": Truth(share(TABLE_1["large_batch", "math"]), C_mid=10909 / 2542)},
    "S22": {},
    "S23": {},
    "S24": {"math_and_code": Truth(code=Truth(A=0.9))},
    "S25": {"moe": Truth(share(TABLE_1["moe", "math"])), "large_batch": Truth(share(TABLE_1["large_batch", "math"]))},
    "S26": {"large_batch": Truth(transfer=1.3)},
    "S27": {"baseline": Truth(A=share(FIG5["baseline"]), B=4.55, C_mid=800 / 2300)}
    | {"fp32_head": Truth(B=1.79, C_mid=1.0)},
    "S28": {},
}
FAILS: dict[str, Truths] = {
    "S1": {"scalerl": LATE_RISE, "large_batch": LATE_RISE},
    "S2": dict.fromkeys(FITTED, Truth(power_law=True, B=0.8)),
    "S3": dict.fromkeys(FITTED, LATE_RISE),
    "S4": {},
    "S5": {"scalerl": STANDARD, "minimax": STANDARD},
    "S6": {},
    "S8": {},
    "S9": {},
    "S10": {},
    "S11": {},
    "S12": dict.fromkeys(FIG6, Truth(pool_left=0.7)) | dict.fromkeys(("scalerl", "loo_batch", "loo_uniform"), STANDARD),
    "S13": {"token_average": Truth(A=OFF), "no_norm": Truth(A=OFF)},
    "S14": dict.fromkeys(FIG7, STANDARD) | {"loo_dapo": Truth(A=OFF, C_mid=1.0)},
    "S15": {"cispo_cap_8": Truth(A=OFF)},
    "S16": {},
    "S17": {"deepseek_grpo": Truth(collapse=OFTEN)},
    "S18": {"scalerl": Truth(truncation=(0.06, -0.2)), "long_budget": Truth(truncation=(0.06, -0.2))},
    "S19": {"scalerl": STANDARD, "loo_length_penalty": STANDARD},
    "S20": {"scalerl": STANDARD, "long_budget": STANDARD},
    "S21": {"small_batch": Truth(), "scalerl": Truth(), "large_batch": STANDARD},
    "S22": {"deepseek_grpo": Truth(stalls=True), "large_batch": Truth(stalls=True), "magistral": Truth(transfer=0.3)},
    "S23": {"generations_8": Truth(A=OFF)},
    "S24": {"math_and_code": LATE_RISE._replace(code=LATE_RISE)},
    "S25": {},
    "S26": {"large_batch": Truth(entropy=-0.1, transfer=1.3)},
    "S27": {},
    "S28": {"scalerl": Truth(spread=18.0)},
}


def truths_of(simulation: Simulation, world: World) -> Truths:
    """Arm -> its curve in a world of the simulated claim; arms that are not named are as ScaleRL."""
    match simulation.claim.id, world:
        case "S7", "holds":
            return _as_many_updates(simulation)
        case "S7", "fails":
            return {"baseline": STANDARD, "ppo8": STANDARD}
        case claim, "holds":
            return HOLDS[claim]
        case claim, _:
            return FAILS[claim]


def _as_many_updates(simulation: Simulation) -> Truths:
    """Two arms that need the same number of updates, of which each costs its own compute."""
    arms = simulation.recorded.curves.arms
    per_step = {arm: arms[arm].compute_per_step for arm in ("baseline", "ppo8")}
    return {arm: reached_later(compute / per_step["baseline"]) for arm, compute in per_step.items()}


def simulate(simulation: Simulation, world: World) -> Callable[[int], Source]:
    """The results of the n-th draw."""
    config, reference = simulation.config, simulation.conventions.reference_arm
    truths = truths_of(simulation, world)
    by_arm = {arm: truths.get(arm, Truth()) for arm in config.seeds if ARMS[arm].paper == "scalerl"}
    designs = {arm: design_of(config, arm) for arm in by_arm}
    return lambda number: Draw(config, designs, simulation.recorded.curves, reference, by_arm, number)


SIMULATORS: dict[str, Simulator] = dict.fromkeys(["S7", *HOLDS], simulate)
