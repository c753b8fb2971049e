"""JAX functions as rules: `jax.custom_vjp` and `jax.custom_jvp` raw, any other through `jax.vjp`.

Each new shape costs JAX most of a second when it runs operation by operation, so that what traces is
compiled; what does not (a rule that computes in NumPy) runs as it is.
"""

from __future__ import annotations

import inspect
import zlib
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import backends
from gradcheck.errors import UsageError
from gradcheck.layers.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.layers.reference import Reference

    Arrays = dict[str, Any]

_SERIALS = count()


def rule_of_jax(layer: Any, reference: Reference, name: str) -> Rule:
    """A function on JAX arrays, called with the inputs by place and the parameters by name.

    The parts of a `custom_vjp` are called directly, and so is the rule of a `custom_jvp`: what they
    return has then passed through no check of JAX's.
    """
    import jax

    calls = _Calls(layer, reference)
    if isinstance(layer, jax.custom_vjp) and not layer.symbolic_zeros:
        _check_defined(layer, name, "bwd")
        return _rule(reference, name, calls.forward_of_both, calls.pulled_raw, None, raw=True)
    if isinstance(layer, jax.custom_jvp):
        _check_defined(layer, name, "jvp")
        vjp = calls.pulled if calls.transposes() else None
        return _rule(reference, name, calls.forward, vjp, calls.pushed_raw, raw=False)
    return _rule(reference, name, calls.forward, calls.pulled, None, raw=False)


def _check_defined(layer: Any, name: str, part: str) -> None:
    if getattr(layer, part, None) is None:
        what = "defvjp(fwd, bwd)" if part == "bwd" else "defjvp(rule)"
        raise UsageError(f"{name} has no rule yet: call {name}.{what} before it is verified")


def _rule(reference: Reference, name: str, forward: Any, vjp: Any, jvp: Any, *, raw: bool) -> Rule:
    return Rule(
        name,
        "layer",
        "jax",
        reference.inputs,
        tuple(n for n, d in reference.inputs.items() if d.differentiable),
        reference.params,
        reference.where,
        reference.outputs,
        forward,
        vjp,
        jvp,
        raw=raw,
    )


class _Calls:
    """The ways in which a JAX function is called; each traced and compiled once for its shapes."""

    def __init__(self, layer: Any, reference: Reference) -> None:
        self.layer, self.reference = layer, reference
        self.names = [n for n, d in reference.inputs.items() if d.differentiable]
        self.serial = next(_SERIALS)
        self.untraceable: set[str] = set()

    # ------------------------------------------------------------------ values

    def forward(self, arrays: Arrays, params: dict[str, Any]) -> Any:
        """What the function gives."""
        return self._run("value", self._value, arrays, params)

    def forward_of_both(self, arrays: Arrays, params: dict[str, Any]) -> Any:
        """What the function gives, or what its `fwd` does: they are two pieces of code.

        The second is what is computed where a gradient is taken. Which of them is looked at is drawn
        from the example, the same for the same example.
        """
        drawn = zlib.crc32(b"".join(np.asarray(a).tobytes() for a in arrays.values()))
        which = self._value if drawn % 2 else self._value_of_fwd
        return self._run(which.__name__, which, arrays, params)

    def _value(self, arrays: Arrays, params: dict[str, Any]) -> tuple[Any, ...]:
        return _outputs(self.layer(*arrays.values(), **params))

    def _value_of_fwd(self, arrays: Arrays, params: dict[str, Any]) -> tuple[Any, ...]:
        return _outputs(_pair(self.layer.fwd(*self._placed(arrays, params)))[0])

    # ------------------------------------------------------------------ reverse mode

    def pulled(self, cotangents: tuple[Any, ...], arrays: Arrays, params: dict[str, Any]) -> Any:
        """The gradients as JAX hands them out."""

        def pulled(arrays: Arrays, params: dict[str, Any], *vectors: Any) -> Any:
            import jax

            def function(*moving: Any) -> Any:
                given = {**arrays, **dict(zip(self.names, moving, strict=True))}
                return self.layer(*given.values(), **params)

            value, pull = jax.vjp(function, *(arrays[n] for n in self.names))
            return tuple(pull(_like(value, vectors)))

        return self._run("pulled", pulled, arrays, params, cotangents)

    def pulled_raw(
        self, cotangents: tuple[Any, ...], arrays: Arrays, params: dict[str, Any]
    ) -> Any:
        """What `bwd` returns, for the inputs that are differentiable."""
        return self._run("pulled_raw", self._pulled_raw, arrays, params, cotangents)

    def _pulled_raw(self, arrays: Arrays, params: dict[str, Any], *vectors: Any) -> Any:
        args = self._placed(arrays, params)
        static = self._static(len(args))
        value, kept = _pair(self.layer.fwd(*args))
        fixed = [args[i] for i in static]
        raw = self.layer.bwd(*fixed, kept, _like(value, vectors))
        if not isinstance(raw, tuple | list):
            raise RuntimeError(  # noqa: TRY004  not one that means that it cannot be traced
                "bwd returned what is no tuple, which JAX refuses: it must return a tuple with one "
                "gradient for each argument, such as (gradient,)"
            )
        raw = tuple(raw)
        moving = [n for i, n in enumerate(self._labels(args, arrays)) if i not in static]
        if len(raw) != len(moving):
            if moving == self.names:
                return raw
            raise RuntimeError(
                f"bwd returned {len(raw)} gradients for the {len(moving)} arguments {', '.join(moving)}; "
                "it must return one for each that is not among nondiff_argnums, None for a constant"
            )
        return tuple(g for n, g in zip(moving, raw, strict=True) if n in self.names)

    # ------------------------------------------------------------------ forward mode

    def pushed_raw(self, tangents: tuple[Any, ...], arrays: Arrays, params: dict[str, Any]) -> Any:
        """What the rule of a `custom_jvp` returns."""
        return self._run("pushed_raw", self._pushed_raw, arrays, params, tangents)

    def _pushed_raw(self, arrays: Arrays, params: dict[str, Any], *vectors: Any) -> Any:
        args = self._placed(arrays, params)
        static = self._static(len(args))
        given = dict(zip(self.names, vectors, strict=True))
        labels = self._labels(args, arrays)
        moving = [i for i in range(len(args)) if i not in static]
        tangents = tuple(given.get(labels[i], _still(args[i])) for i in moving)
        fixed = [args[i] for i in static]
        found = self.layer.jvp(*fixed, tuple(args[i] for i in moving), tangents)
        return _outputs(_pair(found)[1])

    def transposes(self) -> bool:
        """Whether JAX can turn the jvp around; tried at the simplest inputs."""
        import jax

        try:
            arrays, params = simplest(self.reference)
            with backends.get("jax").scope("float64"):
                value = jax.eval_shape(lambda: self._value(arrays, params))
                ones = tuple(jax.numpy.ones(v.shape, v.dtype) for v in value)
                self.pulled(ones, arrays, params)
        except Exception:  # noqa: BLE001  whatever it is, there is no reverse mode
            return False
        return True

    # ------------------------------------------------------------------ calling

    def _placed(self, arrays: Arrays, params: dict[str, Any]) -> list[Any]:
        """All arguments by place, as `fwd`, `bwd` and the jvp rule take them."""
        try:
            bound = inspect.signature(self.layer.fun).bind(*arrays.values(), **params)
        except (TypeError, ValueError):
            return [*arrays.values(), *params.values()]
        bound.apply_defaults()
        return [*bound.args, *bound.kwargs.values()]

    def _labels(self, args: Sequence[Any], arrays: Arrays) -> list[str]:
        """The name of each argument: an input's, or that it is a parameter."""
        return [*arrays, *(f"parameter {i}" for i in range(len(args) - len(arrays)))]

    def _static(self, count: int) -> tuple[int, ...]:
        return tuple(i % count for i in self.layer.nondiff_argnums)

    def _run(
        self,
        name: str,
        function: Callable[..., Any],
        arrays: Arrays,
        params: dict[str, Any],
        vectors: Sequence[Any] = (),
    ) -> Any:
        """`function(arrays, params, *vectors)`, compiled where it traces."""
        if name in self.untraceable:
            return function(arrays, params, *vectors)
        names, backend = list(arrays), backends.get("jax")
        inputs = [*arrays.values(), *vectors]

        def flat(*given: Any) -> Any:
            return function(dict(zip(names, given, strict=False)), params, *given[len(names) :])

        device = backend.device_of(inputs[0])
        place = ((self.serial, name, tuple(params.items())), name, 0, device)
        try:
            return backend._program(flat, inputs, device, place)(*inputs)  # type: ignore[attr-defined]
        except (TypeError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and str(error).startswith("bwd returned"):
                raise
            self.untraceable.add(name)  # it computes in NumPy, or returns what is no array
            return function(arrays, params, *vectors)


def simplest(reference: Reference) -> tuple[Arrays, dict[str, Any]]:
    """The simplest arrays of all inputs at sizes that are all different, as JAX arrays."""
    from gradcheck.algebra.shapes import axes_of

    axes = dict.fromkeys(a for d in reference.inputs.values() for a in axes_of(d.shape))
    sizes = {a: 2 + i for i, a in enumerate(axes)}
    sizes.update({f"#{a}": n for a, n in sizes.items()})
    params = {n: p.simplest() for n, p in reference.params.items()}
    backend = backends.get("jax")
    values = {n: d.simplest(sizes, params) for n, d in reference.inputs.items()}
    return {n: backend.asarray(v, "float64") for n, v in values.items()}, params


def _outputs(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _pair(found: Any) -> tuple[Any, Any]:
    """What a `fwd` or a jvp rule returns: two things."""
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise RuntimeError(
            "a custom_vjp's fwd returns (output, residuals), and a custom_jvp's rule (output, tangent); "
            f"this one returned {type(found).__name__}"
            + (f" of {len(found)}" if isinstance(found, tuple | list) else "")
        )
    return found[0], found[1]


def _like(value: Any, vectors: Sequence[Any]) -> Any:
    """Cotangents in the structure of the outputs."""
    if hasattr(value, "_fields"):
        return type(value)(*vectors)  # a named tuple
    if isinstance(value, tuple | list):
        return type(value)(vectors)
    return vectors[0]


def _still(value: Any) -> Any:
    """The tangent of something that does not move; of integers, as JAX wants it."""
    import jax

    array = jax.numpy.asarray(value)
    if array.dtype.kind in "biu":
        return np.zeros(array.shape, jax.dtypes.float0)
    return jax.numpy.zeros_like(array)
