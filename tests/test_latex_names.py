"""Names of axes in LaTeX: n_in is one name, not n with an index that stands beside others."""

from __future__ import annotations

import pytest

from gradcheck import Spec, derive, einsum, real, size
from gradcheck.derivation.latex import portable


def mean_square(xp, x):
    return xp.sum(x * x) / x.shape[0]


SPEC = Spec(
    mean_square, name="mean_square", inputs={"x": real("n_in_1")}, output={"f": ""},
    jacobian={"x": 2 * einsum("r->r", "x") / size("n_in_1")},
)  # fmt: skip


def test_a_size_in_a_formula():
    assert SPEC.jacobian["x"].latex() == r"\frac{2}{\mathrm{n\_in\_1}} x_{r}"
    matrix = derive(SPEC).section("x").matrix_latex
    assert matrix == r"\frac{2}{\mathrm{n\_in\_1}} \mathbf{x}"


@pytest.mark.parametrize(
    ("sign", "shown"),
    [
        ("θ", r"\ensuremath{\theta}"),
        ("ά", r"\ensuremath{\alpha}"),
        ("ϵ", r"\ensuremath{\epsilon}"),
        ("Λ", r"\ensuremath{\Lambda}"),
        ("Α", "A"),
        ("é", "e"),
        ("x₁", "x1"),
        ("д", "?"),
    ],
)
def test_signs_that_pdflatex_does_not_know(sign, shown):
    assert portable(sign) == shown
