"""A report on ten thousand checks is made as one on ten is: each check is looked at a few times."""

from __future__ import annotations

import sys
import time
from datetime import date
from typing import Any

import pytest
from test_reports import check, softmax_of_the_seeds

from gradcheck.checking.gate import Gate, judge
from gradcheck.reports import Report, Verdict
from gradcheck.reports.formats import FORMATS
from gradcheck.reports.gaps import Gap


def many(count: int) -> Report:
    """As many checks with every verdict, all claims called alike so that addresses tell them apart."""
    at = {"counterexample": softmax_of_the_seeds()}
    return Report(
        [
            check(
                list(Verdict)[i % 8],
                address=f"specs/some_{i}.py::softmax",
                reason=f"because of {i}",
                **(at if list(Verdict)[i % 8] is Verdict.REFUTED else {}),
            )
            for i in range(count)
        ]
    )


def lines_run(form: str, report: Report) -> int:
    """How many lines of the package a rendering runs through."""
    count = 0

    def step(frame: Any, event: str, _: Any) -> Any:
        nonlocal count
        if "gradcheck" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        FORMATS[form](report)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("form", FORMATS)
def test_four_times_the_checks_are_four_times_the_work(form: str) -> None:
    if form == "html":
        pytest.importorskip("jinja2")
    FORMATS[form](many(8))  # what is imported at the first call does not count
    few, four = (lines_run(form, many(n)) for n in (100, 400))
    assert four < 4.5 * few


def test_ten_thousand_checks_are_a_text_in_no_time() -> None:
    report = Report([check(claim=f"claim_{i}") for i in range(10_000)])
    begun = time.process_time()
    assert str(report).count("agrees") == 10_001
    assert time.process_time() - begun < 5  # laying out each cell by itself took 12 s


def test_known_gaps_are_judged_without_looking_every_place_up_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_up: list[str] = []
    monkeypatch.setattr(
        "gradcheck.checking.gate.homes", lambda check: looked_up.append(check.claim) or ()
    )
    gaps = tuple(Gap(f"nothing_{i}*", "*", "open", date(2100, 1, 1)) for i in range(20))
    judge(Report([check(claim=f"claim_{i}") for i in range(30)]), Gate(gaps=gaps))
    assert len(looked_up) == 30
