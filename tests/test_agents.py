"""Tool use: verifiers and forgeries, the sets, traces and their flaws, and the turns of the rollout engine."""

import copy
import json
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from rlscape.catalogue import resolve_run
from rlscape.errors import ConfigError
from rlscape.models.build import as_decoder, build_model
from rlscape.pipeline.evaluate_base import evaluate_base
from rlscape.rl.evaluate import Evaluator
from rlscape.rl.rollout import Budget, Generator
from rlscape.settings.reading import load_config
from rlscape.tasks import math
from rlscape.tasks.base import Flaws, TracedSettings
from rlscape.tasks.calculator import Calculator
from rlscape.tasks.planning import Planning
from rlscape.tasks.registry import TASKS, Tasks
from rlscape.tasks.search import Search
from rlscape.tasks.sets import make_task_sets
from rlscape.tasks.tools import flawed_trace, trace
from rlscape.tasks.vocabulary import EOS_ID, INTERRUPTION, INTERRUPTION_IDS, RESULT_ID, decode, encode
from rlscape.training.pretrain import backward, draw_examples, pretrain
from rlscape.training.rl import make_trainer
from tests.entries import run_entry
from tests.test_evaluate import RL
from tests.test_evaluate import SETTINGS as EVALUATION
from tests.test_pretrain import BASE, CODE, MATH
from tests.test_pretrain import SETTINGS as PRETRAINING
from tests.test_rollout import PROBLEMS as CHAINS
from tests.test_rollout import finish, force_head, make_model, replay

pytestmark = pytest.mark.training

AGENT_TASKS = ("calculator", "search", "planning")
TASK = TracedSettings(
    operations=(2, 4), downstream_operations=(5, 5), pool_size=90, validation_size=60, downstream_size=20
)
SETTINGS = {
    "calculator": TASK,
    "search": TASK,
    "planning": TASK.changed(operations=(5, 7), downstream_operations=(8, 8)),
}
LENGTHS = {"calculator": 4, "search": 4, "planning": 7}
SETS = make_task_sets(SETTINGS)
ERRANDS = [problem for sets in SETS.values() for problem in sets.training[:10]]

SUM = Calculator(math.Chain("3 + 4 * 7 =", ("+", "*"), (3, 4, 7), 9))
HOPS = Search(7, (3, 1), tuple(tuple((entity + relation) % 10 for entity in range(10)) for relation in range(10)))
RING = Planning((3, 7, 1, 9, 0, 5, 8), goal=3, blocked=1)
WALK = "<call> + 9 <result> 7 <call> + 9 <result> ; " + " ".join(f"<call> - 9 <result> {p}" for p in (3, 8, 5, 0, 9))
TRACES = [
    (SUM, "<call> 3 + 4 * 7 =", "<think> <call> 3 + 4 <result> 7 <call> 7 * 7 <result> 9 </think> 9 <eos>"),
    (HOPS, "<call> 7 -> 3 -> 1 =", "<think> <call> 7 3 <result> 0 <call> 0 1 <result> 1 </think> 1 <eos>"),
    (RING, "<call> 3 7 1 9 0 5 8 -> 9 =", f"<think> {WALK} </think> 9 <eos>"),
]


@pytest.mark.parametrize(("problem", "prompt", "words"), TRACES)
def test_the_reference_trace_is_right(problem, prompt, words):
    assert problem.prompt == prompt
    assert " ".join(trace(problem)) == words
    assert problem.verify(encode(words))
    ids = encode(words)
    for end in (position + 1 for position, token in enumerate(ids) if token == RESULT_ID):
        assert problem.respond(ids[:end]) == ids[end]


@pytest.mark.parametrize(
    ("problem", "completion"),
    [
        # a wrong answer, a truncated one, words after it, two of a kind
        (SUM, "<think> <call> 3 + 4 <result> 7 <call> 7 * 7 <result> 9 </think> 8 <eos>"),
        (SUM, "<think> <call> 3 + 4 <result> 7 <call> 7 * 7 <result> 9 </think> 9"),
        (SUM, "<think> </think> 9 9 <eos>"),
        (SUM, "<think> </think> </think> 9 <eos>"),
        (SUM, "<think> <eos> </think> 9 <eos>"),
        # results that the tool did not give, though the answer is right
        (SUM, "<think> <call> 3 + 4 <result> 6 </think> 9 <eos>"),
        (SUM, "<think> <call> <result> 9 </think> 9 <eos>"),
        (HOPS, "<think> <call> 7 3 <result> 1 </think> 1 <eos>"),
        (HOPS, "<think> <call> 7 3 <result> </think> 1 <eos>"),
        # the goal's name without the walk, a walk in the thought only, a forged one, another goal's
        (RING, "<think> </think> 9 <eos>"),
        (RING, "<think> <call> + 9 9 <call> - 9 9 </think> 9 <eos>"),
        (RING, "<think> <call> + 9 <result> 9 </think> 9 <eos>"),
        (RING, "<think> " + "<call> - 5 <result> ; " * 4 + "</think> 9 <eos>"),
    ],
)
def test_forgeries_are_refused(problem, completion):
    assert not problem.verify(encode(completion))


def test_any_way_to_the_goal_counts_but_a_longer_one():
    back = " ".join(f"<call> - 9 <result> {place}" for place in (8, 5, 0, 9))
    assert RING.allowed == 7
    assert RING.verify(encode(f"<think> {back} </think> 9 <eos>"))
    detour = "<call> + 9 <result> 7 <call> - 9 <result> 3 "
    assert RING.verify(encode(f"<think> {detour}<call> + 5 <result> ; {back} </think> 9 <eos>"))
    assert not RING.verify(encode(f"<think> {detour * 2}{back} </think> 9 <eos>"))


def test_the_calculator_refuses_what_is_no_step():
    for call in ("3 +", "3 + 4 + 5", "+ 3 4", "3 = 4", "<think> + 4", "3 + <40>", ""):
        assert SUM.result([call]) is None
    assert SUM.respond(encode("<think> 3 + 4 <result>")) == encode(";")[0]
    assert SUM.respond([*encode("<think> <call> 3 +"), 40, RESULT_ID]) == encode(";")[0]


def test_an_interruption_may_come_instead_of_an_answer():
    assert HOPS.verify(encode(f"<think> <call> 7 3 <result> {INTERRUPTION} 1 <eos>"))
    assert HOPS.verify(encode(f"<think> <call> 7 {INTERRUPTION} 1 <eos>"))
    assert not HOPS.verify(encode("<think> <call> 7 3 <result> time </think> 1 <eos>"))


@pytest.mark.parametrize("task", AGENT_TASKS)
def test_sets_are_disjoint_balanced_and_depend_on_the_settings_alone(task):
    make, settings, sets = TASKS[task].make_sets, SETTINGS[task], SETS[task]
    assert [len(problems) for problems in sets] == [90, 60, 20]
    prompts = [problem.prompt for problems in sets for problem in problems]
    assert len(set(prompts)) == len(prompts)
    assert not set(prompts) & {problem.prompt for problem in CHAINS}
    assert make(settings) == sets
    assert make(settings.changed(seed=1)) != sets
    counts = defaultdict(Counter)
    for problem in sets.training:
        length = len(problem.prompt.split())
        counts[length][problem.goal if task == "planning" else problem.answer] += 1
    assert len(counts) == 3
    for length, answers in counts.items():
        assert sum(answers.values()) == 30
        assert len(answers) == (length - 5 if task == "planning" else 10)
        assert max(answers.values()) - min(answers.values()) <= 1


def test_every_second_goal_is_blocked_off_from_the_shorter_side():
    problems = [Planning.draw(7, cycle, np.random.default_rng(cycle)) for cycle in range(1200)]
    detours = [problem.allowed > min(problem.goal, 7 - problem.goal) for problem in problems]
    assert np.mean(detours) == 0.5


def test_too_few_prompts_is_an_error():
    with pytest.raises(ValueError, match="search: only 100 prompts have length 1 and 60 problems of it are needed"):
        TASKS["search"].make_sets(TASK.changed(operations=(1, 5), pool_size=240))


def test_chance_is_the_best_completion_that_reads_no_result():
    for task in ("calculator", "search"):
        validation = SETS[task].validation
        rates = [np.mean([p.verify(encode(f"<think> </think> {a} <eos>")) for p in validation]) for a in range(10)]
        assert TASKS[task].chance_rate(validation) == max(rates) == 0.1
    problems = [Planning.draw(5, cycle, np.random.default_rng(cycle)) for cycle in range(800)]
    rates = {
        (sign, count): np.mean([problem.achieves([f"{sign} {problem.answer}"] * count) for problem in problems])
        for sign in "+-"
        for count in range(1, 13)
    }
    assert Planning.chance_rate(problems) == max(rates.values())
    assert rates["+", 1] == rates["-", 1] == 0.125  # one goal in four is next, every second one of these is free


@pytest.mark.parametrize("task", AGENT_TASKS)
def test_flaws(task):
    rng = np.random.default_rng(0)
    problems = [TASKS[task].draw(LENGTHS[task], SETTINGS[task], rng) for _ in range(300)]
    right = wrong = 0
    for problem in problems:
        assert flawed_trace(problem, rng, Flaws()) == trace(problem)
        assert problem.verify(encode(" ".join(trace(problem))))
        thoughtless = flawed_trace(problem, rng, Flaws(thoughtless_rate=1.0))
        assert thoughtless == ["<think>", "</think>", problem.answer, "<eos>"]
        words = flawed_trace(problem, rng, Flaws(interrupted_rate=1.0))
        start = words.index("time")
        assert words[:start] == trace(problem)[:start] and words[start:-2] == INTERRUPTION.split()
        words = flawed_trace(problem, rng, Flaws(wrong_step_rate=0.3))
        right += words == trace(problem)
        wrong += not problem.verify(encode(" ".join(words)))
        ids = encode(" ".join(words))
        assert all(problem.respond(ids[: i + 1]) == ids[i + 1] for i, token in enumerate(ids) if token == RESULT_ID)
    calls = np.mean([0.7 ** trace(problem).count("<call>") for problem in problems])
    assert right / 300 == pytest.approx(calls, abs=0.08)
    assert wrong > 0.9 * (300 - right) if task != "planning" else wrong > 0.8 * (300 - right)


# ---- pretraining


AGENTS_ONLY = PRETRAINING.changed(mix=dict.fromkeys(AGENT_TASKS, 1))
ALL_TASKS = {"math": MATH, "code": CODE} | SETTINGS


def examples(settings, step, draws=40, held_out=frozenset()):
    rng = np.random.default_rng(0)
    drawn = [draw_examples(settings, ALL_TASKS, step, set(held_out), rng) for _ in range(draws)]
    return [(decode(prompt), decode(completion)) for batch in drawn for prompt, completion in batch]


def test_shares_of_the_tasks():
    def share(settings, kind):
        return np.mean([kind(prompt) for prompt, _ in examples(settings, 19)])

    def agents(prompt):
        return prompt.startswith("<call>")

    assert share(AGENTS_ONLY, agents) == 1
    mixed = PRETRAINING.changed(mix={"math": 0.2, "code": 0.5} | dict.fromkeys(AGENT_TASKS, 0.1))
    assert share(mixed, agents) == pytest.approx(0.3, abs=0.06)
    assert share(mixed, lambda prompt: prompt.endswith(";")) == pytest.approx(0.5, abs=0.06)
    # Of tool use, a third each: two of three prompts have an arrow, and one of these has a single one.
    assert share(AGENTS_ONLY, lambda prompt: "->" in prompt) == pytest.approx(2 / 3, abs=0.06)
    assert share(AGENTS_ONLY, lambda prompt: prompt.split()[-3] == "->" and prompt.count("->") == 1) == pytest.approx(
        1 / 3, abs=0.06
    )


def test_curriculum_and_held_out_problems():
    def lengths(step):
        return {prompt.count("->") for prompt, _ in examples(AGENTS_ONLY, step) if prompt.split()[2] == "->"}

    assert [lengths(step) for step in (0, 9, 10)] == [{2}, {2, 3, 4}, {2, 3, 4, 5}]
    everything = examples(AGENTS_ONLY, 0)
    held_out = {prompt for prompt, _ in everything[::2]}
    rest = examples(AGENTS_ONLY, 0, held_out=held_out)
    assert rest == [example for example in everything if example[0] not in held_out]


def test_pretraining_has_no_loss_on_the_environments_words():
    """Whatever they are: the loss with another result differs only where the model goes on from it."""
    model = make_model()
    prompt, end = encode("<call> 7 -> 3 ="), encode("<call> 7 3 <result>")
    last = backward(model, [(prompt, [*end, encode("4")[0]])])
    assert last == backward(model, [(prompt, [*end, encode("9")[0]])])
    assert last != backward(model, [(prompt, [*end[:-1], encode("4")[0], encode("4")[0]])])


def test_a_base_of_agents_is_made_and_evaluated(tmp_path, monkeypatch):
    base = BASE.changed(pretraining=AGENTS_ONLY.changed(steps=2))
    with pytest.raises(ConfigError, match="no settings for calculator, planning, search; add them to tasks"):
        pretrain(base, {"math": MATH}, tmp_path)
    pretrain(base, ALL_TASKS, tmp_path)
    tasks = TypeAdapter(Tasks)
    assert tasks.validate_python(json.loads((tmp_path / "base.json").read_text())["settings"]["tasks"]) == SETTINGS
    arguments = {name: values.model_dump_json() for name, values in {"rl": RL, "evaluation": EVALUATION}.items()}
    arguments["settings"] = base.model_dump_json()
    arguments["tasks"] = tasks.dump_json(SETTINGS).decode()
    run_entry(evaluate_base, monkeypatch, base=tmp_path, output=tmp_path / "evaluation.json", **arguments)
    record = json.loads((tmp_path / "evaluation.json").read_text())
    assert "pass_rate" not in record  # of arithmetic, which it has not learnt
    for prefix in ("calculator_", "search_", "planning_"):
        assert 0 <= record[f"{prefix}pass_rate"] <= 1 and record[f"{prefix}samples"] == 72
        assert 0.05 < record[f"{prefix}chance_rate"] < 0.3


# ---- rollouts


def make_generator(model, problems, budget, slots=40, seed=0):
    return Generator(model, problems, slots, budget, "fp32", 1.0, torch.Generator().manual_seed(seed), "fp32")


def calling_model():
    """Writes <result> in about every third place."""
    model = make_model()
    force_head(model, RESULT_ID, 0.6)
    return model


def completions_of(groups):
    return [(group.prompt, completion) for group in groups for completion in group.completions]


def test_a_call_is_answered_by_its_problem_and_the_answer_is_masked():
    model = calling_model()
    problems = [*ERRANDS, *CHAINS[:3]]
    generator = make_generator(model, problems, Budget(30, 3, None), slots=len(problems) * 2)
    groups = generator.admit(range(len(problems)), 2)
    finish(generator)
    answers = 0
    for prompt, completion in completions_of(groups):
        ids = completion.ids.tolist()
        responds = hasattr(problems[prompt], "respond")
        expected = [True] * len(ids)
        for position in range(1, len(ids)):
            if responds and ids[position - 1] == RESULT_ID and expected[position - 1]:
                assert ids[position] == problems[prompt].respond(ids[:position])
                expected[position] = False
                answers += 1
        assert completion.loss_mask.tolist() == expected
        assert (completion.log_probs[~completion.loss_mask] == 0).all()
        assert len(ids) == 33 or ids[-1] == EOS_ID
        exact = replay(model, problems[prompt], completion)
        torch.testing.assert_close(completion.log_probs[completion.loss_mask], exact, atol=1e-5, rtol=0)
    assert answers > 100


def test_an_interruption_that_is_due_comes_instead_of_the_answer():
    budget = Budget(thinking=12, answer=4, interruption=(6, 9))
    generator = make_generator(calling_model(), ERRANDS, budget, slots=120)
    groups = generator.admit(range(len(ERRANDS)), 4)
    finish(generator)
    cut = 0
    for _, completion in completions_of(groups):
        ids = completion.ids.tolist()
        if not completion.interrupted:
            continue
        start = next(at for at in range(6, 10) if tuple(ids[at : at + 4]) == INTERRUPTION_IDS)
        assert not completion.loss_mask[start : start + 4].any()
        assert len(ids) <= start + len(INTERRUPTION_IDS) + budget.answer <= budget.longest
        cut += ids[start - 1] == RESULT_ID
    assert cut > 3


def test_chains_roll_out_the_same_beside_environments():
    """Same seed, with problems of tool use in the pool and without."""
    model, budget = calling_model(), Budget(12, 4, (6, 9))
    rolled = []
    for problems in (CHAINS, [*CHAINS, *ERRANDS]):
        generator = make_generator(model, problems, budget)
        groups = generator.admit(range(10), 4)
        finish(generator)
        rolled.append(completions_of(groups))
    for (_, one), (_, other) in zip(*rolled, strict=True):
        assert torch.equal(one.ids, other.ids) and torch.equal(one.log_probs, other.log_probs)
        assert torch.equal(one.loss_mask, other.loss_mask)


@pytest.mark.parametrize("steps", range(3, 9))
def test_resumed_in_the_middle_of_a_call_gives_the_same_completions(steps):
    budget = Budget(12, 4, (6, 9))
    generator = make_generator(calling_model(), ERRANDS, budget)
    groups = generator.admit(range(10), 4)
    for _ in range(steps):
        generator.step()
    state = generator.state_dict({id(group): index for index, group in enumerate(groups)})
    copies = [type(group)(group.prompt, group.version, list(group.completions)) for group in groups]
    finish(generator)
    resumed = make_generator(make_model(seed=1), ERRANDS, budget, seed=5)
    resumed.load_state_dict(state, copies)
    assert (state["slots"]["next_id"] == RESULT_ID).any()
    finish(resumed)
    for (_, one), (_, other) in zip(completions_of(groups), completions_of(copies), strict=True):
        assert torch.equal(one.ids, other.ids) and torch.equal(one.log_probs, other.log_probs)


def test_an_agents_run_has_its_own_task_and_resumes_bit_for_bit(tmp_path):
    smoke = load_config("config/smoke.yaml")
    smoke = smoke.changed(tasks=smoke.tasks | SETTINGS)
    run = resolve_run(smoke, "agent_planning-s0")
    run = run.changed(
        base=run.base.changed(model=run.base.model.changed(vocab_size=64).model_dump()).model_dump(),
        rl=run.rl.changed(steps=4, checkpoint_seconds=0.0).model_dump(),
        evaluation=smoke.off_principals.evaluation.changed(evaluations=2).model_dump(),
    )
    model = as_decoder(build_model(run.base.model, 0))
    force_head(model, RESULT_ID, 0.6)

    def kill(step):
        if step == 2:
            raise KeyboardInterrupt

    whole, killed, resumed = (make_trainer(run, copy.deepcopy(model), after) for after in (None, kill, None))
    whole.run()
    assert set(whole.training) == set(SETS["planning"].training)
    with pytest.raises(KeyboardInterrupt):
        killed.run(tmp_path / "checkpoint.pt")
    resumed.run(tmp_path / "checkpoint.pt")
    assert str(resumed.updates) == str(whole.updates)  # nan is not nan
    for name, values in whole.model.state_dict().items():
        assert torch.equal(values, resumed.model.state_dict()[name])
    assert {"pass_rate", "downstream_pass_rate"} <= whole.metrics[-1].keys()
    assert not [column for column in whole.metrics[-1] if column.startswith("planning_")]


def test_columns_of_a_runs_own_task_have_no_prefix():
    evaluator = Evaluator({"": SETS["search"]}, EVALUATION, RL, 1.0)
    row = evaluator.evaluate(make_model(), seed=(0,))
    assert {"pass_rate", "downstream_pass_rate", "entropy"} <= row.keys()
    both = {"": math.make_sets(MATH), "planning_": SETS["planning"]}
    row = Evaluator(both, EVALUATION, RL, 1.0).evaluate(make_model(), seed=(0,))
    assert {"pass_rate", "planning_pass_rate", "planning_downstream_pass_rate_se"} <= row.keys()
