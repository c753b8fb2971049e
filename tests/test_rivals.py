"""The published comparison: its adapters ask what they say, and gradcheck makes none of the mistakes."""

# ruff: noqa: E402, ARG005 - benchmarks are no package; rules take what their signature demands

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import checkers
import false_alarms
import rivals
from checkers import AUTOGRAD, AUTOGRAD_OWN, CHECKERS, FAST, JAX, JAX_BOTH, OURS, OURS_THERE, SLOW
from field_cases import RIGHT, WRONG, FieldCase
from rivals import (
    ALARM,
    CAUGHT,
    MISSED,
    NOT,
    PASSED,
    PUBLISHED,
    REFUSED,
    Outcome,
    asked,
    table,
    totals,
)

from gradcheck import real

CASES = {c.name: c for c in (*WRONG, *RIGHT)}
BY_NAME = {c.name: c for c in CHECKERS}


def outcome(checker: str, case: str, dtype: str = "float64") -> str:
    """What becomes of a rule; by an installed checker, or the test says that it is not."""
    chosen = BY_NAME[checker]
    if chosen.missing():
        pytest.skip(chosen.missing())
    return asked(chosen, CASES[case], dtype).outcome


@pytest.mark.parametrize(
    ("checker", "case", "dtype", "expected"),
    [
        # what is published of them, as it is measured here
        (FAST, "zero_of_300_000", "float64", MISSED),
        (FAST, "reversed_jacobian", "float64", MISSED),
        (FAST, "rolled_jacobian", "float64", MISSED),
        (FAST, "forgotten_sum", "float64", MISSED),
        (SLOW, "forgotten_sum", "float64", MISSED),
        (SLOW, "zero_of_a_millionth", "float64", MISSED),
        (FAST, "softmax_diagonal", "float64", MISSED),
        (SLOW, "rounded_third", "float64", MISSED),
        (JAX, "rounded_third", "float32", MISSED),
        (JAX, "no_tangent", "float32", MISSED),
        (AUTOGRAD_OWN, "five_times_1e8", "float64", MISSED),
        (AUTOGRAD_OWN, "second_argument", "float64", MISSED),
        (SLOW, "sine", "float32", ALARM),
        (SLOW, "relu_at_0", "float64", ALARM),
        (AUTOGRAD_OWN, "sine", "float32", ALARM),
        (JAX, "sine", "float16", ALARM),
        (JAX_BOTH, "sine_in_jax", "float32", REFUSED),
        (AUTOGRAD, "plain_numpy", "float64", REFUSED),
        # and what they get right: an adapter that always complained, or never, would fail here
        (SLOW, "softmax_zero", "float64", CAUGHT),
        (FAST, "softmax_zero", "float64", CAUGHT),
        (JAX, "softmax_zero", "float64", CAUGHT),
        (AUTOGRAD_OWN, "softmax_zero", "float64", CAUGHT),
        (SLOW, "sine", "float64", PASSED),
        (FAST, "sine", "float64", PASSED),
        (JAX, "sine", "float64", PASSED),
        (AUTOGRAD_OWN, "sine", "float64", PASSED),
        (SLOW, "rms_norm", "float64", PASSED),
    ],
)
def test_a_checker_does_with_a_rule_what_the_table_says(
    checker: str, case: str, dtype: str, expected: str
) -> None:
    assert outcome(checker, case, dtype) == expected


@pytest.mark.parametrize(
    "name", ["forgotten_sum", "softmax_diagonal", "five_times_1e8", "no_tangent"]
)
def test_gradcheck_catches_them_at_the_same_point(name: str) -> None:
    assert outcome(OURS_THERE, name, CASES[name].dtypes[0]) == CAUGHT


@pytest.mark.parametrize(("name", "dtype"), [("sine", "float16"), ("relu_at_0", "float64")])
def test_gradcheck_passes_what_others_blame(name: str, dtype: str) -> None:
    assert outcome(OURS, name, dtype) == PASSED


def test_whoever_cannot_be_asked_says_why() -> None:
    found = asked(BY_NAME[SLOW], CASES["zero_of_300_000"], "float64")
    assert (found.outcome, found.why) == (NOT, "it would write down a Jacobian of 9e+10 entries")
    found = asked(BY_NAME[JAX], CASES["sine_in_torch"], "float32")
    assert (found.outcome, found.why) == (NOT, "the rule takes torch arrays")


def test_who_is_not_installed_is_reported() -> None:
    absent = checkers.Checker("nobody", "nobody-ci", "nobody_at_all", lambda _c, _d: "", "")
    found = asked(absent, CASES["sine"], "float64")
    assert (found.outcome, found.why) == (NOT, "nobody-ci is not installed")
    assert totals([found])[0]["cannot"] == 1


def test_every_published_claim_is_about_a_case_and_a_checker() -> None:
    for name, claims in PUBLISHED.items():
        assert name in CASES
        assert set(claims) <= set(BY_NAME)
        for dtypes in claims.values():
            assert set(dtypes) <= {"", *CASES[name].dtypes}
    assert {c.name for c in WRONG} <= set(PUBLISHED)


def made(outcome: str, *, published: bool, right: bool = False) -> Outcome:
    return Outcome("case", "float64", "somebody", right, outcome, "says so", 0.5, published)


def test_what_is_otherwise_than_published_is_said() -> None:
    assert made(CAUGHT, published=True).otherwise == (
        "somebody on case (float64): published to err, but catches it: says so"
    )
    assert not made(MISSED, published=True).otherwise
    assert not made(CAUGHT, published=False).otherwise
    assert not made(NOT, published=True).otherwise


def test_an_error_that_every_rule_gets_is_no_catch() -> None:
    (row,) = totals([made(REFUSED, published=False), made(REFUSED, published=False, right=True)])
    assert (row["caught"], row["wrong"]) == (0, 1)
    assert (row["false alarms"], row["right"]) == (1, 1)


def test_the_table_shows_every_rule_once() -> None:
    found = [made(CAUGHT, published=True), made(PASSED, published=False, right=True)]
    assert table(found, right=False).row_count == 1
    assert table(found, right=True).row_count == 1


def test_the_command_writes_table_and_figures(tmp_path: Path) -> None:
    figures = tmp_path / "rivals.json"
    options = ["--quick", "--only", "forgotten_sum", "--json", str(figures)]
    done = subprocess.run(
        [sys.executable, "benchmarks/rivals.py", *options],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "GRADCHECK_CACHE": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "forgotten_sum" in done.stdout
    kept = json.loads(figures.read_text(encoding="utf-8"))
    assert kept["checkers"][SLOW]["version"]
    outcomes = {o["checker"]: o["outcome"] for o in kept["outcomes"]}
    assert outcomes[OURS] == CAUGHT
    assert outcomes[SLOW] == MISSED


def test_whether_one_wrong_entry_is_seen_is_no_luck_here() -> None:
    rows = rivals.misses_of_one_entry(places=3)
    ours = [r for r in rows if r["checker"] == OURS]
    assert [(r["size"], r["missed"]) for r in ours] == [(1000, 0), (100, 0)]


# ---------------------------------------------------------------------- false alarms


def jobs_of(name: str) -> list[false_alarms.Job]:
    source = false_alarms.jobs(0, (name,), tensorflow=False)
    return [next(source) for _ in false_alarms.LANES]


def test_right_rules_go_every_way() -> None:
    lanes = {job.lane for job in jobs_of("softmax")}
    assert lanes == set(false_alarms.LANES)
    dtypes = {d for lane in lanes for d in lane.dtypes}
    assert dtypes == {"float64", "float32", "float16", "bfloat16"}


def test_a_right_rule_raises_no_alarm_and_is_counted() -> None:
    tally = false_alarms.Tally()
    job = next(j for j in jobs_of("softmax") if j.lane.arrays == "numpy")
    tally.add(*false_alarms.run(job))
    assert tally.checks == len(job.lane.oracles) * len(job.lane.dtypes)
    assert tally.total("agrees") == tally.checks
    assert not tally.alarms


def test_a_wrong_rule_would_raise_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The count of 0 says something: the same way round, a rule off by a thousandth is counted."""
    right = false_alarms.rule_of

    def off(operation: Any) -> Any:
        rule = right(operation)
        return lambda v, *a, **p: tuple(g * g.dtype.type(1.001) for g in rule(v, *a, **p))

    monkeypatch.setattr(false_alarms, "rule_of", off)
    tally = false_alarms.Tally()
    job = next(j for j in jobs_of("softmax") if j.lane.arrays == "numpy")
    tally.add(*false_alarms.run(job))
    assert tally.total("refuted") >= 4  # float64 and float32, by both oracles
    assert {a["target"] for a in tally.alarms} == {"softmax"}
    assert all(a["counterexample"] for a in tally.alarms)


def test_every_bundled_and_gallery_rule_is_tried() -> None:
    source = false_alarms.jobs(0, (), tensorflow=False)
    names = {next(source).name for _ in range(2000)}
    assert {
        "softmax",
        "cross_entropy",
        "layer_norm",
        "attention",
        "inverse",
        "tied_perceptron",
    } <= names


def test_a_rule_without_a_point_is_no_case() -> None:
    case = FieldCase("one", lambda v, x: v, lambda xp, x: x, {"x": real("n")}, {"x": np.ones(3)})
    assert checkers.entries(case) == 9
