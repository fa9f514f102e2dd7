"""Tables 4 and 5 of P2 (arXiv 2511.08567v1): pass rates by the entries that train, one run each of DS-Qwen-1.5B."""

from typing import NamedTuple


class MaskRow(NamedTuple):
    """A row of Table 4 or 5: pass rates in percent, and the share of the linear layers' entries that train."""

    MATH500: float
    AMC23: float
    AIME24: float
    AIME25: float
    average: float
    """As printed; in three rows of Table 5 it is not the mean of the four."""
    trained: float

    @property
    def recomputed(self) -> float:
        """The mean of the four, to two digits."""
        return round((self.MATH500 + self.AMC23 + self.AIME24 + self.AIME25) / 4 + 1e-9, 2)


TABLE_4: dict[str, MaskRow] = {
    # arm: after 320 steps
    "mask_dense": MaskRow(84.20, 81.56, 36.98, 27.03, 57.44, 100.0),
    "mask_principal": MaskRow(83.60, 77.19, 30.16, 24.32, 53.82, 50.0),
    "mask_complement": MaskRow(82.70, 78.90, 34.28, 25.73, 55.40, 50.0),
    "mask_low": MaskRow(84.50, 80.08, 35.62, 26.56, 56.69, 58.59),
    "mask_safe": MaskRow(85.20, 78.83, 34.74, 26.20, 56.24, 74.02),
    "mask_random": MaskRow(84.50, 77.35, 34.48, 25.01, 55.34, 74.02),
}

TABLE_5: dict[str, MaskRow] = {
    # arm: after 500 steps
    "mask_dense": MaskRow(84.5, 83.52, 38.28, 28.075, 58.59, 100.0),
    "mask_principal": MaskRow(83.60, 78.83, 34.06, 25.63, 55.44, 50.0),
    "mask_complement": MaskRow(84.0, 77.97, 38.64, 27.81, 56.90, 50.0),
    "mask_low": MaskRow(83.8, 82.42, 37.03, 27.82, 57.77, 58.59),
    "mask_safe": MaskRow(84.10, 81.41, 40.30, 27.70, 58.37, 74.02),
    "mask_random": MaskRow(84.10, 81.72, 34.69, 27.34, 56.89, 74.02),
}

ERROR_OF_DIFFERENCE = 0.77
"""The most that sampling alone makes the standard error of a difference of two averages, in percent; derived."""
