"""Calling somebody's rule: arrays of its framework go in, whatever it returns comes out, raw."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import backends
from gradcheck.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradcheck.checking.search import Example
    from gradcheck.layers.rule import Rule

    Array = np.ndarray[Any, np.dtype[Any]]


class Caller:
    """A rule in one dtype on one device.

    It sets only what a forward in that dtype needs (64 bits in JAX, full products on GPUs): torch's
    default dtype, say, stays the user's, since a rule that relies on it is wrong.
    """

    def __init__(self, rule: Rule, dtype: str, device: str) -> None:
        self.rule, self.dtype = rule, dtype
        self.backend = backends.get(rule.framework)
        self.device = self.backend.find_device(device)
        self.backend.check_dtype(dtype)
        if rule.prepare is not None:
            rule.prepare(dtype, self.device)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """While it is entered, the framework computes as the check needs it."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(np.errstate(all="ignore"))
            if self.rule.framework == "torch" and self.device != "cpu":
                from gradcheck.backends.torch_precision import full_precision

                stack.enter_context(full_precision())
            elif self.rule.framework == "jax":
                stack.enter_context(self.backend.scope(self.dtype))
            yield

    def array(self, value: Any) -> Any:
        """A fresh array of the framework, contiguous and of its own memory."""
        fresh = np.array(value, order="C")
        return self.backend.asarray_like(self.backend.asarray(fresh, self.dtype, self.device))

    def arrays(self, example: Example) -> dict[str, Any]:
        """Fresh arrays of all inputs."""
        with self.scope():
            return {n: self.array(example.inputs[n]) for n in self.rule.inputs}

    def pull(self, cotangents: Sequence[Any], arrays: dict[str, Any], params: Any) -> Any:
        """What the vjp returns for cotangents of the framework."""
        assert self.rule.vjp is not None
        self.rule.restore()
        with self.scope():
            return self.rule.vjp(tuple(cotangents), arrays, dict(params))

    def push(self, tangents: Sequence[Any], arrays: dict[str, Any], params: Any) -> Any:
        """What the jvp returns for tangents of the framework."""
        assert self.rule.jvp is not None
        self.rule.restore()
        with self.scope():
            return self.rule.jvp(tuple(tangents), arrays, dict(params))

    def forward(self, arrays: dict[str, Any], params: Any) -> list[Array]:
        """The layer's own outputs, on the host."""
        assert self.rule.forward is not None
        self.rule.restore()
        with self.scope():
            return [self.host(o) for o in self.rule.forward(arrays, dict(params))]

    def host(self, raw: Any) -> Array:
        """Whatever came back, as float64 on the host."""
        owner = backends.of(raw)
        value = owner.to_numpy(raw)
        refuse_complex(value, self.rule.name)
        return np.asarray(value, np.float64)

    def dtype_of(self, raw: Any) -> str:
        """The dtype of what came back."""
        return backends.of(raw).dtype_of(raw)


def refuse_complex(value: Any, what: str) -> None:
    """Complex numbers are not supported.

    Raises:
        UsageError: For an array of complex numbers, saying what to write instead.
    """
    if np.iscomplexobj(value):
        raise UsageError(
            f"{what} gives complex numbers, whose derivatives are not verified here; give the real and the "
            "imaginary part as two real outputs, and take complex inputs as two real ones"
        )
