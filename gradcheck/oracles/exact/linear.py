"""Contractions, inverses and determinants in prime fields."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from flint import arb_mat

from gradcheck.oracles.exact import shadow
from gradcheck.oracles.exact.array import FieldArray, ResampleError, unsupported
from gradcheck.oracles.exact.primes import invert

if TYPE_CHECKING:
    from gradcheck.oracles.exact.degrees import Bound
    from gradcheck.oracles.exact.primes import Residues

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVW"


class Linear:
    """The linear algebra of the field namespace."""

    def einsum(self, equation: str, *operands: Any) -> Any:
        """A sum of products, contracted one operand after the other."""
        space: Any = self
        groups, output = _parsed(equation, len(operands))
        arrays = [space.asarray(x) for x in operands]
        if all(x.exact is not None for x in arrays):
            total = np.einsum(equation, *(x.exact for x in arrays))
            return space.constant(np.asarray(total, dtype=object))
        result, letters = arrays[0], groups[0]
        for i, array in enumerate(arrays[1:], 1):
            wanted = {*output, *"".join(groups[i + 1 :])}
            kept = "".join(dict.fromkeys(s for s in letters + groups[i] if s in wanted))
            result = self._pair(letters, groups[i], kept, result, array)
            letters = kept
        result = self._single(letters, output, result)
        if space.shadowed and all(x.shadow is not None for x in arrays):
            result.shadow = shadow.wrapped(np.einsum(equation, *(x.shadow for x in arrays)))
        return result

    def _single(self, letters: str, output: str, x: FieldArray) -> FieldArray:
        space: Any = self
        data = space.field.reduce(np.einsum(f"YZ{letters}->YZ{output}", x.data))
        sizes = dict(zip(letters, x.shape, strict=True))
        count = math.prod(n for s, n in sizes.items() if s not in output)
        slope = None if x.slope is None else x.slope.summed(count)
        return FieldArray(space, data, x.bound.summed(count), slope=slope)

    def _pair(self, a: str, b: str, kept: str, x: FieldArray, y: FieldArray) -> FieldArray:
        space: Any = self
        contract = space.field.contract
        data = contract(f"Y{a},Y{b}->Y{kept}", x.values, y.values)[:, None]
        sizes = {**dict(zip(a, x.shape, strict=True)), **dict(zip(b, y.shape, strict=True))}
        count = math.prod(n for s, n in sizes.items() if s not in kept)
        moved: Residues | None = None
        slope: Bound | None = None
        if x.moves and x.slope is not None:
            moved = contract(f"YZ{a},Y{b}->YZ{kept}", x.data[:, 1:], y.values)
            slope = x.slope.times(y.bound)
        if y.moves and y.slope is not None:
            other = contract(f"Y{a},YZ{b}->YZ{kept}", x.values, y.data[:, 1:])
            size = x.bound.times(y.slope)
            moved = other if moved is None else space.field.reduce(moved + other)
            slope = size if slope is None else slope.plus(size)
        if moved is not None:
            data = np.concatenate([data, moved], axis=1)
        bound = x.bound.times(y.bound).summed(count)
        return FieldArray(space, data, bound, slope=None if slope is None else slope.summed(count))

    def inv(self, x: Any) -> Any:
        """The inverse X of A: -X dA X."""
        space: Any = self
        x = space.asarray(x)
        n, count = _square(x)
        det, bound, slope = _sizes(x.bound, x.slope, n)
        values = self._stack(x, lambda rows, p: _inverse(rows, p)[0])
        one, pole = det.inverse(max(count, 1))
        space.met(pole)
        bound = bound.times(one)
        data = values[:, None]
        if x.moves:
            s = "abcdefghuvw"[: x.ndim - 2]
            half = space.field.contract(f"Y{s}ij,YZ{s}jk->YZ{s}ik", values, x.data[:, 1:])
            moved = space.field.contract(f"YZ{s}ik,Y{s}kl->YZ{s}il", half, values)
            data = np.concatenate([data, space.field.reduce(-moved)], axis=1)
            slope = bound.power(2).times(x.slope).summed(n * n)
        balls = None if x.shadow is None else _ball_matrices(x.shadow, lambda m: m.inv())
        return FieldArray(space, data, bound, slope=slope if x.moves else None, shadow=balls)

    def det(self, x: Any) -> Any:
        """The determinant: its value times tr(A⁻¹ dA)."""
        space: Any = self
        x = space.asarray(x)
        n, _ = _square(x)
        bound, _, _ = _sizes(x.bound, x.slope, n)
        values = self._stack(x, lambda rows, p: [[_inverse(rows, p)[1]]])[..., 0, 0]
        result = FieldArray(space, values[:, None], bound)
        if x.moves:
            inverse = self.inv(x.still())
            s = "abcdefghuvw"[: x.ndim - 2]
            trace = self._pair(s + "ij", s + "ji", s, inverse, x)
            product = space._product(result, trace)
            slope = product.slope
            result = FieldArray(
                space,
                np.concatenate([result.data, product.data[:, 1:]], axis=1),
                bound,
                slope=slope,
            )
        if x.shadow is not None:
            balls = _ball_matrices(x.shadow, lambda m: arb_mat([[m.det()]]))
            result.shadow = shadow.wrapped(balls[..., 0, 0])
        return result

    def _stack(self, x: FieldArray, function: Any) -> Residues:
        """A function of each matrix, in Python ints."""
        space: Any = self
        *lead, n, _ = x.shape
        lanes = []
        for rows, p in zip(
            x.values.reshape(space.field.count, -1, n, n).tolist(), space.field.primes, strict=True
        ):
            lanes.append([function(matrix, p) for matrix in rows])
        found = np.array(lanes, dtype=np.int64)
        return found.reshape((space.field.count, *lead, *found.shape[-2:]))


def _parsed(equation: str, count: int) -> tuple[list[str], str]:
    """Operand letters and output, renamed so that two letters stay free."""
    text = equation.replace(" ", "")
    if "->" not in text or "." in text:
        raise unsupported(f"xp.einsum({equation!r}); write the output after '->' and no ellipsis")
    letters = dict.fromkeys(s for s in text if s.isalpha())
    names = dict(zip(letters, _LETTERS, strict=False))
    left, output = "".join(names.get(s, s) for s in text).split("->")
    groups = left.split(",")
    if len(groups) != count:
        raise unsupported(f"xp.einsum({equation!r}) of {count} arrays")
    return groups, output


def _square(x: FieldArray) -> tuple[int, int]:
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise unsupported(f"a determinant or inverse of shape {x.shape}; matrices must be square")
    return x.shape[-1], math.prod(x.shape[:-2])


def _sizes(bound: Bound, slope: Bound | None, n: int) -> tuple[Bound, Bound, Bound | None]:
    """Bounds of determinant and adjugate: sums of n! and (n - 1)! products."""
    det = bound.power(n).summed(math.factorial(n))
    adjugate = bound.power(n - 1).summed(math.factorial(max(n - 1, 1)))
    return det, adjugate, slope


def _inverse(rows: list[list[int]], p: int) -> tuple[list[list[int]], int]:
    """Inverse and determinant modulo p, by elimination.

    Raises:
        ResampleError: Where the determinant is 0.
    """
    n = len(rows)
    work = [list(row) + [int(i == j) for j in range(n)] for i, row in enumerate(rows)]
    det = 1
    for k in range(n):
        pivot = next((i for i in range(k, n) if work[i][k] % p), None)
        if pivot is None:
            raise ResampleError("inverts a matrix whose determinant is 0 at this size")
        if pivot != k:
            work[k], work[pivot], det = work[pivot], work[k], -det
        det = det * work[k][k] % p
        scale = invert(work[k][k], p)
        work[k] = [x * scale % p for x in work[k]]
        for i in range(n):
            if i != k and work[i][k]:
                factor = work[i][k]
                work[i] = [(a - factor * b) % p for a, b in zip(work[i], work[k], strict=True)]
    return [row[n:] for row in work], det % p


def _ball_matrices(x: Any, function: Any) -> Any:
    """A function of each matrix of balls; nothing finite where it is singular to all appearance."""
    *lead, n, _ = x.shape
    found = []
    for matrix in x.reshape(-1, n, n):
        try:
            found.append(np.array(function(arb_mat(matrix.tolist())).tolist(), dtype=object))
        except ZeroDivisionError:
            found.append(np.full((n, n), shadow.NOTHING, dtype=object))
    return np.array(found, dtype=object).reshape((*lead, *found[0].shape)) if found else x
