"""Powers and functions of forms: what is rational stays a form, what is not becomes an atom.

Identities used, each exact on the reals wherever its right-hand side is defined: exp(Σ c M) =
Π exp(M)^c, exp(log u) = u, log(Π u^k) = Σ k log u for positive u, and f(H u + (1 − H) v) =
H f(u) + (1 − H) f(v) for a selector H that is 0 or 1.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from gradcheck.algebra.canonical.forms import (
    ONE,
    Entry,
    Form,
    Key,
    build,
    constant,
    entry,
    relettered,
)
from gradcheck.algebra.canonical.naming import components
from gradcheck.algebra.canonical.undecided import DividesByZero, Undecided

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.algebra.canonical.atoms import Atom, Table

# Positive whole powers are multiplied out up to here.
LARGEST_POWER = 8
_MOST_SPLITS = 6


def power(table: Table, form: Form, exponent: Fraction, depth: int = 0) -> Form:
    """A rational power of each entry.

    Raises:
        Undecided: For a division by 0 or by a selector.
    """
    if exponent.denominator == 1 and 0 <= exponent <= LARGEST_POWER:
        result = constant(form.axes, Fraction(1))
        for _ in range(int(exponent)):
            result = result * form
        return result
    if form.is_zero and exponent > 0:
        return form
    if form.is_zero:
        raise DividesByZero("vacuous: it divides by an expression that is 0")
    selected = _selector(form)
    if selected is not None:
        return _split(form, selected, lambda f: power(table, f, exponent, depth + 1), depth)
    if any(key.deltas for key in form.terms):
        raise Undecided("a power of an expression with a Kronecker delta")
    if len(form.terms) == 1:
        return _power_of_monomial(table, form, exponent)
    content, rest = _content(form, whole=exponent.denominator == 1)
    factor = power(table, content, exponent) if content.terms != {ONE: Fraction(1)} else content
    return factor * _sum_atom(table, rest, exponent)


def _power_of_monomial(table: Table, form: Form, exponent: Fraction) -> Form:
    ((key, coefficient),) = form.terms.items()
    roots, groups = components(key.entries, form.rank)
    result = constant(form.axes, Fraction(1))
    if exponent.denominator != 1:
        roots, groups, kept = _by_sign(roots, groups)
        if kept or coefficient < 0:
            sign = Fraction(1 if coefficient > 0 else -1)
            alone = build(form.axes, [(Key((), kept, ()), sign)])
            result, coefficient = _sum_atom(table, alone, exponent), abs(coefficient)
    result = result * _number_power(form.axes, coefficient, exponent)
    scalars = tuple((n, p * exponent) for n, p in key.scalars)
    powers = tuple(e._replace(power=e.power * exponent) for e in roots)
    result = result * build(form.axes, [(Key(scalars, powers, ()), Fraction(1))])
    for group in groups:
        single = build(form.axes, [(Key((), tuple(group), ()), Fraction(1))])
        result = result * _sum_atom(table, single, exponent)
    return result


def _by_sign(
    roots: list[Entry], groups: list[list[Entry]]
) -> tuple[list[Entry], list[list[Entry]], tuple[Entry, ...]]:
    """Positive entries, sums that are not negative, and what may be negative: that stays together.

    √(x²) is |x|, not x, and √(uv) is not √u √v where the sums u and v are both negative.
    """
    positive = [e for e in roots if _positive(e)]
    even = [g for g in groups if all(map(_never_negative, g))]
    rest = [e for g in groups if g not in even for e in g]
    return positive, even, (*(e for e in roots if not _positive(e)), *rest)


def _positive(e: Entry) -> bool:
    """Whether the base of a power is positive: where a root of it is taken, it must be."""
    return e.atom.positive or e.power.denominator != 1


def _never_negative(e: Entry) -> bool:
    return _positive(e) or e.atom.selects or e.power.numerator % 2 == 0


def _number_power(axes: tuple[str, ...], number: Fraction, exponent: Fraction) -> Form:
    """A rational power of a number: whole powers exactly, the others as powers of primes."""
    if exponent.denominator == 1:
        return constant(axes, number ** int(exponent))
    scalars: dict[str, Fraction] = {}
    for value, sign in ((number.numerator, 1), (number.denominator, -1)):
        for prime, count in _factors(value).items():
            scalars[str(prime)] = scalars.get(str(prime), Fraction(0)) + sign * count * exponent
    return build(axes, [(Key(tuple(scalars.items()), (), ()), Fraction(1))])


def _factors(value: int) -> dict[int, int]:
    """The prime factors of a positive number (a large rest stays in one piece)."""
    found: dict[int, int] = {}
    p = 2
    while p * p <= value and p < 10_000:
        while value % p == 0:
            found[p] = found.get(p, 0) + 1
            value //= p
        p += 1
    if value > 1:
        found[value] = found.get(value, 0) + 1
    return found


def _content(form: Form, *, whole: bool) -> tuple[Form, Form]:
    """The common monomial of all terms, and the rest: content × rest = form."""
    keys = list(form.terms)
    scalars = _common([dict(k.scalars) for k in keys])
    entries = _common([_root_powers(k, form.rank, whole=whole) for k in keys])
    first = abs(form.terms[min(keys)])
    common = Key(
        tuple(scalars.items()),
        tuple(Entry(atom, letters, p) for (atom, letters), p in entries.items()),
        (),
    )
    inverse = Key(
        tuple((n, -p) for n, p in scalars.items()),
        tuple(Entry(atom, letters, -p) for (atom, letters), p in entries.items()),
        (),
    )
    content = build(form.axes, [(common, first)])
    return content, form * build(form.axes, [(inverse, 1 / first)])


def _root_powers(
    key: Key, rank: int, *, whole: bool
) -> dict[tuple[Atom, tuple[int, ...]], Fraction]:
    roots, _ = components(key.entries, rank)
    return {(e.atom, e.letters): e.power for e in roots if whole or e.atom.positive}


def _common(tables: list[dict]) -> dict:  # type: ignore[type-arg]
    names = set(tables[0]).intersection(*tables)
    found = {n: min(t[n] for t in tables) for n in names}
    ordered = sorted((n, p) for n, p in found.items())
    return {n: p for n, p in ordered if p}


def _sum_atom(table: Table, form: Form, exponent: Fraction) -> Form:
    """A power of an atom that stands for the whole form (1 where the form is 1)."""
    if form.terms == {ONE: Fraction(1)}:
        return form
    atom, letters = atom_of(table, "sum", form)
    return build(form.axes, [(Key((), (Entry(atom, letters, exponent),), ()), Fraction(1))])


def atom_of(
    table: Table, kind: str, form: Form, **properties: bool
) -> tuple[Atom, tuple[int, ...]]:
    """The atom that a function of a form is, and the form's letters on which it depends.

    Raises:
        Undecided: For a form with a delta, which an argument has no room for.
    """
    if any(k.deltas for k in form.terms):
        raise Undecided(f"a function ({kind}) of an expression with a Kronecker delta")
    used = tuple(
        sorted({s for k in form.terms for e in k.entries for s in e.letters if s < form.rank})
    )
    argument = _narrowed(form, used)
    known: dict[str, object] = dict(properties)
    if kind == "sum":
        known |= _of_sum(argument)
    name = f"{kind}#{len(table.atoms)}"
    axes = tuple(form.axes[s] for s in used)
    return table.get(kind, name, axes, argument=argument, **known), used


def _narrowed(form: Form, used: tuple[int, ...]) -> Form:
    """A form without deltas over those of its letters that occur."""
    names = {s: i for i, s in enumerate(used)}
    shift = len(used) - form.rank
    items = []
    for k, c in form.terms.items():
        entries = tuple(
            e._replace(letters=tuple(names[s] if s < form.rank else s + shift for s in e.letters))
            for e in k.entries
        )
        items.append((Key(k.scalars, entries, ()), c))
    return build(tuple(form.axes[s] for s in used), items)


def _of_sum(argument: Form) -> dict[str, object]:
    """What is known of a sum: its sign, and its monomial where it is one."""
    terms = argument.terms
    positive = all(c > 0 and all(e.atom.positive for e in k.entries) for k, c in terms.items())
    closed = positive and not any(map(surely_positive, terms))
    alone = next(iter(terms), None) if set(terms.values()) == {1} and len(terms) == 1 else None
    return {"positive": positive, "closed": closed, "single": alone}


def surely_positive(key: Key) -> bool:
    """Whether a monomial is > 0 at every size and point, but for its coefficient.

    The logarithm of a size may be 0, and so may an entry that is only known not to be negative.
    """
    certain = all(n.removeprefix("log(")[:1].isdigit() for n, _ in key.scalars if "log(" in n)
    return certain and all(e.atom.positive and not e.atom.closed for e in key.entries)


# ---------------------------------------------------------------------- selectors inside functions


def _selector(form: Form) -> tuple[Atom, tuple[int, ...]] | None:
    """A selector all of whose letters are free, which stands somewhere in the form."""
    for key in form.terms:
        for e in key.entries:
            if e.atom.selects and all(s < form.rank for s in e.letters):
                return e.atom, e.letters
    return None


def _split(
    form: Form,
    selected: tuple[Atom, tuple[int, ...]],
    function: Callable[[Form], Form],
    depth: int,
) -> Form:
    """f(H u + (1 − H) v) = H f(u) + (1 − H) f(v)."""
    if depth >= _MOST_SPLITS:
        raise Undecided(f"more than {_MOST_SPLITS} selectors stand inside one function")
    atom, letters = selected
    on, off = [], []
    for key, c in form.terms.items():
        without = tuple(e for e in key.entries if (e.atom, e.letters) != selected)
        on.append((key._replace(entries=without), c))
        if len(without) == len(key.entries):
            off.append((key, c))
    selector = build(form.axes, [(Key((), (Entry(atom, letters, Fraction(1)),), ()), Fraction(1))])
    rest = constant(form.axes, Fraction(1)) - selector
    return selector * function(build(form.axes, on)) + rest * function(build(form.axes, off))


# ---------------------------------------------------------------------- functions


def exp(table: Table, form: Form, depth: int = 0) -> Form:
    """The exponential: a product of powers of one atom a monomial."""
    selected = _selector(form)
    if selected is not None:
        return _split(form, selected, lambda f: exp(table, f, depth + 1), depth)
    result = constant(form.axes, Fraction(1))
    for key, c in sorted(form.terms.items()):
        if key.deltas:
            raise Undecided("exp of an expression with a Kronecker delta")
        result = result * _exp_of_monomial(table, form.axes, key, c)
    return result


def _exp_of_monomial(table: Table, axes: tuple[str, ...], key: Key, c: Fraction) -> Form:
    if key == ONE:
        return build(axes, [(Key((("e", c),), (), ()), Fraction(1))])
    if len(key.entries) == 1 and not key.scalars and key.entries[0].power == 1:
        e = key.entries[0]
        if e.atom.kind == "log" and all(s < len(axes) for s in e.letters):
            assert e.atom.argument is not None
            return power(table, relettered(e.atom.argument, axes, e.letters), c)
    single = build(axes, [(key, Fraction(1))])
    atom, letters = atom_of(table, "exp", single, positive=True)
    return build(axes, [(Key((), (Entry(atom, letters, c),), ()), Fraction(1))])


def log(table: Table, form: Form, depth: int = 0) -> Form:
    """The logarithm: a sum over the positive factors, and an atom for the rest."""
    if form.is_zero:
        raise Undecided("log of an expression that is 0")
    selected = _selector(form)
    if selected is not None:
        return _split(form, selected, lambda f: log(table, f, depth + 1), depth)
    if any(key.deltas for key in form.terms):
        raise Undecided("log of an expression with a Kronecker delta")
    content, rest = _content(form, whole=False)
    result = _log_of_content(table, content)
    if rest.terms == {ONE: Fraction(1)}:
        return result
    if len(rest.terms) == 1:
        return result + _log_of_monomial(table, rest)
    atom, letters = atom_of(table, "log", rest)
    return result + build(
        form.axes, [(Key((), (Entry(atom, letters, Fraction(1)),), ()), Fraction(1))]
    )


def _log_of_content(table: Table, content: Form) -> Form:
    """Log of a positive number, of sizes, and of positive entries."""
    ((key, c),) = content.terms.items()
    items: list[tuple[Key, Fraction]] = []
    for value, sign in ((c.numerator, 1), (c.denominator, -1)):
        for prime, count in _factors(value).items():
            items.append((Key(((f"log({prime})", Fraction(1)),), (), ()), Fraction(sign * count)))
    if any(n.startswith("log(") for n, _ in key.scalars):
        raise Undecided("log of the logarithm of a size or a number, whose sign is not known")
    items += [(Key(((f"log({n})", Fraction(1)),), (), ()), p) for n, p in key.scalars if n != "e"]
    items += [(ONE, p) for n, p in key.scalars if n == "e"]
    result = build(content.axes, items)
    for e in key.entries:
        result = result + _log_of_entry(table, content.axes, e)
    return result


def _log_of_monomial(table: Table, form: Form) -> Form:
    """Log of a product of sums (the positive entries are out already) and of what may be negative."""
    ((key, c),) = form.terms.items()
    roots, groups, kept = _by_sign(*components(key.entries, form.rank))
    result = build(form.axes, [])
    if kept or c != 1:
        alone = build(form.axes, [(Key((), kept, ()), c)])
        atom, letters = atom_of(table, "log", alone)
        result = build(
            form.axes, [(Key((), (Entry(atom, letters, Fraction(1)),), ()), Fraction(1))]
        )
    for group in groups:
        single = build(form.axes, [(Key((), tuple(group), ()), Fraction(1))])
        atom, letters = atom_of(table, "sum", single)
        roots.append(Entry(atom, letters, Fraction(1)))
    for e in roots:
        result = result + _log_of_entry(table, form.axes, e)
    return result


def _log_of_entry(table: Table, axes: tuple[str, ...], e: Entry) -> Form:
    """The logarithm of a power of one entry, which for exp is its argument."""
    if e.atom.kind == "exp":
        assert e.atom.argument is not None
        return relettered(e.atom.argument, axes, e.letters).times(e.power)
    if e.atom.kind == "sum":
        assert e.atom.argument is not None
        argument = relettered(e.atom.argument, axes, e.letters)
    else:
        argument = relettered(entry(e.atom), axes, e.letters)
    atom, letters = atom_of(table, "log", argument)
    return build(axes, [(Key((), (Entry(atom, letters, Fraction(1)),), ()), e.power)])


# What f(u) + f(−u) is where it is a number, and so f(0) is half of it: 1, or a rational multiple of π.
_CENTRES = {"sigmoid": (Fraction(1), ()), "acos": (Fraction(1), (("pi", Fraction(1)),))}


def opaque(table: Table, kind: str, form: Form, depth: int = 0) -> Form:
    """An atom of the argument with its first sign made +, for a function with a symmetry.

    sigmoid(−u) = 1 − sigmoid(u), acos(−u) = π − acos(u), cos(−u) = cos(u), and f(−u) = −f(u) for tanh,
    erf, sin, asin and atan.
    """
    selected = _selector(form)
    if selected is not None:
        return _split(form, selected, lambda f: opaque(table, kind, f, depth + 1), depth)
    if any(key.deltas for key in form.terms):
        raise Undecided(f"{kind} of an expression with a Kronecker delta")
    number, scalars = _CENTRES.get(kind, (Fraction(0), ()))
    if form.is_zero:
        value = Fraction(1) if kind == "cos" else number / 2
        return build(form.axes, [(Key(scalars, (), ()), value)] if value else [])
    if form.terms[min(form.terms)] < 0:
        turned = opaque(table, kind, form.times(Fraction(-1)))
        if kind == "cos":
            return turned
        return build(form.axes, [(Key(scalars, (), ()), number)]) - turned
    atom, letters = atom_of(table, kind, form, positive=kind == "sigmoid")
    return build(form.axes, [(Key((), (Entry(atom, letters, Fraction(1)),), ()), Fraction(1))])


def defined(table: Table, atom: Atom) -> Form | None:
    """Sigmoid and tanh through exp, for when the shorter forms do not meet."""
    u = atom.argument
    if u is None or atom.kind not in ("sigmoid", "tanh"):
        return None
    one = constant(u.axes, Fraction(1))
    scale = Fraction(-1 if atom.kind == "sigmoid" else -2)
    inverse = power(table, one + exp(table, u.times(scale)), Fraction(-1))
    return inverse if atom.kind == "sigmoid" else inverse.times(Fraction(2)) - one


def renewed(e: Entry) -> Form:
    """A function's entry on a diagonal, from its argument there; over the entry's own letters.

    The letters that are one stay apart in the result's axes: only the first of each is in use.
    """
    atom, table = e.atom, e.atom.table
    first = tuple(e.letters.index(s) for s in e.letters)
    key = (first, e.power)
    if key in atom.diagonals:
        return atom.diagonals[key]
    assert atom.argument is not None
    u = relettered(atom.argument, atom.axes, first)
    match atom.kind:
        case "sum":
            found = power(table, u, e.power)
        case "exp":
            found = power(table, exp(table, u), e.power)
        case "log":
            found = power(table, log(table, u), e.power)
        case "sigmoid" | "tanh":
            found = power(table, opaque(table, atom.kind, u), e.power)
        case "step":
            found = power(table, step(table, u), e.power)
        case _:
            found = power(table, opaque(table, atom.kind, u), e.power)
    atom.diagonals[key] = found
    return found


def step(
    table: Table, form: Form, depth: int = 0, ties: Callable[[Form], Form] | None = None
) -> Form:
    """1 where a form is > 0 and 0 elsewhere: a selector, known where the sign is.

    Within a cell a form may be 0 (a relu is), so the cells of its own selectors are told apart.

    Args:
        table: The atoms of the run.
        form: The form.
        depth: How many selectors were split off.
        ties: Gives 1 where letters are equal so that a form is 0, else 0. Where a form is continuous
            whatever stands there, as a maximum is, it is not asked for.
    """
    if form.is_zero:
        return form
    selected = _selector(form)
    if selected is not None:
        return _split(form, selected, lambda f: step(table, f, depth + 1, ties), depth)
    certain = all(not k.deltas and surely_positive(k) for k in form.terms)
    if certain and len({c > 0 for c in form.terms.values()}) == 1:
        return constant(form.axes, Fraction(1 if min(form.terms.values()) > 0 else 0))
    if any(key.deltas for key in form.terms):
        raise Undecided("a branch on an expression with a Kronecker delta")
    if on_integers(form):
        raise Undecided("a branch on integers, which may tie; declare it a mask instead")
    varying = [key for key in form.terms if key.entries]
    if not varying:
        raise Undecided("a branch on sizes, which differs from size to size")
    # By what varies, so that 1 − x > 0 is the opposite of x − 1 > 0.
    lead = form.terms[min(varying)]
    scaled = form.times(1 / abs(lead))
    if lead < 0:
        scaled = scaled.times(Fraction(-1))
    atom, letters = atom_of(table, "step", scaled, selects=True)
    selector = build(form.axes, [(Key((), (Entry(atom, letters, Fraction(1)),), ()), Fraction(1))])
    if lead > 0:
        return selector
    # [u < 0] is 1 − [u > 0] where u is not 0.
    opposite = constant(form.axes, Fraction(1)) - selector
    return opposite if ties is None else opposite - ties(form)


def on_integers(form: Form) -> bool:
    """Whether a form depends on integers, which tie with each other on no null set."""
    atoms = {e.atom for k in form.terms for e in k.entries}
    return any(a.whole or (a.argument is not None and on_integers(a.argument)) for a in atoms)
