"""What the catalogue is made of: arms, and figures that name arms."""

from typing import Any, Literal

from rlscape.config import AdapterSettings, Paper
from rlscape.settings import MaskName, Optimizer, Precision, Settings

Method = Literal["rl", "sft", "dpo", "simpo"]

Measurement = Literal[
    "over_time", "landscape", "curvature", "pairs_footprint", "pairs_intervened", "matching", "operators"
]
"""What is measured beyond the geometry of single runs; the rules are in ``workflow/rules/measure.smk``."""


class Arm(Settings):
    """What distinguishes a set of runs; its seeds are in the scale's file."""

    paper: Paper
    method: Method
    label: str
    """The name in legends, the same in every figure."""
    recipe: str | None = None
    changes: dict[str, Any] = {}
    """Fields replaced by this arm: of the recipe; without a recipe, of the scale's settings of the method."""
    times: dict[str, float] = {}
    """The scale's settings of the method (e.g. :class:`rlscape.config.RLSettings`) that this arm multiplies."""
    engine: dict[str, Any] = {}
    """Fields of :class:`rlscape.config.RLSettings` replaced by this arm, before any is multiplied."""
    base: str | None = None
    """Base model; None: that of the paper's study."""
    start: str | None = None
    """An arm whose trained model of the same seed is trained on, instead of the base."""
    intervention: str | None = None
    """Function-preserving change of the base before training, a key of ``INTERVENTIONS``."""
    part: tuple[int, int] | None = None
    """(i, n): of a training pool n times as large, the i-th part; parts are disjoint."""
    adapter: AdapterSettings | None = None
    """Train an adapter only."""
    mask: MaskName | None = None
    """Train these entries of the matrices inside the blocks only."""
    optimizer: Optimizer = "adamw"
    storage: Precision = "fp32"
    """Of the weights between updates; bf16: no master copy, so that a small change is lost at once."""
    snapshots: bool = False
    """Keep the weights of every evaluation."""
    extra: bool = False
    """Not in a figure of the papers: runs where the scale's ``seeds.extras`` says so."""

    @property
    def restricted(self) -> bool:
        """Whether it trains an adapter or a mask: where its update lies was decided before."""
        return self.adapter is not None or self.mask is not None


def rl(
    label: str,
    recipe: str,
    paper: Paper = "scalerl",
    times: dict[str, float] | None = None,
    base: str | None = None,
    extra: bool = False,
    **changes: Any,
) -> Arm:
    """An arm of reinforcement learning; ``changes`` are recipe fields."""
    return Arm(
        paper=paper,
        method="rl",
        label=label,
        recipe=recipe,
        changes=changes,
        times=times or {},
        base=base,
        extra=extra,
    )


class Figure(Settings):
    """A figure or table of a paper, or a control: its panels need these arms."""

    paper: Paper
    stem: str
    """File name without suffix: ``fig05``, ``table1``, ``control_learning_rate``."""
    arms: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    """Arms that are shown where the scale runs them."""
    downstream: bool = False
    """Its arms are evaluated on the longer problems too."""
    divergence: bool = False
    """Its arms are tracked by the KL divergence from their start."""
    measurements: tuple[Measurement, ...] = ()
    """``over_time`` is measured on those of its arms that keep snapshots."""

    @property
    def target(self) -> str:
        """The Snakemake target, e.g. ``scalerl_fig5``."""
        number = self.stem.removeprefix("fig")
        return f"{self.paper}_fig{int(number)}" if number != self.stem else f"{self.paper}_{self.stem}"
