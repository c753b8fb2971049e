"""`[tool.gradcheck]`: what it may say, where it is found, and what is said of mistakes in it."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from gradcheck.cli import main
from gradcheck.cli.verify import verify as command
from gradcheck.configuration import (
    _KEYS,
    Configuration,
    is_spec_file,
    nearest,
    parse,
    read,
    spec_files,
)
from gradcheck.errors import UsageError
from gradcheck.reports.gaps import Gap

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

FULL = """
[tool.gradcheck]
specs = ["specs/*.py", "more"]
oracles = ["symbolic", "differences"]
devices = "cpu"
dtypes = ["float64"]
profile = "quick"
seed = 7
jobs = 2
time_limit = 60
cache = false
require = ["symbolic"]
require_devices = ["cuda"]
require_verdict = { "specs/softmax.py" = "proved" }
report = ["report.json", "report.txt"]

[[tool.gradcheck.gaps]]
claim = "softmax"
input = "z"
oracle = "exact"
reason = "a square root"
until = 2026-12-31
"""
SQUARE = """
from gradcheck import Spec, delta, einsum, real

def forward(xp, x):
    return x * x

square = Spec(
    forward, inputs={"x": real("m n")}, output={"y": "m n"},
    jacobian={"x": 2 * einsum("pq,pr,qs->pqrs", "x", delta, delta)},
)
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "pyproject.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_key_is_read(tmp_path: Path) -> None:
    known = read(write(tmp_path, FULL))
    assert known == Configuration(
        path=tmp_path / "pyproject.toml",
        specs=("specs/*.py", "more"),
        oracles=("symbolic", "differences"),
        devices=("cpu",),
        dtypes=("float64",),
        profile="quick",
        seed=7,
        jobs=2,
        time_limit=60.0,
        cache=False,
        require=("symbolic",),
        require_devices=("cuda",),
        require_verdict={"specs/softmax.py": "proved"},
        report=("report.json", "report.txt"),
        gaps=(Gap("softmax", "z", "a square root", date(2026, 12, 31), "exact"),),
    )


def test_each_key_is_documented_and_has_a_place() -> None:
    fields = set(Configuration.__dataclass_fields__) - {"path"}
    assert fields == set(_KEYS)
    assert all(f"        {name}: " in (Configuration.__doc__ or "") for name in fields)


def test_what_the_command_line_can_say_the_table_can_say_too() -> None:
    """Each under the name of the argument of `verify`; what belongs to a single run is left out."""
    flags = {parameter.name for parameter in command.params}
    single = {
        "targets",
        "wrt",
        "data",
        "form",
        "output",
        "config",
        "help",
        "mend",
        "yes",
        "report_files",
    }
    assert flags - single <= set(_KEYS)


def test_the_nearest_table_upwards_is_taken(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    write(tmp_path, "[tool.gradcheck]\nseed = 1\n")
    assert nearest(inner).seed == 1
    write(inner.parent, '[project]\nname = "other"\n')  # has no table of ours
    assert nearest(inner).seed == 1
    write(inner, "[tool.gradcheck]\nseed = 2\n")
    assert nearest(inner).seed == 2
    assert nearest(inner).folder == inner


def test_without_a_table_nothing_is_said(tmp_path: Path) -> None:
    write(tmp_path, '[project]\ndependencies = ["gradcheck"]\n')
    assert nearest(tmp_path) == Configuration()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sped = 1", r"there is no key 'sped'; did you mean s"),
        ("require-verdict = 'proved'", "did you mean require_verdict?"),
        ("spec = ['x']", "there is no key 'spec'; did you mean specs?"),
        ("zzz = 1", "there is no key 'zzz'; there are specs, oracles"),
        ("specs = []", "specs is empty; name at least one"),
        ("specs = 3", "specs: expected a list of strings"),
        ("specs = ['']", "specs: one of the strings is empty"),
        ("oracles = [1]", "oracles: expected a list of strings"),
        ("profile = ['quick']", "profile: expected a string"),
        ("seed = 1.5", "seed: expected a whole number, got 1.5"),
        ("seed = true", "seed: expected a whole number, got True"),
        ("jobs = 0", "jobs: expected 1 or more, got 0"),
        ("time_limit = -1", "time_limit: expected"),
        ("time_limit = nan", "time_limit: expected"),
        ("cache = 1", "cache: expected true, false or a folder"),
        ("require_verdict = 1", "require_verdict: expected"),
        ("require_verdict = 'proven'", "there is no verdict 'proven'; did you mean proved?"),
        ("require_verdict = {a = 'refuted'}", "there is no verdict 'refuted'"),
        ("gaps = {}", r"expected a list of tables, each written under \[\[tool.gradcheck.gaps\]\]"),
        ("gaps = [1]", "gaps, number 1: expected a table with claim, input, oracle, reason, until"),
        ("gaps = [{}]", "gaps, number 1: claim is missing"),
        ("gaps = [{claim='a', input='x', reason=' ', until=2026-01-01}]", "number 1: reason: expected"),
        ("gaps = [{claim='a', input='x', reason='r'}]", "number 1: until is missing"),
        ("gaps = [{claim='a', input='x', reason='r', until='soon'}]", "a date such as 2026-12-31, got soon"),
        ("gaps = [{claim='a', input='x', reason='r', until=2026-01-01T00:00:00}]", "a date such as"),
        ("gaps = [{claim='a', inputs='x'}]", "no key 'inputs'; did you mean input?"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, f"[tool.gradcheck]\n{text}\n")
    with pytest.raises(UsageError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.gradcheck\n", "is not TOML"),
        ("[tool]\ngradcheck = 3\n", "expected a table of keys, got 3"),
        ("[project]\n", r"has no table \[tool.gradcheck\]"),
        ("# gradcheck\nx = " + "[" * 5000, "is not TOML"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(write(tmp_path, text))


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        read(tmp_path / "nowhere.toml")
    path = tmp_path / "binary.toml"
    path.write_bytes(b"# gradcheck \xff\xfe")
    with pytest.raises(UsageError, match="is not TOML"):
        read(path)


# ---------------------------------------------------------------- spec files


def test_patterns_are_relative_to_the_folder_and_a_folder_means_its_files(tmp_path: Path) -> None:
    for name in ("a.py", "_private.py", "test_a.py", "conftest.py", "deep/er/b.py", "notes.txt"):
        path = tmp_path / "specs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    a, b = tmp_path / "specs" / "a.py", tmp_path / "specs" / "deep" / "er" / "b.py"
    assert spec_files(["specs/*.py"], tmp_path) == [a]
    assert spec_files(["specs"], tmp_path) == [a]
    assert spec_files(["specs/**/*.py"], tmp_path) == [a, b]
    assert spec_files([str(a), "specs/../specs/a.py"], tmp_path) == [a]
    assert not is_spec_file(tmp_path / "specs" / "notes.txt")


@pytest.mark.parametrize("pattern", ["spec/*.py", "specs/_*.py", "specs/*.txt", "\0", "["])
def test_a_pattern_that_matches_nothing_is_an_error(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "_a.py").touch()
    with pytest.raises(UsageError, match="matches no spec file in"):
        spec_files([pattern], tmp_path)


# ---------------------------------------------------------------- on the command line


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "square.py").write_text(SQUARE, encoding="utf-8")
    return tmp_path


CHEAP = '[tool.gradcheck]\nspecs = ["specs/*.py"]\noracles = ["differences"]\nprofile = "quick"\n'


def gradcheck_(*args: str) -> Result:
    return CliRunner().invoke(main, ["verify", *args])


def test_without_a_target_the_specs_of_the_table_are_verified(project: Path) -> None:
    write(project, CHEAP + 'dtypes = ["float64"]\nseed = 5\nreport = "report.json"\n')
    result = gradcheck_()
    assert result.exit_code == 0, result.output
    assert "1 agrees; 1 claim, 1 covered; exit 0" in result.stdout
    assert "profile quick, seed 5" in result.stdout
    assert '"agrees"' in (project / "report.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("where", ["specs", ".."])
def test_the_table_holds_from_a_folder_below_and_by_its_name(
    project: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path = write(project, CHEAP + 'dtypes = ["float64"]\n')
    monkeypatch.chdir(project / where)
    result = gradcheck_(*(() if where == "specs" else ("--config", str(path))))
    assert "1 agrees; 1 claim, 1 covered; exit 0" in result.stdout, result.output


def test_the_command_line_wins(project: Path) -> None:
    write(project, CHEAP + 'require = ["symbolic"]\n')
    result = gradcheck_("--dtype", "float32", "--seed", "3", "--require", "differences")
    assert result.exit_code == 0, result.output
    assert "1 agrees; 1 claim" in result.stdout
    assert "symbolic" not in result.stdout


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('specs = ["spec/*.py"]', "'spec/*.py' matches no spec file"),
        ('oracles = ["jaxx"]', "unknown oracle 'jaxx'; did you mean jax?"),
        ('dtypes = ["float16x"]', "unknown dtype 'float16x'"),
        ('devices = ["tpu"]', "unknown device 'tpu'"),
        ('profile = "quik"', "unknown profile 'quik'; did you mean quick?"),
        ('report = "no/such/report.json"', "there is no folder"),
        ('require_devices = ["all"]', "'all' is whatever is found"),
        ("gaps = [{claim='a', input='x', oracle='jx', reason='r', until=2099-01-01}]", "unknown oracle"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_table_exits_2(project: Path, table: str, message: str) -> None:
    write(project, f"[tool.gradcheck]\n{table}\n")
    target = () if table.startswith("specs") else ("specs/square.py",)
    result = gradcheck_(*target)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_reading_it_loads_nothing_heavy() -> None:
    program = (
        "import sys\nimport gradcheck.configuration\n"
        "print(sorted({'numpy', 'hypothesis', 'rich', 'click', 'pytest'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"[]\n"


@pytest.mark.parametrize("table", [None, [], 3, "specs"])
def test_a_table_that_is_none(table: Any) -> None:
    with pytest.raises(UsageError, match="expected a table of keys"):
        parse(table)
