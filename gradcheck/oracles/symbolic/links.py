"""Chains proved link by link, where the whole is undecided or too large.

The sum over all paths of the products of proved local derivatives is the derivative of the chain, at
every point at which each inner value lies in the domain for which the outer link was proved, and in
an open cell of it, and at which every factor is defined. (Without the open cell it is false: max(u, v)
with the derivatives [u > v] and [v > u] gives 0 for u = v = x, where the truth is 1.)
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from gradcheck.algebra.canonical.decide import vanishes
from gradcheck.algebra.canonical.forms import constant, entry, relettered, summed
from gradcheck.algebra.canonical.undecided import Undecided
from gradcheck.operation import Claim
from gradcheck.oracles.finding import Finding
from gradcheck.oracles.symbolic.arrays import SymArray
from gradcheck.oracles.symbolic.cases import RANKS, cases
from gradcheck.oracles.symbolic.run import Run
from gradcheck.oracles.symbolic.statement import TIES, statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.algebra.terms import Expression
    from gradcheck.chain import Chain, Node
    from gradcheck.domains import Domain


# A longer chain is not tried as one: its forward nests each link's form in the next one's.
MOST_LINKS = 24


class NotByLinksError(Exception):
    """A hypothesis of the composition does not hold; its text says which."""


def by_links(chain: Chain, claim: Claim, decide: Callable[[Any, Claim], Finding]) -> Finding:
    """A chain's derivative from those of its links.

    Args:
        chain: The chain.
        claim: Its composed derivative.
        decide: What decides the claim of one link.

    Raises:
        NotByLinksError: Where a hypothesis does not hold.
        Undecided: Where the chain's forward does not run.
    """
    if claim.output != chain.result:
        raise NotByLinksError(f"{claim.output} is not the result of the chain")
    nodes = [(node, slots) for node in chain.nodes if (slots := _slots(chain, node, claim))]
    bound, branches = 0.0, False
    decided: dict[tuple[int, str], Finding] = {}
    for node, slots in nodes:
        operation = node.call.operation
        _check_parameters(node)
        for slot in slots:
            key = (id(operation), slot)
            if key not in decided:
                decided[key] = decide(operation, Claim(operation.result, slot, "jacobian", slot))
            found = decided[key]
            if found.verdict == "suspect":
                # Whether the chain is wrong there is for a certificate to say: another link may be 0.
                place = f"link {_place(chain, node)} of {len(chain.nodes)}"
                why = f"{place}, {operation.name}, is wrong in {slot}: {found.reason}"
                return replace(found, reason=why)
            if found.verdict != "proved":
                raise NotByLinksError(
                    f"the link {operation.name} is {found.verdict} with respect to {slot}"
                )
            bound += found.bound or 0.0
            branches = branches or TIES in found.statement
    runs = _runs(chain, branches=branches)
    for run in runs:
        if branches and run.xp.tied:
            raise NotByLinksError("a branch compares things that are equal in a whole cell")
        _check_run(chain, run)
    links = ", ".join(dict.fromkeys(node.call.operation.name for node, _ in nodes))
    words = statement(
        chain,
        runs,
        conditions={c for run in runs for c in run.conditions()},
        branches=branches,
        rule=f"by the chain rule over {links} (each proved)",
    )
    return Finding("proved", statement=words, bound=bound)


def _place(chain: Chain, node: Node) -> int:
    return next(i for i, other in enumerate(chain.nodes, 1) if other is node)


def _runs(chain: Chain, *, branches: bool) -> list[Run]:
    """The chain's forward in each case, as one; where that is too large, link by link."""
    if len(chain.nodes) > MOST_LINKS and not branches:
        return [_Apart(chain, case) for case in cases(chain)]
    if len(chain.nodes) > MOST_LINKS:
        raise NotByLinksError(
            "whether a branch is tied in a whole cell needs the forward as one, and "
            f"{len(chain.nodes)} links are too many for that"
        )
    try:
        return [Run(chain, case) for case in cases(chain)]
    except Undecided as error:
        if branches:
            raise NotByLinksError(
                f"whether a branch is tied in a whole cell needs the forward as one: {error}"
            ) from error
        return [_Apart(chain, case) for case in cases(chain)]


class _Apart(Run):
    """The links of a chain run apart, each on inner values of which only the sign is known."""

    def environment(self, values: dict[str, Any]) -> dict[str, Any]:
        """Every variable of the chain, a tensor of its own."""
        chain: Any = self.operation
        known = dict(values)
        self.made: dict[str, SymArray] = {}
        for node in chain.nodes:
            operation = node.call.operation
            inner = {n: known[node.names[n]] for n in operation.inputs}
            for n, v in node.call.params.items():
                inner[n] = known[v] if isinstance(v, str) else getattr(v, "value", v)
                known.setdefault(f"{node.result}.{n}", inner[n])
            for n, v in operation.environment(self.xp, inner).items():
                if n not in inner:
                    known[node.names[n]] = self._fresh(node.names[n], self.xp.asarray(v))
        return known

    def _fresh(self, name: str, made: SymArray) -> SymArray:
        self.made[name] = made
        axes = made.form.axes
        places = tuple(i for i, a in enumerate(axes) if a != "1")
        own = tuple(axes[i] for i in places)
        atom = self.table.get("input", name, own, positive=made.sign == ">")
        return SymArray(self.xp, relettered(entry(atom), axes, places), sign=made.sign)


def _slots(chain: Chain, node: Node, claim: Claim) -> list[str]:
    """The inputs of a link through which the result depends on the variable."""
    active = {claim.input}
    for other in chain.nodes:
        if any(v in active for v in other.local):
            active.add(other.result)
    operation = node.call.operation
    return [
        slot
        for slot in operation.inputs
        if operation.inputs[slot].differentiable and node.names[slot] in active
    ]


def _check_parameters(node: Node) -> None:
    """Values that a call fixes lie where the link was proved."""
    if len(node.leading) not in RANKS:
        raise NotByLinksError(f"{node.call.operation.name} has {len(node.leading)} leading axes")
    for name, value in node.call.params.items():
        parameter = node.call.operation.params[name]
        if isinstance(value, str) or parameter.kind != "number":
            continue
        low, high = parameter.lo, parameter.hi
        if (low is not None and value < low) or (high is not None and value > high):
            raise NotByLinksError(
                f"{name} = {value} is outside of the range for which it is proved"
            )


def _check_run(chain: Chain, run: Run) -> None:
    """Inner values lie in the outer links' domains; what local derivatives need is asked for."""
    for node in chain.nodes:
        for slot in node.call.operation.inputs:
            _check_domain(chain, run, node, slot)
        for local in node.local.values():
            if local is not None:
                _ask(run, local)


def _ask(run: Run, local: Expression) -> None:
    """What the factors of a local derivative need to be defined."""
    for factor in (f for t in local.terms for f in t.factors):
        value = run.xp.asarray(run.operands[factor.name])
        if factor.function is not None:
            value = getattr(run.xp, factor.function)(value)
        if factor.power != 1:
            run.xp.pow(value, factor.power)


def _check_domain(chain: Chain, run: Run, node: Node, slot: str) -> None:
    """One inner value, or one variable, in the domain of a link's input."""
    wanted = node.call.operation.inputs[slot]
    variable = node.names[slot]
    if wanted.kind == "real" and wanted.lo is None and wanted.hi is None and wanted.source is None:
        return
    if variable in chain.inputs:
        given = chain.inputs[variable]
        same = (given.kind, given.lo, given.hi) == (wanted.kind, wanted.lo, wanted.hi)
        if not same or given.source is not wanted.source:
            raise _outside(node, slot, wanted)
        return
    value = run.operands[variable]
    sign = value.sign if isinstance(value, SymArray) else ""
    if wanted.kind == "positive" and isinstance(value, SymArray):
        run.xp.ask(value, "> 0")
    elif wanted.kind == "real" and wanted.hi is None and wanted.lo == 0 and sign:
        return
    elif not (wanted.kind == "probability" and sign and _sums_to_one(run, variable)):
        raise _outside(node, slot, wanted)


def _sums_to_one(run: Run, variable: str) -> bool:
    made = run.made[variable] if isinstance(run, _Apart) else run.operands[variable]
    form = made.form
    rows = summed(form, (form.rank - 1,))
    return vanishes(run.table, rows - constant(rows.axes, Fraction(1)))


def _outside(node: Node, slot: str, wanted: Domain) -> NotByLinksError:
    return NotByLinksError(
        f"it is not known that {slot} of {node.call.operation.name} is {wanted.describe()}, "
        "for which that link is proved"
    )
