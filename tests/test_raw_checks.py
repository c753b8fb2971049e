"""What is wrong with a rule whatever the derivative is: each fault by its kind and its words."""

# ruff: noqa: ARG001, ARG005 - rules and forwards take what their signature demands

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from field_cases import (
    Accumulates,
    add_bias,
    double,
    points,
    product,
    softmax,
    softmax_rule,
    square,
)

from gradcheck import real, verify_vjp
from gradcheck.layers.faults import summed
from gradcheck.layers.reference import as_reference
from gradcheck.layers.rule import Rule, read_domains
from gradcheck.layers.verifying import verify_rule
from gradcheck.reports.model import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck import Report

X = {"x": real("m n")}


def fault_of(report: Report, name: str = "x") -> tuple[str, str]:
    """Kind and text of what refutes an input."""
    check = next(c for c in report.checks if c.input == name)
    assert check.verdict is Verdict.REFUTED, str(report)
    assert check.counterexample is not None
    return (check.diagnosis or {})["kind"], check.counterexample.fault


def keeps_state() -> Callable[..., Any]:
    calls = [0]

    def rule(v: Any, x: Any) -> Any:
        calls[0] += 1
        return 2 * v * (1 + 1e-3 * (calls[0] % 7 == 0))

    return rule


def writes_input(v: Any, x: Any) -> Any:
    gradient = 2 * x * v
    x += 1
    return gradient


def writes_cotangent(v: Any, x: Any) -> Any:
    v *= 2
    return v


def raw_memory(v: Any, x: Any) -> Any:
    return 2 * v.ravel("K").reshape(v.shape)


@pytest.mark.parametrize(
    ("rule", "of", "kind", "text"),
    [
        (lambda v, x: (v, v), double, "count", "returned 2 gradients, but must return one gradient, for x"),
        (lambda v, x: None, double, "none", "the gradient of x is None; return zeros of shape (1, 1)"),
        (lambda v, x: "2", double, "type", "the gradient of x is a str, no array"),
        (lambda v, x: (2 * v)[None], double, "shape", "has shape (1, 1, 1), but x has shape (1, 1)"),
        (lambda v, x: (2 * v).astype(np.float32), double, "dtype", "x is float32, but x is float64"),
        (lambda v, x: np.full_like(x, 2), double, "linearity", "zeros gives x[0,0] the gradient 2"),
        (lambda v, x: 2 * np.abs(v), double, "linearity", "not linear in the cotangent"),
        (writes_input, square, "mutation", "the rule writes into x at [0,0]: 0 became 1"),
        (writes_cotangent, double, "mutation", "the rule writes into the cotangent of out"),
        (raw_memory, double, "layout", "an equal contiguous one"),
    ],
)  # fmt: skip
def test_a_fault_is_named(rule: Any, of: Any, kind: str, text: str) -> None:
    found = fault_of(verify_vjp(rule, of=of, inputs=X, oracles="autograd"))
    assert found[0] == kind
    assert text in found[1]


@pytest.mark.parametrize("rule", [keeps_state(), Accumulates()])
def test_a_rule_with_a_state_of_its_own_is_refuted(rule: Any) -> None:
    assert not verify_vjp(rule, of=double, inputs=X, oracles="autograd").ok


def test_a_state_that_is_restored_is_no_fault() -> None:
    """Random numbers are drawn anew in each call, from a state that `restore` sets back."""
    state = {"rng": np.random.default_rng(0)}

    def draw(v: Any, arrays: Any, _params: Any) -> Any:
        noise = state["rng"].normal()  # drawn, as a dropout layer does, and here of no effect
        return (2 * v[0] + 1e-3 * (noise - np.random.default_rng(0).normal()) * v[0],)

    def restore() -> None:
        state["rng"] = np.random.default_rng(0)

    domains, params = read_domains(X, None)
    rule = Rule("dropout", "layer", "numpy", domains, vjp=draw, restore=restore)
    assert verify_rule(rule, as_reference(double, domains, params), oracles="autograd").ok
    careless = Rule("dropout", "layer", "numpy", domains, vjp=draw)
    assert not verify_rule(careless, as_reference(double, domains, params), oracles="autograd").ok


def test_a_forgotten_sum_says_which_axis() -> None:
    inputs = {"x": real("m n"), "b": real("n")}
    report = verify_vjp(
        lambda v, x, b: (v, v.copy()), of=add_bias, inputs=inputs, oracles="autograd"
    )
    kind, text = fault_of(report, "b")
    assert kind == "shape"
    assert (
        text
        == "the gradient of b has shape (1, 1), but b has shape (1,): b was broadcast, so sum over axis 0"
    )
    assert {str(c.verdict) for c in report.checks if c.input == "x"} == {"agrees"}
    assert "sum over axis 0" in str(report)
    message = next((c.diagnosis or {})["message"] for c in report.checks if c.input == "b")
    assert message.startswith("the shape is wrong: sum over axis 0; of shape (")
    assert "so summed it gives b[" in message


def test_a_shape_that_no_sum_mends_is_a_shape() -> None:
    inputs = {"x": real("m n"), "b": real("n")}
    report = verify_vjp(lambda v, x, b: (v, 2 * v), of=add_bias, inputs=inputs, oracles="autograd")
    kind, text = fault_of(report, "b")
    assert kind == "shape"
    assert "so sum over axis 0" in text
    assert "so summed it gives" not in str(report)


@pytest.mark.parametrize(
    ("came", "shape", "text"),
    [
        ((4, 5), (5,), "sum over axis 0"),
        ((3, 4, 5), (5,), "sum over the axes (0, 1)"),
        ((4, 5), (4, 1), "sum over axis 1 with keepdims=True"),
        ((3, 4, 5), (1, 5), "sum over axis 0 and sum over axis 1 with keepdims=True"),
        ((4, 5), (4,), ""),
        ((5,), (4, 5), ""),
    ],
)
def test_which_axes_to_sum(came: tuple[int, ...], shape: tuple[int, ...], text: str) -> None:
    assert summed(came, shape) == text


def test_the_cotangents_memory_is_varied_in_torch_too() -> None:
    def views(v: Any, x: Any) -> Any:
        return 2 * v.view(-1).view(x.shape)

    report = verify_vjp(views, of=double, inputs=X, backend="torch", oracles="torch")
    kind, text = fault_of(report)
    assert kind == "layout"
    assert "the rule raises RuntimeError for a" in text
    assert "use reshape instead of view" in text
    good = verify_vjp(lambda v, x: 2 * v, of=double, inputs=X, backend="torch", oracles="torch")
    assert good.checks[0].exercised["broadcast cotangent"] > 0


def test_a_gradient_of_another_framework_is_a_fault() -> None:
    report = verify_vjp(
        lambda v, x: 2 * v.numpy(), of=double, inputs=X, backend="torch", oracles="torch"
    )
    assert fault_of(report) == ("type", "the gradient of x is an array of numpy, not of torch")


def test_one_array_in_two_slots() -> None:
    def borrows(v: Any, x: Any, y: Any) -> Any:
        saved = y.copy()
        y[...] = 0
        gradients = v * saved, v * x
        y[...] = saved
        return gradients

    inputs = {"x": real("n"), "y": real("n")}
    kind, text = fault_of(verify_vjp(borrows, of=product, inputs=inputs, oracles="autograd"), "y")
    assert kind == "aliasing"
    assert "with one array as both x and y" in text


def test_the_missing_cotangent_of_an_output() -> None:
    def both(xp: Any, x: Any) -> Any:
        return 2 * x, x * x

    def rule(v: Any, arrays: Any, _params: Any) -> Any:
        first = 0 if v[0] is None else 2 * v[0]
        second = 1 if v[1] is None else 2 * arrays["x"] * v[1]
        return (first + second,)

    domains, params = read_domains(X, None)
    wrong = Rule("both", "layer", "numpy", domains, vjp=rule, accepts_missing=True)
    found = fault_of(verify_rule(wrong, as_reference(both, domains, params), oracles="autograd"))
    assert found[0] == "missing cotangent"
    assert "a missing cotangent of out1" in found[1]
    never_left_out = Rule("both", "layer", "numpy", domains, vjp=rule)
    assert verify_rule(never_left_out, as_reference(both, domains, params), oracles="autograd").ok


def test_a_jvp_and_a_vjp_that_contradict_each_other() -> None:
    domains, params = read_domains(X, None)
    reference = as_reference(square, domains, params)

    def vjp(v: Any, arrays: Any, _params: Any) -> Any:
        return (2 * arrays["x"] * v[0],)

    def rule(factor: float) -> Rule:
        def jvp(t: Any, arrays: Any, _params: Any) -> Any:
            return (factor * arrays["x"] * t[0],)

        return Rule("square", "layer", "numpy", domains, vjp=vjp, jvp=jvp)

    assert verify_rule(rule(2), reference, oracles="autograd").ok
    kind, text = fault_of(verify_rule(rule(2.5), reference, oracles="autograd"))
    assert kind == "adjoint"
    assert "no transposes of each other" in text


def test_the_forward_of_a_layer_is_compared_first() -> None:
    domains, params = read_domains(X, None)

    def vjp(v: Any, _arrays: Any, _params: Any) -> Any:
        return (2 * v[0],)

    def forward(arrays: Any, _params: Any) -> Any:
        return (2 * arrays["x"] + 1e-6,)

    rule = Rule("off", "layer", "numpy", domains, vjp=vjp, forward=forward)
    kind, text = fault_of(
        verify_rule(rule, as_reference(double, domains, params), oracles="autograd")
    )
    assert kind == "forward"
    assert "the layer computes another function than `of`" in text


def test_right_rules_pass_every_raw_check() -> None:
    report = verify_vjp(softmax_rule, of=softmax, inputs={"z": real("m n")}, oracles="autograd")
    assert report.ok
    counts = report.checks[0].exercised
    for name in (
        "zero cotangent", "signed random cotangents", "called twice", "broadcast cotangent",
        "transposed cotangent", "non-contiguous cotangent", "negative-stride cotangent",
    ):  # fmt: skip
        assert counts[name] > 10, name


def test_at_size_0_the_shape_is_still_looked_at() -> None:
    data = {"x": points(3, 2)[:0], "b": points(2)}
    inputs = {"x": real("m n"), "b": real("n")}
    report = verify_vjp(
        lambda v, x, b: (v, v.copy()), of=add_bias, inputs=inputs, oracles="autograd", data=data
    )
    assert fault_of(report, "b")[0] == "shape"
