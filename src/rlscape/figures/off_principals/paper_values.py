"""What P2 (arXiv 2511.08567v1) reports, as far as its figures are reproduced here."""

from typing import NamedTuple


class SparsityRow(NamedTuple):
    """A row of Table 1."""

    base: str
    tuned: str
    method: str
    data: str
    sparsity: float
    """Share of weights unchanged in bf16."""
    update_size: float
    """x at which an isotropic update of Gaussian weights has this sparsity; derived, not in the paper."""


TABLE_1: tuple[SparsityRow, ...] = (
    SparsityRow("Qwen-1.5B", "DS-R1-Distill", "SFT", "mixed", 0.028, 23),
    SparsityRow("DS-Qwen-1.5B", "DeepScaleR", "GRPO", "math", 0.538, 0.89),
    SparsityRow("DS-Qwen-1.5B", "DeepCoder", "GRPO", "code", 0.455, 1.15),
    SparsityRow("DS-Qwen-1.5B", "Archer-Code", "GRPO", "code", 0.525, 0.92),
    SparsityRow("DS-Qwen-1.5B", "NV-ProRL", "GRPO", "mixed", 0.384, 1.45),
    SparsityRow("DS-Qwen-1.5B", "NV-ProRL-v2", "Reinforce++", "mixed", 0.363, 1.56),
    SparsityRow("Qwen3-8B-Base", "Klear-SFT", "SFT", "math+code", 0.006, 106),
    SparsityRow("Klear-SFT", "Klear-Reasoner-8B", "GRPO", "math+code", 0.695, 0.52),
    SparsityRow("Qwen3-8B-Base", "GT-Qwen3", "GRPO", "math", 0.799, 0.33),
    SparsityRow("Qwen3-8B-Base", "OURS", "DAPO", "math", 0.797, 0.33),
    SparsityRow("Qwen3-14B-Base", "UniReason-SFT", "SFT", "math", 0.188, 3.3),
    SparsityRow("Qwen3-14B-Base", "UniReason-RL", "GRPO", "math", 0.683, 0.54),
    SparsityRow("Qwen3-4B", "Polaris-4B", "DAPO", "math", 0.793, 0.34),
    SparsityRow("DS-Qwen-7B", "Polaris-7B", "DAPO", "math", 0.617, 0.69),
    SparsityRow("Qwen3-30B-A3B", "UloRL-A3B", "GRPO", "math", 0.917, 0.13),
)
