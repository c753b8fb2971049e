"""10,000 random pairs of expressions, decided in three ways: `python benchmarks/pairs.py`.

Canonical equality, formal evaluation at random residues, and brute force at three shapes must agree on
each pair. Exits with 1 where they do not. Each run draws others, unless it is given the
seed of an earlier one: `python benchmarks/pairs.py 7`.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pairs import edited, expression, rewritten
from test_pairs import verdicts

if TYPE_CHECKING:
    from random import Random

EXAMPLES = 10_000
COUNTS = Counter[str]()


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
)
@given(st.randoms(use_true_random=False))
def decide(chance: Random) -> None:
    """One pair: a rewriting of an expression, or a rewriting of an edit of it."""
    first = expression(chance)
    kind = chance.choice(("rewritten", "edited"))
    second = rewritten(chance, first if kind == "rewritten" else edited(chance, first))
    found = verdicts(first, second)
    word = "equal" if all(found) else "different"
    if len(set(found)) > 1:
        word = "DISAGREE"
        print(f"canonical, random, brute = {found}:\n  {first}\n  {second}")
    COUNTS[f"{kind}, {word}"] += 1


def main() -> int:
    """Print the counts."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else secrets.randbelow(1 << 32)
    print(f"seed {number}")
    start = time.perf_counter()
    seed(number)(decide)()
    for word, count in sorted(COUNTS.items()):
        print(f"{word:24}{count:>8}")
    print(f"{sum(COUNTS.values())} pairs in {time.perf_counter() - start:.1f} s")
    wrong = [w for w in COUNTS if "DISAGREE" in w or w == "rewritten, different"]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
