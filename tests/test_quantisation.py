"""Grids of quantised weights, put on and erased."""

import gguf
import pytest
import torch

from rlscape.models.build import as_decoder, build_model
from rlscape.models.decoder import Decoder
from rlscape.models.quantisation import BLOCK, LEVELS, dither_, grid_steps, to_q4_1_
from rlscape.settings.base_model import ModelSettings

SHAPE = ModelSettings(
    hidden_size=64, layers=1, heads=2, kv_heads=1, head_dim=24, intermediate_size=96, architecture="llama"
)
"""The output projection has rows of 48, which are no whole blocks."""


@pytest.fixture
def model() -> Decoder:
    return as_decoder(build_model(SHAPE, 0))


def test_a_grid_is_that_of_gguf(model: Decoder) -> None:
    before = {name: values.detach().clone() for name, values in model.named_parameters()}
    to_q4_1_(model)
    for name, values in model.named_parameters():
        if values.ndim == 2 and values.shape[1] % BLOCK == 0:
            stored = gguf.quants.quantize(before[name].numpy(), gguf.GGMLQuantizationType.Q4_1)
            expected = torch.from_numpy(gguf.quants.dequantize(stored, gguf.GGMLQuantizationType.Q4_1))
            assert torch.equal(values.detach(), expected), name
            assert max(len(block.unique()) for block in expected.view(-1, BLOCK)) <= LEVELS
        else:
            assert torch.equal(values, before[name]), name


def test_a_block_of_equal_values_keeps_them(model: Decoder) -> None:
    for values in model.parameters():
        values.data.fill_(0.5)
    to_q4_1_(model)
    assert all((values == 0.5).all() for values in model.parameters())


def test_dithering_erases_the_grid_and_keeps_the_values_on_average(model: Decoder) -> None:
    random = torch.Generator().manual_seed(0)
    for values in model.parameters():
        values.data.normal_(generator=random)
    to_q4_1_(model)
    on_grid = {name: values.detach().clone() for name, values in model.named_parameters()}
    dither_(model, random)
    for name, values in model.named_parameters():
        moved = values.detach() - on_grid[name]
        if values.ndim == 2 and values.shape[1] % BLOCK == 0:
            blocks = on_grid[name].unflatten(1, (-1, BLOCK))
            step = (blocks.amax(-1, keepdim=True) - blocks.amin(-1, keepdim=True)) / (LEVELS - 1)
            assert torch.isclose(grid_steps(blocks), step, rtol=1e-3).float().mean() > 0.9
            in_steps = moved.unflatten(1, (-1, BLOCK)) / step
            assert in_steps.abs().median() == pytest.approx(0.25, abs=0.03)
            assert abs(in_steps.mean()) < 0.05
        else:
            assert not moved.any()
