"""Round a trained model's weights to bf16 values.

What is trained further is a released checkpoint, which is stored in bf16. From weights between two bf16 values rounding
has no dead zone, and the share of unchanged weights could not be compared with that of other runs.
"""

from pathlib import Path

from rlscape.models.build import load_decoder, save_trained, snap_to_bf16_
from rlscape.pipeline.entry import run


def snap_start(model: Path, output: Path) -> None:
    """Write a model directory."""
    trained = load_decoder(model)
    snap_to_bf16_(trained)
    save_trained(trained, model, output)


if __name__ == "__main__":
    run(snap_start)
