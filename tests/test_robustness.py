"""What goes wrong around a check: its own verdict or error, and the rest goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from gradcheck import load, verify
from gradcheck.cli import main
from gradcheck.errors import SpecError

GOOD = """
from gradcheck import Spec, delta, einsum, real
{name} = Spec(lambda xp, x: x * x, inputs={{"x": real("n")}}, output={{"y": "n"}},
              jacobian={{"x": 2 * einsum("p,pq->pq", "x", delta)}}{more})
"""
CHEAP = ["--oracle", "differences", "--profile", "quick"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").mkdir()
    write("specs/good.py", "good")
    return tmp_path


def write(file, name, more=""):
    Path(file).write_text(GOOD.format(name=name, more=more), encoding="utf-8")


def command(*arguments):
    return CliRunner().invoke(main, ["verify", *arguments])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("from gradcheck import Spec\nx = Spec(", "SyntaxError"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "ZeroDivisionError"),
        ("from gradcheck import Spec, real\nx = Spec(lambda xp, z: z, inputs={'z': real('m n')},"
         " output={'a': 'm q'}, jacobian={'z': 3})", "bad.py:2"),
    ],
    ids=["syntax", "import", "crash", "spec"],
)  # fmt: skip
def test_a_broken_file_among_good_ones(text, reason):
    Path("specs/bad.py").write_text(text, encoding="utf-8")
    done = command("specs", *CHEAP, "--format", "json")
    checks = {c["claim"]: c for c in json.loads(done.stdout)["checks"]}
    assert checks["good"]["verdict"] == "agrees"
    assert checks["specs/bad.py"]["verdict"] == "error"
    assert reason in checks["specs/bad.py"]["reason"]
    assert done.exit_code == 3


def test_a_refuted_claim_wins_over_a_broken_file():
    Path("specs/bad.py").write_text("import no_such_module", encoding="utf-8")
    wrong = Path("specs/good.py").read_text(encoding="utf-8").replace("2 * einsum", "3 * einsum")
    Path("specs/wrong.py").write_text(wrong, encoding="utf-8")
    assert command("specs", *CHEAP).exit_code == 1


def test_a_broken_file_alone_is_a_mistake_of_usage():
    Path("bad.py").write_text("import no_such_module", encoding="utf-8")
    done = command("bad.py")
    assert done.exit_code == 2
    assert "bad.py:1: the file cannot be loaded: ModuleNotFoundError" in done.output
    with pytest.raises(SpecError):
        verify("bad.py")


def test_an_oracle_that_gives_nan():
    write("specs/odd.py", "odd", more=', native={"torch": lambda x: x * x + 0 * (x - x).sqrt()}')
    pytest.importorskip("torch")
    done = command(
        "specs", "--oracle", "native,differences", "--profile", "quick", "--format", "json"
    )
    report = json.loads(done.stdout)
    native = next(c for c in report["checks"] if c["oracle"] == "native")
    assert native["verdict"] == "undecided"
    assert "not finite" in json.dumps(native)
    assert report["exit_code"] == 0  # the other oracle supports it


def test_a_backend_that_does_not_import(folder):
    fake = folder / "site" / "jax"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("raise ImportError('needs another numpy')", encoding="utf-8")
    code = "from gradcheck.cli import main; main(prog_name='gradcheck')"
    done = subprocess.run(
        [sys.executable, "-c", code, "verify", "specs", "--oracle", "jax,differences", "--profile", "quick"],
        env={**os.environ, "PYTHONPATH": str(folder / "site")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "needs another numpy" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == 0  # differences supports the claim; jax is not required


def test_a_report_path_that_does_not_exist_is_seen_before_the_run():
    done = command("specs", "--output", "nowhere/report.json")
    assert done.exit_code == 2
    assert "there is no folder nowhere" in done.output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_loses_no_result():
    done = command("specs", *CHEAP, "--output", "/dev/full")
    assert done.exit_code == 2
    assert "/dev/full cannot be written: No space left on device" in done.output
    assert "good" in done.output  # the report is printed instead
    assert "1 claim, 1 covered" in done.output


def test_a_report_that_cannot_be_replaced_leaves_the_old_one(folder, monkeypatch):
    Path("report.json").write_text("old", encoding="utf-8")

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    done = command("specs", *CHEAP, "--output", "report.json")
    assert done.exit_code == 2
    assert Path("report.json").read_text(encoding="utf-8") == "old"
    assert sorted(p.name for p in folder.iterdir() if "report" in p.name) == ["report.json"]


def test_threads_that_load_one_file_wait_for_each_other():
    path = Path("specs/good.py")
    path.write_text("import time\n\ntime.sleep(0.2)\n" + path.read_text("utf-8"), encoding="utf-8")
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(load, "specs/good.py::good") for _ in range(4)]
        found = [future.result() for future in futures]
    assert all(operation is found[0] for operation in found)
    assert found[0].address == "specs/good.py::good"


def test_two_runs_at_once_share_a_cache():
    with ThreadPoolExecutor(2) as pool:
        futures = [
            pool.submit(verify, "specs", oracles=["differences"], profile="quick", cache="kept")
            for _ in range(4)
        ]
        reports = [future.result() for future in futures]
    assert all(report.ok for report in reports)
    again = verify("specs", oracles=["differences"], profile="quick", cache="kept")
    assert [c.cached for c in again.checks] == [True]


def test_interrupted_in_a_process_it_still_writes_its_report():
    text = Path("specs/good.py").read_text(encoding="utf-8")
    slow = text.replace("good", "later").replace("lambda xp, x: x * x", "slow")
    function = textwrap.dedent("""
        def slow(xp, x):
            import signal, os
            os.kill(os.getpid(), signal.SIGINT)
            return x * x
    """)
    Path("specs/later.py").write_text(function + slow, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "gradcheck", "verify", "specs", *CHEAP, "--output", "report.json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    report = json.loads(Path("report.json").read_text(encoding="utf-8"))
    assert done.returncode == 130
    assert report["interrupted"]
    assert [c["claim"] for c in report["checks"]][:1] == ["good"]


def test_interrupted_workers_are_not_waited_for():
    text = Path("specs/good.py").read_text(encoding="utf-8")
    slow = "def slow(xp, x):\n    import time\n    time.sleep(60)\n    return x * x\n"
    later = text.replace("good", "later").replace("lambda xp, x: x * x", "slow")
    Path("specs/later.py").write_text(slow + later, encoding="utf-8")
    done = subprocess.Popen(
        [sys.executable, "-m", "gradcheck", "verify", "specs", *CHEAP, "-j", "2", "--output", "report.json"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(8)
    done.send_signal(signal.SIGINT)
    _, said = done.communicate(timeout=30)
    assert done.returncode == 130
    assert "Traceback" not in said
    assert json.loads(Path("report.json").read_text(encoding="utf-8"))["interrupted"]
