"""The gallery of recorded scales: what ``make gallery``, ``restore``, ``verdicts``, ``power`` and ``pilots`` call."""

import argparse
from pathlib import Path
from typing import get_args

from rlscape.catalogue import load_scale
from rlscape.claims import load_register
from rlscape.errors import fail_clearly
from rlscape.gallery.claims import POWER, record_power
from rlscape.gallery.recording import record, record_pilots
from rlscape.gallery.replay import judge, redraw
from rlscape.gallery.restoring import restore
from rlscape.paths import results_dir
from rlscape.pipeline.entry import collect_garbage
from rlscape.settings.scale import Paper


def main() -> None:
    collect_garbage()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gallery", default=Path("figures/gallery"), type=Path)
    parser.add_argument("--claims", default=Path("config/claims.yaml"), type=Path, help="the register")
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="record one paper of a finished scale")
    recording.add_argument("--config", required=True, type=Path, help="the scale's YAML file")
    recording.add_argument("--paper", required=True, choices=get_args(Paper))
    power = commands.add_parser("power", help="record what the criteria can decide at a scale")
    power.add_argument("--config", required=True, type=Path, help="the scale's YAML file")
    pilots = commands.add_parser("pilots", help="record what pilots chose")
    pilots.add_argument("--config", required=True, type=Path, help="the pilots' YAML file")
    restoring = commands.add_parser("restore", help="put a scale's recorded results back where the pipeline has them")
    restoring.add_argument("--config", required=True, type=Path, help="the scale's YAML file")
    commands.add_parser("verdicts", help="evaluate the register again on the recorded tables")
    commands.add_parser("redraw", help="draw the recorded figures again from the recorded tables")
    arguments = parser.parse_args()
    if arguments.command == "record":
        record(load_scale(arguments.config), arguments.paper, load_register(arguments.claims), arguments.gallery)
        return
    gallery = arguments.gallery
    if arguments.command == "power":
        config = load_scale(arguments.config)
        record_power(results_dir(config) / POWER, gallery / config.scale)
        return
    if arguments.command == "pilots":
        record_pilots(load_scale(arguments.config), gallery)
        return
    if arguments.command == "restore":
        lines = restore(load_scale(arguments.config), gallery)
    elif arguments.command == "verdicts":
        lines = judge(load_register(arguments.claims), gallery)
    else:
        lines = redraw(gallery)
    print("\n".join(lines))


if __name__ == "__main__":
    fail_clearly(main)
