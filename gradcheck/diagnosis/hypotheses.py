"""One function a hypothesis: each takes examples and says what is wrong, or None where it fails."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.diagnosis.matching import evidence, is_special, is_wrong, same, slack, wrong_entries
from gradcheck.diagnosis.model import KINDS
from gradcheck.diagnosis.questions import Evidence, ratio

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from gradcheck.diagnosis.cases import OpaqueCase

    Array = NDArray[Any]

_MOST_AXES = 6


@dataclass(frozen=True)
class Found:
    """A hypothesis that holds: kind and message, and what else it tells."""

    kind: str
    message: str = ""
    factor: str | None = None
    term: int | None = None
    derived: str | None = None
    link: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The keys of a diagnosis that it fills."""
        return {
            "kind": self.kind,
            "message": self.message or KINDS[self.kind],
            "factor": self.factor,
            "term": self.term,
            "derived": self.derived,
            "link": self.link,
        }


# ---------------------------------------------------------------------- of all examples


def shape(cases: Sequence[OpaqueCase]) -> Found | None:
    """A gradient of another shape: a forgotten sum, a transposition, or neither."""
    off = next((c for c in cases if c.claimed.shape != c.true.shape), None)
    if off is None:
        return None
    got, expected = off.claimed.shape[off.split :], off.true.shape[off.split :]
    text = f"the gradient has shape {got} where {off.input} has {expected}"
    others = [c for c in cases if c.claimed.shape != c.true.shape]
    if all(_summed(c) is not None for c in others):
        return Found("missing-sum", f"a sum over a broadcast axis is missing: {text}")
    if all(_turned(c) for c in others):
        return Found("transposed", f"the gradient is transposed: {text}")
    return Found("shape", text)


def _summed(case: OpaqueCase) -> Array | None:
    """The claim summed over the axes that it has too many, where that is the truth."""
    extra = case.claimed.ndim - case.true.ndim
    tail = case.claimed.shape[case.split :]
    for count in range(1, len(tail) + 1):
        for axes in combinations(range(len(tail)), count):
            if extra not in (count, 0):
                continue
            over = tuple(case.split + a for a in axes)
            total: Array = np.asarray(case.claimed, np.float64).sum(axis=over, keepdims=extra == 0)
            if total.shape == case.true.shape and np.all(
                np.abs(total - case.true) <= slack(case, total, case.true)
            ):
                return total
    return None


def _turned(case: OpaqueCase) -> bool:
    own = list(range(case.split))
    for order in permutations(range(case.split, case.true.ndim)):
        turned = np.transpose(np.asarray(case.true, np.float64), (*own, *order))
        if same(case, turned):
            return True
    return False


def overflow(cases: Sequence[OpaqueCase]) -> Found | None:
    """Not finite where the derivative is, and right wherever it is finite."""
    bad = [c for c in cases if not np.all(np.isfinite(c.claimed)) and np.all(np.isfinite(c.true))]
    rest = [c for c in cases if not any(c is b for b in bad)]
    if not bad or any(is_wrong(c) for c in rest):
        return None
    kinds = "nan" if np.isnan(np.asarray(bad[0].claimed, np.float64)).any() else "infinite"
    return Found("overflow", f"it is {kinds} in {bad[0].dtype} where the derivative is finite")


def low_precision(cases: Sequence[OpaqueCase]) -> Found | None:
    """Right in float64, wrong in something shorter."""
    by_dtype: dict[str, list[bool]] = {}
    for case in cases:
        by_dtype.setdefault(case.dtype, []).append(is_wrong(case))
    if "float64" not in by_dtype or any(by_dtype["float64"]):
        return None
    short = [d for d, wrong in by_dtype.items() if any(wrong)]
    if not short:
        return None
    return Found("low-precision-only", f"right in float64, wrong in {', '.join(short)}")


def branch_at_parameter(cases: Sequence[OpaqueCase]) -> Found | None:
    """Wrong at some values of a choice and right at all others."""
    for name in cases[0].params:
        values = [c.params.get(name) for c in cases]
        if any(isinstance(v, float) for v in values):
            continue
        wrong = {repr(v) for v, c in zip(values, cases, strict=True) if is_wrong(c)}
        right = {repr(v) for v, c in zip(values, cases, strict=True) if not is_wrong(c)}
        if wrong and right and not wrong & right:
            return Found("wrong-branch", f"wrong where {name} is {' or '.join(sorted(wrong))} only")
    return None


def repeated_index(cases: Sequence[OpaqueCase]) -> Found | None:
    """Wrong wherever an index occurs twice and nowhere else: assigned, where it should be added."""
    wrong = [is_wrong(c) for c in cases]
    for name, first in cases[0].inputs.items():
        arrays = [np.asarray(c.inputs[name]) for c in cases]
        twice = [np.unique(a).size < a.size for a in arrays]
        if np.asarray(first).dtype.kind in "iu" and wrong == twice and len(set(wrong)) == 2:
            return Found(
                "special-values-only",
                f"wrong where an index occurs twice in {name} only, as if its parts were assigned one "
                "over another: add them (np.add.at, index_add_)",
            )
    return None


def special(cases: Sequence[OpaqueCase]) -> Found | None:
    """Wrong at special values only, right at all generic ones."""
    wrong = [c for c in cases if is_wrong(c)]
    generic = [c for c in cases if not is_special(c)]
    if not wrong or not generic or any(is_wrong(c) for c in generic):
        return None
    found = [
        words
        for words, test in (
            ("where an axis has size 1", lambda c: any(n == 1 for n in c.true.shape)),
            ("at zeros", _has_zeros),
            ("at equal values", _has_ties),
        )
        if all(test(c) for c in wrong)
    ]
    where = found[0] if found else "at zeros, equal values or size 1"
    return Found("special-values-only", f"wrong {where} only")


def _has_zeros(case: OpaqueCase) -> bool:
    return any((np.asarray(a) == 0).any() for a in case.inputs.values())


def _has_ties(case: OpaqueCase) -> bool:
    arrays = [np.asarray(a) for a in case.inputs.values()]
    return any(np.unique(a).size < a.size for a in arrays)


# ---------------------------------------------------------------------- of the wrong ones


def _rows(case: OpaqueCase, array: Array) -> Array:
    """One row for each entry of the output."""
    count = int(np.prod(case.true.shape[: case.split], dtype=np.int64))
    return np.asarray(array, np.float64).reshape(count, -1)


def cotangent_ignored(cases: Sequence[OpaqueCase]) -> Found | None:
    """The same gradient whatever the cotangent is."""
    telling = False
    for case in cases:
        claimed, true = _rows(case, case.claimed), _rows(case, case.true)
        if len(claimed) < 2:
            continue
        near = slack(case, case.claimed)
        if np.any(np.abs(claimed - claimed[0]) > near):
            return None
        ones = true.sum(axis=0) if case.at_ones is None else np.ravel(case.at_ones)
        if np.any(np.abs(ones - claimed[0]) > slack(case, ones, claimed)):
            return None
        telling |= bool(claimed.any())
    if not telling:
        return None
    return Found("cotangent-ignored", "the cotangent is ignored: the gradient is the same for any")


def ones_only(cases: Sequence[OpaqueCase]) -> Found | None:
    """Right when all cotangents are 1, and for no others; where that gives 0 it says nothing."""
    telling = False
    for case in cases:
        claimed, true = _rows(case, case.claimed), _rows(case, case.true)
        at_ones = claimed.sum(axis=0) if case.at_ones is None else np.ravel(case.at_ones)
        expected = true.sum(axis=0)
        if len(claimed) < 2 or at_ones.shape != expected.shape:
            return None
        limit = slack(case, claimed, true) * len(true)
        if np.any(np.abs(at_ones - expected) > limit):
            return None
        telling |= bool(np.any(np.abs(expected) > limit))
    return (
        Found("ones-only", "right for a cotangent of ones, wrong for others") if telling else None
    )


def constant_factor(cases: Sequence[OpaqueCase]) -> Found | None:
    """One number too much everywhere: a sign, a mean for a sum, 2."""
    given = [evidence(c) for c in cases]
    found = ratio(given)
    if found is not None and found.is_minus_one:
        return Found("sign", "the sign is wrong", factor="−1")
    if found is not None and not found.is_one:
        return Found("factor", f"wrong factor: {found.in_excess}", factor=str(found))
    number = _number(given)
    if number is None:
        return None
    return Found("factor", f"wrong factor: {number} too much", factor=number)


def _number(given: Sequence[Evidence]) -> str | None:
    """A factor that is no simple one, where it is the same at all points."""
    numbers = [_quotient(e) for e in given]
    if any(not n or not e.agrees(n * e.true) for n, e in zip(numbers, given, strict=True)):
        return None
    spread = max(numbers) - min(numbers)
    return (
        f"{numbers[0]:.13g}" if spread <= 1e-2 * abs(numbers[0] - 1) and numbers[0] != 1 else None
    )


def _quotient(e: Evidence) -> float:
    square = float(np.vdot(e.true, e.true))
    return float(np.vdot(e.claimed, e.true)) / square if square else 0.0


def permutation(cases: Sequence[OpaqueCase]) -> Found | None:
    """The truth with its axes in another order; examples whose axes differ in size tell which."""
    first = cases[0]
    if first.true.ndim > _MOST_AXES:
        return None
    identity = tuple(range(first.true.ndim))
    for order in permutations(identity):
        if order == identity or any(c.true.ndim != len(order) for c in cases):
            continue
        turned = [np.transpose(np.asarray(c.true, np.float64), order) for c in cases]
        if all(same(c, t) for c, t in zip(cases, turned, strict=True)):
            moved = [first.axes[i] or str(i) for i, j in enumerate(order) if i != j]
            kind = "transposed" if len(moved) == 2 else "permuted"
            return Found(kind, f"{KINDS[kind]}: {', '.join(dict.fromkeys(moved))}")
    return None


def at_the_output(cases: Sequence[OpaqueCase]) -> Found | None:
    """The derivative at the output's value, where the input's belongs."""
    for case in cases:
        if case.true_at is None or case.output.shape != np.shape(case.inputs[case.input]):
            return None
        moved = _asked(case.true_at, {case.input: np.asarray(case.output, np.float64)})
        if moved is None or not same(case, moved):
            return None
    return Found("output-for-input")


def at_the_input(cases: Sequence[OpaqueCase]) -> Found | None:
    """A formula in the output, such as y (1 − y), that is given the input."""
    for case in cases:
        if case.claimed_at is None or case.output.shape != np.shape(case.inputs[case.input]):
            return None
        moved = _asked(case.claimed_at, {case.input: np.asarray(case.output, np.float64)})
        true = np.asarray(case.true, np.float64)
        if moved is None or moved.shape != true.shape:
            return None
        if not np.all(np.abs(moved - true) <= slack(case, moved, true)):
            return None
    return Found("input-for-output")


def _asked(function: Any, values: dict[str, Any]) -> Array | None:
    """A Jacobian elsewhere; None where it cannot be had."""
    try:
        found = np.asarray(function(values), np.float64)
    except Exception:  # noqa: BLE001  somebody's code at a point that nobody asked it about
        return None
    return found if np.all(np.isfinite(found)) else None


def first_only(cases: Sequence[OpaqueCase]) -> Found | None:
    """A sum over a broadcast axis of which only one entry is taken."""
    first = cases[0]
    own = {a for a in first.axes[first.split :] if a}
    for axis in (i for i, a in enumerate(first.axes[: first.split]) if a not in own):
        for place in (0, -1):
            if all(_only(c, axis, place) for c in cases):
                name = first.axes[axis] or f"axis {axis}"
                which = "first" if place == 0 else "last"
                return Found(
                    "missing-sum",
                    f"the sum over {name} is missing: only the {which} entry counts",
                )
    return None


def _only(case: OpaqueCase, axis: int, place: int) -> bool:
    mask = np.zeros(case.true.shape)
    index: list[Any] = [slice(None)] * case.true.ndim
    index[axis] = place
    mask[tuple(index)] = 1.0
    return same(case, np.asarray(case.true, np.float64) * mask)


# ---------------------------------------------------------------------- patterns


def _masks(case: OpaqueCase) -> Iterator[tuple[str, Array]]:
    """Where output and input indices of one axis, or of several, are equal; with the axis's name."""
    split, axes = case.split, case.axes
    pairs = [
        (i, j)
        for i in range(split)
        for j in range(split, len(axes))
        if axes[i]
        and axes[i].lstrip("#") == axes[j].lstrip("#")
        and case.true.shape[i] == case.true.shape[j]
    ]
    index = np.indices(case.true.shape, sparse=True)
    for count in range(1, len(pairs) + 1):
        for chosen in combinations(pairs, count):
            mask = np.ones(case.true.shape, bool)
            for i, j in chosen:
                mask = mask & (index[i] == index[j])
            yield " and ".join(axes[i] for i, _ in chosen), mask


def diagonal(cases: Sequence[OpaqueCase]) -> Found | None:
    """Right on a diagonal and 0 beside it, where the derivative is not."""
    names = [name for name, _ in _masks(cases[0])]
    for name in names:
        if all(_is_diagonal(c, name) for c in cases):
            return Found(
                "extra-delta",
                f"a diagonal where a full block belongs: what lies beside the diagonal of {name} is missing",
            )
    return None


def _is_diagonal(case: OpaqueCase, name: str) -> bool:
    mask = dict(_masks(case)).get(name)
    return mask is not None and same(case, np.where(mask, case.true, 0.0))


def full_block(cases: Sequence[OpaqueCase]) -> Found | None:
    """Right on a diagonal, and not 0 beside it, where the derivative is 0."""
    names = [name for name, _ in _masks(cases[0])]
    for name in names:
        if all(_is_full(c, name) for c in cases):
            return Found(
                "missing-delta",
                f"a full block where a diagonal belongs: beside the diagonal of {name} it should be 0",
            )
    return None


def _is_full(case: OpaqueCase, name: str) -> bool:
    mask = dict(_masks(case)).get(name)
    if mask is None:
        return False
    wrong = wrong_entries(case)
    return not wrong[mask].any() and not np.asarray(case.true)[~mask].any() and bool(wrong.any())


def eps(cases: Sequence[OpaqueCase]) -> Found | None:
    """A small number in another place: the error vanishes with it."""
    for name in cases[0].params:
        if all(_vanishes(c, name) for c in cases):
            return Found(
                "eps-placement",
                f"the parameter {name} stands in another place: the smaller it is, the less is wrong",
            )
    return None


def _vanishes(case: OpaqueCase, name: str) -> bool:
    value = case.params.get(name)
    if (
        not isinstance(value, float)
        or not 0 < value < 1
        or case.true_at is None
        or case.claimed_at is None
    ):
        return False
    smaller = {name: value * 1e-4}
    true, claimed = _asked(case.true_at, smaller), _asked(case.claimed_at, smaller)
    if true is None or claimed is None or true.shape != claimed.shape:
        return False
    before = float(np.abs(np.asarray(case.claimed, np.float64) - case.true).max())
    after = float(np.abs(claimed - true).max())
    return after <= 0.1 * before


def branch_at_input(cases: Sequence[OpaqueCase]) -> Found | None:
    """Wrong only where an input is negative, or only where it is positive."""
    for words, sign in (("negative", -1), ("positive", 1)):
        sides = [_side(c, sign) for c in cases]
        wrong = [wrong_entries(c) for c in cases]
        one_sided = not any(w[~s].any() for w, s in zip(wrong, sides, strict=True))
        # Examples that lie on one side as a whole tell nothing; one at least has both.
        if one_sided and any((~s).any() for s in sides):
            return Found("wrong-branch", f"wrong where {cases[0].input} is {words} only")
    return None


def _side(case: OpaqueCase, sign: int) -> Array:
    """For each entry of the Jacobian, whether its input has this sign."""
    value = np.asarray(case.inputs[case.input], np.float64)
    return np.broadcast_to(value * sign > 0, case.true.shape)


def skip(cases: Sequence[OpaqueCase]) -> Found | None:
    """Of `out = x + f(x)` the derivative of x itself is missing, or is there twice."""
    for sign, kind, words in ((-1.0, "missing-term", "missing"), (1.0, "extra-term", "too many")):
        if all(_is_off_by_one(c, sign) for c in cases):
            text = "1 where the indices of output and input are equal, as of a skip connection"
            return Found(kind, f"a term is {words}: {text} ({cases[0].input} + ...)")
    return None


def _is_off_by_one(case: OpaqueCase, sign: float) -> bool:
    """Whether the claim is the derivative, and 1 more or less on its diagonal."""
    own, count = case.true.shape[: case.split], int(np.prod(case.true.shape[: case.split]))
    if case.true.shape[case.split :] != own:
        return False
    return same(case, np.asarray(case.true, np.float64) + sign * np.eye(count).reshape(own + own))


def nothing_at_all(cases: Sequence[OpaqueCase]) -> Found | None:
    """Zero, where the derivative is not."""
    if all(not np.any(c.claimed) for c in cases):
        return Found("missing-term", "the gradient is zero: every term is missing")
    return None
