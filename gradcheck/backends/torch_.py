"""torch: eager forwards, reverse mode differentiation, on the host and on CUDA devices."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch  # noqa: TID253 - this file is imported only when torch is asked for

from gradcheck.backends.base import (
    Backend,
    check_differentiable,
    is_scalar,
    outputs_of,
    pick_output,
)
from gradcheck.backends.torch_functions import TorchFunctions, WideIntegers, same_type
from gradcheck.backends.torch_precision import full_precision
from gradcheck.backends.writing import Writing, expanded, pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

# From so many rows on, one batched backward pass is tried before going row by row: 0.2 ms against
# 2 ms for a softmax of (4, 5). Where an operation has no batched rule torch says so, and each row
# then has its own pass.
_BATCH_FROM = 2

# How many numbers a batch holds. On the host it stays below the size from which torch divides an
# operation among threads: on a busy machine those wait for one another (150 ms against 1 ms for a
# softmax of (33, 8)), and the number of threads is the user's to set.
_CPU_CHUNK = 1 << 15
_GPU_CHUNK = 1 << 24


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
    **{f"{p}.{n}": f"torch.{n}({{0}})" for n in _UNARY for p in ("xp", "f")},
    "xp.square": "torch.square({0})",
    "xp.sum": "torch.sum({0}, {axis}, {keepdims})",
    "xp.max": "torch.amax({0}, {axis}, {keepdims})",
    "xp.min": "torch.amin({0}, {axis}, {keepdims})",
    "matmul": "torch.matmul({0}, {1})",
    "dot": "torch.mm({0}, {1})",
    "addmm": "torch.addmm({0}, {1}, {2})",
    "softmax": "torch.softmax({0}, {1})",
    "unsqueezed": "{0}.unsqueeze({1})",
    "transpose": "{0}.permute({1})",
    "turned": "{0}.t()",
    "copy": "{0}.clone()",
    "settled": "{0}.contiguous()",
    "settled copy": "{0}.clone(memory_format=torch.contiguous_format)",
    "zeros": "torch.zeros({shape}, dtype={dtype}, device={device})",
    "full": "torch.full({shape}, {0}, dtype={dtype}, device={device})",
    "diagonal": "torch.einsum({equation}, {0})",
}
_ON_HOST = {"softmax of columns": "torch.softmax({0}.t(), 0).t()"}
_INTO = {
    "add": "{out}.add_({other})",
    "subtract": "torch.sub({0}, {1}, out={out})",
    "subtract first": "{out}.sub_({1})",
    "multiply": "{out}.mul_({other})",
    "divide": "torch.div({0}, {1}, out={out})",
    "divide first": "{out}.div_({1})",
    "negative": "{out}.neg_()",
    "add over": "torch.add({0}, {1}, out={out})",
    "subtract over": "torch.sub({0}, {1}, out={out})",
    "multiply over": "torch.mul({0}, {1}, out={out})",
    "divide over": "torch.div({0}, {1}, out={out})",
    "negative over": "torch.neg({0}, out={out})",
    **{f"{p}.{n} over": f"torch.{n}({{0}}, out={{out}})" for n in _UNARY for p in ("xp", "f")},
    **{f"{p}.{n}": f"{{out}}.{n}_()" for n in (*_UNARY, "square") for p in ("xp", "f")},
}

# Types that torch stores, but neither compares nor adds.
_UNSIGNED = frozenset({torch.uint16, torch.uint32, torch.uint64})


def spread(core: Any, places: tuple[int, ...], shape: tuple[int, ...], like: Any) -> Any:
    """`core` where the axes of one letter agree, and zero elsewhere, in one new tensor."""
    grid = [
        torch.arange(n, device=like.device).reshape(
            [-1 if j == i else 1 for j in range(len(shape))]
        )
        for i, n in enumerate(shape)
    ]
    mask = torch.ones((), dtype=torch.bool, device=like.device)
    for first, other in pairs(places):
        mask = mask & (grid[first] == grid[other])
    values = expanded(core, places)
    zeros = torch.zeros(shape, dtype=like.dtype, device=like.device)
    return torch.where(mask, values, zeros)


def _untracked(names: list[str]) -> list[str]:
    """Tests that torch neither records nor transforms what is done to the arguments."""
    required = " or ".join(f"{n}.requires_grad" for n in names)
    return ["transform() is None", f"not (({required}) and torch.is_grad_enabled())"]


class TorchBackend(Backend):
    """torch on the host or on CUDA devices."""

    name: ClassVar[str] = "torch"
    package: ClassVar[str] = "torch"
    _opt_einsum: ClassVar[str] = "torch"

    def devices(self) -> list[str]:
        """The host, and the CUDA devices that torch sees."""
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return ["cpu", *(f"cuda:{i}" for i in range(count))]

    def _functions(self, dtype: str, device: str) -> TorchFunctions:
        return TorchFunctions(dtype, device)

    def writing(self, dtype: str, device: str) -> Writing:
        """How a program for tensors is written."""
        like = torch.empty((), dtype=getattr(torch, dtype), device=device)
        # torch writes every zero; the system hands NumPy pages that are zero until they are written.
        lazy = like.device.type == "cpu" and dtype in ("float32", "float64")

        def spread_like(core: Any, places: tuple[int, ...], shape: tuple[int, ...], _: Any) -> Any:
            return spread(core, places, shape, like)

        return Writing(
            direct={**_DIRECT, **(_ON_HOST if lazy else {})},
            into=_INTO,
            guard="{n}.__class__ is torch.Tensor and {n}.shape == {shape} and {n}.dtype is {dtype}"
            " and {n}.device == {device}",
            blank="torch.from_numpy(np.zeros({shape}, '{dtype}'))" if lazy else "",
            view="{out}.as_strided({shape}, {strides})",
            assign="{view}.copy_({0})",
            also=_untracked,
            calls={
                "torch": torch,
                "np": np,
                "transform": torch._C._functorch.peek_interpreter_stack,
                "spread": spread_like,
                dtype: like.dtype,
                "device": like.device,
            },
            fused=True,
        )

    def can_write(self, *arrays: Any) -> bool:
        """Whether temporaries may be written into: not where torch records or transforms."""
        if torch._C._functorch.peek_interpreter_stack() is not None:
            return False
        return not (torch.is_grad_enabled() and any(a.requires_grad for a in arrays))

    @contextlib.contextmanager
    def scope(self, dtype: str) -> Iterator[None]:
        """float64 for constants too, in this thread; on CUDA, products without TF32."""
        wide = self.check_dtype(dtype) == "float64"
        with contextlib.ExitStack() as stack:
            if torch.cuda.is_available():
                stack.enter_context(full_precision())
            if wide and torch.get_default_dtype() is not torch.float64:
                stack.enter_context(WideIntegers())
            yield

    def asarray(self, value: Any, dtype: str, device: str = "cpu") -> Any:
        """A tensor; a tensor keeps its graph."""
        device = self.find_device(device)
        if not isinstance(value, torch.Tensor):
            # A copy: torch refuses negative strides, and must not write into the caller's array.
            value = torch.from_numpy(np.array(value, order="C"))
        kept = torch.int64 if value.dtype in _UNSIGNED else None
        real = value.is_floating_point()
        return value.to(
            device=device, dtype=getattr(torch, self.check_dtype(dtype)) if real else kept
        )

    def to_numpy(self, array: Any) -> np.ndarray:
        """The values on the host."""
        if not isinstance(array, torch.Tensor):
            return np.asarray(array)
        array = array.detach().cpu().resolve_neg().resolve_conj()
        value: np.ndarray = (array.float() if array.dtype is torch.bfloat16 else array).numpy()
        return value

    def device_of(self, array: Any) -> str:
        """The device on which the tensor lies."""
        device = getattr(array, "device", torch.device("cpu"))
        return "cpu" if device.type == "cpu" else f"{device.type}:{device.index or 0}"

    def dtype_of(self, array: Any) -> str:
        """The name of the dtype, without torch's prefix."""
        if not isinstance(array, torch.Tensor):
            return super().dtype_of(array)
        return str(array.dtype).removeprefix("torch.")

    def derivative(
        self,
        fn: Callable[..., Any],
        arrays: Sequence[Any],
        wrt: int,
        *,
        output: int = 0,
        dtype: str = "float64",
        device: str = "cpu",
        key: Hashable | None = None,  # noqa: ARG002 - nothing is compiled
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """One forward, and a backward pass for each entry of the output."""
        check_differentiable(arrays, wrt)
        with self.scope(dtype), torch.enable_grad():
            inputs = [self.asarray(array, dtype, device).detach() for array in arrays]
            x = inputs[wrt] = inputs[wrt].clone().requires_grad_()
            results = outputs_of(fn(self.namespace(dtype, device), *inputs))
            value = pick_output(results, output)
            rows = self._rows(value, x)
        shape = tuple(getattr(value, "shape", ())) + tuple(x.shape)
        outputs = [self._host(result, dtype) for result in results]
        return outputs, self._host(rows, dtype).reshape(shape)

    def _rows(self, value: Any, x: Any) -> Any:
        size = value.numel() if isinstance(value, torch.Tensor) else 1
        if not size or not x.numel() or not getattr(value, "requires_grad", False):
            return torch.zeros((size, *x.shape), dtype=x.dtype)
        if size >= _BATCH_FROM:
            rows = _batched_rows(value, x)
            if rows is not None:
                return rows
        basis = torch.eye(size, dtype=value.dtype, device=value.device).reshape(size, *value.shape)
        rows = []
        for cotangent in basis:
            (row,) = torch.autograd.grad(value, x, cotangent, retain_graph=True, allow_unused=True)
            rows.append(torch.zeros_like(x) if row is None else row)
        return torch.stack(rows)

    # ---- the user's own arrays

    def einsum(self, equation: str, *arrays: Any) -> Any:
        """The contraction of tensors where they lie, in their common type."""
        return super().einsum(equation, *same_type(self.lift(arrays)))

    def _plain_einsum(self, equation: str, *arrays: Any) -> Any:
        return torch.einsum(equation, *arrays)

    def function(self, name: str) -> Callable[[Any], Any]:
        """A function of the notation; integers are computed with in torch's default dtype."""
        function = super().function(name)
        if name == "step":
            return function

        def typed(x: Any) -> Any:
            if is_scalar(x) or not x.is_floating_point():
                return function(x)
            return getattr(self.namespace(self.dtype_of(x), self.device_of(x)), name)(x)

        return typed

    def _step(self, x: Any) -> Any:
        return (x > 0).to(x.dtype)

    def asarray_like(self, value: Any) -> Any:
        """A tensor as it is; anything else as a tensor in its own dtype."""
        if isinstance(value, torch.Tensor):
            return value
        return torch.as_tensor(np.asarray(value))

    def full(self, shape: tuple[int, ...], value: float, like: Any = None) -> Any:
        """A constant tensor in the dtype and on the device of another."""
        if like is None:
            return torch.full(shape, value, dtype=torch.float64)
        return torch.full(shape, value, dtype=like.dtype, device=like.device)

    def one_hot(self, labels: Any, size: int, like: Any) -> Any:
        """Labels as indicators in the dtype and on the device of `like`."""
        labels = torch.as_tensor(labels, device=like.device)
        return (labels[..., None] == torch.arange(size, device=like.device)).to(like.dtype)

    def _transpose(self, x: Any, axes: Sequence[int]) -> Any:
        return torch.permute(x, tuple(axes))

    def _add_diagonal(self, out: Any, core: Any, places: Sequence[int]) -> Any:
        view, axes = out, list(places)
        # Each diagonal is a view: its axis moves to the end, and the two that it joins are gone.
        while len(axes) > core.ndim:
            place = next(a for a in axes if axes.count(a) > 1)
            first = axes.index(place)
            second = axes.index(place, first + 1)
            view = torch.diagonal(view, dim1=first, dim2=second)
            axes = [a for i, a in enumerate(axes) if i not in (first, second)] + [place]
        view.add_(torch.permute(core, tuple(axes)))
        return out


def _batched_rows(value: Any, x: Any) -> Any:
    """The rows by backward passes under vmap, or None where an operation has no batched rule."""
    size = value.numel()
    room = _CPU_CHUNK if value.device.type == "cpu" else _GPU_CHUNK
    step = max(1, min(size, room // max(size, x.numel())))
    try:
        chunks = [_batch(value, x, start, step) for start in range(0, size, step)]
    except (RuntimeError, NotImplementedError, UserWarning):
        return None
    return torch.cat(chunks)


def _batch(value: Any, x: Any, start: int, step: int) -> Any:
    """Rows `start` to `start + step`, by one backward pass."""
    count = min(step, value.numel() - start)
    basis = torch.zeros((count, value.numel()), dtype=value.dtype, device=value.device)
    basis.diagonal(start).fill_(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where it would fall back to a slow loop
        (rows,) = torch.autograd.grad(
            value,
            x,
            basis.reshape(count, *value.shape),
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=True,
        )
    return rows if rows is not None else torch.zeros((count, *x.shape), dtype=x.dtype)
