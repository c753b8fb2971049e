"""How a framework's operations are written as source, and what that source calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Writing:
    """The lines of one framework.

    Attributes:
        direct: Operations that have a line of their own, operands as `{0}`, `{1}`, keywords by name;
            "settled" gives an array with its entries in order in memory, "settled copy" a new one, and
            "dot turned" is the product of a transposed matrix, here not yet transposed, and another;
            "sum first" the sum over the first axis of a matrix, "softmax of columns" that of a matrix of
            few columns along its rows, and "unsqueezed" an array with one more axis.
        into: The same, with the result written into the array `{out}`; `{other}` is the operand
            that is not `{out}`, and "divide first" is used where `{out}` is the first operand,
            "divide over" where it is none of them but an array that nobody reads any more.
            `{out} += {other}` is a statement: the name then stands for the result.
        guard: The test that an argument `{n}` is what the program was compiled for.
        blank: Zeros of which few are written over, where that is another line than "zeros".
        view: The entries of a new array `{out}` at which letters are equal, as an array to write into.
        also: Further tests, from the names of all arguments that are arrays.
        assign: How an array is written into a view.
        calls: What the names in these lines mean.
        fused: Whether groups of operations are replaced by the framework's fused ones.
    """

    direct: Mapping[str, str]
    into: Mapping[str, str] = field(default_factory=dict)
    guard: str = ""
    blank: str = ""
    view: str = ""
    assign: str = "{view}[...] = {0}"
    also: Callable[[list[str]], list[str]] = lambda _: []
    calls: Mapping[str, Any] = field(default_factory=dict)
    fused: bool = False


def expanded(core: Any, places: tuple[int, ...]) -> Any:
    """The array with axes of size 1 where a letter of the output comes for a second time."""
    if not getattr(core, "shape", ()):
        return core
    missing = max(places) + 1 - len(core.shape)
    core = core[(None,) * missing + (...,)] if missing else core
    return core[tuple(slice(None) if places.index(p) == i else None for i, p in enumerate(places))]


def pairs(places: tuple[int, ...]) -> list[tuple[int, int]]:
    """The axes of the output that must be equal, each with the first of its letter."""
    return [(places.index(p), i) for i, p in enumerate(places) if places.index(p) != i]


# Any framework, through the namespace that forwards use.
GENERIC = {
    "matmul": "xp.matmul({0}, {1})",
    "transpose": "xp.permute_dims({0}, {1})",
    "turned": "xp.matrix_transpose({0})",
    "reshape": "xp.reshape({0}, {1})",
    "copy": "{0} * 1",
    "zeros": "xp.zeros({shape})",
    "full": "xp.zeros({shape}) + {0}",
    "diagonal": "xp.einsum({equation}, {0})",
}


def generic(xp: Any) -> Writing:
    """How a program is written for a framework that has no lines of its own."""

    def spread(core: Any, places: tuple[int, ...], shape: tuple[int, ...], _: Any) -> Any:
        mask: Any = xp.zeros(shape) == 0
        for first, other in pairs(places):
            grids = [
                xp.reshape(xp.arange(shape[a]), [-1 if i == a else 1 for i in range(len(shape))])
                for a in (first, other)
            ]
            mask = mask & (grids[0] == grids[1])
        return xp.where(mask, expanded(core, places) + xp.zeros(shape), xp.zeros(shape))

    return Writing(direct=GENERIC, calls={"spread": spread})
