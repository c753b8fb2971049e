"""Gradients that today's checkers get wrong: every one has the right verdict here."""

# ruff: noqa: ARG005 - rules and forwards take what their signature demands

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from field_cases import ALL, HIDDEN, RIGHT, WRONG, FieldCase

from gradcheck import number, positive, real, verify_jvp, verify_vjp
from gradcheck.reports.model import Verdict

if TYPE_CHECKING:
    from gradcheck import Report

ORACLES = ("autograd", "torch")


def checked(case: FieldCase, **options: Any) -> Report:
    verify = verify_vjp if case.form == "vjp" else verify_jvp
    data = {**case.at, **case.values} if case.whole else None
    given = {"oracles": ORACLES, "dtypes": case.dtypes, "data": data, **options}
    return verify(
        case.rule,
        of=case.of,
        inputs=case.inputs,
        params=case.params,
        backend=case.backend,
        name=case.name,
        **given,
    )


@pytest.mark.parametrize("case", WRONG, ids=lambda c: c.name)
def test_a_wrong_gradient_that_passes_elsewhere_is_refuted_by_every_oracle(case: FieldCase) -> None:
    report = checked(case)
    assert not report.ok
    assert report.exit_code == 1
    blamed = [c for c in report.checks if c.input == case.blamed]
    assert {c.verdict for c in blamed} == {Verdict.REFUTED}, str(report)
    if case.kind:
        assert {(c.diagnosis or {})["kind"] for c in blamed} == {case.kind}


@pytest.mark.parametrize("case", RIGHT, ids=lambda c: c.name)
def test_a_right_gradient_that_fails_elsewhere_is_covered(case: FieldCase) -> None:
    report = checked(case)
    assert report.ok, str(report)
    assert not any(c.verdict is Verdict.REFUTED for c in report.checks)
    # Each dtype has an oracle that agrees, not only one of them.
    agreeing = {c.dtype for c in report.checks if c.verdict is Verdict.AGREES}
    assert agreeing == set(case.dtypes), str(report)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("case", HIDDEN, ids=lambda c: c.name)
def test_the_search_finds_what_typical_inputs_hide(case: FieldCase, seed: int) -> None:
    report = checked(case, oracles="autograd", seed=seed)
    blamed = [c for c in report.checks if c.input == case.blamed]
    assert {c.verdict for c in blamed} == {Verdict.REFUTED}, str(report)
    if case.kind:
        assert {(c.diagnosis or {})["kind"] for c in blamed} == {case.kind}


def test_the_other_inputs_of_a_wrong_rule_are_not_blamed() -> None:
    case = next(c for c in WRONG if c.name == "forgotten_sum")
    report = checked(case)
    assert {c.verdict for c in report.checks if c.input == "x"} == {Verdict.AGREES}


def test_names_tell_cases_apart() -> None:
    assert len({c.name for c in ALL}) == len(ALL)
    assert all(c.name.isidentifier() for c in ALL)


# ---------------------------------------------------------------------- blamed, and right


def by_log(v: Any, x: Any) -> Any:
    return v * x


def test_the_gradient_by_a_logarithm_answers_another_question() -> None:
    wrong = verify_vjp(by_log, of=lambda xp, x: x, inputs={"x": positive("n")}, oracles="autograd")
    assert wrong.exit_code == 1
    right = verify_vjp(
        by_log, of=lambda xp, t: xp.exp(t), inputs={"t": real("n", -3, 3)}, oracles="autograd"
    )
    assert right.exit_code == 1  # x stands for exp(t) there
    exact = verify_vjp(
        lambda v, t: v * np.exp(t), of=lambda xp, t: xp.exp(t), inputs={"t": real("n", -3, 3)},
        oracles="autograd",
    )  # fmt: skip
    assert exact.ok


def batch_norm(xp: Any, x: Any, *, eps: Any) -> Any:
    mean = xp.mean(x, axis=0, keepdims=True)
    return (x - mean) / xp.sqrt(xp.mean((x - mean) ** 2, axis=0, keepdims=True) + eps)


def in_one_line(v: Any, x: Any, *, eps: float) -> Any:
    centred = x - x.mean(0)
    r = 1 / np.sqrt((centred**2).mean(0) + eps)
    h = centred * r
    return r * (v - v.mean(0) - h * (v * h).mean(0))


def step_by_step(v: Any, x: Any, *, eps: float) -> Any:
    m, mean = len(x), x.mean(0)
    variance = ((x - mean) ** 2).mean(0)
    by_variance = (v * (x - mean)).sum(0) * -0.5 * (variance + eps) ** -1.5
    by_mean = -(v / np.sqrt(variance + eps)).sum(0) + by_variance * (-2 * (x - mean)).mean(0)
    return v / np.sqrt(variance + eps) + by_variance * 2 * (x - mean) / m + by_mean / m


@pytest.mark.parametrize("rule", [in_one_line, step_by_step])
def test_equivalent_forms_of_batch_norm_are_both_right(rule: Any) -> None:
    report = verify_vjp(
        rule, of=batch_norm, inputs={"x": real("m n")}, params={"eps": number(1e-5, 1e-2)},
        oracles="autograd",
    )  # fmt: skip
    assert report.ok, str(report)
