"""What ``rlscape diff`` says: a table per kind, the answer in words, and one page as HTML and PNG."""

import base64
import html
import io
from collections.abc import Iterator, Sequence
from math import ceil, floor, isnan, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from rlscape.files import atomic, provenance, write_json, write_parquet
from rlscape.tools.weights.checkpoint_diff import DiffResult
from rlscape.tools.weights.diff_columns import COLUMNS, COUNTS, TABLE
from rlscape.tools.weights.diff_tables import SIGNIFICANCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def _percent(share: float) -> str:
    return f"{100 * share:.{1 if 0 < min(share, 1 - share) < 0.1 else 0}f}%"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The table of kinds as strings; empty where nothing was measured."""

    def text(column: str, value: Any) -> str:
        if isinstance(value, str):
            return value
        if pd.isna(value):
            return ""
        return str(int(value)) if column in COUNTS else f"{value:.3g}"

    columns = [column for column in TABLE if column in frame and not frame[column].isna().all()]
    return pd.DataFrame({TABLE[name]: [text(name, value) for value in frame[name]] for name in columns})


def _preference(row: Any) -> str:
    """What the overlap with principal weights says, for one kind."""
    value, null, p = row.overlap_principal, row.overlap_principal_binned, row.overlap_principal_p
    found = f"{value:.3f} of the changes on principal weights, {null:.3f} by magnitude alone"
    if isnan(p):
        return f"{found} (too few changes for a test)"
    found += f" ({_p(p)})"
    matrices, beyond = int(row.matrices), int(row.beyond_null)
    side = "avoids principal weights" if value < null else "prefers principal weights"
    if row.overlap_principal_p_holm < SIGNIFICANCE:
        each = f" ({beyond} of {matrices} matrices on their own)" if matrices > 1 else ""
        return f"{found}: {side} beyond magnitude and rounding, by {abs(value - null):.2g}{each}"
    each = f" on average, but {beyond} of {matrices} matrices leave their null" if beyond else ""
    return f"{found}: nothing beyond magnitude and rounding{each}"


def _rotation(row: Any) -> str:
    angle, aside = f"largest principal angle {row.max_angle:.2g} deg", f"error up to {row.angle_error_deg:.1g}"
    if not isnan(row.max_angle_isotropic):
        aside = f"{row.max_angle_isotropic:.2g} for an isotropic update, {aside}"
    if row.undetermined:
        of_which = "the" if row.matrices == 1 else f"in {int(row.undetermined)} of {int(row.matrices)} matrices the"
        aside = f"{aside}; {of_which} top-k subspace is not determined"
    return f"{angle} ({aside})"


def _energies(row: Any) -> str:
    left, right = (getattr(row, f"energy_{side}") / getattr(row, f"energy_{side}_binned") for side in ("left", "right"))
    return f"energy in the top-k subspaces {left:.2f} (left) and {right:.2f} (right) times that by magnitude alone"


def describe(row: Any) -> str:
    """One row of the table of kinds in words."""
    if not row.update_energy:
        return f"{row.kind}: equal to the base"
    parts = [
        f"{row.kind}: {_percent(row.sparsity)} unchanged in bf16 "
        f"(an isotropic update of this size: {_percent(row.isotropic_sparsity)})"
    ]
    if not isnan(getattr(row, "overlap_principal", float("nan"))):
        parts += [_preference(row), _rotation(row), _energies(row)]
    return "; ".join(parts)


def answers(result: DiffResult) -> dict[str, list[str]]:
    """Checkpoint -> its sentences, a kind each; the last is about all tensors."""
    return {
        str(name): [describe(row) for row in of_one.itertuples(index=False)]
        for name, of_one in result.kinds.groupby("checkpoint", sort=False)
    }


def brief_answers(result: DiffResult) -> dict[str, list[str]]:
    """The same, but of kinds whose overlap does not exceed magnitude and rounding only their names."""
    brief = {}
    for name, of_one in result.kinds.groupby("checkpoint", sort=False):
        *rows, overall = of_one.itertuples(index=False)
        tested = [row for row in rows if not isnan(getattr(row, "overlap_principal_p", float("nan")))]
        beyond = [row for row in tested if row.overlap_principal_p_holm < SIGNIFICANCE or row.beyond_null]
        others = [row.kind for row in tested if row not in beyond]
        sentences = [describe(row) for row in beyond]
        if others:
            sentences.append(f"{', '.join(others)}: nothing beyond magnitude and rounding")
        brief[str(name)] = [*sentences, describe(overall)]
    return brief


def pair_answers(result: DiffResult) -> list[str]:
    """How much the update masks of every two checkpoints have in common."""
    if result.pairs.empty:
        return []
    overall = result.pairs[result.pairs["tensor"] == "all"]
    return [
        f"{row.first} and {row.second}: Jaccard index of the update masks {row.jaccard:.3f}; independent masks "
        f"{row.jaccard_chance:.3f}, independent given the magnitude {row.jaccard_binned:.3f} ({_p(row.p)}); "
        f"phi {row.phi:.3f}"
        for row in overall.itertuples(index=False)
    ]


def _places(frame: pd.DataFrame, names: Sequence[str], i: int, checkpoints: int) -> list[float]:
    """Where on the x axis the i-th checkpoint stands, for every row's kind."""
    return [names.index(kind) + 0.7 * ((i + 0.5) / checkpoints - 0.5) for kind in frame["kind"]]


def _short(names: Sequence[str]) -> list[str]:
    """The ends of paths, as long as it takes to tell them apart."""
    parts = [Path(name).parts for name in names]
    for depth in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(part[-depth:]) for part in parts]
        if len(set(labels)) == len(labels):
            return labels
    return list(names)


class _Page:
    """The four panels; a checkpoint has one colour in all of them."""

    def __init__(self, result: DiffResult) -> None:
        self.kinds = result.kinds[result.kinds["kind"] != "all"]
        self.checkpoints = list(dict.fromkeys(self.kinds["checkpoint"]))
        self.labels = _short(self.checkpoints)

    def colour(self, i: int) -> str:
        from rlscape.figures.style import PALETTE

        return str(PALETTE[i % len(PALETTE)])

    def axis(self, axes: "Axes", names: Sequence[str], title: str, label: str) -> None:
        axes.set_xticks(range(len(names)), list(names), rotation=40, ha="right")
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.set(title=title, ylabel=label)

    def expected(self, axes: "Axes", frame: pd.DataFrame, nulls: dict[str, tuple[str, str]]) -> None:
        """What a null predicts, as a bar at every kind and checkpoint."""
        names, count = list(dict.fromkeys(frame["kind"])), len(self.checkpoints)
        for i, checkpoint in enumerate(self.checkpoints):
            rows = frame[frame["checkpoint"] == checkpoint]
            x, half = _places(rows, names, i, count), 0.35 / count
            for column, (label, colour) in nulls.items():
                left, right = [at - half for at in x], [at + half for at in x]
                axes.hlines(rows[column], left, right, color=colour, linewidth=2, label=label if i == 0 else "_")

    def found(self, axes: "Axes", frame: pd.DataFrame, column: str, marker: str = "o", label: str = "") -> None:
        """Values, as markers."""
        names, count = list(dict.fromkeys(frame["kind"])), len(self.checkpoints)
        for i, checkpoint in enumerate(self.checkpoints):
            rows = frame[frame["checkpoint"] == checkpoint]
            shown_as = label if label and i == 0 else "_" if label else self.labels[i]
            x = _places(rows, names, i, count)
            axes.plot(x, rows[column], marker, markersize=4.5, color=self.colour(i), label=shown_as)

    def sparsity(self, axes: "Axes") -> None:
        from rlscape.figures.style import INK

        self.expected(axes, self.kinds, {"isotropic_sparsity": ("isotropic update of equal norm", INK)})
        self.found(axes, self.kinds, "sparsity")
        self.axis(axes, list(dict.fromkeys(self.kinds["kind"])), "Unchanged in bf16", "share of entries")
        axes.set_ylim(-0.03, 1.35)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.legend(loc="upper left", ncols=2)

    def overlap(self, axes: "Axes", matrices: pd.DataFrame) -> None:
        from rlscape.figures.style import GREY, RED

        chance, binned = ("chance", GREY), ("by magnitude alone", RED)
        nulls = {"overlap_principal_chance": chance, "overlap_principal_binned": binned}
        self.expected(axes, matrices, nulls)
        self.found(axes, matrices, "overlap_principal")
        names = list(dict.fromkeys(matrices["kind"]))
        self.axis(axes, names, "Changes on principal weights", "share of changed entries")
        axes.set_ylim(0, 1.3 * max(matrices[[*nulls, "overlap_principal"]].max()))
        axes.legend(*(each[:2] for each in axes.get_legend_handles_labels()), loc="upper left", ncols=2)

    def angles(self, axes: "Axes", tensors: pd.DataFrame) -> None:
        from rlscape.figures.style import GREY

        names, count = list(dict.fromkeys(self.kinds["kind"])), len(self.checkpoints)
        names = [name for name in names if (tensors["kind"] == name).any()]
        angle = tensors[["max_angle_left", "max_angle_right"]].max(axis=1)
        determined = tensors["angle_error_deg"] < 90
        for i, checkpoint in enumerate(self.checkpoints):
            rows = tensors["checkpoint"] == checkpoint
            for held, face in ((rows & determined, self.colour(i)), (rows & ~determined, "none")):
                x = _places(tensors[held], names, i, count)
                axes.scatter(x, angle[held], s=14, facecolors=face, edgecolors=self.colour(i), linewidths=0.8)
        if not determined.all():
            axes.scatter([], [], s=14, facecolors="none", edgecolors=GREY, label="top-k subspace not determined")
            axes.legend()
        if len(positive := angle[angle > 0]):
            axes.set_yscale("log")
            axes.set_ylim(10 ** floor(log10(positive.min())), 10 ** ceil(log10(positive.max()) + 1e-9))
        self.axis(axes, names, "Rotation of the top-k subspaces", "largest principal angle, degrees")

    def energies(self, axes: "Axes", matrices: pd.DataFrame) -> None:
        from rlscape.figures.style import RED

        ratios = {side: matrices[f"energy_{side}"] / matrices[f"energy_{side}_binned"] for side in ("left", "right")}
        frame = matrices.assign(**ratios)
        axes.axhline(1, color=RED, linewidth=1, label="by magnitude alone")
        self.found(axes, frame, "left", "<", "left")
        self.found(axes, frame, "right", ">", "right")
        names = list(dict.fromkeys(matrices["kind"]))
        self.axis(axes, names, "Energy in the top-k subspaces", "over that by magnitude alone")
        reach = max(0.1, 1.3 * float((frame[["left", "right"]] - 1).abs().max().max()))
        axes.set_ylim(max(0, 1 - reach), 1 + reach)
        axes.legend(loc="upper left", ncols=3)


def draw(result: DiffResult) -> "Figure":
    """One page: sparsity, overlap with principal weights, angles and energies, beside what would be expected."""
    from rlscape.figures.style import add_note, new_figure

    figure = new_figure(10, 7)
    axes = figure.subplots(2, 2)
    page = _Page(result)
    page.sparsity(axes[0, 0])
    if "overlap_principal" in page.kinds and page.kinds["overlap_principal"].notna().any():
        matrices = page.kinds[page.kinds["overlap_principal"].notna()]
        page.overlap(axes[0, 1], matrices)
        page.angles(axes[1, 0], result.tensors[result.tensors["k"].notna()])
        page.energies(axes[1, 1], matrices)
    for panel in axes.flat:
        if not panel.has_data():
            panel.set_axis_off()
    add_note(
        figure,
        "kinds of tensors, pooled; angles: every matrix",
        "by magnitude alone: changes permuted among weights of equal bf16 magnitude",
    )
    return figure


def _png(figure: "Figure") -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150, metadata={"Software": None})
    return stream.getvalue()


def _page(result: DiffResult, base: str, png: bytes) -> Iterator[str]:
    escape = html.escape
    names = ", ".join(answers(result))
    yield (
        "<!doctype html><html lang=en><meta charset=utf-8><title>rlscape diff</title><style>"
        "body{font:15px/1.45 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}"
        "img{width:100%}table{border-collapse:collapse;font-size:12px}td,th{padding:.2rem .5rem;text-align:right;"
        "border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}dt{font-family:monospace}"
        "div{overflow-x:auto}</style>"
    )
    yield f"<h1>What fine-tuning changed</h1><p>Base: {escape(base)}. Fine-tuned: {escape(names)}.</p>"
    for name, sentences in answers(result).items():
        yield f"<h2>{escape(name)}</h2><ul>" + "".join(f"<li>{escape(each)}</li>" for each in sentences) + "</ul>"
        yield f"<div>{shown(result.kinds[result.kinds['checkpoint'] == name]).to_html(index=False, border=0)}</div>"
    if together := pair_answers(result):
        yield "<h2>Together</h2><ul>" + "".join(f"<li>{escape(each)}</li>" for each in together) + "</ul>"
    yield f'<p><img alt="summary" src="data:image/png;base64,{base64.b64encode(png).decode()}"></p>'
    if result.notes:
        yield "<h2>Notes</h2><ul>" + "".join(f"<li>{escape(note)}</li>" for note in result.notes) + "</ul>"
    yield "<h2>Columns</h2><dl>"
    yield "".join(f"<dt>{escape(name)}</dt><dd>{escape(meaning)}</dd>" for name, meaning in COLUMNS.items())
    yield "</dl></html>\n"


def write_results(result: DiffResult, directory: Path, base: str, settings: dict[str, Any]) -> None:
    """Write ``tensors.parquet``, ``kinds.parquet``, ``pairs.parquet`` (several checkpoints), ``summary.html``,
    ``summary.png`` and ``run.json``, each atomically."""
    png = _png(draw(result))
    page = "".join(_page(result, base, png))
    write_parquet(directory / "tensors.parquet", result.tensors)
    write_parquet(directory / "kinds.parquet", result.kinds)
    if not result.pairs.empty:
        write_parquet(directory / "pairs.parquet", result.pairs)
    with atomic(directory / "summary.png") as path:
        path.write_bytes(png)
    with atomic(directory / "summary.html") as path:
        path.write_text(page, encoding="utf-8")
    record = {"settings": settings, "notes": result.notes, "seconds": result.seconds, "provenance": provenance()}
    write_json(directory / "run.json", record)
