"""The report in a notebook: the text of a terminal, in colour, as HTML."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console

from gradcheck.reports.text import styled

if TYPE_CHECKING:
    from gradcheck.reports.model import Report

_FORMAT = (
    '<pre style="white-space: pre; overflow-x: auto; line-height: 1.25; '
    "font-family: Menlo, 'DejaVu Sans Mono', Consolas, monospace\">{code}</pre>"
)


def notebook_html(report: Report) -> str:
    """The report as one block of preformatted HTML, its styles inline; all text in it is escaped."""
    text = styled(report)
    console = Console(
        file=io.StringIO(),
        record=True,
        width=max(1, *map(cell_len, text.plain.split("\n"))),
        color_system="truecolor",
        force_terminal=True,
        force_jupyter=False,
        legacy_windows=False,
    )
    console.print(text, highlight=False, soft_wrap=True)
    return console.export_html(inline_styles=True, code_format=_FORMAT)
