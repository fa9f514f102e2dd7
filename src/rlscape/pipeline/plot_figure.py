"""Make one figure: picture and plotted numbers."""

from pathlib import Path

from rlscape.figures.registry import find_target
from rlscape.figures.style import write_figure
from rlscape.pipeline.entry import run
from rlscape.settings.scale import Config


def plot_figure(target: str, settings: Config, output_stem: Path) -> None:
    """Write the stem with the suffixes svg, png and csv (the plotted numbers).

    Args:
        target: such as ``scalerl_fig5``.
    """
    found = find_target(target)
    frame = found.assemble(settings)
    write_figure(found.draw(frame), frame, output_stem)


if __name__ == "__main__":
    run(plot_figure)
