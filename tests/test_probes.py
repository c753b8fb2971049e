"""Large shapes: signed probes, bisection to the entry, and what they would have missed."""

# ruff: noqa: ARG001, ARG002, ARG005 - rules and forwards take what their signature demands

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
    assert 0 < check.detects < (1e-13 if dtype == "float64" else 1e-4)
    text = " ".join(str(report).split())
    assert "3 signed probes, seed 0; an error of" in text
    assert "in a single entry of the Jacobian would have been seen" in text
    assert "predicted" in text


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(30, 200), (3, 20_000)])
def test_what_it_says_would_have_been_seen_is_seen(shape: tuple[int, int], dtype: str) -> None:
    data: Any = {"z": points(*shape)}
    asked: Any = {"of": softmax, "inputs": Z, "data": data, "oracles": "torch", "dtypes": dtype}
    detects = verify_vjp(softmax_rule, **asked).checks[0].detects
    assert detects is not None

    def off(v: Any, z: Any) -> Any:
        gradient = softmax_rule(v, z)
        gradient[2, 4] += gradient.dtype.type(1.5 * detects) * v[1, 5]
        return gradient

    (check,) = verify_vjp(off, **asked).checks
    assert check.verdict is Verdict.REFUTED
    assert check.counterexample is not None
    assert check.counterexample.entry == "∂out[1,5]/∂z[2,4]"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_is_seen_in_a_sum_over_many_rows(dtype: str) -> None:
    """The bound of the sum is thousands of times that of its terms: the terms are asked."""
    asked: Any = {
        "of": add_bias, "inputs": {"x": real("m n"), "b": real("n")}, "oracles": "torch",
        "data": {"x": points(20_000, 10), "b": points(10)}, "dtypes": dtype,
    }  # fmt: skip
    detects = verify_vjp(lambda v, x, b: (v, v.sum(0)), **asked).checks[1].detects
    assert detects is not None
    assert detects < (1e-10 if dtype == "float64" else 1e-2)

    def off(v: Any, x: Any, b: Any) -> Any:
        total = v.sum(0)
        total[3] += total.dtype.type(1.5 * detects) * v[11, 5]
        return v, total

    check = verify_vjp(off, **asked).checks[1]
    assert check.verdict is Verdict.REFUTED
    assert check.counterexample is not None
    assert check.counterexample.entry == "∂out[11,5]/∂b[3]"
    assert check.counterexample.bound < abs(check.counterexample.claim_value)


def test_a_block_forgotten_in_float32_is_found_below_the_bound_of_the_sum() -> None:
    def forgets(v: Any, z: Any) -> Any:
        a = softmax_of(z)
        return a * (v - (v * a)[:, :1024].sum(-1, keepdims=True))

    data = {"z": np.random.default_rng(0).normal(size=(5, 3000))}
    asked: Any = {"of": softmax, "inputs": Z, "data": data, "oracles": "torch", "dtypes": "float32"}
    assert verify_vjp(softmax_rule, **asked).ok
    (check,) = verify_vjp(forgets, **asked).checks
    assert check.verdict is Verdict.REFUTED
    assert check.counterexample is not None
    assert check.counterexample.claim_value == 0
    assert int(check.counterexample.entry.split("]")[0].split(",")[1]) >= 1024


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


def cubed(v: Any, x: Any) -> Any:
    return 2 * v**3


def writes(v: Any, x: Any) -> Any:
    x[3] = 7
    return 2 * v


def by_memory(v: Any, x: Any) -> Any:
    whole = v if v.base is None else v.base.reshape(-1)[: v.size]
    return 2 * whole.reshape(v.shape)


class Accumulates:
    """Adds to the gradient of the call before."""

    def __init__(self) -> None:
        self.total: Any = 0

    def __call__(self, v: Any, x: Any) -> Any:
        self.total = self.total + 2 * v
        return self.total


@pytest.mark.parametrize(
    ("rule", "kind", "text"),
    [
        (cubed, "linearity", "the rule is not linear in the cotangent: for −4 times a cotangent x["),
        (writes, "mutation", "the rule writes into x at [3]: "),
        (by_memory, "layout", "a non-contiguous cotangent gives x["),
        (Accumulates(), "repeat", "the second call with the same arrays gives x["),
        (lambda v, x: 2 * v + 1, "linearity", "a cotangent of zeros gives x[0] the gradient 1 instead"),
    ],
    ids=["cubed", "writes", "memory", "state", "offset"],
)  # fmt: skip
def test_the_contract_is_looked_at_in_large_shapes_too(rule: Any, kind: str, text: str) -> None:
    data = {"x": points(3000)}
    (check,) = verify_vjp(rule, of=double, inputs=X, data=data, oracles="torch").checks
    assert check.verdict is Verdict.REFUTED
    assert (check.diagnosis or {})["kind"] == kind
    assert check.counterexample is not None
    assert (check.counterexample.fault or "").startswith(text)


@pytest.mark.parametrize(
    ("rule", "kind", "text"),
    [
        (cubed, "linearity", "the rule is not linear in the tangent: for −4 times a tangent out["),
        (writes, "mutation", "the rule writes into x at [3]: "),
        (by_memory, "layout", "a non-contiguous tangent gives out["),
        (Accumulates(), "repeat", "the second call with the same arrays gives out["),
        (lambda t, x: 2 * t + 1, "linearity", "a tangent of zeros gives out[0] the tangent 1 instead"),
    ],
    ids=["cubed", "writes", "memory", "state", "offset"],
)  # fmt: skip
def test_the_contract_of_a_jvp_is_looked_at_in_large_shapes(
    rule: Any, kind: str, text: str
) -> None:
    data = {"x": points(3000)}
    (check,) = verify_jvp(rule, of=double, inputs=X, data=data, oracles="torch").checks
    assert check.verdict is Verdict.REFUTED
    assert (check.diagnosis or {})["kind"] == kind
    assert check.counterexample is not None
    assert (check.counterexample.fault or "").startswith(text)


class WrongOnce:
    """Right but for one call."""

    def __init__(self, call: int) -> None:
        self.calls, self.call = 0, call

    def __call__(self, v: Any, x: Any) -> Any:
        self.calls += 1
        return 2 * v + (v if self.calls == self.call else 0)


@pytest.mark.parametrize("call", [2, 3, 4])
@pytest.mark.parametrize("verify", [verify_vjp, verify_jvp])
def test_a_rule_that_is_wrong_once_keeps_a_state(verify: Any, call: int) -> None:
    (check,) = verify(
        WrongOnce(call), of=double, inputs=X, data={"x": points(3000)}, oracles="torch"
    ).checks
    assert check.verdict is Verdict.REFUTED
    assert (check.diagnosis or {})["kind"] == "repeat"
    assert "keeps a state of its own" in (check.counterexample.fault or "")


def test_a_wrong_rule_that_is_not_linear_either_is_told_so() -> None:
    (check,) = verify_vjp(
        lambda v, x: 3 * v + 0.01 * v * v,
        of=double,
        inputs=X,
        data={"x": points(3000)},
        oracles="jax",
    ).checks
    assert (check.diagnosis or {})["kind"] == "linearity"


def centred(xp: Any, z: Any) -> Any:
    return z * z - xp.mean(z)


def centred_rule(v: Any, z: Any) -> Any:
    return 2 * v * z - v.mean()


def test_a_slice_speaks_for_a_large_shape_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    # Every entry is suspected, and the whole is too large to be carried.
    monkeypatch.setattr("gradcheck.layers.screens._BOTH", 1e-3)
    monkeypatch.setattr("gradcheck.layers.local.CARRIED", 1000)
    data = {"z": points(40, 300)}
    by_rows = verify_vjp(softmax_rule, of=softmax, inputs=Z, data=data, oracles="torch")
    assert by_rows.ok, str(by_rows)
    assert "judged by" not in by_rows.checks[0].reason
    assert 0 < (by_rows.checks[0].worst or 0) < 1

    def off(v: Any, z: Any) -> Any:
        return softmax_rule(v, z) * (1 + 1e-9)

    wrong = verify_vjp(off, of=softmax, inputs=Z, data=data, oracles="torch")
    assert wrong.exit_code == 1
    assert "judged by" not in wrong.checks[0].reason


@pytest.mark.parametrize(("chosen", "verdict"), [(1.0, Verdict.AGREES), (1.5, Verdict.REFUTED)])
def test_a_slice_at_a_kink_speaks_too(
    chosen: float, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle's own derivative is another element of the subdifferential than the slice's."""
    monkeypatch.setattr("gradcheck.layers.local.CARRIED", 1000)
    z = points(40, 300)
    z[3, 7] = 0.0

    def rule(v: Any, z: Any) -> Any:
        return v * np.where(z == 0, z.dtype.type(chosen), (z > 0).astype(z.dtype))

    (check,) = verify_vjp(rule, of=relu, inputs=Z, data={"z": z}, oracles="torch").checks
    assert check.verdict is verdict, check.reason


@pytest.mark.parametrize(
    ("dtype", "slope"), [("float16", 3e4), ("float32", 2e38), ("bfloat16", 2e38)]
)
def test_a_gradient_near_the_end_of_the_range(dtype: str, slope: float) -> None:
    """The multiple of a cotangent, by which linearity is asked, leaves the range."""
    given: Any = {
        "of": lambda xp, x: slope * x, "inputs": X, "data": {"x": np.clip(points(3000), -1, 1)},
        "dtypes": dtype, "backend": "torch",
    }  # fmt: skip
    right = verify_vjp(lambda v, x: slope * v, **given)
    assert right.ok, str(right)
    wrong = verify_vjp(lambda v, x: slope * v * (x > -0.5), **given)
    assert wrong.exit_code == 1
    assert "not linear" not in str(wrong)


def test_without_a_slice_the_measured_error_judges_and_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A mean over all rows: no slice has the derivative of the whole.
    monkeypatch.setattr("gradcheck.layers.local.CARRIED", 1000)
    data = {"z": points(40, 300)}
    right = verify_vjp(centred_rule, of=centred, inputs=Z, data=data, oracles="torch")
    assert right.ok, str(right)
    wrong = verify_vjp(lambda v, z: 2 * v * z, of=centred, inputs=Z, data=data, oracles="torch")
    (check,) = wrong.checks
    assert check.verdict is Verdict.REFUTED
    assert check.reason.endswith("judged by the error that the oracle's own passes have")


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
