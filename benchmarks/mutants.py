"""Every single-edit mutant of every bundled spec, as a table: `python benchmarks/mutants.py`.

Whether a mutant is equivalent is decided by brute force in high precision, by none of the oracles.
Exits with 1 where an oracle disagrees or leaves a mutant undecided.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from mutants import FORMS, Judge, Mutant, mutants

from gradcheck.checking.plan import Planned
from gradcheck.checking.run import run
from gradcheck.oracles import Oracle
from gradcheck.oracles.exact import exact

COLUMNS = ("mutants", "equivalent", "proved", "identity", "refuted", "undecided", "wrong")


def settled(mutant: Mutant, oracle: str) -> str:
    """The verdict of a whole check, certificate included."""
    planned = Planned(
        address="",
        claim=mutant.spec,
        label=mutant.claim.label,
        oracle=Oracle(oracle, "numpy"),
        device="cpu",
        dtype="float64",
        operation=mutant.operation,
    )
    return str(run(planned).verdict)


def counted(name: str) -> Counter[str]:
    """The row of one spec."""
    judge, row = Judge(name), Counter[str]()
    for mutant in mutants(name):
        right = judge.equivalent(mutant.claim, mutant.expression)
        verdict = settled(mutant, "symbolic")
        identity = exact(mutant.operation, mutant.claim).verdict
        wrong = verdict != ("proved" if right else "refuted")
        wrong |= identity != ("identity" if right else "suspect")
        row.update(["mutants", verdict] + ["equivalent"] * right + ["wrong"] * wrong)
        row.update(["identity"] * (identity == "identity"))
        if wrong:
            print(f"  {mutant}: equivalent {right}, symbolic {verdict}, exact {identity}")
    return row


def main() -> int:
    """Print the table."""
    total = Counter[str]()
    print(f"{'':24}" + "".join(f"{c:>11}" for c in COLUMNS) + f"{'seconds':>11}")
    start = time.perf_counter()
    for name in FORMS:
        began = time.perf_counter()
        row = counted(name)
        total += row
        _print(name, row, time.perf_counter() - began)
    _print("all", total, time.perf_counter() - start)
    return 1 if total["wrong"] or total["undecided"] else 0


def _print(name: str, row: Counter[str], seconds: float) -> None:
    print(
        f"{name:24}" + "".join(f"{row[c]:>11}" for c in COLUMNS) + f"{seconds:>11.1f}", flush=True
    )


if __name__ == "__main__":
    sys.exit(main())
