"""What every rule's module does the same way: the command line, the log, and errors that name the remedy.

A rule's module has one function whose parameters are its options, and ends in ``run(function)``. Settings are JSON.
"""

import argparse
import ctypes
import gc
import inspect
import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from types import UnionType
from typing import Any, Union, assert_never, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from rlscape.errors import ConfigError, fail_clearly
from rlscape.settings.precision import Device
from rlscape.settings.reading import describe

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Of ``malloc.h``: free memory at the top of the heap that is given back, and how many blocks may lie outside it."""


def run(rule: Callable[..., None]) -> None:
    """Call a rule's function with what the command line says.

    A parameter of type ``Path``, ``str`` or ``int`` takes such a word, ``list[Path]`` several, any other type JSON. A
    parameter with a default may be left out.
    """
    collect_garbage()
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=rule.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = get_type_hints(rule, include_extras=True)
    for name, parameter in inspect.signature(rule).parameters.items():
        needed = parameter.default is inspect.Parameter.empty
        option: dict[str, Any] = {"required": True} if needed else {"default": parameter.default}
        kind = _not_none(kinds[name])
        if kind in (Path, str, int):
            option["type"] = kind
        elif kind == list[Path]:
            option |= {"type": Path, "nargs": "+"}
        elif kind == Device:
            option["choices"] = get_args(Device)
        else:
            option["metavar"] = "JSON"
        parser.add_argument(f"--{name.replace('_', '-')}", **option)
    given = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)

    def call() -> None:
        json = {action.dest for action in parser._actions if action.metavar == "JSON"}
        values = {
            name: parse_json(_not_none(kinds[name]), value, name) if name in json and value is not None else value
            for name, value in given.items()
        }
        rule(**values)

    fail_clearly(call)


def collect_garbage() -> None:
    """From now on, but for what the modules of a job have made: the package's ``__init__.py`` says why."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def keep_freed_memory() -> None:
    """Large blocks that are freed are used again, where the C library is glibc.

    It would return each to the system and take the next one anew, page by page and zeroed: a tenth of the time in which
    a model of 135M parameters is trained. Its setting for large pages is in ``workflow/rules/common.smk``.
    """
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _not_none(kind: Any) -> Any:
    """``X`` of ``X | None``."""
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (part for part in get_args(kind) if part is not type(None))
    return kind


def parse_json(kind: Any, text: str, name: str) -> Any:
    """A value of type ``kind`` from the JSON text of an option.

    Raises:
        ConfigError: the text does not describe one.
    """
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        raise ConfigError(describe(error, kind, f"--{name.replace('_', '-')} (JSON)")) from None


def on_device(name: Device) -> AbstractContextManager[object]:
    """A context in which new tensors are made on ``name``.

    Raises:
        ConfigError: there is no such device.
    """
    import torch

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
