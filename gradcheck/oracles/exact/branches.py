"""Decisions in prime fields: generic selectors first, then the 0 and 1 of a real point's cell.

A comparison x > y is a selector H with dH = 0, one for each difference x - y; maximum(x, y) is
H x + (1 - H) y, and the maximum of many Σ w_j z_j with Σ w = 1. With generic (random) selectors an
equality holds in every cell in which nothing that the claim divides by vanishes. With the selectors of
one cell it holds there only.

Where x - y is 0 as a function, nothing is open: x > y is false, and maximum(x, y) is x.
"""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.oracles.exact import shadow
from gradcheck.oracles.exact.array import (
    FieldArray,
    NeedsCellError,
    StraddleError,
    aligned,
    entries_of,
)
from gradcheck.oracles.exact.degrees import Bound, log2
from gradcheck.oracles.exact.memory import keys_of, residues
from gradcheck.running.namespace import axes_of, is_integral, plain

if TYPE_CHECKING:
    from gradcheck.oracles.exact.memory import Key

SELECTORS = ("step", "largest")

_EXACT = {
    "greater": lambda d: d > 0,
    "greater_equal": lambda d: d >= 0,
    "equal": lambda d: d == 0,
}
_PLAIN = {"greater": np.greater, "greater_equal": np.greater_equal, "equal": np.equal}


class Branches:
    """Comparisons and selections of the field namespace."""

    def compare(self, name: str, x: Any, y: Any, *, jumps: bool = True) -> Any:
        """The indicator of x > y, x >= y or x == y: booleans where both are known numbers.

        Without `jumps`, within something that is continuous where x = y, as a maximum is.
        """
        space: Any = self
        if plain(x, y):
            return _PLAIN[name](x, y)
        gap = space.subtract(x, y).still()
        if gap.exact is not None:
            decided = [bool(_EXACT[name](d)) for d in entries_of(gap.exact)]
            return np.array(decided, dtype=bool).reshape(gap.shape)
        if name == "equal":
            return self._equal(gap)
        if name == "greater_equal" and space.selected and not space.cell:
            # A gap that holds a selector may vanish in a whole cell, where ≥ and > differ.
            raise NeedsCellError
        return self._selector(gap, at_zero=1 if name == "greater_equal" else 0, jumps=jumps)

    def _equal(self, gap: FieldArray) -> Any:
        """Equal as functions, which generic selectors cannot tell."""
        space: Any = self
        if space.selected and not space.cell:
            raise NeedsCellError
        return ~np.any(gap.values, axis=0)

    def not_equal(self, x: Any, y: Any) -> Any:
        """X != y."""
        return np.logical_not(self.compare("equal", x, y))

    def _selector(self, gap: FieldArray, at_zero: int, *, jumps: bool) -> FieldArray:
        """The step of a difference."""
        space: Any = self
        memory = space.memory
        space.selected += 1
        zero = (0,) * space.field.count
        one = (1,) * space.field.count
        keys = keys_of(gap.values)
        balls = [None] * len(keys) if gap.shadow is None else list(gap.shadow.reshape(-1))
        table = memory.table("step")
        before = len(table)
        found = []
        for key, ball in zip(keys, balls, strict=True):
            if key == zero:
                found.append(one if at_zero else zero)
                continue
            if jumps:
                self._check_open(key, ball)
            if key not in table:
                table[key] = self._decided(key, ball)
                opposite = memory.negated(key)
                space.born[key] = space.born.get(opposite, space.selected)
            found.append(table[key])
        if len(table) > before:
            memory.met["step"] = (
                len(table),
                memory.met.get("step", (0, Bound()))[1].plus(gap.bound),
            )
        values = residues(found, gap.values.shape)
        truth = None
        if space.shadowed:
            truth = shadow.filled(
                [at_zero if k == zero else _side(b) for k, b in zip(keys, balls, strict=True)],
                gap.shape,
            )
        return self._indicator(values, truth)

    def _indicator(self, values: Any, truth: Any) -> FieldArray:
        space: Any = self
        if space.cell:
            exact = [Fraction(int(x)) for x in values[0].reshape(-1)]
            return space.constant(shadow.filled(exact, values.shape[1:]))  # type: ignore[no-any-return]
        balls = None
        if truth is not None:
            # An undecided one is no finite ball, so that no witness is made of it.
            balls = shadow.mapped(
                lambda t: shadow.ball(t) if t is not None else shadow.NOTHING, truth
            )
        return FieldArray(space, values[:, None], Bound(1.0), shadow=balls, truth=True)

    def _check_open(self, key: Key, ball: Any) -> None:
        """[u > 0] is 1 - [u < 0] where u is not 0: in a whole cell it may be, as Σ relu(x) is.

        Only the first selectors of a run are of differences that hold none themselves.

        Raises:
            NeedsCellError: Where a cell must be chosen to know.
        """
        space: Any = self
        opposite = space.memory.negated(key)
        if space.cell or opposite not in space.memory.table("step"):
            return
        if space.born.get(opposite, 2) > 1 or (ball is not None and _side(ball) is None):
            raise NeedsCellError

    def _decided(self, key: Key, ball: Any) -> Key:
        """The selector of a difference not met before: 1 - H of the opposite, random, or a cell's."""
        space: Any = self
        table = space.memory.table("step")
        mirrored = table.get(space.memory.negated(key))
        if mirrored is not None:
            return tuple((1 - x) % p for x, p in zip(mirrored, space.field.primes, strict=True))
        if not space.cell:
            drawn: Key = space.memory.fresh(fourth=False)
            return drawn
        side = _side(ball)
        if side is None:
            raise StraddleError
        return (side,) * len(key)

    # ------------------------------------------------------------------ selections

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        """X where the condition holds, else y."""
        space: Any = self
        if isinstance(condition, FieldArray):
            if condition.exact is not None:
                numbers = [c != 0 for c in entries_of(condition.exact)]
                condition = np.array(numbers, dtype=bool).reshape(condition.shape)
            elif not condition.truth:
                condition = self.not_equal(condition, 0)
            else:
                return self._blend(condition, space.asarray(x), space.asarray(y))
        mask = np.asarray(condition, dtype=bool)
        if plain(x, y) and (is_integral(x) or is_integral(y)):
            return np.where(mask, x, y)
        return self._picked(mask, space.asarray(x), space.asarray(y))

    def _picked(self, mask: Any, x: FieldArray, y: FieldArray) -> FieldArray:
        """A selection by known booleans."""
        space: Any = self
        if x.exact is not None and y.exact is not None:
            return space.constant(np.where(mask, x.exact, y.exact))  # type: ignore[no-any-return]
        ndim = max(mask.ndim, x.ndim, y.ndim)
        count = max(x.data.shape[1], y.data.shape[1])
        a, b = (space.padded(aligned(z.data, ndim), count) for z in (x, y))
        balls = None
        if x.shadow is not None and y.shadow is not None:
            balls = shadow.wrapped(np.where(mask, x.shadow, y.shadow))
        slope = (
            x.slope if y.slope is None else y.slope if x.slope is None else x.slope.plus(y.slope)
        )
        depth = min(space._depth(x, 1), space._depth(y, 1))
        return FieldArray(
            space,
            np.where(mask, a, b),
            x.bound.plus(y.bound),
            slope=slope,
            depth=depth,
            shadow=balls,
        )

    def _blend(self, chosen: FieldArray, x: FieldArray, y: FieldArray) -> FieldArray:
        """H x + (1 - H) y, with the ball of the branch that is taken."""
        space: Any = self
        blended: FieldArray = space.add(y, space.multiply(chosen, space.subtract(x, y)))
        if space.shadowed:
            truth = shadow.mapped(
                lambda h: None if not h.is_finite() else bool(h > 0), chosen.shadow
            )
            arrays = np.broadcast_arrays(truth, x.shadow, y.shadow)
            triples = zip(*(a.reshape(-1) for a in arrays), strict=True)
            picked = [shadow.NOTHING if t is None else a if t else b for t, a, b in triples]
            blended.shadow = shadow.filled(picked, arrays[0].shape)
        blended.recipe = None
        return blended

    def maximum(self, x: Any, y: Any) -> Any:
        """The larger one."""
        if plain(x, y):
            return np.maximum(x, y)
        # At a tie both branches are one value, so that > serves: there is nothing to tell apart.
        return self.where(self.compare("greater", x, y, jumps=False), x, y)

    def abs(self, x: Any) -> Any:
        """|x|: its sign times itself."""
        space: Any = self
        return np.abs(x) if is_integral(x) else space.multiply(self._signs(x, jumps=False), x)

    def sign(self, x: Any) -> Any:
        """-1, 0 or 1."""
        return np.sign(x) if is_integral(x) else self._signs(x, jumps=True)

    def _signs(self, x: Any, *, jumps: bool) -> Any:
        space: Any = self
        above = self.compare("greater", x, 0, jumps=jumps)
        below = self.compare("greater", 0, x, jumps=jumps)
        return space.subtract(space.asarray(above), space.asarray(below))

    def step(self, x: Any) -> Any:
        """1 where x > 0, else 0."""
        space: Any = self
        return space.asarray(self.compare("greater", x, 0))

    def max(self, x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
        """The largest entry: Σ w z, with one generic convex combination w for each set of entries."""
        space: Any = self
        if is_integral(x):
            return np.max(x, axis=axis, keepdims=keepdims)
        x = space.asarray(x)
        axes = axes_of(axis, x.ndim)
        if x.exact is not None:
            return space.constant(np.asarray(np.max(x.exact, axis=axes, keepdims=keepdims), object))
        rest = tuple(i for i in range(x.ndim) if i not in axes)
        kept = tuple(x.shape[i] for i in rest)
        rows = space.reshape(space.permute_dims(x, rest + axes), (*kept, -1))
        top = self._largest(rows)
        if keepdims:
            top = space.reshape(top, tuple(1 if i in axes else n for i, n in enumerate(x.shape)))
        return top

    def _largest(self, rows: FieldArray) -> Any:
        space: Any = self
        count = rows.shape[-1]
        if count == 1:
            return space.index(rows, (..., 0))
        if count == 2:
            return self.maximum(space.index(rows, (..., 0)), space.index(rows, (..., 1)))
        space.selected += 1
        keys = keys_of(rows.values)
        places = rows.shape[:-1]
        groups = [keys[i : i + count] for i in range(0, len(keys), count)]
        tops = _tops(rows, groups)
        if space.cell:
            return self._at(rows, tops, places)
        weights = [w for group in groups for w in self._weights(group)]
        met, size = space.memory.met.get("largest", (0, Bound()))
        space.memory.met["largest"] = (met + len(keys), size.plus(rows.bound))
        values = residues(weights, rows.values.shape)
        chosen = FieldArray(space, values[:, None], Bound(1.0, log2(count)))
        bare = FieldArray(space, rows.data, rows.bound, slope=rows.slope)
        result = space.sum(space._product(chosen, bare), axis=-1)
        result.recipe = None
        if space.shadowed:
            picked = [
                shadow.NOTHING if top is None else row[top]
                for top, row in zip(tops, rows.shadow.reshape(-1, count), strict=True)
            ]
            result.shadow = shadow.filled(picked, places)
        return result

    def _at(self, rows: FieldArray, tops: list[int | None], places: tuple[int, ...]) -> Any:
        """The entries at known places along the last axis."""
        space: Any = self
        count = rows.shape[-1]
        wanted = [i * count + top for i, top in enumerate(tops) if top is not None]
        if len(wanted) < len(tops):
            raise StraddleError
        flat = space.reshape(rows, (-1,))
        return space.reshape(space.take(flat, np.array(wanted, dtype=np.int64), axis=0), places)

    def _weights(self, group: list[Key]) -> list[Key]:
        """Σ w = 1, by the entries in any order; entries that are equal share one weight."""
        space: Any = self
        memory = space.memory
        name = f"largest of {sorted(set(group))}"
        table = memory.table(name)
        distinct = sorted(set(group))
        if not table:
            others = [memory.fresh(fourth=False) for _ in distinct[1:]]
            total = [sum(w) for w in zip(*others, strict=True)] or [0] * space.field.count
            first = tuple((1 - t) % p for t, p in zip(total, space.field.primes, strict=True))
            table.update(zip(distinct, [first, *others], strict=True))
        zero = (0,) * space.field.count
        seen: set[Key] = set()
        weights = []
        for key in group:
            weights.append(zero if key in seen else table[key])
            seen.add(key)
        return weights


def _side(ball: Any) -> int | None:
    if ball is None:
        return None
    side = shadow.sign(ball)
    return None if side is None else int(side > 0)


def _tops(rows: FieldArray, groups: list[list[Key]]) -> list[int | None]:
    """The place of each row's largest entry at the real point; None where it does not say."""
    if rows.shadow is None or not groups:
        return [None] * len(groups)
    found = []
    for row, group in zip(rows.shadow.reshape(-1, len(groups[0])).tolist(), groups, strict=True):
        found.append(shadow.largest(row, functools.partial(_equal_keys, group)))
    return found


def _equal_keys(group: list[Key], i: int, j: int) -> bool:
    return group[i] == group[j]
