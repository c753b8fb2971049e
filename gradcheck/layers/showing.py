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


def call_of(layer: Any, of: Any, given: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The call that repeats the check, without its closing bracket, and what it imports."""
    shown, lines = _layer(layer)
    reference, more, words = _of(of)
    parts, used = _domains(given)
    for name in ("where", "grads", "update", "lr", "forward", "backward", "framework", "training"):
        value = given.get(name)
        if value is not None:
            text, line = called(value) if callable(value) else (repr(value), "")
            parts.append(f"{name}={text}")
            more += [line] if line else []
    names = sorted({"verify_layer"} | used | words)
    imports = [f"from gradcheck import {', '.join(names)}", *more, *lines]
    unknown = [*([] if lines else [shown]), *_unknown(of, reference)]
    if unknown:
        imports.append(f"# {' and '.join(dict.fromkeys(unknown))}: as you have defined them")
    text = ", ".join([shown, f"of={reference}", *parts])
    return f"verify_layer({text}", tuple(dict.fromkeys(imports))


def _layer(layer: Any) -> tuple[str, list[str]]:
    owner = getattr(layer, "__self__", None)
    if isinstance(owner, type):
        name, line = called(owner)
        return f"{name}.apply", [line] if line else []
    if inspect.isfunction(layer) or hasattr(layer, "__wrapped__"):
        name, line = called(layer)
        return name, [line] if line else []
    return "layer", [f"# layer is the {type(layer).__name__} that was verified"]


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


def _of(of: Any) -> tuple[str, list[str], set[str]]:
    """How a snippet writes what stands after `of=`."""
    if isinstance(of, str):
        return repr(of), [], set()
    if isinstance(of, Operation):
        return (repr(of.name) if _is_named(of) else of.name), [], set()
    if isinstance(of, dict):
        pairs = {n: called(fn) for n, fn in of.items()}
        text = ", ".join(f'"{n}": {name}' for n, (name, _) in pairs.items())
        return f"{{{text}}}", [line for _, line in pairs.values() if line], set()
    name, line = called(of)
    return name, [line] if line else [], set()


def _unknown(of: Any, shown: str) -> list[str]:
    """The names after `of=` that no line of a snippet could import."""
    if isinstance(of, dict):
        return [name for name, line in map(called, of.values()) if not line]
    if isinstance(of, str | Operation):
        return [shown] if isinstance(of, Operation) and shown.isidentifier() else []
    return [] if called(of)[1] else [shown]


def _is_named(operation: Operation) -> bool:
    """Whether the operation's name alone finds it again."""
    from gradcheck.library import resolve

    try:
        found = resolve([operation.name])
    except GradcheckError:
        return False
    same = [t for t in found if t.operation.statement() == operation.statement()]
    return len(found) == len(same) == 1
