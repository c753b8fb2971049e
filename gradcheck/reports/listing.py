"""Plain tables of words: for what is bundled, and for what is found on this machine."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType


def columns(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table whose first column is never folded; text is taken literally, brackets and all."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for index, title in enumerate(titles):
        table.add_column(Text(title), no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def folded(text: Text, width: int) -> Sequence[Text]:
    """The text line by line, folded at words where a line is longer."""
    if "\n" not in text.plain and "\t" not in text.plain and cell_len(text.plain) <= width:
        return [text]
    return list(text.wrap(plain_console(io.StringIO(), width), width))


def plain_console(buffer: io.StringIO, width: int) -> Console:
    """A console that writes text and nothing else, whatever the environment asks for."""
    return Console(
        file=buffer,
        width=width,
        height=25,
        color_system=None,
        no_color=True,
        force_terminal=False,
        force_jupyter=False,
        force_interactive=False,
        legacy_windows=False,
    )


def stripped(buffer: io.StringIO) -> str:
    """What was written, without the blanks that fill lines up."""
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def plain_table(table: RenderableType) -> str:
    """The table as text, as wide as it needs to be."""
    buffer = io.StringIO()
    unbounded = plain_console(buffer, 100_000)
    width = unbounded.measure(table).maximum
    plain_console(buffer, width).print(table, highlight=False)
    return stripped(buffer)
