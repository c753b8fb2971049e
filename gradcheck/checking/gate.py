"""The gate: what a run is required to have verified, and the known gaps that it accepts for a while.

It works on checks alone, so that checks that ran elsewhere are judged as those of one process are.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck import configuration
from gradcheck.arguments import brief
from gradcheck.arguments import names as words
from gradcheck.checking.plan import canonical_devices, how_to_install
from gradcheck.errors import UsageError
from gradcheck.oracles import EXACT, check_names, missing
from gradcheck.reports import gaps as states
from gradcheck.reports.model import Check, Report, Verdict, homes
from gradcheck.reports.naming import Names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gradcheck.reports.gaps import Gap

_NAMED = 4  # a requirement that more claims miss names so many and counts the rest


@dataclass(frozen=True)
class Gate:
    """What is required beyond that every claim is covered.

    Attributes:
        oracles: Each must support every claim.
        devices: On each, every claim must be verified.
        verdicts: By a pattern of specs, what each of their claims must reach at least.
        gaps: What is accepted although it is not verified.
        complete: Whether the run looks at all there is, so that a pattern that matches nothing is a
            mistake.
        today: The day on which gaps are judged.
    """

    oracles: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    verdicts: tuple[tuple[str, Verdict], ...] = ()
    gaps: tuple[Gap, ...] = ()
    complete: bool = False
    today: date = field(default_factory=date.today)

    @property
    def needed(self) -> tuple[str, ...]:
        """The oracles without which nothing could be as required."""
        reached = {verdict for _, verdict in self.verdicts}
        proofs = ("symbolic",) if Verdict.PROVED in reached else ()
        identities = ("symbolic", "exact") if Verdict.IDENTITY in reached else ()
        return tuple(dict.fromkeys((*self.oracles, *proofs, *identities)))


def gate(
    *,
    require: Sequence[str] | str = (),
    require_devices: Sequence[str] | str = (),
    require_verdict: Mapping[str, str] | str | None = None,
    gaps: Iterable[Gap | Mapping[str, Any]] = (),
    complete: bool = False,
) -> Gate:
    """The gate that arguments describe.

    Raises:
        UsageError: For an unknown oracle, device or verdict, and for a gap that is incomplete.
    """
    if isinstance(gaps, str) or not hasattr(gaps, "__iter__"):
        raise UsageError(f"gaps is {brief(gaps)}; write a list of tables, gaps=[{{...}}]")
    known = configuration.gaps([_plain(gap) for gap in gaps])
    check_names([gap.oracle for gap in known if gap.oracle])
    devices = words(require_devices, "require_devices")
    if "all" in devices:
        raise UsageError("require_devices names devices, such as cuda; 'all' is whatever is found")
    table = {} if require_verdict is None else configuration.verdicts(_plain(require_verdict))
    return Gate(
        oracles=check_names(words(require, "require")),
        devices=canonical_devices(devices) if devices else (),
        verdicts=tuple((pattern, Verdict(verdict)) for pattern, verdict in table.items()),
        gaps=known,
        complete=complete,
    )


def _plain(value: Any) -> Any:
    """A mapping as the dict that a file would give."""
    return dict(value) if hasattr(value, "keys") else value


class Outcome(NamedTuple):
    """What one check means for whoever runs it alone: `passed`, `failed`, `skipped` or `gap`."""

    kind: str
    reason: str


def outcome(check: Check, own: Gate) -> Outcome:
    """What a check means by itself; whether its claim is covered shows only beside the others.

    A check that did not conclude fails where it is required or nothing is claimed; elsewhere it is
    skipped, with the reason. A known gap excuses both, but never a refutation.
    """
    if check.supports:
        return Outcome("passed", "")
    reason = f"{check.verdict}: {check.reason or 'no reason was given'}"
    if check.verdict is Verdict.REFUTED:
        return Outcome("failed", reason)
    for gap in own.gaps:
        if _names(gap, check) and gap.speaks_of(check.oracle) and not gap.expired(own.today):
            return Outcome("gap", f"known gap until {gap.until}: {gap.reason} ({reason})")
    if check.verdict is Verdict.MISSING:
        return Outcome("failed", reason)
    if check.required:
        return Outcome("failed", f"not concluded, and {check.oracle} is required; {reason}")
    return Outcome("skipped", reason)


def _names(gap: Gap, check: Check) -> bool:
    return gap.names(check.claim, homes(check), check.input)


class _Claim(NamedTuple):
    """The checks of one claim, and where it is written: to find that out takes longer than to compare."""

    checks: list[Check]
    homes: tuple[str, ...]


# ---------------------------------------------------------------------- a whole run


class _Unmet(NamedTuple):
    """A requirement that a claim does not meet."""

    check: Check
    oracle: str
    requirement: str


def judge(report: Report, own: Gate) -> None:
    """Say in the report what was required and is not verified, and what became of the known gaps."""
    groups: dict[tuple[str, str, str], list[Check]] = {}
    for check in report.checks:
        groups.setdefault((check.claim, check.address, check.input), []).append(check)
    claims = [_Claim(checks, homes(checks[0])) for checks in groups.values()]
    index = _indexed(claims)
    report.gaps = [_judged(gap, _named_by(gap, claims, index), own) for gap in own.gaps]
    if not own.complete:
        report.gaps = [gap for gap in report.gaps if gap.state != states.UNMATCHED]
    excuse = report.excuses()
    unmet = [u for claim in claims for u in _unmet(claim.checks, own) if not excuse(*u[:2])]
    report.problems.extend(_absent(own))
    report.problems.extend(_grouped(report, unmet))
    report.problems.extend(_expired(report.gaps))
    if own.complete:
        report.problems.extend(_nothing_matched(own, report.checks))


def _absent(own: Gate) -> Iterator[str]:
    for name in missing(own.oracles):
        yield f"the required oracle {how_to_install(name)}"


def _unmet(checks: list[Check], own: Gate) -> Iterator[_Unmet]:
    """What one claim lacks; one that is missing or unread lacks everything, which is said once."""
    first = checks[0]
    if first.verdict is Verdict.MISSING or first.unread:
        return
    for name in own.oracles:
        if not any(check.oracle == name for check in checks):
            yield _Unmet(first, name, f"the required oracle {name} has nothing to say about")
    for device in own.devices:
        ran = (c for c in checks if c.device == device and c.oracle not in EXACT)
        if not any(check.supports for check in ran):
            yield _Unmet(first, "", f"not verified on the required device {device}:")
    for pattern, verdict in own.verdicts:
        if _matches(pattern, first) and not any(_reaches(c, verdict) for c in checks):
            yield _Unmet(first, "", f"required to be {verdict} ({pattern}), and not:")


def _matches(pattern: str, check: Check) -> bool:
    return any(fnmatchcase(home, pattern) for home in (check.claim, *homes(check)))


def _reaches(check: Check, verdict: Verdict) -> bool:
    """Whether a check supports its claim at least as strongly."""
    order = list(Verdict)
    return check.supports and order.index(check.verdict) <= order.index(verdict)


def _grouped(report: Report, unmet: Iterable[_Unmet]) -> Iterator[str]:
    """Each requirement once, with the first few claims that do not meet it."""
    known = Names(report)
    groups: dict[str, list[str]] = {}
    for check, _, requirement in unmet:
        groups.setdefault(requirement, []).append(known.of(check))
    for requirement, names in groups.items():
        more = len(names) - _NAMED
        shown = names if more <= 1 else [*names[:_NAMED], f"and {more} more"]
        yield f"{requirement} {'; '.join(shown)}"


def _expired(gaps: Iterable[Gap]) -> Iterator[str]:
    for gap in gaps:
        if gap.state == states.EXPIRED:
            where = f"{gap.claim}, {gap.input}"
            yield (
                f"the known gap {where} expired on {gap.until} ({gap.reason}): verify it, or say "
                "until when it stays open"
            )


def _nothing_matched(own: Gate, checks: Sequence[Check]) -> Iterator[str]:
    for pattern, verdict in own.verdicts:
        if not any(_matches(pattern, check) for check in checks):
            yield f"nothing matches {pattern!r}, which is required to be {verdict}"


def _indexed(claims: Sequence[_Claim]) -> dict[str, list[_Claim]]:
    """The claims by each of the names under which a gap may speak of them."""
    found: dict[str, list[_Claim]] = {}
    for claim in claims:
        for home in dict.fromkeys((claim.checks[0].claim, *claim.homes)):
            found.setdefault(home, []).append(claim)
    return found


def _named_by(
    gap: Gap, claims: Sequence[_Claim], index: Mapping[str, list[_Claim]]
) -> list[list[Check]]:
    """The claims that a gap speaks of; each is looked at only for a gap whose name is a pattern."""
    plain = not set("*?[") & set(gap.claim)
    return [
        checks
        for checks, places in (index.get(gap.claim, ()) if plain else claims)
        if gap.names(checks[0].claim, places, checks[0].input)
    ]


def _judged(gap: Gap, named: Sequence[list[Check]], own: Gate) -> Gap:
    """The gap with its state: whether anything is there that it speaks of, and needs it."""
    if not named:
        return replace(gap, state=states.UNMATCHED)
    if gap.expired(own.today):
        return replace(gap, state=states.EXPIRED)
    needed = any(_needed(gap, checks, own) for checks in named)
    return replace(gap, state=states.OPEN if needed else states.UNUSED)


def _needed(gap: Gap, checks: list[Check], own: Gate) -> bool:
    """Whether something that the gap speaks of is not verified."""
    if gap.oracle:
        silent = [c for c in checks if c.oracle == gap.oracle and not c.supports]
        return bool(silent) or any(u.oracle == gap.oracle for u in _unmet(checks, own))
    wanting = any(check.required and not check.supports for check in checks)
    return wanting or not any(c.supports for c in checks) or bool(list(_unmet(checks, own)))
