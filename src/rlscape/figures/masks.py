"""What Tables 4 and 5 of P2 share: pass rates by the entries that train, beside the paper's."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS
from rlscape.figures.off_principals.paper_tables import ERROR_OF_DIFFERENCE, MaskRow
from rlscape.figures.style import add_note, describe_seeds, new_figure
from rlscape.figures.tables import draw_table
from rlscape.results import curves
from rlscape.results.restricted import DENSE, evaluations_at, masked_arms
from rlscape.scaling.uncertainty import paired_differences
from rlscape.settings.scale import Config

RATES = {"pass_rate": "validation", "downstream_pass_rate": "downstream"}


def assemble_masks(config: Config, share: float, paper: Mapping[str, MaskRow]) -> pd.DataFrame:
    """A row per arm: pass rates at ``share`` of the run, differences to the dense arm, trained share, the paper's row.

    ``<rate>_error`` is the standard error of the mean over seeds; with one seed, that of sampling alone.
    """
    arms = masked_arms(config)
    evaluations = evaluations_at(curves.metrics(config, arms), share)
    records = curves.run_records(config, arms)
    rows = []
    for arm in arms:
        found = evaluations[evaluations["arm"] == arm]
        row: dict[str, object] = {"arm": arm, "seeds": len(found), "step": found["step"].iloc[0]}
        for rate in RATES:
            row |= _with_error(rate, found[rate], found[f"{rate}_se"])
            if arm != DENSE:
                row |= _difference(rate, found, evaluations[evaluations["arm"] == DENSE])
        row["trained"] = np.mean([records[run]["trained_share"] for run in found["run"]])
        row |= {f"paper_{name}": value for name, value in paper[arm]._asdict().items()} if arm in paper else {}
        row |= {"paper_recomputed": paper[arm].recomputed} if arm in paper else {}
        rows.append(row)
    return pd.DataFrame(rows).assign(steps=curves.metrics(config, [DENSE])["step"].max(), scale=config.scale)


def _with_error(name: str, values: pd.Series, sampling: pd.Series) -> dict[str, float]:
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else sampling.iloc[0]
    return {name: values.mean(), f"{name}_error": error}


def _difference(rate: str, found: pd.DataFrame, dense: pd.DataFrame) -> dict[str, float]:
    """To the dense runs of the same seeds."""
    by_seed, reference = (rows.set_index("seed")[rate].to_dict() for rows in (found, dense))
    differences = pd.Series(paired_differences(by_seed, reference), dtype=float)
    sampling = np.hypot(found[f"{rate}_se"].iloc[0], dense[f"{rate}_se"].iloc[0])
    return _with_error(f"{rate}_difference", differences, pd.Series([sampling]))


def draw_masks(frame: pd.DataFrame, paper_steps: int) -> Figure:
    """The table; differences are to dense training."""
    rows = [
        [
            ARMS[row["arm"]].label,
            *(
                _cell(row, f"{rate}{suffix}", sign)
                for rate in RATES
                for suffix, sign in (("", ""), ("_difference", "+"))
            ),
            f"{100 * row['trained']:.1f}",
            *("" if pd.isna(row[f"paper_{name}"]) else f"{row[f'paper_{name}']:g}" for name in MaskRow._fields[:4]),
            _paper_average(row),
            "" if pd.isna(row["paper_trained"]) else f"{row['paper_trained']:g}",
        ]
        for _, row in frame.iterrows()
    ]
    figure = new_figure(14, 0.25 * len(rows) + 1.0)
    draw_table(
        figure.subplots(),
        [
            "trains",
            *("validation", "minus dense", "downstream", "minus dense", "trained, %"),
            *("paper: MATH500", "AMC23", "AIME24", "AIME25", "average", "trained, %"),
        ],
        rows,
        widths=(2.5, 1.6, 1.7, 1.6, 1.7, 1.1, 1.5, 0.8, 0.8, 0.8, 1.4, 1.0),
    )
    one_seed = (frame["seeds"] == 1).all()
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame["seeds"].astype(int)),
        f"pass rates in % after {frame['step'].iloc[0]:.0f} of {frame['steps'].iloc[0]:.0f} steps",
        f"± standard error, {'of sampling alone' if one_seed else 'over seeds'}",
        f"paper: one run of {paper_steps} steps, sampling error of a difference up to {ERROR_OF_DIFFERENCE}; "
        "in brackets: recomputed",
    )
    return figure


def _cell(row: pd.Series, name: str, sign: str) -> str:
    return "" if pd.isna(row[name]) else f"{100 * row[name]:{sign}.1f} ± {100 * row[f'{name}_error']:.1f}"


def _paper_average(row: pd.Series) -> str:
    average, recomputed = row["paper_average"], row["paper_recomputed"]
    if pd.isna(average):
        return ""
    return f"{average:.2f}" + ("" if abs(average - recomputed) < 0.011 else f" ({recomputed:.2f})")
