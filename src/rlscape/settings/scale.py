"""A scale: one YAML file, every number of the pipeline in it.

A scale's file is complete in itself: nothing is inherited from another file. What differs between runs of one scale
(the recipe, an ablation) is in :mod:`rlscape.catalogue`.
"""

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, field_validator, model_validator

from rlscape.schema import Settings
from rlscape.settings.base_model import AnyBase, BaseSettings
from rlscape.settings.measurement import FitSettings, GeometrySettings
from rlscape.settings.precision import Device
from rlscape.settings.training import EvaluationSettings, PreferenceSettings, RLSettings, SFTSettings
from rlscape.tasks.registry import TASKS, Tasks
from rlscape.tasks.sets import task_of

Paper = Literal["scalerl", "off_principals"]


class StudySettings(Settings):
    """What one paper's runs share at this scale."""

    base: str
    rl: RLSettings
    sft: SFTSettings | None = None
    preference: PreferenceSettings | None = None
    evaluation: EvaluationSettings
    sft_evaluations: int | None = Field(None, ge=2)
    """Of SFT's runs, in place of ``evaluation.evaluations``: they learn most in their first steps."""
    drift_prompts: int = Field(0, ge=0)
    """Reference traces on which divergences from the start are measured after every update, in the arms of figures that
    show them; see :mod:`rlscape.training.drift`. 0: not measured."""


class Config(Settings):
    """One scale."""

    scale: str = Field(pattern=r"^[a-z0-9_]+$")
    results: Path = Path("results")
    """Root of all results; runs are in ``<results>/<scale>/runs``."""
    figures: Path = Path("figures")
    """Root of all figures; they are in ``<figures>/<scale>/<paper>``."""
    device: Device = "cpu"
    """Where models are trained and sampled; everything else runs on the CPU."""
    tasks: Tasks
    """Of every task that a base or an arm knows: its settings."""
    bases: dict[str, AnyBase]
    scalerl: StudySettings
    off_principals: StudySettings
    fit: FitSettings
    geometry: GeometrySettings
    seeds: dict[str, int]
    """Recorded seeds per arm of the catalogue: how many. ``others``: every arm that is not named, by default 0, which
    leaves them out; ``extras``: those of the arms that no figure of the papers needs, by default 0; ``pilots``:
    those of every arm that pilots choose among, by default 0; see :mod:`rlscape.catalogue.pilots`."""
    first_seed: int = Field(0, ge=0)
    """Where the seeds of every arm start: 5 seeds from 10 on are 10-14. Seeds that were seen while criteria were made
    decide nothing."""
    targets: tuple[str, ...] | None = None
    """The figures of the scale, such as ``scalerl_fig5``, which then runs their arms only; None: every figure whose
    arms it runs."""

    recorded_sizes: Path | None = Field(None, exclude_if=lambda path: path is None)
    """The table of ``off_principals_control_model_size`` as another scale recorded it, whose runs that figure shows
    beside this scale's: a pretrained model beside widths trained from scratch."""

    @field_validator("seeds")
    @classmethod
    def _no_negative_seeds(cls, seeds: dict[str, int]) -> dict[str, int]:
        for arm, count in seeds.items():
            if count < 0:
                raise ValueError(f"{arm}: needs a number of seeds, got {count}")
        return seeds

    @model_validator(mode="after")
    def _bases_exist(self) -> "Config":
        for paper in get_args(Paper):
            base = getattr(self, paper).base
            if base not in self.bases:
                raise ValueError(f"{paper}.base: no base {base!r} under bases (there are {sorted(self.bases)})")
        scratch = {name: base for name, base in self.bases.items() if isinstance(base, BaseSettings)}
        for name, base in scratch.items():
            for task in base.pretraining.mix:
                key = f"bases.{name}.pretraining.mix.{task}"
                if task not in self.tasks:
                    known = ", ".join(self.tasks)
                    raise ValueError(f"{key}: tasks.{task} is missing; add it, or take one of {known}")
                if task_of(task, self.tasks[task]).in_words:
                    others = ", ".join(source for source, other in TASKS.items() if not other.in_words)
                    raise ValueError(
                        f"{key}: tasks.{task} is in words, which only a checkpoint's tokenizer can write; "
                        f"pretraining takes tasks whose source is {others}"
                    )
        return self
