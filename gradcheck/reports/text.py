"""The report as text: the table of checks, each refutation by its counterexample, the counts.

On a terminal it is coloured and fits the width. Anywhere else it is plain text whose table is as
wide as it needs to be, the same text as `print(report)`.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from gradcheck.reports.listing import plain_console, stripped
from gradcheck.reports.reasons import counted_apart, established, forms, reasons, uncovered
from gradcheck.reports.refutations import refutations
from gradcheck.reports.table import STYLES, natural_width, tabulate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.reports.model import Report

PLAIN_WIDTH = 100


def render(report: Report, console: Console | None = None) -> None:
    """Print the report on the console: coloured on a terminal, plain text anywhere else."""
    console = console or Console()
    if console.is_terminal:
        print_report(report, console)
    else:
        console.out(plain(report), highlight=False)


def plain(report: Report) -> str:
    """The report without colours or control codes, prose at 100 columns or the table's width."""
    width = max(PLAIN_WIDTH, natural_width(report) if report.checks else 0)
    buffer = io.StringIO()
    print_report(report, plain_console(buffer, width))
    return stripped(buffer)


def summary(report: Report) -> str:
    """The closing line: how many of each verdict, how many claims are covered, the exit code."""
    counts = [f"{count} {verdict}" for verdict, count in report.counts().items()]
    claims = report.claims()
    parts = [
        *(["interrupted"] if report.interrupted else []),
        ", ".join(counts) or "nothing was checked",
        *([f"{_several(len(claims), 'claim')}, {sum(claims.values())} covered"] if claims else []),
        f"exit {report.exit_code}",
    ]
    return "; ".join(parts)


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def print_report(report: Report, console: Console) -> None:
    """All sections in their order, those that have nothing to say left out."""
    for block in tabulate(report, console.width) if report.checks else ():
        console.print(block, highlight=False)
    for refutation in refutations(report):
        console.print()
        console.print(Text(refutation.title, "bold red"), highlight=False)
        _told(refutation.lines, console)
        if refutation.snippet:
            _code(refutation.snippet, console)
    _section("Established exactly", established(report), console)
    _section("Form checked", forms(report), console)
    _section("Not concluded", reasons(report), console)
    _section("Not covered", uncovered(report), console)
    _section("Examples counted apart", counted_apart(report), console)
    _section("Required, but absent", report.problems, console)
    _section("Known gaps", [str(gap) for gap in report.gaps], console)
    _section("Notes", report.notes, console)
    _closing(report, console)


def _section(title: str, lines: Sequence[str], console: Console) -> None:
    if lines:
        console.print()
        console.print(Text(title, "bold"), highlight=False)
        _paragraphs(lines, console)


def _told(lines: Sequence[str], console: Console) -> None:
    """What is known of a refutation: an edit in the colours of a diff."""
    for line in lines:
        text = Text(line)
        before, arrow, _ = line.partition(" → ")
        if arrow:
            text.stylize("red", 0, len(before))
            text.stylize("green", len(before) + len(arrow))
        console.print(Padding(text, (0, 0, 0, 2)), highlight=False)


def _paragraphs(lines: Sequence[str], console: Console) -> None:
    """Each line indented, and folded at words where the console ends."""
    for line in lines:
        console.print(Padding(Text(line), (0, 0, 0, 2)), highlight=False)


def _code(snippet: str, console: Console) -> None:
    """Code is never folded: a terminal may, but what one copies is still the program."""
    console.print(Padding(Text("To reproduce:"), (0, 0, 0, 2)), highlight=False)
    for line in snippet.strip("\n").splitlines():
        console.print(Text(f"    {line}"), soft_wrap=True, highlight=False)


def _closing(report: Report, console: Console) -> None:
    if report.checks:
        console.print()
    run = f"profile {report.profile}, seed {report.seed}, {report.seconds:.1f} s"
    console.print(Text(run, "dim"), highlight=False)
    line = Text(summary(report), "bold")
    for verdict, count in report.counts().items():
        line.highlight_words([f"{count} {verdict}"], STYLES[verdict])
    console.print(line, highlight=False)
