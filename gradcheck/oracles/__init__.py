"""Independent sources of the true derivative.

`ORACLES` is the only list of them. Each answers a `Question` with numpy arrays; none knows the claim.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from gradcheck import backends
from gradcheck.accumulating import why_link_by_link
from gradcheck.errors import UsageError
from gradcheck.oracles.differences import differences
from gradcheck.oracles.finding import Finding
from gradcheck.oracles.rounding import measured_rounding

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    import numpy as np

    from gradcheck.backends.base import Backend
    from gradcheck.operation import Claim, Operation

_EXACT_TAKES = (
    "exact takes one expression; verify the links by themselves, or a shorter part of the chain"
)
# They work without examples: their verdicts hold exactly, for every shape or at small ones.
EXACT = ("symbolic", "exact")
ORACLES = (*EXACT, "autograd", "jax", "torch", "tensorflow", "native", "differences")


@dataclass(frozen=True)
class Question:
    """∂output/∂input of a forward at one point.

    Attributes:
        forward: `forward(xp, *arrays)` to a tuple of outputs.
        native: By framework, `native(*arrays)`: its own implementation of the first output.
        arrays: The inputs (and scalar parameters), already rounded to the dtype.
        wrt: The place of the input among the arrays.
        output: The place of the output among the outputs.
        dtype: The dtype to compute in.
        key: Names the forward, for frameworks that keep what they compile.
        noise: A bound on the rounding error of the output, for differences.
    """

    forward: Callable[..., tuple[Any, ...]]
    native: dict[str, Callable[..., Any]]
    arrays: Sequence[Any]
    wrt: int
    output: int
    dtype: str
    key: Hashable
    noise: np.ndarray | None


@dataclass(frozen=True)
class Answer:
    """What an oracle says.

    Attributes:
        value: The output.
        jacobian: Its derivative.
        error: The derivative's error, where the oracle knows one.
        rounding: For an implementation of its own, whose formula nobody sees: measures how far rounding alone
            takes its value and its derivative.
    """

    value: np.ndarray
    jacobian: np.ndarray
    error: np.ndarray | None = None
    rounding: Callable[[], tuple[Any, Any]] | None = None


@dataclass(frozen=True)
class Oracle:
    """One source of truth, in one framework.

    Attributes:
        name: The word of the command line and the reports.
        framework: The backend that it runs on.
    """

    name: str
    framework: str

    @property
    def last_resort(self) -> bool:
        """Whether it is consulted only because something better may be missing."""
        return self.name == "differences"

    def ask(self, question: Question, device: str) -> Answer:
        """The derivative according to this oracle.

        Raises:
            MissingBackend: Where its framework or the device is absent.
        """
        if self.name == "differences":
            return _differences(question)
        if self.name != "native":
            value, jacobian = self._derived(question, question.arrays, question.dtype, device)
            return Answer(value, jacobian)
        values = partial(self._derived, question, device=device)
        value, jacobian = values(question.arrays, question.dtype)

        @cache
        def rounding() -> tuple[Any, Any]:
            off = measured_rounding(values, question.arrays, question.dtype) or (0.0, 0.0)
            return off[0], off[1]

        return Answer(value, jacobian, rounding=rounding)

    def _derived(
        self, question: Question, arrays: Sequence[Any], dtype: str, device: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """The output and its derivative as a framework has them."""
        backend = backends.get(self.framework)
        forward, output = question.forward, question.output
        if self.name == "native":
            forward, output = _ignoring_xp(question.native[self.framework], backend), 0
        outputs, jacobian = backend.derivative(
            forward,
            arrays,
            question.wrt,
            output=output,
            dtype=dtype,
            device=device,
            key=(self.name, question.key),
        )
        return outputs[output], jacobian

    def devices(self) -> list[str]:
        """Where it can run here."""
        return backends.get(self.framework).devices()


def _ignoring_xp(native: Callable[..., Any], backend: Backend) -> Callable[..., Any]:
    """A framework's own function as a forward; it is given the framework's own arrays."""

    def forward(_xp: Any, *arrays: Any) -> Any:
        return native(*(backend.asarray_like(array) for array in arrays))

    return forward


def _differences(question: Question) -> Answer:
    jacobian, error = differences(
        question.forward,
        question.arrays,
        question.wrt,
        output=question.output,
        noise=question.noise,
    )
    value = backends.get("numpy").apply(question.forward, question.arrays, "float64")
    return Answer(value[question.output], jacobian, error)


def examine_exactly(name: str, operation: Operation, claim: Claim, seed: int) -> Finding:
    """What an exact oracle finds about a claim."""
    if name == "symbolic":
        from gradcheck.oracles.symbolic import symbolic

        return symbolic(operation, claim, seed=seed)
    from gradcheck.oracles.exact import exact

    if apart := why_link_by_link(operation, claim):
        return Finding("undecided", reason=f"not supported: {apart}, and {_EXACT_TAKES}")
    return exact(operation, claim, seed=seed)


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names of oracles, each known.

    Raises:
        UsageError: Suggesting the nearest name.
    """
    for name in names:
        if name not in ORACLES:
            near = get_close_matches(name, ORACLES, n=1)
            guess = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"unknown oracle {name!r}; {guess}known are {', '.join(ORACLES)}")
    return tuple(names)


def framework_of(name: str) -> str:
    """The framework that an oracle of this name runs on (its own; numpy for differences)."""
    return "numpy" if name in (*EXACT, "differences") else name


def missing(names: Sequence[str]) -> list[str]:
    """Those oracles whose framework is not installed."""
    here = backends.installed()
    return [n for n in names if n != "native" and framework_of(n) not in here]
