"""A framework's own formula may round where the forward does not; another function is another matter."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from gradcheck import Spec, delta, einsum, load, real, size, verify, verify_layer
from gradcheck.oracles.rounding import measured_rounding

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parent.parent
softmax = load("softmax")


def loss(xp, z, y):
    """Binary cross-entropy, without cancellation where z is negative and y small."""
    return xp.mean(xp.logaddexp(z, 0) - y * z)


def cancelling(z, y):
    """The same, as torch and TensorFlow compute it: (1 - y) z - log σ(z)."""
    return ((1 - y) * z - torch.nn.functional.logsigmoid(z)).mean()


def entropy(native):
    """The spec with somebody's own implementation; drawn where that one loses digits."""
    return Spec(
        loss,
        inputs={"z": real("m", -9, -6), "y": real("m", 0, 0.01)},
        output={"L": ""},
        jacobian={
            "z": (einsum("p->p", "sigmoid(z)") - einsum("p->p", "y")) / size("m"),
            "y": -einsum("p->p", "z") / size("m"),
        },
        native={"torch": native},
        name="entropy",
    )


def values(arrays, dtype):
    tensors = [torch.tensor(a, dtype=getattr(torch, dtype)) for a in arrays]
    return [cancelling(*tensors).double().numpy()]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_measured_rounding_covers_what_cancels_and_little_more(dtype):
    rng = np.random.default_rng(0)
    for _ in range(50):
        z = rng.uniform(-9, -6, 1).astype(dtype).astype(float)
        y = rng.uniform(0, 0.01, 1).astype(dtype).astype(float)
        true = np.log1p(np.exp(np.longdouble(z))) - np.longdouble(y) * z
        (allowed,) = measured_rounding(values, [z, y], dtype)
        unit = np.finfo(dtype).eps / 2
        assert abs(values([z, y], dtype)[0] - true) <= allowed + 2 * unit * true
        assert allowed <= 32 * 9 * unit


def test_labels_are_not_moved_and_what_refuses_another_dtype_measures_nothing():
    def picky(arrays, dtype):
        assert arrays[1].dtype == np.int64
        np.testing.assert_array_equal(arrays[1], [0, 1])
        if dtype != "float64":
            raise TypeError(dtype)
        return [arrays[0]]

    assert measured_rounding(picky, [np.ones(2), np.array([0, 1])], "float64") is None
    assert measured_rounding(picky, [np.ones(2), np.array([0, 1])], "float32") is None


@pytest.mark.parametrize("seed", range(3))
def test_a_right_implementation_that_cancels_is_no_other_function(seed):
    for native in (cancelling, torch.nn.functional.binary_cross_entropy_with_logits):
        report = verify(
            entropy(native), oracles=["native"], dtypes=["float64", "float32"], seed=seed
        )
        assert [str(c.verdict) for c in report.checks] == ["agrees"] * 4, str(report)


@pytest.mark.parametrize(
    "native",
    [
        lambda z, y: cancelling(z, y) * (1 + 1e-5),
        lambda z, y: cancelling(z, y) + 1e-5,
        lambda z, y: cancelling(z, y) * len(z),
        lambda z, y: cancelling(z, 1 - y),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_another_function_is_found_though_it_cancels(native, dtype):
    report = verify(entropy(native), oracles=["native"], dtypes=[dtype])
    assert {str(c.verdict) for c in report.checks} == {"refuted"}
    assert all("computes another function" in c.reason for c in report.checks)


def plain_softplus(z):
    """From z = -17 on 0 in float32, and from -37 on in float64."""
    return torch.log(1 + torch.exp(z))


def softplus(native=plain_softplus, lo=-60, hi=60):
    return Spec(
        lambda xp, z: xp.logaddexp(z, 0),
        inputs={"z": real("n", lo, hi)},
        output={"s": "n"},
        jacobian={"z": einsum("p,pq->pq", "sigmoid(z)", delta)},
        native={"torch": native},
        name="softplus",
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("lo", "hi"), [(-60, 60), (-60, -20), (-9, -6)])
def test_an_implementation_that_loses_all_digits_of_a_part_is_no_other_function(dtype, lo, hi):
    (check,) = verify(softplus(lo=lo, hi=hi), oracles=["native"], dtypes=[dtype]).checks
    assert str(check.verdict) == "agrees", check.reason


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("most", [1e-3, 1e-9, None])
def test_an_implementation_that_loses_what_is_small_is_no_other_function(dtype, most):
    lo, hi = (-most, most) if most else (-40, 40)
    spec = Spec(
        lambda xp, x: xp.expm1(x),
        inputs={"x": real("n", lo, hi)},
        output={"y": "n"},
        jacobian={"x": einsum("p,pq->pq", "exp(x)", delta)},
        native={"torch": lambda x: torch.exp(x) - 1},
        name="expm1",
    )
    (check,) = verify(spec, oracles=["native"], dtypes=[dtype]).checks
    assert str(check.verdict) == "agrees", check.reason


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_wrong_in_one_format_alone_does_not_excuse_itself(dtype):
    def native(z):
        return plain_softplus(z) * (1.5 if str(z.dtype).endswith(dtype) else 1.0)

    report = verify(softplus(native, -2, 2), oracles=["native"], dtypes=[dtype], profile="quick")
    (check,) = report.checks
    assert str(check.verdict) == "refuted"
    assert "computes another function" in check.reason


@pytest.mark.parametrize(
    ("judged", "most"), [("float32", 64 * 2.0**-24), ("float16", 2.0**-9), ("bfloat16", 2.0**-6)]
)
def test_the_allowance_is_that_of_another_format(judged, most):
    def wrong(arrays, dtype):
        kind = "float32" if dtype == "bfloat16" else dtype
        return [(arrays[0] / 3).astype(kind) * (1.5 if dtype == judged else 1)]

    point = np.array([1.0, 2.0])
    (allowed,) = measured_rounding(wrong, [point], judged)
    assert 0 < np.max(allowed) <= most * 2 * (1 + 2.0**-6)


def test_where_little_is_rounded_little_is_allowed():
    off = Spec(
        softmax.forward,
        inputs=softmax.inputs,
        output={"a": "m n"},
        jacobian=softmax.jacobian,
        native={"torch": lambda z: torch.softmax(z, -1) * (1 + 1e-12)},
        name="off",
    )
    (check,) = verify(off, oracles=["native"], dtypes=["float64"], profile="quick").checks
    assert "computes another function" in check.reason
    ours, theirs = re.search(
        r"it gives (\S+) where the forward gives (\S+)$", check.reason
    ).groups()
    assert ours != theirs, "numbers that differ are shown to differ"


# ---------------------------------------------------------------- layers


class Cancelling(torch.autograd.Function):
    """A right rule with a forward that cancels."""

    scale = 1.0

    @staticmethod
    def forward(ctx, z, y):
        ctx.save_for_backward(z, y)
        return cancelling(z, y) * Cancelling.scale

    @staticmethod
    def backward(ctx, g):
        z, y = ctx.saved_tensors
        return g * (torch.sigmoid(z) - y) / len(z), -g * z / len(z)


@pytest.mark.parametrize("scale", [1.0, 1 + 1e-5])
def test_a_layer_whose_own_forward_cancels_is_judged_by_its_gradient(monkeypatch, scale):
    monkeypatch.setattr(Cancelling, "scale", scale)
    report = verify_layer(
        Cancelling.apply,
        of=entropy(cancelling),
        oracles=["autograd"],
        dtypes=["float64", "float32"],
    )
    found = {str(c.verdict) for c in report.checks}
    assert found == ({"agrees"} if scale == 1.0 else {"refuted"}), str(report)
    assert ("another function" in str(report)) == (scale != 1.0)
    notes = [n for n in report.notes if "the layer's own forward rounds where `of` does not" in n]
    for dtype in ("float64", "float32") if scale == 1.0 else ():
        assert sum(f"in {dtype} L is up to" in n for n in notes) == 1
    assert len(notes) == (2 if scale == 1.0 else 0), report.notes


class Kernel(torch.autograd.Function):
    """A right rule with a forward of two kernels, of which one is wrong beyond a block."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        found = x.exp()
        if x.dtype == torch.float32:
            found[64:] *= 1.5
        return found

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * x.exp()


@pytest.mark.parametrize(("dtype", "verdict"), [("float32", "refuted"), ("float64", "agrees")])
def test_a_kernel_that_is_wrong_in_one_format_is_another_function(dtype, verdict):
    report = verify_layer(
        Kernel.apply, of=lambda xp, x: xp.exp(x), inputs={"x": real("n", -2, 2)},
        oracles=["autograd"], dtypes=[dtype],
    )  # fmt: skip
    assert [str(c.verdict) for c in report.checks] == [verdict], str(report)
    assert ("the layer computes another function than `of`" in str(report)) == (
        verdict == "refuted"
    )
    assert "np.array" not in str(report), "nobody wants to read a thousand numbers"


class Shifted(torch.nn.Module):
    """A module with a buffer, which stands in the dtype to which the module was moved."""

    def __init__(self):
        super().__init__()
        self.register_buffer("shift", torch.zeros(()))

    def forward(self, z, y):
        assert self.shift.dtype == z.dtype, f"{self.shift.dtype} beside {z.dtype}"
        return Cancelling.apply(z + self.shift, y)


def test_a_module_is_moved_back_after_its_rounding_was_measured():
    report = verify_layer(
        Shifted(), of=entropy(cancelling), oracles=["autograd"], dtypes=["float32", "float64"]
    )
    assert {str(c.verdict) for c in report.checks} == {"agrees"}, str(report)


def test_the_gallery_case_that_was_blamed():
    spec = ROOT / "examples" / "specs" / "binary_cross_entropy.py"
    report = verify(
        load(str(spec)), oracles=["native"], dtypes=["float32"], profile="quick", seed=2
    )
    assert {str(c.verdict) for c in report.checks} == {"agrees"}
