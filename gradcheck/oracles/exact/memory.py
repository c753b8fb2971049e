"""What one random evaluation remembers: opaque values and selectors by argument.

The value of an opaque function is a fresh random residue for each distinct argument. Arguments are
told apart by their residues in *all* lanes, so that two of them are confused only if they collide in
every lane at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.oracles.exact.degrees import Bound

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.oracles.exact.primes import Field, Residues

    Key = tuple[int, ...]

_BLOCK = 128


class Memory:
    """Tables of residues by function and argument.

    Attributes:
        met: For each function, how many distinct arguments it met and a bound on all of them.
        sizes: A bound on all values of a function, where these may be composed ones.
    """

    def __init__(self, field: Field, rng: np.random.Generator) -> None:
        self.field = field
        self.rng = rng
        self.tables: dict[str, dict[Key, Key]] = {}
        self.met: dict[str, tuple[int, Bound]] = {}
        self.sizes: dict[str, Bound] = {}
        self._blocks: dict[bool, list[Key]] = {}

    def holds(self, name: str, bound: Bound) -> Bound:
        """Note that values of this size stand in a table; the size of all of them."""
        known = self.sizes.get(name)
        if known is None or (known is not bound and not known.covers(bound)):
            known = self.sizes[name] = bound if known is None else known.plus(bound)
        return known

    def fresh(self, *, fourth: bool) -> Key:
        """A random residue other than 0 in each lane, or its fourth power."""
        block = self._blocks.setdefault(fourth, [])
        if not block:
            drawn = self.field.random(self.rng, (_BLOCK,), fourth=fourth)
            block.extend(zip(*drawn.tolist(), strict=True))
        return block.pop()

    def table(self, name: str) -> dict[Key, Key]:
        """The known values of one function."""
        return self.tables.setdefault(name, {})

    def look_up(
        self, name: str, values: Residues, bound: Bound, make: Callable[[Key], Key]
    ) -> Residues:
        """The function of each entry; `make` says what it is of an argument not met before."""
        table = self.table(name)
        before = len(table)
        found = []
        for key in keys_of(values):
            value = table.get(key)
            if value is None:
                value = table[key] = make(key)
            found.append(value)
        if len(table) > before:
            _, known = self.met.get(name, (0, Bound()))
            self.met[name] = (len(table), known.plus(bound))
        return residues(found, values.shape)

    def negated(self, key: Key) -> Key:
        """The argument -u."""
        return tuple(-x % p for x, p in zip(key, self.field.primes, strict=True))

    def inverted(self, key: Key) -> Key:
        """The argument 1/u."""
        return tuple(pow(x, -1, p) for x, p in zip(key, self.field.primes, strict=True))

    def without(self, names: tuple[str, ...]) -> Memory:
        """A copy that has forgotten the tables so called: what depends on them is drawn anew."""
        other = Memory(self.field, self.rng)
        other.tables = {n: dict(t) for n, t in self.tables.items() if not n.startswith(names)}
        other.met, other.sizes = dict(self.met), dict(self.sizes)
        return other


def keys_of(values: Residues) -> list[Key]:
    """Each entry's residues in all lanes."""
    return list(zip(*values.reshape(values.shape[0], -1).tolist(), strict=True))


def residues(found: list[Key], shape: tuple[int, ...]) -> Residues:
    """The array of such entries."""
    whole: Any = np.array(found, dtype=np.int64).reshape(-1, shape[0])
    return np.ascontiguousarray(whole.T).reshape(shape)
