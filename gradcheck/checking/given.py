"""The user's own arrays as the one example, and what is odd about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.arguments import table
from gradcheck.checking.search import Example
from gradcheck.errors import SpecError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradcheck.domains import Domain
    from gradcheck.operation import Operation

_WHOLE = ("labels", "integers")


def arrays_by_name(data: Any) -> dict[str, Any]:
    """The user's data as a dict.

    Raises:
        UsageError: Where they are no mapping by name.
    """
    try:
        return table(data, "data", 'data={"x": x, "y": y}')
    except SpecError as error:
        raise UsageError(str(error)) from None


def as_array(name: str, value: Any) -> np.ndarray:
    """Somebody's array of real numbers, as NumPy's.

    Raises:
        UsageError: Where it holds something else, or cannot be read.
    """
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged rows, a tensor with grad
        first = str(error).partition("\n")[0]
        raise UsageError(
            f"{name} cannot be read as an array: {first}; give a NumPy array"
        ) from None
    if array.dtype.kind not in "fiub":
        raise UsageError(f"{name} holds {array.dtype} values; give an array of real numbers")
    return array


def as_number(name: str, value: Any) -> Any:
    """The value of a parameter: one number, or a word.

    Raises:
        UsageError: Where it is an array of several.
    """
    if isinstance(value, str):
        return value
    array = np.asarray(value)
    if array.size != 1:
        raise UsageError(f"{name} is a parameter, one number; the data hold {array.size} values")
    return array.item()


def given(operation: Operation, data: Mapping[str, Any], dtype: str) -> Example:
    """The arrays of an operation's inputs and parameters, rounded to the dtype.

    Raises:
        UsageError: Where an input or parameter is missing, or holds no numbers.
        ShapeError: Where shapes do not fit, naming the inputs.
    """
    absent = [n for n in [*operation.inputs, *operation.params] if n not in data]
    if absent:
        held = ", ".join(data) or "nothing"
        raise UsageError(
            f"the data hold {held}, but {operation.name} also needs {', '.join(absent)}"
        )
    arrays = {n: _rounded(n, data[n], d, dtype) for n, d in operation.inputs.items()}
    params = {n: as_number(n, data[n]) for n in operation.params}
    return Example(inputs=arrays, params=params, sizes=operation.sizes_of({**arrays, **params}))


def _rounded(name: str, value: Any, domain: Domain, dtype: str) -> np.ndarray:
    """Whole numbers stay whole where labels are wanted; elsewhere they are real numbers."""
    array = as_array(name, value)
    if domain.kind in _WHOLE:
        return array.astype(np.int64) if array.dtype.kind in "iub" else array
    return array.astype(dtype).astype(np.float64)


def remarks(operation: Operation, data: Mapping[str, Any]) -> Iterator[str]:
    """Arrays that nobody asked for, and arrays outside the domain of their input."""
    extra = [n for n in data if n not in operation.inputs and n not in operation.params]
    if extra:
        yield f"the data also hold {', '.join(extra)}, which {operation.name} does not take"
    for name, domain in operation.inputs.items():
        if why := _outside(np.asarray(data[name]), domain):
            yield f"{name} lies outside its domain {domain.describe()} of {operation.name}: {why}"


def _outside(array: np.ndarray, domain: Domain) -> str:
    if array.dtype.kind not in "fiub" or not array.size:
        return ""
    if not np.all(np.isfinite(array)):
        return "an entry is not finite"
    if domain.kind in ("probability", "one_hot"):
        sums = array.sum(axis=-1)
        # A row of n entries, each rounded to float32 at worst.
        off = np.abs(sums - 1) > array.shape[-1] * 2.0**-23
        if off.any():
            return f"a row sums to {float(sums[off].flat[0]):.6g}, not to 1"
    if domain.kind in ("positive", "probability") and (array <= 0).any():
        return f"an entry is {float(array.min()):.6g}, not positive"
    return ""
