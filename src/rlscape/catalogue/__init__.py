"""The catalogue of runs: an arm is a named recipe plus the one thing it changes; a figure names its arms.

- :mod:`~rlscape.catalogue.scalerl`, :mod:`~rlscape.catalogue.off_principals`: each paper's ``ARMS`` and ``FIGURES``,
  a line each;
- :mod:`~rlscape.catalogue.pilots`: runs that only pilots have, and what pilots choose by which rule;
- :mod:`~rlscape.catalogue.recipes`: the named recipes; :mod:`~rlscape.catalogue.grids`: what sweeps run over;
- :mod:`~rlscape.catalogue.resolve`: what a scale runs, and the complete settings of a run;
- :mod:`~rlscape.catalogue.styles`: colour and marker of every arm.
"""

from rlscape.catalogue.resolve import (
    ARMS,
    CHOICE_REFERENCE,
    CHOICES,
    FIGURES,
    arms_of,
    base_of,
    choices_of,
    curved_bases,
    figure_of,
    figures_of,
    first_run,
    load_scale,
    measured_arms,
    resolve_run,
    runs_of,
    scratch_base,
    seeds_of,
    start_of,
    tasks_of,
    with_catalogue,
    with_figure,
)

__all__ = [
    "ARMS",
    "CHOICES",
    "CHOICE_REFERENCE",
    "FIGURES",
    "arms_of",
    "base_of",
    "choices_of",
    "curved_bases",
    "figure_of",
    "figures_of",
    "first_run",
    "load_scale",
    "measured_arms",
    "resolve_run",
    "runs_of",
    "scratch_base",
    "seeds_of",
    "start_of",
    "tasks_of",
    "with_figure",
    "with_catalogue",
]
