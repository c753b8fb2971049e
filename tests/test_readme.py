"""Every code block of the README is run as a reader would; the other documents name what is there."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from gradcheck.backends import BACKENDS
from gradcheck.configuration import parse
from gradcheck.library import bundled
from gradcheck.oracles import ORACLES

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
CI = ROOT / ".ci" / "run"

FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The README shows what the extra dev brings; whoever has TensorFlow as well would see more rows.
ENTRY = """
import sys
sys.modules["tensorflow"] = None
from gradcheck.cli import main
main(sys.argv[1:], prog_name="gradcheck")
"""


@dataclass(frozen=True)
class Block:
    kind: str
    title: str
    text: str
    line: int


def blocks() -> list[Block]:
    text = README.read_text(encoding="utf-8")
    return [
        Block(m[1], m[2] or "", m[3], text.count("\n", 0, m.start()) + 2)
        for m in FENCE.finditer(text)
    ]


def commands() -> list[str]:
    return [block.text.strip() for block in blocks() if block.kind == "sh"]


# ------------------------------------------------------------------------ stable lines


def stable(text: str) -> list[str]:
    """What a report says on every machine: no times, no ratios, no odd examples, no notes."""
    lines, apart = [], False
    for line in text.splitlines():
        apart = line in ("Examples counted apart", "Notes") or (apart and line.strip() != "")
        if not apart and line.strip():
            lines.append(_steady(line))
    return lines


def _steady(line: str) -> str:
    cells = re.split(r"\s{2,}", line.strip())
    if len(cells) >= 8 or set(line.strip()) == {"─"}:
        return "  ".join(cells[:6]) if len(cells) >= 8 else ""
    line = re.sub(r"[<\d.]+ s\b", "# s", line.strip())
    line = re.sub(r"passes with probability < [\d.e−-]+\)", "passes hardly ever)", line)
    return re.sub(r"is \S+ times what rounding can explain \(\S+\)", "is beyond rounding", line)


class TestStable:
    def test_times_and_ratios_do_not_count(self):
        row = "softmax  z      jax     cpu     float64  agrees         29    0.024  {} s"
        assert stable(row.format("0.10")) == stable(row.format("<0.01"))
        assert stable("profile standard, seed 0, 2.6 s") == stable("profile standard, seed 0, 9 s")

    def test_verdicts_and_counterexamples_count(self):
        row = "softmax  z      jax     cpu     float64  {}         29    0.024  0.10 s"
        assert stable(row.format("agrees")) != stable(row.format("refuted"))
        entry = "  ∂a[0,1]/∂z[0,0]: spec {}, torch −0.20"
        assert stable(entry.format("−0.072")) != stable(entry.format("−0.20"))

    def test_bounds_on_a_false_accept_do_not_count_but_what_was_established_does(self):
        row = "identity at small shapes (a wrong claim passes with probability < {}): {}"
        assert stable(row.format("6e-27", "a, x")) == stable(row.format("1.3e−30", "a, x"))
        assert stable(row.format("6e-27", "a, x")) != stable(row.format("6e-27", "a, y"))
        assert stable(row.format("6e-27", "a, x")) != stable(row.format("much", "a, x"))

    def test_other_text_counts(self):
        assert stable("Refuted: a\n\n  one") == ["Refuted: a", "one"]


# ---------------------------------------------------------------------------- running


class Reader:
    """A reader who types in each block in a folder of their own."""

    def __init__(self) -> None:
        self.names: dict[str, object] = {"__name__": "readme"}
        self.printed = ""

    def take(self, block: Block) -> None:
        getattr(self, f"_{block.kind}")(block)

    def _python(self, block: Block) -> None:
        if block.title:
            Path(block.title).write_text(block.text, encoding="utf-8")
            return
        out = io.StringIO()
        code = compile("\n" * (block.line - 1) + block.text, "<README.md>", "exec")
        with contextlib.redirect_stdout(out):
            exec(code, self.names)
        self.printed = out.getvalue()

    def _toml(self, block: Block) -> None:
        parse(tomllib.loads(block.text)["tool"]["gradcheck"])  # refuses a key that there is not

    def _text(self, block: Block) -> None:
        assert self.printed == block.text, f"README.md:{block.line}"

    def _console(self, block: Block) -> None:
        first, _, expected = block.text.partition("\n")
        words = shlex.split(first.removeprefix("$ "))
        assert words[0] == "gradcheck", f"README.md:{block.line}"
        path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
        done = subprocess.run(
            [sys.executable, "-c", ENTRY, *words[1:]],
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1"},
            check=False,
        )
        assert stable(done.stdout) == stable(expected), f"README.md:{block.line}\n{done.stderr}"
        if words[1] == "verify":
            assert f"exit {done.returncode}" in expected
        else:
            assert done.returncode == 0, done.stderr

    def _sh(self, block: Block) -> None:
        """The two commands: `.ci/run` takes them from here, and runs them."""
        assert block.text.startswith(("python3 -m venv .venv", ".venv/bin/"))


def test_every_block_does_what_it_shows(tmp_path, monkeypatch):
    for framework in ("autograd", "jax", "torch"):
        pytest.importorskip(framework)
    monkeypatch.chdir(tmp_path)
    reader = Reader()
    for block in blocks():
        reader.take(block)


def test_a_block_that_shows_something_else_fails(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reader = Reader()
    reader.take(Block("python", "", "print(1)\n", 1))
    with pytest.raises(AssertionError, match=r"README\.md:3"):
        reader.take(Block("text", "", "2\n", 3))
    with pytest.raises(AssertionError, match=r"README\.md:9"):
        reader.take(Block("console", "", "$ gradcheck list add\nnothing\nexit 0\n", 9))


# ---------------------------------------------------------------------------- commands


def test_there_are_two_commands():
    install, test = commands()
    assert "-c constraints.txt" in install
    assert install.endswith("&& .venv/bin/gradcheck verify")
    assert test.startswith(".venv/bin/pytest")


def test_ci_takes_the_commands_from_here():
    script = CI.read_text(encoding="utf-8")
    assert "README.md" in script
    assert os.access(CI, os.X_OK)
    listed = subprocess.run([CI, "--commands"], capture_output=True, encoding="utf-8", check=True)
    assert listed.stdout.splitlines() == commands()


def test_fences_are_of_known_kinds():
    assert {block.kind for block in blocks()} == {"sh", "python", "console", "text", "toml"}
    assert README.read_text(encoding="utf-8").count("```") == 2 * len(blocks())


PLACES = r"`((?:gradcheck|specs|examples|docs|tests|\.ci)/[\w./]+|\w+\.(?:txt|toml|md))`"
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/architecture.md",
    "docs/proof.md",
)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_places_named_exist(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    named = set(re.findall(PLACES, text)) | set(re.findall(r"\]\(([\w./]+)\)", text))
    named = {path for path in named if "NAME" not in path and "_specs" not in path}
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("verdict", ["proved", "identity", "agrees", "refuted", "undecided"])
def test_the_verdicts_are_all_explained(verdict):
    assert f"| `{verdict}` |" in README.read_text(encoding="utf-8")


# --------------------------------------------------------- CONTRIBUTING.md, architecture.md


def test_the_numbered_paths_lead_to_what_is_there():
    """The places that CONTRIBUTING.md names are where the existing ones are."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for place in ("specs/NAME.py", "gradcheck/oracles/NAME.py", "gradcheck/backends/NAME_.py"):
        assert f"1. `{place}`" in text
    for name in BACKENDS:
        assert (ROOT / f"gradcheck/backends/{name}_.py").is_file()
    for target in bundled():
        assert target.path.parent.samefile(ROOT / "specs")
    assert (ROOT / "gradcheck/oracles/differences.py").is_file()


def test_backends_have_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert [name for name in BACKENDS if name != "numpy" and name not in extras] == []
    (everything,) = extras["all"]
    assert [name for name in BACKENDS if name != "numpy" and name not in everything] == []


@pytest.mark.parametrize("oracle", ORACLES)
def test_oracles_are_in_the_readme(oracle):
    text = README.read_text(encoding="utf-8")
    assert re.search(rf"\b{oracle}\b", text, re.IGNORECASE)


def floors() -> dict[str, int]:
    """The floor of each room, from the table of docs/architecture.md."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| (.+?) \|", text, re.MULTILINE)
    return {
        room.removesuffix(".py").rstrip("/"): int(floor)
        for floor, rooms in rows
        for room in re.findall(r"`([\w/.]+)`", rooms)
    }


def imports(path: Path) -> set[str]:
    """The rooms that a file imports from when it runs, at its top or inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in typing:
            if node.module == "gradcheck":
                found |= {alias.name for alias in node.names}
            elif node.module.startswith("gradcheck."):
                found.add(node.module.split(".")[1])
    return found


def test_every_room_has_a_floor():
    package = ROOT / "gradcheck"
    rooms = {p.stem for p in package.glob("*.py")} | {p.parent.name for p in package.glob("*/*.py")}
    assert sorted(rooms - {"__init__"} - set(floors())) == []


def test_imports_point_down():
    floor = floors()
    upward = [
        f"{path.relative_to(ROOT)} imports {name}"
        for room, level in floor.items()
        for path in [ROOT / "gradcheck" / f"{room}.py", *(ROOT / "gradcheck" / room).glob("*.py")]
        if path.is_file()
        for name in imports(path)
        if floor.get(name, 0) > level
    ]
    assert upward == []


def test_an_upward_import_is_seen(tmp_path):
    path = tmp_path / "low.py"
    path.write_text(
        "from gradcheck.cli import main\n"
        "if TYPE_CHECKING:\n    from gradcheck.chain import Chain\n"
        "def f():\n    from gradcheck import library\n",
        encoding="utf-8",
    )
    assert imports(path) == {"cli", "library"}
