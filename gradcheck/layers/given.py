"""The user's own arrays as the one example of a check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.algebra.shapes import infer_sizes, rank_in
from gradcheck.checking import search
from gradcheck.checking.given import as_array, as_number
from gradcheck.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.layers.rule import Rule

# Arrays of more entries are kept in the dtype in which they came, if it is that of the check.
_WIDE = 1_000_000


def given(rule: Rule, data: Mapping[str, Any], dtype: str) -> search.Example:
    """The user's own arrays as the one example, rounded to the dtype.

    Raises:
        UsageError: Where an input or parameter is missing or unknown, or holds no numbers.
        ShapeError: Where shapes do not fit.
    """
    wanted = [*rule.inputs, *rule.params]
    absent, unknown = [n for n in wanted if n not in data], [n for n in data if n not in wanted]
    if absent or unknown:
        held = ", ".join(data) or "nothing"
        what = f"also needs {', '.join(absent)}" if absent else f"has no {', '.join(unknown)}"
        raise UsageError(f"the data hold {held}, but {rule.name} {what}")
    arrays = {n: _as_dtype(n, data[n], d.kind, dtype) for n, d in rule.inputs.items()}
    shapes = {n: d.shape for n, d in rule.inputs.items()}
    sizes = infer_sizes(shapes, {n: a.shape for n, a in arrays.items()})
    params = {n: as_number(n, data[n]) for n in rule.params}
    dotted = any("..." in shape for shape in shapes.values())
    return search.Example(arrays, params, sizes, rank_in(sizes) if dotted else None)


def _as_dtype(name: str, value: Any, kind: str, dtype: str) -> Any:
    from gradcheck.palettes import round_to

    array = as_array(name, value)
    if kind in ("labels", "integers"):
        return array.astype(np.int64)
    if array.dtype == dtype and array.size > _WIDE:
        return array  # a copy in float64 would be the largest array of all
    return round_to(array.astype(np.float64), dtype)
