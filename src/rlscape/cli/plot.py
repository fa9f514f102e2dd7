"""Make one figure: ``python -m rlscape.cli.plot --target scalerl_fig5 --config FILE --output-stem PATH``.

Writes PATH.svg, PATH.png and PATH.csv (the plotted numbers). Without --output-stem:
``<figures>/<scale>/<paper>/<stem>``.
"""

import argparse
from pathlib import Path

from rlscape.catalogue import load_scale
from rlscape.cli.common import fail_clearly, parse_settings
from rlscape.config import Config
from rlscape.figures.registry import find_target, target_names
from rlscape.figures.style import write_figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True, help=", ".join(target_names()))
    config_source = parser.add_mutually_exclusive_group(required=True)
    config_source.add_argument("--config", type=Path, help="a scale's YAML file")
    config_source.add_argument("--settings", help="Config as JSON")
    parser.add_argument("--output-stem", type=Path, help="path without suffix")
    arguments = parser.parse_args()

    target = find_target(arguments.target)
    config = load_scale(arguments.config) if arguments.config else parse_settings(Config, arguments.settings)
    frame = target.assemble(config)
    write_figure(target.draw(frame), frame, arguments.output_stem or config.figures_dir / target.stem)


if __name__ == "__main__":
    fail_clearly(main)
