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


class SimilarityColumn(NamedTuple):
    """A kind of matrix in Table 2, block 13: means over pairs of five runs."""

    jaccard: float
    chance: float
    """Jaccard index of independent masks."""
    phi: float
    """Of masks of equal density with these two numbers; derived, not in the paper."""


TABLE_2: dict[str, SimilarityColumn] = {
    "q": SimilarityColumn(0.580, 0.430, 0.33),
    "k": SimilarityColumn(0.580, 0.413, 0.36),
    "v": SimilarityColumn(0.597, 0.467, 0.31),
    "o": SimilarityColumn(0.552, 0.373, 0.37),
    "down": SimilarityColumn(0.585, 0.453, 0.31),
    "up": SimilarityColumn(0.578, 0.443, 0.31),
    "gate": SimilarityColumn(0.575, 0.437, 0.31),
}


class CheckpointRow(NamedTuple):
    """A row of Table 3, and the arm that stands for it here."""

    base: str
    tuned: str
    method: str
    arm: str


TABLE_3: tuple[CheckpointRow, ...] = (
    CheckpointRow("Qwen3-8B", "SkyRL-Agent-WebResearch-8B", "GRPO", "agent_search"),
    CheckpointRow("Qwen3-8B", "VT-deepsearch-8B", "GRPO", "agent_search"),
    CheckpointRow("Qwen3-8B", "VT-SWE-8B", "GRPO", "agent_calculator"),
    CheckpointRow("Qwen2.5-7B-Instruct", "agentflow-planner-7b", "Flow-GRPO", "agent_planning"),
    CheckpointRow("Qwen2.5-7B-Instruct", "GiGPO-Qwen2.5-7B-Instruct-WebShop", "GiGPO", "agent_planning"),
    CheckpointRow("Qwen2.5-7B-Instruct", "GiGPO-Qwen2.5-7B-Instruct-ALFWorld", "GiGPO", "agent_planning"),
    CheckpointRow("Meta-Llama-3-8B-Instruct", "Llama-3-Instruct-8B-DPO", "DPO", "dpo"),
    CheckpointRow("Meta-Llama-3-8B-Instruct", "Llama-3-Instruct-8B-SimPO", "SimPO", "simpo"),
)
