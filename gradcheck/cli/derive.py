"""`gradcheck derive`: the derivation of a gradient, step by step."""

from __future__ import annotations

import click

from gradcheck.cli.arguments import OneOf, listed

EXIT_UNPROVED = 3


@click.command(short_help="Print the derivation of a gradient, each step proved.")
@click.argument("target")
@click.option(
    "--wrt",
    metavar="NAME",
    multiple=True,
    callback=listed,
    help="Variables: inputs or intermediate results. Comma-separated or repeated; all inputs by default.",
)
@click.option(
    "--format",
    "style",
    type=OneOf("format", ("text", "latex", "markdown")),
    default="text",
    help="text for a terminal, a whole latex document, or markdown with formulas.",
)
@click.pass_context
def derive(ctx: click.Context, target: str, wrt: tuple[str, ...], style: str) -> None:
    """Print how a gradient follows from the specs' own derivatives.

    TARGET is a spec or a chain. Every step is proved equal to the one before, and the last line to be
    the derivative of the forward; the exit code is 3 where a proof is missing.
    """
    from gradcheck.derivation import derive as derived

    derivation = derived(target, wrt or None)
    if style == "text":
        click.echo(str(derivation))
    else:
        click.echo(derivation.latex() if style == "latex" else derivation.markdown())
    if not derivation.ok:
        click.echo("not every step is proved; see the section Proof", err=True)
        ctx.exit(EXIT_UNPROVED)
