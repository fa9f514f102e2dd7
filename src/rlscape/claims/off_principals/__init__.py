"""Evaluators of P2's claims (arXiv 2511.08567); criteria in words are in ``config/claims.yaml``."""
