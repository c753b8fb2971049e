"""The arithmetic under the exact oracle: primes, arrays of residues, bounds on degrees."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from exact_cases import SMALL, lanes, variables
from flint import fmpq_poly
from xp_cases import CASES

from gradcheck.errors import UnsupportedOperation
from gradcheck.oracles.exact.degrees import Bound, of_numbers, variable
from gradcheck.oracles.exact.evaluation import jacobian
from gradcheck.oracles.exact.primes import STANDARD, is_prime, reference

if TYPE_CHECKING:
    from gradcheck.oracles.exact.namespace import FieldNamespace

# ---------------------------------------------------------------- arithmetic


def test_pool_is_counted_and_its_primes_are_as_promised():
    rng = np.random.default_rng(1)
    for _ in range(50):
        p = STANDARD.draw(rng)
        assert is_prime(p)
        assert p % 120 == 119
        assert 2**30 < p < 2**31
        assert all(pow(c, (p - 1) // 2, p) == 1 for c in (2, 3, 5))
    assert SMALL.count >= sum(is_prime(p) and p % 4 == 3 for p in range(128, 256))
    assert [n for n in range(60) if is_prime(n)] == [
        2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59,
    ]  # fmt: skip
    assert not is_prime(3_215_031_751 - 2) or pow(2, 3_215_031_748, 3_215_031_749) == 1


def test_the_number_of_primes_in_the_pool():
    low, high = STANDARD.low, STANDARD.high
    first = low + (119 - low) % 120
    candidates = np.ones((high - 1 - first) // 120 + 1, dtype=bool)
    small = np.ones(2**16, dtype=bool)
    small[:2] = False
    for q in range(2, 2**8):
        if small[q]:
            small[q * q :: q] = False
    for q in np.flatnonzero(small).tolist():
        if 120 % q:
            candidates[-first * pow(120, -1, q) % q :: q] = False
    assert int(candidates.sum()) == STANDARD.count


def test_arrays_agree_with_the_reference_in_python_ints():
    rng = np.random.default_rng(7)
    for _ in range(20):
        xp = lanes(int(rng.integers(1000)))
        start = [variables(xp, ()) for _ in range(3)]
        tape, steps = list(start), []
        for _ in range(12):
            i, j = (int(k) for k in rng.integers(0, len(tape), 2))
            operation = "+-*/"[int(rng.integers(4))]
            if operation == "/" and not tape[j].values.all():
                continue
            steps.append((operation, i, j))
            a, b = tape[i], tape[j]
            tape.append(
                {"+": xp.add, "-": xp.subtract, "*": xp.multiply, "/": xp.divide}[operation](a, b)
            )
        for lane, p in enumerate(xp.field.primes):
            expected = reference(steps, [int(x.values[lane]) for x in start], p)
            assert expected == [int(x.values[lane]) for x in tape]


def test_contractions_agree_with_python_ints():
    xp = lanes(3)
    a, b = variables(xp, (3, 40)), variables(xp, (40, 2))
    found = xp.matmul(a, b).values
    for lane, p in enumerate(xp.field.primes):
        exactly = a.values[lane].astype(object) @ b.values[lane].astype(object)
        assert (found[lane] == exactly % p).all()


def test_relations_of_functions():
    xp = lanes(5)
    u, t = variables(xp, (2, 3)), variables(xp, (2, 3), fourth=True)

    def same(a: Any, b: Any) -> bool:
        return np.array_equal(xp.asarray(a).values % 2**31, xp.asarray(b).values % 2**31)

    assert same(xp.exp(0 * u), xp.ones((2, 3)) + 0 * u)
    assert same(xp.exp(u) * xp.exp(-u), xp.ones((2, 3)) + 0 * u)
    assert same(xp.exp(xp.log(t)), t)
    assert same(xp.log(xp.exp(u)), u)
    assert same(xp.exp(u - xp.log(t)), xp.exp(u) / t)
    assert same(xp.log(1 / t), -xp.log(t))
    assert same(xp.sqrt(t) * xp.sqrt(t), t)
    assert same(xp.sqrt(t * t), t)
    assert same(xp.sqrt(2 * t), xp.sqrt(2) * xp.sqrt(t))
    assert same(xp.sqrt(2 * xp.pi), xp.sqrt(2) * xp.sqrt(xp.pi))
    assert same(t**1.5 * t**-0.5, t)
    assert same(xp.power(u, Fraction(1, 3)) * xp.power(u, Fraction(2, 3)), u)
    assert same(xp.sin(u) ** 2 + xp.cos(u) ** 2, xp.ones((2, 3)) + 0 * u)
    assert same(xp.erf(-u), -xp.erf(u))
    assert same(xp.tanh(u), 2 * xp.sigmoid(u + u) - 1)
    assert not same(xp.sqrt(u * u), u)
    assert not same(xp.sqrt(u) * xp.sqrt(u), u)
    assert not same(xp.exp(u), xp.exp(2 * u))


OPAQUE = {
    "acos", "asin", "atan", "cos", "cosh", "e", "erf", "exp", "expm1", "log", "log1p", "logaddexp",
    "logsumexp", "pi", "pow", "sigmoid", "sin", "sinh", "sqrt", "std", "tan", "tanh",
}  # fmt: skip


def untied(argument: Any) -> Any:
    """The same numbers, each moved by a little of its own, so that no branch is a tie."""
    places = np.arange(1, argument.size + 1).reshape(argument.shape)
    return np.round(argument * 64) / 64 + places / 1024


def at_point(xp: FieldNamespace, argument: Any) -> Any:
    """Residues of the very numbers, with balls at them."""
    exactly = np.array([Fraction(x) for x in argument.reshape(-1)], dtype=object)
    constant_ = xp.constant(exactly.reshape(argument.shape))
    return xp.variable(constant_.values, point=constant_.exact)


def rational(residues: Any, primes: list[int]) -> float:
    """The fraction of small parts that has these residues."""
    modulus, x = math.prod(primes), 0
    for r, p in zip(residues.tolist(), primes, strict=True):
        rest = modulus // p
        x += int(r) * rest * pow(rest, -1, p)
    a, b, s, t = modulus, x % modulus, 0, 1
    while b * b > modulus:
        q = a // b
        a, b, s, t = b, a - q * b, t, s - q * t
    return float(Fraction(b, t))


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_documented_name_runs_on_residues(name):
    """In a cell: balls agree with NumPy, and rational tangents with central differences."""
    for forward, *arguments in CASES[name]:
        xp = lanes(11, count=8, cell=True)
        points = [x if x.dtype.kind == "i" else untied(x) for x in arguments]
        arrays = [x if x.dtype.kind == "i" else at_point(xp, x) for x in points]
        wrt = arrays[0] = xp.seeded(arrays[0])
        try:
            found = xp.asarray(forward(xp, *arrays))
        except UnsupportedOperation as error:
            assert name == "inf", error  # noqa: PT017 - infinities alone are refused
            continue
        expected = _numpy(forward, points)
        assert found.shape == np.shape(expected)
        shown = [float(b) for b in found.shadow.reshape(-1)]
        assert np.allclose(shown, np.reshape(expected, -1), rtol=1e-10), name
        if name not in OPAQUE:
            _compare_tangents(xp, forward, points, found, wrt)


def _compare_tangents(xp: Any, forward: Any, points: Any, found: Any, wrt: Any) -> None:
    flat = jacobian(found, wrt).reshape(xp.field.count, found.size, wrt.size)
    step = 2.0**-14
    for j in range(wrt.size):
        sides = []
        for sign in (1, -1):
            moved = points[0].copy()
            moved.reshape(-1)[j] += sign * step
            sides.append(_numpy(forward, [moved, *points[1:]]).astype(float).reshape(-1))
        slopes = (sides[0] - sides[1]) / (2 * step)
        mine = [rational(flat[:, i, j], xp.field.primes) for i in range(found.size)]
        assert np.allclose(mine, slopes, rtol=1e-5, atol=1e-6)


def _numpy(forward: Any, arguments: Any) -> Any:
    from gradcheck import backends

    return np.asarray(forward(backends.get("numpy").namespace("float64", "cpu"), *arguments))


# ---------------------------------------------------------------- degrees


def test_bounds_hold_for_actual_rational_functions():
    """Random tapes in one variable: degree and norm of numerator over the tracked denominator."""
    rng = np.random.default_rng(2)
    for _ in range(60):
        tape = [
            (fmpq_poly([0, 1]), fmpq_poly([1]), variable(1)),
            (fmpq_poly([3]), fmpq_poly([1]), of_numbers([3])),
            (fmpq_poly([1]), fmpq_poly([2]), of_numbers([Fraction(1, 2)])),
        ]
        for _ in range(7):
            (n, d, bound), (m, e, other) = (tape[int(k)] for k in rng.integers(0, len(tape), 2))
            kind = int(rng.integers(3))
            if kind == 0:
                tape.append((n * e + m * d, d * e, bound.plus(other)))
            elif kind == 1:
                tape.append((n * m, d * e, bound.times(other)))
            elif n != 0:
                tape.append((d, n, bound.inverse(1)[0]))
        for n, d, bound in tape:
            _assert_within(n, d, bound)


def _assert_within(n: fmpq_poly, d: fmpq_poly, bound: Bound) -> None:
    common = n.gcd(d)
    reduced = n / common if not isinstance(n, int) else n
    degree = fmpq_poly(reduced).degree() if n != 0 else 0
    assert degree <= bound.degree
    assert (d / common).degree() <= sum(e * p.degree for p, e in bound.poles.items())


def test_sums_share_their_denominators():
    entry, _ = variable(1).inverse(60)
    total = entry.times(variable(1)).summed(60)
    assert total.degree == 60
    assert sum(e * p.degree for p, e in total.poles.items()) == 60
    assert total.plus(entry).degree == 60
