"""The worlds of P2's claims.

Evaluators read tables of one row per run and matrix, or per step; what is drawn are the statistics of a run, with the
scatter over seeds that was recorded (:mod:`rlscape.power.recorded_weights`). Masks themselves are drawn where the
statistic's own scatter matters (O4).
"""
