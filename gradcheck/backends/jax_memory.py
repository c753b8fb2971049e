"""Memory for large results on the host: XLA's, or fresh pages of the system."""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import jax  # noqa: TID253 - this file is imported only when JAX is asked for
import jax.numpy as jnp  # noqa: TID253
import numpy as np

from gradcheck.backends.lending import aligned_zeros

if TYPE_CHECKING:
    from collections.abc import Callable

# The C library of Linux serves requests below 32 MiB from memory that was in use before, of which every entry
# has to be made zero, and larger ones with pages that the system hands out as zeros (mallopt(3),
# M_MMAP_THRESHOLD). XLA's loop writes used memory in two thirds of the time that `calloc` takes.
_FRESH = 1 << 25


class Held:
    """The memory of a JAX array that nobody has yet, for NumPy to write into.

    Attributes:
        array: The array. Once it is handed out, nobody writes into it any more.
    """

    def __init__(self, array: Any) -> None:
        self.array = array.block_until_ready()
        self.__array_interface__ = {
            "data": (array.unsafe_buffer_pointer(), False),
            "shape": array.shape,
            "typestr": array.dtype.str,
            "version": 3,
        }


@lru_cache(64)
def _zeros(shape: tuple[int, ...], dtype: Any) -> Callable[[], Any]:
    host = jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
    made: Callable[[], Any] = jax.jit(partial(jnp.zeros, shape, dtype), out_shardings=host)
    return made


def blank(shape: tuple[int, ...], dtype: Any) -> Any:
    """Zeros to write few entries over, which `adopted` turns into a JAX array without a copy."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size >= _FRESH:
        return aligned_zeros(shape, dtype)
    return np.asarray(Held(_zeros(shape, dtype)()))


def adopted(array: Any) -> Any:
    """A NumPy array as JAX's, in the same memory."""
    held = array.base
    whole = isinstance(held, Held) and array.shape == held.array.shape and array.flags.c_contiguous
    return held.array if whole else jnp.from_dlpack(array)
