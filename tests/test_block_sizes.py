"""One axis beyond every usual block of a kernel: rules that forget all but their first block are refuted.

Right rules beside wrong ones; wrong from column 128, or from the last of 1025 only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradcheck import constant, labels, real, verify_jvp, verify_layer, verify_vjp
from gradcheck.checking.pool import BLOCK, Space, beyond_block
from gradcheck.checking.search import examples
from gradcheck.domains import as_domain
from gradcheck.layers import blocks, extent

ROWS = {"z": real("m n")}
X = {"x": real("m n")}
AUTOGRAD = {"oracles": "autograd"}


def softmax(xp: Any, z: Any) -> Any:
    e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def softmax_of(z: Any) -> Any:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def backward(v: Any, z: Any, block: int | None = None) -> Any:
    a = softmax_of(z)
    return a * (v - (v * a)[:, :block].sum(-1, keepdims=True))


def cube(xp: Any, x: Any) -> Any:  # noqa: ARG001
    return x * x * x


def cube_backward(v: Any, x: Any, start: int | None = None, stop: int | None = None) -> Any:
    g = 3 * x * x * v
    if start is not None:
        g[..., start:stop] = 0
    return g


def only(report: Any) -> Any:
    (check,) = report.checks
    return check


def verdicts(report: Any) -> list[str]:
    return [str(c.verdict) for c in report.checks]


@pytest.mark.parametrize("profile", ["quick", "standard"])
@pytest.mark.parametrize("block", [64, 128, 1024])
def test_a_row_sum_that_stops_at_its_first_block(profile, block):
    report = verify_vjp(
        lambda v, z: backward(v, z, block), softmax, ROWS, profile=profile, **AUTOGRAD
    )
    check = only(report)
    assert str(check.verdict) == "refuted", str(report)
    assert "found by signed probes of z (2, 1025) and bisection" in check.reason
    edge = f"{block} to 1024" if block < 1024 else "1024"
    assert f", {edge}] is the block of outputs that is wrong there" in check.reason
    assert "z[0 to 1, 0 to 1024] that of the gradient" in check.reason
    assert "n = 1025" in str(report)
    much = 'profile="quick", ' if profile == "quick" else ""
    assert f'dtypes=["float64"], {much}seed=0)' in check.counterexample.snippet


def test_the_right_row_sum_agrees_and_says_what_was_tried():
    report = verify_vjp(backward, softmax, ROWS, **AUTOGRAD)
    check = only(report)
    assert report.ok, str(report)
    assert check.exercised["beyond 1024"] == 2
    assert "beyond 1024" not in check.never
    assert check.probes == 6
    assert check.detects < 1e-13
    assert "beyond 1024 2" in str(report)
    assert "nothing beyond" not in str(report)


@pytest.mark.parametrize(
    ("start", "stop", "place"),
    [(128, None, "128 to 1024"), (1024, None, "1024"), (200, 300, "200 to 299")],
)
def test_columns_that_a_kernel_forgets(start, stop, place):
    wrong = verify_vjp(lambda v, x: cube_backward(v, x, start, stop), cube, X, **AUTOGRAD)
    assert verdicts(wrong) == ["refuted"]
    assert f"x[0 to 1, {place}] that of the gradient" in only(wrong).reason
    moved = verify_jvp(lambda u, x: cube_backward(u, x, start, stop), cube, X, **AUTOGRAD)
    assert verdicts(moved) == ["refuted"]
    assert f"out[0 to 1, {place}] that of the result" in only(moved).reason
    assert verify_jvp(cube_backward, cube, X, **AUTOGRAD).ok


def test_every_axis_has_its_turn():
    def product(xp: Any, a: Any, b: Any) -> Any:
        return xp.matmul(a, b)

    def rule(v: Any, a: Any, b: Any, m: Any = None, k: Any = None, n: Any = None) -> Any:
        da, db = v[:, :n] @ b[:, :n].T, a[:m].T @ v[:m]
        if k is not None:
            da[:, k:] = 0
        return da, db

    inputs = {"a": real("m k"), "b": real("k n")}
    right = verify_vjp(rule, product, inputs, **AUTOGRAD)
    assert right.ok, str(right)
    assert all(c.exercised["beyond 1024"] == 3 for c in right.checks)
    for axis, wanted in (
        ("m", ["agrees", "refuted"]),
        ("n", ["refuted", "agrees"]),
        ("k", ["refuted", "agrees"]),
    ):
        found = verify_vjp(
            lambda v, a, b, axis=axis: rule(v, a, b, **{axis: 512}), product, inputs, **AUTOGRAD
        )
        assert verdicts(found) == wanted, axis
        refuted = next(c for c in found.checks if str(c.verdict) == "refuted")
        assert refuted.counterexample.sizes[axis] == BLOCK


def test_leading_axes_and_a_bias_over_a_long_batch():
    def biased(xp: Any, x: Any, b: Any) -> Any:  # noqa: ARG001
        return x + b

    def rule(v: Any, x: Any, b: Any, rows: int | None = None) -> Any:  # noqa: ARG001
        return v, v.reshape(-1, v.shape[-1])[:rows].sum(0)

    inputs = {"x": real("... n"), "b": real("n")}
    assert verify_vjp(rule, biased, inputs, **AUTOGRAD).ok
    wrong = verify_vjp(lambda v, x, b: rule(v, x, b, 256), biased, inputs, **AUTOGRAD)
    assert verdicts(wrong) == ["agrees", "refuted"]
    assert "out[256 to 1024, " in wrong.checks[1].reason


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_right_rules_are_not_blamed_in_any_dtype(dtype):
    def row_max(xp: Any, z: Any) -> Any:
        return xp.max(z, axis=-1)

    def of_max(v: Any, z: Any) -> Any:
        found = np.zeros_like(z)
        found[np.arange(len(z)), z.argmax(-1)] = v
        return found

    def relu(xp: Any, x: Any) -> Any:
        return xp.maximum(x, 0)

    options = {"dtypes": dtype, **AUTOGRAD}
    for rule, of, inputs in (
        (backward, softmax, ROWS),
        (of_max, row_max, ROWS),
        (lambda v, x: np.where(x > 0, v, v * 0), relu, X),
        (cube_backward, cube, X),
    ):
        report = verify_vjp(rule, of, inputs, **options)
        assert report.ok, str(report)
        assert only(report).exercised["beyond 1024"] >= 1, str(report)


def test_a_kink_of_a_tangent_is_no_error():
    import torch

    def relu(xp: Any, x: Any) -> Any:
        return xp.maximum(x, 0)

    data = {"x": np.where(np.arange(3000) % 7, np.linspace(-1, 1, 3000), 0.0)}
    for of in (relu, {"torch": torch.relu}):
        for at_zero in (0.0, 0.5, 1.0):
            report = verify_jvp(
                lambda u, x, h=at_zero: u * np.where(x > 0, 1, np.where(x < 0, 0, h)), of,
                {"x": real("n")}, data=data, oracles="torch",
            )  # fmt: skip
            assert "refuted" not in verdicts(report), str(report)
        wrong = verify_jvp(
            lambda u, x: u * (x > -0.5), of, {"x": real("n")}, data=data, oracles="torch"
        )
        assert verdicts(wrong) == ["refuted"], str(wrong)


def test_kinks_of_a_large_input_of_which_only_torch_has_the_forward():
    import torch

    data = {"x": np.where(np.arange(3000) % 100, np.linspace(-1, 1, 3000), 0.0)}
    options = {
        "of": {"torch": torch.relu},
        "inputs": {"x": real("n")},
        "data": data,
        "oracles": "torch",
    }
    right = verify_vjp(lambda v, x: v * np.where(x > 0, 1, np.where(x < 0, 0, 0.5)), **options)
    assert right.ok, str(right)
    assert only(right).kinks
    wrong = verify_vjp(lambda v, x: v * np.where(x > 0, 1, np.where(x < 0, 0, 1.5)), **options)
    assert verdicts(wrong) == ["refuted"]
    assert verdicts(verify_vjp(lambda v, x: v * (x >= -0.5), **options)) == ["refuted"]


class Trained:
    """A layer that is only seen to train itself: (old - new) / lr has lost digits that count at 1025."""

    def __init__(self) -> None:
        self.w = np.zeros(3)

    def update(self, x: Any, y: Any, lr: float, block: int | None = None) -> None:
        gap = (x @ self.w - y)[:block]
        self.w = self.w - lr * 2 * (x[:block].T @ gap)


@pytest.mark.parametrize("lr", [0.01, 7.0])
def test_what_reading_an_update_loses_is_allowed_for(lr):
    def loss(xp: Any, x: Any, y: Any, w: Any) -> Any:
        return xp.sum((xp.matmul(x, w) - y) ** 2)

    inputs = {"x": constant(real("m n")), "y": constant(real("m")), "w": real("n")}
    options = {"of": loss, "inputs": inputs, **AUTOGRAD}
    right = verify_layer(Trained(), update=lambda t, x, y: t.update(x, y, lr), lr=lr, **options)
    assert right.ok, str(right)
    assert only(right).exercised["beyond 1024"] == 2
    wrong = verify_layer(
        Trained(), update=lambda t, x, y: t.update(x, y, lr, 512), lr=lr, **options
    )
    assert verdicts(wrong) == ["refuted"]


def test_axes_of_a_modules_own_parameters_stay_as_they_are():
    import torch

    def of(xp: Any, x: Any, weight: Any) -> Any:
        return xp.matmul(x, weight.T)

    class Forgets(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, w: Any) -> Any:
            ctx.save_for_backward(x, w)
            return x @ w.T

        @staticmethod
        def backward(ctx: Any, v: Any) -> Any:
            x, w = ctx.saved_tensors
            return v @ w, v[:128].T @ x[:128]

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(3, 2))

        def forward(self, x: Any) -> Any:
            return Forgets.apply(x, self.weight)

    inputs = {"x": real("m n"), "weight": real("o n")}
    report = verify_layer(Layer(), of=of, inputs=inputs, dtypes="float64", **AUTOGRAD)
    assert verdicts(report) == ["agrees", "refuted"], str(report)
    linear = torch.nn.Linear(2, 3, bias=False)
    assert verify_layer(linear, of=of, inputs=inputs, dtypes="float64", **AUTOGRAD).ok
    assert report.checks[1].counterexample.sizes == {"m": BLOCK}


# ---------------------------------------------------------------------- what it costs


def test_where_1025_would_cost_too_much_a_smaller_block_is_tried_and_named(monkeypatch):
    # Entries alone decide, however busy the machine is.
    patient = replace(blocks._ALLOWED["standard"], seconds=np.inf)
    monkeypatch.setitem(blocks._ALLOWED, "standard", patient)

    def square(xp: Any, a: Any) -> Any:
        return xp.matmul(a, a)

    def rule(v: Any, a: Any, block: int | None = None) -> Any:
        return v[:, :block] @ a[:, :block].T + a.T @ v

    inputs = {"a": real("n n")}
    report = verify_vjp(rule, square, inputs, **AUTOGRAD)
    assert report.ok
    assert (
        "nothing beyond 257 was tried in n: at n = 1025 the inputs would have 1,050,625 entries, more than "
        "the 131,072 that the profile allows"
    ) in " ".join(report.notes)
    assert "beyond 1024" in only(report).never
    assert verdicts(verify_vjp(lambda v, a: rule(v, a, 128), square, inputs, **AUTOGRAD)) == [
        "refuted"
    ]


def test_a_condition_that_excludes_it_is_named():
    report = verify_vjp(backward, softmax, ROWS, where="n <= 32", **AUTOGRAD)
    assert report.ok
    (note,) = [n for n in report.notes if "nothing beyond" in n]
    assert note.endswith("in n: at n = 1025 nothing can be drawn: where='n <= 32' excludes it")
    tied = verify_vjp(backward, softmax, ROWS, where="n == 4 * m", profile="thorough", **AUTOGRAD)
    assert only(tied).exercised["beyond 1024"] == 2


def test_a_slow_forward_is_not_asked():
    import time

    def slow(xp: Any, x: Any) -> Any:  # noqa: ARG001
        time.sleep(0.1 if x.shape[-1] > 100 else 0)
        return x * x

    report = verify_vjp(lambda v, x: 2 * x * v, slow, {"x": real("n")}, **AUTOGRAD)
    assert report.ok
    assert "at n = 1025 the passes would take longer than the 2 s that the profile allows" in str(
        " ".join(report.notes)
    )


def test_a_rule_that_cannot_take_so_many_says_where_it_can():
    def limited(v: Any, x: Any) -> Any:
        if x.shape[-1] > 1024:
            raise RuntimeError("too many threads in a block")
        return 3 * x * x * v

    report = verify_vjp(limited, cube, X, **AUTOGRAD)
    assert verdicts(report) == ["error"]
    reason = only(report).reason
    assert reason.startswith("at m = 2, n = 1025: RuntimeError: too many threads in a block")
    assert reason.endswith('say where="n < 1025"')
    assert verify_vjp(limited, cube, X, where="n < 1025", **AUTOGRAD).ok


def test_what_one_oracle_found_right_is_not_asked_of_another():
    calls: list[tuple[int, ...]] = []

    def rule(v: Any, x: Any) -> Any:
        calls.append(x.shape)
        return 3 * x * x * v

    report = verify_vjp(rule, cube, {"x": real("n")}, oracles=["jax", "torch", "autograd"])
    assert report.ok
    assert [c.oracle for c in report.checks] == ["jax", "torch", "autograd"]
    assert [c.exercised.get("beyond 1024", 0) for c in report.checks] == [0, 0, 1]
    assert calls.count((BLOCK,)) == 4  # zeros, and three probes
    wrong = verify_vjp(
        lambda v, x: cube_backward(v, x, 512), cube, {"x": real("n")}, oracles=["torch", "autograd"]
    )
    assert verdicts(wrong) == ["refuted", "refuted"]


def test_jax_compiles_for_each_size_so_that_one_axis_is_enough_but_for_the_thorough():
    report = verify_vjp(backward, softmax, ROWS, oracles="jax")
    assert report.ok
    assert only(report).exercised["beyond 1024"] == 1
    assert "in m: at m = 1025 JAX would compile all anew, which the thorough profile does" in str(
        report.notes
    )
    wrong = verify_vjp(lambda v, z: backward(v, z, 1024), softmax, ROWS, oracles="jax")
    assert verdicts(wrong) == ["refuted"]


def test_differences_alone_try_nothing_so_large_and_say_so():
    report = verify_vjp(backward, softmax, ROWS, oracles="differences")
    assert report.ok
    assert "beyond 1024" in only(report).never


def test_a_label_beyond_the_first_block_of_classes():
    def picked(xp: Any, z: Any, y: Any) -> Any:
        return -xp.sum(z * xp.one_hot(y, z.shape[-1]))

    def rule(v: Any, z: Any, y: Any, block: int | None = None) -> Any:
        found = np.zeros_like(z)
        found[np.arange(len(y)), y] = -v
        if block is not None:
            found[:, block:] = 0
        return found

    inputs = {"z": real("m n"), "y": labels("m", below="n")}
    assert verify_vjp(rule, picked, inputs, **AUTOGRAD).ok
    assert verdicts(verify_vjp(lambda v, z, y: rule(v, z, y, 64), picked, inputs, **AUTOGRAD)) == [
        "refuted"
    ]


# ---------------------------------------------------------------------- the pieces


def test_sizes_beyond_a_block():
    space = examples({"z": as_domain(real("m n"), "z")}, {}).space
    assert isinstance(space, Space)
    assert beyond_block(space, "n")[0].as_dict() == {"m": 2, "n": 1025}
    assert beyond_block(space, "m", 129)[0].as_dict() == {"m": 129, "n": 2}
    tied = examples({"z": as_domain(real("m n"), "z")}, {}, where="n == 4 * m").space
    assert beyond_block(tied, "n")[0].as_dict() == {"m": 257, "n": 1028}
    closed = examples({"z": as_domain(real("m n"), "z")}, {}, where="n < 40").space
    assert beyond_block(closed, "n") == (None, "where='n < 40'")


def test_the_extent_of_an_error():
    wrong = {(i, j) for i in (1, 2) for j in range(128, 1025)}
    asked: list[tuple[int, ...]] = []

    def ask(place: tuple[int, ...]) -> bool:
        asked.append(place)
        return place in wrong

    assert extent.around((4, 1025), (1, 700), ask) == [range(1, 3), range(128, 1025)]
    assert len(asked) < 20
    assert extent.shown("a", [range(1, 2), range(128, 1025)]) == "a[1, 128 to 1024]"
    assert extent.shown("a", []) == "a"
    first, second = np.zeros((2, 5)), np.zeros((2, 5))
    assert extent.off(first, second) == []
    second[1, 2:4] = np.nan, 1.0
    assert extent.off(first, second) == [range(1, 2), range(2, 4)]
