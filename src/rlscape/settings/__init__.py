"""Typed, validated settings, and no logic that a job runs: an unknown key is an error. Torch-free.

- :mod:`~rlscape.settings.scale`: a scale's file, with what is in it in ``base_model``, ``training``, ``measurement``;
- :mod:`~rlscape.settings.recipe`: one RL method, every axis of P1 as a field;
- :mod:`~rlscape.settings.run`: everything that determines one run, as the catalogue resolves it;
- :mod:`~rlscape.settings.reading`: YAML and JSON to settings, and what is wrong with them.
"""
