"""How far training has moved a policy: KL divergence on fixed tokens, and size and sparsity of the update.

Paper (arXiv 2511.08567, Figure 15): a token-wise "forward KL" that is written ``KL(pi || pi_ref)``, on samples that
are not described. Here: both directions over the whole vocabulary, mean over the completion tokens of reference
traces of validation problems, so that every method and every step is read on the same tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rlscape.geometry.sparsity import UpdateTotals
from rlscape.models.decoder import Decoder
from rlscape.rl.packing import Packing
from rlscape.settings.run import RunSettings
from rlscape.tasks.sets import make_task_sets
from rlscape.tasks.speech import WORDS, Speech

Probe = tuple[list[int], list[int]]
"""Prompt ids and completion ids."""


def probes_of(settings: RunSettings, speech: Speech = WORDS) -> list[Probe]:
    """Reference traces of the first ``drift_prompts`` problems of the first task's validation set.

    Tools' answers are included.
    """
    if not settings.drift_prompts:
        return []  # problems take time to make
    first, *_ = make_task_sets(settings.tasks, speech).values()
    validation = first.validation
    return [(problem.prompt_ids, problem.reference_ids) for problem in validation[: settings.drift_prompts]]


@torch.no_grad()
def token_log_probs(model: Decoder, probes: Sequence[Probe]) -> Tensor:
    """(T, vocabulary) log-probabilities in fp32 where the completions' T tokens are predicted."""
    ordered = sorted(probes, key=lambda probe: len(probe[1]))
    batch = Packing(
        [prompt for prompt, _ in ordered],
        [torch.tensor(completion) for _, completion in ordered],
        torch.arange(len(ordered)),
    )
    hidden = model.weights().hidden_states(batch.ids, batch.positions, batch.attend)
    return torch.nn.functional.linear(hidden[batch.sources], model.lm_head.weight).log_softmax(-1)


def divergence(first: Tensor, second: Tensor) -> float:
    """KL(first || second) in nats per token, of log-probabilities (T, vocabulary)."""
    return float((first.exp() * (first - second)).sum(-1).mean())


class Drift:
    """Distances of a policy to the one that training started from.

    Args:
        model: at the start.
        probes: where divergences are measured; none: they are not.
    """

    def __init__(self, model: Decoder, probes: Sequence[Probe]) -> None:
        self.probes = probes
        self.weights = {name: _compact(values) for name, values in linear_matrices(model).items()}
        self.start = self.latest = token_log_probs(model, probes) if probes else torch.empty(0)

    def measure(self, model: Decoder) -> dict[str, float]:
        """Divergences after an update, nats per token; ``kl_step`` is from the policy that was measured before."""
        if not self.probes:
            return {}
        now = token_log_probs(model, self.probes)
        measured = {
            "kl_from_start": divergence(self.start, now),
            "kl_to_start": divergence(now, self.start),
            "kl_step": divergence(now, self.latest),
        }
        self.latest = now
        return measured

    def size(self, model: Decoder) -> dict[str, float]:
        """x, bf16 sparsity and relative norm of the update of the matrices inside the blocks."""
        total = UpdateTotals()
        for name, values in linear_matrices(model).items():
            total += UpdateTotals.of(self.weights[name].float().cpu(), values.cpu())
        return {name: total.summary()[name] for name in ("x", "sparsity", "relative_norm")}


def _compact(values: Tensor) -> Tensor:
    """A copy, of half the size where the values lie on the bf16 grid, as those of most bases do."""
    rounded = values.to(torch.bfloat16)
    return rounded if torch.equal(rounded.float(), values) else values.clone()


@torch.no_grad()
def linear_matrices(model: Decoder) -> dict[str, Tensor]:
    """The matrices inside the blocks, adapters merged: tensor name -> (out, in)."""
    modules = model.model.layers.named_modules(prefix="model.layers")
    matrices = {f"{name}.weight": module.weight.detach() for name, module in modules if hasattr(module, "weight")}
    return {name: values for name, values in matrices.items() if values.ndim == 2}
