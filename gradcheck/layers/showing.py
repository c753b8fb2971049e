"""How reports and snippets write a layer and the call that verified it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from gradcheck.errors import GradcheckError, Location
from gradcheck.layers.refuting import called
from gradcheck.layers.rule import read_domains
from gradcheck.operation import Operation

if TYPE_CHECKING:
    from collections.abc import Mapping


def location_of(layer: Any) -> str:
    """The file and line where a layer is written, or its class."""
    owner = getattr(layer, "__self__", None)
    thing = inspect.unwrap(owner if isinstance(owner, type) else layer)
    if not (inspect.isfunction(thing) or isinstance(thing, type)):
        thing = type(thing)
    try:
        file, (_, line) = inspect.getsourcefile(thing), inspect.getsourcelines(thing)
    except (TypeError, OSError):
        return ""
    return "" if file is None or file.startswith("<") else str(Location(file, max(line, 1)))


# Arguments that are written as they were given.
_WORDS = (
    "where", "grads", "update", "lr", "forward", "backward", "framework", "training", "backend",
)  # fmt: skip


def call_of_layer(layer: Any, of: Any, given: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The call that repeats a layer's check, without its closing bracket, and what it imports.

    Args:
        layer: What was verified.
        of: Its reference.
        given: The other arguments, by name; those that are None or empty are left out.
    """
    owner = getattr(layer, "__self__", None)
    if isinstance(owner, type):
        name, lines = _function(owner)
        name = f"{name}.apply"
    elif inspect.isfunction(layer) or hasattr(layer, "__wrapped__"):
        name, lines = _function(layer)
    else:
        name, lines = "layer", [f"# layer is the {type(layer).__name__} that was verified"]
    return _call("verify_layer", (name, lines), of, given)


def call_of_function(
    verify: str, function: Any, of: Any, given: Mapping[str, Any]
) -> tuple[str, tuple[str, ...]]:
    """The same for a plain function.

    Args:
        verify: "verify_vjp" or "verify_jvp".
        function: What was verified.
        of: Its reference.
        given: The other arguments, by name; those that are None or empty are left out.
    """
    return _call(verify, _function(function), of, given)


def _call(
    verify: str, shown: tuple[str, list[str]], of: Any, given: Mapping[str, Any]
) -> tuple[str, tuple[str, ...]]:
    own, lines = shown
    reference, more, unknown = _of(of)
    parts, used = _domains(given)
    for name in _WORDS:
        value = given.get(name)
        if value is not None:
            text, needed = _function(value) if callable(value) else (repr(value), [])
            parts.append(f"{name}={text}")
            more += needed
    imports = [f"from gradcheck import {', '.join(sorted({verify} | used))}", *more, *lines]
    unknown = [*([] if lines else [own]), *unknown]
    if unknown:
        known = " and ".join(dict.fromkeys(unknown))
        imports.append(f"# {known}: as you have defined {'it' if len(unknown) == 1 else 'them'}")
    call = ", ".join([own, f"of={reference}", *parts])
    return f"{verify}({call}", tuple(dict.fromkeys(imports))


def _function(function: Any, otherwise: str = "rule") -> tuple[str, list[str]]:
    name, line = called(function, otherwise)
    return name, [line] if line else []


def _domains(given: Mapping[str, Any]) -> tuple[list[str], set[str]]:
    """`inputs=` and `params=` as they were written, and the words in them."""
    if not given.get("inputs"):
        return [], set()
    domains, known = read_domains(given["inputs"], given.get("params"))
    shown = {n: d.describe() for n, d in domains.items()}
    parts = [_mapping("inputs", shown)]
    if known:
        numbers = {n: p.describe() for n, p in known.items()}
        parts.append(_mapping("params", numbers))
        shown.update(numbers)
    words = {text.partition("(")[0] for text in shown.values()}
    words |= {"real"} if any("real(" in text for text in shown.values()) else set()
    return parts, {w for w in words if w.isidentifier()}


def _mapping(name: str, shown: Mapping[str, str]) -> str:
    return f"{name}={{{', '.join(f'{chr(34)}{n}{chr(34)}: {text}' for n, text in shown.items())}}}"


def _of(of: Any) -> tuple[str, list[str], list[str]]:
    """How a snippet writes what stands after `of=`, what it imports, and the names that nothing imports."""
    if isinstance(of, str):
        return f'"{of}"', [], []
    if isinstance(of, Operation):
        if _is_named(of):
            return f'"{of.name}"', [], []
        return of.name, [], [of.name] if of.name.isidentifier() else []
    if isinstance(of, dict):
        pairs = {n: _function(fn, f"{n}_forward") for n, fn in of.items()}
        text = ", ".join(f'"{n}": {name}' for n, (name, _) in pairs.items())
        lines = [line for _, lines in pairs.values() for line in lines]
        return f"{{{text}}}", lines, [name for name, found in pairs.values() if not found]
    name, lines = _function(of, "forward")
    return name, lines, [] if lines else [name]


def _is_named(operation: Operation) -> bool:
    """Whether the operation's name alone finds it again."""
    from gradcheck.library import resolve

    try:
        found = resolve([operation.name])
    except GradcheckError:
        return False
    same = [t for t in found if t.operation.statement() == operation.statement()]
    return len(found) == len(same) == 1
