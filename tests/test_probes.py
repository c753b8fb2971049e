"""Large shapes: signed probes, bisection to the entry, and what they would have missed."""

# ruff: noqa: ARG005 - rules and forwards take what their signature demands

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from field_cases import add_bias, double, points, relu, sine, softmax, softmax_of, softmax_rule

from gradcheck import real, verify_jvp, verify_vjp
from gradcheck.reports.model import Verdict

X = {"x": real("n")}
Z = {"z": real("m n")}


def one_entry(v: Any, z: Any) -> Any:
    """Right but for ∂a[3,7]/∂z[2,5], which should be 0."""
    gradient = softmax_rule(v, z)
    gradient[2, 5] += v.dtype.type(1e-3) * v[3, 7]
    return gradient


@pytest.mark.parametrize("oracle", ["autograd", "torch", "jax"])
def test_one_wrong_entry_among_millions_is_found_and_named(oracle: str) -> None:
    data = {"z": points(20, 300)}
    report = verify_vjp(one_entry, of=softmax, inputs=Z, data=data, oracles=oracle)
    (check,) = report.checks
    assert check.verdict is Verdict.REFUTED
    assert check.counterexample is not None
    assert check.counterexample.entry == "∂out[3,7]/∂z[2,5]"
    assert check.counterexample.claim_value == pytest.approx(1e-3, rel=1e-6)
    assert check.counterexample.oracle_value == 0
    assert "found by signed probes of z (20, 300) and bisection: output 0, " in check.reason


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_right_rule_agrees_and_says_what_would_have_been_seen(dtype: str) -> None:
    data = {"z": points(30, 200)}
    report = verify_vjp(
        softmax_rule, of=softmax, inputs=Z, data=data, oracles="torch", dtypes=dtype
    )
    (check,) = report.checks
    assert report.ok, str(report)
    assert check.probes == 3
    assert check.detects is not None
    assert 0 < check.detects < (1e-14 if dtype == "float64" else 1e-5)
    text = " ".join(str(report).split())
    assert "3 signed probes, seed 0; an error of" in text
    assert "in a single entry of the Jacobian would have been seen" in text
    assert "predicted" in text


def test_what_it_says_would_have_been_seen_is_seen() -> None:
    data = {"z": points(30, 200)}
    right = verify_vjp(softmax_rule, of=softmax, inputs=Z, data=data, oracles="torch")
    detects = right.checks[0].detects
    assert detects is not None

    def off(v: Any, z: Any) -> Any:
        gradient = softmax_rule(v, z)
        gradient[4, 4] += 40 * detects * v[5, 5]
        return gradient

    assert not verify_vjp(off, of=softmax, inputs=Z, data=data, oracles="torch").ok


def test_sizes_written_as_numbers_are_large_and_checked() -> None:
    report = verify_vjp(softmax_rule, of=softmax, inputs={"z": real("40 300")}, oracles="torch")
    assert report.ok, str(report)
    assert report.checks[0].probes
    wrong = verify_vjp(one_entry, of=softmax, inputs={"z": real("40 300")}, oracles="torch")
    assert wrong.exit_code == 1


def test_a_forgotten_sum_is_a_shape_at_any_size() -> None:
    report = verify_vjp(
        lambda v, x, b: (v, v.copy()),
        of=add_bias,
        inputs={"x": real("m n"), "b": real("n")},
        data={"x": points(100, 60), "b": points(60)},
        oracles="autograd",
    )
    found = {c.input: c for c in report.checks}
    assert (found["b"].diagnosis or {})["kind"] == "shape"
    assert found["x"].verdict is Verdict.AGREES


def test_a_few_kinks_are_accepted_counted_and_told_from_errors() -> None:
    x = points(5000)
    x[x == 0] = 1
    x[[3, 4000]] = 0
    report = verify_vjp(
        lambda v, x: v * (x > 0), of=relu, inputs=X, data={"x": x}, oracles="autograd"
    )
    assert report.ok, str(report)
    assert report.checks[0].kinks > 0
    wrong = verify_vjp(
        lambda v, x: v * (x > 0) * np.where(x == x[7], 1.5, 1), of=relu, inputs=X,
        data={"x": np.abs(x)}, oracles="autograd",
    )  # fmt: skip
    assert wrong.exit_code == 1


def test_a_jvp_is_probed_by_tangents() -> None:
    data = {"x": points(3000)}
    for oracle in ("autograd", "torch", "jax"):
        right = verify_jvp(lambda t, x: t * np.cos(x), of=sine, inputs=X, data=data, oracles=oracle)
        assert right.ok, str(right)

        def off(t: Any, x: Any) -> Any:
            moved = t * np.cos(x)
            moved[5] += t[17]
            return moved

        (check,) = verify_jvp(off, of=sine, inputs=X, data=data, oracles=oracle).checks
        assert check.counterexample is not None
        assert check.counterexample.entry == "∂out[5]/∂x[17]"


def test_differences_are_not_asked_about_large_shapes() -> None:
    report = verify_vjp(
        lambda v, x: 2 * v, of=double, inputs=X, data={"x": points(3000)}, oracles=["differences"]
    )
    assert not report.ok
    assert "differences cannot be asked about so large a shape" in " ".join(str(report).split())


def _peak(rows: int) -> int:
    data = {"z": points(rows, 500)}
    tracemalloc.start()
    try:
        report = verify_vjp(softmax_rule, of=softmax, inputs=Z, data=data, oracles="autograd")
        assert report.ok
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_linear_in_the_input() -> None:
    _peak(20)
    small, large = _peak(40), _peak(160)
    assert large < 5 * small
    assert large < 120 * 160 * 500 * 8  # arrays of the input's size, no Jacobian of 80,000 squared


def test_probes_look_at_every_cotangent_sign() -> None:
    """Right for positive cotangents only: a rule that projects on them passes unsigned probes."""

    def rectified(v: Any, z: Any) -> Any:
        a = softmax_of(z)
        v = np.abs(v)
        return a * (v - (v * a).sum(-1, keepdims=True))

    report = verify_vjp(
        rectified, of=softmax, inputs=Z, data={"z": points(30, 200)}, oracles="torch"
    )
    assert report.exit_code == 1
