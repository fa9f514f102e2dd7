"""How a model reads problems and writes answers: the words of the tiny models, or a checkpoint's own tokens.

Problems of the tiny tasks are written in the shared vocabulary. Those of tasks in words are text; a checkpoint's
tokenizer and chat template turn them into prompts, and its completions into text that the task verifies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rlscape.errors import CheckpointError
from rlscape.tasks.base import Problem
from rlscape.tasks.vocabulary import END_THINK_ID, EOS_ID, INTERRUPTION_IDS, RESULT_ID, build_tokenizer
from rlscape.tasks.words import ANSWER, WordProblem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

THINK, END_THINK = "<think>", "</think>"
INTERRUPTION = "Okay, time is up. Let me stop thinking and formulate a final answer now."
"""Paper (arXiv 2510.13786, section 2): this phrase, then ``</think>``. Here: then that mark where a model has it as a
token of its own, else the words that every answer starts with."""
TEMPLATE = "chat_template.jinja"
NO_TEMPLATE = (
    f"its tokenizer has no chat template; take an instruction-tuned checkpoint, or add a {TEMPLATE} that says how a "
    "question is asked"
)
DATE = "26 Jul 2024"
"""What templates that tell the date are told (the default of Llama 3's): a prompt is the same every day."""


@dataclass(frozen=True)
class Marks:
    """The tokens that the engine itself looks for or writes."""

    ends: tuple[int, ...]
    """Each of them ends a completion."""
    end_of_thought: tuple[int, ...]
    """In a row they end the thought; what follows is the answer."""
    interruption: tuple[int, ...]
    """What a forced interruption appends; it ends in ``end_of_thought``."""
    result: int | None
    """After it an environment writes a token."""


class Speech(Protocol):
    """Of one model."""

    @property
    def marks(self) -> Marks: ...

    @property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """As ``transformers`` has it."""
        ...

    def spoken(self, problem: Any) -> Problem:
        """The problem in this model's tokens."""
        ...


class _Words:
    """The shared vocabulary: problems are written in it already."""

    marks = Marks((EOS_ID,), (END_THINK_ID,), INTERRUPTION_IDS, RESULT_ID)

    @property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        return build_tokenizer()

    def spoken(self, problem: Problem) -> Problem:
        return problem


WORDS: Speech = _Words()
"""That of every model made from scratch."""


class Chat:
    """A checkpoint's tokenizer and chat template.

    Args:
        directory: of the model.

    Raises:
        CheckpointError: there is no tokenizer, or it has no chat template or no end token.
    """

    def __init__(self, directory: Path) -> None:
        self.tokenizer = _read_tokenizer(directory)
        self.end: int = self.tokenizer.eos_token_id
        thought = self.tokenizer.encode(END_THINK, add_special_tokens=False)
        self.thinks = len(thought) == 1
        """Whether it has a mark of its own for the end of a thought."""
        if self.thinks:
            phrase = f"{INTERRUPTION} {END_THINK}"
        else:
            thought = self.tokenizer.encode(ANSWER, add_special_tokens=False)
            phrase = f"\n{INTERRUPTION}\n{ANSWER}"
        interruption = self.tokenizer.encode(phrase, add_special_tokens=False)
        if interruption[-len(thought) :] != thought:
            raise CheckpointError(
                f"{directory}: its tokenizer joins the end of {phrase!r} to other words; the engine cannot interrupt it"
            )
        self.marks = Marks((self.end,), tuple(thought), tuple(interruption), None)

    def spoken(self, problem: WordProblem) -> Problem:
        return SpokenProblem(problem, self)

    def completion_ids(self, reference: str, prompt_ids: list[int]) -> list[int]:
        """Of a correct completion; where the model marks its thoughts, all but the last line is one."""
        *steps, answer = reference.split("\n")
        if self.thinks:
            opened = str(self.tokenizer.decode(prompt_ids)).rstrip().endswith(THINK)
            thought = ["" if opened else f"{THINK}\n", *(f"{step}\n" for step in steps), f"{END_THINK}\n\n"]
            reference = "".join(thought) + answer
        return [*self.tokenizer.encode(reference, add_special_tokens=False), self.end]

    def prompt_ids(self, question: str) -> list[int]:
        """Of a conversation that starts with a question and goes on with the model's answer."""
        return self.tokenizer.apply_chat_template(  # type: ignore[return-value]
            [{"role": "user", "content": question}],
            add_generation_prompt=True,
            return_dict=False,
            date_string=DATE,
        )


@dataclass(frozen=True)
class SpokenProblem:
    """A problem in words, in the tokens of one checkpoint; see :class:`rlscape.tasks.base.Problem`."""

    problem: WordProblem
    speech: Chat

    @property
    def prompt(self) -> str:
        return self.problem.question

    @cached_property
    def prompt_ids(self) -> list[int]:
        return self.speech.prompt_ids(self.problem.question)

    @cached_property
    def reference_ids(self) -> list[int]:
        return self.speech.completion_ids(self.problem.reference, self.prompt_ids)

    def verify(self, completion_ids: Sequence[int]) -> bool:
        """Whether a completion ends, and its text solves the problem in the form that was asked for."""
        ended = bool(completion_ids) and completion_ids[-1] == self.speech.end
        return ended and self.problem.solves(self.text(completion_ids[:-1]))

    def verify_leniently(self, completion_ids: Sequence[int]) -> bool:
        """Whether the right answer is found in a completion, whatever its form; cut off or not."""
        return self.problem.solves_leniently(self.text(completion_ids))

    def text(self, ids: Sequence[int]) -> str:
        """The words of a completion, without marks such as the end token."""
        return str(self.speech.tokenizer.decode(list(ids), skip_special_tokens=True))


def _read_tokenizer(directory: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{directory}: no tokenizer that transformers reads ({reason})") from None
    if tokenizer.chat_template is None:
        raise CheckpointError(f"{directory}: {NO_TEMPLATE}")
    if tokenizer.eos_token_id is None:
        raise CheckpointError(f"{directory}: its tokenizer has no eos_token, which ends an answer; name one")
    return tokenizer
