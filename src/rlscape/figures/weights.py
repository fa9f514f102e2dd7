"""What the figures on weight geometry share: the matrix they show, and the styles of matrices and nulls."""

import pandas as pd

from rlscape.catalogue import ARMS, first_run, resolve_run
from rlscape.figures.style import BLUE, BROWN, GREEN, GREY, ORANGE, PINK, PURPLE, RED
from rlscape.results.pairs import middle_layer
from rlscape.results.weights import in_blocks
from rlscape.settings.scale import Config

SHOWN_KIND = "q"
"""The kind of matrix in one-matrix panels, taken from the middle layer."""

KIND_STYLES: dict[str, tuple[str, str]] = {
    # kind of matrix: colour, marker
    "q": (BLUE, "o"),
    "k": (ORANGE, "s"),
    "v": (GREEN, "^"),
    "o": (RED, "v"),
    "gate": (PURPLE, "D"),
    "up": (BROWN, "P"),
    "down": (PINK, "X"),
}

LineStyle = str | tuple[int, tuple[int, ...]]
NULL_STYLES: dict[str, tuple[str, str, LineStyle]] = {
    # null: label, colour, line style
    "isotropic": ("isotropic update", ORANGE, "--"),
    "shuffled": ("own entries shuffled", PURPLE, (0, (5, 1, 1, 1, 1, 1))),
    "spectrum": ("spectrum-matched rotation", GREEN, "-."),
    "binned": ("permuted within magnitude bins", RED, ":"),
}
CHANCE_COLOUR = GREY

MASKS: dict[str, str] = {
    "principal": r"$M_\mathrm{princ}$",
    "low": r"$M_\mathrm{low}$",
    "principal_not_low": r"$M_\mathrm{princ} \cap M_\mathrm{low}^c$",
}


def shown_matrix(matrices: pd.DataFrame) -> str:
    """Name of the tensor in one-matrix panels: the middle layer's matrix of the shown kind."""
    blocks = in_blocks(matrices)
    of_kind = blocks["kind"] == SHOWN_KIND
    return blocks.loc[of_kind & (blocks["layer"] == middle_layer(blocks)), "tensor"].iloc[0]


def learning_rates(frame: pd.DataFrame, config: Config) -> pd.Series:
    """The learning rate of each row's arm: methods are compared as run, not at matched rates."""
    rates = {}
    for arm in frame["arm"].unique():
        run = resolve_run(config, first_run(config, arm))
        rates[arm] = (run.sft or run.preference or run.rl).learning_rate
    return frame["arm"].map(rates)


SPREAD = 0.3
"""Height over which the seeds of an arm are spread."""


def seed_heights(rows: pd.DataFrame, place: float) -> pd.Series:
    """Heights of an arm's dots, one per seed, about its line in a panel that has a line per arm."""
    return place + SPREAD * (rows["seed"].rank() / (len(rows) + 1) - 0.5)


def describe_learning_rates(frame: pd.DataFrame) -> str:
    """For a figure's note, e.g. ``learning rates as run: SFT 3e-04, RLVR (DAPO) 1e-05``; a common one once."""
    rates = frame.drop_duplicates("arm").set_index("arm")["learning_rate"]
    if len(rates) > 1 and rates.nunique() == 1:
        return f"learning rate as run: {rates.iloc[0]:.0e}"
    return "learning rates as run: " + ", ".join(f"{ARMS[arm].label} {rate:.0e}" for arm, rate in rates.items())
