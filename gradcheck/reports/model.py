"""What a run found: checks, their verdicts and counterexamples, and the report that holds them.

Nothing here computes a verdict; it only keeps them apart, counts them and says what they amount to.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gradcheck.errors import UsageError, VerificationFailed
from gradcheck.reports.gaps import Gap, OpenGaps
from gradcheck.reports.strict import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA = 1

NOTHING = "—"  # stands for the oracle, device and dtype where none was asked

EXIT_OK = 0
EXIT_REFUTED = 1
EXIT_INCOMPLETE = 3
EXIT_INTERRUPTED = 130  # what a shell reports for a process that Ctrl-C ended


class Verdict(StrEnum):
    """What one check established; ordered from the strongest support to none at all."""

    PROVED = "proved"
    IDENTITY = "identity"
    AGREES = "agrees"
    REFUTED = "refuted"
    UNDECIDED = "undecided"
    ERROR = "error"
    SKIPPED = "skipped"
    MISSING = "missing"


INCONCLUSIVE = (Verdict.UNDECIDED, Verdict.ERROR, Verdict.SKIPPED, Verdict.MISSING)


@dataclass
class Counterexample:
    """The smallest input found at which a claim and an oracle differ.

    Attributes:
        sizes: The size of each axis.
        inputs: The values of each input, as nested lists.
        params: The values of the parameters.
        entry: The worst entry by its letters' values, as in "∂a[0,1]/∂z[0,0]".
        claim_value: What the claim says there.
        oracle_value: What the oracle says there.
        bound: The error that rounding can explain there.
        pattern: The pattern of the indices that is wrong, as in "p = r, q ≠ s".
        patterns: Each pattern that was tried: pattern, wrong, entry, claim, oracle.
        snippet: Python that reproduces it.
        dtype: The dtype in which they were compared.
        location: The spec's "file:line", where it is known.
        letters: The letters of the output and those of the input, in the order of `gaps`.
        gaps: |claim − oracle| of every entry as nested lists, where there are few enough.
        fault: What is wrong where that is no entry's value: a shape, a dtype, a second call.
    """

    sizes: dict[str, int]
    inputs: dict[str, Any]
    params: dict[str, Any]
    entry: str
    claim_value: float
    oracle_value: float
    bound: float
    pattern: str = ""
    patterns: list[dict[str, Any]] = field(default_factory=list)
    snippet: str = ""
    dtype: str = "float64"
    location: str | None = None
    fault: str = ""
    letters: list[list[str]] = field(default_factory=list)
    gaps: Any = None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The counterexample that `to_json` wrote, with NaN and infinities restored."""
        floats = ("inputs", "params", "claim_value", "oracle_value", "bound", "patterns", "gaps")
        known = _known(cls, data)
        return cls(**{key: decode(v) if key in floats else v for key, v in known.items()})


@dataclass
class Check:
    """One check: a claim about one input, held against one oracle on one device in one dtype.

    Attributes:
        claim: The name of the spec, chain or function.
        input: The input whose derivative is claimed; "r, x" for a residual's.
        oracle: The oracle's name.
        device: Where the oracle ran.
        dtype: In which precision.
        verdict: What was established.
        examples: How many examples were compared.
        worst: The worst error in units of its bound; None where nothing was compared.
        seconds: How long it took.
        reason: Why it is undecided, an error, skipped or missing; side conditions of a proof.
        counterexample: Where claim and oracle differ, if refuted.
        diagnosis: Which term is to blame and what would mend it, where that is known.
        address: "file.py::name", or "" where the claim came from no file.
        framework: For the native oracle, whose implementation it was.
        kind: What made the claim, for the report's wording: spec, chain, vjp, jvp or layer.
        required: Whether the run was asked to fail unless this check concludes.
        weak: Examples whose bound was too wide to mean much; counted apart.
        kinks: Examples at a kink, where any element of the subdifferential is right; counted apart.
        apart: Examples that could not be compared, by the reason ("the forward is not finite").
        false_accept: A bound on the probability that an exact oracle accepted a wrong claim.
        cached: Whether it is the kept result of an earlier run with the same key.
        exercised: How often the search drew each kind of difficulty (zeros, ties, size 0...).
        never: The kinds that apply to the inputs and that no example had.
        accuracy: The largest errors in units in the last place: "ulp" of the entry itself, and "ulp of
            Σ|terms|"; of opaque rules only.
        probes: The number of cotangents with which large shapes were probed.
        detects: The smallest error in a single entry that those probes would have seen.
        form: Which form of the derivative was evaluated: "as written", or the closed form that runs.
    """

    claim: str
    input: str
    oracle: str
    device: str
    dtype: str
    verdict: Verdict
    examples: int = 0
    worst: float | None = None
    seconds: float = 0.0
    reason: str = ""
    counterexample: Counterexample | None = None
    diagnosis: dict[str, Any] | None = None
    address: str = ""
    framework: str = ""
    kind: str = "spec"
    required: bool = False
    weak: int = 0
    kinks: int = 0
    apart: dict[str, int] = field(default_factory=dict)
    false_accept: float | None = None
    cached: bool = False
    exercised: dict[str, int] = field(default_factory=dict)
    never: list[str] = field(default_factory=list)
    accuracy: dict[str, float] = field(default_factory=dict)
    probes: int = 0
    detects: float | None = None
    form: str = ""

    def __post_init__(self) -> None:
        self.verdict = Verdict(self.verdict)  # a plain string compares equal, but is not identical

    @property
    def supports(self) -> bool:
        """Whether it speaks for the claim; agreement on no example at all does not."""
        if self.verdict is Verdict.AGREES:
            return self.examples > 0
        return self.verdict in (Verdict.PROVED, Verdict.IDENTITY)

    @property
    def unread(self) -> bool:
        """Whether it stands for a file or chain that could not be loaded: what it claims nobody knows."""
        return self.oracle == NOTHING and self.verdict is Verdict.ERROR

    def plot(self) -> Any:
        """|claim − truth| of a refuted check over its indices, as a matplotlib figure.

        Raises:
            UsageError: Where there is nothing to draw.
            MissingBackend: Where matplotlib, of the extra "plot", is not installed.
        """
        from gradcheck.reports.heatmap import heatmap

        return heatmap(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The check that `to_json` wrote."""
        known = _known(cls, data)
        for key in ("worst", "seconds", "diagnosis", "accuracy", "detects"):
            if key in known:
                known[key] = decode(known[key])
        if known.get("counterexample") is not None:
            known["counterexample"] = Counterexample.from_dict(known["counterexample"])
        return cls(**known)


@dataclass
class Report:
    """All that one run found.

    Attributes:
        checks: One result for each check, in the order of the plan.
        seed: The seed of the search.
        profile: How thorough the search was.
        seconds: How long the run took.
        interrupted: Whether it was stopped before its end.
        notes: What a reader should know, such as which oracles are not installed.
        problems: What was required and is absent; any of them makes the run incomplete.
        formulas: For each claim ("softmax, z") the claimed derivative as LaTeX.
        gaps: What the project declares to be unverified; those that are open excuse it.
    """

    checks: list[Check] = field(default_factory=list)
    seed: int = 0
    profile: str = "standard"
    seconds: float = 0.0
    interrupted: bool = False
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    formulas: dict[str, str] = field(default_factory=dict)

    def counts(self) -> dict[Verdict, int]:
        """How many checks got each verdict, those that occur, in the order of `Verdict`."""
        found = Counter(check.verdict for check in self.checks)
        return {verdict: found[verdict] for verdict in Verdict if found[verdict]}

    def labels(self) -> dict[tuple[str, str], str]:
        """For each claim and address, the name to show: the address where names are ambiguous."""
        homes: dict[str, set[str]] = {}
        for check in self.checks:
            homes.setdefault(check.claim, set()).add(check.address)
        return {
            (claim, address): short(address) if len(addresses) > 1 and address else claim
            for claim, addresses in homes.items()
            for address in addresses
        }

    def claims(self) -> dict[tuple[str, str], bool]:
        """For each claim and input, whether it is covered.

        Covered: no oracle refutes it, and at least one proves, identifies or agrees with it. What a
        file claims that could not be loaded is not known, and not counted.
        """
        labels = self.labels()
        groups: dict[tuple[str, str], list[Check]] = {}
        for check in self.checks:
            if check.unread:
                continue
            key = (labels[check.claim, check.address], check.input)
            groups.setdefault(key, []).append(check)
        return {key: _covered(checks) for key, checks in groups.items()}

    @property
    def ok(self) -> bool:
        """Whether something was checked, every claim is covered and nothing required is absent."""
        return self.exit_code == EXIT_OK

    @property
    def exit_code(self) -> int:
        """The exit code of `gradcheck verify`: 0, 1 refuted, 3 incomplete, 130 interrupted."""
        if self.interrupted:
            return EXIT_INTERRUPTED
        if any(check.verdict is Verdict.REFUTED for check in self.checks):
            return EXIT_REFUTED
        return EXIT_INCOMPLETE if self._incomplete() else EXIT_OK

    def _incomplete(self) -> bool:
        """Whether nothing was verified, or something is uncovered, missing or absent."""
        if self.problems or not any(check.supports for check in self.checks):
            return True
        return bool(self.not_verified())

    def not_verified(self) -> list[Check]:
        """The checks that leave the run incomplete, unless a known gap excuses them.

        They are those that are missing or required, and all of a claim that nothing supports.
        """
        labels = self.labels()
        supported = {
            (labels[check.claim, check.address], check.input)
            for check in self.checks
            if check.supports
        }
        found, excuse = [], self.excuses()
        for check in self.checks:
            if check.supports or check.verdict is Verdict.REFUTED:
                continue
            bare = (labels[check.claim, check.address], check.input) not in supported
            wanting = check.required or check.verdict is Verdict.MISSING
            if (bare and not excuse(check)) or (wanting and not excuse(check, check.oracle)):
                found.append(check)
        return found

    def excuses(self) -> Callable[..., Gap | None]:
        """`excuse` for many checks: the gaps are looked through once."""
        known = OpenGaps(self.gaps)

        def excuse(check: Check, oracle: str = "") -> Gap | None:
            if not known:
                return None
            return known.of((check.claim, *homes(check)), check.input, oracle)

        return excuse

    def excuse(self, check: Check, oracle: str = "") -> Gap | None:
        """The open gap that speaks of a claim, or of one oracle's say on it where that is named."""
        return self.excuses()(check, oracle)

    def raise_on_failure(self) -> None:
        """Raise `VerificationFailed`, whose text is the report, unless the report is ok."""
        if not self.ok:
            raise VerificationFailed(str(self))

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON's types only; NaN and infinities stand as strings."""
        verdict = {"schema": SCHEMA, "ok": self.ok, "exit_code": self.exit_code}
        counts = {str(verdict): count for verdict, count in self.counts().items()}
        claims = [
            {"claim": claim, "input": name, "covered": covered}
            for (claim, name), covered in self.claims().items()
        ]
        own: dict[str, Any] = encode(self)
        return {**verdict, "counts": counts, "claims": claims, **own}

    def to_json(self, indent: int | None = 2) -> str:
        """The report as strict JSON, versioned by its key "schema"."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The report that `to_json` wrote; what follows from the checks is derived anew."""
        data = _parse(text)
        known = _known(cls, data)
        try:
            known["seconds"] = decode(known.get("seconds", 0.0))
            known["checks"] = [Check.from_dict(check) for check in known.get("checks", [])]
            known["gaps"] = [Gap.from_dict(gap) for gap in known.get("gaps", [])]
            return cls(**known)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _no_report(f"one that is damaged ({type(error).__name__}: {error})") from None

    def _repr_html_(self) -> str:
        from gradcheck.reports.notebook import notebook_html

        return notebook_html(self)

    def __str__(self) -> str:
        from gradcheck.reports.text import plain

        return plain(self)


def short(address: str) -> str:
    """An address with its file relative to the working folder, where it lies in there."""
    file, colons, name = address.partition("::")
    path = Path(file)
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return f"{path}{colons}{name}" if colons else address


def homes(check: Check) -> tuple[str, ...]:
    """Where a check's claim is written: its address, that relative to the working folder, the file."""
    if not check.address:
        return ()
    near = short(check.address)
    return check.address, near, near.partition("::")[0]


def _covered(checks: list[Check]) -> bool:
    refuted = any(check.verdict is Verdict.REFUTED for check in checks)
    return not refuted and any(check.supports for check in checks)


def _parse(text: str) -> dict[str, Any]:
    """The JSON object of a report, or an error that says what came instead."""
    try:
        data = json.loads(text)
    except TypeError:
        came = f"{text!r}"[:40]
    except (ValueError, RecursionError) as error:
        came = f"text that is not JSON ({error})"
    else:
        if isinstance(data, dict) and data.get("schema") == SCHEMA:
            return data
        came = f"schema {data.get('schema')!r}" if isinstance(data, dict) else repr(data)[:40]
    raise _no_report(came)


def _no_report(came: str) -> UsageError:
    return UsageError(
        f"expected a report of schema {SCHEMA}, got {came}\n"
        "  write one with Report.to_json() or `gradcheck verify --format json` of this version"
    )


def _known(cls: type[Any], data: dict[str, Any]) -> dict[str, Any]:
    """The entries that are fields of the dataclass; what is derived from them is left out."""
    names = {entry.name for entry in fields(cls)}
    return {key: value for key, value in data.items() if key in names}
