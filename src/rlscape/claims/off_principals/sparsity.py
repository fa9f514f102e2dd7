"""Evaluators of P2's claims on how many weights change: RL beside SFT at equal size, and what rounding explains."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from rlscape.catalogue import first_run, resolve_run, seeds_of
from rlscape.claims.parts import Part, below, censored, conclude, on_side
from rlscape.claims.register import Claim, Conventions, Outcome
from rlscape.results import bias, curves, origin
from rlscape.scaling.uncertainty import Interval, paired_differences, t_interval
from rlscape.settings.scale import Config

TRAINED = ("as_run", "rate")
"""Matchings of two trained models."""
MOVED = ("norm", "kl")
"""Matchings with a model that nobody trained: SFT's last one moved along its update."""
BETWEEN: dict[str, tuple[str, Callable[[pd.DataFrame, float], bias.Reading]]] = {
    "equal norm (between snapshots)": ("x", bias.sparsity_at_size),
    "equal pass rate (between snapshots)": ("pass_rate", bias.sparsity_at_pass_rate),
}
"""Matching -> what RL's last model has, and how SFT's sparsity is read where SFT has as much."""


def sparser_when_matched(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O1. Arms: the sparser one, the other, and the other at the learning rate of the first.

    Trained models decide. What explains their difference, size or the distribution of an update's entries, is judged
    beside them and does not.
    """
    sparse, dense, slow = claim.arms
    negligible = claim.threshold("negligible")
    matched = bias.matching(config)
    trained = {bias.MATCHINGS[matching]: _difference(matched, matching) for matching in TRAINED}
    metrics = {key: rows for key, rows in curves.metrics(config, (sparse, slow)).groupby(["arm", "seed"])}
    seeds = seeds_of(config, sparse, slow)
    for name, (equal, read) in BETWEEN.items():
        trained[name] = _between({seed: (metrics[sparse, seed], metrics[slow, seed]) for seed in seeds}, equal, read)
    sizes = origin.sizes(config, claim.arms).set_index(["arm", "seed"])
    excess = sizes["sparsity"] - sizes["isotropic_sparsity"]
    explained = {bias.MATCHINGS[matching]: _difference(matched, matching) for matching in MOVED} | {
        "beyond isotropic updates of each size": t_interval(
            paired_differences(excess[sparse].to_dict(), excess[dense].to_dict())
        )
    }
    phenomenon, explanation = (
        [Part(name, interval, on_side(interval, margin=negligible)) for name, interval in group.items()]
        for group in (trained, explained)
    )
    means = sizes.assign(excess=excess).groupby(level="arm").mean(numeric_only=True)
    note = "difference of sparsity; " + ", ".join(
        f"{arm} {means.loc[arm, 'sparsity']:.3f} at x = {means.loc[arm, 'x']:.2g}, {means.loc[arm, 'excess']:+.3f} "
        "beyond isotropic"
        for arm in claim.arms
    )
    beside = "; ".join(map(str, explanation))
    return conclude(phenomenon, f"{note}; more than size and rounding (does not decide): {beside}; trained models")


def _between(
    runs: dict[int, tuple[pd.DataFrame, pd.DataFrame]],
    equal: str,
    read: Callable[[pd.DataFrame, float], bias.Reading],
) -> Interval:
    """Sparsity of RL's last model less that of SFT where both have the same ``equal``, paired by seed.

    Sparsity falls as a run goes on. SFT that is beyond RL at its first snapshot was sparser before, and SFT that does
    not get there would be less sparse: both bound the difference. Nothing bounds it where pass rates are misread.

    Args:
        runs: metrics of RL and of SFT, by seed.
    """
    last = {seed: rl.sort_values("step").iloc[-1] for seed, (rl, _) in runs.items()}
    of_sft = {seed: (sft, float(last[seed][equal])) for seed, (_, sft) in runs.items()}
    readings = {seed: read(sft, level) for seed, (sft, level) in of_sft.items()}
    differences = (float(last[seed]["sparsity"]) - found.value for seed, found in readings.items())
    misread = equal == "pass_rate" and bias.misread(of_sft.values())
    return censored(
        t_interval(differences),
        at_most=misread or any(found.early for found in readings.values()),
        at_least=misread or any(found.late for found in readings.values()),
    )


def _difference(matched: pd.DataFrame, matching: str) -> Interval:
    """Sparsity of RL less that of SFT in one matching, paired by seed."""
    by_method = {
        method: rows.set_index("seed")["sparsity"].to_dict()
        for method, rows in matched[matched["matching"] == matching].groupby("method")
    }
    return t_interval(paired_differences(by_method.get("rl", {}), by_method.get("sft", {})))


def rounding_effect(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O2. Arms: one method at several learning rates. Units are the seeds that all of them have."""
    sizes = origin.sizes(config, claim.arms)
    rates = {arm: resolve_run(config, first_run(config, arm)).rl.learning_rate for arm in claim.arms}
    sizes["learning_rate"] = sizes["arm"].map(rates)
    sizes["octaves"] = octaves_off_isotropic(sizes["x"], sizes["sparsity"], claim.threshold("accuracy"))
    by_seed = [rows for _, rows in sizes.groupby("seed") if len(rows) == len(claim.arms)]
    correlation = t_interval(rows["learning_rate"].corr(rows["sparsity"], method="spearman") for rows in by_seed)
    octaves = t_interval(rows["octaves"].max() for rows in by_seed)
    zeros = t_interval(rows["exact_zero_share"].max() for rows in by_seed)
    parts = [
        Part("rank correlation with the rate", correlation, below(correlation, -claim.threshold("min_correlation"))),
        Part("octaves of x off the isotropic curve, largest", octaves, below(octaves, claim.threshold("octaves"))),
        Part("largest share of exact fp32 zeros", zeros, below(zeros, claim.threshold("exact_zeros"))),
    ]
    means = sizes.sort_values("learning_rate").groupby("learning_rate")[["x", "sparsity"]].mean()
    points = [f"{row['sparsity']:.3f} at x = {row['x']:.2g}" for _, row in means.iterrows()]
    return conclude(parts, f"sparsity {', '.join(points)}")


def octaves_off_isotropic(x: pd.Series, sparsity: pd.Series, accuracy: float) -> pd.Series:
    """log2 of the factor by which an isotropic update of this sparsity would be larger or smaller, at least 0.

    Rounding hides more of a Laplace distribution's entries than of a Gaussian one's of equal size, and fewer of a
    uniform one's: both are less than an octave away. What rounding does not explain is several octaves away at one end
    of the rates. Of the sizes that the accuracy of ``1 - (2 / pi) arctan x`` allows, the nearest counts. An update of
    size 0 that changes nothing is on the curve.
    """
    low, high = (np.tan(np.pi / 2 * (1 - sparsity + shift).clip(0, 1)) for shift in (-accuracy, accuracy))
    return np.log2(np.fmax(low / x, x / high).clip(lower=1))
