"""``rlscape intervene``: rotate or permute one attention layer of a model that computes the same afterwards."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

HELP = "rotate or permute one attention layer without changing what the model computes"

DESCRIPTION = """\
Write a copy of a causal language model in which one attention layer's weights have other coordinates, while the model
computes what it did (arXiv 2511.08567, Figure 6). Fine-tune both copies and compare where the changes fall: with
`rlscape diff`, or on the training update with the map undone.

  rotate    turn the value channels of every KV head by a random rotation, and undo it in the output projection
  permute   let the heads change places, in groups that share a key and value head; no group keeps its place

Only attention with separate q_proj, k_proj, v_proj and o_proj is covered (Llama, Mistral, Qwen2, Qwen3, Gemma, ...,
grouped-query attention, biases and per-head norms included). Other tensors are copied byte for byte, and changed ones
stay in their dtype. The logits of both models are compared on random tokens in fp32; an architecture that is not
invariant is refused.
"""
EPILOG = """\
examples:
  rlscape intervene rotate ./Qwen3-0.6B --layer 20 -o ./Qwen3-0.6B-rotated
  rlscape intervene permute results/default/bases/llama --layer 1 --seed 3 -o /tmp/permuted

OUT/intervention.json records what was done. Exit codes: 0 written, 1 input that cannot be used, 2 wrong command line.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See ``rlscape intervene --help``."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("kind", choices=("rotate", "permute"), help="what to do")
    parser.add_argument("model", metavar="MODEL", help="directory of the model, or its id on the Hub")
    parser.add_argument("--layer", required=True, type=int, metavar="N", help="the layer, counted from 0")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="a directory to be made")
    parser.add_argument("--seed", type=int, default=0, help="of the rotations or the permutation (default: 0)")
    parser.add_argument(
        "--no-check", action="store_true", help="do not compare logits, which takes 4 bytes of memory per parameter"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Write the copy and print how exact it is."""
    from transformers.utils.logging import disable_progress_bar

    from rlscape.tools.weights.intervene import intervene

    disable_progress_bar()  # one bar per load of a few seconds

    done = intervene(
        arguments.model,
        arguments.kind,
        arguments.layer,
        arguments.output,
        arguments.seed,
        check=not arguments.no_check,
    )
    if arguments.json:
        print(json.dumps(asdict(done), indent=2))
        return
    verb = {"rotate": "rotated", "permute": "permuted"}[done.kind]
    print(f"{arguments.output}: layer {done.layer} {verb}, {len(done.tensors)} tensors changed")
    if done.check is None:
        print("logits were not compared")
        return
    print(
        f"largest change of a logit on {done.check.tokens} random tokens in fp32 (logits up to {done.check.scale:.3g}):"
    )
    print(f"  by the map alone            {done.check.exact:.2e}")
    print(f"  as stored                   {done.check.stored:.2e}")
