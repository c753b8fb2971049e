"""`gradcheck watch`: verify again on every save, while somebody derives."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradcheck.cli.arguments import OneOf, cache_folder, cache_option, listed
from gradcheck.cli.verify import PROFILES
from gradcheck.configuration import nearest
from gradcheck.errors import GradcheckError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_POLL = 200  # milliseconds


@click.command(short_help="Verify again whatever is saved.")
@click.argument("targets", metavar="TARGET...", nargs=-1, required=True)
@click.option(
    "--oracle",
    "oracles",
    multiple=True,
    metavar="NAME,...",
    callback=listed,
    help="Sources of the truth.  [default: all that are installed]",
)
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    metavar="NAME,...",
    callback=listed,
    default=("float64",),
    help="Precisions.  [default: float64]",
)
@click.option(
    "--profile",
    type=OneOf("profile", PROFILES),
    default="quick",
    show_default=True,
    help="How many inputs are searched.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the search.")
@cache_option
def watch(
    targets: tuple[str, ...], oracles: tuple[str, ...], cache: bool | None, **options: Any
) -> None:
    """Verify the targets, and again what a saved file concerns, until Ctrl-C."""
    kept = cache_folder(cache, nearest(Path.cwd()))
    settings = {**options, "oracles": oracles or None, "cache": kept}
    if find_spec("watchfiles") is None:
        raise UsageError('watching needs watchfiles: pip install "gradcheck[watch]"')
    click.echo("watching; Ctrl-C ends")
    try:
        for changed in _changes(targets):
            _once(targets, changed, settings)
    except KeyboardInterrupt:
        click.echo("ended")


def _once(targets: Sequence[str], changed: set[Path] | None, settings: dict[str, Any]) -> None:
    """One verification: of everything at first, then of what the changed files concern."""
    from rich.console import Console

    from gradcheck.checking import verify
    from gradcheck.checking.watching import concerned, forget
    from gradcheck.library import resolve
    from gradcheck.reports.text import render

    broken: dict[str, GradcheckError] = {}
    try:
        if changed is not None:
            names = ", ".join(sorted(path.name for path in changed))
            click.echo(f"\n{names} saved")
            forget(changed)
        found = resolve(targets, broken)
        todo = found if changed is None else concerned(found, changed)
        if todo:
            report = verify(todo, **settings)
            render(report, Console())
            if report.interrupted:
                raise KeyboardInterrupt
        elif not broken:
            click.echo("nothing that is verified depends on it")
    except GradcheckError as error:  # a file half-written; the next save will do
        click.echo(f"error: {error}", err=True)
    for trouble in broken.values():
        click.echo(f"error: {trouble}", err=True)


def _changes(targets: Sequence[str]) -> Iterator[set[Path] | None]:
    """None at first, then the files of each save."""
    from watchfiles import PythonFilter
    from watchfiles import watch as saves

    from gradcheck.checking.watching import folders
    from gradcheck.library import resolve

    places: set[Path] = set()
    first = True
    while True:
        places.update(folders(resolve(targets, {})) or [Path.cwd()])
        # The empty batch of a timeout comes when the watcher stands: no save is missed after it.
        for batch in saves(
            *places,
            watch_filter=PythonFilter(),
            raise_interrupt=True,
            yield_on_timeout=True,
            rust_timeout=_POLL,
        ):
            if first or batch:
                yield {Path(name).resolve() for _, name in batch} if batch else None
                first = False
            if batch and any(_outside(f, places) for f in folders(resolve(targets, {}))):
                break


def _outside(folder: Path, places: set[Path]) -> bool:
    return places.isdisjoint((folder, *folder.parents))
