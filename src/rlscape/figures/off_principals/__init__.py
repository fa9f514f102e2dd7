"""Figures of P2, arXiv 2511.08567: one module per figure, each with ``assemble`` and ``draw``."""
