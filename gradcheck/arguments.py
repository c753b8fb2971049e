"""What callers give, looked at where it comes in: tables by name, names, whole numbers, functions."""

from __future__ import annotations

import inspect
import numbers
from typing import TYPE_CHECKING, Any

from gradcheck.errors import GradcheckError, SpecError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SHOWN = 60  # characters of a wrong value that a message repeats
# What is certainly no array of any framework.
_NO_ARRAYS = (type(None), str, bytes, list, dict, set, frozenset)


def brief(value: object) -> str:
    """A value as a message repeats it: on one line, and not longer than it."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def counted(number: int, what: str) -> str:
    """A number of things: "1 input", "2 inputs"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def table(value: Any, what: str, example: str, *, pairs: bool = False) -> dict[Any, Any]:
    """A mapping by name, as a dict; None is an empty one.

    Args:
        value: What came.
        what: The argument's name.
        example: How one is written.
        pairs: Whether a key may be a pair of names, too.

    Raises:
        SpecError: Where it is no mapping, or a key is no name.
    """
    if value is None:
        return {}
    if not hasattr(value, "keys"):
        raise SpecError(f"{what} is {brief(value)}, no table by name", hint=f"write {example}")
    for key in value:
        pair = pairs and isinstance(key, tuple) and len(key) == 2
        if not all(isinstance(part, str) for part in (key if pair else (key,))):
            raise SpecError(f"{what} has the key {brief(key)}, no name", hint=f"write {example}")
    return {key: value[key] for key in value}


def names(value: Any, what: str) -> tuple[str, ...]:
    """One name or several, each once; None is none of them.

    Raises:
        UsageError: Where it is neither a text nor a list of texts.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    try:
        found = tuple(value)
    except TypeError:
        found = (value,)
    wrong = [item for item in found if not isinstance(item, str)]
    if wrong:
        raise UsageError(f"{what} takes a name or a list of names as text; got {brief(wrong[0])}")
    return tuple(dict.fromkeys(found))


def whole(value: Any, what: str) -> int:
    """A whole number.

    Raises:
        UsageError: Where it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise UsageError(f"{what} is {brief(value)}; write a whole number, such as {what}=1")
    return int(value)


def natural(value: Any, what: str) -> int:
    """A whole number that is not negative.

    Raises:
        UsageError: Where it is something else.
    """
    found = whole(value, what)
    if found < 0:
        raise UsageError(f"{what} is {found}; write 0 or more")
    return found


def text(value: Any, what: str) -> str:
    """A text.

    Raises:
        UsageError: Where it is something else.
    """
    if not isinstance(value, str):
        raise UsageError(f"{what} is {brief(value)}; write it as text: {what}='...'")
    return value


# ---------------------------------------------------------------------- functions


def check_call(
    function: Callable[..., Any],
    positional: Sequence[str],
    named: Sequence[str],
    *,
    what: str,
    error: type[GradcheckError],
) -> None:
    """Whether a function can be called as it is going to be, found out before anything runs.

    Args:
        function: The user's function; one that does not tell its arguments is not looked at.
        positional: What it is given by place, in words: `("xp", "x")`.
        named: What it is given by name.
        what: What messages call it: "the forward".
        error: What is raised.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*positional, **dict.fromkeys(named))
    except TypeError as trouble:
        called = ", ".join([*positional, *(f"{n}=..." for n in named)])
        own = getattr(function, "__name__", "function").strip("<>")
        raise error(
            f"{what} is called as {own}({called}), but takes {signature}: {trouble}; write it with "
            f"the parameters ({', '.join([*positional, *named])})"
        ) from None


def check_returned(produced: Any, what: str) -> None:
    """Whether a function gave arrays.

    Raises:
        SpecError: Where it gave None or a container, saying what to write.
    """
    if produced is None:
        raise SpecError(f"{what} returns None", hint="add `return` before its last expression")
    if isinstance(produced, list):
        raise SpecError(
            f"{what} returns a list",
            hint="return the array itself, or several as a tuple: return y, r",
        )
    for item in produced if isinstance(produced, tuple) else (produced,):
        if isinstance(item, _NO_ARRAYS):
            raise SpecError(
                f"{what} returns {brief(item)}{' in its tuple' if isinstance(produced, tuple) else ''}, "
                "which is no array",
                hint="return an array, or several as a tuple: return y, r",
            )
