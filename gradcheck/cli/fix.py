"""`gradcheck verify --fix`: proved edits, written into the files where the claims stand."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradcheck.diagnosis.fixing import Fix
    from gradcheck.library import Target
    from gradcheck.operation import Claim, Operation
    from gradcheck.reports import Report


def fix(report: Report, targets: Sequence[Target], *, yes: bool, err: bool = False) -> bool:
    """Show the proved edits of what was refuted, ask, and write them.

    Args:
        report: What was found.
        targets: What was verified.
        yes: Write without asking.
        err: Speak on standard error, since standard output is for the report.

    Returns:
        Whether a file was changed, so that it has to be verified again.
    """
    from gradcheck.diagnosis.fixing import fixes

    found, by_hand = fixes(_refuted(report, targets))
    for line in by_hand:
        click.echo(f"\nNot written: {line}", err=err)
    written = False
    try:
        for one in found:
            written |= _offer(one, yes=yes, err=err)
    except click.Abort:  # Ctrl-C, or nobody is there to answer
        click.echo("\nnothing is written without an answer; --yes writes without asking", err=err)
    return written


def _refuted(report: Report, targets: Sequence[Target]) -> Iterator[tuple[Operation, Claim]]:
    """The refuted claims, each once, with their operations."""
    wrong = dict.fromkeys(
        (c.claim, c.address, c.input)
        for c in report.checks
        if c.verdict == "refuted" and c.counterexample
    )
    for name, address, label in wrong:
        for target in targets:
            if (target.name, target.address) == (name, address):
                for claim in target.operation.claims():
                    if claim.label == label:
                        yield target.operation, claim


def _offer(one: Fix, *, yes: bool, err: bool = False) -> bool:
    """One file's edits: shown, and written if that is wanted and what is written is proved."""
    click.echo(f"\n{one.diff}", err=err)
    count = len(dict.fromkeys(one.claims))
    question = f"Write {'this proved edit' if count == 1 else f'these {count} proved edits'} to {one.file}?"
    if not yes and not click.confirm(question, err=err):
        click.echo(f"{one.file} is left as it is", err=err)
        return False
    return _write(one, err=err)


def _write(one: Fix, *, err: bool) -> bool:
    """The edited file, which is put back as it was unless each claim in it is then proved."""
    from gradcheck.reports.formats import replace_file

    if one.file.read_bytes() != one.before:
        click.echo(f"{one.file} has changed in the meantime and is left as it is", err=err)
        return False
    try:
        if not os.access(one.file, os.W_OK):  # its folder may well let it be replaced
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        replace_file(one.file, one.after)
        if why := _unproved(one):
            replace_file(one.file, one.before)
    except OSError as error:
        why = f"it cannot be written: {error.strerror}"
    click.echo(f"{one.file} is left as it is: {why}" if why else f"wrote {one.file}", err=err)
    return not why


def _unproved(one: Fix) -> str:
    """Why the file as written does not hold what was proved; empty where it does."""
    from gradcheck.errors import GradcheckError
    from gradcheck.library import resolve
    from gradcheck.oracles.symbolic import symbolic

    try:
        for name, label, _ in dict.fromkeys(one.claims):
            operation = resolve([f"{one.file}::{name}"])[0].operation
            claim = next(c for c in operation.claims() if c.label == label)
            verdict = symbolic(operation, claim).verdict
            if verdict != "proved":
                return f"written into it, {name}, {label} is {verdict}"
    except (GradcheckError, StopIteration) as error:
        return f"written into it, the edit does not load: {error}"
    return ""
