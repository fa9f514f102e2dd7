"""What Snakemake's rules call, a module per rule: ``python -m rlscape.pipeline.<rule> --help`` lists its options.

:mod:`~rlscape.pipeline.entry` is what they share. :mod:`~rlscape.pipeline.gallery` is no rule: ``make gallery``,
``make verdicts`` and ``make redraw`` call it.
"""

import gc
import sys

if sys.argv[0] == "-m":
    # A job starts. What its modules make stays, and looking through it again and again takes a fifth of the start;
    # entry.collect_garbage turns collection on.
    gc.disable()
