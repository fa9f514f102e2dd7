"""Problems in plain text: how answers are read, strictly and leniently; sums and their sets."""

import re
from collections import Counter

import numpy as np
import pytest

from rlscape.errors import ConfigError
from rlscape.tasks.base import MOST_DRAWS
from rlscape.tasks.sums import Sum, SumsSettings, chance_rate, draw_problem, make_sets
from rlscape.tasks.words import ANSWER, conclusion, stated_answer

SETTINGS = SumsSettings(
    operations=(1, 3),
    downstream_operations=(4, 5),
    pool_size=301,
    validation_size=150,
    downstream_size=81,
    digits=(1, 2),
    operators=("+", "-", "*"),
    steps=True,
)
PROBLEM = Sum(
    'Compute 47 + 38 - 12 step by step. End with "Answer: " and the result.', ("47 + 38 = 85", "85 - 12 = 73"), True
)


@pytest.fixture(scope="module")
def sets():
    return make_sets(SETTINGS)


@pytest.mark.parametrize(
    "completion",
    [
        PROBLEM.reference,
        "Answer: 73",
        "anything\n\nAnswer: 73\n",
        "the answer is 5\nAnswer: 73\n \n",
    ],
)
def test_solved_strictly(completion):
    assert PROBLEM.solves(completion) and PROBLEM.solves_leniently(completion)


@pytest.mark.parametrize(
    "completion",
    [
        "73",
        "The answer is 73.",
        "So the answer is **73**.",
        "The answer to 47 + 38 - 12 is 73",
        "47 + 38 - 12 = 73",
        "47 + 38 = 85\n85 - 12 = 73.\nI hope this helps!",
        "After adding 47 and 38 and taking away 12, 73 is left: 73",
        "**Answer:** 73",
        "Answer:73",
        "Answer:  73",
        " Answer: 73",
        "Answer: 73 ",
        "Answer: 73.",
        "Answer:\n73",
        "answer: 73",
        "Answer: 85\nAnswer: 73",
        "Answer: 73\nAnswer: 73",
        "Answer: 73\n Answer: 73",
        "Answer: 73\nLet me know if you need more help.",
        "47 + 38 = 85\nAnswer: 85 - 12 = 73",
        r"The answer is $\boxed{73}$",
    ],
)
def test_solved_leniently_only(completion):
    assert not PROBLEM.solves(completion)
    assert PROBLEM.solves_leniently(completion)


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "\n",
        "Answer:",
        "Answer: ",
        "Answer: 85",
        "Answer: 730",
        "Answer: -73",
        "Answer: 7 3",
        "Answer: 73\nAnswer: 85",
        "Answer: 73, no, 85",
        "47 + 38 = 85\n85 - 12 = 73\nAnswer: 72",
        "73 is wrong, 85 is right",
        "I do not know.",
    ],
)
def test_not_solved_at_all(completion):
    assert not PROBLEM.solves(completion) and not PROBLEM.solves_leniently(completion)


def test_thousands_may_have_commas_in_a_lenient_reading():
    problem = Sum("?", ("999 + 235 = 1234",), False)
    assert problem.solves_leniently("The answer is 1,234, I think.") and not problem.solves("Answer: 1,234")


def test_what_a_completion_states_and_concludes():
    assert stated_answer("a\nAnswer: b c\n\n") == "b c"
    assert conclusion("The answer: my answer is 5\nBye") == "my answer is 5"
    assert conclusion("x = 3 = 4\nBye") == "4"
    assert conclusion("One\nTwo ") == "Two"
    assert conclusion("The final answer is:\n\n 12 apples\nBye") == "12 apples"


def test_what_is_solved_strictly_is_solved_leniently(sets):
    """On random texts made of the parts of completions."""
    rng = np.random.default_rng(0)
    parts = (
        ANSWER,
        f"\n{ANSWER} ",
        "Answer: 73",
        "answer",
        " ",
        "\n",
        "73",
        "85",
        "=",
        "-",
        "is",
        "\r",
        "\t",
        "Answer",
    )
    texts = [
        "".join(parts[index] for index in rng.integers(len(parts), size=rng.integers(1, 9))) for _ in range(20_000)
    ]
    strict = [text for text in texts if PROBLEM.solves(text)]
    assert len(strict) > 100 and all(map(PROBLEM.solves_leniently, strict))


def test_the_reference_solves_every_sum_and_no_other(sets):
    problems = [problem for problems in sets for problem in problems]
    for problem, other in zip(problems, problems[1:], strict=False):
        assert problem.solves(problem.reference) and problem.solves_leniently(problem.reference)
        assert other.solves(problem.reference) == (other.answer == problem.answer)


def test_steps_are_right_and_lead_to_the_value_of_the_question(sets):
    for problems, (low, high) in zip(sets, ((1, 3), (1, 3), (4, 5)), strict=True):
        for problem in problems:
            expression = re.fullmatch(
                r'Compute (.*) step by step\. End with "Answer: " and the result\.', problem.question
            )
            assert expression and str(eval(expression[1])) == problem.answer
            *steps, last = problem.reference.split("\n")
            assert low <= len(steps) == problem.operations <= high and last == f"Answer: {problem.answer}"
            value = re.findall(r"\d+", expression[1])[0]
            for step in steps:
                left, _, right = step.partition(" = ")
                assert str(eval(left)) == right and left.split()[0] == value and 0 <= int(right) < 10**4
                value = right


def test_lengths_are_balanced_and_questions_differ(sets):
    assert [len(problems) for problems in sets] == [301, 150, 81]
    prompts = [problem.prompt for problems in sets for problem in problems]
    assert len(set(prompts)) == len(prompts)
    for problems in sets:
        lengths = Counter(problem.operations for problem in problems).values()
        assert max(lengths) - min(lengths) <= 1


def test_sets_depend_on_the_settings_alone(sets):
    assert make_sets(SETTINGS) == sets
    assert make_sets(SETTINGS.changed(seed=1)) != sets


def test_without_steps_the_answer_comes_at_once():
    problem = draw_problem(1, SETTINGS.changed(steps=False, digits=(3, 3), operators=("+",)), np.random.default_rng(0))
    assert re.fullmatch(r'Compute \d{3} \+ \d{3}\. Answer with "Answer: " and the result\.', problem.question)
    assert problem.reference == f"Answer: {problem.answer}"


def test_every_operator_occurs_and_a_multiplied_sum_stands_in_parentheses(sets):
    counts = Counter(step.split()[1] for problem in sets.training for step in problem.steps)
    assert set(counts) == {"+", "-", "*"} and min(counts.values()) > 0.25 * counts.total()
    assert any(re.search(r"\(\d+ [+-] \d+\) \* \d", problem.question) for problem in sets.training)


def test_chance_is_the_best_constant_answer(sets):
    assert chance_rate([PROBLEM] * 3 + [sets.training[0]]) == 0.75
    assert chance_rate(sets.validation) < 0.1


@pytest.mark.parametrize(
    "changes",
    [
        {"digits": (1, 1), "operations": (1, 1), "pool_size": 400},
        {"operators": ("-",), "digits": (2, 2), "downstream_operations": (10, 10)},
    ],
)
def test_too_few_sums_are_an_error(changes):
    with pytest.raises(ConfigError, match=f"too few problems of 1?[01] operations: {MOST_DRAWS} draws"):
        make_sets(SETTINGS.changed(**changes))


@pytest.mark.parametrize("operators", [(), ("+", "+"), ("/",)])
def test_operators_are_some_of_three(operators):
    with pytest.raises(ValueError, match="operators"):
        SETTINGS.changed(operators=operators)
