"""A progress bar on standard error, only where a person watches it."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console
    from rich.progress import Progress

    Step = Callable[[str], None]


@contextmanager
def progress(total: int, console: Console | None = None) -> Iterator[Step]:
    """A bar over so many checks; the function it gives takes the name of the check that begins.

    Args:
        total: How many steps there will be.
        console: Where to draw; standard error if not given. Nothing is drawn off a terminal.
    """
    from rich.console import Console

    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield lambda _description: None
        return
    with _bar(console) as bar:
        task = bar.add_task("starting", total=total)
        begun = itertools.count()  # the first check begins when none is done
        yield lambda text: bar.update(task, completed=next(begun), description=_short(text))
        bar.update(task, completed=total)


def _bar(console: Console) -> Progress:
    """Transient, so that it leaves nothing above the report."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _short(description: str, width: int = 40) -> str:
    """The end of a long name tells more than its beginning, which is a folder."""
    return description if len(description) <= width else "..." + description[3 - width :]
