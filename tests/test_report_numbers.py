"""Numbers as a report writes them, and the bar that shows how far a run is."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from gradcheck.reports.numbers import assignment, duration, number, pair
from gradcheck.reports.progress import progress


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (-0.5, "−0.5"),
        (0.125, "0.125"),
        (-0.5344466453, "−0.53"),
        (-0.1966119332, "−0.20"),
        (0.9999999, "1.0"),
        (123.456789, "123"),
        (2.1234e-16, "2.1e−16"),
        (1.23456e12, "1.2e+12"),
        (math.inf, "inf"),
        (-math.inf, "−inf"),
        (math.nan, "nan"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_two_numbers_that_differ_never_read_the_same() -> None:
    assert pair(-0.5344, -0.1966) == ("−0.53", "−0.20")
    assert pair(0.33333333, 0.3333) == ("0.33333", "0.33330")
    first, second = 0.1 + 0.2, math.nextafter(0.1 + 0.2, 1)
    assert pair(first, second)[0] != pair(first, second)[1]
    assert pair(0.1234567, 0.1234567) == ("0.12345670000000000", "0.12345670000000000")


def test_inputs_say_whether_they_are_shortened() -> None:
    assert assignment("z", [[0.0, -1.5]]) == "z (1 × 2) = [[0.0, -1.5]]"
    assert assignment("k", [0, 3]) == "k (2) = [0, 3]"
    assert assignment("s", 0.5) == "s = 0.5"
    assert assignment("e", [[], []]) == "e (2 × 0) = [[], []]"
    assert assignment("t", [1 / 3]) == "t (1) ≈ [0.333333]"
    assert assignment("w", [[0.5] * 40] * 2) == (
        "w (2 × 40) begins 0.5, 0.5, 0.5, 0.5, ... (80 values in all)"
    )


def test_times_are_short() -> None:
    assert [duration(t) for t in (0.0, 0.414, 12.3)] == ["<0.01 s", "0.41 s", "12 s"]


def test_progress_is_silent_off_a_terminal() -> None:
    buffer = io.StringIO()
    with progress(2, Console(file=buffer, force_terminal=False)) as step:
        step("softmax, z by torch")
    assert buffer.getvalue() == ""


def test_progress_draws_on_a_terminal_what_is_done_and_what_runs() -> None:
    buffer = io.StringIO()
    with progress(2, Console(file=buffer, force_terminal=True, width=120)) as step:
        step("a[0] by torch")
        step("/a/long/folder/that/says/little/softmax.py::softmax::z[torch]")
    assert ".../little/softmax.py::softmax::z[torch]" in buffer.getvalue()
    assert "2/2" in buffer.getvalue()
