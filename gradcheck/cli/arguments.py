"""Kinds of argument that several commands take."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence


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


def unknown(what: str, word: str, words: Sequence[str]) -> str:
    """What to say of a word that is not known."""
    near = difflib.get_close_matches(word, words, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    return f"there is no {what} {word!r}; {guess}there are {', '.join(words)}"


def listed(_ctx: click.Context, _param: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    """A list that is comma-separated, repeated, or both; each word once."""
    words = (word.strip() for value in values for word in value.split(","))
    return tuple(dict.fromkeys(word for word in words if word))
