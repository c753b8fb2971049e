"""One HTML file: each refutation with its heat map, the matrix, each derivation typeset.

It needs no network and no script, reads on a phone, and follows the reader's light or dark setting.
Whatever users wrote is escaped by the template engine; formulas become MathML.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradcheck.reports import numbers
from gradcheck.reports.cleaning import visible
from gradcheck.reports.findings import TITLES, findings
from gradcheck.reports.formats import check_form
from gradcheck.reports.html.heat import Heat, heat_of
from gradcheck.reports.matrix import matrix
from gradcheck.reports.model import Report
from gradcheck.reports.naming import Names
from gradcheck.reports.reasons import reasons
from gradcheck.reports.refutations import Refutation, refutations
from gradcheck.reports.table import COLUMNS, row
from gradcheck.reports.text import sections, summary

_REST = ("Established exactly", "Form checked", "Examples counted apart", "Notes")


@dataclass(frozen=True)
class Section:
    """A refuted claim as the page shows it."""

    refutation: Refutation
    formula: str
    heat: Heat | None


def html(report: Report) -> str:
    """The report as one self-contained page.

    Raises:
        UsageError: Naming the extra, where the template engine is not installed.
    """
    check_form("html")
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("gradcheck.reports.html", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return visible(environment.get_template("report.html.jinja").render(**_content(report)))


def _content(report: Report) -> dict[str, Any]:
    from gradcheck import __version__

    names = Names(report)
    rows = matrix(report, names)
    found = findings(report, names)
    said = dict(sections(report, names))
    return {
        "report": report,
        "version": __version__,
        "summary": summary(report),
        "counts": [(str(v), n) for v, n in report.counts().items()],
        "head": rows[0],
        "matrix": rows[1:],
        "refuted": [_section(report, names, r) for r in refutations(report, names)],
        "wanting": [
            (title, [f for f in found if f.rule == rule])
            for rule, title in TITLES.items()
            if rule != "refuted"
        ],
        "open": {
            "Not concluded": reasons(_besides(report), names),
            "Known gaps": said["Known gaps"],
        },
        "formulas": [(name, mathml(latex)) for name, latex in sorted(report.formulas.items())],
        "rest": [(title, said[title]) for title in _REST],
        "columns": COLUMNS,
        "checks": [row(check, names) for check in report.checks],
        "duration": numbers.duration(report.seconds),
    }


def _besides(report: Report) -> Report:
    """The report without what is told as not covered or incomplete."""
    told = {id(check) for check in report.not_verified()}
    return Report([check for check in report.checks if id(check) not in told])


def _section(report: Report, names: Names, refutation: Refutation) -> Section:
    check = refutation.check
    latex = report.formulas.get(names.of(check), "")
    return Section(refutation, mathml(latex) if latex else "", heat_of(check))


def mathml(latex: str) -> Any:
    """A formula as MathML, safe to stand in the page; as its LaTeX where it cannot be converted."""
    from markupsafe import Markup, escape

    try:
        from latex2mathml.converter import convert

        # The converter escapes the letters of names; it is given no markup but its own.
        return Markup(convert(latex, display="block"))
    except Exception:  # noqa: BLE001  an odd name is shown as it is written
        return Markup("<code>%s</code>") % escape(latex)
