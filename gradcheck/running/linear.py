"""Error bounds for sums of products, inverses and determinants, on plain float64 arrays."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.errors import UnsupportedOperation
from gradcheck.running.formats import ELIMINATION, SLACK, Floats, Format

if TYPE_CHECKING:
    from collections.abc import Sequence

_LARGE = 20_000


@functools.lru_cache(maxsize=1024)
def parse(equation: str) -> tuple[tuple[str, ...], str]:
    """The letters of the operands and of the output."""
    left, arrow, out = equation.replace(" ", "").partition("->")
    if not arrow or "." in equation:
        problem = f"einsum({equation!r}): write the output after '->', without '...'"
        raise UnsupportedOperation(problem)
    return tuple(left.split(",")), out


def contract(equation: str, arrays: Sequence[Any]) -> Any:
    """np.einsum, with a contraction order where the index space is large."""
    letters, _ = parse(equation)
    sizes: dict[str, int] = {}
    for one, array in zip(letters, arrays, strict=True):
        sizes.update(zip(one, np.shape(array), strict=True))
    large = math.prod(sizes.values()) > _LARGE
    return np.einsum(equation, *arrays, optimize="greedy" if large and len(arrays) > 1 else False)


def propagated(
    equation: str, values: Sequence[Any], errors: Sequence[Any], uppers: Sequence[Any]
) -> Any:
    """Σ_i of the contraction of upper bounds before i, the error of i, and |values| after it.

    This telescopes Π(|x_i| + e_i) - Π|x_i| without subtracting; None where all is exact.
    """
    total = None
    for i, error in enumerate(errors):
        if error is None:
            continue
        tail = [np.abs(v) for v in values[i + 1 :]]
        part = contract(equation, [*uppers[:i], error, *tail])
        total = part if total is None else total + part
    return total


def accumulated(fmt: Format, sizes: Any, live: Any, products: float = 0.0) -> Any:
    """The rounding of sums: in any order, each of the n - 1 additions errs by at most u Σ|x|.

    Args:
        fmt: The target format.
        sizes: Σ|x| of each sum, with the errors of its terms.
        live: The number of terms that are not exact zeros.
        products: The number of roundings in forming one term.
    """
    adds = np.maximum(live - 1.0, 0.0)
    flushed = np.where(live > 0, (adds + products) * fmt.flush, 0.0)
    # A partial sum below the normal range may be flushed: that costs `flush`, not u Σ|x|.
    rounding = np.where(sizes * fmt.unit < fmt.flush, flushed, 0.0)
    return rounding + (adds + products) * fmt.rate(1.0) * sizes


def intermediate(fmt: Format, uppers: Sequence[Any], live: Any) -> Any:
    """What a product of three or more operands loses where a part of it underflows or overflows.

    Any proper subset of the operands may be multiplied first: below the normal range it may be flushed,
    and the others then multiply that error; beyond the largest number nothing is bounded.
    """
    if len(uppers) < 3:
        return 0.0
    tops = [max(1.0, float(np.max(u, initial=0.0))) for u in uppers]
    lows = [min(1.0, float(np.min(u, initial=1.0, where=u > 0))) for u in uppers]
    whole, most = math.prod(tops), float(np.max(live, initial=0.0))
    if not whole / min(tops) * most <= fmt.huge:
        return np.where(live > 0, np.inf, 0.0)
    if math.prod(lows) >= fmt.normal:
        return 0.0
    return (len(uppers) - 1) * live * fmt.flush * whole


def sum_growth(fmt: Format, n: int) -> float:
    """Second-order factor for a sum of n terms."""
    return 1.0 + (n + 2) * fmt.unit + n * 2.0**-52 + SLACK


def _series(G: Floats, X: Floats) -> Any:
    """A bound on |(I - E)^-1 - I| |X| for all |E| <= G: Σ_k G^k |X|, the tail in the norm."""
    first = G @ np.abs(X)
    norm = np.max(np.sum(G, axis=-1), axis=-1, initial=0.0)[..., None, None]
    tail = norm / (1 - norm) * np.max(first, axis=-2, keepdims=True, initial=0.0)
    return np.where(norm < 1, first + tail, np.inf) * (1 + 1e-12)


def solve_inverse(A: Floats) -> Any:
    """np.linalg.inv, NaN where a matrix is singular."""
    try:
        return np.linalg.inv(A)
    except np.linalg.LinAlgError:
        if A.ndim == 2:
            return np.full(A.shape, np.nan)
        return np.stack([solve_inverse(one) for one in A])


def inverse_bound(fmt: Format, A: Floats, errors: Any) -> tuple[Any, Any]:
    """The inverse and a bound, a posteriori and to all orders in the errors of A.

    For any A' in the ball, inv(A') = (I - E)^-1 X with E = I - X A', and
    |E| <= |I - X A| + |X| δA. Elimination in the target adds c n u |X| |L| |U| to E
    (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., ch. 14); with pivoting and
    growth of order one |L| |U| is below the largest entry of the column, or of the row where a
    library eliminates the transpose.
    """
    n = A.shape[-1]
    X = solve_inverse(A)
    size = np.abs(X) @ np.abs(A)
    residual = np.abs(np.eye(n) - X @ A) + (n + 1) * 2.0**-52 * size
    largest = np.maximum(
        np.max(np.abs(A), axis=-2, keepdims=True, initial=0.0),
        np.max(np.abs(A), axis=-1, keepdims=True, initial=0.0),
    )
    G = residual + ELIMINATION * n * fmt.unit * (np.abs(X) @ np.broadcast_to(largest, A.shape))
    # Below the normal range: of the factors, whose flushing perturbs A, and of the inverse of U,
    # which is at most |X| |L| with |L| <= 1; what is flushed there, X multiplies once more.
    sums = np.sum(np.abs(X), axis=-1, keepdims=True)
    G = G + n * fmt.flush * sums
    if errors is not None:
        G = G + np.abs(X) @ errors
    flushed = n * fmt.flush * (1 + np.max(largest, initial=0.0) * sums)
    bound = _series(G, X) + fmt.rate(1.0) * np.abs(X) + flushed
    return X, np.where(n * largest <= fmt.huge, bound, np.inf)


def det_bound(fmt: Format, A: Floats, errors: Any) -> tuple[Any, Any]:
    """The determinant and the better of two bounds for a perturbation |D| of A.

    With an inverse X: |det(A+D)/det A - 1| <= (1 + ||X| |D||)^n - 1, from the eigenvalues of XD.
    Without one: det is linear in each row, and Hadamard's inequality bounds each term of the
    telescoped difference by a product of row norms; singular matrices have this one. Elimination
    gives the determinant of A + D with |D| <= c n u |A| (Higham, ch. 9 and 14).
    """
    n = A.shape[-1]
    value = np.linalg.det(A)
    if n == 0:
        return value, np.zeros_like(value)
    # Both the target's elimination and the float64 one of the centre perturb A.
    D = (
        ELIMINATION
        * n
        * fmt.rate(1.0)
        * np.max(np.abs(A), axis=-2, keepdims=True)
        * np.ones_like(A)
    )
    D = np.where(_pattern(A, errors), D, 0.0)
    if errors is not None:
        D = D + errors
    rows, moved = np.linalg.norm(A, axis=-1), np.linalg.norm(D, axis=-1)
    hadamard = np.zeros_like(value)
    for i in range(n):
        before, after = rows[..., :i] + moved[..., :i], rows[..., i + 1 :]
        hadamard = hadamard + np.prod(before, -1) * moved[..., i] * np.prod(after, -1)
    G = np.abs(solve_inverse(A)) @ D
    g = np.max(np.sum(G, axis=-1), axis=-1) * (1 + 1e-12) + n * n * 2.0**-50
    relative = np.abs(value) * np.expm1(n * np.log1p(g)) / (1 - np.minimum(g, 0.5)) ** n
    relative = np.where(g < 0.5, relative, np.inf)
    bound = np.fmin(hadamard * (1 + 1e-12), relative) + fmt.rate(n + 1.0) * np.abs(value)
    return value, bound + _pivots(fmt, A, _pattern(A, errors))


def _pivots(fmt: Format, A: Floats, pattern: Any) -> Any:
    """What a product of pivots, in any order, loses where a part of it underflows or overflows."""
    n = A.shape[-1]
    pivots = n * np.max(np.abs(A), axis=-2, initial=0.0)  # growth of order one, as everywhere here
    most = np.prod(np.maximum(pivots, 1.0), axis=-1)
    flushed = np.where(np.all(np.any(pattern, axis=-2), axis=-1), n * fmt.flush * most, 0.0)
    sizes = np.stack([np.max(np.abs(A), axis=axis, initial=0.0) for axis in (-2, -1)])
    tiny = np.any((sizes > 0) & (sizes < fmt.normal), axis=(0, -1))  # 1 / pivot overflows
    return np.where((most <= fmt.huge) & ~tiny, flushed, np.inf)


def _pattern(A: Floats, errors: Any) -> Any:
    """Columns that are zero throughout stay zero in elimination; all else may be perturbed."""
    live = (A != 0) if errors is None else (A != 0) | (errors != 0)
    return np.broadcast_to(np.any(live, axis=-2, keepdims=True), A.shape)
