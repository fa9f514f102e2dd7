"""How often each criterion of the register decides, and how often it errs: the real evaluators on simulated results.

Of every claim there is a world in which it holds, one in which it does not, and some in which it nearly holds. Seeds
and evaluations scatter as recorded ones do (:mod:`rlscape.power.recorded`). :mod:`rlscape.power.estimate` draws from
the worlds what a scale would have recorded and counts the verdicts; the worlds are in :mod:`rlscape.power.scalerl`, the
learning curves of a draw in :mod:`rlscape.power.runs`.
"""
