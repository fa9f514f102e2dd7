"""The math task: balance, disjointness and determinism of the sets, traces, the verifier, the vocabulary."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from rlscape.tasks.base import Flaws
from rlscape.tasks.math import (
    Chain,
    MathSettings,
    chance_rate,
    draw_problem,
    flawed_trace,
    make_sets,
    solve,
    trace,
)
from rlscape.tasks.vocabulary import (
    EOS_ID,
    INTERRUPTION,
    INTERRUPTION_IDS,
    PAD_ID,
    TOKENS,
    build_tokenizer,
    decode,
    encode,
)

SETTINGS = MathSettings(
    operations=(2, 7),
    downstream_operations=(6, 9),
    pool_size=330,
    validation_size=150,
    downstream_size=83,
    seed=1,
)
PROBLEM = Chain("3 + 4 * 7 - 2 =", ("+", "*", "-"), (3, 4, 7, 2), answer=7)


@pytest.fixture(scope="module")
def sets():
    return make_sets(SETTINGS)


def test_answers_and_lengths_are_balanced(sets):
    for problems, (low, high) in zip(
        sets, (SETTINGS.operations, SETTINGS.operations, SETTINGS.downstream_operations), strict=True
    ):
        answers = defaultdict(Counter)
        for problem in problems:
            answers[problem.operations][problem.answer] += 1
        assert sorted(answers) == list(range(low, high + 1))
        lengths = [sum(counts.values()) for counts in answers.values()]
        assert max(lengths) - min(lengths) <= 1
        for counts in answers.values():
            per_answer = [counts[answer] for answer in range(10)]
            assert max(per_answer) - min(per_answer) <= 1


def test_sizes_and_disjointness(sets):
    assert [len(problems) for problems in sets] == [330, 150, 83]
    prompts = [problem.prompt for problems in sets for problem in problems]
    assert len(set(prompts)) == len(prompts)


def test_sets_depend_on_the_settings_alone(sets):
    assert make_sets(SETTINGS) == sets
    assert make_sets(SETTINGS.changed(seed=2)) != sets


def test_stored_answers_agree_with_the_prompts(sets):
    for problem in (*sets.training, *sets.downstream):
        assert solve(problem.prompt) == problem.answer
        assert len(problem.operands) == problem.operations + 1 == len(problem.operators) + 1
        assert decode(problem.prompt_ids) == problem.prompt


def test_chance_rate(sets):
    assert chance_rate(sets.validation) == pytest.approx(0.1, abs=0.03)
    assert chance_rate([PROBLEM] * 3 + [draw_problem(2, 1, 10, np.random.default_rng(0))]) == 0.75


@pytest.mark.parametrize("modulus", range(2, 11))
def test_every_answer_can_be_drawn_under_every_modulus(modulus):
    rng = np.random.default_rng(0)
    for answer in range(modulus):
        problem = draw_problem(5, answer, modulus, rng)
        assert solve(problem.prompt, modulus) == answer
        assert all(0 <= operand < modulus for operand in problem.operands)


def test_too_few_distinct_problems_is_an_error():
    with pytest.raises(ValueError, match="only 240 problems have 1 operations"):
        make_sets(SETTINGS.changed(operations=(1, 1), pool_size=200))


def test_solve():
    assert solve("3 + 4 * 2 - 7 =") == 7
    assert solve("3 - 9 =") == 4
    assert solve("1 - 2 * 2 =", modulus=7) == 5
    with pytest.raises(ValueError, match="not a chain"):
        solve("3 + =")


def test_trace_repeats_operator_operand_and_value():
    words = trace(PROBLEM)
    assert " ".join(words) == "<think> + 4 7 * 7 9 - 2 7 </think> 7 <eos>"
    assert PROBLEM.verify(encode(" ".join(words)))


@pytest.mark.parametrize(
    "completion",
    [
        "<think> + 4 7 * 7 9 - 2 7 </think> 7 <eos>",
        "<think> </think> 7 <eos>",
        f"<think> + 4 7 * {INTERRUPTION} 7 <eos>",
        "<think> + 4 1 </think> 7 <eos>",
    ],
)
def test_verifier_accepts(completion):
    assert PROBLEM.verify(encode(completion))


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "7 <eos>",
        "<think> + 4 7 * 7 9 - 2 7 </think> 8 <eos>",
        "<think> + 4 7 * 7 9 - 2 7 </think> 7",
        "<think> + 4 7 * 7 9 - 2 7 </think>",
        "<think> + 4 7 * 7 9",
        "<think> + 4 7 * 7 9 - 2 7 7 <eos>",
        "<think> + 4 7 * 7 9 - 2 7 </think> 7 7 <eos>",
        "<think> + 4 7 * 7 9 - 2 7 </think> 7 <eos> <eos>",
        "<think> + 4 7 * 7 9 - 2 7 </think> 7 <eos> <pad>",
        "<think> + 4 7 <eos> </think> 7 <eos>",
        "<think> + 4 7 </think> </think> 7 <eos>",
        f"<think> + 4 7 </think> {INTERRUPTION} 7 <eos>",
        "<think> + 4 7 * 7 9 - 2 7 </think> = 7 <eos>",
    ],
)
def test_verifier_rejects(completion):
    assert not PROBLEM.verify(encode(completion))


def test_verifier_recomputes_the_answer_from_the_prompt():
    lying = Chain(PROBLEM.prompt, PROBLEM.operators, PROBLEM.operands, answer=1)
    assert not lying.verify(encode("<think> </think> 1 <eos>"))
    assert lying.verify(encode("<think> </think> 7 <eos>"))


def test_flawless_flawed_trace_is_the_trace():
    assert flawed_trace(PROBLEM, np.random.default_rng(0), Flaws()) == trace(PROBLEM)


def test_wrong_steps_are_carried_to_the_answer():
    words = flawed_trace(PROBLEM, np.random.default_rng(0), Flaws(wrong_step_rate=1.0))
    value = PROBLEM.operands[0]
    for operator, operand, written in zip(words[1:-3:3], words[2:-3:3], words[3:-3:3], strict=True):
        assert int(written) != solve(f"{value} {operator} {operand} =")
        value = int(written)
    assert words[-2] == str(value)


def test_wrong_step_rate_is_per_step():
    rng = np.random.default_rng(0)
    problem = draw_problem(6, 3, 10, rng)
    right = np.mean([flawed_trace(problem, rng, Flaws(wrong_step_rate=0.1)) == trace(problem) for _ in range(2000)])
    assert right == pytest.approx(0.9**6, abs=0.04)


def test_thoughtless_and_interrupted_traces_answer_rightly():
    rng = np.random.default_rng(0)
    assert flawed_trace(PROBLEM, rng, Flaws(thoughtless_rate=1.0)) == ["<think>", "</think>", "7", "<eos>"]
    lengths = set()
    for _ in range(50):
        words = flawed_trace(PROBLEM, rng, Flaws(interrupted_rate=1.0))
        ids = encode(" ".join(words))
        assert PROBLEM.verify(ids)
        assert tuple(ids[-6:-2]) == INTERRUPTION_IDS
        thought = words[: -2 - len(INTERRUPTION_IDS)]
        assert thought == trace(PROBLEM)[: len(thought)]
        lengths.add(len(thought))
    assert lengths == set(range(1, 11))


def test_vocabulary_round_trip():
    assert len(TOKENS) == len(set(TOKENS)) <= 64
    assert decode(encode(" ".join(TOKENS))) == " ".join(TOKENS)
    with pytest.raises(ValueError, match="'eleven' is not in the vocabulary"):
        encode("3 + eleven =")


def test_tokenizer_agrees_with_the_vocabulary():
    tokenizer = build_tokenizer()
    text = f"{PROBLEM.prompt} <think> + 4 7 {INTERRUPTION} 7 <eos>"
    assert tokenizer(text)["input_ids"] == encode(text)
    assert tokenizer.decode(encode(text)) == text
    assert tokenizer.decode(encode(text), skip_special_tokens=True) == text.removesuffix(" <eos>")
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (PAD_ID, EOS_ID)
    assert len(tokenizer) == len(TOKENS)
