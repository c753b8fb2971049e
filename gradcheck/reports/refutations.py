"""Each refuted claim once: its smallest counterexample, the pattern that is wrong, who agrees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradcheck.reports import numbers
from gradcheck.reports.model import Check, Counterexample, Report, Verdict, short
from gradcheck.reports.table import oracle_name

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Refutation:
    """What to print of one refuted claim: a title, paragraphs, and code that reproduces it."""

    title: str
    lines: list[str]
    snippet: str


def refutations(report: Report) -> list[Refutation]:
    """One for each claim and input that some oracle refutes, in the order of the checks."""
    labels = report.labels()
    groups: dict[tuple[str, str], list[Check]] = {}
    for check in report.checks:
        if check.verdict is Verdict.REFUTED:
            key = (labels[check.claim, check.address], check.input)
            groups.setdefault(key, []).append(check)
    return [_refutation(label, checks) for (label, _), checks in groups.items()]


def _refutation(label: str, checks: list[Check]) -> Refutation:
    shown = min(checks, key=_readability)
    found = shown.counterexample
    place = (found.location if found else None) or short(shown.address)
    title = f"Refuted: {label}, input {shown.input}" + (f" ({place})" if place else "")
    lines = [_oracles(shown, checks)]
    if found:
        lines += _counterexample(found, shown)
    if shown.reason:
        lines.append(shown.reason)
    lines += [f"{key}: {value}" for key, value in (shown.diagnosis or {}).items()]
    return Refutation(title, lines, found.snippet if found else "")


def _readability(check: Check) -> tuple[bool, bool, int]:
    """Any counterexample before none, any oracle before differences, the fewest values first."""
    found = check.counterexample
    extent = sum(math.prod(numbers.shape(item)) for item in found.inputs.values()) if found else 0
    return found is None, check.oracle == "differences", extent


def _oracles(shown: Check, checks: list[Check]) -> str:
    """The oracle whose counterexample is shown, in every dtype and place, and then the others."""
    rest = [check for check in checks if check is not shown]
    same = [check for check in rest if oracle_name(check) == oracle_name(shown)]
    others = [check for check in rest if oracle_name(check) != oracle_name(shown)]
    return f"by {_who([shown, *same])}" + (f"; also by {_who(others)}" if others else "")


def _who(checks: list[Check]) -> str:
    """The oracles, each with where and how precisely it ran: "torch (cpu float64, float32)"."""
    runs: dict[str, dict[str, list[str]]] = {}
    for check in checks:
        devices = runs.setdefault(oracle_name(check), {})
        devices.setdefault(check.device, []).append(check.dtype)
    where = {
        oracle: "; ".join(f"{device} {', '.join(dtypes)}" for device, dtypes in devices.items())
        for oracle, devices in runs.items()
    }
    return ", ".join(f"{oracle} ({place})" for oracle, place in where.items())


def _counterexample(found: Counterexample, check: Check) -> list[str]:
    settings = {**found.sizes, **found.params}
    lines = [", ".join(f"{name} = {value}" for name, value in settings.items())]
    lines += [numbers.assignment(name, values) for name, values in found.inputs.items()]
    claim, oracle = numbers.pair(found.claim_value, found.oracle_value)
    lines.append(f"{found.entry}: {check.kind} {claim}, {oracle_name(check)} {oracle}")
    lines += [_gap(found), _patterns(found)]
    return [line for line in lines if line]


def _gap(found: Counterexample) -> str:
    """How far apart they are, in units of what rounding can explain."""
    gap = abs(found.claim_value - found.oracle_value)
    if not math.isfinite(gap):
        return "one of them is not finite"
    if found.dtype == "exact":
        return "certified: balls around the two values at this point do not meet"
    if not (found.bound > 0 and math.isfinite(found.bound)):
        return f"the gap of {numbers.number(gap)} is more than rounding can explain"
    times = numbers.worst(gap / found.bound)
    bound = numbers.number(found.bound)
    return f"the gap of {numbers.number(gap)} is {times} times what rounding can explain ({bound})"


def _patterns(found: Counterexample) -> str:
    """Which index patterns are wrong and which are right, each in its own words."""
    parts = [
        f"{word} where {'; '.join(names)}"
        for word, wrong in (("wrong", True), ("right", False))
        if (names := list(_named(found.patterns, wrong)))
    ]
    if {str(item["pattern"]) for item in found.patterns} == {"every entry"}:
        return ""  # no two letters share an axis: there is no pattern to tell
    if not parts and found.pattern not in ("", "every entry"):
        parts = [f"wrong where {found.pattern}"]
    return "; ".join(parts)


def _named(patterns: list[dict[str, Any]], wrong: bool) -> Iterator[str]:
    return (str(item["pattern"]) for item in patterns if bool(item["wrong"]) is wrong)
