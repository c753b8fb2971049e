"""`gradcheck watch` in a process of its own: it sees a save and verifies what that concerns."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time

import pytest
from click.testing import CliRunner

from gradcheck.checking.watching import concerned, folders
from gradcheck.cli import main
from gradcheck.library import resolve
from gradcheck.reports.model import Report

SPEC = """
from gradcheck import Spec, delta, einsum, real
from helping_numbers import FACTOR
{name} = Spec(lambda xp, x: x * x, inputs={{"x": real("n")}}, output={{"y": "n"}},
              jacobian={{"x": {factor} * einsum("p,pq->pq", "x", delta)}})
"""
SECONDS = 60


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "helping_numbers", raising=False)
    (tmp_path / "specs").mkdir()
    (tmp_path / "helping_numbers.py").write_text("FACTOR = 2\n", encoding="utf-8")
    write(tmp_path, "uses", "FACTOR")
    steady = SPEC.replace("from helping_numbers import FACTOR\n", "")
    (tmp_path / "specs" / "steady.py").write_text(steady.format(name="steady", factor=2), "utf-8")
    return tmp_path


def write(folder, name, factor):
    text = SPEC.format(name=name, factor=factor)
    (folder / "specs" / f"{name}.py").write_text(text, encoding="utf-8")


class Watching:
    """A running `gradcheck watch` and what it has printed."""

    def __init__(self, folder):
        self.lines: queue.Queue[str] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "gradcheck", "watch", "specs", "--oracle", "differences"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)

    def until(self, text):
        """What is printed up to a line that holds the text."""
        seen, end = "", time.monotonic() + SECONDS
        while text not in seen:
            try:
                seen += self.lines.get(timeout=max(0.1, end - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"{text!r} did not come within {SECONDS} s; came:\n{seen}")
        return seen

    def end(self):
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=SECONDS)
        self.process.stdout.close()
        return code


def test_a_save_is_verified_and_only_what_it_concerns(project):
    pytest.importorskip("watchfiles")
    watching = Watching(project)
    try:
        first = watching.until("2 claims, 2 covered; exit 0")
        assert "steady" in first
        write(project, "uses", 3)
        second = watching.until("exit 1")
        assert "uses.py saved" in second
        assert "steady" not in second
        (project / "specs" / "uses.py").write_text("uses = Spec(", encoding="utf-8")
        assert "the file cannot be loaded" in watching.until("error:")
        write(project, "uses", "FACTOR")
        watching.until("1 claim, 1 covered; exit 0")
        (project / "helping_numbers.py").write_text("FACTOR = 5\n", encoding="utf-8")
        assert "helping_numbers.py saved" in watching.until("exit 1")
    finally:
        code = watching.end()
    assert code == 0


def test_what_a_file_concerns(project):
    targets = resolve([str(project / "specs")])
    named = lambda *files: [t.name for t in concerned(targets, {project / f for f in files})]  # noqa: E731
    assert named("specs/steady.py") == ["steady"]
    assert named("helping_numbers.py") == ["uses"]
    assert named("elsewhere.py") == []
    assert folders(targets) == [project]


def test_without_watchfiles_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    done = CliRunner().invoke(main, ["watch", "softmax"])
    assert done.exit_code == 2
    assert 'pip install "gradcheck[watch]"' in done.output


def test_ctrl_c_while_it_verifies_ends_it_too(monkeypatch):
    pytest.importorskip("watchfiles")
    monkeypatch.setattr("gradcheck.checking.verify", lambda *_, **__: Report([], interrupted=True))
    done = CliRunner().invoke(main, ["watch", "softmax"])
    assert done.exit_code == 0
    assert done.output.splitlines()[-1] == "ended"


def test_it_needs_a_target():
    assert CliRunner().invoke(main, ["watch"]).exit_code == 2


@pytest.mark.parametrize(
    ("args", "environment", "table", "kept"),
    [
        ((), {}, "", ".gradcheck_cache"),
        (("--no-cache",), {}, "", None),
        ((), {"GRADCHECK_CACHE": "0"}, "", None),
        ((), {}, "[tool.gradcheck]\ncache = false\n", None),
        ((), {}, '[tool.gradcheck]\ncache = "elsewhere"\n', "elsewhere"),
    ],
)
def test_results_are_kept_where_verify_keeps_them(
    project, monkeypatch, args, environment, table, kept
):
    monkeypatch.chdir(project)
    monkeypatch.delenv("GRADCHECK_CACHE", raising=False)
    (project / "pyproject.toml").write_text(table, encoding="utf-8")
    asked = []
    module = sys.modules["gradcheck.cli.watch"]  # the package's attribute is the command
    monkeypatch.setattr(module, "_changes", lambda _: iter([None]))
    monkeypatch.setattr(module, "_once", lambda *given: asked.append(given[2]))
    done = CliRunner().invoke(main, ["watch", "specs", *args], env=environment)
    assert done.exit_code == 0, done.output
    assert [a["cache"] for a in asked] == [kept and project / kept]
