"""What every command-line entry does the same way."""

import logging
import sys
from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError

from rlscape.config import describe
from rlscape.errors import ConfigError, UserError
from rlscape.settings import Settings

SettingsType = TypeVar("SettingsType", bound=Settings)


def start_logging() -> None:
    """Plain lines with the time, to standard error: a rule's log file."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


def parse_settings(kind: type[SettingsType], text: str) -> SettingsType:
    """Settings from the JSON text of a command-line argument.

    Raises:
        ConfigError: the text does not describe ``kind``.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(describe(error, kind, f"{kind.__name__} (JSON argument)")) from None


def fail_clearly(main: Callable[[], None]) -> None:
    """Run ``main``; an error that the user can mend is one message and exit code 1, not a traceback."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
