"""rlscape: small-scale replications of two papers on reinforcement learning for language models.

- P1: The Art of Scaling RL Compute for LLMs, arXiv 2510.13786 ("scalerl").
- P2: The Path Not Taken: RLVR Provably Learns Off the Principals, arXiv 2511.08567 ("off_principals").
"""

__version__ = "0.1.0"
