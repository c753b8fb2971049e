"""`gradcheck doctor`: the frameworks and devices found here."""

from __future__ import annotations

import click

from gradcheck import __version__
from gradcheck.cli.tables import print_table


@click.command(short_help="Show the frameworks and devices found here.")
def doctor() -> None:
    """Show which frameworks and devices are found here, and how to install what is missing."""
    import platform

    from gradcheck.backends import BACKENDS, installed
    from gradcheck.reports.listing import columns

    here = installed()
    system = (
        f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}"
    )
    click.echo(f"gradcheck {__version__}, {system}\n")
    rows = [_found(name) if name in here else _absent(name) for name in BACKENDS]
    print_table(columns(("backend", "version", "devices", "import"), rows))


def _found(name: str) -> tuple[str, ...]:
    """A framework that is installed; one that does not import is reported, not passed on."""
    from time import perf_counter

    from gradcheck.backends import get
    from gradcheck.reports.numbers import duration

    started = perf_counter()
    try:
        backend = get(name)
        seconds = perf_counter() - started
        return name, backend.version(), ", ".join(backend.devices()), duration(seconds)
    except Exception as error:  # noqa: BLE001 - a broken installation raises whatever it likes
        return name, "broken", f"{type(error).__name__}: {error}".partition("\n")[0], ""


def _absent(name: str) -> tuple[str, ...]:
    return name, "not installed", f'pip install "gradcheck[{name}]"', ""
