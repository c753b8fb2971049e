"""One HTML file: the matrix, each derivation typeset, each refutation with its heat map.

It needs no network and no script, reads on a phone, and follows the reader's light or dark setting.
Whatever users wrote is escaped by the template engine; formulas become MathML.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradcheck.errors import UsageError
from gradcheck.reports import numbers
from gradcheck.reports.findings import findings
from gradcheck.reports.html.heat import Heat, heat_of
from gradcheck.reports.matrix import matrix
from gradcheck.reports.reasons import counted_apart, established, reasons
from gradcheck.reports.refutations import Refutation, refutations
from gradcheck.reports.table import COLUMNS, oracle_name
from gradcheck.reports.text import summary

if TYPE_CHECKING:
    from gradcheck.reports.model import Check, Report


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
    try:
        from jinja2 import Environment, PackageLoader
    except ImportError:
        raise UsageError('the HTML report needs jinja2: pip install "gradcheck[html]"') from None
    environment = Environment(
        loader=PackageLoader("gradcheck.reports.html", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(**_content(report))


def _content(report: Report) -> dict[str, Any]:
    from gradcheck import __version__

    rows = matrix(report)
    found = findings(report)
    labels = report.labels()
    return {
        "report": report,
        "version": __version__,
        "summary": summary(report),
        "counts": [(str(v), n) for v, n in report.counts().items()],
        "head": rows[0] if rows else [],
        "matrix": rows[1:],
        "sections": [_section(report, refutation) for refutation in refutations(report)],
        "unverified": [f for f in found if f.rule != "refuted"],
        "formulas": [(name, mathml(latex)) for name, latex in sorted(report.formulas.items())],
        "established": established(report),
        "reasons": reasons(report),
        "apart": counted_apart(report),
        "columns": COLUMNS,
        "checks": [_row(check, labels[check.claim, check.address]) for check in report.checks],
        "duration": numbers.duration(report.seconds),
    }


def _section(report: Report, refutation: Refutation) -> Section:
    check = refutation.check
    name = f"{report.labels()[check.claim, check.address]}, {check.input}"
    latex = report.formulas.get(name, "")
    return Section(refutation, mathml(latex) if latex else "", heat_of(check))


def _row(check: Check, label: str) -> tuple[str, ...]:
    return (
        label,
        check.input,
        oracle_name(check),
        check.device,
        check.dtype,
        str(check.verdict),
        str(check.examples),
        numbers.worst(check.worst),
        numbers.duration(check.seconds),
    )


def mathml(latex: str) -> Any:
    """A formula as MathML, safe to stand in the page; as its LaTeX where it cannot be converted."""
    from markupsafe import Markup, escape

    try:
        from latex2mathml.converter import convert

        # The converter escapes the letters of names; it is given no markup but its own.
        return Markup(convert(latex, display="block"))
    except Exception:  # noqa: BLE001  an odd name is shown as it is written
        return Markup("<code>%s</code>") % escape(latex)
