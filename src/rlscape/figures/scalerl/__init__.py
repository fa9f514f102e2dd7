"""Figures of P1, arXiv 2510.13786: one module per figure, each with ``assemble`` and ``draw``."""
