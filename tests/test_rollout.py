"""The rollout engine against plain forward passes, in-flight swaps, interruptions."""

import re
import sys
from pathlib import Path

import pytest
import torch

from rlscape.models.build import as_decoder, build_model
from rlscape.rl import cache, rollout
from rlscape.rl.cache import UntouchedZeros
from rlscape.rl.decoding import CompiledDecoding, TorchDecoding
from rlscape.rl.packing import Packing
from rlscape.rl.policy import completion_log_probs
from rlscape.rl.rollout import Budget, Generator
from rlscape.settings.base_model import ModelSettings
from rlscape.tasks.math import MathSettings, make_sets
from rlscape.tasks.speech import WORDS, Marks
from rlscape.tasks.vocabulary import END_THINK_ID, EOS_ID, INTERRUPTION_IDS

pytestmark = pytest.mark.training

PROBLEMS = make_sets(
    MathSettings(operations=(1, 3), downstream_operations=(4, 5), pool_size=30, validation_size=10, downstream_size=5)
).training


def make_model(seed=0):
    settings = ModelSettings(hidden_size=32, layers=2, heads=4, kv_heads=2, head_dim=8, intermediate_size=48)
    return as_decoder(build_model(settings, seed))


def make_generator(model, budget, slots=12, seed=0, precision="fp32", marks=WORDS.marks):
    random = torch.Generator().manual_seed(seed)
    return Generator(model, PROBLEMS, slots, budget, "fp32", 1.0, random, precision, marks)


def force_head(model, token, logit):
    """Make ``token`` (un)likely whatever the input: the final norm's output gets a constant direction."""
    with torch.no_grad():
        model.lm_head.weight.mul_(0.01)
        model.model.norm.weight.zero_()
        model.model.norm.weight[0] = 1.0
        model.model.embed_tokens.weight[:, 0] = 100.0
        model.lm_head.weight[:, 0] = 0.0
        model.lm_head.weight[token, 0] = logit


def finish(generator):
    while generator.active:
        generator.step()


def replay(model, problem, completion):
    """Log-probabilities of the sampled tokens by one plain forward pass."""
    batch = Packing([problem.prompt_ids], [completion.ids], torch.tensor([0]))
    return completion_log_probs(model, batch, completion.loss_mask, "fp32", 1.0)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.03)])
def test_log_probs_of_the_generator_agree_with_a_plain_forward_pass(precision, tolerance):
    model = make_model()
    generator = make_generator(model, Budget(10, 3, None), precision=precision)
    groups = generator.admit([0, 1, 2], 4)
    finish(generator)
    differences = []
    for group in groups:
        assert len(group.completions) == 4
        for completion in group.completions:
            exact = replay(model, PROBLEMS[group.prompt], completion)
            differences.append((completion.log_probs - exact).abs().max())
            assert (completion.log_probs - exact).abs().mean() < 0.01
    assert max(differences) < tolerance
    assert (max(differences) < 1e-4) == (precision == "fp32"), "bf16 must be seen to round"


def test_rows_that_leave_do_not_disturb_the_others():
    """Completions of unequal length, admitted at different times, each agree with their own forward pass."""
    model = make_model()
    force_head(model, EOS_ID, 0.3)
    generator = make_generator(model, Budget(10, 3, None), slots=10)
    groups = generator.admit([0, 1], 4)
    waiting = list(range(2, 12))
    while generator.active:
        generator.step()
        if waiting and generator.free >= 2:
            groups += generator.admit([waiting.pop()], 2)
    lengths = {len(completion.ids) for group in groups for completion in group.completions}
    assert len(lengths) > 3
    assert [len(group.completions) for group in groups] == [4, 4] + [2] * 10
    for group in groups:
        for completion in group.completions:
            exact = replay(model, PROBLEMS[group.prompt], completion)
            torch.testing.assert_close(completion.log_probs, exact, atol=1e-5, rtol=0)


@pytest.mark.parametrize("interruption", [None, (3, 8)])
def test_sharing_a_row_of_the_cache_changes_no_token(interruption, monkeypatch):
    """Generations of one prompt against as many admissions of that prompt, which share nothing."""
    model, later = make_model(0), make_model(1)
    force_head(model, EOS_ID, 0.3)
    rows = []
    for kind in (CompiledDecoding, TorchDecoding):
        monkeypatch.setattr(
            kind, "decode", lambda self, ids, at, decode=kind.decode: rows.append(len(ids)) or decode(self, ids, at)
        )

    def sample(prompts, generations):
        rows.clear()
        generator = make_generator(model, Budget(10, 3, interruption), slots=32)
        groups = generator.admit(prompts, generations)
        for _ in range(4):
            generator.step()
        generator.load_weights(later, version=1)
        finish(generator)
        completions = [completion for group in groups for completion in group.completions]
        return sorted(completions, key=lambda completion: completion.ids.tolist()), list(rows)

    together, rows_together = sample([0, 1], 16)
    apart, rows_apart = sample([0] * 16 + [1] * 16, 1)
    for one, other in zip(together, apart, strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        assert (one.versions.tolist(), one.loss_mask.tolist()) == (other.versions.tolist(), other.loss_mask.tolist())
        torch.testing.assert_close(one.log_probs, other.log_probs, atol=1e-5, rtol=0)
    assert rows_together[0] == 2 and rows_apart[0] == 32
    assert all(shared <= each for shared, each in zip(rows_together, rows_apart, strict=True))
    assert sum(rows_together) < 0.9 * sum(rows_apart)


@pytest.mark.parametrize("make", [rollout.make_decoding, TorchDecoding])
def test_memory_given_back_between_batches_changes_no_token(make, monkeypatch):
    monkeypatch.setattr(rollout, "make_decoding", make)
    model = make_model()
    runs = []
    for large in (1, 2**40):
        monkeypatch.setattr(cache, "LARGE", large)
        generator = make_generator(model, Budget(10, 3, None))
        runs.append([])
        for prompts in ([0, 1], [2, 3, 4]):
            groups = generator.admit(prompts, 4)
            finish(generator)
            completions = [completion for group in groups for completion in group.completions]
            runs[-1] += [(each.ids.tolist(), each.log_probs.tolist()) for each in completions]
            decoding = generator._decoding
            memory = decoding.cache.memory if isinstance(decoding, TorchDecoding) else decoding.memory
            if sys.platform.startswith("linux"):
                assert memory.tensor.any() == (large > 1)
    assert runs[0] == runs[1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what the system does with the pages is Linux's")
def test_large_memory_is_given_back_and_small_is_kept(monkeypatch):
    def resident():
        return int(re.search(r"Rss:\s+(\d+) kB", Path("/proc/self/smaps_rollup").read_text())[1]) / 1024

    monkeypatch.setattr(cache, "LARGE", 2**26)
    large, small = UntouchedZeros(2**26), UntouchedZeros(4, 4)
    before = resident()
    large.tensor.fill_(1.0)
    small.tensor.fill_(1.0)
    assert resident() - before > 200
    large.give_back()
    small.give_back()
    assert resident() - before < 56
    assert not large.tensor[::4096].any() and small.tensor.all()


def test_logits_of_a_few_rows_at_a_time_draw_the_same_tokens(monkeypatch):
    model, largest = make_model(), []
    runs = []
    for rows in (100, 3, 1):
        monkeypatch.setattr(rollout, "LOGITS", rows * len(model.lm_head.weight) + 1)
        logits = rollout.head_logits
        monkeypatch.setattr(rollout, "head_logits", lambda x, *rest, f=logits: largest.append(len(x)) or f(x, *rest))
        generator = make_generator(model, Budget(10, 3, (3, 8)))
        groups = generator.admit([0, 1, 2], 4)
        finish(generator)
        assert max(largest) == min(rows, 12)
        largest.clear()
        runs.append([completion for group in groups for completion in group.completions])
    for whole, *others in zip(*runs, strict=True):
        for other in others:
            assert torch.equal(other.ids, whole.ids)
            torch.testing.assert_close(other.log_probs, whole.log_probs)


def test_a_swap_in_flight_mixes_versions_within_a_sequence_over_the_stale_cache():
    old, new = make_model(0), make_model(1)
    generator = make_generator(old, Budget(10, 3, None))
    groups = generator.admit([0], 4)
    for _ in range(5):
        generator.step()
    generator.load_weights(new, version=1)
    finish(generator)
    longest = max(groups[0].completions, key=lambda completion: len(completion.ids))
    assert longest.versions.tolist() == [0] * 5 + [1] * (len(longest.ids) - 5)
    under_old = replay(old, PROBLEMS[0], longest)
    under_new = replay(new, PROBLEMS[0], longest)
    torch.testing.assert_close(longest.log_probs[:5], under_old[:5], atol=1e-5, rtol=0)
    # A recomputed cache would give the new policy's values; the stale one gives neither policy's.
    assert (longest.log_probs[5:] - under_new[5:]).abs().max() > 0.01


def test_an_interruption_inserts_the_phrase_masks_it_and_leaves_an_answer_budget():
    model = make_model()
    force_head(model, INTERRUPTION_IDS[0] - 5, 12.0)  # never ends by itself
    budget = Budget(thinking=12, answer=4, interruption=(6, 9))
    generator = make_generator(model, budget)
    groups = generator.admit([0, 1, 2], 4)
    finish(generator)
    positions = set()
    for completion in (completion for group in groups for completion in group.completions):
        ids = completion.ids.tolist()
        end = ids.index(END_THINK_ID) + 1
        start = end - len(INTERRUPTION_IDS)
        positions.add(start)
        assert tuple(ids[start:end]) == INTERRUPTION_IDS
        assert completion.interrupted and completion.truncated and not completion.correct
        assert completion.loss_mask.tolist() == [not start <= i < end for i in range(len(ids))]
        assert (completion.log_probs[start:end] == 0).all()
        assert len(ids) - end == budget.answer
        assert len(ids) <= budget.longest
    assert positions <= {6, 7, 8, 9} and len(positions) > 1


def test_a_thought_ends_where_all_tokens_of_the_mark_stand_in_a_row():
    model = make_model()
    force_head(model, [7, 8], 0.35)  # each a tenth of all tokens
    marks = Marks(ends=(1, 2), end_of_thought=(7, 8), interruption=(9, 10, 7, 8), result=None)
    budget = Budget(thinking=40, answer=6, interruption=(20, 30), phrase=len(marks.interruption))
    generator = make_generator(model, budget, slots=480, marks=marks)
    groups = generator.admit(range(30), 16)
    finish(generator)
    seen = {"interrupted": 0, "ended its own thought": 0, "ended by another end": 0}
    for completion in (completion for group in groups for completion in group.completions):
        ids = completion.ids.tolist()
        own = [at for at, pair in enumerate(zip(ids, ids[1:], strict=False)) if pair == (7, 8)]
        phrase = next((at for at in range(len(ids)) if tuple(ids[at : at + 4]) == marks.interruption), None)
        assert not set(ids[:-1]) & set(marks.ends) and (completion.truncated or ids[-1] in marks.ends)
        if completion.interrupted:
            assert phrase is not None and own[0] == phrase + 2  # no mark before it
            assert completion.loss_mask.tolist() == [not phrase <= at < phrase + 4 for at in range(len(ids))]
            assert len(ids) <= phrase + 4 + budget.answer
        seen["interrupted"] += completion.interrupted
        seen["ended its own thought"] += bool(own) and not completion.interrupted and own[0] < 20
        seen["ended by another end"] += ids[-1] == 2
    assert min(seen.values()) > 5, seen


def test_without_interruption_a_completion_stops_at_its_budget():
    model = make_model()
    force_head(model, INTERRUPTION_IDS[0] - 5, 12.0)
    generator = make_generator(model, Budget(thinking=12, answer=4, interruption=None))
    group = generator.admit([0], 2)[0]
    finish(generator)
    assert [len(completion.ids) for completion in group.completions] == [16, 16]
    assert all(completion.truncated and not completion.interrupted for completion in group.completions)


@pytest.mark.parametrize("head", ["bf16", "fp32"])
def test_head_precision_of_the_generator_is_settable(head):
    from rlscape.rl.policy import head_logits

    hidden, weight = torch.randn(5, 32), torch.randn(27, 32)
    logits = head_logits(hidden, weight, head, 1.0)
    assert logits.dtype == torch.float32
    rounded = logits.to(torch.bfloat16).float()
    assert torch.equal(logits, rounded) == (head == "bf16")
