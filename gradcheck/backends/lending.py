"""Arrays of few blocks between zeros: NumPy's programs for a framework that shares memory with it.

The system hands out pages of zeros untouched, and NumPy's `zeros` leaves them so: `aligned_zeros`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gradcheck.backends.numpy_ import NumpyBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.backends.writing import Writing

# JAX takes an array over without a copy only where its first entry lies at a multiple of this.
_ALIGNED = 64


def aligned_zeros(shape: tuple[int, ...], dtype: Any) -> Any:
    """Zeros in fresh memory, the first at a multiple of 64 bytes."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + _ALIGNED, np.uint8)
    start = -memory.ctypes.data % _ALIGNED
    return memory[start : start + size].view(dtype).reshape(shape)


class LentNumpy(NumpyBackend):
    """NumPy, on arrays that another framework lends, for results that it takes over.

    Attributes:
        blank: Zeros of a shape and dtype, in memory that the other framework takes over.
    """

    name: ClassVar[str] = "numpy, its result taken over without a copy"

    def __init__(self, blank: Callable[[tuple[int, ...], Any], Any]) -> None:
        super().__init__()
        self.blank = blank

    def writing(self, dtype: str, device: str) -> Writing:
        """As for NumPy's own arrays, but in memory of `blank`, and arguments are not looked at."""
        plain = super().writing(dtype, device)
        calls = {**plain.calls, "blank": self.blank}
        return replace(plain, guard="", blank="blank({shape}, {dtype})", calls=calls)

    def __reduce__(self) -> tuple[Any, ...]:
        return LentNumpy, (self.blank,)
