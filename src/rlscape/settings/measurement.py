"""How finished runs are measured (curve fits, weight geometry), and how a base is changed that computes the same."""

from pydantic import Field

from rlscape.schema import Settings


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
    draws: int = Field(16, ge=1)
    """Gradients per batch, over which quotients are averaged; each is a backward pass."""
    groups: int = Field(4, ge=1)
    """Groups of neighbouring singular indices inside, and as many outside the principal subspace."""
    magnitude_bins: int = Field(5, ge=1)
    """Equally large bins of |W0|, in each of which principal entries and others are compared."""


class GeometrySettings(Settings):
    """Weight geometry; see :mod:`rlscape.geometry`."""

    rank_fraction: float = Field(gt=0, le=1)
    """k / min(m, n) of the principal subspace."""
    mask_density: float = Field(0.5, gt=0, lt=1)
    """alpha, the share of entries in the principal and in the low-magnitude mask."""
    null_draws: int = Field(ge=1)
    block_stride: int = Field(1, ge=1, exclude_if=lambda stride: stride == 1)
    """The matrices of every so many-th block are measured, from the first on; where a base is changed (Figure 6),
    changed blocks should be among them. Sizes and sparsity of a whole update count every block."""
    stratum_bits: int = Field(2, ge=0, le=7)
    """Leading mantissa bits that weights of one stratum share, among which the binned nulls permute; 7: one bf16 value.

    2 is the least at which an update that follows magnitude alone, with 1% to 90% of the entries changed, exceeds its
    null by less than what counts as negligible in the claims (tests/test_nulls.py).
    """
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
