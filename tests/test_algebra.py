"""Letters and terms: every rewriting keeps the value, whatever the sizes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcheck import Spec, backends, delta, einsum, load, ones, real, size
from gradcheck.algebra import compose, identity, jvp_of, lift, relabel, vjp_of
from gradcheck.algebra.binding import Scope, bind
from gradcheck.algebra.normal import normalise
from gradcheck.evaluation import Bindings, evaluate

NUMPY = backends.get("numpy")
SHAPES = {"a": ("m", "n"), "b": ("n",), "c": ("m", "m"), "e": ("m", "#n"), "s": (), "t": ("m",)}
ONE_HOT = {"t": "n"}
SCOPE = Scope(SHAPES, ONE_HOT, frozenset("mn"))
# Zero, one, square, and pairwise distinct; with e at full size and as a single column.
SIZES = [
    {"m": m, "n": n, "#n": k}
    for m, n in [(0, 3), (3, 0), (1, 1), (1, 4), (3, 1), (2, 2), (2, 3), (3, 2)]
    for k in {1, n}
]


# ---------------------------------------------------------------- random terms, and their plain value


@dataclass
class Piece:
    """A term as somebody writes it, apart from the algebra that is tested."""

    groups: list[str] = field(default_factory=list)
    operands: list[Any] = field(default_factory=list)
    coefficient: Fraction = Fraction(1)
    power: int = 0

    def written(self, output: str) -> Any:
        term = einsum(f"{','.join(self.groups)}->{output}", *self.operands)
        return self.coefficient * term * size("m") ** self.power

    def value(self, output: str, axes: dict[str, str], values: dict, sizes: dict) -> Any:
        extent = {s: sizes[a] for s, a in axes.items()}
        arrays = [
            self._array(*each, extent, values, sizes)
            for each in zip(self.groups, self.operands, strict=True)
        ]
        total = np.einsum(f"{','.join(self.groups)}->{output}", *arrays)
        return float(self.coefficient) * sizes["m"] ** self.power * total

    @staticmethod
    def _array(letters: str, operand: Any, extent: dict, values: dict, sizes: dict) -> Any:
        shape = tuple(extent[s] for s in letters)
        if operand is ones:
            return np.ones(shape)
        if operand is delta:
            # Where one letter runs over a broadcast axis of size 1, it stands for all entries.
            narrow = 1 in shape and shape[0] != shape[1]
            return np.ones(shape) if narrow else np.eye(*shape)
        name, _, power = operand.partition("**")
        function, _, inner = name.rpartition("(")
        array = values[inner.rstrip(")")]
        if inner == "t" and len(letters) == 2:
            array = (array[:, None] == np.arange(sizes["n"])).astype(float)
        array = {"": lambda x: x, "exp": np.exp, "log": np.log}[function](array)
        return np.broadcast_to(array ** float(Fraction(power.strip("()") or "1")), shape)


@dataclass
class Sum:
    """A sum of pieces, as an expression and as numbers."""

    output: str
    axes: dict[str, str]
    split: int
    pieces: list[tuple[Piece, dict[str, str]]]

    def expression(self) -> Any:
        total = sum((p.written(self.output) for p, _ in self.pieces), start=0)
        dims = tuple(self.axes[s] for s in self.output)
        names = (("y", dims[: self.split]), ("x", dims[self.split :]))
        return bind(total, names, SCOPE)

    def value(self, values: dict, sizes: dict) -> Any:
        return sum(p.value(self.output, axes, values, sizes) for p, axes in self.pieces)


@st.composite
def pieces(draw: st.DrawFn, output: str, axes: dict[str, str]) -> tuple[Piece, dict[str, str]]:
    axes = {**axes, "u": "m", "v": "n"}
    piece = Piece(
        coefficient=draw(st.fractions(-2, 2, max_denominator=3)), power=draw(st.integers(0, 1))
    )
    wide = {a: [s for s, b in axes.items() if b == a] for a in "mn"}
    for name in draw(st.lists(st.sampled_from("aabbcest"), max_size=3)):
        shape = ("m", "n") if name == "t" else SHAPES[name]
        # Letters that the output has not are summed; those of e run over an axis of full size.
        pools = [
            [s for s in output if axes[s] in ("n", "#n")] if a == "#n" else wide[a] for a in shape
        ]
        if not all(pools):
            continue
        piece.groups.append("".join(draw(st.sampled_from(pool)) for pool in pools))
        form = (
            "{}"
            if name == "t"
            else draw(
                st.sampled_from(
                    ["{}", "{}", "{}**2", "{}**-1", "{}**(1/2)", "exp({})", "log({})**2"]
                )
            )
        )
        piece.operands.append(form.format(name))
    placed = sorted({*output, *"".join(piece.groups)})
    for first in draw(st.lists(st.sampled_from(placed), max_size=2)) if placed else ():
        axis = axes[first].removeprefix("#")
        piece.groups.append(
            first
            + draw(st.sampled_from([s for s, b in axes.items() if b.removeprefix("#") == axis]))
        )
        piece.operands.append(delta)
    carried = "".join(s for s in output if s not in "".join(piece.groups))
    if carried or not piece.groups:
        piece.groups.append(carried)
        piece.operands.append(ones)
    return piece, axes


@st.composite
def sums(draw: st.DrawFn, first: str = "", second: str = "") -> Sum:
    """A random expression with the axes of two tensors; `#` stands for the broadcast n."""
    dims = ["#n" if a == "#" else a for a in first + second]
    output = "pqrs"[: len(dims)]
    axes = dict(zip(output, dims, strict=True))
    count = draw(st.integers(1, 3))
    return Sum(output, axes, len(first), [draw(pieces(output, axes)) for _ in range(count)])


def arrays(sizes: dict[str, int], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {
        name: rng.uniform(0.5, 2, tuple(sizes[a] for a in shape)) for name, shape in SHAPES.items()
    }
    found["t"] = rng.integers(0, max(sizes["n"], 1), sizes["m"])
    return found


def number(expression: Any, values: dict, sizes: dict, shapes: Any = None) -> Any:
    bindings = Bindings(values, sizes, shapes or SHAPES, ONE_HOT, np.zeros(()))
    return evaluate(expression, bindings, NUMPY)


def same(left: Any, right: Any) -> None:
    assert np.shape(left) == np.shape(right)
    np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-9)


examples = settings(max_examples=60, deadline=None, derandomize=True)
both = st.sampled_from(
    [
        ("", "m"),
        ("", "mn"),
        ("m", "n"),
        ("m", "m"),
        ("mn", "mn"),
        ("n", "nm"),
        ("mn", "m#"),
        ("m", "#"),
    ]
)
where = st.sampled_from(SIZES)
seeds = st.integers(0, 99)


@examples
@given(both.flatmap(lambda s: sums(*s)), where, seeds)
def test_value_is_that_of_the_plain_einsum_before_and_after_normalising(total, sizes, seed):
    values = arrays(sizes, seed)
    expected = total.value(values, sizes)
    same(number(total.expression(), values, sizes), expected)
    same(number(normalise(total.expression()), values, sizes), expected)
    same(number(normalise(normalise(total.expression())), values, sizes), expected)


@examples
@given(both.flatmap(lambda s: sums(*s)), where, seeds)
def test_other_output_letters_change_nothing(total, sizes, seed):
    values = arrays(sizes, seed)
    # Letters that are summed here, and some that are taken in no term.
    letters = tuple("uvzy"[: len(total.output)])
    changed = relabel(total.expression(), letters)
    assert changed.output == letters
    same(number(changed, values, sizes), total.value(values, sizes))
    same(number(normalise(changed), values, sizes), total.value(values, sizes))


@examples
@given(
    st.sampled_from(
        [("", "mn", "m"), ("m", "n", "nm"), ("m", "mn", "m"), ("mn", "m", "m#"), ("n", "", "m")]
    ),
    st.data(),
    where,
    seeds,
)
def test_chain_rule_is_the_contraction_of_the_two_arrays(dims, data, sizes, seed):
    outer, inner = data.draw(sums(*dims[:2])), data.draw(sums(*dims[1:]))
    values, middle = arrays(sizes, seed), len(dims[1])
    product = compose(outer.expression(), inner.expression(), middle)
    expected = np.tensordot(outer.value(values, sizes), inner.value(values, sizes), middle)
    same(number(product, values, sizes), expected)


@examples
@given(both.flatmap(lambda s: sums(*s)), where, seeds)
def test_vjp_and_jvp_are_the_contractions_with_a_vector(total, sizes, seed):
    values, jacobian, k = arrays(sizes, seed), total.value(arrays(sizes, seed), sizes), total.split
    rng = np.random.default_rng(seed)
    v, u = rng.normal(size=jacobian.shape[:k]), rng.normal(size=jacobian.shape[k:])
    dims = tuple(total.axes[s] for s in total.output)
    shapes = {**SHAPES, "d(y)": dims[:k], "d(x)": dims[k:]}
    pulled = number(vjp_of(total.expression(), "y", k), {**values, "d(y)": v}, sizes, shapes)
    pushed = number(jvp_of(total.expression(), "x", k), {**values, "d(x)": u}, sizes, shapes)
    same(pulled, np.tensordot(v, jacobian, k))
    same(pushed, np.tensordot(jacobian, u, u.ndim))


@examples
@given(
    st.sampled_from([("m", "n"), ("mn", "mn"), ("", "m")]).flatmap(lambda s: sums(*s)),
    st.sampled_from([(2,), (0,), (1, 3), (3, 2)]),
    st.sets(st.sampled_from("abcx")),
    st.sampled_from([s for s in SIZES if s["#n"] == s["n"]]),
    seeds,
)
def test_leading_axes_are_a_vmap(total, leading, dotted, sizes, seed):
    names = tuple(f"...{i}" for i in range(len(leading)))
    lifted = lift(total.expression(), total.split, names, {*dotted, "y"}, of="y", to="x")
    values, rng = arrays(sizes, seed), np.random.default_rng(seed + 1)
    values.update({n: rng.uniform(0.5, 2, (*leading, *values[n].shape)) for n in dotted - {"x"}})
    shapes = {n: (*names, *s) if n in dotted else s for n, s in SHAPES.items()}
    found = number(lifted, values, {**sizes, **dict(zip(names, leading, strict=True))}, shapes)

    expected = np.zeros(found.shape)
    for place in np.ndindex(*leading):
        one = {n: v[place] if n in dotted else v for n, v in values.items()}
        inner = (*([slice(None)] * total.split), *(place if "x" in dotted else ()))
        expected[(*place, *inner)] = total.value(one, sizes)
    same(found, expected)


# ---------------------------------------------------------------- what the normal form looks like


def bound(expression: Any, *shapes: tuple[str, ...]) -> Any:
    names = [("y", shapes[0]), ("x", shapes[1] if len(shapes) > 1 else ())]
    return bind(expression, tuple(names), SCOPE)


MM = [("m",), ("m",)]


@pytest.mark.parametrize(
    ("expression", "shapes", "expected"),
    [
        (einsum("pu,ur->pr", "a", delta), [("m",), ("n",)], "a[p,r]"),
        (einsum("pu,uv,vr->pr", "a", delta, delta), [("m",), ("n",)], "a[p,r]"),
        (einsum("pq,pr,rq->pqr", "a", delta, delta), [("m",), ("m", "m")], None),
        (einsum("pq,pq->pq", "a", "a**-1"), [("m",), ("n",)], "1"),
        (einsum("pq,pq->pq", "a**2", "a**(1/2)"), [("m",), ("n",)], "a^(5/2)[p,q]"),
        (einsum("pq,pq->pq", "exp(a)", "exp(a)"), [("m",), ("n",)], "exp(a)^2[p,q]"),
        (einsum("pq,qp->pq", "c", "c"), [("m",), ("m",)], "c[p,q] c[q,p]"),
        (einsum("pu,qu->pq", "a", "a") + einsum("pv,qv->pq", "a", "a"), MM, "Σ_r 2 a[p,r] a[q,r]"),
        (einsum("pu,qu->pq", "a", "a") - einsum("qv,pv->pq", "a", "a"), MM, "0"),
        (einsum("pu,up->p", "c", delta), [("m",)], "c[p,p]"),
        (einsum("uv,uv->", "c", delta), [()], "Σ_p c[p,p]"),
        (einsum("p,u,u->p", ones, "b", "b**-1"), [("m",)], "n"),
    ],
)  # fmt: skip
def test_normal_form(expression, shapes, expected):
    if expected is None:  # a delta across the axes m and n
        with pytest.raises(Exception, match=r"joins|stands on axis"):
            bound(expression, *shapes)
        return
    assert str(normalise(bound(expression, *shapes))) == expected


@pytest.mark.parametrize(
    ("operands", "conditions"),
    [
        (("a", "a**-1"), ["a ≠ 0"]),
        (("a**2", "a**-1"), ["a ≠ 0"]),
        (("a", "a**-2"), []),
        (("a**(1/2)", "a**(1/2)"), ["a ≥ 0"]),
        (("a**(3/2)", "a**(-1/2)"), ["a ≠ 0", "a ≥ 0"]),
        (("a**(1/2)", "a"), []),
        (("log(a)", "log(a)**-1"), ["log(a) ≠ 0"]),
    ],
)
def test_merging_powers_says_where_it_holds(operands, conditions):
    assert (
        normalise(bound(einsum("pq,pq->pq", *operands), ("m",), ("n",))).conditions() == conditions
    )


def test_cancelled_terms_leave_a_zero_of_the_right_shape():
    nothing = normalise(bound(einsum("pq->pq", "a") - einsum("pq->pq", "a"), ("m",), ("n",)))
    sizes = {"m": 2, "n": 3, "#n": 3}
    same(number(nothing, arrays(sizes, 0), sizes), np.zeros((2, 3)))
    assert str(nothing) == "0"


def test_unbound_expression_simplifies_too():
    assert str(einsum("pq,qr->pr", "a", delta).simplify()) == "a[p,r]"


# ---------------------------------------------------------------- expressions as operands


def test_expression_as_operand_does_not_capture_the_letters_around_it():
    inner = einsum("pu,qu->pq", "a", "a")  # u is summed inside
    outer = bound(einsum("up,pu->pu", inner, "c"), ("m",), ("m",))  # u is free outside
    sizes = {"m": 3, "n": 2, "#n": 2}
    values = arrays(sizes, 4)
    expected = np.einsum("uk,pk,pu->pu", values["a"], values["a"], values["c"])
    same(number(outer, values, sizes), expected)


def test_expression_used_twice_has_two_sums():
    inner = einsum("pu->p", "a")
    twice = bound(einsum("p,p->p", inner, inner), ("m",))
    sizes = {"m": 2, "n": 3, "#n": 3}
    values = arrays(sizes, 5)
    same(number(twice, values, sizes), values["a"].sum(1) ** 2)


def test_sum_as_operand_is_multiplied_out_with_its_coefficients():
    inner = einsum("pq->pq", "a") / size("n") - Fraction(2, 3) * einsum("p,q->pq", ones, "b")
    whole = bound(einsum("pq,pr->pqr", inner, delta), ("m", "n"), ("m",))
    sizes = {"m": 2, "n": 3, "#n": 3}
    values = arrays(sizes, 6)
    expected = np.einsum(
        "pq,pr->pqr", values["a"] / 3 - Fraction(2, 3) * values["b"].astype(object), np.eye(2)
    )
    same(number(whole, values, sizes), expected.astype(float))


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_identity_is_the_neutral_element_of_the_chain_rule(rank):
    dims = ("m", "n")[:rank]
    expression = bound(einsum("pq->pq", "a"), ("m",), ("n",)) if rank == 2 else None
    one = identity("y", dims)
    assert len(one.output) == 2 * rank
    if expression is not None:
        jacobian = replace(expression, title=(("y", 0), ("x", 2)))
        assert str(compose(jacobian, one, 2)) == "a[r,s]"


# ---------------------------------------------------------------- broadcast axes and text


@pytest.mark.parametrize("columns", [1, 3])
def test_broadcast_axis_is_read_along_its_full_axis(columns):
    def forward(xp, x, b):  # noqa: ARG001
        return x * b

    scaled = Spec(
        forward,
        inputs={"x": real("m n"), "b": real("m #n")},
        output={"y": "m n"},
        jacobian={
            "x": einsum("pu,uq,pr,qs->pqrs", "b", delta, delta, delta),  # a detour over u
            "b": einsum("pq,pr,qs->pqrs", "x", delta, delta),
        },
    )
    x, b = np.arange(6.0).reshape(2, 3), np.arange(1.0, 1 + 2 * columns).reshape(2, columns)
    wide = np.broadcast_to(b, (2, 3))
    same(scaled.dense("x")(x=x, b=b), np.einsum("pq,pr,qs->pqrs", wide, np.eye(2), np.eye(3)))
    spread = np.eye(3) if columns == 3 else np.ones((3, 1))
    same(scaled.dense("b")(x=x, b=b), np.einsum("pq,pr,qs->pqrs", x, np.eye(2), spread))


def test_text_of_a_derivative():
    softmax = load("softmax").jacobian["z"]
    assert str(softmax) == "a[p,q] δ[p,r] δ[q,s] − a[p,q] a[p,s] δ[p,r]"
    assert softmax.einsums()[1] == "-einsum('pq,ps,pr->pqrs', a, a, delta)"
    assert softmax.latex() == r"a_{pq} \delta_{pr} \delta_{qs} - a_{pq} a_{ps} \delta_{pr}"
