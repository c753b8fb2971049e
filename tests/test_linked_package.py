"""The package imported through a symbolic link, as build systems lay it out: places are the user's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gradcheck
from gradcheck import load
from gradcheck.algebra.source import internal
from gradcheck.errors import UsageError

PACKAGE = Path(gradcheck.__file__).resolve().parent

SPEC = """\
from gradcheck import Spec, delta, einsum, real


def forward(xp, x):
    return x * x


square = Spec(
    forward,
    inputs={"x": real("m n")},
    output={"y": "m n"},
    jacobian={"x": FACTOR * einsum("pq,pr,qs->pqrs", "x", delta, delta)},
)
"""
ASK = """
import sys
from pathlib import Path
import gradcheck
from gradcheck import load, verify
assert Path(gradcheck.__file__).parent == Path(sys.argv[1]), gradcheck.__file__
for name in ("square.py", "slip.py"):
    try:
        spec = load(name)
    except gradcheck.errors.GradcheckError as error:
        print(error)
    else:
        print(spec.location)
        print(verify(spec, oracles=["symbolic", "exact"]))
print(load("softmax").location)
"""


def link_to(package: Path, where: Path) -> Path:
    """A folder for `sys.path` that holds nothing but a link to the package."""
    where.mkdir()
    try:
        (where / "gradcheck").symlink_to(package, target_is_directory=True)
    except OSError as error:  # Windows without the right to make links
        pytest.skip(f"no links here: {error}")
    return where / "gradcheck"


def copied_links(package: Path, where: Path) -> Path:
    """A folder of real folders, each file in which is a link."""
    root = where / "gradcheck"
    for file in package.rglob("*.py"):
        link = root / file.relative_to(package)
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            link.symlink_to(file)
        except OSError as error:
            pytest.skip(f"no links here: {error}")
    return root


@pytest.mark.parametrize("laid_out", [link_to, copied_links])
def test_reports_point_at_the_users_spec_and_never_inside_the_package(tmp_path, laid_out) -> None:
    imported = laid_out(PACKAGE, tmp_path / "links")
    (tmp_path / "square.py").write_text(SPEC.replace("FACTOR", "3"), encoding="utf-8")
    slip = SPEC.replace("FACTOR", "2").replace("pq,pr,qs->pqrs", "pq,pr,qs->pqrt")
    (tmp_path / "slip.py").write_text(slip, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(imported)],
        check=False, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(imported.parent)},
        capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "square.py:8" in done.stdout
    assert "Refuted: square, input x (square.py:12)" in done.stdout
    assert "slip.py:12" in done.stdout
    for inside in ("notation.py", "spec.py:", "library.py"):
        assert inside not in done.stdout
    assert "softmax.py:" in done.stdout


def test_what_is_inside_the_package() -> None:
    assert internal(str(PACKAGE / "algebra" / "notation.py"))
    assert not internal(str(PACKAGE / "_specs" / "softmax.py"))
    assert not internal(f"{PACKAGE}_rules/mine.py")
    assert not internal("<stdin>")


def test_what_is_no_name_is_answered_with_one() -> None:
    with pytest.raises(
        UsageError, match="load takes the name of a spec, such as 'softmax', and 3 came"
    ):
        load(3)  # type: ignore[arg-type]
