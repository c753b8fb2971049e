"""Whatever somebody gives by mistake is one readable error: what came, and what to write instead."""

# ruff: noqa: ARG001, ARG005  forwards that are wrong need no use for what they take

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import date
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from gradcheck import (
    Chain,
    Report,
    Spec,
    as_autograd,
    as_jax,
    as_torch,
    delta,
    derive,
    einsum,
    load,
    number,
    real,
    size,
    verify,
    verify_jvp,
    verify_layer,
    verify_vjp,
)
from gradcheck.checking.verifying import check_configured
from gradcheck.cli import main
from gradcheck.configuration import read
from gradcheck.diagnosis.numbers import Coefficient
from gradcheck.errors import GradcheckError, SpecError, UsageError
from gradcheck.reports.gaps import OPEN, UNUSED, Gap
from gradcheck.reports.model import Check, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORWARD = 2 * einsum("p,pr->pr", "x", delta)
QUICK: dict[str, Any] = {"profile": "quick", "oracles": ["differences"]}


def squares(xp: Any, x: Any) -> Any:
    return x * x


def pulled(cotangent: Any, x: Any) -> Any:
    return 2 * x * cotangent


def spec(forward: Any = squares, **changes: Any) -> Spec:
    """The spec of x², with changes."""
    given = {
        "inputs": {"x": real("m")},
        "output": {"y": "m"},
        "jacobian": {"x": FORWARD},
        **changes,
    }
    return Spec(forward, **given)


def checked(**changes: Any) -> Report:
    return verify(spec(), **{**QUICK, **changes})


def ruled(rule: Any = pulled, **changes: Any) -> Report:
    return verify_vjp(rule, **{"of": squares, "inputs": {"x": real("m")}, **QUICK, **changes})


def layered(layer: Any, **changes: Any) -> Report:
    return verify_layer(layer, **{"of": squares, "inputs": {"x": real("m")}, **QUICK, **changes})


class Layer:
    """A layer of two methods, right."""

    def forward(self, x: Any) -> Any:
        self.x = x
        return x * x

    def backward(self, cotangent: Any) -> Any:
        return 2 * self.x * cotangent


def refuses(call: Callable[[], object], text: str) -> None:
    """An error of gradcheck's own that says so, and no line of which is a traceback's."""
    with pytest.raises(GradcheckError) as caught:
        call()
    assert text in str(caught.value), str(caught.value)


# ---------------------------------------------------------------------- verify

NAMES = "takes a name or a list of names as text; got"
ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    (
        {"executor": 3},
        "executor is 3; give a concurrent.futures.Executor, such as ProcessPoolExecutor",
    ),
    ({"time_limit": -1}, "time_limit is -1; write seconds above 0 (a year at most), or None"),
    ({"time_limit": 0}, "time_limit is 0; write"),
    ({"time_limit": "x"}, "time_limit is 'x'; write"),
    ({"time_limit": float("nan")}, "time_limit is nan; write"),
    ({"time_limit": 1e300}, "time_limit is 1e+300; write"),
    ({"time_limit": True}, "time_limit is True; write"),
    ({"cache": 3}, "cache is 3; write a folder: cache='.gradcheck_cache'"),
    ({"seed": "x"}, "seed is 'x'; write a whole number, such as seed=1"),
    ({"seed": 1.5}, "seed is 1.5; write a whole number"),
    ({"jobs": 0}, "jobs is 0; write how many processes"),
    ({"jobs": "x"}, "jobs is 'x'; write a whole number"),
    ({"progress": 3}, "progress is 3; give a function"),
    ({"profile": 3}, "profile is 3; write one of quick, standard, thorough"),
    ({"profile": ["quick"]}, "profile is ['quick']; write one of quick"),
    ({"oracles": 3}, f"oracles {NAMES} 3"),
    ({"oracles": [["torch"]]}, f"oracles {NAMES} ['torch']"),
    ({"devices": [3]}, f"devices {NAMES} 3"),
    ({"dtypes": np.float32}, f"dtypes {NAMES} <class 'numpy.float32'>"),
    ({"wrt": 3}, f"wrt {NAMES} 3"),
    ({"require": 3}, f"require {NAMES} 3"),
    ({"require_devices": 3}, f"require_devices {NAMES} 3"),
    ({"gaps": 3}, "gaps is 3; write a list of tables"),
    ({"require_verdict": {3: "proved"}}, "require_verdict: 3 is no pattern of specs"),
    ({"data": 3}, 'data is 3, no table by name\n  write data={"x": x, "y": y}'),
    ({"data": {3: np.ones(2)}}, "data has the key 3, no name"),
    ({"data": {"x": [[1, 2], [3]]}}, "x cannot be read as an array"),
    ({"data": {"x": "abc"}}, "give an array of real numbers"),
]


@pytest.mark.parametrize(("given", "text"), ARGUMENTS)
def test_arguments_of_verify(given: dict[str, Any], text: str) -> None:
    refuses(lambda: checked(**given), text)


def test_a_whole_number_of_numpy_is_a_seed() -> None:
    report = checked(seed=np.int64(3))
    assert report.ok
    assert report.seed == 3
    assert '"seed": 3' in report.to_json()


def test_a_parameter_in_the_data_is_one_number() -> None:
    scaled = Spec(
        lambda xp, x, k: k * x,
        inputs={"x": real("m")},
        params={"k": number(1, 2)},
        output="m",
        jacobian={"x": einsum(",pr->pr", "k", delta)},
    )
    refuses(
        lambda: verify(scaled, data={"x": np.ones(2), "k": np.ones(3)}),
        "k is a parameter, one number",
    )


def test_data_that_are_no_archive_are_not_to_be_written_over(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("", encoding="utf-8")
    refuses(
        lambda: checked(data=tmp_path / "x.py"),
        "write one with numpy.savez('" + str(tmp_path / "x.npz"),
    )


@pytest.mark.parametrize(
    "target", ["", "  ", "::softmax", "softmax(**3)", "softmax >> 3", 3, [3], squares]
)
def test_what_is_no_target(target: Any) -> None:
    with pytest.raises(GradcheckError):
        verify(target, **QUICK)


# ---------------------------------------------------------------------- specs and their terms

SPECS: list[tuple[dict[str, Any], str]] = [
    ({"where": 3}, 'where is 3, not text\n  write one condition, joined by and: where="l >= k'),
    ({"where": ["m > 1"]}, "where is ['m > 1'], not text"),
    ({"name": 3}, "name is 3, not text"),
    ({"source": 3}, "source is 3, not text"),
    (
        {"inputs": {3: real("m")}},
        'inputs has the key 3, no name\n  write inputs={"z": real("m n")}',
    ),
    ({"inputs": ["x"]}, "inputs is ['x'], no table by name"),
    ({"params": 3}, "params is 3, no table by name"),
    ({"params": {3: number(0, 1)}}, "params has the key 3, no name"),
    ({"output": {3: "m"}}, "3 is no name for an output"),
    ({"output": {"y z": "m"}}, "'y z' is no name for an output"),
    ({"jacobian": 3}, 'jacobian is 3, no table by name\n  write jacobian={"x": einsum(...)}'),
    ({"jacobian": FORWARD}, "no table by name"),
    ({"jacobian": {3: FORWARD}}, "jacobian has the key 3, no name"),
    ({"jacobian": {("y", "x", "x"): 0}}, "jacobian has the key ('y', 'x', 'x'), no name"),
    ({"jacobian": None, "vjp": 3}, "vjp is 3, no table by name"),
    (
        {"native": {"torch": 3}},
        "native['torch'] is 3, no function\n  write the framework's own, called with (x)",
    ),
    ({"native": np.sin}, "no table by name"),
    (
        {"forward": lambda x: x},
        "but takes (x): too many positional arguments; write it with the parameters (xp, x)",
    ),
    ({"forward": lambda xp: xp}, "write it with the parameters (xp, x)"),
    ({"forward": lambda xp, x, y: x}, "missing a required argument: 'y'"),
    ({"forward": lambda xp, x: None, "output": None}, "the forward returns None\n  add `return`"),
]


@pytest.mark.parametrize(("given", "text"), SPECS)
def test_what_a_spec_does_not_take(given: dict[str, Any], text: str) -> None:
    refuses(lambda: spec(**given), text)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: FORWARD / 0, "a division by 0"),
        (lambda: FORWARD / size("m") / 0, "a division by 0"),
        (lambda: size("m") / 0, "a division by 0"),
        (lambda: 1 / (0 * size("m")), "a division by 0"),
        (lambda: FORWARD * float("nan"), "a coefficient is nan"),
        (lambda: FORWARD * float("inf"), "a coefficient is inf"),
        (lambda: size("m") ** float("nan"), "an exponent of a size is nan"),
        (lambda: FORWARD + np.ones(3), "cannot be added"),
        (lambda: np.ones(3) * FORWARD, "a coefficient must be a rational number"),
        (lambda: np.ones(3) * size("m"), "a coefficient must be a rational number"),
        (lambda: load("softmax") / 0, "softmax is divided by 0"),
        (lambda: load("softmax")(where=3), "where is 3, not text"),
        (lambda: Chain(3), "a chain is made of calls of specs, not of 3"),
        (lambda: derive(3), "derive takes a spec, a chain, or the text of one; got 3"),
        (lambda: derive(squares), "derive takes a spec, a chain"),
        (lambda: derive("softmax", wrt=3), f"wrt {NAMES} 3"),
        (lambda: Report.from_json(3), "expected a report of schema 1, got 3"),
        (lambda: Report.from_json('{"schema": 1, "checks": 3}'), "one that is damaged (TypeError"),
        (
            lambda: Report.from_json('{"schema": 1, "checks": [{}]}'),
            "one that is damaged (TypeError",
        ),
    ],
)
def test_what_means_nothing(call: Callable[[], object], text: str) -> None:
    refuses(call, text)


def test_numbers_of_numpy_are_numbers() -> None:
    assert str(np.int64(2) * FORWARD) == str(2 * FORWARD) == str(np.float64(2) * FORWARD)
    assert str(FORWARD / np.int64(2)) == str(FORWARD * Fraction(1, 2))


# ---------------------------------------------------------------------- what a forward gives

RETURNED: list[tuple[Callable[..., Any], str, str]] = [
    (lambda xp, x: None, "the forward returns None", "add `return`"),
    (lambda xp, x: [x], "the forward returns a list", "as a tuple: return y, r"),
    (lambda xp, x: {"y": x}, "which is no array", "return an array"),
    (lambda xp, x: "abc", "the forward returns 'abc'", "return an array"),
    (lambda xp, x: (None,), "the forward returns None in its tuple", "return an array"),
]


@pytest.mark.parametrize(("forward", "problem", "hint"), RETURNED)
def test_a_forward_that_gives_no_array(
    forward: Callable[..., Any], problem: str, hint: str
) -> None:
    report = verify(
        spec(forward), profile="quick", oracles=["symbolic", "exact", "autograd", "differences"]
    )
    assert report.exit_code == 3
    for check in report.checks:
        assert check.verdict in (Verdict.ERROR, Verdict.UNDECIDED)
        assert problem in check.reason, check.reason
        assert hint in check.reason
        assert "keepdims" not in check.reason


@pytest.mark.parametrize(
    ("forward", "problem", "hint"), [r for r in RETURNED if r[1] != "the forward returns a list"]
)
def test_the_forward_of_a_rule_that_gives_no_array(
    forward: Callable[..., Any], problem: str, hint: str
) -> None:
    (check,) = ruled(of=forward).checks
    assert check.verdict is Verdict.ERROR
    assert problem in check.reason
    assert hint in check.reason


# ---------------------------------------------------------------------- rules and layers

RULES: list[tuple[dict[str, Any], str]] = [
    ({"of": lambda x: x}, "`of` is called as lambda(xp, x), but takes (x)"),
    ({"of": lambda x: x}, "write it with the parameters (xp, x)"),
    ({"of": lambda xp, x, eps: x, "params": None}, "missing a required argument: 'eps'"),
    ({"inputs": ["x"]}, 'inputs is [\'x\'], no table by name\n  write inputs={"x": real("m n")}'),
    ({"inputs": {3: real("m")}}, "inputs has the key 3, no name"),
    ({"params": ["eps"]}, "params is ['eps'], no table by name"),
    ({"where": 3}, f"where {NAMES} 3"),
    ({"seed": "x"}, "seed is 'x'; write a whole number"),
    ({"data": 3}, "data is 3, no table by name"),
    ({"name": 3}, "name is 3; write it as text"),
    ({"oracles": 3}, f"oracles {NAMES} 3"),
]


@pytest.mark.parametrize(("given", "text"), RULES)
def test_arguments_of_rules_and_layers(given: dict[str, Any], text: str) -> None:
    refuses(lambda: ruled(**given), text)
    refuses(lambda: layered(Layer(), **given), text)
    refuses(
        lambda: verify_jvp(pulled, **{"of": squares, "inputs": {"x": real("m")}, **given}), text
    )


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"output": 3}, f"output {NAMES} 3"),
        ({"backend": 3}, "backend is 3; write it as text"),
        ({"rule": lambda x: x}, "the vjp is called as lambda(cotangent, x), but takes (x)"),
        ({"rule": lambda xp, x: x}, "write it with the parameters (xp, cotangent, x)"),
    ],
)
def test_arguments_of_verify_vjp(given: dict[str, Any], text: str) -> None:
    refuses(lambda: ruled(**given), text)


@pytest.mark.parametrize(
    ("framework", "made"), [("jax", as_jax), ("torch", as_torch), ("autograd", as_autograd)]
)
@pytest.mark.parametrize("value", ["x", None, [[1.0, 2.0], [3.0]], object()])
def test_a_rule_by_hand_is_given_no_array(framework: str, made: Any, value: Any) -> None:
    pytest.importorskip(framework)
    refuses(lambda: made(load("softmax"))(value), "input 'z' of softmax")


def test_the_function_of_one_framework_takes_its_arrays_alone() -> None:
    refuses(
        lambda: ruled(of={"autograd": squares}), "of['autograd'] is called as squares(x), but takes"
    )


def test_a_parameter_that_the_spec_has_not() -> None:
    given = {"of": load("softmax"), "inputs": {"z": real("m n")}, "params": {"q": number(0, 1)}}
    refuses(lambda: ruled(**given), "softmax has no parameter 'q'; it has none")


def test_numpy_in_a_forward_is_named_where_nothing_can_be_carried() -> None:
    """Without frameworks nothing else says it: the bound of differences alone is wide."""
    report = ruled(
        lambda v, x: np.exp(x) * v,
        of=lambda xp, x: np.exp(x),
        inputs={"x": real("m", 600, 700)},
    )
    (check,) = report.checks
    assert check.verdict is Verdict.UNDECIDED, str(report)
    assert "write xp.tanh, not np.tanh" in check.reason


def test_numpy_in_a_spec_is_named_by_every_oracle() -> None:
    wrong = spec(lambda xp, x: np.square(x))
    report = verify(wrong, profile="quick", oracles=["symbolic", "exact", "differences"])
    for check in report.checks:
        assert "write xp.tanh, not np.tanh" in check.reason, check.reason


def test_a_snippet_says_what_it_cannot_import() -> None:
    class Twice(Layer):
        def backward(self, cotangent: Any) -> Any:
            return 4 * self.x * cotangent

    def local(xp: Any, x: Any) -> Any:
        return x * x

    text = str(layered(Twice(), of=local))
    assert "# layer is the Twice that was verified" in text
    assert "# local: as you have defined it" in text


def test_a_snippet_tells_functions_without_a_name_apart() -> None:
    given: Any = {"inputs": {"x": real("n")}, "profile": "quick", "oracles": "autograd"}
    text = str(verify_vjp(lambda v, x: v, of=lambda xp, x: x * x, **given))
    assert "# rule and forward: as you have defined them" in text
    assert 'verify_vjp(rule, of=forward, inputs={"x": real("n")}' in text


# ---------------------------------------------------------------------- code that ends the program


def leave(*_: Any, **__: Any) -> Any:
    sys.exit(0)


ENDED = "the code under check ended the program (SystemExit: 0) ("


def test_a_forward_that_exits_is_an_error_of_its_check() -> None:
    every = ["symbolic", "exact", "autograd", "differences"]
    report = verify(spec(lambda xp, x: leave()), profile="quick", oracles=every)
    assert report.exit_code == 3
    assert [c.verdict for c in report.checks] == [Verdict.ERROR] * len(every)
    for check in report.checks:
        assert ENDED in check.reason
        assert "test_bad_input.py:" in check.reason
        assert "let it raise an error instead" in check.reason


def test_a_framework_s_own_function_that_exits() -> None:
    pytest.importorskip("torch")
    report = verify(
        spec(native={"torch": leave}), profile="quick", oracles=["native", "differences"]
    )
    verdicts = {c.oracle: c.verdict for c in report.checks}
    assert verdicts == {"native": Verdict.ERROR, "differences": Verdict.AGREES}


@pytest.mark.parametrize(("rule", "of"), [(leave, squares), (pulled, lambda xp, x: leave())])
def test_a_rule_that_exits_is_an_error_of_its_check(rule: Any, of: Any) -> None:
    report = ruled(rule, of=of, oracles=["exact", "differences"])
    assert [c.verdict for c in report.checks] == [Verdict.ERROR] * 2
    assert all(ENDED in c.reason for c in report.checks)


def test_a_forward_that_exits_at_some_inputs_only_never_passes() -> None:
    def forward(xp: Any, x: Any) -> Any:
        if getattr(x, "shape", (9,)) == (1,) and not hasattr(xp, "table"):
            sys.exit(0)
        return x * x

    report = verify(
        spec(forward, jacobian={"x": FORWARD * 2}), profile="quick", oracles=["differences"]
    )
    (check,) = report.checks
    assert check.verdict in (Verdict.REFUTED, Verdict.ERROR)
    assert report.exit_code in (1, 3)


def test_the_shape_of_a_forward_that_exits_is_not_found() -> None:
    refuses(lambda: spec(lambda xp, x: leave(), output=None), "SystemExit: 0")


def test_ctrl_c_still_interrupts() -> None:
    def forward(xp: Any, x: Any) -> Any:
        raise KeyboardInterrupt

    report = verify(spec(forward), **QUICK)
    assert report.interrupted
    assert report.exit_code == 130
    with pytest.raises(KeyboardInterrupt):
        ruled(of=forward)


EXITING = '''"""Exits."""
import sys
from gradcheck import Spec, delta, einsum, real

def forward(xp, x):
    sys.exit(0)

gone = Spec(forward, inputs={"x": real("m")}, output={"y": "m"},
            jacobian={"x": 2 * einsum("p,pr->pr", "x", delta)})
'''
NUMPY = EXITING.replace("sys.exit(0)", "return __import__('numpy').square(x)")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder called as the package is."""
    folder = tmp_path / "gradcheck"
    (folder / "specs").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def test_the_command_line_goes_on_after_a_forward_that_exits(project: Path) -> None:
    (project / "gone.py").write_text(EXITING, encoding="utf-8")
    done = CliRunner().invoke(
        main, ["verify", "gone.py", "l2", "--profile", "quick", "--oracle", "differences"]
    )
    assert done.exit_code == 3, done.output
    assert "ended the program (SystemExit: 0)" in " ".join(done.output.split())
    assert "agrees" in done.output


def test_lines_of_a_project_called_gradcheck_are_named(project: Path) -> None:
    file = project / "square.py"
    file.write_text(NUMPY, encoding="utf-8")
    report = verify(str(file), profile="quick", oracles=["symbolic", "exact", "differences"])
    assert len(report.checks) == 4 - 1 + len(
        {c.dtype for c in report.checks if c.dtype == "float32"}
    )
    for check in report.checks:
        assert "square.py:6" in check.reason, check.reason


def test_an_item_of_pytest_that_exits_fails_alone(project: Path) -> None:
    (project / "specs" / "gone.py").write_text(EXITING, encoding="utf-8")
    right = EXITING.replace("sys.exit(0)", "return x * x")
    (project / "specs" / "right.py").write_text(right, encoding="utf-8")
    (project / "pytest.ini").write_text(
        "[pytest]\ngradcheck_specs = specs/*.py\n", encoding="utf-8"
    )
    options = [
        "--gradcheck-oracles=differences",
        "--gradcheck-profile=quick",
        "--gradcheck-dtypes=float64",
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    environment = {**os.environ, "PYTEST_ADDOPTS": "", "GRADCHECK_CACHE": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout, done.stdout
    assert "ended the program (SystemExit: 0)" in done.stdout


# ---------------------------------------------------------------------- the command line

COMMANDS: list[tuple[list[str], str]] = [
    (
        ["verify", "softmax", "--report", "r.docx"],
        "r.docx: .docx means no format of a report; there are .txt",
    ),
    (["verify", "softmax", "--output", "r.jsn"], "r.jsn: .jsn means no format of a report"),
    (["verify", ""], "a target is empty; name a spec, a file, a folder (. is this one) or a chain"),
    (["verify", "::softmax"], "there is no file before ::; write file.py::name"),
    (["verify", "softmax(**3)"], "** in the chain 'softmax(**3)' means nothing here"),
    (["verify", "softmax(where=3)"], "where is 3, not text"),
    (["verify", "softmax / 2"], "joins specs by >>, + and - only"),
    (["verify", "l2 * 0.3"], "write it exactly, for example Fraction(3, 10)"),
    (["verify", "softmax", "--time-limit", "1e300"], "time_limit is 1e+300; write seconds above 0"),
    (["verify", "softmax", "--time-limit", "nan"], "time_limit is nan"),
    (
        ["verify", "softmax", "--data", "x.py"],
        "x.py is no .npz file; write one with numpy.savez('x.npz', x=x",
    ),
    (["verify", "softmax", "--oracle", "torhc"], "unknown oracle 'torhc'; did you mean torch?"),
    (
        ["verify", "softmax", "--oracle", ""],
        "it is empty; name at least one, or leave the option out",
    ),
    (["verify", "softmax", "--require", " , "], "'--require': it is empty"),
    (["verify", "softmax", "--dtype", "float16"], "float16 and bfloat16 are for opaque rules"),
    (["verify", "softmax", "--seed", "-1"], "seed is -1; write 0 or more"),
    (["verify", "softmax", "--yes"], "--yes goes with --fix"),
    (["verify", "notes.txt"], "notes.txt is no spec file; the name of one ends in .py"),
    (["verify", "/no/such/folder"], "there is no file or folder /no/such/folder"),
    (["verify", "softmax >>"], "invalid syntax, it ends too early"),
    (["verify", " >> ".join(["softmx"] * 60)], "there is no spec 'softmx'; did you mean softmax"),
    (["verify", "keyword.py"], "Spec takes forward, inputs, output, jacobian"),
    (["derive", ""], "a target is empty"),
    (["derive", "softmax", "--wrt", "q"], "softmax has no variable 'q'"),
    (["show", "nothing"], "there is no spec 'nothing'"),
    (["new", "3x"], "'3x' cannot name a spec"),
]


@pytest.mark.parametrize(("command", "text"), COMMANDS)
def test_a_command_that_cannot_be_understood(project: Path, command: list[str], text: str) -> None:
    (project / "x.py").write_text("", encoding="utf-8")
    (project / "notes.txt").write_text("", encoding="utf-8")
    keyword = "from gradcheck import Spec\ns = Spec(None, input={})\n"
    (project / "keyword.py").write_text(keyword, encoding="utf-8")
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2, done.output
    assert text in done.output
    assert "Traceback" not in done.output
    assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize("page", [["--report", "r.html"], ["--format", "html"]])
@pytest.mark.usefixtures("project")
def test_a_page_that_cannot_be_made_is_refused_before_the_run(
    page: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setattr("gradcheck.checking.verify", None)
    done = CliRunner().invoke(main, ["verify", "softmax", *page])
    assert done.exit_code == 2, done.output
    assert 'the HTML report needs jinja2: pip install "gradcheck[html]"' in done.output


def test_a_report_without_a_suffix_and_one_with_a_format_are_written(project: Path) -> None:
    common = ["verify", "l2", "--profile", "quick", "--oracle", "differences"]
    done = CliRunner().invoke(main, [*common, "--output", "report", "--report", "r.JSON"])
    assert done.exit_code == 0, done.output
    assert "1 agrees" in (project / "report").read_text(encoding="utf-8") or "agrees" in done.output
    assert (project / "r.JSON").read_text(encoding="utf-8").startswith("{")
    done = CliRunner().invoke(main, [*common, "--output", "r.jsn", "--format", "json"])
    assert done.exit_code == 0, done.output
    assert (project / "r.jsn").read_text(encoding="utf-8").startswith("{")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('oracles = ["torhc"]', "oracles: unknown oracle 'torhc'; did you mean torch?"),
        ('require = ["torhc"]', "require: unknown oracle 'torhc'"),
        ('devices = ["gpux"]', "devices: unknown device 'gpux'"),
        ('dtypes = ["float46"]', "dtypes: unknown dtype 'float46'"),
        ('profile = "quik"', "profile: unknown profile 'quik'; did you mean quick?"),
    ],
)
def test_a_wrong_word_of_the_configuration_is_said_to_be_there(
    project: Path, line: str, text: str
) -> None:
    file = project / "pyproject.toml"
    file.write_text(f"[tool.gradcheck]\n{line}\n", encoding="utf-8")
    refuses(lambda: check_configured(read(file)), f"{file}, [tool.gradcheck]: {text}")
    done = CliRunner().invoke(main, ["verify", "softmax"])
    assert done.exit_code == 2
    assert "pyproject.toml, [tool.gradcheck]: " in done.output


# ---------------------------------------------------------------------- words, and many gaps


@pytest.mark.parametrize(
    ("factor", "text"),
    [
        (Coefficient(Fraction(2)), "2 too much"),
        (Coefficient(Fraction(1, 2)), "2 is missing"),
        (Coefficient(Fraction(-1, 3)), "−3 is missing"),
        (Coefficient(Fraction(2, 3)), "2/3 too much"),
        (Coefficient(Fraction(1), (("m", Fraction(-1)),)), "1/m too much"),
    ],
)
def test_a_factor_that_lacks_is_missing(factor: Coefficient, text: str) -> None:
    assert factor.in_excess.replace("-", "−") == text


def gap(claim: str, **changes: Any) -> Gap:
    return Gap(
        **{"claim": claim, "input": "x", "reason": "r", "until": date(2999, 1, 1), **changes}
    )


def uncovered(claim: str) -> Check:
    return Check(
        claim=claim, input="x", oracle="torch", device="cpu", dtype="float64", verdict=Verdict.UNDECIDED,
        address=f"specs/{claim}.py::{claim}",
    )  # fmt: skip


def test_the_first_open_gap_that_speaks_of_a_claim_excuses_it() -> None:
    gaps = [
        gap("a", state=UNUSED, reason="not open"),
        gap("a", input="y"),
        gap("a", oracle="jax", reason="of jax"),
        gap("[ab]", reason="a pattern"),
        gap("a", reason="plain"),
        gap("specs/b.py", reason="of the file"),
    ]
    report = Report([uncovered("a"), uncovered("b"), uncovered("c")], gaps=gaps)
    first, second, third = report.checks
    assert getattr(report.excuse(first), "reason", "") == "a pattern"
    assert getattr(report.excuse(first, "jax"), "reason", "") == "of jax"
    assert getattr(report.excuse(second), "reason", "") == "a pattern"
    assert report.excuse(third) is None
    report.gaps = gaps[:3] + gaps[4:]
    assert getattr(report.excuse(first), "reason", "") == "plain"
    assert getattr(report.excuse(second), "reason", "") == "of the file"
    assert [c.claim for c in report.not_verified()] == ["c"]


def test_many_gaps_are_looked_through_once() -> None:
    """Ten times the gaps and claims cost ten times as much, and not a hundred times."""

    def seconds(count: int) -> float:
        gaps = [gap(f"s{i}", state=OPEN) for i in range(count)]
        report = Report([uncovered(f"s{i}") for i in range(count)], gaps=gaps)
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            assert report.not_verified() == []
            best = min(best, time.process_time() - start)
        return best

    assert seconds(2000) < 40 * max(seconds(200), 1e-4)


def test_errors_are_of_one_family() -> None:
    assert issubclass(SpecError, GradcheckError)
    assert issubclass(UsageError, GradcheckError)
