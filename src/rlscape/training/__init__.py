"""Whatever trains a model: thin users of ``trl`` and ``peft``, and pretraining.

- :mod:`~rlscape.training.pretrain`: base models;
- :mod:`~rlscape.training.rl`: RL runs on the engine of :mod:`rlscape.rl`, with an adapter (``adapters``) or a mask
  (``masks``), tracked by ``drift``;
- :mod:`~rlscape.training.sft`, :mod:`~rlscape.training.preference`: SFT, DPO and SimPO by ``trl``; ``trl_runs`` is what
  they share.
"""
