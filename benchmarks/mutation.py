"""Mutants of every bundled spec, and of its vjp: who catches them, and who says what is wrong?

    python benchmarks/mutation.py [--specs softmax,l2] [--no-rivals] [--json FILE] [-j 2]

Each single edit of each bundled claim is a mutant. Whether it is equivalent to the original is decided
by brute force in numbers of 700 bits (`tests/mutants.py`), by none of the oracles. Its label is the edit
that was applied; where two edits give the same wrong derivative, either label is right. Which index
patterns are wrong is decided likewise, entry by entry, from mutant minus original.

The vjp of each mutant is given as a plain function to `verify_vjp` (profile quick, one oracle: autograd),
once with `of=` the spec and once with its plain forward, and to torch's, JAX's and autograd's own checkers
as a custom rule, each at its defaults (JAX in its default float32), at one shape with standard normal
inputs. A factor of 1 + 1e-12 may lie below what rounding explains at every example: where `verify_vjp`
agrees with one it is counted apart, as below the bound.

Exits with 1 unless every other mutant that is not equivalent is caught and no equivalent one is refuted.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from mutants import BITS, DIFFERENT, FORMS, SHAPES, Judge, Mutant, mutants, value_at
from mutation_rivals import RIVALS, refuted_by

from gradcheck import constant, load, verify_vjp
from gradcheck.checking.plan import Planned
from gradcheck.checking.run import run
from gradcheck.oracles import Oracle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradcheck.spec import Spec

# The kind of error that each edit makes.
LABELS = {
    "sign": {"sign"},
    "coefficient": {"factor"},
    "axis size": {"factor"},
    "power": {"wrong-power"},
    "operand": {"wrong-operand"},
    "letter": {"wrong-letter"},
    "dropped term": {"missing-term"},
    "dropped delta": {"missing-delta"},
    "added delta": {"extra-delta"},
}
# Where the patterns are decided: every pattern of equal and different letters occurs.
WIDE = {"m": 3, "n": 4, "o": 5}
TINY = Fraction(1, 10**11)
RESULTS = Path(__file__).parent / "results" / "mutation.json"


@dataclass
class Row:
    """What became of the mutants of one spec."""

    spec: str
    mutants: int = 0
    equivalent: int = 0
    caught: int = 0
    false_alarms: int = 0
    mended: int = 0
    kind: int = 0
    link: int = 0
    pattern: int = 0
    checking: float = 0.0
    diagnosing: list[float] = field(default_factory=list)
    vjps: int = 0
    vjp_caught: int = 0
    vjp_below: int = 0
    vjp_kind: int = 0
    vjp_false_alarms: int = 0
    vjp_checking: float = 0.0
    vjp_diagnosing: list[float] = field(default_factory=list)
    plain_caught: int = 0
    plain_below: int = 0
    plain_kind: int = 0
    plain_false_alarms: int = 0
    rivals: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def values(judge: Judge, mutant: Mutant) -> tuple[str, ...]:
    """Every entry of a mutant at a point, to thirty digits: equal for equal derivatives."""
    import flint

    with flint.ctx.workprec(BITS):
        true = judge._derivative(0, mutant.claim.output, mutant.claim.input)
        operands = {**judge.points[0], **judge.form.forward(**judge.points[0])}
        found = [value_at(mutant.expression, place, operands, SHAPES[0]) for place in true]
        return tuple("undefined" if v is None else v.str(30, radius=False) for v in found)


def labelled(name: str, judge: Judge) -> Iterator[tuple[Mutant, bool, set[str]]]:
    """Each mutant with whether it is equivalent, and the labels of all edits that give the same."""
    group: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    found = []
    for mutant in mutants(name):
        key = (mutant.claim.label, *values(judge, mutant))
        group[key] |= LABELS[mutant.edit]
        found.append((mutant, key))
    for mutant, key in found:
        yield mutant, judge.equivalent(mutant.claim, mutant.expression), group[key]


def checked(mutant: Mutant) -> Any:
    """The symbolic oracle's whole check, certificate and diagnosis included."""
    planned = Planned(
        address="",
        claim=mutant.spec,
        label=mutant.claim.label,
        oracle=Oracle("symbolic", "numpy"),
        device="cpu",
        dtype="float64",
        operation=mutant.operation,
    )
    return run(planned)


def of_spec(row: Row, mutant: Mutant, equivalent: bool, labels: set[str]) -> None:
    """One mutant as a spec: caught, and link, pattern, kind and edit named rightly?"""
    started = time.perf_counter()
    check = checked(mutant)
    row.checking += time.perf_counter() - started
    row.mutants += 1
    row.equivalent += equivalent
    if equivalent:
        row.false_alarms += check.verdict == "refuted"
        return
    row.caught += check.verdict == "refuted"
    found = check.diagnosis or {}
    row.diagnosing.append(found.get("seconds", 0.0))
    edit = found.get("edit") or {}
    row.mended += bool(edit.get("proved"))
    row.kind += found.get("kind") in labels
    row.link += found.get("link") in (mutant.operation.name, "closed form")
    located = patterns_right(mutant, found.get("patterns", []))
    row.pattern += located
    if not located:
        row.notes.append(f"{mutant}: patterns {found.get('patterns')}")
    if found.get("kind") not in labels or not edit.get("proved"):
        row.notes.append(f"{mutant}: {found.get('kind')}: {found.get('message')} ({labels})")


def patterns_right(mutant: Mutant, told: list[dict[str, Any]]) -> bool:
    """Whether the patterns told as wrong are those at which mutant and original differ, and no others."""
    wrong = wrong_patterns(mutant)
    places = {key: [item for item in told if fits(item["pattern"], dict(key))] for key in wrong}
    return all(
        len(items) == 1 and bool(items[0]["wrong"]) is wrong[key] for key, items in places.items()
    )


def wrong_patterns(mutant: Mutant) -> dict[tuple[tuple[str, bool], ...], bool]:
    """For each index pattern, whether any entry of mutant minus original is not 0 there."""
    import flint

    spec, claim = load(mutant.spec), mutant.claim
    split, letters = len(spec.shapes[claim.output]), mutant.expression.output
    axes = (*spec.shapes[claim.output], *spec.shapes[claim.input])
    pairs = [
        (i, j) for i, j in product(range(split), range(split, len(axes))) if axes[i] == axes[j]
    ]
    original = spec.slice_derivative(claim.output, claim.input)
    found: dict[tuple[tuple[str, bool], ...], bool] = {}
    with flint.ctx.workprec(BITS):
        judge = Judge(mutant.spec)
        point = judge._point(WIDE)
        operands = {**point, **judge.form.forward(**point)}
        for place in product(*(range(WIDE[a]) for a in axes)):
            key = tuple((f"{letters[i]} {letters[j]}", place[i] == place[j]) for i, j in pairs)
            if not found.get(key):
                values = [value_at(e, place, operands, WIDE) for e in (mutant.expression, original)]
                found[key] = None in values or bool(abs(values[0] - values[1]) > DIFFERENT)
    return found


def fits(text: str, known: dict[str, bool]) -> bool:
    """Whether `p = r, q ≠ s` holds where it is known which letters are equal."""
    if text == "every entry":
        return True
    parts = [part.split() for part in text.split(", ")]
    return all(known[f"{a} {b}"] is (sign == "=") for a, sign, b in parts)


# ---------------------------------------------------------------------- as a vjp


def rule_of(mutant: Mutant) -> Callable[..., Any]:
    """The mutant's vjp as a user writes one: of the cotangent and the inputs in order."""
    names, wrt = list(mutant.operation.inputs), mutant.claim.input
    pulled = mutant.operation.vjp(wrt)
    return lambda v, *arrays: pulled(v, **dict(zip(names, arrays, strict=True)))[wrt]


def plain(spec: Spec) -> Callable[..., Any]:
    """The forward as a plain function."""

    def forward(xp: Any, *arrays: Any) -> Any:
        return spec.environment(xp, dict(zip(spec.inputs, arrays, strict=True)))[spec.result]

    return forward


def of_vjp(row: Row, mutant: Mutant, equivalent: bool, labels: set[str]) -> None:
    """The mutant's vjp through `verify_vjp`, the forward given as the spec, and as a plain function."""
    if mutant.claim.output != mutant.operation.result:
        return
    spec, wrt = load(mutant.spec), mutant.claim.input
    inputs = {n: d if n == wrt else constant(d) for n, d in spec.inputs.items()}
    row.vjps += not equivalent
    for of, prefix in ((spec, "vjp"), (plain(spec), "plain")):
        started = time.perf_counter()
        report = verify_vjp(
            rule_of(mutant), of=of, inputs=inputs, output=spec.result, oracles=["autograd"],
            profile="quick",
        )  # fmt: skip
        if prefix == "vjp":
            row.vjp_checking += time.perf_counter() - started
        told(row, prefix, report.checks[0], mutant, equivalent, labels)


def told(
    row: Row, prefix: str, check: Any, mutant: Mutant, equivalent: bool, labels: set[str]
) -> None:
    """What one check says of a mutant's vjp."""
    refuted = check.verdict == "refuted"
    if equivalent:
        count(row, f"{prefix}_false_alarms", refuted)
        return
    count(row, f"{prefix}_caught", refuted)
    count(row, f"{prefix}_below", check.verdict == "agrees" and tiny(mutant))
    found = check.diagnosis or {}
    allowed = labels | (
        {"input-for-output", "output-for-input"} if "wrong-operand" in labels else set()
    )
    count(row, f"{prefix}_kind", found.get("kind") in allowed)
    if prefix == "vjp":
        row.vjp_diagnosing.append(found.get("seconds", 0.0))
        if found.get("kind") not in allowed:
            said = f"{found.get('kind')}: {found.get('message')}" if refuted else check.verdict
            row.notes.append(f"vjp of {mutant}: {said} ({labels})")


def count(row: Row, name: str, by: bool) -> None:
    """Add to a figure of the row."""
    setattr(row, name, getattr(row, name) + by)


def tiny(mutant: Mutant) -> bool:
    """Whether the mutation is a factor that differs from 1 by next to nothing."""
    if mutant.edit != "coefficient":
        return False
    original = load(mutant.spec).slice_derivative(mutant.claim.output, mutant.claim.input)
    ratios = [
        a.coefficient / b.coefficient
        for a, b in zip(mutant.expression.terms, original.terms, strict=True)
    ]
    return all(abs(r - 1) < TINY for r in ratios)


def against_rivals(row: Row, mutant: Mutant, equivalent: bool, names: list[str]) -> None:
    """The same mutant through the frameworks' own checkers."""
    for name in names:
        started = time.perf_counter()
        refuted = refuted_by(name, mutant)
        seconds = time.perf_counter() - started
        counts = row.rivals.setdefault(name, {})
        if refuted is None:
            _count(counts, "unable", 1)
            continue
        _count(counts, "seconds", seconds)
        _count(counts, "false alarms" if equivalent else "caught", refuted)
        _count(counts, "equivalent" if equivalent else "tried", 1)


def _count(counts: dict[str, float], key: str, by: float) -> None:
    counts[key] = counts.get(key, 0) + by


def measured(name: str, rivals: list[str]) -> Row:
    """The row of one spec."""
    row, judge = Row(name), Judge(name)
    for mutant, equivalent, labels in labelled(name, judge):
        of_spec(row, mutant, equivalent, labels)
        of_vjp(row, mutant, equivalent, labels)
        against_rivals(row, mutant, equivalent, rivals)
    return row


def table(rows: list[Row]) -> str:
    """The figures side by side."""
    wrong = sum(r.mutants - r.equivalent for r in rows)
    right = sum(r.equivalent for r in rows)
    vjps = sum(r.vjps for r in rows)
    spent = [s for r in rows for s in r.diagnosing]
    lines = [
        f"{sum(r.mutants for r in rows)} mutants of {len(rows)} specs, {right} of them equivalent",
        "",
        f"{'':36}{'caught':>16}{'below the bound':>17}{'false alarms':>14}{'s a mutant':>12}",
        _line(
            "gradcheck, as a spec",
            sum(r.caught for r in rows),
            wrong,
            "",
            sum(r.false_alarms for r in rows),
            right,
            sum(r.checking for r in rows) / max(1, wrong + right),
        ),
        _line(
            "gradcheck, verify_vjp of the spec",
            sum(r.vjp_caught for r in rows),
            vjps,
            str(sum(r.vjp_below for r in rows)),
            sum(r.vjp_false_alarms for r in rows),
            right,
            sum(r.vjp_checking for r in rows) / max(1, vjps + right),
        ),
        _line(
            "gradcheck, verify_vjp of a forward",
            sum(r.plain_caught for r in rows),
            vjps,
            str(sum(r.plain_below for r in rows)),
            sum(r.plain_false_alarms for r in rows),
            right,
            None,
        ),
    ]
    for name in RIVALS:
        totals: Counter[str] = Counter()
        for row in rows:
            totals.update(row.rivals.get(name, {}))
        if totals["tried"]:
            each = totals["seconds"] / (totals["tried"] + totals["equivalent"])
            lines.append(
                _line(
                    name,
                    totals["caught"],
                    totals["tried"],
                    "",
                    totals["false alarms"],
                    totals["equivalent"],
                    each,
                )
            )
    lines += [
        "",
        f"link named rightly               {_share(sum(r.link for r in rows), wrong)}",
        f"patterns told rightly            {_share(sum(r.pattern for r in rows), wrong)}",
        f"kind named rightly, specs        {_share(sum(r.kind for r in rows), wrong)}",
        f"an edit proved right             {_share(sum(r.mended for r in rows), wrong)}",
        f"kind named rightly, vjps         {_share(sum(r.vjp_kind for r in rows), vjps)}",
        f"  of a plain forward             {_share(sum(r.plain_kind for r in rows), vjps)}",
        f"a diagnosis takes                {np.mean(spent):.2f} s, at most {max(spent):.2f} s (specs); "
        f"at most {max((s for r in rows for s in r.vjp_diagnosing), default=0):.2f} s (vjps)",
    ]
    return "\n".join(lines)


def _share(part: float, whole: float) -> str:
    return f"{int(part)} of {int(whole)} ({100 * part / max(1, whole):.1f} %)"


def _line(
    name: str, caught: float, tried: float, below: str, alarms: float, right: float,
    seconds: float | None,
) -> str:  # fmt: skip
    share = f"{int(caught)}/{int(tried)} {100 * caught / max(1, tried):.0f} %"
    each = "" if seconds is None else f"{seconds:.3f}"
    return f"{name:36}{share:>16}{below:>17}{f'{int(alarms)}/{int(right)}':>14}{each:>12}"


def all_rows(names: list[str], rivals: list[str], workers: int) -> list[Row]:
    """The rows of all specs, in their order; the work is shared among processes."""
    if workers == 1:
        return [measured(name, rivals) for name in names]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = {name: pool.submit(measured, name, rivals) for name in names}
        return [running[name].result() for name in names]


def main() -> int:
    """Print the table and keep the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--specs", default=",".join(FORMS), help="which specs, comma-separated")
    parser.add_argument("--no-rivals", action="store_true", help="gradcheck alone")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures are kept")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="how many processes")
    given = parser.parse_args()
    started = time.perf_counter()
    rivals = [] if given.no_rivals else list(RIVALS)
    rows = all_rows(given.specs.split(","), rivals, given.jobs)
    seconds = time.perf_counter() - started
    print(table(rows))
    print(f"all in {seconds:.0f} s, {given.jobs} processes")
    for note in (n for r in rows for n in r.notes):
        print(f"  {note}")
    given.json.parent.mkdir(exist_ok=True)
    record = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "jobs": given.jobs,
        "seconds": round(seconds, 1),
        "table": table(rows).splitlines(),
        "rows": [asdict(r) for r in rows],
    }
    given.json.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    missed = sum(
        r.mutants - r.equivalent - r.caught + r.vjps - r.vjp_caught - r.vjp_below for r in rows
    )
    return 1 if missed or any(r.false_alarms or r.vjp_false_alarms for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
