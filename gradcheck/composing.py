"""The derivative of a chain as a whole: composed to one expression, or printed path by path.

Σ over all paths of the products of local derivatives. Where paths part and meet again their number is
exponential in the number of links; so may be the number of terms. Both are refused before they
are written down, and what goes link by link is named instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradcheck.algebra.compose import compose, identity, relabel
from gradcheck.algebra.normal import normalise
from gradcheck.algebra.terms import Expression, free_alphabet
from gradcheck.errors import TooManyTerms, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck.chain import Chain

# Composing is refused where one step would write more factors: that takes seconds, and at the next link
# perhaps twice as long.
MOST_FACTORS = 6_000


def added(left: Expression, right: Expression) -> Expression:
    """The sum of two derivatives of the same shape, like terms collected."""
    return normalise(left + relabel(right, left.output))


def composed(chain: Chain, output: str, name: str) -> Expression | None:
    """Σ over all paths of the products of local derivatives; None where no path leads there.

    Raises:
        TooManyTerms: Where a link's part would be written with more than `MOST_FACTORS` factors.
    """
    active = chain._active(name)
    sums = {output: identity(output, chain._dims(output))}
    for node in reversed(chain.nodes):
        outer = sums.get(node.result)
        if outer is None or node.result == name:
            continue
        for variable, local in node.local.items():
            if variable not in active:
                continue
            assert local is not None
            if _written(outer, local) > MOST_FACTORS:
                raise _too_many(chain, output, name)
            path = compose(outer, local, len(chain._dims(node.result)))
            sums[variable] = added(sums[variable], path) if variable in sums else path
    return sums.get(name)


def _written(outer: Expression, local: Expression) -> int:
    """How many factors and deltas the terms of a product have, before any are collected."""
    lengths = [[len(t.factors) + len(t.deltas) + 1 for t in e.terms] for e in (outer, local)]
    first, second = lengths
    return len(second) * sum(first) + len(first) * sum(second)


def most_terms(chain: Chain, output: str, name: str) -> int:
    """How many terms the composed derivative has before like terms are collected."""
    return _measure(chain, output, name)[0]


def longest_term(chain: Chain, output: str, name: str) -> int:
    """How many factors a term of the composed derivative has before equal factors are merged."""
    return _measure(chain, output, name)[1]


def _measure(chain: Chain, output: str, name: str) -> tuple[int, int]:
    active = chain._active(name)
    found = {output: (1, 0)}
    for node in reversed(chain.nodes):
        if node.result not in found or node.result == name:
            continue
        terms, factors = found[node.result]
        for variable, local in node.local.items():
            if variable in active and local is not None:
                longest = factors + max((len(t.factors) for t in local.terms), default=0)
                before = found.get(variable, (0, 0))
                found[variable] = (
                    before[0] + terms * len(local.terms),
                    max(before[1], longest),
                )
    return found.get(name, (0, 0))


def _too_many(chain: Chain, output: str, name: str) -> TooManyTerms:
    count = most_terms(chain, output, name)
    number = f"{count:,}" if count < 10**9 else f"about {float(count):.1e}"
    return TooManyTerms(
        f"∂{output}/∂{name} of {chain.name}, composed to one expression, has {number} terms before like "
        f"terms are collected, and is not written down\n  "
        "go link by link: .gradient(), .value_and_gradient(), .vjp() and .jvp() do, and so does verify "
        "with the oracles that run the forward; .nodes has each link's own derivatives, and a part of the "
        "chain can be composed by itself",
    )


class Jacobians(dict[str, Expression]):
    """The composed derivatives of a chain, made when they are asked for."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        self._chain = chain

    def __missing__(self, name: str) -> Expression:
        expression = self._chain.slice_derivative(self._chain.result, name)
        if expression is None:
            known = ", ".join(self._chain.shapes)
            raise UsageError(
                f"{self._chain.name} has no derivative with respect to {name!r}; its variables are {known}"
            )
        self[name] = expression
        return expression

    def keys(self) -> Any:
        """The inputs that a derivative is claimed for."""
        return {c.input: None for c in self._chain.claims() if c.form != "missing"}.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def items(self) -> Any:
        """Pairs of input and expression."""
        return [(n, self[n]) for n in self.keys()]


# The chain rule is printed path by path; nobody reads more of them.
MOST_PATHS = 1000


def paths(chain: Chain, name: str) -> list[str]:
    """The chain rule along each path from the result to a variable, as einsum patterns in letters.

    Raises:
        UsageError: Where there are more paths than anybody reads, saying how many.
    """
    made = {node.result: node for node in chain.nodes}
    _check_paths(chain, name)
    found: list[list[tuple[str, str]]] = []
    pending: list[tuple[str, list[tuple[str, str]]]] = [(chain.result, [])]
    while pending:
        variable, path = pending.pop()
        if variable == name:
            found.append(path)
        elif variable in made:
            sources = reversed(made[variable].local)
            pending += [(source, [*path, (variable, source)]) for source in sources]
    return [_pattern(chain, path) for path in found if path]


def _check_paths(chain: Chain, name: str) -> None:
    count = {name: 1}
    for node in chain.nodes:
        if node.result != name:
            count[node.result] = sum(count.get(v, 0) for v in node.local)
    if (total := count.get(chain.result, 0)) > MOST_PATHS:
        raise UsageError(
            f"{total} paths lead from {chain.result} to {name!r}, and .links() prints a line for each; "
            ".nodes has each link once with its local derivatives, and .vjp() and .gradient() go link by link"
        )


def _pattern(chain: Chain, path: list[tuple[str, str]]) -> str:
    supply = iter(free_alphabet(()))
    first = path[0][0]
    letters = {first: "".join(next(supply) for _ in chain._dims(first))}
    groups, names = [], []
    for result, source in path:
        letters[source] = "".join(next(supply) for _ in chain._dims(source))
        groups.append(letters[result] + letters[source])
        names.append(f"∂{result}/∂{source}")
    output = letters[first] + letters[path[-1][1]]
    return f"einsum('{','.join(groups)}->{output}', {', '.join(names)})"
