"""Stack programs in words: the question, the reference, and which programs are accepted."""

from collections import Counter

import pytest

from rlscape.errors import ConfigError
from rlscape.tasks import code
from rlscape.tasks.programs import ProgramsSettings, chance_rate, in_words, make_sets
from tests.test_code_task import PROBLEM as FUNCTION

SETTINGS = ProgramsSettings(
    operations=(1, 3), downstream_operations=(4, 4), pool_size=90, validation_size=60, downstream_size=20
)
PROBLEM = in_words(FUNCTION)
PROGRAM = "3 + dup 3 * dup 3 +"


@pytest.fixture(scope="module")
def sets():
    return make_sets(SETTINGS)


def test_the_question_explains_the_machine_and_shows_two_examples():
    assert PROBLEM.question == (
        "A program changes a stack of numbers word by word: a digit is pushed, dup copies the top, and + - * replace "
        "the two topmost numbers by their result modulo 10. Which program turns the stack 2 into 5 5 8 and the stack 5 "
        'into 8 4 7 (the top is last)? End with "Answer: " and the program.'
    )


def test_the_reference_derives_the_program():
    assert PROBLEM.reference == (
        "2 and 5: difference 3\n"
        "5 and 8: difference 3, so 3 +\n"
        "5 and 4: difference 9, so 3 *\n"
        "8 and 7: difference 9, so 3 +\n"
        f"Answer: {PROGRAM}"
    )


@pytest.mark.parametrize("completion", [PROBLEM.reference, f"Answer: {PROGRAM}", "Answer: 1 2 + + dup 3 * dup 3 +"])
def test_any_program_that_computes_the_function_solves_it(completion):
    assert PROBLEM.solves(completion) and PROBLEM.solves_leniently(completion)


@pytest.mark.parametrize(
    "completion",
    [
        f"The program is `{PROGRAM}`.",
        f"Answer: {PROGRAM}\nI hope this helps!",
        f"Answer: 3\nAnswer: {PROGRAM}",
        f"Answer: {PROGRAM}.",
        f"The answer is: {PROGRAM}",
    ],
)
def test_solved_leniently_only(completion):
    assert not PROBLEM.solves(completion) and PROBLEM.solves_leniently(completion)


@pytest.mark.parametrize("completion", ["", "Answer: 5 5 8", "Answer: 3 + dup 3 * dup 4 +", f"Answer: {PROGRAM} dup"])
def test_not_solved_at_all(completion):
    assert not PROBLEM.solves(completion) and not PROBLEM.solves_leniently(completion)


def test_sets_are_those_of_the_code_task(sets):
    functions = code.make_sets(
        code.CodeSettings(
            operations=(1, 3), downstream_operations=(4, 4), pool_size=90, validation_size=60, downstream_size=20
        )
    )
    assert [[problem.function for problem in problems] for problems in sets] == list(functions)
    assert chance_rate(sets.validation) == code.chance_rate(functions.validation)
    prompts = [problem.prompt for problems in sets for problem in problems]
    assert len(set(prompts)) == len(prompts)
    assert set(Counter(problem.operations for problem in sets.training).values()) == {30}
    assert {problem.operations for problem in sets.downstream} == {4}


def test_references_solve_their_problems(sets):
    for problems in sets:
        for problem in problems:
            assert problem.solves(problem.reference) and problem.solves_leniently(problem.reference)


def test_too_few_programs_are_an_error():
    with pytest.raises(ConfigError, match="only 120 problems are programs of 1 multiplications"):
        make_sets(SETTINGS.changed(operations=(1, 1), pool_size=2000))
