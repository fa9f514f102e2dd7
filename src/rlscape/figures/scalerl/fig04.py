"""P1, Figure 4: who computes when. a: PPO-off-policy-k against PipelineRL-8. b: PipelineRL-k.

Paper: wall-clock hours of 64 generators and 16 trainers. Here: a virtual clock (:mod:`rlscape.rl.clock`), so two
panels of ours show what it does. c: how long either pool waits, and how stale the tokens are. d: by how much
PPO-off-policy-8 needs more than PipelineRL-8 if decoding were slower or faster, in compute and in updates; their
quotient follows from the clock.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from rlscape.catalogue import ARMS
from rlscape.figures.compute_units import draw_units
from rlscape.figures.learning_curves import add_curve_note, add_title_and_legend, assemble_curves, draw_panel
from rlscape.figures.scalerl.paper_values import FIG4
from rlscape.figures.style import BLUE, INK, ORANGE, new_figure
from rlscape.results import curves
from rlscape.results.clock import clock_factor, compute_per_update
from rlscape.scaling.arm_comparison import compare_reached
from rlscape.scaling.arms import reached_by_seed, reference_level
from rlscape.scaling.uncertainty import t_interval
from rlscape.settings.scale import Config

REFERENCE = "baseline"
SETTINGS = {REFERENCE: "PipelineRL-8"}
SCHEDULES = ("ppo1", "ppo8", REFERENCE)
STEPS_AHEAD = ("pipeline4", "pipeline8_loose", REFERENCE, "pipeline12")
ARMS_SHOWN = (*FIG4, "pipeline8_loose")

SPEED_PAIRS: dict[str, tuple[str, str]] = {
    # speed of decoding: PPO-off-policy-8, PipelineRL-8
    "half": ("ppo8_slow", "pipeline8_slow"),
    "as assumed": ("ppo8", REFERENCE),
    "double": ("ppo8_fast", "pipeline8_fast"),
}
POOLS = {"generators": BLUE, "trainers": ORANGE}
RATIOS = {
    # quantity: label, colour, marker
    "compute": ("in compute", BLUE, "o"),
    "updates": ("in updates", ORANGE, "s"),
    "clock": ("in compute per update, by the clock's algebra", INK, "D"),
}
RATIO_OFFSET = 0.12
ARROW = 1.25
"""Length of an arrow that says "or more", as a ratio."""


def assemble(config: Config) -> pd.DataFrame:
    """Curves (see :mod:`rlscape.figures.learning_curves`), and rows of kind

    - staleness: per arm the updates between sampling a token and training on it, with t limits;
    - idle: per arm and pool (``quantity``) the share of all accelerator-seconds that it waits, with t limits;
    - ratio: per decoding speed (``speed``) and unit (``quantity``) what PPO-off-policy-8 needs to reach
      R_0 + 0.7 (A - R_0), A and R_0 of the section 3 baseline, over what PipelineRL-8 needs; with t limits over
      paired seeds, infinite or zero where a run does not reach it; and ``clock``, the algebraic ratio of compute per
      update (:mod:`rlscape.results.clock`).
    """
    frames = [assemble_curves(config, ARMS_SHOWN), _staleness(config), _idle_shares(config), _ratios(config)]
    return pd.concat(frames, ignore_index=True).assign(scale=config.scale)


def _staleness(config: Config) -> pd.DataFrame:
    rows = []
    for arm, updates in curves.updates(config, ARMS_SHOWN).groupby("arm", sort=False):
        mean = t_interval(updates.groupby("seed")["staleness_mean"].mean())
        limits = {"value": mean.estimate, "low": mean.low, "high": mean.high, "seeds": mean.seeds}
        rows.append({"kind": "staleness", "arm": arm} | limits)
    return pd.DataFrame(rows)


def _idle_shares(config: Config) -> pd.DataFrame:
    shares: dict[tuple[str, str], list[float]] = {}
    for (arm, _), rows in curves.updates(config, ARMS_SHOWN).groupby(["arm", "seed"], sort=False):
        compute, generators, trainers = (
            rows.sort_values("step")[name].to_numpy() for name in ("compute", "idle_generator", "idle_trainer")
        )
        # A generator's wait is booked when it ends, with the update before: the shares are those until then.
        ended = np.flatnonzero(np.diff(generators) > 0)
        shares.setdefault((arm, "generators"), []).append(
            generators[ended[-1] + 1] / compute[ended[-1]] if len(ended) else 0.0
        )
        shares.setdefault((arm, "trainers"), []).append(trainers[-1] / compute[-1])
    rows = []
    for (arm, pool), values in shares.items():
        mean = t_interval(values)
        limits = {"value": mean.estimate, "low": max(mean.low, 0.0), "high": mean.high, "seeds": mean.seeds}
        rows.append({"kind": "idle", "arm": arm, "quantity": pool} | limits)
    return pd.DataFrame(rows)


def _ratios(config: Config) -> pd.DataFrame:
    arms = [arm for pair in SPEED_PAIRS.values() for arm in pair]
    runs = curves.fits(config, arms)
    level = reference_level(runs, REFERENCE)
    per_update = compute_per_update(config, arms)
    rows = []
    for speed, (slow, fast) in SPEED_PAIRS.items():
        ratios = {
            "compute": compare_reached(reached_by_seed(runs, slow, level), reached_by_seed(runs, fast, level)).interval,
            "updates": curves.reached_ratio("step", config, runs, slow, fast, level).interval,
            "clock": clock_factor(per_update[slow], per_update[fast]),
        }
        for unit, ratio in ratios.items():
            limits = {"value": ratio.estimate, "low": ratio.low, "high": ratio.high, "seeds": ratio.seeds}
            rows.append({"kind": "ratio", "speed": speed, "quantity": unit} | limits)
    return pd.DataFrame(rows).assign(level=level)


def draw(frame: pd.DataFrame) -> Figure:
    """Panels a and b, below them the same in other units of compute, then c and d."""
    figure = new_figure(11, 11)
    grid = figure.add_gridspec(3, 2, height_ratios=(2, 0.95, 1.25))
    schedules = figure.add_subplot(grid[0, 0])
    steps_ahead = figure.add_subplot(grid[0, 1], sharey=schedules)
    idle, speeds = (figure.add_subplot(grid[2, column]) for column in (0, 1))
    draw_units(figure, grid[1, 0], frame, SCHEDULES, "a")
    draw_units(figure, grid[1, 1], frame, STEPS_AHEAD, "b")
    draw_panel(schedules, frame, "a: schedule", SCHEDULES, FIG4, SETTINGS)
    draw_panel(steps_ahead, frame, "b: PipelineRL, updates ahead", STEPS_AHEAD, FIG4, SETTINGS)
    stale = frame[frame["kind"] == "staleness"].set_index("arm")["value"]
    _draw_idle(idle, frame[frame["kind"] == "idle"], stale)
    _draw_ratios(speeds, frame[frame["kind"] == "ratio"])
    add_curve_note(figure, frame, "c, d: not in the paper")
    return figure


def _draw_idle(ax: Axes, frame: pd.DataFrame, stale: pd.Series) -> None:
    arms = list(ARMS_SHOWN)
    for offset, (pool, colour) in zip((-0.2, 0.2), POOLS.items(), strict=True):
        rows = frame[frame["quantity"] == pool].set_index("arm").loc[arms]
        positions = np.arange(len(arms)) + offset
        ax.barh(positions, rows["value"], 0.36, color=colour, alpha=0.8, label=pool)
        ax.errorbar(rows["value"], positions, xerr=_limits(rows), color=INK, linestyle="none", capsize=2)
    labels = [f"{SETTINGS.get(arm, ARMS[arm].label)}\n{stale[arm]:.1f} updates stale" for arm in arms]
    ax.set_yticks(range(len(arms)), labels, fontsize=7)
    ax.invert_yaxis()
    ax.set_xlim(left=0)
    ax.set_xlabel("share of all accelerator-seconds spent waiting")
    ax.set_title("c: which accelerators wait", loc="left")
    ax.legend(loc="best")


def _draw_ratios(ax: Axes, frame: pd.DataFrame) -> None:
    speeds = list(SPEED_PAIRS)
    for index, (quantity, (label, colour, marker)) in enumerate(RATIOS.items()):
        rows = frame[frame["quantity"] == quantity].set_index("speed").loc[speeds]
        positions = np.arange(len(speeds)) + RATIO_OFFSET * (index - 1)
        ax.errorbar(
            positions,
            rows["value"],
            _limits(rows.replace({"low": 0.0, "high": np.inf}, np.nan)),
            color=colour,
            marker=marker,
            linestyle="none",
            capsize=3,
            label=label,
        )
        for position, row in zip(positions, rows.itertuples(), strict=True):
            for open_ended, end in ((row.high == np.inf, ARROW), (row.low == 0, 1 / ARROW)):
                if open_ended:
                    ax.annotate(
                        "",
                        (position, row.value * end),
                        (position, row.value),
                        arrowprops={"arrowstyle": "->", "color": colour},
                    )
    ax.axhline(1, color=INK, linewidth=0.8, linestyle=":")
    ax.set_yscale("log")
    ax.margins(y=0.25)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xticks(range(len(speeds)), speeds)
    ax.set_xlim(-0.5, len(speeds) - 0.5)
    ax.set_xlabel("speed of decoding")
    ax.set_ylabel("ratio")
    add_title_and_legend(ax, f"d: PPO-off-policy-8 over PipelineRL-8, to a pass rate of {frame['level'].iloc[0]:.3f}")


def _limits(rows: pd.DataFrame) -> np.ndarray:
    """Distances of the limits below and above, as error bars take them; none where there is no limit."""
    return np.array([rows["value"] - rows["low"], rows["high"] - rows["value"]])
