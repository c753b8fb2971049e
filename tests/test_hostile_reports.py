"""Names, messages and values that hold markup, commands, control characters: no format gives way.

Each format is read back as its own reader reads it, and must hold what was put in, no more and no less.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from datetime import date
from urllib.parse import unquote

import jsonschema
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from test_report_formats import check, sarif_schema

from gradcheck.cli import main
from gradcheck.reports.cleaning import visible, xml_text
from gradcheck.reports.findings import findings, told
from gradcheck.reports.formats import FORMATS
from gradcheck.reports.gaps import EXPIRED, Gap
from gradcheck.reports.matrix import matrix
from gradcheck.reports.model import Counterexample, Report
from gradcheck.reports.naming import Names
from gradcheck.reports.refutations import refutations

SARIF = jsonschema.validators.validator_for(sarif_schema())(sarif_schema())
TRICKS = [
    "a|b", "\\|", "\\", "`", "```", "````python", "~~~", "<b>", "<!--", "&lt;", "*a*", "_a_", "**", "[a](b)",
    "![a](b)", "::error::", "::set-output name=a::b", "%0A::error::", "%", "%25", ",line=3", "a:b", "\n",
    "\r", "\r\n", "\n\n# a", "\n- a", "\n| a | b |\n|---|---|", "\x00", "\x1b[31m", "\x9b", "\x7f", "\u2028",
    "\ud800", "\udcff", "\ufffe", "\uffff", "]]>", "-->", "'", '"', "{{ 7 }}", "{% raw %}", "1.", "1)", "- ",
    "+ ", "# ", "> ", "=", "---", "    a", "\t", "$a$", "@a", "https://a.b", "é", "層", "😀", "x",
]  # fmt: skip
HOSTILE = st.lists(st.one_of(st.sampled_from(TRICKS), st.text(max_size=3)), max_size=4).map("".join)


@st.composite
def hostile_reports(draw):
    names = draw(
        st.lists(HOSTILE.filter(lambda name: name not in ("", "—")), min_size=8, max_size=8)
    )
    claim, label, oracle, reason, param, value, note, place = names
    found = Counterexample(
        {"n": 1}, {label: [1.0]}, {param: value}, f"∂{claim}/∂{label}", 1.0, 2.0, 0.1, pattern=claim,
        snippet=f"print({reason!r})\n{reason}", letters=[["p"], ["q"]], gaps=[[1.0]], location=f"{place}:3",
    )  # fmt: skip
    refuted = check(
        claim=claim, input=label, oracle=oracle, verdict="refuted", counterexample=found, reason=reason,
        diagnosis={"message": reason, "edit": {"before": claim, "after": label, "proved": True}},
        address=f"{place}::{claim}",
    )  # fmt: skip
    undecided = check(
        claim=claim + "2", input=label, oracle=oracle, verdict="undecided", reason=reason
    )
    unread = check(
        claim=place, input="—", oracle="—", verdict="error", reason=f"{place}:2: {reason}"
    )
    gap = Gap(claim, label, reason, date(2030, 1, 1), state=EXPIRED)  # else it might excuse one
    return Report([refuted, undecided, unread], problems=[note], notes=[note], gaps=[gap])


hostile = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def plain_words(text):
    """The text as Markdown may show it: on one line, runs of blanks one blank."""
    return " ".join(visible(text).split())


def words_of(token):
    """What a paragraph or a cell reads, if there is no markup in it."""
    assert {child.type for child in token.children} <= {"text", "text_special"}, token.content
    return "".join(child.content for child in token.children)


@hostile
@given(hostile_reports())
def test_markdown_holds_whatever_is_in_a_name(report):
    text = FORMATS["markdown"](report)
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    words = [words_of(token) for token in tokens if token.type == "inline"]
    kinds = [token.type for token in tokens]
    rows = matrix(report)
    (refuted,) = refutations(report)
    assert kinds.count("table_open") == 1
    assert kinds.count("tr_open") == len(rows)
    cells = [plain_words(cell) for row in rows for cell in row]
    start = words.index("Claims and oracles") + 1
    assert words[start : start + len(cells)] == cells
    fences = [token.content for token in tokens if token.type == "fence"]
    assert [blanks(fence) for fence in fences] == [
        blanks(visible("\n".join(refuted.lines))), blanks(visible(refuted.snippet)),
    ]  # fmt: skip
    assert kinds.count("heading_open") == 7
    assert kinds.count("list_item_open") == 1 + 2 + 1 + 1
    assert set(kinds).isdisjoint({"html_block", "hr", "blockquote_open", "code_block"})
    assert plain_words(refuted.title) in words


def blanks(text):
    """Lines as a reader of Markdown ends them, whatever ended them before."""
    return re.sub(r"\r\n|\r", "\n", text).rstrip()


def commands_of(text):
    """What a runner reads: its own order of steps, after its documentation of workflow commands."""
    for line in re.split(r"\r\n|\r|\n", text):
        if line.startswith("::"):
            head, data = line[2:].split("::", 1)
            name, _, rest = head.partition(" ")
            pairs = dict(pair.split("=", 1) for pair in rest.split(","))
            yield (
                name,
                {key: unescaped(v, {"%3A": ":", "%2C": ","}) for key, v in pairs.items()},
                unescaped(data),
            )


def unescaped(text, more=None):
    for code, sign in {"%0D": "\r", "%0A": "\n", **(more or {}), "%25": "%"}.items():
        text = text.replace(code, sign)
    return text


@hostile
@given(hostile_reports())
def test_an_annotation_holds_whatever_is_in_a_name(report):
    text = FORMATS["github"](report)
    found = findings(report)
    read = list(commands_of(text))
    assert len(re.split(r"\r\n|\r|\n", text)) == len(found) + 1  # and the summary
    assert [(p["title"], data) for _, p, data in read] == [
        (visible(f.title), visible(f.text)) for f in found
    ]
    assert {name for name, _, _ in read} <= {"error", "warning"}
    assert all(set(p) <= {"title", "file", "line"} for _, p, _ in read)


@hostile
@given(hostile_reports())
def test_junit_is_xml_whatever_is_in_a_name(report):
    text = FORMATS["junit"](report)
    suite = ET.fromstring(text.encode("utf-8")).find("testsuite")
    assert len(suite) == 4  # three checks, and what is required and absent
    failure = suite[0].find("failure")
    assert blanks(failure.text) == blanks(xml_text(told(refutations(report)[0])))
    names = Names(report)
    assert [c.get("classname") for c in suite][:3] == [
        xml_text(names.claim(c)) for c in report.checks
    ]


@hostile
@given(hostile_reports())
def test_sarif_keeps_to_its_schema_whatever_is_in_a_name(report):
    log = json.loads(FORMATS["sarif"](report).encode("utf-8"))
    SARIF.validate(log)
    for result in log["runs"][0]["results"]:
        for location in result.get("locations", []):
            uri = location["physicalLocation"]["artifactLocation"]["uri"]
            assert re.fullmatch(r"(file://)?[A-Za-z0-9_.~/%-]+", uri)
            assert location["physicalLocation"]["region"]["startLine"] >= 1


@hostile
@given(hostile_reports())
def test_text_and_pages_hold_no_control_character(report):
    for form in ("text", "html"):
        text = FORMATS[form](report)
        text.encode("utf-8")
        assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", text)
    assert Report.from_json(report.to_json()).to_json() == report.to_json()


@pytest.mark.parametrize("name", ["a,b.py", "a:b.py", "a%0Ab.py", "a::b.py", "a b#c.py", "ü?.py"])
def test_an_annotation_names_the_very_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("x = 1\n", encoding="utf-8")
    report = Report([check(verdict="undecided", address=name)])
    (one, _) = commands_of(FORMATS["github"](report))
    file = name.partition("::")[0]  # what stands after two colons is a spec's name
    assert one[1].get("file") == (name if file == name else None)
    if file == name:
        (result, _) = json.loads(FORMATS["sarif"](report))["runs"][0]["results"]
        assert (
            unquote(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]) == name
        )


def test_a_report_on_a_file_whose_name_is_no_text_reaches_standard_output(monkeypatch):
    odd = Report([check(claim="c\udcff", verdict="refuted", address="specs/\udcff.py::c\udcff")])
    monkeypatch.setattr("gradcheck.checking.verify", lambda *_, **__: odd)
    for form in FORMATS:
        done = CliRunner().invoke(main, ["verify", "softmax", "--format", form])
        assert (done.exit_code, done.exception.__class__) == (1, SystemExit)
        assert "c\\udcff" in done.stdout.replace("\\\\", "\\")
