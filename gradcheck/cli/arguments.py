"""Kinds of argument that several commands take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gradcheck.configuration import unknown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gradcheck.configuration import Configuration

_CACHE_FOLDER = ".gradcheck_cache"


class OneOf(click.ParamType[str]):
    """One of a few words; a word that is none of them is answered with the nearest."""

    name = "word"

    def __init__(self, what: str, words: Sequence[str]) -> None:
        self.what = what
        self.words = tuple(words)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002
        """The words, as help shows them."""
        return "|".join(self.words)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word, if it is one of them."""
        word = str(value)
        if word not in self.words:
            self.fail(unknown(self.what, word, self.words), param, ctx)
        return word


def listed(_ctx: click.Context, _param: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    """A list that is comma-separated, repeated, or both; each word once.

    An empty one, such as a variable of the shell that is not set, is refused: it would ask for less.
    """
    words = (word.strip() for value in values for word in value.split(","))
    found = tuple(dict.fromkeys(word for word in words if word))
    if values and not found:
        raise click.BadParameter("it is empty; name at least one, or leave the option out")
    return found


cache_option = click.option(
    "--cache/--no-cache",
    default=None,
    envvar="GRADCHECK_CACHE",
    help="Keep what supports a claim in .gradcheck_cache and find it again while nothing that it depends on "
    "has changed.  [default: cache]",
)


def cache_folder(wanted: bool | None, known: Configuration) -> Path | None:
    """The folder in which results are kept, if they are: as asked for, or as the configuration has it."""
    if wanted is False or (wanted is None and known.cache is False):
        return None
    return known.folder / (known.cache if isinstance(known.cache, str) else _CACHE_FOLDER)
