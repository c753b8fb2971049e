"""A spec: one operation's forward, the domains of its inputs, and its hand-derived derivatives."""

from __future__ import annotations

import inspect
import itertools
import numbers
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import backends
from gradcheck.algebra.binding import Scope, bind
from gradcheck.algebra.compose import jacobian_of_vjp
from gradcheck.algebra.conditions import parse_condition
from gradcheck.algebra.shapes import DOTS, Shape, axes_of, parse_shape
from gradcheck.algebra.source import assigned_name, caller
from gradcheck.algebra.terms import Expression, Term, free_alphabet
from gradcheck.arguments import brief, check_call, check_returned, counted, table
from gradcheck.domains import Domain, as_domain, as_parameter
from gradcheck.errors import SpecError
from gradcheck.operation import Claim, Operation, check_outputs, row_relation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradcheck.algebra.relations import Relation


# Frameworks whose own implementation a spec may name beside its forward.
NATIVE = backends.BACKENDS


class Spec(Operation):
    """One operation and the derivatives that somebody derived for it by hand.

    Args:
        forward: `forward(xp, *inputs, **params)`, written once against the array namespace `xp`, or
            a chain, about which the derivatives are then claims. It may return a tuple in the order
            of `output`: the first is the result, the others residuals.
        inputs: The domain of each input, such as `{"z": real("m n")}`.
        output: The shape of the result (`"m n"`), or a shape or domain for each output by name.
        jacobian: For each input (or `("residual", "input")`) the derivative as an expression, with
            the output's letters first, or 0.
        vjp: Instead of a Jacobian: an expression linear in `"d(a)"`, the cotangent of output a.
        params: Scalar parameters, such as `{"eps": number(1e-8, 1e-3)}`.
        where: A condition on axes and parameters, such as `"l >= k"`.
        native: Frameworks' own implementations by framework, called with the inputs in order.
        source: Where the derivation comes from: paper, equation, notebook.
        name: The name in reports; the variable's, where it is loaded from a file.

    Raises:
        SpecError: Naming file, spec and letter, where something does not fit.
    """

    def __init__(
        self,
        forward: Callable[..., Any] | Operation,
        *,
        inputs: Mapping[str, Any] | None = None,
        output: Any = None,
        jacobian: Mapping[Any, Expression | int] | None = None,
        vjp: Mapping[str, Expression] | None = None,
        params: Mapping[str, Any] | None = None,
        where: str | None = None,
        native: Mapping[str, Callable[..., Any]] | None = None,
        source: str = "",
        name: str | None = None,
    ) -> None:
        self.location = caller()
        self.name = str(name or assigned_name(self.location) or "spec")
        self.forward = forward
        self.source = source
        try:
            _check_texts(name=name, source=source, where=where)
            self.native = table(native, "native", 'native={"torch": torch.nn.functional.softmax}')
            inputs = table(inputs, "inputs", 'inputs={"z": real("m n")}')
            params = table(params, "params", 'params={"eps": number(1e-8, 1e-3)}')
            self._declare(inputs, output, params, where)
            self._claimed: dict[tuple[str, str], tuple[str, Expression]] = {}
            example = f'jacobian={{"{next(iter(self.inputs), "x")}": einsum(...)}}'
            self._take_jacobians(table(jacobian, "jacobian", example, pairs=True))
            self._take_vjps(table(vjp, "vjp", example.replace("jacobian", "vjp")))
            self._check_native()
        except SpecError as error:
            raise error.within(spec=self.name, location=self.location) from None

    # ------------------------------------------------------------------ declarations

    def _declare(self, inputs: Any, output: Any, params: Any, where: str | None) -> None:
        inner = self.forward if isinstance(self.forward, Operation) else None
        if inner is None and not callable(self.forward):
            raise SpecError(
                f"the forward is {self.forward!r}",
                hint="give a function forward(xp, ...) or a chain",
            )
        if inner is None and not inputs:
            raise SpecError(
                "a spec needs the domains of its inputs", hint='inputs={"z": real("m n")}'
            )
        self.doc = _doc_of(self.forward)
        self.params = {**(inner.params if inner else {})}
        self.params.update({n: as_parameter(p, n) for n, p in (params or {}).items()})
        self.where = (*(inner.where if inner else ()), *((where,) if where else ()))
        declared = {n: self._domain(d, n, inputs or {}) for n, d in (inputs or {}).items()}
        self.inputs = {**inner.inputs, **declared} if inner else declared
        if inner and (unknown := [n for n in declared if n not in inner.inputs]):
            raise SpecError(
                f"the chain has no input {unknown[0]!r}",
                hint=f"its inputs are {', '.join(inner.inputs)}",
            )
        if inner:
            self._check_overrides(inner, declared, params or {})
        self._check_names()
        if inner is None:
            taken = ["xp", *self.inputs]
            check_call(self.forward, taken, [*self.params], what="the forward", error=SpecError)
        self.outputs, self.relations = self._outputs(output, inner)
        self.shapes = {
            **(inner.shapes if inner else {}),
            **{n: d.shape for n, d in self.inputs.items()},
        }
        self.shapes.update(dict.fromkeys(self.params, ()))
        self.shapes.update(self.outputs)
        self.one_hot = {n: str(d.below) for n, d in self.inputs.items() if d.kind == "labels"}
        self._check_dots()
        for condition in self.where:
            parse_condition(condition, [*self.axes, *self.params])

    def _domain(self, thing: Any, name: str, inputs: Mapping[str, Any]) -> Domain:
        others = [d for d in inputs.values() if isinstance(d, Domain)]
        axes = {a for d in others for a in axes_of(d.shape)}
        return as_domain(thing, name, axes=sorted(axes), params=self.params)

    def _check_overrides(
        self, inner: Operation, declared: Mapping[str, Domain], params: Mapping[str, Any]
    ) -> None:
        """What is declared anew about a chain has the chain's own names and axes."""
        for name, domain in declared.items():
            if domain.source is None and domain.shape != inner.inputs[name].shape:
                raise SpecError(
                    f"{name!r} is declared {' '.join(domain.shape)!r}, but the chain calls its axes "
                    f"{' '.join(inner.inputs[name].shape)!r}",
                    hint="write the chain's axes, or leave the input out",
                )
        for name in params:
            if name not in inner.params:
                raise SpecError(
                    f"the chain has no parameter {name!r}",
                    hint=f"its parameters are {', '.join(inner.params) or 'none'}",
                )

    def _check_names(self) -> None:
        for name in [*self.inputs, *self.params]:
            if not name.isidentifier():
                raise SpecError(f"{name!r} is no name for an input", hint="use a Python identifier")
        both = [n for n in self.inputs if n in self.params]
        if both:
            raise SpecError(
                f"{both[0]!r} is both an input and a parameter", hint="rename one of them"
            )

    def _outputs(
        self, output: Any, inner: Operation | None
    ) -> tuple[dict[str, Shape], dict[str, Domain]]:
        if inner is not None and output is None:
            return dict(inner.outputs), {}
        if output is None:
            return {"out": infer_output(self)}, {}
        own = "out" if inner is None else inner.result
        items = output if isinstance(output, dict) else {own: output}
        if not items:
            raise SpecError("a spec has at least one output", hint='output={"a": "m n"}')
        shapes, relations = {}, {}
        for name, thing in items.items():
            if not isinstance(name, str) or not name.isidentifier():
                raise SpecError(
                    f"{name!r} is no name for an output", hint='write output={"a": "m n"}'
                )
            if isinstance(thing, Domain):
                shapes[name], relations[name] = thing.shape, thing
            else:
                shapes[name] = parse_shape(thing)
            if name in self.inputs or name in self.params:
                raise SpecError(
                    f"{name!r} is both an input and an output",
                    hint="give the output a name of its own",
                )
            if inner is not None and inner.shapes.get(name) != shapes[name]:
                raise _unlike_chain(inner, name, shapes[name])
        return shapes, relations

    def _check_dots(self) -> None:
        dotted = [n for n in self.inputs if DOTS in self.shapes[n]]
        for name, shape in self.outputs.items():
            if dotted and DOTS not in shape:
                raise SpecError(
                    f"{dotted[0]} has leading axes '...', but the output {name!r} has none",
                    hint=f"leading axes are a vmap: write the output as '... {' '.join(shape)}'",
                )

    def _check_native(self) -> None:
        for framework, function in self.native.items():
            if framework not in NATIVE:
                raise SpecError(
                    f"native names the unknown framework {framework!r}",
                    hint=f"known are {', '.join(NATIVE)}",
                )
            if not callable(function):
                raise SpecError(
                    f"native[{framework!r}] is {brief(function)}, no function",
                    hint=f"write the framework's own, called with ({', '.join(self.inputs)})",
                )

    # ------------------------------------------------------------------ claims

    def _take_jacobians(self, jacobian: Mapping[Any, Any]) -> None:
        for key, expression in jacobian.items():
            output, name = key if isinstance(key, tuple) else (self.result, key)
            self._check_claim(output, name, expression, "jacobian")
            shapes = ((output, self._slice(output)), (name, self._slice(name)))
            written = self._zero(shapes) if _is_zero(expression) else expression
            bound = bind(written, shapes, self._scope())
            self._claimed[output, name] = ("jacobian", self._related(bound))

    def _zero(self, shapes: tuple[tuple[str, Shape], ...]) -> Expression:
        """The derivative 0, with a letter for each axis."""
        count = sum(len(shape) for _, shape in shapes)
        letters = tuple(itertools.islice(free_alphabet(()), count))
        return Expression(letters, (Term(Fraction(0), location=self.location),))

    def _take_vjps(self, vjp: Mapping[str, Expression]) -> None:
        result = self.result
        for name, expression in vjp.items():
            self._check_claim(result, name, expression, "vjp")
            if (result, name) in self._claimed:
                raise SpecError(
                    f"{name!r} has both a jacobian and a vjp",
                    hint="make them two specs, or keep one",
                )
            _check_linear(expression, result)
            bound = bind(expression, ((name, self._slice(name)),), self._scope(cotangent=True))
            self._claimed[result, name] = (
                "vjp",
                self._related(jacobian_of_vjp(bound, result, self._slice(result))),
            )

    def _related(self, expression: Expression) -> Expression:
        return replace(expression, relations=tuple(self.row_relations().values()))

    def row_relations(self) -> dict[str, Relation]:
        """The operands whose rows sum to one; of a forward that is a chain, what it computes too."""
        inner = self.forward.row_relations() if isinstance(self.forward, Operation) else {}
        computed = {n: r for n, r in inner.items() if n not in self.inputs}
        declared = {n: row_relation(n, d, d.shape) for n, d in self.relations.items()}
        own = {n: r for n, r in declared.items() if r is not None}
        return {**super().row_relations(), **computed, **own}

    def _check_claim(self, output: str, name: str, expression: object, what: str) -> None:
        if output not in self.outputs:
            raise SpecError(
                f"{what}[{output!r}, {name!r}] names no output",
                hint=f"outputs are {', '.join(self.outputs)}",
            )
        if name not in self.inputs:
            raise SpecError(
                f"{what}[{name!r}] names no input", hint=f"inputs are {', '.join(self.inputs)}"
            )
        if not self.inputs[name].differentiable:
            raise SpecError(
                f"{what}[{name!r}] is claimed, but {name} is {self.inputs[name].describe()}, a constant",
                hint="leave the claim out, or declare the input differentiable: real(...)",
            )
        if not isinstance(expression, Expression) and not (
            what == "jacobian" and _is_zero(expression)
        ):
            raise self._no_expression(output, name, expression, what)

    def _no_expression(self, output: str, name: str, found: object, what: str) -> SpecError:
        key = name if output == self.result else (output, name)
        hint = "write it as einsum(...) terms"
        if isinstance(found, numbers.Number):
            hint += (
                f"; the only number without letters is 0: jacobian={{{key!r}: 0}}, where {output} does "
                f"not depend on {name}"
            )
        return SpecError(f"{what}[{key!r}] is {found!r}", hint=hint)

    def _slice(self, name: str) -> Shape:
        return tuple(d for d in self.shapes[name] if d != DOTS)

    def _scope(self, *, cotangent: bool = False) -> Scope:
        shapes = {n: self._slice(n) for n in self.shapes}
        if cotangent:
            shapes[f"d({self.result})"] = self._slice(self.result)
        return Scope(shapes, self.one_hot, frozenset(self.axes))

    def claims(self) -> list[Claim]:
        """The claimed derivatives, then those of the result that are missing."""
        found = [
            Claim(output, name, form, name if output == self.result else f"{output}, {name}")
            for (output, name), (form, _) in self._claimed.items()
        ]
        missing = [n for n in self.differentiable if (self.result, n) not in self._claimed]
        return found + [Claim(self.result, n, "missing", n) for n in missing]

    def slice_derivative(self, output: str, name: str) -> Expression | None:
        """∂output/∂name of one slice, as it was claimed."""
        found = self._claimed.get((output, name))
        if found is not None:
            return found[1]
        inner = self.forward
        return inner.slice_derivative(output, name) if isinstance(inner, Operation) else None

    @property
    def jacobian(self) -> dict[str, Expression]:
        """The claimed derivatives of the result, by input."""
        return {n: e for (o, n), (_, e) in self._claimed.items() if o == self.result}

    # ------------------------------------------------------------------ forward

    def environment(self, xp: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs, parameters and outputs by name."""
        if isinstance(self.forward, Operation):
            return self.forward.environment(xp, values)
        arrays = [values[n] for n in self.inputs]
        produced = self.forward(xp, *arrays, **{n: values[n] for n in self.params})
        self._check_returned(produced)
        if not isinstance(produced, tuple):
            produced = (produced,)
        if len(produced) != len(self.outputs):
            raise SpecError(
                f"the forward returns {counted(len(produced), 'array')} for "
                f"{counted(len(self.outputs), 'output')}",
                hint=f"return {', '.join(self.outputs)}{' in this order' if len(self.outputs) > 1 else ''}",
                spec=self.name,
                location=self.location,
            )
        named = dict(zip(self.outputs, produced, strict=True))
        check_outputs(self, named, self.sizes_of(values))
        return {**{n: values[n] for n in [*self.inputs, *self.params]}, **named}

    def _check_returned(self, produced: Any) -> None:
        """The forward gave arrays, whose shapes are looked at next."""
        try:
            check_returned(produced, "the forward")
        except SpecError as error:
            raise error.within(spec=self.name, location=self.location) from None

    def __repr__(self) -> str:
        return f"<Spec {self.name}: {', '.join(self.inputs)} → {', '.join(self.outputs)}>"


def _check_texts(**given: object) -> None:
    """What is written as text, or left out."""
    for name, value in given.items():
        if value is not None and not isinstance(value, str):
            hint = f'write {name}="..."'
            if name == "where":
                hint = 'write one condition, joined by and: where="l >= k and p != 0"'
            raise SpecError(f"{name} is {brief(value)}, not text", hint=hint)


def _is_zero(claim: object) -> bool:
    """Whether a claim is the plain number 0."""
    return isinstance(claim, numbers.Complex) and not isinstance(claim, bool) and claim == 0


def _unlike_chain(inner: Operation, name: str, shape: Shape) -> SpecError:
    made = {n: s for n, s in inner.shapes.items() if n not in {**inner.inputs, **inner.params}}
    shown = ", ".join(f"{n} {' '.join(s)!r}" for n, s in made.items())
    return SpecError(
        f"the output {name!r} of shape {' '.join(shape)!r} is nothing that the chain computes",
        hint=f"it computes {shown}; leave the output out to take its result",
    )


def _check_linear(expression: Expression, result: str) -> None:
    for term in expression.terms:
        seeds = [f.name for f in term.factors if f.name.startswith("d(")]
        if seeds != [f"d({result})"]:
            found = ", ".join(seeds) or "none"
            raise SpecError(
                f"each term of a vjp holds the cotangent 'd({result})' once; this one holds: {found}",
                hint=f'write einsum("pq,pq->pq", "{result}", "d({result})")',
                location=term.location,
            )


def _doc_of(forward: Any) -> str:
    module = inspect.getmodule(forward) if not isinstance(forward, Operation) else None
    own = inspect.getdoc(forward) if not isinstance(forward, Operation) else forward.doc
    return own or (inspect.getdoc(module) if module else "") or ""


def infer_output(spec: Spec) -> Shape:
    """The output's shape in axes, from a run at pairwise distinct sizes.

    Raises:
        SpecError: Where a dimension of the output is no axis of an input.
    """
    axes = list(dict.fromkeys(a for d in spec.inputs.values() for a in axes_of(d.shape)))
    dims = []
    for pair in zip(_probe(spec, axes, 0), _probe(spec, axes, 1), strict=True):
        found = [a for i, a in enumerate(axes) if pair == (_prime(i, 0), _prime(i, 1))]
        if not found and pair[0] != pair[1]:
            raise SpecError(
                f"the forward gives an axis of size {pair[0]}, which is no axis of an input",
                hint=f'name it: output={{"out": "..."}}, with the axes {", ".join(axes)} or new ones',
            )
        dims.append(found[0] if found else str(pair[0]))
    leading = ("...",) if any(DOTS in d.shape for d in spec.inputs.values()) else ()
    return (*leading, *dims)


def _prime(place: int, turn: int) -> int:
    """A size for an axis: another prime for each, and for each of two turns."""
    primes = (11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)
    return primes[(2 * place + turn) % len(primes)]


def _probe(spec: Spec, axes: list[str], turn: int) -> tuple[int, ...]:
    """The shape of the result at sizes that are all different."""
    sizes = {a: _prime(i, turn) for i, a in enumerate(axes)}
    sizes.update({f"#{a}": n for a, n in sizes.items()})
    params = {n: p.simplest() for n, p in spec.params.items()}
    values = [d.simplest(sizes, params) for d in spec.inputs.values()]
    forward: Any = spec.forward
    xp = backends.get("numpy").namespace("float64", "cpu")
    try:
        with np.errstate(all="ignore"):
            produced = forward(xp, *values, **params)
            check_returned(produced, "the forward")
    except SpecError:
        raise
    except (Exception, SystemExit) as error:
        raise SpecError(
            f"the output's shape is not declared, and the forward cannot be run to find it: "
            f"{type(error).__name__}: {error}",
            hint='declare it: output={"a": "m n"}',
        ) from error
    return np.shape(produced[0] if isinstance(produced, tuple) else produced)
