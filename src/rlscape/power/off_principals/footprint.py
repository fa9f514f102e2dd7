"""Worlds of the claims on which weights change: O3, O4 and O10."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from rlscape.catalogue import base_of, scratch_base, seeds_of
from rlscape.claims.off_principals.footprint import AXES
from rlscape.figures.off_principals.paper_values import TABLE_2
from rlscape.paths import run_name
from rlscape.power.off_principals.tables import TWICE, Maker, Tables, runs
from rlscape.power.worlds import Simulation
from rlscape.scaling.arm_comparison import MARGIN_SHARE

UNREAD = {"overlap": 0.0, "density_a": 1.0, "density_b": 1.0}
"""Columns of a pair that are mirrored and not judged."""

# O3


PHI = float(np.mean([column.phi for column in TABLE_2.values()]))
JACCARD = float(np.mean([column.jaccard - column.chance for column in TABLE_2.values()]))
"""Less J_0."""
# Paper: J and phi of Table 2, in every world, so there is no edge of J; no numbers for nulls or SFT. Here: magnitudes
# explain half of phi, as does an update's spectrum, and SFT shares four fifths of it.
BEYOND = {"binned": PHI / 2, "spectrum": PHI / 2, "sft": PHI / 5}
"""phi of two runs of RL less that of its nulls, and in fp32 less that of one of them with SFT."""


class Shared(NamedTuple):
    """What two runs of RL share."""

    share: float
    """Of :data:`BEYOND`."""
    at_margin: str = ""
    """Of which this one is just negligible."""


SHARED: dict[str, Shared] = {"holds": Shared(1.0), "fails": Shared(0.0)} | {
    f"edge {name}": Shared(1.0, name) for name in BEYOND
}
NOISY = ("phi", "phi_top", "jaccard", "binned", "spectrum")


def shared(simulation: Simulation, truth: Shared) -> Maker:
    """O3: what is a run's own adds to the similarity of all of its pairs, as it does between repeats of one recipe.

    What is a recipe's own is the same in every seed, and no scatter.
    """
    config, recorded = simulation.config, simulation.recorded.weights
    *_, supervised = arms = simulation.claim.arms
    beyond = {name: truth.share * value for name, value in BEYOND.items()}
    if truth.at_margin:
        beyond[truth.at_margin] = simulation.claim.threshold("negligible")
    # of phi, where that of an overlap less random is known
    scatter = recorded.spread["overlap_other"] * recorded.repeat / recorded.overlap

    def make(rng: np.random.Generator) -> Tables:
        def row(seed: int, a: str, b: str, noise: Mapping[str, float]) -> dict[str, object]:
            phi = PHI + noise["phi"]
            nulls = {f"phi_{null}": phi - beyond[null] - noise[null] for null in ("binned", "spectrum")}
            top = PHI - (beyond["sft"] if supervised in (a, b) else 0.0) + noise["phi_top"]
            jaccard = {"jaccard": JACCARD + noise["jaccard"], "jaccard_chance": 0.0}
            named = {"run_a": run_name(a, seed), "run_b": run_name(b, seed)}
            return {**named, "phi": phi, "phi_top": top, **nulls, **jaccard}

        measured = []
        for seed in seeds_of(config, *arms):
            own = {arm: pd.Series(rng.normal(0, scatter, len(NOISY)), NOISY) for arm in arms}
            measured += [row(seed, a, b, own[a] + own[b]) for a, b in combinations(arms, 2)]
        return {"geometry/pairs_footprint.parquet": pd.DataFrame(measured)}

    return make


# O4


class Striped(NamedTuple):
    """What the share of the variance between lines along the claimed axis exceeds others by, in negligible ones."""

    across: float
    """That along the other axis."""
    binned: float
    spectrum: float
    """Those of the nulls."""


STRIPED_KINDS = ("q", "k", "v", "o")
CLAIMED = Striped(TWICE, TWICE, TWICE)
# Paper: no numbers.
STRIPED: dict[str, dict[str, Striped]] = {
    "holds": dict.fromkeys(STRIPED_KINDS, CLAIMED),
    "fails": dict.fromkeys(STRIPED_KINDS, Striped(0.0, 0.0, 0.0)),
    **{
        f"edge {kind} {other}": dict.fromkeys(STRIPED_KINDS, CLAIMED) | {kind: CLAIMED._replace(**{other: 1.0})}
        for kind in STRIPED_KINDS
        for other in Striped._fields
    },
}
"""World -> kind of matrix -> its stripes."""


def striped(simulation: Simulation, truth: Mapping[str, Striped]) -> Maker:
    """O4: masks of independent entries, whose rows and columns differ in density as those of recorded updates do.

    Nulls have stripes too: weights of equal magnitude may lie in lines, and any update of low rank has some. Runs of
    one base have their lines in common to the degree in which their masks agree.
    """
    import torch

    from rlscape.geometry.one_density import HALF
    from rlscape.geometry.pairs import stripe_share  # imports torch

    config, claim, recorded = simulation.config, simulation.claim, simulation.recorded.weights
    changed, _ = recorded.changed
    # Densities p of isotropic updates vary by sin(pi p) / pi of what the logarithm of their size varies by.
    level = (np.sin(np.pi * HALF) / np.sin(np.pi * changed) * recorded.spread["line"]) ** 2 / (HALF * (1 - HALF))
    negligible = claim.threshold("negligible")
    most = level + TWICE * negligible

    def mask(lines: Mapping[str, np.ndarray], shares: Mapping[str, float], rng: np.random.Generator) -> torch.Tensor:
        row, column = (np.sqrt(shares[axis] * HALF * (1 - HALF)) * lines[axis] for axis in ("row", "column"))
        return torch.from_numpy(rng.random((len(row), len(column))) < HALF + row[:, None] + column)

    def of_runs(
        count: int, shape: tuple[int, int], along: str, across: str, less: Striped, rng: np.random.Generator
    ) -> Iterator[dict[str, float]]:
        shares = {along: most, across: most - less.across * negligible}
        lines = dict(zip(("row", "column"), shape, strict=True))
        common = {axis: _standard(rng.normal(size=length)) for axis, length in lines.items()}
        for _ in range(count):
            own, *of_nulls = ({axis: rng.normal(size=length) for axis, length in lines.items()} for _ in range(3))
            mixed = {
                axis: np.sqrt(recorded.repeat) * common[axis] + np.sqrt(1 - recorded.repeat) * own[axis] for axis in own
            }
            found = mask(mixed, shares, rng)
            columns = {f"{axis}_stripes": stripe_share(found, axis) for axis in shares}
            columns |= {f"{name}_top": share for name, share in columns.items()}
            for null, of_null in zip(("binned", "spectrum"), of_nulls, strict=True):
                share = most - getattr(less, null) * negligible
                drawn = mask(of_null, dict.fromkeys(shares, share), rng)
                columns |= {f"{axis}_stripes_{null}": stripe_share(drawn, axis) for axis in shares}
            yield columns

    def make(rng: np.random.Generator) -> Tables:
        measured = []
        for arm in claim.arms:
            model = scratch_base(config, base_of(config, arm)).model
            q, kv = model.heads * model.head_dim, model.kv_heads * model.head_dim
            shapes = {"q": (q, model.hidden_size), "o": (model.hidden_size, q)}
            for kind, side in claim.directions.items():
                shape = shapes.get(kind, (kv, model.hidden_size))
                for _ in range(model.layers):
                    found = of_runs(config.seeds[arm], shape, *AXES[side], truth[kind], rng)
                    measured += [
                        {"run": run_name(arm, seed), "view": "stored", "kind": kind} | columns
                        for seed, columns in zip(seeds_of(config, arm), found, strict=True)
                    ]
        return {"geometry/stripes_intervened.parquet": pd.DataFrame(measured)}

    return make


def _standard(values: np.ndarray) -> np.ndarray:
    """With mean 0 and the variance 1 that a sample of so many has in expectation, as those of nulls have."""
    return (values - values.mean()) / values.std(ddof=1)


# O10


class Falls(NamedTuple):
    """Shares of the overlap less random that are lost."""

    changed: float = 1.0
    """In changed matrices. Paper: all of it."""
    other: float = 0.0
    """Paper: nothing."""


# What is lost in changed matrices and what remains there make up the whole: the former has no edge of its own.
FALLS: dict[str, Falls] = {
    "holds": Falls(),
    "fails": Falls(changed=0.0),
    "edge remains": Falls(changed=1 - MARGIN_SHARE),
    "edge elsewhere": Falls(other=MARGIN_SHARE),
}
EDITS = {"changed": "rotated", "other": "none"}
"""Tensor -> what was done to it in the base."""


def following(simulation: Simulation, falls: Falls) -> Maker:
    """O10: every run adds its own to the overlap of all of its pairs; undone, nothing is lost."""
    config, recorded = simulation.config, simulation.recorded.weights
    reference, changed = simulation.claim.arms
    lost = {tensor: share * recorded.overlap for tensor, share in falls._asdict().items()}
    scatter = {"changed": recorded.spread["overlap_changed"], "other": recorded.spread["overlap_other"]}

    def make(rng: np.random.Generator) -> Tables:
        measured = []
        every = [(run, arm) for run, arm, _ in runs(config, simulation.claim.arms)]
        for tensor, edit in EDITS.items():
            own = {
                (run, edited): rng.normal(0, scatter["changed" if edited and edit != "none" else "other"])
                for run, _ in every
                for edited in (False, True)
            }
            for (run_a, arm_a), (run_b, arm_b) in combinations(every, 2):
                crossed = {arm_a, arm_b} == {reference, changed}
                for view in ("stored", "undone") if crossed else ("stored",):
                    stored = crossed and view == "stored"
                    gone = stored and edit != "none"
                    excess = recorded.overlap + own[run_a, gone] + own[run_b, gone] - (lost[tensor] if stored else 0.0)
                    identity = {"run_a": run_a, "run_b": run_b, "view": view, "tensor": tensor, "edit": edit}
                    measured.append(identity | UNREAD | {"overlap": excess + 1, "overlap_chance": 1.0})
        return {"geometry/pairs_intervened.parquet": pd.DataFrame(measured)}

    return make
