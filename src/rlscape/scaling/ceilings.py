"""B at a ceiling that several arms share (P1, Figure 7): where their fits agree on A, B alone says which is faster.

Paper: A = 0.605, the mean of its nine runs on the grid. Here: the mean over arms of each arm's mean over seeds, and
beside it that mean 0.02 lower, 0.02 higher, and A free, because the order of B may depend on the choice.
"""

from collections.abc import Sequence

import pandas as pd

from rlscape.scaling.arms import RunFit
from rlscape.scaling.curves import Curve, positive_error
from rlscape.scaling.sigmoid_fit import fit_fixed_ceiling
from rlscape.settings.measurement import FitSettings

CEILINGS = {"mean": 0.0, "mean - 0.02": -0.02, "mean + 0.02": 0.02}
"""Name of each shared ceiling -> its distance from the mean A."""
FREE = "free"


def shared_ceiling(runs: Sequence[RunFit]) -> float:
    """The mean A of several arms, each weighing alike; failed fits are left out, NaN if none succeeded."""
    table = pd.DataFrame({"arm": [run.arm for run in runs], "A": [run.fit.A for run in runs]})
    return float(table.groupby("arm")["A"].mean().mean())


def fit_at_ceilings(runs: Sequence[RunFit], metrics: pd.DataFrame, settings: FitSettings) -> pd.DataFrame:
    """A row per run and ceiling: arm, seed, ceiling, A, B, C_mid, at_edge, reason.

    ``ceiling`` is "free" (the fit in ``runs``) or a key of ``CEILINGS``. NaN where a fit fails, with the reason.

    Args:
        runs: the fits of the arms that share the ceiling.
        metrics: their evaluations, with arm, seed, compute, pass_rate, pass_rate_se and samples.
        settings: those of the fits in ``runs``.
    """
    mean = shared_ceiling(runs)
    evaluations = dict(iter(metrics.sort_values("compute", kind="stable").groupby(["arm", "seed"])))
    rows = []
    for run in runs:
        table = evaluations[run.arm, run.seed]
        compute, rate, error, samples = (
            table[column].to_numpy(float) for column in ("compute", "pass_rate", "pass_rate_se", "samples")
        )
        curve = Curve(compute, rate, positive_error(rate, error, samples))
        curve = curve.between(settings.skip_fraction * compute[-1])
        fits = {FREE: run.fit}
        for name, offset in CEILINGS.items():
            fits[name] = fit_fixed_ceiling(
                curve.compute, curve.pass_rate, run.initial.pass_rate, mean + offset, curve.standard_error
            )
        for name, fit in fits.items():
            parameters = {"A": fit.A, "B": fit.B, "C_mid": fit.C_mid}
            edges = {"at_edge": ", ".join(fit.at_edge), "reason": fit.reason}
            rows.append({"arm": run.arm, "seed": run.seed, "ceiling": name} | parameters | edges)
    return pd.DataFrame(rows)
