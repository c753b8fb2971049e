"""Index form to matrix form: Σ_p x[p,r] (a[p,s] − y[p,s]) / m as xᵀ(a − y)/m.

A product is a graph: its letters are nodes, its factors edges between them. Factors on the same letters
are multiplied entry by entry; a summed letter with one matrix is a product with ones or a vector, with
two a matrix product. A letter with three has no such form.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from gradcheck.algebra.matrices import (
    Diagonal,
    Entrywise,
    Matrix,
    Named,
    Ones,
    Product,
    Scaled,
    Total,
    Transpose,
    transposes,
)
from gradcheck.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gradcheck.algebra.grouping import Group
    from gradcheck.algebra.terms import Expression, Factor, Term

Letters = tuple[str, ...]


def vectorised(expression: Expression, *, latex: bool = False) -> str:
    """The matrix form as text or LaTeX.

    Raises:
        UsageError: Where there is none; the message says why.
    """
    found = matrix_form(expression)
    if isinstance(found, str):
        msg = f"{found}, so that there is no matrix form; str() has the form in letters"
        raise UsageError(msg)
    return found.latex() if latex else found.text()


def matrix_form(expression: Expression) -> Matrix | str:
    """The expression as a matrix, or why it is none."""
    output = expression.output
    if len(output) > 2:
        return f"the derivative has {len(output)} free letters where a matrix has two"
    if not any(t.coefficient for t in expression.terms):
        return Scaled(Fraction(0), (), (), Ones(number=True))
    # What is left of common factors may have three letters; its terms by themselves have fewer.
    apart = any(t.deltas for t in expression.terms)
    found = _oriented(expression, apart=apart)
    if isinstance(found, str) and not apart:
        second = _oriented(expression, apart=True)
        return found if isinstance(second, str) else second
    return found


def _oriented(expression: Expression, *, apart: bool) -> Matrix | str:
    """The form with the fewest transposes, its terms apart or with their common factors in front."""
    forms, reason = [], ""
    for rows, columns in _orientations(expression.output):
        try:
            forms.append(_whole(expression, rows, columns, apart=apart))
        except _NoMatrixError as error:
            reason = str(error)
    return min(forms, key=transposes) if forms else reason


def _orientations(output: Letters) -> list[tuple[str | None, str | None]]:
    if len(output) == 2:
        return [(output[0], output[1])]
    return [(output[0], None), (None, output[0])] if output else [(None, None)]


class _NoMatrixError(Exception):
    """No matrix notation expresses this."""


def _whole(expression: Expression, rows: str | None, columns: str | None, *, apart: bool) -> Matrix:
    seed = expression.seed
    if apart:  # terms of their own: diag(a) − a aᵀ
        parts = [_term(t, (), rows, columns, seed) for t in expression.terms]
    else:
        parts = [_group(g, rows, columns, seed) for g in expression.groups() if g.coefficient]
    return parts[0] if len(parts) == 1 else Total(tuple(parts))


def _group(group: Group, rows: str | None, columns: str | None, seed: str) -> Matrix:
    items = [_item(f, seed) for f in group.factors if f.letters]
    outside = {*group.summed, *(s for s in (rows, columns) if s)}
    items += [_sum_item(total, outside, seed) for total in group.sums]
    return _scaled(group, _product(items, group.deltas, rows, columns))


def _term(
    term: Term,
    outside: Iterable[str],
    rows: str | None,
    columns: str | None,
    seed: str,
    *,
    repeat: bool = False,
) -> Matrix:
    items = [_item(f, seed) for f in term.factors if f.letters]
    known = {*outside, *(s for s in (rows, columns) if s)}
    loose = [s for s in term.letters() if s in known and s not in (rows, columns)]
    if loose:
        raise _NoMatrixError(f"a sum depends on {loose[0]!r} as a third letter")
    return _scaled(term, _product(items, term.deltas, rows, columns, repeat=repeat))


def _scaled(of: Group | Term, body: Matrix) -> Matrix:
    scalars = tuple(f for f in of.factors if not f.letters)
    if of.coefficient == 1 and not of.sizes and not scalars:
        return body
    return Scaled(of.coefficient, of.sizes, scalars, body)


class _Item:
    """A factor of a product: the letters that it has, and the matrix in a given orientation."""

    def __init__(
        self, letters: Letters, oriented: Callable[[str | None, str | None], Matrix]
    ) -> None:
        self.letters = letters
        self.oriented = oriented


def _item(factor: Factor, seed: str) -> _Item:
    letters = tuple(s for s in factor.letters if s is not None)
    if len(letters) != len(factor.letters) or len(set(letters)) != len(letters):
        raise _NoMatrixError(f"{factor.name} is taken along a diagonal or at its first entry")
    if len(letters) > 2:
        raise _NoMatrixError(f"{factor.name} has {len(letters)} letters where a matrix has two")
    is_seed = factor.name.startswith("d(")
    shown = seed if is_seed and seed else factor.name
    named: Matrix = Named(shown, factor.function, factor.power, is_seed)
    if factor.power < 0:
        named = Entrywise((named,))  # 1 ⊘ b

    def oriented(rows: str | None, columns: str | None) -> Matrix:
        straight = letters in ((rows, columns), (rows,))
        return named if straight or not letters else Transpose(named)

    return _Item(letters, oriented)


def _sum_item(total: Sequence[Term], outside: set[str], seed: str) -> _Item:
    letters = tuple(dict.fromkeys(s for t in total for s in t.letters() if s in outside))
    if len(letters) > 2:
        raise _NoMatrixError("the sum of what is left of common factors has three letters")

    def straight(rows: str | None, columns: str | None) -> Matrix:
        return Total(tuple(_term(t, outside, rows, columns, seed, repeat=True) for t in total))

    def oriented(rows: str | None, columns: str | None) -> Matrix:
        first, second = straight(rows, columns), Transpose(straight(columns, rows))
        return min((first, second), key=transposes)  # (a − y)ᵀ rather than aᵀ − yᵀ

    return _Item(letters, oriented)


def _product(
    items: list[_Item],
    deltas: tuple[tuple[str, str], ...],
    rows: str | None,
    columns: str | None,
    *,
    repeat: bool = False,
) -> Matrix:
    """Items contracted over every letter that is neither row nor column."""
    if deltas and (rows is None or columns is None or deltas != ((rows, columns),)):
        raise _NoMatrixError("a delta joins letters that are no row and column")
    if deltas:
        vector = _product(items, (), rows, None, repeat=False)
        return Diagonal(vector)
    items = _merged(items)
    kept = {rows, columns}
    while summed := list(dict.fromkeys(s for i in items for s in i.letters if s not in kept)):
        letter = min(
            summed, key=lambda s: sum(s in i.letters and len(i.letters) == 2 for i in items)
        )
        items = _merged(_without(letter, items))
    return _assembled(
        [i for i in items if i.letters],
        rows,
        columns,
        [i for i in items if not i.letters],
        repeat=repeat,
    )


def _merged(items: list[_Item]) -> list[_Item]:
    """Factors on the same letters as one, entry by entry; numbers stay apart."""
    found: dict[object, list[_Item]] = {}
    for i, item in enumerate(items):
        found.setdefault(frozenset(item.letters) or i, []).append(item)
    return [same[0] if len(same) == 1 else _entrywise(same) for same in found.values()]


def _entrywise(items: list[_Item]) -> _Item:
    def oriented(rows: str | None, columns: str | None) -> Matrix:
        return Entrywise(tuple(i.oriented(rows, columns) for i in items))

    return _Item(items[0].letters, oriented)


def _without(letter: str, items: list[_Item]) -> list[_Item]:
    """The items after the sum over one letter."""
    rest = [i for i in items if letter not in i.letters]
    matrices = [i for i in items if letter in i.letters and len(i.letters) == 2]
    vectors = [i for i in items if i.letters == (letter,)]
    if len(matrices) > 2:
        raise _NoMatrixError(f"the summed letter {letter!r} joins {len(matrices)} matrices")
    if len(matrices) == 2:
        return [*rest, _through(letter, matrices, vectors)]
    if len(matrices) == 1:
        return [*rest, _onto(letter, matrices[0], vectors)]
    return [*rest, _inner(letter, vectors)]


def _other(item: _Item, letter: str) -> str:
    return next(s for s in item.letters if s != letter)


def _through(letter: str, matrices: list[_Item], vectors: list[_Item]) -> _Item:
    """Σ_k A[i,k] u[k] B[k,j]: the product A B, the columns of A times u."""
    first, second = (_other(m, letter) for m in matrices)

    def oriented(rows: str | None, columns: str | None) -> Matrix:
        left, right = matrices if rows == first else matrices[::-1]
        scaled = left.oriented(rows, letter)
        if vectors:
            scaled = Entrywise((scaled, *(v.oriented(None, letter) for v in vectors)))
        return Product((scaled, right.oriented(letter, columns)))

    return _Item((first, second), oriented)


def _onto(letter: str, matrix: _Item, vectors: list[_Item]) -> _Item:
    """Σ_k A[i,k] u[k], u being ones where there is none: a column, or as a row uᵀ Aᵀ."""
    kept = _other(matrix, letter)

    def oriented(rows: str | None, columns: str | None) -> Matrix:
        if columns is None:
            vector = vectors[0].oriented(letter, None) if vectors else Ones()
            return Product((matrix.oriented(rows, letter), vector))
        row = vectors[0].oriented(None, letter) if vectors else Transpose(Ones())
        return Product((row, matrix.oriented(letter, columns)))

    return _Item((kept,), oriented)


def _inner(letter: str, vectors: list[_Item]) -> _Item:
    """Σ_k u[k]: with ones, a number."""

    def oriented(rows: str | None, columns: str | None) -> Matrix:  # noqa: ARG001
        return Product((Transpose(Ones()), vectors[0].oriented(letter, None)))

    return _Item((), oriented)


def _assembled(
    items: list[_Item],
    rows: str | None,
    columns: str | None,
    numbers: list[_Item],
    *,
    repeat: bool,
) -> Matrix:
    """What is left: one matrix, a column and a row at the most, and numbers."""
    matrix = next((i for i in items if len(i.letters) == 2), None)
    column = next((i for i in items if i.letters == (rows,)), None)
    row = next((i for i in items if i.letters == (columns,) and i is not column), None)
    shown = [n.oriented(None, None) for n in numbers]
    if matrix is not None:
        parts = [column.oriented(rows, None)] if column else []
        parts += [matrix.oriented(rows, columns)]
        parts += [row.oriented(None, columns)] if row else []
        body = parts[0] if len(parts) == 1 else Entrywise(tuple(parts))
    else:
        body = _of_vectors(column, row, rows, columns, repeat=repeat)
    if shown and isinstance(body, Ones) and body.number:
        return shown[0] if len(shown) == 1 else Product(tuple(shown), numbers=len(shown))
    return Product((*shown, body), numbers=len(shown)) if shown else body


def _of_vectors(
    column: _Item | None, row: _Item | None, rows: str | None, columns: str | None, *, repeat: bool
) -> Matrix:
    """A column, a row, or their outer product; repeated by ones where nothing else repeats them."""
    if rows is None and columns is None:
        return Ones(number=True)
    if rows is None or columns is None:
        one = column or row
        if one is not None:
            return one.oriented(rows, columns)
        return Ones() if columns is None else Transpose(Ones())
    if repeat and (column is None or row is None):
        if column is not None:
            return column.oriented(rows, None)
        return row.oriented(None, columns) if row is not None else Ones(number=True)
    left = column.oriented(rows, None) if column else Ones()
    right = row.oriented(None, columns) if row else Transpose(Ones())
    return Product((left, right))
