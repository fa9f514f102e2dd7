"""P1, the table beside Figure 7: what each leave-one-out arm reverts to, its fits, and its efficiency.

B is no measure of efficiency across unequal ceilings: beside it stands the compute to one common level, relative to
ScaleRL, and which part of that ratio the virtual clock makes whatever an arm learns. B also depends on the ceiling at
which arms are compared, hence B at the mean A, 0.02 below and 0.02 above.

Paper: B at A = 0.605; the compute to a common level is derived here, from its free fits at a pass rate of 0.55.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS
from rlscape.figures.scalerl.paper_values import FIG7, SHARED_A
from rlscape.figures.style import ARM_STYLES, add_note, describe_seeds, new_figure
from rlscape.figures.tables import draw_table, fit_estimates, interval_cell, interval_columns
from rlscape.results import curves
from rlscape.results.clock import clock_factor, compute_per_update
from rlscape.scaling.arm_comparison import compare_reached
from rlscape.scaling.arms import reached_by_seed, reference_level
from rlscape.scaling.ceilings import fit_at_ceilings
from rlscape.scaling.uncertainty import Interval, t_interval
from rlscape.settings.scale import Config

REFERENCE_ARM = "scalerl"
REVERTS_TO = {
    "scalerl": "–",
    "loo_prompt_norm": "prompt std",
    "loo_length_penalty": "penalty, no interruption",
    "loo_batch": "all prompts averaged",
    "loo_ppo8": "alternating phases",
    "loo_bf16_head": "bf16, both sides",
    "loo_sample_average": "mean over samples",
    "loo_uniform": "solved prompts stay",
    "loo_dapo": "clipped ratio",
}
CEILINGS = {"mean": "B_mean", "mean - 0.02": "B_lower", "mean + 0.02": "B_higher"}
"""Shared ceiling -> column of B."""


def assemble(config: Config) -> pd.DataFrame:
    """A row per arm: seeds; A, B, C_mid of the free fit, B at the shared ceilings and ``ratio``, C_tau relative to
    ScaleRL (paired by seed), with t limits over seeds; ``clock``, the algebraic ratio of compute per update;
    ``censored``, whether a seed does not reach the level;
    the paper's numbers; and in every row ``order_<column>``, the rank correlation of B_mean with that column over arms.
    """
    runs = curves.fits(config, FIG7)
    at_ceilings = fit_at_ceilings(runs, curves.metrics(config, FIG7), config.fit)
    level = reference_level(runs, REFERENCE_ARM)
    reference = reached_by_seed(runs, REFERENCE_ARM, level)
    per_update = compute_per_update(config, FIG7)
    free = fit_estimates(config, FIG7)
    rows = []
    for arm, paper in FIG7.items():
        row: dict[str, Any] = {"arm": arm} | free.loc[arm].to_dict()
        for ceiling, column in CEILINGS.items():
            chosen = at_ceilings[(at_ceilings["arm"] == arm) & (at_ceilings["ceiling"] == ceiling)]
            row |= interval_columns(column, t_interval(chosen["B"])) | {f"A_of_{column}": chosen["A"].mean()}
        reached = reached_by_seed(runs, arm, level)
        ratio = Interval(1.0, np.nan, np.nan, len(reached))
        if arm != REFERENCE_ARM:
            ratio = compare_reached(reached, reference).interval
        row |= interval_columns("ratio", ratio)
        row["clock"] = clock_factor(per_update[arm], per_update[REFERENCE_ARM]).estimate
        row |= {"censored": any(run.censored for run in reached.values()), "level": level}
        row |= {f"paper_{name}": value for name, value in paper.free._asdict().items()}
        row |= {"paper_B_mean": paper.shared_A_B, "paper_ratio": paper.C_55 / FIG7[REFERENCE_ARM].C_55}
        rows.append(row)
    frame = pd.DataFrame(rows)
    pairs = {column: ("B_mean", column) for column in ("B", "B_lower", "B_higher")}
    pairs["paper_B"] = ("paper_B_mean", "paper_B")
    orders = {
        f"order_{name}": frame[[shared, other]].corr(method="spearman").iloc[0, 1]
        for name, (shared, other) in pairs.items()
    }
    return frame.assign(**orders, scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """The table; every number of ours is followed by the paper's in brackets."""
    rows = [
        [
            ARMS[row["arm"]].label,
            REVERTS_TO[row["arm"]],
            f"{interval_cell(row, 'C_mid', digits=0)} / {row['paper_C_mid']:,.0f}",
            f"{interval_cell(row, 'B', digits=2)} / {row['paper_B']:.2f}",
            f"{interval_cell(row, 'A')} / {row['paper_A']:.3f}",
            f"{interval_cell(row, 'B_mean', digits=2)} / {row['paper_B_mean']:.2f}",
            interval_cell(row, "B_lower", digits=2),
            interval_cell(row, "B_higher", digits=2),
            f"{_ratio(row)} / {row['paper_ratio']:.2f}",
            f"{row['clock']:.2f}",
        ]
        for _, row in frame.iterrows()
    ]
    first = frame.iloc[0]
    figure = new_figure(17, 0.25 * len(rows) + 1.5)
    ax = figure.subplots()
    draw_table(
        ax,
        [
            *("arm", "reverts to", "$C_{mid}$, ours / paper", "B, ours / paper", "A, ours / paper"),
            f"B at A = {first['A_of_B_mean']:.3f}, ours / paper",
            *(f"B at A = {first['A_of_B_lower']:.3f}", f"B at A = {first['A_of_B_higher']:.3f}"),
            *("$C_\\tau$ / ScaleRL's, ours / paper", "clock's factor"),
        ],
        rows,
        widths=(2.4, 1.8, 2.4, 2.3, 2.7, 2.6, 1.6, 1.6, 2.3, 1.1),
        colours=[ARM_STYLES[arm][0] for arm in frame["arm"]],
    )
    ax.set_title(
        f"Does the order of B survive another ceiling? Rank correlation with the order at the shared one: "
        f"{first['order_B_lower']:.2f} at 0.02 less, {first['order_B_higher']:.2f} at 0.02 more, "
        f"{first['order_B']:.2f} with free A (paper: {first['order_paper_B']:.2f})",
        loc="left",
    )
    seeds = frame["seeds"].astype(int)
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(seeds) + (f" ({(seeds == 1).sum()} arms of one seed: no interval)" if 1 in set(seeds) else ""),
        "95% intervals over seeds",
        f"$C_\\tau$: compute to a pass rate of {first['level']:.3f}, geometric mean of pairs of seeds; "
        "≥: a seed does not reach it",
        "clock's factor: ratio of compute per update by algebra",
        f"paper: one seed; shared A {SHARED_A}; $C_{{mid}}$ in GPU-hours, ratios of $C_{{.55}}$ derived",
    )
    return figure


def _ratio(row: pd.Series) -> str:
    if row["arm"] == REFERENCE_ARM:
        return "1"
    return f"≥ {row['ratio']:.2f}" if row["censored"] else interval_cell(row, "ratio", digits=2)
