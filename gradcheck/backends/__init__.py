"""The frameworks that can run a forward: one file each, and one list of them, here.

Nothing is imported until it is asked for by name, or until an array of that framework is handed
in (its owner has then imported it): whoever works with torch need not wait for JAX, and whoever has
neither still has NumPy. To add a framework, write its file, with a `Backend`, and its line below.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.errors import MissingBackend, UsageError

if TYPE_CHECKING:
    from gradcheck.backends.base import Backend


@dataclass(frozen=True)
class _Entry:
    """Where a backend is: its file, its class, the packages whose types are its arrays."""

    file: str
    cls: str
    roots: tuple[str, ...]


_REGISTRY = {
    "numpy": _Entry("numpy_", "NumpyBackend", ("numpy",)),
    "autograd": _Entry("autograd_", "AutogradBackend", ("autograd",)),
    "jax": _Entry("jax_", "JaxBackend", ("jax", "jaxlib")),
    "torch": _Entry("torch_", "TorchBackend", ("torch",)),
    "tensorflow": _Entry("tensorflow_", "TensorFlowBackend", ("tensorflow",)),
}

BACKENDS: tuple[str, ...] = tuple(_REGISTRY)

_OWNERS = {root: name for name, entry in _REGISTRY.items() for root in entry.roots}


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(_REGISTRY[name].roots[0]) is not None


def installed() -> list[str]:
    """The backends whose framework is installed, found without importing any."""
    return [name for name in BACKENDS if _is_installed(name)]


@functools.cache
def get(name: str) -> Backend:
    """The backend of a framework, which is imported now."""
    if name not in _REGISTRY:
        near = difflib.get_close_matches(name, BACKENDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(BACKENDS)}"
        message = f"unknown backend {name!r}; {hint}"
        raise UsageError(message)
    if not _is_installed(name):
        message = f'{name} is not installed here; pip install "gradcheck[{name}]"'
        raise MissingBackend(message)
    entry = _REGISTRY[name]
    module = importlib.import_module(f"gradcheck.backends.{entry.file}")
    backend: Backend = getattr(module, entry.cls)()
    return backend


def of(*arrays: Any) -> Backend:
    """The backend to which arrays belong; numpy arrays and Python numbers go with any of them."""
    owners = dict.fromkeys(owner for array in arrays for owner in _owners(array))
    others = [owner for owner in owners if owner != "numpy"]
    if len(others) > 1:
        message = (
            f"arrays of {' and '.join(sorted(others))} in one call: "
            "convert them to one framework first, there is no silent transfer between them"
        )
        raise UsageError(message)
    return get(others[0] if others else "numpy")


def in_graph() -> bool:
    """Whether `torch.compile` is reading the code that asks."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.compiler.is_compiling())


def _owners(array: Any) -> list[str]:
    """The frameworks of an array, or of the members of a list."""
    if isinstance(array, (list, tuple)):
        return [owner for member in array for owner in _owners(member)]
    # A subclass (a Parameter, a user's own array) belongs where its base does.
    for cls in type(array).__mro__:
        root = cls.__module__.partition(".")[0]
        if root in _OWNERS and root in sys.modules:
            return [_OWNERS[root]]
    if isinstance(array, (bool, int, float, np.generic)) or hasattr(array, "__array__"):
        return ["numpy"]
    message = (
        f"expected arrays of {', '.join(BACKENDS)} or Python numbers, got {type(array).__name__}"
    )
    raise UsageError(message)
