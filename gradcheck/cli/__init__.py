"""The command line: it reads arguments, calls the library, prints what came, exits with its code.

A file a command. Whatever takes time to import is imported inside the command that needs it: `--help`
is quick.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from gradcheck import __version__
from gradcheck.cli.derive import derive
from gradcheck.cli.doctor import doctor
from gradcheck.cli.new import new
from gradcheck.cli.show import list_, show
from gradcheck.cli.verify import verify
from gradcheck.cli.watch import watch
from gradcheck.configuration import unknown
from gradcheck.errors import GradcheckError
from gradcheck.reports.naming import shell_word

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class _Group(click.Group):
    """Errors made to be read are printed without a traceback; Ctrl-C exits as shells expect."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that was meant, or an error that names the nearest."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            if name and not name.isidentifier():  # a file, a folder or a chain without its command
                ctx.fail(f"{name!r} is no command; write gradcheck verify {shell_word(name)}")
            ctx.fail(unknown("command", name, self.list_commands(ctx)))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GradcheckError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(EXIT_USAGE)
        except KeyboardInterrupt:
            click.echo("interrupted; nothing was checked", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except SystemExit as error:  # no command raises it: its code would pass for a verdict
            click.echo(
                f"error: the code of a spec ended the program (SystemExit: {error.code}), and nothing was "
                "verified; let it raise an error instead",
                err=True,
            )
            ctx.exit(EXIT_USAGE)


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


for command in (verify, list_, show, derive, doctor, new, watch):
    main.add_command(command)
