"""From a refuting example to what a person reads: the smallest one, its worst entry, a snippet."""

from __future__ import annotations

import inspect
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.checking import search
from gradcheck.checking.compare import at_largest
from gradcheck.checking.counterexample import literal, on_device
from gradcheck.diagnosis import diagnose_opaque
from gradcheck.diagnosis.model import blank
from gradcheck.layers.claimed import names_of
from gradcheck.layers.evidence import Evidence
from gradcheck.layers.forgotten import forgotten_sum
from gradcheck.layers.judging import judge
from gradcheck.reports.model import Check, Counterexample, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.checking.search import Example, Search
    from gradcheck.layers.bench import Bench, Point
    from gradcheck.layers.faults import Fault
    from gradcheck.layers.judging import Judged
    from gradcheck.layers.probed import Probed
    from gradcheck.layers.rule import Rule
    from gradcheck.oracles import Oracle

# How long shrinking and diagnosis of one refutation may take.
_SHRINKING = 3.0
_EVIDENCE = 0.8
_DIAGNOSIS = 1.0


@dataclass
class Refuter:
    """Refutes the inputs of one rule in one dtype on one device.

    Attributes:
        bench: The rule and its reference.
        examples: Those of the search.
        strategy: What to shrink in; None for the user's own data.
        seed: The seed of the search.
        profile: How much was tried.
        smallest: What was found, by input and kind; oracles that agree need not look again.
        told: Diagnoses by input and output.
    """

    bench: Bench
    examples: Sequence[Example]
    strategy: Search | None
    seed: int
    profile: str = "standard"
    smallest: dict[tuple[str, str], Example] = field(default_factory=dict)
    told: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)

    def fault(self, check: Check, name: str, point: Point, fault: Fault, oracle: Oracle) -> None:
        """Refute by what is wrong whatever the derivative is."""

        def fails(example: Example) -> bool:
            found = self.bench.evaluate(example).fault(name)
            return found is not None and found.kind == fault.kind

        example = self._smaller(name, fault.kind, fails, point.example)
        there = point if example is point.example else self.bench.evaluate(example)
        shown = there.fault(name) or fault
        check.verdict = Verdict.REFUTED
        check.counterexample = self._counterexample(check, name, example, whole=not there.large)
        check.counterexample.fault = shown.text
        check.diagnosis = {"kind": shown.kind, "message": headline(shown)}
        if fault.kind == "shape" and fault.edit.startswith("sum"):
            mended = self._forgotten(name, point, oracle)
            if mended:
                check.diagnosis["message"] += f"; {mended}"

    def _forgotten(self, name: str, point: Point, oracle: Oracle) -> str:
        """That the sum which a shape lacks mends the gradient; several oracles share the answer."""
        if (name, -1) not in self.told:
            examples = [point.example, *self.examples]
            try:
                found = forgotten_sum(self.bench, examples, name, oracle)
            except (Exception, SystemExit):  # noqa: BLE001  a rule may raise anything; the refutation stands
                found = None
            self.told[name, -1] = {"mended": found or ""}
        return str(self.told[name, -1]["mended"])

    def values(self, check: Check, name: str, point: Point, oracle: Oracle) -> None:
        """Refute by the values of the Jacobian."""

        def fails(example: Example) -> bool:
            found = self.bench.evaluate(example)
            if found.trouble or found.large or name not in found.claimed.jacobians:
                return False
            return any(j.comparison.refutes for j in judge(self.bench, found, name, oracle))

        example = self._smaller(name, "values", fails, point.example)
        shown = self.bench.evaluate(example)
        judged = next(j for j in judge(self.bench, shown, name, oracle) if j.comparison.refutes)
        check.verdict = Verdict.REFUTED
        check.worst = judged.comparison.worst
        if judged.comparison.kind == "forward":
            check.reason = judged.comparison.skipped
            check.diagnosis = {"kind": "forward", "message": _HEADLINES["forward"]}
            return
        if judged.comparison.kind == "overflow":
            check.reason = "the claim overflows where the derivative is finite"
        found = self._counterexample(check, name, example)
        self._entry(found, shown, name, judged)
        check.counterexample = found
        check.diagnosis = self._diagnosis(name, oracle, judged, shown)

    def probed(self, check: Check, name: str, point: Point, probed: Probed) -> None:
        """Refute by probes of a large shape."""
        assert probed.wrong is not None
        which, index, place = probed.wrong
        output = names_of(self.bench.rule.outputs, len(point.outputs))[which]
        check.verdict, check.worst = Verdict.REFUTED, probed.worst
        found = self._counterexample(check, name, point.example, whole=False)
        found.entry = entry_text(output, index, name, place)
        found.claim_value, found.oracle_value = probed.claim, probed.oracle
        found.bound = probed.bound
        check.counterexample = found
        shapes = ", ".join(f"{n} {v.shape}" for n, v in point.example.inputs.items())
        check.reason = f"found by signed probes of {shapes} and bisection"
        if probed.blocks:
            check.reason += f": {'; then '.join(probed.blocks)}"
        if probed.extent:
            check.reason += f"; {probed.extent}"
        if probed.measured:
            check.reason += "; judged by the error that the oracle's own passes have"
        check.diagnosis = {"kind": "none"}

    # ------------------------------------------------------------------ the smallest example

    def _smaller(
        self, name: str, kind: str, fails: Callable[[Example], bool], known: Example
    ) -> Example:
        """The smallest failing example; the known one where looking for it goes wrong."""
        remembered = self.smallest.get((name, kind))
        try:
            if remembered is not None and fails(remembered):
                return remembered
            if self.strategy is None:
                return known
            found = search.find_smallest(
                self.strategy, fails, len(self.examples), self.seed, known, seconds=_SHRINKING
            )
        except (Exception, SystemExit):  # noqa: BLE001  a rule may raise anything; the refutation stands
            return known
        self.smallest[name, kind] = found or known
        return found or known

    def _counterexample(
        self, check: Check, name: str, example: Example, *, whole: bool = True
    ) -> Counterexample:
        rule = self.bench.rule
        return Counterexample(
            sizes=dict(example.sizes),
            inputs={n: v.tolist() for n, v in example.inputs.items() if whole},
            params=dict(example.params),
            entry=f"the gradient of {name}",
            claim_value=float("nan"),
            oracle_value=float("nan"),
            bound=0.0,
            snippet=snippet(
                rule,
                check,
                example if whole else None,
                self.seed,
                own=self.strategy is None,
                profile=self.profile,
            ),
            dtype=check.dtype,
            location=rule.location or None,
        )

    def _entry(self, found: Counterexample, point: Point, name: str, judged: Judged) -> None:
        """The worst entry of the refuting comparison."""
        comparison, output = judged.comparison, judged.output
        claim = point.claimed.jacobians[name][output]
        oracle = np.asarray(judged.answer.jacobian, np.float64).reshape(claim.shape)
        rated = np.where(comparison.wrong, comparison.ratio, -1.0)
        place = at_largest(rated)
        split = point.outputs[output].ndim
        label = names_of(self.bench.rule.outputs, len(point.outputs))[output]
        found.entry = entry_text(label, place[:split], name, place[split:])
        found.claim_value, found.oracle_value = float(claim[place]), float(oracle[place])
        found.bound = float(np.broadcast_to(comparison.tolerance, claim.shape)[place])

    # ------------------------------------------------------------------ what kind of error

    def _diagnosis(self, name: str, oracle: Oracle, judged: Judged, shown: Point) -> dict[str, Any]:
        """What `gradcheck.diagnosis` makes of it; several oracles that refute one input share it."""
        key = (name, judged.output)
        if key not in self.told:
            start = time.thread_time()
            try:
                found = self._diagnosed(name, oracle, judged, shown)
            except (Exception, SystemExit) as error:  # noqa: BLE001  a rule may raise; the refutation stands
                found = blank() | {"message": f"no diagnosis: {type(error).__name__}: {error}"}
            self.told[key] = found | {"seconds": round(time.thread_time() - start, 3)}
        return dict(self.told[key])

    def _diagnosed(self, name: str, oracle: Oracle, judged: Judged, shown: Point) -> dict[str, Any]:
        evidence = Evidence(self.bench, name, oracle, judged.output)
        deadline = time.thread_time() + _EVIDENCE
        cases = evidence.cases((shown, judged), self.examples, deadline)
        operation, output = evidence.operation() or (None, evidence.output_name)
        return diagnose_opaque(cases, operation=operation, output=output, seconds=_DIAGNOSIS)


_HEADLINES = {
    "count": "the number of gradients is wrong",
    "none": "a gradient is missing",
    "type": "a gradient is no array of the framework",
    "shape": "the shape is wrong",
    "dtype": "the dtype is wrong",
    "linearity": "not linear in the cotangent",
    "precision": "less precise than its arrays",
    "repeat": "not the same on a second call",
    "raises": "the backward pass raises",
    "ties": "wrong at a tie",
    "stale": "wrong where the layer is called again before backward",
    "mutation": "an argument is written into",
    "layout": "wrong for a cotangent that is not contiguous",
    "aliasing": "wrong where one array stands in two slots",
    "missing cotangent": "wrong where the cotangent of an output is left out",
    "adjoint": "jvp and vjp contradict each other",
    "forward": "the forward is another function",
}


def headline(fault: Fault) -> str:
    """What is wrong in a few words, and what would mend it."""
    words = _HEADLINES.get(fault.kind, fault.kind)
    return f"{words}: {fault.edit}" if fault.edit else words


def entry_text(output: str, index: Sequence[int], name: str, place: Sequence[int]) -> str:
    """`∂out[0,1]/∂z[0,0]`: an entry by its indices, counted from 0."""
    above, below = (",".join(map(str, p)) for p in (index, place))
    return f"∂{output}{f'[{above}]' if above else ''}/∂{name}{f'[{below}]' if below else ''}"


def snippet(
    rule: Rule, check: Check, example: Example | None, seed: int, *, own: bool = False,
    profile: str = "standard",
) -> str:  # fmt: skip
    """Python that runs the same comparison again.

    Args:
        rule: Knows how it was called.
        check: Which oracle and dtype.
        example: The counterexample; None for one too large to be written down.
        seed: Of the search and the probes.
        own: Whether the large example is the user's own data.
        profile: Of the search, which draws a large example anew.
    """
    if not rule.call:
        return ""
    lines, data = [], "data=data, " if example is not None or own else ""
    if example is not None:
        values = {n: literal(v) for n, v in example.inputs.items()}
        values.update({n: repr(v) for n, v in example.params.items()})
        listed = ", ".join(f'"{n}": {text}' for n, text in values.items())
        lines = [f"data = {{{listed}}}"]
    elif own:
        lines = ["# data: as you passed them"]
    head = ["import numpy as np"] if any("np." in line for line in lines) else []
    asked = f'oracles=["{check.oracle}"], {on_device(check.device)}dtypes=["{check.dtype}"]'
    much = "" if data or profile == "standard" else f'profile="{profile}", '
    call = f"{rule.call}, {asked}, {data}{much}seed={seed})"
    return "\n".join([*head, *rule.imports, "", *lines, f"report = {call}", "print(report)"])


def called(function: Any, otherwise: str = "rule") -> tuple[str, str]:
    """How a snippet names a user's function, and the line that imports it ("" where none can).

    Args:
        function: The function, or another callable.
        otherwise: The name of one that has none of its own.
    """
    function = inspect.unwrap(function) if callable(function) else function
    name = getattr(function, "__name__", "") or type(function).__name__
    module = getattr(function, "__module__", "") or ""
    plain = name.isidentifier() and getattr(function, "__qualname__", name) == name
    known = plain and module not in ("", "__main__", "builtins")
    return (name if name.isidentifier() else otherwise), (
        f"from {module} import {name}" if known else ""
    )
