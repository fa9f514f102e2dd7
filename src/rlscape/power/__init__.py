"""How often each criterion of the register decides, and how often it errs: the real evaluators on simulated results.

Of every claim there are two worlds, one in which it holds and one in which it does not. In both, seeds and evaluations
scatter as recorded ones do (:mod:`rlscape.power.recorded`). :mod:`rlscape.power.estimate` draws from them what a scale
would have recorded and counts the verdicts; the worlds are in :mod:`rlscape.power.scalerl` and
:mod:`rlscape.power.off_principals`, the learning curves of a draw in :mod:`rlscape.power.runs`.
"""
