"""The command line: it reads arguments, calls the library, prints what came, exits with its code.

Whatever takes time to import is imported inside the command that needs it: `--help` is quick.
"""

from __future__ import annotations

import difflib
import functools
import keyword
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradcheck import __version__
from gradcheck.errors import GradcheckError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from gradcheck.library import Target
    from gradcheck.operation import Operation
    from gradcheck.reports import Report

PROFILES = ("quick", "standard", "thorough")
FORMATS = ("text", "json")

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


# The spec file that `new` writes; NAME stands for the spec's name.
TEMPLATE = '''\
"""y[p,q] = x[p,q]², entry by entry. Write your operation, and then how its derivative comes about.

Of one number, dy/dx = 2 x. An entry of y depends on the entry of x at the same place and on no
other, which is what the two Kronecker deltas say:

    ∂y[p,q]/∂x[r,s] = 2 x[p,q] δ[p,r] δ[q,s]
"""

from gradcheck import Spec, delta, einsum, real


# The operation, written once against `xp`, which stands for NumPy, autograd, JAX or torch.
def forward(xp, x):
    return xp.square(x)


NAME = Spec(
    forward,
    # Where each input lives. m and n are axes: names of sizes, which the search chooses.
    inputs={"x": real("m n")},
    # The output's name and shape; its name may be used in the derivatives, as "y" or "y**2".
    output={"y": "m n"},
    # One derivative for each input: first the letters of the output (p, q), then those of the
    # input (r, s), in the order of their axes. A letter that is summed is left out after "->".
    jacobian={
        "x": 2 * einsum("pq,pr,qs->pqrs", "x", delta, delta),
    },
    # A framework's own implementation is one more witness that forward means what you think:
    # native={"torch": lambda x: x.square()},
    source="where this derivation comes from: a paper, a book, a notebook",
)
'''


class _Group(click.Group):
    """Errors made to be read are printed without a traceback; Ctrl-C exits as shells expect."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GradcheckError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(EXIT_USAGE)
        except KeyboardInterrupt:
            click.echo("interrupted; nothing was checked", err=True)
            ctx.exit(EXIT_INTERRUPTED)


class _OneOf(click.ParamType[str]):
    """One of a few words; a word that is none of them is answered with the nearest."""

    name = "word"

    def __init__(self, what: str, words: Sequence[str]) -> None:
        self.what = what
        self.words = tuple(words)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002
        return "|".join(self.words)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        word = str(value)
        if word not in self.words:
            self.fail(_unknown(self.what, word, self.words), param, ctx)
        return word


def _unknown(what: str, word: str, words: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, words, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    return f"there is no {what} {word!r}; {guess}there are {', '.join(words)}"


def _listed(_ctx: click.Context, _param: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    """A list that is comma-separated, repeated, or both; each word once."""
    words = (word.strip() for value in values for word in value.split(","))
    return tuple(dict.fromkeys(word for word in words if word))


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="gradcheck %(version)s")
def main() -> None:
    """Verify hand-derived gradients against independent sources of the truth.

    A TARGET is the name of a bundled spec, a spec file, file.py::name, a folder of spec files, or a
    chain such as "weighted_sum >> softmax >> cross_entropy".
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks ∂ shows an escape, not an error
            stream.reconfigure(errors="backslashreplace")


@main.command(short_help="Verify specs and chains.")
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@click.option(
    "--oracle",
    "oracles",
    multiple=True,
    metavar="NAME,...",
    callback=_listed,
    help="Sources of the truth: symbolic, exact, autograd, jax, torch, tensorflow, native, differences.  "
    "[default: all that are installed]",
)
@click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="NAME,...",
    callback=_listed,
    default=("cpu",),
    help="cpu, cuda, cuda:1, gpu (JAX's word); all takes what is found.  [default: cpu]",
)
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    metavar="NAME,...",
    callback=_listed,
    default=("float64", "float32"),
    help="Precisions.  [default: float64,float32]",
)
@click.option(
    "--wrt",
    multiple=True,
    metavar="INPUT,...",
    callback=_listed,
    help="Only the derivatives with respect to these inputs.  [default: all]",
)
@click.option(
    "--profile",
    type=_OneOf("profile", PROFILES),
    default="standard",
    show_default=True,
    help="How many inputs are searched.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the search.")
@click.option(
    "--require",
    multiple=True,
    metavar="NAME,...",
    callback=_listed,
    help="Oracles without whose support the run is incomplete (exit 3).",
)
@click.option(
    "--format",
    "form",
    type=_OneOf("format", FORMATS),
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


@main.command(name="list", short_help="List specs and chains and what they claim.")
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
def list_(targets: tuple[str, ...]) -> None:
    """List specs and chains: their inputs, outputs, claimed derivatives and sources."""
    from gradcheck.library import resolve
    from gradcheck.reports.listing import columns

    rows = [_row(target) for target in resolve(targets)]
    _print_table(columns(("name", "inputs → output", "derivatives", "source"), rows))


def _row(target: Target) -> tuple[str, ...]:
    operation = target.operation
    inputs = ", ".join(_shaped(name, operation.shapes[name]) for name in operation.inputs)
    outputs = ", ".join(_shaped(name, operation.shapes[name]) for name in operation.output_names)
    claims = [claim.label for claim in operation.claims() if claim.form != "missing"]
    source = operation.source.strip().partition("\n")[0]
    return target.name, f"{inputs} → {outputs}", "; ".join(claims) or "none", source


def _shaped(name: str, shape: Sequence[str]) -> str:
    return f"{name}[{' '.join(shape)}]" if shape else name


@main.command(short_help="Show a spec, its derivation and its source.")
@click.argument("name")
def show(name: str) -> None:
    """Show a spec or chain: its statement, the derivation in its docstring, and its source."""
    from gradcheck.library import resolve

    click.echo("\n\n".join(_shown(target) for target in resolve([name])))


def _shown(target: Target) -> str:
    operation = target.operation
    source = f"Source: {operation.source.strip()}" if operation.source else ""
    place = f"Written in {operation.location}" if operation.location else ""
    ending = "\n".join(line for line in (source, place) if line)
    parts = (operation.statement(), _proofs(operation), operation.doc.strip(), ending)
    return "\n\n".join(part for part in parts if part)


def _proofs(operation: Operation) -> str:
    """What the symbolic oracle proves of each claim, or why it does not."""
    from gradcheck.oracles.symbolic import symbolic

    lines = []
    for claim in operation.claims():
        if claim.form != "missing":
            found = symbolic(operation, claim)
            said = found.statement if found.verdict == "proved" else found.reason
            verdict = "not proved" if found.verdict == "suspect" else found.verdict
            lines.append(f"  ∂{claim.output}/∂{claim.input} is {verdict}: {said}")
    return "\n".join(lines)


@main.command(short_help="Show the frameworks and devices found here.")
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
    _print_table(columns(("backend", "version", "devices", "import"), rows))


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


def _print_table(table: Table) -> None:
    """Fitted to a terminal; anywhere else as wide as it needs to be."""
    from rich.console import Console

    from gradcheck.reports.listing import plain_table

    console = Console()
    if console.is_terminal:
        console.print(table, highlight=False)
    else:
        click.echo(plain_table(table))


@main.command(short_help="Write a small spec to start from.")
@click.argument("name")
@click.option(
    "--folder",
    metavar="DIR",
    default=Path(),
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to write the file.  [default: the working folder]",
)
def new(name: str, folder: Path) -> None:
    """Write NAME.py, a small spec that verifies, to be changed into your own."""
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        message = f"{name!r} cannot name a spec; write a Python name, such as my_softmax"
        raise UsageError(message)
    path = folder / f"{name}.py"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE.replace("NAME", name))
    except FileExistsError:
        message = f"{path} is already there and is left as it is; choose another name or --folder"
        raise UsageError(message) from None
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}"
        raise UsageError(message) from None
    click.echo(f"wrote {path}\nverify it with: gradcheck verify {path}")
