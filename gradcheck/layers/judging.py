"""One oracle against a rule at one point: `checking.compare`, and what a low precision adds to it.

In float16 and bfloat16 the derived bound is often wider than the derivative itself (a softmax of three
entries in bfloat16: 1.2 times the largest entry). It still refutes what exceeds it, but agreement within
it says nothing. There a rule agrees where it is no further from the derivative in float64 than twice
what the framework's own derivative in the same dtype is at its worst entry; between the two measures
the example counts as weak. Where the derived bound is infinite, because some order of the same operations
overflows, a rule that has lost its largest entries altogether, though no terms cancel there, is refuted if
the framework's derivative in the same dtype has them (`precision.lost`): a count that overflows, say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.checking.compare import Comparison, at_largest, compare
from gradcheck.layers import precision
from gradcheck.layers.kinks import jumps, unlike
from gradcheck.layers.widening import Lost, slight, widen
from gradcheck.oracles.differences import differences
from gradcheck.running import format_of

if TYPE_CHECKING:
    from gradcheck.layers.bench import Bench, Point
    from gradcheck.oracles import Answer, Oracle

# So many entries of one Jacobian are looked at for kinks of a forward that only a framework can run.
_SUSPECTS = 16
_ROUNDS = "the rule rounds where a derivative of `of` need not"


@dataclass
class Judged:
    """A rule against an oracle at one point, for one output.

    Attributes:
        output: The place of the output.
        comparison: What the comparison found.
        answer: What the oracle said.
    """

    output: int
    comparison: Comparison
    answer: Answer


def judge(bench: Bench, point: Point, name: str, oracle: Oracle) -> list[Judged]:
    """The rule's Jacobians with respect to an input against an oracle, one an output."""
    native = oracle.name == "native"
    return [
        _judged(bench, point, name, oracle, k)
        for k in range(1 if native else len(point.outputs))
        if point.outputs[k].dtype.kind == "f"
    ]


def _judged(bench: Bench, point: Point, name: str, oracle: Oracle, output: int) -> Judged:
    answer = bench.ask(oracle, point.example, name, output)
    evaluated = bench.evaluated(point, name, output)
    # The oracle's value is of float64; the forward's bound is that of the dtype.
    compared = compare(evaluated, answer, bench.dtype)
    if compared.refutes and compared.kind != "forward":
        compared = _widened(bench, point, name, output, compared, answer)
    if compared.refutes and compared.kind != "forward":
        compared = _forgiven(bench, point, name, oracle, output, compared, answer)
    size = np.abs(np.asarray(answer.jacobian, np.float64))
    if compared.weak and not compared.skipped and size.size:
        compared = replace(compared, weak=_is_weak(size, compared, bench.dtype))
    if (
        compared.weak
        and bench.dtype in precision.LOW
        and not compared.refutes
        and not compared.kinks
    ):
        compared = _as_good_as_own(bench, point, name, oracle, output, compared, answer)
    return Judged(output, compared, answer)


def _widened(
    bench: Bench, point: Point, name: str, output: int, compared: Comparison, answer: Answer
) -> Comparison:
    """The comparison once more, with what rounding was measured to do where no bound was derived."""
    claim = point.claimed.jacobians[name][output]
    truth = np.asarray(answer.jacobian, np.float64).reshape(claim.shape)
    with np.errstate(all="ignore"):
        gap = np.where(compared.wrong, np.abs(claim - truth), 0.0)
    again = compared
    while again.refutes and widen(bench, point, slight=slight(gap, truth)):
        again = compare(bench.evaluated(point, name, output), answer, bench.dtype)
    if (
        again is not compared
        and not again.refutes
        and "rule" in point.measured
        and bench.reference.forward is not None
    ):
        lost = bench.lost.setdefault(name, Lost(_ROUNDS, "the same derivative"))
        at = f"an entry of the derivative by {name}"
        lost.add(at, claim[compared.wrong], truth[compared.wrong], bench.dtype, indexed=False)
    return again


def _as_good_as_own(
    bench: Bench, point: Point, name: str, oracle: Oracle, output: int,
    compared: Comparison, answer: Answer,
) -> Comparison:  # fmt: skip
    """The comparison by the error of the framework's own derivative in the dtype, where that is met."""
    claim = point.claimed.jacobians[name][output]
    truth = np.asarray(answer.jacobian, np.float64).reshape(claim.shape)
    own = precision.native_error(bench, oracle, point.example, name, output, truth)
    if own is None or not own.size or not np.isfinite(truth).all():
        return compared
    fmt = format_of(bench.dtype)
    # An entry below the format's range is 0 in it, for whoever computes it.
    tolerance = 2 * float(precision.forgiving(own).max()) + fmt.unit * np.abs(truth) + fmt.flush
    with np.errstate(all="ignore"):
        gap = np.abs(claim - truth)
        gap = np.where(np.isnan(gap), np.inf, gap)
    if not bool((gap <= tolerance).all()):
        paths = precision.paths(bench.reference, point.example, name, output)
        lost = precision.lost(claim, truth, float(own.max()), bench.dtype, paths)
        lost = lost & ~np.isfinite(compared.tolerance)
        if not lost.any():
            return compared
        ratio = np.where(lost, gap / tolerance, 0.0)
        return replace(compared, wrong=lost, ratio=ratio, tolerance=tolerance, weak=False)
    zero, ones = np.abs(truth) > tolerance, np.abs(truth - 1) > tolerance
    measured = replace(
        compared, tolerance=tolerance, notices_zero=bool(zero.any()), notices_ones=bool(ones.any())
    )
    return replace(measured, weak=_is_weak(np.abs(truth), measured, bench.dtype))


def _is_weak(size: Any, compared: Comparison, dtype: str) -> bool:
    """Whether the bound swallows even the largest entry, by the measure of the dtype."""
    limit = precision.weak_from(dtype)
    tolerance = np.broadcast_to(compared.tolerance, size.shape)
    place = at_largest(size)
    if size[place] == 0:
        return bool(tolerance.max() > limit)
    return bool(tolerance[place] > limit * size[place])


def _forgiven(
    bench: Bench, point: Point, name: str, oracle: Oracle, output: int,
    compared: Comparison, answer: Answer,
) -> Comparison:  # fmt: skip
    """What is not held against a rule: its dtype's own error, and a kink that nothing else shows."""
    claim = point.claimed.jacobians[name][output]
    truth = np.asarray(answer.jacobian, np.float64).reshape(claim.shape)
    wrong = compared.wrong
    if bench.dtype != "float64":
        wrong = wrong & ~_of_the_dtype(bench, point, name, oracle, output, truth)
    kinks = compared.kinks
    if point.truths[name][output] is None and bench.reference.forward is None and wrong.any():
        wrong, jumping, unclear = _opaque(bench, point, name, oracle, output, compared, wrong)
        kinks += jumping
        if unclear and not wrong.any():
            return replace(compared, wrong=wrong, kinks=kinks, kind="", skipped=unclear)
    if wrong is compared.wrong:
        return compared
    ratio = np.where(wrong | ~compared.wrong, compared.ratio, 0.0)
    kind = compared.kind if wrong.any() else ""
    return replace(compared, wrong=wrong, ratio=ratio, kinks=kinks, kind=kind)


def _of_the_dtype(
    bench: Bench, point: Point, name: str, oracle: Oracle, output: int, truth: Any
) -> Any:
    """The entries that no rule has in this dtype, or that underflow in the order this one takes.

    A framework's own derivative is twice as far off, or overflows as well. Or a product of several
    factors fell below the dtype's range before the last of them, which no order-free bound holds: then
    the very same rule has the entry right in float64, and what is missing is less than one rounding of
    the largest entry.
    """
    claim = point.claimed.jacobians[name][output]
    excused = np.zeros(claim.shape, bool)
    own = precision.native_error(bench, oracle, point.example, name, output, truth)
    with np.errstate(all="ignore"):
        gap = np.abs(claim - truth)
        if own is not None:
            excused = (gap <= 2 * precision.forgiving(own)) | ~(
                np.isfinite(claim) | np.isfinite(own)
            )
        largest = float(np.max(np.abs(truth), initial=0.0, where=np.isfinite(truth)))
        small = ~excused & (gap <= format_of(bench.dtype).unit * largest)
        if small.any():
            excused = excused | (small & bench.right_in_float64(point.example, name, output, truth))
    return excused


def _opaque(
    bench: Bench, point: Point, name: str, oracle: Oracle, output: int,
    compared: Comparison, wrong: Any,
) -> tuple[Any, int, str]:  # fmt: skip
    """What is certainly wrong of a forward that only a framework can run, kinks, and what is unclear.

    A kink must show as a jump of the framework's derivative, and an error in differences.
    """
    claim = point.claimed.jacobians[name][output]
    found = np.asarray(wrong & _confirmed(bench, point, name, output, claim, compared))
    if found.any():
        return found, 0, ""
    tolerance, jumping, unclear = np.broadcast_to(compared.tolerance, claim.shape), 0, ""
    for number, place in enumerate(map(tuple, np.argwhere(wrong))):
        if number == _SUSPECTS:
            return found, jumping, f"more than {_SUSPECTS} entries lie at kinks"
        entry = place[point.outputs[output].ndim :]
        moved = partial(_moved, bench, point, name, oracle, output, place)
        size = max(1.0, abs(float(point.example.inputs[name][entry])))
        jump = jumps(moved, float(claim[place]), float(tolerance[place]), size)
        jumping += jump == "kink"
        found[place] = jump == "wrong"
        unclear = unclear or (unlike(name, entry, oracle.name) if not jump else "")
    return found, jumping, unclear


def _moved(
    bench: Bench, point: Point, name: str, oracle: Oracle, output: int, place: tuple[int, ...],
    step: float,
) -> float:  # fmt: skip
    """One entry of an oracle's derivative, with the entry that it is taken by moved."""
    value = np.array(point.example.inputs[name])
    value[place[point.outputs[output].ndim :]] += step
    there = replace(point.example, inputs={**point.example.inputs, name: value})
    jacobian = np.asarray(bench.ask(oracle, there, name, output).jacobian, np.float64)
    return float(jacobian.reshape(point.claimed.jacobians[name][output].shape)[place])


def _confirmed(
    bench: Bench, point: Point, name: str, output: int, claim: Any, compared: Comparison
) -> Any:
    """Where differences of an opaque forward show a derivative, and the claim is not it.

    Without a forward to carry the derivative through, nothing else tells a kink.
    """
    from gradcheck.oracles import Oracle

    oracle = Oracle("differences", "numpy")
    question = bench.reference.question(oracle, point.example, name, output, "float64")
    value, error = differences(
        question.forward, question.arrays, question.wrt, output=question.output
    )
    with np.errstate(all="ignore"):
        return np.isfinite(error) & ~(np.abs(claim - value) <= error + compared.tolerance)
