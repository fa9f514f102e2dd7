"""What recorded updates of P2's runs scatter by, from the tables of a gallery's figures."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from scipy.optimize import curve_fit
from scipy.stats import t as student_t

from rlscape.claims.off_principals.generality import enrichment, less_rotated, overlap_less
from rlscape.errors import ResultError
from rlscape.power.recorded import upper_variance
from rlscape.results import bias, weights
from rlscape.results.archive import recorded_results
from rlscape.results.bias import MATCHED_ARMS

RL, SFT, SLOW = MATCHED_ARMS
ALIKE = (RL, SLOW)
"""Those of one learning rate. Pass rates of SFT at its own, a larger one, scatter four times as much and are not
what worlds are made of."""
NULLS = {"principal": ("binned", "spectrum"), "low": ("shuffled", "spectrum")}
"""Mask -> the baselines of its overlap that criteria ask to beat."""
RELATIVE = ("nss", "largest_angle", "efficiency", "energy_both_over_chance")
"""Positive statistics of an update, whose scatter is relative."""
SETTINGS = (
    "agent_calculator",
    "agent_search",
    "agent_planning",
    "dpo",
    "simpo",
    "rlvr_second_base",
    "llama_full",
    "mistral_full",
)
"""In which P2's bias is to be generic (O15)."""
OF_SETTINGS: dict[str, Callable[[pd.DataFrame], float]] = {
    "setting_principal": overlap_less("principal", "binned"),
    "setting_low": overlap_less("low", "shuffled"),
    "setting_energy_principal": enrichment("principal"),
    "setting_energy_low": enrichment("low"),
    "setting_efficiency": less_rotated("efficiency"),
    "setting_angle": less_rotated("max_angle"),
}


class Progress(NamedTuple):
    """Of an arm on its way, means over seeds."""

    slope: float
    """Of the pass rate at the start, per share of the steps."""
    bend: float
    """How fast that falls: its logarithm by this much over all steps."""
    share: tuple[float, ...]
    """Of the steps, at evaluations."""
    kl: tuple[float, ...]
    """KL(pi_0 || pi) there, nats per token."""

    def gain(self, share: np.ndarray | float) -> np.ndarray | float:
        """Of the pass rate since the start.

        A saturating curve: means of five runs have bumps, and what is planted would depend on one of them.
        """
        return -self.slope * np.expm1(-self.bend * np.asarray(share)) / self.bend

    def share_at(self, gain: float) -> float:
        """The inverse of :meth:`gain`."""
        return float(-np.log1p(-self.bend * gain / self.slope) / self.bend)

    def kl_at(self, share: np.ndarray | float) -> np.ndarray | float:
        """Linear between evaluations, 0 at the start."""
        return np.interp(share, (0, *self.share), (0, *self.kl))


class Cells(NamedTuple):
    """Of the fp32 energy over chance less its null in the cells of a grid, by rank and density."""

    deviation: tuple[float, ...]
    """Standard deviation over seeds, upper limit."""
    common: float
    """Mean correlation of two cells."""


@dataclass(frozen=True)
class RecordedWeights:
    """The scatter of recorded updates, and what they were like."""

    start: float
    """Pass rate of the base."""
    size: dict[str, float]
    """Arm -> x of its update."""
    progress: dict[str, Progress]
    adapters: dict[str, tuple[float, float]]
    """Arm -> pass rate at the end, and relative norm of the update per step at the first evaluation."""
    changed: tuple[float, float]
    """Density of the first snapshot's update mask, and of new changes among the other entries by the last."""
    overlap: float
    """Of two runs' update masks, less random."""
    repeat: float
    """phi of the update masks of two runs that differ in the seed."""
    cells: dict[str, Cells]
    """By mask."""
    spread: dict[str, float]
    """Statistic -> standard deviation over seeds (others are named so), upper limit, pooled over arms."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        progress, cells = (
            {name: each._asdict() for name, each in of.items()}
            for of in (dict[str, Any](self.progress), dict[str, Any](self.cells))
        )
        return asdict(self) | {"progress": progress, "cells": cells}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        progress = {
            arm: Progress(**{**path, "share": tuple(path["share"]), "kl": tuple(path["kl"])})
            for arm, path in values["progress"].items()
        }
        cells = {mask: Cells(tuple(of["deviation"]), of["common"]) for mask, of in values["cells"].items()}
        adapters = {arm: tuple(pair) for arm, pair in values["adapters"].items()}
        return cls(
            **{
                **values,
                "progress": progress,
                "cells": cells,
                "adapters": adapters,
                "changed": tuple(values["changed"]),
            }
        )


def measure_weights(gallery: Path) -> RecordedWeights:
    """The scatter of P2's statistics in a recorded scale.

    Args:
        gallery: such as ``figures/gallery/default``.

    Raises:
        ResultError: it lacks one of P2's figures, or RL, SFT and SFT at RL's rate have one seed.
    """
    directory = gallery / "off_principals"

    def table(figure: str) -> pd.DataFrame:
        path = directory / f"{figure}.csv"
        if not path.exists():
            raise ResultError(f"{path}: no such figure; `make gallery PAPER=off_principals` records it")
        return pd.read_csv(path)

    sizes, matching, paths = table("control_learning_rate"), table("control_matching"), table("control_kl")
    sizes = sizes[sizes["kind"] == "end"]
    if sizes.groupby("arm")["seed"].nunique().reindex(MATCHED_ARMS).fillna(0).min() < 2:
        raise ResultError(f"{directory}: one seed of {', '.join(MATCHED_ARMS)} shows no scatter")
    adapters = table("control_adapters").groupby("arm")[["pass_rate", "step_size"]].mean()
    measured = paths[(paths["kind"] == "path") & paths["arm"].isin(ALIKE)]
    progress = {str(arm): _progress(rows) for arm, rows in measured.groupby("arm")}
    end = measured[measured["arm"] == RL].groupby("step")["gain"].mean().iloc[-1]
    as_run = matching[(matching["matching"] == "as_run") & (matching["method"] == "rl")].set_index("statistic")["value"]
    profiles, overlaps = pd.concat([table("fig03"), table("fig14")]), table("fig06")
    gauge = table("control_gauge")
    with recorded_results(directory) as config:
        operators = bias.operators(config, (RL, SFT))
        matrices = {arm: weights.matrices(config, [arm]) for arm in SETTINGS}
    overlaps["excess"] = overlaps["value"] - overlaps["chance"]
    spread = (
        _of_sizes(sizes)
        | _of_matchings(matching)
        | _of_overlaps(table("control_nulls"))
        | _of_divergence(paths, table("fig15"))
        | _of_edits(overlaps)
        | _of_lines(profiles)
        | _of_curvature(table("control_curvature"))
        | _of_settings(matrices)
    )
    return RecordedWeights(
        start=float(as_run["pass_rate"] - end),
        size={str(arm): float(x) for arm, x in sizes.groupby("arm")["x"].mean().items()},
        progress=progress,
        adapters={str(arm): (float(row["pass_rate"]), float(row["step_size"])) for arm, row in adapters.iterrows()},
        changed=_changed(profiles),
        repeat=float(gauge.loc[(gauge["comparison"] == "repeat") & (gauge["measure"] == "phi"), "value"].mean()),
        overlap=float(overlaps.loc[overlaps["arm"] == RL, "excess"].mean()),
        cells=cell_scatter(operators),
        spread=spread,
    )


# Standard deviations


def _pooled(groups: Iterable[Iterable[float]]) -> float:
    """Upper limit of the standard deviation within groups; NaN if none has two values."""
    arrays = [values[~np.isnan(values)] for values in (np.asarray(list(group), float) for group in groups)]
    arrays = [values for values in arrays if len(values) > 1]
    degrees = sum(len(values) - 1 for values in arrays)
    squares = sum(((values - values.mean()) ** 2).sum() for values in arrays)
    return float(np.sqrt(upper_variance(squares, degrees))) if degrees else np.nan


def _over_seeds(values: pd.Series, arms: pd.Series) -> float:
    return _pooled(group for _, group in values.groupby(arms))


def _from_intervals(low: pd.Series, high: pd.Series, seeds: pd.Series) -> float:
    """The same where the tables have 95% t limits in place of the values."""
    deviations = (high - low) / 2 * np.sqrt(seeds) / student_t.ppf(0.975, seeds - 1)
    degrees = seeds - 1
    return float(np.sqrt(upper_variance((degrees * deviations**2).sum(), int(degrees.sum()))))


# Figures


def _of_sizes(sizes: pd.DataFrame) -> dict[str, float]:
    as_isotropic = np.tan(np.pi / 2 * (1 - sizes["sparsity"]))
    values = {
        "log_x": np.log(sizes["x"]),
        "octaves": np.log2(as_isotropic / sizes["x"]),
        "sparsity": sizes["sparsity"] - sizes["isotropic_sparsity"],
        "exact_zeros": sizes["exact_zero_share"],
    }
    return {name: _over_seeds(column, sizes["arm"]) for name, column in values.items()}


def _of_matchings(matching: pd.DataFrame) -> dict[str, float]:
    rows = matching[matching["matching"].isin(("as_run", "norm")) & matching["statistic"].isin(RELATIVE)]
    found = {"pass_rate": _of_final_models(matching)}
    for statistic, of in rows.drop_duplicates(["method", "statistic", "value"]).groupby("statistic"):
        low, high = of["value_low"] / of["value"], of["value_high"] / of["value"]
        found[str(statistic)] = _from_intervals(low, high, of["seeds"])
    return found


def _of_final_models(matching: pd.DataFrame) -> float:
    """Of the pass rate at the end, of :data:`ALIKE`. Gains would scatter by the evaluation of the base as well."""
    rates = matching[(matching["matching"] == "rate") & (matching["statistic"] == "pass_rate")]
    return _from_intervals(rates["value_low"], rates["value_high"], rates["seeds"])


def _of_overlaps(overlaps: pd.DataFrame) -> dict[str, float]:
    """Of an overlap less each baseline, in bf16, and of the fp32 energy over chance.

    Less shuffled entries it scatters as less isotropic ones, which all galleries have.
    """
    found: dict[str, float] = {}
    for mask, nulls in NULLS.items():
        bf16, fp32 = (
            overlaps[(overlaps["mask"] == mask) & (overlaps["precision"] == name)] for name in ("bf16", "fp32")
        )
        found |= {
            f"{mask}_{null}": _over_seeds(bf16["value"] - bf16[null.replace("shuffled", "isotropic")], bf16["arm"])
            for null in nulls
        }
        found[f"energy_{mask}"] = _over_seeds(fp32["value"], fp32["arm"])
    return found


def cell_scatter(operators: pd.DataFrame) -> dict[str, Cells]:
    """Of the grid of every mask; arms together.

    Args:
        operators: as :func:`rlscape.results.bias.operators` returns it.
    """
    found = {}
    for mask in NULLS:
        of_arms = [bias.energy_by_cell(rows, mask).unstack("seed") for _, rows in operators.groupby("arm")]
        deviations = np.hstack([of_arm.sub(of_arm.mean(axis=1), axis=0).to_numpy() for of_arm in of_arms])
        degrees = deviations.shape[1] - len(of_arms)
        variances = [upper_variance(squares, degrees) for squares in (deviations**2).sum(axis=1)]
        correlations = np.corrcoef(deviations)[np.triu_indices(len(deviations), 1)]
        found[mask] = Cells(tuple(np.sqrt(variances).tolist()), float(np.clip(correlations.mean(), 0, 1)))
    return found


def _of_divergence(table: pd.DataFrame, curves: pd.DataFrame) -> dict[str, float]:
    """Of logarithms of KL: of a step, over seeds and about the line of the rates; at the end; and below the curve."""
    steps, paths = table[table["kind"] == "step"], table[table["kind"] == "path"]
    several = steps[steps["seeds"] > 1]
    rl = steps[steps["family"] == RL]
    x, y = np.log(rl["learning_rate"]), np.log(rl["kl_step"])
    rest = y - np.polyval(np.polyfit(x, y, 1), x)
    is_last = paths["step"] == paths.groupby("arm")["step"].transform("max")
    last = paths[is_last]
    below = curves[curves["direction"] == "kl_to_start"].groupby(["arm", "seed"])["value"].mean().reset_index()
    return {
        "log_kl_step": _from_intervals(
            np.log(several["kl_step_low"]), np.log(several["kl_step_high"]), several["seeds"]
        ),
        "log_kl_by_rate": float(np.sqrt(upper_variance((rest**2).sum(), len(rest) - 2))),
        "log_kl": _over_seeds(np.log(last["kl"]), last["arm"]),
        "log_kl_area": _over_seeds(np.log(below["value"]), below["arm"]),
        "evaluation": _of_evaluations(paths[~is_last & paths["arm"].isin(ALIKE)]),
    }


def _of_evaluations(paths: pd.DataFrame) -> float:
    """Of the pass rate at an evaluation on the way, about what its run and its step have in common with others."""
    squares, degrees = 0.0, 0
    for _, of_arm in paths.groupby("arm"):
        gains = of_arm.pivot(index="seed", columns="step", values="gain")
        if len(gains) > 1:
            rest = gains.sub(gains.mean(axis=1), axis=0) - gains.mean() + gains.to_numpy().mean()
            squares += float((rest**2).to_numpy().sum())
            degrees += (gains.shape[0] - 1) * (gains.shape[1] - 1)
    return float(np.sqrt(upper_variance(squares, degrees)))


def _progress(path: pd.DataFrame) -> Progress:
    means = path.groupby("step")[["gain", "kl"]].mean()
    share, gain = (means.index / means.index.max()).to_numpy(float), means["gain"].to_numpy()

    def curve(share: np.ndarray, slope: float, bend: float) -> np.ndarray:
        return np.asarray(Progress(slope, bend, (), ()).gain(share))

    (slope, bend), _ = curve_fit(curve, share, gain, p0=(gain[-1], 1.0), bounds=((0, 1e-3), (np.inf, np.inf)))
    return Progress(float(slope), float(bend), tuple(map(float, share)), tuple(map(float, means["kl"])))


def _of_edits(overlaps: pd.DataFrame) -> dict[str, float]:
    """Of a run's overlap less random, mean over changed and over other matrices."""
    group = overlaps["edit"].ne("none").map({True: "overlap_changed", False: "overlap_other"})
    means = overlaps.groupby([group.rename("group"), "arm", "seed"])["excess"].mean().reset_index()
    return {str(name): _over_seeds(rows["excess"], rows["arm"]) for name, rows in means.groupby("group")}


def _first_and_last(profiles: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    first, last = (profiles["step"] == profiles["step"].agg(end) for end in ("min", "max"))
    return profiles[first], profiles[last]


def _changed(profiles: pd.DataFrame) -> tuple[float, float]:
    first, last = (float(rows["share"].mean()) for rows in _first_and_last(profiles))
    return first, (last - first) / (1 - first)


def _of_lines(profiles: pd.DataFrame) -> dict[str, float]:
    """Over rows and columns, of the first snapshot's density less what magnitudes predict, beyond binomial scatter."""
    first, _ = _first_and_last(profiles)
    counts = first.groupby(["kind", "axis"])["index"].nunique()
    across = first["axis"].map({"row": "column", "column": "row"})
    entries = counts.reindex(pd.MultiIndex.from_frame(pd.DataFrame({"kind": first["kind"], "axis": across})))
    expected = first["share_by_magnitude"]
    binomial = (expected * (1 - expected) / entries.to_numpy()).mean()
    squares = ((first["share"] - expected) ** 2).sum()
    return {"line": float(np.sqrt(max(upper_variance(squares, len(first)) - binomial, 0.0)))}


def _of_curvature(table: pd.DataFrame) -> dict[str, float]:
    """Of log2 quotients. Here: one base is recorded, so bases scatter as its kinds of matrix do."""
    blocks = table[table["kind"] == "block"]
    by_kind = blocks.pivot(index="matrix", columns="block", values="value")
    index = table[table["kind"] == "index"]
    rest = index["value"] - np.polyval(np.polyfit(index["position"], index["value"], 1), index["position"])
    return {
        "curvature_base": _pooled([by_kind["principal"] - by_kind["off"]]),
        "curvature_batch": _from_intervals(blocks["low"], blocks["high"], blocks["batches"]),
        "curvature_direction": float(np.sqrt(upper_variance((rest**2).sum(), len(rest) - 2))),
    }


def _of_settings(matrices: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    """Over settings, of what O15 asks of each."""
    return {name: _pooled([map(statistic, matrices.values())]) for name, statistic in OF_SETTINGS.items()}
