"""One claim in one dtype, evaluated at examples: its value, its bound, and the carried derivative."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from gradcheck import backends, running
from gradcheck.accumulating import accumulate, named, why_link_by_link
from gradcheck.algebra.shapes import at_rank, rank_in
from gradcheck.checking.forms import (
    LINK_BY_LINK,
    closed_form,
    in_words,
    is_second,
    relied_on,
    stated,
)
from gradcheck.errors import SpecError, UnsupportedOperation
from gradcheck.evaluation import blocks, dense, output_shape
from gradcheck.oracles import Question

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.algebra.relations import Relation
    from gradcheck.algebra.terms import Expression
    from gradcheck.checking.search import Example
    from gradcheck.domains import Domain
    from gradcheck.evaluation import Bindings, Operations
    from gradcheck.operation import Claim, Operation

# Beyond so many directions the carried derivative is left out, and the claim's own bound serves twice.
MAX_DIRECTIONS = 4096
MAX_ENTRIES = 4_000_000


@dataclass
class Evaluated:
    """A claim at one example.

    Attributes:
        example: The inputs.
        claim: The claimed Jacobian, computed in the dtype.
        bound: On the distance of `claim` from the exact value of the claimed expression.
        terms: The absolute value of each term, dense, to see what a flipped sign would do.
        truth: The derivative carried through the forward with its bounds; None where too large.
        outputs: Value and bound of the differentiated output.
        trouble: Why nothing can be compared here ("the forward is not finite"); empty if it can.
    """

    example: Example
    claim: np.ndarray
    bound: np.ndarray
    terms: list[np.ndarray]
    truth: running.Truth | None
    output: tuple[np.ndarray, np.ndarray]
    trouble: str = ""
    relation: str = ""
    answers: dict[Any, Any] = field(default_factory=dict)

    @property
    def tolerance(self) -> np.ndarray:
        """On |claim − oracle|: the claim's bound and that of a derivative taken of the forward."""
        own = self.bound if self.truth is None else self.truth.error
        with np.errstate(all="ignore"):
            return np.asarray(self.bound + own)


class Problem:
    """One claim of an operation, in one dtype."""

    def __init__(self, operation: Operation, claim: Claim, dtype: str) -> None:
        self.operation = operation
        self.claim = claim
        self.dtype = dtype
        self.names = list(operation.inputs)
        self._forms: dict[int, Expression] = {}
        self.output_index = operation.output_names.index(claim.output)

    def expression(self, example: Example) -> Expression:
        """What is evaluated at the example: the claim as written, or the closed form that runs of it.

        The closed form rests on relations such as Σ_q y[p,q] = 1, which rows without entries break.
        """
        rank = rank_in(example.sizes)
        if self.link_by_link:
            chain: Any = self.operation
            return named(chain, self.claim.output, self.claim.input, rank)
        if not self._simplified or (0 in example.sizes.values() and self.relations):
            return self._composed(rank)
        return self._closed(rank)

    @cached_property
    def link_by_link(self) -> str:
        """Why the claim is evaluated one link after another; empty where it is one expression."""
        return why_link_by_link(self.operation, self.claim)

    @cached_property
    def _simplified(self) -> bool:
        """Whether users run a closed form: of a chain, and of what the product rule gives."""
        return self.claim.form == "chain" or is_second(self.operation, self.claim)

    def _composed(self, rank: int) -> Expression:
        return self.operation.derivative(self.claim.output, self.claim.input, rank)

    def _closed(self, rank: int) -> Expression:
        if rank not in self._forms:
            self._forms[rank] = closed_form(self.operation, self.claim, rank)
        return self._forms[rank]

    @cached_property
    def relations(self) -> tuple[Relation, ...]:
        """Those on which the closed form rests."""
        if not self._simplified or self.link_by_link:
            return ()
        return relied_on(self.operation, self._closed(0))

    @cached_property
    def form(self) -> str:
        """Which form is evaluated, in words: "closed form after cancelling powers and Σ_q y[p,q] = 1"."""
        if self.link_by_link:
            return LINK_BY_LINK
        if self._simplified:
            return in_words(self._closed(0))
        return stated(self.operation, self.claim)

    def cost(self, sizes: Mapping[str, int]) -> float:
        """The number of entries of the Jacobian at these sizes."""
        rank = rank_in(sizes)
        entries = 1.0
        for name in (self.claim.output, self.claim.input):
            for axis in at_rank(self.operation.shapes[name], rank):
                entries *= int(axis) if axis.isdigit() else sizes.get(axis, 1)
        return entries

    def question(self, example: Example, evaluated: Evaluated) -> Question:
        """The same point, for an oracle."""
        numbers = {n: v for n, v in example.params.items() if isinstance(v, float)}
        choices = {n: v for n, v in example.params.items() if n not in numbers}

        def forward(xp: Any, *arrays: Any) -> tuple[Any, ...]:
            values = dict(zip([*self.names, *numbers], arrays, strict=True))
            return self._outputs(xp, {**values, **choices})

        def native_of(function: Any) -> Any:
            def call(*arrays: Any) -> Any:
                values = dict(zip([*self.names, *numbers], arrays, strict=True))
                inputs = [values.pop(n) for n in self.names]
                return function(*inputs, **values, **choices)

            return call

        return Question(
            forward=forward,
            native={f: native_of(fn) for f, fn in self.operation.native.items()},
            arrays=[*(example.inputs[n] for n in self.names), *numbers.values()],
            wrt=self.names.index(self.claim.input),
            output=self.output_index,
            dtype=self.dtype,
            key=(_serial(self.operation), self.claim.label, tuple(sorted(choices.items()))),
            noise=evaluated.output[1],
        )

    def _outputs(self, xp: Any, values: Mapping[str, Any]) -> tuple[Any, ...]:
        environment = self.operation.environment(xp, values)
        return tuple(environment[n] for n in self.operation.output_names)

    # ------------------------------------------------------------------ evaluation

    def evaluate(self, example: Example) -> Evaluated:
        """The claim, its bound and the carried derivative at one example."""
        with np.errstate(all="ignore"):
            try:
                claim = self._claim(example)
            except (SpecError, UnsupportedOperation):
                raise
            except (ValueError, ZeroDivisionError, IndexError, np.linalg.LinAlgError) as error:
                return _nothing(example, f"the forward raises {type(error).__name__}: {error}")
            if not np.all(np.isfinite(claim[1])):
                return _nothing(example, "the forward is not finite")
            if not claim[0].size:
                return _nothing(example, "the Jacobian has no entries")
            return self._bounded(example, claim[0])

    def _claim(self, example: Example) -> tuple[np.ndarray, np.ndarray]:
        """The claimed Jacobian and the output, in numpy and the dtype."""
        backend = backends.get("numpy")
        values: dict[str, Any] = {
            n: backend.asarray(v, self.dtype, "cpu") for n, v in example.inputs.items()
        }
        values.update(example.params)
        operands = self.operation.environment(backend.namespace(self.dtype, "cpu"), values)
        like = np.zeros((), self.dtype)
        bindings = self.operation.bind(values, operands, like)
        value, _ = self._summed(example, bindings, backend)
        return np.asarray(value), np.asarray(operands[self.claim.output])

    def _summed(self, example: Example, bindings: Bindings, ops: Operations) -> tuple[Any, Any]:
        """The claim, and what is added up in it: its terms, or those of the link next to the input."""
        if self.link_by_link:
            return self._accumulated(example, bindings, ops)
        expression = self.expression(example)
        parts = blocks(expression, bindings, ops)
        shape = output_shape(expression, bindings)
        terms = ([p] for p in parts if len(parts) > 1)
        return (
            dense(parts, shape, bindings.like, ops),
            (dense(t, shape, bindings.like, ops) for t in terms),
        )

    def _accumulated(
        self, example: Example, bindings: Bindings, ops: Operations
    ) -> tuple[Any, Any]:
        """The claim one link after another; a value is a matrix and the matrices that it is the sum of."""

        def extents(name: str) -> tuple[int, ...]:
            return tuple(bindings.extent(a) for a in bindings.shapes[name])

        def evaluate(local: Expression) -> tuple[Any, list[Any]]:
            shape = output_shape(local, bindings)
            rows = math.prod(shape[: local.title[0][1]])
            parts = blocks(local, bindings, ops)
            alone = [[p] for p in parts] if len(parts) > 1 else []
            whole, *terms = (
                dense(p, shape, bindings.like, ops) + ops.zeros(shape, bindings.like)
                for p in [parts, *alone]
            )
            flat = (rows, math.prod(shape[local.title[0][1] :]))
            return whole.reshape(flat), [t.reshape(flat) for t in terms]

        def multiply(outer: Any, own: Any) -> tuple[Any, list[Any]]:
            whole, *terms = (ops.einsum("ab,bc->ac", outer[0], x) for x in (own[0], *own[1]))
            return whole, terms

        chain: Any = self.operation
        output, name = self.claim.output, self.claim.input
        whole, terms = accumulate(
            chain,
            output,
            name,
            rank_in(example.sizes),
            evaluate,
            multiply,
            lambda a, b: (a[0] + b[0], [*(a[1] or [a[0]]), *(b[1] or [b[0]])]),
        )
        shape = extents(output) + extents(name)
        return whole.reshape(shape), (t.reshape(shape) for t in terms)

    def _bounded(self, example: Example, claim: np.ndarray) -> Evaluated:
        xp = running.ErrorNamespace(self.dtype)
        ops = running.ErrorOperations(xp)
        values = self._carried_inputs(example, xp)
        operands = self.operation.environment(xp, values)
        like = xp.asarray(0.0)
        bindings = self.operation.bind(values, operands, like)
        total, parts = self._summed(example, bindings, ops)
        terms = [np.abs(p.value) for p in parts]
        output = xp.asarray(operands[self.claim.output])
        truth = self._truth(example, values)
        error = np.broadcast_to(total.error, claim.shape)
        if truth is None or self.claim.input in {r.name for r in self.relations}:
            error = error + self._off_domain(example, bindings, ops)
        return Evaluated(
            example,
            claim,
            error,
            terms,
            truth,
            (output.value, output.error),
            relation=self._broken_relation(operands, xp),
        )

    def _off_domain(self, example: Example, bindings: Any, ops: Any) -> Any:
        """How far the closed form may lie from the composed one on rows that were rounded.

        An oracle's derivative is that at the rounded rows, and so is the composed form, of which a
        relation has not been used; on the exact ones the two forms are equal. Where the carried
        derivative covers the rows' rounding, nothing need be added.
        """
        if not self.relations:
            return 0.0
        composed = self._composed(rank_in(example.sizes))
        whole = dense(
            blocks(composed, bindings, ops), output_shape(composed, bindings), bindings.like, ops
        )
        return whole.error

    def _carried_inputs(self, example: Example, xp: Any) -> dict[str, Any]:
        """Inputs with their errors: exact, but rows of probabilities are rounded from exact ones."""
        values: dict[str, Any] = dict(example.params)
        for name, array in example.inputs.items():
            if array.dtype.kind != "f":
                values[name] = array
            elif self.operation.inputs[name].kind == "probability":
                values[name] = running.rounded_input(xp, array)
            else:
                values[name] = xp.asarray(array)
        return values

    def _truth(self, example: Example, values: Mapping[str, Any]) -> running.Truth | None:
        wrt = example.inputs[self.claim.input]
        if wrt.size > MAX_DIRECTIONS or self.cost(example.sizes) > MAX_ENTRIES:
            return None

        def forward(xp: Any, *arrays: Any) -> tuple[Any, ...]:
            return self._outputs(
                xp, {**dict(zip(self.names, arrays, strict=True)), **example.params}
            )

        return running.derivative(
            forward,
            [example.inputs[n] if n == self.claim.input else values[n] for n in self.names],
            self.names.index(self.claim.input),
            self.dtype,
            output=self.output_index,
        )

    def _broken_relation(self, operands: Mapping[str, Any], xp: Any) -> str:
        """The relation that an output's domain declares and this example breaks, if any."""
        for name, domain in getattr(self.operation, "relations", {}).items():
            broken = violation(domain, xp.asarray(operands[name]), xp)
            if broken:
                return f"{name} is declared {domain.describe()}, but {broken}"
        return ""


_SERIALS: WeakKeyDictionary[Operation, int] = WeakKeyDictionary()
_NUMBERS = count()


def _serial(operation: Operation) -> int:
    """A number that no other operation of this process ever has, unlike its identity in memory."""
    if operation not in _SERIALS:
        _SERIALS[operation] = next(_NUMBERS)
    return _SERIALS[operation]


def violation(domain: Domain, array: Any, xp: Any) -> str:
    """How an output leaves its declared domain, beyond its rounding error; empty if it does not."""
    low = array.value + array.error
    if domain.kind in ("positive", "probability", "one_hot", "mask") and (low < 0).any():
        return f"an entry is {float(array.value.min()):.6g}"
    if domain.kind in ("probability", "one_hot") and array.value.size:
        total = xp.sum(array, axis=-1)
        off = np.abs(total.value - 1) > total.error
        if off.any():
            return f"a row sums to {float(total.value[off].flat[0]):.6g}"
    return ""


def _nothing(example: Example, trouble: str) -> Evaluated:
    empty = np.zeros(0)
    return Evaluated(example, empty, empty, [], None, (empty, empty), trouble=trouble)
