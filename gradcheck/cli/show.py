"""`gradcheck list` and `gradcheck show`: what there is, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gradcheck.cli.tables import print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.library import Target
    from gradcheck.operation import Operation


@click.command(name="list", short_help="List specs and chains and what they claim.")
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
def list_(targets: tuple[str, ...]) -> None:
    """List specs and chains: their inputs, outputs, claimed derivatives and sources."""
    from gradcheck.library import resolve
    from gradcheck.reports.listing import columns

    rows = [_row(target) for target in resolve(targets)]
    print_table(columns(("name", "inputs → output", "derivatives", "source"), rows))


def _row(target: Target) -> tuple[str, ...]:
    operation = target.operation
    inputs = ", ".join(_shaped(name, operation.shapes[name]) for name in operation.inputs)
    outputs = ", ".join(_shaped(name, operation.shapes[name]) for name in operation.output_names)
    claims = [claim.label for claim in operation.claims() if claim.form != "missing"]
    source = operation.source.strip().partition("\n")[0]
    return target.name, f"{inputs} → {outputs}", "; ".join(claims) or "none", source


def _shaped(name: str, shape: Sequence[str]) -> str:
    return f"{name}[{' '.join(shape)}]" if shape else name


@click.command(short_help="Show a spec, its derivation and its source.")
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
