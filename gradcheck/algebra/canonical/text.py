"""Forms as people read them, with the names of inputs and the claim's own letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck.algebra.terms import free_alphabet

if TYPE_CHECKING:
    from fractions import Fraction

    from gradcheck.algebra.canonical.forms import Entry, Form, Key


def shown(form: Form, letters: tuple[str, ...], limit: int = 6, taken: tuple[str, ...] = ()) -> str:
    """A form as a sum of products; more than `limit` terms are counted, not shown.

    Letters in `taken` are not given to its summed letters, since they stand around it.
    """
    if form.is_zero:
        return "0"
    parts: list[str] = []
    for key, c in list(form.terms.items())[:limit]:
        sign = ("−" if c < 0 else "") if not parts else (" − " if c < 0 else " + ")
        parts.append(sign + _monomial(key, abs(c), letters, taken))
    more = len(form.terms) - limit
    return "".join(parts) + (f" + {more} more terms" if more > 0 else "")


def _monomial(key: Key, c: Fraction, letters: tuple[str, ...], taken: tuple[str, ...]) -> str:
    supply = free_alphabet((*letters, *taken))
    names = dict(enumerate(letters))
    for e in key.entries:
        for s in e.letters:
            if s not in names:
                names[s] = next(supply)
    bound = sorted({s for e in key.entries for s in e.letters if s >= len(letters)})
    head = f"Σ_{''.join(names[s] for s in bound)} " if bound else ""
    above = [_power(n, p) for n, p in key.scalars if p > 0]
    below = [_power(n, -p) for n, p in key.scalars if p < 0]
    number = "" if c == 1 and (key.entries or key.deltas or above) else str(c)
    factors = [_entry(e, names) for e in key.entries]
    deltas = [f"δ[{names[a]},{names[b]}]" for a, b in key.deltas]
    text = head + " ".join(x for x in (number, *above, *factors, *deltas) if x)
    under = f"({' '.join(below)})" if len(below) > 1 else "".join(below)
    return f"{text} / {under}" if below else text


def _power(name: str, power: Fraction) -> str:
    if power == 1:
        return name
    return f"{name}^{power}" if power.denominator == 1 and power > 0 else f"{name}^({power})"


def _entry(e: Entry, names: dict[int, str]) -> str:
    index = f"[{','.join(names[s] for s in e.letters)}]" if e.letters else ""
    own = tuple(names[s] for s in e.letters)
    if e.atom.argument is None or e.atom.kind == "selector":
        return _power(e.atom.name, e.power) + index
    inner = shown(e.atom.argument, own, taken=tuple(names.values()))
    if e.atom.kind == "sum":
        return _power(f"({inner})", e.power)
    return _power(f"{e.atom.kind}({inner})", e.power)
