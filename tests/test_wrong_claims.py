"""Claims that are wrong at some sizes, some points or some signs only: none may be proved."""

from __future__ import annotations

from typing import Any

import pytest

from gradcheck import (
    Spec,
    constant,
    delta,
    einsum,
    integers,
    labels,
    mask,
    one_hot,
    ones,
    positive,
    probability,
    real,
    size,
    verify,
)
from gradcheck.checking import proving
from gradcheck.oracles.finding import Finding
from gradcheck.oracles.symbolic import symbolic

ONE = einsum("->", ones)
SCALE = real("")


def verdict(forward: Any, **spec: Any) -> str:
    """Of the only claim of a spec."""
    operation = Spec(forward, name="attack", **spec)
    (claim,) = operation.claims()
    return symbolic(operation, claim).verdict


def diagonal_over_rows(xp, s, x):
    return s * xp.sum(xp.diagonal(x) / xp.sum(x, axis=1))


def test_a_diagonal_is_no_row():
    """Σ_p x[p,p] / Σ_k x[p,k] is 1 at n = 1 only."""
    spec = {"inputs": {"s": SCALE, "x": constant(positive("n n"))}, "output": ""}
    assert verdict(diagonal_over_rows, jacobian={"s": ONE}, **spec) == "suspect"


def root_of_square(xp, x):
    t = xp.sum(x)
    return xp.sqrt(t * t)


def half_log_of_square(xp, x):
    t = xp.sum(x)
    return xp.exp(xp.log(t * t) / 2)


def root_of_three(xp, s, x, y, z):
    u, v, w = xp.sum(x), xp.sum(y), xp.sum(z)
    return s * xp.sqrt(u * v) * xp.sqrt(v * w) * xp.sqrt(u * w), u * v * w


@pytest.mark.parametrize("forward", [root_of_square, half_log_of_square])
def test_the_root_of_a_squared_sum_is_its_absolute_value(forward):
    """Where Σ x < 0 the derivative of |Σ x| is −1."""
    spec = {"inputs": {"x": real("n")}, "output": ""}
    assert verdict(forward, jacobian={"x": einsum("r->r", ones)}, **spec) == "suspect"


def test_roots_of_products_of_sums_do_not_come_apart():
    """√(uv) √(vw) √(uw) is |uvw|, which is −uvw where all three are negative."""
    inputs = {"s": SCALE, **{n: constant(real("n")) for n in "xyz"}}
    found = verdict(
        root_of_three, inputs=inputs, output={"f": "", "t": ""}, jacobian={"s": einsum("->", "t")}
    )
    assert found != "proved"


def test_roots_of_positive_sums_come_apart():
    def forward(xp, s, x, y):
        u, v = xp.sum(x), xp.sum(y * y)
        return s * xp.sqrt(u * v), xp.sqrt(u) * xp.sqrt(v)

    inputs = {"s": SCALE, "x": constant(positive("n")), "y": constant(real("n"))}
    claim = {"s": einsum("->", "t")}
    assert verdict(forward, inputs=inputs, output={"f": "", "t": ""}, jacobian=claim) == "proved"


def test_the_square_of_a_root_is_its_argument():
    def forward(xp, s, x):
        r = xp.sqrt(xp.sum(x * x) + 1)
        return s * r * r, xp.sum(x * x) + 1

    inputs = {"s": SCALE, "x": constant(real("n"))}
    claim = {"s": einsum("->", "u")}
    assert verdict(forward, inputs=inputs, output={"f": "", "u": ""}, jacobian=claim) == "proved"


@pytest.mark.parametrize(("name", "right"), [("acos", False), ("asin", True), ("atan", True)])
def test_functions_at_zero(name, right):
    """acos 0 is π/2."""

    def forward(xp, s, x):
        return s * xp.sum(getattr(xp, name)(x - x))

    inputs = {"s": SCALE, "x": constant(real("n"))}
    found = verdict(forward, inputs=inputs, output="", jacobian={"s": 0 * ONE})
    assert found == ("proved" if right else "suspect")


def test_the_cosine_is_one_on_a_diagonal():
    def forward(xp, s, x):
        return s * xp.trace(xp.cos(x[:, None] - x[None, :]))

    inputs = {"s": SCALE, "x": constant(real("n"))}
    assert verdict(forward, inputs=inputs, output="", jacobian={"s": ONE * size("n")}) == "proved"


@pytest.mark.parametrize(
    ("name", "sign"),
    [("erf", -1), ("sin", -1), ("asin", -1), ("atan", -1), ("tanh", -1), ("cos", 1)],
)
def test_symmetric_functions_of_a_negative(name, sign):
    def forward(xp, s, x):
        return s * xp.sum(getattr(xp, name)(-x)), xp.sum(getattr(xp, name)(x))

    def claimed(factor):
        return {"s": factor * einsum("->", "u")}

    spec = {
        "inputs": {"s": SCALE, "x": constant(real("n", -0.9, 0.9))},
        "output": {"f": "", "u": ""},
    }
    assert verdict(forward, jacobian=claimed(sign), **spec) == "proved"
    assert verdict(forward, jacobian=claimed(-sign), **spec) == "suspect"


def test_the_inverse_cosine_of_a_negative():
    def forward(xp, s, x):
        return s * xp.sum(xp.acos(-x)), xp.sum(xp.pi - xp.acos(x)), -xp.sum(xp.acos(x))

    spec = {
        "inputs": {"s": SCALE, "x": constant(real("n", -0.9, 0.9))},
        "output": {"f": "", "u": "", "t": ""},
    }
    assert verdict(forward, jacobian={"s": einsum("->", "u")}, **spec) == "proved"
    assert verdict(forward, jacobian={"s": einsum("->", "t")}, **spec) == "suspect"


def positive_log(xp, x):
    return xp.where(xp.log(x.shape[0]) > 0, x, 0 * x)


def more_than_one(xp, x):
    return xp.where(x.shape[0] > 1, x, 0 * x)


@pytest.mark.parametrize("forward", [positive_log, more_than_one])
def test_a_branch_on_a_size_differs_at_one(forward):
    """log n > 0 is false at n = 1."""
    spec = {"inputs": {"x": real("n")}, "output": "n"}
    assert verdict(forward, jacobian={"x": einsum("pq->pq", delta)}, **spec) == "undecided"


def test_a_logarithm_of_a_logarithm_has_no_known_sign():
    """log log 2 is negative."""

    def forward(xp, x):
        return x * xp.sqrt(xp.log(xp.log(x.shape[0])) ** 2), xp.log(xp.log(x.shape[0]))

    spec = {"inputs": {"x": real("n")}, "output": {"f": "n", "t": ""}}
    claim = {"x": einsum(",pq->pq", "t", delta)}
    assert verdict(forward, jacobian=claim, **spec) == "undecided"


def column_sums(xp, s, y):
    return s * xp.sum(xp.where(xp.sqrt(xp.sum(y, axis=0)) > 0, 1, 0))


def signs(xp, s, y):
    return s * xp.sum(xp.sign(y)) / y.shape[0]


@pytest.mark.parametrize("forward", [column_sums, signs])
def test_probabilities_may_be_zero(forward):
    """A one-hot row has one entry that is > 0."""
    inputs = {"s": SCALE, "y": constant(probability("m n"))}
    found = verdict(forward, inputs=inputs, output="", jacobian={"s": ONE * size("n")})
    assert found == "suspect"


def test_a_comparison_with_a_delta_keeps_the_delta():
    def forward(xp, s, a):
        here, there = xp.equal(xp.eye(a.shape[0]), a), xp.equal(1, a)
        return s * xp.sum(xp.where(here, 1, 0)), xp.sum(xp.where(there, 1, 0))

    inputs = {"s": SCALE, "a": integers("n n", 0, 2)}
    claim = {"s": einsum("->", "u")}
    assert verdict(forward, inputs=inputs, output={"f": "", "u": ""}, jacobian=claim) == "undecided"


@pytest.mark.parametrize(("claimed", "right"), [("u", True), ("t", False)])
def test_rows_sum_to_one_in_denominators_too(claimed, right):
    def forward(xp, s, y, c):
        parts = xp.sum(y / (y + c) + c / (y + c)) / y.shape[0]
        whole = xp.sum(y) / (xp.sum(y) + y.shape[0])
        return s * (parts + whole), y.shape[1] + 1 / xp.asarray(2), 1 + 1 / xp.asarray(2)

    inputs = {"s": SCALE, "y": constant(probability("m n")), "c": constant(positive("m n"))}
    found = verdict(
        forward, inputs=inputs, output={"f": "", "u": "", "t": ""},
        jacobian={"s": einsum("->", claimed)},
    )  # fmt: skip
    assert found == ("proved" if right else "suspect")


def total(xp, s, y):
    return s * xp.sum(y)


@pytest.mark.parametrize("domain", [one_hot("n 1"), constant(probability("n 1"))])
def test_rows_of_one_entry_sum_to_one_along_that_axis(domain):
    """Each row is 1, so that there are n of them."""
    inputs = {"s": SCALE, "y": domain}
    assert verdict(total, inputs=inputs, output="", jacobian={"s": ONE}) == "suspect"


def test_labels_below_one_are_ones():
    def forward(xp, s, x, y):
        return s * xp.sum(xp.one_hot(y, 1) + x)

    inputs = {"s": SCALE, "x": constant(real("m n")), "y": labels("m", below=1)}
    rest = einsum("pq->", "x")
    found = [
        verdict(forward, inputs=inputs, output="", jacobian={"s": rest + ONE * ones_there})
        for ones_there in (size("m"), size("m") * size("n"))
    ]
    assert found == ["suspect", "proved"]


def test_an_identity_of_size_one_is_repeated():
    def forward(xp, s, a):
        return s * xp.sum(xp.eye(1) + a), xp.sum(a)

    inputs = {"s": SCALE, "a": constant(real("n n"))}
    found = [
        verdict(
            forward, inputs=inputs, output={"f": "", "t": ""},
            jacobian={"s": einsum("->", "t") + ONE * size("n") ** power},
        )
        for power in (1, 2)
    ]  # fmt: skip
    assert found == ["suspect", "proved"]


def statement(forward: Any, **spec: Any) -> str:
    """What is said of a claim that is proved."""
    operation = Spec(forward, name="attack", **spec)
    found = symbolic(operation, operation.claims()[0])
    assert found.verdict == "proved"
    return found.statement


def test_what_jumps_and_cancels_holds_away_from_ties():
    """sign(x)² is 0 where x is."""

    def forward(xp, s, x):
        return s * xp.sum(xp.sign(x) ** 2)

    inputs = {"s": SCALE, "x": constant(real("n"))}
    said = statement(forward, inputs=inputs, output="", jacobian={"s": ONE * size("n")})
    assert said.endswith("away from ties")


def test_what_is_continuous_and_cancels_holds_at_ties_too():
    def forward(xp, s, x):
        return s * xp.sum(xp.abs(x) ** 2 + xp.maximum(x, 0) + xp.minimum(x, 0)), xp.sum(x * x + x)

    spec = {"inputs": {"s": SCALE, "x": constant(real("n"))}, "output": {"f": "", "t": ""}}
    assert "ties" not in statement(forward, jacobian={"s": einsum("->", "t")}, **spec)


def test_a_division_by_the_logarithm_of_a_size_is_said():
    def forward(xp, x):
        return x / xp.log(x.shape[0]), 1 / xp.log(x.shape[0])

    spec = {"inputs": {"x": real("n")}, "output": {"f": "n", "l": ""}}
    said = statement(forward, jacobian={"x": einsum(",pq->pq", "l", delta)}, **spec)
    assert "wherever log(n) ≠ 0" in said


def selected(xp, s, k):
    return s * xp.sum(xp.where(k, 1, 0))


@pytest.mark.parametrize("domain", [integers("n", 0, 2), constant(real("n"))])
def test_a_number_holds_where_it_is_not_zero(domain):
    inputs = {"s": SCALE, "k": domain}
    found = verdict(selected, inputs=inputs, output="", jacobian={"s": einsum("p->", "k")})
    assert found == "suspect"


def test_a_mask_selects_by_itself():
    inputs = {"s": SCALE, "k": mask("n")}
    found = verdict(selected, inputs=inputs, output="", jacobian={"s": einsum("p->", "k")})
    assert found == "proved"


@pytest.mark.parametrize(
    "bits", [lambda k: ~k, lambda k: k & k, lambda k: k | k], ids=["not", "and", "or"]
)
def test_bits_of_integers_are_no_logic(bits):
    def forward(xp, s, k):
        return s * xp.sum(bits(k)), xp.sum(1 - k), xp.sum(k * k), xp.sum(2 * k - k * k)

    inputs = {"s": SCALE, "k": integers("n", 0, 2)}
    for name in "tuv":
        found = verdict(
            forward, inputs=inputs, output={"f": "", "t": "", "u": "", "v": ""},
            jacobian={"s": einsum("->", name)},
        )  # fmt: skip
        assert found == "undecided"


@pytest.mark.parametrize(
    ("wholly", "claimed"),
    [
        (lambda x: True & (x > 0), "step(x)"),
        (lambda x: False | (x > 0), "step(x)"),
        (lambda x: (x > 0) | True, "x**0"),
    ],
    ids=["and", "or", "always"],
)
def test_a_condition_beside_a_truth_value(wholly, claimed):
    def forward(xp, x):
        return xp.where(wholly(x), x, 0 * x)

    spec = {"inputs": {"x": real("n")}, "output": "n"}
    right = einsum("p,pq->pq", claimed, delta)
    assert verdict(forward, jacobian={"x": right}, **spec) == "proved"
    assert verdict(forward, jacobian={"x": 2 * right}, **spec) == "suspect"


def test_integers_tie_with_their_maximum():
    def forward(xp, s, a):
        return s * xp.sum(xp.equal(a, xp.max(a, axis=-1, keepdims=True)))

    inputs = {"s": SCALE, "a": integers("n", 0, 2)}
    assert verdict(forward, inputs=inputs, output="", jacobian={"s": ONE}) == "undecided"


def size_as_number(xp, s, x):
    return s * x.shape[0], xp.exp(1)


def log_of_size(xp, s, x):
    return s * xp.log(x.shape[0]), xp.asarray(1)


@pytest.mark.parametrize("forward", [size_as_number, log_of_size])
def test_an_axis_that_is_called_e_is_not_the_number(forward):
    inputs = {"s": SCALE, "x": constant(real("e"))}
    found = verdict(
        forward, inputs=inputs, output={"f": "", "t": ""}, jacobian={"s": einsum("->", "t")}
    )
    assert found == "suspect"


def test_an_axis_that_is_called_pi_is_not_the_number():
    def forward(xp, s, _x):
        return s * xp.pi

    inputs = {"s": SCALE, "x": constant(real("pi"))}
    found = verdict(forward, inputs=inputs, output="", jacobian={"s": ONE * size("pi")})
    assert found == "suspect"


# ---------------------------------------------------------------- a proof with a hole


@pytest.mark.parametrize("slope", [2, 3])
def test_what_is_certainly_wrong_somewhere_is_not_called_proved(monkeypatch, slope):
    """Whatever the symbolic engine says: a certificate at a point is stronger."""
    monkeypatch.setattr(
        proving, "examine_exactly", lambda *_: Finding("proved", statement="for all n ≥ 1")
    )
    square = Spec(
        lambda _xp, x: x * x,
        inputs={"x": real("n")},
        output={"y": "n"},
        jacobian={"x": slope * einsum("p,pq->pq", "x", delta)},
        name="square",
    )
    (check,) = verify(square, oracles=["symbolic"]).checks
    if slope == 2:
        assert str(check.verdict) == "proved"
        return
    assert str(check.verdict) == "undecided"
    assert "for all n ≥ 1, and yet at x = " in check.reason
    assert "a bug of gradcheck" in check.reason
