"""What the recorded tables say by the code and the register as they are now: verdicts and figures, without training."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import pandas as pd

from rlscape.catalogue import figures_of, with_figure
from rlscape.claims import evaluate_register
from rlscape.claims.register import Register
from rlscape.figures.registry import find_target
from rlscape.figures.scoreboard import describe_counts
from rlscape.figures.style import write_figure
from rlscape.gallery.claims import (
    CLAIMS,
    of_paper,
    read_claims,
    recorded_pilots,
    recorded_power,
    recorded_scales,
    updated,
    write_claims,
    write_scoreboard,
)
from rlscape.results.archive import RUN, TABLES, recorded_results
from rlscape.settings.scale import Paper


def judge(register: Register, gallery: Path) -> list[str]:
    """Evaluate the register on the tables of every recorded scale, rewrite its verdicts and the scoreboard.

    Returns:
        A line per scale: how many claims have each verdict, and what changed.

    Raises:
        UserError: a record cannot be used; nothing has been changed then.
    """
    lines, verdicts, pilots = [], {}, recorded_pilots(gallery)
    for scale in recorded_scales(gallery):
        recorded = read_claims(scale / CLAIMS)
        evaluated, kept = [], []
        for paper in get_args(Paper):
            if (scale / paper / TABLES).exists():
                with recorded_results(scale / paper) as config:
                    of_scale = of_paper(register, paper), config, recorded_power(scale), pilots
                    evaluated.append(evaluate_register(*of_scale))
            elif (scale / paper / RUN).exists():
                kept.append(paper)
        now = updated(recorded, pd.concat(evaluated, ignore_index=True), register) if evaluated else recorded
        verdicts[scale] = now
        lines.append("; ".join([f"{scale.name}: {describe_counts(now)}", *_changes(recorded, now), *_kept(kept)]))
    for scale, now in verdicts.items():
        write_claims(scale / CLAIMS, now)
    write_scoreboard(gallery)
    return lines


def _changes(recorded: pd.DataFrame, now: pd.DataFrame) -> Iterator[str]:
    old, new = (frame.set_index("id")["verdict"].to_dict() for frame in (recorded, now))
    changes = [
        f"{claim} {old.get(claim, 'not recorded')} -> {new.get(claim, 'not in the register')}"
        for claim in [*new, *(claim for claim in old if claim not in new)]
        if old.get(claim) != new.get(claim)
    ]
    yield f"changed: {', '.join(changes)}" if changes else "no verdict changed"


def _kept(papers: Sequence[str]) -> Iterator[str]:
    if papers:
        yield f"{' and '.join(papers)} kept as recorded, before there was {TABLES} (make gallery records it)"


def redraw(gallery: Path) -> list[str]:
    """Draw the figures of every recorded scale again from its tables, and the scoreboard.

    Returns:
        A line per scale and paper.

    Raises:
        UserError: a record cannot be used.
    """
    lines = []
    for scale in recorded_scales(gallery):
        for paper in get_args(Paper):
            directory = scale / paper
            if not (directory / TABLES).exists():
                lines.append(f"{directory}: no {TABLES}, left as it is")
                continue
            with recorded_results(directory) as config:
                figures = [figure for figure in figures_of(config) if figure.paper == paper]
                for figure in figures:
                    target = find_target(figure.target)
                    frame = target.assemble(with_figure(config, figure))
                    write_figure(target.draw(frame), frame, directory / figure.stem)
            lines.append(f"{directory}: {len(figures)} figures")
    write_scoreboard(gallery)
    return lines
