from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gradcheck.errors import SpecError, UsageError
from gradcheck.library import bundled, resolve

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = (
    "gradcheck", "specs", "tests", "examples", "docs", "pyproject.toml", "README.md", "LICENSE",
    "CHANGELOG.md", "CONTRIBUTING.md", "constraints.txt", "action.yml", ".pre-commit-hooks.yaml",
)  # fmt: skip

# What every kind of install must know, as one line of JSON.
PROBE = """
import json, sys, gradcheck
from gradcheck.library import bundled, specs_folder
print(json.dumps({
    "package": gradcheck.__file__,
    "specs": str(specs_folder()),
    "names": [t.name for t in bundled()],
    "value": gradcheck.load("softmax").dense("z")(z=[[0.0, 0.0]])[0, 0, 0, 1],
    "modules": [m for m in sys.modules if m.startswith("gradcheck.specs.")],
    "toplevel": "specs" in sys.modules,
}))
"""


def run(*command: object, cwd: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    """A command outside the checkout, whose own environment says where gradcheck is."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env.update({"PYTHONPATH": path} if path else {}, PYTHONUTF8="1", PIP_NO_INPUT="1")
    words = [str(word) for word in command]
    return subprocess.run(
        words, cwd=cwd, env=env, capture_output=True, encoding="utf-8", check=False
    )


def done(*command: object, cwd: Path, path: str = "") -> str:
    result = run(*command, cwd=cwd, path=path)
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return result.stdout


def probe(python: Path | str, cwd: Path, path: str = "") -> dict[str, object]:
    return json.loads(done(python, "-c", PROBE, cwd=cwd, path=path))


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of the project, so that nothing is built in the checkout."""
    folder = tmp_path_factory.mktemp("tree")
    for name in SHIPPED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    return folder


@pytest.fixture(scope="module")
def built(tree, tmp_path_factory) -> tuple[Path, Path]:
    """Wheel and sdist; the wheel is built from the sdist, which must therefore be complete."""
    out = tmp_path_factory.mktemp("dist")
    done(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, tree, cwd=out)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture
def fresh(tmp_path) -> Path:
    """The Python of a new environment that borrows this one's packages, but installs its own."""
    folder = tmp_path / "env"
    venv.create(folder, with_pip=True, symlinks=os.name != "nt")
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    purelib = done(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path
    )
    packages = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    # Lines of a .pth file come after the environment's own packages, and their .pth files
    # (an editable gradcheck, say) are not followed.
    Path(purelib.strip(), "borrowed.pth").write_text("\n".join(packages), encoding="utf-8")
    return python


@pytest.fixture(scope="module")
def names() -> list[str]:
    return [t.name for t in bundled()]


class TestContents:
    def test_the_wheel_holds_package_and_specs(self, built):
        with zipfile.ZipFile(built[0]) as archive:
            files = archive.namelist()
        assert "gradcheck/_specs/softmax.py" in files
        assert "gradcheck/py.typed" in files
        assert any(f.endswith(".dist-info/licenses/LICENSE") for f in files)
        tops = {f.partition("/")[0] for f in files}
        assert {t for t in tops if not t.endswith(".dist-info")} == {"gradcheck"}
        assert not [f for f in files if "__pycache__" in f or "test" in Path(f).name]

    def test_the_wheel_holds_every_spec_file(self, built):
        with zipfile.ZipFile(built[0]) as archive:
            packed = {Path(f).name for f in archive.namelist() if f.startswith("gradcheck/_specs/")}
        assert packed == {p.name for p in (ROOT / "specs").glob("*.py")}

    def test_the_wheel_has_the_command(self, built):
        with zipfile.ZipFile(built[0]) as archive:
            (path,) = (f for f in archive.namelist() if f.endswith("entry_points.txt"))
            assert "gradcheck = gradcheck.cli:main" in archive.read(path).decode()

    def test_the_sdist_holds_what_tests_need(self, built):
        with tarfile.open(built[1]) as archive:
            files = {name.partition("/")[2] for name in archive.getnames()}
        assert {
            "specs/softmax.py", "gradcheck/py.typed", "LICENSE", "README.md", "constraints.txt",
            "tests/test_packaging.py", "examples/iris_jacobians.py", "docs/architecture.md",
        } <= files  # fmt: skip


class TestInstalls:
    def test_a_checkout(self, tree, names, tmp_path):
        found = probe(sys.executable, tmp_path, path=str(tree))
        _check(found, names, package=tree / "gradcheck", specs=tree / "specs")

    def test_an_editable_install(self, tree, names, fresh, tmp_path):
        install = (fresh, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation")
        done(*install, "--no-index", "-e", tree, cwd=tmp_path)
        _check(probe(fresh, tmp_path), names, package=tree / "gradcheck", specs=tree / "specs")

    def test_a_wheel(self, built, names, fresh, tmp_path):
        done(
            *(fresh, "-m", "pip", "install", "-q", "--no-deps", "--no-index", built[0]),
            cwd=tmp_path,
        )
        found = probe(fresh, tmp_path)
        package = Path(str(found["package"])).parent
        assert package.is_relative_to(tmp_path / "env")
        _check(found, names, package=package, specs=package / "_specs")
        listed = done(fresh.parent / "gradcheck", "list", cwd=tmp_path)
        assert "softmax" in listed

    def test_a_tree_without_specs_names_both_places(self, tree, tmp_path):
        shutil.copytree(tree / "gradcheck", tmp_path / "bare" / "gradcheck")
        result = run(sys.executable, "-c", PROBE, cwd=tmp_path, path=str(tmp_path / "bare"))
        assert result.returncode != 0
        assert str(tmp_path / "bare" / "gradcheck" / "_specs") in result.stderr
        assert str(tmp_path / "bare" / "specs") in result.stderr

    def test_a_folder_beside_an_install_is_not_taken_for_ours(self, tree, tmp_path):
        """Without pyproject.toml beside it, `specs` in site-packages is somebody else's."""
        shutil.copytree(tree / "gradcheck", tmp_path / "site" / "gradcheck")
        (tmp_path / "site" / "specs").mkdir()
        result = run(sys.executable, "-c", PROBE, cwd=tmp_path, path=str(tmp_path / "site"))
        assert "UsageError" in result.stderr


def _check(found: dict[str, object], names: list[str], *, package: Path, specs: Path) -> None:
    assert Path(str(found["package"])).parent.resolve() == package.resolve()
    assert Path(str(found["specs"])).resolve() == specs.resolve()
    assert found["names"] == names
    assert found["value"] == -0.25
    assert "gradcheck.specs.softmax" in found["modules"]
    assert found["toplevel"] is False


RIGHT = """
from gradcheck import Spec, delta, einsum, real

def forward(xp, x):
    return 3 * x

def twice(xp, x):
    return 2 * x

triple = Spec(forward, inputs={"x": real("n")}, output={"y": "n"},
              jacobian={"x": 3 * einsum("pq->pq", einsum("pq->pq", delta))})
double = Spec(twice, inputs={"x": real("n")}, output={"y": "n"},
              jacobian={"x": 2 * einsum("pq->pq", delta)})
"""


@pytest.fixture
def mine(tmp_path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(RIGHT, encoding="utf-8")
    return path


class TestUsersFiles:
    def test_a_file_gives_all_its_specs(self, mine):
        assert [t.name for t in resolve([str(mine)])] == ["triple", "double"]

    def test_one_spec_of_a_file(self, mine):
        (target,) = resolve([f"{mine}::double"])
        assert target.name == "double"
        assert target.address.endswith("mine.py::double")

    def test_a_name_that_the_file_lacks(self, mine):
        with pytest.raises(UsageError, match=r"no spec 'doubl'; did you mean double\?"):
            resolve([f"{mine}::doubl"])

    def test_a_folder(self, mine):
        shutil.copy(mine, mine.with_name("other.py"))
        mine.with_name("test_mine.py").write_text("raise SystemExit", encoding="utf-8")
        targets = resolve([str(mine.parent)])
        assert [t.path.name for t in targets] == ["mine.py"] * 2 + ["other.py"] * 2

    def test_a_folder_without_specs(self, tmp_path):
        with pytest.raises(UsageError, match="holds no specs"):
            resolve([str(tmp_path)])

    def test_a_file_without_specs(self, mine):
        mine.write_text("x = 1", encoding="utf-8")
        with pytest.raises(UsageError, match=r"holds no spec.*softmax = Spec\(\.\.\.\)"):
            resolve([str(mine)])

    def test_a_file_that_is_not_there(self):
        with pytest.raises(UsageError, match=r"there is no file nowhere\.py"):
            resolve(["nowhere.py"])

    @pytest.mark.parametrize(
        ("text", "line", "message"),
        [
            ("x = 1\ndef (", 2, "SyntaxError"),
            ("\n\neinsum('p->p', 'x')", 3, "import it, for example"),
            ("import no_such_module", 1, "No module named 'no_such_module'"),
        ],
    )
    def test_a_broken_file_is_named_with_its_line(self, mine, text, line, message):
        mine.write_text(text, encoding="utf-8")
        with pytest.raises(SpecError) as caught:
            resolve([str(mine)])
        assert f"mine.py:{line}" in str(caught.value)
        assert message in str(caught.value)

    def test_a_broken_file_on_the_command_line(self, mine):
        mine.write_text("1 / 0", encoding="utf-8")
        code = f"from gradcheck.cli import main; main(['verify', {str(mine)!r}])"
        result = run(sys.executable, "-c", code, cwd=mine.parent, path=str(ROOT))
        assert result.returncode == 2
        assert "mine.py:1" in result.stderr
        assert "division by zero" in result.stderr
        assert "Traceback" not in result.stderr


class TestConstraints:
    def test_each_line_is_an_exact_version(self):
        lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        pins = [line for line in lines if line and not line.startswith("#")]
        assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []

    def test_everything_that_dev_and_all_bring_is_pinned(self):
        lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        pinned = {canonicalize_name(line.partition("==")[0]) for line in lines if "==" in line}
        brought = _brought("gradcheck", {"dev", "all"}, {})
        assert {"numpy", "jaxlib", "torch", "ruff", "tensorflow-cpu"} <= brought
        assert sorted(brought - {"gradcheck"} - pinned) == []


def _brought(name: str, extras: set[str], seen: dict[str, set[str]]) -> set[str]:
    """The distributions that one brings along, as far as they are installed here."""
    wanted = extras - seen.get(name, set()) if name in seen else extras | {""}
    seen.setdefault(name, set()).update(wanted)
    try:
        requires = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return {name}
    for requirement in map(Requirement, requires):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": e}) for e in wanted):
            child = canonicalize_name(requirement.name)
            if child not in seen or not set(requirement.extras) <= seen[child]:
                _brought(child, set(requirement.extras), seen)
    return set(seen)
