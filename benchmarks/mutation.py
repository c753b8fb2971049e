"""Mutants of every bundled spec, and of its vjp: who catches them, and who says what is wrong?

    python benchmarks/mutation.py [--specs softmax,l2] [--no-rivals] [--json FILE]

Each single edit of each bundled claim is a mutant. Whether it is equivalent to the original is decided
by brute force in numbers of 700 bits (`tests/mutants.py`), by none of the oracles. Its label is the edit
that was applied; where two edits give the same wrong derivative, either label is right. The vjp of each
mutant is given to gradcheck as values only, and to torch's, JAX's and autograd's own checkers as a custom
rule, each at its defaults (JAX in its default float32), at one shape with standard normal inputs.

Exits with 1 unless every mutant that is not equivalent is caught and no equivalent one is refuted.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from mutants import BITS, FORMS, SHAPES, Judge, Mutant, mutants, value_at
from mutation_rivals import RIVALS, refuted_by

from gradcheck import load
from gradcheck.checking.plan import Planned
from gradcheck.checking.run import run
from gradcheck.diagnosis import OpaqueCase, diagnose_opaque
from gradcheck.diagnosis.screen import Screen, bindings_at
from gradcheck.diagnosis.screen import value_at as numeric
from gradcheck.oracles import Oracle

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    undone: int = 0
    kind: int = 0
    link: int = 0
    pattern: int = 0
    checking: float = 0.0
    diagnosing: list[float] = field(default_factory=list)
    vjps: int = 0
    vjp_caught: int = 0
    vjp_kind: int = 0
    vjp_false_alarms: int = 0
    vjp_diagnosing: list[float] = field(default_factory=list)
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
    row.pattern += patterns_right(found.get("patterns", []))
    if found.get("kind") not in labels or not edit.get("proved"):
        row.notes.append(f"{mutant}: {found.get('kind')}: {found.get('message')} ({labels})")


def patterns_right(told: list[dict[str, Any]]) -> bool:
    """Whether each entry that is told as wrong (or right) is so by the original spec's own claim."""
    return bool(told) and all(
        bool(item["wrong"])
        == (not np.isclose(item["claim"], item["oracle"], rtol=1e-13, atol=1e-300))
        for item in told
    )


def of_vjp(row: Row, mutant: Mutant, equivalent: bool, labels: set[str]) -> None:
    """The mutant's Jacobian as the values of an opaque vjp."""
    spec = load(mutant.spec)
    cases = list(opaque_cases(spec, mutant))
    if not cases:
        return
    row.vjps += not equivalent
    caught = any(not np.allclose(c.claimed, c.true, rtol=1e-13, atol=1e-15) for c in cases)
    if equivalent:
        row.vjp_false_alarms += caught
        return
    row.vjp_caught += caught
    started = time.perf_counter()
    found = diagnose_opaque(cases, operation=spec, output=mutant.claim.output)
    row.vjp_diagnosing.append(time.perf_counter() - started)
    allowed = labels | (
        {"input-for-output", "output-for-input"} if "wrong-operand" in labels else set()
    )
    row.vjp_kind += found["kind"] in allowed
    if found["kind"] not in allowed:
        row.notes.append(f"vjp of {mutant}: {found['kind']}: {found['message']} ({labels})")


def opaque_cases(spec: Any, mutant: Mutant) -> Iterator[OpaqueCase]:
    """Claimed and true Jacobians at generic points, as values."""
    screen = Screen(spec, mutant.claim, 3)
    for place in screen.places:
        example = place.example
        claimed = numeric(mutant.expression, bindings_at(mutant.operation, example))
        if claimed is None:
            continue
        shape = (*spec.shapes[mutant.claim.output], *spec.shapes[mutant.claim.input])
        yield OpaqueCase(
            np.broadcast_to(claimed, place.true.shape),
            place.true,
            len(spec.shapes[mutant.claim.output]),
            shape,
            mutant.claim.input,
            example.inputs,
            np.asarray(place.bindings.values[mutant.claim.output]),
            example.params,
            example.sizes,
        )


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
        f"{'':32}{'caught':>16}{'false alarms':>16}{'s a mutant':>12}",
        _line(
            "gradcheck, as a spec",
            sum(r.caught for r in rows),
            wrong,
            sum(r.false_alarms for r in rows),
            right,
            sum(r.checking for r in rows) / max(1, wrong + right),
        ),
        _line(
            "gradcheck, as values of a vjp",
            sum(r.vjp_caught for r in rows),
            vjps,
            sum(r.vjp_false_alarms for r in rows),
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
        f"a diagnosis takes                {np.mean(spent):.2f} s, at most {max(spent):.2f} s (specs); "
        f"at most {max((s for r in rows for s in r.vjp_diagnosing), default=0):.2f} s (vjps)",
    ]
    return "\n".join(lines)


def _share(part: float, whole: float) -> str:
    return f"{int(part)} of {int(whole)} ({100 * part / max(1, whole):.1f} %)"


def _line(
    name: str, caught: float, tried: float, alarms: float, right: float, seconds: float | None
) -> str:
    share = f"{int(caught)}/{int(tried)} {100 * caught / max(1, tried):.0f} %"
    each = "" if seconds is None else f"{seconds:.3f}"
    return f"{name:32}{share:>16}{f'{int(alarms)}/{int(right)}':>16}{each:>12}"


def main() -> int:
    """Print the table and keep the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--specs", default=",".join(FORMS), help="which specs, comma-separated")
    parser.add_argument("--no-rivals", action="store_true", help="gradcheck alone")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures are kept")
    given = parser.parse_args()
    rows = []
    for name in given.specs.split(","):
        rows.append(measured(name, [] if given.no_rivals else list(RIVALS)))
        print(f"{name}: {rows[-1].mutants} mutants", file=sys.stderr, flush=True)
    print(table(rows))
    for note in (n for r in rows for n in r.notes):
        print(f"  {note}")
    given.json.parent.mkdir(exist_ok=True)
    record = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "table": table(rows).splitlines(),
        "rows": [asdict(r) for r in rows],
    }
    given.json.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    missed = sum(r.mutants - r.equivalent - r.caught for r in rows) + sum(
        r.vjps - r.vjp_caught for r in rows
    )
    return 1 if missed or any(r.false_alarms or r.vjp_false_alarms for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
