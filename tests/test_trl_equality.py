"""Loss and gradient equal those of ``trl`` on one batch, for every loss that both define."""

import copy

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from rlscape.catalogue.recipes import SCALERL
from rlscape.models.build import as_decoder, build_model
from rlscape.rl.losses import aggregation_weights, policy_loss
from rlscape.rl.packing import Packing
from rlscape.rl.policy import completion_log_probs
from rlscape.settings.base_model import ModelSettings
from rlscape.tasks.vocabulary import PAD_ID, TOKENS, build_tokenizer

pytestmark = pytest.mark.training

LENGTHS = torch.tensor([3, 7, 5, 8])
ADVANTAGES = torch.tensor([1.0, -1.0, 0.5, -2.0])
PROMPT_LENGTH = 4


@pytest.fixture(scope="module")
def model():
    settings = ModelSettings(hidden_size=16, layers=2, heads=2, kv_heads=1, head_dim=8, intermediate_size=32)
    return build_model(settings, seed=0)


@pytest.fixture(scope="module")
def batch(model):
    """Four completions, padded on the right; one carries injected tokens, which are masked from the loss."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(PAD_ID + 1, len(TOKENS), (4, PROMPT_LENGTH + 8), generator=generator)
    positions = torch.arange(8)
    completed = positions < LENGTHS[:, None]
    loss_mask = completed.clone()
    loss_mask[3, 2:4] = False
    ids[:, PROMPT_LENGTH:][~completed] = PAD_ID
    with torch.no_grad():
        log_probs = our_log_probs(as_decoder(model), ids, loss_mask)
    sampled = torch.zeros(4, 8)
    sampled[loss_mask] = log_probs + 0.5 * torch.randn(log_probs.shape, generator=generator)
    return ids, completed, loss_mask, sampled


def our_log_probs(model, ids, loss_mask):
    prompts = ids[:, :PROMPT_LENGTH].tolist()
    completions = [row[:length] for row, length in zip(ids[:, PROMPT_LENGTH:], LENGTHS, strict=True)]
    packed_mask = torch.cat([row[:length] for row, length in zip(loss_mask, LENGTHS, strict=True)])
    batch = Packing(prompts, completions, torch.arange(4))
    return completion_log_probs(model, batch, packed_mask, "fp32", 1.0)


def trl_loss(model, batch, directory, **settings):
    """The loss of ``trl``'s trainer on the batch, and the model with its gradients."""
    ids, completed, loss_mask, sampled = batch
    arguments = GRPOConfig(
        output_dir=str(directory),
        per_device_train_batch_size=4,
        num_generations=2,
        bf16=False,
        use_cpu=True,
        activation_checkpointing=False,
        report_to="none",
        **settings,
    )
    trainer = GRPOTrainer(
        copy.deepcopy(model),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": ["3 + 4 ="] * 4}),
        processing_class=build_tokenizer(),
    )
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1  # set by the training loop, which does not run here
    inputs = {
        "prompt_ids": ids[:, :PROMPT_LENGTH],
        "prompt_mask": torch.ones(4, PROMPT_LENGTH, dtype=torch.long),
        "completion_ids": ids[:, PROMPT_LENGTH:],
        "completion_mask": completed.long(),
        "tool_mask": loss_mask.long(),
        "advantages": ADVANTAGES,
        "old_per_token_logps": sampled,
        "num_items_in_batch": loss_mask.sum(),
    }
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    return loss, trainer.model


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        (
            {"loss": "cispo", "cispo_cap": 1.3, "aggregation": "token"},
            {"loss_type": "cispo", "epsilon_high": 1.3},
        ),
        (
            {"loss": "dapo", "clip_low": 0.2, "clip_high": 0.26, "aggregation": "token"},
            {"loss_type": "dapo", "epsilon": 0.2, "epsilon_high": 0.26},
        ),
        (
            {"loss": "grpo", "clip_low": 0.2, "clip_high": 0.2, "aggregation": "sample"},
            {"loss_type": "grpo", "epsilon": 0.2},
        ),
        (
            {"loss": "gspo", "clip_low": 0.05, "clip_high": 0.06, "aggregation": "sample"},
            {
                "loss_type": "grpo",
                "importance_sampling_level": "sequence",
                "epsilon": 0.05,
                "epsilon_high": 0.06,
            },
        ),
    ],
    ids=["cispo", "dapo", "grpo", "gspo"],
)
def test_loss_and_gradient_equal_those_of_trl(model, batch, tmp_path, changes, settings):
    ids, _, loss_mask, sampled = batch
    recipe = SCALERL.changed(**changes)
    ours = as_decoder(model)
    sequence_ids = loss_mask.nonzero()[:, 0]
    weights = aggregation_weights(loss_mask.sum(1), torch.tensor([0, 0, 1, 1]), recipe.aggregation)
    loss, statistics = policy_loss(
        our_log_probs(ours, ids, loss_mask),
        sampled[loss_mask],
        ADVANTAGES,
        sequence_ids,
        weights[sequence_ids],
        recipe,
    )
    loss.backward()
    assert 0 < statistics.clip_fraction < 1, "the batch must exercise both branches"

    expected, theirs = trl_loss(model, batch, tmp_path, **settings)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    for (name, parameter), reference in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(
            parameter.grad,
            reference.grad,
            rtol=1e-4,
            atol=1e-6,
            msg=lambda text, name=name: f"{name}: {text}",
        )
