"""Weight geometry of P2 (arXiv 2511.08567): what fine-tuning did to a model's weight matrices.

Every measurement is a function of two matrices ``W0`` and ``W+`` of shape ``[m, n]`` (``[out, in]``, as
``Linear.weight``) and stands beside its null: what an update of the same size would show without any
preference of its own. Linear algebra is float64.
"""
