"""Arms that only pilots run, and what pilots choose: learning rates per family, and controls in which effects show.

A choice is made on pilot seeds (``config/pilots.yaml``; of a pretrained model's tasks
``config/pretrained_pilots.yaml`` and ``config/pretrained_further_pilots.yaml``), by the rule that is written here,
and never on a claim.
``seeds.pilots`` of a scale is how many seeds its arms have; a later scale names those that were chosen.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from rlscape.catalogue import off_principals, scalerl
from rlscape.catalogue.arms import Arm, arm
from rlscape.catalogue.grids import FAIR_FAMILIES, FURTHER_RATES, LEARNING_RATES, learning_rate_arm
from rlscape.schema import Settings

Quantity = Literal["collapsed", "falls", "cut_at_start", "clipped", "promises", "learns"]
"""What an arm must show; each is measured in :mod:`rlscape.results.pilots`."""
Preference = Literal["first", "highest_end", "all"]
"""Which of the arms that show it are chosen; an arm's end is its mean validation pass rate over the last three
evaluations and all seeds."""


class Choice(Settings):
    """Arms of which pilots choose.

    ``candidates`` and ``against`` are arms, or earlier choices, which stand for the arm that these chose.
    """

    name: str
    candidates: tuple[str, ...] = Field(min_length=1)
    """In the order in which they are preferred."""
    quantity: Quantity
    window: tuple[float, float]
    """Limits, inclusive, of the quantity's mean over seeds."""
    prefer: Preference
    against: tuple[str, ...]
    """What the ends of all candidates, or of each in order, are compared with."""

    @model_validator(mode="after")
    def _each_has_a_partner(self) -> Self:
        if len(self.against) not in (1, len(self.candidates)):
            raise ValueError(f"against: needs one arm, or one for each of {', '.join(self.candidates)}")
        return self


rl, sft = (partial(arm, paper="scalerl", method=method) for method in ("rl", "sft"))

NO_CLIP = 1e6
STRESS = (4.0, 8.0)
BUDGETS = {"half": 0.5, "60": 0.6, "70": 0.7}
DAPO_CLIPS = {"dapo_clip_002": 0.02, "dapo_clip_005": 0.05, "dapo_clip_010": 0.1, "dapo_clip_100": 1.0}
# DAPO's clips, 0.2 and 0.26, touch 0.8% of the tokens, whence 1.1.
CISPO_CAPS = {"cispo_cap_0_5": 0.5, "cispo_cap_1": 1.0, "cispo_cap_1_1": 1.1, "cispo_cap_2": 2.0}
ADAPTER_STRESS = (200.0, 500.0, 1000.0)
SFT_BASES = {"dense_sft": "dense", "moe_sft": "moe"}
TASKS_IN_WORDS = ("sums", "long_sums")
"""In the order in which a pretrained model's scale prefers them: short completions are cheap."""
FURTHER_TASKS_IN_WORDS = ("products", "long_sums")
"""In the order in which they are preferred, another operation first. Tried with twice the updates, 48, and on other
pilot seeds: in 24, long_sums had gained 0.18.
"""
WORDS_SFT_RATES = {"_tenth": 0.1, "_third": 1 / 3, "": 1.0}
WORDS_SGD_RATES = (3e2, 1e3, 3e3, 1e4)
"""A step is as long as AdamW's at 1e4: gradients are clipped to a norm of 1, AdamW changes 1e8 weights by about its
rate each. There the model forgot everything in four updates, wherefore 3e4, of the first grid, was not run and 3e2 was.
"""


def _in_words(label: str, task: str, **changes: Any) -> Arm:
    """RL of a pretrained model on a task, from its start on that task."""
    return arm(label, "rlvr", paper="off_principals", method="rl", tasks=(task,), base=f"words_{task}", **changes)


ARMS: dict[str, Arm] = {
    # Does collapse happen? Three times the steps at large rates, and nothing clipped.
    **{
        f"grpo_stress_x{factor:g}": rl(
            f"GRPO, no clip, learning rate x {factor:g}",
            "deepseek_grpo",
            loss="dapo",  # GRPO's, with two clips
            clip_low=0.999,
            clip_high=NO_CLIP,
            scaled={"learning_rate": factor, "steps": 3.0},
        )
        for factor in STRESS
    },
    **{
        f"scalerl_stress_x{factor:g}": rl(
            f"ScaleRL, no cap, learning rate x {factor:g}",
            "scalerl",
            cispo_cap=NO_CLIP,
            scaled={"learning_rate": factor, "steps": 3.0},
        )
        for factor in STRESS
    },
    # Does length bind?
    **{
        f"budget_{name}": rl(f"{share:g} of the thinking budget", "scalerl", scaled={"thinking_tokens": share})
        for name, share in BUDGETS.items()
    },
    **{
        f"budget_{name}_penalty": rl(
            f"{share:g} of the thinking budget, length penalty",
            "scalerl",
            length_control="penalty",
            scaled={"thinking_tokens": share},
        )
        for name, share in BUDGETS.items()
    },
    # Do clips bind?
    **{name: rl(f"DAPO, upper clip {clip:g}", "baseline", clip_high=clip) for name, clip in DAPO_CLIPS.items()},
    **{name: rl(f"CISPO, cap {cap:g}", "baseline", loss="cispo", cispo_cap=cap) for name, cap in CISPO_CAPS.items()},
    # MiniMax at ScaleRL's k and batch, so that they differ in schedule, normalisation and prompts alone
    "minimax_equal_batch": rl("MiniMax-M1, batch 768", "minimax", prompts_per_batch=48),
    # Nothing to learn from: a forecast that promises a rise would promise one of anything.
    "random_rewards": rl("ScaleRL, random rewards", "scalerl", rewards="random", no_positive_resampling=False),
    # Which tasks can a pretrained model learn? Each from a base that has learnt the form of its answers.
    **{f"words_{task}": _in_words(f"RLVR, {task}", task) for task in TASKS_IN_WORDS},
    **{
        f"words_{task}_twice": _in_words(f"RLVR, {task}, twice the updates", task, scaled={"steps": 2.0})
        for task in FURTHER_TASKS_IN_WORDS
    },
    # And at which rate does it learn the first of them by SFT?
    **{
        f"words_sft{name}": arm(
            f"SFT, {TASKS_IN_WORDS[0]}, rate x {factor:g}",
            paper="off_principals",
            method="sft",
            tasks=TASKS_IN_WORDS[:1],
            base=f"words_{TASKS_IN_WORDS[0]}",
            scaled={"learning_rate": factor},
        )
        for name, factor in WORDS_SFT_RATES.items()
    },
    # And by plain gradient descent?
    **{
        f"words_sgd_x{factor:g}": _in_words(
            f"RLVR, SGD, rate x {factor:g}", TASKS_IN_WORDS[0], optimizer="sgd", scaled={"learning_rate": factor}
        )
        for factor in WORDS_SGD_RATES
    },
    # Has the mixture of experts the higher ceiling where the signal is better than RL's?
    **{name: sft(f"SFT, {base}", base=base) for name, base in SFT_BASES.items()},
}

# Rates beyond those of the learning-rate control
_RATES = LEARNING_RATES | FURTHER_RATES
for _family, _rates in {**dict.fromkeys(FAIR_FAMILIES, FURTHER_RATES), **dict.fromkeys(SFT_BASES, _RATES)}.items():
    _own = (scalerl.ARMS | ARMS)[_family]
    for _rate, _factor in _rates.items():
        ARMS[learning_rate_arm(_family, _rate)] = _own.changed(
            label=f"{_own.label}, learning rate x {_factor:g}", scaled=_own.scaled | {"learning_rate": _factor}
        )

# Do adapters collapse? 105 updates in place of 30.
for _kind in ("lora", "pissa"):
    for _factor in ADAPTER_STRESS:
        _own = off_principals.ARMS[f"{_kind}_r8_high"]
        ARMS[f"{_kind}_r8_x{_factor:g}"] = _own.changed(
            label=f"{_own.label.partition(',')[0]}, rate x {_factor:g}",
            scaled={"learning_rate": _factor, "steps": 3.5},
        )


def _by_rate(family: str) -> tuple[str, ...]:
    factors = {learning_rate_arm(family, rate): factor for rate, factor in _RATES.items()} | {family: 1.0}
    return tuple(sorted(factors, key=lambda variant: factors[variant]))


_choose = partial(Choice, prefer="first")
_further_tasks = tuple(f"words_{task}_twice" for task in FURTHER_TASKS_IN_WORDS)
_penalised = tuple(f"budget_{name}_penalty" for name in BUDGETS)
_budgets = partial(
    _choose,
    candidates=tuple(f"budget_{name}" for name in BUDGETS),
    quantity="cut_at_start",
    window=(0.05, 0.3),
)
_binding = partial(_choose, quantity="clipped", window=(0.01, 0.2), prefer="all")
_learning = partial(_choose, quantity="learns", window=(0.2, 1.0))
_stable = partial(_choose, quantity="collapsed", window=(0.0, 0.0))


def _either_collapses(
    pair: tuple[str, str], variant: str, factors: Iterable[float], quantity: Quantity
) -> Iterator[Choice]:
    """Of each of a pair the least factor at which half of its seeds collapse, against the other one there."""
    arms = {one: tuple(f"{one}_{variant}_x{factor:g}" for factor in factors) for one in pair}
    for one, other in (pair, pair[::-1]):
        yield _choose(
            name=f"collapse_{one}",
            candidates=arms[one],
            quantity=quantity,
            window=(0.5, 1.0),
            against=arms[other],
        )


CHOICES: tuple[Choice, ...] = (
    # A family's own best rate: the highest end among rates of which no seed collapses.
    *(
        _stable(name=f"rate_{family}", candidates=_by_rate(family), prefer="highest_end", against=(family,))
        for family in (*FAIR_FAMILIES, *SFT_BASES)
    ),
    # The least stress at which half of the seeds of GRPO, and of ScaleRL, collapse.
    *_either_collapses(("grpo", "scalerl"), "stress", STRESS, "collapsed"),
    # The lowest rate at which half of the seeds of an adapter collapse.
    *_either_collapses(("pissa", "lora"), "r8", ADAPTER_STRESS, "falls"),
    # The shortest budget that cuts or interrupts 5-30% of completions at the start.
    _budgets(name="length_budget", against=("scalerl",)),
    _budgets(name="length_penalty", against=_penalised),
    # All clips that clip 1-20% of the tokens.
    _binding(
        name="clips_dapo",
        candidates=("dapo_clip_002", "dapo_clip_005", "dapo_clip_010", "baseline", "dapo_clip_100"),
        against=("baseline",),
    ),
    _binding(name="caps_cispo", candidates=(*CISPO_CAPS, "cispo"), against=("cispo",)),
    # Nothing to choose: what each shows.
    _stable(name="minimax_batch", candidates=("minimax_equal_batch",), against=("minimax",)),
    _stable(name="minimax_equal_k_and_batch", candidates=("minimax_equal_batch",), against=("scalerl",)),
    _stable(name="moe_ceiling", candidates=("rate_moe_sft",), against=("rate_dense_sft",)),
    # All tasks on which runs that start between 0.1 and 0.4 gain 0.2; the first two become the testbed. Tried before
    # and left: products (0.16 after a start of twelve steps, and as much after 32 updates of a bf16 generator), sums
    # and differences (0.10 after ten), words spelt backwards (0.004 after ten) and chains of sums (0.01 after
    # fourteen).
    _learning(
        name="tasks_in_words",
        candidates=tuple(f"words_{task}" for task in TASKS_IN_WORDS),
        prefer="all",
        against=("words_sums",),
    ),
    # And a second testbed of another task: the first that is learnt, none if neither is.
    _learning(
        name="second_task",
        candidates=_further_tasks,
        against=_further_tasks,
    ),
    # A pretrained model's usual rate of SFT: the highest end among those at which it learns.
    _learning(
        name="rate_words_sft",
        candidates=tuple(f"words_sft{name}" for name in WORDS_SFT_RATES),
        prefer="highest_end",
        against=("words_sft",),
    ),
    # Its rate of plain gradient descent, by the same rule, of one seed each; none is recorded if none learns. If it is
    # the largest or the least of them, that is said where it is used.
    _learning(
        name="rate_words_sgd",
        candidates=tuple(f"words_sgd_x{factor:g}" for factor in WORDS_SGD_RATES),
        prefer="highest_end",
        against=("words_sgd_x3000",),
    ),
    # No seed's forecast is granted and other than flat.
    _choose(
        name="forecast_of_random_rewards",
        candidates=("random_rewards",),
        quantity="promises",
        window=(0.0, 0.0),
        against=("scalerl",),
    ),
)
