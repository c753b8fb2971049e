"""Selectors of which one implies another: [x > k] [x > 0] is [x > k] for a positive k."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck.algebra.canonical.forms import Entry

# Longer arguments are not compared, which costs proofs only.
_MOST_TERMS = 12


def without_implied(entries: list[Entry]) -> list[Entry]:
    """The entries of a monomial without those selectors that others imply."""
    steps = [e for e in entries if e.atom.kind == "step"]
    if len(steps) < 2:
        return entries
    gone: list[Entry] = []
    for a in steps:
        if any(b is not a and b not in gone and _implies(b, a) for b in steps):
            gone.append(a)
    return [e for e in entries if e not in gone]


def _implies(b: Entry, a: Entry) -> bool:
    """Whether u > 0 wherever v > 0, for [v > 0] and [u > 0]: where u − v is never negative."""
    joint = (*b.letters, *a.letters)
    key = (b.atom, a.atom, tuple(joint.index(s) for s in joint))
    known = b.atom.table.implications
    if key not in known:
        known[key] = _larger(b, a)
    return known[key]


def _larger(b: Entry, a: Entry) -> bool:
    from gradcheck.algebra.canonical.forms import relettered

    v, u = b.atom.argument, a.atom.argument
    assert v is not None
    assert u is not None
    if max(len(u.terms), len(v.terms)) > _MOST_TERMS:
        return False
    axes = {s: x for e in (b, a) for s, x in zip(e.letters, e.atom.axes, strict=True)}
    place = {s: i for i, s in enumerate(axes)}
    common = tuple(axes.values())
    gap = relettered(u, common, tuple(place[s] for s in a.letters)) - relettered(
        v, common, tuple(place[s] for s in b.letters)
    )
    return all(c > 0 and all(e.atom.positive for e in k.entries) for k, c in gap.terms.items())
