"""The command ``rlscape``: the tools of the replication for your own training logs and checkpoints."""

import argparse

from rlscape.cli import compare, diff, fit, intervene
from rlscape.errors import fail_clearly

COMMANDS = {"fit": fit, "compare": compare, "diff": diff, "intervene": intervene}
DESCRIPTION = "The measurements of a replication of two papers on RL, for your own training logs and checkpoints."
EPILOG = """\
exit codes:
  0  done, whatever the verdict
  1  input that cannot be used; the message names the file, the column or tensor, and the remedy
  2  a command line that cannot be understood
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line, all subcommands included."""
    parser = argparse.ArgumentParser(
        prog="rlscape", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=command.HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def main() -> None:
    """Run one subcommand."""
    arguments = build_parser().parse_args()
    fail_clearly(lambda: arguments.run(arguments))


if __name__ == "__main__":
    main()
