"""Which link of a chain is at fault: each link's own claims, held against its own forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck.chain import Chain
from gradcheck.diagnosis.screen import Screen, close, scale_of
from gradcheck.oracles.symbolic import symbolic
from gradcheck.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck.operation import Claim, Operation


@dataclass(frozen=True)
class Fault:
    """A link whose own derivative is wrong."""

    spec: Spec
    claim: Claim


def faults(chain: Chain, name: str) -> Iterator[Fault]:
    """The wrong claims of the links through which the result depends on a variable, each once."""
    seen = set()
    for operation, claim in _links(chain, name):
        key = (id(operation), claim.label)
        if key in seen:
            continue
        seen.add(key)
        if isinstance(operation, Chain):
            yield from faults(operation, claim.input)
        elif isinstance(operation, Spec) and is_wrong(operation, claim):
            yield Fault(operation, claim)


def _links(chain: Chain, name: str) -> Iterator[tuple[Operation, Claim]]:
    """Each link with its claims about what depends on the variable, in the order in which they run."""
    active = {name}
    for node in chain.nodes:
        operation = node.call.operation
        for claim in operation.claims():
            variable = node.names.get(claim.input)
            if claim.form != "missing" and claim.output == operation.result and variable in active:
                yield operation, claim
        if any(variable in active for variable in node.local):
            active.add(node.result)


def is_wrong(operation: Operation, claim: Claim) -> bool:
    """Whether a claim is proved wrong or seen to be: at generic points it differs from the truth."""
    if symbolic(operation, claim).verdict == "proved":
        return False
    screen = Screen(operation, claim)
    expression = operation.derivative(claim.output, claim.input)
    terms = screen.terms(expression) if screen.places else None
    if not terms:
        return False
    return not close(screen.true - sum(terms), scale_of(terms, screen.true))
