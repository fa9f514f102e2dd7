"""The code task: the interpreter and its limits, the verifier, the sets, traces and their flaws."""

from collections import Counter, defaultdict
from itertools import product

import numpy as np
import pytest

from rlscape.settings.reading import load_config
from rlscape.tasks.base import Flaws
from rlscape.tasks.code import (
    DEPTH_LIMIT,
    OPERATORS,
    STEP_LIMIT,
    CodeSettings,
    Example,
    HiddenFunction,
    chance_rate,
    draw_any_problem,
    draw_problem,
    flawed_trace,
    make_sets,
    run,
    trace,
)
from rlscape.tasks.vocabulary import INTERRUPTION, INTERRUPTION_IDS, TOKENS, decode, encode

SETTINGS = CodeSettings(
    operations=(1, 3),
    downstream_operations=(4, 5),
    pool_size=330,
    validation_size=150,
    downstream_size=83,
    seed=1,
)


def problem_of(program, inputs, modulus=10):
    examples = [Example(value, run(program, value, modulus)) for value in range(modulus)]
    hidden = tuple(example for example in examples if example.input not in inputs)
    return HiddenFunction((examples[inputs[0]], examples[inputs[1]]), hidden, program, modulus)


PROBLEM = problem_of("3 + dup 3 * dup 3 +", (2, 5))
TRIPLE = problem_of("3 *", (0, 1))


@pytest.fixture(scope="module")
def sets():
    return make_sets(SETTINGS)


@pytest.mark.parametrize(
    ("program", "value", "stack"),
    [
        ("", 4, (4,)),
        ("7", 4, (4, 7)),
        ("7 +", 4, (1,)),
        ("7 -", 4, (7,)),
        ("7 *", 4, (8,)),
        ("dup *", 4, (6,)),
        ("3 + dup 3 * dup 3 +", 2, (5, 5, 8)),
        ("1 2 3 - *", 4, (4, 9)),
    ],
)
def test_interpreter(program, value, stack):
    assert run(program, value) == stack


def test_interpreter_computes_modulo():
    assert run("4 * dup 6 -", 5, modulus=7) == (6, 0)
    assert run("7 +", 5, modulus=7) is None


@pytest.mark.parametrize("program", ["+", "1 + *", "3 + dup - +"])
def test_stack_underflow_fails(program):
    assert run(program, 4) is None


@pytest.mark.parametrize("word", ["=", "time", "<think>", "<pad>", "->", "<40>", "12", "²"])
def test_unknown_words_fail(word):
    assert run(f"3 + {word}", 4) is None


def test_limits():
    longest = "1 + " * (STEP_LIMIT // 2)
    assert run(longest, 4) == ((4 + STEP_LIMIT // 2) % 10,)
    assert run(f"{longest} dup", 4) is None
    deepest = "dup " * (DEPTH_LIMIT - 1)
    assert run(deepest, 4) == (4,) * DEPTH_LIMIT
    assert run(f"{deepest} dup", 4) is None
    assert run(f"{deepest} dup +", 4) is None


def test_trace_derives_the_program():
    words = " ".join(trace(PROBLEM))
    assert PROBLEM.prompt == "2 -> 5 5 8 ; 5 -> 8 4 7 ;"
    assert words == "<think> 2 5 3 5 8 3 + 3 5 4 9 * 3 8 7 9 + 3 </think> 3 + dup 3 * dup 3 + <eos>"
    assert PROBLEM.verify(encode(words))


@pytest.mark.parametrize(
    "program",
    [
        "3 + dup 3 * dup 3 +",
        "7 - dup 0 7 - * dup 7 -",
        "3 + dup dup dup + + dup 3 +",
        "1 2 + + dup 3 * dup 3 +",
    ],
)
def test_verifier_accepts_every_right_program(program):
    assert PROBLEM.verify(encode(f"<think> </think> {program} <eos>"))
    assert PROBLEM.verify(encode(f"<think> 2 5 {INTERRUPTION} {program} <eos>"))


def test_verifier_refuses_what_is_right_on_the_shown_inputs_only():
    program = "dup dup * 2 * +"
    assert all(run(program, example.input) == example.outputs for example in TRIPLE.shown)
    assert not TRIPLE.verify(encode(f"<think> </think> {program} <eos>"))
    assert TRIPLE.verify(encode("<think> </think> dup dup + + <eos>"))


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "<eos>",
        "3 * <eos>",
        "<think> </think> <eos>",
        "<think> </think> 3 *",
        "<think> </think> 3 * <eos> <eos>",
        "<think> </think> 3 * <eos> <pad>",
        "<think> <eos> </think> 3 * <eos>",
        "<think> </think> </think> 3 * <eos>",
        f"<think> </think> {INTERRUPTION} 3 * <eos>",
        "<think> </think> 3 * ; <eos>",
        "<think> </think> 3 <eos>",
        "<think> </think> dup 3 * <eos>",
        "<think> </think> 3 * dup <eos>",
        "<think> </think> 3 * * <eos>",
        "<think> </think> 4 * <eos>",
    ],
)
def test_verifier_rejects(completion):
    assert not TRIPLE.verify(encode(completion))


def test_a_token_without_a_word_is_no_program():
    ids = encode("<think> </think> 3 * <eos>")
    assert TRIPLE.verify([ids[0], 40, *ids[1:]])
    assert not TRIPLE.verify([*ids[:-1], 63, ids[-1]])


def test_sizes_and_disjointness(sets):
    assert [len(problems) for problems in sets] == [330, 150, 83]
    prompts = [problem.prompt for problems in sets for problem in problems]
    assert len(set(prompts)) == len(prompts)


def test_sets_depend_on_the_settings_alone(sets):
    assert make_sets(SETTINGS) == sets
    assert make_sets(SETTINGS.changed(seed=2)) != sets


def test_lengths_and_operators_are_balanced(sets):
    for problems, (low, high) in zip(
        sets, (SETTINGS.operations, SETTINGS.operations, SETTINGS.downstream_operations), strict=True
    ):
        counts = defaultdict(Counter)
        for problem in problems:
            counts[problem.operations][problem.reference.translate(str.maketrans("", "", "0123456789"))] += 1
        assert sorted(counts) == list(range(low, high + 1))
        lengths = [sum(per_sequence.values()) for per_sequence in counts.values()]
        assert max(lengths) - min(lengths) <= 1
        for operations, per_sequence in counts.items():
            assert len(per_sequence) == min(2**operations, sum(per_sequence.values()))
            assert max(per_sequence.values()) - min(per_sequence.values()) <= 1


def test_shown_and_hidden_examples_are_all_inputs(sets):
    for problem in (*sets.validation, *sets.downstream):
        examples = (*problem.shown, *problem.hidden)
        assert sorted(example.input for example in examples) == list(range(10))
        assert all(run(problem.reference, example.input) == example.outputs for example in examples)
        assert decode(problem.prompt_ids) == problem.prompt


def test_too_few_distinct_problems_is_an_error():
    with pytest.raises(ValueError, match="only 120 problems are programs of 1 multiplications, 138 are needed"):
        make_sets(SETTINGS.changed(operations=(1, 1), pool_size=125))
    with pytest.raises(ValueError, match="exceed the interpreter's limits"):
        make_sets(SETTINGS.changed(downstream_operations=(4, 12)))


def test_chance_rate():
    """The best constant program multiplies twice: one in four of the shorter half, and one in nine of those."""
    rng = np.random.default_rng(0)
    problems = [draw_any_problem(2 + index % 2, SETTINGS, rng) for index in range(5000)]
    assert chance_rate(problems) == pytest.approx(1 / 2 / 4 / 9, abs=0.004)
    assert chance_rate([PROBLEM] * 3 + [TRIPLE]) == 0.75
    constant = encode(f"<think> </think> {PROBLEM.reference} <eos>")
    assert [problem.verify(constant) for problem in (PROBLEM, TRIPLE)] == [True, False]


@pytest.mark.parametrize("modulus", range(3, 11))
def test_every_operation_can_be_derived_under_every_modulus(modulus):
    rng = np.random.default_rng(0)
    for operators in product(OPERATORS, repeat=4):
        problem = draw_problem(operators, modulus, rng)
        completion = trace(problem)
        assert " ".join(completion).endswith(f"</think> {problem.reference} <eos>")
        assert problem.verify(encode(" ".join(completion)))


def test_lengths_fit_the_budget():
    """Forced interruptions begin at token 50 of the default scale; its answer budget is 10."""
    config = load_config("config/config.yaml")
    sets = make_sets(config.tasks["code"])
    for problem in (*sets.training, *sets.validation, *sets.downstream):
        completion = trace(problem)
        assert len(completion) == 8 * problem.operations + 5
        assert completion.index("</think>") < 50
        assert len(problem.prompt_ids) <= 40
    for problem in (*sets.training, *sets.validation):
        assert len(trace(problem)) - trace(problem).index("</think>") - 1 <= 9


def test_flawless_flawed_trace_is_the_trace():
    assert flawed_trace(PROBLEM, np.random.default_rng(0), Flaws()) == trace(PROBLEM)


def test_wrong_step_rate_is_per_difference_and_constant():
    rng = np.random.default_rng(0)
    problem = draw_any_problem(3, SETTINGS, rng)
    right = np.mean([flawed_trace(problem, rng, Flaws(wrong_step_rate=0.1)) == trace(problem) for _ in range(2000)])
    assert right == pytest.approx(0.9**7, abs=0.04)


def test_wrong_steps_are_carried_to_the_program():
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(100):
        words = flawed_trace(PROBLEM, rng, Flaws(wrong_step_rate=0.5))
        end = words.index("</think>")
        derived = [f"{words[at + 4]} {words[at + 3]}" for at in range(4, end, 5)]
        assert " ".join(words[end + 1 : -1]) == " dup ".join(derived)
        wrong += not PROBLEM.verify(encode(" ".join(words)))
    assert wrong > 80


def test_thoughtless_and_interrupted_traces_answer_rightly():
    rng = np.random.default_rng(0)
    thoughtless = flawed_trace(PROBLEM, rng, Flaws(thoughtless_rate=1.0))
    assert " ".join(thoughtless) == f"<think> </think> {PROBLEM.reference} <eos>"
    lengths = set()
    for _ in range(200):
        words = flawed_trace(PROBLEM, rng, Flaws(interrupted_rate=1.0))
        ids = encode(" ".join(words))
        assert PROBLEM.verify(ids)
        start = words.index("time")
        assert tuple(ids[start : start + len(INTERRUPTION_IDS)]) == INTERRUPTION_IDS
        assert words[:start] == trace(PROBLEM)[:start]
        lengths.add(start)
    assert lengths == set(range(1, trace(PROBLEM).index("</think>") + 1))


def test_ids_of_the_math_task_stay():
    """Recorded bases know words by these ids."""
    words = "<pad> <eos> <think> </think> <call> <result> 0 1 2 3 4 5 6 7 8 9 + - * = time is up"
    assert TOKENS[:23] == tuple(words.split())
