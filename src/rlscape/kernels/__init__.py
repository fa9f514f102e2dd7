"""The engine's inner loops in C++, compiled once for each machine; without a compiler, torch computes the same.

- :mod:`~rlscape.kernels.library` compiles and loads them, and says which of both a process uses;
- :mod:`~rlscape.kernels.functions`: norms, rotations, gates and attention, with their gradients;
- :mod:`~rlscape.kernels.decoding`: a dense decoder's forward pass over a cache.
"""
