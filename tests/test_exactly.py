"""Exact verdicts of the bundled specs, the gallery, and of claims that are known to be wrong."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from regression_cases import CASES, two_classes

from gradcheck import (
    Spec,
    constant,
    delta,
    einsum,
    integers,
    load,
    one_hot,
    probability,
    real,
    size,
    verify,
)
from gradcheck.library import resolve
from gradcheck.oracles.exact import exact
from gradcheck.oracles.symbolic import symbolic
from gradcheck.reports.model import Verdict

ROOT = Path(__file__).parent.parent
ORACLES = ("symbolic", "exact")
ACCEPTED = (Verdict.PROVED, Verdict.IDENTITY)


def claims(folder):
    found = [t for file in sorted((ROOT / folder).glob("*.py")) for t in resolve([str(file)])]
    pairs = [(t.operation, c) for t in found for c in t.operation.claims()]
    return [
        pytest.param(operation, claim, id=f"{operation.name}-{claim.label}")
        for operation, claim in pairs
        if claim.form != "missing"
    ]


BUNDLED, GALLERY = claims("specs"), claims("examples/specs")


def checked(operation, oracle):
    report = verify(operation, oracles=[oracle])
    assert report.checks
    return report.checks


# ---------------------------------------------------------------------- right ones


def test_there_is_something_to_prove():
    assert len(BUNDLED) >= 19
    assert len(GALLERY) >= 60
    assert {p.values[1].form for p in (*BUNDLED, *GALLERY)} == {"jacobian", "vjp", "chain"}


@pytest.mark.parametrize(("operation", "claim"), [*BUNDLED, *GALLERY])
def test_bundled_claims_and_the_gallery_are_proved(operation, claim):
    finding = symbolic(operation, claim)
    if operation.name == "inverse":
        assert finding.verdict == "undecided"
        assert "xp.linalg is not one index expression" in finding.reason
        assert "inverse.py:17: return xp.linalg.inv(a)" in finding.reason
        return
    assert finding.verdict == "proved", finding.reason
    assert finding.statement.startswith(("for all ", "at its fixed sizes"))
    assert finding.bound is not None
    assert finding.bound < 1e-12


@pytest.mark.parametrize(("operation", "claim"), [*BUNDLED, *GALLERY])
def test_bundled_claims_and_the_gallery_are_identities(operation, claim):
    finding = exact(operation, claim)
    assert finding.verdict == "identity", finding.reason
    assert finding.bound is not None
    assert finding.bound < 1e-12


@pytest.mark.parametrize("oracle", ORACLES)
def test_bundled_claims_are_accepted_by_verify(oracle):
    report = verify(oracles=[oracle])
    wanted = Verdict.PROVED if oracle == "symbolic" else Verdict.IDENTITY
    assert [c.id for c in report.checks if c.verdict != wanted] == []
    assert len(report.checks) == len(BUNDLED)


# ---------------------------------------------------------------------- wrong ones


def cross_entropy(xp, a, y):
    return -xp.sum(y * xp.log(a)) / a.shape[0]


def loss(jacobian, y, name):
    return Spec(
        cross_entropy, inputs={"a": probability("m n"), "y": y}, output={"L": ""},
        jacobian={"a": jacobian}, name=name,
    )  # fmt: skip


def softmax(jacobian, name):
    return Spec(
        load("softmax").forward, inputs={"z": real("m n")}, output={"a": "m n"},
        jacobian={"z": jacobian}, name=name,
    )  # fmt: skip


SOFT, HOT = constant(probability("m n")), one_hot("m n")
DIAGONAL = einsum("pq,pr,qs->pqrs", "a", delta, delta)
REST = einsum("pq,ps,pr->pqrs", "a", "a", delta)
SQUARES = -einsum("pq,pq->pq", "y**2", "a**-1") / size("m")
(SEED_3,) = resolve([f"{ROOT / 'examples' / 'seed_slips.py'}::softmax_rule"])

# The claim, and a part of true − claimed.
WRONG = {
    "diagonal of softmax times 1 + 1e-12": (
        softmax(DIAGONAL * (1 + Fraction(1, 10**12)) - REST, "diagonal"),
        "−1/1000000000000 a[p,q] δ[p,r] δ[q,s]",
    ),
    "two classes only": (softmax(two_classes, "two_classes"), "2 a^2[p,q] δ[p,r] δ[q,s]"),
    "cross-entropy without 1/m": (
        loss(-einsum("pq,pq->pq", "y", "a**-1"), SOFT, "not_averaged"),
        "a^(-1)[p,q] y[p,q]",
    ),
    "squares of soft targets": (loss(SQUARES, SOFT, "soft_squares"), "a^(-1)[p,q] y^2[p,q] / m"),
    "the rule of a notebook": (SEED_3.operation, "a^2[p,s] δ[p,r]"),
}


@pytest.mark.parametrize("name", WRONG)
def test_known_slips_are_refuted_with_their_residual(name):
    operation, residual = WRONG[name]
    (check,) = checked(operation, "symbolic")
    assert check.verdict == Verdict.REFUTED
    assert check.reason.startswith("true − claimed = ")
    assert residual in check.reason
    found = check.counterexample
    assert found is not None
    assert found.claim_value != found.oracle_value or name.startswith("diagonal")


@pytest.mark.parametrize("name", WRONG)
def test_known_slips_are_refuted_by_the_program_itself(name):
    (check,) = checked(WRONG[name][0], "exact")
    assert check.verdict == Verdict.REFUTED
    assert "differs from the claim in" in check.reason
    assert check.counterexample is not None


@pytest.mark.parametrize("oracle", ORACLES)
def test_squares_of_one_hot_targets_are_right(oracle):
    (check,) = checked(loss(SQUARES, HOT, "hot_squares"), oracle)
    assert check.verdict in ACCEPTED


# ---------------------------------------------------------------------- what a short cut gets wrong

# Neither side can be evaluated anywhere, or the forward has no derivative in a whole cell.
UNDECIDED = {
    ("defined nowhere", "symbolic"),
    ("defined nowhere", "exact"),
    ("root of relu", "exact"),
}


@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_regression_cases(case, oracle):
    (check,) = [c for c in checked(case.operation, oracle) if c.input == case.label]
    if not case.wrong:
        assert check.verdict in ACCEPTED, check.reason
    elif (case.name, oracle) in UNDECIDED:
        assert check.verdict == Verdict.UNDECIDED
        assert check.reason
    else:
        assert check.verdict == Verdict.REFUTED, check.reason
        assert check.counterexample is not None


# ---------------------------------------------------------------------- ties in a whole cell


def judged(forward, jacobian, output, **inputs):
    spec = Spec(forward, inputs=inputs, output=output, jacobian=jacobian, name="case")
    (claim,) = [c for c in spec.claims() if c.form != "missing"]
    return symbolic(spec, claim)


def at_least(xp, x, z):
    """A rectifier is never below 0, and is 0 wherever z is negative."""
    h = xp.maximum(z, 0)
    return xp.where(xp.greater_equal(h, 0), x, 2 * x), h


def test_a_comparison_with_a_tie_in_a_whole_cell():
    identity = einsum("pr->pr", delta)
    wrong = 2 * identity - einsum("p,pr->pr", "step(h)", delta)
    inputs = {"x": real("m"), "z": constant(real("m"))}
    output = {"f": "m", "h": "m"}
    assert judged(at_least, {"x": identity}, output, **inputs).verdict == "proved"
    assert judged(at_least, {"x": wrong}, output, **inputs).verdict == "suspect"


def test_the_sign_of_what_is_0_in_a_whole_cell():
    def forward(xp, x, z):
        return xp.sign(xp.maximum(z, 0)) * x

    inputs = {"x": real("m"), "z": constant(real("m"))}
    right = einsum("p,pr->pr", "step(z)", delta)
    wrong = 2 * right - einsum("pr->pr", delta)
    assert judged(forward, {"x": right}, "m", **inputs).verdict == "proved"
    assert judged(forward, {"x": wrong}, "m", **inputs).verdict == "suspect"


def test_largest_entries_that_tie_in_a_whole_cell():
    def forward(xp, v, x):
        h = xp.maximum(x, 0)
        top = xp.max(h, axis=-1)
        g = xp.where(xp.equal(h, top[:, None]), xp.ones_like(h), xp.zeros_like(h))
        return v * g, g / xp.sum(g, axis=-1, keepdims=True)

    finding = judged(
        forward, {"v": einsum("pq,pr,qs->pqrs", "g", delta, delta)}, {"f": "m n", "g": "m n"},
        v=real("m n"), x=constant(real("m n")),
    )  # fmt: skip
    assert finding.verdict != "proved"


def test_integers_tie_on_no_null_set():
    def forward(xp, x, k):
        kept = xp.where(xp.greater_equal(k, 1), 1.0, 0.0)
        return x * kept, xp.where(xp.greater(k, 1), 1.0, 0.0)

    finding = judged(
        forward, {"x": einsum("p,pr->pr", "h", delta)}, {"f": "m", "h": "m"},
        x=real("m"), k=integers("m", 0, 3),
    )  # fmt: skip
    assert finding.verdict == "undecided"
    assert "integers" in finding.reason
