"""docs/ci.md, the GitHub Action and the pre-commit hook: they say what there is, and it runs."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from gradcheck._pytest_plugin import _OPTIONS
from gradcheck.cli import main
from gradcheck.configuration import _KEYS, is_spec_file, parse

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
SQUARE = """
from gradcheck import Spec, delta, einsum, real

def forward(xp, x):
    return x * x

square = Spec(
    forward, inputs={"x": real("m n")}, output={"y": "m n"},
    jacobian={"x": 2 * einsum("pq,pr,qs->pqrs", "x", delta, delta)},
)
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}[^\n]*\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def loaded(text: str) -> Any:
    return yaml.safe_load(text)


def commands(text: str) -> list[list[str]]:
    """The calls of `gradcheck` in a script."""
    lines = (line.strip().partition(" || ")[0] for line in text.splitlines())
    return [shlex.split(line) for line in lines if line.startswith("gradcheck ")]


# ---------------------------------------------------------------- the files


def test_the_action_is_well_formed_and_thin() -> None:
    action = loaded((ROOT / "action.yml").read_text(encoding="utf-8"))
    assert action["runs"]["using"] == "composite"
    steps = action["runs"]["steps"]
    assert all(step["shell"] == "bash" for step in steps)
    used = {name for step in steps for name in re.findall(r"inputs\.(\w+)", str(step))}
    assert used == set(action["inputs"])
    for step in steps:  # a value in the script itself would be run as a part of it
        assert "${{" not in step["run"]


def test_the_action_does_what_it_says(tmp_path: Path) -> None:
    action = loaded((ROOT / "action.yml").read_text(encoding="utf-8"))
    _project(tmp_path)
    values = {"TARGETS": "specs", "ARGUMENTS": "--oracle symbolic --profile quick"}
    script = action["runs"]["steps"][-1]["run"]
    values |= {"RUNNER_TEMP": str(tmp_path), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    done = _shell(script, tmp_path, **values, REPORT="gradcheck-report.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"proved"' in (tmp_path / "gradcheck-report.json").read_text(encoding="utf-8")
    (tmp_path / "specs" / "square.py").write_text(SQUARE.replace("2 *", "3 *"), encoding="utf-8")
    wrong = _shell(script, tmp_path, **values, REPORT="report.sarif")
    assert wrong.returncode == 1
    assert re.search(r"^::error file=specs/square\.py,line=\d+,", wrong.stdout, re.MULTILINE)
    assert '"2.1.0"' in (tmp_path / "report.sarif").read_text(encoding="utf-8")
    assert "| square, x | refuted |" in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_the_hook_is_well_formed_and_takes_file_names(tmp_path: Path) -> None:
    (hook,) = loaded((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert {"id", "name", "entry", "language", "files"} <= set(hook)
    files = re.compile(hook["files"])
    for name in ("specs/square.py", "specs/_own.py", "specs/test_a.py", "specs/conftest.py"):
        assert bool(files.search(name)) is is_spec_file(Path(name)), name
    assert not files.search("src/specs.py")
    _project(tmp_path)
    done = _shell(f"{hook['entry']} --oracle symbolic specs/square.py", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------- the page


def test_the_workflows_parse_and_name_what_the_action_takes() -> None:
    github, gitlab, commit = (loaded(text) for text in blocks("yaml"))
    action = loaded((ROOT / "action.yml").read_text(encoding="utf-8"))
    (step,) = (s for s in github["jobs"]["verify"]["steps"] if "gradcheck@" in s.get("uses", ""))
    assert set(step["with"]) <= set(action["inputs"])
    assert any("gradcheck verify" in line for line in gitlab["gradients"]["script"])
    assert commit["repos"][0]["hooks"][0]["id"] == "gradcheck"


def test_every_command_has_the_flags_that_the_page_gives_it() -> None:
    scripts = [*blocks("sh"), "\n".join(loaded(blocks("yaml")[1])["gradients"]["script"])]
    found = [words for script in scripts for words in commands(script)]
    assert len(found) >= 5
    for words in found:
        result = CliRunner().invoke(main, [*words[1:], "--help"])
        assert result.exit_code == 0, (words, result.output)
        for flag in (word for word in words if word.startswith("--")):
            assert flag in result.output, flag


def test_the_table_is_a_table_of_the_configuration_and_all_keys_are_explained() -> None:
    (table,) = blocks("toml")
    known = parse(tomllib.loads(table)["tool"]["gradcheck"])
    assert known.specs == ("specs/*.py",)
    assert len(known.gaps) == 1
    rows = " ".join(re.findall(r"^\| (`[^|]*) \|", TEXT, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", rows)) >= set(_KEYS)
    assert all(f"--gradcheck-{name}" in TEXT for name in _OPTIONS)


@pytest.mark.parametrize("number", range(len(blocks("sh"))))
def test_the_scripts_run(tmp_path: Path, number: int) -> None:
    _project(tmp_path)
    done = _shell(blocks("sh")[number], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    if "case" in blocks("sh")[number]:
        assert done.stdout.endswith("verified\n")
        (tmp_path / "specs" / "square.py").write_text(SQUARE.replace("2 *", "3 *"), "utf-8")
        done = _shell(blocks("sh")[number], tmp_path)
        assert (done.returncode, done.stdout) == (1, "a gradient is wrong\n")
    else:
        assert "4 passed" in done.stdout


def _project(folder: Path) -> None:
    """A project as the page describes it: a spec, the ini-file, and a test with the fixture."""
    (folder / "specs").mkdir()
    (folder / "specs" / "square.py").write_text(SQUARE, encoding="utf-8")
    (ini,) = blocks("ini")
    (folder / "pytest.ini").write_text(textwrap.dedent(ini), encoding="utf-8")
    (folder / "tests").mkdir()
    (test,) = blocks("python")
    (folder / "tests" / "test_gradients.py").write_text(test, encoding="utf-8")


def _shell(script: str, folder: Path, **values: str) -> subprocess.CompletedProcess[str]:
    """A script in bash, with the commands of this environment first on the path."""
    plugin = "" if _has_entry() else "gradcheck._pytest_plugin"
    env = {**os.environ, **values, "PYTHONUTF8": "1", "PYTEST_PLUGINS": plugin}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def _has_entry() -> bool:
    return bool(importlib.metadata.entry_points(group="pytest11", name="gradcheck"))
