"""The report as text: the table of checks, each refutation by its counterexample, the counts.

On a terminal it is coloured and fits the width. Anywhere else it is plain text whose table is as
wide as it needs to be, the same text as `print(report)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from gradcheck.reports.cleaning import one_line, visible
from gradcheck.reports.listing import folded
from gradcheck.reports.naming import Names
from gradcheck.reports.reasons import counted_apart, established, forms, reasons, uncovered
from gradcheck.reports.refutations import refutations
from gradcheck.reports.table import STYLES, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradcheck.reports.model import Report

PLAIN_WIDTH = 100
_INDENT = 2


def render(report: Report, console: Console | None = None) -> None:
    """Print the report on the console: coloured on a terminal, plain text anywhere else."""
    console = console or Console()
    if console.is_terminal:
        console.print(styled(report, console.width), highlight=False, soft_wrap=True)
    else:
        console.out(plain(report), highlight=False)


def plain(report: Report) -> str:
    """The report without colours or control codes, prose at 100 columns or the table's width."""
    return "\n".join(line.plain.rstrip() for line in _lines(report, None))


def styled(report: Report, width: int | None = None) -> Text:
    """The report in colours, folded at a width; by default prose at 100 columns or the table's width."""
    return Text("\n").join(_lines(report, width))


def summary(report: Report) -> str:
    """The closing line: how many of each verdict, how many claims are covered, the exit code."""
    counts = [f"{count} {verdict}" for verdict, count in report.counts().items()]
    claims = report.claims()
    unread = sum(check.unread for check in report.checks)
    parts = [
        *(["interrupted"] if report.interrupted else []),
        ", ".join(counts) or "nothing was checked",
        *([f"{_several(len(claims), 'claim')}, {sum(claims.values())} covered"] if claims else []),
        *([f"{_several(unread, 'target')} could not be loaded"] if unread else []),
        f"exit {report.exit_code}",
    ]
    return "; ".join(parts)


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def sections(report: Report, names: Names) -> list[tuple[str, Sequence[str]]]:
    """What is said besides the table and the refutations, in its order; those without lines too."""
    return [
        ("Established exactly", established(report, names)),
        ("Form checked", forms(report, names)),
        ("Not concluded", reasons(report, names)),
        ("Not covered", uncovered(report, names)),
        ("Examples counted apart", counted_apart(report, names)),
        ("Incomplete", report.problems),
        ("Known gaps", [str(gap) for gap in report.gaps]),
        ("Notes", report.notes),
    ]


def _lines(report: Report, width: int | None) -> Iterator[Text]:
    """The report line by line, none longer than the width but code, which is never folded."""
    names = Names(report)
    table = Table(report, names)
    width = max(PLAIN_WIDTH, table.width) if width is None else width
    yield from table.lines(width)
    for refutation in refutations(report, names):
        yield Text()
        yield from _folded(Text(one_line(refutation.title), "bold red"), width)
        yield from _told(refutation.lines, width)
        yield from _code(refutation.snippet)
    for title, lines in sections(report, names):
        if lines:
            yield Text()
            yield Text(title, "bold")
            for line in lines:
                yield from _folded(Text(visible(line)), width, _INDENT)
    yield from _closing(report, width)


def _folded(text: Text, width: int, indent: int = 0) -> Iterator[Text]:
    for line in folded(text, max(1, width - indent)):
        yield Text(" " * indent).append_text(line) if indent else line


def _told(lines: Sequence[str], width: int) -> Iterator[Text]:
    """What is known of a refutation: an edit in the colours of a diff."""
    for line in map(visible, lines):
        text = Text(line)
        before, arrow, _ = line.partition(" → ")
        if arrow:
            text.stylize("red", 0, len(before))
            text.stylize("green", len(before) + len(arrow))
        yield from _folded(text, width, _INDENT)


def _code(snippet: str) -> Iterator[Text]:
    """Code is never folded: a terminal may, but what one copies is still the program."""
    if snippet:
        yield Text("  To reproduce:")
        yield from (Text(f"    {line}") for line in visible(snippet).strip("\n").split("\n"))


def _closing(report: Report, width: int) -> Iterator[Text]:
    if report.checks:
        yield Text()
    run = f"profile {report.profile}, seed {report.seed}, {report.seconds:.1f} s"
    yield from _folded(Text(run, "dim"), width)
    line = Text(summary(report), "bold")
    for verdict, count in report.counts().items():
        line.highlight_words([f"{count} {verdict}"], STYLES[verdict])
    yield from _folded(line, width)
