"""`verify_vjp` and `verify_jvp`: hand-written rules as plain functions."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from gradcheck import backends
from gradcheck.arguments import check_call, text
from gradcheck.arguments import names as words
from gradcheck.errors import UsageError
from gradcheck.layers.reference import Reference, as_reference
from gradcheck.layers.refuting import called
from gradcheck.layers.rule import Rule, as_conditions, read_domains
from gradcheck.layers.showing import call_of_function, location_of
from gradcheck.layers.verifying import verify_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradcheck.reports.model import Report


def verify_vjp(
    vjp: Callable[..., Any],
    of: Any,
    inputs: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    where: str | Sequence[str] | None = None,
    oracles: Sequence[str] | str | None = None,
    devices: Sequence[str] | str = ("cpu",),
    dtypes: Sequence[str] | str = ("float64",),
    profile: str = "standard",
    seed: int = 0,
    data: Mapping[str, Any] | None = None,
    name: str | None = None,
    output: str | Sequence[str] | None = None,
    *,
    backend: str = "numpy",
    require: Sequence[str] | str = (),
) -> Report:
    """Verify a hand-written backward pass against oracles of its forward.

    The rule is looked at raw, before any framework can repair it: one gradient for each
    differentiable input, of its shape and dtype; linear in the cotangent; the same on a second call;
    its arguments left as they are. Then its Jacobian is compared, entry by entry at small shapes, by
    signed probes at large ones, under derived error bounds.

    Args:
        vjp: `vjp(cotangent, *inputs, **params)` to one gradient for each differentiable input: a tuple,
            or a bare array where there is one. With several outputs, `cotangent` is a tuple of theirs.
            Where the first parameter is called `xp`, it is given the namespace of the arrays: such a rule
            runs on exact numbers too, with `xp.exp` and its like.
        of: The forward: `forward(xp, *inputs, **params)`, a spec, a chain, or `{"torch": fn}` with
            `fn(*inputs, **params)` where only one framework can run it.
        inputs: Where each input lives, in the order of the arguments: `{"x": real("m n")}`; a spec's or
            chain's own where left out. `constant(...)` has no gradient.
        params: The scalar parameters: `{"eps": number(1e-8, 1e-3)}`.
        where: Conditions on axes and parameters, such as `"k <= n"`.
        oracles: Names of oracles; all that are installed by default.
        devices: `"cpu"`, `"cuda"`, ...
        dtypes: "float64", "float32", "float16", "bfloat16".
        profile: "quick", "standard" or "thorough": how many examples are drawn.
        seed: The same seed gives the same examples and the same probes.
        data: Your own arrays and parameters by name, instead of drawn examples.
        name: How reports call it; the function's own name where left out.
        output: The name of the output, or of each.
        backend: Whose arrays the rule takes and returns: "numpy", "torch", "jax", "tensorflow".
        require: Oracles whose checks must succeed for the report to be ok.

    Returns:
        The report; `report.ok` says whether every gradient is covered.

    Raises:
        UsageError: For an argument that does not exist or cannot be.
        SpecError: For a domain or a condition that is not understood.
    """
    reference = _reference(of, inputs, params)
    rule = _rule("vjp", vjp, of, reference, inputs, params, where, name, output, backend)
    return verify_rule(
        rule, reference, oracles=oracles, devices=devices, dtypes=dtypes, profile=profile, seed=seed,
        data=data, require=require,
    )  # fmt: skip


def verify_jvp(
    jvp: Callable[..., Any],
    of: Any,
    inputs: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    where: str | Sequence[str] | None = None,
    oracles: Sequence[str] | str | None = None,
    devices: Sequence[str] | str = ("cpu",),
    dtypes: Sequence[str] | str = ("float64",),
    profile: str = "standard",
    seed: int = 0,
    data: Mapping[str, Any] | None = None,
    name: str | None = None,
    output: str | Sequence[str] | None = None,
    *,
    backend: str = "numpy",
    require: Sequence[str] | str = (),
) -> Report:
    """Verify a hand-written forward-mode rule; see `verify_vjp` for the other arguments.

    Args:
        jvp: `jvp(tangents, *inputs, **params)` to the tangent of each output: a tuple, or a bare array
            where there is one. `tangents` holds one array for each differentiable input, or is a bare
            array where there is one.
        of: The forward.
        inputs: Where each input lives.
        params: The scalar parameters.
        where: Conditions on axes and parameters.
        oracles: Names of oracles.
        devices: Where to run.
        dtypes: In which precision.
        profile: How many examples are drawn.
        seed: Chooses them.
        data: Your own arrays and parameters by name.
        name: How reports call it.
        output: The name of the output, or of each.
        backend: Whose arrays the rule takes and returns.
        require: Oracles whose checks must succeed.
    """
    reference = _reference(of, inputs, params)
    rule = _rule("jvp", jvp, of, reference, inputs, params, where, name, output, backend)
    return verify_rule(
        rule, reference, oracles=oracles, devices=devices, dtypes=dtypes, profile=profile, seed=seed,
        data=data, require=require,
    )  # fmt: skip


def _reference(
    of: Any, inputs: Mapping[str, Any] | None, params: Mapping[str, Any] | None
) -> Reference:
    if not inputs:
        return as_reference(of, None, None)
    domains, known = read_domains(inputs, params)
    return as_reference(of, domains, known)


def _rule(
    kind: str,
    function: Callable[..., Any],
    of: Any,
    reference: Reference,
    inputs: Mapping[str, Any] | None,
    params: Mapping[str, Any] | None,
    where: str | Sequence[str] | None,
    name: str | None,
    output: str | Sequence[str] | None,
    backend: str,
) -> Rule:
    """The rule of a plain function."""
    if not callable(function):
        raise UsageError(
            f"the {kind} is {function!r}; write a function {kind}({_taken(kind)}, *inputs, **params)"
        )
    taken = [_taken(kind), *reference.inputs]
    taken = ["xp", *taken] if kind == "vjp" and _takes_xp(function) else taken
    check_call(function, taken, [*reference.params], what=f"the {kind}", error=UsageError)
    backends.get(text(backend, "backend"))  # an unknown or missing one names the others
    outputs = words(output, "output") or reference.outputs
    own = None if backend == "numpy" else backend
    given = {"inputs": inputs, "params": params, "where": where or None, "backend": own}
    call, imports = call_of_function(f"verify_{kind}", function, of, given)
    single = [n for n, d in reference.inputs.items() if d.differentiable]
    names = list(reference.inputs)
    return Rule(
        name=text(name or called(function)[0], "name"),
        kind=kind,
        framework=backend,
        inputs=reference.inputs,
        params=reference.params,
        where=as_conditions(where),
        outputs=outputs,
        location=location_of(function),
        call=call,
        imports=imports,
        vjp=_vjp(function, names, backend) if kind == "vjp" else None,
        program=_program(function, names) if kind == "vjp" and backend == "numpy" else None,
        jvp=_jvp(function, names, len(single)) if kind == "jvp" else None,
    )


def _taken(kind: str) -> str:
    return "cotangent" if kind == "vjp" else "tangents"


def _vjp(function: Callable[..., Any], names: list[str], backend: str) -> Callable[..., Any]:
    """The user's function on arrays in order; what it returns is only put into a tuple."""
    program, takes_xp = _program(function, names), _takes_xp(function)
    owner = backends.get(backend)

    def call(cotangents: tuple[Any, ...], arrays: dict[str, Any], params: dict[str, Any]) -> Any:
        like = next((a for a in cotangents if a is not None), None)
        xp = owner.namespace(owner.dtype_of(like), owner.device_of(like)) if takes_xp else None
        return program(xp, cotangents, arrays, params)

    return call


def _program(function: Callable[..., Any], names: list[str]) -> Callable[..., Any]:
    """The user's function on the arrays of any namespace."""
    takes_xp = _takes_xp(function)

    def call(
        xp: Any, cotangents: tuple[Any, ...], arrays: dict[str, Any], params: dict[str, Any]
    ) -> Any:
        given = cotangents[0] if len(cotangents) == 1 else cotangents
        first = (xp, given) if takes_xp else (given,)
        found = function(*first, *(arrays[n] for n in names), **params)
        return tuple(found) if isinstance(found, tuple | list) else (found,)

    return call


def _takes_xp(function: Callable[..., Any]) -> bool:
    """Whether the function's first parameter is a namespace."""
    try:
        return next(iter(inspect.signature(function).parameters), "") == "xp"
    except (TypeError, ValueError):
        return False


def _jvp(function: Callable[..., Any], names: list[str], count: int) -> Callable[..., Any]:
    def call(tangents: tuple[Any, ...], arrays: dict[str, Any], params: dict[str, Any]) -> Any:
        given = tangents[0] if count == 1 else tangents
        found = function(given, *(arrays[n] for n in names), **params)
        return tuple(found) if isinstance(found, tuple | list) else (found,)

    return call
