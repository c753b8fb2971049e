"""`verify_jvp` at large shapes: what is wrong is seen, and what is right is not blamed."""

# ruff: noqa: ARG001, ARG005 - rules and forwards take what their signature demands

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from field_cases import softmax

from gradcheck import real, verify_jvp, verify_layer
from gradcheck.reports.model import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

X = {"x": real("n")}
Z = {"z": real("m n")}
WIDE = ("float64", "float32")
LOW = ("float16", "bfloat16")


def points(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape)


def only(report: Any) -> Any:
    (check,) = report.checks
    return check


def checked(rule: Any, of: Any, inputs: Any = X, **given: Any) -> Any:
    """The one check of a rule against torch."""
    return only(verify_jvp(rule, of=of, inputs=inputs, **{"oracles": "torch", **given}))


# ---------------------------------------------------------------------- frameworks


class Written:
    """softmax's rule in one framework, by its own operations."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def right(self, t: Any, z: Any) -> Any:
        if self.backend == "torch":
            a = z.softmax(-1)
            return a * (t - (a * t).sum(-1, keepdim=True))
        if self.backend == "jax":
            import jax

            a = jax.nn.softmax(z, axis=-1)
            return a * (t - (a * t).sum(-1, keepdims=True))
        e = np.exp(z - z.max(axis=-1, keepdims=True))
        a = e / e.sum(axis=-1, keepdims=True)
        return a * (t - (a * t).sum(-1, keepdims=True))

    def added(self, array: Any, place: tuple[Any, ...], value: Any) -> Any:
        """The array with something added at a place."""
        if self.backend == "jax":
            return array.at[place].add(value)
        found = array.clone() if self.backend == "torch" else array.copy()
        found[place] += value
        return found


def opaque_softmax(backend: str) -> Any:
    """What only torch can run; rules in other frameworks are held against it all the same."""
    import torch

    return {"torch": lambda z: torch.softmax(z, -1)}


FORWARDS: dict[str, Callable[[str], Any]] = {
    "known": lambda backend: softmax,
    "opaque": opaque_softmax,
}
FRAMEWORKS = [
    *(("numpy", d) for d in (*WIDE, "float16")),
    *((b, d) for b in ("torch", "jax") for d in (*WIDE, *LOW)),
]


@pytest.mark.parametrize("forward", FORWARDS)
@pytest.mark.parametrize(("backend", "dtype"), FRAMEWORKS)
def test_what_is_said_to_be_seen_is_seen(backend: str, dtype: str, forward: str) -> None:
    """An error of one and a half times the figure, in a single entry of the Jacobian."""
    given: Any = {
        "of": FORWARDS[forward](backend), "inputs": Z, "data": {"z": points(30, 300)},
        "dtypes": dtype, "backend": backend,
    }  # fmt: skip
    written = Written(backend)
    right = checked(written.right, **given)
    assert right.verdict is Verdict.AGREES, right.reason
    assert right.probes == 3
    off = 1.5 * right.detects
    assert off < 0.1

    def wrong(t: Any, z: Any) -> Any:
        return written.added(written.right(t, z), (17, 5), t[17, 200] * off)

    found = checked(wrong, **given)
    assert found.verdict is not Verdict.AGREES
    if forward == "known" and dtype in WIDE:  # differences of an opaque one are too coarse for this
        assert found.verdict is Verdict.REFUTED, found.reason
        assert found.counterexample.entry == "∂out[17,5]/∂z[17,200]"


@pytest.mark.parametrize("forward", FORWARDS)
@pytest.mark.parametrize(("backend", "dtype"), FRAMEWORKS)
def test_a_block_that_is_wrong(backend: str, dtype: str, forward: str) -> None:
    """A kernel that forgets the columns beyond its first block."""
    written = Written(backend)

    def wrong(t: Any, z: Any) -> Any:
        found = written.right(t, z)
        return written.added(found, (slice(None), slice(256, None)), -found[:, 256:])

    check = checked(
        wrong, of=FORWARDS[forward](backend), inputs=Z, data={"z": points(30, 300)}, dtypes=dtype,
        backend=backend,
    )  # fmt: skip
    # In half precision bounds may be wider than the derivative.
    assert check.verdict in (Verdict.REFUTED, Verdict.UNDECIDED), check.reason
    assert check.verdict is Verdict.REFUTED or dtype in LOW


# ---------------------------------------------------------------------- long sums


def squares(xp: Any, x: Any) -> Any:
    return xp.sum(x * x, axis=-1)


@pytest.mark.parametrize("dtype", WIDE)
def test_an_error_below_the_bound_of_a_long_sum(dtype: str) -> None:
    """The bound of a sum over 200,000 columns is larger than what one of them may be off."""
    x = points(2, 200_000)
    given: Any = {"of": squares, "inputs": {"x": real("m n")}, "data": {"x": x}, "dtypes": dtype}

    def rule(t: Any, x: Any) -> Any:
        return 2 * (t * x).sum(-1)

    right = checked(rule, **given)
    assert right.verdict is Verdict.AGREES, right.reason
    assert right.detects < (1e-10 if dtype == "float64" else 0.05)
    off = 1.5 * right.detects

    def wrong(t: Any, x: Any) -> Any:
        found = rule(t, x)
        found[1] += (off * t[1, 77_777]).astype(found.dtype)
        return found

    found = checked(wrong, **given)
    assert found.verdict is Verdict.REFUTED, found.reason
    assert found.counterexample.entry == "∂out[1]/∂x[1,77777]"


@pytest.mark.parametrize("dtype", LOW)
def test_a_bound_that_is_larger_than_the_derivative_says_little(dtype: str) -> None:
    """In half precision nothing is known of a sum of 50,000 terms that a rule adds up one by one."""
    import torch

    def forward(xp: Any, x: Any) -> Any:
        return xp.sum(x, axis=-1)

    x = points(3, 50_000)
    check = checked(
        lambda t, x: torch.cumsum(t, -1)[:, -1] * 0, of=forward, inputs={"x": real("m n")},
        data={"x": x}, dtypes=dtype, backend="torch",
    )  # fmt: skip
    assert check.verdict is not Verdict.AGREES


def test_what_is_wrong_only_together_is_said_to_be() -> None:
    check = checked(
        lambda t, x: 2 * t + 1e-15 * t.sum(),
        of={"torch": lambda x: 2 * x},
        data={"x": points(3000)},
    )
    assert check.verdict is Verdict.REFUTED
    assert check.worst > 1
    assert "; no single entry is beyond its bound, but out[" in check.reason


@pytest.mark.parametrize("dtype", LOW)
def test_an_entry_that_is_lost_in_half_precision(dtype: str) -> None:
    """No bound is finite where a sum may overflow in some order; what nothing cancels is still not gone."""
    written = Written("torch")

    def loses(t: Any, z: Any) -> Any:
        found = written.right(t, z)
        return found.masked_fill(found.abs() == found.abs().max(), 0)

    given: Any = {
        "of": softmax, "inputs": Z, "data": {"z": 3 * points(20, 2000)}, "dtypes": dtype,
        "backend": "torch",
    }  # fmt: skip
    assert checked(written.right, **given).verdict is Verdict.AGREES
    check = checked(loses, **given)
    assert check.verdict is Verdict.REFUTED, check.reason
    assert not check.counterexample.fault
    assert check.counterexample.entry == "∂out[10,1106]/∂z[10,1106]"
    assert check.counterexample.claim_value == 0


# ---------------------------------------------------------------------- no entries, no numbers


def test_an_output_without_entries_beside_a_large_one() -> None:
    def forward(xp: Any, x: Any, w: Any) -> Any:
        return x * 2, w * 3

    def rule(t: Any, x: Any, w: Any) -> Any:
        return 2 * t[0], 3 * t[1]

    report = verify_jvp(
        rule, of=forward, inputs={"x": real("n"), "w": real("k")},
        data={"x": points(3000), "w": np.zeros(0)}, oracles="torch",
    )  # fmt: skip
    assert report.checks[0].verdict is Verdict.AGREES, report.checks[0].reason
    assert report.checks[1].verdict is Verdict.UNDECIDED


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "agrees"), (1.1, "refuted")])
def test_an_input_without_axes(factor: float, verdict: str) -> None:
    report = verify_jvp(
        lambda t, x, s: t[0] * s + factor * t[1] * x,
        of=lambda xp, x, s: x * s,
        inputs={"x": real("m n"), "s": real("")},
        data={"x": points(300, 50), "s": 2.0},
        oracles="torch",
    )
    check = report.checks[1]
    assert str(check.verdict) == verdict, check.reason
    if factor != 1:
        assert (
            "s is the block of the input that is wrong there, and out[0 to 299, 0 to 49]"
            in check.reason
        )


def test_an_output_without_axes() -> None:
    def forward(xp: Any, x: Any) -> Any:
        return xp.sum(x * x * x)

    def rule(t: Any, x: Any) -> Any:
        return 3 * (t * x * x).sum()

    data = {"x": points(3000)}
    assert checked(rule, forward, data=data).verdict is Verdict.AGREES
    wrong = checked(lambda t, x: rule(t, x) + 1e-6 * t[5], forward, data=data)
    assert wrong.verdict is Verdict.REFUTED
    assert wrong.counterexample.entry == "∂out/∂x[5]"


def roots(xp: Any, x: Any) -> Any:
    return xp.sqrt(x)


def root_rule(t: Any, x: Any) -> Any:
    with np.errstate(all="ignore"):
        return t / (2 * np.sqrt(x))


@pytest.mark.parametrize("of", ["known", "opaque"])
def test_an_infinite_derivative_excuses_itself_alone(of: str) -> None:
    import torch

    forward: Any = roots if of == "known" else {"torch": torch.sqrt}
    x = np.abs(points(3000)) + 0.1
    x[7] = 0
    right = checked(root_rule, forward, data={"x": x})
    assert right.verdict is Verdict.UNDECIDED
    assert "the derivative is not finite" in right.reason

    def wrong(t: Any, x: Any) -> Any:
        return root_rule(t, x) * np.where(x == x[70], 1.5, 1)

    assert checked(wrong, forward, data={"x": x}).verdict is Verdict.REFUTED


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("of", ["known", "opaque"])
@pytest.mark.parametrize("dtype", WIDE)
def test_what_is_no_number_is_wrong(value: float, of: str, dtype: str) -> None:
    import torch

    def wrong(t: Any, x: Any) -> Any:
        found = t * np.cos(x)
        if t.any():
            found[1234] = value
        return found

    forward: Any = {"torch": torch.sin} if of == "opaque" else lambda xp, x: xp.sin(x)
    check = checked(wrong, forward, data={"x": points(3000)}, dtypes=dtype)
    assert check.verdict is Verdict.REFUTED, check.reason


def test_an_infinite_bound_excuses_nothing() -> None:
    """Where exp(exp(x)) leaves the format the bound is infinite; the rows beside are compared."""

    def forward(xp: Any, x: Any) -> Any:
        return xp.tanh(xp.exp(xp.exp(x)))

    def rule(t: Any, x: Any) -> Any:
        with np.errstate(all="ignore"):
            inner = np.exp(x)
            outer = np.exp(inner)
            slope = (1 - np.tanh(outer) ** 2) * outer * inner
            return np.where(outer > 50, 0, t * slope)

    x = np.linspace(-2, 1, 3000)
    x[2000:] = 7.5  # exp(exp(7.5)) is infinite, its tanh is 1
    given: Any = {"of": forward, "data": {"x": x}}
    right = checked(rule, **given)
    assert right.verdict is not Verdict.REFUTED, right.reason
    wrong = checked(lambda t, x: rule(t, x) * np.where(x == x[5], 1.2, 1), **given)
    assert wrong.verdict is Verdict.REFUTED
    lost = checked(lambda t, x: rule(t, x) + np.where(x > 7, t, 0), **given)
    assert lost.verdict is not Verdict.AGREES


# ---------------------------------------------------------------------- kinks


def with_zeros(n: int) -> Any:
    x = points(n)
    x[[3, 17]] = 0
    return x


def relu(xp: Any, x: Any) -> Any:
    return xp.maximum(x, 0)


@pytest.mark.parametrize("of", ["known", "opaque"])
@pytest.mark.parametrize(
    ("element", "verdict"),
    [(0.0, "agrees"), (0.7, "agrees"), (1.0, "agrees"), (1.3, "refuted"), (-0.2, "refuted")],
)
def test_an_element_at_a_kink(of: str, element: float, verdict: str) -> None:
    import torch

    forward: Any = relu if of == "known" else {"torch": torch.relu}
    check = checked(
        lambda t, x: t * np.where(x == 0, element, x > 0), forward, data={"x": with_zeros(3000)}
    )
    assert str(check.verdict) == verdict, check.reason
    # torch has 0 there for its relu, and a half for a maximum.
    assert bool(check.kinks) == (verdict == "agrees" and (element, of) != (0, "opaque"))


@pytest.mark.parametrize("of", ["known", "opaque"])
@pytest.mark.parametrize("dtype", ["float32", *LOW])
@pytest.mark.parametrize(("element", "verdict"), [(1.0, "agrees"), (1.5, "refuted")])
def test_an_element_at_a_kink_in_other_formats(
    of: str, dtype: str, element: float, verdict: str
) -> None:
    import torch

    forward: Any = relu if of == "known" else {"torch": torch.relu}
    check = checked(
        lambda t, x: t * torch.where(x == 0, element, (x > 0).to(x.dtype)), forward,
        data={"x": with_zeros(3000)}, dtypes=dtype, backend="torch",
    )  # fmt: skip
    assert str(check.verdict) == verdict, check.reason


@pytest.mark.parametrize(("element", "verdict"), [(1.0, "agrees"), (1.5, "refuted")])
def test_a_kink_of_a_forward_that_cannot_be_carried(
    element: float, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradcheck.layers.pushing.carried", lambda *_, **__: None)
    check = checked(
        lambda t, x: t * np.where(x == 0, element, x > 0), relu, data={"x": with_zeros(3000)}
    )
    assert str(check.verdict) == verdict, check.reason
    assert verdict == "agrees" or "judged by the error" in check.reason


@pytest.mark.parametrize("of", ["known", "opaque"])
@pytest.mark.parametrize(
    ("element", "verdict"), [(0.0, "agrees"), (1.0, "agrees"), (1.5, "refuted")]
)
def test_a_kink_that_every_output_has(of: str, element: float, verdict: str) -> None:
    """One entry at 0 is a column of kinks, and hides no error in the columns beside it."""
    import torch

    w, x = points(100, 2500, seed=1), with_zeros(2500)

    def forward(xp: Any, x: Any, w: Any) -> Any:
        return xp.matmul(w, xp.maximum(x, 0))

    def rule(t: Any, x: Any, w: Any) -> Any:
        return w @ (t[0] * np.where(x == 0, element, x > 0)) + t[1] @ np.maximum(x, 0)

    given: Any = {
        "of": forward if of == "known" else {"torch": lambda x, w: w @ torch.relu(x)},
        "inputs": {"x": real("n"), "w": real("m n")}, "data": {"x": x, "w": w}, "oracles": "torch",
    }  # fmt: skip
    check = verify_jvp(rule, **given).checks[0]
    assert str(check.verdict) == verdict, check.reason

    def beside(t: Any, x: Any, w: Any) -> Any:
        found = rule(t, x, w)
        found[60] += 0.2 * t[0][1000]
        return found

    hidden = verify_jvp(beside, **given).checks[0]
    assert hidden.verdict is Verdict.REFUTED, hidden.reason
    if element < 1.5:
        assert hidden.counterexample.entry == "∂out[60]/∂x[1000]"


def test_other_rows_of_a_column_with_a_kink_are_looked_at() -> None:
    def forward(xp: Any, x: Any) -> Any:
        return xp.maximum(x, 0), x * x + x

    def rule(t: Any, x: Any, last: float = 1.0) -> Any:
        return t * (x >= 0), t * (2 * x + np.where(x == 0, last, 1.0))

    data = {"x": with_zeros(3000)}
    assert checked(rule, forward, data=data).verdict is Verdict.AGREES
    wrong = checked(lambda t, x: rule(t, x, 1.5), forward, data=data)
    assert wrong.verdict is Verdict.REFUTED
    assert wrong.counterexample.entry == "∂out1[3]/∂x[3]"


def test_a_right_rule_is_not_blamed_for_what_oracles_take_at_ties() -> None:
    def smooth(xp: Any, x: Any) -> Any:
        return xp.where(x > 0, x, 0.0) - xp.where(-x > 0, -x, 0.0)

    given: Any = {"of": smooth, "data": {"x": with_zeros(3000)}}
    check = checked(lambda t, x: t.copy(), **given)
    assert check.verdict is Verdict.AGREES
    assert check.kinks
    assert checked(lambda t, x: t * np.where(x == 0, 3.0, 1.0), **given).verdict is Verdict.REFUTED
    elsewhere = checked(lambda t, x: t * np.where(x == x[20], 3.0, 1.0), **given)
    assert elsewhere.verdict is Verdict.REFUTED


@pytest.mark.parametrize("of", ["known", "opaque"])
def test_many_kinks_are_told(of: str) -> None:
    import torch

    forward: Any = relu if of == "known" else {"torch": torch.relu}
    x = np.where(np.arange(3000) % 7, np.linspace(-1, 1, 3000), 0.0)
    check = checked(lambda t, x: t * (x >= 0), forward, data={"x": x})
    assert check.verdict is Verdict.UNDECIDED
    assert "more than 64 entries lie at kinks" in check.reason


def test_a_wrong_entry_is_no_kink_where_differences_are_too_coarse() -> None:
    import torch

    def right(t: Any, x: Any) -> Any:
        return t * 1e6 * torch.cos(1e6 * x)

    def one_off(t: Any, x: Any) -> Any:
        found = right(t, x)
        found[5] *= 1.5
        return found

    given: Any = {
        "of": {"torch": lambda x: torch.sin(1e6 * x)}, "data": {"x": points(3000)}, "backend": "torch",
    }  # fmt: skip
    assert checked(right, **given).verdict is Verdict.AGREES
    wrong = checked(one_off, **given)
    assert wrong.verdict is Verdict.UNDECIDED
    assert not wrong.kinks
    assert "x[5] is not what torch has, which shows no kink there" in wrong.reason


def test_an_error_among_many_kinks() -> None:
    import torch

    x = np.where(np.arange(3000) % 7, np.linspace(-1, 1, 3000), 0.0)
    for forward in (relu, {"torch": torch.relu}):
        check = checked(lambda t, x: t * ((x >= 0) | (x == x[200])), forward, data={"x": x})
        assert check.verdict is Verdict.REFUTED, check.reason
        assert check.counterexample.entry == "∂out[200]/∂x[200]"


# ---------------------------------------------------------------------- the contract


@pytest.mark.parametrize("forward", ["known", "opaque"])
@pytest.mark.parametrize("dtype", [*WIDE, *LOW])
@pytest.mark.parametrize("factor", [1.5, 0.0, -1.0])
def test_a_factor_in_one_of_two_outputs(factor: float, dtype: str, forward: str) -> None:
    import torch

    def known(xp: Any, x: Any) -> Any:
        return xp.sin(x), 3 * x

    of: Any = known if forward == "known" else {"torch": lambda x: (torch.sin(x), 3 * x)}
    given: Any = {"of": of, "data": {"x": points(3000)}, "dtypes": dtype, "backend": "torch"}
    right = checked(lambda t, x: (t * torch.cos(x), 3 * t), **given)
    assert right.verdict is Verdict.AGREES, right.reason
    wrong = checked(lambda t, x: (t * torch.cos(x), 3 * factor * t), **given)
    assert wrong.verdict is Verdict.REFUTED, wrong.reason
    assert wrong.counterexample.entry.startswith("∂out1[")


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (lambda g: g[:, :-1], "shape"),
        (lambda g: g.reshape(-1), "shape"),
        (lambda g: g.sum(), "shape"),
        (lambda g: None, "none"),
        (lambda g: g.astype(np.float64), "dtype"),
        (lambda g: (g, g), "count"),
    ],
    ids=["short", "flat", "sum", "none", "wide", "two"],
)
def test_what_is_no_tangent_for_signs_only_is_a_fault(broken: Any, kind: str) -> None:
    check = checked(
        lambda t, x: broken(2 * x * t) if t.any() else np.zeros_like(x),
        lambda xp, x: x * x, {"x": real("m n")}, data={"x": points(30, 200)}, dtypes="float32",
    )  # fmt: skip
    assert check.verdict is Verdict.REFUTED, check.reason
    assert (check.diagnosis or {})["kind"] == kind


def into_tangent(t: Any, x: Any) -> Any:
    found = 2 * t
    t *= 0
    return found


def by_memory(t: Any, x: Any) -> Any:
    import torch

    if isinstance(t, torch.Tensor):
        return 2 * torch.as_strided(t, t.shape, (1,))
    return 2 * np.lib.stride_tricks.as_strided(t, strides=(t.itemsize,))


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", [*WIDE, "float16"])
@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        (into_tangent, "mutation"),
        (by_memory, "layout"),
        (lambda t, x: 2 * t * abs(t), "linearity"),
        (lambda t, x: 2 * abs(t), "linearity"),
        (lambda t, x: 2 * t + 1, "linearity"),
    ],
    ids=["mutates", "memory", "square", "magnitude", "offset"],
)
def test_the_contract(rule: Any, kind: str, dtype: str, backend: str) -> None:
    check = checked(
        rule, lambda xp, x: 2 * x, data={"x": points(3000)}, dtypes=dtype, backend=backend
    )
    assert check.verdict is Verdict.REFUTED
    assert (check.diagnosis or {})["kind"] == kind


@pytest.mark.parametrize(
    ("dtype", "slope"), [("float16", 3e4), ("float32", 2e38), ("bfloat16", 2e38)]
)
def test_a_derivative_near_the_end_of_the_range(dtype: str, slope: float) -> None:
    """The multiple of a tangent, by which linearity is asked, leaves the range."""
    given: Any = {
        "of": lambda xp, x: slope * x, "data": {"x": np.clip(points(3000), -1, 1)}, "dtypes": dtype,
        "backend": "torch",
    }  # fmt: skip
    right = checked(lambda t, x: slope * t, **given)
    assert right.verdict is Verdict.AGREES, right.reason
    wrong = checked(lambda t, x: slope * t * (x > -0.5), **given)
    assert wrong.verdict is Verdict.REFUTED
    assert not wrong.counterexample.fault


@pytest.mark.parametrize("dtype", [*WIDE, *LOW])
@pytest.mark.parametrize("of", ["known", "opaque"])
def test_tangents_of_several_inputs_add_up(of: str, dtype: str) -> None:
    def product(xp: Any, x: Any, y: Any) -> Any:
        return x * y

    given: Any = {
        "of": product if of == "known" else {"torch": lambda x, y: x * y},
        "inputs": {"x": real("n"), "y": real("n")}, "backend": "torch", "oracles": "torch",
        "data": {"x": points(3000), "y": points(3000, seed=1)}, "dtypes": dtype,
    }  # fmt: skip
    right = verify_jvp(lambda t, x, y: t[0] * y + t[1] * x, **given)
    assert right.ok, str(right)
    wrong = verify_jvp(lambda t, x, y: t[0] * y + t[1] * x + t[0] * t[1], **given)
    assert wrong.exit_code == 1
    said = " ".join(str(wrong).split())
    assert "not linear in the tangents: for those of all inputs together out[" in said


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_a_custom_jvp_that_only_goes_forwards(factor: float) -> None:
    import jax
    import jax.numpy as jnp

    @jax.custom_jvp
    def wave(x: Any) -> Any:
        return jnp.sin(x)

    def rule(primals: Any, tangents: Any) -> Any:
        (x,), (t,) = primals, tangents
        slope = jnp.cos(x).at[77].multiply(factor)
        # No rule for the transpose of a while loop.
        moved = jax.lax.while_loop(lambda s: s[0] < 1, lambda s: (s[0] + 1, s[1] * slope), (0, t))
        return jnp.sin(x), moved[1]

    wave.defjvp(rule)
    report = verify_layer(
        wave, of=lambda xp, x: xp.sin(x), inputs=X, data={"x": points(3000)}, oracles="jax",
        dtypes="float32",
    )  # fmt: skip
    check = only(report)
    if factor == 1:
        assert check.verdict is Verdict.AGREES, check.reason
    else:
        assert check.verdict is Verdict.REFUTED
        assert check.counterexample.entry == "∂out[77]/∂x[77]"
