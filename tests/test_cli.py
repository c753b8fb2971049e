"""The command line as a user meets it: exit codes, what goes to which stream, messages that help."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

import gradcheck.checking
from gradcheck import __version__
from gradcheck.checking.search import PROFILES
from gradcheck.cli import main
from gradcheck.oracles import ORACLES
from gradcheck.reports import Check, Report

if TYPE_CHECKING:
    from click.testing import Result

RIGHT = """
from gradcheck import Spec, delta, einsum, real

def forward(xp, x):
    return x * x

square = Spec(
    forward, inputs={"x": real("m n")}, output={"y": "m n"},
    jacobian={"x": 2 * einsum("pq,pr,qs->pqrs", "x", delta, delta)},
)
"""

# The rule that (targets - preds) * preds amounts to: a[p,s] a[p,s] where a[p,q] a[p,s] belongs.
WRONG = """
from gradcheck import Spec, delta, einsum, ones, probability, real

def forward(xp, z):
    e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)

softmax = Spec(
    forward, inputs={"z": real("m n")}, output={"a": probability("m n")},
    jacobian={"z": einsum("pq,pr,qs->pqrs", "a", delta, delta)
                   - einsum("ps,ps,pr,q->pqrs", "a", "a", delta, ones)},
)
"""

CHEAP = ["--oracle", "differences", "--profile", "quick", "--dtype", "float64"]


@pytest.fixture(autouse=True)
def _no_forced_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "square.py").write_text(RIGHT, encoding="utf-8")
    (tmp_path / "softmax.py").write_text(WRONG, encoding="utf-8")
    return tmp_path


def gradcheck_(*args: str) -> Result:
    return CliRunner().invoke(main, list(args))


def answering(monkeypatch: pytest.MonkeyPatch, answer: Report | BaseException) -> dict[str, Any]:
    """Let `verify` answer this; what it was called with comes back."""
    called: dict[str, Any] = {}

    def verify(targets: Any, **options: Any) -> Report:
        called.update(options, targets=targets)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(gradcheck.checking, "verify", verify)
    return called


def check(verdict: str, **changes: Any) -> Check:
    given = {"claim": "a", "input": "x", "oracle": "jax", "device": "cpu", "dtype": "float64"}
    return Check(**{**given, "verdict": verdict, "examples": 3, **changes})  # type: ignore[arg-type]


# ---------------------------------------------------------------- help, versions, typing mistakes


def test_help_names_every_command_and_every_exit_code() -> None:
    text = gradcheck_("--help").stdout
    assert all(name in text for name in ("verify", "list", "show", "doctor", "new", "--version"))
    text = gradcheck_("verify", "--help").stdout
    flags = ("--oracle", "--device", "--dtype", "--wrt", "--profile", "--seed", "--require")
    assert all(flag in text for flag in (*flags, "--format", "--data", "-j", "--output"))
    assert all(f"\n    {code}  " in text for code in (0, 1, 2, 3, 130))


def test_help_names_the_oracles_and_profiles_that_there_are() -> None:
    text = " ".join(gradcheck_("verify", "--help").stdout.split())
    assert f"Sources of the truth: {', '.join(ORACLES)}." in text
    assert f"--profile {'|'.join(PROFILES)} " in text


def test_version() -> None:
    assert gradcheck_("--version").stdout == f"gradcheck {__version__}\n"


def test_help_loads_no_framework_and_not_even_numpy() -> None:
    program = (
        "import sys\nfrom gradcheck.cli import main\nmain(['--help'], standalone_mode=False)\n"
        "print(sorted({'numpy', 'hypothesis', 'jax', 'torch', 'autograd'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.endswith(b"[]\n")


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["verify", "--profile", "standart"], "did you mean standard?"),
        (["verify", "--oracle", "jax,troch"], "did you mean torch?"),
        (["verify", "--require", "troch"], "did you mean torch?"),
        (["verify", "--format", "jsn"], "did you mean json?"),
        (["verify", "sofmax"], "did you mean softmax"),
        (["show", "relo"], "did you mean relu"),
        (["verify", "nowhere/mine.py"], "there is no file nowhere/mine.py"),
        (["verfy"], "verify"),
    ],
)
def test_a_typing_mistake_exits_2_and_suggests_the_nearest(args: list[str], hint: str) -> None:
    result = gradcheck_(*args)
    assert result.exit_code == 2
    assert hint in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_mistake_in_a_spec_names_file_spec_and_letter(folder: Path) -> None:
    (folder / "slip.py").write_text(
        RIGHT.replace("pq,pr,qs->pqrs", "pq,pr,qs->pqrt"), encoding="utf-8"
    )
    result = gradcheck_("verify", "slip.py", *CHEAP)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: slip.py:9: ")
    assert "square" in result.stderr
    assert "'t'" in result.stderr
    assert "Traceback" not in result.stderr


# ---------------------------------------------------------------- what verify is asked and answers


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (Report([check("agrees")]), 0),
        (Report([check("agrees"), check("refuted"), check("missing")]), 1),
        (Report(), 3),
        (Report([check("skipped")]), 3),
        (Report([check("agrees")], problems=["torch is required and not installed"]), 3),
        (Report([check("agrees")], interrupted=True), 130),
        (Report([check("refuted")], interrupted=True), 130),
    ],
)
def test_the_exit_code_is_the_reports_and_the_report_is_printed(
    monkeypatch: pytest.MonkeyPatch, report: Report, code: int
) -> None:
    answering(monkeypatch, report)
    result = gradcheck_("verify", "softmax")
    assert result.exit_code == code
    assert result.stdout == f"{report}\n"
    assert "\x1b" not in result.output
    result = gradcheck_("verify", "softmax", "--format", "json")
    assert result.exit_code == code
    assert Report.from_json(result.stdout) == report
    assert result.stderr == ""


def test_ctrl_c_outside_a_run_exits_130_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, KeyboardInterrupt())
    result = gradcheck_("verify", "softmax")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "interrupted; nothing was checked\n"


def test_the_defaults_of_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    called = answering(monkeypatch, Report([check("agrees")]))
    gradcheck_("verify")
    assert called.pop("targets") is None  # all that are bundled
    assert callable(called.pop("progress"))
    assert called == {
        "wrt": None, "oracles": None, "devices": ("cpu",), "dtypes": ("float64", "float32"),
        "profile": "standard", "seed": 0, "data": None, "require": (), "jobs": 1,
        "require_devices": (), "require_verdict": {}, "gaps": (), "complete": False,
        "time_limit": 300.0, "cache": None,
    }  # fmt: skip


def test_lists_are_comma_separated_or_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    called = answering(monkeypatch, Report([check("agrees")]))
    gradcheck_(
        "verify", "softmax", "--oracle", "torch, jax", "--oracle", "native,torch",
        "--device", "all", "--dtype", "float32", "--wrt", "x,w", "--require", "torch,jax",
        "--profile", "quick", "--seed", "5", "-j", "2",
    )  # fmt: skip
    assert called["oracles"] == ("torch", "jax", "native")
    assert called["devices"] == ("all",)
    assert called["dtypes"] == ("float32",)
    assert called["wrt"] == ("x", "w")
    assert called["require"] == ("torch", "jax")
    assert (called["profile"], called["seed"], called["jobs"]) == ("quick", 5, 2)


def test_output_goes_to_the_file_instead(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    report = Report([check("agrees")])
    answering(monkeypatch, report)
    result = gradcheck_("verify", "square.py", "--format", "json", "--output", "report.json")
    assert result.stdout == ""
    assert result.stderr == "1 agrees; 1 claim, 1 covered; exit 0; report in report.json\n"
    assert Report.from_json((folder / "report.json").read_text(encoding="utf-8")) == report
    result = gradcheck_("verify", "square.py", "--output", "no/such/folder/report.txt")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_data_are_the_one_example(folder: Path) -> None:
    np.savez(folder / "own.npz", x=np.arange(6.0).reshape(2, 3))
    command = ("verify", "square.py", "--oracle", "differences", "--dtype", "float64")
    result = gradcheck_(*command, "--data", "own.npz", "--format", "json")
    assert result.exit_code == 0, result.output
    (check,) = json.loads(result.stdout)["checks"]
    assert (check["verdict"], check["examples"]) == ("agrees", 1)
    np.savez(folder / "other.npz", y=np.arange(6.0))
    result = gradcheck_(*command, "--data", "other.npz")
    assert result.exit_code == 2
    assert "also needs x" in result.stderr


def test_data_that_is_no_npz_says_how_to_write_one(folder: Path) -> None:
    np.save(folder / "own.npy", np.ones(3))
    result = gradcheck_("verify", "square.py", "--data", "own.npy")
    assert result.exit_code == 2
    assert "numpy.savez" in result.stderr
    np.savez(folder / "objects.npz", x=np.array([{}], dtype=object))
    result = gradcheck_("verify", "square.py", "--data", "objects.npz")
    assert result.exit_code == 2
    assert "arrays of numbers only" in result.stderr


# ---------------------------------------------------------------- verify, with the real library


def test_a_right_spec_passes(folder: Path) -> None:  # noqa: ARG001
    result = gradcheck_("verify", "square.py", *CHEAP)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "1 agrees; 1 claim, 1 covered; exit 0"


def test_the_wrong_softmax_is_refuted_by_a_counterexample_one_can_redo(folder: Path) -> None:
    result = gradcheck_("verify", "softmax.py", *CHEAP)
    assert result.exit_code == 1, result.output
    assert "Refuted: softmax, input z (softmax.py:" in result.stdout
    assert "m = 1, n = 2" in result.stdout
    assert "wrong where p = r, q ≠ s" in result.stdout
    assert "\x1b" not in result.stdout
    result = gradcheck_("verify", "softmax.py", *CHEAP, "--format", "json")
    found = json.loads(result.stdout)["checks"][0]["counterexample"]
    values = [value for row in found["inputs"]["z"] for value in row]
    assert all(len(repr(value)) <= 5 for value in values), values
    (folder / "redo.py").write_text(found["snippet"], encoding="utf-8")
    redone = subprocess.run(
        [sys.executable, "redo.py"], check=False, capture_output=True, text=True
    )
    assert redone.returncode == 0, redone.stderr


def test_a_wrong_spec_beside_a_right_one_fails_the_folder(folder: Path) -> None:
    result = gradcheck_("verify", str(folder), *CHEAP)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "1 agrees, 1 refuted; 2 claims, 1 covered; exit 1"


def test_data_verifies_on_the_users_own_arrays(folder: Path) -> None:
    np.savez(folder / "own.npz", x=np.array([[0.5, -2.0, 3.25]]))
    result = gradcheck_("verify", "square.py", "--data", "own.npz", *CHEAP)
    assert result.exit_code == 0, result.output


WITHOUT_FRAMEWORKS = """
import sys
for name in ("autograd", "jax", "jaxlib", "torch", "tensorflow"):
    sys.modules[name] = None  # as if it were not installed
from gradcheck.cli import main
main(prog_name="gradcheck")
"""


def in_a_process(program: str, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *args]
    env = {**os.environ, "PYTHONIOENCODING": "utf-8", **options.pop("env", {})}
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=env,
        **options,
    )


def test_without_frameworks_it_says_what_is_missing_and_still_checks(folder: Path) -> None:
    done = in_a_process(WITHOUT_FRAMEWORKS, "verify", "square.py", "--profile", "quick", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("autograd", "jax", "torch"):
        assert f'pip install "gradcheck[{name}]"' in done.stdout
    assert "differences" in done.stdout
    args = ("verify", "square.py", *CHEAP, "--require", "torch")
    done = in_a_process(WITHOUT_FRAMEWORKS, *args, cwd=folder)
    assert done.returncode == 3
    assert "torch" in done.stdout
    assert done.stderr == ""


INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may inherit "ignore"
from gradcheck.cli import main
main(prog_name="gradcheck")
"""

SLOW = """
import time
from pathlib import Path

from gradcheck import Spec, delta, einsum, real

def forward(xp, x):
    Path("running").touch()
    time.sleep(0.1)
    return x * x

z_slow = Spec(
    forward, inputs={"x": real("m n")}, output={"y": "m n"},
    jacobian={"x": 2 * einsum("pq,pr,qs->pqrs", "x", delta, delta)},
)
"""


@pytest.mark.usefixtures("folder")
def test_a_run_that_nobody_gave_a_target_says_what_it_verified() -> None:
    args = ["verify", "--oracle", "symbolic", "--wrt", "z"]
    note = "neither a target nor specs in [tool.gradcheck]: what is bundled was verified"
    assert note in CliRunner().invoke(main, args).output
    assert note not in CliRunner().invoke(main, [*args, "softmax"]).output


def test_ctrl_c_in_the_middle_prints_what_was_done_and_exits_130(folder: Path) -> None:
    (folder / "slow.py").write_text(SLOW, encoding="utf-8")
    command = [sys.executable, "-c", INTERRUPTIBLE, "verify", "square.py", "slow.py"]
    with subprocess.Popen(
        [*command, *CHEAP], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        _wait_for(folder / "running", process)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stdout + stderr
    assert "interrupted" in stdout.splitlines()[-1]
    assert "square" in stdout
    assert "Traceback" not in stderr


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the slow spec was never run"
        time.sleep(0.01)


# ---------------------------------------------------------------- list, show, doctor, new


def test_list_names_inputs_outputs_derivatives_and_sources() -> None:
    result = gradcheck_("list")
    assert result.exit_code == 0
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("weighted_sum "))
    assert "x[m n], w[n o], b[o] → z[m o]" in line
    assert "x; w; b" in line
    assert "\x1b" not in result.stdout


def test_show_prints_statement_derivation_and_source() -> None:
    text = gradcheck_("show", "softmax").stdout
    assert "∂a[p,q]/∂z[r,s] = a[p,q] δ[p,r] δ[q,s] − a[p,q] a[p,s] δ[p,r]" in text
    assert "∂t[p]/∂z[r,s]" in text
    assert "Source: " in text
    assert "softmax.py:" in text


@pytest.mark.parametrize("args", [("show", "softmax"), ("list",)])
def test_a_stream_that_lacks_the_letters_gets_escapes_and_no_error(args: tuple[str, ...]) -> None:
    program = "from gradcheck.cli import main; main(prog_name='gradcheck')"
    done = in_a_process(program, *args, env={"PYTHONIOENCODING": "cp1252"})
    assert done.returncode == 0, done.stderr
    assert ("\\u2202a[p,q]" if args[0] == "show" else "\\u2192 z[m o]") in done.stdout


def test_doctor_shows_versions_and_devices() -> None:
    result = gradcheck_("doctor")
    assert result.exit_code == 0
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("numpy "))
    assert np.__version__ in line
    assert "cpu" in line


def test_doctor_says_how_to_install_what_is_missing() -> None:
    done = in_a_process(WITHOUT_FRAMEWORKS, "doctor")
    assert done.returncode == 0, done.stderr
    for name in ("autograd", "jax", "torch"):
        assert f'pip install "gradcheck[{name}]"' in done.stdout


def test_doctor_survives_a_broken_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise OSError(f"lib{name}.so: cannot open shared object file")

    monkeypatch.setattr("gradcheck.backends.get", broken)
    result = gradcheck_("doctor")
    assert result.exit_code == 0
    assert "broken" in result.stdout
    assert "libnumpy.so: cannot open shared object file" in result.stdout


def test_new_writes_a_spec_that_verifies_at_once(folder: Path) -> None:
    result = gradcheck_("new", "my_op", "--folder", "specs")
    path = Path("specs") / "my_op.py"
    assert result.exit_code == 0
    assert f"gradcheck verify {path}" in result.stdout
    assert (folder / path).is_file()
    result = gradcheck_("verify", str(path), *CHEAP)
    assert result.exit_code == 0, result.output
    assert "my_op" in result.stdout


def test_new_never_overwrites(folder: Path) -> None:
    result = gradcheck_("new", "square")
    assert result.exit_code == 2
    assert "already there" in result.stderr
    assert (folder / "square.py").read_text(encoding="utf-8") == RIGHT


@pytest.mark.parametrize("name", ["2x", "my-op", "lambda", "_hidden", "a/b", ""])
def test_new_refuses_what_is_no_name(name: str, folder: Path) -> None:
    result = gradcheck_("new", name)
    assert result.exit_code == 2
    assert "cannot name a spec" in result.stderr
    assert {path.name for path in folder.iterdir()} <= {"square.py", "softmax.py"}


# ---------------------------------------------------------------------- commands


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("verfy", "there is no command 'verfy'; did you mean verify? there are derive, doctor"),
        ("specs/softmax.py", "write gradcheck verify specs/softmax.py"),
        ("my specs", 'write gradcheck verify "my specs"'),
        ("softmax >> l2", 'write gradcheck verify "softmax >> l2"'),
        ("", "there is no command ''; there are derive"),
        ("--frob", "No such option"),
    ],
)
def test_a_command_that_is_none_is_answered_with_one(word: str, hint: str) -> None:
    result = gradcheck_(word)
    assert result.exit_code == 2
    assert hint in result.stderr


def test_the_command_for_a_new_spec_can_be_pasted(folder: Path) -> None:  # noqa: ARG001
    result = gradcheck_("new", "tangent", "--folder", "my specs")
    assert 'verify it with: gradcheck verify "my specs/tangent.py"' in result.stdout


def test_derive_says_where_a_proof_is_missing_and_exits_3(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unproved:
        ok = False

        def __str__(self) -> str:
            return "a derivation"

    monkeypatch.setattr("gradcheck.derivation.derive", lambda *_: Unproved())
    result = gradcheck_("derive", "softmax")
    assert result.exit_code == 3
    assert "not every step is proved" in result.stderr
    assert "ended the program" not in result.stderr


def test_a_file_of_the_configuration_is_named_as_one_would_type_it(folder: Path) -> None:
    (folder / "specs").mkdir()
    (folder / "specs" / "right.py").write_text(RIGHT, encoding="utf-8")
    (folder / "specs" / "slip.py").write_text("1 / 0", encoding="utf-8")
    (folder / "pyproject.toml").write_text('[tool.gradcheck]\nspecs = "specs"\n', encoding="utf-8")
    result = gradcheck_("verify", *CHEAP)
    assert result.exit_code == 3, result.output
    assert "could not be loaded: specs/slip.py:1: ZeroDivisionError" in result.stdout
    assert str(folder) not in result.stdout


# ---------------------------------------------------------------------- files that spoil a run

EXITS = "import sys\n" + RIGHT + "\nsys.exit(0)\n"
EXITS_LATER = RIGHT.replace("    return x * x", "    raise SystemExit(0)")


def test_a_spec_file_that_ends_the_program_never_passes(folder: Path) -> None:
    (folder / "exits.py").write_text(EXITS, encoding="utf-8")
    result = gradcheck_("verify", "exits.py", *CHEAP)
    assert result.exit_code == 2, result.output
    assert "exits.py:13: the file cannot be loaded: SystemExit: 0" in result.stderr
    (folder / "specs").mkdir()
    (folder / "specs" / "exits.py").write_text(EXITS, encoding="utf-8")
    (folder / "specs" / "right.py").write_text(RIGHT, encoding="utf-8")
    result = gradcheck_("verify", "specs", *CHEAP)
    assert result.exit_code == 3, result.output
    assert "1 agrees" in result.stdout
    assert "1 target could not be loaded" in result.stdout


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_forward_that_ends_the_program_never_passes(folder: Path, jobs: str) -> None:
    (folder / "later.py").write_text(EXITS_LATER, encoding="utf-8")
    result = gradcheck_("verify", "later.py", *CHEAP, "-j", jobs)
    assert result.exit_code in (1, 2, 3), result.output
    assert "SystemExit" in result.output
    assert "agrees" not in result.output


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2 * einsum", "2.5 * einsum", "own.py:9: a coefficient is the rounded number 2.5"),
        (
            'real("m n")',
            "real(3)",
            "own.py:8: a shape is a string of axes such as 'm n', but 3 came",
        ),
        ('real("m n")', 'real("m", "n")', "own.py:8: real('m', lo='n', hi=None): 'n' is no number"),
        (
            "square =",
            'from gradcheck import load\nload("sofmax")\nsquare =',
            "own.py:8: there is no spec",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line_wherever_it_is_noticed(
    folder: Path, old: str, new: str, message: str
) -> None:
    (folder / "own.py").write_text(RIGHT.replace(old, new), encoding="utf-8")
    result = gradcheck_("verify", "own.py", *CHEAP)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_name_that_one_file_misspells_leaves_the_others_verified(folder: Path) -> None:
    (folder / "specs").mkdir()
    text = RIGHT + '\nfrom gradcheck import load\nchain = load("sofmax") >> square\n'
    (folder / "specs" / "misspelt.py").write_text(text, encoding="utf-8")
    (folder / "specs" / "right.py").write_text(RIGHT, encoding="utf-8")
    result = gradcheck_("verify", "specs", *CHEAP)
    assert result.exit_code == 3, result.output
    assert "1 agrees" in result.stdout
    assert "did you mean softmax" in " ".join(result.stdout.split())


@pytest.mark.parametrize("flag", ["--output", "--report"])
def test_a_report_that_cannot_be_written_is_told_before_the_run(folder: Path, flag: str) -> None:
    (folder / "right.py").write_text(RIGHT, encoding="utf-8")
    result = gradcheck_("verify", "right.py", *CHEAP, flag, "no/such/report.json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "there is no folder" in result.stderr


@pytest.mark.parametrize("flag", ["--output", "--report"])
def test_a_folder_that_is_read_only_is_told_before_the_run(
    folder: Path, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "right.py").write_text(RIGHT, encoding="utf-8")
    (folder / "shut").mkdir()
    shut = (folder / "shut").resolve()
    monkeypatch.setattr("gradcheck.reports.formats.os.access", lambda place, _: Path(place) != shut)
    result = gradcheck_("verify", "right.py", *CHEAP, flag, "shut/report.json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "the folder shut is read-only for you; name another" in result.stderr
