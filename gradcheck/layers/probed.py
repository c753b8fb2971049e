"""What probes of a large shape found, and how it is said."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck.layers.faults import Fault

# Probes that would take longer than this many seconds are not begun.
LIMIT = 900.0


@dataclass
class Probed:
    """What probes of one point found, for one input and one oracle.

    Attributes:
        probes: How many cotangents were compared.
        detects: The smallest error in a single entry of the Jacobian that they would have seen.
        worst: The worst error in units of its tolerance.
        wrong: The wrong entry of the Jacobian: output, its index, the input's index; None if none.
        blocks: The first blocks of outputs to which a bisection came.
        extent: The block around the wrong entry in which outputs, and entries of the gradient, are wrong.
        claim: What the rule says there.
        oracle: What the oracle says.
        bound: What rounding can explain.
        zero: Whether a gradient of zeros would have been seen.
        ones: Whether one of ones would have been.
        kinks: How many entries lay at a kink, with the claim between the one-sided derivatives.
        weak: Whether an error of the largest entry's own size would have passed.
        measured: Whether an entry was judged by the measured error, since nothing could be carried.
        fault: What is wrong with the rule whatever its derivative is.
        trouble: Why nothing was compared; empty if it was.
        seconds: How long it took.
        predicted: How long it was to take, as far as one pass of each kind tells.
    """

    probes: int = 0
    detects: float = 0.0
    worst: float = 0.0
    wrong: tuple[int, tuple[int, ...], tuple[int, ...]] | None = None
    blocks: list[str] = field(default_factory=list)
    extent: str = ""
    claim: float = 0.0
    oracle: float = 0.0
    bound: float = 0.0
    zero: bool = False
    ones: bool = False
    kinks: int = 0
    weak: bool = False
    measured: bool = False
    fault: Fault | None = None
    trouble: str = ""
    seconds: float = 0.0
    predicted: float = 0.0

    def takes_too_long(self) -> bool:
        """Whether what is predicted is more than probes may take, which is then the trouble."""
        if self.predicted > LIMIT:
            self.trouble = f"probes would take {self.predicted:.0f} s, more than {LIMIT:.0f} s"
        return bool(self.trouble)

    def saw(self, slack: float, ratio: float, telling: float) -> None:
        """Count a probe on which nothing is wrong.

        Args:
            slack: The smallest error that it would have seen.
            ratio: Its worst error in units of the tolerance.
            telling: The slack from which on it says too little.
        """
        self.detects, self.worst = max(self.detects, slack), max(self.worst, ratio)
        self.weak |= telling > 0 and not slack <= telling

    def together(self, entry: str, gap: float, bound: float) -> None:
        """Say that an entry of a product is beyond its bound, though no single share in it is."""
        self.worst = gap / bound if bound else math.inf
        self.extent = (
            f"no single entry is beyond its bound, but {entry} is: off by {gap:.3g}, where rounding "
            f"explains {bound:.3g}"
        )
