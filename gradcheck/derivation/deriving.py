"""From a chain to its derivation: variables from the result down, each from those that it flows into."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from gradcheck.accumulating import why_link_by_link
from gradcheck.algebra.compose import compose, jacobian_of_vjp, relabel, vjp_of
from gradcheck.algebra.grouping import Group
from gradcheck.algebra.terms import Expression, Factor, Term, free_alphabet
from gradcheck.algebra.vectorise import matrix_form
from gradcheck.arguments import brief
from gradcheck.arguments import names as words
from gradcheck.chain import Chain
from gradcheck.derivation.lines import Line, as_factor, line_of, multiplied
from gradcheck.derivation.model import Derivation, Local, Proof, Section, Step
from gradcheck.derivation.rules import steps
from gradcheck.errors import SpecError, UsageError
from gradcheck.operation import Claim, Operation
from gradcheck.oracles.symbolic import equal, symbolic
from gradcheck.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradcheck.chain import Node

# The chain rule is written out along each path only up to this many of them.
MOST_PATHS = 8


def derive(target: Operation | str, wrt: str | Iterable[str] | None = None) -> Derivation:
    """The derivation of a gradient, from the specs' own derivatives to the closed form.

    Args:
        target: A spec, a chain, or the text of one, such as "softmax >> cross_entropy".
        wrt: The variables (inputs, or intermediate results); all differentiable inputs by default.

    Returns:
        The derivation; each step is proved equal to the one before, and the last line to be the
        derivative of the forward (`.ok`, `.steps`, `.proofs`).

    Raises:
        UsageError: For an unknown variable, naming those that there are; for a chain of so many terms
            that nobody reads its lines.
        SpecError: Where a link claims no derivative.
    """
    operation = _operation(target)
    claimed = operation if isinstance(operation, Spec) else None
    chain = _chain(operation)
    names = _wanted(chain, wrt)
    for name in names:
        _check_length(chain, name)
    return _Deriving(chain, names, claimed).run(operation)


def _operation(target: Operation | str) -> Operation:
    if isinstance(target, Operation):
        return target
    if not isinstance(target, str):
        msg = f"derive takes a spec, a chain, or the text of one; got {brief(target)}"
        raise UsageError(msg)
    from gradcheck.library import resolve

    found = resolve([target])
    if len(found) != 1:
        listed = ", ".join(t.name for t in found)
        msg = f"{target!r} holds {len(found)} specs; derive takes one of them: {listed}"
        raise UsageError(msg)
    return found[0].operation


def _chain(operation: Operation) -> Chain:
    """The graph of an operation: a spec by itself is a chain of one link."""
    if isinstance(operation, Chain):
        return operation
    inner = getattr(operation, "forward", None)
    if isinstance(inner, Chain):
        return inner
    return operation()


def _check_length(chain: Chain, name: str) -> None:
    why = why_link_by_link(chain, Claim(chain.result, name, "chain", name))
    if why:
        msg = (
            f"{why}: too many to be written line by line\n  derive a part of the chain, or a link by "
            "itself; `verify` checks the whole, and `.gradient()` and `.vjp()` compute it"
        )
        raise UsageError(msg)


def _wanted(chain: Chain, wrt: str | Iterable[str] | None) -> tuple[str, ...]:
    names = words(wrt, "wrt") or chain.differentiable
    known = [n for n in chain.shapes if n not in chain.params and "." not in n]
    for name in names:
        if name not in known:
            msg = f"{chain.name} has no variable {name!r}; it has {', '.join(known)}"
            raise UsageError(msg)
        if name == chain.result:
            msg = f"{name} is the result itself; derive with respect to one of {', '.join(chain.inputs)}"
            raise UsageError(msg)
        if name in chain.inputs and not chain.inputs[name].differentiable:
            kind = chain.inputs[name].describe()
            msg = f"{name} is {kind}, a constant: no derivative with respect to it is claimed"
            raise UsageError(msg)
    return names


class _Deriving:
    """The work: lines by variable, and the sections that led to them."""

    def __init__(self, chain: Chain, wrt: tuple[str, ...], claimed: Spec | None) -> None:
        self.chain, self.wrt, self.claimed = chain, wrt, claimed
        self.relations = tuple(chain.row_relations().values())
        self.active = {v for name in wrt for v in chain._active(name)}
        self.letters = self._letters()
        self.cotangent = chain.result if chain._dims(chain.result) else ""
        self.lines: dict[str, Line] = {chain.result: self._start()}
        self.pending: dict[str, list[Local]] = {}
        self.sections: list[Section] = []
        self.locals: list[Local] = []

    def run(self, operation: Operation) -> Derivation:
        chain = self.chain
        for node in reversed(chain.nodes):
            self._finish(node.result)
            if node.result in self.lines:
                self._flow(node)
        for name in list(self.pending):
            self._finish(name)
        for name in self.wrt:
            if name not in self.lines:
                msg = f"{chain.result} does not depend on {name}: the derivative is 0"
                raise UsageError(msg)
        proofs = {name: self._proof(name) for name in self.wrt}
        return Derivation(
            operation,
            operation.name,
            self.wrt,
            self.cotangent,
            tuple(self.locals),
            {name: self._paths(name) for name in self.wrt},
            tuple(self.sections),
            proofs,
            self.letters,
        )

    def _flow(self, node: Node) -> None:
        """What flows from a link into its variables: its own derivatives."""
        for variable, local in node.local.items():
            if variable not in self.active:
                continue
            if local is None:
                self._missing(node.call.operation, variable)
            found = self._local(node.result, variable, local, node.call.operation.name)
            self.locals.append(found)
            self.pending.setdefault(variable, []).append(found)

    def _letters(self) -> dict[str, tuple[str, ...]]:
        """Letters of its own for each result, from the last one down; inputs share what is left.

        No letter is the name of an operand or an axis; v is kept for the cotangent.
        """
        chain = self.chain
        taken = {*chain.shapes, *chain.axes, "v"}
        found: dict[str, tuple[str, ...]] = {}
        supply = free_alphabet(taken)
        for node in reversed(chain.nodes):
            if node.result in self.active or node.result == chain.result:
                found[node.result] = tuple(next(supply) for _ in chain._dims(node.result))
        taken |= {s for letters in found.values() for s in letters}
        for node in reversed(chain.nodes):
            for name in node.local:
                if name in self.active and name not in found:
                    own = free_alphabet(taken)
                    found[name] = tuple(next(own) for _ in chain._dims(name))
        return found

    def _start(self) -> Line:
        """∂L/∂L = 1, or the cotangent v of a result that is no scalar."""
        result = self.chain.result
        letters, axes = self.letters[result], self.chain._dims(result)
        factors = (Factor(f"d({result})", letters),) if self.cotangent else ()
        group = Group(Fraction(1), (), factors, (), (), (), dict(zip(letters, axes, strict=True)))
        return Line((group,), letters, axes, self.relations, self.chain.seed)

    def _local(self, result: str, variable: str, local: Expression | None, link: str) -> Local:
        assert local is not None
        letters = (self.letters[result], self.letters[variable])
        named = relabel(local, letters[0] + letters[1])
        return Local(result, variable, letters, line_of(named, self.relations), link)

    def _missing(self, operation: Operation, variable: str) -> None:
        raise SpecError(
            f"{operation.name} claims no derivative that leads to {variable!r}",
            hint=f"claim it in the spec's jacobian, or derive with respect to one of "
            f"{', '.join(operation.differentiable)} alone",
        )

    # ------------------------------------------------------------------ a section

    def _finish(self, variable: str) -> None:
        """The line of a variable, once all that it flows into are done."""
        flows = self.pending.pop(variable, [])
        if not flows:
            return
        first = self._substituted(variable, flows)
        trivial = len(flows) == 1 and flows[0].result == self.chain.result and not self.cotangent
        done: list[Step] = []
        if not trivial:
            before = self._composed(variable, flows)
            done.append(self._step(before, first, "substitute", "the chain rule"))
        line = first
        for found in steps(first):
            step = self._step(line.expression(), found.line, found.rule, found.reason)
            done.append(step)
            line = found.line
        self.lines[variable] = line
        if done or variable in self.wrt:
            self.sections.append(self._section(variable, flows, done, line))

    def _substituted(self, variable: str, flows: list[Local]) -> Line:
        output, axes = self.letters[variable], self.chain._dims(variable)
        groups = [
            multiplied(outer, as_factor(flow.line), flow.letters[0], output)
            for flow in flows
            if flow.line.groups  # none where the derivative is 0
            for outer in self.lines[flow.result].groups
        ]
        return Line(tuple(groups), output, axes, self.relations, self.chain.seed)

    def _composed(self, variable: str, flows: list[Local]) -> Expression:
        """The same by the composition of expressions, which knows nothing of lines."""
        total: Expression | None = None
        for flow in flows:
            local, shared = flow.line.expression(), len(flow.letters[0])
            if flow.result == self.chain.result and self.cotangent:
                path = vjp_of(local, self.cotangent, shared)
            else:
                path = compose(self.lines[flow.result].expression(), local, shared)
            path = relabel(path, self.letters[variable])
            total = path if total is None else total + path
        assert total is not None
        return replace(total, relations=self.relations)

    def _step(self, before: Expression, line: Line, rule: str, reason: str) -> Step:
        after = line.expression()
        return Step(before, after, rule, reason, line, self._equal(before, after))

    def _equal(self, before: Expression, after: Expression) -> Proof:
        first, second = self._jacobian(before), self._jacobian(after)
        finding = equal(self.chain, first, relabel(second, first.output))
        return Proof(finding.verdict, finding.statement or finding.reason)

    def _jacobian(self, expression: Expression) -> Expression:
        """What is linear in the cotangent, as the Jacobian that it stands for."""
        if not self.cotangent:
            return expression
        live = tuple(t for t in expression.terms if t.coefficient)
        shape = self.chain._dims(self.cotangent)
        titled = replace(expression, terms=live, title=(("x", len(expression.output)),))
        found = jacobian_of_vjp(titled, self.cotangent, shape)
        if live:
            return found
        own = (expression.terms[0].axes[s] for s in expression.output)
        zero = Term(Fraction(0), axes=dict(zip(found.output, (*shape, *own), strict=True)))
        return replace(found, terms=(zero,))

    def _section(self, variable: str, flows: list[Local], done: list[Step], line: Line) -> Section:
        consumers = tuple((f.result, f.letters[0]) for f in flows)
        found = matrix_form(line.expression().simplify())
        shown = ("", "", found) if isinstance(found, str) else (found.text(), found.latex(), "")
        return Section(variable, self.letters[variable], consumers, tuple(done), line, *shown)

    # ------------------------------------------------------------------ the whole

    def _proof(self, name: str) -> Proof:
        """Whether the last line is the derivative of the forward."""
        chain, last = self.chain, self.lines[name].expression()
        claim = next((c for c in chain.claims() if c.input == name), None)
        if claim is None:
            whole = chain.slice_derivative(chain.result, name)
            assert whole is not None
            return self._against(whole, last, "the product of the links' derivatives")
        finding = symbolic(chain, claim)
        if finding.verdict != "proved":
            return Proof(finding.verdict, finding.reason)
        whole = chain.slice_derivative(chain.result, name)
        assert whole is not None
        same = self._against(whole, last, "")
        if not same.ok:
            return same
        return self._as_claimed(name, last, Proof("proved", finding.statement))

    def _as_claimed(self, name: str, last: Expression, proof: Proof) -> Proof:
        """The closed form that a spec claims of a chain, against what was derived."""
        spec = self.claimed
        own = spec.slice_derivative(self.chain.result, name) if spec is not None else None
        if spec is None or own is None or spec.forward is not self.chain:
            return proof
        same = self._against(own, last, "")
        if not same.ok:
            return Proof(same.verdict, f"{spec.name} claims something else: {same.words}")
        return Proof("proved", f"{proof.words}; it is what {spec.name} claims")

    def _against(self, whole: Expression, last: Expression, what: str) -> Proof:
        jacobian = self._jacobian(last)
        finding = equal(self.chain, relabel(whole, jacobian.output), jacobian)
        words = finding.statement or finding.reason
        return Proof(finding.verdict, f"equal to {what}, {words}" if what else words)

    def _paths(self, name: str) -> list[list[str]]:
        found: list[list[str]] = []

        def walk(variable: str, path: list[str]) -> None:
            if len(found) > MOST_PATHS:
                return
            if variable == name:
                found.append(path)
                return
            for local in self.locals:
                if local.result == variable:
                    walk(local.variable, [*path, local.variable])

        walk(self.chain.result, [self.chain.result])
        return found if len(found) <= MOST_PATHS else []
