"""Tools for people's own runs: learning curves from training logs, weight geometry of checkpoints.

What the replication measures on its own runs, for logs and checkpoints that it has never seen; the command
``rlscape`` is a thin user of these functions.
"""
