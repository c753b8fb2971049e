"""What a report says beside its checks: what was exercised, accuracy, what probes would have seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck.checking.plan import how_to_install
from gradcheck.oracles import missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.reports.model import Report


def note(report: Report, rule: str, oracles: Sequence[str], required: Sequence[str]) -> None:
    """What was exercised and what never was, and which oracles are absent.

    Args:
        report: With all its checks.
        rule: The rule's name.
        oracles: Who was to be asked.
        required: Whose checks must succeed.
    """
    done = [c for c in report.checks if c.exercised]
    if done:
        # Differences are asked about fewer examples; what the others had is what was tried.
        most = max(done, key=lambda c: sum(c.exercised.values()))
        shown = ", ".join(f"{name} {count}" for name, count in most.exercised.items())
        left = f"; never: {', '.join(most.never)}" if most.never else ""
        report.notes.append(f"exercised, {rule}: {shown}{left}")
    report.notes.extend(_measures(report))
    report.notes.extend(how_to_install(name) for name in missing(oracles))
    for name in required:
        if not any(c.oracle == name for c in report.checks):
            report.problems.append(f"the required oracle {name} has nothing to say about {rule}")


def _measures(report: Report) -> list[str]:
    """Accuracy and the power of probes, one line each."""
    lines = []
    for check in report.checks:
        who = f"{check.input} by {check.oracle}, {check.dtype}"
        if check.probes and check.detects is not None:
            took = f"; {check.reason}" if check.reason else ""
            lines.append(
                f"{who}: {check.probes} signed probes, seed {report.seed}; an error of "
                f"{check.detects:.2g} in a single entry of the Jacobian would have been seen{took}"
            )
    seen = {(c.input, c.dtype): c.accuracy for c in report.checks if c.accuracy}
    for (name, dtype), found in seen.items():
        parts = ", ".join(f"{value:.2g} {unit}" for unit, value in found.items())
        lines.append(f"accuracy of {name} in {dtype}: {parts}")
    return lines


def seconds(value: float) -> str:
    """A time as messages give it."""
    return f"{value:.0f} s" if value >= 10 else f"{value:.2g} s"
