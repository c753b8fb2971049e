"""The Jacobian of a chain link by link, on arrays: no expression of the whole is needed.

Reverse accumulation, ∂L/∂z[.., r] = Σ_q ∂L/∂a[.., q] ∂a[q]/∂z[r] at each link, summed over the links that
a variable feeds: linear in the number of links where the composed expression may have exponentially many
terms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradcheck.algebra.compose import lift
from gradcheck.algebra.shapes import at_rank, leading_axes
from gradcheck.algebra.terms import Expression, Factor, Term, free_alphabet
from gradcheck.composing import longest_term, most_terms

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.chain import Chain
    from gradcheck.operation import Claim, Operation

# Up to here a chain's derivative is looked at as one expression; beyond, link by link.
MOST_TERMS = 256
MOST_FACTORS = 24


def why_link_by_link(operation: Operation, claim: Claim) -> str:
    """Why a chain's derivative is not looked at as one expression; empty where it is, or of a spec."""
    if claim.form != "chain":
        return ""
    chain: Any = operation
    cache = chain.__dict__.setdefault("_link_by_link", {})
    key = (claim.output, claim.input)
    if key not in cache:
        cache[key] = _why(chain, claim) if claim.output == chain.result else ""
    return cache[key]  # type: ignore[no-any-return]


def _why(chain: Chain, claim: Claim) -> str:
    terms = most_terms(chain, claim.output, claim.input)
    factors = longest_term(chain, claim.output, claim.input)
    if terms <= MOST_TERMS and factors <= MOST_FACTORS:
        return ""
    number = f"{terms:,}" if terms < 10**9 else f"about {float(terms):.1e}"
    return (
        f"the derivative of these {len(chain.nodes)} links as one expression has {number} terms of up to "
        f"{factors} factors"
    )


def named(chain: Chain, output: str, name: str, rank: int) -> Expression:
    """The letters of ∂output/∂name and what they stand for, without saying how it is computed."""
    shape = at_rank(chain.shapes[output], rank) + at_rank(chain.shapes[name], rank)
    letters = tuple(s for s, _ in zip(free_alphabet(()), shape, strict=False))
    count = len(at_rank(chain.shapes[output], rank))
    term = Term(
        factors=(Factor(f"∂{output}/∂{name}", letters),),
        axes=dict(zip(letters, shape, strict=True)),
    )
    return Expression(letters, (term,), ((output, count), (name, len(shape) - count)))


def accumulate(
    chain: Chain,
    output: str,
    name: str,
    rank: int,
    evaluate: Callable[[Expression], Any],
    multiply: Callable[[Any, Any], Any],
    add: Callable[[Any, Any], Any],
) -> Any:
    """∂output/∂name, one link after another from the result back.

    Each link's derivative is summed before it is multiplied: of `a - a**2` little is lost, of
    `J a - J a**2` a part at every link, and their product over a hundred links would be all.

    Args:
        chain: The chain.
        output: Its result, or the result of one of its links.
        name: A variable that the output depends on.
        rank: The number of leading axes.
        evaluate: The value of a link's own derivative.
        multiply: ∂output/∂result times ∂result/∂variable, summed over the result's axes.
        add: The sum of two values.

    Returns:
        The value; None where no path leads from the variable to the output.
    """
    active = chain._active(name)
    found: dict[str, Any] = {output: None}
    for index, node in reversed(list(enumerate(chain.nodes))):
        if node.result not in found or node.result == name:
            continue
        outer = found.pop(node.result)
        for variable, local in node.local.items():
            if variable not in active or local is None:
                continue
            own = evaluate(_lifted(chain, index, variable, rank))
            part = own if outer is None else multiply(outer, own)
            found[variable] = add(found[variable], part) if variable in found else part
    return found.get(name)


def _lifted(chain: Chain, index: int, variable: str, rank: int) -> Expression:
    cache = chain.__dict__.setdefault("_lifted", {})
    key = (index, variable, rank)
    if key not in cache:
        node = chain.nodes[index]
        local, split = node.local[variable], len(chain._dims(node.result))
        assert local is not None
        leading = leading_axes(rank)
        cache[key] = lift(local, split, leading, chain.dotted, of=node.result, to=variable)
    return cache[key]  # type: ignore[no-any-return]
