"""JAX: compiled forwards and derivatives, on whatever devices XLA finds.

Every new shape is a new compilation, and a search tries hundreds of shapes. Measured on two cores,
for the Jacobian of a softmax or a layer norm of a few dozen entries: operation by operation it
takes 300 to 900 ms at a new shape (each primitive is compiled alone); `jit(jacrev)` takes 160 to
220 ms; one vjp under vmap, without XLA's optimisations and its newer CPU emitters, 45 to 85 ms,
half of it tracing. Once compiled, a call takes 0.1 to 0.2 ms in any case.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, ClassVar

import jax  # noqa: TID253 - this file is imported only when JAX is asked for
import jax.numpy as jnp  # noqa: TID253
import numpy as np
from jax.scipy.special import erf, logsumexp  # noqa: TID253

from gradcheck.backends.base import (
    Backend,
    check_differentiable,
    is_scalar,
    outputs_of,
    pick_output,
)
from gradcheck.backends.functions import NumpyLike
from gradcheck.backends.jax_memory import adopted, blank
from gradcheck.backends.lending import LentNumpy
from gradcheck.backends.numpy_ import NumpyBackend
from gradcheck.backends.writing import Writing, expanded, pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

# What makes compilation for the host cheap. A jaxlib that no longer knows one of these compiles
# with its defaults: slower, and nothing else changes.
_CHEAP_ON_CPU = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}

# How many compiled programs are kept, and how many cotangent entries go through at a time.
_KEPT = 512
_CHUNK = 1 << 22
_CONSTANT = 64


class JaxFunctions(NumpyLike):
    """The documented names in jax.numpy."""

    def __init__(self, dtype: str, device: str) -> None:
        super().__init__(jnp, dtype, device)
        self.erf = erf

    def logsumexp(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        """Log Σ exp, JAX's own."""
        return logsumexp(self.lift(x), axis=axis, keepdims=keepdims)

    def asarray(self, x: Any) -> Any:
        """An array in the namespace's dtype, traced or not."""
        return jnp.asarray(x, dtype=self.dtype)


_UNARY = (
    "exp",
    "expm1",
    "log",
    "log1p",
    "sqrt",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "tanh",
    "abs",
)
_DIRECT = {
    **{f"{p}.{n}": f"jnp.{n}({{0}})" for n in _UNARY for p in ("xp", "f")},
    "xp.sum": "jnp.sum({0}, axis={axis}, keepdims={keepdims})",
    "matmul": "jnp.matmul({0}, {1})",
    "dot turned": "jnp.tensordot({0}, {1}, axes=((0,), (0,)))",
    "transpose": "jnp.transpose({0}, {1})",
    "turned": "{0}.T",
    "copy": "jnp.array({0})",
    "zeros": "jnp.zeros({shape}, {dtype})",
    "full": "jnp.full({shape}, {0}, {dtype})",
    "diagonal": "jnp.einsum({equation}, {0})",
}


# Matrices of at most so many columns are narrow; products of fewer entries than these gain nothing.
_NARROW, _WORTH_IT = 64, 1 << 14
_FEW = 8


def transposed_times(left: Any, right: Any) -> Any:
    """left.T @ right, on the host.

    Where one of the two is narrow, XLA contracts first axes two to three times slower than it multiplies
    rows by columns: the narrow one is then turned around by itself, which the barriers keep apart.
    """
    (rows, across), down = left.shape, right.shape[1]
    alone = jax.lax.optimization_barrier
    if min(across, down) > _NARROW or rows * max(across, down) < _WORTH_IT:
        return jnp.tensordot(left, right, axes=((0,), (0,)))
    if down <= across:
        return alone(jnp.matmul(alone(right.T), left)).T
    return jnp.matmul(alone(left.T), right)


def column_sums(array: Any) -> Any:
    """array.sum(0), on the host.

    Of a sum over the rows of few columns XLA makes two kernels, and of a product with ones a single one.
    """
    if array.shape[1] > _FEW or array.dtype.kind != "f":
        return jnp.sum(array, axis=0)
    return jnp.matmul(jnp.ones(array.shape[0], array.dtype), array)


def spread(core: Any, places: tuple[int, ...], shape: tuple[int, ...], dtype: str) -> Any:
    """`core` where the axes of one letter agree, and zero elsewhere: XLA writes each entry once."""
    mask: Any = True
    for first, other in pairs(places):
        mask = mask & (
            jax.lax.broadcasted_iota("int32", shape, first)
            == jax.lax.broadcasted_iota("int32", shape, other)
        )
    if hasattr(core, "shape"):  # computed once, not again for each entry, most of which are zero
        core = jax.lax.optimization_barrier(core)
    values = expanded(core, places)
    return jnp.where(mask, values, jnp.zeros(shape, dtype))


_VALUES_WANTED = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


class _Jitted:
    """A function compiled by XLA, or as it is where it looks at values."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.plain, self.fastest = function, jax.jit(function)

    def __call__(self, *arrays: Any) -> Any:
        try:
            return self.fastest(*arrays)
        except _VALUES_WANTED:
            if self.fastest is self.plain:
                raise
            self.fastest = self.plain
        return self.plain(*arrays)


class JaxBackend(Backend):
    """JAX on the host or on a GPU."""

    name: ClassVar[str] = "jax"
    package: ClassVar[str] = "jax"
    _opt_einsum: ClassVar[str] = "jax"

    def __init__(self) -> None:
        super().__init__()
        self._compiled: OrderedDict[Hashable, Any] = OrderedDict()
        self._lender = LentNumpy(blank)

    def devices(self) -> list[str]:
        """The host, and the GPUs that JAX sees."""
        return ["cpu", *(f"cuda:{i}" for i in range(len(_gpus())))]

    def _device(self, device: str) -> Any:
        kind, _, index = self.find_device(device).partition(":")
        return jax.local_devices(backend="cpu")[0] if kind == "cpu" else _gpus()[int(index)]

    def _functions(self, dtype: str, device: str) -> NumpyLike:
        return JaxFunctions(dtype, device)

    def writing(self, dtype: str, device: str) -> Writing:
        """How a program for JAX arrays is written; it is traced by `jit`."""
        wide = ["config.jax_enable_x64"] if dtype == "float64" else []
        own = {"dot turned": "transposed_times({0}, {1})", "sum first": "column_sums({0})"}
        on_host = own if device == "cpu" else {}
        return Writing(
            direct={**_DIRECT, **on_host},
            guard="{n}.__class__ is Array and {n}.shape == {shape} and {n}.dtype is {dtype}",
            also=lambda _: wide,
            calls={
                "jnp": jnp,
                "Array": type(jnp.zeros(())),
                "config": jax.config,
                "spread": spread,
                "transposed_times": transposed_times,
                "column_sums": column_sums,
                dtype: jnp.dtype(dtype),
            },
        )

    traces: ClassVar[bool] = True

    def jitted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compiled by XLA; a function that looks at values is run operation by operation."""
        return _Jitted(function)

    def lender(self, *arrays: Any) -> Backend | None:
        """NumPy, for arrays on the host that nobody traces."""
        plain = all(isinstance(a, jax.Array) and not isinstance(a, jax.core.Tracer) for a in arrays)
        lent = plain and all(self.device_of(a) == "cpu" for a in arrays)
        known = all(str(a.dtype) in (*NumpyBackend.dtypes, "int32", "int64") for a in arrays)
        return self._lender if lent and known else None

    def adopted(self, array: Any) -> Any:
        """A NumPy array as JAX's, in the same memory."""
        return adopted(array)

    def widths(self, dtype: str) -> contextlib.AbstractContextManager[Any]:
        """64 bits for arrays of 64 bits, in a process whose default is 32."""
        narrow = dtype == "float64" and not jax.config.jax_enable_x64
        return jax.enable_x64(True) if narrow else contextlib.nullcontext()

    @contextlib.contextmanager
    def scope(self, dtype: str) -> Iterator[None]:
        """64 bits exactly where asked for, and products at full precision, in this thread only."""
        wide = self.check_dtype(dtype) == "float64"
        with jax.enable_x64(wide), jax.default_matmul_precision("highest"):
            yield

    def asarray(self, value: Any, dtype: str, device: str = "cpu") -> Any:
        """A JAX array; integers have the width of the scope."""
        if isinstance(value, jax.Array):  # traced or not: it never passes through the host
            value = value if value.dtype.kind in "biu" else value.astype(self.check_dtype(dtype))
            traced = isinstance(value, jax.core.Tracer)
            return value if traced else jax.device_put(value, self._device(device))
        with self.scope(dtype):
            return jax.device_put(self._host_array(value, dtype), self._device(device))

    def _host_array(self, value: Any, dtype: str) -> np.ndarray:
        """A numpy array of exactly the type that the compiled program will take."""
        array = np.asarray(value)
        if array.dtype.kind == "b":
            return array
        if array.dtype.kind in "iu":
            return array.astype(np.int64 if dtype == "float64" else np.int32)
        return array.astype(jnp.dtype(dtype))

    def to_numpy(self, array: Any) -> np.ndarray:
        """The values on the host."""
        if getattr(array, "dtype", None) == jnp.bfloat16:
            return np.asarray(array).astype(np.float32)
        return np.asarray(array)

    def device_of(self, array: Any) -> str:
        """The device on which the array lies; a traced array lies on the default one."""
        if isinstance(array, jax.core.Tracer) or not isinstance(array, jax.Array):
            return "cpu" if jax.default_backend() == "cpu" else "cuda:0"
        device = min(array.devices(), key=lambda d: d.id)
        return "cpu" if device.platform == "cpu" else f"cuda:{_gpus().index(device)}"

    def apply(
        self,
        fn: Callable[..., Any],
        arrays: Sequence[Any],
        dtype: str,
        device: str = "cpu",
        *,
        key: Hashable | None = None,
    ) -> list[np.ndarray]:
        """The outputs, from one compiled program."""

        def forward(*inputs: Any) -> tuple[Any, ...]:
            return _arrays(fn(self.namespace(dtype, device), *inputs), dtype)

        with self.scope(dtype), jax.default_device(self._device(device)):
            inputs = [self._host_array(array, dtype) for array in arrays]
            program = self._program(forward, inputs, device, (key, "apply", dtype, device))
            return [self._host(value, dtype) for value in program(*inputs)]

    def derivative(
        self,
        fn: Callable[..., Any],
        arrays: Sequence[Any],
        wrt: int,
        *,
        output: int = 0,
        dtype: str = "float64",
        device: str = "cpu",
        key: Hashable | None = None,
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """One compiled program for the outputs and all rows: a vjp under vmap."""
        check_differentiable(arrays, wrt)

        def program(start: Any, *inputs: Any) -> tuple[tuple[Any, ...], Any]:
            def chosen(x: Any) -> tuple[Any, tuple[Any, ...]]:
                arguments = (*inputs[:wrt], x, *inputs[wrt + 1 :])
                results = _arrays(fn(self.namespace(dtype, device), *arguments), dtype)
                return pick_output(results, output), results

            value, pull, results = jax.vjp(chosen, inputs[wrt], has_aux=True)
            return results, _rows(value, pull, inputs[wrt], start)

        with self.scope(dtype), jax.default_device(self._device(device)):
            inputs = [self._host_array(array, dtype) for array in arrays]
            place = (key, wrt, output, dtype, device)
            run = self._program(program, [np.int32(0), *inputs], device, place)
            results, rows = run(np.int32(0), *inputs)
            size = results[output].size
            # The same program for each further chunk: one compilation, however large.
            starts = range(len(rows), size, max(1, len(rows)))
            chunks = [rows, *(run(np.int32(start), *inputs)[1] for start in starts)]
            jacobian = np.concatenate([self._host(chunk, dtype) for chunk in chunks])[:size]
            outputs = [self._host(value, dtype) for value in results]
        return outputs, jacobian.reshape(results[output].shape + inputs[wrt].shape)

    def _program(
        self, function: Callable[..., Any], inputs: Sequence[Any], device: str, place: Any
    ) -> Callable[..., Any]:
        """The function compiled for these shapes, kept if its place has a key."""
        kept = (place, _signature(inputs))
        if place[0] is not None and kept in self._compiled:
            self._compiled.move_to_end(kept)
            found: Callable[..., Any] = self._compiled[kept]
            return found
        lowered = jax.jit(function).lower(*inputs)
        program = _compile(lowered, cheap=self.find_device(device) == "cpu")
        if place[0] is not None:
            self._keep(kept, program)
        return program

    def _keep(self, kept: Hashable, value: Any) -> None:
        self._compiled[kept] = value
        while len(self._compiled) > _KEPT:
            self._compiled.popitem(last=False)

    # ---- the user's own arrays

    def _plain_einsum(self, equation: str, *arrays: Any) -> Any:
        return jnp.einsum(equation, *arrays)

    def _step(self, x: Any) -> Any:
        return (x > 0).astype(x.dtype)

    def asarray_like(self, value: Any) -> Any:
        """A JAX array as it is, traced or not; anything else in its own dtype."""
        return value if isinstance(value, jax.Array) else jnp.asarray(value)

    def full(self, shape: tuple[int, ...], value: float, like: Any = None) -> Any:
        """A constant array in the dtype of another; it follows the arrays with which it meets."""
        return jnp.full(shape, value, dtype=float if like is None else like.dtype)

    def one_hot(self, labels: Any, size: int, like: Any) -> Any:
        """Labels as indicators in the dtype of `like`."""
        labels = jnp.asarray(labels)
        return (labels[..., None] == jnp.arange(size)).astype(like.dtype)

    def _transpose(self, x: Any, axes: Sequence[int]) -> Any:
        return jnp.transpose(x, axes)

    def _add_diagonal(self, out: Any, core: Any, places: Sequence[int]) -> Any:
        if len(places) == core.ndim:
            return out + core
        grids = np.ogrid[tuple(slice(n) for n in core.shape)]
        return out.at[tuple(grids[place] for place in places)].add(core)


def _rows(value: Any, pull: Callable[..., Any], x: Any, start: Any) -> Any:
    """The rows of the Jacobian from `start` on, as many as fit into a chunk."""
    step = max(1, min(value.size, _CHUNK // max(1, value.size)))
    if not value.size or not x.size or not jnp.issubdtype(value.dtype, jnp.floating):
        return jnp.zeros((value.size, *x.shape), dtype=x.dtype)
    if value.size <= _CONSTANT:  # a literal basis compiles a little faster than a computed one
        basis = jnp.asarray(np.eye(value.size, dtype=value.dtype))
    else:
        basis = ((start + jnp.arange(step))[:, None] == jnp.arange(value.size)).astype(value.dtype)
    return jax.vmap(pull)(basis.reshape((step, *value.shape)))[0]


def _gpus() -> list[Any]:
    try:
        return list(jax.local_devices(backend="gpu"))
    except RuntimeError:  # JAX's way to say that there is no such platform
        return []


def _arrays(result: Any, dtype: str) -> tuple[Any, ...]:
    """The outputs as arrays; Python numbers take the dtype of the namespace."""
    return tuple(
        jnp.asarray(value, dtype=dtype) if is_scalar(value) else jnp.asarray(value)
        for value in outputs_of(result)
    )


def _signature(inputs: Sequence[Any]) -> tuple[Any, ...]:
    return tuple((array.shape, str(array.dtype)) for array in inputs)


def _compile(lowered: Any, *, cheap: bool) -> Callable[..., Any]:
    options = _CHEAP_ON_CPU if cheap else None
    program: Callable[..., Any]
    try:
        program = lowered.compile(compiler_options=options)
    except (RuntimeError, ValueError):
        if options is None:
            raise
        program = lowered.compile()
    return program
