"""A tiny checkpoint as others leave them: a random model, tied, in bf16, with a byte-level tokenizer and a template."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rlscape.tasks.registry import TASKS

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SUMS = {
    "source": "sums",
    "operations": [1, 1],
    "downstream_operations": [2, 2],
    "digits": [1, 1],
    "operators": ["+"],
    "steps": False,
    "pool_size": 24,
    "validation_size": 12,
    "downstream_size": 8,
}


def make_tokenizer(*marks: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE, learnt on a few problems; ``marks`` are tokens of their own."""
    settings = TASKS["sums"].settings.model_validate(SUMS)
    problems = TASKS["sums"].make_sets(settings).training
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|im_start|>", "<|im_end|>", *marks],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text for each in problems for text in (each.question, each.reference)], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>")
    fast.chat_template = TEMPLATE
    return fast


def make_chat_model(directory: Path, *marks: str, seed: int = 0) -> Path:
    """Write a checkpoint's directory."""
    tokenizer = make_tokenizer(*marks)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
