"""Index patterns: grouping the entries of a Jacobian by the equalities among their letters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.algebra.shapes import base_axis
from gradcheck.checking.compare import at_largest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradcheck.algebra.terms import Expression


@dataclass
class Group:
    """The entries of one pattern, over all examples looked at.

    Attributes:
        text: Such as `p = r, q ≠ s`; "every entry" where no letters share an axis.
        wrong: Whether the claim is wrong at any of them.
        entry: The worst of them, by its letters' values, with the example that it is of.
    """

    text: str
    wrong: bool = False
    entries: int = 0
    ratio: float = -1.0
    place: tuple[int, ...] = ()
    claim: float = 0.0
    oracle: float = 0.0


def pairs(expression: Expression) -> list[tuple[int, int]]:
    """The positions of output letters that lie on one axis, two by two, output before input."""
    axes = dict(expression.terms[0].axes) if expression.terms else {}
    split = expression.title[0][1] if expression.title else 0
    named = [base_axis(axes.get(s, "?")) for s in expression.output]
    found = [
        (i, j)
        for i, j in combinations(range(len(named)), 2)
        if named[i] == named[j] and not named[i].startswith("?")
    ]
    # Equalities between output and input are what Jacobians are made of; the others only add cases.
    across = [(i, j) for i, j in found if i < split <= j]
    return across or found


def pattern_at(expression: Expression, place: tuple[int, ...]) -> str:
    """The equalities that hold at one entry, in letters."""
    letters = expression.output
    parts = [
        f"{letters[i]} {'=' if place[i] == place[j] else '≠'} {letters[j]}"
        for i, j in pairs(expression)
    ]
    return ", ".join(parts) or "every entry"


def groups(
    expression: Expression,
    observed: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]],
) -> list[Group]:
    """The patterns with what is known of them, wrong ones first.

    Args:
        expression: The claim, whose letters name the patterns.
        observed: For each example: wrong, ratio, claim, oracle, entry by entry.
    """
    found: dict[tuple[bool, ...], Group] = {}
    joined = pairs(expression)
    for wrong, ratio, claim, oracle in observed:
        codes = _codes(wrong.shape, joined)
        for code in np.unique(codes):
            here = codes == code
            key = tuple(bool(code >> k & 1) for k in range(len(joined)))
            place = _worst(np.where(here, ratio, -1.0), np.where(here, wrong, False))
            group = found.setdefault(key, Group(pattern_at(expression, place)))
            group.entries += int(here.sum())
            _note(group, place, wrong[here].any(), float(ratio[place]), claim, oracle)
    return sorted(_merged(found, expression), key=lambda g: not g.wrong)


def _merged(found: dict[tuple[bool, ...], Group], expression: Expression) -> list[Group]:
    """Patterns that differ in one equality and are alike right or wrong, as one without it."""
    known: dict[tuple[bool | None, ...], Group] = {tuple(k): g for k, g in found.items()}
    # The last equality goes first: `p ≠ r` reads better than `q = s; p ≠ r, q ≠ s`.
    for k in reversed(range(len(pairs(expression)))):
        for first in list(known):
            second = (*first[:k], not first[k], *first[k + 1 :])
            if first[k] is None or first not in known or second not in known:
                continue
            if known[first].wrong == known[second].wrong:
                wider = (*first[:k], None, *first[k + 1 :])
                known[wider] = _joined(known.pop(first), known.pop(second), wider, expression)
    return list(known.values())


def _joined(
    first: Group, second: Group, key: tuple[bool | None, ...], expression: Expression
) -> Group:
    """Two groups as one: the worse of their entries, and the equalities that both have."""
    worse = max(first, second, key=lambda g: g.ratio)
    letters = expression.output
    parts = [
        f"{letters[i]} {'=' if same else '≠'} {letters[j]}"
        for (i, j), same in zip(pairs(expression), key, strict=True)
        if same is not None
    ]
    total = first.entries + second.entries
    return replace(worse, text=", ".join(parts) or "every entry", entries=total)


def _codes(shape: tuple[int, ...], joined: list[tuple[int, int]]) -> np.ndarray:
    """For each entry a number whose bits say which pairs of letters are equal."""
    codes = np.zeros(shape, np.int64)
    index = np.indices(shape, sparse=True)
    for k, (i, j) in enumerate(joined):
        codes |= (index[i] == index[j]).astype(np.int64) << k
    return codes


def _worst(ratio: np.ndarray, wrong: np.ndarray) -> tuple[int, ...]:
    rated = np.where(wrong, ratio, -1.0) if wrong.any() else ratio
    return at_largest(rated)


def _note(
    group: Group,
    place: tuple[int, ...],
    wrong: Any,
    ratio: float,
    claim: np.ndarray,
    oracle: np.ndarray,
) -> None:
    worse = (bool(wrong), ratio) > (group.wrong, group.ratio)
    group.wrong = group.wrong or bool(wrong)
    if worse or not group.place:
        group.ratio, group.place = ratio, place
        group.claim, group.oracle = float(claim[place]), float(oracle[place])
