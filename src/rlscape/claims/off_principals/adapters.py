"""Evaluators of P2's claims on masks and adapters; criteria in words are in ``config/claims.yaml``."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from rlscape.catalogue import ARMS
from rlscape.claims.parts import Part, censored, conclude, on_side
from rlscape.claims.register import (
    INCONCLUSIVE,
    NOT_REPLICATED,
    NOT_TESTABLE,
    REPLICATED,
    Claim,
    Conventions,
    Outcome,
    Verdict,
    outcome,
    span,
)
from rlscape.results import curves
from rlscape.results.restricted import distances_to_dense, evaluations_at, stability
from rlscape.scaling.uncertainty import Interval, t_interval
from rlscape.settings.scale import Config
from rlscape.settings.training import AdapterSettings

PRIOR = 2.5
"""Standard deviation of the normal prior of standardised logistic coefficients: keeps them finite where one learning
rate separates all collapsed runs from all others (after arXiv 0901.4011)."""
SIDES = {"lora": -0.5, "pissa": 0.5}
POSITIONS = {"learning_rate": "learning rate", "step_size": "step size"}


def masks_ranked(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O11. Arms: all entries, then the masks safe, random, principal and complement."""
    dense, safe, random, principal, complement = claim.arms
    distances = distances_to_dense(curves.updates(config, claim.arms))
    metrics = curves.metrics(config, claim.arms)
    distance = distances.pivot(index="seed", columns="arm", values="value")
    end = evaluations_at(metrics, 1.0).pivot(index="seed", columns="arm", values="pass_rate")
    negligible, share = claim.threshold("negligible"), claim.threshold("follow_share")
    worth = conventions.margin_share * _gain(metrics, dense)
    # Ahead of dense training is as far from it as behind: of random by the sign that it has, of safe by either.
    off = distance[random] * (1 if distance[random].mean() >= 0 else -1)
    allowed = share * distance[principal]
    lacks, may_lack = end[dense] - end[safe], share * (end[dense] - end[principal])
    asked = (
        (f"abs distance({random}) - distance({safe})", off - distance[safe], negligible),
        (f"abs distance({random}) + distance({safe})", off + distance[safe], negligible),
        (f"distance({principal}) - distance({random})", distance[principal] - distance[random], negligible),
        (f"distance({principal}) - distance({complement})", distance[principal] - distance[complement], negligible),
        (f"{share:.2g} distance({principal}) - distance({safe})", allowed - distance[safe], 0.0),
        (f"{share:.2g} distance({principal}) + distance({safe})", allowed + distance[safe], 0.0),
        (f"pass rate({safe}) - pass rate({principal})", end[safe] - end[principal], worth),
        (f"{share:.2g} of what {principal} lacks in pass rate - {safe}", may_lack - lacks, 0.0),
        (f"{share:.2g} of what {principal} lacks in pass rate + {safe}", may_lack + lacks, 0.0),
    )
    parts = []
    for measure, values, margin in asked:
        interval = t_interval(values)
        parts.append(Part(measure, interval, on_side(interval, margin=margin)))
    means = distances.groupby("arm", sort=False)["value"].mean()
    note = "distance to dense: " + ", ".join(f"{arm} {means[arm]:.2f}" for arm in claim.arms[1:] if arm in means)
    return conclude(parts, note)


def no_gain(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O12. Arms: full fine-tuning, a share of whose gain is the margin, then adapters of kind lora and pissa."""
    full, *adapters = claim.arms
    metrics = curves.metrics(config, claim.arms)
    by_seed = evaluations_at(metrics, 1.0).pivot(index="seed", columns="arm", values="pass_rate")
    margin = conventions.margin_share * _gain(metrics, full)
    best: dict[tuple[int, str], str] = {}
    for arm in adapters:
        kind = _adapter(arm).rank, _adapter(arm).kind
        if kind not in best or by_seed[arm].mean() > by_seed[best[kind]].mean():
            best[kind] = arm
    ranks = sorted({rank for rank, _ in best})
    differences = pd.DataFrame(
        {rank: by_seed[best[rank, "pissa"]] - by_seed[best[rank, "lora"]] for rank in ranks}
    ).dropna()
    gain = t_interval(differences.mean(axis=1))
    verdict: Verdict = INCONCLUSIVE
    if gain.low > margin:
        verdict = NOT_REPLICATED
    elif gain.high < 0 or (gain.high < margin and gain.seeds >= conventions.seeds_for_neutral):
        verdict = REPLICATED
    at_edge = [arm for _, arm in sorted(best.items()) if _at_edge(arm, adapters)]
    reason = f"margin {margin:.3g}; " + "; ".join(
        f"rank {rank}: {differences[rank].mean():+.3f} ({best[rank, 'pissa']} against {best[rank, 'lora']})"
        for rank in ranks
    )
    if at_edge:
        reason += f"; best at an end of the rates, so perhaps better beyond: {', '.join(at_edge)}"
    return outcome(verdict, "best pass rate, PiSSA minus LoRA", gain, reason)


def _gain(metrics: pd.DataFrame, arm: str) -> float:
    """Pass rate at the end less that at the start, means over an arm's seeds; 0 if it fell."""
    of_arm = metrics[metrics["arm"] == arm]
    start, final = (evaluations_at(of_arm, share)["pass_rate"].mean() for share in (0.0, 1.0))
    return max(float(final - start), 0.0)


def _at_edge(arm: str, adapters: Sequence[str]) -> bool:
    """Whether an adapter has the lowest or the highest learning rate of those of its kind and rank."""
    rates = {other: ARMS[other].scaled["learning_rate"] for other in adapters if _adapter(other) == _adapter(arm)}
    return rates[arm] in (min(rates.values()), max(rates.values()))


def collapses_earlier(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O13. Arms: adapters of kind lora and pissa at several learning rates."""
    runs = stability(config, claim.arms)
    runs["kind"] = [_adapter(arm).kind for arm in runs["arm"]]
    shares = runs.groupby(["seed", "kind"])["collapsed"].mean().unstack()
    excess = t_interval(shares["pissa"] - shares["lora"])
    measure = "share of collapsed runs, PiSSA minus LoRA"
    rates = _rates_of_collapse(runs)
    if runs["collapsed"].nunique() == 1:
        which = "every run collapses" if runs["collapsed"].all() else f"none of {len(runs)} runs collapses"
        return outcome(NOT_TESTABLE, measure, excess, f"{which}; {rates}")
    if len(shares) < claim.threshold("min_seeds"):
        lack = f"fewer than {claim.threshold('min_seeds'):g} seeds for a regression"
        return outcome(INCONCLUSIVE, measure, excess, f"{lack}; {span(excess)}; {rates}")
    parts = []
    bounds = _bounds(runs)
    for position, name in POSITIONS.items():
        ratio = censored(_jackknife(runs, position), **bounds)
        verdict = on_side(ratio, margin=claim.threshold("negligible"))
        parts.append(Part(f"log of half-collapse {name}, LoRA / PiSSA", ratio, verdict))
    return conclude(parts, rates)


def _bounds(runs: pd.DataFrame) -> dict[str, bool]:
    """Whether log(x(LoRA) / x(PiSSA)) is at most or at least what :func:`log_ratio` says."""
    share = runs.groupby("kind")["collapsed"].mean()
    return {
        "at_least": bool(share["lora"] == 0 or share["pissa"] == 1),
        "at_most": bool(share["pissa"] == 0 or share["lora"] == 1),
    }


def _adapter(arm: str) -> AdapterSettings:
    adapter = ARMS[arm].adapter
    assert adapter is not None, f"{arm} trains no adapter"
    return adapter


def _rates_of_collapse(runs: pd.DataFrame) -> str:
    """E.g. ``lora: 0/3 at 1e-04, 1/3 at 1e-03, first at 1e-03; pissa: ..., never``."""
    texts = []
    for kind, of_kind in runs.groupby("kind"):
        by_rate = of_kind.groupby("learning_rate")["collapsed"].agg(["sum", "size"])
        counts = ", ".join(f"{row['sum']}/{row['size']} at {rate:.1e}" for rate, row in by_rate.iterrows())
        first = by_rate.index[by_rate["sum"] > 0]
        texts.append(f"{kind}: {counts}, " + (f"first at {first[0]:.1e}" if len(first) else "never"))
    return "; ".join(texts)


def _jackknife(runs: pd.DataFrame, position: str) -> Interval:
    """:func:`log_ratio` with t limits over the jackknife's pseudo-values, seed by seed."""
    seeds = runs["seed"].unique()
    whole = log_ratio(runs, position)
    without = [log_ratio(runs[runs["seed"] != seed], position) for seed in seeds]
    return t_interval(len(seeds) * whole - (len(seeds) - 1) * value for value in without)


def log_ratio(runs: pd.DataFrame, position: str) -> float:
    """log(x(LoRA) / x(PiSSA)), where x is the position at which half of a kind's runs collapse.

    From a logistic regression of ``collapsed`` on ``kind`` and the logarithm of ``position`` with one slope for both
    kinds; NaN if collapse does not become more frequent with it. Where none of a kind's runs collapses, or all, half of
    them do beyond the positions that were tried: x is then the last of them, a bound, and the other kind has the
    regression for itself.
    """
    runs = runs[np.isfinite(runs[position]) & (runs[position] > 0)]
    runs = runs.assign(x=np.log(runs[position]))
    half, mixed = {}, []
    for kind, of_kind in runs.groupby("kind"):
        if of_kind["collapsed"].nunique() == 1:
            half[kind] = of_kind["x"].min() if of_kind["collapsed"].all() else of_kind["x"].max()
        else:
            mixed.append(kind)
    if mixed:
        half |= _half_collapse(runs[runs["kind"].isin(mixed)])
    return float(half["lora"] - half["pissa"])


def _half_collapse(runs: pd.DataFrame) -> dict[str, float]:
    """Kind -> the ``x`` at which half of its runs collapse."""
    x, collapsed = runs["x"].to_numpy(float), runs["collapsed"].to_numpy(float)
    middle, spread = x.mean(), x.std()
    side = runs["kind"].map(SIDES).to_numpy(float)
    design = np.column_stack([np.ones_like(x), (x - middle) / spread, side])

    def loss(coefficients: np.ndarray) -> float:
        logits = design @ coefficients
        prior = ((coefficients[1:] / PRIOR) ** 2).sum() / 2
        return float(np.logaddexp(0, logits).sum() - collapsed @ logits + prior)

    level, slope, shift = minimize(loss, np.zeros(3)).x
    of_slope = spread / slope if slope > 0 else np.nan
    return {kind: float(middle - (level + shift * SIDES[kind]) * of_slope) for kind in runs["kind"].unique()}
