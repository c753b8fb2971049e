"""A derivative that is right but for rounding in a shorter format than that of its arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.diagnosis.hypotheses import Found
from gradcheck.diagnosis.matching import wrong_entries
from gradcheck.running import shorter_format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.diagnosis.cases import OpaqueCase


# So many errors, of both signs, before they count as those of rounding.
_MANY = 8


def less_precise(cases: Sequence[OpaqueCase]) -> Found | None:
    """No error is larger than the derived bound would be in a shorter format, and they go both ways."""
    excess, up, down = 0.0, 0, 0
    for case in cases:
        if case.tolerance is None or not np.all(np.isfinite(case.tolerance)):
            return None
        gap = np.abs(np.asarray(case.claimed, np.float64) - np.asarray(case.true, np.float64))
        where = wrong_entries(case)
        limit = np.broadcast_to(np.asarray(case.tolerance, np.float64), gap.shape)
        if not np.all(np.isfinite(gap[where])) or np.any(limit[where] == 0):
            return None
        excess = max(excess, float(np.max(gap[where] / limit[where], initial=0.0)))
        true = np.abs(np.asarray(case.true, np.float64))[where]
        larger = np.abs(np.asarray(case.claimed, np.float64))[where] > true
        up, down = up + int(larger.sum()), down + int((~larger).sum())
    name = shorter_format(excess, cases[0].dtype)
    if not name or up + down < _MANY or min(up, down) * _MANY < up + down:
        return None
    return Found(
        "less-precise",
        f"right up to rounding in {name} or shorter; part of it seems to be computed so",
    )
