"""P1, appendix A.15: how often completions are cut off, per arm, beside whether its runs collapse.

Truncated: a training completion that reached its token limit without an answer. Collapsed: the rule of the claims
register, with the margin of ScaleRL's fits.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS, arms_of, figure_of
from rlscape.figures.scalerl.paper_values import TRUNCATION, TRUNCATION_AT_COLLAPSE
from rlscape.figures.style import add_note, describe_seeds, new_figure
from rlscape.figures.tables import draw_table
from rlscape.results import curves
from rlscape.scaling.arm_comparison import equivalence_margin
from rlscape.scaling.stability import COLLAPSE_EVALUATIONS, collapsed
from rlscape.scaling.uncertainty import t_interval
from rlscape.settings.scale import Config

RARE = 0.05
"""The truncation rate below which the paper keeps ScaleRL."""
REFERENCE_ARM = "scalerl"


def assemble(config: Config) -> pd.DataFrame:
    """A row per arm, unstable ones and high truncation first: seeds, collapsed (how many of them), and over the steps
    of all its runs the truncation rate's mean, max and share below ``RARE``, and the mean interruption rate.
    """
    arms = arms_of(config, figure_of("scalerl_table_truncation"))
    reference = curves.fits(config, [REFERENCE_ARM])
    margin = equivalence_margin(t_interval(run.fit.A for run in reference).estimate, reference[0].initial.pass_rate)
    rates = curves.metrics(config, arms).sort_values("compute").groupby("run")
    collapses = rates["pass_rate"].apply(lambda values: collapsed(values, margin))
    updates = curves.updates(config, arms)
    updates["rare"] = updates["truncation_rate"] < RARE
    rows = [
        {
            "arm": arm,
            "seeds": steps["run"].nunique(),
            "collapsed": int(collapses[steps["run"].unique()].sum()),
            "mean_truncation": steps["truncation_rate"].mean(),
            "max_truncation": steps["truncation_rate"].max(),
            "steps_below_5_percent": steps["rare"].mean(),
            "mean_interruption": steps["interruption_rate"].mean(),
        }
        for arm, steps in updates.groupby("arm", sort=False)
    ]
    frame = pd.DataFrame(rows).sort_values(["collapsed", "max_truncation"], ascending=False, kind="stable")
    return frame.assign(margin=margin, scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """Two columns of rows; below, what the paper says of its runs beside ours."""
    half = (len(frame) + 1) // 2
    comparison = _comparison(frame)
    figure = new_figure(13.5, 0.2 * (half + len(comparison)) + 1.5)
    grid = figure.add_gridspec(2, 2, height_ratios=(half + 1, len(comparison) + 1))
    for column, rows in enumerate((frame.iloc[:half], frame.iloc[half:])):
        draw_table(
            figure.add_subplot(grid[0, column]),
            ["arm", "collapsed", "mean, %", "max, %", "steps < 5%", "interrupted, %"],
            [_cells(row) for _, row in rows.iterrows()] + [[""] * 6] * (half - len(rows)),
            widths=(3.2, 1, 0.8, 0.8, 1, 1.2),
            bold=list(rows["collapsed"] > 0) + [False] * (half - len(rows)),
            size=7,
        )
    draw_table(
        figure.add_subplot(grid[1, :]),
        ["truncation rate", "ours", "paper (A.15)"],
        comparison,
        widths=(1, 1.6, 1.2),
        size=7,
    )
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame["seeds"].astype(int)),
        "bold: arms with a collapse, first; then by highest truncation rate in a training step",
        f"collapsed: {frame['margin'].iloc[0]:.3f} below the running best for {COLLAPSE_EVALUATIONS} evaluations",
    )
    return figure


def _cells(row: pd.Series) -> list[str]:
    percentages = (100 * row[name] for name in ("mean_truncation", "max_truncation", "steps_below_5_percent"))
    mean, highest, rare = (f"{value:.1f}" for value in percentages)
    interrupted = f"{100 * row['mean_interruption']:.1f}"
    return [ARMS[row["arm"]].label, f"{row['collapsed']} of {row['seeds']}", mean, highest, f"{rare}%", interrupted]


def _comparison(frame: pd.DataFrame) -> list[list[str]]:
    highest = 100 * frame.loc[frame["collapsed"] > 0, "max_truncation"]
    ours = (
        f"highest {highest.min():.1f}–{highest.max():.1f}% in {len(highest)} arms"
        if len(highest)
        else "no run collapses"
    )
    rows = [["runs that collapse", ours, f"{TRUNCATION_AT_COLLAPSE} where training becomes unstable, batch 768"]]
    for arm, paper in TRUNCATION.items():
        row = frame.set_index("arm").loc[arm]
        shares = f"below 5% in {100 * row['steps_below_5_percent']:.0f}% of steps"
        rows.append([ARMS[arm].label, f"{shares}, at most {100 * row['max_truncation']:.1f}%", paper])
    return rows
