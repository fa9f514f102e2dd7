"""The rollout engine: continuous batching over slots, with weights that may be swapped in flight.

- One prefill per prompt; generations share its row of the cache, and what is computed for it, until they draw
  different tokens. Each still has draws of its own, the same as with a row for each.
- Finished sequences leave the batch at once.
- The body computes in ``generator_precision``: bf16 like an inference engine, while the trainer's is fp32. The
  head's precision is the recipe's.
- ``load_weights`` may be called between any two decoding steps. Unfinished sequences go on with the new weights
  over the *old* cache (PipelineRL), so one sequence can mix policies; the log-probability and the version of each
  token are those of the weights that sampled it.
- Forced interruptions (P1): a sequence still thinking at a random point of its output budget gets the phrase
  appended, token by token and outside the ``loss_mask``, and then has the answer budget left.
- Turns: after a ``<result>`` that the policy sampled, a problem with an environment answers with the next token,
  outside the ``loss_mask`` too. An interruption that is due comes instead of the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rlscape.models.decoder import Decoder
from rlscape.rl.decoding import make_decoding
from rlscape.rl.policy import head_logits
from rlscape.rl.slots import Slots
from rlscape.settings.precision import HeadPrecision, Precision
from rlscape.settings.training import RLSettings
from rlscape.tasks.base import Problem
from rlscape.tasks.speech import WORDS, Marks

LOGITS = 2**22
"""That a step may have in memory at once; a few tensors of them are."""


@dataclass
class Completion:
    """One finished generation of n tokens."""

    ids: Tensor
    """(n,) tokens, the end token included."""
    log_probs: Tensor
    """(n,) under the weights that sampled each token; 0 where injected."""
    versions: Tensor
    """(n,) weight version that sampled each token."""
    loss_mask: Tensor
    """(n,) bool, False for injected tokens."""
    truncated: bool
    """It reached its token limit."""
    interrupted: bool
    correct: bool


@dataclass
class Group:
    """The generations of one prompt."""

    prompt: int
    """Index into the training pool (or into the evaluated problems)."""
    version: int
    """Weight version when the prompt was admitted; no token is older."""
    completions: list[Completion] = field(default_factory=list)


@dataclass(frozen=True)
class Budget:
    """Token limits of a completion."""

    thinking: int
    answer: int
    interruption: tuple[int, int] | None
    """First and last token position of the forced interruption, inclusive; None: never."""
    phrase: int = len(WORDS.marks.interruption)
    """Tokens that an interruption appends."""

    @classmethod
    def of(cls, rl: RLSettings, interrupted: bool, marks: Marks = WORDS.marks) -> "Budget":
        total = rl.thinking_tokens + rl.answer_tokens
        low, high = (max(1, round(edge * total)) for edge in rl.interruption_window)
        window = (low, high) if interrupted else None
        return cls(rl.thinking_tokens, rl.answer_tokens, window, len(marks.interruption))

    @property
    def longest(self) -> int:
        """The most tokens that a completion can have."""
        interrupted = self.interruption[1] + self.phrase + self.answer if self.interruption else 0
        return max(self.thinking + self.answer, interrupted)


class Generator:
    """Samples completions of problems with a fixed number of slots.

    Args:
        model: the policy; its weights are copied, never referenced.
        problems: what prompt indices refer to.
        slots: most sequences in flight.
        random: source of every sampled token and interruption point.
        precision: of the body.
        marks: tokens of the model that end a thought or a completion, or interrupt it.
    """

    def __init__(
        self,
        model: Decoder,
        problems: Sequence[Problem],
        slots: int,
        budget: Budget,
        head: HeadPrecision,
        temperature: float,
        random: torch.Generator,
        precision: Precision,
        marks: Marks = WORDS.marks,
    ) -> None:
        self.problems = problems
        self.budget = budget
        self.head = head
        self.temperature = temperature
        self.random = random
        self.active = 0
        """Sequences in flight."""
        self._cache_rows = 0
        """Rows of the cache in use, the first ones."""
        self.groups: list[Group] = []
        """Group of each sequence, by row."""
        self.precision: Precision = precision
        self.version = 0
        longest_prompt = max(len(problem.prompt_ids) for problem in problems)
        with torch.no_grad():
            weights = model.weights(precision)
        self._decoding = make_decoding(weights, slots, longest_prompt + budget.longest)
        self._head_weight = model.lm_head.weight.detach().clone()
        self._slots = Slots.empty(slots, budget.longest)
        """Those of the sequences in flight come first."""
        self.marks = marks
        self._phrase = torch.tensor(marks.interruption)
        self._ends = torch.tensor(marks.ends)
        self._respond = [getattr(problem, "respond", None) for problem in problems]
        self._has_environments = any(self._respond)

    def __len__(self) -> int:
        """Slots."""
        return len(self._slots)

    @property
    def free(self) -> int:
        """Free slots."""
        return len(self._slots) - self.active

    @torch.no_grad()
    def load_weights(self, model: Decoder, version: int) -> None:
        """Swap in new weights; the cache of unfinished sequences stays as the old weights wrote it."""
        self._decoding.load(model.weights(self.precision))
        self._head_weight.copy_(model.lm_head.weight)
        self.version = version

    @torch.no_grad()
    def admit(self, prompts: Sequence[int], generations: int) -> list[Group]:
        """Start ``generations`` sequences for each prompt index; the caller sees to it that slots are free."""
        groups = [Group(prompt, self.version) for prompt in prompts]
        ids = [self.problems[prompt].prompt_ids for prompt in prompts]
        # All but the last prompt token are prefilled; the last is the first input of decoding.
        self._decoding.prefill([prompt[:-1] for prompt in ids], self._cache_rows)

        count = len(groups) * generations
        new = self._slots[self.active : self.active + count]
        cache_rows = torch.arange(self._cache_rows, self._cache_rows + len(ids))
        new.cache_row.copy_(cache_rows.repeat_interleave(generations))
        new.next_id.copy_(torch.tensor([prompt[-1] for prompt in ids]).repeat_interleave(generations))
        new.position.copy_(torch.tensor([len(prompt) - 1 for prompt in ids]).repeat_interleave(generations))
        new.length.fill_(0)
        new.limit.fill_(self.budget.thinking + self.budget.answer)
        new.thinking.fill_(True)
        new.phrase_tokens.fill_(0)
        if self.budget.interruption:
            low, high = self.budget.interruption
            new.interrupt_at.copy_(torch.randint(low, high + 1, (count,), generator=self.random))
        else:
            new.interrupt_at.fill_(self.budget.longest + 1)
        self.groups += [group for group in groups for _ in range(generations)]
        self.active += count
        self._cache_rows += len(ids)
        return groups

    @torch.no_grad()
    def step(self) -> list[Group]:
        """Decode one token of every active sequence; returns the group of each sequence that finished."""
        rows = self._slots[: self.active]
        # Of the sequences that share a row of the cache, all have this token at this position.
        next_ids, positions = torch.empty(2, self._cache_rows, dtype=torch.long)
        next_ids[rows.cache_row] = rows.next_id
        positions[rows.cache_row] = rows.position
        hidden = self._decoding.decode(next_ids, positions)
        sampled, log_probs = self._sample(hidden, rows.cache_row)

        interrupted = rows.thinking & (rows.length >= rows.interrupt_at)
        ids = torch.where(interrupted, self._phrase[rows.phrase_tokens.clamp(max=len(self._phrase) - 1)], sampled)
        injected = interrupted
        if self._has_environments:
            injected = interrupted | self._inject_environment_tokens(rows, ids, interrupted)
        at = rows.length[:, None]
        rows.ids.scatter_(1, at, ids[:, None])
        rows.log_probs.scatter_(1, at, log_probs.masked_fill_(injected, 0.0)[:, None])
        rows.versions.scatter_(1, at, self.version)
        rows.loss_mask.scatter_(1, at, ~injected[:, None])
        rows.length.add_(1)
        rows.position.add_(1)
        rows.phrase_tokens.add_(interrupted)
        rows.next_id.copy_(ids)
        closing = rows.thinking & self._ends_thought(rows)
        rows.thinking.logical_and_(~closing)
        rows.limit.copy_(torch.where(closing & interrupted, rows.length + self.budget.answer, rows.limit))
        out_of_tokens = (rows.length >= rows.limit) & ~(interrupted & rows.thinking)
        ended = torch.isin(ids, self._ends)
        finished = self._retire(ended & ~injected, out_of_tokens)
        if finished or self._cache_rows < self.active:
            self._split_cache_rows()
        if not self.active:
            self._decoding.clear()
        return finished

    def _sample(self, hidden: Tensor, cache_row: Tensor) -> tuple[Tensor, Tensor]:
        """A token (active,) for every sequence and its log-probability (active,), from the head's inputs by cache row.

        Of a large vocabulary only some rows' logits are in memory at once.
        """
        uniform = torch.rand(self.active, 1, generator=self.random, dtype=torch.float64)
        most = max(1, LOGITS // len(self._head_weight))
        if len(hidden) <= most:
            return self._sample_from(hidden, cache_row, uniform)
        sampled, log_probs = torch.empty(self.active, dtype=torch.long), torch.empty(self.active)
        for first, part in enumerate(hidden.split(most)):
            own = (cache_row // most == first).nonzero()[:, 0]
            sampled[own], log_probs[own] = self._sample_from(part, cache_row[own] - first * most, uniform[own])
        return sampled, log_probs

    def _sample_from(self, hidden: Tensor, row: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        log_probs = head_logits(hidden, self._head_weight, self.head, self.temperature).log_softmax(-1)
        # A token is drawn where a uniform number falls among the cumulated probabilities; in fp32 the rarest would
        # have none between the others.
        cumulated = log_probs.double().exp_().cumsum_(-1).index_select(0, row)
        sampled = (cumulated[:, :-1] <= uniform * cumulated[:, -1:]).sum(-1)
        return sampled, log_probs[row, sampled]

    def _ends_thought(self, rows: Slots) -> Tensor:
        """(active,) bool: the latest tokens are those that end a thought."""
        *earlier, last = self.marks.end_of_thought
        found = rows.next_id == last
        for back, token in enumerate(reversed(earlier), start=2):
            at = (rows.length - back)[:, None]
            found &= (at[:, 0] >= 0) & (rows.ids.gather(1, at.clamp(min=0))[:, 0] == token)
        return found

    def _split_cache_rows(self) -> None:
        """Give sequences that differ from now on rows of their own in the cache, and close its gaps."""
        rows = self._slots[: self.active]
        vocabulary = len(self._head_weight)
        kinds, kind = torch.unique(rows.cache_row * vocabulary + rows.next_id, return_inverse=True)
        source = kinds // vocabulary
        stays = source < len(kinds)
        stays[1:] &= source[1:] != source[:-1]
        if not stays.all():
            free = torch.ones(len(kinds), dtype=torch.bool)
            free[source[stays]] = False
            target = source.clone()
            target[~stays] = free.nonzero()[:, 0]
            self._decoding.move(source[~stays], target[~stays], int(rows.position[~stays[kind]].max()))
            rows.cache_row.copy_(target[kind])
        self._cache_rows = len(kinds)

    def _inject_environment_tokens(self, rows: Slots, ids: Tensor, interrupted: Tensor) -> Tensor:
        """Put the environments' answers into ``ids``; returns the rows (active,) bool that have one."""
        answered = torch.zeros_like(interrupted)
        asking = (rows.next_id == self.marks.result) & ~interrupted
        for row in asking.nonzero()[:, 0].tolist():
            respond = self._respond[self.groups[row].prompt]
            if respond is not None:
                ids[row] = respond(rows.ids[row, : rows.length[row]].tolist())
                answered[row] = True
        return answered

    def _retire(self, ended: Tensor, out_of_tokens: Tensor) -> list[Group]:
        """Hand finished sequences to their groups and close the gaps that they leave in the rows."""
        done = ended | out_of_tokens
        if not done.any():
            return []
        leaving = done.nonzero()[:, 0]
        finished = [self.groups[row] for row in leaving.tolist()]
        left = self._slots[leaving]
        written = torch.arange(self.budget.longest) < left.length[:, None]
        lengths = left.length.tolist()
        fields = (left.ids, left.log_probs, left.versions, left.loss_mask)
        tokens = zip(*(values[written].split(lengths) for values in fields), strict=True)
        truncated = (~ended[leaving]).tolist()
        interrupted = (left.phrase_tokens > 0).tolist()
        for index, (group, (ids, log_probs, versions, loss_mask)) in enumerate(zip(finished, tokens, strict=True)):
            group.completions.append(
                Completion(
                    ids=ids,
                    log_probs=log_probs,
                    versions=versions,
                    loss_mask=loss_mask,
                    truncated=truncated[index],
                    interrupted=interrupted[index],
                    correct=self.problems[group.prompt].verify(ids.tolist()),
                )
            )
        remaining = self.active - len(finished)
        holes = done[:remaining].nonzero()[:, 0]
        movers = (~done[remaining:]).nonzero()[:, 0] + remaining
        self._slots.move(movers, holes)
        for hole, mover in zip(holes.tolist(), movers.tolist(), strict=True):
            self.groups[hole] = self.groups[mover]
        del self.groups[remaining:]
        self.active = remaining
        return finished

    def state_dict(self, group_index: dict[int, int]) -> dict[str, Any]:
        """Everything that the next step depends on; groups as indices into the caller's list, by ``id``."""
        return {
            "head": self._head_weight,
            "version": self.version,
            "random": self.random.get_state(),
            "decoding": self._decoding.state_dict(self._cache_rows),
            "cache_rows": self._cache_rows,
            "slots": self._slots[: self.active].state_dict(),
            "groups": [group_index[id(group)] for group in self.groups],
        }

    def load_state_dict(self, state: dict[str, Any], groups: Sequence[Group]) -> None:
        """Continue where :meth:`state_dict` was taken, with the caller's ``groups``."""
        self._head_weight.copy_(state["head"])
        self.version = state["version"]
        self.random.set_state(state["random"])
        self.groups = [groups[index] for index in state["groups"]]
        self.active = len(self.groups)
        self._cache_rows = state["cache_rows"]
        self._decoding.load_state_dict(state["decoding"])
        self._slots[: self.active].load_state_dict(state["slots"])
