"""What a refuted rule is diagnosed by: examples that tell errors apart, and the operation behind it.

The examples of a search are small and full of special values: at n = 2 a factor of n is a factor of 2.
Here the rule is asked at generic points too, whose sizes all differ and none of which is 1.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.algebra.shapes import DOTS, at_rank, axes_of, is_anonymous, is_number
from gradcheck.diagnosis.cases import OpaqueCase
from gradcheck.diagnosis.points import generic_points
from gradcheck.errors import GradcheckError
from gradcheck.layers.claimed import by_columns, by_rows, names_of
from gradcheck.layers.judging import judge
from gradcheck.palettes import round_to
from gradcheck.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gradcheck.checking.search import Example
    from gradcheck.domains import Domain, Parameter
    from gradcheck.layers.bench import Bench, Point
    from gradcheck.layers.judging import Judged
    from gradcheck.oracles import Oracle

    Floats = np.ndarray[Any, np.dtype[np.float64]]

# How many generic points, and how many examples of the search, a diagnosis looks at.
_GENERIC = 4
_DRAWN = 8
# Rules of a shorter dtype are asked in this one too: an error that is not there is one of precision.
_WIDE = "float64"


@dataclass(frozen=True)
class Ground:
    """Where the rule's inputs live, as generic points are drawn from it.

    Attributes:
        inputs: The domains of one slice.
        params: The parameters.
        where: The conditions that those axes and parameters can meet.
    """

    inputs: dict[str, Domain]
    params: dict[str, Parameter]
    where: tuple[str, ...]

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of all axes."""
        return tuple(dict.fromkeys(a for d in self.inputs.values() for a in axes_of(d.shape)))


class Evidence:
    """Examples of one refuted rule, and its forward as an operation.

    Args:
        bench: The rule and its reference, in the dtype in which it was refuted.
        name: The input.
        oracle: That refuted it.
        output: The place of the output.
    """

    def __init__(self, bench: Bench, name: str, oracle: Oracle, output: int) -> None:
        self.bench, self.name, self.oracle, self.output = bench, name, oracle, output
        rule, reference = bench.rule, bench.reference
        self.ground = Ground(
            {n: d.at_rank(0) for n, d in rule.inputs.items()},
            dict(rule.params),
            tuple(dict.fromkeys([*rule.where, *reference.where])),
        )
        self.points = generic_points(self.ground, _GENERIC)
        self._axes: tuple[str, ...] | None = None

    # ------------------------------------------------------------------ examples

    def cases(
        self, shown: tuple[Point, Judged], examples: Sequence[Example], deadline: float
    ) -> list[OpaqueCase]:
        """Generic points first, then the counterexample, then what the search drew.

        The deadline is in time of this thread: what is found does not depend on what else runs.
        """
        found = [*self._generic(self.bench, deadline), self._case(self.bench, *shown)]
        if self.bench.dtype != _WIDE:
            found += self._wide(deadline)
        for example in examples:
            if len(found) >= _GENERIC + _DRAWN or time.thread_time() > deadline:
                break
            found += self._drawn(example)
        return found

    def _generic(self, bench: Bench, deadline: float) -> Iterator[OpaqueCase]:
        for example in self.points:
            if time.thread_time() > deadline:
                return
            rounded = {n: _rounded(a, bench.dtype) for n, a in example.inputs.items()}
            point = bench.evaluate(replace(example, inputs=rounded))
            if self._usable(point) and (case := self._of_truth(bench, point)) is not None:
                yield case

    def _wide(self, deadline: float) -> list[OpaqueCase]:
        """The generic points in float64, where the rule can be called in it."""
        try:
            with self.bench.in_dtype(_WIDE) as bench:
                return list(self._generic(bench, deadline))
        except (Exception, SystemExit):  # noqa: BLE001  a rule of one dtype may raise anything in another
            return []

    def _drawn(self, example: Example) -> list[OpaqueCase]:
        point = self.bench.at(example)
        if not self._usable(point):
            return []
        return [
            self._case(self.bench, point, j)
            for j in judge(self.bench, point, self.name, self.oracle)
            if j.output == self.output and not j.comparison.skipped
        ]

    def _usable(self, point: Point) -> bool:
        return not point.trouble and not point.large and self.name in point.claimed.jacobians

    def _of_truth(self, bench: Bench, point: Point) -> OpaqueCase | None:
        """Against the derivative carried through the forward, or else the oracle's."""
        truth = point.truths[self.name][self.output]
        if truth is None or truth.ties or not np.all(np.isfinite(truth.error)):
            found = judge(bench, point, self.name, self.oracle)
            judged = next((j for j in found if j.output == self.output), None)
            usable = judged is not None and not judged.comparison.skipped
            return self._case(bench, point, judged) if judged is not None and usable else None
        limit = truth.error + point.bounds[self.name][self.output]
        return self._made(bench, point, np.asarray(truth.value, np.float64), limit)

    def _case(self, bench: Bench, point: Point, judged: Judged) -> OpaqueCase:
        true = np.asarray(judged.answer.jacobian, np.float64)
        return self._made(bench, point, true, judged.comparison.tolerance)

    def _made(self, bench: Bench, point: Point, true: Floats, limit: Any) -> OpaqueCase:
        claim = point.claimed.jacobians[self.name][self.output]
        example, output = point.example, point.outputs[self.output]
        rank = len(axes) if (axes := self.output_axes) is not None else -1
        above = axes if axes is not None and rank == output.ndim else ("",) * output.ndim
        return OpaqueCase(
            claimed=claim,
            true=true.reshape(claim.shape),
            split=output.ndim,
            axes=(*above, *_named(at_rank(bench.rule.inputs[self.name].shape, example.rank or 0))),
            input=self.name,
            inputs=example.inputs,
            output=output,
            params=example.params,
            sizes=example.sizes,
            dtype=bench.dtype,
            tolerance=np.broadcast_to(limit, claim.shape),
            at_ones=claim.sum(axis=tuple(range(output.ndim))),
            claimed_at=self._again(bench, example, self._claimed),
            true_at=self._again(bench, example, self._true),
        )

    # ------------------------------------------------------------------ asking again

    def _again(
        self, bench: Bench, example: Example, ask: Callable[[Bench, Example], Floats]
    ) -> Callable[[Mapping[str, Any]], Floats]:
        """The same Jacobian with other inputs and parameters."""

        def call(values: Mapping[str, Any]) -> Floats:
            inputs = {n: np.asarray(values.get(n, a)) for n, a in example.inputs.items()}
            params = {n: values.get(n, v) for n, v in example.params.items()}
            with np.errstate(all="ignore"):
                return ask(bench, replace(example, inputs=inputs, params=params))

        return call

    def _claimed(self, bench: Bench, example: Example) -> Floats:
        outputs = bench.reference.values(example, bench.dtype, bench.device)
        build = by_rows if bench.rule.vjp is not None else by_columns
        claimed = build(bench.caller, example, [o.shape for o in outputs])
        return claimed.jacobians[self.name][self.output]

    def _true(self, bench: Bench, example: Example) -> Floats:
        answer = bench.ask(self.oracle, example, self.name, self.output)
        outputs = bench.reference.values(example, _WIDE)
        shape = (*outputs[self.output].shape, *example.inputs[self.name].shape)
        return np.asarray(answer.jacobian, np.float64).reshape(shape)

    # ------------------------------------------------------------------ the forward as an operation

    @property
    def output_axes(self) -> tuple[str, ...] | None:
        """The names of the output's axes, "" for one that has none; None where no point is known."""
        if self._axes is None and self.points:
            shapes = [self._shapes(example) for example in self.points]
            self._axes = _axes_of_output(
                [s[self.output] for s in shapes], [e.sizes for e in self.points]
            )
        return self._axes

    @property
    def output_name(self) -> str:
        """What the output is called."""
        known = [len(self._shapes(example)) for example in self.points[:1]]
        return names_of(self.bench.rule.outputs, known[0] if known else 1)[self.output]

    def _shapes(self, example: Example) -> list[tuple[int, ...]]:
        return [o.shape for o in self.bench.reference.values(example, _WIDE)]

    def operation(self) -> tuple[Spec, str] | None:
        """The forward as a spec, and the output's name; None where it cannot be one.

        A spec or a chain brings its own intermediate values, in which its derivative is written.
        """
        known = self.bench.reference.operation
        try:
            if known is not None:
                spec = known if isinstance(known, Spec) else Spec(known)
                return spec, spec.result
            return self._of_forward()
        except GradcheckError:
            return None

    def _of_forward(self) -> tuple[Spec, str] | None:
        """A plain forward as a spec without claims."""
        reference, tables = self.bench.reference, [e.sizes for e in self.points]
        if reference.forward is None or not tables:
            return None
        shapes = [self._shapes(example) for example in self.points]
        names = names_of(self.bench.rule.outputs, len(shapes[0]))
        axes = {
            n: _axes_of_output([s[k] for s in shapes], tables, numbers=True)
            for k, n in enumerate(names)
        }
        if any("" in shape for shape in axes.values()):
            return None  # m + n − 1 entries, say: no axis of the inputs
        ground, outputs = self.ground, {n: " ".join(shape) for n, shape in axes.items()}
        spec = Spec(reference.forward, inputs=ground.inputs, params=ground.params, output=outputs)
        spec.where = ground.where
        return spec, names[self.output]


def _rounded(array: Any, dtype: str) -> Any:
    values = np.asarray(array)
    return round_to(values, dtype) if values.dtype.kind == "f" else values


def _named(shape: Sequence[str]) -> tuple[str, ...]:
    return tuple("" if is_number(a) or is_anonymous(a) else a for a in shape)


def _axes_of_output(
    shapes: Sequence[tuple[int, ...]], tables: Sequence[Mapping[str, int]], *, numbers: bool = False
) -> tuple[str, ...]:
    """For each dimension the axis that has its size at every point; "" where there is none.

    Args:
        shapes: The output's shape at each point.
        tables: The sizes at each point, all different.
        numbers: Whether a dimension of the same size everywhere is named by that number.
    """
    found = []
    for sizes in zip(*shapes, strict=True):
        named = [
            axis
            for axis in tables[0]
            if not axis.startswith(("#", DOTS))
            and all(table[axis] == size for table, size in zip(tables, sizes, strict=True))
        ]
        fixed = str(sizes[0]) if numbers and len(set(sizes)) == 1 else ""
        found.append(named[0] if named else fixed)
    return tuple(found)
