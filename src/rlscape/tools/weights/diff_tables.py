"""The tables of ``rlscape diff``: a row per tensor, per kind of tensor and per pair of update masks."""

from math import sqrt
from typing import Any

import numpy as np
import pandas as pd

from rlscape.geometry.sparsity import UpdateTotals
from rlscape.tools.weights.bf16_bins import LEAST_VARIANCE, against_normal, holm
from rlscape.tools.weights.matrix_diff import MASKS, SUBSPACES

SIGNIFICANCE = 0.05
KINDS = ("q", "k", "v", "kv", "qkv", "o", "gate", "up", "gate_up", "down", "embed", "head", "norm", "bias")
"""The order in tables; other kinds follow."""


def tensor_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    tensors = pd.DataFrame(rows).astype({"layer": "Int64", "expert": "Int64"})
    if "overlap_low_p" not in tensors:
        return tensors
    tensors["k"] = tensors["k"].astype("Int64")
    for family, members in (("overlap", MASKS), ("energy", SUBSPACES)):
        columns = [f"{family}_{member}_p" for member in members]
        for _, of_one in tensors.groupby("checkpoint", sort=False):
            adjusted = holm(of_one[columns].to_numpy(float).ravel()).reshape(len(of_one), -1)
            tensors.loc[of_one.index, [f"{column}_holm" for column in columns]] = adjusted
    return tensors


def _pooled(group: pd.DataFrame, name: str, weight: pd.Series, null: str) -> dict[str, float]:
    """The weighted mean of a share over tensors, its null and the p-value of the pooled share."""
    mean, high = group[f"{name}_{null}"], group[f"{name}_{null}_high"]
    held = weight.gt(0) & mean.notna() & high.notna()
    if not held.any():
        return {name: np.nan, f"{name}_{null}": np.nan, f"{name}_p": np.nan}
    share = weight[held] / weight[held].sum()
    value, expected = float(share @ group.loc[held, name]), float(share @ mean[held])
    deviation = sqrt(float((share * (high - mean)[held]).pow(2).sum())) / against_normal(0, 0, 1).null.high
    return {name: value, f"{name}_{null}": expected, f"{name}_p": against_normal(value, expected, deviation).p}


def _summary(group: pd.DataFrame) -> dict[str, Any]:
    fields = UpdateTotals.__dataclass_fields__
    totals = UpdateTotals(*(group[name].sum() for name in fields))
    row: dict[str, Any] = {"tensors": len(group), "parameters": int(totals.parameters)} | totals.summary()
    weight = group["parameters"] / group["parameters"].sum()
    row["x"] = sqrt(float(weight @ group["x"].pow(2).fillna(0)))
    row["update_energy"] = totals.update_energy
    row["isotropic_sparsity"] = float(weight @ group["isotropic_sparsity"])
    if "overlap_low_p" not in group or not (matrices := group[group["k"].notna()]).size:
        return row
    changed = matrices["parameters"] - matrices["unchanged"]
    row["matrices"] = len(matrices)
    for mask in MASKS:
        name = f"overlap_{mask}"
        row |= _pooled(matrices, name, changed, "isotropic") | {
            f"{name}_chance": float(np.average(matrices[f"{name}_chance"], weights=matrices["parameters"]))
        }
        if mask != "low":
            row |= _pooled(matrices, name, changed, "binned")
    for part in SUBSPACES:
        name = f"energy_{part}"
        if f"{name}_binned" in matrices:
            row |= _pooled(matrices, name, matrices["update_energy"], "binned")
        row[f"{name}_chance"] = float(matrices[f"{name}_chance"].mean())
    adjusted = matrices[[f"overlap_{mask}_p_holm" for mask in MASKS]]
    row |= {
        "beyond_null": int((matrices["overlap_principal_p_holm"] < SIGNIFICANCE).sum()),
        "beyond_null_any": int((adjusted < SIGNIFICANCE).any(axis=1).sum()),
        "max_angle": float(matrices[["max_angle_left", "max_angle_right"]].max(axis=1).median()),
        "max_angle_isotropic": float(matrices["max_angle_isotropic"].median())
        if "max_angle_isotropic" in matrices
        else np.nan,
        "mean_angle": float(matrices[["mean_angle_left", "mean_angle_right"]].max(axis=1).median()),
        "angle_error_deg": float(matrices["angle_error_deg"].median()),
        "undetermined": int((matrices["angle_error_deg"] >= 90).sum()),
        "nss_top": float(matrices["nss_top"].median()),
    }
    return row


def summarise_kinds(tensors: pd.DataFrame) -> pd.DataFrame:
    """A row per checkpoint and kind, and one for ``all``.

    Shares are pooled over tensors (sparsity and x by entries, overlaps by changed entries, energies by energy); angles
    and NSS are medians. ``overlap_principal_p_holm`` is corrected for the number of kinds.
    """
    rows = []
    for name, of_one in tensors.groupby("checkpoint", sort=False):
        groups = sorted(of_one.groupby("kind", sort=False), key=lambda group: _place(str(group[0])))
        summaries = [{"checkpoint": name, "kind": kind} | _summary(group) for kind, group in [*groups, ("all", of_one)]]
        p = np.array([summary.get("overlap_principal_p", np.nan) for summary in summaries])
        for summary, adjusted in zip(summaries, [*holm(p[:-1]), p[-1]], strict=True):
            summary["overlap_principal_p_holm"] = adjusted
        rows += summaries
    return pd.DataFrame(rows)


def _place(kind: str) -> int:
    """Of a kind in tables: attention, MLP, then what is outside the blocks."""
    return KINDS.index(kind) if kind in KINDS else len(KINDS)


def pair_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Jaccard index and phi of two update masks beside independence and independence given the magnitude."""
    if not rows:
        return pd.DataFrame()
    frame = pd.DataFrame(rows).astype({"layer": "Int64", "expert": "Int64"})
    n, a, b = (frame[name].astype(float) for name in ("parameters", "first_changed", "second_changed"))
    frame["shared_chance"] = a * b / n
    frame["spread"] = np.sqrt(a * (n - a) * b * (n - b)) / n
    sums = ["parameters", "first_changed", "second_changed", "shared", "shared_binned", "shared_variance"]
    overall = frame.groupby(["first", "second"], sort=False)[[*sums, "shared_chance", "spread"]].sum().reset_index()
    frame = pd.concat([frame, overall.assign(tensor="all", kind="all")], ignore_index=True)
    either = frame["first_changed"] + frame["second_changed"]
    for null in ("", "_chance", "_binned"):
        shared = frame[f"shared{null}"]
        frame[f"jaccard{null}"] = shared / (either - shared)
    frame["phi"] = (frame["shared"] - frame["shared_chance"]) / frame["spread"]
    frame["p"] = [
        against_normal(shared, mean, sqrt(variance), variance >= LEAST_VARIANCE).p
        for shared, mean, variance in frame[["shared", "shared_binned", "shared_variance"]].itertuples(index=False)
    ]
    for _, of_one in frame[frame["tensor"] != "all"].groupby(["first", "second"], sort=False):
        frame.loc[of_one.index, "p_holm"] = holm(of_one["p"].to_numpy(float))
    return frame.drop(columns=["spread", "shared_variance", "shared_chance"])


def remarks(tensors: pd.DataFrame) -> list[str]:
    """What a reader of the numbers must know about how these checkpoints are stored."""
    remarks = []
    if (finer := tensors["off_lattice"].gt(0) & tensors["dtype_tuned"].eq("bfloat16")).any():
        remarks.append(
            f"{finer.sum()} tensors are stored more finely than bf16 in the base and as bf16 after fine-tuning: their "
            "x, norms and energies include the rounding of the base"
        )
    elif (off := tensors["off_lattice"].gt(0)).any():
        remarks.append(
            f"{off.sum()} tensors of the base hold weights that bf16 cannot represent: rounding has no dead zone "
            "there, and sparsity is lower than from a bf16 base at equal x"
        )
    for name, of_one in tensors.groupby("checkpoint", sort=False):
        if not of_one["update_energy"].any():
            remarks.append(f"{name}: equals the base in every compared tensor")
    return remarks
