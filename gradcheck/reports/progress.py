"""A progress bar on standard error, only where a person watches it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console
    from rich.progress import Progress

    Step = Callable[[str], None]


@contextmanager
def progress(total: int, console: Console | None = None) -> Iterator[Step]:
    """A bar over so many checks; the function it gives takes the name of the check just done.

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
        yield lambda description: bar.update(task, advance=1, description=_short(description))


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
    return description if len(description) <= width else description[: width - 3] + "..."
