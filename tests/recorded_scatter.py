"""Scatter that tests simulate with: round numbers of the order of recorded ones."""

from rlscape.catalogue import ARMS
from rlscape.power.recorded import ArmRecord, Recorded
from rlscape.power.recorded_weights import NULLS, RELATIVE, RL, SFT, SLOW, Cells, Progress, RecordedWeights
from rlscape.power.worlds import Scatter

SHAPE = ArmRecord(R_0=0.3, B=1.5, C_mid=500.0, compute_per_step=25.0, mismatch=0.02, truncation=0.02)
CURVES = Recorded(
    rise=0.5,
    dispersion=1.2,
    spread={"A": 0.01, "log_C_mid": 0.03},
    downstream=0.12,
    transfer=0.4,
    downstream_spread=0.01,
    entropy=(0.28, 0.05),
    entropy_spread=(0.002, 0.004),
    arms=dict.fromkeys(ARMS, SHAPE) | {"ppo8": SHAPE._replace(compute_per_step=48.0)},
)
RATES = {"rlvr_lr_quarter": 0.4, "rlvr_lr_half": 0.8, "rlvr_lr_double": 3.0, "rlvr_lr_x4": 5.0}
SPREADS: dict[str, float] = {
    **dict.fromkeys(RELATIVE, 0.02),
    **{f"{mask}_{null}": 0.001 for mask, nulls in NULLS.items() for null in nulls},
    **{f"{kind}_{mask}": 0.004 for mask in NULLS for kind in ("energy", "setting", "setting_energy")},
    **{"log_x": 0.02, "octaves": 0.03, "sparsity": 0.003, "exact_zeros": 1e-6, "pass_rate": 0.01, "evaluation": 0.01},
    **{"log_kl_step": 0.1, "log_kl_by_rate": 0.1, "log_kl": 0.03, "log_kl_area": 0.02},
    **{"overlap_changed": 0.002, "overlap_other": 0.004, "line": 0.08},
    **{"setting_efficiency": 0.02, "setting_angle": 0.02},
    **{"curvature_base": 0.2, "curvature_batch": 0.3, "curvature_direction": 0.2},
}
WEIGHTS = RecordedWeights(
    start=0.3,
    size={RL: 1.6, SLOW: 5.0, SFT: 30.0, "rlvr_lr_x10": 9.0, "rlvr_lr_x30": 18.0} | RATES,
    progress={
        RL: Progress(0.15, 0.2, (0.5, 1.0), (0.003, 0.0085)),
        SLOW: Progress(0.6, 1.5, (0.2, 0.6, 1.0), (0.005, 0.022, 0.035)),
    },
    adapters={
        f"{kind}_r{rank}_{rate}": (0.4 + 0.02 * rank, (1 + (kind == "pissa")) * step)
        for kind in ("lora", "pissa")
        for rank in (1, 4, 8)
        for rate, step in {"low": 1e-4, "mid": 5e-4, "high": 1e-3}.items()
    },
    changed=(0.6, 0.5),
    cells={"principal": Cells((0.01, 0.006, 0.003, 0.002) * 5, 0.2), "low": Cells((0.005, 0.003, 0.001, 0.001), 0.5)},
    overlap=0.2,
    repeat=0.6,
    spread=SPREADS,
)
SCATTER = Scatter(CURVES, WEIGHTS)
