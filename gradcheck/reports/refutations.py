"""Each refuted claim once: its smallest counterexample, the pattern that is wrong, who agrees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradcheck.reports import numbers
from gradcheck.reports.diagnosis import diagnosis_lines, patterns_told
from gradcheck.reports.model import Check, Counterexample, Report, Verdict, short
from gradcheck.reports.naming import Names, oracle_name

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Refutation:
    """What to print of one refuted claim: a title, paragraphs, and code that reproduces it.

    Attributes:
        title: Which claim, and where it stands.
        lines: What is wrong, what would mend it, and the counterexample.
        snippet: Python that reproduces it; empty where there is none.
        check: The check whose counterexample is shown.
        checks: All checks that it tells of.
    """

    title: str
    lines: list[str]
    snippet: str
    check: Check
    checks: list[Check]


def refutations(report: Report, names: Names | None = None) -> list[Refutation]:
    """One for each claim and input that some oracle refutes, in the order of the checks."""
    names = names or Names(report)
    groups: dict[tuple[str, str], list[Check]] = {}
    for check in report.checks:
        if check.verdict is Verdict.REFUTED:
            key = (names.claim(check), check.input)
            groups.setdefault(key, []).append(check)
    merged = _of_links(_of_forwards(groups))
    return [_refutation(label, checks) for (label, _), checks in merged.items()]


def _of_forwards(groups: dict[tuple[str, str], list[Check]]) -> dict[tuple[str, str], list[Check]]:
    """A mistake of the forward refutes every claim about it: it is told once, for all inputs."""
    kept: dict[tuple[str, str], list[Check]] = {}
    for (label, name), checks in groups.items():
        reasons = {check.reason for check in checks if check.counterexample is None}
        whole = len(reasons) == 1 and all(check.counterexample is None for check in checks)
        key = (label, f"forward: {reasons.pop()}" if whole and "" not in reasons else name)
        kept.setdefault(key, []).extend(checks)
    return kept


def _of_links(groups: dict[tuple[str, str], list[Check]]) -> dict[tuple[str, str], list[Check]]:
    """A mistake of one link refutes a chain for several inputs: it is told once, for all of them."""
    kept: dict[tuple[str, str], list[Check]] = {}
    for (label, name), checks in groups.items():
        key = (label, _of_link(min(checks, key=_readability)) or name)
        kept.setdefault(key, []).extend(checks)
    return kept


def _of_link(check: Check) -> str:
    """What is told of the link at fault; nothing where the claim itself is."""
    found = check.diagnosis or {}
    if found.get("link") in (None, "closed form", "composition", check.claim):
        return ""
    return f"link {found['link']}: {found['message']}: {found.get('location')}: {found.get('edit')}"


def _refutation(label: str, checks: list[Check]) -> Refutation:
    shown = min(checks, key=_readability)
    found = shown.counterexample
    inputs = list(dict.fromkeys(check.input for check in checks))
    place = _place(shown) or short(shown.address)
    title = f"Refuted: {label}, {'input' if len(inputs) == 1 else 'inputs'} {', '.join(inputs)}" + (
        f" ({place})" if place else ""
    )
    lines = diagnosis_lines(shown)
    lines += [_oracles(shown, checks)] if not (found and found.fault) else []
    if found:
        lines += _counterexample(found, shown)
    if shown.reason:
        lines.append(shown.reason)
    return Refutation(title, lines, found.snippet if found else "", shown, checks)


def _place(check: Check) -> str | None:
    """The line of the term at fault, or else of the claim."""
    known = (check.diagnosis or {}).get("location")
    return str(known) if known else check.counterexample.location if check.counterexample else None


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
    return f"Refuted by {_who([shown, *same])}" + (f"; also by {_who(others)}" if others else "")


def _who(checks: list[Check]) -> str:
    """The oracles, each with where and how precisely it ran: "torch (cpu float64, float32)"."""
    runs: dict[str, dict[str, list[str]]] = {}
    for check in checks:
        devices = runs.setdefault(oracle_name(check), {})
        devices.setdefault(check.device, []).append(check.dtype)
    where = {
        oracle: "; ".join(
            f"{device} {', '.join(dict.fromkeys(dtypes))}" for device, dtypes in devices.items()
        )
        for oracle, devices in runs.items()
    }
    return ", ".join(f"{oracle} ({place})" for oracle, place in where.items())


def _counterexample(found: Counterexample, check: Check) -> list[str]:
    settings = {**found.sizes, **found.params}
    lines = [", ".join(f"{name} = {value}" for name, value in settings.items())]
    lines += [numbers.assignment(name, values) for name, values in found.inputs.items()]
    if found.fault:
        return [line for line in [*lines, found.fault] if line]
    claim, oracle = numbers.pair(found.claim_value, found.oracle_value)
    lines.append(f"{found.entry}: {check.kind} {claim}, {oracle_name(check)} {oracle}")
    known = (check.diagnosis or {}).get("patterns")
    patterns = patterns_told(check) if known else _patterns(found, found.patterns)
    lines += [_gap(found), patterns]
    return [line for line in lines if line]


def _gap(found: Counterexample) -> str:
    """How far apart they are, in units of what rounding can explain."""
    gap = abs(found.claim_value - found.oracle_value)
    if not math.isfinite(gap):
        return "one of them is not finite"
    if found.dtype == "exact":
        return "certified in ball arithmetic: the two values cannot be equal"
    if not (found.bound > 0 and math.isfinite(found.bound)):
        return f"the gap of {numbers.number(gap)} is more than rounding can explain"
    times = numbers.worst(gap / found.bound)
    bound = numbers.number(found.bound)
    return f"the gap of {numbers.number(gap)} is {times} times what rounding can explain ({bound})"


def _patterns(found: Counterexample, patterns: list[dict[str, Any]]) -> str:
    """Which index patterns are wrong and which are right, each in its own words."""
    parts = [
        f"{word} where {'; '.join(names)}"
        for word, wrong in (("wrong", True), ("right", False))
        if (names := list(_named(patterns, wrong)))
    ]
    if {str(item["pattern"]) for item in patterns} == {"every entry"}:
        return ""  # no two letters share an axis: there is no pattern to tell
    if not parts and found.pattern not in ("", "every entry"):
        parts = [f"wrong where {found.pattern}"]
    return "; ".join(parts)


def _named(patterns: list[dict[str, Any]], wrong: bool) -> Iterator[str]:
    return (str(item["pattern"]) for item in patterns if bool(item["wrong"]) is wrong)
