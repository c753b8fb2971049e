"""Random pairs of index expressions, and a tiny evaluator that knows no algebra.

Letters are texts such as "n0": the axis and a number. `a` has shape m n, `c` n, `g` n n; `t` is the sum
Σ_n a[m,n] c[n], `u` the sum of two terms a[m,n] + c[n], and `k` an opaque function of c[p] c[q], which on
its diagonal is `e`, that function of c[p]².
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.algebra.canonical import functions
from gradcheck.algebra.canonical.atoms import Table
from gradcheck.algebra.canonical.forms import (
    Form,
    Key,
    build,
    constant,
    entry,
    relettered,
    scalar,
    summed,
)

if TYPE_CHECKING:
    import random

PRIME = 2**31 - 1
SHAPES = ({"m": 4, "n": 5}, {"m": 5, "n": 4}, {"m": 5, "n": 6})
AXES = {"a": "mn", "c": "n", "g": "nn", "t": "m", "u": "mn", "k": "nn", "e": "n"}
LETTERS = ("m0", "m1", "n0", "n1", "n2")


@dataclass(frozen=True)
class Factor:
    name: str
    letters: tuple[str, ...]
    power: int


@dataclass(frozen=True)
class Term:
    """A product summed over `bound`, whether or not the letters occur."""

    coefficient: Fraction
    sizes: tuple[tuple[str, int], ...]
    factors: tuple[Factor, ...]
    deltas: tuple[tuple[str, str], ...]
    bound: tuple[str, ...]


@dataclass(frozen=True)
class Expression:
    free: tuple[str, ...]
    terms: tuple[Term, ...]


# ---------------------------------------------------------------------- generation


def expression(chance: random.Random) -> Expression:
    """A sum of one to three terms over up to three free letters."""
    free = tuple(sorted(s for s in LETTERS if chance.random() < 0.4)[:3])
    return Expression(free, tuple(term(chance, free) for _ in range(chance.randint(1, 3))))


def term(chance: random.Random, free: tuple[str, ...]) -> Term:
    """A product of up to four factors and a delta, with up to three bound letters."""
    others = [s for s in LETTERS if s not in free]
    bound = tuple(chance.sample(others, min(len(others), chance.randint(0, 3))))
    known = free + bound
    factors = [_factor(chance, known) for _ in range(chance.randint(1, 4))]
    pairs = [(x, y) for x in known for y in known if x < y and x[0] == y[0]]
    deltas = (chance.choice(pairs),) if pairs and chance.random() < 0.25 else ()
    return Term(
        Fraction(chance.choice((-3, -1, 1, 2, 5)), chance.choice((1, 1, 2))),
        ((chance.choice("mn"), chance.choice((-1, 1))),) if chance.random() < 0.3 else (),
        tuple(f for f in factors if f is not None),
        deltas,
        bound,
    )


def _factor(chance: random.Random, known: tuple[str, ...]) -> Factor | None:
    """A random factor."""
    name = chance.choice("aaaccggtuke")
    choices = [[s for s in known if s[0] == axis] for axis in AXES[name]]
    if not all(choices):
        return None
    letters = tuple(chance.choice(c) for c in choices)
    power = chance.choice((-2, -1)) if name in "tu" else chance.choice((-1, 1, 1, 2))
    return Factor(name, letters, power)


# ---------------------------------------------------------------------- sound rewriting


def rewritten(chance: random.Random, old: Expression) -> Expression:
    """An equal expression, by a few sound rules."""
    terms = list(old.terms)
    for _ in range(chance.randint(1, 4)):
        i = chance.randrange(len(terms))
        rule = chance.choice(RULES)
        terms[i : i + 1] = rule(chance, terms[i], old.free)
    chance.shuffle(terms)
    return replace(old, terms=tuple(terms))


def _moved(x: Term, names: dict[str, str]) -> Term:
    def to(letters: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(names.get(s, s) for s in letters)

    return replace(
        x,
        factors=tuple(replace(f, letters=to(f.letters)) for f in x.factors),
        deltas=tuple((names.get(a, a), names.get(b, b)) for a, b in x.deltas),
        bound=to(x.bound),
    )


def _fresh(x: Term, axis: str) -> str:
    used = {*x.bound, *LETTERS}
    return next(f"{axis}{i}" for i in range(3, 99) if f"{axis}{i}" not in used)


def _rename(chance: random.Random, x: Term, _free: tuple[str, ...]) -> list[Term]:
    if not x.bound:
        return [x]
    letter = chance.choice(x.bound)
    return [_moved(x, {letter: _fresh(x, letter[0])})]


def _reorder(chance: random.Random, x: Term, _free: tuple[str, ...]) -> list[Term]:
    factors = tuple(chance.sample(x.factors, len(x.factors)))
    return [replace(x, factors=factors, deltas=tuple((b, a) for a, b in x.deltas))]


def _insert_delta(chance: random.Random, x: Term, _free: tuple[str, ...]) -> list[Term]:
    """f[p] = Σ_q δ[p,q] f[q], for one factor."""
    if not x.factors:
        return [x]
    i = chance.randrange(len(x.factors))
    factor = x.factors[i]
    k = chance.randrange(len(factor.letters))
    old, new = factor.letters[k], _fresh(x, factor.letters[k][0])
    letters = (*factor.letters[:k], new, *factor.letters[k + 1 :])
    factors = (*x.factors[:i], replace(factor, letters=letters), *x.factors[i + 1 :])
    return [replace(x, factors=factors, deltas=(*x.deltas, (old, new)), bound=(*x.bound, new))]


def _insert_power(chance: random.Random, x: Term, free: tuple[str, ...]) -> list[Term]:
    """1 = f**k f**-k."""
    found = _factor(chance, free + x.bound)
    if found is None:
        return [x]
    return [replace(x, factors=(found, *x.factors, replace(found, power=-found.power)))]


def _count(chance: random.Random, x: Term, _free: tuple[str, ...]) -> list[Term]:
    """1 = Σ_q 1/n."""
    axis = chance.choice("mn")
    return [replace(x, sizes=(*x.sizes, (axis, -1)), bound=(*x.bound, _fresh(x, axis)))]


def _split(chance: random.Random, x: Term, _free: tuple[str, ...]) -> list[Term]:
    part = x.coefficient * Fraction(chance.choice((-1, 1, 2)), 3)
    return [replace(x, coefficient=part), replace(x, coefficient=x.coefficient - part)]


def _insert_sum(chance: random.Random, x: Term, free: tuple[str, ...]) -> list[Term]:
    """1 = a/u + c/u."""
    found = [[s for s in free + x.bound if s[0] == axis] for axis in "mn"]
    if not all(found):
        return [x]
    m, n = map(chance.choice, found)
    power = chance.choice((1, 1, 2))
    below = Factor("u", (m, n), -power)
    above = (Factor("u", (m, n), power - 1),) if power > 1 else ()
    parts = (Factor("a", (m, n), 1), Factor("c", (n,), 1))
    return [replace(x, factors=(part, *x.factors, *above, below)) for part in parts]


def _diagonal(_chance: random.Random, x: Term, _free: tuple[str, ...]) -> list[Term]:
    """k[p,p] = e[p]."""

    def one(f: Factor) -> Factor:
        if f.name == "k" and f.letters[0] == f.letters[1]:
            return Factor("e", f.letters[:1], f.power)
        return Factor("k", f.letters * 2, f.power) if f.name == "e" else f

    return [replace(x, factors=tuple(map(one, x.factors)))]


RULES = (
    _rename, _reorder, _insert_delta, _insert_power, _count, _split, _insert_sum, _diagonal,
)  # fmt: skip


# ---------------------------------------------------------------------- edits


def edited(chance: random.Random, old: Expression) -> Expression:
    """A small edit, which may or may not change the value."""
    i = chance.randrange(len(old.terms))
    x = old.terms[i]
    edit = chance.choice((_number, _size, _letter, _letter, _power, _delta, _drop))
    return replace(old, terms=(*old.terms[:i], edit(chance, x, old.free), *old.terms[i + 1 :]))


def _number(chance: random.Random, x: Term, _free: tuple[str, ...]) -> Term:
    return replace(x, coefficient=x.coefficient * chance.choice((-1, 2, 1 + Fraction(1, 10**12))))


def _size(chance: random.Random, x: Term, _free: tuple[str, ...]) -> Term:
    return replace(x, sizes=(*x.sizes, (chance.choice("mn"), chance.choice((-1, 1)))))


def _letter(chance: random.Random, x: Term, free: tuple[str, ...]) -> Term:
    if not x.factors:
        return x
    i = chance.randrange(len(x.factors))
    f = x.factors[i]
    k = chance.randrange(len(f.letters))
    pool = free + x.bound
    new = chance.choice([s for s in pool if s[0] == f.letters[k][0]])
    changed = replace(f, letters=(*f.letters[:k], new, *f.letters[k + 1 :]))
    return replace(x, factors=(*x.factors[:i], changed, *x.factors[i + 1 :]))


def _power(chance: random.Random, x: Term, _free: tuple[str, ...]) -> Term:
    if not x.factors:
        return x
    i = chance.randrange(len(x.factors))
    changed = replace(x.factors[i], power=x.factors[i].power + chance.choice((-1, 1)))
    return replace(x, factors=(*x.factors[:i], changed, *x.factors[i + 1 :]))


def _delta(chance: random.Random, x: Term, free: tuple[str, ...]) -> Term:
    known = free + x.bound
    pairs = [(p, q) for p in known for q in known if p < q and p[0] == q[0]]
    return replace(x, deltas=(*x.deltas, chance.choice(pairs))) if pairs else x


def _drop(chance: random.Random, x: Term, _free: tuple[str, ...]) -> Term:
    if not x.factors:
        return x
    i = chance.randrange(len(x.factors))
    return replace(x, factors=(*x.factors[:i], *x.factors[i + 1 :]))


# ---------------------------------------------------------------------- as forms


class Forms:
    """Expressions as forms over one table of atoms."""

    def __init__(self) -> None:
        self.table = Table()
        own = {n: entry(self.table.get("input", n, tuple(AXES[n]))) for n in "acg"}
        spread = relettered(own["c"], ("m", "n"), (1,))
        own["t"] = summed(own["a"] * spread, (1,))
        own["u"] = own["a"] + spread
        pair = own["c"], ("n", "n")
        product = relettered(*pair, (0,)) * relettered(*pair, (1,))
        own["k"] = functions.opaque(self.table, "erf", product)
        own["e"] = functions.opaque(self.table, "erf", own["c"] * own["c"])
        self.own = own

    def of(self, x: Expression) -> Form:
        """The form of an expression."""
        axes = tuple(s[0] for s in x.free)
        total = Form(axes, {})
        for one in x.terms:
            total = total + self._term(one, x.free)
        return total

    def _term(self, x: Term, free: tuple[str, ...]) -> Form:
        letters = (*free, *x.bound)
        axes = tuple(s[0] for s in letters)
        result = constant(axes, x.coefficient)
        for axis, power in x.sizes:
            result = result * relettered(scalar(axis, Fraction(power)), axes, ())
        for f in x.factors:
            raised = functions.power(self.table, self.own[f.name], Fraction(f.power))
            result = result * relettered(raised, axes, tuple(map(letters.index, f.letters)))
        for a, b in x.deltas:
            low, high = sorted((letters.index(a), letters.index(b)))
            result = result * build(axes, [(Key((), (), ((low, high),)), Fraction(1))])
        return summed(result, tuple(range(len(free), len(letters))))


# ---------------------------------------------------------------------- brute force


class Brute:
    """Values at random residues of one prime, at three shapes."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.points = [self._tensors(rng, sizes) for sizes in SHAPES]
        self._powers: dict[tuple[int, str, int], np.ndarray] = {}

    def _power(self, i: int, name: str, power: int) -> np.ndarray:
        key = (i, name, power)
        if key not in self._powers:
            self._powers[key] = raised(self.points[i][name], power)
        return self._powers[key]

    def _tensors(self, rng: np.random.Generator, sizes: dict[str, int]) -> dict[str, np.ndarray]:
        while True:
            own = {
                n: rng.integers(1, PRIME, size=tuple(sizes[s] for s in AXES[n]), dtype=np.int64)
                for n in "acg"
            }
            own["t"] = np.sum(own["a"] * own["c"] % PRIME, axis=1) % PRIME
            own["u"] = (own["a"] + own["c"]) % PRIME
            own["k"] = opaque(own["c"][:, None] * own["c"] % PRIME)
            own["e"] = opaque(own["c"] * own["c"] % PRIME)
            if all(np.all(x) for x in own.values()):
                return own

    def equal(self, first: Expression, second: Expression) -> bool:
        """Whether two expressions have equal values at every shape."""
        return all(
            np.array_equal(self._value(i, first), self._value(i, second))
            for i in range(len(SHAPES))
        )

    def _value(self, i: int, x: Expression) -> np.ndarray:
        sizes = SHAPES[i]
        total = np.zeros(tuple(sizes[s[0]] for s in x.free), dtype=np.int64)
        for one in x.terms:
            total = (total + self._term(i, one, x.free)) % PRIME
        return total

    def _term(self, i: int, x: Term, free: tuple[str, ...]) -> np.ndarray:
        """The whole product over all letters, then its sum."""
        sizes = SHAPES[i]
        letters = (*free, *x.bound)
        shape = tuple(sizes[s[0]] for s in letters)
        grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij") if shape else []
        at = dict(zip(letters, grid, strict=True))
        number = x.coefficient
        for axis, power in x.sizes:
            number *= Fraction(sizes[axis]) ** power
        result = np.full(shape, number.numerator * pow(number.denominator, -1, PRIME) % PRIME)
        for f in x.factors:
            base = self._power(i, f.name, f.power)
            result = result * base[tuple(at[s] for s in f.letters)] % PRIME
        for a, b in x.deltas:
            result = result * (at[a] == at[b])
        return np.sum(result, axis=tuple(range(len(free), len(letters)))) % PRIME


def opaque(argument: np.ndarray) -> np.ndarray:
    """Something of so high a degree that no short identity holds for it."""
    return raised((argument + 7919) % PRIME, 123_456_791)


def raised(base: np.ndarray, power: int) -> np.ndarray:
    """A power modulo the prime, by squaring."""
    exponent = power % (PRIME - 1)
    result = np.ones_like(base)
    while exponent:
        if exponent & 1:
            result = result * base % PRIME
        base = base * base % PRIME
        exponent >>= 1
    return result
