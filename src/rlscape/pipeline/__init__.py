"""What Snakemake's rules call, a module per rule: ``python -m rlscape.pipeline.<rule> --help`` lists its options.

:mod:`~rlscape.pipeline.entry` is what they share. :mod:`~rlscape.pipeline.gallery` is no rule: ``make gallery``,
``make verdicts`` and ``make redraw`` call it.
"""
