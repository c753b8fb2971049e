"""Large arrays of few blocks: NumPy's program fills them for a framework that writes every zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.compiling.programs import Miss

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.compiling.making import Made


@dataclass(frozen=True)
class Filler:
    """A program of the lender, with the test that arguments are those that it was made for.

    Attributes:
        backend: The framework whose arrays come and go.
        dtype: The dtype of real numbers.
        made: The program of the lender.
        kinds: What each array is: its class, shape and dtype.
        words: The class of each parameter, and its value where that is part of the program.
    """

    backend: Any
    dtype: str
    made: Made
    kinds: Mapping[str, tuple[Any, tuple[int, ...], Any]]
    words: Mapping[str, tuple[type, Any]]

    @classmethod
    def of(
        cls,
        backend: Any,
        dtype: str,
        made: Made,
        arrays: Mapping[str, Any],
        inputs: Mapping[str, Any],
    ) -> Filler:
        """The filler for arguments like these."""
        kinds = {n: (a.__class__, a.shape, a.dtype) for n, a in arrays.items() if n in inputs}
        fixed = made.setting.fixed
        words = {n: (v.__class__, fixed.get(n)) for n, v in arrays.items() if n not in inputs}
        return cls(backend, dtype, made, kinds, words)

    def __call__(self, /, **values: Any) -> Any:
        """The filled array.

        Raises:
            Miss: For any other arguments.
        """
        if len(values) != len(self.kinds) + len(self.words):
            raise Miss
        lent: dict[str, Any] = {}
        for name, (kind, shape, dtype) in self.kinds.items():
            value: Any = values.get(name)
            if value.__class__ is not kind or value.shape != shape or value.dtype != dtype:
                raise Miss
            if self.backend.device_of(value) != "cpu":
                raise Miss
            lent[name] = np.asarray(value)
        for name, (kind, word) in self.words.items():
            value = values.get(name)
            if value.__class__ is not kind or (word is not None and value != word):
                raise Miss
            lent[name] = value
        return self.filled(lent)

    def filled(self, lent: Mapping[str, Any]) -> Any:
        """The array from the arguments as the lender's own."""
        # The framework whose arrays these are warns of nothing.
        with self.backend.widths(self.dtype), np.errstate(all="ignore"):
            return self.backend.adopted(self.made.body(**lent))
