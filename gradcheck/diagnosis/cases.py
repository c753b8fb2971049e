"""What an opaque derivative is judged by: dense claimed and true Jacobians at examples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Jacobian = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, eq=False)
class OpaqueCase:
    """A claimed derivative beside the true one, at one example.

    Attributes:
        claimed: The claimed Jacobian, assembled row by row from one-hot cotangents (or column by
            column from one-hot tangents), raw: its shape is output + whatever the claim returned,
            which may be another shape than the input's.
        true: The true Jacobian, of shape output + input.
        split: The number of the output's axes.
        axes: The name of each axis of `true`, the output's first; "" where an axis has no name.
        input: The name of the differentiated input.
        inputs: The arrays of all inputs by name.
        output: The value of the differentiated output.
        params: The values of the parameters.
        sizes: The size of each named axis.
        dtype: The dtype in which the claim was computed.
        tolerance: What rounding can explain, for each entry of `true`; None for a multiple of the
            dtype's roundoff.
        at_ones: What the claim gives for a cotangent of ones, where it was asked.
        claimed_at: `claimed_at(values)`: the claimed Jacobian with other inputs and parameters,
            where it can be asked again; missing names keep their values.
        true_at: Likewise for the true Jacobian.
    """

    claimed: NDArray[Any]
    true: NDArray[Any]
    split: int
    axes: tuple[str, ...]
    input: str
    inputs: Mapping[str, Any]
    output: NDArray[Any]
    params: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    dtype: str = "float64"
    tolerance: NDArray[Any] | None = None
    at_ones: NDArray[Any] | None = None
    claimed_at: Jacobian | None = None
    true_at: Jacobian | None = None
