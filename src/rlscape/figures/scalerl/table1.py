"""P1, Table 1: midpoint, steepness and ceiling of the variants of ScaleRL, ours beside the paper's.

Paper: C_mid in GPU-hours. Here: in virtual accelerator-seconds; only its size relative to another arm's compares,
so that the paper's is also given relative to its ScaleRL run.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS
from rlscape.figures.scalerl.paper_values import SCALERL, TABLE_1
from rlscape.figures.style import ARM_STYLES, add_note, describe_seeds, new_figure
from rlscape.figures.tables import draw_table, fit_estimates, interval_cell
from rlscape.settings.scale import Config

TASKS: tuple[str, ...] = ("math", "code")


def assemble(config: Config) -> pd.DataFrame:
    """A row per arm and task: seeds, C_mid, B and A with t limits over seeds, and the paper's C_mid, B and A."""
    estimates = {
        task: fit_estimates(config, [arm for arm, of_task in TABLE_1 if of_task == task], task) for task in TASKS
    }
    rows = [
        {"arm": arm, "task": task}
        | estimates[task].loc[arm].to_dict()
        | {f"paper_{name}": value for name, value in paper._asdict().items()}
        for (arm, task), paper in TABLE_1.items()
    ]
    return pd.DataFrame(rows).assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """The table, in the paper's order of rows and columns."""
    joint = frame["arm"].duplicated(keep=False)
    rows = [
        [
            ARMS[row["arm"]].label + (f": {row['task']}" if joint[index] else ""),
            interval_cell(row, "C_mid", digits=0),
            f"{row['paper_C_mid']:,.0f} (× {row['paper_C_mid'] / SCALERL.C_mid:.2f})",
            interval_cell(row, "B", digits=2),
            f"{row['paper_B']:.2f}",
            interval_cell(row, "A"),
            f"{row['paper_A']:.3f}",
        ]
        for index, row in frame.iterrows()
    ]
    figure = new_figure(11, 0.25 * len(rows) + 0.9)
    draw_table(
        figure.subplots(),
        ["arm", "$C_{mid}$, virtual s", "paper, GPU-h (× ScaleRL)", "B", "B, paper", "A", "A, paper"],
        rows,
        widths=(1.7, 1.7, 1.9, 1.5, 0.8, 1.8, 0.8),
        colours=[ARM_STYLES[arm][0] for arm in frame["arm"]],
    )
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame["seeds"].astype(int)),
        "ours: fits to all of the run, 95% interval over seeds",
        "paper: one seed, Table 1",
    )
    return figure
