"""The gate: what is required, what is excused and for how long, and what becomes of the exit code."""

from __future__ import annotations

import time
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from gradcheck import Spec, delta, einsum, real, verify
from gradcheck.backends import get, installed
from gradcheck.checking.gate import Gate, gate, judge, outcome
from gradcheck.errors import SpecError, UsageError
from gradcheck.reports.gaps import Gap
from gradcheck.reports.model import Check, Report, Verdict

if TYPE_CHECKING:
    from pathlib import Path

DAY = date(2026, 6, 15)


def check(verdict: str = "agrees", **changes: Any) -> Check:
    given = {
        "claim": "softmax", "input": "z", "oracle": "torch", "device": "cpu", "dtype": "float64",
        "address": "specs/softmax.py::softmax", "examples": 3, "reason": "because",
    }  # fmt: skip
    if verdict == "missing":
        given.update(oracle="—", device="—", dtype="—")
    return Check(**{**given, "verdict": verdict, **changes})  # type: ignore[arg-type]


def gap(until: date = DAY, **changes: Any) -> Gap:
    given = {"claim": "softmax", "input": "z", "reason": "not yet", "until": until}
    return Gap(**{**given, **changes})


def judged(*checks: Check, **requirements: Any) -> Report:
    report = Report(list(checks))
    judge(report, Gate(**{"today": DAY, **requirements}))
    return report


# ---------------------------------------------------------------- without requirements


@pytest.mark.parametrize(
    ("checks", "code"),
    [
        ([], 3),
        ([check()], 0),
        ([check("skipped")], 3),
        ([check("undecided"), check("error"), check("skipped")], 3),
        ([check("undecided"), check(oracle="jax")], 0),
        ([check(), check("missing", input="y")], 3),
        ([check(), check("refuted", oracle="jax")], 1),
        ([check("refuted"), check("missing", input="y")], 1),
        ([check(examples=0)], 3),
    ],
)
def test_exit_codes(checks: list[Check], code: int) -> None:
    assert judged(*checks).exit_code == code


# ---------------------------------------------------------------- requirements


def test_a_required_oracle_that_was_never_asked() -> None:
    report = judged(check(), check(claim="relu"), oracles=("symbolic",))
    assert report.problems == [
        "the required oracle symbolic has nothing to say about softmax, z; relu, z"
    ]
    assert report.exit_code == 3
    assert judged(check("proved", oracle="symbolic"), oracles=("symbolic",)).exit_code == 0


def test_a_required_oracle_that_is_undecided() -> None:
    undecided = check("undecided", oracle="symbolic", required=True)
    assert judged(check(), undecided, oracles=("symbolic",)).exit_code == 3
    assert judged(check(), check("undecided", oracle="symbolic")).exit_code == 0


def test_a_required_device_needs_an_agreement_there() -> None:
    own = {"devices": ("cuda:0",)}
    there = check(device="cuda:0")
    assert judged(check(), there, **own).exit_code == 0
    for verdict in ("skipped", "undecided", "error"):
        report = judged(check(), check(verdict, device="cuda:0"), **own)
        assert report.problems == ["not verified on the required device cuda:0: softmax, z"]
    assert judged(check(), **own).exit_code == 3
    proof = check("proved", oracle="symbolic", dtype="exact")
    assert judged(proof, devices=("cpu",)).exit_code == 3, "a proof ran on no device"


@pytest.mark.parametrize(
    ("required", "found", "code"),
    [
        ("proved", "proved", 0),
        ("proved", "identity", 3),
        ("proved", "agrees", 3),
        ("identity", "proved", 0),
        ("identity", "identity", 0),
        ("identity", "agrees", 3),
        ("agrees", "agrees", 0),
        ("agrees", "proved", 0),
        ("proved", "refuted", 1),
    ],
)
def test_a_required_verdict(required: str, found: str, code: int) -> None:
    verdicts = (("specs/softmax.py", Verdict(required)),)
    assert judged(check(found), verdicts=verdicts).exit_code == code
    assert judged(
        check("agrees", claim="relu", address="specs/relu.py::relu"), verdicts=verdicts
    ).ok


@pytest.mark.parametrize("pattern", ["*", "softmax", "specs/*.py", "specs/softmax.py::softmax"])
def test_a_pattern_names_claims_files_and_addresses(pattern: str) -> None:
    report = judged(check(), verdicts=((pattern, Verdict.PROVED),))
    assert report.problems == [f"required to be proved ({pattern}), and not: softmax, z"]


def test_a_pattern_that_matches_nothing_is_a_mistake_where_all_was_looked_at() -> None:
    verdicts = (("spec/*.py", Verdict.PROVED),)
    assert judged(check(), verdicts=verdicts).ok
    report = judged(check(), verdicts=verdicts, complete=True)
    assert report.problems == ["nothing matches 'spec/*.py', which is required to be proved"]


def test_many_claims_are_counted() -> None:
    checks = [check(claim=f"c{i}", address="") for i in range(9)]
    (problem,) = judged(*checks, oracles=("jax",)).problems if "jax" in installed() else ("",)
    assert problem.endswith("c0, z; c1, z; c2, z; c3, z; and 5 more") or not problem


def test_what_is_required_is_asked_for() -> None:
    assert gate(require_verdict="proved").needed == ("symbolic",)
    assert gate(require_verdict={"a": "identity"}, require="jax").needed == (
        "jax", "symbolic", "exact",
    )  # fmt: skip
    assert gate(require_verdict="agrees").needed == ()


# ---------------------------------------------------------------- known gaps


@pytest.mark.parametrize("verdict", ["missing", "undecided", "skipped", "error"])
def test_a_gap_excuses_what_is_not_verified_and_is_reported(verdict: str) -> None:
    other = check(claim="relu")
    assert judged(other, check(verdict)).exit_code == 3
    report = judged(other, check(verdict), gaps=(gap(),))
    assert report.exit_code == 0
    assert str(report).count("softmax, z: not yet (accepted until 2026-06-15)") == 1
    assert Report.from_json(report.to_json()) == report


def test_a_gap_lasts_until_its_day() -> None:
    checks = (check(claim="relu"), check("missing"))
    assert judged(*checks, gaps=(gap(),), today=DAY).ok
    report = judged(*checks, gaps=(gap(),), today=date(2026, 6, 16))
    assert report.exit_code == 3
    assert report.problems == [
        "the known gap softmax, z expired on 2026-06-15 (not yet): verify it, or say until when it "
        "stays open"
    ]


def test_a_gap_never_excuses_a_refutation_nor_a_run_that_verified_nothing() -> None:
    assert judged(check(claim="relu"), check("refuted"), gaps=(gap(),)).exit_code == 1
    assert judged(check("missing"), gaps=(gap(),)).exit_code == 3


def test_a_gap_of_one_oracle_excuses_that_oracle_only() -> None:
    own = gap(oracle="symbolic")
    undecided = check("undecided", oracle="symbolic", required=True)
    assert judged(check(), undecided, gaps=(own,), oracles=("symbolic",)).ok
    assert judged(undecided, gaps=(own,)).exit_code == 3, "nobody else supports it"
    torch = check("undecided", required=True)
    other = check("agrees", oracle="jax")
    assert judged(other, torch, undecided, gaps=(own,)).exit_code == 3
    assert judged(check(), gaps=(own,), oracles=("symbolic",)).ok, "never asked, and excused"


def test_a_gap_excuses_devices_and_verdicts() -> None:
    own = {"devices": ("cuda:0",), "verdicts": (("*", Verdict.PROVED),)}
    assert judged(check(), **own).exit_code == 3
    assert judged(check(), gaps=(gap(),), **own).exit_code == 0
    assert judged(check(), gaps=(gap(input="b"),), **own).exit_code == 3


def test_a_thousand_gaps_among_thousands_of_claims_take_no_minute() -> None:
    start = time.perf_counter()
    checks = [
        Check(
            f"s{i}", "x", "autograd", "cpu", "float64", Verdict.MISSING, address=f"s/{i}.py::s{i}"
        )
        for i in range(4000)
    ]
    gaps = [
        {"claim": f"s{i}", "input": "x", "reason": "later", "until": "2999-01-01"}
        for i in range(999)
    ]
    gaps.append({"claim": "s/3*.py", "input": "x", "reason": "later", "until": "2999-01-01"})
    report = Report(checks=checks)
    judge(report, gate(gaps=gaps, complete=True))
    assert {gap.state for gap in report.gaps} == {"open"}
    assert time.perf_counter() - start < 15  # it took minutes where each looked at all


def test_a_gap_that_is_not_needed_or_names_nothing_is_said() -> None:
    (found,) = judged(check(), gaps=(gap(),)).gaps
    assert (found.state, str(found)) == (
        "unused", "softmax, z: not yet (no longer needed: all of it is verified; delete it)",
    )  # fmt: skip
    own = gap(claim="sofmax")
    assert judged(check(), gaps=(own,)).gaps == []
    (found,) = judged(check(), gaps=(own,), complete=True).gaps
    assert "names no claim of this run" in str(found)


# ---------------------------------------------------------------- one check alone


@pytest.mark.parametrize(
    ("found", "gaps", "kind"),
    [
        (check("proved"), (), "passed"),
        (check("agrees"), (), "passed"),
        (check("agrees", examples=0), (), "skipped"),
        (check("refuted"), (), "failed"),
        (check("refuted"), (gap(),), "failed"),
        (check("undecided"), (), "skipped"),
        (check("error"), (), "skipped"),
        (check("skipped"), (), "skipped"),
        (check("skipped", required=True), (), "failed"),
        (check("undecided", required=True), (gap(),), "gap"),
        (check("undecided", required=True), (gap(oracle="jax"),), "failed"),
        (check("missing"), (), "failed"),
        (check("missing"), (gap(),), "gap"),
        (check("missing"), (gap(date(2026, 6, 14)),), "failed"),
        (check("missing"), (gap(oracle="torch"),), "failed"),
    ],
)
def test_what_a_check_means_by_itself(found: Check, gaps: tuple[Gap, ...], kind: str) -> None:
    said = outcome(found, Gate(gaps=gaps, today=DAY))
    assert said.kind == kind
    assert kind == "passed" or "because" in said.reason


# ---------------------------------------------------------------- from Python


HALF = """
from gradcheck import Spec, delta, einsum, real

def forward(xp, x, w):
    return x * w

product = Spec(
    forward, inputs={"x": real("n"), "w": real("n")}, output={"y": "n"},
    jacobian={"x": einsum("p,pq->pq", "w", delta)},
)
"""


@pytest.fixture
def half(tmp_path: Path) -> str:
    path = tmp_path / "half.py"
    path.write_text(HALF, encoding="utf-8")
    return str(path)


def test_verify_takes_gaps_as_mappings(half: str) -> None:
    quick: dict[str, Any] = {"oracles": ["symbolic"], "profile": "quick"}
    own = {"claim": "product", "input": "w", "reason": "later", "until": "2999-01-01"}
    assert verify(half, **quick).exit_code == 3
    report = verify(half, gaps=[own], **quick)
    assert report.ok
    assert "product, w: later (accepted until 2999-01-01)" in str(report)
    assert not verify(half, gaps=[{**own, "until": "1999-01-01"}], **quick).ok
    with pytest.raises(UsageError, match="reason is missing"):
        verify(half, gaps=[{"claim": "product", "input": "w"}])


def test_verify_asks_the_oracle_that_a_verdict_needs(half: str) -> None:
    report = verify(half, wrt="x", oracles="differences", profile="quick", require_verdict="proved")
    assert {c.oracle for c in report.checks} == {"symbolic", "differences"}
    assert report.ok


@pytest.mark.skipif("torch" not in installed(), reason="torch is not installed")
def test_a_required_device_that_is_absent(half: str) -> None:
    if "cuda:0" in get("torch").devices():
        pytest.skip("this machine has the device")
    report = verify(half, wrt="x", oracles="torch", profile="quick", require_devices="cuda")
    assert report.exit_code == 3
    assert "not verified on the required device cuda:0: product, x" in report.problems
    assert "torch has no device 'cuda:0' here" in str(report)


@pytest.mark.parametrize(
    ("requirements", "message"),
    [
        ({"require": "jaxx"}, "unknown oracle 'jaxx'; did you mean jax?"),
        ({"require_devices": "all"}, "'all' is whatever is found"),
        ({"require_devices": "tpu"}, "unknown device 'tpu'"),
        ({"require_verdict": "proven"}, "did you mean proved?"),
        ({"gaps": [3]}, "gaps, number 1: expected a table"),
    ],
)
def test_a_mistake_in_the_requirements(requirements: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        gate(**requirements)


def test_two_operations_of_one_name_in_memory_cover_themselves_only() -> None:
    def broken(xp: Any, x: Any) -> Any:
        raise NotImplementedError("not here")

    claim = 2 * einsum("p,pq->pq", "x", delta)
    one, other = (
        Spec(forward, inputs={"x": real("n")}, output="n", jacobian={"x": claim}, name="square")
        for forward in (lambda _xp, x: x * x, broken)
    )
    report = verify([one, other], oracles="differences", profile="quick")
    assert report.exit_code == 3
    assert set(report.claims().items()) == {
        (("square (1)", "x"), True),
        (("square (2)", "x"), False),
    }


def test_no_gap_excuses_a_file_that_cannot_be_loaded(half: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad_one.py"
    bad.write_text("1 / 0\n", encoding="utf-8")
    wide = {"claim": "*", "input": "*", "reason": "all of it", "until": "9999-12-31"}
    report = verify([half, str(bad)], oracles="differences", profile="quick", gaps=[wide])
    assert report.exit_code == 3
    assert "bad_one.py cannot be loaded, which no known gap excuses" in str(report)


def test_specs_in_a_list_are_not_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "listed_ones.py"
    path.write_text(
        "from gradcheck import Spec, delta, einsum, real\n"
        "def made(k):\n"
        "    return Spec(lambda xp, x: k * x, inputs={'x': real('n')}, output='n',\n"
        "                jacobian={'x': k * einsum('pq->pq', delta)})\n"
        "good = made(1)\n"
        "more = [made(k) for k in (2, 3)]\n",
        encoding="utf-8",
    )
    with pytest.raises(SpecError, match="more holds specs that have no name of their own"):
        verify(str(path), oracles="symbolic", profile="quick")
