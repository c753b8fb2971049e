"""Claims that a naive exact checker gets wrong: W must never be proved, R never refuted.

Most of the wrong ones are right at some small size, at a coincidence of arguments, or in one cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from gradcheck import (
    Spec,
    constant,
    delta,
    einsum,
    load,
    mask,
    number,
    one_hot,
    ones,
    positive,
    probability,
    real,
    size,
)

if TYPE_CHECKING:
    from gradcheck.operation import Operation


@dataclass(frozen=True)
class Case:
    """A claim and what may be said of it."""

    name: str
    operation: Operation
    wrong: bool
    label: str


CASES: list[Case] = []


def case(name: str, forward: Any, *, wrong: bool, label: str, **spec: Any) -> None:
    operation = Spec(forward, name=name.replace(" ", "_"), **spec)
    CASES.append(Case(name, operation, wrong, label))


# 1 ---------------------------------------------------------------- Σ for mean


def rms_with_sum(xp, x, g, *, eps):
    r = 1 / xp.sqrt(xp.mean(x * x, axis=-1) + eps)
    t = 1 / xp.sqrt(xp.sum(x * x, axis=-1) + eps)
    return g * x * r[:, None], t


case(
    "sum for mean", rms_with_sum, wrong=True, label="g",
    inputs={"x": constant(real("m n")), "g": real("n")}, params={"eps": number(1e-3, 1.0)},
    output={"y": "m n", "t": "m"},
    jacobian={"g": einsum("pq,p,qr->pqr", "x", "t", delta)},
)  # fmt: skip


# 2 ---------------------------------------------------------------- arguments that are 0 at n = 1


def shifted_sum(xp, s, x):
    y = xp.exp(x - xp.mean(x))
    return s * xp.sum(y), xp.sum(y * y), xp.sum(xp.exp(y - xp.mean(y)))


for residual in ("u", "v"):
    case(
        f"shifted sum {residual}", shifted_sum, wrong=True, label="s",
        inputs={"s": real(""), "x": constant(real("n"))}, output={"f": "", "u": "", "v": ""},
        jacobian={"s": einsum("->", residual)},
    )  # fmt: skip


# 3 ---------------------------------------------------------------- right at n = 2 and n = 3


def kernel(xp, s, x):
    k = xp.exp(-((x[:, None] - x[None, :]) ** 2))
    d = xp.diagonal(k)
    return xp.sum(s) * xp.sum(d) ** 2, d, xp.sum(d)


case(
    "kernel", kernel, wrong=True, label="s",
    inputs={"s": real("n"), "x": constant(real("n"))}, output={"f": "", "d": "n", "t": ""},
    jacobian={"s": 5 * einsum("r,->r", "d", "t") - 6 * einsum("r->r", "d**2")},
)  # fmt: skip


# 4 ---------------------------------------------------------------- sizes inside functions


def log_size(xp, x):
    return xp.log(x.shape[0]) * xp.sum(x), xp.log(x.shape[0])


case(
    "log n", log_size, wrong=True, label="x", inputs={"x": real("n")}, output={"f": "", "l": ""},
    jacobian={"x": 7 * einsum(",r->r", "l", ones)},
)  # fmt: skip
case(
    "log n right", log_size, wrong=False, label="x", inputs={"x": real("n")},
    output={"f": "", "l": ""}, jacobian={"x": einsum(",r->r", "l", ones)},
)  # fmt: skip


def over_root(xp, x):
    return x / xp.sqrt(x.shape[0])


case(
    "x over root d", over_root, wrong=False, label="x", inputs={"x": real("d")}, output="d",
    jacobian={"x": einsum("pr->pr", delta) * size("d") ** Fraction(-1, 2)},
)  # fmt: skip


# 5 ---------------------------------------------------------------- 1 where n stands


def hidden_count(xp, s, x):
    return s * xp.sum(xp.exp(x) * xp.exp(-x))


case(
    "hidden n", hidden_count, wrong=True, label="s",
    inputs={"s": real(""), "x": constant(real("n"))}, output="",
    jacobian={"s": einsum("->", ones)},
)  # fmt: skip
case(
    "hidden n right", hidden_count, wrong=False, label="s",
    inputs={"s": real(""), "x": constant(real("n"))}, output="",
    jacobian={"s": einsum("->", ones) * size("n")},
)  # fmt: skip


def ratio_trace(xp, s, g):
    ratios = xp.einsum("pj,qj->pq", g, 1 / g)
    return xp.sum(s * xp.diagonal(ratios))


case(
    "ratio trace", ratio_trace, wrong=True, label="s",
    inputs={"s": real("m"), "g": constant(positive("m n"))}, output="",
    jacobian={"s": einsum("r->r", ones)},
)  # fmt: skip
case(
    "ratio trace right", ratio_trace, wrong=False, label="s",
    inputs={"s": real("m"), "g": constant(positive("m n"))}, output="",
    jacobian={"s": einsum("r->r", ones) * size("n")},
)  # fmt: skip


# 6 ---------------------------------------------------------------- Σ for mean in a denominator


def over_mean(xp, s, x):
    return s / (1 + xp.mean(x)), 1 / (1 + xp.sum(x))


case(
    "sum in a denominator", over_mean, wrong=True, label="s",
    inputs={"s": real(""), "x": constant(positive("n"))}, output={"f": "", "w": ""},
    jacobian={"s": einsum("->", "w")},
)  # fmt: skip


# 7 ---------------------------------------------------------------- right at n = 1


def picked(xp, x, z):
    e = xp.exp(z)
    a = e / xp.sum(e, axis=-1, keepdims=True)
    return xp.einsum("i,iu->u", x, a), a


case(
    "a squared", picked, wrong=True, label="x",
    inputs={"x": real("m"), "z": constant(real("m n"))}, output={"f": "n", "a": "m n"},
    jacobian={"x": einsum("pu->up", "a**2")},
)  # fmt: skip


def row_maximum(xp, z):
    return xp.max(z, axis=-1)


case(
    "maximum everywhere", row_maximum, wrong=True, label="z", inputs={"z": real("m n")}, output="m",
    jacobian={"z": einsum("pr,s->prs", delta, ones)},
)  # fmt: skip


# 8 ---------------------------------------------------------------- 0 or undefined at n = 1


def variance(ddof):
    def forward(xp, s, x):
        v = xp.sum((x - xp.mean(x)) ** 2) / (x.shape[0] - ddof)
        return s * v, v

    return forward


for ddof in (0, 1):
    for factor in (7, 1):
        case(
            f"variance {ddof} times {factor}", variance(ddof), wrong=factor == 7, label="s",
            inputs={"s": real(""), "x": constant(real("n"))}, output={"f": "", "v": ""},
            jacobian={"s": factor * einsum("->", "v")},
        )  # fmt: skip


# 9 ---------------------------------------------------------------- inverses of selectors


def relu_square(xp, z):
    h = xp.maximum(z, 0)
    return h * h, h


case(
    "relu inverse", relu_square, wrong=True, label="z", inputs={"z": real("m")},
    output={"f": "m", "h": "m"},
    jacobian={"z": 2 * einsum("p,p,p,pr->pr", "f", "h**-1", "step(z)", delta)},
)  # fmt: skip


def with_relu(xp, z):
    return z + 0, xp.maximum(z, 0)


case(
    "h over h", with_relu, wrong=True, label="z", inputs={"z": real("m")},
    output={"f": "m", "h": "m"}, jacobian={"z": einsum("p,p,pr->pr", "h", "h**-1", delta)},
)  # fmt: skip


def root_relu(xp, x):
    return xp.sqrt(xp.maximum(x, 0))


case(
    "root of relu", root_relu, wrong=True, label="x", inputs={"x": real("m")}, output={"s": "m"},
    jacobian={"x": einsum("p,p,pr->pr", "step(x)", "s**-1", delta) / 2},
)  # fmt: skip


# 10 --------------------------------------------------------------- one cell only

case(
    "relu square as z square", relu_square, wrong=True, label="z", inputs={"z": real("m")},
    output={"f": "m", "h": "m"}, jacobian={"z": 2 * einsum("p,pr->pr", "z", delta)},
)  # fmt: skip
case(
    "relu square right", relu_square, wrong=False, label="z", inputs={"z": real("m")},
    output={"f": "m", "h": "m"}, jacobian={"z": 2 * einsum("p,pr->pr", "h", delta)},
)  # fmt: skip


def guarded_log(xp, x):
    return xp.where(x > 0, xp.log(x), 0)


case(
    "guarded log", guarded_log, wrong=True, label="x", inputs={"x": real("m")}, output="m",
    jacobian={"x": 2 * einsum("p,p,pr->pr", "step(x)", "x**-1", delta)},
)  # fmt: skip


# 11 --------------------------------------------------------------- chains


def larger(xp, u, v):
    return xp.maximum(u, v), xp.where(u > v, 1.0, 0.0), xp.where(v > u, 1.0, 0.0)


maximum = Spec(
    larger, name="maximum", inputs={"u": real("m"), "v": real("m")},
    output={"y": "m", "a": "m", "b": "m"},
    jacobian={"u": einsum("p,pr->pr", "a", delta), "v": einsum("p,pr->pr", "b", delta)},
)  # fmt: skip
CASES.append(Case("maximum of x and x", maximum("x", "x"), True, "x"))

doubled = Spec(
    load("add")("x", load("sigmoid")("x")), name="one_path",
    jacobian={"x": einsum("pr,qs->pqrs", delta, delta)},
)  # fmt: skip
CASES.append(Case("one path of two", doubled, True, "x"))


# 12 --------------------------------------------------------------- right on the domain only


def cross_entropy(xp, a, y):
    return -xp.sum(y * xp.log(a)) / a.shape[0]


for kind, domain in (("soft", constant(probability("m n"))), ("one-hot", one_hot("m n"))):
    chain = load("softmax") >> Spec(
        cross_entropy, name="ce", inputs={"a": probability("m n"), "y": domain}, output={"L": ""},
        jacobian={"a": -einsum("pq,pq->pq", "y", "a**-1") / size("m")},
    )  # fmt: skip
    closed = Spec(
        chain, name=f"closed_{kind[:3]}",
        jacobian={"z": (einsum("pq->pq", "a") - einsum("pq->pq", "y")) / size("m")},
    )  # fmt: skip
    CASES.append(Case(f"(a - y)/m, {kind} targets", closed, False, "z"))


# 13 --------------------------------------------------------------- literals


def tenth(_xp, x):
    return 0.1 * x


case(
    "0.1 x", tenth, wrong=False, label="x", inputs={"x": real("m")}, output="m",
    jacobian={"x": Fraction(1, 10) * einsum("pr->pr", delta)},
)  # fmt: skip


def cancelled(xp, x, s):
    h = xp.maximum((x + 1e16) - 1e16 - 1.5, 0)
    return h**2 * xp.sqrt(s) ** 2, h


case(
    "cancelling literals", cancelled, wrong=False, label="x",
    inputs={"x": real("m"), "s": constant(positive("m"))}, output={"f": "m", "h": "m"},
    jacobian={"x": 2 * einsum("p,p,pr->pr", "s", "h", delta)},
)  # fmt: skip


# 14 --------------------------------------------------------------- right at n = 2 only


def softmax(xp, z):
    e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


two_classes = 2 * einsum("pq,pr,qs->pqrs", "a", delta, delta) - einsum(
    "pq,pr,s->pqrs", "a", delta, ones
)
two_classes = two_classes - (
    2 * einsum("pq,pr,qs->pqrs", "a**2", delta, delta)
    - einsum("pq,pr,s->pqrs", "a**2", delta, ones)
)
case(
    "two classes", softmax, wrong=True, label="z", inputs={"z": real("m n")}, output={"a": "m n"},
    jacobian={"z": two_classes},
)  # fmt: skip


# 15 --------------------------------------------------------------- defined nowhere


def nowhere(xp, x):
    return x / (xp.exp(x) * xp.exp(-x) - 1)


case(
    "defined nowhere", nowhere, wrong=True, label="x", inputs={"x": real("m")}, output="m",
    jacobian={"x": 3 * einsum("pr->pr", delta)},
)  # fmt: skip


def weak_comparison(xp, x, z):
    h = xp.maximum(z, 0)
    return xp.where(xp.greater_equal(h, 0), x, 2 * x), h


case(
    "h >= 0 is not h > 0", weak_comparison, wrong=True, label="x",
    inputs={"x": real("m"), "z": constant(real("m"))}, output={"f": "m", "h": "m"},
    jacobian={"x": 2 * einsum("pr->pr", delta) - einsum("p,pr->pr", "step(h)", delta)},
)  # fmt: skip


def summed_over_the_other_axis(xp, x):
    return xp.sum(x, axis=1)


case(
    "sum over the other axis", summed_over_the_other_axis, wrong=True, label="x",
    inputs={"x": real("m m")}, output="m",
    jacobian={"x": einsum("us,i->uis", delta, ones)},
)  # fmt: skip


# 16 --------------------------------------------------------------- y² = y

for kind, domain in (("soft", constant(probability("m n"))), ("one-hot", one_hot("m n"))):
    case(
        f"y squared, {kind} targets", cross_entropy, wrong=kind == "soft", label="a",
        inputs={"a": probability("m n"), "y": domain}, output={"L": ""},
        jacobian={"a": -einsum("pq,pq->pq", "y**2", "a**-1") / size("m")},
    )  # fmt: skip


def masked(xp, x, k):
    return xp.exp(k * x)


case(
    "a mask inside exp", masked, wrong=False, label="x",
    inputs={"x": real("m"), "k": mask("m")}, output={"y": "m"},
    jacobian={"x": einsum("p,p,pr->pr", "k", "y", delta)},
)  # fmt: skip
case(
    "a mask inside exp, squared", masked, wrong=True, label="x",
    inputs={"x": real("m"), "k": mask("m")}, output={"y": "m"},
    jacobian={"x": 2 * einsum("p,p,pr->pr", "k", "y", delta)},
)  # fmt: skip
