"""A forward that acts along an axis one index at a time, differentiated slice by slice.

The rows of a batch do not look at each other: the gradient of a slice is the slice of the gradient. An
oracle's reverse pass then needs the memory of a slice, and stays in the cache. That a forward is of this
kind is shown, not assumed. It runs once on symbolic arrays of symbolic sizes (`gradcheck.oracles.symbolic`);
where each output, as an index expression, holds the axis in that output's own letter alone (no sum, maximum
or delta runs over it, and its size occurs nowhere), index i of the output is the same function of index i of
the inputs at every size. What cannot be traced so (a look at a size, a cumulative sum, a framework's own
function) is differentiated as a whole. The values of the whole's outputs are compared with those of slices
besides.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.algebra.shapes import at_rank, base_axis, is_anonymous, is_broadcast, is_number
from gradcheck.layers import precision
from gradcheck.oracles.symbolic.cases import Case
from gradcheck.oracles.symbolic.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gradcheck.algebra.canonical.forms import Form
    from gradcheck.checking.search import Example
    from gradcheck.domains import Domain, Parameter
    from gradcheck.layers.bench import Bench, Point
    from gradcheck.layers.reference import Reference

    Floats = np.ndarray[Any, np.dtype[Any]]
    Pull = Callable[[Sequence[Floats]], Floats]

# Entries of a slice. In float64 they are a megabyte, which stays near the core, and which the C library
# hands out again from its heap where larger arrays are fresh pages of the system each time.
ENTRIES = 1 << 17
# Where every operation of a slice costs more than that, or starts a kernel of a device.
_COSTLY = {"jax": 1 << 19, "tensorflow": 1 << 19}
_DEVICE = 1 << 24
# At a single index an axis could be taken for one that is broadcast.
_LEAST = 2


@dataclass(frozen=True)
class Slicing:
    """An axis along which a forward acts one index at a time.

    Attributes:
        size: Of the axis in the whole.
        count: How many indices a slice has, at least.
        inputs: The position of the axis in each argument; None where it has none.
        outputs: Its position in each output.
    """

    size: int
    count: int
    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]

    def windows(self) -> Iterator[slice]:
        """The slices of the axis, all of at least `count` indices."""
        ends = np.linspace(0, self.size, max(1, self.size // self.count) + 1).astype(int)
        return (slice(int(a), int(b)) for a, b in pairwise(ends))

    def parts(self, arrays: Sequence[Any], window: slice) -> list[Any]:
        """The window of the arguments; what comes behind the inputs is whole in every one."""
        places = (*self.inputs, *[None] * (len(arrays) - len(self.inputs)))
        return [cut(a, p, window) for a, p in zip(arrays, places, strict=True)]

    def around(self, index: int) -> slice:
        """The slice that holds an index."""
        return next(w for w in self.windows() if w.start <= index < w.stop)


class Whole:
    """An oracle's gradient by one pass over everything."""

    def __init__(self, make: Callable[[Sequence[Any]], Pull], arrays: Sequence[Any]) -> None:
        self.pull = make(arrays)

    def __call__(self, cotangents: Sequence[Floats], out: Floats | None = None) -> Floats:  # noqa: ARG002
        """The gradient."""
        return self.pull([c.astype(np.float32) for c in cotangents])

    def at(self, cotangents: Sequence[Floats], place: tuple[int, ...]) -> float:
        """One entry of the gradient."""
        return float(self(cotangents)[place])


class Sliced:
    """An oracle's gradient slice by slice.

    Args:
        make: One forward pass of some arguments, to a function from cotangents to the gradient.
        arrays: The arguments.
        wrt: Which of them is differentiated by.
        slicing: The axis.
        threads: How many slices at a time.
    """

    def __init__(
        self, make: Callable[[Sequence[Any]], Pull], arrays: Sequence[Any], wrt: int,
        slicing: Slicing, threads: int = 1,
    ) -> None:  # fmt: skip
        self.make, self.arrays, self.wrt, self.slicing = make, arrays, wrt, slicing
        self.threads = threads

    def __call__(self, cotangents: Sequence[Floats], out: Floats | None = None) -> Floats:
        """The gradient, written over another one where that is given."""
        windows = list(self.slicing.windows())
        first = self._part(cotangents, windows[0])
        whole = np.empty(self.arrays[self.wrt].shape, first.dtype) if out is None else out

        def fill(window: slice) -> None:
            cut(whole, self._position, window)[...] = self._part(cotangents, window)

        cut(whole, self._position, windows[0])[...] = first
        each(fill, windows[1:], self.threads)
        return whole

    def at(self, cotangents: Sequence[Floats], place: tuple[int, ...]) -> float:
        """One entry of the gradient, for which its slice is enough."""
        at = self._position
        window = self.slicing.around(place[at])
        inside = (*place[:at], place[at] - window.start, *place[at + 1 :])
        return float(self._part(cotangents, window)[inside])

    @property
    def _position(self) -> int:
        position = self.slicing.inputs[self.wrt]
        assert position is not None
        return position

    def _part(self, cotangents: Sequence[Floats], window: slice) -> Floats:
        parts = self.slicing.parts(self.arrays, window)
        given = zip(cotangents, self.slicing.outputs, strict=True)
        return self.make(parts)([cut(c, p, window).astype(np.float32) for c, p in given])


def each(run: Callable[[slice], None], windows: Sequence[slice], threads: int) -> None:
    """Run something for every slice.

    torch divides each operation among its threads, which wait for one another at its end: on slices, and on
    a busy machine above all, that takes longer than the operation. Here each thread has slices of its own.
    """
    if threads < 2:
        for window in windows:
            run(window)
        return
    import torch

    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in pool.map(run, windows):
                pass
    finally:
        torch.set_num_threads(threads)  # what threads that are still to come begin with


def threads_of(framework: str, device: str) -> int:
    """How many slices a framework may work on at a time: for torch as many as it has threads."""
    if framework != "torch" or device != "cpu":
        return 1
    import torch

    # Only there each thread has a number of its own.
    return torch.get_num_threads() if "OpenMP" in torch.__config__.parallel_info() else 1


def entries_of(framework: str, device: str) -> int:
    """How many entries a slice has for a framework."""
    return _DEVICE if device != "cpu" else _COSTLY.get(framework, ENTRIES)


def cut(array: Any, position: int | None, window: slice) -> Any:
    """The window of one axis of an array."""
    return array if position is None else array[(*[slice(None)] * position, window)]


def slicing(bench: Bench, point: Point, name: str, entries: int) -> Slicing | None:
    """How a forward may be differentiated by an input slice by slice; None where only as a whole.

    Args:
        bench: The rule and its reference.
        point: The example, with the values of its outputs.
        name: The input.
        entries: How many entries a slice should have.
    """
    example, reference = point.example, bench.reference
    size = example.inputs[name].size
    if reference.forward is None or size < 2 * entries:
        return None
    forms = _traced(reference, example)
    axes = _axes(reference, example, name)
    found = [s for a in axes if (s := _along(forms, point, reference, a, entries)) is not None]
    # The first axis in memory, unless it has too few indices for slices that small.
    best = max(found, key=lambda s: min(s.size // s.count, size // entries), default=None)
    return best if best is not None and _speaks(bench, point, best) else None


def _axes(reference: Reference, example: Example, name: str) -> list[str]:
    """The axes of an input that can be told from others by their names."""
    shape = at_rank(reference.inputs[name].shape, example.rank or 0)
    return [a for a in shape if not (is_number(a) or is_anonymous(a) or is_broadcast(a))]


# ---------------------------------------------------------------------- the forward on symbols


@dataclass
class _Traced:
    """What the symbolic machinery needs to know of a forward that is no spec."""

    reference: Reference
    inputs: dict[str, Domain]
    params: dict[str, Parameter]
    shapes: dict[str, tuple[str, ...]]
    one_hot: dict[str, str]

    def environment(self, xp: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Each output, by its number."""
        assert self.reference.forward is not None
        arrays = [values[n] for n in self.inputs]
        results = self.reference.forward(xp, *arrays, **{n: values[n] for n in self.params})
        return {str(k): xp.asarray(r) for k, r in enumerate(results)}


def _traced(reference: Reference, example: Example) -> list[Form]:
    """Each output as an index expression; nothing where the forward is none."""
    inputs = dict(reference.inputs)
    traced: Any = _Traced(
        reference,
        inputs,
        dict(reference.params),
        {n: d.shape for n, d in inputs.items()},
        {n: str(d.below) for n, d in inputs.items() if d.kind == "labels"},
    )
    single = frozenset(a for a, n in example.sizes.items() if is_broadcast(a) and n == 1)
    try:
        run = Run(traced, Case(example.rank or 0, single, tuple(example.params.items())))
    except (Exception, SystemExit):  # noqa: BLE001  a forward may do with symbols whatever it likes
        return []
    return [array.form for array in run.operands.values()]


def _along(
    forms: list[Form], point: Point, reference: Reference, axis: str, entries: int
) -> Slicing | None:
    """An axis, where every output acts along it one index at a time."""
    if any(_holds_whole(domain, axis) for domain in reference.inputs.values()):
        return None
    inputs = _positions(reference, point.example, axis)
    if inputs is None or not forms or not all(acts_along(f, axis) for f in forms):
        return None
    size, outputs = point.example.sizes[axis], [f.axes.index(axis) for f in forms]
    for output, form, at in zip(point.outputs, forms, outputs, strict=True):
        if output.ndim != form.rank or output.shape[at] != size:
            return None
    pairs = zip(reference.inputs, inputs, strict=True)
    cuts = [point.example.inputs[n] for n, at in pairs if at is not None]
    each_index = max(a.size for a in (*cuts, *point.outputs)) // max(size, 1)
    count = max(_LEAST, entries // max(each_index, 1))
    return Slicing(size, count, inputs, tuple(outputs)) if size >= 2 * count else None


def _holds_whole(domain: Domain, axis: str) -> bool:
    """Whether entries of an input speak of all indices of an axis: a label counts them, a row sums over them.

    A slice of classes has labels beyond it, and rows that do not sum to one.
    """
    if domain.kind == "labels":
        return str(domain.below) == axis
    rows = domain.kind in ("one_hot", "probability") and domain.shape
    return bool(rows) and base_axis(domain.shape[-1]) == axis


def _positions(reference: Reference, example: Example, axis: str) -> tuple[int | None, ...] | None:
    """Where the inputs have an axis; None where one has it twice, or is shaped otherwise."""
    found: list[int | None] = []
    for n, domain in reference.inputs.items():
        shape = [base_axis(a) for a in at_rank(domain.shape, example.rank or 0)]
        sizes = example.inputs[n].shape
        if shape.count(axis) > 1 or len(shape) != len(sizes):
            return None
        at = shape.index(axis) if axis in shape else None
        # An axis "#m" of size 1 is not cut.
        found.append(None if at is None or sizes[at] != example.sizes[axis] else at)
    return tuple(found)


def acts_along(form: Form, axis: str) -> bool:
    """Whether an index expression is, at each index of an axis, a function of that index alone."""
    return form.axes.count(axis) == 1 and _holds(form, axis)


def _holds(form: Form, axis: str) -> bool:
    """Whether an axis occurs in an expression as the one letter of it that is free, or not at all."""
    own = [i for i, a in enumerate(form.axes) if a == axis]
    if len(own) > 1:
        return False
    for key in form.terms:
        if any(name == axis for name, _ in key.scalars):
            return False
        if any(letter in own for pair in key.deltas for letter in pair):
            return False
        for e in key.entries:
            letters = [s for s, a in zip(e.letters, e.atom.axes, strict=True) if a == axis]
            if len(letters) > 1 or letters not in ([], own):
                return False
            # Which entry of a row is its largest depends on the whole row, its last axis.
            if e.atom.kind == "selector" and axis in e.atom.axes[-1:]:
                return False
            if e.atom.argument is not None and not _holds(e.atom.argument, axis):
                return False
    return True


# ---------------------------------------------------------------------- values of slices


def _speaks(bench: Bench, point: Point, found: Slicing) -> bool:
    """Whether the outputs of the first and the last slice are the whole's, within the carried error."""
    windows = (slice(0, _LEAST), slice(found.size - _LEAST, found.size))
    return all(_same(bench, point, found, w) for w in windows)


def _same(bench: Bench, point: Point, found: Slicing, window: slice) -> bool:
    example = point.example
    pairs = zip(bench.reference.inputs, found.inputs, strict=True)
    part = replace(example, inputs={n: cut(example.inputs[n], p, window) for n, p in pairs})
    for k, position in enumerate(found.outputs):
        whole = cut(point.outputs[k], position, window)
        exact, error = precision.output_bound(bench.reference, part, k, bench.dtype)
        if exact.shape != whole.shape:
            return False
        if not np.all((np.abs(whole - exact) <= error) | (whole == exact)):
            return False
    return True
