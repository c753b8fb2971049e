"""`verify_layer`: somebody's layer, whatever framework it is written in."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gradcheck import backends
from gradcheck.algebra.conditions import rename_condition
from gradcheck.algebra.shapes import is_broadcast, is_number
from gradcheck.arguments import text
from gradcheck.backends import BACKENDS
from gradcheck.errors import UsageError
from gradcheck.layers.adapters import objects
from gradcheck.layers.reference import Reference, as_reference
from gradcheck.layers.rule import as_conditions, read_domains
from gradcheck.layers.showing import call_of_layer, location_of
from gradcheck.layers.verifying import verify_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradcheck.layers.rule import Rule
    from gradcheck.reports.model import Report

    Method = str | Callable[..., Any]


def verify_layer(
    layer: Any,
    of: Any,
    inputs: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    grads: Mapping[str, str] | None = None,
    update: Method | None = None,
    oracles: Sequence[str] | str | None = None,
    devices: Sequence[str] | str = ("cpu",),
    dtypes: Sequence[str] | str | None = None,
    profile: str = "standard",
    seed: int = 0,
    data: Mapping[str, Any] | None = None,
    *,
    lr: float | None = None,
    forward: Method | None = None,
    backward: Method = "backward",
    framework: str | None = None,
    training: bool | None = None,
    where: str | Sequence[str] | None = None,
    name: str | None = None,
    require: Sequence[str] | str = (),
) -> Report:
    """Verify a layer: first that it computes what `of` says, then its gradients.

    What a layer may be, and how it is called:

    - `MyFunction.apply` of a `torch.autograd.Function`: with the inputs, then the parameters, by place.
      What `backward` returns is looked at before torch's engine sums, casts or fills in anything.
    - a `torch.nn.Module` or a Keras layer: with the inputs. An input of `of` that is named as one of its
      parameters *is* that parameter, in its layout: `of=weighted_sum("x", transpose("weight"), "bias")`;
      dots in a name become underscores. The sizes of parameters are the layer's own. The layer itself is
      left as it is: parameters, buffers and random state.
    - a `jax.custom_vjp` or `jax.custom_jvp` function, a `tf.custom_gradient` function, and the rules of
      `as_torch`, `as_jax`, `as_autograd` and `as_tensorflow`: with the inputs by place, the parameters by
      name.
    - an object with `forward(*inputs)` and `backward(*cotangents)`, which returns the gradients of the
      inputs. An input that is an attribute of it is set there, and `grads={"w": "dw"}` says where
      `backward` leaves its gradient.
    - an object that trains itself: `update=` is `update(layer, *inputs)` or the name of a method, and the
      gradients are (old - new) / lr of the attributes that `of` names.
    - any other function, if `framework=` says whose arrays it takes.

    Args:
        layer: The layer.
        of: What it computes: `forward(xp, *inputs, **params)`, a spec, a chain, or `{"torch": fn}` where
            only one framework can run it.
        inputs: Where each input lives, in the order in which the layer takes them: `{"x": real("m n")}`;
            a spec's or chain's own where left out.
        params: The scalar parameters: `{"eps": number(1e-8, 1e-3)}`.
        grads: For a plain object, where `backward` leaves the gradients of its attributes.
        update: For an object that trains itself, its step.
        oracles: Names of oracles; all that are installed by default.
        devices: `"cpu"`, `"cuda"`, ...
        dtypes: "float64", "float32", "float16", "bfloat16"; float64 by default, for a Keras layer its own.
        profile: "quick", "standard" or "thorough": how many examples are drawn.
        seed: The same seed gives the same examples.
        data: Your own arrays and parameters by name, instead of drawn examples.
        lr: For an update, its learning rate; an update with an argument `lr` is given it.
        forward: For an object, the method that computes the value, or `forward(layer, *inputs)`.
        backward: For an object, the method that computes the gradients, or `backward(layer, *cotangents)`.
        framework: Whose arrays the layer takes, where that cannot be told from it.
        training: For a Keras layer, whether it is called in training mode.
        where: Conditions on axes and parameters.
        name: How reports call it.
        require: Oracles whose checks must succeed for the report to be ok.

    Returns:
        The report; `report.ok` says whether every gradient is covered.

    Raises:
        UsageError: For a layer that is not understood, or arguments that do not fit it.
        SpecError: For a domain or a condition that is not understood.
    """
    options = _Options(grads, update, lr, forward, backward, framework, training)
    reference = _reference(of, inputs, params, where)
    kind = _kind(layer, of, options)
    options.check(kind)
    reference = _at_own_sizes(layer, kind, reference)
    rule = _rule(layer, kind, reference, options, text(name or _name(layer), "name"))
    rule.location = location_of(layer)
    given = {"inputs": inputs, "params": params, "where": where, **options.given()}
    rule.call, rule.imports = call_of_layer(layer, of, given)
    kinds = dtypes if dtypes is not None else rule.dtypes or ("float64",)
    try:
        return verify_rule(
            rule, reference, oracles=oracles, devices=devices, dtypes=kinds, profile=profile,
            seed=seed, data=data, require=require,
        )  # fmt: skip
    finally:
        rule.restore()  # random state is left as it was found


@dataclass(frozen=True)
class _Options:
    """What concerns some kinds of layers only."""

    grads: Mapping[str, str] | None
    update: Method | None
    lr: float | None
    forward: Method | None
    backward: Method
    framework: str | None
    training: bool | None

    def given(self) -> dict[str, Any]:
        """Those that are not at their defaults."""
        found = {n: v for n, v in vars(self).items() if v is not None}
        return {n: v for n, v in found.items() if (n, v) != ("backward", "backward")}

    def check(self, kind: str) -> None:
        """Nothing was said that would be passed over in silence.

        Raises:
            UsageError: Naming the argument and the kind of layer that it is for.
        """
        allowed = {
            "object": {"grads", "forward", "backward", "framework"},
            "update": {"update", "lr", "forward", "framework"},
            "keras": {"training"},
        }.get(kind, {"framework"})
        wrong = [n for n in self.given() if n not in allowed]
        if wrong:
            homes = {
                "grads": "an object with forward and backward",
                "update": "an object that trains itself",
                "lr": "an object that trains itself",
                "forward": "a plain object",
                "backward": "an object with forward and backward",
                "training": "a Keras layer",
                "framework": "a plain function or object",
            }
            raise UsageError(f"{wrong[0]}= is for {homes[wrong[0]]}; this layer is {_KINDS[kind]}")


_KINDS = {
    "function": "a torch.autograd.Function",
    "module": "a torch.nn.Module",
    "keras": "a Keras layer",
    "torch": "a function on torch tensors",
    "jax": "a function on JAX arrays",
    "tensorflow": "a function on TensorFlow tensors",
    "autograd": "an autograd function",
    "object": "an object with forward and backward",
    "update": "an object that trains itself",
}


def _reference(
    of: Any,
    inputs: Mapping[str, Any] | None,
    params: Mapping[str, Any] | None,
    where: str | Sequence[str] | None,
) -> Reference:
    domains, known = read_domains(inputs, params) if inputs else (None, None)
    reference = as_reference(of, domains, known)
    conditions = dict.fromkeys([*reference.where, *as_conditions(where)])
    return _in_order(replace(reference, where=tuple(conditions)), list(domains or {}))


def _in_order(reference: Reference, names: list[str]) -> Reference:
    """The reference with its inputs in the order in which the layer takes them, where that was given."""
    before = list(reference.inputs)
    if sorted(names) != sorted(before) or names == before:
        return reference
    places = [names.index(n) for n in before]

    def permuted(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arrays, **params: function(*(arrays[i] for i in places), **params)

    def forward(xp: Any, *arrays: Any, **params: Any) -> tuple[Any, ...]:
        assert reference.forward is not None
        return reference.forward(xp, *(arrays[i] for i in places), **params)

    return replace(
        reference,
        inputs={n: reference.inputs[n] for n in names},
        forward=forward,
        native={f: permuted(fn) for f, fn in reference.native.items()},
    )


# ---------------------------------------------------------------------- what kind of layer


def _kind(layer: Any, of: Any, options: _Options) -> str:
    """What the layer is, found without importing a framework that is not loaded.

    Raises:
        UsageError: Where it is nothing that can be verified, saying what can.
    """
    if options.update is not None:
        return "update"
    if "torch" in sys.modules and (kind := _torch_kind(layer)):
        return kind
    own = getattr(layer, "framework", None) or _root(layer)
    if own in (*BACKENDS, "keras"):
        return str(own)
    if hasattr(layer, "_tf_decorator"):
        return "tensorflow"
    if not isinstance(layer, type) and (_is_object(layer) or options.grads or options.forward):
        return "object"
    if not callable(layer) or isinstance(layer, type):
        raise UsageError(_unknown(layer))
    framework = options.framework or (
        next(iter(of)) if isinstance(of, dict) and len(of) == 1 else None
    )
    if framework is None:
        raise UsageError(
            f'{_name(layer)} does not tell whose arrays it takes; write framework="torch", "jax", '
            '"tensorflow" or "autograd"'
        )
    if framework not in _KINDS:
        raise UsageError(
            f"framework={framework!r} differentiates no function; write torch, jax, tensorflow or "
            "autograd, or verify_vjp for a backward pass in NumPy"
        )
    return framework


def _torch_kind(layer: Any) -> str:
    from gradcheck.layers.adapters import keras_, torch_

    if keras_.is_layer(layer):
        return "keras"
    if torch_.is_function(layer):
        return "function"
    return "module" if torch_.is_module(layer) else ""


def _root(layer: Any) -> str | None:
    """The framework whose type it is: a `jax.custom_vjp`, a `tf.function`, a Keras layer."""
    from gradcheck.layers.adapters import keras_

    if keras_.is_layer(layer):
        return "keras"
    if isinstance(layer, type):
        return None
    roots = {c.__module__.partition(".")[0] for c in type(layer).__mro__}
    owners = {"jax": "jax", "jaxlib": "jax", "tensorflow": "tensorflow"}
    return next((owners[r] for r in roots if r in owners), None)


def _is_object(layer: Any) -> bool:
    return all(callable(getattr(layer, n, None)) for n in ("forward", "backward"))


def _unknown(layer: Any) -> str:
    if isinstance(layer, type):
        bases = {c.__name__ for c in layer.__mro__}
        made = (
            f"{layer.__name__}.apply"
            if "_SingleLevelFunction" in bases
            else f"{layer.__name__}(...)"
        )
        return f"{layer.__name__} is a class; verify what it makes: verify_layer({made}, of=...)"
    return (
        f"a {type(layer).__name__} is no layer; give a torch Function.apply or nn.Module, a "
        "jax.custom_vjp or custom_jvp function, a Keras layer or tf.custom_gradient function, or an "
        "object with forward and backward"
    )


def _name(layer: Any) -> str:
    """How reports call the layer."""
    owner = getattr(layer, "__self__", None)
    if isinstance(owner, type):
        return owner.__name__
    found = getattr(layer, "__name__", None)
    return found if isinstance(found, str) else type(layer).__name__


# ---------------------------------------------------------------------- its rule


def _rule(layer: Any, kind: str, reference: Reference, options: _Options, name: str) -> Rule:
    if kind in ("function", "module", "torch"):
        from gradcheck.layers.adapters import torch_

        make: Callable[..., Rule] = {
            "function": torch_.rule_of_function,
            "module": torch_.rule_of_module,
            "torch": torch_.rule_of_callable,
        }[kind]
        return make(layer, reference, name)
    if kind in ("keras", "tensorflow"):
        backends.get("tensorflow")
        from gradcheck.layers.adapters import keras_

        if kind == "keras":
            return keras_.rule_of_layer(layer, reference, name, training=options.training)
        return keras_.rule_of_function(layer, reference, name)
    if kind == "jax":
        from gradcheck.layers.adapters.jax_ import rule_of_jax

        return rule_of_jax(layer, reference, name)
    if kind == "autograd":
        from gradcheck.layers.adapters.autograd_ import rule_of_autograd

        return rule_of_autograd(layer, reference, name)
    return _rule_of_object(layer, kind, reference, options, name)


def _rule_of_object(
    layer: Any, kind: str, reference: Reference, options: _Options, name: str
) -> Rule:
    if kind == "update":
        own = "forward" if callable(getattr(layer, "forward", None)) else None
        return objects.rule_of_update(
            layer, reference, name, update=options.update or "update", lr=options.lr,
            forward=options.forward or own, framework=options.framework,
        )  # fmt: skip
    return objects.rule_of_object(
        layer, reference, name, grads=options.grads, forward=options.forward or "forward",
        backward=options.backward, framework=options.framework,
    )  # fmt: skip


# ---------------------------------------------------------------------- the sizes of its parameters


def _at_own_sizes(layer: Any, kind: str, reference: Reference) -> Reference:
    """The reference at the sizes that a module's parameters have: they are the module's, not drawn.

    Raises:
        UsageError: Where a parameter has another rank or size than the input of its name.
    """
    held = _held(layer, kind)
    sizes: dict[str, str] = {}
    owners: dict[str, str] = {}
    inputs = dict(reference.inputs)
    for name, domain in reference.inputs.items():
        if name not in held:
            continue
        shape = held[name]
        if len(shape) != len(domain.shape):
            raise UsageError(_misfit(layer, name, shape, domain.shape))
        for axis, size in zip(domain.shape, shape, strict=True):
            known = axis if is_number(axis) else sizes.get(axis, str(size))
            if known != str(size):
                why = f", and {axis} is {known} in {owners[axis]}" if axis in owners else ""
                raise UsageError(_misfit(layer, name, shape, domain.shape, why))
            if not is_number(axis) and not is_broadcast(axis):
                sizes[axis], owners[axis] = str(size), name
        inputs[name] = replace(domain, shape=tuple(str(n) for n in shape))
    where = tuple(rename_condition(text, sizes) for text in reference.where)
    fixed = {n: d.renamed(sizes) for n, d in inputs.items()}
    return replace(reference, inputs=fixed, where=where) if held else reference


def _held(layer: Any, kind: str) -> dict[str, tuple[int, ...]]:
    if kind == "module":
        from gradcheck.layers.adapters import torch_

        return {n: torch_.sizes_of(layer, n) for n in torch_.tensors_of(layer)}
    if kind == "keras":
        from gradcheck.layers.adapters import keras_

        return {n: tuple(v.shape) for n, v in keras_.weights_of(layer).items()}
    return {}


def _misfit(
    layer: Any, name: str, shape: tuple[int, ...], axes: tuple[str, ...], why: str = ""
) -> str:
    return (
        f"{_name(layer)} holds {name} of shape {shape}, but {name} is {' '.join(axes)!r} in `of`{why}; an "
        "input that is a parameter has the parameter's own layout: where one is stored transposed, write "
        'transpose("weight")'
    )
