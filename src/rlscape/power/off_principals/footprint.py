"""Worlds of the claims on which weights change: O3, O4 and O10."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from rlscape.catalogue import base_of, seeds_of
from rlscape.claims.off_principals.footprint import AXES
from rlscape.figures.off_principals.paper_values import TABLE_2
from rlscape.paths import run_name
from rlscape.power.off_principals.tables import TWICE, Maker, Tables, runs
from rlscape.power.worlds import Simulation

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

STRIPED: dict[str, float] = {"holds": TWICE, "fails": 0.0}
"""Share of the variance between lines along the claimed axis beyond that along the other one, in negligible ones.
Paper: no numbers."""
DENSITY = 0.5


def striped(simulation: Simulation, along_claimed: float) -> Maker:
    """O4: masks of independent entries, whose rows and columns differ in density as those of recorded updates do.

    Rotated updates have as much along either axis (any update of low rank has stripes). Runs of one base have their
    lines in common to the degree in which their masks agree.
    """
    import torch

    from rlscape.geometry.pairs import stripe_share  # imports torch

    config, claim, recorded = simulation.config, simulation.claim, simulation.recorded.weights
    changed, _ = recorded.changed
    level = recorded.spread["line"] ** 2 / (changed * (1 - changed))
    beyond = along_claimed * claim.threshold("negligible")

    def mask(lines: Mapping[str, np.ndarray], shares: Mapping[str, float], rng: np.random.Generator) -> torch.Tensor:
        row, column = (np.sqrt(shares[axis] * DENSITY * (1 - DENSITY)) * lines[axis] for axis in ("row", "column"))
        return torch.from_numpy(rng.random((len(row), len(column))) < DENSITY + row[:, None] + column)

    def of_runs(
        count: int, shape: tuple[int, int], along: str, across: str, rng: np.random.Generator
    ) -> Iterator[dict[str, float]]:
        shares = {along: level + beyond, across: level}
        of_null = dict.fromkeys(shares, level)
        lines = dict(zip(("row", "column"), shape, strict=True))
        common = {axis: _standard(rng.normal(size=length)) for axis, length in lines.items()}
        for _ in range(count):
            own, rotated = ({axis: rng.normal(size=length) for axis, length in lines.items()} for _ in range(2))
            mixed = {
                axis: np.sqrt(recorded.repeat) * common[axis] + np.sqrt(1 - recorded.repeat) * own[axis] for axis in own
            }
            found = mask(mixed, shares, rng)
            permuted = torch.from_numpy(rng.permutation(found.numpy().ravel()).reshape(shape))
            columns = {f"{axis}_stripes": stripe_share(found, axis) for axis in shares}
            columns |= {f"{name}_top": share for name, share in columns.items()}
            columns[f"{along}_stripes_binned"] = stripe_share(permuted, along)
            columns[f"{along}_stripes_spectrum"] = stripe_share(mask(rotated, of_null, rng), along)
            yield columns

    def make(rng: np.random.Generator) -> Tables:
        measured = []
        for arm in claim.arms:
            model = config.bases[base_of(config, arm)].model
            q, kv = model.heads * model.head_dim, model.kv_heads * model.head_dim
            shapes = {"q": (q, model.hidden_size), "o": (model.hidden_size, q)}
            for kind, side in claim.directions.items():
                shape = shapes.get(kind, (kv, model.hidden_size))
                for _ in range(model.layers):
                    found = of_runs(config.seeds[arm], shape, *AXES[side], rng)
                    measured += [
                        {"run": run_name(arm, seed), "view": "stored", "kind": kind} | columns
                        for seed, columns in zip(seeds_of(config, arm), found, strict=True)
                    ]
        return {"geometry/stripes_intervened.parquet": pd.DataFrame(measured)}

    return make


def _standard(values: np.ndarray) -> np.ndarray:
    """With mean 0 and variance 1."""
    return (values - values.mean()) / values.std()


# O10

FALLS: dict[str, float] = {"holds": 1.0, "fails": 0.0}
"""Share of the overlap less random that is lost in changed matrices. Paper: all of it."""
EDITS = {"changed": "rotated", "other": "none"}
"""Tensor -> what was done to it in the base."""


def following(simulation: Simulation, falls: float) -> Maker:
    """O10: every run adds its own to the overlap of all of its pairs; undone, nothing is lost."""
    config, recorded = simulation.config, simulation.recorded.weights
    reference, changed = simulation.claim.arms
    lost = falls * recorded.overlap
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
                    gone = crossed and view == "stored" and edit != "none"
                    excess = recorded.overlap + own[run_a, gone] + own[run_b, gone] - (lost if gone else 0.0)
                    identity = {"run_a": run_a, "run_b": run_b, "view": view, "tensor": tensor, "edit": edit}
                    measured.append(identity | UNREAD | {"overlap": excess + 1, "overlap_chance": 1.0})
        return {"geometry/pairs_intervened.parquet": pd.DataFrame(measured)}

    return make
