"""JUnit XML, as Jenkins, GitLab and others read it: a test case for each check.

Source: the schema that Jenkins' xUnit plugin publishes (junit-10.xsd).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from gradcheck.reports.findings import findings
from gradcheck.reports.model import Check, Report, Verdict
from gradcheck.reports.places import place_of
from gradcheck.reports.table import oracle_name

if TYPE_CHECKING:
    from collections.abc import Iterable

# XML 1.0 holds no control characters but these.
_ALLOWED = frozenset("\t\n\r")


def junit(report: Report) -> str:
    """The report as JUnit XML.

    A refutation is a failure; a claim or required check that is not verified, and whatever the run lacks,
    is an error; what else was undecided, skipped or went wrong is skipped, with its reason.
    """
    blamed = {id(check) for check in report.not_verified()}
    texts = {f.claim: f for f in findings(report) if f.rule == "refuted"}
    labels = report.labels()
    suite = ET.Element("testsuite", name="gradcheck", time=f"{report.seconds:.3f}")
    for check in report.checks:
        label = labels[check.claim, check.address]
        case = _case(suite, check, label)
        known = texts.get(f"{label}, {check.input}")
        if check.verdict is Verdict.REFUTED:
            title = known.title if known else check.reason
            _outcome(case, "failure", "refuted", title, known.text if known else check.reason)
        elif id(check) in blamed:
            _outcome(
                case, "error", "not verified", f"{check.verdict}: {check.reason}", check.reason
            )
        elif not check.supports:
            ET.SubElement(case, "skipped", message=_clean(f"{check.verdict}: {check.reason}"))
    for finding in findings(report):
        if finding.rule == "incomplete":
            case = ET.SubElement(
                suite, "testcase", classname="gradcheck", name=_clean(finding.title)
            )
            _outcome(case, "error", "incomplete", finding.title, finding.text)
    _count(suite)
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode")


def _case(suite: ET.Element, check: Check, label: str) -> ET.Element:
    name = f"{check.input}[{oracle_name(check)}-{check.device}-{check.dtype}]"
    case = ET.SubElement(
        suite, "testcase", classname=_clean(label), name=_clean(name), time=f"{check.seconds:.3f}"
    )
    place = place_of(check)
    if place is not None:
        case.set("file", _clean(place.file))
        case.set("line", str(place.line))
    return case


def _outcome(case: ET.Element, tag: str, kind: str, message: str, text: str) -> None:
    element = ET.SubElement(case, tag, type=kind, message=_clean(message))
    element.text = _clean(text)


def _count(suite: ET.Element) -> None:
    suite.set("tests", str(len(suite)))
    for tag, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(name, str(sum(case.find(tag) is not None for case in suite)))


def _clean(text: str) -> str:
    """The text without what XML cannot hold, whatever a user's error message put there."""
    return "".join(c if c in _ALLOWED or _is_xml(ord(c)) else "�" for c in text)


def _is_xml(code: int) -> bool:
    ranges: Iterable[tuple[int, int]] = ((0x20, 0xD7FF), (0xE000, 0xFFFD), (0x10000, 0x10FFFF))
    return any(low <= code <= high for low, high in ranges)
