"""GitHub's workflow commands: a line for each finding, shown at its place in a pull request.

Source: GitHub documentation, "Workflow commands for GitHub Actions", setting an error message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck.reports.cleaning import visible
from gradcheck.reports.findings import Finding, findings
from gradcheck.reports.text import summary

if TYPE_CHECKING:
    from gradcheck.reports.model import Report


def github(report: Report) -> str:
    """An annotation a finding, and one line that sums the report up."""
    return "\n".join([*(_annotation(finding) for finding in findings(report)), summary(report)])


def _annotation(finding: Finding) -> str:
    level = "warning" if finding.rule == "not-covered" else "error"
    fields = {"title": finding.title}
    if finding.place is not None:
        fields = {"file": finding.place.file, "line": str(finding.place.line), **fields}
    settings = ",".join(f"{name}={_property(value)}" for name, value in fields.items())
    return f"::{level} {settings}::{_data(finding.text)}"


def _data(text: str) -> str:
    """The text on one line; the log would obey colours, and may end a line at control characters."""
    return visible(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
