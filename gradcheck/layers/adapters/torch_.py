"""torch functions and modules as rules: `Function.apply`, `nn.Module`, any function on tensors."""

from __future__ import annotations

import contextlib
import copy
import functools
import warnings
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradcheck.errors import UsageError
from gradcheck.layers.adapters.torch_capture import Pulled, pull
from gradcheck.layers.faults import Fault
from gradcheck.layers.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gradcheck.layers.reference import Reference

    Arrays = dict[str, Any]

# So many copies of a module are kept.
_COPIES = 2


def is_function(layer: Any) -> bool:
    """Whether it is the `apply` of a `torch.autograd.Function`."""
    return _function_class(layer) is not None


def _function_class(layer: Any) -> Any:
    """The class behind a bound `apply`, or behind a rule made by `as_torch`."""
    import torch

    owner = getattr(layer, "__self__", None)
    if getattr(layer, "__name__", "") == "apply" and isinstance(owner, type):
        return owner if issubclass(owner, torch.autograd.Function) else None
    return None


def is_module(layer: Any) -> bool:
    """Whether it is a `torch.nn.Module`."""
    import torch

    return isinstance(layer, torch.nn.Module)


def rule_of_function(layer: Any, reference: Reference, name: str) -> Rule:
    """A `Function.apply`, called with the inputs and then the parameters, by place."""
    cls = _function_class(layer)

    def call(tensors: Arrays, params: dict[str, Any]) -> Any:
        return layer(*tensors.values(), *params.values())

    return _rule(_Layer(call, name), reference, forward_mode=_has_jvp(cls))


def rule_of_callable(layer: Callable[..., Any], reference: Reference, name: str) -> Rule:
    """A function on tensors, called with the inputs by place and the parameters by name."""

    def call(tensors: Arrays, params: dict[str, Any]) -> Any:
        return layer(*tensors.values(), **params)

    own = getattr(layer, "function", None)
    return _rule(_Layer(call, name), reference, forward_mode=_has_jvp(own))


def _has_jvp(cls: Any) -> bool:
    import torch

    known = isinstance(cls, type) and issubclass(cls, torch.autograd.Function)
    return known and cls.jvp is not torch.autograd.Function.jvp


def rule_of_module(module: Any, reference: Reference, name: str) -> Rule:
    """A module; an input named as one of its parameters or buffers is that tensor.

    Raises:
        UsageError: Where a parameter that requires a gradient is no input of the reference.
    """
    _check_stateless(module)
    state = tensors_of(module)
    places = {n: state[n] for n in reference.inputs if n in state}
    _check_parameters(module, places, reference)
    if reference.params:
        one = next(iter(reference.params))
        raise UsageError(
            f"`of` has the parameter {one!r}, but a module has its own; fix it as the module has it, "
            f"such as of=spec({one}=...)"
        )
    layer = _Layer(_calling(module, places), f"{name} ({_mode(module)})", module)
    return _rule(layer, reference, forward_mode=False)


def _check_stateless(module: Any) -> None:
    """That torch can run the module on other parameters than its own.

    Raises:
        UsageError: Where it cannot, and what to write instead.
    """
    import torch

    name = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        raise UsageError(
            f"{name} is a module of TorchScript, which torch cannot run on other parameters than its own; "
            "verify the module that was scripted or traced"
        )
    if isinstance(module, torch.nn.DataParallel):
        raise UsageError(
            f"{name} spreads a module over devices; verify the module inside: layer.module"
        )
    for kept, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_meta:
            raise UsageError(
                f"{kept!r} of {name} lies on the meta device and has no values; give the module memory "
                'first: module.to_empty(device="cpu")'
            )
    for path, part in module.named_modules():
        for kept, value in vars(part).items():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                place = f"{path}.{kept}" if path else kept
                raise UsageError(
                    f"{place!r} of {name} is a tensor computed from others that require gradients, once "
                    "for all: a backward pass through it works a single time, and it does not follow the "
                    "parameters. Compute it in forward, or keep it as a constant: .detach()"
                )


def _mode(module: Any) -> str:
    return "train mode" if module.training else "eval mode"


def tensors_of(module: Any) -> dict[str, str]:
    """The names of parameters and buffers, as inputs can be called: dots become underscores."""
    names = [n for n, _ in (*module.named_parameters(), *module.named_buffers())]
    return {n.replace(".", "_"): n for n in names}


def sizes_of(module: Any, name: str) -> tuple[int, ...]:
    """The shape of a parameter or buffer."""
    from torch.nn.parameter import is_lazy

    held = dict((*module.named_parameters(), *module.named_buffers()))
    tensor = held[tensors_of(module)[name]]
    if is_lazy(tensor):
        raise UsageError(
            f"{type(module).__name__} has no shape for {name!r} yet: call it once on an input, and its "
            "lazy parameters take theirs from it"
        )
    return tuple(tensor.shape)


def _check_parameters(module: Any, places: dict[str, str], reference: Reference) -> None:
    free = [n for n, p in module.named_parameters() if p.requires_grad and n not in places.values()]
    if free:
        shown = free[0].replace(".", "_")
        raise UsageError(
            f"{type(module).__name__} has the parameter {free[0]!r}, which is no input of `of` "
            f"({', '.join(reference.inputs)}): its gradient would not be verified. Name it {shown!r} in "
            f'`of`, such as of=spec("x", "{shown}"), or freeze it: '
            f"module.{free[0]}.requires_grad_(False)"
        )


def _calling(module: Any, places: dict[str, str]) -> Callable[..., Any]:
    """The module as a function: parameters come from the inputs, buffers are copies."""
    import torch

    hooks = {n: dict(p._backward_hooks or {}) for n, p in module.named_parameters()}

    def call(tensors: Arrays, _: dict[str, Any], moved: Any = module) -> Any:
        buffers = {n: b.clone() for n, b in moved.named_buffers()}
        given = {places[n]: t for n, t in tensors.items() if n in places}
        given = {n: _hooked(t, hooks.get(n, {})) for n, t in given.items()}
        others = [t for n, t in tensors.items() if n not in places]
        return torch.func.functional_call(moved, {**buffers, **given}, tuple(others))

    return call


def _hooked(tensor: Any, hooks: dict[int, Any]) -> Any:
    """A parameter's stand-in, whose gradient passes the hooks that the parameter has."""
    if not hooks or not tensor.requires_grad:
        return tensor
    seen = tensor.view_as(tensor)
    for hook in hooks.values():
        seen.register_hook(hook)
    return seen


@dataclass
class _Layer:
    """A torch layer as a function of named tensors.

    Attributes:
        call: `call(tensors, params)` to a tensor or a tuple of tensors.
        name: How reports call it.
        module: The module that is moved to the dtype and device of a check, if it is one.
        moved: That module where it was moved.
        copies: The latest copies, by dtype and device: a measurement goes to and fro between two dtypes.
    """

    call: Callable[..., Any]
    name: str
    module: Any = None
    moved: list[Any] = field(default_factory=list)
    copies: dict[tuple[str, str], Any] = field(default_factory=dict)

    def prepare(self, dtype: str, device: str) -> None:
        """A copy of the module in a dtype on a device; the user's stays as it is."""
        if self.module is None:
            return
        known = self.copies.pop((dtype, device), None)
        self.copies[dtype, device] = self._copy(dtype, device) if known is None else known
        while len(self.copies) > _COPIES:
            self.copies.pop(next(iter(self.copies)))
        self.moved = [self.copies[dtype, device]]

    def _copy(self, dtype: str, device: str) -> Any:
        import torch

        with torch.inference_mode(False):
            copied = copy.deepcopy(self.module).to(device=device, dtype=getattr(torch, dtype))
        for parameter in copied.parameters():  # those that are inputs come as tensors of their own
            parameter.requires_grad_(False)
        return copied

    def outputs(self, tensors: Arrays, params: dict[str, Any]) -> tuple[Any, ...]:
        """What the layer gives, as a tuple of tensors.

        Raises:
            UsageError: Where it gives something else.
        """
        import torch

        try:
            given = self.call(tensors, params, *self.moved)
        except RuntimeError as error:
            if "leaf Variable that requires grad" not in str(error):
                raise
            raise UsageError(
                f"{self.name} changes its input in place, which torch refuses where the input itself "
                "requires a gradient; hand it a copy: "
                'verify_layer(lambda x: layer(x.clone()), of=..., framework="torch")'
            ) from error
        outputs = tuple(given) if isinstance(given, tuple | list) else (given,)
        for output in outputs:
            if not isinstance(output, torch.Tensor):
                raise UsageError(
                    f"{self.name} returned {type(output).__name__}; a layer returns a tensor or a tuple "
                    "of tensors"
                )
        return outputs


def _rule(layer: _Layer, reference: Reference, *, forward_mode: bool) -> Rule:
    names = [n for n, d in reference.inputs.items() if d.differentiable]
    restore = _random_state()

    def forward(arrays: Arrays, params: dict[str, Any]) -> tuple[Any, ...]:
        with _recording():
            return tuple(o.detach() for o in layer.outputs(_leaves(arrays, names), params))

    def interleaved(
        cotangents: tuple[Any, ...], arrays: Arrays, params: dict[str, Any], between: Arrays
    ) -> Any:
        with _recording():
            leaves = _leaves(arrays, names)
            outputs = layer.outputs(leaves, params)
            layer.outputs(_leaves(between, names), params)
            wanted = [leaves[n] for n in names]
            return _handed_on(pull(outputs, cotangents, wanted), wanted)

    def vjp(cotangents: tuple[Any, ...], arrays: Arrays, params: dict[str, Any]) -> Any:
        with _recording():
            leaves = _leaves(arrays, names)
            pulled = pull(layer.outputs(leaves, params), cotangents, [leaves[n] for n in names])
            together = _handed_on(pulled, [leaves[n] for n in names])
            if pulled.fault is None and not all(pulled.repaired) and _drawn(arrays):
                return one_by_one(together, cotangents, arrays, params)
            return together

    def one_by_one(
        together: Any, cotangents: tuple[Any, ...], arrays: Arrays, params: dict[str, Any]
    ) -> Any:
        """The gradients with one input alone requiring any: a backward may look at what is needed."""
        found = []
        for name, other in zip(names, together, strict=True):
            restore()
            leaves = _leaves(arrays, [name])
            outputs = layer.outputs(leaves, params)
            try:
                pulled = pull(outputs, cotangents, [leaves[name]])
            except Exception as error:  # noqa: BLE001  a backward may raise anything
                return _raises_alone(layer.name, name, error)
            if pulled.fault is not None:
                return pulled.fault
            gradient = pulled.gradients[0]
            if other is not None and gradient is None and bool((other != 0).any()):
                return _only_with_others(layer.name, name)
            found.append(other if gradient is None else gradient)
        return tuple(found)

    def jvp(tangents: tuple[Any, ...], arrays: Arrays, params: dict[str, Any]) -> tuple[Any, ...]:
        return _pushed(layer, dict(zip(names, tangents, strict=True)), arrays, params)

    return Rule(
        layer.name,
        "layer",
        "torch",
        reference.inputs,
        tuple(names),
        reference.params,
        reference.where,
        reference.outputs,
        forward,
        vjp,
        jvp if forward_mode else None,
        restore=restore,
        accepts_missing=True,
        prepare=layer.prepare,
        interleaved=interleaved,
    )


def _drawn(arrays: Arrays) -> bool:
    """Whether one input alone requires a gradient: drawn from the example, the same for the same one."""
    sums = repr([float(a.detach().double().sum()) for a in arrays.values()])
    return len(arrays) > 1 and zlib.crc32(sums.encode()) % 2 == 1


def _only_with_others(layer: str, name: str) -> Fault:
    text = (
        f"where {name} alone requires a gradient, {layer} gives it none, though it does where all inputs "
        f"require one, as where {name} is trained on data that is not: look at ctx.needs_input_grad, whose "
        "places are those of forward's arguments"
    )
    return Fault("none", name, text, "ask ctx.needs_input_grad at the place of the same argument")


def _raises_alone(layer: str, name: str, error: Exception) -> Fault:
    text = (
        f"where {name} alone requires a gradient, as where {name} is trained on data that is not, the "
        f"backward of {layer} raises {type(error).__name__}: {error}; what is not asked for is None there"
    )
    return Fault("raises", name, text)


@contextlib.contextmanager
def _recording() -> Iterator[None]:
    """Record for gradients, whatever `no_grad` or `inference_mode` the caller is in."""
    import torch

    with torch.inference_mode(False), torch.enable_grad():
        yield


def _leaves(arrays: Arrays, names: Sequence[str]) -> Arrays:
    """Tensors of the same memory, each input's its own, that collect gradients."""
    plain = {n: a.clone() if a.is_inference() else a.detach() for n, a in arrays.items()}
    return {n: a.requires_grad_(n in names) for n, a in plain.items()}


def _handed_on(pulled: Pulled, leaves: Sequence[Any]) -> Any:
    """The gradients; what torch's own operations do not depend on has zeros there."""
    import torch

    if pulled.fault is not None:
        return pulled.fault
    return tuple(
        torch.zeros_like(leaf) if gradient is None and repaired else gradient
        for gradient, repaired, leaf in zip(pulled.gradients, pulled.repaired, leaves, strict=True)
    )


def _pushed(
    layer: _Layer, tangents: Arrays, arrays: Arrays, params: dict[str, Any]
) -> tuple[Any, ...]:
    """Tangents of the outputs by torch's forward mode, which runs the function's own jvp."""
    import torch
    from torch.autograd import forward_ad

    _warm_up()
    with forward_ad.dual_level():
        duals = {
            n: forward_ad.make_dual(a.detach(), tangents[n]) if n in tangents else a
            for n, a in arrays.items()
        }
        unpacked = [forward_ad.unpack_dual(o) for o in layer.outputs(duals, params)]
        return tuple(
            torch.zeros_like(value) if tangent is None else tangent for value, tangent in unpacked
        )


@functools.cache
def _warm_up() -> None:
    """The first use of torch's forward mode loads parts of torch that warn of other parts of it."""
    import torch
    from torch.autograd import forward_ad

    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore")
        forward_ad.make_dual(torch.zeros(()), torch.zeros(()))


def _random_state() -> Callable[[], None]:
    """What puts torch's generators back to where they are now."""
    import torch

    host = torch.get_rng_state()
    cards = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def restore() -> None:
        torch.set_rng_state(host)
        if cards:
            torch.cuda.set_rng_state_all(cards)

    return restore
