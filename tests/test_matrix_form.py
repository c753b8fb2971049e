"""Matrix forms against the expressions that they are made of, both evaluated at numbers."""

from __future__ import annotations

import random
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from gradcheck.algebra.matrices import (
    Diagonal,
    Entrywise,
    Matrix,
    Named,
    Ones,
    Product,
    Scaled,
    Total,
    Transpose,
)
from gradcheck.algebra.terms import Expression, Factor, Term
from gradcheck.algebra.vectorise import matrix_form

SIZES = {"m": 3, "n": 4}
SHAPES = {"a": "mn", "b": "mn", "c": "nn", "u": "m", "v": "n", "w": "n", "s": ""}
VALUES = {
    name: np.random.default_rng(5).uniform(0.5, 2, [SIZES[s] for s in shape])
    for name, shape in SHAPES.items()
}


@dataclass(frozen=True)
class Value:
    """A matrix; an axis of size 1 that is repeated has the size of whatever it meets."""

    entries: np.ndarray
    rows: bool = False
    columns: bool = False

    def transposed(self) -> Value:
        return Value(self.entries.T, self.columns, self.rows)


def function(name: str | None, power: Fraction, x: np.ndarray) -> np.ndarray:
    return (x if name is None else getattr(np, name)(x)) ** float(power)


def value(matrix: Matrix) -> Value:
    """What the notation means, as docs/derive.md says it."""
    match matrix:
        case Named(name, f, power):
            x = VALUES[name]
            return Value(function(f, power, x.reshape(*x.shape, *[1] * (2 - x.ndim))))
        case Ones(number):
            return Value(np.ones((1, 1)), not number, False)
        case Transpose(of):
            return value(of).transposed()
        case Diagonal(of):
            inner = value(of)
            n = 4 if inner.rows else len(inner.entries)
            return Value(np.diag(np.broadcast_to(inner.entries, (n, 1))[:, 0]))
        case Scaled(coefficient, sizes, scalars, body):
            inner = value(body)
            number = float(coefficient)
            for axis, power in sizes:
                number *= SIZES[axis] ** float(power)
            for f in scalars:
                number *= float(function(f.function, f.power, VALUES[f.name]))
            return Value(number * inner.entries, inner.rows, inner.columns)
        case Entrywise(parts) | Total(parts):
            values = [value(p) for p in parts]
            found = values[0].entries
            for x in values[1:]:
                found = found * x.entries if isinstance(matrix, Entrywise) else found + x.entries
            rows = found.shape[0] == 1 and any(x.rows for x in values)
            return Value(found, rows, found.shape[1] == 1 and any(x.columns for x in values))
        case Product(parts, numbers):
            values = [value(p) for p in parts]
            found = values[numbers] if numbers < len(values) else Value(np.ones((1, 1)))
            for x in values[numbers + 1 :]:
                found = multiplied(found, x)
            for x in values[:numbers]:
                assert x.entries.shape == (1, 1)
                found = Value(found.entries * x.entries, found.rows, found.columns)
            return found
    raise AssertionError(matrix)


def multiplied(x: Value, y: Value) -> Value:
    assert not (x.columns and y.rows), "the size of a product of repeated axes is not known"
    left, right = x.entries, y.entries
    if x.columns:
        left = np.broadcast_to(left, (left.shape[0], right.shape[0]))
    if y.rows:
        right = np.broadcast_to(right, (left.shape[1], right.shape[1]))
    return Value(left @ right, x.rows, y.columns)


def number(expression: Expression) -> np.ndarray:
    axes = expression.terms[0].axes
    total = np.zeros([SIZES[axes[s]] for s in expression.output])
    for t in expression.terms:
        groups = ["", *("".join(f.letters) for f in t.factors), *expression.output]
        groups += [a + b for a, b in t.deltas]
        arrays = [np.ones(())]
        arrays += [function(f.function, f.power, VALUES[f.name]) for f in t.factors]
        arrays += [np.ones(SIZES[axes[s]]) for s in expression.output]
        arrays += [np.eye(SIZES[t.axes[a]]) for a, _ in t.deltas]
        scale = float(t.coefficient)
        for axis, power in t.sizes:
            scale *= SIZES[axis] ** float(power)
        total = total + scale * np.einsum(
            f"{','.join(groups)}->{''.join(expression.output)}", *arrays
        )
    return total


def drawn(rng: random.Random) -> Expression:
    """A sum of a few products of a few tensors."""
    output = tuple("pq"[: rng.randint(0, 2)])
    own = {s: rng.choice("mn") for s in output}
    terms = []
    for _ in range(rng.randint(1, 3)):
        axes = dict(own)
        factors = []
        for name in rng.choices(list(SHAPES), k=rng.randint(1, 4)):
            letters = [_letter(rng, axis, axes) for axis in SHAPES[name]]
            power = Fraction(rng.choice([1, 1, 1, 2, -1]))
            factors.append(Factor(name, tuple(letters), power, rng.choice([None, None, "exp"])))
        sizes = ((rng.choice("mn"), Fraction(rng.choice([-1, 1]))),) if rng.random() < 0.3 else ()
        terms.append(Term(Fraction(rng.choice([1, -1, 2])), sizes, tuple(factors), (), axes))
    return Expression(output, tuple(terms)).simplify()


def _letter(rng: random.Random, axis: str, axes: dict[str, str]) -> str:
    known = [s for s, a in axes.items() if a == axis]
    if known and rng.random() < 0.7:
        return rng.choice(known)
    fresh = next(s for s in "rstuvwxyzabcdefgh" if s not in axes)
    axes[fresh] = axis
    return fresh


@pytest.mark.parametrize("seed", range(4))
def test_random_expressions_in_matrix_form(seed):
    rng, formed = random.Random(seed), 0
    for _ in range(150):
        expression = drawn(rng)
        found = matrix_form(expression)
        if isinstance(found, str):
            continue
        formed += 1
        wanted = number(expression)
        shape = [SIZES[expression.terms[0].axes[s]] for s in expression.output]
        got = value(found).entries
        for orientation in ([*shape, *[1] * (2 - len(shape))], [*[1] * (2 - len(shape)), *shape]):
            try:
                full = np.broadcast_to(got, orientation).reshape(shape)
            except ValueError:
                continue
            if np.allclose(full, wanted, rtol=1e-10):
                break
        else:
            raise AssertionError(f"{expression} is not {found.text()}")
    assert formed > 60
