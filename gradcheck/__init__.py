"""Verify hand-derived gradients.

A derivation is written as it stands on paper, as einsum terms with Kronecker deltas, and compared with
autograd, JAX and torch under derived error bounds. Names are loaded when they are first used, so that
importing the package imports no framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradcheck.algebra import delta, einsum, ones, size
    from gradcheck.chain import Chain
    from gradcheck.checking import verify
    from gradcheck.derivation import derive
    from gradcheck.domains import (
        choice,
        constant,
        integer,
        integers,
        labels,
        mask,
        number,
        one_hot,
        positive,
        probability,
        real,
    )
    from gradcheck.errors import GradcheckError
    from gradcheck.layers.as_autograd import as_autograd
    from gradcheck.layers.as_jax import as_jax
    from gradcheck.layers.as_tensorflow import as_tensorflow
    from gradcheck.layers.as_torch import as_torch
    from gradcheck.layers.layer import verify_layer
    from gradcheck.layers.vjp import verify_jvp, verify_vjp
    from gradcheck.library import load
    from gradcheck.reports.model import Report
    from gradcheck.spec import Spec

__version__ = "0.1.0"

_HOMES = {
    "Chain": "gradcheck.chain",
    "GradcheckError": "gradcheck.errors",
    "Report": "gradcheck.reports.model",
    "Spec": "gradcheck.spec",
    "as_autograd": "gradcheck.layers.as_autograd",
    "as_jax": "gradcheck.layers.as_jax",
    "as_tensorflow": "gradcheck.layers.as_tensorflow",
    "as_torch": "gradcheck.layers.as_torch",
    "choice": "gradcheck.domains",
    "constant": "gradcheck.domains",
    "delta": "gradcheck.algebra",
    "derive": "gradcheck.derivation",
    "einsum": "gradcheck.algebra",
    "integer": "gradcheck.domains",
    "integers": "gradcheck.domains",
    "labels": "gradcheck.domains",
    "load": "gradcheck.library",
    "mask": "gradcheck.domains",
    "number": "gradcheck.domains",
    "one_hot": "gradcheck.domains",
    "ones": "gradcheck.algebra",
    "positive": "gradcheck.domains",
    "probability": "gradcheck.domains",
    "real": "gradcheck.domains",
    "size": "gradcheck.algebra",
    "verify": "gradcheck.checking",
    "verify_jvp": "gradcheck.layers.vjp",
    "verify_layer": "gradcheck.layers.layer",
    "verify_vjp": "gradcheck.layers.vjp",
}

__all__ = [
    "Chain",
    "GradcheckError",
    "Report",
    "Spec",
    "as_autograd",
    "as_jax",
    "as_tensorflow",
    "as_torch",
    "choice",
    "constant",
    "delta",
    "derive",
    "einsum",
    "integer",
    "integers",
    "labels",
    "load",
    "mask",
    "number",
    "one_hot",
    "ones",
    "positive",
    "probability",
    "real",
    "size",
    "verify",
    "verify_jvp",
    "verify_layer",
    "verify_vjp",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module 'gradcheck' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
