"""`gradcheck verify`: the gate."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradcheck.cli.arguments import OneOf, cache_folder, cache_option, listed
from gradcheck.configuration import VERDICTS, Configuration, nearest, read, spec_files
from gradcheck.errors import UsageError
from gradcheck.reports.cleaning import utf8
from gradcheck.reports.formats import FORMATS, check_form, check_path, format_of, write

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradcheck.reports import Report

PROFILES = ("quick", "standard", "thorough")
# What holds where neither the command line nor the configuration says anything.
DEFAULTS: dict[str, Any] = {
    "devices": ("cpu",),
    "dtypes": ("float64", "float32"),
    "profile": "standard",
    "seed": 0,
    "jobs": 1,
    "time_limit": 300.0,
}


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
    help="cpu, cuda, cuda:1, gpu (JAX's word); all takes what is found.  [default: cpu]",
)
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    metavar="NAME,...",
    callback=listed,
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
    help="How many inputs are searched.  [default: standard]",
)
@click.option("--seed", type=int, help="Seed of the search.  [default: 0]")
@click.option(
    "--require",
    multiple=True,
    metavar="NAME,...",
    callback=listed,
    help="Oracles without whose support the run is incomplete (exit 3).",
)
@click.option(
    "--require-device",
    "require_devices",
    multiple=True,
    metavar="NAME,...",
    callback=listed,
    help="Devices on which every claim must be verified.",
)
@click.option(
    "--require-verdict",
    type=OneOf("verdict", VERDICTS),
    help="What every claim must reach at least.",
)
@click.option(
    "--format",
    "form",
    type=OneOf("format", tuple(FORMATS)),
    help="The report's format.  [default: what the suffix of --output means, or text]",
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
    metavar="N",
    help="So many checks at a time, each in its own process.  [default: 1]",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="For one check; one that takes longer is an error and the rest goes on.  [default: 300]",
)
@cache_option
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the report there instead of standard output.",
)
@click.option(
    "--report",
    "report_files",
    multiple=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the report there too, in the format that the suffix means; may be repeated.",
)
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The pyproject.toml whose [tool.gradcheck] holds.  [default: the nearest one upwards]",
)
@click.option(
    "--fix", "mend", is_flag=True, help="Offer to write the proved edits of what is refuted."
)
@click.option("--yes", is_flag=True, help="With --fix: write them without asking.")
@click.pass_context
def verify(
    ctx: click.Context,
    /,
    targets: tuple[str, ...],
    form: str | None,
    output: Path | None,
    data: Path | None,
    config: Path | None,
    wrt: tuple[str, ...],
    cache: bool | None,
    mend: bool,
    yes: bool,
    report_files: tuple[Path, ...],
    **options: Any,
) -> None:
    """Verify specs and chains.

    A TARGET is the name of a bundled spec, a spec file, file.py::name, a folder, or a chain in quotes.
    Without one, those of [tool.gradcheck] in pyproject.toml, or else all that are bundled. What
    the table says holds wherever an option is not given.

    \b
    Exit codes:
      0    every claim is covered: no oracle refutes it and at least one supports it
      1    something is refuted
      2    the command line, the configuration or a spec cannot be understood
      3    incomplete: nothing checked, a claim uncovered, something required absent
      130  interrupted; the report holds what was done
    """  # noqa: D301
    from rich.console import Console

    from gradcheck.checking import verify as run
    from gradcheck.checking.verifying import check_configured
    from gradcheck.reports.progress import progress

    if yes and not mend:
        raise click.UsageError("--yes goes with --fix, which is not given")
    known = read(config) if config else nearest(Path.cwd())
    check_configured(known)
    files = _files(report_files, known)
    check_form(form)
    if output is not None:
        check_path(output, form)
    named = _targets(targets, known)
    verified = functools.partial(
        run,
        named,
        wrt=wrt or None,
        data=data,
        cache=cache_folder(cache, known),
        gaps=known.gaps,
        complete=not targets and known.specs is not None,
        progress=functools.partial(progress, console=Console(stderr=True)),
        **_settled(options, known),
    )
    report = _noted(verified(), named)
    try:
        _write(report, files)  # before the question, which somebody may leave unanswered
        asked = mend and not report.ok
        if asked and _mended(report, named, form, yes=yes):
            report, asked = _noted(verified(), named), False
            _write(report, files)
        if not asked or output is not None or form not in (None, "text"):
            _deliver(report, form, output)  # else it was shown before the question was asked
    except UsageError:  # a full disk: what was found is not lost with it
        click.echo(report)
        raise
    ctx.exit(report.exit_code)


def _noted(report: Report, named: list[str] | None) -> Report:
    """The report, which says so where nobody said what to verify: a gate must not rest on that."""
    if named is None:
        report.notes.insert(
            0, "neither a target nor specs in [tool.gradcheck]: what is bundled was verified"
        )
    return report


def _write(report: Report, files: Iterable[Path]) -> None:
    for path in files:
        write(report, path)


def _mended(report: Report, named: list[str] | None, form: str | None, *, yes: bool) -> bool:
    """Whether a proved edit was written: the report so far is shown first."""
    from gradcheck.cli.fix import fix
    from gradcheck.library import resolve

    err = form not in (None, "text")
    if err:
        click.echo(report, err=True)
    else:
        _deliver(report, form, None)
    return fix(report, resolve(named or []), yes=yes, err=err)


def _targets(texts: tuple[str, ...], known: Configuration) -> list[str] | None:
    """What the command line names, or else the configuration; None for all that are bundled."""
    if texts or known.specs is None:
        return list(texts) or None
    here = Path.cwd()
    return [
        str(path.relative_to(here) if path.is_relative_to(here) else path)
        for path in spec_files(known.specs, known.folder)
    ]


def _files(named: tuple[Path, ...], known: Configuration) -> list[Path]:
    """Where the report is written besides; whether it can be is found out before the run."""
    files = list(named) or [known.folder / name for name in known.report]
    for path in files:
        check_path(path)
    return files


def _settled(options: dict[str, Any], known: Configuration) -> dict[str, Any]:
    """Each option from the command line, or else from the configuration, or else by default."""
    settled = {}
    for name, value in options.items():
        if value is None or value == ():
            value = getattr(known, name)  # noqa: PLW2901
        settled[name] = DEFAULTS.get(name) if value is None else value
    return settled


def _deliver(report: Report, form: str | None, output: Path | None) -> None:
    from rich.console import Console

    from gradcheck.reports.text import render, summary

    if output is not None:
        write(report, output, form or format_of(output))
        click.echo(f"{summary(report)}; report in {output}", err=True)
    elif form in (None, "text"):
        render(report, Console())
    else:
        click.echo(utf8(FORMATS[form](report)))
