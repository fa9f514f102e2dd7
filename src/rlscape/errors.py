"""The errors that a user can mend: each message names the file, the key and the remedy."""

import sys
from collections.abc import Callable


class UserError(ValueError):
    """Bad input; the command line prints the message without a traceback."""


class ConfigError(UserError):
    """A configuration that cannot be used."""


class CheckpointError(UserError):
    """A model directory or a checkpoint that cannot be used."""


class ResultError(UserError):
    """A result file that is missing or unusable."""


class KernelError(UserError):
    """Compiled kernels that cannot be had, or that a run did not start with."""


class MetricsError(UserError):
    """A table of evaluations that cannot be fitted."""


def fail_clearly(main: Callable[[], None]) -> None:
    """Run ``main``; an error that the user can mend is one message and exit code 1, not a traceback."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
