"""`verify_vjp` and `verify_jvp`: verdicts, coverage, messages, and what cannot be asked."""

# ruff: noqa: ARG001, ARG005 - rules and forwards take what their signature demands

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from field_cases import (
    double,
    points,
    product,
    relu,
    sine,
    softmax,
    softmax_of,
    softmax_rule,
    square,
)

import gradcheck
from gradcheck import Report, constant, load, number, real, verify_jvp, verify_vjp
from gradcheck.errors import SpecError, UsageError
from gradcheck.reports.model import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

AUTOGRAD = "autograd"
Z = {"z": real("m n")}
X = {"x": real("n")}


def plus_for_minus(v: Any, z: Any) -> Any:
    a = softmax_of(z)
    return a * (v + (v * a).sum(-1, keepdims=True))


def verdicts(report: Report) -> set[str]:
    return {str(c.verdict) for c in report.checks}


def test_the_names_are_public() -> None:
    assert {"verify_vjp", "verify_jvp"} <= set(gradcheck.__all__)


@pytest.mark.parametrize("oracle", ["autograd", "jax", "torch", "differences"])
def test_a_right_rule_agrees_with_each_oracle(oracle: str) -> None:
    report = verify_vjp(softmax_rule, of=softmax, inputs=Z, oracles=oracle)
    assert report.ok
    assert [(c.oracle, str(c.verdict), c.kind) for c in report.checks] == [
        (oracle, "agrees", "vjp")
    ]


def test_a_wrong_rule_is_refuted_with_entry_values_and_bound() -> None:
    report = verify_vjp(plus_for_minus, of=softmax, inputs=Z, oracles=AUTOGRAD)
    (check,) = report.checks
    found = check.counterexample
    assert check.verdict is Verdict.REFUTED
    assert found is not None
    assert found.entry == "∂out[0,0]/∂z[0,0]"
    assert found.sizes == {"m": 1, "n": 1}
    assert abs(found.claim_value - found.oracle_value) > 1e6 * found.bound
    text = str(report)
    assert "Refuted: plus_for_minus, input z" in text
    assert "∂out[0,0]/∂z[0,0]: vjp 2, autograd 0" in text


@pytest.mark.parametrize(
    ("rule", "of", "inputs"),
    [
        (plus_for_minus, softmax, Z),
        (lambda v, x: v * x, square, X),
        (lambda v, x, y: (v * y, v * y), product, {"x": real("n"), "y": real("n")}),
        (lambda v, x: np.stack([v, v]), double, X),
    ],
    ids=["softmax", "factor", "second", "shape"],
)
def test_the_snippet_reproduces_the_failure(rule: Any, of: Any, inputs: Any) -> None:
    report = verify_vjp(rule, of=of, inputs=inputs, oracles=AUTOGRAD)
    check = next(c for c in report.checks if c.verdict is Verdict.REFUTED)
    assert check.counterexample is not None
    known: dict[str, Any] = {
        "print": lambda *_: None,
        "rule": rule,
        rule.__name__: rule,
        of.__name__: of,
    }
    exec(check.counterexample.snippet, known)
    again = next(c for c in known["report"].checks if c.input == check.input)
    assert again.verdict is Verdict.REFUTED
    assert again.counterexample.entry == check.counterexample.entry


def test_the_snippet_imports_what_a_module_defines() -> None:
    report = verify_vjp(plus_for_minus, of=softmax, inputs=Z, oracles=AUTOGRAD)
    snippet = report.checks[0].counterexample.snippet  # type: ignore[union-attr]
    assert "from field_cases import softmax" in snippet
    assert "from gradcheck import real, verify_vjp" in snippet
    lambdas = verify_vjp(lambda v, x: 3 * v, of=lambda xp, x: 2 * x, inputs=X, oracles=AUTOGRAD)
    assert "as you have defined" in lambdas.checks[0].counterexample.snippet  # type: ignore[union-attr]


# ---------------------------------------------------------------------- what stands after of=


def test_a_bundled_spec_gives_inputs_and_native_oracles() -> None:
    report = verify_vjp(softmax_rule, of=load("softmax"), oracles=["torch", "native"])
    assert report.ok
    assert {c.oracle for c in report.checks} == {"torch", "native"}
    assert verify_vjp(softmax_rule, of="softmax", oracles=AUTOGRAD).ok
    assert not verify_vjp(plus_for_minus, of="softmax", oracles=AUTOGRAD).ok


def test_a_chain_is_a_forward() -> None:
    chain = load("softmax") >> load("cross_entropy")

    def closed(v: Any, z: Any, y: Any) -> Any:
        return v * (softmax_of(z) - y) / len(z)

    def unscaled(v: Any, z: Any, y: Any) -> Any:
        return v * (softmax_of(z) - y)

    assert verify_vjp(closed, of=chain, oracles=AUTOGRAD).ok
    assert verdicts(verify_vjp(unscaled, of=chain, oracles=AUTOGRAD)) == {"refuted"}


def test_a_forward_that_only_torch_can_run() -> None:
    import torch

    def rule(v: Any, x: Any) -> Any:
        return v * torch.cos(x)

    right = verify_vjp(rule, of={"torch": torch.sin}, inputs=X, backend="torch")
    assert right.ok
    assert {c.oracle for c in right.checks} == {"torch", "differences"}
    wrong = verify_vjp(
        lambda v, x: 1.001 * v * torch.cos(x), of={"torch": torch.sin}, inputs=X, backend="torch"
    )
    assert verdicts(wrong) == {"refuted"}


def test_at_a_kink_of_an_opaque_forward_any_side_is_right() -> None:
    import torch

    of = {"torch": torch.relu}
    for at_zero in (0.0, 0.5, 1.0):
        report = verify_vjp(
            lambda v, x, h=at_zero: v * np.where(x > 0, 1, np.where(x < 0, 0, h)), of=of, inputs=X,
            oracles="torch",
        )  # fmt: skip
        assert report.ok, str(report)
    wrong = verify_vjp(lambda v, x: v * (x >= -1), of=of, inputs=X, oracles="torch")
    assert verdicts(wrong) == {"refuted"}


def test_oracles_that_cannot_be_asked_say_why() -> None:
    import torch

    report = verify_vjp(
        lambda v, x: v * np.cos(x),
        of={"torch": torch.sin},
        inputs=X,
        oracles=["torch", "jax", "symbolic"],
    )
    why = {c.oracle: c.reason for c in report.checks if c.verdict is Verdict.SKIPPED}
    assert why["jax"] == "`of` has no forward for jax; it has torch"
    assert why["symbolic"] == "symbolic needs a derivation; a rule is opaque"
    assert report.ok


def test_a_native_implementation_of_another_function_is_a_refutation() -> None:
    import torch

    spec = gradcheck.Spec(
        softmax,
        inputs=Z,
        output={"a": "m n"},
        name="soft",
        native={"torch": torch.exp},
    )
    report = verify_vjp(softmax_rule, of=spec, oracles=["autograd", "native"])
    native = next(c for c in report.checks if c.oracle == "native")
    assert native.verdict is Verdict.REFUTED
    assert "computes another function" in native.reason


# ---------------------------------------------------------------------- several inputs and outputs


def moments(xp: Any, x: Any) -> Any:
    mean = xp.mean(x, axis=-1)
    return mean, xp.sum(x * x, axis=-1)


def moments_rule(v: Any, x: Any) -> Any:
    return v[0][:, None] * np.ones_like(x) / x.shape[-1] + 2 * v[1][:, None] * x


def moments_first_only(v: Any, x: Any) -> Any:
    return v[0][:, None] * np.ones_like(x) / x.shape[-1]


def test_several_outputs_take_a_tuple_of_cotangents() -> None:
    names = ["mean", "square"]
    right = verify_vjp(moments_rule, of=moments, inputs={"x": real("m n")}, output=names)
    assert right.ok
    wrong = verify_vjp(
        moments_first_only, of=moments, inputs={"x": real("m n")}, output=names, oracles=AUTOGRAD
    )
    assert wrong.checks[0].counterexample is not None
    assert wrong.checks[0].counterexample.entry.startswith("∂square[")


def test_constant_inputs_have_no_gradient() -> None:
    inputs = {"x": real("n"), "y": constant(real("n"))}
    assert verify_vjp(lambda v, x, y: v * y, of=product, inputs=inputs, oracles=AUTOGRAD).ok
    report = verify_vjp(lambda v, x, y: (v * y, v * x), of=product, inputs=inputs, oracles=AUTOGRAD)
    assert "returned 2 gradients, but must return one gradient, for x" in str(report)


def test_parameters_are_drawn_and_passed_by_name() -> None:
    def power(xp: Any, x: Any, *, p: Any) -> Any:
        return xp.sin(x) * p

    params = {"p": number(-2, 2)}
    right = verify_vjp(lambda v, x, *, p: v * p * np.cos(x), of=power, inputs=X, params=params)
    assert right.ok
    wrong = verify_vjp(lambda v, x, *, p: v * abs(p) * np.cos(x), of=power, inputs=X, params=params)
    assert verdicts(wrong) == {"refuted"}
    found = wrong.checks[0].counterexample
    assert found is not None
    assert found.params["p"] < 0


# ---------------------------------------------------------------------- what counts


def test_a_check_that_could_not_have_failed_is_undecided() -> None:
    data = {"x": np.zeros(3)}
    report = verify_vjp(lambda v, x: 2 * x * v, of=square, inputs=X, oracles=AUTOGRAD, data=data)
    assert report.ok  # ones are refused where the truth is zero
    same = verify_vjp(
        lambda v, x: v, of=lambda xp, x: x * 1e300, inputs=X, data=data, oracles=AUTOGRAD
    )
    assert not same.ok


def test_kinks_are_counted_and_printed() -> None:
    report = verify_vjp(lambda v, x: v * (x > 0), of=relu, inputs=X, oracles=AUTOGRAD)
    assert report.ok
    assert report.checks[0].kinks > 0
    assert "entries at a kink" in str(report)


@pytest.mark.parametrize(("at_zero", "verdict"), [(0.5, Verdict.AGREES), (1.5, Verdict.REFUTED)])
def test_at_a_kink_of_torchs_own_forward_a_claim_lies_between_its_derivatives(
    at_zero: float, verdict: Verdict
) -> None:
    torch = pytest.importorskip("torch")
    report = verify_vjp(
        lambda v, x: v * ((x > 0) + at_zero * (x == 0)),
        of={"torch": torch.relu},
        inputs=X,
        oracles=["torch"],
        backend="numpy",
        name="relu",
    )
    check = report.checks[0]
    assert check.verdict is verdict, str(report)
    assert (check.kinks > 0) == (at_zero == 0.5)


@pytest.mark.parametrize(("at_zero", "verdict"), [(0.5, Verdict.AGREES), (1.5, Verdict.REFUTED)])
def test_a_kink_of_a_function_of_one_number(at_zero: float, verdict: Verdict) -> None:
    torch = pytest.importorskip("torch")
    check = verify_vjp(
        lambda v, x: v * ((x > 0) + at_zero * (x == 0)),
        of={"torch": torch.relu},
        inputs={"x": real("")},
        data={"x": 0.0},
        oracles=["torch"],
        backend="numpy",
    ).checks[0]
    assert check.verdict is verdict, str(check)
    assert (check.kinks > 0) == (at_zero == 0.5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("factor", "verdict"), [(2, Verdict.AGREES), (3, Verdict.REFUTED)])
def test_half_precision_of_a_function_of_one_number(
    factor: int, verdict: Verdict, dtype: str
) -> None:
    pytest.importorskip("torch")
    (check,) = verify_vjp(
        lambda v, x: v * factor * x,
        of=lambda xp, x: x * x,
        inputs={"x": real("")},
        oracles=["torch"],
        backend="torch",
        dtypes=dtype,
    ).checks
    assert check.verdict is verdict, str(check)


def test_what_differences_cannot_resolve_is_no_kink() -> None:
    torch = pytest.importorskip("torch")
    far = {"x": np.array([1e8, 3e8])}
    wrong, right = (
        verify_vjp(
            lambda v, x, off=off: v * (1e6 * np.cos(1e6 * x) * off),
            of={"torch": lambda x: torch.sin(1e6 * x)},
            inputs=X,
            oracles=["torch"],
            backend="numpy",
            name="fast",
            data=far,
        )
        for off in (np.array([1.5, 1.0]), 1.0)
    )
    assert right.checks[0].kinks == 0
    assert wrong.checks[0].verdict in (Verdict.UNDECIDED, Verdict.REFUTED), str(wrong)
    assert wrong.checks[0].kinks == 0


def test_not_finite_where_the_derivative_is_finite_is_an_overflow() -> None:
    def overflowing(v: Any, x: Any) -> Any:
        return v * np.exp(x) / (1 + np.exp(x))

    report = verify_vjp(
        overflowing, of=lambda xp, x: xp.logaddexp(x, 0), inputs=X, oracles=AUTOGRAD
    )
    assert verdicts(report) == {"refuted"}
    assert "overflows where the derivative is finite" in str(report)


def test_the_report_says_what_was_exercised_and_what_never_was() -> None:
    report = verify_vjp(softmax_rule, of=softmax, inputs=Z, oracles=AUTOGRAD)
    (check,) = report.checks
    for name in (
        "zeros",
        "ties",
        "m = 1",
        "beyond 32",
        "magnitude edge",
        "non-contiguous cotangent",
        "float64",
    ):
        assert check.exercised[name] > 0, name
    assert check.never == []
    assert "exercised, softmax_rule: " in str(report)
    fixed = verify_vjp(
        softmax_rule, of=softmax, inputs={"z": real("2 3", 0.5, 3)}, oracles=AUTOGRAD
    )
    assert "zeros" in fixed.checks[0].never
    assert "never: zeros" in str(fixed)


def test_reports_travel_as_json() -> None:
    report = verify_vjp(plus_for_minus, of=softmax, inputs=Z, oracles=AUTOGRAD, dtypes=["float32"])
    again = Report.from_json(report.to_json())
    assert str(again) == str(report)


def test_the_same_seed_gives_the_same_report() -> None:
    first, second = (
        verify_vjp(plus_for_minus, of=softmax, inputs=Z, oracles=AUTOGRAD, seed=4) for _ in range(2)
    )
    assert first.checks[0].counterexample == second.checks[0].counterexample


def test_two_oracles_that_disagree_do_not_blame_the_rule() -> None:
    """JAX's derivative of this forward is NaN-free but wrong at no point; an oracle made wrong is."""
    from gradcheck.oracles import Answer, Oracle

    ask = Oracle.ask

    def off(self: Oracle, question: Any, device: str) -> Answer:
        answer = ask(self, question, device)
        return Answer(answer.value, 1.01 * answer.jacobian) if self.name == "torch" else answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Oracle, "ask", off)
        report = verify_vjp(softmax_rule, of=softmax, inputs=Z, oracles=["autograd", "torch"])
    found = {c.oracle: c for c in report.checks}
    assert found["autograd"].verdict is Verdict.AGREES
    assert found["torch"].verdict is Verdict.UNDECIDED
    assert found["torch"].reason.startswith("torch itself is off at")


# ---------------------------------------------------------------------- jvp


def test_a_jvp_in_forward_mode() -> None:
    assert verify_jvp(lambda t, x: t * np.cos(x), of=sine, inputs=X, oracles=AUTOGRAD).ok
    wrong = verify_jvp(lambda t, x: t * np.sin(x), of=sine, inputs=X, oracles=AUTOGRAD)
    assert wrong.checks[0].kind == "jvp"
    assert "jvp" in str(wrong)
    two = {"x": real("m n"), "y": real("m n")}
    assert verify_jvp(
        lambda t, x, y: t[0] * y + x * t[1], of=product, inputs=two, oracles=AUTOGRAD
    ).ok
    half = verify_jvp(lambda t, x, y: t[0] * y, of=product, inputs=two, oracles=AUTOGRAD)
    assert {c.input: str(c.verdict) for c in half.checks} == {"x": "agrees", "y": "refuted"}


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        (lambda t, x: t * t, "linearity"),
        (lambda t, x: t + 1, "linearity"),
        (lambda t, x: t[:1], "shape"),
    ],
)
def test_a_jvp_is_looked_at_raw(rule: Callable[..., Any], kind: str) -> None:
    report = verify_jvp(rule, of=lambda xp, x: 1 * x, inputs={"x": real("n")}, oracles=AUTOGRAD)
    assert {(c.diagnosis or {}).get("kind") for c in report.checks} == {kind}


# ---------------------------------------------------------------------- slips


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"inputs": None}, "say where the inputs live"),
        ({"of": 3}, "of=3 is no forward; write of=forward"),
        ({"of": {"numpy": softmax}}, "write a framework of autograd, jax, torch, tensorflow"),
        ({"oracles": "torhc"}, "did you mean torch"),
        ({"dtypes": "float8"}, "unknown dtype 'float8'"),
        ({"backend": "jaxx"}, "unknown backend 'jaxx'"),
        ({"profile": "fast"}, "there is no profile 'fast'"),
        ({"data": {"w": points(2, 2)}}, "the data hold w, but softmax_rule also needs z"),
        ({"inputs": {"z": constant(real("m n"))}}, "no input is differentiable"),
    ],
)
def test_slips_are_told(options: dict[str, Any], text: str) -> None:
    given = {"of": softmax, "inputs": Z, **options}
    with pytest.raises(UsageError, match=text.replace("(", r"\(")):
        verify_vjp(softmax_rule, **given)


def test_a_domain_that_is_a_shape_is_told() -> None:
    with pytest.raises(SpecError, match="does not say where its values live"):
        verify_vjp(softmax_rule, of=softmax, inputs={"z": "m n"})


def test_a_rule_that_raises_is_an_error_with_its_own_line() -> None:
    def broken(v: Any, z: Any) -> Any:
        return {"z": v}["gradient"]

    report = verify_vjp(broken, of=softmax, inputs=Z, oracles=AUTOGRAD)
    assert verdicts(report) == {"error"}
    assert not report.ok
    assert "test_verify_vjp.py" in report.checks[0].reason


def test_at_a_kink_what_some_choice_at_each_tie_gives_is_accepted():
    """max(x, 0) − max(−3x, 0) has slopes 3 and 1 at 0; the chain rule with relu'(0) = 0 gives 0."""

    def forward(xp, x):
        return xp.maximum(x, 0) - xp.maximum(-3 * x, 0)

    def rule(at_zero):
        return lambda v, x: v * np.where(x > 0, 1.0, np.where(x < 0, 3.0, at_zero))

    data = {"x": np.array([0.0, 1.0, -1.0])}
    for at_zero in (0.0, 1.0, 2.0, 3.0, 4.0):
        report = verify_vjp(
            rule(at_zero), of=forward, inputs={"x": real("n")}, oracles=["torch"], data=data
        )
        assert report.exit_code != 1, (at_zero, str(report))
    for wrong in (-1.0, 8.0):
        report = verify_vjp(
            rule(wrong), of=forward, inputs={"x": real("n")}, oracles=["torch"], data=data
        )
        assert report.exit_code == 1, wrong


def test_where_the_rules_own_framework_refuses_the_forward_nothing_is_held_against_the_rule():
    """NumPy may find a tiny pivot where torch finds none: there the forward is not defined in torch."""
    import torch

    singular = np.array([[1.0, 1.0], [1.0, 1.0]])

    def forward(xp, a):
        if hasattr(a, "requires_grad") and not float(xp.sum(a)) - 4.0:
            raise np.linalg.LinAlgError("no pivot")
        return a * a

    def rule(v, a):
        if not float(a.sum()) - 4.0:
            raise torch.linalg.LinAlgError("no pivot")
        return 2 * a * v

    given = {"of": forward, "inputs": {"a": real("n n")}, "backend": "torch", "oracles": "autograd"}
    (check,) = verify_vjp(rule, data={"a": singular}, **given).checks
    assert check.verdict == "undecided"
    assert "the forward raises" in check.reason
    (check,) = verify_vjp(rule, data={"a": singular + 1}, **given).checks
    assert check.verdict == "agrees"

    def broken(v, a):
        raise torch.linalg.LinAlgError("no pivot")

    (check,) = verify_vjp(broken, data={"a": singular + 1}, **given).checks
    assert check.verdict == "error"
