"""Chains: specs composed by the chain rule, as a graph of calls.

`a >> b` feeds the output of a into the first input of b; calling a spec on names and chains makes any
graph. The same name is the same variable, and its gradient sums over all paths.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.compose import compose, lift, rename_operands, vjp_of
from gradcheck.algebra.normal import normalise
from gradcheck.algebra.relations import Relation
from gradcheck.algebra.shapes import DOTS, at_rank, leading_axes, rank_in
from gradcheck.algebra.terms import Expression, Term, free_alphabet
from gradcheck.composing import Jacobians, added, composed, paths
from gradcheck.domains import Domain, constant
from gradcheck.errors import SpecError
from gradcheck.evaluation import evaluate
from gradcheck.graph import Arrangement, Layout, arrange, shown
from gradcheck.operation import Claim, Operation, with_operand

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gradcheck.algebra.shapes import Shape
    from gradcheck.domains import Parameter


@dataclass(frozen=True, eq=False)
class Call:
    """An operation applied to variables and to the results of other calls.

    Attributes:
        operation: What is applied.
        arguments: For each input, the name of a variable or the call whose result is fed in.
        params: For each parameter, its name in the chain or a fixed value.
        where: A condition on the operation's axes and parameters, at this place.
    """

    operation: Operation
    arguments: dict[str, str | Call]
    params: dict[str, Any]
    where: str | None = None


@dataclass(frozen=True)
class Fixed:
    """A choice such as "sum" that a call settles; a plain text would name a parameter."""

    value: str

    def __repr__(self) -> str:
        return repr(self.value)


def _settled(value: Any) -> Any:
    """The value itself of a fixed parameter."""
    return value.value if isinstance(value, Fixed) else value


@dataclass(frozen=True)
class Node:
    """A call in its place: the chain's names for its arguments, and its local derivatives.

    Attributes:
        call: The call.
        names: The chain's name for each name of the operation.
        local: For each argument variable, the sum of ∂result/∂slot over the slots it feeds.
        rank: How many of the chain's axes the operation's `...` stands for here.
    """

    call: Call
    names: dict[str, str]
    result: str
    leading: tuple[str, ...]
    local: dict[str, Expression | None] = field(default_factory=dict)


class Chain(Operation):
    """Specs composed by the chain rule; usable wherever a spec is.

    Ranks and sizes are checked at once; all else is made when it is asked for, since a chain of a
    hundred links passes a hundred chains that nobody looks at.

    Args:
        root: The last call.
        fed: The chains that feed it, from whose arrangements this one is begun.
    """

    def __init__(self, root: Call, fed: Iterable[Chain] = ()) -> None:
        if not isinstance(root, Call):
            raise SpecError(
                f"a chain is made of calls of specs, not of {root!r}",
                hint='write first >> second, or second(first("x"))',
            )
        self.root = root
        self._arranged: Arrangement = arrange(root, (chain._arranged for chain in fed))
        self.native, self.source, self.doc, self.location = {}, "", "", None
        if self._arranged.mixed:
            self.inputs  # noqa: B018  says which variable would have to be two things
        if root.where:
            self.where  # noqa: B018  says what it cannot read

    def __getstate__(self) -> dict[str, Any]:
        """The calls side by side: nested as they are they would be too deep to be sent."""
        places = {id(call): i for i, call in enumerate(self._arranged.calls)}
        flat = [
            (
                call.operation,
                {n: v if isinstance(v, str) else places[id(v)] for n, v in call.arguments.items()},
                call.params,
                call.where,
            )
            for call in self._arranged.calls
        ]
        kept = ("name", "native", "source", "doc", "location")
        return {"flat": flat, **{n: self.__dict__[n] for n in kept if n in self.__dict__}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        calls: list[Call] = []
        for operation, arguments, params, where in state.pop("flat"):
            fed = {n: v if isinstance(v, str) else calls[v] for n, v in arguments.items()}
            calls.append(Call(operation, fed, params, where))
        self.root = calls[-1]
        self._arranged = arrange(self.root)
        self.__dict__.update(state)

    # ------------------------------------------------------------------ assembling

    @property
    def taken(self) -> Mapping[str, None]:
        """All names of variables and parameters, results of links included."""
        return self._arranged.taken

    @cached_property
    def layout(self) -> Layout:
        """The calls in running order, with the chain's names for everything."""
        return self._arranged.layout()

    @cached_property
    def name(self) -> str:  # type: ignore[override]
        """The chain as one would write it; a long one is shortened."""
        return shown(self._arranged)

    @cached_property
    def nodes(self) -> list[Node]:
        """The calls in the order in which they run, each with its local derivatives."""
        nodes = [self._node(i, call) for i, call in enumerate(self.layout.calls)]
        self._stop_at_constants(nodes)
        return nodes

    @cached_property
    def shapes(self) -> dict[str, Shape]:  # type: ignore[override]
        """The shape of each variable and parameter."""
        shapes = dict(self.layout.shapes)
        for index, call in enumerate(self.layout.calls):
            shapes.update((n, ()) for n in self._fixed(index, call).values())
        return shapes

    @cached_property
    def outputs(self) -> dict[str, Shape]:  # type: ignore[override]
        """The result; what is computed on the way is in `shapes`."""
        result = self._result(-1)
        return {result: self.layout.shapes[result]}

    @cached_property
    def one_hot(self) -> dict[str, str]:  # type: ignore[override]
        """For integer labels, the axis of their one-hot tensor."""
        return {
            self.layout.names[i][n]: self._below(i, axis, call)
            for i, call in enumerate(self.layout.calls)
            for n, axis in call.operation.one_hot.items()
        }

    @cached_property
    def where(self) -> tuple[str, ...]:  # type: ignore[override]
        """The conditions of all links, in the chain's names."""
        return tuple(self._conditions())

    def _result(self, index: int) -> str:
        return self.layout.names[index][self.layout.calls[index].operation.result]

    def _node(self, index: int, call: Call) -> Node:
        names = self.layout.names[index]
        operation = call.operation
        node = Node(call, names, names[operation.result], self.layout.leading[index])
        for slot in operation.inputs:
            if not operation.inputs[slot].differentiable:
                continue
            variable = names[slot]
            local = self._local(index, node, slot)
            known = node.local.get(variable, _NONE)
            if known is _NONE:
                node.local[variable] = local
            elif known is None or local is None:
                node.local[variable] = None
            else:
                node.local[variable] = added(known, local)
        return node

    def _local(
        self, index: int, node: Node, slot: str, output: str | None = None
    ) -> Expression | None:
        """∂output/∂slot of one call (of its result, or of a residual) in the chain's names."""
        operation = node.call.operation
        output = output or operation.result
        expression = operation.slice_derivative(output, slot)
        if expression is None:
            return None
        split = len([d for d in operation.shapes[output] if d != DOTS])
        placeholders = tuple(f"...{k}" for k in range(len(node.leading)))
        expression = lift(expression, split, placeholders, operation.dotted, of=output, to=slot)
        axes = self.layout.axis_of(index)
        renamed = rename_operands(expression, self._operand_names(index, node), axes)
        title = tuple((node.names.get(n, n), k) for n, k in expression.title)
        return normalise(replace(renamed, title=title))

    def _operand_names(self, index: int, node: Node) -> dict[str, str]:
        return {**node.names, **self._fixed(index, node.call)}

    def _fixed(self, index: int, call: Call) -> dict[str, str]:
        """The chain's names for the parameters that a call fixes."""
        result = self._result(index)
        return {n: f"{result}.{n}" for n, v in call.params.items() if not isinstance(v, str)}

    def _stop_at_constants(self, nodes: list[Node]) -> None:
        """A variable that also feeds a constant input has no known derivative through that one."""
        for node in nodes:
            for slot, value in node.call.arguments.items():
                if not isinstance(value, str) or node.call.operation.inputs[slot].differentiable:
                    continue
                if self.inputs[value].differentiable:
                    node.local[value] = None

    @cached_property
    def inputs(self) -> dict[str, Domain]:  # type: ignore[override]
        """The domain of each variable that is given, in order: the narrowest of those asked for."""
        found: dict[str, list[Domain]] = {}
        for index, call in enumerate(self.layout.calls):
            for slot, value in call.arguments.items():
                if isinstance(value, str):
                    domain = call.operation.inputs[slot]
                    axes = self.layout.axis_of(index)
                    names = {a: axes(a) for a in self.layout.axes_of_call(index)}
                    names |= self.layout.names[index] | self._values(call)
                    domain = replace(domain.renamed(names), shape=self.layout.shapes[value])
                    found.setdefault(value, []).append(domain)
        return {name: _strictest(name, domains) for name, domains in found.items()}

    @cached_property
    def params(self) -> dict[str, Parameter]:  # type: ignore[override]
        """The scalar parameters that no call fixes."""
        params: dict[str, Parameter] = {}
        for call in self.layout.calls:
            for name, value in call.params.items():
                if isinstance(value, str):
                    params.setdefault(value, call.operation.params[name])
        return params

    @staticmethod
    def _values(call: Call) -> dict[str, str]:
        """The fixed parameters of a call, as text."""
        fixed = {n: v for n, v in call.params.items() if not isinstance(v, str)}
        return {n: repr(_settled(v)) for n, v in fixed.items()}

    def _below(self, index: int, axis: str, call: Call) -> str:
        if axis in call.operation.params:
            return {**self.layout.names[index], **self._values(call)}[axis]
        return self.layout.axis_of(index)(axis)

    def _conditions(self) -> Iterator[str]:
        from gradcheck.algebra.conditions import rename_condition

        for index, call in enumerate(self.layout.calls):
            texts = [*call.operation.where, *([call.where] if call.where else [])]
            axes, names = self.layout.axis_of(index), self.layout.names[index]
            rename = {a: axes(a) for a in self.layout.axes_of_call(index)}
            rename.update({n: v for n, v in names.items() if n in call.operation.params})
            rename.update(self._values(call))
            yield from (rename_condition(text, rename) for text in texts)

    # ------------------------------------------------------------------ derivatives

    def claims(self) -> list[Claim]:
        """One claim an input that is differentiable: composed, or missing where a link has none."""
        result = self.result
        return [
            Claim(result, n, "chain" if self._complete(n) else "missing", n)
            for n in self.differentiable
        ]

    def _complete(self, name: str) -> bool:
        active = self._active(name)
        return all(
            node.local[v] is not None for node in self.nodes for v in node.local if v in active
        )

    def _active(self, name: str) -> set[str]:
        """The variables that depend on one."""
        active = {name}
        for node in self.nodes:
            if any(v in active for v in node.local):
                active.add(node.result)
        return active

    @property
    def jacobian(self) -> Jacobians:
        """∂result/∂variable by variable: inputs, and intermediate results too."""
        return Jacobians(self)

    def slice_derivative(self, output: str, name: str) -> Expression | None:
        """Σ over all paths of the products of local derivatives, deltas eliminated."""
        cache = self.__dict__.setdefault("_composed", {})
        if (output, name) not in cache:
            found = self._compose(output, name)
            relations = tuple(self.row_relations().values())
            cache[output, name] = found and replace(found, relations=relations)
        return cache[output, name]  # type: ignore[no-any-return]

    def row_relations(self) -> dict[str, Relation]:
        """Of the chain's inputs, and of what each call computes: not of what is fed into a domain."""
        found = super().row_relations()
        for node in self.nodes:
            for own, relation in node.call.operation.row_relations().items():
                if own in node.call.operation.inputs:
                    continue
                name = node.names[own]
                because = relation.because.replace(f" {own} ", f" {name} ")
                dotted = DOTS in self.shapes[name]
                found[name] = Relation(name, len(self._dims(name)), dotted, because)
        return found

    def knows(self, output: str, name: str) -> bool:
        """Whether the derivative is known, which is seen link by link: nothing is composed."""
        if name not in self.shapes or name in self.params or output not in self.shapes:
            return False
        if self._residual(output) is not None:
            return super().knows(output, name)
        active, reached = self._active(name), {output}
        for node in reversed(self.nodes):
            if node.result not in reached or node.result == name:
                continue
            feeding = [v for v in node.local if v in active]
            if any(node.local[v] is None for v in feeding):
                return False
            reached.update(feeding)
        # An input that is constant here has no derivative, which is not to say that it is zero.
        return name in reached or name in self.differentiable

    def _compose(self, output: str, name: str) -> Expression | None:
        if (residual := self._residual(output)) is not None:
            return self._through(*residual, name)
        if not self.knows(output, name):
            return None
        return composed(self, output, name) or self._zero(output, name)

    def _residual(self, name: str) -> tuple[int, str] | None:
        """The call and its own name for what it computes beside its result; None for all else."""
        for index, node in enumerate(self.nodes):
            outside = {*node.call.operation.inputs, *node.call.operation.params}
            for own, variable in node.names.items():
                if variable == name != node.result and own not in outside:
                    return index, own
        return None

    def _through(self, index: int, own: str, name: str) -> Expression | None:
        """∂residual/∂name: the call's own derivative of it, composed with those of its arguments."""
        node = self.nodes[index]
        output, active, total = node.names[own], self._active(name), None
        for slot in node.call.operation.inputs:
            variable = node.names[slot]
            if variable not in active:
                continue
            local = self._local(index, node, slot, own)
            inner = self.slice_derivative(variable, name)
            if local is None or inner is None:
                return None
            path = compose(local, inner, len(self._dims(variable)))
            total = path if total is None else added(total, path)
        return self._zero(output, name) if total is None else total

    def _zero(self, output: str, name: str) -> Expression:
        """The derivative with respect to a variable that the result does not depend on."""
        shape = (*self._dims(output), *self._dims(name))
        letters = tuple(s for s, _ in zip(free_alphabet(()), shape, strict=False))
        term = Term(Fraction(0), axes=dict(zip(letters, shape, strict=True)))
        title = ((output, len(self._dims(output))), (name, len(self._dims(name))))
        return Expression(letters, (term,), title)

    def _dims(self, name: str) -> Shape:
        return tuple(d for d in self.shapes[name] if d != DOTS)

    def links(self, name: str) -> list[str]:
        """The chain rule as nested einsum patterns, one line a path: `'pq,pqrs,rstu->tu'`."""
        return paths(self, name)

    # ------------------------------------------------------------------ evaluation

    def environment(self, xp: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Every variable by name: inputs, parameters, intermediate results and residuals."""
        known = dict(values)
        for index, call in enumerate(self.layout.calls):
            operation, names = call.operation, self.layout.names[index]
            inner = {n: known[names[n]] for n in operation.inputs}
            for n, v in call.params.items():
                inner[n] = known[v] if isinstance(v, str) else _settled(v)
            known.update((name, inner[n]) for n, name in self._fixed(index, call).items())
            produced = operation.environment(xp, inner)
            known.update({names[n]: v for n, v in produced.items() if n not in inner})
        return known

    def pull(
        self, prepared: Any, ops: Any, cotangent: Any, names: tuple[str, ...]
    ) -> dict[str, Any]:
        """Reverse accumulation, link by link: each link contracts its own letters."""
        rank = rank_in(prepared.sizes)
        active = set().union(*(self._active(n) for n in names))
        sums: dict[str, Any] = {self.result: cotangent}
        for index, node in reversed(list(enumerate(self.nodes))):
            if node.result not in sums:
                continue
            for variable, local in node.local.items():
                if variable in active and local is not None:
                    step = self._pullback(index, variable, local, rank)
                    seeded = with_operand(prepared, f"d({node.result})", sums[node.result])
                    part = evaluate(step, seeded, ops)
                    sums[variable] = sums[variable] + part if variable in sums else part
        return {
            n: sums[n] if n in sums else ops.zeros(self._extents(n, prepared), prepared.like)
            for n in names
        }

    def _extents(self, name: str, prepared: Any) -> tuple[int, ...]:
        return tuple(prepared.extent(a) for a in prepared.shapes[name])

    def _pullback(self, index: int, variable: str, local: Expression, rank: int) -> Expression:
        cache = self.__dict__.setdefault("_pullbacks", {})
        key = (index, variable, rank)
        if key not in cache:
            node = self.nodes[index]
            split = len(self._dims(node.result))
            lifted = lift(
                local, split, leading_axes(rank), self.dotted, of=node.result, to=variable
            )
            cache[key] = vjp_of(lifted, node.result, len(at_rank(self.shapes[node.result], rank)))
        return cache[key]  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<Chain {self.name}>"


_NONE: Any = object()


def _strictest(name: str, domains: list[Domain]) -> Domain:
    """One variable in several places lives in the narrowest of their domains."""
    order = (
        "dependent",
        "strategy",
        "labels",
        "integers",
        "one_hot",
        "mask",
        "probability",
        "positive",
    )
    ranked = sorted(
        domains,
        key=lambda d: (
            order.index(d.kind) if d.kind in order else len(order),
            d.lo is None and d.hi is None,
            any(x.startswith("#") for x in d.shape),
        ),
    )
    best = ranked[0]
    kinds = {d.kind for d in domains} & {"labels", "integers"}
    if kinds and len({d.kind for d in domains}) > 1:
        raise SpecError(
            f"{name!r} is {domains[0].describe()} in one place and {domains[1].describe()} in another",
            hint="give the two variables different names",
        )
    natural = [d for d in domains if d.differentiable]
    if natural and not best.differentiable and best.kind not in ("labels", "integers"):
        mixed = replace(natural[0], shape=best.shape)
        return constant(mixed) if all(not d.differentiable for d in domains) else mixed
    return best
