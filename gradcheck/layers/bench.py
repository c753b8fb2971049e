"""A rule and its reference in one dtype on one device, evaluated at examples.

What a rule may be off is derived, not chosen. Its author need not have evaluated the forward's
derivative term by term, so its admissible error is that of a derivative of the forward, in whatever
order it is computed: the carried derivative's bound, whose roundings are charged to the sum over
paths. The rule has it once, the oracle once more. Only where the forward is known to a framework
alone (`of={"torch": fn}`) nothing can be carried through it, and the error is measured instead
(`gradcheck.layers.precision`).
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import backends
from gradcheck.algebra.shapes import concrete_shape
from gradcheck.checking import search
from gradcheck.checking.problem import Evaluated
from gradcheck.checking.run import reason_of
from gradcheck.errors import GradcheckError, UsageError
from gradcheck.layers import precision
from gradcheck.layers.calling import Caller, refuse_complex
from gradcheck.layers.claimed import Claimed, by_columns, by_rows, names_of
from gradcheck.layers.faults import Fault, structure
from gradcheck.layers.primal import Primal
from gradcheck.layers.raw import Contract
from gradcheck.layers.ties import ties
from gradcheck.layers.widening import Lost, widen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradcheck.checking.search import Example
    from gradcheck.layers.reference import Reference
    from gradcheck.layers.rule import Rule
    from gradcheck.oracles import Answer, Oracle
    from gradcheck.running import Truth

# The largest Jacobian that the search draws, in entries; sizes above it are left out of the pool.
BUDGET = 10_000.0
# The largest one that is compared entry by entry; beyond, by probes.
DENSE = 250_000
DENSE_ROWS = 2048
# Examples of more entries are not compared with each other.
_LARGE = 1_000_000


@dataclass
class Point:
    """A rule at one example.

    Attributes:
        example: The inputs.
        outputs: The values of the forward's outputs, in the dtype.
        trouble: Why nothing can be compared here; empty if it can.
        faults: What is wrong with the rule whatever its derivative is.
        claimed: The Jacobians claimed.
        truths: By input, the carried derivative of each output.
        bounds: By input and output, on the error of an entry of a right Jacobian.
        large: Whether it is too large to be compared entry by entry.
        exercised: What the raw checks tried.
        measured: What else the bounds hold (`gradcheck.layers.widening`).
    """

    example: Example
    outputs: list[np.ndarray] = field(default_factory=list)
    trouble: str = ""
    faults: list[Fault] = field(default_factory=list)
    claimed: Claimed = field(default_factory=Claimed)
    truths: dict[str, list[Truth | None]] = field(default_factory=dict)
    bounds: dict[str, list[np.ndarray]] = field(default_factory=dict)
    large: bool = False
    exercised: Counter[str] = field(default_factory=Counter)
    measured: set[str] = field(default_factory=set)

    def fault(self, name: str) -> Fault | None:
        """The first fault that concerns an input."""
        return next((f for f in self.faults if f.input in ("", name)), None)


class Bench:
    """A rule held against its reference in one dtype on one device.

    Args:
        rule: What is claimed.
        reference: The forward.
        dtype: The dtype of all arrays of the rule.
        device: Where it runs.
        seed: For the cotangents of the raw checks.
    """

    def __init__(
        self, rule: Rule, reference: Reference, dtype: str, device: str, seed: int
    ) -> None:
        self.rule, self.reference, self.dtype, self.seed = rule, reference, dtype, seed
        self.caller = Caller(rule, dtype, device)
        self.device = device
        # Examples that are looked at by probes, however small their Jacobians are.
        self.probed: set[Example] = set()
        self._points: dict[object, Point] = {}
        self.primal = Primal(self)
        self.lost: dict[str, Lost] = {}
        self._others: dict[str, Bench] = {}
        self._shapes: dict[tuple[tuple[str, int], ...], float] = {}

    # ------------------------------------------------------------------ examples

    def cost(self, sizes: Mapping[str, int]) -> float:
        """The number of entries of the Jacobian at these sizes, found by running the forward."""
        key = tuple(sorted(sizes.items()))
        if key not in self._shapes:
            self._shapes[key] = self._entries(sizes)
        return self._shapes[key]

    def _entries(self, sizes: Mapping[str, int]) -> float:
        shapes = {n: concrete_shape(d.shape, sizes) for n, d in self.rule.inputs.items()}
        largest = max(math.prod(shapes[n]) for n in self.rule.differentiable)
        if largest > BUDGET:
            return float(largest)
        whole = ("labels", "integers")
        arrays = {
            n: np.zeros(shapes[n], np.int64) if d.kind in whole else np.full(shapes[n], 0.5)
            for n, d in self.rule.inputs.items()
        }
        params = {n: p.simplest() for n, p in self.rule.params.items()}
        try:
            with np.errstate(all="ignore"):
                example = search.Example(arrays, params, dict(sizes))
                outputs = self.reference.values(example, "float64")
        except (Exception, SystemExit):  # noqa: BLE001  these are no values of the domain: any may be refused
            return float(largest * largest)
        return float(largest * sum(o.size for o in outputs))

    # ------------------------------------------------------------------ evaluating

    def at(self, example: Example) -> Point:
        """The rule at an example; evaluated once."""
        # The points keep their examples, so that a large one is known by where it lies.
        large = sum(a.size for a in example.inputs.values()) > _LARGE
        key: object = ("large", id(example)) if large else example.key()
        if key not in self._points:
            self._points[key] = self.evaluate(example)
        return self._points[key]

    def evaluate(self, example: Example) -> Point:
        """The rule at an example: raw checks, then Jacobians with their bounds."""
        point = Point(example)
        with np.errstate(all="ignore"):
            point.trouble = self._values(point)
            if point.trouble:
                return point
            wide = max(example.inputs[n].size for n in self.rule.differentiable)
            rows = sum(o.size for o in point.outputs)
            point.large = wide * rows > DENSE or max(rows, wide) > DENSE_ROWS
            point.large |= example in self.probed
            if self.rule.forward is not None:
                self._try_own_forward(point)
                if point.faults or point.trouble:
                    return point
            if not rows or not sum(example.inputs[n].size for n in self.rule.differentiable):
                return self._empty(point)
            if not point.large:
                self._try_claim(point)
        return point

    def _values(self, point: Point) -> str:
        try:
            point.outputs = self.reference.values(point.example, self.dtype, self.device)
        except GradcheckError:
            raise
        except Exception as error:
            if _is_empty(point.example):
                return f"the forward raises {type(error).__name__} at size 0"
            # Frameworks refuse sizes by a RuntimeError.
            framework_own = self.reference.forward is None and type(error) is RuntimeError
            if framework_own or _is_numeric(error):
                return f"the forward raises {type(error).__name__}: {error}"
            if self.reference.forward is not None and "Tensor" in str(error):
                raise GradcheckError(_not_xp(error)) from error
            raise
        for output in point.outputs:
            refuse_complex(output, "the forward")
        if not all(np.all(np.isfinite(o)) for o in point.outputs):
            return "the forward is not finite"
        return ""

    def _empty(self, point: Point) -> Point:
        """At size 0 only the structure of what comes back can be wrong."""
        point.trouble = "the Jacobian has no entries"
        rule, example = self.rule, point.example
        if rule.vjp is None:
            return point
        shapes = [example.inputs[n].shape for n in rule.differentiable]
        vectors = [self.caller.array(np.ones(o.shape)) for o in point.outputs]
        try:
            raw = self.caller.pull(vectors, self.caller.arrays(example), example.params)
        except (Exception, SystemExit) as error:  # noqa: BLE001  a rule may raise anything
            point.trouble = f"the rule raises {type(error).__name__} at size 0"
            return point
        point.faults = structure(raw, rule.differentiable, shapes, self.caller, what="gradient")
        return point

    def _try_own_forward(self, point: Point) -> None:
        """A layer may refuse arrays without entries, as frameworks' own do: that is no wrong value."""
        try:
            point.faults += self.primal.faults(point.example, point.outputs)
        except GradcheckError:
            raise
        except Exception as error:
            if not _is_empty(point.example):
                raise
            point.trouble = f"the layer raises {type(error).__name__} at size 0"

    @contextlib.contextmanager
    def in_dtype(self, dtype: str) -> Iterator[Bench]:
        """The same rule in another dtype; a module is moved there, and back afterwards.

        Raises:
            UsageError: For a dtype that the rule does not take.
        """
        if self.rule.dtypes is not None and dtype not in self.rule.dtypes:
            raise UsageError(f"{self.rule.name} takes {', '.join(self.rule.dtypes)}, not {dtype}")
        if dtype == self.dtype:
            yield self
            return
        prepare = self.rule.prepare
        try:
            if dtype not in self._others:
                self._others[dtype] = Bench(
                    self.rule, self.reference, dtype, self.device, self.seed
                )
            elif prepare is not None:
                prepare(dtype, self.caller.device)
            yield self._others[dtype]
        finally:
            if prepare is not None:
                prepare(self.dtype, self.caller.device)

    def _try_claim(self, point: Point) -> None:
        """The Jacobians, unless the rule's framework cannot even evaluate the forward at these numbers."""
        try:
            self._claim(point)
        except Exception as error:
            if _is_empty(point.example):
                point.trouble = f"the rule raises {type(error).__name__} at size 0"
                return
            if not _is_numeric(error) or not self._refused(point.example):
                raise
            point.trouble = f"the forward raises {type(error).__name__} in {self.rule.framework}"

    def _refused(self, example: Example) -> bool:
        """Whether the forward raises in the rule's framework: its pivots may be 0 where NumPy's are not."""
        forward = self.reference.forward
        if forward is None or self.rule.framework == "numpy":
            return False
        backend = backends.get(self.rule.framework)
        arrays = [example.inputs[n] for n in self.reference.inputs]
        try:
            backend.apply(
                lambda xp, *a: forward(xp, *a, **example.params), arrays, self.dtype, self.device
            )
        except (Exception, SystemExit) as error:  # noqa: BLE001  a framework may refuse in its own way
            return _is_numeric(error)
        return False

    def _claim(self, point: Point) -> None:
        example, shapes = point.example, [o.shape for o in point.outputs]
        build = by_rows if self.rule.vjp is not None else by_columns
        point.claimed = build(self.caller, example, shapes)
        point.faults += point.claimed.faults
        for name in self.rule.differentiable:
            truths = [
                self.reference.truth(example, name, k, self.dtype, o.size)
                for k, o in enumerate(point.outputs)
            ]
            point.truths[name] = truths
            point.bounds[name] = [
                t.error if t is not None else precision.measured(self, example, name, k)
                for k, t in enumerate(truths)
            ]
        for name, more in self.reading(example).items():
            point.bounds[name] = [b + more for b in point.bounds[name]]
        if not point.faults:
            self._look_raw(point)
            while bounded := [f for f in point.faults if f.bounded]:
                if not widen(self, point, slight=any(f.slight for f in bounded)):
                    break
                self._look_raw(point)
            point.faults += ties(self, point) if not point.faults else []

    def _look_raw(self, point: Point) -> None:
        """The rule's own contract, within the bounds."""
        contract = Contract(
            self.caller,
            point.example,
            [o.shape for o in point.outputs],
            point.claimed,
            point.bounds,
            names_of(self.rule.outputs, len(point.outputs)),
            self.seed,
        )
        point.faults = contract.run()
        point.exercised = contract.exercised

    def reading(self, example: Example) -> dict[str, np.ndarray]:
        """What the adapter's way of reading each gradient may be off, for a cotangent of size one."""
        if self.rule.rounding is None:
            return {}
        arrays = self.caller.arrays(example)
        self.rule.restore()
        with self.caller.scope():
            extra = self.rule.rounding(arrays, dict(example.params))
        return {
            n: np.asarray(more, np.float64)
            for n, more in zip(self.rule.differentiable, extra, strict=True)
        }

    def right_in_float64(self, example: Example, name: str, output: int, true: Any) -> np.ndarray:
        """The entries of a derivative that the rule has right when it computes in float64."""
        shape = np.shape(true)
        if self.rule.dtypes is not None and "float64" not in self.rule.dtypes:
            return np.zeros(shape, bool)
        with self.in_dtype("float64") as wide:
            point = wide.at(example)
        if point.trouble or point.large or name not in point.bounds:
            return np.zeros(shape, bool)
        claim, bound = point.claimed.jacobians[name][output], point.bounds[name][output]
        return np.asarray(np.abs(claim - true) <= 2 * bound)

    # ------------------------------------------------------------------ for the comparison

    def evaluated(self, point: Point, name: str, output: int) -> Evaluated:
        """One Jacobian of the point, as the comparison takes it."""
        truth = point.truths[name][output]
        value = point.outputs[output]
        return Evaluated(
            point.example,
            point.claimed.jacobians[name][output],
            point.bounds[name][output],
            [],
            truth,
            truth.outputs[output] if truth is not None else (value, np.zeros(value.shape)),
        )

    def ask(
        self, oracle: Oracle, example: Example, name: str, output: int, dtype: str | None = None
    ) -> Answer:
        """What an oracle says: in float64, at the inputs as the dtype has them."""
        wanted = dtype or "float64"
        question = self.reference.question(oracle, example, name, output, wanted)
        device = self.device if oracle.framework not in ("numpy", "autograd") else "cpu"
        return oracle.ask(question, device)


def _not_xp(error: BaseException) -> str:
    """What to write where a forward hands arrays of `xp` to a framework's own functions."""
    return (
        f"`of` raises {reason_of(error)}; it is called with the arrays of NumPy and other frameworks, whose "
        'functions `xp` has: write xp.exp, say, or of={"torch": fn} for a function on tensors'
    )


def _is_empty(example: Example) -> bool:
    """Whether an input has no entries, which frameworks may refuse."""
    return not all(a.size for a in example.inputs.values())


def _is_numeric(error: BaseException) -> bool:
    """Whether a forward refuses these numbers or sizes, rather than being broken."""
    kinds = (ValueError, ZeroDivisionError, IndexError, ArithmeticError)
    own = isinstance(error, kinds) or type(error).__name__.lstrip("_") == "LinAlgError"
    return own and not isinstance(error, UsageError)
