"""Completions per second of one RL step, ours and that of ``trl``'s GRPOTrainer, and both parts' share of the floor.

    python benchmarks/rl_step.py --json

What is timed and what is equal on both sides: benchmarks/README.md.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rlscape.catalogue import load_scale, resolve_run, scratch_base
from rlscape.catalogue.recipes import SCALERL
from rlscape.errors import fail_clearly
from rlscape.files import provenance
from rlscape.kernels.library import kernels_in_use
from rlscape.models.build import load_decoder, load_model
from rlscape.models.checkpoints import speech_of
from rlscape.models.config import DecoderConfig, MixtureConfig
from rlscape.paths import results_dir
from rlscape.rl.rollout import Group
from rlscape.rl.trainer import RLTrainer
from rlscape.settings.run import RunSettings
from rlscape.settings.scale import Config
from rlscape.tasks.sets import make_task_sets
from rlscape.tasks.speech import Chat, Speech

WARMUP_ROUNDS = 2
LEARNING_RATE = 1e-9
"""So small that the policy, and with it the lengths of its completions, is the same in every round."""
RECIPE = SCALERL.changed(
    # what trl does: on-policy batches one after the other, token average, no filters, no interruptions
    schedule="ppo_off_policy",
    off_policy_steps=1,
    aggregation="token",
    advantage_normalisation="prompt",
    zero_variance_filter=False,
    no_positive_resampling=False,
    length_control="none",
)

Step = Callable[[], None]


class TimedTrainer(RLTrainer):
    """Notes, for each step, the seconds of its two parts and the products that they cannot do without."""

    def __init__(self, settings: RunSettings, base: Path, speech: Speech, zero_variance_filter: bool) -> None:
        recipe = RECIPE.changed(zero_variance_filter=zero_variance_filter)
        super().__init__(settings.changed(recipe=recipe), load_decoder(base), speech=speech)
        self.rows: list[dict[str, float]] = []

    def train_step(self) -> None:
        batch: list[Group] = []
        generate = self.schedule.next_batch

        def timed() -> list[Group]:
            batch.extend(generate())
            self.generated = time.perf_counter()
            return batch

        self.schedule.next_batch = timed  # type: ignore[method-assign]
        started = time.perf_counter()
        super().train_step()
        finished = time.perf_counter()
        self.schedule.next_batch = generate  # type: ignore[method-assign]
        prompts = [len(self.training[group.prompt].prompt_ids) for group in batch]
        lengths = [[len(completion.ids) for completion in group.completions] for group in batch]
        forward = forward_flops(self.model.config, prompts, lengths)
        self.rows.append(
            {
                "generate": self.generated - started,
                "train": finished - self.generated,
                "generate_flops": forward,
                "train_flops": 3 * forward,  # backward: a product for the inputs, one for the weights
            }
        )


def forward_flops(config: DecoderConfig, prompts: list[int], lengths: list[list[int]]) -> float:
    """FLOPs of the matrix products of one forward pass that nothing can spare.

    Each prompt once for all its completions, no completion's last token, no padding, logits for completion tokens
    only. Generation needs the same products as a training forward pass.
    """
    heads, head_dim = config.num_attention_heads, config.head_dim
    attention = config.hidden_size * head_dim * 2 * (heads + config.num_key_value_heads)
    if isinstance(config, MixtureConfig):
        mlp = config.num_local_experts + 3 * config.num_experts_per_tok * config.moe_intermediate_size
    else:
        mlp = 3 * config.intermediate_size
    layer = attention + mlp * config.hidden_size
    total = 0.0
    for prompt, completions in zip(prompts, lengths, strict=True):
        tokens = prompt + sum(n - 1 for n in completions)
        seen = prompt * (prompt + 1) / 2 + sum((n - 1) * prompt + n * (n - 1) / 2 for n in completions)
        total += config.num_hidden_layers * (2 * layer * tokens + 4 * heads * head_dim * seen)
        total += 2 * config.vocab_size * config.hidden_size * sum(completions)
    return total


def gemm_peak(size: int = 1024, repeats: int = 20) -> float:
    """FLOP/s of a large fp32 matrix product, the best of several."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def race_trl(
    settings: RunSettings, base: Path, speech: Speech, batch: int, passes: int, rivals: dict[str, Step], rounds: int
) -> dict[str, list[float]]:
    """Seconds per step of ``trl``, on ``batch`` completions in so many forward passes, and of each rival.

    All step once per round, one after the other.
    """
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    seconds: dict[str, list[float]] = {name: [] for name in ("trl", *rivals)}

    class Rounds(TrainerCallback):
        """``trl`` owns its loop, so the rivals step between its steps, while its clock stands still."""

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.started = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds["trl"].append(time.perf_counter() - self.started)
            for name, step in rivals.items():
                self.started = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - self.started)
            self.started = time.perf_counter()

    problems = make_task_sets(settings.tasks, speech)["math"].training
    questions: list[Any] = [problem.prompt for problem in problems]
    if isinstance(speech, Chat):
        questions = [[{"role": "user", "content": question}] for question in questions]

    def rewards(completion_ids: list[list[int]], problem: list[int], **_: Any) -> list[float | None]:
        answers = zip(problem, completion_ids, strict=True)
        return [1.0 if problems[index].verify(ids) else -1.0 for index, ids in answers]

    with tempfile.TemporaryDirectory() as scratch:
        arguments = GRPOConfig(
            output_dir=scratch,
            max_steps=WARMUP_ROUNDS + rounds,
            per_device_train_batch_size=batch // passes,
            gradient_accumulation_steps=passes,
            num_generations=RECIPE.generations_per_prompt,
            max_completion_length=settings.rl.thinking_tokens + settings.rl.answer_tokens,
            temperature=RECIPE.temperature,
            loss_type="cispo",
            epsilon_high=RECIPE.cispo_cap,
            learning_rate=settings.rl.learning_rate,
            lr_scheduler_type="constant",
            weight_decay=settings.rl.weight_decay,
            adam_epsilon=settings.rl.adam_epsilon,
            max_grad_norm=settings.rl.max_gradient_norm,
            bf16=False,
            use_cpu=True,
            activation_checkpointing=False,
            dataloader_pin_memory=False,
            seed=settings.seed,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = GRPOTrainer(
            load_model(base),
            reward_funcs=rewards,
            args=arguments,
            train_dataset=Dataset.from_dict({"prompt": questions, "problem": list(range(len(problems)))}),
            processing_class=speech.tokenizer,
            callbacks=[Rounds()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return {name: times[WARMUP_ROUNDS:] for name, times in seconds.items()}


def base_model(config: Config, name: str) -> Path:
    """The pipeline's base model if it has been made, else one pretrained alike and kept for the next call."""
    made = results_dir(config) / "bases" / name
    own = config.results / "benchmarks" / config.scale / name
    if (made / "base.json").exists():
        return made
    if not (own / "base.json").exists():
        from rlscape.training.pretrain import pretrain

        print(f"pretraining {own} (minutes, once)", file=sys.stderr)
        pretrain(scratch_base(config, name), config.tasks, own, name)
    return own


def widened(config: Config, name: str, hidden_size: int) -> tuple[Config, str]:
    """The config with one more base model: that of ``name``, but wider."""
    base = scratch_base(config, name)
    wide = base.model.changed(
        hidden_size=hidden_size,
        intermediate_size=hidden_size * base.model.intermediate_size // base.model.hidden_size,
    )
    wider = f"{name}-{hidden_size}"
    bases = config.bases | {wider: base.model_copy(update={"model": wide})}
    return config.model_copy(update={"bases": bases}), wider


def summarise(seconds: dict[str, list[float]], completions: int) -> dict[str, Any]:
    """Medians over rounds; the ratio is taken within each round, its spread are the quartiles."""
    summary: dict[str, Any] = {
        "samples_per_second": {
            name: round(completions / statistics.median(times), 1) for name, times in seconds.items()
        }
    }
    for name, key in (("rlscape", "ratio_to_trl"), ("rlscape_filtered", "ratio_to_trl_filtered")):
        ratios = [theirs / ours for theirs, ours in zip(seconds["trl"], seconds[name], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        summary |= {key: round(middle, 3), f"{key}_quartiles": [round(low, 3), round(high, 3)]}
    return summary


def share_of_floor(rows: list[dict[str, float]], peak: float) -> dict[str, float]:
    """The time that the necessary products take at ``peak`` FLOP/s over the time that was taken, per part."""
    return {
        f"share_of_floor_{part}": round(statistics.median(row[f"{part}_flops"] / peak / row[part] for row in rows), 3)
        for part in ("generate", "train")
    } | {f"seconds_{part}": round(statistics.median(row[part] for row in rows), 4) for part in ("generate", "train")}


def format_summary(summary: dict[str, Any]) -> str:
    """For people: rates, ratios and both parts' share of the floor."""
    lines = [f"{name:17s} {rate:8.1f} samples/s" for name, rate in summary["samples_per_second"].items()]
    for key in ("ratio_to_trl", "ratio_to_trl_filtered"):
        low, high = summary[f"{key}_quartiles"]
        lines.append(f"{key:22s} {summary[key]:.2f} (quartiles {low:.2f} to {high:.2f})")
    for part in ("generate", "train"):
        seconds, share = summary[f"seconds_{part}"], summary[f"share_of_floor_{part}"]
        lines.append(f"{part:22s} {seconds:.3f} s, {share:.2f} of the floor at {summary['gemm_gflops']:.0f} GFLOP/s")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="config/config.yaml", help="scale: models, task and budget")
    parser.add_argument(
        "--base", help="base model by its name in the config (default: P1's), or a checkpoint directory"
    )
    parser.add_argument("--hidden-size", type=int, help="widen the config's base model to this, its feed-forward alike")
    parser.add_argument("--prompts", type=int, default=16, help="per batch, each with 16 generations (default: 16)")
    parser.add_argument("--trl-passes", type=int, default=1, help="forward passes of trl per batch: it takes memory")
    parser.add_argument("--rounds", type=int, default=10, help="timed rounds, at least 2")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on either side")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error("--rounds must be at least 2: a spread needs two")

    batch = arguments.prompts * RECIPE.generations_per_prompt
    if arguments.trl_passes < 1 or batch % arguments.trl_passes:
        parser.error(f"--trl-passes {arguments.trl_passes}: must divide the {batch} completions of a batch")

    config = load_scale(arguments.config)
    name = arguments.base or config.scalerl.base
    torch.set_num_threads(arguments.threads)
    if name in config.bases:
        if arguments.hidden_size:
            config, name = widened(config, name, arguments.hidden_size)
        base = base_model(config, name)
    elif not (Path(name) / "config.json").exists():
        parser.error(f"--base {name}: no checkpoint directory, and {arguments.config} has {', '.join(config.bases)}")
    elif arguments.hidden_size:
        parser.error(f"--hidden-size widens a base model of {arguments.config}, and --base {name} is a checkpoint")
    else:
        base = Path(name)
    settings = resolve_run(config, "scalerl-s0")
    prompts = arguments.prompts
    settings = settings.changed(
        rl=settings.rl.changed(
            learning_rate=LEARNING_RATE,
            warmup_steps=0,
            prompt_scale=prompts / RECIPE.prompts_per_batch,
            generator_precision="fp32",
        )
    )
    speech = speech_of(settings.base, base)
    ours = TimedTrainer(settings, base, speech, zero_variance_filter=False)
    filtered = TimedTrainer(settings, base, speech, zero_variance_filter=True)
    peaks = [gemm_peak()]
    rivals = {"rlscape": ours.train_step, "rlscape_filtered": filtered.train_step}
    seconds = race_trl(settings, base, speech, batch, arguments.trl_passes, rivals, arguments.rounds)
    peaks.append(gemm_peak())
    summary = summarise(seconds, batch) | {
        **share_of_floor(ours.rows[WARMUP_ROUNDS:], max(peaks)),
        "gemm_gflops": round(max(peaks) / 1e9, 1),
        "setting": {
            "config": arguments.config,
            "base": name,
            "prompts": prompts,
            "generations_per_prompt": RECIPE.generations_per_prompt,
            "max_completion_length": settings.rl.thinking_tokens + settings.rl.answer_tokens,
            "parameters": sum(parameter.numel() for parameter in ours.model.parameters()),
            "trl_passes": arguments.trl_passes,
            "threads": arguments.threads,
            "kernels": kernels_in_use("cpu"),
            "rounds": arguments.rounds,
        },
        "seconds": {name: [round(value, 4) for value in times] for name, times in seconds.items()},
        "provenance": provenance(),
    }
    print(json.dumps(summary) if arguments.json else format_summary(summary))


if __name__ == "__main__":
    fail_clearly(main)
