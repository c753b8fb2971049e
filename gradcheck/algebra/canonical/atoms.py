"""Atoms: the tensors that forms are made of.

Inputs are atoms; so is each result of a function that is not rational (`exp` of a monomial, `log`,
`erf`), each sum that is raised to a power which is no natural number, and each selector of a branch.
An atom is known by its canonical definition, never by coinciding values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck.algebra.canonical.forms import Form, Key


@dataclass(frozen=True, eq=False)
class Atom:
    """A tensor that stands for itself.

    Attributes:
        number: Its place in the order of creation, by which monomials are sorted.
        name: How messages show it.
        axes: Its axes.
        kind: "input", "sum", "selector", or the name of a function.
        table: The atoms of the same run.
        argument: The function's argument, or the sum itself.
        positive: Whether all its entries are known to be > 0.
        closed: Whether they are known to be ≥ 0 only; what is true for positive ones is then claimed
            for those points where they are.
        selects: Whether its entries are 0 or 1 (or, for a maximum, select by summing to one).
        whole: Whether its entries are integers, which tie with each other on no null set.
        sums_to_one: Whether a selector's rows along the last axis sum to 1.
        single: For a sum of one monomial, that monomial.
        diagonals: What its powers are where letters are one, as far as it was asked for.
    """

    number: int
    name: str
    axes: tuple[str, ...]
    kind: str
    table: Table = field(repr=False)
    argument: Form | None = None
    positive: bool = False
    closed: bool = False
    selects: bool = False
    whole: bool = False
    sums_to_one: bool = False
    single: Key | None = None
    diagonals: dict[object, Form] = field(default_factory=dict, repr=False)

    def __lt__(self, other: Atom) -> bool:
        return self.number < other.number

    def __repr__(self) -> str:
        return self.name


@dataclass
class Table:
    """The atoms of one run."""

    atoms: dict[object, Atom] = field(default_factory=dict)
    # Pairs of letters of an atom that may be exchanged: asked once of each atom, since arguments nest.
    symmetries: dict[Atom, list[tuple[int, int]]] = field(default_factory=dict)
    # Whether one selector implies another, by the two and which of their letters are one.
    implications: dict[object, bool] = field(default_factory=dict)

    def get(self, kind: str, name: str, axes: tuple[str, ...], **properties: object) -> Atom:
        """The atom of this kind and definition, made when it is first asked for."""
        argument = properties.get("argument")
        definition = name if argument is None else argument.key()  # type: ignore[attr-defined]
        key = (kind, definition, axes)
        if key not in self.atoms:
            self.atoms[key] = Atom(len(self.atoms), name, axes, kind, self, **properties)  # type: ignore[arg-type]
        return self.atoms[key]
