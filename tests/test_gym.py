"""Datasets of reasoning-gym: sets, scores, and what is refused before any work."""

import sys
from collections import Counter

import numpy as np
import pytest

from rlscape.errors import ConfigError
from rlscape.tasks.gym import GymSettings, chance_rate, make_sets

SIZES = {"pool_size": 60, "validation_size": 30, "downstream_size": 10}
LETTERS = GymSettings(
    dataset="letter_counting",
    options={"min_words": 2, "max_words": 3},
    downstream_options={"min_words": 6, "max_words": 8},
    **SIZES,
)
SORTING = {"dataset": "word_sorting", "options": {"max_words": 3}, "downstream_options": {}}
PRIMES = {"dataset": "prime_factorization", "options": {"max_value": 500}, "downstream_options": {}}


@pytest.fixture(scope="module")
def sets():
    return make_sets(LETTERS)


def test_sizes_disjointness_and_difficulty(sets):
    assert [len(problems) for problems in sets] == [60, 30, 10]
    prompts = [problem.prompt for problems in sets for problem in problems]
    assert len(set(prompts)) == len(prompts)
    for problems, lengths in zip(sets, ({2, 3}, {2, 3}, {6, 7, 8}), strict=True):
        assert {len(problem.entry["metadata"]["span"]) for problem in problems} == lengths


def test_sets_depend_on_the_settings_alone(sets):
    assert make_sets(LETTERS) == sets
    other = {problem.prompt for problem in make_sets(LETTERS.changed(seed=1)).training}
    assert len(other & {problem.prompt for problem in sets.training}) < 10


def test_the_question_ends_in_how_to_answer(sets):
    question, instruction = sets.training[0].question.split("\n")
    assert question.startswith("How many times does the letter")
    assert instruction == 'End with "Answer: " and the answer.'


@pytest.mark.parametrize("changes", [{}, SORTING, PRIMES])
def test_references_solve_their_problems(changes):
    for problems in make_sets(LETTERS.changed(**changes)):
        for problem in problems:
            assert problem.solves(problem.reference) and problem.solves_leniently(problem.reference)


def test_what_is_solved_leniently_only(sets):
    problem = sets.training[0]
    for text in (
        problem.answer,
        f"It appears {problem.answer}",
        f"The answer is {problem.answer}.",
        f"**Answer: {problem.answer}**",
        f"Answer: {problem.answer}\nBye!",
        f"Answer: {problem.answer}\nAnswer: {problem.answer}",
    ):
        assert not problem.solves(text) and problem.solves_leniently(text), text
    for text in ("", "Answer: 99", f"Answer: {problem.answer}\nAnswer: 99", f"{problem.answer} or 99"):
        assert not problem.solves(text) and not problem.solves_leniently(text), text


def test_a_part_of_the_score_is_none(sets):
    problem = sets.training[0]
    twice = f"{problem.answer} {problem.answer}"
    assert 0 < problem.dataset.score_answer(twice, problem.entry) < 1
    assert not problem.solves(f"Answer: {twice}")


def test_what_a_scorer_cannot_read_is_wrong():
    problem = make_sets(LETTERS.changed(**PRIMES)).training[0]
    with pytest.raises(ValueError):
        problem.dataset.score_answer("banana", problem.entry)
    assert not problem.solves("Answer: banana")


@pytest.mark.parametrize("changes", [{}, SORTING, PRIMES])
def test_what_is_solved_strictly_is_solved_leniently(changes):
    """On random texts made of the parts of completions."""
    problem, rng = make_sets(LETTERS.changed(**changes)).training[0], np.random.default_rng(0)
    parts = ("\nAnswer: ", "Answer:", problem.answer, problem.answer, " ", "\n", "=", "answer is ", ".", ",", "'")
    texts = ["".join(parts[index] for index in rng.integers(len(parts), size=rng.integers(1, 6))) for _ in range(3000)]
    strict = [text for text in texts if problem.solves(text)]
    assert len(strict) > 20 and all(map(problem.solves_leniently, strict))


def test_chance_is_the_best_constant_answer(sets):
    counts = Counter(problem.answer for problem in sets.validation)
    assert chance_rate(sets.validation) == max(counts.values()) / 30


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "letter_count"}, r"dataset\n.*no dataset 'letter_count'; did you mean letter_counting"),
        ({"dataset": "zzzz"}, r"dataset\n.*no dataset 'zzzz'; there are composite, "),
        ({"options": {"min_word": 2}}, r"options\n.*letter_counting has no option 'min_word'; did you mean min_words"),
        ({"downstream_options": {"zzz": 2}}, r"downstream_options\n.* no option 'zzz'; there are min_words, max_words"),
        ({"options": {"seed": 2}}, r"options\n.* no option 'seed'"),
        ({"options": {"min_words": 9, "max_words": 8}}, r"options\n.*refuses them: AssertionError: max_words must be"),
        ({"options": {"min_words": "two"}}, r"options\n.*refuses them: TypeError"),
        ({"dataset": "rotate_matrix", "options": {}}, r"options\n.*no answers that are one line and alone score 1"),
        ({"dataset": "game_of_life_halting", "options": {}}, r"options\n.*no answers that are one line and alone"),
    ],
)
def test_settings_that_make_no_problems_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        LETTERS.changed(**changes)


def test_too_few_questions_are_an_error():
    settings = LETTERS.changed(dataset="count_bits", options={"min_n": 1, "max_n": 50}, downstream_options={})
    with pytest.raises(ConfigError, match=r"too few problems of count_bits with these options: 10000 draws"):
        make_sets(settings)


def test_a_missing_package_is_one_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(ValueError, match="needs reasoning-gym: make env, or pip install reasoning-gym"):
        LETTERS.changed(seed=1)
