"""The pages in docs/: what their code prints, where they show it, and that it runs as it is pasted."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"^```(?P<kind>\w*)[^\n]*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[str]:
    """The blocks of a page, whatever their kind."""
    return [m["text"] for m in BLOCK.finditer((DOCS / page).read_text(encoding="utf-8"))]


def ran(code: str, folder: Path) -> str:
    """What a block prints when it is pasted into a file."""
    (folder / "pasted.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "pasted.py"],
        check=False, cwd=folder, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_closed_forms_print_what_is_beside_them(tmp_path: Path) -> None:
    code = blocks("derive.md")[0]
    shown = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert len(shown) == 5
    assert ran(code, tmp_path).splitlines() == shown


def test_the_program_is_the_one_that_is_shown(tmp_path: Path) -> None:
    code, shown = blocks("speed.md")[:2]
    printed = re.sub(
        r"( and x\.dtype).*(\):)$", r" and ...\2", ran(code, tmp_path), flags=re.MULTILINE
    )
    assert printed.strip() == shown.strip()


def test_the_pool_works_when_it_is_pasted_into_a_file(tmp_path: Path) -> None:
    """Each of its processes imports that file: without its guard none would live."""
    code = blocks("running.md")[0]
    assert "ProcessPoolExecutor(4" in code
    (tmp_path / "specs").mkdir()
    square = """
from gradcheck import Spec, delta, einsum, real

square = Spec(
    lambda xp, x: x * x,
    inputs={"x": real("n")},
    output={"y": "n"},
    jacobian={"x": 2 * einsum("p,pq->pq", "x", delta)},
)
"""
    (tmp_path / "specs" / "square.py").write_text(square, encoding="utf-8")
    code = code.replace("ProcessPoolExecutor(4", "ProcessPoolExecutor(1")
    code = code.replace("executor=pool", 'executor=pool, oracles=["symbolic"]')
    assert "1 proved; 1 claim, 1 covered; exit 0" in ran(code + "    print(report)\n", tmp_path)


def test_second_derivatives_run_as_they_are_pasted(tmp_path: Path) -> None:
    code, by_hand = blocks("second_order.md")[:2]
    quick = ', oracles=["symbolic"])'  # the page asks every oracle, which takes its time
    code = re.sub(r"^verify\((.*)\) ", rf"print(verify(\1{quick}) #", code, flags=re.MULTILINE)
    said = ran(code, tmp_path)
    assert "t(z)[r,s] = Σ_p t(w)[p,s] x[r,p]" in said
    assert said.count("0 covered") == 0
    assert [int(n) for n in re.findall(r"(\d) covered; exit 0", said)] == [4, 2, 2]
    by_hand = re.sub(
        r"^verify\((.*)\) ", rf"print(verify(\1{quick}) #", by_hand, flags=re.MULTILINE
    )
    assert "proved for all m ≥ 1, n ≥ 1: by_hand, z" in ran(by_hand, tmp_path)
