"""How a checkpoint reads problems and writes answers, with a real tokenizer made here."""

from pathlib import Path

import pytest

from rlscape.errors import CheckpointError
from rlscape.tasks.registry import TASKS
from rlscape.tasks.speech import END_THINK, INTERRUPTION, THINK, WORDS, Chat
from rlscape.tasks.words import ANSWER
from tests.chat_model import SUMS, make_chat_model, make_tokenizer

PROBLEM = TASKS["sums"].make_sets(TASKS["sums"].settings.model_validate(SUMS)).training[0]


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Chat:
    return Chat(make_chat_model(tmp_path_factory.mktemp("chat")))


def test_a_prompt_is_a_conversation_that_the_model_goes_on_with(chat: Chat) -> None:
    prompt = chat.tokenizer.decode(chat.spoken(PROBLEM).prompt_ids)
    assert prompt == f"<|im_start|>user\n{PROBLEM.question}<|im_end|>\n<|im_start|>assistant\n"


def test_the_reference_is_correct(chat: Chat) -> None:
    problem = chat.spoken(PROBLEM)
    assert problem.reference_ids[-1] == chat.tokenizer.eos_token_id
    assert problem.verify(problem.reference_ids) and problem.verify_leniently(problem.reference_ids)


def test_a_completion_that_does_not_end_is_correct_leniently_only(chat: Chat) -> None:
    problem = chat.spoken(PROBLEM)
    assert not problem.verify(problem.reference_ids[:-1])
    assert problem.verify_leniently(problem.reference_ids[:-1])
    assert not problem.verify([])


def test_another_form_is_correct_leniently_only(chat: Chat) -> None:
    problem = chat.spoken(PROBLEM)
    said = chat.tokenizer.encode(f"The answer is {PROBLEM.answer}.", add_special_tokens=False)
    ids = [*said, chat.tokenizer.eos_token_id]
    assert not problem.verify(ids) and problem.verify_leniently(ids)


def test_an_interruption_ends_in_the_words_that_an_answer_starts_with(chat: Chat) -> None:
    phrase = chat.tokenizer.decode(chat.marks.interruption)
    assert phrase == f"\n{INTERRUPTION}\n{ANSWER}"
    assert chat.tokenizer.decode(chat.marks.end_of_thought) == ANSWER
    mark = chat.marks.end_of_thought
    reference = chat.spoken(PROBLEM).reference_ids
    assert tuple(reference[: len(mark)]) == mark


def test_a_model_that_marks_its_thought_is_interrupted_with_the_mark(tmp_path: Path) -> None:
    chat = Chat(make_chat_model(tmp_path, END_THINK))
    assert chat.marks.end_of_thought == (chat.tokenizer.convert_tokens_to_ids(END_THINK),)
    assert chat.tokenizer.decode(chat.marks.interruption) == f"{INTERRUPTION} {END_THINK}"


def test_such_a_model_answers_after_its_thought(tmp_path: Path) -> None:
    chat = Chat(make_chat_model(tmp_path, THINK, END_THINK))
    settings = TASKS["sums"].settings.model_validate(SUMS | {"operations": [2, 2], "steps": True})
    sum_ = TASKS["sums"].make_sets(settings).training[0]
    problem = chat.spoken(sum_)
    text = chat.tokenizer.decode(problem.reference_ids)
    first, second = sum_.steps
    assert text == f"{THINK}\n{first}\n{second}\n{END_THINK}\n\n{ANSWER} {sum_.answer}<|im_end|>"
    assert problem.verify(problem.reference_ids)
    chat.tokenizer.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    assert chat.tokenizer.decode(chat.spoken(sum_).reference_ids).startswith(first)


def test_a_tokenizer_without_chat_template_is_refused(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="has no chat template; take an instruction-tuned checkpoint"):
        Chat(tmp_path)


def test_a_directory_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no tokenizer that transformers reads"):
        Chat(tmp_path)


def test_the_tiny_models_read_problems_as_they_are() -> None:
    problem = object()
    assert WORDS.spoken(problem) is problem
