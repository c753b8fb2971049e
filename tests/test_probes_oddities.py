"""Probes of odd inputs: without axes, without entries, at ties, in half precision, of opaque forwards."""

# ruff: noqa: ARG001, ARG005 - rules and forwards take what their signature demands

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from field_cases import softmax

from gradcheck import real, verify_jvp, verify_vjp
from gradcheck.reports.model import Verdict

X = {"x": real("n")}
Z = {"z": real("m n")}


def points(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape)


def scaled(xp: Any, x: Any, s: Any) -> Any:
    return x * s


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "agrees"), (1.1, "refuted")])
def test_an_input_without_axes(factor: float, verdict: str) -> None:
    report = verify_vjp(
        lambda v, x, s: (v * s, (v * x).sum() * x.dtype.type(factor)),
        of=scaled,
        inputs={"x": real("m n"), "s": real("")},
        data={"x": points(300, 50), "s": 2.0},
        oracles="torch",
    )
    check = report.checks[1]
    assert str(check.verdict) == verdict
    if factor != 1:
        assert "out[0 to 299, 0 to 49] is the block of outputs that is wrong there" in check.reason
        assert check.reason.endswith("and s that of the gradient")


@pytest.mark.parametrize("shape", [(0,), (3, 0)])
@pytest.mark.parametrize(
    ("verify", "rule"),
    [
        (verify_vjp, lambda v, x, w: (2 * v * x, np.zeros_like(w))),
        (verify_jvp, lambda t, x, w: 2 * t[0] * x),
    ],
)
def test_an_input_without_entries_beside_a_large_one(
    verify: Any, rule: Any, shape: tuple[int, ...]
) -> None:
    report = verify(
        rule,
        of=lambda xp, x, w: x * x + xp.sum(w),
        inputs={"x": real("m n"), "w": real("k j"[: 2 * len(shape) - 1])},
        data={"x": points(300, 50), "w": np.zeros(shape)},
        oracles="torch",
    )
    assert report.checks[0].verdict is Verdict.AGREES
    assert report.checks[1].verdict is Verdict.UNDECIDED
    assert "the Jacobian has no entries" in report.checks[1].reason


def test_ranges_of_several_outputs_name_both_ends() -> None:
    (check,) = verify_vjp(
        lambda v, x: v[0] * 2 * x + v[1] * 1.1,
        of=lambda xp, x: (x * x, xp.sum(x)),
        inputs={"x": real("m n")},
        data={"x": points(300, 50)},
        oracles="torch",
    ).checks
    assert check.verdict is Verdict.REFUTED
    assert "bisection: output 0, [150, 0] to output 1; then " in check.reason


def test_what_is_wrong_only_together_is_said_to_be() -> None:
    (check,) = verify_vjp(
        lambda v, x: 2 * v + 1e-15 * v.sum(),
        of=lambda xp, x: 2 * x,
        inputs=X,
        data={"x": points(3000)},
        oracles="torch",
    ).checks
    assert check.verdict is Verdict.REFUTED
    assert check.worst is not None
    assert check.worst > 1
    assert "; no single entry is beyond its bound, but x[" in check.reason


def smooth(xp: Any, x: Any) -> Any:
    """The identity, of two kinks that cancel; frameworks give 0 at 0."""
    return xp.where(x > 0, x, 0.0) - xp.where(-x > 0, -x, 0.0)


def with_zeros(n: int) -> Any:
    x = points(n)
    x[[3, 17]] = 0
    return x


@pytest.mark.parametrize("n", [50, 3000])
@pytest.mark.parametrize("oracle", ["torch", "autograd"])
def test_a_right_rule_is_not_blamed_for_what_oracles_take_at_ties(n: int, oracle: str) -> None:
    asked: Any = {"of": smooth, "inputs": X, "data": {"x": with_zeros(n)}, "oracles": oracle}
    (check,) = verify_vjp(lambda v, x: v.copy(), **asked).checks
    assert check.verdict is Verdict.AGREES
    assert check.kinks
    wrong = verify_vjp(lambda v, x: v * np.where(x == 0, 3.0, 1.0), **asked)
    assert wrong.exit_code == 1
    elsewhere = verify_vjp(lambda v, x: v * np.where(x == x[20], 3.0, 1.0), **asked)
    assert elsewhere.exit_code == 1


@pytest.mark.parametrize("n", [50, 3000])
@pytest.mark.parametrize(
    ("element", "exit_code"), [(0.0, 0), (0.6, 0), (1.2, 0), (1.7, 1), (-0.3, 1)]
)
def test_what_a_chain_rule_takes_at_ties_is_accepted(
    n: int, element: float, exit_code: int
) -> None:
    def kinked(xp: Any, x: Any) -> Any:
        return xp.maximum(x, 0) - 0.5 * xp.maximum(-x, 0)

    report = verify_vjp(
        lambda v, x: v * np.where(x == 0, element, np.where(x > 0, 1.0, 0.5)),
        of=kinked, inputs=X, data={"x": with_zeros(n)}, oracles="torch",
    )  # fmt: skip
    assert report.exit_code == exit_code, str(report)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_an_entry_that_is_lost_in_half_precision_is_no_state(dtype: str) -> None:
    def loses(v: Any, z: Any) -> Any:
        a = z.softmax(-1)
        gradient = a * (v - (v * a).sum(-1, keepdim=True))
        return gradient.masked_fill(gradient.abs() == gradient.abs().max(), 0)

    (check,) = verify_vjp(
        loses, of=softmax, inputs=Z, data={"z": 3 * points(20, 2000)}, oracles="torch",
        backend="torch", dtypes=dtype,
    ).checks  # fmt: skip
    assert check.verdict is Verdict.REFUTED
    assert check.counterexample is not None
    assert not check.counterexample.fault
    assert check.counterexample.entry == "∂out[10,1106]/∂z[10,1106]"
    assert check.counterexample.claim_value == 0


def test_a_format_that_no_kernel_has_is_measured_in_another() -> None:
    import torch

    def rule(v: Any, x: Any) -> Any:
        inverse = torch.linalg.inv(x.float()).T
        return (-inverse @ v.float() @ inverse).to(x.dtype)

    (check,) = verify_vjp(
        rule, of=lambda xp, x: xp.linalg.inv(x), inputs={"x": real("m m")}, backend="torch",
        data={"x": 3 * np.eye(80) + 0.1 * points(80, 80)}, oracles="torch", dtypes="bfloat16",
    ).checks  # fmt: skip
    assert check.verdict is not Verdict.ERROR, check.reason
    assert check.verdict is not Verdict.REFUTED, str(check)


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (lambda g: g[:, :-1], "shape"),
        (lambda g: g.reshape(-1), "shape"),
        (lambda g: None, "none"),
        (lambda g: g.astype(np.float64), "dtype"),
    ],
    ids=["short", "flat", "none", "wide"],
)
def test_what_is_no_gradient_for_signs_only_is_a_fault(broken: Any, kind: str) -> None:
    (check,) = verify_vjp(
        lambda v, x: broken(2 * x * v) if v.any() else np.zeros_like(x),
        of=lambda xp, x: x * x,
        inputs={"x": real("m n")},
        data={"x": points(30, 200)},
        oracles="torch",
        dtypes="float32",
    ).checks
    assert check.verdict is Verdict.REFUTED, check.reason
    assert (check.diagnosis or {})["kind"] == kind


def opaque(forward: Any, rule: Any, x: Any) -> Any:
    report = verify_vjp(rule, of={"torch": forward}, inputs=X, data={"x": x}, backend="torch")
    (check,) = [c for c in report.checks if c.oracle == "torch"]
    return check


def one_off(gradient: Any) -> Any:
    found = gradient.clone()
    found[5] *= 1.5
    return found


def test_a_wrong_entry_is_no_kink_where_differences_are_too_coarse() -> None:
    """Nothing is carried through a framework's own function, and its steps span many periods."""
    import torch

    def waves(x: Any) -> Any:
        return torch.sin(1e6 * x)

    def right(v: Any, x: Any) -> Any:
        return v * 1e6 * torch.cos(1e6 * x)

    x = points(3000)
    assert opaque(waves, right, x).verdict is Verdict.AGREES
    wrong = opaque(waves, lambda v, x: one_off(right(v, x)), x)
    assert wrong.verdict is Verdict.UNDECIDED
    assert not wrong.kinks
    assert "x[5] is not what torch has, which shows no kink there" in wrong.reason
    large = opaque(lambda x: x + 1e9, lambda v, x: one_off(v), x)
    assert large.verdict is not Verdict.AGREES


@pytest.mark.parametrize(
    ("element", "verdict"), [(0.0, "agrees"), (0.7, "agrees"), (1.3, "refuted"), (-0.2, "refuted")]
)
def test_a_kink_of_an_opaque_forward_is_told_by_its_jump(element: float, verdict: str) -> None:
    import torch

    def steep(x: Any) -> Any:
        return torch.relu(x) + x * x

    def rule(v: Any, x: Any) -> Any:
        return v * (2 * x + torch.where(x == 0, element, (x > 0).to(x.dtype)))

    check = opaque(steep, rule, with_zeros(3000))
    assert str(check.verdict) == verdict, check.reason
