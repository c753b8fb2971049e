"""JUnit XML, as Jenkins, GitLab and others read it: a test case for each check.

Source: the schema that Jenkins' xUnit plugin publishes (junit-10.xsd).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from gradcheck.reports.cleaning import xml_text
from gradcheck.reports.findings import findings, told
from gradcheck.reports.model import NOTHING, Check, Report, Verdict
from gradcheck.reports.naming import Names, oracle_name
from gradcheck.reports.places import Places
from gradcheck.reports.refutations import refutations

if TYPE_CHECKING:
    from gradcheck.reports.findings import Finding


def junit(report: Report) -> str:
    """The report as JUnit XML.

    A refutation is a failure; a claim that is not covered, a required check that did not conclude, and
    whatever else the run lacks, is an error; what else did not conclude is skipped, with its reason.
    """
    names = Names(report)
    found = findings(report, names)
    suite = ET.Element("testsuite", name="gradcheck", time=f"{report.seconds:.3f}")
    _checks(suite, report, names, {f.claim: f for f in found if f.rule != "refuted"})
    for finding in found:
        if not finding.claim:
            name = xml_text(finding.title)
            case = ET.SubElement(suite, "testcase", classname="gradcheck", name=name)
            _outcome(case, "error", "incomplete", finding.title, finding.text)
    _count(suite)
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode")


def _checks(suite: ET.Element, report: Report, names: Names, known: dict[str, Finding]) -> None:
    """A test case for each check, with what is known of the claims that are not covered."""
    refuted = {id(c): r for r in refutations(report, names) for c in r.checks}
    blamed = {id(check) for check in report.not_verified()}
    places = Places()
    for check in report.checks:
        case = _case(suite, check, names, places)
        if check.verdict is Verdict.REFUTED:
            refutation = refuted[id(check)]
            _outcome(case, "failure", "refuted", refutation.title, told(refutation))
        elif id(check) in blamed:
            _error(case, known[names.of(check)], check)
        elif not check.supports:
            ET.SubElement(case, "skipped", message=xml_text(f"{check.verdict}: {check.reason}"))


def _case(suite: ET.Element, check: Check, names: Names, places: Places) -> ET.Element:
    label = xml_text(names.claim(check))
    time = f"{check.seconds:.3f}"
    case = ET.SubElement(suite, "testcase", classname=label, name=xml_text(_key(check)), time=time)
    place = places.of(check)
    if place is not None:
        case.set("file", xml_text(place.file))
        case.set("line", str(place.line))
    return case


def _key(check: Check) -> str:
    """What tells a check from the others of its claim: `z[torch-cpu-float64]`."""
    if check.unread:
        return "could not be loaded"
    if check.oracle == NOTHING:
        return f"{check.input}[{check.verdict}]"
    return f"{check.input}[{oracle_name(check)}-{check.device}-{check.dtype}]"


def _error(case: ET.Element, finding: Finding, check: Check) -> None:
    kind = finding.rule.replace("-", " ")
    if check.unread:
        _outcome(case, "error", kind, finding.title, finding.text)
    else:
        _outcome(case, "error", kind, f"{check.verdict}: {check.reason}", check.reason)


def _outcome(case: ET.Element, tag: str, kind: str, message: str, text: str) -> None:
    element = ET.SubElement(case, tag, type=kind, message=xml_text(message))
    element.text = xml_text(text)


def _count(suite: ET.Element) -> None:
    suite.set("tests", str(len(suite)))
    for tag, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(name, str(sum(case.find(tag) is not None for case in suite)))
