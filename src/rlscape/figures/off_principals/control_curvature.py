"""Control for the paper's proxy: are principal weights the directions of high curvature, and does RL avoid these?

Paper: takes principal for high curvature and cites others. Here: Gauss-Newton (Fisher) quotients as multiples of those
of isotropic directions in the same matrix, tr G / N, in detail on the base of the main runs and in sum on every base
that RL starts from; and Prop 3.2's approximation.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rlscape.catalogue import ARMS, base_of
from rlscape.figures.style import ARM_STYLES, BLUE, GREY, RED, add_note, new_figure
from rlscape.figures.weights import CHANCE_COLOUR, KIND_STYLES
from rlscape.results import loss
from rlscape.scaling.uncertainty import t_interval
from rlscape.settings.scale import Config

RUNS = {"rl": "rlvr", "sft": "sft"}
"""Run in the measurement -> arm."""
CONTRASTS = {"singular": (RED, "s", "$u_i v_j^T$"), "coordinate": (BLUE, "o", "entries of equal magnitude")}
"""Directions -> colour, marker and label of what is principal against what is not."""
BLOCKS = {"principal": (RED, "s"), "mixed": (GREY, "D"), "off": (BLUE, "o")}
"""Block -> colour and marker: both, one or none of the singular vectors in the top k."""
LABEL = r"$v^\top G v\, /\, |v|^2$ over tr$\,G/N$ (log$_2$)"


def assemble(config: Config) -> pd.DataFrame:
    """Rows of kind block, index, coordinate, update, proposition and contrast, with 95% t intervals over batches.

    ``value`` is log2 of a quotient over tr G / N, mean over matrices where ``matrix`` is empty; for proposition
    it is the ratio of the Fisher form to the divergence of a ``share`` of the update. Contrasts, principal over
    off-principal quotients, are those of every ``base``, the others of the base of the main runs.
    """
    everywhere, own = loss.curvature(config), base_of(config, RUNS["rl"])
    table = everywhere[everywhere["base"] == own]
    inside = table[table["tensor"] != loss.WHOLE]
    singular, coordinate, updates = (
        inside[inside["direction"].isin((*names, "isotropic"))]
        for names in (("singular",), ("coordinate",), tuple(RUNS))
    )
    singular = singular.assign(position=singular["i"] + singular["j"])
    whole = table[(table["tensor"] == loss.WHOLE) & table["scale"].isna()]
    proposition = table[table["scale"].notna()].assign(value=lambda rows: rows["half_fisher"] / rows["kl"])
    frames = {
        "block": _over_batches(loss.relative_quotients(singular, ["block"]), ["matrix", "block"]),
        "index": _over_batches(loss.relative_quotients(singular, ["position"]), ["position"]),
        "coordinate": _over_batches(loss.relative_quotients(coordinate, ["block", "bin"]), ["block", "bin"]),
        "update": _over_batches(loss.relative_quotients(updates, ["direction"]), ["matrix", "direction"]),
        "whole": _over_batches(loss.relative_quotients(whole, ["direction"]), ["direction"]),
        "proposition": _over_batches(proposition.rename(columns={"scale": "share"}), ["direction", "share"]),
    }
    frame = pd.concat([rows.assign(kind=kind) for kind, rows in frames.items()], ignore_index=True)
    frame["arm"] = frame.pop("direction").map(RUNS)
    contrasts = [
        _over_batches(loss.block_contrast(everywhere, kind).rename("value").reset_index(), ["base"]).assign(block=kind)
        for kind in CONTRASTS
    ]
    frame = pd.concat([frame.assign(base=own), *(rows.assign(kind="contrast") for rows in contrasts)])
    return frame.assign(batches=table["batch"].nunique(), scale=config.scale).reset_index(drop=True)


def _over_batches(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Means over matrices, then over batches with t limits."""
    by_batch = rows.groupby([*by, "batch"])["value"].mean().reset_index()
    found = []
    for key, group in by_batch.groupby(by):
        interval = t_interval(group["value"])
        found.append(
            dict(zip(by, key, strict=True)) | {"value": interval.estimate, "low": interval.low, "high": interval.high}
        )
    return pd.DataFrame(found)


def draw(frame: pd.DataFrame) -> Figure:
    """a: singular directions by kind of matrix. b: updates. c: by index. d: coordinates. e: Prop 3.2. f: all bases."""
    figure = new_figure(14, 7)
    above, below = figure.subfigures(2, 1, squeeze=False).flat
    blocks, updates = above.subplots(1, 2, sharey=True)
    index, coordinate, proposition, bases = below.subplots(1, 4)
    kinds = [kind for kind in KIND_STYLES if kind in set(frame["matrix"].dropna())]
    _draw_by_matrix(blocks, frame[frame["kind"] == "block"], "block", BLOCKS, kinds)
    blocks.set_title("a: $u_i v_j^T$ of a matrix, both, one or none in the top $k$", loc="left")
    _draw_by_matrix(
        updates, frame[frame["kind"] == "update"], "arm", {arm: ARM_STYLES[arm] for arm in RUNS.values()}, kinds
    )
    updates.set_title("b: what training added to the matrix", loc="left")
    rows = frame[frame["kind"] == "index"].sort_values("position")
    _draw_band(index, rows["position"].astype(int), rows, BLUE, "o")
    index.set(xlabel="$i + j$ of $u_i v_j^T$", ylabel=LABEL)
    index.set_title("c: by singular index", loc="left")
    for block in ("principal", "off"):
        rows = frame[(frame["kind"] == "coordinate") & (frame["block"] == block)].sort_values("bin")
        label = r"in $M_\mathrm{princ}$" if block == "principal" else r"outside $M_\mathrm{princ}$"
        _draw_band(coordinate, rows["bin"].astype(int) + 1, rows, *BLOCKS[block], label=label)
    coordinate.xaxis.set_major_locator(MaxNLocator(integer=True))
    coordinate.set(xlabel="magnitude bin of $|W_0|$", ylabel=LABEL)
    coordinate.set_title("d: entries of equal magnitude", loc="left")
    coordinate.legend(loc="best")
    for arm in RUNS.values():
        rows = frame[(frame["kind"] == "proposition") & (frame["arm"] == arm)].sort_values("share")
        _draw_band(proposition, rows["share"], rows, *ARM_STYLES[arm], label=ARMS[arm].label)
    proposition.axhline(1, color=CHANCE_COLOUR, linewidth=1)
    proposition.set(xlabel="share of the update", ylabel=r"$\frac{1}{2}\Delta^\top F \Delta\; /\; KL(\pi_0 \| \pi)$")
    proposition.set_title("e: Prop 3.2's approximation", loc="left")
    proposition.legend(loc="best")
    contrasts = frame[frame["kind"] == "contrast"]
    _draw_bases(bases, contrasts)
    for ax in (blocks, updates, index, coordinate):
        ax.axhline(0, color=CHANCE_COLOUR, linewidth=1)
    whole = frame[frame["kind"] == "whole"].dropna(subset="arm").set_index("arm")["value"]
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        f"a-e: base {frame['base'].iloc[0]}; f: {contrasts['base'].nunique()} bases",
        f"{frame['batches'].iloc[0]} batches: mean and 95% t interval",
        "whole updates over tr G / N: "
        + ", ".join(f"{ARMS[arm].label} {2**value:.3g}" for arm, value in whole.items()),
        "paper: principal means high curvature (no numbers)",
    )
    return figure


def _draw_bases(ax: Axes, rows: pd.DataFrame) -> None:
    names = list(rows["base"].unique())
    for offset, (kind, (colour, marker, label)) in enumerate(CONTRASTS.items()):
        own = rows[rows["block"] == kind].set_index("base").reindex(names)
        places = [place + 0.2 * (offset - 0.5) for place in range(len(names))]
        errors = [own["value"] - own["low"], own["high"] - own["value"]]
        ax.errorbar(
            own["value"], places, xerr=errors, color=colour, marker=marker, markersize=4, linestyle="", label=label
        )
    ax.axvline(0, color=CHANCE_COLOUR, linewidth=1)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlabel("principal over others (log$_2$)")
    ax.set_title("f: all bases", loc="left")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


def _draw_by_matrix(
    ax: Axes, rows: pd.DataFrame, column: str, styles: dict[str, tuple[str, str]], kinds: list[str]
) -> None:
    for offset, (name, (colour, marker)) in enumerate(styles.items()):
        own = rows[rows[column] == name].set_index("matrix").reindex(kinds)
        positions = [place + 0.15 * (offset - (len(styles) - 1) / 2) for place in range(len(kinds))]
        errors = [own["value"] - own["low"], own["high"] - own["value"]]
        label = ARMS[name].label if name in ARMS else name
        ax.errorbar(
            positions, own["value"], errors, color=colour, marker=marker, markersize=5, linestyle="", label=label
        )
    ax.set_xticks(range(len(kinds)), kinds)
    ax.set_ylabel(LABEL)
    ax.legend(loc="best")


def _draw_band(ax: Axes, x: pd.Series, rows: pd.DataFrame, colour: str, marker: str, label: str | None = None) -> None:
    ax.plot(x, rows["value"], color=colour, marker=marker, markersize=4, label=label)
    ax.fill_between(x, rows["low"], rows["high"], color=colour, alpha=0.15, linewidth=0)
