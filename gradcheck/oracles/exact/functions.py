"""Elementary functions in prime fields: opaque values, with the derivative rules of the axioms.

exp, log, sqrt, erf, asin, atan and tan(u/2) are opaque, the others rational in them. What is known of
the opaque ones: exp 0 = 1, log 1 = 0, exp(-u) = 1/exp u, exp(u ± v) = exp u · exp v for sums that the
forward writes, exp(log t) = t, log(exp u) = u, log(1/t) = -log t, and that erf, asin, atan and
tan are odd. Each of these holds of the real functions wherever they are defined, so that what is
equal here is equal there; they only help to recognise equal things.

Square roots. Values that are positive by construction (exp, roots, positive inputs, π) are drawn as
fourth powers; modulo p ≡ 3 (mod 4) a square has exactly one root that is a square itself, and
these roots multiply as positive real roots do. Of a product of such values the root is
taken. Of anything else (a sum, a real input) the root is a fresh opaque value at first: where the field
has a root, its sign may be a guess, and √(s²) = s is wrong for s < 0. If that does not show equality,
the evaluation is repeated in many lanes, with T² = u and both signs of T.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from flint import arb

from gradcheck.axioms import RULES
from gradcheck.oracles.exact import shadow
from gradcheck.oracles.exact.array import (
    FieldArray,
    NeedsSquareError,
    ResampleError,
    entries_of,
    unsupported,
)
from gradcheck.oracles.exact.degrees import Bound
from gradcheck.oracles.exact.memory import keys_of, residues
from gradcheck.running.namespace import is_integral

if TYPE_CHECKING:
    from gradcheck.oracles.exact.memory import Key
    from gradcheck.oracles.exact.primes import Residues

WEIGHT = 4
DEPTH = 2
# The lanes that are left at least where roots of generic values are taken.
LEAST_LANES = 8
# The most that odd roots may multiply the degrees by.
_MOST = 4096


class Functions:
    """The functions of the field namespace; it supplies the arithmetic."""

    @property
    def pi(self) -> FieldArray:
        """π, an opaque positive constant."""
        space: Any = self
        if "pi" not in space._numbers:
            values = space.memory.table("pi")
            key = values.setdefault((), space.memory.fresh(fourth=True))
            found = space.variable(
                residues([key], (space.field.count,)), weight=WEIGHT, depth=DEPTH
            )
            if space.shadowed:
                found.shadow = shadow.filled([arb.pi()], ())
            space._numbers["pi"] = found
        return space._numbers["pi"]  # type: ignore[no-any-return]

    @property
    def e(self) -> Any:
        """The value of exp at 1."""
        space: Any = self
        return space.unary("exp", 1)

    def unary(self, name: str, x: Any) -> Any:
        """An elementary function: its value, and the axiom times the tangents of its argument."""
        space: Any = self
        x = space.asarray(x)
        value = getattr(self, f"_{name}")(x.still())
        if x.shadow is not None:
            value.shadow = shadow.mapped(shadow.FUNCTIONS[name], x.shadow)
        if not x.moves:
            return value
        rule = space.asarray(RULES[name](space, x.still(), value))
        product = space._product(rule, x)
        data = np.concatenate([value.data, product.data[:, 1:]], axis=1)
        return FieldArray(
            space,
            data,
            value.bound,
            slope=product.slope,
            depth=value.depth,
            recipe=value.recipe,
            shadow=value.shadow,
        )

    def _opaque(self, name: str, x: FieldArray, make: Any, **known: Any) -> FieldArray:
        space: Any = self
        values = space.memory.look_up(name, x.values, x.bound, make)
        weight = WEIGHT if known.get("depth") else 1
        return FieldArray(space, values[:, None], Bound(float(weight)), **known)

    def _odd(self, name: str, x: FieldArray) -> FieldArray:
        """An opaque odd function."""
        space: Any = self
        memory = space.memory
        table = memory.table(name)

        def make(key: Key) -> Key:
            if not any(key):
                return key
            mirrored = table.get(memory.negated(key))
            value: Key = (
                memory.fresh(fourth=False) if mirrored is None else memory.negated(mirrored)
            )
            return value

        return self._opaque(name, x, make)

    # ------------------------------------------------------------------ exp and log

    def _exp(self, x: FieldArray) -> FieldArray:
        space: Any = self
        values, bound, depth = self._exponential(x)
        if x.recipe is not None and x.exact is None:
            self._remember(x, values, bound, depth)
        return FieldArray(space, values[:, None], bound, depth=depth)

    def _remember(self, x: FieldArray, values: Residues, bound: Bound, depth: int) -> None:
        """The composed values, for arguments that come again in another way."""
        memory = self.memory  # type: ignore[attr-defined]
        table, logs = memory.table("exp"), memory.table("log")
        shallow = memory.table("not positive by construction")
        for key, value in zip(keys_of(x.values), keys_of(values), strict=True):
            if table.setdefault(key, value) is value and any(key):
                logs.setdefault(value, key)
                if depth < DEPTH:
                    shallow[value] = value
        memory.holds("exp", bound)
        memory.holds("log", x.bound)

    def _exponential(self, x: FieldArray) -> tuple[Residues, Bound, int]:
        """Exp of the values, through the sums, logarithms and moves that made them."""
        space: Any = self
        if x.recipe is None or x.exact is not None:
            return self._exp_of_atom(x)
        kind, *rest = x.recipe
        if kind == "log":
            (t,) = rest
            return t.values, t.bound, t.depth
        if kind == "move":
            values, bound, depth = self._exponential(rest[0])
            flat = values.reshape((values.shape[0], -1))
            return flat[:, rest[1]], bound, depth
        if kind == "sum":
            return self._exp_of_sum(*rest)
        total: Residues | None = None
        bound, depth = Bound(), DEPTH
        for factor, part in rest[0]:
            values, size, own = self._exponential(part)
            if not values.all():
                raise ResampleError("divides by an expression that is 0 at this size")
            if factor < 0:
                values = space.field.inverse(values)
                size, pole = size.inverse(max(part.size, 1))
                space.met(pole)
            values = space.field.power(values, abs(factor))
            missing = x.ndim - part.ndim
            values = values.reshape((values.shape[0],) + (1,) * missing + part.shape)
            total = values if total is None else space.field.multiply(total, values)
            bound, depth = bound.times(size.power(abs(factor))), min(depth, own)
        assert total is not None
        return np.broadcast_to(total, (total.shape[0], *x.shape)), bound, depth

    def _exp_of_sum(
        self, x: FieldArray, axes: tuple[int, ...], keepdims: bool
    ) -> tuple[Residues, Bound, int]:
        space: Any = self
        values, bound, depth = self._exponential(x)
        for axis in sorted(axes, reverse=True):
            parts = np.moveaxis(values, axis + 1, 0)
            product = np.ones_like(np.sum(values, axis=axis + 1))
            for part in parts:
                product = space.field.multiply(product, part)
            bound = bound.power(max(len(parts), 1))
            values = np.expand_dims(product, axis + 1) if keepdims else product
        return values, bound, depth

    def _exp_of_atom(self, x: FieldArray) -> tuple[Residues, Bound, int]:
        space: Any = self
        memory = space.memory
        table, logs = memory.table("exp"), memory.table("log")
        shallow = memory.table("not positive by construction")
        one: Key = (1,) * space.field.count

        def make(key: Key) -> Key:
            if not any(key):
                return one
            mirrored = table.get(memory.negated(key))
            if mirrored is not None:
                inverse, pole = memory.sizes["exp"].inverse(1)
                space.met(pole)
                memory.holds("exp", inverse)
                inverted: Key = memory.inverted(mirrored)
                if mirrored in shallow:
                    shallow[inverted] = inverted
                return inverted
            value: Key = memory.fresh(fourth=True)
            logs[value] = key
            return value

        memory.holds("exp", Bound(float(WEIGHT)))
        memory.holds("log", x.bound)
        values = memory.look_up("exp", x.values, x.bound, make)
        return values, memory.sizes["exp"], self._atom_depth(values)

    def _atom_depth(self, values: Residues) -> int:
        space: Any = self
        shallow = space.memory.table("not positive by construction")
        return 0 if shallow and any(key in shallow for key in keys_of(values)) else DEPTH

    def _log(self, x: FieldArray) -> FieldArray:
        space: Any = self
        if not x.values.all():
            raise ResampleError("takes the logarithm of an expression that is 0 at this size")
        memory = space.memory
        table, exps = memory.table("log"), memory.table("exp")
        zero: Key = (0,) * space.field.count
        one: Key = (1,) * space.field.count

        def make(key: Key) -> Key:
            if key == one:
                return zero
            mirrored = table.get(memory.inverted(key))
            if mirrored is not None:
                negated: Key = memory.negated(mirrored)
                return negated
            value: Key = memory.fresh(fourth=False)
            exps[value] = key
            if x.depth < DEPTH:
                memory.table("not positive by construction")[key] = key
            return value

        found = self._opaque("log", x, make)
        memory.holds("exp", x.bound)
        # log(exp u) is u itself, of whatever size.
        found.bound = memory.holds("log", Bound(1.0))
        found.recipe = ("log", x)
        return found

    def _log1p(self, x: FieldArray) -> FieldArray:
        space: Any = self
        return self._log(space.add(1, x))

    def _expm1(self, x: FieldArray) -> Any:
        space: Any = self
        return space.subtract(self._exp(x), 1)

    def _sigmoid(self, x: FieldArray) -> Any:
        space: Any = self
        return space.reciprocal(space.add(1, self._exp(space.negative(x))))

    def _up_and_down(self, x: FieldArray) -> tuple[Any, Any]:
        space: Any = self
        up = self._exp(x)
        return up, space.reciprocal(up)

    def _sinh(self, x: FieldArray) -> Any:
        space: Any = self
        up, down = self._up_and_down(x)
        return space.divide(space.subtract(up, down), 2)

    def _cosh(self, x: FieldArray) -> Any:
        space: Any = self
        up, down = self._up_and_down(x)
        return space.divide(space.add(up, down), 2)

    def _tanh(self, x: FieldArray) -> Any:
        space: Any = self
        up, down = self._up_and_down(x)
        return space.divide(space.subtract(up, down), space.add(up, down))

    def logaddexp(self, x: Any, y: Any) -> Any:
        """The logarithm of exp x + exp y."""
        space: Any = self
        return space.unary("log", space.add(space.unary("exp", x), space.unary("exp", y)))

    def logsumexp(self, x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
        """The logarithm of Σ exp x."""
        space: Any = self
        total = space.sum(space.unary("exp", x), axis=axis, keepdims=keepdims)
        return space.unary("log", total)

    # ------------------------------------------------------------------ the others

    def _erf(self, x: FieldArray) -> FieldArray:
        return self._odd("erf", x)

    def _atan(self, x: FieldArray) -> FieldArray:
        return self._odd("atan", x)

    def _asin(self, x: FieldArray) -> FieldArray:
        return self._odd("asin", x)

    def _acos(self, x: FieldArray) -> Any:
        space: Any = self
        return space.subtract(space.divide(self.pi, 2), self._asin(x))

    def _half_angle(self, x: FieldArray) -> tuple[Any, Any]:
        space: Any = self
        half = self._odd("tan of half", x)
        return half, space.multiply(half, half)

    def _sin(self, x: FieldArray) -> Any:
        space: Any = self
        half, square = self._half_angle(x)
        return space.divide(space.multiply(2, half), space.add(1, square))

    def _cos(self, x: FieldArray) -> Any:
        space: Any = self
        _, square = self._half_angle(x)
        return space.divide(space.subtract(1, square), space.add(1, square))

    def _tan(self, x: FieldArray) -> Any:
        space: Any = self
        half, square = self._half_angle(x)
        return space.divide(space.multiply(2, half), space.subtract(1, square))

    # ------------------------------------------------------------------ roots and powers

    def _sqrt(self, x: FieldArray) -> FieldArray:
        space: Any = self
        if x.exact is not None:
            return self._root_of_numbers(x)
        if x.depth:
            space.extend()
            values = space.field.root(x.data)
            return FieldArray(space, values, x.bound, depth=x.depth - 1)
        zero: Key = (0,) * space.field.count

        def make(key: Key) -> Key:
            if not any(key):
                return zero
            related = self._related_root(key) if space.related else None
            fresh: Key = space.memory.fresh(fourth=True)
            return fresh if related is None else related

        space.opaque_roots += 1
        found = self._opaque("sqrt", x, make, depth=0 if space.related else DEPTH)
        if space.related:
            found.bound = Bound(float(WEIGHT)).plus(x.bound)
        return found

    def _related_root(self, key: Key) -> Key | None:
        """A root T with T² = u in the lanes where u is a square; the others are given up.

        A lane that is given up proves that u is no square of a function: T and -T are conjugate.
        Where none is, u may be w² for a w of unknown sign: T is w or -w by chance, lane by lane, and
        what holds in all of them holds for |w|. None where too few lanes would be left.
        """
        space: Any = self
        primes = space.field.primes
        square = [pow(u, (p - 1) // 2, p) == 1 for u, p in zip(key, primes, strict=True)]
        left = space.alive & np.array(square)
        if left.sum() < LEAST_LANES:
            return None
        if left.sum() == space.alive.sum():
            space.hidden += 1
        space.alive = left
        space.branching *= 2
        signs = space.rng.integers(0, 2, len(primes)).tolist()
        return tuple(
            (1 - 2 * sign) * pow(u, (p + 1) // 4, p) % p
            for u, p, sign in zip(key, primes, signs, strict=True)
        )

    def _root_of_numbers(self, x: FieldArray) -> FieldArray:
        space: Any = self
        numbers = entries_of(x.exact)
        roots = [_rational_root(c) for c in numbers]
        if all(root is not None for root in roots):
            return space.constant(shadow.filled(roots, x.shape))  # type: ignore[no-any-return]
        largest = 1
        for c in set(numbers):
            whole = c.numerator * c.denominator
            if c <= 0:
                raise unsupported(f"the root of {c}, beside roots of other numbers")
            if not space.has_root(whole):
                raise NeedsSquareError(whole)
            space.extend(whole)
            largest = max(largest, whole)
        scale = math.lcm(*(c.denominator for c in numbers))
        bound = Bound(0.0, math.log2(largest) + math.log2(scale), scale)
        return FieldArray(space, space.field.root(x.data), bound, depth=DEPTH)

    def pow(self, x: Any, y: Any) -> Any:
        """X to the power y."""
        space: Any = self
        if is_integral(x) and isinstance(y, int) and y >= 0:
            return np.power(x, y)
        y = space.asarray(y)
        if y.exact is not None and not y.shape:
            return self.power(x, y.exact.item())
        return space.unary("exp", space.multiply(y, space.unary("log", x)))

    def power(self, x: Any, exponent: Fraction | float) -> Any:
        """X to a rational power."""
        space: Any = self
        x, exponent = space.asarray(x), Fraction(exponent)
        if exponent < 0:
            return self.power(space.divide(1, x), -exponent)
        for _ in range(_twos(exponent.denominator)):
            x = space.unary("sqrt", x)
        odd = exponent.denominator >> _twos(exponent.denominator)
        if odd > 1:
            x = self._odd_root(x, odd)
        return self._whole_power(x, exponent.numerator)

    def _whole_power(self, x: Any, exponent: int) -> Any:
        space: Any = self
        result = space.ones(x.shape) if exponent == 0 else None
        while exponent:
            if exponent & 1:
                result = x if result is None else space.multiply(result, x)
            exponent >>= 1
            if exponent:
                x = space.multiply(x, x)
        return result

    def _odd_root(self, x: FieldArray, degree: int) -> Any:
        """The root of odd degree: a residue has exactly one, where degree and p - 1 are coprime.

        Otherwise it is exp(log(x) / degree), opaque.
        """
        space: Any = self
        # A root that was taken before is the same.
        known = space.memory.table(f"root of degree {degree}")
        fresh = {key: key for key in keys_of(x.values) if key not in known}
        branching = space.branching * degree ** len(fresh)
        if branching > _MOST or any(math.gcd(degree, p - 1) > 1 for p in space.field.primes):
            return space.unary("exp", space.divide(space.unary("log", x), degree))
        space.branching = branching
        known.update(fresh)
        root = FieldArray(
            space, space.field.odd_root(x.data[:, :1], degree), x.bound, depth=x.depth
        )
        if x.shadow is not None:
            root.shadow = shadow.power(x.shadow, Fraction(1, degree))
        if not x.moves:
            return root
        slope = space.divide(root, space.multiply(degree, x.still()))
        product = space._product(slope, x)
        data = np.concatenate([root.data, product.data[:, 1:]], axis=1)
        return FieldArray(
            space, data, x.bound, slope=product.slope, depth=x.depth, shadow=root.shadow
        )


def _twos(n: int) -> int:
    return (n & -n).bit_length() - 1


def _rational_root(c: Fraction) -> Fraction | None:
    if c < 0:
        return None
    top, bottom = math.isqrt(c.numerator), math.isqrt(c.denominator)
    return (
        Fraction(top, bottom)
        if (top * top, bottom * bottom) == (c.numerator, c.denominator)
        else None
    )
