"""How far a right rule may be off where nothing can be carried through the forward, and how far it is.

The derived bound comes first (`gradcheck.layers.bench`). This module has what stands beside it:

* *Measured bounds*, for a forward that only one framework can run. Rounding errors are proportional
  to the unit roundoff to first order, so the error of the framework's own derivative in a narrower
  format, at a point that both formats hold exactly, times the ratio of the units, estimates that in
  the wide one. The largest over all entries is taken, since single ones may be right by accident.
* *The framework's own error* in the dtype of the check: a rule that is no further from the truth than
  twice what automatic differentiation is in the same dtype is as good as that dtype allows.
* *Accuracy* in units in the last place, beside the verdict: raw, and relative to Σ|terms|, the sum
  over all paths through the forward. A rule that loses digits to cancellation shows in the first and
  not in the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import backends, running
from gradcheck.errors import GradcheckError
from gradcheck.oracles import Oracle
from gradcheck.running import DualNamespace, format_of, rescaled
from gradcheck.running.dual import Dual

if TYPE_CHECKING:
    from gradcheck.checking.search import Example
    from gradcheck.layers.bench import Bench
    from gradcheck.layers.reference import Reference

    Floats = np.ndarray[Any, np.dtype[np.float64]]

LOW = ("float16", "bfloat16")
# Where a single rounding is more than a thousandth of an entry, so many of them are still telling:
# in bfloat16 they are a quarter, so that a zero, a wrong sign or a factor of two stands out.
_TELLING = 64
_MOST = 0.25
# The narrower format in which the error of a framework's own derivative is measured.
_NARROWER = {"float64": "float32"}


def weak_from(dtype: str) -> float:
    """The part of the largest entry from which on a bound says too little."""
    from gradcheck.checking.compare import WEAK

    return max(WEAK, min(_MOST, _TELLING * format_of(dtype).unit))


def output_bound(
    reference: Reference, example: Example, output: int, dtype: str
) -> tuple[Floats, Floats]:
    """An output of the reference, and how far a right evaluation in the dtype may be from it."""
    if reference.forward is not None:
        params = example.params
        forward = reference.forward
        arrays = reference.carried(example, dtype, "")
        try:
            return running.bounds(lambda xp, *a: forward(xp, *a, **params), arrays, dtype)[output]
        except (GradcheckError, TypeError, AttributeError):
            exact = reference.values(example, "float64")[output]
            return _scaled(exact, exact, dtype)
    exact = reference.values(example, "float64")[output]
    narrow = "float32" if dtype == "float64" else dtype
    near = reference.values(example, narrow)[output]
    slack = rescaled(_largest_gap(near, exact), narrow, dtype) + 8 * format_of(dtype).unit * np.abs(
        exact
    )
    return np.asarray(exact, np.float64), np.asarray(slack)


def _scaled(value: Floats, size: Floats, dtype: str) -> tuple[Floats, Floats]:
    unit = format_of(dtype).unit
    return value, _TELLING * unit * np.max(np.abs(size), initial=0.0) * np.ones(value.shape)


def _largest_gap(first: Any, second: Any) -> float:
    with np.errstate(all="ignore"):
        gap = np.abs(np.asarray(first, np.float64) - np.asarray(second, np.float64))
    return float(np.max(np.where(np.isfinite(gap), gap, np.inf), initial=0.0))


def measured(bench: Bench, example: Example, name: str, output: int) -> Floats:
    """The error that a derivative of a framework's own forward has, entry by entry, as measured.

    Infinite where the narrower format overflows: such an example says nothing.
    """
    oracle = own_oracle(bench.reference)
    if oracle is None:
        shape = (
            *bench.reference.values(example, "float64")[output].shape,
            *example.inputs[name].shape,
        )
        return np.full(shape, np.inf)
    dtype = bench.dtype
    narrow = _NARROWER.get(dtype, dtype)
    point = rounded(example, narrow)
    wide = np.asarray(bench.ask(oracle, point, name, output).jacobian, np.float64)
    near = np.asarray(bench.ask(oracle, point, name, output, narrow).jacobian, np.float64)
    slack = rescaled(_largest_gap(near, wide), narrow, dtype)
    return np.asarray(slack + 4 * format_of(dtype).unit * np.abs(wide))


def own_oracle(reference: Reference) -> Oracle | None:
    """Who differentiates the forward where nothing can be carried through it."""
    if reference.forward is not None:
        found = [n for n in backends.installed() if n in ("autograd", "torch", "jax")]
    else:
        found = [n for n in reference.own if n in backends.installed()]
    return Oracle(found[0], found[0]) if found else None


def rounded(example: Example, dtype: str) -> Example:
    """The example with its floating-point inputs as numbers of a dtype."""
    from dataclasses import replace

    target = format_of(dtype)
    inputs = {n: target.rounded(a) if a.dtype.kind == "f" else a for n, a in example.inputs.items()}
    return replace(example, inputs=inputs)


def natives(bench: Bench, oracle: Oracle) -> list[Oracle]:
    """Who may compute in the dtype of the check, the rule's own framework first.

    autograd comes last: it computes like plain NumPy, whose half precision overflows where those made
    for it do not (a mean over 70,000 entries divides by infinity).
    """
    names: dict[str, None] = dict.fromkeys(
        [bench.rule.framework, "torch", "jax", oracle.framework, "autograd"]
    )
    found = bench.reference.oracles([n for n in names if n != "numpy"])
    found += [oracle] if oracle.name == "native" else []
    return [o for o in found if bench.dtype in backends.get(o.framework).dtypes]


def native_error(
    bench: Bench, oracle: Oracle, example: Example, name: str, output: int, truth: Floats
) -> Floats | None:
    """How far a framework's own derivative in the dtype of the check is from that in float64.

    Infinite where it overflows itself: such an error forgives nothing (`forgiving`), and shows nothing.
    """
    for asked in natives(bench, oracle):
        try:
            own = bench.ask(asked, example, name, output, bench.dtype).jacobian
        except (RuntimeError, TypeError, NotImplementedError):  # no kernel of this dtype
            continue
        with np.errstate(all="ignore"):
            gap = np.abs(np.asarray(own, np.float64).reshape(truth.shape) - truth)
        return np.where(np.isfinite(gap), gap, np.inf)
    return None


def forgiving(own: Floats) -> Floats:
    """The part of a framework's own error that is forgiven a rule: what overflowed is no measure."""
    return np.where(np.isfinite(own), own, 0.0)


def lost(claim: Floats, truth: Floats, own: float, dtype: str, paths: Floats | None = None) -> Any:
    """Where a rule has nothing of an entry that nothing cancels, and the framework has three bits of it.

    For half precision, where the derived bound is infinite: a sum of 70,000 numbers may overflow in
    some order, so nothing bounds its error, and yet every framework has it right. What is lost so is
    exactly 0 or not finite. An entry that is small beside Σ|terms| is no such case: rounding alone may
    leave nothing of it, and a framework that has it was lucky.

    Args:
        claim: What the rule says.
        truth: The derivative in float64.
        own: The largest error of the framework's own derivative in the dtype.
        dtype: The dtype.
        paths: Σ|terms| of each entry, where it is known.
    """
    size = np.abs(truth)
    largest = float(np.max(size, initial=0.0))
    if not max(own, format_of(dtype).flush) <= largest / 8:
        return np.zeros(truth.shape, bool)
    gone = (claim == 0) | ~np.isfinite(claim)
    return gone & (size >= largest / 2) & (size >= (0.0 if paths is None else paths / 2))


@dataclass
class Accuracy:
    """The largest errors seen, in units in the last place of the dtype.

    Attributes:
        raw: Relative to the entry itself.
        terms: Relative to the sum over paths of |products|, where that is known.
    """

    raw: float = 0.0
    terms: float | None = None

    def add(self, claim: Floats, truth: Floats, paths: Floats | None, dtype: str) -> None:
        """One more Jacobian."""
        fmt = format_of(dtype)
        with np.errstate(all="ignore"):
            gap = np.abs(claim - truth)
            usable = np.isfinite(gap) & (gap > 0)
            if not usable.any():
                return
            self.raw = max(self.raw, float(_ulps(gap, truth, fmt)[usable].max()))
            if paths is not None:
                self.terms = max(self.terms or 0.0, float(_ulps(gap, paths, fmt)[usable].max()))

    def as_dict(self) -> dict[str, float]:
        """For the report."""
        known = {"ulp": self.raw, "ulp of Σ|terms|": self.terms}
        return {unit: value for unit, value in known.items() if value is not None}


def _ulps(gap: Floats, size: Floats, fmt: Any) -> Floats:
    """The distance in spacings of the format's numbers at that size."""
    magnitude = np.maximum(np.abs(size), fmt.normal)
    return np.asarray(gap / (2 * fmt.unit * 2.0 ** np.floor(np.log2(magnitude))))


def paths(reference: Reference, example: Example, name: str, output: int) -> Floats | None:
    """Σ over paths through the forward of Π |local derivatives|: what Σ|terms| is for a program."""
    if reference.forward is None:
        return None
    space = DualNamespace("float64")
    arrays: list[Any] = [
        space.asarray(example.inputs[n])
        if example.inputs[n].dtype.kind == "f"
        else example.inputs[n]
        for n in reference.inputs
    ]
    arrays[list(reference.inputs).index(name)] = space.variable(example.inputs[name])
    try:
        with np.errstate(all="ignore"):
            result = space.asarray(reference.forward(space, *arrays, **example.params)[output])
    except (GradcheckError, TypeError, AttributeError):
        return None
    full = (*result.shape, *example.inputs[name].shape)
    if not isinstance(result, Dual):
        return np.zeros(full)
    return np.moveaxis(np.asarray(result.tangent.paths), 0, -1).reshape(full)
