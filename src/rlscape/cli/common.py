"""What every command-line entry does the same way."""

import argparse
import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar, assert_never, get_args

from pydantic import ValidationError

from rlscape.config import describe
from rlscape.errors import ConfigError, UserError
from rlscape.settings import Device, Settings

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


def add_device(parser: argparse.ArgumentParser) -> None:
    """The option that :func:`on_device` takes."""
    parser.add_argument("--device", default="cpu", choices=get_args(Device), help="where the model runs")


def on_device(name: Device) -> AbstractContextManager[object]:
    """A context in which new tensors are made on ``name``, and one thread does what the CPU has to do.

    Raises:
        ConfigError: there is no such device.
    """
    import torch

    torch.set_num_threads(1)
    match name:
        case "cpu":
            return nullcontext()  # an active device context slows every call of torch
        case "cuda":
            if not torch.cuda.is_available():
                raise ConfigError(
                    "device: cuda: torch finds no GPU here; set device: cpu, or run where nvidia-smi lists one"
                )
            return torch.device(name)
        case _:
            assert_never(name)


def fail_clearly(main: Callable[[], None]) -> None:
    """Run ``main``; an error that the user can mend is one message and exit code 1, not a traceback."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
