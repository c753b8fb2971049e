"""Plain objects as rules: `forward(x)` and `backward(dy)`, or a training class with its `update`.

Each call works on a copy of the object, so that nothing is left behind: neither gradients nor caches.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import backends
from gradcheck.arguments import counted
from gradcheck.errors import UsageError
from gradcheck.layers.faults import Fault
from gradcheck.layers.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradcheck.layers.reference import Reference

    Arrays = dict[str, Any]
    Method = str | Callable[..., Any]


def framework_of(thing: Any) -> str:
    """The framework of the arrays that an object holds; numpy where it holds none."""
    held = list(getattr(thing, "__dict__", {}).values())
    owners = {cls.__module__.partition(".")[0] for v in held for cls in type(v).__mro__}
    return next((f for f in ("torch", "jax", "tensorflow") if f in owners), "numpy")


@dataclass
class _Object:
    """An object whose attributes are inputs.

    Attributes:
        thing: The user's object, of which only copies are used.
        reference: What it is held against.
        attributes: The inputs that are attributes of it; the others are arguments.
        name: How reports call it.
    """

    thing: Any
    reference: Reference
    attributes: tuple[str, ...]
    name: str
    arguments: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.arguments = tuple(n for n in self.reference.inputs if n not in self.attributes)

    def fresh(self, arrays: Arrays) -> tuple[Any, list[Any]]:
        """A copy with these attributes, and the arguments of its methods.

        The attributes are copies too: an update that writes in place must not reach the input.
        """
        try:
            fresh = copy.deepcopy(self.thing)
        except (TypeError, RuntimeError) as error:
            raise UsageError(
                f"{self.name} cannot be copied ({error}), and each call works on a copy of it; keep what "
                "cannot be copied (locks, files, generators) out of it, or give it __deepcopy__"
            ) from error
        for name in self.attributes:
            try:
                setattr(fresh, name, _copied(arrays[name]))
            except AttributeError as error:
                raise UsageError(
                    f"{name!r} of {self.name} cannot be set ({error}), though it is an input of `of`; make "
                    "it an attribute that can be, or give its property a setter"
                ) from error
        return fresh, [arrays[n] for n in self.arguments]


def _copied(array: Any) -> Any:
    return array.clone() if hasattr(array, "clone") else array * 1 if np.ndim(array) else array


def _method(thing: Any, method: Method, what: str) -> Callable[..., Any]:
    """`method(thing, ...)`, from the name of a method or from a function."""
    if not isinstance(method, str):
        return method
    if not callable(getattr(thing, method, None)):
        known = [
            n for n in dir(thing) if not n.startswith("_") and callable(getattr(thing, n, None))
        ]
        raise UsageError(
            f"{type(thing).__name__} has no method {method!r}; its methods are "
            f'{", ".join(known) or "none"}: write {what}="..."'
        )
    return lambda thing, *args, **named: getattr(thing, method)(*args, **named)


def rule_of_object(
    thing: Any,
    reference: Reference,
    name: str,
    *,
    grads: Mapping[str, str] | None = None,
    forward: Method = "forward",
    backward: Method = "backward",
    framework: str | None = None,
) -> Rule:
    """An object with `forward(*inputs, **params)` and `backward(*cotangents)`.

    Args:
        thing: The object.
        reference: The forward that it is held against.
        name: How reports call it.
        grads: For each input that is an attribute of the object, the attribute in which `backward`
            leaves its gradient.
        forward: The method that computes the outputs, or `forward(thing, *inputs, **params)`.
        backward: The method that takes the cotangents and returns the gradients of the arguments, or
            `backward(thing, *cotangents)`.
        framework: Whose arrays it takes; found from the arrays that it holds where left out.

    Raises:
        UsageError: Where it has no such method, or an attribute that is an input has no gradient.
    """
    run, back = _method(thing, forward, "forward"), _method(thing, backward, "backward")
    held = _Object(thing, reference, _attributes(thing, reference, grads or {}), name)
    names = tuple(n for n, d in reference.inputs.items() if d.differentiable)
    _check_gradients(held, names, grads or {})

    def value(arrays: Arrays, params: dict[str, Any]) -> tuple[Any, ...]:
        fresh, arguments = held.fresh(arrays)
        return _tuple(run(fresh, *arguments, **params))

    def vjp(cotangents: tuple[Any, ...], arrays: Arrays, params: dict[str, Any]) -> Any:
        fresh, arguments = held.fresh(arrays)
        _zero_gradients(fresh, held.thing, grads or {})
        run(fresh, *arguments, **params)
        returned = _tuple(back(fresh, *cotangents))
        return _gathered(held, fresh, returned, names, grads or {})

    return _rule(held, names, framework, value, vjp)


def _attributes(thing: Any, reference: Reference, grads: Mapping[str, str]) -> tuple[str, ...]:
    for name in grads:
        if name not in reference.inputs:
            raise UsageError(
                f"grads names {name!r}, which is no input of `of`; its inputs are "
                f"{', '.join(reference.inputs)}"
            )
    return tuple(n for n in reference.inputs if n in grads or _holds(thing, n))


def _holds(thing: Any, name: str) -> bool:
    return hasattr(thing, name) and not callable(getattr(thing, name))


def _check_gradients(held: _Object, names: tuple[str, ...], grads: Mapping[str, str]) -> None:
    for name in held.attributes:
        if name in names and name not in grads:
            raise UsageError(
                f"{name!r} is an attribute of {held.name}, but nothing says where backward leaves its "
                f'gradient; write grads={{"{name}": "d{name}"}}'
            )


def _zero_gradients(fresh: Any, thing: Any, grads: Mapping[str, str]) -> None:
    """Zeros at the size of this example where the object keeps an array to which backward adds."""
    for name, left in grads.items():
        kept: Any = getattr(thing, left, None)
        held: Any = getattr(thing, name, None)
        if kept is not None and held is not None and np.shape(kept) == np.shape(held):
            setattr(fresh, left, 0 * getattr(fresh, name))


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _gathered(
    held: _Object,
    fresh: Any,
    returned: tuple[Any, ...],
    names: tuple[str, ...],
    grads: Mapping[str, str],
) -> Any:
    """The gradients in order: what backward returned, and what it left in attributes."""
    moving = [n for n in held.arguments if n in names]
    if len(returned) == len(held.arguments) > len(moving):  # None, say, for the labels
        returned = tuple(g for n, g in zip(held.arguments, returned, strict=True) if n in names)
    if not moving:
        returned = ()
    if len(returned) != len(moving):
        return Fault(
            "count",
            "",
            f"{held.name}'s backward returned {len(returned)} gradients, but must return one for each of "
            f"{', '.join(moving)}",
            f"return {counted(len(moving), 'gradient')}",
        )
    found = dict(zip(moving, returned, strict=True))
    for name in held.attributes:
        if name in names:
            if not hasattr(fresh, grads[name]):
                raise UsageError(
                    f"after backward {held.name} has no attribute {grads[name]!r}, where grads says that "
                    f"the gradient of {name} is left"
                )
            found[name] = getattr(fresh, grads[name])
    return tuple(found[n] for n in names)


def _rule(
    held: _Object, names: tuple[str, ...], framework: str | None, forward: Any, vjp: Any
) -> Rule:
    reference = held.reference
    return Rule(
        held.name,
        "layer",
        framework or framework_of(held.thing),
        reference.inputs,
        names,
        reference.params,
        reference.where,
        reference.outputs,
        forward,
        vjp,
        restore=_random_state(),
    )


def _random_state() -> Callable[[], None]:
    """What puts NumPy's global generator back to where it is now."""
    state = np.random.get_state()  # noqa: NPY002  the object may use this one

    def restore() -> None:
        np.random.set_state(state)  # noqa: NPY002

    return restore


# ---------------------------------------------------------------------- training classes


def rule_of_update(
    thing: Any,
    reference: Reference,
    name: str,
    *,
    update: Method,
    lr: float | None,
    forward: Method | None,
    framework: str | None = None,
) -> Rule:
    """A class that trains itself: its gradient is (old − new) / lr of the attributes that it updates.

    Args:
        thing: The object; inputs of the reference that it has as attributes are its parameters.
        reference: The loss.
        name: How reports call it.
        update: `update(thing, *inputs)`, or `update(thing, *inputs, lr)` if it has an argument of that
            name; or the name of a method.
        lr: The learning rate; a large power of two where the update takes one and none is given.
        forward: The method that computes the loss, or `forward(thing, *inputs)`; the loss is not
            compared where left out.
        framework: Whose arrays it holds.

    Raises:
        UsageError: Where no attribute is an input, the result is no scalar, or the learning rate is
            not known.
    """
    held = _Object(thing, reference, _attributes(thing, reference, {}), name)
    names = tuple(n for n in held.attributes if reference.inputs[n].differentiable)
    step, takes = _method(thing, update, "update"), _takes_lr(thing, update)
    _check_rate(held, names, lr, takes=takes)
    run = None if forward is None else _method(thing, forward, "forward")
    kind = framework or framework_of(thing)

    def value(arrays: Arrays, params: dict[str, Any]) -> tuple[Any, ...]:
        fresh, arguments = held.fresh(arrays)
        assert run is not None
        return _tuple(run(fresh, *arguments, **params))

    def stepped(arrays: Arrays, params: dict[str, Any]) -> tuple[Arrays, Arrays, float]:
        """Each parameter before and after, and the learning rate."""
        fresh, arguments = held.fresh(arrays)
        rate = _large_step(kind, arrays[names[0]]) if lr is None else lr
        step(fresh, *arguments, **params, **({"lr": rate} if takes else {}))
        return {n: arrays[n] for n in names}, {n: getattr(fresh, n) for n in names}, rate

    def vjp(cotangents: tuple[Any, ...], arrays: Arrays, params: dict[str, Any]) -> Any:
        if np.shape(cotangents[0]):
            raise UsageError(
                f"an update follows the gradient of a loss, but `of` gives {held.name} a result of shape "
                f"{tuple(np.shape(cotangents[0]))}; compose it with the loss: of=spec >> cross_entropy"
            )
        old, new, rate = stepped(arrays, params)
        for name in names:
            came, shape = tuple(np.shape(new[name])), tuple(np.shape(old[name]))
            if came != shape:
                return Fault(
                    "shape", name, f"the update gives {name} the shape {came}; it had shape {shape}"
                )
        return tuple(cotangents[0] * ((old[n] - new[n]) / rate) for n in names)

    def rounding(arrays: Arrays, params: dict[str, Any]) -> tuple[Any, ...]:
        old, new, rate = stepped(arrays, params)
        return tuple(_lost(kind, old[n], new[n], rate) for n in names)

    rule = _rule(held, names, kind, None if run is None else value, vjp)
    rule.rounding = rounding
    return rule


def _lost(framework: str, old: Any, new: Any, rate: float) -> Any:
    """A bound on |(old − new)/lr − gradient|, entry by entry.

    lr · g is rounded once, the subtraction in the update once, that in the recovery once, and the
    division and the product with the cotangent once each; with u the unit roundoff of the dtype:

        u |lr g| / lr + u |new| / lr + 3 u |old - new| / lr,  and |lr g| <= |old - new| + u |new|

    An update of nothing (old = new with no gradient) rounds nothing, and costs at most u |new| / lr.
    """
    from gradcheck.running import format_of

    backend = backends.get(framework)
    unit = format_of(backend.dtype_of(old)).unit
    before = np.asarray(backend.to_numpy(old), np.float64)
    after = np.asarray(backend.to_numpy(new), np.float64)
    return (5 * unit * np.abs(before - after) + 2 * unit * np.abs(after)) / abs(rate)


def _takes_lr(thing: Any, update: Method) -> bool:
    function = getattr(thing, update) if isinstance(update, str) else update
    try:
        return "lr" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def _large_step(framework: str, like: Any) -> float:
    """A power of two, so that dividing by it is exact, and large, so that little is lost beside `old`."""
    return 8.0 if backends.get(framework).dtype_of(like) == "float16" else 2.0**20


def _check_rate(held: _Object, names: tuple[str, ...], lr: float | None, *, takes: bool) -> None:
    if not names:
        listed = ", ".join(held.reference.inputs)
        raise UsageError(
            f"{held.name} has none of the inputs of `of` ({listed}) as an attribute, so that there is "
            'nothing that an update changes; name an input as the attribute is, such as of=spec("x", "w")'
        )
    if lr is None and not takes:
        raise UsageError(
            f"the update of {held.name} has no argument lr, so say at which learning rate it works: lr=0.1"
        )
    if lr is not None and not (np.isfinite(lr) and lr > 0):
        raise UsageError(f"lr={lr!r}: a learning rate is a positive number")
