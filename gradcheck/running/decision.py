"""Three-valued decisions: true, false, or ambiguous because the error balls overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradcheck.errors import UnsupportedOperation
from gradcheck.running.operand import Operand

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.running.namespace import Namespace

Mask = NDArray[np.bool_]


@dataclass
class BranchLog:
    """How many decisions of a run were exact ties, and how many the errors left open."""

    ties: int = 0
    ambiguous: int = 0


class Decision(Operand):
    """The outcome of a comparison, entry by entry.

    Attributes:
        true: Where it certainly holds at the point itself.
        false: Where it certainly does not; entries in neither mask are ambiguous.
        ahead: Under differentiation, where some entry is an exact tie: the same two masks just ahead
            of the point, with a leading axis of directions. None where that changes nothing.
    """

    __slots__ = ("ahead", "false", "space", "true")

    def __init__(
        self, space: Namespace, true: Mask, false: Mask, ahead: tuple[Mask, Mask] | None = None
    ) -> None:
        self.space = space
        self.true = true
        self.false = false
        self.ahead = ahead

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return np.shape(self.true)

    @property
    def ambiguous(self) -> Mask:
        """Where the errors leave it open."""
        return np.asarray(~(self.true | self.false))

    def _apply(self, name: str, other: Any, *, swap: bool = False) -> Any:
        """Arithmetic on a decision treats it as the numbers 1 and 0."""
        return self.space.asarray(self)._apply(name, other, swap=swap)

    def __and__(self, other: Any) -> Decision:
        return self._join(other, np.logical_and, np.logical_or)

    def __or__(self, other: Any) -> Decision:
        return self._join(other, np.logical_or, np.logical_and)

    __rand__, __ror__ = __and__, __or__

    def __invert__(self) -> Decision:
        ahead = None if self.ahead is None else self.ahead[::-1]
        return Decision(self.space, self.false, self.true, ahead)

    def _join(
        self, other: Any, on_true: Callable[..., Any], on_false: Callable[..., Any]
    ) -> Decision:
        other = self.space.decision(other)
        true, false = on_true(self.true, other.true), on_false(self.false, other.false)
        ahead = None
        if self.ahead is not None or other.ahead is not None:
            rank = true.ndim
            (t1, f1), (t2, f2) = self.masks_ahead(rank), other.masks_ahead(rank)
            ahead = (on_true(t1, t2), on_false(f1, f2))
        return Decision(self.space, true, false, ahead)

    def masks_ahead(self, rank: int) -> tuple[Mask, Mask]:
        """The masks just ahead of the point, aligned with (directions, axes...) of that rank."""
        if self.ahead is None:
            return self.true, self.false
        pad = (1,) * (rank - np.ndim(self.true))
        true, false = self.ahead
        shape = (len(true), *pad, *self.shape)
        return true.reshape(shape), false.reshape(shape)

    def __bool__(self) -> bool:
        if self.size != 1:
            problem = (
                f"`if` on a comparison of shape {self.shape}: it has no single truth; "
                "write xp.where(condition, x, y)"
            )
            raise UnsupportedOperation(problem)
        if bool(np.all(self.ambiguous)) or self.ahead is not None:
            problem = (
                "`if` on a comparison that rounding errors leave open, or that is an exact tie at "
                "which the branches may have different derivatives; write xp.where(condition, x, y)"
            )
            raise UnsupportedOperation(problem)
        return bool(np.all(self.true))

    def __float__(self) -> float:
        return float(bool(self))
