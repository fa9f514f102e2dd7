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
  appended, token by token and unmarked in ``chosen``, and then has the answer budget left.
- Turns: after a ``<result>`` that the policy sampled, a problem with an environment answers with the next token,
  unmarked in ``chosen`` too. An interruption that is due comes instead of the answer.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rlscape.models.decoder import Decoder
from rlscape.rl.cache import SlotCache
from rlscape.rl.policy import head_logits
from rlscape.settings.precision import HeadPrecision, Precision
from rlscape.settings.training import RLSettings
from rlscape.tasks.base import Problem
from rlscape.tasks.vocabulary import END_THINK_ID, EOS_ID, INTERRUPTION_IDS, PAD_ID, RESULT_ID


@dataclass
class Completion:
    """One finished generation of n tokens."""

    ids: Tensor
    """(n,) tokens, the end token included."""
    log_probs: Tensor
    """(n,) under the weights that sampled each token; 0 where injected."""
    versions: Tensor
    """(n,) weight version that sampled each token."""
    chosen: Tensor
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

    @classmethod
    def of(cls, rl: RLSettings, interrupted: bool) -> "Budget":
        total = rl.thinking_tokens + rl.answer_tokens
        low, high = (max(1, round(edge * total)) for edge in rl.interruption_window)
        return cls(rl.thinking_tokens, rl.answer_tokens, (low, high) if interrupted else None)

    @property
    def longest(self) -> int:
        """The most tokens that a completion can have."""
        interrupted = self.interruption[1] + len(INTERRUPTION_IDS) + self.answer if self.interruption else 0
        return max(self.thinking + self.answer, interrupted)


class Generator:
    """Samples completions of problems with a fixed number of slots.

    Args:
        model: the policy; its weights are copied, never referenced.
        problems: what prompt indices refer to.
        slots: most sequences in flight.
        random: source of every sampled token and interruption point.
        precision: of the body.
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
        self._policy = copy.deepcopy(model)
        self._use_policy(version=0)
        config = model.config
        longest_prompt = max(len(problem.prompt_ids) for problem in problems)
        self._cache = SlotCache(
            config.num_hidden_layers,
            slots,
            config.num_key_value_heads,
            longest_prompt + budget.longest,
            config.head_dim,
        )
        n, length = slots, budget.longest
        self._rows: dict[str, Tensor] = {
            "cache_row": torch.zeros(n, dtype=torch.long),
            "next_id": torch.zeros(n, dtype=torch.long),
            "position": torch.zeros(n, dtype=torch.long),
            "length": torch.zeros(n, dtype=torch.long),
            "limit": torch.zeros(n, dtype=torch.long),
            "thinking": torch.zeros(n, dtype=torch.bool),
            "interrupt_at": torch.zeros(n, dtype=torch.long),
            "injected": torch.zeros(n, dtype=torch.long),
            "ids": torch.full((n, length), PAD_ID, dtype=torch.long),
            "log_probs": torch.zeros(n, length),
            "versions": torch.zeros(n, length, dtype=torch.long),
            "chosen": torch.zeros(n, length, dtype=torch.bool),
        }
        self._phrase = torch.tensor(INTERRUPTION_IDS)
        self._respond = [getattr(problem, "respond", None) for problem in problems]
        self._has_environments = any(self._respond)

    @property
    def free(self) -> int:
        """Free slots."""
        return len(self._rows["length"]) - self.active

    def load_weights(self, model: Decoder, version: int) -> None:
        """Swap in new weights; the cache of unfinished sequences stays as the old weights wrote it."""
        self._policy.load_state_dict(model.state_dict())
        self._use_policy(version)

    @torch.no_grad()
    def _use_policy(self, version: int) -> None:
        self._body = self._policy.weights(self.precision)
        self.version = version

    @torch.no_grad()
    def admit(self, prompts: Sequence[int], generations: int) -> list[Group]:
        """Start ``generations`` sequences for each prompt index; the caller sees to it that slots are free."""
        groups = [Group(prompt, self.version) for prompt in prompts]
        ids = [self.problems[prompt].prompt_ids for prompt in prompts]
        lengths = torch.tensor([len(prompt) for prompt in ids])
        # All but the last prompt token are prefilled; the last is the first input of decoding.
        width = int(lengths.max()) - 1
        context = torch.full((len(ids), width), PAD_ID)
        for row, prompt in enumerate(ids):
            context[row, : len(prompt) - 1] = torch.tensor(prompt[:-1])
        attend = self._cache.prefill(len(ids), self._cache_rows)
        self._body.hidden_states(context.flatten(), torch.arange(width).repeat(len(ids)), attend)

        count = len(groups) * generations
        new = slice(self.active, self.active + count)
        rows = self._rows
        rows["cache_row"][new] = torch.arange(self._cache_rows, self._cache_rows + len(ids)).repeat_interleave(
            generations
        )
        rows["next_id"][new] = torch.tensor([prompt[-1] for prompt in ids]).repeat_interleave(generations)
        rows["position"][new] = (lengths - 1).repeat_interleave(generations)
        rows["length"][new] = 0
        rows["limit"][new] = self.budget.thinking + self.budget.answer
        rows["thinking"][new] = True
        rows["injected"][new] = 0
        if self.budget.interruption:
            low, high = self.budget.interruption
            rows["interrupt_at"][new] = torch.randint(low, high + 1, (count,), generator=self.random)
        else:
            rows["interrupt_at"][new] = self.budget.longest + 1
        self.groups += [group for group in groups for _ in range(generations)]
        self.active += count
        self._cache_rows += len(ids)
        return groups

    @torch.no_grad()
    def step(self) -> list[Group]:
        """Decode one token of every active sequence; returns the group of each sequence that finished."""
        rows = {name: values[: self.active] for name, values in self._rows.items()}
        # Of the sequences that share a row of the cache, all have this token at this position.
        next_ids, positions = torch.empty(2, self._cache_rows, dtype=torch.long)
        next_ids[rows["cache_row"]] = rows["next_id"]
        positions[rows["cache_row"]] = rows["position"]
        hidden = self._body.hidden_states(next_ids, positions, self._cache.decode(positions))
        logits = head_logits(hidden, self._policy.lm_head.weight, self.head, self.temperature)
        log_probs = logits.log_softmax(-1)[rows["cache_row"]]
        noise = torch.empty_like(log_probs).exponential_(generator=self.random)
        sampled = (log_probs.exp() / noise).argmax(-1)

        interrupted = rows["thinking"] & (rows["length"] >= rows["interrupt_at"])
        ids = torch.where(interrupted, self._phrase[rows["injected"].clamp(max=len(self._phrase) - 1)], sampled)
        injected = interrupted | self._answer(rows, ids, interrupted) if self._has_environments else interrupted
        at = rows["length"][:, None]
        rows["ids"].scatter_(1, at, ids[:, None])
        rows["log_probs"].scatter_(1, at, log_probs.gather(-1, ids[:, None]).masked_fill_(injected[:, None], 0.0))
        rows["versions"].scatter_(1, at, self.version)
        rows["chosen"].scatter_(1, at, ~injected[:, None])
        rows["length"] += 1
        rows["position"] += 1
        rows["injected"] += interrupted
        rows["next_id"].copy_(ids)
        closing = rows["thinking"] & (ids == END_THINK_ID)
        rows["thinking"] &= ~closing
        rows["limit"].copy_(torch.where(closing & interrupted, rows["length"] + self.budget.answer, rows["limit"]))
        out_of_tokens = (rows["length"] >= rows["limit"]) & ~(interrupted & rows["thinking"])
        finished = self._retire((ids == EOS_ID) & ~injected, out_of_tokens)
        if finished or self._cache_rows < self.active:
            self._part()
        return finished

    def _part(self) -> None:
        """Give sequences that differ from now on rows of their own in the cache, and close its gaps."""
        cache_rows, next_ids, positions = (
            self._rows[name][: self.active] for name in ("cache_row", "next_id", "position")
        )
        vocabulary = len(self._policy.lm_head.weight)
        kinds, kind = torch.unique(cache_rows * vocabulary + next_ids, return_inverse=True)
        source = kinds // vocabulary
        stays = source < len(kinds)
        stays[1:] &= source[1:] != source[:-1]
        if not stays.all():
            free = torch.ones(len(kinds), dtype=torch.bool)
            free[source[stays]] = False
            target = source.clone()
            target[~stays] = free.nonzero()[:, 0]
            self._cache.move(source[~stays], target[~stays], int(positions[~stays[kind]].max()))
            cache_rows.copy_(target[kind])
        self._cache_rows = len(kinds)

    def _answer(self, rows: dict[str, Tensor], ids: Tensor, interrupted: Tensor) -> Tensor:
        """Put the environments' tokens into ``ids``; returns the rows (active,) bool that have one."""
        answered = torch.zeros_like(interrupted)
        asking = (rows["next_id"] == RESULT_ID) & ~interrupted
        for row in asking.nonzero()[:, 0].tolist():
            respond = self._respond[self.groups[row].prompt]
            if respond is not None:
                ids[row] = respond(rows["ids"][row, : rows["length"][row]].tolist())
                answered[row] = True
        return answered

    def _retire(self, ended: Tensor, out_of_tokens: Tensor) -> list[Group]:
        """Hand finished sequences to their groups and close the gaps that they leave in the rows."""
        done = ended | out_of_tokens
        if not done.any():
            return []
        rows = done.nonzero()[:, 0]
        finished = [self.groups[row] for row in rows.tolist()]
        left = {name: self._rows[name][rows] for name in ("ids", "log_probs", "versions", "chosen")}
        lengths = self._rows["length"][rows].tolist()
        truncated = (~ended[rows]).tolist()
        interrupted = (self._rows["injected"][rows] > 0).tolist()
        for index, group in enumerate(finished):
            n = lengths[index]
            parts = {name: values[index, :n] for name, values in left.items()}
            group.completions.append(
                Completion(
                    **parts,
                    truncated=truncated[index],
                    interrupted=interrupted[index],
                    correct=self.problems[group.prompt].verify(parts["ids"].tolist()),
                )
            )
        remaining = self.active - len(finished)
        holes = done[:remaining].nonzero()[:, 0]
        movers = (~done[remaining:]).nonzero()[:, 0] + remaining
        for values in self._rows.values():
            values[holes] = values[movers]
        for hole, mover in zip(holes.tolist(), movers.tolist(), strict=True):
            self.groups[hole] = self.groups[mover]
        del self.groups[remaining:]
        self.active = remaining
        return finished

    def state_dict(self, group_index: dict[int, int]) -> dict[str, Any]:
        """Everything that the next step depends on; groups as indices into the caller's list, by ``id``."""
        n = self.active
        return {
            "policy": self._policy.state_dict(),
            "version": self.version,
            "random": self.random.get_state(),
            "cache": self._cache.data[:, :, : self._cache_rows].clone(),
            "rows": {name: values[:n].clone() for name, values in self._rows.items()},
            "groups": [group_index[id(group)] for group in self.groups],
        }

    def load_state_dict(self, state: dict[str, Any], groups: Sequence[Group]) -> None:
        """Continue where :meth:`state_dict` was taken, with the caller's ``groups``."""
        self._policy.load_state_dict(state["policy"])
        self._use_policy(state["version"])
        self.random.set_state(state["random"])
        self.groups = [groups[index] for index in state["groups"]]
        self.active = n = len(self.groups)
        self._cache_rows = state["cache"].shape[2]
        self._cache.data[:, :, : self._cache_rows] = state["cache"]
        for name, values in self._rows.items():
            values[:n] = state["rows"][name]
