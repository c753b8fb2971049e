"""Mutants of the bundled specs: the oracles accept those that are equivalent, and no other."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from mutants import FORMS, Judge, mutants

from gradcheck import load
from gradcheck.checking.plan import Planned
from gradcheck.checking.run import run
from gradcheck.library import resolve
from gradcheck.oracles import Oracle
from gradcheck.oracles.exact import exact
from gradcheck.oracles.symbolic import symbolic
from gradcheck.spec import Spec

SETTLED = 8
KINDS = {
    "sign", "letter", "operand", "dropped term", "dropped delta", "added delta", "power",
    "axis size", "coefficient",
}  # fmt: skip


def test_the_judge_knows_every_bundled_spec():
    names = {t.operation.name for t in resolve([]) if isinstance(t.operation, Spec)}
    assert names == set(FORMS)


@pytest.mark.parametrize("name", FORMS)
def test_the_judge_accepts_the_claims_themselves(name):
    spec, judge = load(name), Judge(name)
    for claim in spec.claims():
        assert judge.equivalent(claim, spec.slice_derivative(claim.output, claim.input))


@pytest.mark.parametrize("name", FORMS)
def test_exactly_the_equivalent_mutants_are_proved_and_identities(name):
    judge = Judge(name)
    for mutant in mutants(name):
        right = judge.equivalent(mutant.claim, mutant.expression)
        proof = symbolic(mutant.operation, mutant.claim)
        identity = exact(mutant.operation, mutant.claim)
        assert proof.verdict == ("proved" if right else "suspect"), f"{mutant}: {proof.reason}"
        assert identity.verdict == ("identity" if right else "suspect"), f"{mutant}: {identity}"


@pytest.mark.parametrize("name", FORMS)
def test_other_mutants_are_refuted_at_a_certified_point(name):
    """A seeded sample; benchmarks/mutants.py settles all of them."""
    judge = Judge(name)
    found = list(mutants(name))
    for mutant in random.Random(name).sample(found, SETTLED):
        right = judge.equivalent(mutant.claim, mutant.expression)
        for oracle, accepted in (("symbolic", "proved"), ("exact", "identity")):
            check = settled(mutant, oracle)
            assert check.verdict == (accepted if right else "refuted"), f"{mutant}: {check.reason}"
            assert right or check.counterexample is not None


def settled(mutant, oracle):
    return run(
        Planned(
            "", mutant.spec, mutant.claim.label, Oracle(oracle, "numpy"), "cpu", "float64",
            operation=mutant.operation,
        )
    )  # fmt: skip


def test_every_kind_of_edit_occurs():
    counts = Counter(m.edit for name in FORMS for m in mutants(name))
    assert set(counts) == KINDS
    assert min(counts.values()) >= 3
