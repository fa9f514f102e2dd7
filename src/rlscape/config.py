"""Typed, validated configuration: one YAML file per scale, every number of the pipeline in it.

Torch-free, so that Snakemake and the command line start quickly. A scale's file is complete in itself:
nothing is inherited from another file. What differs between runs of one scale (the recipe, an ablation)
is in :mod:`rlscape.catalogue`.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, assert_never, get_args

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from rlscape.errors import ConfigError
from rlscape.settings import Device, Precision, Settings

Architecture = Literal["qwen3", "qwen3_moe", "llama", "mistral"]
Paper = Literal["scalerl", "off_principals"]


class ModelSettings(Settings):
    """Shape of a causal language model built from scratch."""

    architecture: Architecture = "qwen3"
    vocab_size: int = Field(64, ge=23)
    """Rows of embedding and head. The words of the tasks (:mod:`rlscape.tasks.vocabulary`) take the first ones;
    arithmetic alone needs 23."""
    hidden_size: int = Field(ge=8)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=4)
    intermediate_size: int = Field(ge=8)
    """Of a mixture: the size of each expert."""
    experts: int | None = Field(None, ge=1)
    experts_per_token: int | None = Field(None, ge=1)
    """Both for qwen3_moe only: a mixture of experts in every layer."""

    @model_validator(mode="after")
    def _mixture(self) -> "ModelSettings":
        experts, per_token = self.experts, self.experts_per_token
        match self.architecture:
            case "qwen3_moe":
                fits = experts is not None and per_token is not None and per_token <= experts
            case "qwen3" | "llama" | "mistral":
                fits = experts is None and per_token is None
            case _:
                assert_never(self.architecture)
        if not fits:
            raise ValueError(
                f"experts ({experts}) and experts_per_token ({per_token}) do not suit {self.architecture}: "
                "qwen3_moe needs both, with experts_per_token <= experts; other architectures take neither"
            )
        return self

    @model_validator(mode="after")
    def _grouped(self) -> "ModelSettings":
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        return self


class MathSettings(Settings):
    """Chains of modular arithmetic; see :mod:`rlscape.tasks.math`."""

    modulus: int = Field(10, ge=2, le=10)
    operations: tuple[int, int]
    """Fewest and most operations of a training or validation problem, inclusive."""
    downstream_operations: tuple[int, int]
    """The same for the harder held-out set (the stand-in for AIME)."""
    pool_size: int = Field(ge=1)
    """Training problems; an epoch is one pass through them."""
    validation_size: int = Field(ge=1)
    downstream_size: int = Field(ge=1)
    seed: int = 0
    """Seed of the three sets, the same for every run."""


class CodeSettings(Settings):
    """Stack programs from input/output examples; see :mod:`rlscape.tasks.code`."""

    modulus: int = Field(10, ge=3, le=10)
    """At least 3: two inputs are shown, the others decide."""
    operations: tuple[int, int]
    """Fewest and most operations of a training or validation problem, inclusive."""
    downstream_operations: tuple[int, int]
    """The same for the harder held-out set (the stand-in for LiveCodeBench)."""
    pool_size: int = Field(ge=1)
    """Training problems; an epoch is one pass through them."""
    validation_size: int = Field(ge=1)
    downstream_size: int = Field(ge=1)
    seed: int = 0


class AgentTaskSettings(Settings):
    """One task of tool use; see :mod:`rlscape.tasks.agents`."""

    operations: tuple[int, int]
    """Fewest and most operations of a training or validation problem, inclusive: steps of the calculator, hops of
    the search, places of the planning world."""
    downstream_operations: tuple[int, int]
    """The same for the harder held-out set."""
    pool_size: int = Field(ge=1)
    """Training problems; an epoch is one pass through them."""
    validation_size: int = Field(ge=1)
    downstream_size: int = Field(ge=1)
    seed: int = 0


class AgentSettings(Settings):
    """Multi-turn tool use, task by task."""

    calculator: AgentTaskSettings
    search: AgentTaskSettings
    planning: AgentTaskSettings


class PretrainSettings(Settings):
    """How a base model is made, with the flaws that leave reinforcement learning something to do."""

    steps: int = Field(ge=0)
    """0: the base stays as it was initialised."""
    sequences_per_step: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    operations: tuple[int, int]
    """Fewest and most operations; the maximum grows linearly over the first half of the steps."""
    tail_operations: tuple[int, int] | None = None
    """Fewest and most operations of a thin tail of longer problems, in the second half of the steps."""
    tail_rate: float = Field(0.0, ge=0, le=1)
    """Share of the problems that come from the tail."""
    flawed_from: float = Field(ge=0, le=1)
    """Fraction of the steps after which flawed traces are mixed in."""
    wrong_step_rate: float = Field(ge=0, le=1)
    """Flawed phase: probability that an intermediate result is off."""
    thoughtless_rate: float = Field(ge=0, le=1)
    """Flawed phase: share of traces that answer without thinking."""
    interrupted_rate: float = Field(ge=0, le=1)
    """Share of traces whose thinking is cut short by the interruption phrase."""
    code_rate: float = Field(0.0, ge=0, le=1)
    """Share of the sequences that are code problems."""
    agent_rate: float = Field(0.0, ge=0, le=1)
    """Share of the sequences that are problems of tool use, equally among the three tasks."""
    seed: int = 0

    @model_validator(mode="after")
    def _shares(self) -> "PretrainSettings":
        if self.code_rate + self.agent_rate > 1:
            raise ValueError(f"code_rate ({self.code_rate}) and agent_rate ({self.agent_rate}) exceed 1 together")
        return self


class BaseSettings(Settings):
    """A base model: its shape and its pretraining."""

    model: ModelSettings
    pretraining: PretrainSettings
    precision: Precision = "bf16"
    """Of the values at the end of pretraining, which are stored in fp32 either way; bf16: rounded to that grid."""


class EvaluationSettings(Settings):
    """Held-out evaluation during a run. Samples = prompts x samples_per_prompt."""

    evaluations: int = Field(ge=2)
    """Evaluations after the one at step 0, evenly spaced; the last is at the final step."""
    prompts: int = Field(ge=1)
    samples_per_prompt: int = Field(ge=1)
    final_factor: int = Field(4, ge=1)
    """The final evaluation draws this many times more samples per prompt."""
    downstream_prompts: int = Field(ge=0)
    downstream_samples_per_prompt: int = Field(1, ge=1)

    def steps(self, total: int) -> list[int]:
        """When to evaluate a run of ``total`` steps, step 0 included."""
        return sorted({round(index * total / self.evaluations) for index in range(self.evaluations + 1)})


class RLSettings(Settings):
    """The scale of an RL run: what P1's numbers shrink to. The recipe itself is in the catalogue."""

    steps: int = Field(ge=2)
    """Optimiser steps at the paper's 48 prompts per batch; other batches get as many prompts, hence other steps."""
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    weight_decay: float = Field(0.01, ge=0)
    adam_betas: tuple[float, float] = (0.9, 0.999)
    adam_epsilon: float = Field(1e-15, gt=0)
    max_gradient_norm: float = Field(1.0, gt=0)
    prompt_scale: float = Field(0.25, gt=0)
    """Prompts per batch here over the paper's (48 -> 12)."""
    thinking_tokens: int = Field(ge=2)
    answer_tokens: int = Field(ge=2)
    """Budgets in the paper's ratio 6:1 (12,288 and 2,048). A completion is at most their sum."""
    interruption_window: tuple[float, float] = (10 / 14, 12 / 14)
    """The forced interruption falls uniformly in this part of the output budget (10k-12k of 14k)."""
    penalty_window: float = Field(2 / 14, gt=0, le=1)
    """L_cache / L_max of the length penalty (P1, Eq 9)."""
    generator_accelerators: int = Field(64, ge=1)
    trainer_accelerators: int = Field(16, ge=1)
    decode_utilisation: float = Field(1 / 12, gt=0)
    """FLOP utilisation of decoding relative to training.
    Paper: only the 64:16 split is stated. Here: the split is read as the one at which neither pool waits:
    2N / (64 u) = 6N / 16, hence u = 1/12."""
    accelerator_flops: float = Field(1e9, gt=0)
    """FLOP/s of one virtual accelerator while training; sets the unit of compute only."""
    micro_batch_tokens: int = Field(2048, ge=64)
    """Completion tokens per forward-backward pass; a limit on memory; the gradient stays but for rounding."""
    generator_precision: Precision = "bf16"
    """Of the generator's body; its head's is the recipe's."""
    checkpoint_seconds: float = Field(60.0, ge=0)
    """Wall-clock time between resumable checkpoints; without effect on the result."""


class AdapterSettings(Settings):
    """A low-rank adapter on every matrix inside the blocks; see :mod:`rlscape.adapters`."""

    kind: Literal["lora", "pissa", "milora", "subspace"]
    rank: int = Field(ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)


class SFTSettings(Settings):
    """Supervised fine-tuning on correct traces of the training problems."""

    steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    sequences_per_step: int = Field(ge=1)
    warmup_steps: int = Field(0, ge=0)
    data: Literal["reference", "self", "likeliest"] = "reference"
    """Reference traces, or correct completions that the model sampled itself before training: as many as there are
    reference traces, or of every problem the one that it finds likeliest."""
    samples_per_prompt: int = Field(16, ge=1)
    """Completions sampled for each training problem, unless traces are the reference's."""
    noise: float = Field(0.0, ge=0)
    """Each sequence's loss is multiplied by 1 + noise z, z standard normal and drawn anew at every step."""


class PreferenceSettings(Settings):
    """Preference tuning on pairs of a correct and an incorrect completion; see :mod:`rlscape.preference`."""

    steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    pairs_per_step: int = Field(ge=1)
    warmup_steps: int = Field(0, ge=0)
    samples_per_prompt: int = Field(16, ge=2)
    """Completions sampled for each training problem, of which pairs are made."""
    beta: float = Field(0.1, gt=0)
    """Of DPO: weight of the divergence from the base; of SimPO: scale of the margin.
    Paper (arXiv 2511.08567): measures public checkpoints, without their settings. Here: ``trl``'s defaults, as for
    ``simpo_gamma``."""
    simpo_gamma: float = Field(0.5, ge=0)
    """Target margin of SimPO."""


class FitSettings(Settings):
    """Curve fits; see :mod:`rlscape.scaling`."""

    fit_fraction: float = Field(0.5, gt=0, lt=1)
    """Share of the compute that a forecast may see."""
    skip_fraction: float = Field(0.0, ge=0, lt=1)
    """Share of the fitted compute at the start that is left out (P1 starts fits after the first epoch)."""
    minimum_reach: float = Field(2.0, gt=0)
    """A forecast is refused when the data end before this many fitted C_mid."""
    bootstrap_draws: int = Field(ge=1)
    confidence: float = Field(0.95, gt=0, lt=1)


class LandscapeSettings(Settings):
    """The slice of the loss through two trained models; see :mod:`rlscape.geometry.landscape`."""

    points: int = Field(13, ge=2)
    """Per axis."""
    low: float = -0.25
    high: float = 1.25
    """Ends of both axes, in shares of each final update; an axis goes on as far as a path does."""
    traces: int = Field(64, ge=1)
    """Reference traces of validation problems on which a point is measured."""


class CurvatureSettings(Settings):
    """Curvature along directions; see :mod:`rlscape.geometry.curvature`."""

    batches: int = Field(16, ge=2)
    traces_per_batch: int = Field(4, ge=1)
    """Reference traces of validation problems; no two batches share one."""
    indices: int = Field(4, ge=1)
    """Singular indices inside, and as many outside the principal subspace, whose pairs are directions."""
    probes: int = Field(2, ge=1)
    """Random directions in the coordinates of each bin, inside the principal mask and as many outside."""
    isotropic: int = Field(10, ge=1)
    """Isotropic directions per matrix and in the whole model."""
    magnitude_bins: int = Field(5, ge=1)
    """Equally large bins of |W0|, in each of which principal entries and others are compared."""


class GeometrySettings(Settings):
    """Weight geometry; see :mod:`rlscape.geometry`."""

    rank_fraction: float = Field(gt=0, le=1)
    """k / min(m, n) of the principal subspace."""
    mask_density: float = Field(0.5, gt=0, lt=1)
    """alpha, the share of entries in the principal and in the low-magnitude mask."""
    null_draws: int = Field(ge=1)
    magnitude_bins: int = Field(50, ge=2)
    landscape: LandscapeSettings = LandscapeSettings()
    curvature: CurvatureSettings = CurvatureSettings()


class LayerEdit(Settings):
    """A change of one layer's attention that leaves the function as it is."""

    depth: float = Field(ge=0, lt=1)
    """Share of the layers that lie below: layer ``int(depth * layers)``, counted from 0."""
    rotate: bool = False
    """The value channels of every head, in the value and the output projection."""
    permute: bool = False
    """The heads, in groups that share a key and value head."""


class Intervention(Settings):
    """Function-preserving change of a base model; see :mod:`rlscape.models.interventions`."""

    edits: tuple[LayerEdit, ...] = Field(min_length=1)
    seed: int = 0
    """Of the rotations and permutations."""


class StudySettings(Settings):
    """What one paper's runs share at this scale."""

    base: str
    rl: RLSettings
    sft: SFTSettings | None = None
    preference: PreferenceSettings | None = None
    evaluation: EvaluationSettings
    drift_prompts: int = Field(0, ge=0)
    """Reference traces on which divergences from the start are measured after every update, in the arms of figures that
    show them; see :mod:`rlscape.rl.drift`. 0: not measured."""


class Config(Settings):
    """One scale."""

    scale: str = Field(pattern=r"^[a-z0-9_]+$")
    results: Path = Path("results")
    """Root of all results; runs are in ``<results>/<scale>/runs``."""
    figures: Path = Path("figures")
    """Root of all figures; they are in ``<figures>/<scale>/<paper>``."""
    device: Device = "cpu"
    """Where models are trained and sampled; everything else runs on the CPU."""
    math: MathSettings
    code: CodeSettings
    agents: AgentSettings
    """Needed by arms with tasks of tool use."""
    bases: dict[str, BaseSettings]
    scalerl: StudySettings
    off_principals: StudySettings
    fit: FitSettings
    geometry: GeometrySettings
    seeds: dict[str, int]
    """Recorded seeds per arm of the catalogue: 5 means seeds 0-4. ``others``: every arm that is not named;
    ``extras``: those of the arms that no figure of the papers needs, by default 0."""

    @field_validator("seeds")
    @classmethod
    def _no_negative_seeds(cls, seeds: dict[str, int]) -> dict[str, int]:
        for arm, count in seeds.items():
            if count < 0:
                raise ValueError(f"{arm}: needs a number of seeds, got {count}")
        return seeds

    @model_validator(mode="after")
    def _bases_exist(self) -> "Config":
        for paper in ("scalerl", "off_principals"):
            base = getattr(self, paper).base
            if base not in self.bases:
                raise ValueError(f"{paper}.base: no base {base!r} under bases (there are {sorted(self.bases)})")
        return self

    @property
    def results_dir(self) -> Path:
        return self.results / self.scale

    @property
    def figures_dir(self) -> Path:
        return self.figures / self.scale


def _known_keys(settings: type[Settings], location: tuple[int | str, ...]) -> list[str]:
    """The keys allowed beside the last element of ``location``."""
    for part in location[:-1]:
        field = settings.model_fields.get(str(part))
        if field is None:
            continue  # a name in a dictionary of settings
        types = (field.annotation, *get_args(field.annotation))
        settings = next(kind for kind in types if isinstance(kind, type) and issubclass(kind, Settings))
    return list(settings.model_fields)


def describe(error: ValidationError, settings: type[Settings], source: str) -> str:
    """One line per problem: the file, the dotted key, what is wrong and what to do."""
    lines = []
    for problem in sorted(error.errors(), key=lambda problem: problem["type"] == "missing"):  # typos first
        location = problem["loc"]
        key = ".".join(str(part) for part in location) or "(top level)"
        if problem["type"] == "extra_forbidden":
            known = _known_keys(settings, location)
            close = difflib.get_close_matches(str(location[-1]), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"allowed here: {', '.join(known)}"
            lines.append(f"{source}: {key}: unknown key; {hint}")
        elif problem["type"] == "missing":
            lines.append(f"{source}: {key}: missing; add it (the other files in config/ show an example)")
        else:
            lines.append(f"{source}: {key}: {problem['msg']} (got {problem['input']!r})"[:500])
    return "\n".join(lines)


def parse_config(values: Mapping[str, Any], source: str) -> Config:
    """Validate a mapping read from ``source``.

    Raises:
        ConfigError: a key is unknown or missing, or a value is invalid.
    """
    try:
        return Config.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(describe(error, Config, source)) from None


def load_config(path: str | Path) -> Config:
    """Read and validate a scale's YAML file.

    Raises:
        ConfigError: the file is missing, is not YAML, or does not describe a scale.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; the scales are in config/") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, got {type(values).__name__}")
    return parse_config(values, str(path))
