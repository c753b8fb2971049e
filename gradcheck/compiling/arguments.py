"""The arguments of a call, checked and converted: one framework, dtype and device for all of them."""

from __future__ import annotations

import functools
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import backends
from gradcheck.errors import GradcheckError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.domains import Domain
    from gradcheck.operation import Operation
    from gradcheck.parameters import Parameter

# Inputs that hold no real numbers.
INTEGERS = ("labels", "integers")

# Integers beyond these are not what a float, or a framework's integer, says they are.
_EXACT, _LONG = 1 << 53, 1 << 63

_WIDER = {"float16": 1, "bfloat16": 1, "float32": 2, "float64": 3}


def arguments(
    operation: Operation, values: Mapping[str, Any]
) -> tuple[Any, str, str, dict[str, Any], dict[str, int]]:
    """Framework, dtype, device, arrays and sizes of a call, checked and converted.

    Real inputs of several dtypes are computed with in the wider one, as the frameworks do; lists and Python
    numbers, and NumPy's arrays beside another framework's, take the dtype of the rest.

    Raises:
        UsageError: For names, frameworks or dtypes that do not fit.
        ShapeError: For arrays that do not fit the axes.
    """
    values = dict(operation.complete(values))
    for name, parameter in operation.params.items():
        what = f"parameter {name!r} of {operation.name}"
        values[name] = _parameter(what, parameter, values[name])
    for name in operation.inputs:
        refuse_complex(f"input {name!r} of {operation.name}", values[name])
    backend = backends.of(*(values[n] for n in operation.inputs))
    for name in operation.inputs:
        values[name] = on_host(f"input {name!r} of {operation.name}", values[name])
    dtype, device = _common(operation, backend, {n: values[n] for n in operation.inputs})
    with backend.widths(dtype):
        arrays = {
            n: _array(operation, n, v, backend, dtype, device) if n in operation.inputs else v
            for n, v in values.items()
        }
        sizes = operation.sizes_of(arrays)
        if device == "cpu":
            _check_labels(operation, backend, arrays, sizes)
        return backend, dtype, device, arrays, sizes


def _check_labels(
    operation: Operation, backend: Any, arrays: Mapping[str, Any], sizes: Mapping[str, int]
) -> None:
    """Refuse labels of no class where values can be looked at: a forward may count them from the end.

    Raises:
        UsageError: Naming the label.
    """
    labels = [n for n, d in operation.inputs.items() if d.kind == "labels"]
    for name in (n for n in labels if backend.can_write(arrays[n])):
        axis, found = operation.one_hot[name], np.asarray(arrays[name])
        count = int(axis) if axis.isdigit() else sizes.get(axis)
        wrong = found[(found < 0) | (found >= count)] if count is not None else found[:0]
        if wrong.size:
            raise UsageError(
                f"input {name!r} of {operation.name} holds the label {wrong.flat[0]}; there are {count} "
                f"classes, 0 to {axis} - 1"
            )


def refuse_complex(what: str, value: Any) -> None:
    """Refuse complex numbers, which a conversion would cut in half.

    Raises:
        UsageError: Naming what holds them.
    """
    if "complex" in str(getattr(value, "dtype", type(value).__name__)):
        raise UsageError(
            f"{what} holds complex numbers; derivatives here are those of real functions"
        )


class _Weak(np.ndarray):
    """A list or Python number as an array, whose dtype nobody chose."""


def on_host(what: str, value: Any) -> Any:
    """What belongs to NumPy as a plain array of numbers; arrays of other frameworks as they are.

    Raises:
        UsageError: For masked entries, and for what holds no numbers.
    """
    if backends.of(value).name != "numpy":
        return value
    if np.ma.is_masked(value):
        raise UsageError(
            f"{what} is a masked array, and its mask would be lost; give plain numbers: .filled(0), say"
        )
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{what} is no array of real numbers: {error}") from None
    if array.dtype.kind in "OSUMmV" and "float" not in str(array.dtype):
        raise UsageError(
            f"{what} takes numbers, but an array of {array.dtype} came; convert it to float64 or float32 "
            "first"
        )
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array if hasattr(value, "dtype") else array.view(_Weak)


def real_array(what: str, value: Any, backend: Any, dtype: str, device: str) -> Any:
    """Numbers, of whatever type, as real ones of the dtype.

    Raises:
        UsageError: For what is no array of numbers.
    """
    return _converted(what, value, backend, (dtype, device), real=True)


def _converted(what: str, value: Any, backend: Any, place: tuple[str, str], *, real: bool) -> Any:
    dtype, device = place
    try:
        plain = value.view(np.ndarray) if isinstance(value, _Weak) else value
        array = backend.asarray(plain, dtype, device)
        if not real or "float" in backend.dtype_of(array):
            return array
        return backend.namespace(dtype, device).asarray(array)
    except GradcheckError:
        raise
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise UsageError(f"{what} is no array of real numbers: {error}") from None


def _parameter(what: str, parameter: Parameter, value: Any) -> Any:
    """A parameter as a plain number or word.

    Raises:
        UsageError: For what the parameter cannot be.
    """
    value = value.item() if isinstance(value, np.generic) else value
    came = f"{what} is {parameter.describe()}, and {_shown(value)} came"
    if parameter.kind == "choice":
        return _chosen(came, parameter, value)
    if not isinstance(value, int | float):
        raise UsageError(
            f"{came}; it is a constant of the derivative: give a Python number or word (under jit, mark it "
            "static)"
        )
    if parameter.kind == "integer" and isinstance(value, float):
        if not value.is_integer():
            raise UsageError(f"{came}; give a whole number")
        value = int(value)
    if abs(value) < _EXACT or isinstance(value, float):
        return value
    if parameter.kind == "integer" and abs(value) < _LONG:
        return value
    try:
        if parameter.kind == "number":
            return float(value)
    except OverflowError:
        pass
    raise UsageError(f"{came}; it is larger than what an array can hold")


def _shown(value: Any) -> str:
    # Python refuses to write integers of thousands of digits.
    huge = isinstance(value, int) and value.bit_length() > 200
    return f"an integer of {value.bit_length()} bits" if huge else f"{value!r:.60}"


def _chosen(came: str, parameter: Parameter, value: Any) -> Any:
    plain = isinstance(value, int | float | str | tuple | type(None))
    if plain and value in parameter.values:
        return value
    words = [v for v in parameter.values if isinstance(v, str)]
    near = get_close_matches(value, words, n=1) if isinstance(value, str) else []
    raise UsageError(f"{came}; " + (f"did you mean {near[0]!r}?" if near else "give one of these"))


def holds_reals(domain: Domain) -> bool:
    """Whether arrays of integers are real numbers there; a user's own strategy may draw indices."""
    if domain.kind in INTEGERS:
        return False
    return domain.differentiable or domain.kind not in ("strategy", "dependent")


def _common(operation: Operation, backend: Any, values: Mapping[str, Any]) -> tuple[str, str]:
    """The dtype of real numbers, and the device.

    Raises:
        UsageError: Where no input holds floats.
    """
    real = [values[n] for n, d in operation.inputs.items() if d.kind not in INTEGERS]
    if not real:
        raise UsageError(f"{operation.name} has no input of real numbers")
    own = [v for v in values.values() if not isinstance(v, _Weak) and backends.of(v) is backend]
    first = own[0] if own else real[0]
    device = backend.device_of(backend.asarray_like(first))
    floats = [v for v in real if any(v is o for o in own)] or real
    found = [backend.dtype_of(backend.asarray_like(v)) for v in floats]
    names = [d for d in found if "float" in d]
    if not names:
        raise UsageError(
            f"{operation.name} takes real numbers, but an array of {found[0]} came; convert it to float64 "
            "or float32 first"
        )
    return functools.reduce(_promoted, map(backend.check_dtype, names)), device


def _promoted(first: str, second: str) -> str:
    """The narrowest dtype that holds the numbers of both."""
    if first == second:
        return first
    if _WIDER[first] == _WIDER[second]:  # float16 and bfloat16
        return "float32"
    return max(first, second, key=_WIDER.__getitem__)


def _array(
    operation: Operation, name: str, value: Any, backend: Any, dtype: str, device: str
) -> Any:
    """An input as an array of the framework: real numbers in the dtype, labels and indices as integers."""
    what, domain = f"input {name!r} of {operation.name}", operation.inputs[name]
    if holds_reals(domain):
        return real_array(what, value, backend, dtype, device)
    if domain.kind in INTEGERS and isinstance(value, _Weak) and not value.size:
        value = value.astype(np.int64)  # an empty list has no dtype
    array = _converted(what, value, backend, (dtype, device), real=False)
    found = backend.dtype_of(array)
    if domain.kind in INTEGERS and ("float" in found or "bool" in found):
        raise UsageError(
            f"{what} is {domain.describe()}, but an array of {backend.dtype_of(value)} came; convert it "
            "to integers first"
        )
    return array
