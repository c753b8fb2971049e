"""The report: what its verdicts amount to, how it is written down, and how a person reads it."""

from __future__ import annotations

import copy
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from gradcheck.errors import UsageError, VerificationFailed
from gradcheck.reports import Check, Counterexample, Report, Verdict
from gradcheck.reports.text import render, summary

ANSI = re.compile(r"\x1b\[")


def check(verdict: str = "agrees", **changes: Any) -> Check:
    given: dict[str, Any] = {
        "claim": "softmax",
        "input": "z",
        "oracle": "torch",
        "device": "cpu",
        "dtype": "float64",
        "verdict": verdict,
        "examples": 100 if verdict in ("agrees", "refuted", "identity") else 0,
        "worst": 0.0123 if verdict == "agrees" else None,
        "seconds": 0.41,
    }
    return Check(**(given | changes))


def softmax_of_the_seeds() -> Counterexample:
    """What the rule -a[p,s] a[p,s] δ[p,r] in place of -a[p,q] a[p,s] δ[p,r] gives at z = [0, 1]."""
    return Counterexample(
        sizes={"m": 1, "n": 2},
        inputs={"z": [[0.0, 1.0]]},
        params={},
        entry="∂a[0,1]/∂z[0,0]",
        claim_value=-0.07232948812851325,
        oracle_value=-0.19661193324148185,
        bound=2.1e-16,
        pattern="p = r, q ≠ s",
        patterns=[
            {
                "pattern": "p = r, q ≠ s",
                "wrong": True,
                "entry": "∂a[0,1]/∂z[0,0]",
                "claim": -0.07232948812851325,
                "oracle": -0.19661193324148185,
            },
            {
                "pattern": "p = r, q = s",
                "wrong": False,
                "entry": "∂a[0,0]/∂z[0,0]",
                "claim": 0.19661193324148185,
                "oracle": 0.19661193324148185,
            },
            {"pattern": "p ≠ r", "wrong": False, "entry": "", "claim": 0.0, "oracle": 0.0},
        ],
        snippet=(
            "import numpy as np\n"
            "from gradcheck import load\n"
            'softmax = load("mine/softmax.py")\n'
            "z = np.array([[0.0, 1.0]])\n"
            'print(softmax.dense("z")(z=z)[0, 1, 0, 0])\n'
        ),
        location="mine/softmax.py:14",
    )


def failing() -> Report:
    found = softmax_of_the_seeds()
    at = {"address": "mine/softmax.py::softmax", "counterexample": found, "worst": 5.9e14}
    return Report(
        checks=[
            check("refuted", examples=12, **at),
            check("refuted", oracle="torch", dtype="float32", examples=12, **at),
            check("refuted", oracle="differences", examples=9, **at),
            check(claim="relu", input="x", kinks=4),
            check(
                claim="relu",
                input="x",
                dtype="float32",
                weak=2,
                apart={"the forward is not finite": 1},
            ),
            check(
                "skipped",
                claim="relu",
                input="x",
                oracle="native",
                framework="jax",
                reason="jax is not installed",
            ),
        ],
        seed=7,
        profile="quick",
        seconds=2.34,
        notes=['jax is not installed: pip install "gradcheck[jax]"'],
    )


FAILING_TEXT = """\
claim    input  oracle        device  dtype    verdict  examples  worst/bound    time
─────────────────────────────────────────────────────────────────────────────────────
softmax  z      torch         cpu     float64  refuted        12      5.9e+14  0.41 s
softmax  z      torch         cpu     float32  refuted        12      5.9e+14  0.41 s
softmax  z      differences   cpu     float64  refuted         9      5.9e+14  0.41 s
relu     x      torch         cpu     float64  agrees        100        0.012  0.41 s
relu     x      torch         cpu     float32  agrees        100        0.012  0.41 s
relu     x      native (jax)  cpu     float64  skipped         0            -  0.41 s

Refuted: softmax, input z (mine/softmax.py:14)
  Refuted by torch (cpu float64, float32); also by differences (cpu float64)
  m = 1, n = 2
  z (1 × 2) = [[0.0, 1.0]]
  ∂a[0,1]/∂z[0,0]: spec −0.072, torch −0.20
  the gap of 0.12 is 5.9e+14 times what rounding can explain (2.1e−16)
  wrong where p = r, q ≠ s; right where p = r, q = s; p ≠ r
  To reproduce:
    import numpy as np
    from gradcheck import load
    softmax = load("mine/softmax.py")
    z = np.array([[0.0, 1.0]])
    print(softmax.dense("z")(z=z)[0, 1, 0, 0])

Not concluded
  skipped by native (jax) (cpu float64): relu, x: jax is not installed

Examples counted apart
  relu, x: 2 weak (the bound is wide beside the largest entry), 4 entries at a kink, 1 where the
  forward is not finite

Notes
  jax is not installed: pip install "gradcheck[jax]"

profile quick, seed 7, 2.3 s
2 agrees, 3 refuted, 1 skipped; 2 claims, 1 covered; exit 1"""


def printed(report: Report, **console: Any) -> str:
    buffer = io.StringIO()
    render(report, Console(file=buffer, **console))
    return buffer.getvalue()


# ---------------------------------------------------------------- what the verdicts amount to


@pytest.mark.parametrize("verdict", ["proved", "identity", "agrees"])
def test_a_supported_claim_is_ok(verdict: str) -> None:
    report = Report([check(verdict), check("undecided", oracle="jax"), check("skipped")])
    assert report.ok
    assert report.exit_code == 0
    assert report.claims() == {("softmax", "z"): True}
    report.raise_on_failure()


def test_nothing_checked_never_passes() -> None:
    assert Report().exit_code == 3
    assert not Report().ok
    assert "nothing was checked; exit 3" in str(Report())


@pytest.mark.parametrize("verdict", ["undecided", "error", "skipped", "missing"])
def test_a_claim_that_nobody_supports_is_incomplete(verdict: str) -> None:
    report = Report([check(claim="relu"), check(verdict, reason="because")])
    assert report.exit_code == 3
    assert report.claims() == {("relu", "z"): True, ("softmax", "z"): False}
    why = (
        "no derivative is claimed" if verdict == "missing" else f"no oracle supports it ({verdict})"
    )
    assert f"Not covered\n  softmax, z: {why}" in str(report)


def test_a_missing_derivative_is_incomplete_even_beside_support() -> None:
    assert Report([check(), check("missing")]).exit_code == 3


def test_agreement_on_no_example_supports_nothing() -> None:
    report = Report([check(examples=0)])
    assert report.exit_code == 3
    assert "agreement on no example at all supports nothing" in str(report)


@pytest.mark.parametrize("verdict", ["undecided", "error", "skipped"])
def test_an_oracle_without_verdict_counts_only_if_required(verdict: str) -> None:
    assert Report([check(), check(verdict, oracle="jax")]).exit_code == 0
    assert Report([check(), check(verdict, oracle="jax", required=True)]).exit_code == 3


def test_something_required_and_absent_is_incomplete_and_printed() -> None:
    report = Report([check()], problems=["torch is required and not installed"])
    assert report.exit_code == 3
    assert "Incomplete\n  torch is required and not installed" in str(report)


def test_refuted_wins_over_incomplete_and_over_agreement() -> None:
    report = Report([check(), check("refuted", oracle="jax"), check("missing", input="b")])
    report.problems.append("cuda is required and not found")
    assert report.exit_code == 1
    assert report.claims()["softmax", "z"] is False


def test_interrupted_exits_as_shells_expect_and_says_so() -> None:
    report = Report([check()], interrupted=True)
    assert report.exit_code == 130
    assert not report.ok
    assert summary(report) == "interrupted; 1 agrees; 1 claim, 1 covered; exit 130"


def test_counts_are_kept_apart_in_the_order_of_the_verdicts() -> None:
    verdicts = ["skipped", "agrees", "proved", "agrees", "identity"]
    report = Report([check(verdict) for verdict in verdicts])
    assert list(report.counts().items()) == [
        (Verdict.PROVED, 1),
        (Verdict.IDENTITY, 1),
        (Verdict.AGREES, 2),
        (Verdict.SKIPPED, 1),
    ]


def test_a_verdict_given_as_a_word_counts_as_that_verdict() -> None:
    assert check("refuted").verdict is Verdict.REFUTED
    with pytest.raises(ValueError, match="fine"):
        check("fine")


def test_claims_of_one_name_in_two_files_do_not_cover_each_other() -> None:
    mine = str(Path.cwd() / "mine.py") + "::softmax"
    report = Report([check(address="/lib/softmax.py::softmax"), check("undecided", address=mine)])
    assert report.claims() == {
        ("/lib/softmax.py::softmax", "z"): True,
        ("mine.py::softmax", "z"): False,
    }
    assert report.exit_code == 3


def test_raise_on_failure_carries_the_report() -> None:
    with pytest.raises(VerificationFailed) as caught:
        failing().raise_on_failure()
    assert str(caught.value) == FAILING_TEXT
    assert isinstance(caught.value, AssertionError)


# ---------------------------------------------------------------- JSON


def strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def test_json_comes_back_as_it_went() -> None:
    report = failing()
    report.checks[0].diagnosis = {"term": "specs/softmax.py:14", "ratio": math.inf}
    report.checks[0].exercised = {"zeros": 3}
    again = Report.from_json(report.to_json())
    assert again == report
    assert str(again) == str(report)
    assert again.exit_code == 1


def test_json_has_the_keys_of_the_contract() -> None:
    data = strict(failing().to_json())
    contract = {
        "claim", "input", "oracle", "device", "dtype", "verdict", "examples", "worst", "seconds",
        "reason", "counterexample", "diagnosis",
    }  # fmt: skip
    assert contract <= set(data["checks"][0])
    assert data["schema"] == 1
    assert data["exit_code"] == 1
    assert data["ok"] is False
    assert data["counts"] == {"agrees": 2, "refuted": 3, "skipped": 1}
    assert {"claim": "relu", "input": "x", "covered": True} in data["claims"]


def test_what_is_not_finite_is_strict_json_and_comes_back() -> None:
    found = copy.deepcopy(softmax_of_the_seeds())
    found.inputs = {"z": [[math.inf, -math.inf, 1.0]]}
    found.claim_value = -math.inf
    found.bound = math.nan
    report = Report([check("refuted", worst=math.inf, counterexample=found)])
    data = strict(report.to_json())
    assert data["checks"][0]["worst"] == "Infinity"
    assert data["checks"][0]["counterexample"]["bound"] == "NaN"
    assert data["checks"][0]["counterexample"]["inputs"] == {"z": [["Infinity", "-Infinity", 1.0]]}
    again = Report.from_json(report.to_json()).checks[0]
    assert again.worst == math.inf
    assert again.counterexample is not None
    assert again.counterexample.inputs == found.inputs
    assert again.counterexample.claim_value == -math.inf
    assert math.isnan(again.counterexample.bound)
    assert "one of them is not finite" in str(report)


def test_a_name_that_reads_nan_stays_a_name() -> None:
    again = Report.from_json(Report([check(claim="NaN", reason="Infinity")]).to_json())
    assert again.checks[0].claim == "NaN"
    assert again.checks[0].reason == "Infinity"


def test_arrays_and_their_scalars_are_written_as_numbers() -> None:
    found = softmax_of_the_seeds()
    found.inputs = {"z": np.array([[0.0, np.nan]]), "k": np.arange(2)}
    found.params = {"eps": np.float32(0.5), "k": np.int64(3), "on": np.bool_(True)}
    data = strict(Report([check("refuted", counterexample=found)]).to_json())
    written = data["checks"][0]["counterexample"]
    assert written["inputs"] == {"z": [[0.0, "NaN"]], "k": [0, 1]}
    assert written["params"] == {"eps": 0.5, "k": 3, "on": True}


@pytest.mark.parametrize(
    ("text", "came"),
    [
        ("{", "text that is not JSON"),
        ("[]", r"\[\]"),
        ('{"schema": 99}', "schema 99"),
        ("{}", "schema None"),
    ],
)
def test_json_that_is_no_report_says_what_came(text: str, came: str) -> None:
    with pytest.raises(UsageError, match=rf"expected a report of schema 1, got {came}"):
        Report.from_json(text)


# ---------------------------------------------------------------- text


def test_a_failing_report_word_for_word() -> None:
    assert str(failing()) == FAILING_TEXT


def test_a_pipe_gets_the_text_of_print_at_any_width() -> None:
    for width in (20, 80, 300):
        assert printed(failing(), width=width, force_terminal=False) == FAILING_TEXT + "\n"


def test_a_pipe_gets_no_codes_and_never_a_folded_table() -> None:
    chain = "weighted_sum >> sigmoid >> softmax >> cross_entropy >> something_longer_than_all_that"
    report = Report([check("proved", claim=chain, input=name) for name in ("x", "w", "b")])
    lines = printed(report, width=40, force_terminal=False).splitlines()
    assert not ANSI.search("".join(lines))
    assert sum(line.startswith(chain) and "proved" in line for line in lines) == 3


def test_a_terminal_gets_colours_and_the_whole_table_where_it_fits() -> None:
    text = printed(failing(), width=120, force_terminal=True, color_system="standard")
    assert "\x1b[1;31mrefuted" in text
    assert "\x1b[32magrees" in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert [line.rstrip() for line in plain.splitlines()][:8] == FAILING_TEXT.splitlines()[:8]


@pytest.mark.parametrize("width", [75, 60, 50, 40, 30])
def test_a_narrow_terminal_keeps_claim_oracle_and_verdict(width: int) -> None:
    text = printed(failing(), width=width, force_terminal=True, color_system=None)
    table, _, rest = text.partition("Refuted: ")
    code = {line for line in text.splitlines() if line.startswith("    ")}  # never folded
    assert all(len(line) <= width for line in text.splitlines() if line not in code)
    assert table.count("refuted") == 3
    assert table.count("softmax") == 3
    assert "native" in table
    assert "wrong where p = r, q ≠ s" in rest
    assert '    print(softmax.dense("z")(z=z)[0, 1, 0, 0])' in code


def test_a_single_example_is_one_example() -> None:
    for count, words in ((1, "1 example"), (2, "2 examples")):
        text = printed(Report([check(examples=count)]), width=30, force_terminal=True)
        assert f"{words}," in re.sub(r"\x1b\[[0-9;]*m|\s+", " ", text) + ","


def test_brackets_are_text_and_no_markup() -> None:
    report = Report([check("error", claim="[bold]a[/bold]", reason="a[0] [red]")])
    text = printed(report, width=200, force_terminal=True, color_system=None)
    assert "[bold]a[/bold]" in text
    assert "a[0] [red]" in text


def test_one_refutation_is_shown_once_by_its_most_readable_counterexample() -> None:
    large = softmax_of_the_seeds()
    large.inputs = {"z": [[0.5] * 40] * 3}
    small = softmax_of_the_seeds()
    report = Report(
        [
            check("refuted", oracle="differences", counterexample=small),
            check("refuted", oracle="jax", counterexample=large),
            check("refuted", oracle="torch", counterexample=small),
            check("refuted", oracle="autograd"),
        ]
    )
    text = str(report)
    assert text.count("Refuted: softmax") == 1
    assert "by torch (cpu float64); also by differences (cpu float64), jax (cpu float64)" in text
    assert "z (1 × 2) = [[0.0, 1.0]]" in text


def test_a_refutation_without_counterexample_still_gives_its_reason() -> None:
    report = Report([check("refuted", reason="the shape is (2, 3), not (3, 2)", kind="vjp")])
    assert "Refuted: softmax, input z\n  Refuted by torch" in str(report)
    assert "the shape is (2, 3), not (3, 2)" in str(report)


def test_params_the_kind_of_claim_and_the_diagnosis_are_printed() -> None:
    found = softmax_of_the_seeds()
    found.params = {"eps": 0.001, "mode": "mean"}
    mend = {"mend": "write a[p,q] for a[p,s]"}
    text = str(Report([check("refuted", kind="vjp", counterexample=found, diagnosis=mend)]))
    assert "m = 1, n = 2, eps = 0.001, mode = mean" in text
    assert "∂a[0,1]/∂z[0,0]: vjp −0.072, torch −0.20" in text
    assert "mend: write a[p,q] for a[p,s]" in text


def test_a_reason_that_many_share_is_printed_once() -> None:
    checks = [check("skipped", claim=f"c{i}", reason="no device") for i in range(9)]
    text = str(Report([*checks, check()]))
    assert text.count("no device") == 1
    assert "c0, z; c1, z; c2, z; c3, z; and 5 more: no device" in text


def test_what_a_claim_is_called_may_hold_anything_and_the_table_stands() -> None:
    odd = check(claim="a >>\n b\t\x1b[31m\x9b", input="w\r\n", device="cpu\x00")
    text = str(Report([odd, check(claim="層" * 5)]))
    assert "a >> b �[31m�" in text
    table = text.splitlines()[:4]
    assert len(text.split("\n")) == len(Report([check(), check(claim="b")]).__str__().split("\n"))
    assert table[3].startswith("層" * 5 + "     z ")  # each as wide as two letters


def test_a_fold_of_a_claim_takes_only_its_own_column() -> None:
    chain = "weighted_sum >> softmax >> cross_entropy"
    text = printed(Report([check(claim=chain)]), width=60, force_terminal=True, color_system=None)
    lines = text.splitlines()
    assert [line.rstrip() for line in lines[2:5]] == [
        "weighted_sum >> softmax >>   z      torch   float64  agrees",
        "cross_entropy",
        "",
    ]
