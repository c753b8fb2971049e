"""Tables as the command line prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table


def print_table(table: Table) -> None:
    """Fitted to a terminal; anywhere else as wide as it needs to be."""
    from rich.console import Console

    from gradcheck.reports.listing import plain_table

    console = Console()
    if console.is_terminal:
        console.print(table, highlight=False)
    else:
        click.echo(plain_table(table))
