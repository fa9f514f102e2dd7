"""The word-level vocabulary that every task and every tiny model shares.

Words are separated by single spaces, one word is one token. Torch-free; only :func:`build_tokenizer`
needs ``transformers``, and imports it when called.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TOKENS: tuple[str, ...] = (
    *("<pad>", "<eos>", "<think>", "</think>", "<call>", "<result>"),
    *"0123456789",
    *"+-*=",
    *("time", "is", "up"),
    *("dup", "->", ";"),
)
"""A token's position is its id: new words go to the end."""

_IDS = {token: index for index, token in enumerate(TOKENS)}

PAD_ID = _IDS["<pad>"]
EOS_ID = _IDS["<eos>"]
THINK_ID = _IDS["<think>"]
END_THINK_ID = _IDS["</think>"]
CALL_ID = _IDS["<call>"]
RESULT_ID = _IDS["<result>"]

INTERRUPTION = "time is up </think>"
"""What a forced interruption appends to an unfinished thought.
Paper (arXiv 2510.13786, section 2): "Okay, time is up. Let me stop thinking and formulate a final answer
now. </think>". Here: its first words."""


def encode(text: str) -> list[int]:
    """Token ids of space-separated words.

    Raises:
        ValueError: a word is not in the vocabulary.
    """
    try:
        return [_IDS[word] for word in text.split()]
    except KeyError as error:
        raise ValueError(f"{error.args[0]!r} is not in the vocabulary: {' '.join(TOKENS)}") from None


def decode(ids: Iterable[int]) -> str:
    """The words of some token ids, separated by spaces; a model's row without a word, say 40, is ``<40>``."""
    return " ".join(TOKENS[index] if index < len(TOKENS) else f"<{index}>" for index in ids)


INTERRUPTION_IDS = tuple(encode(INTERRUPTION))


def build_tokenizer(size: int | None = None) -> "PreTrainedTokenizerFast":
    """The same vocabulary, or its first ``size`` words, as a tokenizer that is saved beside each model."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel(dict(list(_IDS.items())[:size])))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="<eos>",
        clean_up_tokenization_spaces=False,
    )
