"""Procedural tasks: a shared vocabulary, problem generators and verifiers. Torch-free."""
