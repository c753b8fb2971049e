"""A spec or chain as a `torch.autograd.Function` whose backward pass is the derivation."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradcheck.errors import UsageError
from gradcheck.layers.rules_out import Forwarded, FrameworkRule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradcheck.layers.rules_out import RuleOut
    from gradcheck.operation import Operation


def as_torch(target: Operation | str) -> TorchRule:
    """A spec or chain as a torch function that is differentiated by its hand-derived rule.

    The function takes tensors for the inputs, in order or by name, and the parameters by name; it works
    in training loops beside any `torch.nn.Module`, on the device where the tensors lie. Only gradients
    that are asked for are computed. It can be differentiated again (`create_graph=True`), forwards
    (`torch.autograd.forward_ad`) and under `torch.func`: `grad`, `vmap`, `jvp`, `jacfwd(jacrev(f))`, but not
    forwards twice, which torch does for no custom function.

    Args:
        target: A spec, a chain, or the name of one as on the command line.

    Returns:
        A callable; its attribute `function` is the `torch.autograd.Function`.

    Raises:
        UsageError: Where a derivative is missing, naming it.
    """
    return TorchRule(target)


class TorchRule(FrameworkRule):
    """A function on tensors with a hand-derived backward pass; made by `as_torch`.

    Attributes:
        function: The `torch.autograd.Function`.
        operation: The spec or chain.
        framework: "torch".
    """

    framework = "torch"
    _shown = "torch"
    _hook = "torch.autograd.Function"

    def __init__(self, target: Operation | str) -> None:
        super().__init__(target)
        self.function = _function_of(self._rule, self.backend)
        self.function.__name__ = self.function.__qualname__ = self.__name__

    def _array(self, value: Any) -> Any:
        return self.backend.asarray_like(value)

    def _common(self, real: Mapping[str, Any]) -> Any:
        import torch

        return functools.reduce(
            torch.promote_types, (t.dtype for t in real.values() if t.is_floating_point())
        )

    def _cast(self, array: Any, dtype: Any) -> Any:
        return array.to(dtype)

    def _apply(self, arrays: Sequence[Any], params: dict[str, Any]) -> Any:
        self._check_devices(arrays)
        self._refuse_forward_twice()
        return self.function.apply(_Call(params), *arrays)[0]

    def _check_devices(self, tensors: Sequence[Any]) -> None:
        places = {str(t.device): n for n, t in zip(self._rule.inputs, tensors, strict=True)}
        if len(places) > 1:
            where = ", ".join(f"{n} on {d}" for d, n in places.items())
            raise UsageError(
                f"{self.operation.name} got tensors on several devices ({where}); move them to one first"
            )

    def _refuse_forward_twice(self) -> None:
        """Refuse forward mode inside forward mode: torch drops the outer tangent of a custom function."""
        import torch

        if torch.compiler.is_compiling():
            return
        transforms = torch._C._functorch.get_interpreter_stack() or ()
        forward = torch._C._functorch.TransformType.Jvp
        if sum(t.key() == forward for t in transforms) > 1:
            raise UsageError(
                f"{self.operation.name} is differentiated forwards twice, where torch gives 0 for the second "
                "derivative of any torch.autograd.Function; take one of the two in reverse: "
                "jacfwd(jacrev(f)) or torch.func.hessian(f)"
            )


@dataclass
class _Call:
    """What one call knows beside its tensors; the forward fills in what the backward pass needs."""

    params: dict[str, Any]
    sizes: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)
    inner: tuple[str, ...] = ()


def _function_of(rule: RuleOut, backend: Any) -> Any:
    """The `torch.autograd.Function` of a rule: its outputs are the result, then what else is kept.

    torch's rule for functions that are to work under `torch.func` is that all tensors kept are inputs
    or outputs. Those beside the result are marked as without derivative: where one is needed (in a
    second differentiation) they are computed again from the inputs, so that it is theirs.
    """
    import torch

    class Function(torch.autograd.Function):  # type: ignore[misc]
        generate_vmap_rule = True

        @staticmethod
        def forward(call: _Call, *arrays: Any) -> tuple[Any, ...]:
            value, forwarded = rule.forward(backend, arrays, call.params)
            call.sizes, kept = forwarded.sizes, forwarded.operands
            call.inner = tuple(n for n in rule.inner if isinstance(kept[n], torch.Tensor))
            call.numbers = {n: v for n, v in kept.items() if not isinstance(v, torch.Tensor)}
            return tuple(_own(t, arrays) for t in (value, *(kept[n] for n in call.inner)))

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
            ctx.call = call = inputs[0]
            ctx.mark_non_differentiable(*output[1:])
            ctx.set_materialize_grads(False)
            arrays = dict(zip(rule.inputs, inputs[1:], strict=True))
            saved = {n: a for n, a in arrays.items() if rule.inner or n in rule.mentioned}
            if rule.operation.result in rule.mentioned:
                saved[rule.operation.result] = output[0]
            saved.update(zip(call.inner, output[1:], strict=True))
            ctx.names = tuple(saved)
            ctx.save_for_backward(*saved.values())
            ctx.save_for_forward(*saved.values())

        @staticmethod
        def backward(ctx: Any, cotangent: Any, *_: Any) -> tuple[Any, ...]:
            need = dict(zip(rule.inputs, ctx.needs_input_grad[1:], strict=True))
            names = tuple(n for n in rule.wrt if need[n] and cotangent is not None)
            found = {}
            if names:
                saved = dict(zip(ctx.names, ctx.saved_tensors, strict=True))
                again = torch.is_grad_enabled() or _moves(saved)
                forwarded = _forwarded(rule, backend, ctx.call, saved, again=again)
                found = rule.backward(backend, forwarded, cotangent, names)
            return (None, *(found.get(n) for n in rule.inputs))

        @staticmethod
        def jvp(ctx: Any, _: Any, *tangents: Any) -> tuple[Any, ...]:
            saved = dict(zip(ctx.names, ctx.saved_tensors, strict=True))
            moving = {n: t for n, t in zip(rule.inputs, tangents, strict=True) if t is not None}
            forwarded = _forwarded(rule, backend, ctx.call, saved, again=True)
            moved = rule.tangent(
                backend, forwarded, {n: moving[n] for n in rule.wrt if n in moving}
            )
            return (moved, *(None for _ in ctx.call.inner))

    # torch reads it at each call, and Python would find it out at each call.
    Function.forward.__signature__ = inspect.signature(Function.forward)  # type: ignore[attr-defined]
    return Function


def _forwarded(
    rule: RuleOut, backend: Any, call: _Call, saved: Mapping[str, Any], *, again: bool
) -> Forwarded:
    """What the forward left; what is neither input nor result is computed again where it must move."""
    operands = {**call.params, **call.numbers, **saved}
    if again and call.inner:
        _, fresh = rule.forward(backend, [saved[n] for n in rule.inputs], call.params)
        operands.update({n: fresh.operands[n] for n in call.inner})
    return Forwarded(operands, call.sizes)


def _moves(saved: Mapping[str, Any]) -> bool:
    """Whether a tensor carries a tangent of `torch.autograd.forward_ad`."""
    from torch.autograd import forward_ad

    return any(forward_ad.unpack_dual(t).tangent is not None for t in saved.values())


def _own(value: Any, arrays: Sequence[Any]) -> Any:
    """An output that is neither an input nor a view of one: a transpose is, for one."""
    is_input = any(value is a for a in arrays)
    return value.clone() if is_input or value._is_view() else value
