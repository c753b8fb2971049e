"""`gradcheck verify`: the gate."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradcheck.cli.arguments import OneOf, listed
from gradcheck.errors import UsageError

if TYPE_CHECKING:
    from gradcheck.reports import Report

PROFILES = ("quick", "standard", "thorough")
FORMATS = ("text", "json")


@click.command(short_help="Verify specs and chains.")
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@click.option(
    "--oracle",
    "oracles",
    multiple=True,
    metavar="NAME,...",
    callback=listed,
    help="Sources of the truth: symbolic, exact, autograd, jax, torch, tensorflow, native, differences.  "
    "[default: all that are installed]",
)
@click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="NAME,...",
    callback=listed,
    default=("cpu",),
    help="cpu, cuda, cuda:1, gpu (JAX's word); all takes what is found.  [default: cpu]",
)
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    metavar="NAME,...",
    callback=listed,
    default=("float64", "float32"),
    help="Precisions.  [default: float64,float32]",
)
@click.option(
    "--wrt",
    multiple=True,
    metavar="INPUT,...",
    callback=listed,
    help="Only the derivatives with respect to these inputs.  [default: all]",
)
@click.option(
    "--profile",
    type=OneOf("profile", PROFILES),
    default="standard",
    show_default=True,
    help="How many inputs are searched.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the search.")
@click.option(
    "--require",
    multiple=True,
    metavar="NAME,...",
    callback=listed,
    help="Oracles without whose support the run is incomplete (exit 3).",
)
@click.option(
    "--format",
    "form",
    type=OneOf("format", FORMATS),
    default="text",
    show_default=True,
    help="The report as text, or as JSON.",
)
@click.option(
    "--data",
    metavar="FILE.npz",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Verify on these arrays, one for each input by name, instead of searched ones.",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="So many checks at a time, each in its own process.",
)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the report there instead of standard output.",
)
@click.pass_context
def verify(
    ctx: click.Context,
    /,
    targets: tuple[str, ...],
    form: str,
    output: Path | None,
    data: Path | None,
    oracles: tuple[str, ...],
    wrt: tuple[str, ...],
    **options: Any,
) -> None:
    """Verify specs and chains; without a TARGET, all that are bundled.

    \b
    Exit codes:
      0    every claim is covered: no oracle refutes it and at least one supports it
      1    something is refuted
      2    the command line or a spec cannot be understood
      3    incomplete: nothing checked, a claim uncovered, something required absent
      130  interrupted; the report holds what was done
    """  # noqa: D301
    from rich.console import Console

    from gradcheck.checking import verify as run
    from gradcheck.library import resolve
    from gradcheck.reports.progress import progress

    report = run(
        resolve(targets),
        wrt=wrt or None,
        oracles=oracles or None,
        data=data,
        progress=functools.partial(progress, console=Console(stderr=True)),
        **options,
    )
    _deliver(report, form, output)
    ctx.exit(report.exit_code)


def _deliver(report: Report, form: str, output: Path | None) -> None:
    from rich.console import Console

    from gradcheck.reports.text import render, summary

    if output is not None:
        text = report.to_json() if form == "json" else str(report)
        _write(output, text + "\n")
        click.echo(f"{summary(report)}; report in {output}", err=True)
    elif form == "json":
        click.echo(report.to_json())
    else:
        render(report, Console())


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}"
        raise UsageError(message) from None
