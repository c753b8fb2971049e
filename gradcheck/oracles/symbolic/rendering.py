"""Forms back as expressions: the true derivative, ready to paste, and what a claim lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck.algebra.canonical.decide import vanishes, with_relations
from gradcheck.algebra.canonical.undecided import Undecided
from gradcheck.algebra.shapes import is_broadcast
from gradcheck.algebra.terms import Expression, Factor, Term, free_alphabet
from gradcheck.errors import SpecError
from gradcheck.oracles.symbolic.cases import Case, cases
from gradcheck.oracles.symbolic.operands import in_operands, sayable
from gradcheck.oracles.symbolic.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable
    from fractions import Fraction

    from gradcheck.algebra.canonical.atoms import Atom
    from gradcheck.algebra.canonical.forms import Entry, Form, Key
    from gradcheck.operation import Claim, Operation

# Longer ones are no derivative that a person would paste.
MOST_TERMS = 24


class _NoSuchFormError(Exception):
    """Something stands in a form that no einsum term over the operands can say."""


def derived(operation: Operation, output: str, name: str) -> Expression | None:
    """The derivative of the forward in the operation's own operands, for one slice.

    Args:
        operation: A spec or a chain.
        output: The output.
        name: The input.

    Returns:
        ∂output/∂name as terms over inputs and outputs, which equals the derivative in every case;
        None where it has no such form, or where the forward is not one index expression.
    """
    return _rendered(operation, output, name, lambda run: run.derivative(output, name))


def residual(operation: Operation, claim: Claim) -> Expression | None:
    """True − claimed derivative in the operation's own operands, for one slice.

    None where it has no such form; an expression without terms where the claim is right.
    """

    def difference(run: Run) -> Form:
        axes = run.axes(claim.output) + run.axes(claim.input)
        expression = run.operation.derivative(claim.output, claim.input, run.case.rank)
        return run.derivative(claim.output, claim.input) - run.expression(expression, axes)

    return _rendered(operation, claim.output, claim.input, difference)


def _rendered(
    operation: Operation, output: str, name: str, wanted: Callable[[Run], Form]
) -> Expression | None:
    """The expression of a form in the first case, if it is right in all cases of one slice."""
    try:
        slices = [c for c in cases(operation) if c.rank == 0]
        found = _expression(operation, output, name, wanted, slices[0])
        for case in slices:
            run = Run(operation, case)
            axes = run.axes(output) + run.axes(name)
            gap = with_relations(wanted(run) - run.expression(found, axes), run.related())
            if not vanishes(run.table, gap):
                return None
    except (Undecided, SpecError, _NoSuchFormError, TypeError, AttributeError, ValueError):
        return None
    return found


def _expression(
    operation: Operation, output: str, name: str, wanted: Callable[[Run], Form], case: Case
) -> Expression:
    run = Run(operation, case)
    form = in_operands(run, with_relations(wanted(run), run.related()))
    if len(form.terms) > MOST_TERMS:
        raise _NoSuchFormError
    shape = tuple(a for n in (output, name) for a in operation.shapes[n] if a != "...")
    supply = free_alphabet(())
    letters = tuple(next(supply) for _ in shape)
    terms = tuple(_term(key, c, letters, shape) for key, c in form.terms.items())
    ranks = (len(form.axes) - len(run.axes(name)), len(run.axes(name)))
    return Expression(letters, terms, ((output, ranks[0]), (name, ranks[1])))


def _term(key: Key, c: Fraction, letters: tuple[str, ...], shape: tuple[str, ...]) -> Term:
    names = dict(enumerate(letters))
    axes = dict(zip(letters, shape, strict=True))
    supply = free_alphabet(letters)
    factors = []
    for e in key.entries:
        for s, axis in zip(e.letters, e.atom.axes, strict=True):
            if s not in names:
                names[s] = next(supply)
                axes[names[s]] = axis
        factors.append(_factor(e, names))
    sizes = []
    for scalar, power in key.scalars:
        if scalar.isdigit() or not scalar.isidentifier() or scalar in ("pi", "e"):
            raise _NoSuchFormError
        sizes.append((scalar, power))
    deltas = tuple((names[a], names[b]) for a, b in key.deltas)
    if any(is_broadcast(axes[s]) for pair in deltas for s in pair):
        deltas = tuple(pair for pair in deltas if not is_broadcast(axes[pair[0]]))
    return Term(c, tuple(sorted(sizes)), tuple(factors), deltas, axes)


def _factor(e: Entry, names: dict[int, str]) -> Factor:
    """An entry as a power of an operand or of a function of one."""
    said = sayable(e)
    if said is None:
        raise _NoSuchFormError
    index = tuple(names[s] for s in e.letters)
    if said is e:
        return Factor(_operand(e.atom), index, e.power)
    own = tuple(index[s] for s in said.letters)
    return Factor(_operand(said.atom), own, e.power, e.atom.kind)


def _operand(atom: Atom) -> str:
    """The operand's name; labels with one more letter are their own one-hot tensor."""
    return atom.name.removeprefix("onehot(").removesuffix(")")
