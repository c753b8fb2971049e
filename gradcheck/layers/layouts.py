"""The same cotangent in other memory: transposed, strided, reversed, or one number broadcast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck.layers.calling import Caller

# JAX and TensorFlow have no strides: their arrays lie as the framework likes.
_STRIDED = ("numpy", "autograd", "torch")


def layouts(caller: Caller, value: np.ndarray[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Arrays equal to `value`, each with what is odd about its memory."""
    if caller.rule.framework not in _STRIDED or not value.ndim or value.size < 2:
        return
    if caller.rule.framework == "torch":
        yield from _of_torch(caller, value)
        return
    plain = caller.array(value)
    if value.ndim > 1:
        yield "a transposed", np.asfortranarray(plain)
    yield strided(caller, value)
    yield "a negative-stride", np.ascontiguousarray(plain[..., ::-1])[..., ::-1]


def _of_torch(caller: Caller, value: np.ndarray[Any, Any]) -> Iterator[tuple[str, Any]]:
    plain = caller.array(value)
    if value.ndim > 1:
        axes = tuple(reversed(range(value.ndim)))
        yield "a transposed", plain.permute(axes).contiguous().permute(axes)
    yield strided(caller, value)


def strided(caller: Caller, value: np.ndarray[Any, Any]) -> tuple[str, Any]:
    """The array in memory with gaps, or as it is where the framework has no strides."""
    plain = caller.array(value)
    if caller.rule.framework not in _STRIDED or not value.ndim:
        return "an equal", plain
    shape = (*value.shape[:-1], 2 * value.shape[-1])
    wide = (
        plain.new_zeros(shape) if caller.rule.framework == "torch" else np.zeros(shape, plain.dtype)
    )
    wide[..., ::2] = plain
    return "a non-contiguous", wide[..., ::2]


def broadcast(caller: Caller, number: float, shape: tuple[int, ...]) -> Any:
    """One number in every entry, with strides of 0, as the backward pass of a sum hands it on."""
    if caller.rule.framework not in _STRIDED:
        return None
    if caller.rule.framework == "torch":
        return caller.array(number).expand(shape)
    return np.broadcast_to(caller.array(number), shape)
