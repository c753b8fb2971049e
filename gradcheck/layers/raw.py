"""The rule's own contract, before any oracle is asked: linear, repeatable, without side effects.

All comparisons are within the bound that a right rule keeps: a gradient vᵀJ is off by |v|ᵀB where B
bounds the error of the entries of J. Each comparison is of two computed results, so twice that. What
passes here is not known to be right; what fails here is wrong whatever the derivative is.
"""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.checking.compare import at_largest
from gradcheck.layers.faults import Fault, FaultFound
from gradcheck.layers.interplay import adjoint, aliased, interleaved
from gradcheck.layers.large import label
from gradcheck.layers.layouts import broadcast, layouts
from gradcheck.layers.widening import slight
from gradcheck.reports.numbers import pair
from gradcheck.running import format_of, shorter_format

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gradcheck.checking.search import Example
    from gradcheck.layers.calling import Caller
    from gradcheck.layers.claimed import Claimed

    Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass
class Contract:
    """The raw checks of a rule at one example.

    Attributes:
        caller: Calls the rule.
        example: The inputs.
        shapes: The shapes of the outputs.
        claimed: The Jacobians that basis vectors gave.
        bounds: Of each input and output, on the error of an entry of a right Jacobian.
        names: The names of the outputs.
        seed: For the cotangents.
        faults: What is wrong.
        exercised: What was tried, how often.
    """

    caller: Caller
    example: Example
    shapes: Sequence[tuple[int, ...]]
    claimed: Claimed
    bounds: dict[str, list[Floats]]
    names: Sequence[str]
    seed: int = 0
    faults: list[Fault] = field(default_factory=list)
    exercised: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        key = b"".join(a.tobytes() for a in self.example.inputs.values())
        self.rng = np.random.default_rng([self.seed, zlib.crc32(key)])
        self.inputs = list(self.caller.rule.differentiable)

    def run(self) -> list[Fault]:
        """All checks that apply, until one fails."""
        checks = _CHECKS_VJP if self.caller.rule.vjp is not None else _CHECKS_JVP
        for check in checks:
            try:
                self.faults += list(check(self))
            except FaultFound as found:
                self.faults.append(found.fault)
            if self.faults:
                break
        return self.faults

    # ------------------------------------------------------------------ vectors

    def cotangents(self) -> list[Floats]:
        """Signed random cotangents, short decimals that are numbers of every dtype.

        None is smaller than 1, so that nothing underflows that does not for a row of the Jacobian.
        """
        return [
            self.rng.choice([-1.0, 1.0], s) * self.rng.integers(4, 9, s) / 4 for s in self.shapes
        ]

    def expected(self, vectors: Sequence[Floats], name: str) -> tuple[Floats, Floats]:
        """The gradient that the rows of the claimed Jacobian add up to, and its admissible error."""
        value, bound = np.zeros(self.example.inputs[name].shape), np.zeros(())
        unit = format_of(self.caller.dtype).unit
        for vector, jacobian, error in zip(
            vectors, self.claimed.jacobians[name], self.bounds[name], strict=True
        ):
            axes = vector.ndim
            value = value + np.tensordot(vector, jacobian, axes)
            size = np.tensordot(np.abs(vector), np.abs(jacobian), axes)
            # A rule adds up vᵀJ in its own dtype: at most one rounding a term.
            bound = (
                bound + np.tensordot(np.abs(vector), error, axes) + unit * (vector.size + 2) * size
            )
        return value, 2 * bound

    def pull(
        self, vectors: Sequence[Any], arrays: dict[str, Any] | None = None
    ) -> dict[str, Floats]:
        """The gradients by input, on the host."""
        arrays = self.caller.arrays(self.example) if arrays is None else arrays
        return self.hosted(self.caller.pull(vectors, arrays, self.example.params))

    def hosted(self, raw: Any) -> dict[str, Floats]:
        """What a vjp returned, by input; what its adapter found wrong on the way ends the checks."""
        if isinstance(raw, Fault):
            raise FaultFound(raw)
        return {n: self.caller.host(r) for n, r in zip(self.inputs, raw, strict=True)}

    def framework(self, vectors: Sequence[Floats]) -> list[Any]:
        """The vectors as fresh arrays of the framework."""
        return [self.caller.array(v) for v in vectors]

    def differ(
        self,
        kind: str,
        first: dict[str, Floats],
        second: dict[str, Floats],
        bounds: dict[str, Floats],
        text: Callable[[str, str, str], str],
    ) -> Iterator[Fault]:
        """A fault for each input whose two gradients differ beyond the bound."""
        for name in self.inputs:
            jacobians = self.claimed.jacobians.get(name)
            # What is not finite is refuted by its values, as an overflow; here it would only confuse.
            if jacobians is None or not all(np.isfinite(j).all() for j in jacobians):
                continue
            bound = bounds[name]
            if self.caller.dtype == "float16":
                # Its range ends at 65504: several rows together overflow where each of them does not.
                finite = np.isfinite(first[name]) & np.isfinite(second[name])
                bound = np.where(finite, bound, np.inf)
            place = _apart(first[name], second[name], bound)
            if place is not None:
                got, wanted = float(first[name][place]), float(second[name][place])
                slightly = slight(np.asarray(abs(got - wanted)), second[name])
                said = text(label(name, place), *pair(got, wanted, 6))
                yield Fault(kind, name, said, bounded=True, slight=slightly)

    def admissible(self, vectors: Sequence[Floats]) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """The expected gradients by input, and their bounds."""
        pairs = {n: self.expected(vectors, n) for n in self.claimed.jacobians}
        return {n: p[0] for n, p in pairs.items()}, {n: p[1] for n, p in pairs.items()}


def _apart(first: Floats, second: Floats, bound: Floats) -> tuple[int, ...] | None:
    """The entry that is furthest apart beyond the bound; what is not finite on both sides is equal."""
    if np.array_equal(first, second):
        return None
    first, second = np.broadcast_arrays(first, second)
    with np.errstate(all="ignore"):
        same = (first == second) | (~np.isfinite(first) & ~np.isfinite(second))
        unbounded = np.isnan(bound) | np.isposinf(bound)
        off = ~same & ~unbounded & ~(np.abs(first - second) <= bound)
        gap = np.where(off, np.nan_to_num(np.abs(first - second), nan=np.inf), -1.0)
    if not off.any():
        return None
    return at_largest(gap)


# ---------------------------------------------------------------------- checks of a vjp


def _zero(contract: Contract) -> Iterator[Fault]:
    contract.exercised["zero cotangent"] += 1
    found = contract.pull(contract.framework([np.zeros(s) for s in contract.shapes]))
    nothing = {n: np.zeros(v.shape) for n, v in found.items()}
    yield from contract.differ(
        "linearity", found, nothing, nothing,
        lambda at, got, _: (
            f"a cotangent of zeros gives {at} the gradient {got} instead of 0: the rule ignores "
            "the cotangent, or adds to it; a vjp is linear in it"
        ),
    )  # fmt: skip


def _linear(contract: Contract) -> Iterator[Fault]:
    contract.exercised["signed random cotangents"] += 1
    vectors = contract.cotangents()
    found = contract.pull(contract.framework(vectors))
    expected, bounds = contract.admissible(vectors)
    sums = contract.differ(
        "linearity", found, {**found, **expected}, bounds,
        lambda at, got, wanted: (
            f"the rule is not linear in the cotangent: for a signed random one {at} is {got}, but "
            f"its rows, asked one by one, add up to {wanted}"
        ),
    )  # fmt: skip
    scaled = contract.pull(contract.framework([-4.0 * v for v in vectors]))
    multiples = contract.differ(
        "linearity", scaled, {n: -4.0 * v for n, v in found.items()},
        {n: 4.0 * b for n, b in bounds.items()},
        lambda at, got, wanted: (
            f"the rule is not linear in the cotangent: for −4 times a cotangent {at} is {got}, and "
            f"−4 times its gradient is {wanted}"
        ),
    )  # fmt: skip
    uneven = list(multiples)
    for fault in sums:
        name = fault.input
        known = any(f.input == name for f in uneven)
        short = "" if known else _short(contract, found[name], expected[name], bounds[name])
        yield _less_precise(fault, short) if short else fault
    yield from uneven


def _short(contract: Contract, found: Floats, expected: Floats, bound: Floats) -> str:
    """The format whose rounding explains the gap, of a rule that keeps −4 exactly, as rounding does."""
    with np.errstate(all="ignore"):
        excess = np.abs(found - expected) / bound
    return shorter_format(float(np.max(excess, initial=0.0)), contract.caller.dtype)


def _less_precise(fault: Fault, short: str) -> Fault:
    what = fault.text.partition(": ")[2]
    text = f"{what}, as rounding in {short} or shorter explains; part of the rule seems to be computed so"
    return Fault("precision", fault.input, text)


def _repeat(contract: Contract) -> Iterator[Fault]:
    """Twice with the very same arrays, as a training loop that keeps its graph does."""
    contract.exercised["called twice"] += 1
    vectors = contract.cotangents()
    arrays = contract.caller.arrays(contract.example)
    given = contract.framework(vectors)
    before = {n: contract.caller.host(a).copy() for n, a in arrays.items()}
    first = contract.pull(given, arrays)
    yield from _modified(contract, before, arrays, vectors, given)
    second = contract.pull(given, arrays)
    _, bounds = contract.admissible(vectors)
    yield from contract.differ(
        "repeat", second, first, bounds,
        lambda at, got, once: (
            f"the second call with the same arrays gives {at} = {got} where the first gave "
            f"{once}: the rule keeps a state of its own, or changes one that it shares"
        ),
    )  # fmt: skip


def _modified(
    contract: Contract,
    before: dict[str, Floats],
    arrays: dict[str, Any],
    vectors: Sequence[Floats],
    given: Sequence[Any],
) -> Iterator[Fault]:
    pairs = [(n, before[n], arrays[n]) for n in before]
    if given:
        pairs += [
            (f"the cotangent of {n}", contract.caller.host(contract.caller.array(v)), g)
            for n, v, g in zip(contract.names, vectors, given, strict=True)
        ]
    for name, old, new in pairs:
        now = contract.caller.host(new)
        changed = ~((old == now) | (np.isnan(old) & np.isnan(now)))
        if changed.any():
            place = tuple(int(i) for i in np.argwhere(changed)[0])
            at = f" at [{','.join(map(str, place))}]" if place else ""
            kept = name if name in contract.inputs else ""
            yield Fault(
                "mutation", kept,
                f"the rule writes into {name}{at}: {old[place]:.6g} became {now[place]:.6g}; copy the "
                "array before changing it",
                f"copy {name.removeprefix('the ')} first",
            )  # fmt: skip


def _layouts(contract: Contract) -> Iterator[Fault]:
    vectors = contract.cotangents()
    plain = contract.pull(contract.framework(vectors))
    _, bounds = contract.admissible(vectors)
    for which, vector in enumerate(vectors):
        for what, odd in layouts(contract.caller, vector):
            given = contract.framework(vectors)
            given[which] = odd
            contract.exercised[f"{what.split()[-1]} cotangent"] += 1
            yield from _against(contract, given, plain, bounds, f"{what} cotangent")
    yield from _broadcast(contract)


def _broadcast(contract: Contract) -> Iterator[Fault]:
    flat = [np.full(s, 0.75) for s in contract.shapes]
    odd = [broadcast(contract.caller, 0.75, s) for s in contract.shapes]
    if any(o is None for o in odd):
        return
    contract.exercised["broadcast cotangent"] += 1
    plain = contract.pull(contract.framework(flat))
    _, bounds = contract.admissible(flat)
    yield from _against(contract, odd, plain, bounds, "a broadcast (stride 0) cotangent")


def _against(
    contract: Contract,
    given: Sequence[Any],
    plain: dict[str, Floats],
    bounds: dict[str, Floats],
    what: str,
) -> Iterator[Fault]:
    try:
        found = contract.pull(given)
    except FaultFound:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  a rule may raise anything
        first = str(error).strip().splitlines()[:1]
        yield Fault(
            "layout", "",
            f"the rule raises {type(error).__name__} for {what}, though not for an equal contiguous one: "
            f"{''.join(first)}; make it contiguous first, or use reshape instead of view",
        )  # fmt: skip
        return
    if any(found[n].shape != plain[n].shape for n in found):
        yield Fault("layout", "", f"the shape of a gradient is another for {what}")
        return
    yield from contract.differ(
        "layout", found, plain, bounds,
        lambda at, got, wanted: (
            f"{what} gives {at} = {got}, an equal contiguous one {wanted}: the rule reads the "
            "memory of the cotangent without its strides"
        ),
    )  # fmt: skip


def _one_missing(contract: Contract) -> Iterator[Fault]:
    """Each output's cotangent left out in turn, where the framework leaves it out."""
    if len(contract.shapes) < 2 or not contract.caller.rule.accepts_missing:
        return
    for which, name in enumerate(contract.names):
        contract.exercised[f"no cotangent of {name}"] += 1
        vectors = contract.cotangents()
        vectors[which] = np.zeros(contract.shapes[which])
        plain = contract.pull(contract.framework(vectors))
        _, bounds = contract.admissible(vectors)
        given: list[Any] = contract.framework(vectors)
        given[which] = None
        for fault in _against(contract, given, plain, bounds, f"a missing cotangent of {name}"):
            text = fault.text.replace("an equal contiguous one", "a cotangent of zeros there")
            text = text.partition("; make it contiguous")[0].partition(": the rule reads")[0]
            yield Fault("missing cotangent", fault.input, text)


_CHECKS_VJP: tuple[Callable[[Contract], Iterator[Fault]], ...] = (
    _zero, _linear, _repeat, interleaved, _layouts, _one_missing, aliased, adjoint,
)  # fmt: skip


# ---------------------------------------------------------------------- checks of a jvp


def _push(contract: Contract, vectors: Sequence[Floats], arrays: dict[str, Any]) -> list[Floats]:
    raw = contract.caller.push(contract.framework(vectors), arrays, contract.example.params)
    return [contract.caller.host(r) for r in raw]


_ZERO_TANGENT = "a tangent of zeros gives {at} = {got} instead of 0; a jvp is linear in it"
_NOT_ADDITIVE = (
    "the rule is not linear in the tangent: {at} is {got}, but its columns, asked one by one, add up "
    "to {other}"
)
_SECOND_CALL = (
    "the second call with the same arrays gives {at} = {got} where the first gave {other}: the "
    "rule keeps a state of its own, or changes one that it shares"
)


def _jvp_linear(contract: Contract) -> Iterator[Fault]:
    contract.exercised["signed random tangents"] += 1
    shapes = [contract.example.inputs[n].shape for n in contract.inputs]
    vectors = [
        contract.rng.choice([-1.0, 1.0], s) * contract.rng.integers(1, 9, s) / 4 for s in shapes
    ]
    arrays = contract.caller.arrays(contract.example)
    before = {n: contract.caller.host(a).copy() for n, a in arrays.items()}
    found = _push(contract, vectors, arrays)
    yield from _modified(contract, before, arrays, (), ())
    again = _push(contract, vectors, arrays)
    zero = _push(contract, [np.zeros(s) for s in shapes], contract.caller.arrays(contract.example))
    for k, name in enumerate(contract.names):
        wanted, bound = _combined(contract, vectors, k)
        nothing = np.zeros(())
        for kind, got, other, slack, text in (
            ("linearity", zero[k], nothing, nothing, _ZERO_TANGENT),
            ("linearity", found[k], wanted, bound, _NOT_ADDITIVE),
            ("repeat", again[k], found[k], bound, _SECOND_CALL),
        ):
            place = _apart(got, np.broadcast_to(other, got.shape), slack)
            if place is not None:
                came = float(np.broadcast_to(other, got.shape)[place])
                shown = pair(float(got[place]), came, 6)
                said = text.format(at=label(name, place), got=shown[0], other=shown[1])
                slightly = slight(np.asarray(abs(float(got[place]) - came)), got)
                yield Fault(kind, "", said, bounded=True, slight=slightly)
                return


def _combined(contract: Contract, vectors: Sequence[Floats], output: int) -> tuple[Floats, Floats]:
    value: Any = np.zeros(contract.shapes[output])
    bound: Any = np.zeros(())
    unit = format_of(contract.caller.dtype).unit
    for name, vector in zip(contract.inputs, vectors, strict=True):
        if name not in contract.claimed.jacobians:
            return value, np.full((), np.inf)
        jacobian, error = contract.claimed.jacobians[name][output], contract.bounds[name][output]
        value = value + np.tensordot(jacobian, vector, vector.ndim)
        size = np.tensordot(np.abs(jacobian), np.abs(vector), vector.ndim)
        bound = (
            bound
            + np.tensordot(error, np.abs(vector), vector.ndim)
            + unit * (vector.size + 2) * size
        )
    return value, 2 * bound


_CHECKS_JVP: tuple[Callable[[Contract], Iterator[Fault]], ...] = (_jvp_linear,)
