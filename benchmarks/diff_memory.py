"""Peak memory and time of ``rlscape diff`` on a pair of checkpoints with the shapes of a 7B Llama model.

    python benchmarks/diff_memory.py /tmp/pair --layers 4

Both are made here: bf16, in shards, the base Gaussian plus a component of low rank so that it has principal directions,
the update Gaussian at x = 0.5. They take 0.76 GiB per layer and 1.0 GiB for embeddings and head (another
``--hidden-size`` changes all sizes in proportion), and are deleted at the end unless ``--keep`` is given. The answer
must then be "nothing beyond magnitude and rounding" for every kind.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from rlscape.files import provenance
from rlscape.geometry.sparsity import HALF_ULP

HIDDEN, INTERMEDIATE, VOCABULARY, LOW_RANK = 4096, 11008, 32000, 256
"""Of a 7B model."""
SCALE, X = 0.02, 0.5
LAYERS_PER_SHARD = 4
FIRST_BLOCKS = 2
"""Index of the first shard that holds blocks."""
GIB = 1 << 30


Shapes = dict[str, tuple[int, ...]]
"""By tensor name."""


def shapes(layer: int, h: int) -> Shapes:
    """One block's tensors at hidden size ``h``."""
    prefix, f = f"model.layers.{layer}.", h * INTERMEDIATE // HIDDEN
    attention: Shapes = {f"{prefix}self_attn.{name}_proj.weight": (h, h) for name in "qkvo"}
    mlp: Shapes = {f"{prefix}mlp.{name}_proj.weight": (f, h) for name in ("gate", "up")}
    norms: Shapes = {f"{prefix}{name}_layernorm.weight": (h,) for name in ("input", "post_attention")}
    return attention | mlp | {f"{prefix}mlp.down_proj.weight": (h, f)} | norms


def make_base(shape: tuple[int, ...], low_rank: int, seed: int) -> Tensor:
    """A base tensor, bf16."""
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    generator, (m, n) = torch.Generator().manual_seed(seed), shape
    strengths = SCALE * torch.arange(1, low_rank + 1).float().rsqrt()
    left, right = (torch.randn(shape, generator=generator) for shape in ((m, low_rank), (low_rank, n)))
    return torch.randn(m, n, generator=generator).mul_(SCALE).addmm_(left * strengths, right).bfloat16()


def fine_tune(base: Tensor, seed: int) -> Tensor:
    """The tensor after a Gaussian update, bf16; a vector stays as it is."""
    if base.ndim == 1:
        return base
    step = X * HALF_ULP * float(base.float().square_().mean().sqrt())
    noise = torch.randn(base.shape, generator=torch.Generator().manual_seed(seed))
    return noise.mul_(step).add_(base).bfloat16()


def blocks(layers: range, hidden_size: int) -> Shapes:
    """The tensors of some blocks."""
    return {name: shape for layer in layers for name, shape in shapes(layer, hidden_size).items()}


def make_pair(directory: Path, layers: int, hidden_size: int) -> None:
    """Two sharded checkpoints; later blocks repeat the first ones in the base, with updates of their own."""
    vocabulary, low_rank = (hidden_size * size // HIDDEN for size in (VOCABULARY, LOW_RANK))
    ends = {"model.embed_tokens.weight": (vocabulary, hidden_size), "model.norm.weight": (hidden_size,)}
    shards: list[Shapes] = [ends, {"lm_head.weight": (vocabulary, hidden_size)}]
    starts = range(0, layers, LAYERS_PER_SHARD)
    shards += [blocks(range(i, min(i + LAYERS_PER_SHARD, layers)), hidden_size) for i in starts]
    index: dict[str, str] = {}
    made: list[Tensor] = []
    for number, shard in enumerate(shards):
        if number <= FIRST_BLOCKS:
            made = [make_base(shape, low_rank, 1000 * number + i) for i, shape in enumerate(shard.values())]
        base = dict(zip(shard, made, strict=False))
        file = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        index |= dict.fromkeys(base, file)
        write(directory / "base" / file, base)
        seed = 10**6 + 1000 * number
        write(directory / "tuned" / file, {name: fine_tune(w, seed + i) for i, (name, w) in enumerate(base.items())})
    for side in ("base", "tuned"):
        (directory / side / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def write(file: Path, tensors: dict[str, Tensor]) -> None:
    """One shard."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file)


def measure(base: Path, tuned: Path, output: Path, options: list[str]) -> dict[str, Any]:
    """Run the command in its own process."""
    command = [sys.executable, "-m", "rlscape.cli.main", "diff", str(base), str(tuned), "-o", str(output), "--json"]
    started = time.perf_counter()
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    size = sum(file.stat().st_size for file in base.glob("*.safetensors")) / GIB
    answer = json.loads(printed)
    return {
        "base_gib": size,
        "peak_rss_gib": usage.ru_maxrss * 1024 / GIB,
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "seconds_per_gib": seconds / size,
        "thread_seconds": answer["seconds"],
        "answers": answer["answers"],
        "load_average": os.getloadavg(),
        "provenance": provenance(),
    }


def format_result(result: dict[str, Any]) -> str:
    """For people: the command's answers, its memory and its time."""
    threads = ", ".join(f"{work} {seconds:.0f} s" for work, seconds in result["thread_seconds"].items())
    return "\n".join(
        [
            *(sentence for sentences in result["answers"].values() for sentence in sentences),
            f"base: {result['base_gib']:.2f} GiB, load average {result['load_average'][0]:.1f}",
            f"peak RSS: {result['peak_rss_gib']:.2f} GiB",
            f"time: {result['seconds']:.0f} s, {result['seconds_per_gib']:.1f} s per GiB of BASE",
            f"CPU: {result['cpu_seconds']:.0f} s, {result['cpu_seconds'] / result['base_gib']:.1f} s per GiB of BASE",
            f"seconds of threads: {threads}",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="where the pair is made")
    parser.add_argument("--layers", type=int, default=32, help="32: 12.6 GiB each (default)")
    parser.add_argument("--hidden-size", type=int, default=HIDDEN, help=f"default: {HIDDEN}, that of a 7B model")
    parser.add_argument("--keep", action="store_true", help="leave the checkpoints there")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    arguments, options = parser.parse_known_args()
    if arguments.layers < 1 or arguments.hidden_size < 16:
        parser.error("--layers must be at least 1, --hidden-size at least 16")
    try:
        # In a process of its own: what its parent holds would count as the command's memory.
        maker = multiprocessing.get_context("spawn").Process(
            target=make_pair, args=(arguments.directory, arguments.layers, arguments.hidden_size)
        )
        maker.start()
        maker.join()
        if maker.exitcode:
            raise SystemExit("the checkpoints could not be made")
        base, tuned = arguments.directory / "base", arguments.directory / "tuned"
        result = measure(base, tuned, arguments.directory / "diff", options)
    finally:
        if not arguments.keep:
            for name in ("base", "tuned"):
                shutil.rmtree(arguments.directory / name, ignore_errors=True)
    print(json.dumps(result) if arguments.json else format_result(result))


if __name__ == "__main__":
    main()
