"""Stock models that compute as the engine does: without padding, from the parameters that they have.

``trl`` pads the sequences of a batch to the longest, and a stock backbone computes the padding too. Here the engine's
forward pass takes the backbone's place, as in RL; trainer, loss, head and optimiser are ``trl``'s and the model's own.
What all sequences of a batch begin with, such as a chat template's system message, is computed once.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.modeling_outputs import MoeModelOutputWithPast

from rlscape.models.build import as_decoder
from rlscape.models.decoder import Decoder
from rlscape.rl.packing import Packing

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def packed_hidden_states(decoder: Decoder, ids: Tensor, mask: Tensor) -> Tensor:
    """The head's inputs (B, L, hidden_size) for sequences that are padded on the right.

    They are zero for padding and for a sequence's last token, from which nothing is predicted.

    Args:
        ids: (B, L) tokens.
        mask: (B, L) bool, false for padding; every sequence has two tokens or more.
    """
    order = mask.sum(1).argsort(stable=True)
    ids_of, mask_of = ids[order], mask[order]
    sequences = [row[real] for row, real in zip(ids_of, mask_of, strict=True)]
    alike = _common_prefix(ids_of, mask_of)
    shared = max(1, alike)
    with ids.device:
        # The rest of each sequence is the completion of a prompt: what all begin with, or else its own first token.
        batch = Packing(
            [sequence[:shared].tolist() for sequence in (sequences[:1] if alike else sequences)],
            [sequence[shared:] for sequence in sequences],
            torch.arange(len(sequences)) * (not alike),
        )
        places = torch.arange(ids.numel()).view(ids.shape)[order, shared - 1 : -1][mask_of[:, shared:]]
    hidden = decoder.weights().hidden_states(batch.ids, batch.positions, batch.attend)
    padded = hidden.new_zeros(ids.numel(), hidden.shape[-1])
    own = padded.index_copy(0, places, hidden.index_select(0, batch.sources)).view(*ids.shape, -1)
    return torch.cat((hidden[: shared - 1].expand(len(ids), -1, -1), own[:, shared - 1 :]), 1)


def _common_prefix(ids: Tensor, mask: Tensor) -> int:
    """How many tokens all sequences begin with, no sequence's last among them."""
    shortest = int(mask.sum(1).min())
    same = (ids[:, : shortest - 1] == ids[0, : shortest - 1]).all(0)
    return int(same.long().cumprod(0).sum())


def compute_packed(model: "PreTrainedModel") -> None:
    """Give a stock model's backbone the engine's forward pass, which stays on the device where the model is.

    It takes whole sequences, padded on the right, and nothing else that a backbone may be given: no cache, no
    positions, no embeddings.
    """
    with model.device:  # where the tables of rotations are made
        decoder = as_decoder(model, shared=True)

    def forward(input_ids: Tensor, attention_mask: Tensor | None = None, **others: Any) -> MoeModelOutputWithPast:
        given = [name for name, value in others.items() if value is not None and value is not False]
        if given:
            raise NotImplementedError(f"a packed model takes padded sequences and nothing else: {', '.join(given)}")
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return MoeModelOutputWithPast(last_hidden_state=packed_hidden_states(decoder, input_ids, mask.bool()))

    model.base_model.forward = forward
