"""What the engine is given: somebody's derivative rule as callables, whatever framework it came from.

An adapter (a plain vjp, a `torch.autograd.Function`, a Keras layer...) fills a `Rule`; the engine
(`gradcheck.layers.verifying.verify_rule`) knows nothing else of it. All callables take and return
arrays of `framework`, made by the engine in the dtype and on the device of the check.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.shapes import axes_of
from gradcheck.arguments import names, table
from gradcheck.domains import as_domain, as_parameter
from gradcheck.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradcheck.domains import Domain, Parameter

    Arrays = dict[str, Any]
    Outputs = tuple[Any, ...]

# What a rule may be, which is also the word for it in reports.
KINDS = ("vjp", "jvp", "layer")


def _nothing() -> None:
    return None


@dataclass
class Rule:
    """Somebody's derivative rule.

    Attributes:
        name: How reports call it.
        kind: One of `KINDS`.
        framework: The backend whose arrays the callables take and return ("numpy", "torch",
            "jax", "tensorflow", "autograd").
        inputs: The domain of each input by name, in the order of the forward's arguments. A
            module's parameter is an input like any other.
        differentiable: The inputs for which the rule gives a gradient, in the order in which it
            gives them; all differentiable domains where left out.
        params: The scalar parameters.
        where: Conditions on axes and parameters.
        outputs: The names of the outputs; `("out",)`, or `("out0", "out1")`, where left out and
            found out by running the forward.
        forward: `forward(arrays, params)` to the tuple of outputs of the layer itself, compared
            with `of` before any derivative; None where there is only a rule.
        vjp: `vjp(cotangents, arrays, params)` to whatever the rule returned, *raw*, as a tuple of
            one object for each differentiable input, in order: nothing summed, reshaped, cast or
            filled in. A rule that returned another number of objects is handed on as it is. Each
            cotangent is an array, or None where the engine leaves that output's cotangent out
            (only if `accepts_missing`).
        jvp: `jvp(tangents, arrays, params)` to a tuple of one raw object for each output;
            `tangents` is a tuple of one array for each differentiable input.
        restore: Called before each call of the rule: sets random state and buffers back, so that
            two calls are the same call.
        accepts_missing: Whether None may stand for an output's cotangent.
        raw: Whether what `vjp` returns has passed through no engine that repairs it (sums what was
            broadcast, casts, fills in zeros). Where it has, shapes and dtypes say nothing.
        strict_dtype: Whether gradients must have the dtype of their inputs.
        dtypes: The dtypes in which the rule can be called; None is all of the framework.
        rounding: `rounding(arrays, params)` to a bound for each differentiable input, of its shape, on
            what the way of reading the gradient adds to its error, for a cotangent of size one: an
            update's (old - new) / lr has lost digits that the gradient had. The engine adds it to the
            tolerance. None adds nothing.
        address: "file.py::name", where the rule can be found again in a file.
        location: "file.py:12", for the report's title.
        call: For the snippet: the call up to the arguments that repeat an example, without the
            closing bracket, such as `verify_vjp(backward, of=forward, inputs={"x": real("n")}`.
        imports: For the snippet: lines that make the names in `call` known.
        program: `program(xp, cotangents, arrays, params)` to what the vjp returns, on the arrays of any
            `xp`: the rule as it can run on exact numbers. None where it is tied to a framework.
        interleaved: `interleaved(cotangents, arrays, params, between)`, like `vjp`, with a forward pass on
            other inputs, `between`, before the backward pass; None where a forward and its backward are one.
        prepare: `prepare(dtype, device)`, called before a check in that dtype and place: moves a
            module there.
    """

    name: str
    kind: str
    framework: str
    inputs: dict[str, Domain]
    differentiable: tuple[str, ...] = ()
    params: dict[str, Parameter] = field(default_factory=dict)
    where: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    forward: Callable[[Arrays, dict[str, Any]], Outputs] | None = None
    vjp: Callable[[Outputs, Arrays, dict[str, Any]], Outputs] | None = None
    jvp: Callable[[Outputs, Arrays, dict[str, Any]], Outputs] | None = None
    restore: Callable[[], None] = _nothing
    accepts_missing: bool = False
    raw: bool = True
    strict_dtype: bool = True
    dtypes: tuple[str, ...] | None = None
    rounding: Callable[[Arrays, dict[str, Any]], Outputs] | None = None
    address: str = ""
    location: str = ""
    call: str = ""
    imports: tuple[str, ...] = ()
    program: Callable[[Any, Outputs, Arrays, dict[str, Any]], Outputs] | None = None
    prepare: Callable[[str, str], None] | None = None
    interleaved: Callable[[Outputs, Arrays, dict[str, Any], Arrays], Outputs] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"a rule is one of {', '.join(KINDS)}; got {self.kind!r}")
        if self.vjp is None and self.jvp is None:
            raise UsageError(f"{self.name} has neither a vjp nor a jvp; there is nothing to verify")
        if not self.differentiable:
            self.differentiable = tuple(n for n, d in self.inputs.items() if d.differentiable)
        unknown = [n for n in self.differentiable if n not in self.inputs]
        if unknown:
            raise UsageError(
                f"{self.name}: {', '.join(unknown)} is no input; inputs are {', '.join(self.inputs)}"
            )
        if not self.differentiable:
            raise UsageError(
                f"{self.name}: no input is differentiable ({', '.join(self.inputs) or 'there are none'}); "
                'write real("m n"), positive("m n") or probability("m n") for one that is'
            )


def read_domains(
    inputs: Mapping[str, Any] | None, params: Mapping[str, Any] | None
) -> tuple[dict[str, Domain], dict[str, Parameter]]:
    """Inputs and parameters as users write them, as domains and parameters.

    Raises:
        UsageError: Where no inputs are given.
        SpecError: Where one of them is neither a domain nor stands for one.
    """
    if not inputs:
        raise UsageError('say where the inputs live: inputs={"x": real("m n"), "g": real("n")}')
    inputs = table(inputs, "inputs", 'inputs={"x": real("m n")}')
    params = table(params, "params", 'params={"eps": number(1e-8, 1e-3)}')
    known = {n: as_parameter(p, n) for n, p in params.items()}
    plain = [as_domain(d, n, None, known) for n, d in inputs.items() if _is_plain(d)]
    axes = {axis for domain in plain for axis in axes_of(domain.shape)}
    return {n: as_domain(d, n, axes, known) for n, d in inputs.items()}, known


def _is_plain(thing: Any) -> bool:
    """Whether a domain needs no axes of others to be understood."""
    return getattr(thing, "kind", "unresolved") != "unresolved"


def as_conditions(where: str | Sequence[str] | None) -> tuple[str, ...]:
    """`where` as a tuple of texts."""
    return names(where, "where")
