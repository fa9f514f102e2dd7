"""Settings read from YAML and from JSON arguments, with errors that name the file, the key and the remedy."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from rlscape.errors import ConfigError
from rlscape.schema import Settings
from rlscape.settings.base_model import KINDS
from rlscape.settings.scale import Config


def _settings_in(kind: Any) -> type[Settings] | None:
    """The settings class in a type such as ``dict[str, Settings]`` or ``Settings | None``."""
    if isinstance(kind, type) and issubclass(kind, Settings):
        return kind
    return next((found for part in get_args(kind) if (found := _settings_in(part))), None)


def _known_keys(kind: Any, location: tuple[int | str, ...]) -> list[str]:
    """The keys allowed beside the last element of ``location``, in settings of a type."""
    settings = _settings_in(kind)
    for part in location[:-1]:
        if part in KINDS:
            settings = KINDS[str(part)]
        elif settings and (field := settings.model_fields.get(str(part))):
            settings = _settings_in(field.annotation)
    return list(settings.model_fields) if settings else []


def describe(error: ValidationError, kind: Any, source: str) -> str:
    """One line per problem in a value of a type: the file, the dotted key, what is wrong and what to do."""
    lines = []
    for problem in sorted(error.errors(), key=lambda problem: problem["type"] == "missing"):  # typos first
        location = tuple(part for part in problem["loc"] if part != "[key]")  # what is wrong is the key itself
        key = ".".join(str(part) for part in location if part not in KINDS) or "(top level)"
        if problem["type"] == "extra_forbidden":
            known = problem.get("ctx", {}).get("known") or _known_keys(kind, location)
            close = difflib.get_close_matches(str(location[-1]), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"allowed here: {', '.join(known)}"
            lines.append(f"{source}: {key}: unknown key; {hint}")
        elif problem["type"] == "missing":
            lines.append(f"{source}: {key}: missing; add it (the other files in config/ show an example)")
        else:
            lines.append(f"{source}: {key}: {problem['msg']} (got {problem['input']!r})"[:500])
    return "\n".join(lines)


def parse_config(values: Mapping[str, Any], source: str) -> Config:
    """Validate a mapping read from ``source``.

    Raises:
        ConfigError: a key is unknown or missing, or a value is invalid.
    """
    try:
        return Config.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(describe(error, Config, source)) from None


def load_config(path: str | Path) -> Config:
    """Read and validate a scale's YAML file.

    Raises:
        ConfigError: the file is missing, is not YAML, or does not describe a scale.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; the scales are in config/") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, got {type(values).__name__}")
    return parse_config(values, str(path))
