"""A derivation as it turned out: sections, steps, and what was proved of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck.algebra.terms import Expression
    from gradcheck.derivation.lines import Line
    from gradcheck.operation import Operation


@dataclass(frozen=True)
class Proof:
    """What the symbolic oracle says of an equality.

    Attributes:
        verdict: "proved", "suspect" or "undecided".
        words: The statement of what was proved, or the reason why not.
    """

    verdict: str
    words: str = ""

    @property
    def ok(self) -> bool:
        """Whether it is proved."""
        return self.verdict == "proved"


@dataclass(frozen=True)
class Step:
    """One line of a derivation.

    Attributes:
        before: The line before it, multiplied out.
        after: This line, multiplied out.
        rule: "substitute", "powers", "delta", "multiply out", "relation", "size", "like terms",
            "group" or "claimed".
        reason: Why it is equal, in words.
        line: This line as it is printed.
        proof: That both are equal at every size.
    """

    before: Expression
    after: Expression
    rule: str
    reason: str
    line: Line
    proof: Proof

    def __str__(self) -> str:
        return f"= {self.line.text()}    ({self.reason})"


@dataclass(frozen=True)
class Local:
    """A link's own derivative, as its spec claims it."""

    result: str
    variable: str
    letters: tuple[tuple[str, ...], tuple[str, ...]]
    line: Line
    link: str


@dataclass(frozen=True)
class Section:
    """The derivation of the gradient in one variable.

    Attributes:
        variable: Its name.
        letters: Its letters.
        consumers: The results that it flows into, each with its letters: a path each.
        steps: From the substitution to the closed form.
        line: The closed form.
        matrix: The closed form in matrix notation, or "" where there is none.
        matrix_latex: The same as LaTeX.
        no_matrix: Why there is none.
    """

    variable: str
    letters: tuple[str, ...]
    consumers: tuple[tuple[str, tuple[str, ...]], ...]
    steps: tuple[Step, ...]
    line: Line
    matrix: str
    matrix_latex: str
    no_matrix: str

    @property
    def conditions(self) -> list[str]:
        """What the closed form needs to be equal to what it comes from; steps give the relations."""
        found = {c for t in self.line.expression().terms for c in t.conditions}
        return sorted(c for c in found if not c.startswith("Σ"))


@dataclass(frozen=True)
class Derivation:
    """How the gradient in each of `wrt` follows from the specs' own derivatives.

    `print` it for a terminal; `latex()` is a whole document, `markdown()` is for a notebook, where the
    object also shows itself.

    Attributes:
        operation: The chain (or spec) whose derivative it is.
        title: What it was called.
        wrt: The variables asked for.
        cotangent: The name of the result whose cotangent is v, or "" where the result is a scalar.
        locals: The links' own derivatives.
        paths: The chain rule along each path, as variables from the result on, for each of `wrt`.
        sections: One a variable, from the result down.
        proofs: For each of `wrt`, whether the last line is the derivative of the forward.
        letters: The letters of each variable.
    """

    operation: Operation
    title: str
    wrt: tuple[str, ...]
    cotangent: str
    locals: tuple[Local, ...]
    paths: dict[str, list[list[str]]]
    sections: tuple[Section, ...]
    proofs: dict[str, Proof]
    letters: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps of all sections, in order."""
        return tuple(s for section in self.sections for s in section.steps)

    @property
    def ok(self) -> bool:
        """Whether every step is proved, and every last line is proved to be the derivative."""
        return all(s.proof.ok for s in self.steps) and all(p.ok for p in self.proofs.values())

    def section(self, variable: str) -> Section:
        """The section of one variable."""
        return next(s for s in self.sections if s.variable == variable)

    def __getitem__(self, variable: str) -> Expression:
        """The closed form of the gradient in one variable."""
        return self.section(variable).line.expression().simplify()

    def __str__(self) -> str:
        from gradcheck.derivation.text import as_text

        return as_text(self)

    def __repr__(self) -> str:
        return f"<Derivation of {self.title} in {', '.join(self.wrt)}: {len(self.steps)} steps>"

    def latex(self) -> str:
        """A complete LaTeX document."""
        from gradcheck.derivation.latex import document

        return document(self)

    def markdown(self) -> str:
        """Markdown with formulas between dollars, for notebooks."""
        from gradcheck.derivation.latex import markdown

        return markdown(self)

    def _repr_markdown_(self) -> str:
        return self.markdown()

    def _repr_latex_(self) -> str:
        from gradcheck.derivation.latex import body

        return body(self)
