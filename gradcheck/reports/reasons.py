"""What a run could not conclude and why, and the examples that count as neither right nor wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck.reports.model import INCONCLUSIVE, Check, Report, Verdict
from gradcheck.reports.table import oracle_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NAMED = 4  # a reason shared by more claims names so many and counts the rest


def reasons(report: Report) -> list[str]:
    """One line for each verdict and reason: "skipped by torch, jax (cuda): softmax, z: ..."."""
    labels = report.labels()
    groups: dict[tuple[str, str, str, bool], list[Check]] = {}
    for check in report.checks:
        if check.verdict in INCONCLUSIVE:
            key = (check.verdict, oracle_name(check), check.reason, check.required)
            groups.setdefault(key, []).append(check)
    return [_reason(alike, labels) for alike in _alike(groups.values(), labels)]


def _alike(
    groups: Iterable[list[Check]], labels: dict[tuple[str, str], str]
) -> Iterable[list[list[Check]]]:
    """Oracles that say the same of the same claims in the same places, together."""
    found: dict[tuple[str, ...], list[list[Check]]] = {}
    for checks in groups:
        first = checks[0]
        head = (first.verdict, first.reason, str(first.required))
        key = (*head, _where(checks), _claims(checks, labels))
        found.setdefault(key, []).append(checks)
    return found.values()


def established(report: Report) -> list[str]:
    """What was proved, and for which shapes, and what was found identical: like statements together."""
    labels = report.labels()
    groups: dict[tuple[Verdict, str], list[tuple[str, Check]]] = {}
    for check in report.checks:
        if check.verdict in (Verdict.PROVED, Verdict.IDENTITY):
            plain = check.verdict is Verdict.IDENTITY and "cells" not in check.reason
            name = f"{labels[check.claim, check.address]}, {check.input}"
            statement = "at small shapes, in prime fields" if plain else check.reason
            groups.setdefault((check.verdict, statement), []).append((name, check))
    return [
        f"{verdict} {statement}{_chance(found)}: {'; '.join(name for name, _ in found)}"
        for (verdict, statement), found in groups.items()
    ]


def forms(report: Report) -> list[str]:
    """Which form of each derivative was checked, where one is not what somebody wrote."""
    labels = report.labels()
    groups: dict[str, dict[str, list[str]]] = {}
    for check in report.checks:
        if check.form:
            name = f"{labels[check.claim, check.address]}, {check.input}"
            groups.setdefault(check.form, {}).setdefault(name, []).append(oracle_name(check))
    if set(groups) <= {"as written"}:
        return []
    return [
        f"{form}: {_listed(names)} (by {', '.join(dict.fromkeys(o for v in names.values() for o in v))})"
        for form, names in groups.items()
    ]


def _chance(found: list[tuple[str, Check]]) -> str:
    """The largest probability that a wrong claim was called identical."""
    bounds = [c.false_accept for _, c in found if c.verdict is Verdict.IDENTITY and c.false_accept]
    return f" (a wrong claim passes with probability < {max(bounds):.0e})" if bounds else ""


def _reason(alike: list[list[Check]], labels: dict[tuple[str, str], str]) -> str:
    """What several oracles say, each with a group of checks of its own."""
    checks = alike[0]
    first = checks[0]
    required = ", required" if first.required else ""
    who = ", ".join(oracle_name(group[0]) for group in alike)
    by = f" by {who} ({_where(checks)}{required})" if first.verdict is not Verdict.MISSING else ""
    return (
        f"{first.verdict}{by}: {_claims(checks, labels)}: {first.reason or 'no reason was given'}"
    )


def _where(checks: list[Check]) -> str:
    return _listed(f"{check.device} {check.dtype}".strip() for check in checks)


def _claims(checks: list[Check], labels: dict[tuple[str, str], str]) -> str:
    return _listed(f"{labels[check.claim, check.address]}, {check.input}" for check in checks)


def _listed(names: Iterable[str]) -> str:
    """Each name once, the first few spelled out."""
    distinct = list(dict.fromkeys(names))
    more = len(distinct) - _NAMED
    shown = distinct if more <= 1 else [*distinct[:_NAMED], f"and {more} more"]
    return "; ".join(shown)


def uncovered(report: Report) -> list[str]:
    """The claims that nobody supports, those refuted apart: these have a section of their own."""
    labels = report.labels()
    refuted = {
        (labels[check.claim, check.address], check.input)
        for check in report.checks
        if check.verdict is Verdict.REFUTED
    }
    claims = report.claims()
    return [
        f"{claim}, {name}: {_why(report, labels, (claim, name))}"
        for (claim, name), covered in claims.items()
        if not covered and (claim, name) not in refuted
    ]


def _why(report: Report, labels: dict[tuple[str, str], str], key: tuple[str, str]) -> str:
    """What the checks of an uncovered claim said instead."""
    own = [c for c in report.checks if (labels[c.claim, c.address], c.input) == key]
    if any(check.verdict is Verdict.AGREES for check in own):
        return "agreement on no example at all supports nothing"
    said = dict.fromkeys(str(check.verdict) for check in own)
    return f"no oracle supports it ({', '.join(said)})"


def counted_apart(report: Report) -> list[str]:
    """For each claim, how many examples were weak, at a kink or not comparable, in the worst check."""
    labels = report.labels()
    groups: dict[tuple[str, str], list[Check]] = {}
    for check in report.checks:
        groups.setdefault((labels[check.claim, check.address], check.input), []).append(check)
    lines = [(key, _apart(checks)) for key, checks in groups.items()]
    return [f"{claim}, {name}: {text}" for (claim, name), text in lines if text]


def _apart(checks: Sequence[Check]) -> str:
    kinds = {
        "weak (the bound is wide beside the largest entry)": max(c.weak for c in checks),
        "entries at a kink": max(c.kinks for c in checks),
    }
    for check in checks:
        for reason, count in check.apart.items():
            kinds[f"where {reason}"] = max(kinds.get(f"where {reason}", 0), count)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
