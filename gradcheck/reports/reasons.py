"""What a run could not conclude and why, and the examples that count as neither right nor wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck.reports.model import INCONCLUSIVE, Check, Report, Verdict
from gradcheck.reports.naming import Names, load_error, oracle_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NAMED = 4  # a reason shared by more claims names so many and counts the rest


def reasons(report: Report, names: Names | None = None) -> list[str]:
    """One line for each verdict and reason: "skipped by torch, jax (cuda): softmax, z: ..."."""
    names = names or Names(report)
    groups: dict[tuple[str, str, str, bool], list[Check]] = {}
    for check in report.checks:
        if check.verdict in INCONCLUSIVE:
            key = (check.verdict, oracle_name(check), check.reason, check.required)
            groups.setdefault(key, []).append(check)
    return [_reason(alike, names) for alike in _alike(groups.values(), names)]


def _alike(groups: Iterable[list[Check]], names: Names) -> Iterable[list[list[Check]]]:
    """Oracles that say the same of the same claims in the same places, together."""
    found: dict[tuple[str, ...], list[list[Check]]] = {}
    for checks in groups:
        first = checks[0]
        head = (first.verdict, first.reason, str(first.required))
        key = (*head, _where(checks), _claims(checks, names))
        found.setdefault(key, []).append(checks)
    return found.values()


def established(report: Report, names: Names | None = None) -> list[str]:
    """What was proved, and for which shapes, and what was found identical: like statements together."""
    names = names or Names(report)
    groups: dict[tuple[Verdict, str], list[tuple[str, Check]]] = {}
    for check in report.checks:
        if check.verdict in (Verdict.PROVED, Verdict.IDENTITY):
            plain = check.verdict is Verdict.IDENTITY and "cells" not in check.reason
            name = names.of(check)
            statement = "at small shapes, in prime fields" if plain else check.reason
            groups.setdefault((check.verdict, statement), []).append((name, check))
    return [
        f"{verdict} {statement}{_chance(found)}: {'; '.join(name for name, _ in found)}"
        for (verdict, statement), found in groups.items()
    ]


def forms(report: Report, names: Names | None = None) -> list[str]:
    """Which form of each derivative was checked, where one is not what somebody wrote."""
    names = names or Names(report)
    groups: dict[str, dict[str, list[str]]] = {}
    for check in report.checks:
        if check.form:
            name = names.of(check)
            groups.setdefault(check.form, {}).setdefault(name, []).append(oracle_name(check))
    if set(groups) <= {"as written"}:
        return []
    return [
        f"{form}: {_listed(found)} (by {', '.join(dict.fromkeys(o for v in found.values() for o in v))})"
        for form, found in groups.items()
    ]


def _chance(found: list[tuple[str, Check]]) -> str:
    """The largest probability that a wrong claim was called identical."""
    bounds = [c.false_accept for _, c in found if c.verdict is Verdict.IDENTITY and c.false_accept]
    return f" (a wrong claim passes with probability < {max(bounds):.0e})" if bounds else ""


def _reason(alike: list[list[Check]], names: Names) -> str:
    """What several oracles say, each with a group of checks of its own."""
    checks = alike[0]
    first = checks[0]
    if first.unread:
        return "could not be loaded: " + ": ".join(load_error(first))
    required = ", required" if first.required else ""
    who = ", ".join(oracle_name(group[0]) for group in alike)
    by = f" by {who} ({_where(checks)}{required})" if first.verdict is not Verdict.MISSING else ""
    return f"{first.verdict}{by}: {_claims(checks, names)}: {first.reason or 'no reason was given'}"


def _where(checks: list[Check]) -> str:
    return _listed(f"{check.device} {check.dtype}".strip() for check in checks)


def _claims(checks: list[Check], names: Names) -> str:
    return _listed(names.of(check) for check in checks)


def _listed(names: Iterable[str]) -> str:
    """Each name once, the first few spelled out."""
    distinct = list(dict.fromkeys(names))
    more = len(distinct) - _NAMED
    shown = distinct if more <= 1 else [*distinct[:_NAMED], f"and {more} more"]
    return "; ".join(shown)


def uncovered(report: Report, names: Names | None = None) -> list[str]:
    """The claims that nobody supports, those refuted apart: these have a section of their own."""
    return [
        f"{name}: {_why(checks)}"
        for name, checks in _claimed(report, names).items()
        if not any(c.verdict is Verdict.REFUTED or c.supports or c.unread for c in checks)
    ]


def _claimed(report: Report, names: Names | None) -> dict[str, list[Check]]:
    """The checks of each claim by what it is called."""
    names = names or Names(report)
    found: dict[str, list[Check]] = {}
    for check in report.checks:
        found.setdefault(names.of(check), []).append(check)
    return found


def _why(checks: list[Check]) -> str:
    """What the checks of an uncovered claim said instead."""
    if any(check.verdict is Verdict.AGREES for check in checks):
        return "agreement on no example at all supports nothing"
    if all(check.verdict is Verdict.MISSING for check in checks):
        return "no derivative is claimed"
    said = dict.fromkeys(str(check.verdict) for check in checks)
    return f"no oracle supports it ({', '.join(said)})"


def counted_apart(report: Report, names: Names | None = None) -> list[str]:
    """For each claim, how many examples were weak, at a kink or not comparable, in the worst check."""
    lines = [(name, _apart(checks)) for name, checks in _claimed(report, names).items()]
    return [f"{name}: {text}" for name, text in lines if text]


def _apart(checks: Sequence[Check]) -> str:
    kinds = {
        "weak (the bound is wide beside the largest entry)": max(c.weak for c in checks),
        "entries at a kink": max(c.kinks for c in checks),
    }
    for check in checks:
        for reason, count in check.apart.items():
            kinds[f"where {reason}"] = max(kinds.get(f"where {reason}", 0), count)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
