"""autograd functions as rules: primitives with a vjp of their own, through autograd's engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.layers.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.layers.reference import Reference


def rule_of_autograd(layer: Callable[..., Any], reference: Reference, name: str) -> Rule:
    """A function on numpy arrays, called with the inputs by place and the parameters by name."""
    names = [n for n, d in reference.inputs.items() if d.differentiable]

    def forward(arrays: dict[str, Any], params: dict[str, Any]) -> tuple[Any, ...]:
        value = layer(*arrays.values(), **params)
        return tuple(value) if isinstance(value, tuple | list) else (value,)

    def vjp(cotangents: tuple[Any, ...], arrays: dict[str, Any], params: dict[str, Any]) -> Any:
        return tuple(_pulled(layer, n, cotangents, arrays, params) for n in names)

    return Rule(
        name,
        "layer",
        "autograd",
        reference.inputs,
        tuple(names),
        reference.params,
        reference.where,
        reference.outputs,
        forward,
        vjp,
    )


def _pulled(
    layer: Callable[..., Any],
    name: str,
    cotangents: tuple[Any, ...],
    arrays: dict[str, Any],
    params: dict[str, Any],
) -> Any:
    """The gradient of one argument; autograd's engine hands on what a vjp returns."""
    from autograd.core import make_vjp
    from autograd.tracer import isbox

    depends = []

    def moved(x: Any) -> Any:
        value = layer(*({**arrays, name: x}.values()), **params)
        depends.append(_holds_box(value, isbox))
        return value if depends[0] else x  # autograd warns of a constant

    pull, value = make_vjp(moved, arrays[name])
    if not depends[0]:
        return np.zeros_like(arrays[name])
    return pull(tuple(cotangents) if isinstance(value, tuple) else cotangents[0])


def _holds_box(value: Any, isbox: Callable[[Any], bool]) -> bool:
    if isinstance(value, tuple | list):
        return any(_holds_box(v, isbox) for v in value)
    return bool(isbox(value))
