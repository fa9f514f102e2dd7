"""Checkpoints of any model: how fine-tuning changed the weights, and changes of weights that leave the function."""
