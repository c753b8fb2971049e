"""What the tests of second derivatives share: data, bounds, and the frameworks' own Hessians."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradcheck import running
from gradcheck.algebra.compose import relabel
from gradcheck.algebra.normal import normalise


def draw(m=5, n=4, o=3):
    rng = np.random.default_rng(5)
    targets = rng.multinomial(8, [1 / o] * o, size=m) / 8  # rows that sum to one exactly
    return {
        "x": rng.normal(size=(m, n)),
        "w": rng.normal(size=(n, o)),
        "b": rng.normal(size=o),
        "y": targets,
    }


def in_letters(expression):
    """The terms of an expression under one naming of its letters."""
    output = tuple("pqrs"[: len(expression.output)])
    return {
        (t.coefficient, t.sizes, t.factors, t.deltas)
        for t in normalise(relabel(expression, output)).terms
    }


def carried(operation, values: dict[str, Any], dtype: str = "float64"):
    """The operands of a forward with their errors, and what evaluates expressions on them."""
    xp = running.ErrorNamespace(dtype)
    arrays = {n: xp.asarray(v) if np.asarray(v).dtype.kind == "f" else v for n, v in values.items()}
    operands = operation.environment(xp, arrays)
    return operation.bind(arrays, operands, xp.asarray(0.0)), running.ErrorOperations(xp)


def bound(hessian, values, dtype="float64"):
    """On the distance of a computed Hessian from the exact one, for any order of the same operations."""
    return hessian.evaluated(*carried(hessian.operation, values, dtype)).error


def jax_hessians(values, order="xwb"):
    jax = pytest.importorskip("jax")

    def loss(*args):
        given = dict(zip(order, args, strict=True))
        z = given["x"] @ given["w"] + given["b"]
        return -jax.numpy.sum(values["y"] * jax.nn.log_softmax(z)) / z.shape[0]

    with jax.enable_x64(True):
        args = [jax.numpy.asarray(values[n], "float64") for n in order]
        found = jax.jit(jax.hessian(loss, argnums=(0, 1, 2)))(*args)
    return {
        (u, v): np.asarray(found[i][j]) for i, u in enumerate(order) for j, v in enumerate(order)
    }


def torch_hessians(values, order="xwb"):
    torch = pytest.importorskip("torch")
    targets = torch.tensor(np.asarray(values["y"], np.float64))

    def loss(*args):
        given = dict(zip(order, args, strict=True))
        z = given["x"] @ given["w"] + given["b"]
        return -(targets * torch.log_softmax(z, -1)).sum() / z.shape[0]

    args = [torch.tensor(np.asarray(values[n], np.float64)) for n in order]
    found = torch.func.hessian(loss, argnums=(0, 1, 2))(*args)
    return {(u, v): found[i][j].numpy() for i, u in enumerate(order) for j, v in enumerate(order)}


def assert_product(operation, name, tangent, values, expected, allowed):
    """A Hessian-vector product within its own carried bound and that of what it is compared with."""
    product = operation.hvp(name)
    bindings, ops = carried(operation, values)
    own = product.evaluated(bindings, ops, {name: ops.space.asarray(tangent)})[name].error
    assert np.all(np.abs(product(tangent, **values)[name] - expected) <= own + allowed)
