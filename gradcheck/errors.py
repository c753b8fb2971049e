"""The one family of errors: every exception that gradcheck raises on purpose is a `GradcheckError`.

An error says what was expected, what came, and what to write instead. The command line prints it
without a traceback and exits with 2.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Location:
    """Where the user wrote something: a file and a line, counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        """The location as editors understand it, relative to the working folder where possible."""
        path = Path(self.file)
        if path.parent.name.startswith("ipykernel_"):  # a notebook's cell has no file to open
            return f"line {self.line} of the cell"
        with suppress(ValueError):
            path = path.relative_to(Path.cwd())
        return f"{path}:{self.line}"


def in_words(error: BaseException) -> str:
    """The first line of an exception's text; for NumPy's refusal of arrays of `xp`, what to write."""
    first = str(error).strip().partition("\n")[0]
    if "__array_ufunc__" in first:
        return "a NumPy function was called on an array of xp; write xp.tanh, not np.tanh"
    return first


class GradcheckError(Exception):
    """Base of all errors of gradcheck."""


class SpecError(GradcheckError):
    """A spec, an expression or a chain that cannot mean anything.

    Attributes:
        problem: What is wrong, in one sentence.
        hint: What to write instead.
        spec: The name of the spec, where it is known.
        location: The file and line of the term, where they are known.
    """

    def __init__(
        self,
        problem: str,
        *,
        hint: str = "",
        spec: str | None = None,
        location: Location | None = None,
    ) -> None:
        self.problem = problem
        self.hint = hint
        self.spec = spec
        self.location = location
        super().__init__(problem)

    def within(self, *, spec: str | None = None, location: Location | None = None) -> SpecError:
        """The same error with the spec and the place filled in where they were not known."""
        return SpecError(
            self.problem,
            hint=self.hint,
            spec=self.spec or spec,
            location=self.location or location,
        )

    def __str__(self) -> str:
        where = ": ".join(
            part
            for part in (
                str(self.location) if self.location else "",
                f"spec {self.spec!r}" if self.spec else "",
            )
            if part
        )
        head = f"{where}: {self.problem}" if where else self.problem
        return f"{head}\n  {self.hint}" if self.hint else head


class UsageError(GradcheckError):
    """A call or a command line that asks for something that does not exist."""


class TooManyTerms(UsageError):
    """A derivative that would have too many terms to be written down as one expression."""


class ShapeError(GradcheckError):
    """Arrays whose shapes do not fit the axes of a spec."""


class UnsupportedOperation(GradcheckError):
    """A forward uses something that its namespace `xp` does not provide."""


class MissingBackend(GradcheckError):
    """A framework was asked for that is not installed, or a device that is not there."""


class VerificationFailed(GradcheckError, AssertionError):
    """Raised by `Report.raise_on_failure`; its text is the report."""
