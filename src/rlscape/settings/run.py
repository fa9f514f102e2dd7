"""Everything that determines one run."""

from pydantic import Field

from rlscape.schema import Settings
from rlscape.settings.base_model import AnyBase
from rlscape.settings.measurement import GeometrySettings
from rlscape.settings.precision import Precision
from rlscape.settings.recipe import Recipe
from rlscape.settings.training import (
    AdapterSettings,
    EvaluationSettings,
    MaskName,
    Method,
    Optimizer,
    PreferenceSettings,
    RLSettings,
    SFTSettings,
)
from rlscape.tasks.registry import Tasks


class RunSettings(Settings):
    """The same settings give the same run."""

    run: str
    """``<arm>-s<seed>``"""
    arm: str
    seed: int
    method: Method
    base_name: str
    base: AnyBase
    start: str | None = None
    """The run whose model is trained on."""
    teacher: str | None = Field(None, exclude_if=lambda teacher: teacher is None)
    """The run whose model samples what SFT trains on."""
    intervention: str | None = None
    tasks: Tasks
    """Where the problems come from; of metrics, the columns of the first one have no prefix."""
    part: tuple[int, int] | None = None
    """(i, n): only the i-th of n equal parts of the training problems."""
    evaluation: EvaluationSettings
    rl: RLSettings
    """For other methods only the generation budget, the optimiser's settings and the unit of compute."""
    recipe: Recipe | None = None
    sft: SFTSettings | None = None
    preference: PreferenceSettings | None = None
    optimizer: Optimizer = "adamw"
    storage: Precision = "fp32"
    adapter: AdapterSettings | None = None
    mask: MaskName | None = None
    geometry: GeometrySettings | None = None
    """Set if there is a mask: what is principal."""
    snapshots: bool = False
    drift_prompts: int = 0
