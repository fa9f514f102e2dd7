"""Scaling curves of P1 (arXiv 2510.13786), without torch: what happens where.

- ``sigmoid``: the law, Eq 1. ``curves``: reading a run's curve. ``sigmoid_fit``: the paper's grid procedure and least
  squares, over the ``lattice``. ``rivals``: power law and exponential saturation. ``windows``: fits to parts of a run.
- ``forecast``: what the first part of a run says about the rest, when that is refused, and its score. That no later
  point is read before the forecast is on disk is the doing of :mod:`rlscape.pipeline.fit_curve`.
- ``uncertainty``: the bootstrap within a run, t intervals over seeds. ``arms``: fits of runs as a table of arms.
- ``arm_comparison``: margins, compute to a common level, verdicts. ``ceilings``: B at a shared A. ``stability``:
  collapses.
- ``records``: results as JSON and back.
"""
