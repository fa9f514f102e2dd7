"""Where models run and how exactly they compute."""

from typing import Literal

Device = Literal["cpu", "cuda"]
Precision = Literal["bf16", "fp32"]
HeadPrecision = Literal["m1", "m2", "m3", "m5", "bf16", "fp32"]
"""m5: values with 5 mantissa bits (bf16 has 7), and so on: coarser than any in use, to see what it would do."""
