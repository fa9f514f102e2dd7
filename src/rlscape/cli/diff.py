"""``rlscape diff``: what fine-tuning did to the weights, beside what magnitude and rounding alone would do."""

import argparse
import json
import sys
import textwrap
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlscape.tools.weights.checkpoint_diff import DiffOptions, DiffResult

HELP = "did fine-tuning touch few weights, off the principal directions, beyond magnitude and bf16 rounding?"

DESCRIPTION = """\
Compare fine-tuned checkpoints with the base that they started from, tensor by tensor: which weights changed as bf16
sees it, whether they avoid the principal weights and directions (arXiv 2511.08567), and whether that is more than any
update of this size would do. bf16 hides small changes of large weights, and large weights are the principal ones, so
every update seems to avoid them; the columns "magnitude alone" say how much of it that is.

BASE and FINETUNED are model directories, .safetensors files, PEFT adapters or ids on the Hub. Nothing is unpickled.
"""
EPILOG = """\
examples:
  rlscape diff Qwen/Qwen2.5-1.5B ./my-grpo-run/checkpoint-300
  rlscape diff base/ seed0/ seed1/ sft/ --only 'layers\\.(0|10|20)\\.' -o three-layers --json

Written to DIR at the end, each file complete or absent: tensors.parquet (a row per matrix and checkpoint),
kinds.parquet (per kind, the table printed), pairs.parquet (two checkpoints or more: their update masks), summary.html
and summary.png (one page), run.json. An interrupted run leaves nothing behind and starts again.

columns:
{columns}

Rank k: a quarter of the smaller side, at most 64 (--rank). Matrices with a smaller side up to 512 (--exact) get an
exact float64 SVD, larger ones a randomised block Krylov space in float32, whose error is bounded in angle_error_deg.
The p-values ask whether changes fall independently of position, given the magnitude. An update with structure in rows
or columns breaks that too, and in matrices with millions of entries tiny differences are significant: read their size.
Experts fused into one tensor are measured one by one. Vectors get sparsity and norms only. In kinds.parquet and the
printed table, sparsity and x are pooled over entries, overlaps over changed entries, energies over the update's energy;
angles and NSS are medians over matrices.

Exit codes: 0 done, whatever the verdict, 1 input that cannot be used, 2 wrong command line.
"""
PAGE, INDENT = 118, 31


def _describe_columns() -> str:
    from rlscape.tools.weights.diff_columns import COLUMNS, TABLE

    headings = "; ".join(f"{name}: {column}" for column, name in TABLE.items() if name != column)
    lines = [*textwrap.wrap(f"Headings of the printed table: {headings}.", PAGE), ""]
    for name, meaning in COLUMNS.items():
        first, *rest = textwrap.wrap(meaning, PAGE - INDENT)
        lines += [f"  {name:{INDENT - 3}} {first}", *(" " * INDENT + line for line in rest)]
    return "\n".join(lines)


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command, and its help."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG.format(columns=_describe_columns())
    parser.add_argument("base", metavar="BASE", help="the model before fine-tuning")
    parser.add_argument("tuned", metavar="FINETUNED", nargs="+", help="one or more models that started from it")
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, default=Path("rlscape-diff"), help="default: ./rlscape-diff"
    )
    parser.add_argument("--only", metavar="REGEX", help="measure only tensors whose name this matches somewhere")
    parser.add_argument("--rank", metavar="K", type=_count, help="of the principal subspaces (default: see below)")
    parser.add_argument(
        "--density", metavar="A", type=_share, default=0.5, help="share of entries in a mask, alpha (default: 0.5)"
    )
    parser.add_argument(
        "--exact",
        metavar="SIDE",
        type=_count,
        default=512,
        help="smaller sides up to this get an exact SVD (default: 512)",
    )
    parser.add_argument(
        "--angle-null",
        action="store_true",
        help="measure the angles of an isotropic update of equal norm too (a third more time)",
    )
    parser.add_argument(
        "--max-memory",
        metavar="GIB",
        type=_positive,
        help="refuse tensors that need more, before work begins; more lets more tensors be measured side by side "
        "(default: 5 for that, and no tensor is refused)",
    )
    parser.add_argument("--threads", metavar="N", type=_count, help="tensors measured side by side (default: cores)")
    parser.add_argument("--revision", metavar="REV", help="branch, tag or commit of BASE on the Hub")
    parser.add_argument("--tuned-revision", metavar="REV", help="the same of every FINETUNED")
    parser.add_argument("--json", action="store_true", help="print the kinds, pairs, answers and notes as JSON")


def _measure(arguments: argparse.Namespace, options: "DiffOptions") -> "DiffResult":
    from tqdm import tqdm

    from rlscape.tools.weights.checkpoint_diff import diff_checkpoints
    from rlscape.tools.weights.checkpoints import open_checkpoint

    base = open_checkpoint(arguments.base, arguments.revision)
    tuned = [open_checkpoint(source, arguments.tuned_revision, fallback_base=base) for source in arguments.tuned]
    with tqdm(desc="entries", unit="", unit_scale=True, disable=None, smoothing=0.05) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done)

        return diff_checkpoints(base, tuned, options, progress)


def _as_json(result: "DiffResult", directory: Path) -> dict[str, Any]:
    from rlscape.tools.weights.diff_report import answers, pair_answers

    overall = result.pairs[result.pairs["tensor"] == "all"] if len(result.pairs) else result.pairs
    return {
        "kinds": result.kinds.astype(object).to_dict("records"),
        "pairs": overall.astype(object).drop(columns=["layer", "expert"], errors="ignore").to_dict("records"),
        "answers": answers(result),
        "together": pair_answers(result),
        "notes": list(result.notes),
        "seconds": result.seconds,
        "output": str(directory),
    }


def run(arguments: argparse.Namespace) -> None:
    """Compare, write the tables and the page, print the answer."""
    from rlscape.scaling.records import plain
    from rlscape.tools.weights.checkpoint_diff import DiffOptions
    from rlscape.tools.weights.diff_report import brief_answers, pair_answers, shown, write_results

    options = DiffOptions(**{option.name: getattr(arguments, option.name) for option in fields(DiffOptions)})
    result = _measure(arguments, options)
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    settings = {"base": arguments.base, "tuned": arguments.tuned} | asdict(options)
    write_results(result, arguments.output, arguments.base, settings)
    if arguments.json:
        print(json.dumps(plain(_as_json(result, arguments.output)), indent=2))
        return
    for name, sentences in brief_answers(result).items():
        print(f"{name} against {arguments.base}\n")
        print(shown(result.kinds[result.kinds["checkpoint"] == name]).to_string(index=False), end="\n\n")
        print("\n".join(textwrap.fill(each, PAGE, subsequent_indent="  ") for each in sentences), end="\n\n")
    if together := pair_answers(result):
        print("\n".join(textwrap.fill(each, PAGE, subsequent_indent="  ") for each in together), end="\n\n")
    print(f"every kind in words: {arguments.output / 'summary.html'}; tables beside it")
