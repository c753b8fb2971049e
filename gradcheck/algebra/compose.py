"""The chain rule on letters, and the other ways to make one derivative from another.

Source: the chain rule in index notation, ∂L/∂z[r,s] = Σ_pq ∂L/∂a[p,q] ∂a[p,q]/∂z[r,s].
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gradcheck.algebra.normal import normalise
from gradcheck.algebra.terms import Expression, Factor, Size, Term, free_alphabet

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping


def compose(outer: Expression, inner: Expression, middle: int) -> Expression:
    """Σ over the middle letters of outer[out, middle] · inner[middle, in], normalised.

    Args:
        outer: ∂L/∂a, whose last `middle` letters are those of a.
        inner: ∂a/∂z, whose first `middle` letters are those of a.
        middle: The number of letters of a.
    """
    split = len(outer.output) - middle
    names = free_alphabet(())
    fresh = [next(names) for _ in range(len(outer.output) + len(inner.output) - middle)]
    left, shared = fresh[:split], fresh[split : split + middle]
    right = fresh[split + middle :]
    terms = [
        _product(a, b)
        for a in _relettered(outer, (*left, *shared), names)
        for b in _relettered(inner, (*shared, *right), names)
    ]
    title = (*outer.title[:1], *inner.title[1:])
    return normalise(Expression((*left, *right), tuple(terms), title))


def _product(left: Term, right: Term) -> Term:
    product = left.scaled(Size(right.coefficient, right.sizes))
    return replace(
        product,
        factors=left.factors + right.factors,
        deltas=left.deltas + right.deltas,
        # The wider axis wins where one link calls a letter #n and the other n.
        axes={**right.axes, **left.axes},
        location=left.location or right.location,
        conditions=left.conditions | right.conditions,
    )


def _relettered(
    expression: Expression, output: tuple[str, ...], fresh: Iterable[str]
) -> list[Term]:
    """The terms with the given output letters and with summed letters that nobody else has."""
    supply = iter(fresh)
    renamed = []
    for term in expression.terms:
        names = dict(zip(expression.output, output, strict=True))
        names.update(
            (s, next(supply))
            for s in {**term.axes, **dict.fromkeys(term.letters())}
            if s not in names
        )
        renamed.append(term.renamed(names))
    return renamed


def relabel(expression: Expression, output: tuple[str, ...]) -> Expression:
    """The same expression with other output letters."""
    supply = iter(free_alphabet(output))
    return replace(expression, output=output, terms=tuple(_relettered(expression, output, supply)))


def identity(name: str, shape: tuple[str, ...]) -> Expression:
    """∂v/∂v: a delta for each axis."""
    letters = [s for s, _ in zip(free_alphabet(()), range(2 * len(shape)), strict=False)]
    first, second = letters[: len(shape)], letters[len(shape) :]
    axes = dict(zip(letters, shape + shape, strict=True))
    term = Term(deltas=tuple(zip(first, second, strict=True)), axes=axes)
    return Expression(tuple(letters), (term,), ((name, len(shape)), (name, len(shape))))


def vjp_of(jacobian: Expression, output: str, rank: int) -> Expression:
    """Σ over the output's letters of d(output) · ∂output/∂input: letters of the input remain."""
    return _contracted(jacobian, f"d({output})", jacobian.output[:rank], jacobian.output[rank:])


def jvp_of(jacobian: Expression, source: str, rank: int) -> Expression:
    """Σ over the input's letters of ∂output/∂input · d(input): letters of the output remain."""
    return _contracted(jacobian, f"d({source})", jacobian.output[rank:], jacobian.output[:rank])


def _contracted(
    jacobian: Expression, name: str, letters: tuple[str, ...], output: tuple[str, ...]
) -> Expression:
    factor = Factor(name, letters)
    terms = tuple(replace(t, factors=(factor, *t.factors)) for t in jacobian.terms)
    return normalise(Expression(output, terms))


def jacobian_of_vjp(vjp: Expression, cotangent: str, shape: tuple[str, ...]) -> Expression:
    """The Jacobian that a bound vjp stands for: the cotangent's letters become output letters.

    Args:
        vjp: Linear in `d(cotangent)`, with the letters of the input as output letters.
        cotangent: The name of the output.
        shape: The axes of the output.
    """
    fresh = iter(free_alphabet({s for t in vjp.terms for s in t.letters()} | set(vjp.output)))
    letters = [next(fresh) for _ in shape]
    terms = []
    for term in vjp.terms:
        seed = next(f for f in term.factors if f.name == f"d({cotangent})")
        rest = tuple(f for f in term.factors if f is not seed)
        pairs = tuple((a, b) for a, b in zip(letters, seed.letters, strict=True) if b is not None)
        axes = {**term.axes, **dict(zip(letters, shape, strict=True))}
        terms.append(replace(term, factors=rest, deltas=(*pairs, *term.deltas), axes=axes))
    output = (*letters, *vjp.output)
    title = ((cotangent, len(shape)), *vjp.title[-1:])
    return replace(vjp, output=output, terms=tuple(terms), title=title)


def lift(
    jacobian: Expression,
    split: int,
    leading: tuple[str, ...],
    dotted: Collection[str],
    *,
    of: str,
    to: str,
) -> Expression:
    """The derivative of a vmap over leading axes from that of one slice.

    Args:
        jacobian: ∂of/∂to of one slice.
        split: The number of letters of `of`.
        leading: The leading axes, by name.
        dotted: The operands that have leading axes; the others are broadcast.
        of: The output's name.
        to: The input's name; where it is in `dotted`, deltas over the leading axes are added.
    """
    if not leading or of not in dotted:
        return jacobian
    used = {s for t in jacobian.terms for s in (*t.letters(), *t.axes)} | set(jacobian.output)
    supply = iter(free_alphabet(used))
    outer = tuple(next(supply) for _ in leading)
    inner = tuple(next(supply) for _ in leading) if to in dotted else ()
    axes = dict(zip(outer + inner, leading + leading[: len(inner)], strict=True))
    terms = tuple(
        replace(
            t,
            factors=tuple(
                replace(f, letters=(*outer, *f.letters)) if _bare(f.name) in dotted else f
                for f in t.factors
            ),
            deltas=(*zip(outer, inner, strict=False), *t.deltas),
            axes={**t.axes, **axes},
        )
        for t in jacobian.terms
    )
    output = (*outer, *jacobian.output[:split], *inner, *jacobian.output[split:])
    (first, a), *rest = jacobian.title or ((of, split), (to, len(jacobian.output) - split))
    title = ((first, a + len(outer)), *((n, b + len(inner)) for n, b in rest))
    return replace(jacobian, output=output, terms=terms, title=title)


def _bare(name: str) -> str:
    return name[2:-1] if name.startswith("d(") else name


def rename_operands(
    expression: Expression, names: Mapping[str, str], axes: Callable[[str], str]
) -> Expression:
    """The expression with operands and axes renamed, as a chain does with a link's own names."""

    def change(term: Term) -> Term:
        sizes, coefficient = [], term.coefficient
        for axis, power in term.sizes:
            new = axes(axis)
            if new.isdigit() and power.denominator == 1:
                coefficient *= int(new) ** int(power) if power > 0 else 1
                coefficient /= int(new) ** int(-power) if power < 0 else 1
            else:
                sizes.append((new, power))
        merged: tuple[tuple[str, object], ...] = ()
        size = Size()
        for axis, power in sizes:
            size = size * Size(powers=((axis, power),))  # type: ignore[assignment]
        merged = size.powers
        return replace(
            term,
            coefficient=coefficient,
            sizes=merged,
            factors=tuple(replace(f, name=names.get(f.name, f.name)) for f in term.factors),
            axes={s: axes(a) for s, a in term.axes.items()},
        )

    return expression.map(change)
