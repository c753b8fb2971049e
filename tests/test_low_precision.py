"""float32, float16, bfloat16: what is right there passes, what is wrong does not, and how accurate it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from field_cases import (
    count_overflows,
    half_precision_mean,
    sine,
    softmax,
    softmax_rule,
    square,
    torch_cosine,
)

from gradcheck import load, real, verify_vjp
from gradcheck.layers.precision import lost, weak_from
from gradcheck.reports.model import Verdict

X = {"x": real("n")}
Z = {"z": real("m n")}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_numpy_softmax_agrees(dtype: str) -> None:
    report = verify_vjp(softmax_rule, of=softmax, inputs=Z, oracles=["torch", "jax"], dtypes=dtype)
    assert report.ok, str(report)
    assert {str(c.verdict) for c in report.checks} == {"agrees"}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_torch_softmax_agrees(dtype: str) -> None:
    def rule(v: Any, z: Any) -> Any:
        a = z.softmax(-1)
        return a * (v - (v * a).sum(-1, keepdim=True))

    report = verify_vjp(rule, of=softmax, inputs=Z, backend="torch", oracles="torch", dtypes=dtype)
    assert report.ok, str(report)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("factor", [0, -1, 2, 1.5])
def test_a_wrong_rule_is_refuted_in_every_dtype(dtype: str, factor: float) -> None:
    report = verify_vjp(
        lambda v, x: factor * torch_cosine(v, x), of=sine, inputs=X, backend="torch", oracles="torch",
        dtypes=dtype,
    )  # fmt: skip
    assert {c.verdict for c in report.checks} == {Verdict.REFUTED}


def test_bfloat16_needs_arrays_that_have_it() -> None:
    report = verify_vjp(softmax_rule, of=softmax, inputs=Z, oracles="torch", dtypes="bfloat16")
    (check,) = report.checks
    assert check.verdict is Verdict.SKIPPED
    assert (
        'numpy has no bfloat16; write the rule for torch or JAX arrays and say backend="torch"'
        in check.reason
    )
    assert not report.ok


def test_a_gradient_of_a_wider_dtype_is_a_fault() -> None:
    report = verify_vjp(
        lambda v, x: 2 * x * v.astype(np.float64),
        of=square,
        inputs=X,
        oracles="autograd",
        dtypes="float32",
    )
    assert (report.checks[0].diagnosis or {})["kind"] == "dtype"


def test_a_count_that_overflows_is_found_at_a_long_axis() -> None:
    wrong = verify_vjp(
        count_overflows, of=half_precision_mean, inputs=X, oracles="torch", dtypes="float16"
    )
    assert {c.verdict for c in wrong.checks} == {Verdict.REFUTED}

    def right(v: Any, x: Any) -> Any:
        return (np.ones(x.shape, np.float32) * v[..., None] / x.shape[-1]).astype(x.dtype)

    report = verify_vjp(right, of=half_precision_mean, inputs=X, oracles="torch", dtypes="float16")
    assert report.ok, str(report)


def test_accuracy_stands_beside_the_verdict() -> None:
    report = verify_vjp(softmax_rule, of=softmax, inputs=Z, oracles="torch", dtypes="float32")
    accuracy = report.checks[0].accuracy
    assert 0 < accuracy["ulp of Σ|terms|"] <= accuracy["ulp"]
    assert accuracy["ulp of Σ|terms|"] < 100
    assert "accuracy of z in float32: " in str(report)


def test_a_bound_that_swallows_the_derivative_is_weak() -> None:
    assert weak_from("float64") == weak_from("float32") == 1e-3
    assert 1e-3 < weak_from("float16") < weak_from("bfloat16") == 0.25


def test_an_entry_is_lost_where_the_framework_has_it() -> None:
    truth, gone = np.array([1.0, 0.9]), np.zeros(2)
    assert lost(gone, truth, 0.01, "float16").tolist() == [True, True]
    assert lost(np.array([np.nan, 0.1]), truth, 0.01, "float16").tolist() == [True, False]
    assert not lost(gone, truth, 0.9, "float16").any()
    assert not lost(gone, truth, np.inf, "float16").any()  # the framework overflows as well


def test_an_entry_that_cancels_or_underflows_is_not_lost() -> None:
    truth, gone = np.array([1.0, 0.9]), np.zeros(2)
    assert lost(gone, truth, 0.01, "float16", paths=np.array([1.5, 50.0])).tolist() == [True, False]
    assert not lost(gone, 1e-7 * truth, 0.0, "float16").any()


# Points at which a hidden unit is exactly 0: oracles take half of relu's step there, the rule none of it.
# The errors of bfloat16 are larger than the step in the first, and beyond any number in the second.
AT_A_TIE = [
    {
        "x": [[-1.0625, -0.66015625, 0], [0, -1.5, 0]],
        "w1": [
            [0.78125, 0, -0.6015625, -0.050048828125, -1.40625],
            [1.3984375, 0, 0.66015625, 0.16015625, 0],
            [-1.421875, 1.8828125, -0.890625, -1.3671875, 0],
        ],
        "b1": [-0.55078125, 1.359375, 0.380859375, 0.400390625, 0],
        "w2": [
            [0, 0.1396484375, 1.4375, 1.7734375, -0.6015625, -1.171875, 0],
            [-0.87109375, -2.5, 0, 0.51953125, 0, 0.96875, 0.330078125],
            [0, -1.1015625, -1.1796875, 0, 0, 1.2109375, 0],
            [-0.010009765625, 0, 1.78125, -0.859375, -0.5, 0, 0],
            [1.5, 1.5625, 0, 2.59375, -0.4609375, -2.5, -0.921875],
        ],
        "b2": [-2.296875, -1.75, -0.10986328125, -0.06005859375, -1, 0.08984375, 0],
    },
    {
        "x": [[-2.296875, 0, 0.4609375], [0, -0.91015625, 1.09375]],
        "w1": [
            [1.34375, 0.06982421875, -1.65625, -0.0400390625, 2],
            [-0.2890625, -1.96875, -1.4609375, -0.8203125, 0],
            [-0.1396484375, -0.80078125, -0.1904296875, 1.0703125, 0],
        ],
        "b1": [0.55859375, 0, 0, 0.828125, 0],
        "w2": [
            [0.9296875, 0, 0, -0.4296875, 0, 0.030029296875, -1.421875],
            [2.203125, -0.359375, 0, -0.2099609375, -0.1201171875, -0.030029296875, 0],
            [0, -1.859375, 0, 0, 1.7421875, 0, 0],
            [0, -0.8515625, 1.578125, 0, 0, 0, 0],
            [0, -0.25, 0, 0, 1.3984375, 0, 0],
        ],
        "b2": [-1.921875, 0, 0, 0.55859375, 1.0390625, 1.46875, 0],
    },
]


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("oracle", ["torch", "jax", "autograd"])
def test_a_kink_hidden_by_the_errors_of_bfloat16_is_held_against_nobody(
    place: int, oracle: str
) -> None:
    perceptron = load("examples/specs/perceptron.py::perceptron")
    compiled = perceptron.vjp(*perceptron.differentiable)

    def rule(v: Any, *arrays: Any) -> Any:
        return tuple(compiled(v, **dict(zip(perceptron.inputs, arrays, strict=True))).values())

    data = {n: np.array(v, float) for n, v in AT_A_TIE[place].items()}
    data["y"] = np.array([[0.25, 0.25, 0.125, 0.125, 0.125, 0.0625, 0.0625]] * 2)
    report = verify_vjp(
        rule, of=perceptron, backend="torch", oracles=oracle, dtypes="bfloat16", data=data
    )
    assert not [c for c in report.checks if c.verdict is Verdict.REFUTED], str(report)
