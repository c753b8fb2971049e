"""Kept results: found again when nothing changed, never when something did, and no failure among them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import EXTENSION_SUFFIXES

import pytest

from gradcheck import library, load, verify
from gradcheck.checking import cache as caching
from gradcheck.checking.cache import Cache
from gradcheck.checking.executing import Execution
from gradcheck.checking.plan import plan, request
from gradcheck.dependencies import Unknowable, dependencies, packages
from gradcheck.library import resolve
from gradcheck.reports.formats import replace_file
from gradcheck.reports.model import Report

CHEAP = {"oracles": ["symbolic", "differences"], "profile": "quick"}
RIGHT = """
from gradcheck import Spec, delta, einsum, real
{extra}
cube = Spec(lambda xp, x: x * x * x, inputs={{"x": real("n")}}, output={{"y": "n"}},
            jacobian={{"x": {factor} * einsum("p,pq->pq", "x**2", delta)}})
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path)
    return tmp_path


def write(folder, factor="3", extra=""):
    (folder / "cubes.py").write_text(RIGHT.format(factor=factor, extra=extra), encoding="utf-8")


def run(folder, **options):
    return verify(str(folder / "cubes.py"), cache=folder / "kept", **{**CHEAP, **options})


def found(report):
    return [check.cached for check in report.checks]


def test_unchanged_results_are_found_again(project):
    first, second = run(project), run(project)
    assert found(first) == [False, False]
    assert found(second) == [True, True]
    assert [str(c.verdict) for c in second.checks] == ["proved", "agrees"]
    assert second.ok
    assert second.checks[0].reason == first.checks[0].reason
    assert "2 of 2 results were kept from earlier runs" in str(second)


def test_a_changed_file_is_verified_again(project):
    assert run(project).ok
    write(project, factor="2")
    changed = run(project)
    assert found(changed) == [False, False]
    assert changed.exit_code == 1


def test_a_failure_is_never_kept(project):
    write(project, factor="2")
    for _ in range(2):
        report = run(project)
        assert report.exit_code == 1
        assert not any(found(report))
    write(project, factor="3")
    assert run(project).ok


def test_changing_back_finds_what_was_right_and_not_the_mistake_between(project):
    run(project)
    write(project, factor="2")
    assert run(project).exit_code == 1
    write(project)
    assert found(run(project)) == [True, True]


def test_a_change_of_an_imported_module_counts(project):
    (project / "my_factors.py").write_text("THREE = 3\n", encoding="utf-8")
    (project / "my_links.py").write_text("from my_factors import THREE\n", encoding="utf-8")
    write(project, factor="THREE", extra="from my_links import THREE")
    assert found(run(project)) == [False, False]
    assert found(run(project)) == [True, True]
    (project / "my_factors.py").write_text("THREE = 2\n", encoding="utf-8")
    assert not any(found(run(project)))


@pytest.mark.parametrize(
    "option", [{"seed": 7}, {"profile": "standard"}, {"dtypes": "float32"}], ids=str
)
def test_another_seed_profile_or_dtype_is_another_check(project, option):
    run(project)
    report = run(project, **option)
    assert not report.checks[-1].cached


def test_another_version_is_another_check(project, monkeypatch):
    run(project)
    caching._versions.cache_clear()
    monkeypatch.setattr(caching, "_version", lambda _name: "0.0.1")
    assert found(run(project)) == [False, False]
    caching._versions.cache_clear()


def test_another_gradcheck_is_another_check(project, monkeypatch):
    run(project)
    monkeypatch.setattr(caching, "_own", lambda: "changed")
    assert found(run(project)) == [False, False]


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ("import os\nWHERE = os.getcwd()", "imports os"),
        ("import numpy as np\nTABLE = np.loadtxt", "uses loadtxt"),
        ("import time", "imports time"),
        ("with open(__file__) as file: TEXT = file.read()", "uses open"),
        ("import gradcheck\nname = 'softmax'\nother = gradcheck.load(name)", "computed"),
    ],
)
def test_a_file_that_reads_anything_else_is_never_kept(project, extra, why):
    write(project, extra=extra)
    with pytest.raises(Unknowable, match=why):
        dependencies(project / "cubes.py")
    for _ in range(2):
        assert not any(found(run(project)))
    assert not (project / "kept").exists()


def test_what_lives_in_memory_and_own_data_are_never_kept(project):
    chain = load("weighted_sum") >> load("softmax")
    for _ in range(2):
        assert not any(c.cached for c in verify(chain, cache=project / "kept", **CHEAP).checks)
    data = {"x": [1.0, 2.0]}
    for _ in range(2):
        assert not any(found(run(project, data=data)))


def test_a_loaded_spec_counts_as_a_dependency(project):
    text = "from gradcheck import load\nchain = load('cubes') >> load('l2')\n"
    (project / "chains.py").write_text(text, encoding="utf-8")
    assert project / "cubes.py" in dependencies(project / "chains.py")
    assert any(p.name == "l2.py" for p in dependencies(project / "chains.py"))


def test_a_chain_of_bundled_specs_is_kept_by_its_text(project):
    text = "weighted_sum >> softmax >> cross_entropy"
    options = {**CHEAP, "oracles": ["symbolic"], "cache": project / "kept"}
    verify(text, **options)
    assert all(c.cached for c in verify(text, **options).checks)


@pytest.mark.parametrize("damage", ["", "{", '{"key": "other", "check": {}}', "[1, 2]", "null"])
def test_a_damaged_entry_is_done_again(project, damage):
    run(project)
    for file in (project / "kept").rglob("*.json"):
        file.write_text(damage, encoding="utf-8")
    report = run(project)
    assert report.ok
    assert found(report) == [False, False]


def test_an_entry_that_was_turned_into_a_pass_of_another_check_is_not_believed(project):
    run(project)
    files = sorted((project / "kept").rglob("*.json"))
    swapped = files[1].read_text(encoding="utf-8")
    files[0].write_text(swapped, encoding="utf-8")
    assert False in found(run(project))


def test_required_is_what_this_run_requires(project):
    run(project)
    report = run(project, require=["symbolic"])
    assert found(report) == [True, True]
    assert report.checks[0].required


def test_a_folder_that_cannot_be_written_loses_the_cache_and_not_the_run(project):
    (project / "kept").write_text("a file where the folder should be", encoding="utf-8")
    report = run(project)
    assert report.ok
    assert "results are not kept" in str(report)


def test_the_folder_is_marked_for_version_control(project):
    run(project)
    assert (project / "kept" / ".gitignore").read_text(encoding="utf-8") == "*\n"
    assert (project / "kept" / "CACHEDIR.TAG").is_file()


def test_two_writers_leave_one_whole_file(tmp_path):
    file = tmp_path / "report.json"
    texts = [json.dumps({"who": k, "long": "x" * 200_000}) for k in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: replace_file(file, text.encode()), texts))
    assert file.read_text(encoding="utf-8") in texts
    assert os.listdir(tmp_path) == ["report.json"]  # noqa: PTH208


def test_a_kept_result_survives_json(project):
    first = run(project)
    kept = Cache(project / "kept")
    assert Report.from_json(first.to_json()).to_json() == first.to_json()
    assert kept.trouble == ""


def test_the_command_line_keeps_and_forgets(project):
    environment = {k: v for k, v in os.environ.items() if k != "GRADCHECK_CACHE"}
    command = [sys.executable, "-m", "gradcheck", "verify", "cubes.py", "--oracle", "symbolic"]

    def said(*more):
        done = subprocess.run(
            [*command, *more], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert "kept" not in said()
    assert "1 of 1 results were kept from earlier runs" in said()
    assert "kept" not in said("--no-cache")
    (project / "pyproject.toml").write_text("[tool.gradcheck]\ncache = false\n", encoding="utf-8")
    assert "kept" not in said()


def test_an_unchanged_library_imports_no_framework(project):
    code = textwrap.dedent(f"""
        import sys
        from gradcheck import verify
        report = verify("softmax", profile="quick", cache={str(project / "kept")!r})
        print(report.ok, sorted({{"torch", "jax", "tensorflow"}} & set(sys.modules)))
    """)
    outputs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert outputs[1].stdout == "True []\n"


def test_a_change_of_folder_changes_neither_files_nor_keys(project, monkeypatch, tmp_path_factory):
    run(project)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert found(run(project)) == [True, True]


def test_a_file_that_is_saved_during_its_run_is_not_kept_under_its_new_text(project):
    def save(_name):
        write(project, factor="2")

    kept = Cache(project / "kept")
    targets = plan(
        resolve([str(project / "cubes.py")]),
        request(
            oracles=["symbolic"], devices="cpu", dtypes="float64", wrt=None, require=(), profile="quick",
            seed=0, data=None,
        ),
    )  # fmt: skip
    (right,) = Execution(cache=kept, step=save).results(targets)
    assert right.supports
    assert not list((project / "kept").rglob("*.json"))
    assert run(project).exit_code == 1


def test_what_was_loaded_before_a_file_was_saved_is_not_kept(project):
    (project / "my_late.py").write_text("THREE = 3\n", encoding="utf-8")
    write(project, factor="THREE", extra="from my_late import THREE")
    assert run(project).ok
    (project / "my_late.py").write_text("THREE = 2\n", encoding="utf-8")  # this process still has 3
    for _ in range(2):
        assert found(run(project)) == [False, False]


def test_a_file_saved_twice_within_a_second_is_run_as_it_is(project):
    path = project / "cubes.py"
    assert run(project).ok
    stamp = path.stat()
    write(project, factor="2")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    library.forget([path])
    assert run(project).exit_code == 1


def test_an_installed_package_counts_by_its_version(project, monkeypatch):
    write(project, extra="import pytest")
    assert "pytest" in packages(project / "cubes.py")
    assert found(run(project)) == [False, False]
    assert found(run(project)) == [True, True]
    monkeypatch.setattr(caching, "_any_version", lambda _name: "0.0.1")
    assert found(run(project)) == [False, False]


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ("from gradcheck import load as get", "finds specs"),
        ("from gradcheck.library import resolve", "finds specs"),
        ("from gradcheck import load\nget = load", "another name"),
        ("from importlib import import_module as get", "imports importlib"),
        ("import my_kernel", "compiled"),
        ("from numpy import load\nTABLE = load('weights.npy')", "imports load, which reads a file"),
        ("from numpy import load as get\nTABLE = get('weights.npy')", "imports load, which reads"),
        ("from numpy import fromfile as get\nTABLE = get('w.bin')", "imports fromfile"),
        ("from scipy.io import loadmat", "imports loadmat"),
        ("import matplotlib.pyplot as plt\nTABLE = plt.imread", "uses imread"),
    ],
)
def test_what_hides_a_dependency_is_never_kept(project, extra, why):
    (project / f"my_kernel{EXTENSION_SUFFIXES[0]}").write_bytes(b"")
    text = RIGHT.format(factor="3", extra=extra)
    (project / "cubes.py").write_text(text, encoding="utf-8")
    with pytest.raises(Unknowable, match=why):
        dependencies(project / "cubes.py")


def test_an_entry_that_was_changed_is_done_again(project):
    run(project)
    for entry in (project / "kept").rglob("*.json"):
        text = entry.read_text(encoding="utf-8")
        entry.write_text(
            text.replace('"proved"', '"agrees"').replace('"examples": ', '"examples": 1')
        )
    assert found(run(project)) == [False, False]


def test_a_file_that_is_deleted_meanwhile_has_no_key(project):
    planned = plan(
        resolve([str(project / "cubes.py")]),
        request(
            oracles=["symbolic"], devices="cpu", dtypes="float64", wrt=None, require=(), profile="quick",
            seed=0, data=None,
        ),
    )[0]  # fmt: skip
    (project / "cubes.py").unlink()
    assert caching.key_of(planned) is None
