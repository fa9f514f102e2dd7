"""What the figures of adapters share: their looks, and pass rates by optimiser step."""

from collections.abc import Iterable

import pandas as pd
from matplotlib.axes import Axes

from rlscape.catalogue import ARMS
from rlscape.figures.learning_curves import means_over_seeds, rates_of_bases
from rlscape.figures.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, whole_numbers_axis
from rlscape.figures.weights import learning_rates
from rlscape.results import curves
from rlscape.settings.scale import Config

KINDS: dict[str, tuple[str, str]] = {
    # kind of adapter: label, colour
    "lora": ("LoRA", BLUE),
    "pissa": ("PiSSA", ORANGE),
    "milora": ("MiLoRA", GREEN),
    "subspace": ("random subspace", PURPLE),
}
RATE_LINES = ("-", "--", ":")
"""From the highest learning rate of a panel to the lowest."""
PANELS = {"pass_rate": "validation pass rate", "downstream_pass_rate": "downstream pass rate"}
STAGGER = 0.006
"""Between arms, as a share of the run: their error bars do not hide each other."""
ERRORS_NOTE = "bars: 95% sampling error of one seed; bands: 95% interval over seeds"


def assemble_by_step(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """Pass rates from step 0 on, by ``kind``:

    - evaluation: a row per seed;
    - mean: over seeds, with t limits (one seed: its sampling error);
    - chance: per arm the pass rate of the best constant answer, on the panel of harder problems.

    Columns: arm, adapter (a key of :data:`KINDS`; none for full fine-tuning), rank, learning_rate, panel (a key of
    :data:`PANELS`), step, value.
    """
    metrics = curves.metrics(config, arms)
    frames = []
    for panel in PANELS:
        columns = {panel: "value", f"{panel}_se": "standard_error"}
        evaluations = metrics[["arm", "seed", "step", "compute", *columns]].rename(columns=columns)
        evaluations["kind"] = "evaluation"
        means = means_over_seeds(evaluations, "mean")
        frames += [evaluations.assign(panel=panel), means.assign(panel=panel)]
    chance = rates_of_bases(config, metrics["arm"].unique(), "chance", "chance_rate")
    frames.append(chance.assign(panel="downstream_pass_rate"))
    frame = pd.concat(frames, ignore_index=True)
    adapters = {arm: ARMS[arm].adapter for arm in frame["arm"].unique()}
    return frame.assign(
        adapter=frame["arm"].map({arm: adapter.kind for arm, adapter in adapters.items() if adapter}),
        rank=frame["arm"].map({arm: adapter.rank for arm, adapter in adapters.items() if adapter}),
        learning_rate=learning_rates(frame, config),
        scale=config.scale,
    )


def draw_by_step(ax: Axes, frame: pd.DataFrame) -> None:
    """One panel of an assembled frame, all of its arms; full fine-tuning is black."""
    restricted = frame[frame["adapter"].notna()]
    rates = sorted(restricted["learning_rate"].unique(), reverse=True)
    arms = frame["arm"].unique()
    for index, arm in enumerate(arms):
        rows = frame[frame["arm"] == arm]
        rate = rows["learning_rate"].iloc[0]
        name, colour, line = "full", INK, "-"
        if isinstance(kind := rows["adapter"].iloc[0], str):
            (name, colour), line = KINDS[kind], RATE_LINES[rates.index(rate)]
        mean = rows[rows["kind"] == "mean"]
        shift = STAGGER * (index - (len(arms) - 1) / 2) * mean["step"].max()
        steps = mean["step"] + shift
        if mean["seeds"].max() > 1:
            for _, seed in rows[rows["kind"] == "evaluation"].groupby("seed"):
                ax.plot(seed["step"] + shift, seed["value"], color=colour, linestyle=line, linewidth=0.5, alpha=0.3)
            ax.fill_between(steps, mean["low"], mean["high"], color=colour, alpha=0.1, linewidth=0)
        else:
            ax.vlines(steps, mean["low"], mean["high"], color=colour, linewidth=0.8, alpha=0.6)
        ax.plot(steps, mean["value"], color=colour, linestyle=line, linewidth=1.3, label=f"{name}, rate {rate:.1e}")
    for chance in frame.loc[frame["kind"] == "chance", "value"].dropna().unique():
        ax.axhline(chance, color=GREY, linewidth=1, linestyle=(0, (1, 1)), label="best constant answer")
    whole_numbers_axis(ax)
