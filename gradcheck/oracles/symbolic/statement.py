"""What a proof says: for which sizes, under which conditions, by which rule."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from gradcheck.algebra.canonical.decide import vanishes
from gradcheck.algebra.canonical.forms import Form, constant, summed
from gradcheck.algebra.shapes import DOTS, is_broadcast
from gradcheck.oracles.symbolic.cases import RANKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradcheck.operation import Operation
    from gradcheck.oracles.symbolic.run import Run

# The words for: in an open cell of each branch.
TIES = "away from ties"


def statement(
    operation: Operation,
    runs: Sequence[Run],
    *,
    conditions: Iterable[str] = (),
    branches: bool = False,
    rule: str = "",
    leading: bool = True,
) -> str:
    """`for all m ≥ 1, n ≥ 1, wherever a ≠ 0; that rows of a sum to 1 is proved too`.

    Args:
        operation: The operation.
        runs: One for each case.
        conditions: What is asked of the point, such as "a ≠ 0".
        branches: Whether it holds away from ties only.
        rule: "by the chain rule over a, b".
        leading: Whether every number of leading axes was tried.
    """
    axes = list(dict.fromkeys(a for s in operation.shapes.values() for a in s))
    named = dict.fromkeys(
        a.removeprefix("#") for a in axes if a != DOTS and not a.isdigit() and a[0] != "?"
    )
    least = {a: 2 if any(run.axis(a) in run.xp.from_two for run in runs) else 1 for a in named}
    parts = ["for all " + ", ".join(f"{a} ≥ {n}" for a, n in least.items())]
    if not named:
        parts = ["at its fixed sizes"]
    if leading and any(DOTS in s for s in operation.shapes.values()):
        parts.append(f"for {', '.join(map(str, RANKS))} leading axes")
    parts += [f"for {a} of size {a[1:]} and of size 1" for a in axes if is_broadcast(a)]
    parts += [f"for {n} in {', '.join(values)}" for n, values in _choices(runs).items()]
    stated = sorted(set(conditions))
    if stated:
        parts.append("wherever " + " and ".join(stated))
    if branches:
        parts.append(TIES)
    if rule:
        parts.append(rule)
    return "; ".join([", ".join(parts), *dict.fromkeys(r for run in runs for r in _relations(run))])


def _choices(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The values of each choice that were tried."""
    found: dict[str, list[str]] = {}
    for run in runs:
        for n, v in run.case.params:
            if repr(v) not in found.setdefault(n, []):
                found[n].append(repr(v))
    return found


def _relations(run: Run) -> list[str]:
    """What the domains of the outputs declare, and whether that too is proved."""
    found = []
    for name, domain in getattr(run.operation, "relations", {}).items():
        if domain.kind not in ("probability", "one_hot"):
            continue
        form = run.form(name)
        rows = summed(form, (form.rank - 1,))
        proved = vanishes(run.table, rows - constant(rows.axes, Fraction(1)))
        found.append(f"that rows of {name} sum to 1 is {'proved too' if proved else 'not proved'}")
    return found


def has_branches(form: Form) -> bool:
    """Whether a form depends on a branch that does not cancel.

    Where no selector is left, it is one analytic expression, at ties too.
    """
    atoms = {e.atom for k in form.terms for e in k.entries}
    return any(
        a.kind in ("step", "equal", "selector")
        or (a.argument is not None and has_branches(a.argument))
        for a in atoms
    )
