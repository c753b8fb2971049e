"""One run of a forward on forms: its operands, its derivative, and expressions over its operands."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.canonical.atoms import Atom, Table
from gradcheck.algebra.canonical.calculus import Calculus
from gradcheck.algebra.canonical.decide import related_atom
from gradcheck.algebra.canonical.forms import (
    Form,
    Key,
    build,
    constant,
    entry,
    relettered,
    scalar,
    summed,
)
from gradcheck.algebra.shapes import at_rank
from gradcheck.oracles.symbolic.arrays import SymArray
from gradcheck.oracles.symbolic.conditions import asked
from gradcheck.oracles.symbolic.namespace import Symbols

if TYPE_CHECKING:
    from gradcheck.algebra.terms import Expression, Factor, Term
    from gradcheck.operation import Operation
    from gradcheck.oracles.symbolic.cases import Case


class Run:
    """The forward of an operation, run once in one case.

    Attributes:
        table: The atoms.
        atoms: The atom of each input.
        operands: Every operand by name.
    """

    def __init__(self, operation: Operation, case: Case) -> None:
        self.operation, self.case = operation, case
        self.table = Table()
        self.xp = Symbols(self.table)
        self.atoms: dict[str, Atom] = {}
        self.xp.ranges = {
            n: _range(d) for n, d in (*operation.inputs.items(), *operation.params.items())
        }
        values = {n: self._input(n) for n in operation.inputs}
        values.update({n: self._param(n) for n in operation.params})
        self.operands = self.environment(values)
        if self.xp.refused is not None:
            raise self.xp.refused

    def environment(self, values: dict[str, Any]) -> dict[str, Any]:
        """Every operand, from the arrays of inputs and parameters."""
        return self.operation.environment(self.xp, values)

    def axes(self, name: str) -> tuple[str, ...]:
        """The axes of an operand; "1" for an axis of size one."""
        shape = at_rank(self.operation.shapes[name], self.case.rank)
        return tuple(self.axis(a) for a in shape)

    def axis(self, axis: str) -> str:
        """How forms call an axis: by its name, but for those that forms have for numbers."""
        if axis in self.case.single:
            return "1"
        name = axis.removeprefix("#")
        return f"{name}'" if name in ("e", "pi") else name

    def _input(self, name: str) -> SymArray:
        domain = self.operation.inputs[name]
        axes = self.axes(name)
        own = tuple(a for a in axes if a != "1")
        lowest = domain.lo if isinstance(domain.lo, int | float) else None
        positive = domain.kind in ("positive", "probability") or (
            domain.kind == "real" and lowest is not None and lowest > 0
        )
        # Relations of what is differentiated or depends on it may be used only afterwards.
        chosen = domain.kind in ("mask", "one_hot")
        atom = self.table.get(
            "input",
            name,
            own,
            positive=positive,
            closed=domain.kind == "probability",
            selects=chosen,
            whole=domain.kind in ("integers", "labels"),
            sums_to_one=domain.kind == "one_hot" and axes[-1] != "1",
        )
        self.atoms[name] = atom
        places = tuple(i for i, a in enumerate(axes) if a != "1")
        form = relettered(entry(atom), axes, places)
        if domain.kind != "labels":
            return SymArray(self.xp, form)
        below = self._below(self.operation.one_hot[name])
        if below == "1":
            return SymArray(self.xp, form, constant((*axes, below), Fraction(1)))
        hot = self.table.get(
            "input", f"onehot({name})", (*own, below), selects=True, sums_to_one=True
        )
        labels = relettered(entry(hot), (*axes, below), (*places, len(axes)))
        return SymArray(self.xp, form, labels)

    def _below(self, axis: str) -> str:
        fixed = dict(self.case.params).get(axis)
        return self.axis(axis) if fixed is None else str(fixed)

    def _param(self, name: str) -> Any:
        fixed = dict(self.case.params)
        if name in fixed:
            return fixed[name]
        low = self.operation.params[name].lo
        atom = self.table.get("input", name, (), positive=low is not None and low > 0)
        return SymArray(self.xp, entry(atom))

    # ------------------------------------------------------------------ forms

    def form(self, name: str) -> Form:
        """An operand's form."""
        return self.xp.asarray(self.operands[name]).form

    def derivative(self, output: str, name: str) -> Form:
        """The derivative of the forward: the output's letters, then the input's."""
        form = self.form(output)
        # What a rule divides by was asked for where its function was applied.
        self.xp.asking = False
        derived = Calculus(self.xp, self.atoms[name]).of(form)
        self.xp.asking = True
        own = self.axes(name)
        places = tuple(form.rank + i for i, a in enumerate(own) if a != "1")
        return relettered(derived, form.axes + own, (*range(form.rank), *places))

    def expression(self, expression: Expression, axes: tuple[str, ...]) -> Form:
        """An expression over the operands, from its terms as they were written.

        Args:
            expression: Bound to the operation.
            axes: The axis of each of its output letters, as forms call them.
        """
        total = Form(axes, {})
        for term in expression.terms:
            total = total + self._term(term, expression.output, axes)
        return total

    def _term(self, term: Term, output: tuple[str, ...], axes: tuple[str, ...]) -> Form:
        others = [s for s in dict.fromkeys([*term.letters(), *term.axes]) if s not in output]
        letters = [*output, *others]
        common = (*axes, *(self.axis(term.axes[s]) for s in others))
        result = constant(common, term.coefficient)
        for axis, power in term.sizes:
            result = result * relettered(scalar(self.axis(axis), power), common, ())
        for factor in term.factors:
            form = self._factor(factor)
            places = tuple(letters.index(s) for s in factor.letters if s is not None)
            result = result * relettered(form, common, places)
        for a, b in term.deltas:
            if self.axis(term.axes[a]) == "1" or self.axis(term.axes[b]) == "1":
                continue
            pair = tuple(sorted((letters.index(a), letters.index(b))))
            delta = build(common, [(Key((), (), (pair,)), Fraction(1))])  # type: ignore[arg-type]
            result = result * delta
        return summed(result, tuple(range(len(axes), len(common))))

    def _factor(self, factor: Factor) -> Form:
        value = self.operands[factor.name]
        labels = value.labels if isinstance(value, SymArray) else None
        if labels is not None and len(factor.letters) == labels.rank:
            value = SymArray(self.xp, labels)
        array = self.xp.asarray(value)
        if factor.function is not None:
            array = getattr(self.xp, factor.function)(array)
        return array.form if factor.power == 1 else self.xp.pow(array, factor.power).form

    def conditions(self) -> set[str]:
        """What the forward, and the expressions read so far, ask of a point, in words."""
        return asked(self)

    def related(self) -> dict[Atom, Atom]:
        """Rows of probabilities with the relation that they sum to one."""
        return {
            atom: related_atom(atom)
            for n, atom in self.atoms.items()
            if self.operation.inputs[n].kind == "probability" and self.axes(n)[-1] != "1"
        }


def _range(domain: Any) -> tuple[float | None, float | None]:
    """The bounds of an input or a parameter that are numbers."""
    low, high = (b if isinstance(b, int | float) else None for b in (domain.lo, domain.hi))
    return low, high
