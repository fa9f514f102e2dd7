"""Procedural tasks, a file each: problems, verifier, sets, and the traces that a base model learns from. Torch-free.

What a task is stands in :mod:`~rlscape.tasks.base`; the list of tasks in :mod:`~rlscape.tasks.registry`.
"""
