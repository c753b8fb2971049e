"""Canonical names of bound letters: graph canonisation, by colour refinement and then by trying.

What refinement tells apart needs no trying; only permutations inside a colour class are tried.
"""

from __future__ import annotations

from itertools import permutations, product
from math import factorial, prod
from typing import TYPE_CHECKING

from gradcheck.algebra.canonical.undecided import Undecided

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradcheck.algebra.canonical.forms import Entry

# Above so many orders of the bound letters the canonical name is not looked for.
MOST_ORDERS = 5040


def components(entries: tuple[Entry, ...], rank: int) -> tuple[list[Entry], list[list[Entry]]]:
    """The entries without bound letters, and the others in groups connected by bound letters."""
    roots = [e for e in entries if all(s < rank for s in e.letters)]
    groups: list[tuple[set[int], list[Entry]]] = []
    for e in entries:
        bound = {s for s in e.letters if s >= rank}
        if not bound:
            continue
        joined = [g for g in groups if g[0] & bound]
        merged = (bound.union(*(g[0] for g in joined)), [*(x for g in joined for x in g[1]), e])
        groups = [g for g in groups if g not in joined] + [merged]
    return roots, [g[1] for g in groups]


def canonical(entries: tuple[Entry, ...], rank: int) -> tuple[Entry, ...]:
    """The entries of a monomial in order, their bound letters with canonical names."""
    roots, groups = components(entries, rank)
    named = sorted((named_group(tuple(g), rank) for g in groups), key=_group_key)
    out, start = sorted(roots, key=_entry_key), rank
    for group in named:
        size = len({s for e in group for s in e.letters if s >= rank})
        out += [
            e._replace(letters=tuple(s if s < rank else s - rank + start for s in e.letters))
            for e in group
        ]
        start += size
    return tuple(out)


def _entry_key(e: Entry) -> tuple[object, ...]:
    return (e.atom.number, e.power, e.letters)


def _group_key(group: tuple[Entry, ...]) -> tuple[object, ...]:
    return tuple(_entry_key(e) for e in group)


def named_group(group: tuple[Entry, ...], rank: int) -> tuple[Entry, ...]:
    """The group with its bound letters named rank, rank + 1, … in the smallest way."""
    bound = sorted({s for e in group for s in e.letters if s >= rank})
    classes = _refined(group, bound, rank) if len(bound) > 1 else [bound]
    if prod(factorial(len(c)) for c in classes) > MOST_ORDERS:
        raise Undecided(
            f"a sum over {len(bound)} letters that are too alike to be named; split it into two outputs"
        )
    best: tuple[Entry, ...] | None = None
    for orders in product(*(permutations(c) for c in classes)):
        names = {s: rank + i for i, s in enumerate(s for order in orders for s in order)}
        candidate = tuple(
            sorted(
                (e._replace(letters=tuple(names.get(s, s) for s in e.letters)) for e in group),
                key=_entry_key,
            )
        )
        if best is None or _group_key(candidate) < _group_key(best):
            best = candidate
    assert best is not None
    return best


def _refined(group: tuple[Entry, ...], bound: list[int], rank: int) -> list[list[int]]:
    """Classes of bound letters that no simple property tells apart, in a canonical order."""
    colour: dict[int, int] = dict.fromkeys(bound, 0)
    for _ in bound:
        signs = {s: (colour[s], tuple(sorted(_views(group, s, colour, rank)))) for s in bound}
        ranks = {v: i for i, v in enumerate(sorted(set(signs.values())))}
        fresh = {s: ranks[signs[s]] for s in bound}
        if fresh == colour:
            break
        colour = fresh
    return [[s for s in bound if colour[s] == c] for c in sorted(set(colour.values()))]


def _views(
    group: tuple[Entry, ...], s: int, colour: dict[int, int], rank: int
) -> Iterable[tuple[object, ...]]:
    """What a bound letter sees of each entry that it stands in."""
    for e in group:
        if s in e.letters:
            seen = tuple(
                (-1, 0) if t == s else ((0, t) if t < rank else (1, colour[t])) for t in e.letters
            )
            yield (e.atom.number, e.power, seen)
