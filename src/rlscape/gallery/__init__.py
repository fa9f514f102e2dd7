"""Recorded scales, in git: what figures and verdicts need, so that both can be made again without training.

``figures/gallery/<scale>/<paper>/`` holds figures, ``run.json`` (where they come from) and ``tables.zip`` (the result
files behind them), ``figures/gallery/<scale>/claims.csv`` the verdicts, and ``figures/gallery/scoreboard.*`` those of
all scales; beside them ``power.csv`` of a scale and ``pilots/``. No rule writes there; verdicts read the latter two.
"""
