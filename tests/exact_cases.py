"""What the tests of the exact oracle share: specs in a line, and a namespace of random lanes."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck import Spec, constant, delta, einsum, load, probability, real
from gradcheck.oracles.exact import STANDARD, Pool, exact
from gradcheck.oracles.exact.memory import Memory
from gradcheck.oracles.exact.namespace import FieldNamespace
from gradcheck.oracles.exact.primes import Field

# All 13 primes of 8 bits that are 3 modulo 4.
SMALL = Pool(4, 3, 128, 256, 13)


def spec(forward: Any, jacobian: Any, output: Any = "", **inputs: Any) -> Spec:
    params = inputs.pop("params", None)
    return Spec(
        forward, inputs=inputs, output=output, jacobian=jacobian, params=params, name="case"
    )


def judged(operation: Any, name: str | None = None, **options: Any) -> Any:
    """What the oracle finds about the one claim, or about the one of an input."""
    (claim,) = [
        c for c in operation.claims() if c.form != "missing" and (name is None or c.label == name)
    ]
    return exact(operation, claim, **options)


def lanes(seed: int = 0, count: int = 4, *, cell: bool = False) -> FieldNamespace:
    rng = np.random.default_rng(seed)
    field = Field([STANDARD.draw(rng) for _ in range(count)])
    return FieldNamespace(field, Memory(field, rng), rng, cell=cell, shadowed=cell)


def variables(xp: FieldNamespace, shape: tuple[int, ...], *, fourth: bool = False) -> Any:
    weight, depth = (4, 2) if fourth else (1, 0)
    return xp.variable(xp.field.random(xp.rng, shape, fourth=fourth), weight=weight, depth=depth)


both = einsum("pq,pr,qs->pqrs", "a", delta, delta)
outer = einsum("pq,ps,pr->pqrs", "a", "a", delta)


def softmax_with(claim: Any) -> Any:
    return spec(load("softmax").forward, {"z": claim}, {"a": probability("m n")}, z=real("m n"))


def entropy_with(claim: Any, targets: Any = None) -> Any:
    return spec(
        load("cross_entropy").forward,
        {"a": claim},
        {"L": ""},
        a=probability("m n"),
        y=targets or constant(probability("m n")),
    )
