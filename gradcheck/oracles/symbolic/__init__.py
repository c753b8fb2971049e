"""The symbolic oracle: equality for every shape, by one run of the forward on symbolic sizes.

Hypotheses that are checked before anything is called proved: one run without a look at a size or an
entry (H1), one axis a letter and declared shapes (H2), canonical and random equality agree (H3), atoms
are known by definition (H4), relations only of declared domains, on constants (H5), no inverse of a
selector (H7, H9), each value of a choice tried (H10).
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.canonical import functions
from gradcheck.algebra.canonical.atoms import Atom, Table
from gradcheck.algebra.canonical.calculus import Calculus
from gradcheck.algebra.canonical.decide import (
    ACCEPTED,
    agree_at_random,
    related_atom,
    vanishes,
    with_relations,
)
from gradcheck.algebra.canonical.forms import (
    DividesByZero,
    Entry,
    Form,
    Key,
    Undecided,
    build,
    constant,
    entry,
    relettered,
    scalar,
    summed,
)
from gradcheck.algebra.canonical.text import shown
from gradcheck.algebra.shapes import DOTS, at_rank, is_broadcast
from gradcheck.errors import SpecError
from gradcheck.oracles.finding import Finding
from gradcheck.oracles.symbolic.arrays import SymArray, Symbols

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck.algebra.terms import Expression, Factor, Term
    from gradcheck.operation import Claim, Operation
    from gradcheck.parameters import Parameter

_RANKS = (0, 1, 2)
_MOST_CASES = 24


@dataclass(frozen=True)
class Case:
    """One of the finitely many shapes of a claim: a rank, broadcast axes of size one, choices."""

    rank: int
    single: frozenset[str]
    params: tuple[tuple[str, Any], ...]

    def words(self) -> str:
        """How a statement names it."""
        parts = [f"{n} = {v!r}" for n, v in self.params]
        parts += [f"{a} of size 1" for a in sorted(self.single)]
        return ", ".join(parts)


def symbolic(operation: Operation, claim: Claim, *, seed: int = 0) -> Finding:
    """Whether a claimed derivative is that of the forward, at every size.

    Returns:
        A finding: "proved" with the statement, "suspect" with the residual true − claimed, or
        "undecided" with the reason.
    """
    try:
        cases = list(_cases(operation))
        if len(cases) > _MOST_CASES:
            return Finding("undecided", reason=f"{len(cases)} combinations of choices to prove")
        runs = [_Run(operation, claim, case) for case in cases]
        findings = [run.decide(seed) for run in runs]
    except Undecided as error:
        return Finding("undecided", reason=f"not one index expression: {error}{_line(error)}")
    except (SpecError, TypeError, AttributeError, ValueError, RecursionError) as error:
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        return Finding("undecided", reason=f"not one index expression: {text}{_line(error)}")
    failed = next((f for f in findings if f.verdict != "proved"), None)
    if failed is not None:
        return failed
    bound = max(f.bound or 0.0 for f in findings)
    return Finding("proved", statement=_statement(operation, runs), bound=bound)


def _line(error: BaseException) -> str:
    """The user's own line in a traceback."""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if "/gradcheck/" not in f.filename
    ]
    frames += [f for f in traceback.extract_tb(error.__traceback__) if "/_specs/" in f.filename]
    return f" ({frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line})" if frames else ""


def _cases(operation: Operation) -> Iterator[Case]:
    dotted = any(DOTS in s for s in operation.shapes.values())
    broadcast = sorted({a for s in operation.shapes.values() for a in s if is_broadcast(a)})
    choices = {n: _values(n, p) for n, p in operation.params.items() if p.kind != "number"}
    for rank in _RANKS if dotted else (0,):
        for singles in product((False, True), repeat=len(broadcast)):
            single = frozenset(a for a, one in zip(broadcast, singles, strict=True) if one)
            for values in product(*choices.values()):
                yield Case(rank, single, tuple(zip(choices, values, strict=True)))


def _values(name: str, parameter: Parameter) -> tuple[Any, ...]:
    """The values of a choice or of a short range of integers."""
    if parameter.kind == "choice":
        return parameter.values
    low, high = int(parameter.lo or 0), int(parameter.hi or 0)
    if high - low >= _MOST_CASES:
        raise Undecided(f"the parameter {name} has too many values to prove each")
    return tuple(range(low, high + 1))


class _Run:
    """One case: the forward and the claim as forms, and their difference."""

    def __init__(self, operation: Operation, claim: Claim, case: Case) -> None:
        self.operation, self.claim, self.case = operation, claim, case
        self.table = Table()
        self.xp = Symbols(self.table)
        self.atoms: dict[str, Atom] = {}
        values = {n: self._input(n) for n in operation.inputs}
        values.update({n: self._param(n) for n in operation.params})
        self.operands = operation.environment(self.xp, values)
        self.expression: Expression = operation.derivative(claim.output, claim.input, case.rank)
        self.conditions: list[str] = []

    def _axes(self, name: str) -> tuple[str, ...]:
        shape = at_rank(self.operation.shapes[name], self.case.rank)
        return tuple(self._axis(a) for a in shape)

    def _axis(self, axis: str) -> str:
        if axis in self.case.single:
            return "1"
        return axis.removeprefix("#")

    def _input(self, name: str) -> SymArray:
        domain = self.operation.inputs[name]
        axes = self._axes(name)
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
            selects=chosen,
            whole=domain.kind in ("integers", "labels"),
            sums_to_one=domain.kind == "one_hot",
        )
        self.atoms[name] = atom
        places = tuple(i for i, a in enumerate(axes) if a != "1")
        form = relettered(entry(atom), axes, places)
        if domain.kind != "labels":
            return SymArray(self.xp, form)
        below = self.operation.one_hot[name]
        hot = self.table.get(
            "input", f"onehot({name})", (*own, self._below(below)), selects=True, sums_to_one=True
        )
        letters = (*places, len(axes))
        labels = relettered(entry(hot), (*axes, self._below(below)), letters)
        return SymArray(self.xp, form, labels)

    def _below(self, axis: str) -> str:
        fixed = dict(self.case.params).get(axis)
        return self._axis(axis) if fixed is None else str(fixed)

    def _param(self, name: str) -> Any:
        fixed = dict(self.case.params)
        if name in fixed:
            return fixed[name]
        parameter = self.operation.params[name]
        low = parameter.lo
        atom = self.table.get("input", name, (), positive=low is not None and low > 0)
        return SymArray(self.xp, entry(atom))

    # ------------------------------------------------------------------ the two sides

    def true(self) -> Form:
        """The derivative of the forward."""
        form = self.xp.asarray(self.operands[self.claim.output]).form
        variable = self.atoms[self.claim.input]
        derived = Calculus(self.table, variable).of(form)
        own = self._axes(self.claim.input)
        places = tuple(form.rank + i for i, a in enumerate(own) if a != "1")
        return relettered(derived, form.axes + own, (*range(form.rank), *places))

    def claimed(self) -> Form:
        """The claim, from its terms as they were written."""
        axes = self._axes(self.claim.output) + self._axes(self.claim.input)
        total = Form(axes, {})
        for term in self.expression.terms:
            total = total + self._term(term, axes)
        return total

    def _term(self, term: Term, axes: tuple[str, ...]) -> Form:
        output = self.expression.output
        others = [s for s in dict.fromkeys([*term.letters(), *term.axes]) if s not in output]
        letters = [*output, *others]
        common = (*axes, *(self._axis(term.axes[s]) for s in others))
        result = constant(common, term.coefficient)
        for axis, power in term.sizes:
            result = result * relettered(scalar(self._axis(axis), power), common, ())
        for factor in term.factors:
            form = self._factor(factor)
            places = tuple(letters.index(s) for s in factor.letters if s is not None)
            result = result * relettered(form, common, places)
        for a, b in term.deltas:
            if self._axis(term.axes[a]) == "1" or self._axis(term.axes[b]) == "1":
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
        if factor.power == 1:
            return array.form
        if factor.power < 0:
            self._note_denominator(factor, array.form)
        return functions.power(self.table, array.form, factor.power)

    def _note_denominator(self, factor: Factor, form: Form) -> None:
        """What the claim divides by and is not known to be positive."""
        positive = all(
            c > 0 and not k.deltas and all(e.atom.positive for e in k.entries)
            for k, c in form.terms.items()
        )
        if not positive or form.is_zero:
            name = factor.name if factor.function is None else f"{factor.function}({factor.name})"
            self.conditions.append(f"{name} ≠ 0")

    # ------------------------------------------------------------------ deciding

    def decide(self, seed: int) -> Finding:
        """Canonical and random equality of the two sides."""
        true = self.true()
        try:
            claimed = self.claimed()
        except DividesByZero as error:
            # A point where the forward is smooth and the claim undefined refutes it, if there is one.
            return Finding("suspect", reason=f"the claim is undefined in a whole cell: {error}")
        related = {
            atom: related_atom(atom)
            for n, atom in self.atoms.items()
            if self.operation.inputs.get(n) is not None
            and self.operation.inputs[n].kind == "probability"
            and atom.axes
        }
        true, claimed = with_relations(true, related), with_relations(claimed, related)
        equal = vanishes(self.table, true - claimed)
        at_random, bound = agree_at_random(self.table, true, claimed, seed)
        if equal and not at_random:
            return Finding(
                "undecided",
                reason="a bug of gradcheck: canonical forms are equal, but random residues are not",
            )
        if equal and bound >= ACCEPTED:
            return Finding(
                "undecided", reason=f"random residues leave a chance of {bound:.0e} of an error"
            )
        if equal:
            return Finding("proved", bound=bound)
        if at_random:
            return Finding(
                "undecided",
                reason="the difference is 0 at random residues, but was not brought to the form 0",
            )
        letters = self.expression.output
        text = shown(self._in_operands(true - claimed), letters)
        case = self.case.words()
        where = f" at {case}" if case else ""
        return Finding(
            "suspect", residual=text, reason=f"true − claimed = {text}{where}", bound=bound
        )

    def _in_operands(self, form: Form) -> Form:
        """The form with the outputs' own names where that makes it shorter (a for exp z / Σ exp z)."""
        for name in self.operation.output_names:
            value = self.xp.asarray(self.operands[name]).form
            if len(value.terms) != 1:
                continue
            ((key, c),) = value.terms.items()
            own = tuple(range(value.rank))
            whole = [e for e in key.entries if e.power == 1 and e.letters == own]
            if c != 1 or key.scalars or key.deltas or not whole or whole[0].atom.argument is None:
                continue
            named = self.table.get("output", name, value.axes, positive=whole[0].atom.positive)
            shorter = _substituted(form, whole[0], key, named)
            if len(shown(shorter, self.expression.output)) < len(
                shown(form, self.expression.output)
            ):
                form = shorter
        return form

    def relations(self) -> list[str]:
        """What the domains of the outputs declare, and whether that too is proved."""
        found = []
        for name, domain in getattr(self.operation, "relations", {}).items():
            if domain.kind not in ("probability", "one_hot"):
                continue
            form = self.xp.asarray(self.operands[name]).form
            rows = summed(form, (form.rank - 1,))
            proved = vanishes(self.table, rows - constant(rows.axes, Fraction(1)))
            found.append(
                f"that rows of {name} sum to 1 is {'proved too' if proved else 'not proved'}"
            )
        return found

    def size_conditions(self) -> set[str]:
        """Expressions in sizes alone by which the forward divides, such as n − 1."""
        value = self.xp.asarray(self.operands[self.claim.output]).form
        found = [
            e.atom.argument
            for k in value.terms
            for e in k.entries
            if e.atom.kind == "sum" and e.power < 0 and e.atom.argument is not None
        ]
        return {f"{shown(f, ())} ≠ 0" for f in found if not any(k.entries for k in f.terms)}

    @property
    def branches(self) -> bool:
        """Whether the value or the claim depends on a branch that does not cancel.

        Where no selector is left, the value is one analytic expression, at ties too.
        """
        value = self.xp.asarray(self.operands[self.claim.output]).form
        return _branches(value) or _branches(self.claimed())


def _substituted(form: Form, whole: Entry, key: Key, named: Atom) -> Form:
    """Each power of one factor of an output written through the output: E = a / (the rest of a)."""
    items = []
    for k, c in form.terms.items():
        entries: list[Entry] = []
        for e in k.entries:
            if e.atom is not whole.atom:
                entries.append(e)
                continue
            entries.append(e._replace(atom=named))
            for rest in key.entries:
                if rest is not whole:
                    letters = tuple(e.letters[s] if s < len(e.letters) else s for s in rest.letters)
                    entries.append(Entry(rest.atom, letters, -rest.power * e.power))
        items.append((k._replace(entries=tuple(entries)), c))
    return build(form.axes, items)


def _branches(form: Form) -> bool:
    atoms = {e.atom for k in form.terms for e in k.entries}
    return any(
        a.kind in ("step", "equal", "selector")
        or (a.argument is not None and _branches(a.argument))
        for a in atoms
    )


def _statement(operation: Operation, runs: list[_Run]) -> str:
    """`for all m ≥ 1, n ≥ 1, wherever a ≠ 0`."""
    axes = list(dict.fromkeys(a for s in operation.shapes.values() for a in s))
    named = [a for a in axes if a != DOTS and not a.isdigit() and not a.startswith(("#", "?"))]
    parts = ["for all " + ", ".join(f"{a} ≥ 1" for a in named)] if named else ["at its fixed sizes"]
    if any(DOTS in s for s in operation.shapes.values()):
        parts.append(f"for {', '.join(map(str, _RANKS))} leading axes")
    broadcast = [a for a in axes if is_broadcast(a)]
    parts += [f"for {a} of size {a[1:]} and of size 1" for a in broadcast]
    choices: dict[str, list[str]] = {}
    for run in runs:
        for n, v in run.case.params:
            if repr(v) not in choices.setdefault(n, []):
                choices[n].append(repr(v))
    parts += [f"for {n} in {', '.join(values)}" for n, values in choices.items()]
    conditions = sorted({c for run in runs for c in (*run.conditions, *run.size_conditions())})
    if conditions:
        parts.append("wherever " + " and ".join(conditions))
    if any(run.branches for run in runs):
        parts.append("away from ties")
    if runs[0].claim.form == "chain":
        links = [node.call.operation.name for node in operation.nodes]  # type: ignore[attr-defined]
        parts.append(f"by the chain rule over {', '.join(dict.fromkeys(links))}")
    relations = list(dict.fromkeys(r for run in runs for r in run.relations()))
    return "; ".join([", ".join(parts), *relations])
