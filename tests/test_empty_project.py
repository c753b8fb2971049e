"""From the wheel, with torch and pytest and nothing else: the gate of a project that has just begun."""

from __future__ import annotations

import json
import os
import sys
import venv
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from test_packaging import ROOT, _brought, run

from gradcheck.reports.formats import FORMATS
from gradcheck.reports.model import Report

if TYPE_CHECKING:
    import subprocess

SQUARE = """
from gradcheck import Spec, delta, einsum, real

def forward(xp, x, w):
    return x * w

product = Spec(
    forward, inputs={"x": real("n"), "w": real("n")}, output={"y": "n"},
    jacobian={"x": einsum("p,pq->pq", "w", delta), "w": einsum("p,pq->pq", "x", delta)},
)
"""
WRONG = SQUARE.replace('"w": einsum("p,pq->pq", "x", delta)', '"w": einsum("p,pq->pq", "w", delta)')
HALF = SQUARE.replace(', "w": einsum("p,pq->pq", "x", delta)', "")
BROKEN = SQUARE.replace("p,pq->pq", "p,pq->pr")
TABLE = '[tool.gradcheck]\nspecs = ["specs/*.py"]\nprofile = "quick"\n'
JUDGE = ("--oracle", "symbolic,differences", "--dtype", "float64")
# A command once for each format: exit code and both streams of each, from one process of the environment.
EVERY_FORMAT = """
import json, sys
from click.testing import CliRunner
from gradcheck.cli import main

forms, words = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
done = {form: CliRunner().invoke(main, [*words, "--format", form]) for form in forms}
print(json.dumps({form: (d.exit_code, d.stdout, d.stderr) for form, d in done.items()}))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="packages are borrowed through links"),
]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment in which `gradcheck[torch,pytest]`, xdist and what they bring are installed.

    Their packages are links to those of this environment; gradcheck comes from its wheel, and pip finds
    all that it asks for without an index.
    """
    folder = tmp_path_factory.mktemp("project")
    venv.create(folder / "env", with_pip=False, symlinks=True)
    interpreter = folder / "env" / "bin" / "python"
    (library,) = (folder / "env" / "lib").glob("python*/site-packages")
    brought = _brought("gradcheck", {"torch", "pytest"}, {}) | _brought("pytest-xdist", set(), {})
    for name in brought - {"gradcheck"}:
        _link(name, library)
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    _done(*build, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    install = (sys.executable, "-m", "pip", "--python", interpreter, "install", "-q", "--no-index")
    _done(*install, f"gradcheck[torch,pytest] @ {wheel.as_uri()}", cwd=folder)
    return interpreter


def _link(name: str, library: Path) -> None:
    """A distribution of this environment, if it is here: its modules and its metadata."""
    try:
        files = metadata.distribution(name).files or []
    except metadata.PackageNotFoundError:
        return  # for another system or version of Python; pip will say if it is missed
    for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
        source, link = Path(str(metadata.distribution(name).locate_file(top))), library / top
        if source.suffix != ".pth" and source.exists() and not link.exists():
            link.symlink_to(source)


def _done(*command: object, cwd: Path) -> None:
    result = run(*command, cwd=cwd)
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(TABLE, encoding="utf-8")
    (tmp_path / "specs").mkdir()
    return tmp_path


def spec(project: Path, text: str) -> None:
    (project / "specs" / "product.py").write_text(text, encoding="utf-8")


def verify(python: Path, project: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return run(python.parent / "gradcheck", "verify", *args, cwd=project)


def test_the_environment_is_as_poor_as_it_should_be(python: Path, project: Path) -> None:
    program = "import importlib.util as u; print([n for n in ('torch', 'jax', 'autograd') if u.find_spec(n)])"
    assert run(python, "-c", program, cwd=project).stdout == "['torch']\n"


def test_pytest_runs_the_specs_and_workers_give_the_same_verdicts(
    python: Path, project: Path
) -> None:
    spec(project, SQUARE)
    right = run(python, "-m", "pytest", cwd=project)
    assert right.returncode == 0, right.stdout + right.stderr
    assert "product, x  proved" in right.stdout
    assert "torch" in right.stdout
    spec(project, WRONG)
    found = []
    for workers in ("0", "2"):
        name = f"report{workers}.json"
        wrong = run(
            python, "-m", "pytest", "-n", workers, f"--gradcheck-report={name}", cwd=project
        )
        assert wrong.returncode == 1
        failures = wrong.stdout.partition("= FAILURES =")[2]
        assert "product::w[torch-cpu-float64]" in failures
        assert "Refuted: product, input w (specs/product.py:" in failures
        assert "∂y[0]/∂w[0]: spec" in failures
        report = Report.from_json((project / name).read_text(encoding="utf-8"))
        found.append([(c.input, c.oracle, c.dtype, c.verdict, c.worst) for c in report.checks])
    assert found[0] == found[1]
    assert ("w", "torch", "float64", "refuted") in [row[:4] for row in found[0]]
    assert ("x", "torch", "float32", "agrees") in [row[:4] for row in found[0]]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (SQUARE, 0, "2 claims, 2 covered; exit 0"),
        (WRONG, 1, "2 claims, 1 covered; exit 1"),
        (BROKEN, 2, "product.py:"),
        (HALF, 3, "2 claims, 1 covered; exit 3"),
    ],
)
def test_the_four_exit_codes_in_a_shell(
    python: Path, project: Path, text: str, code: int, said: str
) -> None:
    spec(project, text)
    shown = verify(python, project, *JUDGE)
    assert shown.returncode == code, (shown.stdout, shown.stderr)
    assert "Traceback" not in shown.stderr
    assert said in (shown.stderr if code == 2 else shown.stdout)
    others = [form for form in FORMATS if form != "text"]
    done = run(python, "-c", EVERY_FORMAT, *others, "--", "verify", *JUDGE, cwd=project)
    assert done.returncode == 0, done.stderr
    for form, (exited, out, err) in json.loads(done.stdout).items():
        assert exited == code, (form, out, err)
        assert "Traceback" not in err
        if code == 2:
            assert out == ""
            assert said in err
        elif form == "json":
            assert json.loads(out)["exit_code"] == code
        elif form == "sarif":
            assert json.loads(out)["version"] == "2.1.0"
        elif form == "junit":
            assert ElementTree.fromstring(out).tag in ("testsuites", "testsuite")


@pytest.mark.parametrize(
    ("text", "table", "args", "code", "said"),
    [
        (SQUARE, "", ("--require", "jax"), 3, "the required oracle jax is not installed"),
        (SQUARE, 'require = ["jax"]', (), 3, 'pip install "gradcheck[jax]"'),
        (SQUARE, "", ("--oracle", "jax,autograd"), 3, "2 claims, 0 covered; exit 3"),
        (SQUARE, 'require_devices = ["cuda:7"]', ("--oracle", "torch"), 3, "device cuda:7"),
        (HALF, "", (), 3, "no derivative with respect to w is claimed"),
        (HALF, 'require_verdict = "proved"', (), 3, "exit 3"),
        ("", "", (), 2, "holds no spec"),
        (None, "", (), 2, "matches no spec file"),
    ],
)
def test_gates_that_do_not_pass(
    python: Path, project: Path, text: str | None, table: str, args: tuple[str, ...], code: int, said: str
) -> None:  # fmt: skip
    if text is not None:
        spec(project, text)
    (project / "pyproject.toml").write_text(f"{TABLE}{table}\n", encoding="utf-8")
    options = args if "--oracle" in args else (*JUDGE, *args)
    done = verify(python, project, *options)
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout + done.stderr
    if not args or "--require" in args:  # the plugin knows no other flags
        flags = [f"--gradcheck-require={args[1]}"] if args else []
        flags.append("--gradcheck-oracles=symbolic,differences")
        assert run(python, "-m", "pytest", "-q", *flags, cwd=project).returncode != 0
