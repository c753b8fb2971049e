"""Comparing a claim with an oracle's answer, entry by entry, under the derived bound."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.reports.numbers import pair

if TYPE_CHECKING:
    from gradcheck.checking.problem import Evaluated
    from gradcheck.oracles import Answer

# Where the bound exceeds this part of the largest entry, the example says too little to be counted.
WEAK = 1e-3


@dataclass(frozen=True)
class Comparison:
    """One claim against one answer at one example.

    Attributes:
        wrong: Where the claim differs from the oracle beyond the bound.
        ratio: |claim − oracle| in units of the bound, per entry.
        kinks: The entries at which the one-sided derivatives differ.
        outliers: The entries at which the oracle, not the claim, leaves the carried derivative.
        weak: Whether the bound is too wide for the example to count.
        skipped: Why the example does not count at all; empty if it does.
        kind: "overflow" or "forward", where that is what went wrong.
    """

    wrong: np.ndarray
    ratio: np.ndarray
    tolerance: np.ndarray
    kinks: int = 0
    outliers: int = 0
    weak: bool = False
    skipped: str = ""
    kind: str = ""
    notices_zero: bool = False
    notices_ones: bool = False
    notices_signs: list[bool] = field(default_factory=list)

    @property
    def refutes(self) -> bool:
        """Whether the claim is wrong here."""
        return bool(self.kind == "forward" or self.wrong.any())

    @property
    def worst(self) -> float:
        """The worst error in units of its bound."""
        return float(self.ratio.max()) if self.ratio.size else 0.0


def compare(evaluated: Evaluated, answer: Answer, dtype: str) -> Comparison:
    """The claim against one oracle at one example."""
    if not np.all(np.isfinite(answer.value)):
        none = np.zeros(evaluated.claim.shape, bool)
        return Comparison(none, np.zeros(0), none, skipped="the oracle's forward is not finite")
    with np.errstate(all="ignore"):
        return _compare(evaluated, answer, dtype)


def _compare(evaluated: Evaluated, answer: Answer, dtype: str) -> Comparison:
    claim = evaluated.claim.astype(np.float64)
    oracle = np.asarray(answer.jacobian, np.float64).reshape(claim.shape)
    none = np.zeros(claim.shape, bool)
    if why := _forward_gap(evaluated, answer):
        return Comparison(none, np.zeros(0), none, kind="forward", skipped=why)
    tolerance, wrong, outlier, kinks = _within(evaluated, answer, claim, oracle)
    overflow = _overflow(evaluated, claim, oracle, dtype)
    usable = np.isfinite(claim) & np.isfinite(oracle)
    if not usable.all() and not overflow.any() and not (wrong & usable).any():
        return Comparison(none, np.zeros(0), tolerance, skipped="the derivative is not finite")
    wrong = (wrong & usable) | overflow
    gap, counted = np.abs(claim - oracle), usable & ~outlier & ~kinks
    ratio = np.where(counted & (gap != 0), gap / tolerance, 0.0)
    ratio = np.where(overflow, np.inf, np.where(kinks & wrong, np.inf, ratio))
    return Comparison(
        wrong,
        ratio,
        tolerance,
        kinks=int(kinks.sum()),
        outliers=int(outlier.sum()),
        weak=_is_weak(oracle, tolerance),
        kind="overflow" if overflow.any() else "",
        notices_zero=bool((np.abs(oracle) > tolerance).any()),
        notices_ones=bool((np.abs(oracle - 1) > tolerance).any()),
        notices_signs=[bool((2 * t > tolerance).any()) for t in evaluated.terms],
    )


def _within(
    evaluated: Evaluated, answer: Answer, claim: np.ndarray, oracle: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The tolerance, and what `_judge` says by it; an implementation's own rounding counts where it must."""
    tolerance = evaluated.tolerance + (0.0 if answer.error is None else answer.error)
    tolerance = np.where(np.isnan(tolerance), np.inf, tolerance)
    wrong, outlier, kinks = _judge(evaluated, claim, oracle, tolerance)
    if answer.rounding is not None and (wrong | outlier).any():
        _, off = answer.rounding()
        tolerance = tolerance + (off.reshape(claim.shape) if np.ndim(off) else off)
        wrong, outlier, kinks = _judge(evaluated, claim, oracle, tolerance)
    return tolerance, wrong, outlier, kinks


def _forward_gap(evaluated: Evaluated, answer: Answer) -> str:
    """What a native implementation computes that the forward does not, if anything."""
    if answer.rounding is None:
        return ""
    value, error = evaluated.output
    theirs = np.asarray(answer.value, np.float64)
    if theirs.shape != value.shape:
        return f"the native implementation gives shape {theirs.shape}, the forward {value.shape}"
    gap = np.abs(theirs - value)
    if not (gap > 2 * error).any():
        return ""
    # How it computes nobody knows: it may round where the forward does not.
    off = gap > 2 * error + answer.rounding()[0]
    if not off.any():
        return ""
    place = at_largest(off)
    native, own = pair(float(theirs[place]), float(value[place]), 6)
    return (
        f"the native implementation computes another function: at {list(place)} it gives {native} where the "
        f"forward gives {own}"
    )


def _judge(
    evaluated: Evaluated, claim: np.ndarray, oracle: np.ndarray, tolerance: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which entries of the claim are wrong, which of the oracle, and which lie at a kink."""
    wrong = np.abs(claim - oracle) > tolerance
    none = np.zeros(claim.shape, bool)
    truth = evaluated.truth
    if truth is None:
        return wrong, none, none
    # Of a bound that is no number nothing is known: it excludes nothing.
    own = np.where(np.isnan(evaluated.bound), np.inf, evaluated.bound)
    low, high = truth.lower - own, truth.upper + own
    kinks = truth.kinked
    claim_fits = (claim >= low) & (claim <= high)
    if truth.chosen is not None:
        # At a kink of the whole, a chain rule that takes 0 for the derivative of relu at 0 need not
        # stay between the one-sided derivatives: a product of elements is any element of the product.
        lowest, highest = truth.chosen
        by_choice = (claim >= lowest - own) & (claim <= highest + own)
        kinks = kinks | (wrong & by_choice)
        claim_fits = claim_fits | by_choice
    oracle_fits = (oracle >= truth.lower - truth.error) & (oracle <= truth.upper + truth.error)
    # At a kink any element between the one-sided derivatives is a derivative.
    wrong = np.where(kinks, ~claim_fits, wrong)
    outlier = wrong & claim_fits & ~oracle_fits & np.isfinite(oracle) & np.isfinite(low + high)
    wrong = np.asarray(wrong & ~outlier)
    if truth.ties:
        # Where a branch is tied, an oracle takes some element of each link's subdifferential, and
        # their product need be no derivative, even where the whole is smooth.
        return wrong, none, kinks | outlier
    return wrong, outlier, kinks


def _overflow(
    evaluated: Evaluated, claim: np.ndarray, oracle: np.ndarray, dtype: str
) -> np.ndarray:
    """A claim that is not finite where the derivative is, well inside the dtype's range."""
    largest = float(np.finfo("float32" if dtype == "bfloat16" else dtype).max)
    inside = np.isfinite(oracle) & (np.abs(oracle) < largest / 4)
    if evaluated.truth is not None:
        # An oracle may say something finite where rounding leaves nothing of the derivative.
        inside &= np.isfinite(evaluated.truth.error)
    return np.asarray(~np.isfinite(claim) & inside)


def _is_weak(oracle: np.ndarray, tolerance: np.ndarray) -> bool:
    """Whether the bound swallows even the largest entry (or a gradient of ones, where all are 0)."""
    if not oracle.size:
        return False
    size = np.abs(oracle)
    place = at_largest(size)
    if size[place] == 0:
        return bool(tolerance.max() > WEAK)
    return bool(tolerance[place] > WEAK * size[place])


def at_largest(array: Any) -> tuple[int, ...]:
    """The place of the largest entry; of several the first."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(array)), np.shape(array)))
