"""Which forwards are differentiated slice by slice, and that their gradients are the whole's."""

# ruff: noqa: ARG001, ARG005 - rules and forwards take what their signature demands

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from field_cases import points, sine, softmax, softmax_rule

from gradcheck import constant, labels, number, one_hot, probability, real, verify_jvp, verify_vjp
from gradcheck.layers import pullback, slices
from gradcheck.layers.bench import Bench, Point
from gradcheck.layers.given import given
from gradcheck.layers.probes import Prober
from gradcheck.layers.reference import as_reference
from gradcheck.layers.rule import read_domains
from gradcheck.layers.vjp import _rule
from gradcheck.oracles import Oracle
from gradcheck.reports.model import Verdict

Z = {"z": real("m n")}


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of a size at which whole gradients are quick, and which JAX takes as it takes large ones.

    Its small gradients are one program each, which would be compiled again for every slice.
    """
    monkeypatch.setattr(slices, "ENTRIES", 64)
    monkeypatch.setattr(slices, "_COSTLY", {})
    monkeypatch.setattr(pullback, "_COMPILED", 0)


def prepared(
    forward: Any, inputs: dict[str, Any], data: dict[str, Any], params: Any = None
) -> tuple[Bench, Point]:
    domains, known = read_domains(inputs, params)
    reference = as_reference(forward, domains, known)
    rule = _rule(
        "vjp", lambda v, *a, **_: v, forward, reference, inputs, params, None, "r", None, "numpy"
    )
    bench = Bench(rule, reference, "float64", "cpu", 0)
    example = given(rule, data, "float64")
    return bench, Point(example, reference.values(example, "float64"))


def found(
    forward: Any, inputs: Any = None, data: Any = None, name: str = "z", params: Any = None
) -> slices.Slicing | None:
    given_ = {"z": points(40, 30)} if data is None else data
    bench, point = prepared(forward, inputs or Z, given_, params)
    return slices.slicing(bench, point, name, slices.ENTRIES)


def largest_of_column(xp: Any, z: Any) -> Any:
    return xp.where(z == xp.max(z, axis=0, keepdims=True), z, 0.0)


def looks_at_its_size(xp: Any, z: Any) -> Any:
    return z * z if z.shape[0] > 3 else z


def by_constant(xp: Any, z: Any) -> Any:
    return z * xp.asarray(np.arange(40.0)[:, None])


ROWS = {
    "softmax": softmax,
    "log of a sum": lambda xp, z: xp.log(xp.sum(xp.exp(z), axis=-1)),
    "largest of a row": lambda xp, z: xp.where(z == xp.max(z, axis=-1, keepdims=True), z, 0.0),
    "centred row": lambda xp, z: xp.sqrt(xp.mean((z - xp.mean(z, axis=1, keepdims=True)) ** 2, axis=1) + 1),
    "transposed": lambda xp, z: xp.permute_dims(softmax(xp, z), (1, 0)),
    "two outputs": lambda xp, z: (softmax(xp, z), xp.sum(z * z, axis=-1)),
    "a global shift that cancels": lambda xp, z: z - xp.sum(z) + xp.sum(z) + z * z,
}  # fmt: skip
COUPLED = {
    "mean of all": lambda xp, z: z * z - xp.mean(z),
    "a loss": lambda xp, z: xp.sum(z * z),
    "two outputs": lambda xp, z: (z * z, xp.sum(z * z)),
    "columns": lambda xp, z: z / (1 + xp.sum(z * z, axis=0, keepdims=True)),
    "inside a function": lambda xp, z: xp.exp(-z * z / (1 + xp.sum(z * z))),
    "a maximum": lambda xp, z: z - xp.max(z, axis=0, keepdims=True) + xp.sum(z, axis=1, keepdims=True),
    "a product of rows": lambda xp, z: xp.einsum("pq,rq->pr", z, z),
    "its size": lambda xp, z: softmax(xp, z) / z.shape[0],
    "selector": lambda xp, z: largest_of_column(xp, z) * xp.sum(z, axis=1, keepdims=True),
    "running sum": lambda xp, z: xp.cumulative_sum(z, axis=0),
    "looks at its size": looks_at_its_size,
    "an array of the size": by_constant,
    "reversed": lambda xp, z: xp.flip(z, axis=0) + xp.sum(z, axis=1, keepdims=True),
}  # fmt: skip


@pytest.mark.parametrize("forward", ROWS.values(), ids=ROWS)
def test_forwards_that_act_by_rows_are_sliced(forward: Any) -> None:
    slicing = found(forward)
    assert slicing is not None
    assert slicing.size == 40
    assert slicing.inputs == (0,)
    windows = list(slicing.windows())
    assert min(w.stop - w.start for w in windows) >= 2
    assert [i for w in windows for i in range(w.start, w.stop)] == list(range(40))


@pytest.mark.parametrize("forward", COUPLED.values(), ids=COUPLED)
def test_forwards_whose_rows_meet_are_not(forward: Any) -> None:
    slicing = found(forward)
    # By columns some of them may be.
    assert slicing is None or slicing.size == 30


def test_the_axis_is_found_in_every_input() -> None:
    def loss(xp: Any, z: Any, w: Any, b: Any, y: Any, t: Any, eps: Any) -> Any:
        rows = xp.sum(y * xp.log(softmax(xp, z @ w + b) + eps), axis=-1)
        return rows + xp.sum(xp.one_hot(t, w.shape[1]) * b, axis=-1)

    inputs = {
        "z": real("m n"), "w": real("n o"), "b": real("#m o"),
        "y": constant(probability("m o")), "t": labels("m", below="o"),
    }  # fmt: skip
    data = {
        "z": points(40, 30), "w": points(30, 5), "b": points(1, 5), "y": np.full((40, 5), 0.2),
        "t": np.arange(40) % 5, "eps": 1e-3,
    }  # fmt: skip
    params = {"eps": number(1e-6, 1e-2)}
    slicing = found(loss, inputs, data, params=params)
    assert slicing is not None
    assert slicing.inputs == (0, None, None, 0, 0)
    assert slicing.outputs == (0,)
    # Every row adds to the gradients of these.
    assert found(loss, inputs, data, "w", params) is None
    wide = {**data, "b": points(40, 5)}
    slicing = found(loss, inputs, wide, params=params)
    assert slicing is not None
    assert slicing.inputs == (0, None, 0, 0, 0)


def test_a_matrix_with_itself_and_sizes_without_a_name_are_not_sliced() -> None:
    assert found(lambda xp, z: z * z, {"z": real("m m")}, {"z": points(40, 40)}) is None
    assert found(lambda xp, z: z * z, {"z": real("40 30")}) is None


@pytest.mark.parametrize("oracle", ["torch", "jax", "autograd"])
@pytest.mark.parametrize("shape", ["rows", "columns", "line"])
def test_a_gradient_by_slices_is_the_whole_one(
    oracle: str, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, inputs, data = {
        "rows": (softmax, Z, {"z": points(41, 30)}),
        "columns": (lambda xp, z: z / (1 + xp.sum(z * z, axis=0)), Z, {"z": points(30, 41)}),
        "line": (sine, {"z": real("n")}, {"z": points(3001)}),
    }[shape]
    bench, point = prepared(forward, inputs, data)
    prober = Prober(bench, point, "z", Oracle(oracle, oracle), 0)
    vectors = prober.signs(0)
    sliced = prober._oracle("float64")
    assert isinstance(sliced, slices.Sliced)
    monkeypatch.setattr(slices, "ENTRIES", 1 << 40)
    whole = prober._oracle("float64")
    assert isinstance(whole, slices.Whole)
    want = whole(vectors)
    np.testing.assert_allclose(sliced(vectors), want, rtol=1e-13, atol=1e-15)
    place = tuple(n - 1 for n in want.shape)
    assert sliced.at(vectors, place) == pytest.approx(whole.at(vectors, place), rel=1e-13)
    reused = np.empty_like(want)
    assert sliced(vectors, reused) is reused


def leaks(v: Any, z: Any) -> Any:
    """What goes from one row to another, far from it."""
    gradient = softmax_rule(v, z)
    gradient[2, 5] += v.dtype.type(1e-3) * v[37, 7]
    return gradient


@pytest.mark.parametrize("oracle", ["torch", "jax", "autograd"])
def test_an_error_between_slices_is_found_and_named(oracle: str) -> None:
    data = {"z": points(40, 300)}
    right = verify_vjp(softmax_rule, of=softmax, inputs=Z, data=data, oracles=oracle)
    assert right.ok, str(right)
    (check,) = verify_vjp(leaks, of=softmax, inputs=Z, data=data, oracles=oracle).checks
    assert check.verdict is Verdict.REFUTED
    assert check.counterexample is not None
    assert check.counterexample.entry == "∂out[37,7]/∂z[2,5]"


def push(t: Any, z: Any) -> Any:
    return softmax_rule(t, z)  # its Jacobian is symmetric


def test_a_jvp_is_held_against_slices_too() -> None:
    data = {"z": points(40, 300)}
    right = verify_jvp(push, of=softmax, inputs=Z, data=data, oracles=["torch", "jax"])
    assert right.ok, str(right)

    def off(t: Any, z: Any) -> Any:
        moved = push(t, z)
        moved[37, 7] += 1e-3 * t[2, 5]
        return moved

    (check,) = verify_jvp(off, of=softmax, inputs=Z, data=data, oracles="torch").checks
    assert check.counterexample is not None
    assert check.counterexample.entry == "∂out[37,7]/∂z[2,5]"
    assert check.counterexample.claim_value == pytest.approx(1e-3)


def test_the_number_of_threads_stays_the_users() -> None:
    import torch

    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            data = {"z": points(40, 300)}
            assert verify_vjp(softmax_rule, of=softmax, inputs=Z, data=data, oracles="torch").ok
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_what_fails_in_a_slice_is_told() -> None:
    def refuses(xp: Any, z: Any) -> Any:
        if isinstance(getattr(z, "shape", (0,))[0], int) and type(z).__module__ == "torch":
            raise RuntimeError("no kernel for this")
        return z * z

    (check,) = verify_vjp(
        lambda v, z: 2 * v * z, of=refuses, inputs=Z, data={"z": points(40, 300)}, oracles="torch"
    ).checks
    assert check.verdict is Verdict.ERROR
    assert "no kernel for this" in check.reason


def _peak(kind: Any) -> float:
    z = points(400, 500)
    verify = verify_vjp if kind == "vjp" else verify_jvp
    tracemalloc.start()
    try:
        assert verify(softmax_rule, of=softmax, inputs=Z, data={"z": z}, oracles="autograd").ok
        return tracemalloc.get_traced_memory()[1] / z.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["vjp", "jvp"])
def test_an_oracle_needs_the_memory_of_a_slice(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Below a million entries the forward may be carried as a whole.
    monkeypatch.setattr("gradcheck.layers.local.CARRIED", 2000)
    monkeypatch.setattr(slices, "ENTRIES", 5000)
    _peak(kind)  # what is imported stays
    small = _peak(kind)
    # The input, the outputs, both gradients, cotangents, and what the rule itself makes.
    assert small < 14
    monkeypatch.setattr(slices, "ENTRIES", 1 << 40)
    assert _peak(kind) > small


def _halved(xp, x, t):
    return x * (1 - 0.5 * xp.one_hot(t, x.shape[-1]))


def _right(v, x, t):
    scale = np.ones(x.shape)
    scale[np.arange(len(t)), t] = 0.5
    return v * scale


@pytest.mark.parametrize(("rule", "verdict"), [(_right, "agrees"), (lambda v, x, t: v, "refuted")])
def test_classes_are_no_slices_since_labels_count_them(rule, verdict):
    """In a slice of the classes a label would be counted from the slice's first one."""
    data = {
        "x": np.random.default_rng(0).normal(size=(2, 300_000)),
        "t": np.array([270_000, 299_000]),
    }
    inputs = {"x": real("m n"), "t": labels("m", below="n")}
    (check,) = verify_vjp(rule, of=_halved, inputs=inputs, oracles="autograd", data=data).checks
    assert str(check.verdict) == verdict


def test_rows_that_sum_to_one_are_not_cut():
    """Σ_q y = 1 was used where the forward was traced, and holds of no part of a row."""

    def forward(xp, z, y):
        return z * xp.sum(y, axis=-1, keepdims=True)

    z = np.random.default_rng(0).normal(size=(2, 300_000))
    z[:, :2] = z[:, -2:] = 0
    y = np.zeros(z.shape)
    y[:, 150_000] = 1
    inputs = {"z": real("m n"), "y": one_hot("m n")}
    (check,) = verify_vjp(
        lambda v, z, y: v, of=forward, inputs=inputs, oracles="autograd", data={"z": z, "y": y}
    ).checks
    assert str(check.verdict) == "agrees"
