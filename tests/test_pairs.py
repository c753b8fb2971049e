"""Canonical equality ⇔ formal random evaluation ⇔ brute force, on random pairs of expressions."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pairs import Brute, Expression, Factor, Forms, Term, edited, expression, rewritten

from gradcheck.algebra.canonical.decide import vanishes
from gradcheck.algebra.canonical.residues import agree_at_random

BRUTE = Brute(0)


def verdicts(first, second, seed=0):
    """What canonical forms, random residues and brute force say."""
    forms = Forms()
    one, two = forms.of(first), forms.of(second)
    canonical = vanishes(forms.table, one - two)
    at_random, bound = agree_at_random(forms.table, one, two, seed)
    assert bound < 1e-12 or not at_random
    return canonical, at_random, BRUTE.equal(first, second)


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(st.randoms(use_true_random=False))
def test_rewritten_expressions_are_equal_in_all_three_ways(chance):
    """Sound rules change no value."""
    first = expression(chance)
    assert verdicts(first, rewritten(chance, first)) == (True, True, True)


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(st.randoms(use_true_random=False))
def test_edited_expressions_are_equal_in_all_three_ways_or_in_none(chance):
    first = expression(chance)
    second = rewritten(chance, edited(chance, first))
    found = verdicts(first, second)
    event("equal" if all(found) else "different")
    assert len(set(found)) == 1, (found, first, second)


def test_edits_give_both_equal_and_different_pairs():
    """A generator of pairs that are all equal, or all different, would test nothing."""
    counts = {True: 0, False: 0}
    for seed in range(200):
        chance = random.Random(seed)
        first = expression(chance)
        counts[BRUTE.equal(first, edited(chance, first))] += 1
    assert min(counts.values()) >= 20


# ---------------------------------------------------------------------- pairs that were got wrong


def term(*factors, coefficient=1, bound=(), sizes=(), deltas=()):
    read = tuple(Factor(name, tuple(letters.split()), power) for name, letters, power in factors)
    return Term(Fraction(coefficient), sizes, read, deltas, bound)


def pair(free, first, second):
    letters = tuple(free.split())
    return Expression(letters, first), Expression(letters, second)


RIGHT = {
    "a power of a sum at the last of many letters": pair(
        "m0 m1 n0 n1",
        (term(("c", "n1", 1)),),
        (term(("c", "n1", 1), ("u", "m1 n1", 1), ("u", "m1 n1", -1)),),
    ),
    "a sum in a denominator, one copy of it above": pair(
        "m0",
        (term(("t", "m0", -1)),),
        (term(("t", "m0", -2), ("a", "m0 n3", 1), ("c", "n3", 1), bound=("n3",)),),
    ),
    "a ratio summed on the diagonal is a size": pair(
        "n0",
        (term(sizes=(("n", 1),)),),
        (term(("g", "n0 n1", 1), ("g", "n0 n1", -1), bound=("n1",)),),
    ),
    "an unused bound letter counts": pair(
        "", (term(("c", "n0", 1), bound=("n0",), sizes=(("m", 1),)),),
        (term(("c", "n0", 1), bound=("n0", "m0")),),
    ),
    "a symmetric square of contractions": pair(
        "",
        (term(("g", "n0 n1", 1), ("g", "n1 n2", 1), ("c", "n0", 1), bound=("n0", "n1", "n2")),),
        (term(("c", "n2", 1), ("g", "n1 n0", 1), ("g", "n2 n1", 1), bound=("n0", "n1", "n2")),),
    ),
    "a symmetric function, its letters exchanged": pair(
        "",
        (term(("e", "n1", 1), ("k", "n0 n1", 1), bound=("n0", "n1")),),
        (term(("e", "n0", 1), ("k", "n0 n1", 1), bound=("n0", "n1")),),
    ),
    "symmetric functions in a ring": pair(
        "n0",
        (term(("k", "n0 n1", 1), ("k", "n1 n2", 2), ("c", "n2", 1), bound=("n1", "n2")),),
        (term(("k", "n1 n0", 1), ("k", "n2 n1", 2), ("c", "n2", 1), bound=("n1", "n2")),),
    ),
}  # fmt: skip
WRONG = {
    "a trace and a sum": pair(
        "", (term(("g", "n0 n0", 1), bound=("n0",)),), (term(("g", "n0 n1", 1), bound=("n0", "n1")),)
    ),
    "a graph and its transpose": pair(
        "",
        (term(("g", "n0 n1", 2), ("g", "n1 n2", 1), bound=("n0", "n1", "n2")),),
        (term(("g", "n0 n1", 1), ("g", "n1 n2", 2), bound=("n0", "n1", "n2")),),
    ),
    "a symmetric function and a free letter": pair(
        "n0",
        (term(("e", "n1", 1), ("k", "n0 n1", 1), bound=("n1",)),),
        (term(("e", "n0", 1), ("k", "n0 n1", 1), bound=("n1",)),),
    ),
    "a matrix that need not be symmetric": pair(
        "",
        (term(("e", "n1", 1), ("g", "n0 n1", 1), bound=("n0", "n1")),),
        (term(("e", "n0", 1), ("g", "n0 n1", 1), bound=("n0", "n1")),),
    ),
    "the square of a sum and the sum of squares": pair(
        "",
        (term(("c", "n0", 1), ("c", "n1", 1), bound=("n0", "n1")),),
        (term(("c", "n0", 2), bound=("n0",)),),
    ),
    "two sums that share a letter and two that do not": pair(
        "m0",
        (term(("t", "m0", -1), ("a", "m0 n0", 1), ("c", "n0", 2), bound=("n0",)),),
        (term(("t", "m0", -1), ("a", "m0 n0", 1), ("c", "n0", 1), ("c", "n0", 1), coefficient=2,
              bound=("n0",)),),
    ),
    "a number that differs by 1e-12": pair(
        "n0", (term(("c", "n0", 1)),),
        (term(("c", "n0", 1), coefficient=1 + Fraction(1, 10**12)),),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_equal_pairs(name):
    assert verdicts(*RIGHT[name]) == (True, True, True)


@pytest.mark.parametrize("name", WRONG)
def test_different_pairs(name):
    assert verdicts(*WRONG[name]) == (False, False, False)


def test_brute_force_sees_a_difference_on_a_diagonal_only():
    plain = pair("n0 n1", (term(("g", "n0 n1", 1)),), (term(("g", "n0 n1", 1)),))
    diagonal = term(("c", "n0", 1), deltas=(("n0", "n1"),))
    other = replace(plain[1], terms=(*plain[1].terms, diagonal))
    assert verdicts(*plain) == (True, True, True)
    assert verdicts(plain[0], other) == (False, False, False)
