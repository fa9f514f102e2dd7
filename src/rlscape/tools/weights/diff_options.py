"""What ``rlscape diff`` compares, and how."""

from dataclasses import dataclass

from rlscape.tools.weights import low_rank

LARGEST_RANK = 64


@dataclass(frozen=True)
class DiffOptions:
    """What to compare, and how."""

    only: str | None = None
    """A regular expression; tensors whose name it does not match anywhere are left out."""
    rank: int | None = None
    """k of the principal subspaces; default: a quarter of the smaller side, at most 64."""
    density: float = 0.5
    """alpha: share of the entries in the principal and in the low-magnitude mask."""
    exact: int = 512
    """Largest smaller side of a matrix that gets an exact float64 SVD."""
    angle_null: bool = False
    """Draw an isotropic update for every matrix and measure its angles too; a third more time."""
    max_memory: float | None = None
    """GiB; a tensor that is estimated to need more is refused before work begins. More memory lets more tensors be
    measured side by side; the default for that is 5 GiB, and a tensor alone may take more."""
    threads: int | None = None
    """Tensors measured side by side; default: torch's number of threads."""

    def rank_of(self, m: int, n: int) -> int:
        """k of an ``m x n`` matrix."""
        default = min(LARGEST_RANK, max(1, round(min(m, n) / 4)))
        return min(self.rank or default, min(m, n))

    def is_exact(self, m: int, n: int) -> bool:
        """Whether an ``m x n`` matrix gets an exact SVD."""
        return min(m, n) <= self.exact or not low_rank.fits((m, n), self.rank_of(m, n))
