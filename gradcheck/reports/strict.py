"""Between Python's values and strict JSON, which knows neither NaN nor infinity.

They are written as the strings "NaN", "Infinity" and "-Infinity", so that every JSON parser reads
the report.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

_NAMES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def encode(value: Any) -> Any:
    """The value in JSON's types; arrays and their scalars through `tolist`, the rest by `str`."""
    if isinstance(value, Enum):
        return encode(value.value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return _encode_float(float(value))
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: encode(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if hasattr(value, "tolist"):
        return encode(value.tolist())
    return str(value)


def _encode_float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def decode(value: Any) -> Any:
    """The value with the strings that stand for NaN and infinities turned back into floats."""
    if isinstance(value, str):
        return _NAMES.get(value, value)
    if isinstance(value, list):
        return [decode(item) for item in value]
    if isinstance(value, dict):
        return {key: decode(item) for key, item in value.items()}
    return value
