"""Who catches what: gradcheck and other people's gradient checkers on the same rules, each at its defaults.

    python benchmarks/rivals.py [--quick] [--tensorflow] [--only softmax_zero,sine] [--json FILE]

The rules are those of `tests/field_cases.py`: wrong ones that some checker passes, and right ones that some
checker fails. Each is given to every checker at the same point; gradcheck also stands in the table as it is
used, drawing inputs of its own. numguard, too, draws its own. What was published of a checker, that it
misses a rule or blames one, is compared with what it does here, and where today's version behaves otherwise
the table says so.

`--quick` leaves out the points of more than 100,000 numbers. TensorFlow is asked only with `--tensorflow`.
Exits with 1 if gradcheck, drawing its own inputs, misses a wrong rule or blames a right one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from checkers import (
    AUTOGRAD,
    AUTOGRAD_OWN,
    CHECKERS,
    CHEX,
    FAST,
    JAX,
    JAX_BOTH,
    NUMGUARD,
    OURS,
    SLOW,
    TENSORFLOW,
    Cannot,
    Refuses,
)
from field_cases import RIGHT, WRONG, FieldCase, double

from gradcheck import real

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from checkers import Checker

RESULTS = Path(__file__).parent / "results" / "rivals.json"
QUICK = 100_000
# At so many random places one entry of a Jacobian is made wrong.
PLACES = 20
# How a checker fares with a rule, and how the table shows it.
CAUGHT, MISSED, PASSED, ALARM, NOT = "caught", "missed", "passed", "false alarm", "cannot"
REFUSED = "refuses"
SHOWN = {
    CAUGHT: "[green]caught[/]", MISSED: "[red]missed[/]", PASSED: "[green]passed[/]",
    ALARM: "[red]blamed[/]", REFUSED: "[red]raises[/]", NOT: "[dim]–[/]",
}  # fmt: skip

# What is published of each checker: the rules that it gets wrong, in which dtype ("" is any).
PUBLISHED: dict[str, dict[str, tuple[str, ...]]] = {
    "zero_of_300_000": {FAST: ("",)},
    "sign_flip_of_a_million": {FAST: ("",)},
    "one_entry_by_ten": {FAST: ("",)},
    "one_entry_by_three_quarters": {FAST: ("",)},
    "reversed_jacobian": {FAST: ("",)},
    "rolled_jacobian": {FAST: ("",)},
    "forgotten_sum": {SLOW: ("",), FAST: ("",)},
    "zero_of_a_millionth": {SLOW: ("",)},
    "softmax_diagonal": {SLOW: ("",)},
    "rounded_third": {SLOW: ("float64",), JAX: ("float32",)},
    "five_times_1e8": {AUTOGRAD_OWN: ("",)},
    "no_tangent": {JAX: ("",)},
    "zero_of_10_000": {CHEX: ("",)},
    "softmax_zero": {NUMGUARD: ("",)},
    "ignores_cotangent": {NUMGUARD: ("",)},
    "right_for_ones": {NUMGUARD: ("",)},
    "second_argument": {AUTOGRAD_OWN: ("",)},
    "sine": {
        SLOW: ("float32", "float16"), JAX: ("float16",), TENSORFLOW: ("float16",),
        AUTOGRAD_OWN: ("float32",),
    },
    "sine_in_torch": {SLOW: ("float32", "float16", "bfloat16")},
    "sine_in_jax": {JAX_BOTH: ("",), JAX: ("bfloat16",)},
    "relu_at_0": {SLOW: ("",), JAX: ("",), AUTOGRAD_OWN: ("",), TENSORFLOW: ("",)},
    "relu_half_at_0": {},
    "tied_maximum": {SLOW: ("",), JAX: ("",), AUTOGRAD_OWN: ("",), TENSORFLOW: ("",)},
    "hard_swish_corners": {SLOW: ("",), JAX: ("",), AUTOGRAD_OWN: ("",), TENSORFLOW: ("",)},
    "rms_norm": {SLOW: ("float32",)},
    "plain_numpy": {AUTOGRAD: ("",)},
}  # fmt: skip


@dataclass
class Outcome:
    """One checker on one rule in one dtype.

    Attributes:
        case: The rule.
        dtype: In which precision.
        checker: Who was asked.
        right: Whether the rule is right.
        outcome: Caught, missed, passed, false alarm, refuses or cannot.
        why: What the checker says, or why it cannot be asked.
        seconds: How long the check took, the second time where the first was short.
        published: Whether the checker is published to get this rule wrong.
    """

    case: str
    dtype: str
    checker: str
    right: bool
    outcome: str
    why: str
    seconds: float
    published: bool

    @property
    def errs(self) -> bool:
        """Whether the checker misleads its user here."""
        return self.outcome in (MISSED, ALARM, REFUSED)

    @property
    def otherwise(self) -> str:
        """How it differs from what is published; empty where it does not."""
        if not self.published or self.outcome == NOT or self.errs:
            return ""
        what = "catches it" if self.outcome == CAUGHT else "passes it"
        return f"{self.checker} on {self.case} ({self.dtype}): published to err, but {what}: {self.why}"


def asked(checker: Checker, case: FieldCase, dtype: str) -> Outcome:
    """Ask a checker about a rule; a short check is repeated, so that no compilation is timed."""
    right, expected = case.right, PUBLISHED.get(case.name, {}).get(checker.name, ())
    outcome, why, seconds = NOT, checker.missing(), 0.0
    if not why:
        for _ in range(2):
            start = time.perf_counter()
            outcome, why = _answer(checker, case, dtype)
            seconds = time.perf_counter() - start
            if outcome == NOT or seconds > 1:
                break
    published = "" in expected or dtype in expected
    return Outcome(case.name, dtype, checker.name, right, outcome, why, seconds, published)


def _answer(checker: Checker, case: FieldCase, dtype: str) -> tuple[str, str]:
    try:
        why = checker.ask(case, dtype)
    except Cannot as error:
        return NOT, str(error)
    except Refuses as error:
        return REFUSED, str(error)
    if case.right:
        return (ALARM if why else PASSED), why
    return (CAUGHT if why else MISSED), why


def measure(
    cases: Iterable[FieldCase],
    checkers: Iterable[Checker],
    seen: Callable[[Outcome], Any] = lambda _: None,
) -> list[Outcome]:
    """Every checker on every rule, in each of its dtypes."""
    found = []
    chosen = tuple(checkers)
    for case in cases:
        for dtype in case.dtypes:
            for checker in chosen:
                found.append(asked(checker, case, dtype))
                seen(found[-1])
    return found


def table(found: list[Outcome], *, right: bool) -> Table:
    """Rules down, checkers across."""
    title = "Right gradients" if right else "Wrong gradients"
    names = list(dict.fromkeys(o.checker for o in found))
    shown = Table(title=title)
    shown.add_column("rule")
    shown.add_column("dtype")
    for name in names:
        shown.add_column(name)
    cells = {(o.case, o.dtype, o.checker): o for o in found if o.right is right}
    for case, dtype in dict.fromkeys((o.case, o.dtype) for o in cells.values()):
        row = [cells[case, dtype, n] for n in names]
        shown.add_row(case, dtype, *(SHOWN[o.outcome] + (" †" if o.otherwise else "") for o in row))
    return shown


def totals(found: list[Outcome]) -> list[dict[str, Any]]:
    """For each checker what it catches, what it blames, and how long a check takes."""
    rows = []
    for name in dict.fromkeys(o.checker for o in found):
        mine = [o for o in found if o.checker == name]
        made = [o for o in mine if o.outcome != NOT]
        count = {k: sum(o.outcome == k for o in made) for k in (CAUGHT, MISSED, PASSED, ALARM)}
        refused = {
            r: sum(o.outcome == REFUSED and o.right is r for o in made) for r in (True, False)
        }
        took = sorted(o.seconds for o in made)
        rows.append({
            "checker": name,
            "caught": count[CAUGHT],
            "wrong": count[CAUGHT] + count[MISSED] + refused[False],
            "false alarms": count[ALARM] + refused[True],
            "right": count[PASSED] + count[ALARM] + refused[True],
            "cannot": len(mine) - len(made),
            "median seconds": took[len(took) // 2] if took else None,
            "most seconds": took[-1] if took else None,
        })  # fmt: skip
    return rows


def summary(rows: list[dict[str, Any]]) -> Table:
    """The totals side by side."""
    shown = Table(title="In all")
    for column in ("checker", "caught", "false alarms", "not asked", "median s", "most s"):
        shown.add_column(column, justify="left" if column == "checker" else "right")
    for row in rows:
        middle, most = row["median seconds"], row["most seconds"]
        shown.add_row(
            row["checker"],
            f"{row['caught']} of {row['wrong']}",
            f"{row['false alarms']} of {row['right']}",
            str(row["cannot"]),
            "–" if middle is None else f"{middle:.3f}",
            "–" if most is None else f"{most:.2f}",
        )
    return shown


def one_entry(size: int, error: float, place: tuple[int, int]) -> FieldCase:
    """The rule of 2x with one wrong entry of its Jacobian."""
    row, column = place

    def rule(v: Any, x: Any) -> Any:  # noqa: ARG001 - a rule takes the input too
        gradient = 2 * v
        gradient[column] += error * v[row]
        return gradient

    point = {"x": np.round(np.random.default_rng(0).normal(size=size), 2)}
    return FieldCase("one_entry", rule, double, {"x": real("n")}, point, whole=True)


def misses_of_one_entry(places: int = PLACES) -> list[dict[str, Any]]:
    """How often a single wrong entry is missed, over random places: whether one is seen may be luck."""
    rows, rng = [], np.random.default_rng(0)
    by_name = {c.name: c for c in CHECKERS}
    for size, error, diagonal in ((1000, 10.0, False), (100, -1.5, True)):
        drawn = [tuple(int(i) for i in rng.integers(0, size, 2)) for _ in range(places)]
        for name in (OURS, FAST):
            if by_name[name].missing():
                continue
            answers = [
                _answer(
                    by_name[name], one_entry(size, error, (i, i if diagonal else j)), "float64"
                )[0]
                for i, j in drawn
            ]
            rows.append({
                "checker": name, "size": size, "error": error,
                "missed": answers.count(MISSED), "places": places,
            })  # fmt: skip
    return rows


def as_dict(found: list[Outcome], checkers: Iterable[Checker]) -> dict[str, Any]:
    """What is kept."""
    return {
        "python": platform.python_version(),
        "checkers": {
            c.name: {
                "package": c.package,
                "version": c.version(),
                "call": c.call,
                "missing": c.missing(),
            }
            for c in checkers
        },
        "totals": totals(found),
        "otherwise than published": [o.otherwise for o in found if o.otherwise],
        "outcomes": [asdict(o) for o in found],
    }


def small(case: FieldCase) -> bool:
    """Whether the quick run has it."""
    return sum(a.size for a in case.at.values()) <= QUICK


def main() -> int:
    """Ask everybody about everything, print the tables, keep the figures."""
    parser = argparse.ArgumentParser(
        description="gradcheck and other gradient checkers on the same rules."
    )
    parser.add_argument("--quick", action="store_true", help="leave out the largest points")
    parser.add_argument("--tensorflow", action="store_true", help="ask TensorFlow as well")
    parser.add_argument("--only", default="", help="names of cases, comma-separated")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures are kept")
    options = parser.parse_args()
    os.environ["GRADCHECK_CACHE"] = "0"
    only = {n for n in options.only.split(",") if n}
    cases = [c for c in (*WRONG, *RIGHT) if not only or c.name in only]
    cases = [c for c in cases if not options.quick or small(c)]
    checkers = [c for c in CHECKERS if options.tensorflow or c.name != TENSORFLOW]

    def seen(outcome: Outcome) -> None:
        print(
            f"{outcome.case} {outcome.dtype} {outcome.checker}: {outcome.outcome}, "
            f"{outcome.seconds:.2f} s",
            file=sys.stderr,
        )

    found = measure(cases, checkers, seen)
    figures = as_dict(found, checkers)
    figures["one wrong entry"] = [] if options.quick or only else misses_of_one_entry()
    options.json.write_text(
        json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    console = Console(width=None if sys.stdout.isatty() else 250)
    for right in (False, True):
        console.print(table(found, right=right))
    console.print(summary(figures["totals"]))
    for row in figures["one wrong entry"]:
        console.print(
            f"{row['checker']}: one entry of {row['size']}² off by {row['error']:g} is missed at "
            f"{row['missed']} of {row['places']} random places"
        )
    for checker in checkers:
        if why := checker.missing():
            console.print(f"{checker.name}: {why}")
    for line in figures["otherwise than published"]:
        console.print(f"† {line}")
    return 1 if any(o.errs or o.outcome == NOT for o in found if o.checker == OURS) else 0


if __name__ == "__main__":
    sys.exit(main())
