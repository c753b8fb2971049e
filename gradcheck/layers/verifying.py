"""`verify_rule`: somebody's derivative rule against every oracle of its forward.

Each check looks at the rule raw first (`gradcheck.layers.faults`, `raw`): what is wrong there is wrong
whatever the derivative is, and refutes every oracle's check alike. Then it compares numbers: entry by
entry at small shapes, by signed probes at large ones.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import backends
from gradcheck.arguments import names as words
from gradcheck.arguments import natural
from gradcheck.checking import search
from gradcheck.checking.given import arrays_by_name
from gradcheck.checking.plan import canonical_devices, how_to_install
from gradcheck.checking.run import Tally, reason_of
from gradcheck.errors import GradcheckError, MissingBackend, UsageError
from gradcheck.layers import precision
from gradcheck.layers.bench import BUDGET, Bench
from gradcheck.layers.blocks import CHEAPEST, Blocks, at, at_sizes, blocks, untried
from gradcheck.layers.exactly import exactly, point_of
from gradcheck.layers.exercised import exercised, long_reduction, never, topped_up
from gradcheck.layers.given import given
from gradcheck.layers.judging import judge
from gradcheck.layers.large import with_zeros
from gradcheck.layers.notes import note, seconds
from gradcheck.layers.probed import Probed
from gradcheck.layers.probes import Prober
from gradcheck.layers.pullback import can
from gradcheck.layers.reference import Reference, as_reference
from gradcheck.layers.refuting import Refuter
from gradcheck.layers.tangents import by_tangents
from gradcheck.oracles import EXACT, ORACLES, Oracle, check_names, missing
from gradcheck.reports.model import Check, Report, Verdict
from gradcheck.running import FORMATS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradcheck.checking.search import Example, Search
    from gradcheck.layers.bench import Point
    from gradcheck.layers.rule import Rule
    from gradcheck.oracles.exact.inputs import Draw
    from gradcheck.oracles.finding import Finding

# Large examples cost what they cost: so many of them are looked at.
_LARGE = 2
# Who confirms in floats what exact numbers suspect; the last is always there.
_CONFIRMING = ("autograd", "torch", "jax", "differences")
# Differences run the forward for every entry: half of the examples, ten at least.
_LAST_RESORT = 10
_MEASURED = "; some entries were judged by the error that the oracle's own passes have"


@dataclass
class Options:
    """What was asked for, checked."""

    oracles: tuple[str, ...]
    explicit: bool
    required: tuple[str, ...]
    devices: tuple[str, ...]
    dtypes: tuple[str, ...]
    profile: search.Profile
    seed: int
    data: dict[str, Any] | None


def verify_rule(
    rule: Rule,
    of: Any,
    *,
    oracles: Sequence[str] | str | None = None,
    devices: Sequence[str] | str = ("cpu",),
    dtypes: Sequence[str] | str = ("float64",),
    profile: str = "standard",
    seed: int = 0,
    data: Mapping[str, Any] | None = None,
    require: Sequence[str] | str = (),
) -> Report:
    """Hold a rule against every oracle of its forward.

    Args:
        rule: The rule, as an adapter made it.
        of: The forward: `forward(xp, *inputs, **params)`, a spec, a chain, `{"torch": fn}`, or a
            `Reference`.
        oracles: Names of oracles; all that are installed by default.
        devices: Where the rule runs, and the oracles that can.
        dtypes: "float64", "float32", "float16", "bfloat16".
        profile: "quick", "standard" or "thorough".
        seed: The same seed gives the same examples and probes.
        data: Your own arrays and parameters by name, instead of drawn examples.
        require: Oracles whose checks must succeed for the report to be ok.

    Raises:
        UsageError: For an unknown oracle, device, dtype, profile or input.
        SpecError: For a domain or a condition that is not understood.
    """
    start = time.perf_counter()
    options = _options(oracles, devices, dtypes, profile, seed, data, require)
    reference = of if isinstance(of, Reference) else as_reference(of, rule.inputs, rule.params)
    report = Report(seed=options.seed, profile=options.profile.name)
    for device in options.devices:
        for dtype in options.dtypes:
            _Session(rule, reference, options, dtype, device).fill(report)
    note(report, rule.name, options.oracles, options.required)
    report.seconds = time.perf_counter() - start
    return report


def _options(
    oracles: Any, devices: Any, dtypes: Any, profile: str, seed: int, data: Any, require: Any
) -> Options:
    required = check_names(words(require, "require"))
    named = check_names(words(oracles, "oracles")) if oracles is not None else ORACLES
    kinds = words(dtypes, "dtypes")
    for dtype in kinds:
        if dtype not in FORMATS:
            raise UsageError(f"unknown dtype {dtype!r}; known are {', '.join(FORMATS)}")
    if not kinds:
        raise UsageError('no dtype was named; write dtypes=["float64"]')
    return Options(
        tuple(dict.fromkeys([*named, *required])),
        oracles is not None,
        required,
        canonical_devices(words(devices, "devices")),
        kinds,
        search.profile_named(profile),
        natural(seed, "seed"),
        None if data is None else arrays_by_name(data),
    )


@dataclass
class _Session:
    """All checks of a rule in one dtype on one device, which share their examples."""

    rule: Rule
    reference: Reference
    options: Options
    dtype: str
    device: str
    bench: Bench = field(init=False)
    examples: list[Example] = field(init=False, default_factory=list)
    strategy: Search | None = field(init=False, default=None)
    accuracy: dict[str, precision.Accuracy] = field(init=False, default_factory=dict)
    found: dict[str, tuple[Finding, Draw | None]] = field(init=False, default_factory=dict)
    blocks: Blocks | None = field(init=False, default=None)

    def fill(self, report: Report) -> None:
        """Run every check and add it to the report."""
        oracles = self._oracles()
        skip = self._prepare()
        if not skip:
            seed, profile = self.options.seed, self.options.profile.name
            refuter = Refuter(self.bench, self.examples, self.strategy, seed, profile)
        for name in self.rule.differentiable:
            planned = []
            for oracle, why in oracles:
                if oracle.name == "exact" and not self._runs_exactly(name):
                    continue
                check = self._blank(name, oracle)
                if skip or why:
                    check.verdict, check.reason = skip or (Verdict.SKIPPED, why)
                else:
                    planned.append((check, oracle))
                report.checks.append(check)
            # The first that is asked about large shapes should be one that has them cheaply.
            for check, oracle in sorted(planned, key=_expense):
                self._run(check, name, oracle, refuter)
        if not skip:
            lost = [self.bench.primal.loses, *(found.text for found in self.bench.lost.values())]
            report.notes += [f"{self.rule.name}: {text}" for text in lost if text]
        if self.blocks is not None:
            lines = [f"{self.rule.name}: {line}" for line in untried(self.blocks, self.examples)]
            report.notes += [line for line in lines if line not in report.notes]

    def _oracles(self) -> list[tuple[Oracle, str]]:
        """Those to be asked, each with the reason where it cannot be."""
        names = [n for n in self.options.oracles if n not in EXACT]
        found: list[tuple[Oracle, str]] = [(o, "") for o in self.reference.oracles(names)]
        if "exact" in self.options.oracles:
            found.append((Oracle("exact", "numpy"), ""))
        if self.options.explicit:
            here = {o.name for o, _ in found}
            found += [
                (Oracle(n, "numpy"), self._why_not(n))
                for n in self.options.oracles
                if n not in here and n != "native"
            ]
        return found

    def _runs_exactly(self, name: str) -> bool:
        """Whether `exact` has something to say, or was asked for; numbers of no dtype need one check."""
        if self.options.explicit:
            return self.dtype == self.options.dtypes[0]
        if self.dtype != "float64" or self.rule.program is None:
            return False
        return self._finding(name)[0].verdict != "undecided"

    def _finding(self, name: str) -> tuple[Finding, Draw | None]:
        if name not in self.found:
            self.found[name] = exactly(self.rule, self.reference, name, self.options.seed)
        return self.found[name]

    def _why_not(self, name: str) -> str:
        if name in EXACT:
            return f"{name} needs a derivation; a rule is opaque"
        if name in missing([name]):
            return how_to_install(name)
        return f"`of` has no forward for {name}; it has {', '.join(self.reference.own)}"

    def _prepare(self) -> tuple[Verdict, str] | None:
        """Set up the bench and draw the examples; why nothing can run, if nothing can."""
        try:
            if self.rule.dtypes is not None and self.dtype not in self.rule.dtypes:
                return Verdict.SKIPPED, f"{self.rule.name} takes {', '.join(self.rule.dtypes)} only"
            if self.dtype not in backends.get(self.rule.framework).dtypes:
                return Verdict.SKIPPED, (
                    f"{self.rule.framework} has no {self.dtype}; write the rule for torch or JAX "
                    'arrays and say backend="torch"'
                )
            self.bench = Bench(
                self.rule, self.reference, self.dtype, self.device, self.options.seed
            )
        except MissingBackend as error:
            return Verdict.SKIPPED, str(error)
        self._draw()
        return None

    def _draw(self) -> None:
        options, rule = self.options, self.rule
        if options.data is not None:
            self.examples = [given(rule, options.data, self.dtype)]
            return
        where = list(dict.fromkeys([*rule.where, *self.reference.where]))
        try:
            self._drawn(where, BUDGET, options.profile.examples)
        except UsageError as error:
            if "the budget of" not in str(error):
                raise
            # Sizes written as numbers: large they are, and large they are checked.
            self._drawn(where, float("inf"), _LARGE)

    def _drawn(self, where: list[str], budget: float, count: int) -> None:
        self.strategy = search.examples(
            self.rule.inputs,
            self.rule.params,
            where=where,
            profile=self.options.profile,
            dtype=self.dtype,
            seed=self.options.seed,
            cost=self.bench.cost,
            budget=budget,
        )
        if budget < float("inf") and all(m.empty for m in self.strategy.pool.members):
            self._drawn(where, float("inf"), _LARGE)  # every array that has entries is a large one
            return
        self.examples = search.collect(self.strategy, count, self.options.seed)
        if budget < float("inf"):
            self.examples += long_reduction(self.strategy, self.rule, self.dtype, self.options.seed)
            self.examples += topped_up(self.strategy, self.rule, self.examples, self.options.seed)

    def _blank(self, name: str, oracle: Oracle) -> Check:
        return Check(
            claim=self.rule.name,
            input=name,
            oracle=oracle.name,
            framework=oracle.framework if oracle.name == "native" else "",
            device=self.device,
            dtype=self.dtype,
            verdict=Verdict.UNDECIDED,
            address=self.rule.address,
            kind=self.rule.kind,
            required=oracle.name in self.options.required,
        )

    # ------------------------------------------------------------------ one check

    def _run(self, check: Check, name: str, oracle: Oracle, refuter: Refuter) -> None:
        start = time.perf_counter()
        try:
            if oracle.name == "exact":
                self._exact(check, name, refuter)
            else:
                self._check(check, name, oracle, refuter)
        except MissingBackend as error:
            check.verdict, check.reason = Verdict.SKIPPED, str(error)
        except GradcheckError as error:
            check.verdict, check.reason = Verdict.ERROR, str(error)
        except (Exception, SystemExit) as error:  # noqa: BLE001  a rule or a framework may raise anything
            check.verdict, check.reason = Verdict.ERROR, reason_of(error)
        check.seconds = time.perf_counter() - start

    def _check(self, check: Check, name: str, oracle: Oracle, refuter: Refuter) -> None:
        tally, points = Tally(), []
        for number, example in enumerate(self.examples[: self._how_many(oracle)]):
            point = at(self.bench, example)
            points.append(point)
            if self._faulty(check, name, point, oracle, refuter):
                check.examples = number + 1
                return
            if point.trouble:
                tally.skipped[point.trouble] += 1
            elif point.large:
                if self._probe(check, name, point, oracle, tally, refuter):
                    return
            elif self._compare(check, name, point, oracle, tally, refuter):
                check.examples = number + 1
                return
        if self._beyond_blocks(check, name, oracle, tally, points, refuter):
            return
        check.exercised = exercised(self.examples, points, self.dtype)
        check.never = never(self.rule, check.exercised)
        if name in self.accuracy:
            check.accuracy = self.accuracy[name].as_dict()
        conclude(tally, check, self.reference.uncarried)

    def _faulty(
        self, check: Check, name: str, point: Point, oracle: Oracle, refuter: Refuter
    ) -> bool:
        """Whether something is wrong with the rule here whatever its derivative is; that ends the check."""
        fault = point.fault(name)
        if fault is not None:
            refuter.fault(check, name, point, fault, oracle)
        return fault is not None

    def _beyond_blocks(
        self, check: Check, name: str, oracle: Oracle, tally: Tally, points: list[Point],
        refuter: Refuter,
    ) -> bool:  # fmt: skip
        """One axis of 1025 entries at a time; whether that ends the check.

        What one oracle has found right there is not asked of the others.
        """
        if self.strategy is None or not can(oracle.framework) or oracle.name == "native":
            return False
        if self.blocks is None:
            profile, seed = self.options.profile.name, self.options.seed
            self.blocks = blocks(self.strategy, self.bench, oracle.framework, profile, seed)
        if name in self.blocks.sound:
            return False
        before = len(points)
        for example in self.blocks.examples:
            agreed = tally.agreed
            try:
                point = self.bench.at(example)
                if self._faulty(check, name, point, oracle, refuter):
                    return True
                if point.trouble:
                    tally.skipped[point.trouble] += 1
                elif self._probe(check, name, point, oracle, tally, refuter):
                    return True
            except Exception as error:
                raise at_sizes(error, example) from error
            points += [point] if tally.agreed > agreed else []
        if len(points) - before == len(self.blocks.examples):
            self.blocks.sound.add(name)
        return False

    def _exact(self, check: Check, name: str, refuter: Refuter) -> None:
        """On exact numbers: an identity, or a suspicion that only a comparison in floats confirms."""
        other = next(iter(self.reference.oracles(_CONFIRMING)))
        for point in map(self.bench.at, self.examples):
            if self._faulty(check, name, point, other, refuter):
                return
        finding, drawn = self._finding(name)
        check.verdict, check.reason = Verdict.UNDECIDED, finding.reason
        if finding.verdict == "identity":
            check.verdict, check.reason = Verdict.IDENTITY, finding.statement
            check.false_accept = finding.bound
        elif drawn is not None:
            point = self.bench.at(point_of(self.reference, drawn, finding.sizes[0]))
            if not point.trouble and any(
                j.comparison.refutes for j in judge(self.bench, point, name, other)
            ):
                refuter.values(check, name, point, other)
                check.reason = check.reason or finding.reason
            else:
                check.reason += f"; {other.name} at that point, in floats, does not show it"

    def _how_many(self, oracle: Oracle) -> int:
        total = len(self.examples)
        return min(total, max(_LAST_RESORT, total // 2)) if oracle.last_resort else total

    def _compare(
        self, check: Check, name: str, point: Point, oracle: Oracle, tally: Tally, refuter: Refuter
    ) -> bool:
        """Entry by entry; whether it ends the check."""
        try:
            found = judge(self.bench, point, name, oracle)
        except Exception as error:
            if type(error).__name__.lstrip("_") != "LinAlgError":
                raise
            tally.skipped[f"{oracle.framework} raises LinAlgError"] += 1
            return False
        if any(j.comparison.refutes for j in found):
            refuter.values(check, name, point, oracle)
            return True
        if oracle.last_resort and any(j.comparison.outliers for j in found):
            tally.skipped["differences misjudge their own error"] += 1
            return False
        self._add(tally, name, point, found)
        return False

    def _add(self, tally: Tally, name: str, point: Point, found: list[Any]) -> None:
        """One example, whose outputs count together: the worst of them, and whatever one notices."""
        before = tally.agreed, tally.weak
        for judged in found:
            tally.add(judged.comparison)
        agreed, weak = tally.agreed - before[0], tally.weak - before[1]
        tally.agreed, tally.weak = before[0] + bool(agreed), before[1] + (not agreed and bool(weak))
        if self.dtype == "float64":  # nothing wider to measure it by
            return
        accuracy = self.accuracy.setdefault(name, precision.Accuracy())
        for judged in found:
            claim = point.claimed.jacobians[name][judged.output]
            truth = np.asarray(judged.answer.jacobian, np.float64).reshape(claim.shape)
            if not judged.comparison.skipped and not judged.comparison.kinks:
                paths = precision.paths(self.reference, point.example, name, judged.output)
                accuracy.add(claim, truth, paths, self.dtype)

    def _probe(
        self, check: Check, name: str, point: Point, oracle: Oracle, tally: Tally, refuter: Refuter
    ) -> bool:
        """By signed probes; whether it ends the check."""
        if not can(oracle.framework) or oracle.name in ("native", "differences"):
            tally.skipped[f"{oracle.name} cannot be asked about so large a shape"] += 1
            return False
        fault, seconds = with_zeros(self.bench, point, name)
        found = Probed(fault=fault) if fault else self._probed(point, name, oracle, seconds)
        if found.fault is not None:
            point.faults.append(found.fault)
            refuter.fault(check, name, point, found.fault, oracle)
            return True
        tally.skipped.update({found.trouble: 1} if found.trouble else {})
        if found.wrong is not None:
            refuter.probed(check, name, point, found)
            return True
        if found.weak and not found.trouble:
            tally.weak += 1
        elif not found.trouble:
            self._agreed(check, tally, found)
            if point.example not in self.bench.probed:  # which are cheap
                check.reason = _took(found)
        return False

    def _agreed(self, check: Check, tally: Tally, found: Probed) -> None:
        """Count an example on which probes agree, and what they would have seen."""
        tally.agreed += 1
        tally.worst = max(tally.worst, found.worst)
        tally.zero |= found.zero
        tally.ones |= found.ones
        tally.kinks += found.kinks
        check.probes += found.probes
        check.detects = max(check.detects or 0.0, found.detects)

    def _probed(self, point: Point, name: str, oracle: Oracle, seconds: float) -> Probed:
        if self.rule.vjp is None:
            return by_tangents(self.bench, point, name, oracle, self.options.seed)
        return Prober(self.bench, point, name, oracle, self.options.seed, seconds).run()


def _expense(planned: tuple[Check, Oracle]) -> int:
    name = planned[1].name
    return CHEAPEST.index(name) if name in CHEAPEST else len(CHEAPEST)


def _took(found: Probed) -> str:
    """How long probes took, and by what they judged."""
    text = f"predicted {seconds(found.predicted)}, took {seconds(found.seconds)}"
    return text + (_MEASURED if found.measured else "")


def conclude(tally: Tally, check: Check, uncarried: str = "") -> None:
    """The verdict of a check that nothing refuted; why no derivative was carried, if none was."""
    check.examples, check.weak = tally.agreed, tally.weak
    check.kinks, check.apart = tally.kinks, dict(tally.skipped)
    check.worst = tally.worst if tally.agreed or tally.weak else None
    if tally.outliers:
        check.verdict = Verdict.UNDECIDED
        check.reason = (
            f"{check.oracle} itself is off at {tally.outliers} entries: there the rule agrees with the "
            "derivative carried through the forward, and the oracle does not"
        )
    elif not tally.agreed:
        parts = [f"{n} × {reason}" for reason, n in tally.skipped.items()]
        parts += [f"{tally.weak} × the bound was too wide to say anything"] if tally.weak else []
        parts += [f"no derivative is carried through the forward: {uncarried}"] if uncarried else []
        check.reason = "no example could be compared: " + "; ".join(parts or ["none was drawn"])
    elif vacuous := tally.vacuous():
        check.reason = f"this check could not have failed: {vacuous}"
    else:
        check.verdict = Verdict.AGREES
