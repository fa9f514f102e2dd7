"""What the catalogue is made of: arms, and figures that name arms."""

from typing import Any, Literal, Self, assert_never

from pydantic import model_validator

from rlscape.schema import Settings
from rlscape.settings.precision import Precision
from rlscape.settings.scale import Paper
from rlscape.settings.training import AdapterSettings, MaskName, Method, Optimizer
from rlscape.tasks.registry import TaskName

Measurement = Literal[
    "masks",
    "spectra",
    "over_time",
    "landscape",
    "curvature",
    "pairs_footprint",
    "pairs_intervened",
    "pairs_shared",
    "matching",
    "recorded_sizes",
    "operators",
    "margins",
    "ratios",
]
"""What is measured beyond the geometry of single runs; the rules are in ``workflow/rules/measure.smk``."""


TRL_OPTIMIZERS: tuple[Optimizer, ...] = ("adamw", "sgd")
"""Of runs that ``trl`` trains."""


class Arm(Settings):
    """What distinguishes a set of runs; its seeds are in the scale's file."""

    paper: Paper
    method: Method
    label: str
    """The name in legends, the same in every figure."""
    recipe: str | None = None
    changes: dict[str, Any] = {}
    """Fields replaced by this arm: of the recipe; without a recipe, of the scale's settings of the method."""
    at_rl_rate: bool = False
    """SFT at the learning rate of the study's RL, times ``scaled``."""
    scaled: dict[str, float] = {}
    """The scale's settings of the method (e.g. :class:`rlscape.settings.training.RLSettings`) that this arm
    multiplies."""
    settings: dict[str, Any] = {}
    """Fields of :class:`rlscape.settings.training.RLSettings` replaced by this arm, before any is multiplied."""
    base: str | None = None
    """Base model; None: that of the paper's study, which each scale's file names (``scalerl.base``)."""
    tasks: tuple[TaskName, ...] | None = None
    """Where the problems come from; None: of the recipe's tasks, and without a recipe from math."""
    start: str | None = None
    """An arm whose trained model of the same seed is trained on, instead of the base."""
    teacher: str | None = None
    """An arm whose trained model of the same seed samples the completions that SFT trains on, in place of the base."""
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

    @model_validator(mode="after")
    def _possible(self) -> Self:
        of_rl = ("recipe", "mask", "adapter", "part", "storage")
        given = [name for name in of_rl if getattr(self, name) != Arm.model_fields[name].default]
        match self.method:
            case "rl":
                if self.recipe is None:
                    raise ValueError("recipe: missing; reinforcement learning has one")
            case "sft" | "dpo" | "simpo":
                if given:
                    raise ValueError(f"{', '.join(given)}: for reinforcement learning only; leave out")
                if self.optimizer not in TRL_OPTIMIZERS:
                    raise ValueError(f"optimizer: {self.method} has {', '.join(TRL_OPTIMIZERS)}")
            case _:
                assert_never(self.method)
        if self.at_rl_rate and (self.method != "sft" or "learning_rate" in self.changes):
            raise ValueError("at_rl_rate: for sft, which then has no other learning_rate; leave one out")
        if self.teacher and self.changes.get("data") not in ("self", "likeliest"):
            raise ValueError("teacher: samples nothing; for sft with data: self or likeliest")
        if self.mask and self.adapter:
            raise ValueError("mask, adapter: an arm has one of them")
        if self.intervention and self.start:
            raise ValueError("intervention, start: an arm has one of them")
        if self.part and not 0 <= self.part[0] < self.part[1]:
            raise ValueError(f"part: {self.part} is no (i, n) with 0 <= i < n")
        return self

    @property
    def restricted(self) -> bool:
        """Whether it trains an adapter or a mask: where its update lies was decided before."""
        return self.adapter is not None or self.mask is not None


def arm(label: str, recipe: str | None = None, *, paper: Paper, method: Method, **changes: Any) -> Arm:
    """An arm of one line; each paper's file binds ``paper`` and ``method`` once.

    Args:
        recipe: a name in :mod:`rlscape.catalogue.recipes`; reinforcement learning only.
        changes: fields of :class:`Arm`, and fields of the recipe (without one, of the method's settings) that this arm
            replaces.
    """
    own = {name: changes.pop(name) for name in Arm.model_fields if name in changes}
    return Arm(paper=paper, method=method, label=label, recipe=recipe, changes=changes, **own)


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
    """``over_time`` is measured on those of its arms that keep snapshots, ``masks`` on the first run of each."""

    @property
    def target(self) -> str:
        """The Snakemake target, e.g. ``scalerl_fig5``."""
        number = self.stem.removeprefix("fig")
        return f"{self.paper}_fig{int(number)}" if number != self.stem else f"{self.paper}_{self.stem}"
