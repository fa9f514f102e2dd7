"""Evaluators of P1's claims (arXiv 2510.13786); criteria in words are in ``config/claims.yaml``.

:mod:`~rlscape.claims.scalerl.forecasts`: what a fit foresees. :mod:`~rlscape.claims.scalerl.recipes`: losses,
schedules and prompts. :mod:`~rlscape.claims.scalerl.ablations`: sweeps and leave-one-out.
:mod:`~rlscape.claims.scalerl.stability`: collapse and truncation. :mod:`~rlscape.claims.scalerl.scale`: batch, length,
model size and transfer.
"""
