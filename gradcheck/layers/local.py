"""The forward carried near one entry of a gradient: how far a right rule may be off there.

Beyond a few million entries the forward is not carried as a whole: dozens of arrays of the input's size
would have to live at once. Most forwards act along an axis one index at a time (rows of a batch), so a
slice of that axis is carried instead. That the slice speaks for the whole is checked, not assumed:
the outputs of the whole must lie within the carried error of the slice's outputs, and the whole's own
derivative, which the oracle gives in float64, within that of the slice's derivative.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.algebra.shapes import at_rank, is_anonymous
from gradcheck.layers import precision
from gradcheck.layers.along import carried
from gradcheck.running import format_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.checking.search import Example
    from gradcheck.layers.along import Moved
    from gradcheck.layers.bench import Bench, Point

    Floats = np.ndarray[Any, np.dtype[Any]]

# Up to so many entries of all inputs the whole forward is carried along one direction.
CARRIED = 1_000_000
# Two indices of the axis: at one, it could be taken for an axis that is broadcast.
_WINDOW = 2


@dataclass(frozen=True)
class Local:
    """What is carried for one entry of a gradient.

    Attributes:
        bench: The rule and its reference.
        example: The inputs, or their slice.
        name: The input.
        place: The entry's index there.
        vectors: The cotangents there.
    """

    bench: Bench
    example: Example
    name: str
    place: tuple[int, ...]
    vectors: list[Floats]

    @cached_property
    def ahead(self) -> Moved | None:
        """The derivative of every output along the entry, with its error."""
        return self.moved()

    def moved(self, sign: int = 1, *, every: bool = False) -> Moved | None:
        """The derivative of every output along ± the entry, with its error."""
        towards = np.zeros(self.example.inputs[self.name].shape)
        towards[self.place] = sign
        reference, dtype = self.bench.reference, self.bench.dtype
        return carried(reference, self.example, self.name, towards, dtype, every=every)

    def enclosed(self) -> tuple[float, float] | None:
        """The entry of the gradient, and what a right rule may be off it."""
        moved = self.ahead
        if moved is None:
            return None
        # The rule adds up the column in its own dtype, in whatever order.
        unit, total, slack = format_of(self.bench.dtype).unit, 0.0, 0.0
        for vector, (value, error) in zip(self.vectors, moved.outputs, strict=True):
            used = vector != 0  # an output that the cotangent leaves out may have an infinite error
            terms = np.count_nonzero(value[used])
            total += float(np.sum(vector[used] * value[used]))
            off = error[used] + terms * unit * np.abs(value[used])
            slack += float(np.sum(np.abs(vector[used]) * off))
        return total, (slack if np.isfinite(slack) else np.inf)

    def alone(self) -> float:
        """What a right rule may be off a single entry of the Jacobian in this column."""
        moved = self.ahead
        if moved is None:
            return np.inf
        unit = format_of(self.bench.dtype).unit
        ends = [error + unit * np.abs(value) for value, error in moved.outputs]
        widest = max(float(np.max(e, initial=0.0)) for e in ends)
        return 2 * widest if np.isfinite(widest) else np.inf

    def between(self, claim: float, bound: float) -> bool:
        """Whether a claim is as good as the oracle's at a tie.

        Where the one-sided derivatives of the entry differ, it lies between them, or is what the chain
        rule gives for some element at each tie. Where they are one, it is that, and the oracle's is not:
        elements that it took at ties on the way need not add up to it.
        """
        ahead, behind = self.ahead, self.moved(-1)
        if ahead is None or behind is None or not ahead.ties:
            return False
        low = high = 0.0
        pairs = zip(self.vectors, ahead.outputs, behind.outputs, strict=True)
        for vector, (above, _), (below, _) in pairs:
            ends = np.stack([vector * above, -vector * below])
            low, high = low + float(ends.min(axis=0).sum()), high + float(ends.max(axis=0).sum())
        if low - bound <= claim <= high + bound:
            return True
        return high - low > 2 * bound and self._chosen(claim, bound)

    def _chosen(self, claim: float, bound: float) -> bool:
        """Whether the chain rule may give it, whatever element each operation takes at a tie."""
        moved = self.moved(every=True)
        if moved is None:
            return False
        pairs = zip(self.vectors, moved.outputs, strict=True)
        sums = [(np.sum(v * value), np.sum(np.abs(v) * error)) for v, (value, error) in pairs]
        value, error = (float(sum(s)) for s in zip(*sums, strict=True))
        return abs(claim - value) <= error + bound


def near(
    bench: Bench, point: Point, name: str, place: tuple[int, ...], vectors: Sequence[Floats],
    exact: float, whole: int = CARRIED,
) -> Local | None:  # fmt: skip
    """What can be carried for an entry; None where nothing can.

    Args:
        bench: The rule and its reference.
        point: The example, with the values of its outputs.
        name: The input.
        place: The index of the entry of the gradient.
        vectors: The cotangents.
        exact: The entry according to an oracle, in float64.
        whole: Up to so many entries of all inputs no slice is looked for.
    """
    example = point.example
    if bench.reference.forward is None:
        return None
    entries = sum(a.size for a in example.inputs.values())
    shape = at_rank(bench.rule.inputs[name].shape, example.rank or 0)
    axes = enumerate(shape) if entries > min(whole, CARRIED) else ()
    for position, axis in axes:
        found = _sliced(bench, point, name, place, vectors, (position, axis))
        if found is not None and _speaks(found, exact):
            return found
    if entries > CARRIED:
        return None
    return Local(bench, example, name, place, [np.asarray(v, np.float64) for v in vectors])


def _sliced(
    bench: Bench, point: Point, name: str, place: tuple[int, ...], vectors: Sequence[Floats],
    along_: tuple[int, str],
) -> Local | None:  # fmt: skip
    """A slice of an axis around the entry; None where the outputs are no slices of the whole's."""
    position, axis = along_
    example, size = point.example, point.example.inputs[name].shape[position]
    if size <= _WINDOW or is_anonymous(axis) or axis.startswith("#"):
        return None
    start = min(place[position], size - _WINDOW)
    window = slice(start, start + _WINDOW)
    inputs = {n: _cut(a, bench, example, n, axis, window) for n, a in example.inputs.items()}
    part = replace(example, inputs=inputs, sizes={**example.sizes, axis: _WINDOW})
    if sum(a.size for a in inputs.values()) > CARRIED:
        return None
    kept = []
    try:
        values = bench.reference.values(part, bench.dtype)
    except (Exception, SystemExit):  # noqa: BLE001  a forward may refuse another size
        return None
    for k, (value, whole) in enumerate(zip(values, point.outputs, strict=True)):
        index = _index(value.shape, whole.shape, size, window)
        if index is None or not _same(bench, part, k, whole[index]):
            return None
        kept.append(np.asarray(vectors[k][index], np.float64))
    moved = (*place[:position], place[position] - start, *place[position + 1 :])
    return Local(bench, part, name, moved, kept)


def _cut(
    array: Floats, bench: Bench, example: Example, name: str, axis: str, window: slice
) -> Floats:
    """The window of every axis of that name."""
    shape = at_rank(bench.rule.inputs[name].shape, example.rank or 0)
    index = tuple(window if a == axis else slice(None) for a in shape)
    cut = array[index]
    return np.array(cut, np.float64) if cut.dtype.kind == "f" else np.array(cut)


def _index(
    part: tuple[int, ...], whole: tuple[int, ...], size: int, window: slice
) -> tuple[slice, ...] | None:
    """Which slice of the whole's output a slice's output would be."""
    if len(part) != len(whole):
        return None
    changed = [k for k, (a, b) in enumerate(zip(part, whole, strict=True)) if a != b]
    if len(changed) != 1 or whole[changed[0]] != size or part[changed[0]] != _WINDOW:
        return None
    return tuple(window if k == changed[0] else slice(None) for k in range(len(whole)))


def _same(bench: Bench, part: Example, output: int, whole: Floats) -> bool:
    """Whether the whole's output lies within the carried error of the slice's."""
    exact, error = precision.output_bound(bench.reference, part, output, bench.dtype)
    return bool(np.all((np.abs(whole - exact) <= error) | (whole == exact)))


def _speaks(local: Local, exact: float) -> bool:
    """Whether the whole's own derivative is the slice's, within its error or but for a tie."""
    found = local.enclosed()
    if found is None:
        return False
    return abs(found[0] - exact) <= found[1] or local.between(exact, found[1])
