"""Stock models that compute as the engine does: without padding, from the parameters that they have.

``trl`` pads the sequences of a batch to the longest, and a stock backbone computes the padding too. Here the engine's
forward pass takes the backbone's place, as in RL; trainer, loss, head and optimiser are ``trl``'s and the model's own.
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
    predicting = (mask[:, :-1] & mask[:, 1:])[order]
    sequences = [row[real] for row, real in zip(ids[order], mask[order], strict=True)]
    with ids.device:
        # All but the first token is the completion of a prompt, which is the first.
        batch = Packing(
            [sequence[:1].tolist() for sequence in sequences],
            [sequence[1:] for sequence in sequences],
            torch.arange(len(sequences)),
        )
        places = torch.arange(ids.numel()).view(ids.shape)[order, :-1][predicting]
    hidden = decoder.weights().hidden_states(batch.ids, batch.positions, batch.attend)
    padded = hidden.new_zeros(ids.numel(), hidden.shape[-1])
    return padded.index_copy(0, places, hidden.index_select(0, batch.sources)).view(*ids.shape, -1)


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
