"""How long a proof takes: `symbolic` and `exact` on every bundled claim and on the gallery.

`python benchmarks/proofs.py` prints the least of some interleaved runs of each claim, after import,
and exits with 1 where one takes more than 50 ms.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gradcheck.library import resolve
from gradcheck.oracles.exact import exact
from gradcheck.oracles.symbolic import symbolic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck.operation import Claim, Operation

ROOT = Path(__file__).parent.parent
RUNS = 5
MOST = 50.0
ORACLES = {"symbolic": symbolic, "exact": exact}


def claims() -> Iterator[tuple[Operation, Claim]]:
    """Every claim of the bundled specs and of the gallery."""
    for folder in ("specs", "examples/specs"):
        for file in sorted((ROOT / folder).glob("*.py")):
            for target in resolve([str(file)]):
                for claim in target.operation.claims():
                    if claim.form != "missing":
                        yield target.operation, claim


def main() -> int:
    """Print a line for each claim, slowest last."""
    known = list(claims())
    least: dict[tuple[int, str], float] = {}
    for _ in range(RUNS):
        for i, (operation, claim) in enumerate(known):
            for name, oracle in ORACLES.items():
                start = time.perf_counter()
                oracle(operation, claim)
                took = 1e3 * (time.perf_counter() - start)
                least[i, name] = min(took, least.get((i, name), took))
    rows = [(max(least[i, n] for n in ORACLES), i) for i in range(len(known))]
    for _, i in sorted(rows):
        operation, claim = known[i]
        took = "  ".join(f"{n} {least[i, n]:6.1f} ms" for n in ORACLES)
        print(f"{operation.name[:32]:34}{claim.label:10}{took}")
    for name in ORACLES:
        own = sorted(least[i, name] for i in range(len(known)))
        print(
            f"{name}: median {own[len(own) // 2]:.1f} ms, most {own[-1]:.1f} ms, {len(own)} claims"
        )
    return 1 if max(least.values()) > MOST else 0


if __name__ == "__main__":
    sys.exit(main())
