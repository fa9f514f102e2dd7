"""Tiny models of real architectures."""
