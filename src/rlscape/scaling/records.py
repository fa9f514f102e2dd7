"""Results as JSON and back: JSON has no NaN, so a number that is not finite is null there."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Nested containers as dicts and lists, with None in place of numbers that are not finite."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if np.isfinite(value) else None
    return value


def restored(value: Any) -> Any:
    """The inverse of :func:`plain`, with NaN for None and tuples for lists."""
    if isinstance(value, Mapping):
        return {key: restored(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(restored(item) for item in value)
    return np.nan if value is None else value
