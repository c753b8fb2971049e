"""Rules on exact numbers: an identity, a suspicion confirmed in floats, and what cannot run there."""

# ruff: noqa: ARG001, ARG005 - rules and forwards take what their signature demands

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from field_cases import relu, softmax, softmax_rule, square

from gradcheck import number, real, verify_jvp, verify_vjp
from gradcheck.reports.model import Check, Verdict

X = {"x": real("n")}
Z = {"z": real("m n")}


def softmax_vjp(xp: Any, v: Any, z: Any) -> Any:
    a = softmax(xp, z)
    return a * (v - (v * a).sum(-1, keepdims=True))


def exact_check(report: Any, name: str = "") -> Check:
    return next(c for c in report.checks if c.oracle == "exact" and c.input in (name or c.input))


def test_operators_run_on_exact_numbers() -> None:
    report = verify_vjp(lambda v, x: 2 * v * x, of=square, inputs=X, oracles="exact")
    (check,) = report.checks
    assert report.ok, str(report)
    assert check.verdict is Verdict.IDENTITY
    assert check.reason.startswith(
        "the gradient of x is exactly that of the forward at n = 2; n = 5"
    )
    assert "for every cotangent" in check.reason
    assert check.false_accept is not None
    assert check.false_accept < 1e-12
    assert "a wrong rule would have passed with probability < " in check.reason


def test_a_rule_with_xp_is_an_identity_in_named_cells() -> None:
    report = verify_vjp(softmax_vjp, of=softmax, inputs=Z)
    assert report.ok, str(report)
    check = exact_check(report)
    assert check.verdict is Verdict.IDENTITY
    assert " cells only, of z = [[" in check.reason
    assert {str(c.verdict) for c in report.checks} == {"identity", "agrees"}


def test_all_inputs_of_a_dense_layer() -> None:
    def rule(v: Any, x: Any, w: Any, b: Any) -> Any:
        return v @ w.T, x.T @ v, v.sum(0)

    inputs = {"x": real("m n"), "w": real("n o"), "b": real("o")}
    report = verify_vjp(rule, of=lambda xp, x, w, b: x @ w + b, inputs=inputs, oracles="exact")
    assert [str(c.verdict) for c in report.checks] == ["identity"] * 3


@pytest.mark.parametrize(
    ("rule", "of"),
    [
        (lambda v, x: 3 * v * x, square),
        (lambda v, x: v * (x > 0) * 1.0001, relu),
        (lambda v, x: 2 * v * x + v * 1e-9, square),
    ],
    ids=["factor", "branch", "a billionth"],
)
def test_a_suspicion_that_floats_confirm_is_refuted(rule: Any, of: Any) -> None:
    report = verify_vjp(rule, of=of, inputs=X, oracles="exact")
    (check,) = report.checks
    assert check.verdict is Verdict.REFUTED
    assert check.counterexample is not None
    assert check.counterexample.entry.startswith("∂out[")


def test_a_difference_below_rounding_is_suspected_and_not_refuted() -> None:
    tiny = verify_vjp(lambda v, x: 2 * v * x + v * x / 10**30, of=square, inputs=X, oracles="exact")
    (check,) = tiny.checks
    assert check.verdict is Verdict.UNDECIDED
    assert "in exact arithmetic the gradient differs in 2 of 2 entries" in check.reason
    assert check.reason.endswith("in floats, does not show it")
    assert not tiny.ok


def test_numpy_functions_cannot_run_there() -> None:
    (check,) = verify_vjp(softmax_rule, of=softmax, inputs=Z, oracles="exact").checks
    assert check.verdict is Verdict.UNDECIDED
    assert "a NumPy function such as np.exp cannot run on exact numbers" in check.reason
    assert "vjp(xp, cotangent, ...) with xp.exp" in check.reason
    # Unasked, it is no check at all.
    report = verify_vjp(softmax_rule, of=softmax, inputs=Z)
    assert "exact" not in {c.oracle for c in report.checks}


def test_a_rule_that_is_not_linear_is_no_identity() -> None:
    (check,) = verify_vjp(lambda v, x: v**3 * 2 * x, of=square, inputs=X, oracles="exact").checks
    assert check.verdict is Verdict.REFUTED


def test_a_rule_with_state_is_refuted_though_its_formula_is_right() -> None:
    calls = []

    def rule(v: Any, x: Any) -> Any:
        calls.append(1)
        return 2 * v * x * (1 if isinstance(x, np.ndarray) is False else len(calls))

    (check,) = verify_vjp(rule, of=square, inputs=X, oracles="exact").checks
    assert check.verdict is Verdict.REFUTED


def test_parameters_are_indeterminates() -> None:
    report = verify_vjp(
        lambda v, x, *, c: 2 * c * v * x, of=lambda xp, x, *, c: c * x * x, inputs=X,
        params={"c": number(1, 2)}, oracles="exact",
    )  # fmt: skip
    assert report.checks[0].verdict is Verdict.IDENTITY


def test_a_jvp_says_that_it_cannot() -> None:
    (check,) = verify_jvp(lambda t, x: 2 * t * x, of=square, inputs=X, oracles="exact").checks
    assert check.verdict is Verdict.UNDECIDED
    assert check.reason == "a jvp of numpy arrays cannot run on exact numbers"
