"""Reinforcement learning with verifiable rewards (P1, arXiv 2510.13786): what happens where.

- ``trainer``: the loop, and the columns of a run's tables; ``hooks``: what may take part in it. The methods are in
  :mod:`rlscape.settings.recipe` and :mod:`rlscape.catalogue.recipes`, whole runs in :mod:`rlscape.training.rl`.
- From rollouts to an update: ``rewards`` (length penalty), ``advantages`` (normalisation, and ``active_prompts``, where
  the zero-variance filter drops prompts), ``losses`` (CISPO, DAPO, GRPO, GSPO, and aggregation), ``optimizer``.
- Sampling: ``rollout`` (continuous batching, in-flight weights, interruptions, environments' tokens), ``slots`` (its
  sequences), ``cache`` (their keys and values), ``evaluate`` (pass rates).
- Order: ``schedule`` (PPO-off-policy-k, PipelineRL-k), ``clock`` (compute, the x axis), ``prompts`` (epochs,
  No-Positive-Resampling), ``batches`` (how many at once).
- ``policy``: log-probabilities, and the head's precision (P1's FP32 head). ``packing``: batches without padding.
"""
