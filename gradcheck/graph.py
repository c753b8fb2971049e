"""Names and axes of a graph of calls: which variables are one, and which axes must be one.

Axes are unified by position with a union-find, each call's axes apart from every other's at first
(so that the `n` of one spec is not captured by the `n` of the next), and then named: after the first
call that names them, with a number behind where that name is taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gradcheck.algebra.shapes import DOTS, is_number
from gradcheck.algebra.terms import free_alphabet
from gradcheck.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.algebra.shapes import Shape
    from gradcheck.chain import Call, Chain


@dataclass
class Layout:
    """A graph of calls in running order, with the chain's names for everything.

    Attributes:
        calls: The calls, each after those that feed it.
        names: For each call, the chain's name of each of the operation's names.
        shapes: The shape of each variable of the chain, in the chain's axes.
        leading: For each call, the axes that its `...` stands for; empty where it stays `...`.
        taken: All names of variables and parameters.
    """

    calls: list[Call]
    names: list[dict[str, str]] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    leading: list[tuple[str, ...]] = field(default_factory=list)
    taken: dict[str, None] = field(default_factory=dict)
    _axes: dict[tuple[int, str], str] = field(default_factory=dict)

    def axis_of(self, index: int) -> Callable[[str], str]:
        """The chain's name for an axis of a call."""
        return lambda axis: axis if is_number(axis) else self._axes.get((index, axis), axis)

    def axes_of_call(self, index: int) -> list[str]:
        """The names that a call's operation has for its axes."""
        return [axis for i, axis in self._axes if i == index]


def arrange(root: Call) -> Layout:
    """The layout of the graph that ends in a call.

    Raises:
        SpecError: Where ranks or fixed sizes do not fit, naming the variable and both calls.
    """
    layout = Layout(_ordered(root))
    _name_variables(layout)
    forced: int | None = None
    while True:
        try:
            unifier = _Unifier(layout, forced)
            unifier.run()
            break
        except _RankNeededError as need:
            forced = need.rank
    unifier.write()
    return layout


def _ordered(root: Call) -> list[Call]:
    found: dict[int, Call] = {}

    def visit(call: Call) -> None:
        if id(call) in found:
            return
        for value in call.arguments.values():
            if not isinstance(value, str):
                visit(value)
        found[id(call)] = call

    visit(root)
    return list(found.values())


def _name_variables(layout: Layout) -> None:
    """Leaves keep their names; outputs get theirs, with _2, _3, … where it is taken."""
    for call in layout.calls:
        leaves = [v for v in call.arguments.values() if isinstance(v, str)]
        leaves += [v for v in call.params.values() if isinstance(v, str)]
        layout.taken.update(dict.fromkeys(leaves))
    results: dict[int, str] = {}
    for call in layout.calls:
        names = {n: v if isinstance(v, str) else results[id(v)] for n, v in call.arguments.items()}
        names.update({n: v for n, v in call.params.items() if isinstance(v, str)})
        for name in call.operation.shapes:
            if name not in names and name not in call.params:
                names[name] = _unused(name, layout.taken)
                layout.taken[names[name]] = None
        results[id(call)] = names[call.operation.result]
        layout.names.append(names)


def _unused(name: str, taken: dict[str, None]) -> str:
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


class _RankNeededError(Exception):
    """The chain's `...` meets a fixed number of axes: start again with that many."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        super().__init__()


_Axis = tuple[int, str]


class _Unifier:
    """Unification of the axes of all calls, by position."""

    def __init__(self, layout: Layout, forced: int | None) -> None:
        self.layout = layout
        self.forced = forced
        self.parent: dict[_Axis, _Axis] = {}
        self.order: list[_Axis] = []
        self.variables: dict[str, tuple[tuple[_Axis | str, ...], str]] = {}
        self.dots: list[tuple[_Axis, ...] | None] = [None] * len(layout.calls)
        self.base: dict[_Axis, _Axis] = {}

    def run(self) -> None:
        """All calls in order: fed inputs first, then variables seen before, then new ones."""
        for index, call in enumerate(self.layout.calls):
            names = self.layout.names[index]
            slots = sorted(
                call.operation.inputs,
                key=lambda s: names[s] not in self.variables,
            )
            for slot in slots:
                self._slot(index, call, slot, names[slot])
            for name, shape in call.operation.shapes.items():
                if name not in call.operation.inputs and name in names:
                    dims = self._expand(index, shape)
                    self.variables.setdefault(names[name], (dims, call.operation.name))

    def _slot(self, index: int, call: Call, slot: str, variable: str) -> None:
        shape = call.operation.inputs[slot].shape
        if variable not in self.variables:
            self.variables[variable] = (self._expand(index, shape), call.operation.name)
            return
        have, owner = self.variables[variable]
        want_dots = DOTS in shape
        if want_dots and self.dots[index] is None and DOTS not in have:
            count = len(have) - (len(shape) - 1)
            if count >= 0:
                self.dots[index] = tuple(have[:count])  # type: ignore[arg-type]
        want = self._expand(index, shape)
        if (DOTS in have) != (DOTS in want):
            dotted, fixed = (have, want) if DOTS in have else (want, have)
            raise _RankNeededError(max(len(fixed) - (len(dotted) - 1), 0))
        if len(have) != len(want):
            raise SpecError(
                f"{variable} has {len(have)} axes in {owner}, but input {slot!r} of "
                f"{call.operation.name} is {' '.join(shape)!r}",
                hint="put a spec between them that changes the rank, or write the input with '...'",
            )
        for a, b in zip(have, want, strict=True):
            if a != DOTS:
                self._unify(a, b, variable, owner, call.operation.name)  # type: ignore[arg-type]

    def _expand(self, index: int, shape: Shape) -> tuple[_Axis | str, ...]:
        dims: list[_Axis | str] = []
        for dim in shape:
            if dim != DOTS:
                dims.append(self._axis(index, dim))
                continue
            if self.dots[index] is None and self.forced is not None:
                self.dots[index] = tuple(self._axis(index, f"b{k}") for k in range(self.forced))
            known = self.dots[index]
            dims.extend([DOTS] if known is None else list(known))
        return tuple(dims)

    def _axis(self, index: int, dim: str) -> _Axis:
        axis = (-1, dim) if is_number(dim) else (index, dim)
        if axis not in self.parent:
            self.parent[axis] = axis
            self.order.append(axis)
            if dim.startswith("#"):
                self.base[axis] = self._axis(index, dim[1:])
        return axis

    def _find(self, axis: _Axis) -> _Axis:
        while self.parent[axis] != axis:
            axis = self.parent[axis]
        return axis

    def _unify(self, first: _Axis, second: _Axis, variable: str, owner: str, user: str) -> None:
        a, b = self._find(first), self._find(second)
        if a == b:
            return
        broadcast = [x[1].startswith("#") for x in (a, b)]
        if broadcast[0] != broadcast[1]:
            narrow, wide = (a, b) if broadcast[0] else (b, a)
            if wide == (-1, "1"):
                self.parent[narrow] = wide
                return
            # A tensor that a call produced, or that is used elsewhere at full size, is at full size.
            self._unify(self.base[narrow], wide, variable, owner, user)
            self.parent[narrow] = self._find(wide)
            return
        if all(broadcast):
            self._unify(self.base[a], self.base[b], variable, owner, user)
        if a[0] == -1 and b[0] == -1:
            raise SpecError(
                f"{variable} has an axis of size {a[1]} in {owner}, but of size {b[1]} in {user}",
                hint="fixed sizes must agree; name the axis instead of giving a number",
            )
        keep, drop = (b, a) if b[0] == -1 else (a, b)
        self.parent[drop] = keep

    def write(self) -> None:
        """Names for the classes, into the layout."""
        names: dict[_Axis, str] = {}
        taken: dict[str, None] = {}
        for axis in [a for a in self.order if not a[1].startswith("#")]:
            root = self._find(axis)
            if root not in names:
                names[root] = axis[1] if root[0] == -1 else _unused(axis[1], taken)
                names[root] = root[1] if root[0] == -1 else names[root]
                taken[names[root]] = None
        for axis in [a for a in self.order if a[1].startswith("#")]:
            root = self._find(axis)
            if root not in names:
                names[root] = f"#{names[self._find(self.base[axis])]}"
        layout = self.layout
        layout._axes = {a: names[self._find(a)] for a in self.order}
        for index in range(len(layout.calls)):
            dots = self.dots[index] or ()
            layout.leading.append(tuple(names[self._find(a)] for a in dots))
            for k, a in enumerate(dots):
                layout._axes[index, f"...{k}"] = names[self._find(a)]
        layout.shapes = {
            v: tuple(d if isinstance(d, str) else names[self._find(d)] for d in dims)
            for v, (dims, _) in self.variables.items()
        }


def paths(chain: Chain, name: str) -> list[str]:
    """The chain rule along each path from the result to a variable, as einsum patterns in letters."""
    found: list[list[tuple[str, str]]] = []

    def walk(variable: str, path: list[tuple[str, str]]) -> None:
        if variable == name:
            found.append(path)
            return
        for node in chain.nodes:
            if node.result == variable:
                for source in node.local:
                    walk(source, [*path, (variable, source)])

    walk(chain.result, [])
    return [_pattern(chain, path) for path in found if path]


def _pattern(chain: Chain, path: list[tuple[str, str]]) -> str:
    supply = iter(free_alphabet(()))
    first = path[0][0]
    letters = {first: "".join(next(supply) for _ in chain._dims(first))}
    groups, names = [], []
    for result, source in path:
        letters[source] = "".join(next(supply) for _ in chain._dims(source))
        groups.append(letters[result] + letters[source])
        names.append(f"∂{result}/∂{source}")
    output = letters[first] + letters[path[-1][1]]
    return f"einsum('{','.join(groups)}->{output}', {', '.join(names)})"
