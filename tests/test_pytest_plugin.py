"""The pytest plugin as a project meets it: what is collected, what fails and how, and the summary."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from gradcheck._pytest_plugin.fixture import Verifier
from gradcheck.backends import installed
from gradcheck.reports.model import Report, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., pytest.RunResult]

pytest_plugins = ["pytester"]

# A checkout whose environment was made before the plugin was has no entry point for it.
_ENTRIES = importlib.metadata.entry_points(group="pytest11", name="gradcheck")
PLUGIN = [] if _ENTRIES else ["-p", "gradcheck._pytest_plugin"]
# What else is installed is no part of the runs: pytest-benchmark warns under xdist, and here a warning
# is an error.
OTHERS = ["-p", "no:benchmark"]

SQUARE = """
from gradcheck import Spec, delta, einsum, real

def forward(xp, x):
    return x * x

square = Spec(
    forward, inputs={"x": real("m n")}, output={"y": "m n"},
    jacobian={"x": 2 * einsum("pq,pr,qs->pqrs", "x", delta, delta)},
)
"""
WRONG = SQUARE.replace("2 * einsum", "3 * einsum")
# No oracle has anything to say: the forward asks for a truth value that no symbol has, and at no
# point is it finite.
HOPELESS = SQUARE.replace("return x * x", "return xp.log(-1 - x * x)")
HALF = """
from gradcheck import Spec, delta, einsum, real

def forward(xp, x, w):
    return x * w

product = Spec(
    forward, inputs={"x": real("n"), "w": real("n")}, output={"y": "n"},
    jacobian={"x": einsum("p,pq->pq", "w", delta)},
)
"""
INI = "[pytest]\ngradcheck_specs = specs/*.py\n"
CHEAP = ("--gradcheck-oracles=symbolic,differences", "--gradcheck-profile=quick")


@pytest.fixture(autouse=True)
def _libraries_stay_loaded(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run inside this process forgets the modules of its project, and no others.

    By itself it forgets all that it loaded, and a framework that is loaded a second time may crash.
    """
    known = set(sys.modules)

    def restore(_self: object) -> None:
        for name in set(sys.modules) - known:
            if str(pytester.path) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]

    monkeypatch.setattr("_pytest.pytester.SysModulesSnapshot.restore", restore)


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Runs pytest in a project with these spec files; the ini-file is given, or the usual one."""

    def go(
        *args: str, ini: str = INI, toml: str = "", apart: bool = False, **specs: str
    ) -> pytest.RunResult:
        folder = pytester.path / "specs"
        folder.mkdir(exist_ok=True)
        for name, text in specs.items():
            (folder / f"{name}.py").write_text(text, encoding="utf-8")
        if ini:
            pytester.makefile(".ini", pytest=ini)
        if toml:
            (pytester.path / "pyproject.toml").write_text(toml, encoding="utf-8")
        words = (*PLUGIN, *OTHERS, *args)
        return pytester.runpytest_subprocess(*words) if apart else pytester.runpytest(*words)

    return go


def says(result: pytest.RunResult, *texts: str) -> None:
    """Each text stands in the output, the lines of a longer one in one place."""
    for text in texts:
        assert text in result.stdout.str() + result.stderr.str(), text


# ---------------------------------------------------------------- import and idleness


def test_importing_the_plugin_loads_no_framework_and_no_numpy() -> None:
    program = (
        "import sys\nimport gradcheck._pytest_plugin\n"
        "import gradcheck._pytest_plugin.settings, gradcheck._pytest_plugin.results\n"
        "heavy = {'numpy', 'hypothesis', 'rich', 'flint', 'click', 'jax', 'torch', 'autograd'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"[]\n"


def test_a_project_without_specs_is_left_alone(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_own="import sys\n"
        "def test_own(): assert not {'numpy', 'gradcheck.checking'} & set(sys.modules)\n"
    )
    result = run("-p", "no:hypothesispytest", ini="", apart=True, square=SQUARE)
    result.assert_outcomes(passed=1)
    assert "gradcheck:" not in result.stdout.str()
    assert "= gradcheck =" not in result.stdout.str()


# ---------------------------------------------------------------- what is collected


def test_an_item_is_a_check(run: Run) -> None:
    result = run("--collect-only", "-q", *CHEAP, square=SQUARE)
    assert result.ret == 0
    assert result.stdout.lines[:3] == [
        "specs/square.py::square::x[symbolic-cpu-exact]",
        "specs/square.py::square::x[differences-cpu-float64]",
        "specs/square.py::square::x[differences-cpu-float32]",
    ]


def test_collecting_imports_no_framework(run: Run, pytester: pytest.Pytester) -> None:
    """Each worker of xdist collects everything, and runs a part."""
    frameworks = {"torch", "jax", "autograd", "tensorflow"}
    pytester.makeconftest(
        "import sys\ndef pytest_unconfigure():\n"
        f"    print('loaded:', sorted({frameworks} & set(sys.modules)))\n"
    )
    result = run("--collect-only", "-q", square=SQUARE, apart=True)
    assert "x[torch-cpu-float64]" in result.stdout.str() or "torch" not in installed()
    says(result, "loaded: []")


@pytest.mark.parametrize(
    ("args", "ids"),
    [
        (["-k", "symbolic"], 1),
        (["-k", "differences and not float32"], 1),
        (["-k", "nothing_like_it"], 0),
        (["-m", "gradcheck"], 3),
        (["specs/square.py"], 3),
        (["specs/square.py::square"], 3),
        (["specs/square.py::square::x[differences-cpu-float32]"], 1),
        (["--gradcheck-dtypes=float32"], 2),
    ],
)
def test_selection_works_as_it_does_for_tests(run: Run, args: list[str], ids: int) -> None:
    result = run("--collect-only", "-q", *CHEAP, *args, square=SQUARE)
    assert result.stdout.str().count("specs/square.py::") == ids


def test_specs_are_collected_although_testpaths_names_another_folder(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.mkdir("tests").joinpath("test_own.py").write_text("def test_own(): pass\n")
    ini = INI + "testpaths = tests\n"
    run(*CHEAP, ini=ini, square=SQUARE).assert_outcomes(passed=4)
    run("tests", *CHEAP, ini=ini).assert_outcomes(passed=1)
    run("-n", "2", *CHEAP, ini=ini, apart=True).assert_outcomes(passed=4)


def test_a_file_is_collected_once_and_is_no_module_of_tests(run: Run) -> None:
    """Two spec files of the same name as a test's module would clash as modules."""
    own = SQUARE + "\ndef test_inside(): raise AssertionError('a spec is no test')\n"
    run("specs/square.py", "specs", *CHEAP, square=own).assert_outcomes(passed=3)


@pytest.mark.parametrize("args", [(), ("-n", "2"), ("tests",)])
def test_a_pattern_that_matches_nothing_fails_the_run(
    run: Run, pytester: pytest.Pytester, args: tuple[str, ...]
) -> None:
    pytester.mkdir("tests").joinpath("test_own.py").write_text("def test_own(): pass\n")
    ini = "[pytest]\ngradcheck_specs = specs/*.py spec/*.py\n"
    result = run(*args, ini=ini, square=SQUARE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    says(result, "'spec/*.py' matches no spec file in", 'write a pattern such as "specs/*.py"')


def test_an_empty_list_of_patterns_fails_the_run(run: Run) -> None:
    result = run(ini="[pytest]\ngradcheck_specs =\n", square=SQUARE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    says(result, "gradcheck_specs is empty")


def test_a_spec_file_that_pytest_does_not_enter_fails_the_run(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(test_own="def test_own(): pass")
    result = run(*CHEAP, ini=INI + "norecursedirs = specs\n", square=SQUARE)
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    says(result, "square.py is among the specs, and nothing of it was run")


def test_a_broken_file_is_an_error_of_its_own_and_the_others_go_on(run: Run) -> None:
    result = run(*CHEAP, broken="1 / 0", bye="raise SystemExit", empty="x = 1", square=SQUARE)
    result.assert_outcomes(passed=3, errors=3)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    says(
        result,
        "specs/broken.py:1: the file cannot be loaded: ZeroDivisionError: division by zero",
        "specs/empty.py holds no spec",
        "specs/bye.py:1: the file cannot be loaded: SystemExit",
    )
    assert "Traceback" not in result.stdout.str()
    result = run("--collect-only", *CHEAP)
    says(result, "ERROR specs/broken.py", "ZeroDivisionError")


# ---------------------------------------------------------------- verdicts


def test_a_right_spec_passes_with_a_matrix(run: Run) -> None:
    result = run(*CHEAP, square=SQUARE)
    result.assert_outcomes(passed=3)
    assert result.ret == 0
    says(result, "gradcheck: 1 spec file (specs/*.py)")
    says(result, "claim      symbolic  differences\nsquare, x  proved    agrees\n")
    says(result, "1 proved, 2 agrees; 1 claim, 1 covered; exit 0")


def test_a_mistake_fails_with_the_counterexample_and_nothing_from_inside(run: Run) -> None:
    result = run("-k", "symbolic", *CHEAP, wrong=WRONG)
    result.assert_outcomes(failed=1)
    says(
        result,
        "Refuted: square, input x (specs/wrong.py:9)\n",
        "  m = 1, n = 1\n",
        "∂y[0,0]/∂x[0,0]: spec 3, symbolic 2",
        "    data = {",
        "FAILED specs/wrong.py::square::x[symbolic-cpu-exact] - Refuted: square, input",
    )
    for inside in ("def runtest", "NotVerified", "_pytest_plugin"):
        assert inside not in result.stdout.str()


def test_a_claim_that_is_missing_fails(run: Run) -> None:
    result = run("-k", "symbolic or missing", *CHEAP, half=HALF)
    result.assert_outcomes(passed=1, failed=1)
    says(result, "product, w: missing: no derivative with respect to w is claimed")
    says(result, "product, w  missing")


def test_what_is_not_decided_is_skipped_with_the_reason_and_counted(run: Run) -> None:
    """A claim that others cover does not fail because one oracle has nothing to say."""
    kink = SQUARE.replace("return x * x", "return x * x if len(x) > 0 else x")
    result = run("-rs", *CHEAP, kink=kink)
    assert result.parseoutcomes() == {"passed": 2, "skipped": 1}
    assert result.ret == 0
    says(result, "SKIPPED [1] specs/kink.py:7: undecided: ", "Not concluded\n", "1 undecided")


def test_a_claim_that_nothing_supports_fails_the_run_although_no_item_does(run: Run) -> None:
    result = run("-rs", *CHEAP, hopeless=HOPELESS)
    assert result.parseoutcomes() == {"skipped": 3}
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    says(result, "Not covered\n", "no oracle supports it (undecided)", "exit 3")
    says(result, "undecided: no example could be compared")


SKIPS = "    for i in items:\n        if '{}' in i.nodeid: i.add_marker(pytest.mark.skip(reason='no'))\n"
DROPS = "    items[:] = [i for i in items if '{}' not in i.nodeid]\n"
OTHER = """
{} = Spec(lambda xp, x: x, inputs={{'x': real('n')}}, output={{'y': 'n'}},
          jacobian={{'x': einsum('pq->pq', delta)}})
"""


def hooked(pytester: pytest.Pytester, *hooks: str) -> None:
    body = "".join(hooks)
    pytester.makeconftest(f"import pytest\n\ndef pytest_collection_modifyitems(items):\n{body}")


@pytest.mark.parametrize("hook", [SKIPS, DROPS], ids=["skipped", "dropped"])
def test_a_claim_that_a_hook_keeps_from_running_fails_the_run(
    run: Run, pytester: pytest.Pytester, hook: str
) -> None:
    hooked(pytester, hook.format("square"))
    result = run(*CHEAP, both=SQUARE + OTHER.format("other"))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    says(result, "specs/both.py::square::x was collected, and nothing of it was run", "exit 3")


def test_what_hooks_of_workers_keep_from_running_fails_the_run_too(
    run: Run, pytester: pytest.Pytester
) -> None:
    hooked(pytester, SKIPS.format("square"), DROPS.format("other"))
    specs = SQUARE + OTHER.format("other") + OTHER.format("third")
    result = run(*CHEAP, "-n2", all=specs, apart=True)
    assert result.parseoutcomes() == {"passed": 3, "skipped": 3}
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    for name in ("square", "other"):
        says(result, f"specs/all.py::{name}::x was collected, and nothing of it was run")
    says(result, "exit 3")


def test_a_required_oracle_that_cannot_say_fails(run: Run) -> None:
    result = run(*CHEAP, "--gradcheck-require=symbolic", square=SQUARE, hopeless=HOPELESS)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result = run(*CHEAP, "--gradcheck-require=native", "specs/square.py")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    says(result, "the required oracle native has nothing to say about square, x")


def test_nothing_is_judged_that_was_only_listed(run: Run) -> None:
    assert run("--collect-only", *CHEAP, half=HALF).ret == 0


def test_exitfirst_and_last_failed(run: Run, pytester: pytest.Pytester) -> None:
    result = run("-x", *CHEAP, square=SQUARE, wrong=WRONG)
    assert result.parseoutcomes() == {"passed": 3, "failed": 1}
    says(result, "pytest stopped after its first failures; the rest was not run", "exit 1")
    run(*CHEAP).assert_outcomes(passed=3, failed=3)
    run("--lf", *CHEAP).assert_outcomes(failed=3)
    (pytester.path / "specs" / "wrong.py").write_text(SQUARE, encoding="utf-8")
    result = run("--lf", *CHEAP)
    result.assert_outcomes(passed=3)
    assert result.ret == 0


# ---------------------------------------------------------------- names that are not known


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--gradcheck-oracles=symbolik", "unknown oracle 'symbolik'; did you mean symbolic?"),
        ("--gradcheck-require=jaxx", "unknown oracle 'jaxx'; did you mean jax?"),
        ("--gradcheck-devices=tpu", "unknown device 'tpu'"),
        ("--gradcheck-dtypes=float23", "unknown dtype 'float23'"),
        ("--gradcheck-profile=quik", "unknown profile 'quik'; did you mean quick?"),
        ("--gradcheck-report=no/such/report.json", "there is no folder"),
    ],
)
def test_a_typing_mistake_is_said_before_anything_runs(run: Run, flag: str, message: str) -> None:
    result = run(flag, square=SQUARE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    says(result, message)
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


# ---------------------------------------------------------------- configuration in pyproject.toml


TABLE = """
[tool.gradcheck]
specs = ["specs/*.py"]
oracles = ["symbolic", "differences"]
dtypes = ["float64"]
profile = "quick"
"""


def test_the_table_in_pyproject_is_enough(run: Run) -> None:
    result = run(ini="", toml=TABLE, square=SQUARE)
    result.assert_outcomes(passed=2)
    run("--gradcheck-oracles=differences", ini="").assert_outcomes(passed=1)


def test_a_wrong_key_fails_the_run_and_suggests_the_nearest(run: Run) -> None:
    result = run(ini="", toml=TABLE + 'requires = ["jax"]\n', square=SQUARE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    says(result, "there is no key 'requires'; did you mean require?")


def test_a_required_verdict(run: Run) -> None:
    table = TABLE + 'require_verdict = { "specs/*.py" = "proved" }\n'
    assert run(ini="", toml=table, square=SQUARE).ret == 0
    result = run(ini="", hopeless=HOPELESS)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    table = TABLE + 'require_verdict = { "spec/*.py" = "proved" }\n'
    result = run(ini="", toml=table, hopeless=SQUARE)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    says(result, "nothing matches 'spec/*.py', which is required to be proved")


GAP = """
[[tool.gradcheck.gaps]]
claim = "product"
input = "w"
reason = "not yet derived"
until = {until}
"""


def test_a_known_gap_is_an_expected_failure_until_its_day(run: Run) -> None:
    result = run("-rx", ini="", toml=TABLE + GAP.format(until="2999-12-31"), half=HALF)
    result.assert_outcomes(passed=2, xfailed=1)
    assert result.ret == 0
    says(result, "known gap until 2999-12-31: not yet derived", "Known gaps\n")
    result = run(ini="", toml=TABLE + GAP.format(until="2020-01-01"))
    result.assert_outcomes(passed=2, failed=1)
    says(result, "the known gap product, w expired on 2020-01-01 (not yet derived)")


def test_a_known_gap_never_excuses_a_refutation(run: Run) -> None:
    wrong = HALF.replace('"w", delta)}', '"x", delta), "w": einsum("p,pq->pq", "x", delta)}')
    gap = GAP.format(until="2999-12-31").replace('"w"', '"*"')
    result = run(ini="", toml=TABLE + gap, half=wrong)
    result.assert_outcomes(passed=2, failed=2)


# ---------------------------------------------------------------- reports


def test_the_report_is_written(run: Run, pytester: pytest.Pytester) -> None:
    result = run(
        *CHEAP, "--gradcheck-report=report.json", "--gradcheck-report=report.txt", square=SQUARE
    )
    assert result.ret == 0
    report = Report.from_json((pytester.path / "report.json").read_text(encoding="utf-8"))
    assert [check.verdict for check in report.checks] == ["proved", "agrees", "agrees"]
    assert report.ok
    assert "1 proved, 2 agrees" in (pytester.path / "report.txt").read_text(encoding="utf-8")
    says(result, "report in ")


def test_a_report_that_cannot_be_written_fails_the_run(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gradcheck.reports.formats.replace_file", full)
    result = run(*CHEAP, "--gradcheck-report=report.json", square=SQUARE)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    says(result, "report.json cannot be written: No space left on device")


def test_junit_has_the_verdict_and_the_counterexample(run: Run, pytester: pytest.Pytester) -> None:
    run("-k", "symbolic", "--junitxml=junit.xml", *CHEAP, wrong=WRONG)
    text = (pytester.path / "junit.xml").read_text(encoding="utf-8")
    assert '<property name="verdict" value="refuted" />' in text
    assert "∂y[0,0]/∂x[0,0]: spec 3, symbolic 2" in text
    assert 'name="x[symbolic-cpu-exact]"' in text


# ---------------------------------------------------------------- several processes


def test_workers_give_the_same_verdicts_and_the_whole_summary(
    run: Run, pytester: pytest.Pytester
) -> None:
    reports = []
    for name, args in (("one", ()), ("two", ("-n", "2")), ("group", ("-n2", "--dist=loadgroup"))):
        flag = f"--gradcheck-report={name}.json"
        result = run(*CHEAP, *args, flag, square=SQUARE, wrong=WRONG, half=HALF, apart=bool(args))
        assert result.parseoutcomes() == {"passed": 6, "failed": 4}
        says(result, "Refuted: square, input x", "w: missing: no derivative", "3 refuted")
        text = (pytester.path / f"{name}.json").read_text(encoding="utf-8")
        reports.append(Report.from_json(text))
    one, *others = (
        [(c.claim, c.input, c.oracle, c.dtype, c.verdict, c.worst) for c in report.checks]
        for report in reports
    )
    assert one == others[0] == others[1]
    assert sum(verdict is Verdict.REFUTED for *_, verdict, _ in one) == 3


def test_workers_do_not_lose_an_uncovered_claim(run: Run) -> None:
    result = run("-n", "2", "--gradcheck-oracles=differences", hopeless=HOPELESS, apart=True)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    says(result, "Not covered\n")


# ---------------------------------------------------------------- the fixture


OWN = """
import pytest
from gradcheck.errors import GradcheckError, VerificationFailed

def test_right(gradcheck):
    report = gradcheck.verify("specs/square.py", oracles=["symbolic"])
    assert report.ok

def test_wrong(gradcheck):
    gradcheck.verify("specs/wrong.py", oracles=["symbolic"])

def test_expected(gradcheck):
    with pytest.raises(VerificationFailed, match="Refuted: square, input x"):
        gradcheck.verify("specs/wrong.py", oracles=["symbolic"])

def test_slip(gradcheck):
    gradcheck.verify("specs/nowhere.py")
"""


def test_the_fixture_fails_the_test_with_the_report(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_own=OWN)
    result = run(ini="", square=SQUARE, wrong=WRONG)
    result.assert_outcomes(passed=2, failed=2)
    says(
        result,
        '>       gradcheck.verify("specs/wrong.py", oracles=["symbolic"])\n',
        "VerificationFailed: 1 refuted; 1 claim, 0 covered; exit 1\n",
        "E       Refuted: square, input x (specs/wrong.py:9)\n",
        "E       gradcheck.errors.UsageError: there is no file specs/nowhere.py\n",
        "in test_own.py::test_right\n",
    )
    text = result.stdout.str()
    assert "in test_own.py::test_expected" not in text
    for inside in ("def _call", "def verify(", "fixture.py:", "verifying.py:"):
        assert inside not in text, inside


def test_the_marker_gives_the_defaults_of_the_fixture(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_own="""
        import pytest

        pytestmark = pytest.mark.gradcheck(oracles=["differences"], profile="quick")

        @pytest.mark.gradcheck(dtypes=["float32"])
        def test_nearest_wins(gradcheck):
            checks = gradcheck.verify("specs/square.py").checks
            assert [(c.oracle, c.dtype) for c in checks] == [("differences", "float32")]

        def test_the_call_wins(gradcheck):
            checks = gradcheck.verify("specs/square.py", oracles=["symbolic"]).checks
            assert [c.oracle for c in checks] == ["symbolic"]

        @pytest.mark.gradcheck(device=["cpu"])
        def test_slip(gradcheck):
            gradcheck.verify("specs/square.py")

        @pytest.mark.gradcheck(["cpu"])
        def test_without_names(gradcheck):
            gradcheck.verify("specs/square.py")
        """
    )
    result = run("--strict-markers", ini="", square=SQUARE)
    result.assert_outcomes(passed=2, failed=2)
    says(result, "there is no name 'device'; did you mean devices?")
    says(result, "the marker gradcheck takes names only: gradcheck(devices=['cpu'])")


def test_flags_are_defaults_of_the_fixture_too(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_own="""
        def test_own(gradcheck):
            checks = gradcheck.verify("specs/square.py").checks
            assert [(c.oracle, c.dtype) for c in checks] == [("differences", "float32")]
        """
    )
    flags = ("--gradcheck-oracles=differences", "--gradcheck-dtypes=float32")
    run(*flags, ini="", square=SQUARE).assert_outcomes(passed=1)


def test_tests_with_the_fixture_are_not_judged_by_the_gate_of_spec_files(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        test_own="""
        def test_own(gradcheck):
            gradcheck.verify("specs/square.py", oracles=["differences"])
        """
    )
    result = run("test_own.py", "--gradcheck-require=symbolic", square=SQUARE)
    result.assert_outcomes(passed=1)
    assert result.ret == 0


VJP = """
from gradcheck import real

def forward(xp, x):
    return x * x

def right(cotangent, x):
    return 2 * cotangent * x

def wrong(cotangent, x):
    return 3 * cotangent * x

def test_right(gradcheck):
    gradcheck.verify_vjp(right, forward, {"x": real("m n")}, oracles=["differences"])

def test_wrong(gradcheck):
    gradcheck.verify_vjp(wrong, of=forward, inputs={"x": real("m n")}, oracles=["differences"])
"""


def test_a_backward_pass_in_a_test(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_own=VJP)
    result = run("--gradcheck-profile=quick", ini="")
    result.assert_outcomes(passed=1, failed=1)
    says(result, ">       gradcheck.verify_vjp(wrong, of=forward", "E       Refuted: ")


@pytest.mark.parametrize("name", ["verify", "verify_vjp", "verify_jvp", "verify_layer"])
def test_the_fixture_has_what_the_library_has(name: str) -> None:
    method = getattr(Verifier, name)
    assert f"`gradcheck.{name}`" in method.__doc__


# ---------------------------------------------------------------- beside Hypothesis


def test_hypothesis_profiles_and_database_change_no_verdict(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(
        "from hypothesis import settings, Phase\n"
        "settings.register_profile('odd', max_examples=1, deadline=1, phases=[Phase.generate])\n"
    )
    pytester.makepyfile(
        test_own="""
        from hypothesis import given, settings, strategies as st

        @settings(deadline=None)
        @given(st.integers(0, 3))
        def test_under_given(gradcheck, seed):
            gradcheck.verify("specs/square.py", oracles=["symbolic"], seed=seed)
        """
    )
    flags = ("--hypothesis-profile=odd", "--hypothesis-seed=3", *CHEAP)
    result = run(*flags, square=SQUARE, wrong=WRONG, apart=True)
    result.assert_outcomes(passed=4, failed=3)
    says(result, "m = 1, n = 1\n")
    strict = run(*CHEAP, "-W", "error", square=SQUARE, wrong=SQUARE, apart=True)
    strict.assert_outcomes(passed=7)


# ---------------------------------------------------------------- frameworks


@pytest.mark.parametrize("framework", [n for n in ("torch", "jax", "autograd") if n in installed()])
def test_frameworks_are_asked_under_their_names(run: Run, framework: str) -> None:
    result = run(f"--gradcheck-oracles={framework}", "--gradcheck-profile=quick", square=SQUARE)
    result.assert_outcomes(passed=2)
    says(result, f"claim      {framework}\nsquare, x  agrees\n")
