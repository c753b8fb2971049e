"""Names and axes of a graph of calls: which variables are one, and which axes must be one.

Axes are unified by position with a union-find, each call's axes apart from every other's at first
(so that the `n` of one spec is not captured by the `n` of the next), and then named: after the first
call that names them, with a number behind where that name is taken.
"""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.shapes import DOTS, is_number
from gradcheck.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from gradcheck.algebra.shapes import Shape
    from gradcheck.chain import Call


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
    _axes: list[dict[str, str]] = field(default_factory=list)

    def axis_of(self, index: int) -> Callable[[str], str]:
        """The chain's name for an axis of a call."""
        return lambda axis: axis if is_number(axis) else self._axes[index].get(axis, axis)

    def axes_of_call(self, index: int) -> list[str]:
        """The names that a call's operation has for its axes."""
        return list(self._axes[index])


def arrange(root: Call, fed: Iterable[Arrangement] = ()) -> Arrangement:
    """The graph that ends in a call, its variables named and its axes unified.

    Args:
        root: The last call.
        fed: The arrangements of the chains that feed it. The graph usually begins with all calls of
            one of them, and only what comes after those is arranged anew.

    Raises:
        SpecError: Where ranks or fixed sizes do not fit, naming the variable and both calls.
    """
    arrangements = list(fed)
    calls = _ordered(root, arrangements)
    begun = [a for a in arrangements if a.begins(calls)]
    start = max(begun, key=lambda a: len(a.calls)).copy() if begun else Arrangement()
    forced = None
    while True:
        try:
            start.extend(calls)
        except _RankNeededError as need:
            forced = need.rank
        except _NameTakenError:
            forced = None
        else:
            return start
        start = Arrangement(forced)


def _ordered(root: Call, begun: list[Arrangement]) -> list[Call]:
    """The calls of a graph, each after those that feed it: without recursion, for graphs are deep."""
    first = next((v for v in root.arguments.values() if not isinstance(v, str)), None)
    known = next((a.calls for a in begun if a.calls[-1] is first), [])
    found: dict[int, Call] = dict(zip(map(id, known), known, strict=True))
    pending: list[tuple[Call, Iterator[Any]]] = [(root, iter(root.arguments.values()))]
    while pending:
        call, values = pending[-1]
        fed = next((v for v in values if not isinstance(v, str) and id(v) not in found), None)
        if fed is not None:
            pending.append((fed, iter(fed.arguments.values())))
        else:
            pending.pop()
            found[id(call)] = call
    return list(found.values())


class _RankNeededError(Exception):
    """The chain's `...` meets a fixed number of axes: start again with that many."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        super().__init__()


class _NameTakenError(Exception):
    """A new variable has the name that was given to a result: start again, variables come first."""


class Arrangement:
    """Names and unified axes of the calls so far; more calls may follow.

    Attributes:
        calls: The calls, each after those that feed it.
        names: For each call, the chain's name of each of the operation's names.
        taken: All names of variables and parameters.
        mixed: Whether a variable is an integer in one place and may be something else in another.
    """

    def __init__(self, forced: int | None = None) -> None:
        self.calls: list[Call] = []
        self.names: list[dict[str, str]] = []
        self.taken: dict[str, None] = {}
        self.mixed = False
        self._unifier = _Unifier(forced)
        self._leaves: dict[str, str] = {}
        self._results: dict[int, str] = {}
        self._numbers: dict[str, int] = {}

    def begins(self, calls: list[Call]) -> bool:
        """Whether the graph of these calls begins with those that are arranged here."""
        return calls[: len(self.calls)] == self.calls

    def copy(self) -> Arrangement:
        """One that can be extended while this one stays as it is."""
        other = Arrangement()
        for name, value in self.__dict__.items():
            setattr(other, name, value if isinstance(value, bool) else value.copy())
        return other

    def extend(self, calls: list[Call]) -> None:
        """The calls that are new among these, named and unified with those before.

        Raises:
            SpecError: Where ranks or fixed sizes do not fit.
        """
        first = len(self.calls)
        self._name_leaves(calls[first:])
        for index, call in enumerate(calls[first:], first):
            self.calls.append(call)
            self.names.append(self._named(call))
            self._unifier.add(index, call, self.names[index])

    def _name_leaves(self, calls: list[Call]) -> None:
        """Leaves keep their names, whatever is called so among the results."""
        for call in calls:
            inputs = call.operation.inputs
            leaves = {v: inputs[n].kind for n, v in call.arguments.items() if isinstance(v, str)}
            leaves.update((v, "") for v in call.params.values() if isinstance(v, str))
            for name, kind in leaves.items():
                if name in self.taken and name not in self._leaves:
                    raise _NameTakenError
                seen = self._leaves.setdefault(name, kind)
                self.mixed |= seen != kind and not {seen, kind}.isdisjoint({"labels", "integers"})
                self.taken[name] = None

    def _named(self, call: Call) -> dict[str, str]:
        """The chain's names; outputs get theirs with _2, _3, … behind where it is taken."""
        given = call.arguments.items()
        names = {n: v if isinstance(v, str) else self._results[id(v)] for n, v in given}
        names.update({n: v for n, v in call.params.items() if isinstance(v, str)})
        for name in call.operation.shapes:
            if name not in names and name not in call.params:
                names[name] = _unused(name, self.taken, self._numbers)
                self.taken[names[name]] = None
        self._results[id(call)] = names[call.operation.result]
        return names

    def layout(self) -> Layout:
        """The layout, its axes named."""
        layout = Layout(list(self.calls), list(self.names), taken=dict(self.taken))
        self._unifier.write(layout)
        return layout


def _unused(name: str, taken: Mapping[str, None], numbers: dict[str, int]) -> str:
    """The name, with the next free number where it is taken; names are never given back."""
    if name not in taken:
        return name
    number = numbers.get(name, 2)
    while f"{name}_{number}" in taken:
        number += 1
    numbers[name] = number
    return f"{name}_{number}"


_Axis = tuple[int, str]


class _Unifier:
    """Unification of the axes of all calls, by position."""

    def __init__(self, forced: int | None) -> None:
        self.forced = forced
        self.parent: dict[_Axis, _Axis] = {}
        self.order: list[_Axis] = []
        self.variables: dict[str, tuple[tuple[_Axis | str, ...], str]] = {}
        self.dots: list[tuple[_Axis, ...] | None] = []
        self.base: dict[_Axis, _Axis] = {}

    def copy(self) -> _Unifier:
        """One that can be extended while this one stays as it is."""
        other = _Unifier(self.forced)
        for name in ("parent", "order", "variables", "dots", "base"):
            setattr(other, name, getattr(self, name).copy())
        return other

    def add(self, index: int, call: Call, names: Mapping[str, str]) -> None:
        """The next call: fed inputs first, then variables seen before, then new ones."""
        self.dots.append(None)
        for slot in sorted(call.operation.inputs, key=lambda s: names[s] not in self.variables):
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

    def write(self, layout: Layout) -> None:
        """Names for the classes, into the layout."""
        names = self._class_names()
        layout._axes = [{} for _ in self.dots]
        for axis in self.order:
            if axis[0] >= 0:
                layout._axes[axis[0]][axis[1]] = names[self._find(axis)]
        for index, own in enumerate(self.dots):
            layout.leading.append(tuple(names[self._find(a)] for a in own or ()))
            layout._axes[index].update((f"...{k}", a) for k, a in enumerate(layout.leading[index]))
        layout.shapes = {
            v: tuple(d if isinstance(d, str) else names[self._find(d)] for d in dims)
            for v, (dims, _) in self.variables.items()
        }

    def _class_names(self) -> dict[_Axis, str]:
        names: dict[_Axis, str] = {}
        taken: dict[str, None] = {}
        numbers: dict[str, int] = {}
        for axis in [a for a in self.order if not a[1].startswith("#")]:
            root = self._find(axis)
            if root not in names:
                fixed = root[0] == -1
                names[root] = root[1] if fixed else _unused(axis[1], taken, numbers)
                taken[names[root]] = None
        for axis in [a for a in self.order if a[1].startswith("#")]:
            root = self._find(axis)
            if root not in names:
                names[root] = f"#{names[self._find(self.base[axis])]}"
        return names


# A longer text is shortened in the middle; what several calls share is called by its name in it.
LONGEST = 300
ENDS = 40


def shown(arranged: Arrangement) -> str:
    """The graph as one would write it: `a >> b`, or calls.

    What would be longer than `LONGEST` is shortened, with the number of calls and a fingerprint of the
    whole: two graphs that begin and end alike are not called the same.
    """
    whole: dict[int, str] = {}
    for call in arranged.calls:
        fed = [v for v in call.arguments.values() if not isinstance(v, str)]
        if all(id(v) in whole for v in fed) and len(text := _text(call, whole)) <= LONGEST:
            whole[id(call)] = text
    return whole.get(id(arranged.calls[-1])) or _shortened(arranged)


def _shortened(arranged: Arrangement) -> str:
    uses = Counter(id(v) for c in arranged.calls for v in c.arguments.values())
    texts: dict[int, str] = {}
    prints: dict[int, int] = {}
    for call, names in zip(arranged.calls, arranged.names, strict=True):
        text = _text(call, texts)
        half = LONGEST // 2
        cut = text if len(text) <= 2 * LONGEST else f"{text[:half]} … {text[-half:]}"
        texts[id(call)] = names[call.operation.result] if uses[id(call)] > 1 else cut
        parts = [v if isinstance(v, str) else prints[id(v)] for v in call.arguments.values()]
        described = repr((call.operation.name, parts, call.params, call.where))
        prints[id(call)] = zlib.crc32(described.encode())
    root = id(arranged.calls[-1])
    start, end = texts[root][:ENDS], texts[root][-ENDS:]
    return f"{start} … {end} [{len(arranged.calls)} calls, {prints[root]:08x}]"


def _text(call: Call, texts: Mapping[int, str]) -> str:
    """A call in the texts of those that feed it."""
    values = list(call.arguments.items())
    (slot, first), rest = values[0], values[1:]
    plain = all(v == n for n, v in rest) and not call.where
    fixed = [f"{n}={v!r}" for n, v in call.params.items() if v != n]
    if call.operation.name in ("plus", "minus"):
        parts = [v if isinstance(v, str) else texts[id(v)] for _, v in values]
        return f" {'+' if call.operation.name == 'plus' else '-'} ".join(parts)
    if not isinstance(first, str) and plain and not fixed and "(" not in (left := texts[id(first)]):
        return f"{left} >> {call.operation.name}"
    if first == slot and plain and not fixed:
        return call.operation.name
    written = [f'"{v}"' if isinstance(v, str) else texts[id(v)] for _, v in values]
    return f"{call.operation.name}({', '.join([*written, *fixed])})"
