"""P1, appendices A.4 and A.7: how far the ceiling depends on the fitted part of the run, for sigmoid and power law.

Above, the ceiling per window; below, how well the forms fitted to the first half meet the second. The windows are
those of :mod:`rlscape.scaling.windows`. Paper: no error of the forms on held-out points. Here: with two rivals,
exponential saturation (arXiv 2507.18014) and "the last value stays".
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS
from rlscape.figures.scalerl.paper_values import FIG2, POWER_LAW_WINDOWS, SIGMOID_WINDOWS, Fit
from rlscape.figures.style import ARM_STYLES, add_note, describe_seeds, new_figure
from rlscape.figures.tables import draw_table
from rlscape.paths import parse_run_name
from rlscape.results import curves
from rlscape.settings.scale import Config

LONG_RUN = "large_batch"
"""The arm that stands for the paper's run of 100,000 GPU-hours."""
SHOWN_ARMS = (*FIG2, LONG_RUN)
PAPER_WINDOWS = {(0.0, 1.0): "0–100k", (0.0, 0.5): "0–50k", (0.1, 0.5): "1.5–50k", (0.2, 0.5): "5–50k"} | {
    (0.3, 0.6): "30–60k"
}
"""Our windows, as shares of a run's compute, and the paper's that they stand for."""
FORMS = {"sigmoid": ("sigmoid", SIGMOID_WINDOWS), "power_law": ("power law", POWER_LAW_WINDOWS)}
HELD_OUT = {
    "least_squares": "sigmoid",
    "power_law": "power law",
    "exponential_saturation": "exponential saturation",
    "last_value": "last value stays",
}


def assemble(config: Config) -> pd.DataFrame:
    """Rows of two kinds:

    - window: form, low, high; ``A``, ``B`` of the long run, mean and range over its seeds; ``shift``, A less the A of
      the sigmoid fitted to all of the same run, mean and range over all runs; the paper's A and B.
    - held_out: arm, form; ``mae``, mean absolute error on the second half, mean and range over seeds.
    """
    windows = curves.windows(config, SHOWN_ARMS)
    whole = windows[(windows["form"] == "sigmoid") & (windows["low"] == 0) & (windows["high"] == 1)]
    windows["shift"] = windows["A"] - windows["run"].map(whole.set_index("run")["A"])
    rows = []
    for form, (_, paper) in FORMS.items():
        for (low, high), name in PAPER_WINDOWS.items():
            fitted = windows[(windows["form"] == form) & (windows["low"] == low) & (windows["high"] == high)]
            long_run = fitted[fitted["arm"] == LONG_RUN]
            published = paper.get(name, Fit(np.nan, np.nan))
            rows.append(
                {"kind": "window", "form": form, "low": low, "high": high, "paper_window": name}
                | _with_range("A", long_run["A"])
                | _with_range("B", long_run["B"])
                | _with_range("shift", fitted["shift"])
                | {"runs": fitted["shift"].notna().sum(), "paper_A": published.A, "paper_B": published.B}
            )
    scores = curves.forecast_scores(config, SHOWN_ARMS)
    forecasts = curves.forecasts(config, SHOWN_ARMS)
    for arm in SHOWN_ARMS:
        runs = [run for run in scores if parse_run_name(run)[0] == arm]
        refused = sum(forecasts[run].verdict == "refused" for run in runs)
        for form in HELD_OUT:
            errors = pd.Series([scores[run]["mae"].get(form) for run in runs], dtype=float)
            row = {"kind": "held_out", "arm": arm, "form": form, "seeds": len(runs), "refused": refused}
            rows.append(row | _with_range("mae", errors))
    return pd.DataFrame(rows).assign(scale=config.scale)


def _with_range(name: str, values: pd.Series) -> dict[str, float]:
    return {name: values.mean(), f"{name}_low": values.min(), f"{name}_high": values.max()}


def draw(frame: pd.DataFrame) -> Figure:
    """Windows above, held-out error below."""
    windows, held_out = (frame[frame["kind"] == kind] for kind in ("window", "held_out"))
    arms = list(held_out["arm"].unique())
    figure = new_figure(10, 0.25 * (len(windows) + len(arms)) + 1.9)
    above, below = figure.subplots(2, 1, height_ratios=(len(windows) + 2, len(arms) + 2))
    draw_table(
        above,
        [
            "form",
            "fitted share",
            "A, batch 2048",
            "paper",
            "B, batch 2048",
            "paper",
            "shift of A, all runs",
            "stands for",
        ],
        [
            [
                FORMS[row["form"]][0],
                f"{row['low']:g}–{row['high']:g}",
                _cell(row, "A", "{:.3f}"),
                "" if pd.isna(row["paper_A"]) else f"{row['paper_A']:.3f}",
                _cell(row, "B", "{:.2f}"),
                "" if pd.isna(row["paper_B"]) else f"{row['paper_B']:.2f}",
                _cell(row, "shift", "{:+.3f}"),
                row["paper_window"],
            ]
            for _, row in windows.iterrows()
        ],
        widths=(1.1, 1.1, 2.1, 0.8, 2, 0.8, 2.3, 1),
    )
    above.set_title(
        "Ceiling by window: mean (range over seeds); shift: A less the sigmoid's A on the whole run", loc="left"
    )
    cells = held_out.set_index(["arm", "form"])
    draw_table(
        below,
        ["arm", *HELD_OUT.values(), "forecasts refused"],
        [
            [
                ARMS[arm].label,
                *(_cell(cells.loc[(arm, form)], "mae", "{:.3f}") for form in HELD_OUT),
                f"{cells.loc[(arm, 'last_value'), 'refused']:.0f} of {cells.loc[(arm, 'last_value'), 'seeds']:.0f}",
            ]
            for arm in arms
        ],
        widths=(1.5, 1.9, 1.9, 1.9, 1.9, 1.3),
        colours=[ARM_STYLES[arm][0] for arm in arms],
    )
    below.set_title(
        "Held-out half: mean absolute error of the forms fitted to the first half, refused ones too", loc="left"
    )
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(held_out["seeds"].astype(int)),
        "paper: one 8B run of 100,000 GPU-hours; windows in GPU-hours; power law right only on windows such as 30–60k",
    )
    return figure


def _cell(row: pd.Series, quantity: str, form: str) -> str:
    if pd.isna(row[quantity]):
        return "no fit"
    value, low, high = (form.format(row[f"{quantity}{suffix}"]) for suffix in ("", "_low", "_high"))
    return value if low == high else f"{value} ({low} to {high})"
