"""Index expressions with symbolic sizes, in normal form.

A form is a sum of monomials in the entries of tensors ("atoms"): a rational coefficient, powers of
scalars (axis sizes, primes, π), powers of entries, Kronecker deltas among the free letters, summed
over the bound ones. Free letters are the integers 0 … rank − 1, in the order of the axes; bound
letters follow. Monomials are kept in a normal form (equal entries merged, deltas eliminated,
canonical names for bound letters), so that equal forms are equal dictionaries.

Source: maths of index expressions; canonical naming of bound letters is graph canonisation, done here
by colour refinement and then by trying the permutations inside each colour class.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from gradcheck.algebra.canonical.implied import without_implied
from gradcheck.algebra.canonical.naming import canonical
from gradcheck.algebra.canonical.undecided import DividesByZero, Undecided

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gradcheck.algebra.canonical.atoms import Atom

# A product of more monomials than this is not multiplied out.
MOST_PRODUCTS = 5_000


class Entry(NamedTuple):
    """A power of one entry of an atom."""

    atom: Atom
    letters: tuple[int, ...]
    power: Fraction


class Key(NamedTuple):
    """A monomial without its coefficient."""

    scalars: tuple[tuple[str, Fraction], ...]
    entries: tuple[Entry, ...]
    deltas: tuple[tuple[int, int], ...]


ONE = Key((), (), ())


@dataclass(frozen=True)
class Form:
    """A sum of monomials over the same free letters.

    Attributes:
        axes: The axis of each free letter; "1" for an axis of size one.
        terms: The coefficient of each monomial.
    """

    axes: tuple[str, ...]
    terms: Mapping[Key, Fraction]

    @property
    def rank(self) -> int:
        """The number of free letters."""
        return len(self.axes)

    @property
    def is_zero(self) -> bool:
        """Whether it is 0 at every size."""
        return not self.terms

    def key(self) -> tuple[object, ...]:
        """Equal for equal forms: what an atom that is defined by this form is known by."""
        return (self.axes, frozenset(self.terms.items()))

    def __add__(self, other: Form) -> Form:
        return build(self.axes, [*self.terms.items(), *other.terms.items()], normal=True)

    def __sub__(self, other: Form) -> Form:
        return self + other.times(Fraction(-1))

    def times(self, number: Fraction) -> Form:
        """A rational multiple."""
        return Form(self.axes, {k: c * number for k, c in self.terms.items()} if number else {})

    def __mul__(self, other: Form) -> Form:
        """The product of two forms over the same free letters.

        Raises:
            Undecided: If it has too many monomials.
        """
        if len(self.terms) * len(other.terms) > MOST_PRODUCTS:
            raise Undecided(f"more than {MOST_PRODUCTS} monomials; split it into links of a chain")
        items = [
            (_product(a, b, self.rank), x * y)
            for a, x in self.terms.items()
            for b, y in other.terms.items()
        ]
        return build(self.axes, items)


def build(
    axes: tuple[str, ...], items: Iterable[tuple[Key, Fraction]], *, normal: bool = False
) -> Form:
    """A form from monomials, like ones added."""
    terms: dict[Key, Fraction] = {}
    for raw, coefficient in items:
        for key, factor in ((raw, Fraction(1)),) if normal else _normal_terms(axes, raw):
            total = terms.get(key, Fraction(0)) + coefficient * factor
            if total:
                terms[key] = total
            else:
                terms.pop(key, None)
    return Form(axes, terms)


def _normal_terms(axes: tuple[str, ...], raw: Key) -> Iterable[tuple[Key, Fraction]]:
    """A monomial in normal form: one term, or several where letters meet in a function's argument."""
    raw = _star(raw)
    met = next((e for e in raw.entries if meets(e)), None)
    if met is None:
        return (normalise(raw, len(axes)),)
    from gradcheck.algebra.canonical.functions import renewed

    rest = raw._replace(entries=tuple(e for e in raw.entries if e is not met))
    common, (key, letters) = freed(axes, rest, met)
    form = build(common, [(key, Fraction(1))]) * relettered(renewed(met), common, letters)
    return tuple(summed(form, tuple(range(len(axes), len(common)))).terms.items())


# Functions whose argument is looked at again where letters of an entry are one: exp(x[p] x[q]) is
# exp(x²) at p = q.
RENEWED = frozenset(
    ("sum", "exp", "log", "erf", "sigmoid", "tanh", "sin", "cos", "asin", "acos", "atan", "step")
)


def meets(e: Entry) -> bool:
    """Whether an entry is that of a function on a diagonal, whose argument may be simpler there."""
    return e.atom.kind in RENEWED and len(set(e.letters)) < len(e.letters)


def freed(
    axes: tuple[str, ...], key: Key, beside: Entry | None = None
) -> tuple[tuple[str, ...], tuple[Key, tuple[int, ...]]]:
    """A monomial with its bound letters free, behind the others.

    Args:
        axes: Of the free letters.
        key: The monomial.
        beside: One more entry, with letters of the same numbering.

    Returns:
        The axes of all letters, and over these the monomial and the letters of the entry beside it.
    """
    rank = len(axes)
    entries = key.entries if beside is None else (*key.entries, beside)
    bound = {
        s: a for e in entries for s, a in zip(e.letters, e.atom.axes, strict=True) if s >= rank
    }
    names = {s: rank + i for i, s in enumerate(sorted(bound))}
    common = (*axes, *(bound[s] for s in sorted(bound)))
    letters = () if beside is None else tuple(names.get(s, s) for s in beside.letters)
    return common, (_renamed(key, lambda s: names.get(s, s)), letters)


def constant(axes: tuple[str, ...], number: Fraction) -> Form:
    """A number along every axis."""
    return Form(axes, {ONE: number} if number else {})


def scalar(name: str, power: Fraction = Fraction(1)) -> Form:
    """A power of a size, a prime or π."""
    return Form((), {Key(((name, power),), (), ()): Fraction(1)})


def entry(atom: Atom, power: Fraction = Fraction(1)) -> Form:
    """An atom as a form over its own axes."""
    letters = tuple(range(len(atom.axes)))
    return build(atom.axes, [(Key((), (Entry(atom, letters, power),), ()), Fraction(1))])


def relettered(form: Form, axes: tuple[str, ...], letters: tuple[int, ...]) -> Form:
    """The form with its free letters placed among those of other axes; letters may coincide."""
    shift = len(axes)
    names = dict(enumerate(letters))

    def place(s: int) -> int:
        return names[s] if s < form.rank else s - form.rank + shift

    items = [(_renamed(key, place), c) for key, c in form.terms.items()]
    return build(axes, items)


def summed(form: Form, positions: tuple[int, ...]) -> Form:
    """The sum over some of the free letters, which become bound."""
    kept = [i for i in range(form.rank) if i not in positions]
    axes = tuple(form.axes[i] for i in kept)
    order = [*kept, *positions]
    names = {old: new for new, old in enumerate(order)}
    items = []
    for key, c in form.terms.items():
        raw = _renamed(key, lambda s: names.get(s, s))
        raw, factor = _bind(raw, len(kept), [form.axes[i] for i in positions])
        items.append((raw, c * factor))
    return build(axes, items)


def _bind(key: Key, rank: int, axes: list[str]) -> tuple[Key, Fraction]:
    """Letters from `rank` on become bound: deltas that hold one are carried out, unused ones counted."""
    factor = Fraction(1)
    scalars = dict(key.scalars)
    deltas = list(key.deltas)
    entries = list(key.entries)
    for offset, axis in enumerate(axes):
        letter = rank + offset
        touching = [d for d in deltas if letter in d]
        if touching:
            a, b = touching[0]
            other = b if a == letter else a
            deltas.remove(touching[0])
            deltas = [tuple(other if s == letter else s for s in d) for d in deltas]  # type: ignore[misc]
            deltas = [d for d in deltas if d[0] != d[1]]
            entries = [e._replace(letters=_swap(e.letters, letter, other)) for e in entries]
        elif not any(letter in e.letters for e in entries):
            if axis.isdigit():
                factor *= int(axis)
            else:
                scalars[axis] = scalars.get(axis, Fraction(0)) + 1
    return Key(tuple(scalars.items()), tuple(entries), tuple(deltas)), factor


def _swap(letters: tuple[int, ...], old: int, new: int) -> tuple[int, ...]:
    return tuple(new if s == old else s for s in letters)


def _renamed(key: Key, name: Callable[[int], int]) -> Key:
    entries = tuple(e._replace(letters=tuple(name(s) for s in e.letters)) for e in key.entries)
    return Key(key.scalars, entries, tuple((name(a), name(b)) for a, b in key.deltas))


def _product(a: Key, b: Key, rank: int) -> Key:
    used = max((s for e in a.entries for s in e.letters), default=-1)
    shift = max(used + 1, rank) - rank
    moved = _renamed(b, lambda s: s if s < rank else s + shift)
    scalars = dict(a.scalars)
    for name, power in b.scalars:
        scalars[name] = scalars.get(name, Fraction(0)) + power
    return Key(tuple(scalars.items()), a.entries + moved.entries, a.deltas + moved.deltas)


# ---------------------------------------------------------------------- normal form


def normalise(key: Key, rank: int) -> tuple[Key, Fraction]:
    """A monomial, its deltas carried out, in normal form; and the number that came out of it."""
    key = counted(key.entries, _merged(key), rank)
    key = _cancelled(key, rank)
    factor, scalars = _scalars(key.scalars)
    entries = canonical(key.entries, rank)
    return Key(scalars, entries, key.deltas), factor


def counted(
    before: tuple[Entry, ...], key: Key, rank: int, consumed: frozenset[int] = frozenset()
) -> Key:
    """A bound letter that no entry holds any more is a factor of its axis size.

    Args:
        before: The entries that held the letters.
        key: The monomial after entries were cancelled.
        rank: The number of free letters.
        consumed: Bound letters whose sum was carried out, which count for nothing.
    """
    axes = {s: a for e in before for s, a in zip(e.letters, e.atom.axes, strict=True) if s >= rank}
    left = {s for e in key.entries for s in e.letters}
    lost = [(axes[s], Fraction(1)) for s in axes if s not in left and s not in consumed]
    return key._replace(scalars=(*key.scalars, *lost)) if lost else key


def _scalars(
    pairs: Iterable[tuple[str, Fraction]],
) -> tuple[Fraction, tuple[tuple[str, Fraction], ...]]:
    """Whole powers of numbers become part of the coefficient."""
    factor, kept = Fraction(1), []
    powers: dict[str, Fraction] = {}
    for name, power in pairs:
        powers[name] = powers.get(name, Fraction(0)) + power
    for name, power in powers.items():
        if not power:
            continue
        if name.isdigit():
            whole = power.numerator // power.denominator
            factor *= Fraction(int(name)) ** whole
            power -= whole  # noqa: PLW2901
            if not power:
                continue
        kept.append((name, power))
    return factor, tuple(sorted(kept))


def _star(key: Key) -> Key:
    """Deltas as (first, other) for each class of equal free letters, entries on the first."""
    if not key.deltas:
        return key
    parent: dict[int, int] = {}

    def find(s: int) -> int:
        while parent.get(s, s) != s:
            s = parent[s]
        return s

    for a, b in key.deltas:
        low, high = sorted((find(a), find(b)))
        if low != high:
            parent[high] = low
    moved = _renamed(key, find)
    return moved._replace(deltas=tuple(sorted((find(s), s) for s in parent if find(s) != s)))


def _merged(key: Key) -> Key:
    """Equal entries as one power; selectors are 0 or 1, so their positive powers are themselves.

    Of selectors of which one implies the other, that one stays.
    """
    powers: dict[tuple[Atom, tuple[int, ...]], Fraction] = {}
    for atom, letters, power in key.entries:
        powers[atom, letters] = powers.get((atom, letters), Fraction(0)) + power
    entries = []
    for (atom, letters), power in powers.items():
        if not power:
            continue
        if atom.selects:
            if power < 0:
                raise DividesByZero(f"{atom.name} may be 0 and stands in a denominator")
            power = Fraction(1)  # noqa: PLW2901
        entries.append(Entry(atom, letters, power))
    return key._replace(entries=tuple(without_implied(entries)))


def _cancelled(key: Key, rank: int) -> Key:
    """Σ_k w[p,k] = 1 for selectors of a maximum; and a sum beside a negative power of itself."""
    changed = True
    while changed:
        changed = False
        for e in key.entries:
            rest = tuple(x for x in key.entries if x is not e)
            if e.atom.sums_to_one and e.power == 1 and _private(e.letters, rest, rank):
                gone = frozenset(e.letters[-1:])
                key = counted(key.entries, key._replace(entries=rest), rank, gone)
                changed = True
                break
            if e.power < 0 and e.atom.single is not None:
                found = _find_sum(e, rest, rank)
                if found is not None:
                    entries, gone = found
                    after = _merged(key._replace(entries=entries))
                    key, changed = counted(key.entries, after, rank, gone), True
                    break
    return key


def _private(letters: tuple[int, ...], rest: tuple[Entry, ...], rank: int) -> bool:
    """Whether the last letter is bound and occurs nowhere else."""
    if not letters:
        return False
    last = letters[-1]
    if last < rank or last in letters[:-1]:
        return False
    return not any(last in e.letters for e in rest)


def _find_sum(
    negative: Entry, rest: tuple[Entry, ...], rank: int
) -> tuple[tuple[Entry, ...], frozenset[int]] | None:
    """The entries with one copy of a sum's own monomial replaced by the sum, if it stands among them."""
    definition = negative.atom.single
    assert definition is not None
    inner = len(negative.letters)
    wanted = list(definition.entries)
    for chosen in matches(wanted, rest, dict(enumerate(negative.letters)), inner, rank):
        others = tuple(e for i, e in enumerate(rest) if i not in chosen.used)
        if not any(s in chosen.bound for e in others for s in e.letters):
            return (*others, negative._replace(power=negative.power + 1)), chosen.bound
    return None


class Match(NamedTuple):
    """Where a product stands within another.

    Attributes:
        used: The places of its entries in the pool.
        bound: The pool's letters that its bound letters stand for.
        names: The pool's letter for each of its own.
    """

    used: frozenset[int]
    bound: frozenset[int]
    names: dict[int, int]


def matches(
    wanted: list[Entry], pool: tuple[Entry, ...], names: dict[int, int], inner: int, rank: int
) -> Iterable[Match]:
    """Ways in which the wanted entries stand in the pool, their bound letters on bound letters."""

    def extend(k: int, names: dict[int, int], used: frozenset[int]) -> Iterable[Match]:
        if k == len(wanted):
            bound = frozenset(v for s, v in names.items() if s >= inner)
            # Σ_p x[p,p] is not Σ_pk x[p,k]: a bound letter stands for none that is given.
            apart = bound.isdisjoint(v for s, v in names.items() if s < inner)
            once = len(bound) == sum(s >= inner for s in names)
            if apart and once and all(v >= rank for v in bound):
                yield Match(used, bound, names)
            return
        for i, e in enumerate(pool):
            if i in used or e.atom is not wanted[k].atom or e.power != wanted[k].power:
                continue
            grown = dict(names)
            if all(
                grown.setdefault(s, t) == t
                for s, t in zip(wanted[k].letters, e.letters, strict=True)
            ):
                yield from extend(k + 1, grown, used | {i})

    return extend(0, names, frozenset())
