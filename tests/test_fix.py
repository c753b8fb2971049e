"""`gradcheck verify --fix`: what is written, what is only printed, and that nothing is without a proof."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from gradcheck import Spec, delta, einsum, real, verify
from gradcheck.cli import main
from gradcheck.diagnosis import fixing
from gradcheck.diagnosis.source import Source, Unwritable, applied, changes
from gradcheck.library import resolve
from gradcheck.reports.naming import shell_word

ROOT = Path(__file__).parent.parent
HEAD = "from gradcheck import Spec, delta, einsum, ones, real, size\n\n"


def fixed(tmp_path, *args, given=None, target="slips.py"):
    """The command line on a target in a folder of its own."""
    command = [
        "verify",
        str(tmp_path / target),
        "--oracle",
        "symbolic",
        "--no-cache",
        "--fix",
        *args,
    ]
    return CliRunner().invoke(main, command, input=given)


def write(tmp_path, body, head=HEAD):
    path = tmp_path / "slips.py"
    path.write_text(head + body, encoding="utf-8")
    return path


SQUARES = """square = Spec(
    lambda xp, x, y: x * x * y,
    inputs={{"x": real("n"), "y": real("n")}},
    output={{"h": "n"}},
    jacobian={{
        "x": {claim},
        "y": einsum("p,pq->pq", "x**2", delta),
    }},
)
"""


# ---------------------------------------------------------------------- the seeds' rule


def test_the_seeds_rule_is_mended_and_then_proved(tmp_path):
    copy = tmp_path / "slips.py"
    shutil.copy(ROOT / "examples" / "seed_slips.py", copy)
    before = copy.read_text(encoding="utf-8").splitlines()
    result = fixed(tmp_path, "--yes", target="slips.py::softmax_rule")
    assert result.exit_code == 0, result.output
    after = copy.read_text(encoding="utf-8").splitlines()
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert changed == [
        (
            '        - einsum("q,ps,ps,pr->pqrs", ones, "a", "a", delta)',
            '        - einsum("q,pq,ps,pr->pqrs", ones, "a", "a", delta)',
        )
    ]
    assert "- a[p,s] a[p,s] δ[p,r] → - a[p,q] a[p,s] δ[p,r]" in result.output
    assert "1 refuted" in result.output
    assert "1 proved; 1 claim, 1 covered; exit 0" in result.output


def test_a_link_is_mended_in_its_own_file_through_the_chain(tmp_path):
    text = (ROOT / "examples" / "seed_slips.py").read_text(encoding="utf-8")
    text += '\nchain = load("weighted_sum") >> softmax_rule >> load("cross_entropy")\n'
    (tmp_path / "slips.py").write_text(text, encoding="utf-8")
    result = fixed(tmp_path, "--yes", target="slips.py::chain")
    assert result.exit_code == 0, result.output
    assert "Link softmax_rule: wrong letter in term 2" in result.output
    assert "3 proved; 3 claims, 3 covered; exit 0" in result.output


# ---------------------------------------------------------------------- asking


def test_it_asks_and_a_no_leaves_the_file_as_it_is(tmp_path):
    path = write(tmp_path, SQUARES.format(claim='einsum("p,p,pq->pq", "x", "y", delta)'))
    before = path.read_bytes()
    result = fixed(tmp_path, given="n\n")
    assert result.exit_code == 1
    assert "Write this proved edit" in result.output
    assert path.read_bytes() == before
    assert result.output.count("Refuted: ") == 1


def test_a_yes_writes(tmp_path):
    path = write(tmp_path, SQUARES.format(claim='einsum("p,p,pq->pq", "x", "y", delta)'))
    result = fixed(tmp_path, given="y\n")
    assert result.exit_code == 0, result.output
    assert '"x": einsum("p,p,pq->pq", "x", "y", delta) * 2,' in path.read_text(encoding="utf-8")


def test_what_is_right_is_not_touched(tmp_path):
    path = write(tmp_path, SQUARES.format(claim='2 * einsum("p,p,pq->pq", "x", "y", delta)'))
    before = path.read_bytes()
    result = fixed(tmp_path, "--yes")
    assert (result.exit_code, path.read_bytes()) == (0, before)
    assert "wrote" not in result.output


# ---------------------------------------------------------------------- how a text changes

WRONG = [
    ('einsum("p,p,pq->pq", "x", "y", delta)', 'einsum("p,p,pq->pq", "x", "y", delta) * 2'),
    ('-2 * einsum("p,p,pq->pq", "x", "y", delta)', '2 * einsum("p,p,pq->pq", "x", "y", delta)'),
    (
        '2 * einsum("p,p,pq->pq", "x", "y", delta) / size("n")',
        '2 * einsum("p,p,pq->pq", "x", "y", delta)',
    ),
    ('2 * einsum("p,p,pq->pq", "x", "x", delta)', '2 * einsum("p,p,pq->pq", "y", "x", delta)'),
    ('2 * einsum("p,p,pq->pq", "x**2", "y", delta)', '2 * einsum("p,p,pq->pq", "x", "y", delta)'),
    (
        '2 * einsum("p,p,pq->pq", "x", "y", delta) + einsum("p,pq->pq", "x", delta)',
        '2 * einsum("p,p,pq->pq", "x", "y", delta)',
    ),
]


@pytest.mark.parametrize(("wrong", "right"), WRONG)
def test_an_edit_changes_only_what_it_must(wrong, right, tmp_path):
    path = write(tmp_path, SQUARES.format(claim=wrong))
    result = fixed(tmp_path, "--yes")
    assert result.exit_code == 0, result.output
    assert path.read_text(encoding="utf-8") == HEAD + SQUARES.format(claim=right)


def test_a_missing_term_is_written_below_the_others(tmp_path):
    body = SQUARES.replace("x * x * y,", "x * x * y + x,")
    path = write(tmp_path, body.format(claim='2 * einsum("p,p,pq->pq", "x", "y", delta)'))
    result = fixed(tmp_path, "--yes")
    assert result.exit_code == 0, result.output
    text = path.read_text(encoding="utf-8")
    assert '"x": 2 * einsum("p,p,pq->pq", "x", "y", delta)\n' in text
    assert '+ einsum("pq->pq", delta),' in text


def test_windows_line_ends_stay(tmp_path):
    body = HEAD + SQUARES.format(claim='-2 * einsum("p,p,pq->pq", "x", "y", delta)')
    path = tmp_path / "slips.py"
    path.write_bytes(body.replace("\n", "\r\n").encode())
    assert fixed(tmp_path, "--yes").exit_code == 0
    assert path.read_bytes() == body.replace("-2 *", "2 *").replace("\n", "\r\n").encode()


# ---------------------------------------------------------------------- what is only printed


def refused(tmp_path, body, head=HEAD):
    path = write(tmp_path, body, head)
    before = path.read_bytes()
    result = fixed(tmp_path, "--yes")
    assert result.exit_code == 1
    assert path.read_bytes() == before
    return " ".join(result.output.split())


def test_a_term_made_in_a_loop_is_printed(tmp_path):
    body = "claim = sum(einsum('p,p,pq->pq', 'x', 'y', delta) for _ in range(3))\n\n"
    said = refused(tmp_path, body + SQUARES.format(claim="claim"))
    assert "Not written: square, x:" in said


def test_a_claim_that_others_use_is_printed(tmp_path):
    body = 'half = einsum("p,p,pq->pq", "x", "y", delta)\n\n' + SQUARES.format(claim="half")
    said = refused(
        tmp_path, body + "\n" + SQUARES.format(claim="2 * half").replace("square", "other")
    )
    assert "half is used in 2 places; the edit is x[p] y[p] δ[p,q] → 2 x[p] y[p] δ[p,q]" in said


def test_a_name_that_is_not_imported_is_asked_for(tmp_path):
    body = SQUARES.format(claim='2 * einsum("p,q->pq", "x", "y")').replace(
        'einsum("p,pq->pq", "x**2", delta)', 'einsum("p,pq->pq", "x**2", d)'
    )
    head = "from gradcheck import Spec, einsum, real\nfrom gradcheck import delta as d\n\n"
    assert "import delta from gradcheck first" in refused(tmp_path, body, head)


def test_without_an_edit_the_derivative_is_printed(tmp_path):
    body = SQUARES.format(claim='einsum("p,p,pq->pq", "exp(x)", "exp(y)", delta)')
    said = refused(tmp_path, body.replace("x * x * y", "x * x * y + x"))
    assert "no edit is known that mends it" in said


# ---------------------------------------------------------------------- never without a proof


def test_a_file_is_put_back_where_what_was_written_is_not_proved(tmp_path, monkeypatch):
    path = write(tmp_path, SQUARES.format(claim='-2 * einsum("p,p,pq->pq", "x", "y", delta)'))
    before = path.read_bytes()
    sabotaged = lambda text, found: applied(text, found).replace('"x", "y"', '"y", "y"')  # noqa: E731
    monkeypatch.setattr(fixing, "applied", sabotaged)
    result = fixed(tmp_path, "--yes")
    assert result.exit_code == 1
    assert path.read_bytes() == before
    assert "is left as it is: written into it, square, x is suspect" in result.output


def test_an_edit_without_a_proof_is_not_offered(tmp_path, monkeypatch):
    path = write(tmp_path, SQUARES.format(claim='-2 * einsum("p,p,pq->pq", "x", "y", delta)'))
    operation = resolve([str(path)])[0].operation
    claim = operation.claims()[0]
    own, repair = fixing.repair_of(operation, claim)
    from dataclasses import replace

    monkeypatch.setattr(fixing, "repair_of", lambda *_: (own, replace(repair, proved=False)))
    found, by_hand = fixing.fixes([(operation, claim)])
    assert not found
    assert "the edit that would mend it is not proved" in by_hand[0]


def test_a_term_of_another_file_is_not_found_here(tmp_path):
    path = write(tmp_path, SQUARES.format(claim='-2 * einsum("p,p,pq->pq", "x", "y", delta)'))
    own, repair = fixing.repair_of(*_claim_of(path))
    other = Source("x = 1\n" * 40)
    with pytest.raises(Unwritable, match="no call of einsum on that line"):
        changes(other, own.expression, repair.expression)


def _claim_of(path):
    operation = resolve([str(path)])[0].operation
    return operation, operation.claims()[0]


# ---------------------------------------------------------------------- files as they are found


WRONG_SQUARE = SQUARES.format(claim='3 * einsum("p,p,pq->pq", "x", "y", delta)')
MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize("mark", [b"", MARK])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_the_mark_of_a_file_and_its_line_ends_stay(tmp_path, mark, ending):
    text = (HEAD + WRONG_SQUARE).replace("\n", ending)
    (tmp_path / "slips.py").write_bytes(mark + text.encode())
    result = fixed(tmp_path, "--yes")
    assert result.exit_code == 0, result.output
    after = (tmp_path / "slips.py").read_bytes()
    assert after.startswith(mark + b"from gradcheck")
    edited = after.removeprefix(mark).decode()
    changed = [
        (a, b) for a, b in zip(text.split(ending), edited.split(ending), strict=True) if a != b
    ]
    assert len(changed) == 1
    assert edited.count("\r") == text.count("\r")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (("# -*- coding: latin-1 -*-\n# größe\n" + HEAD + WRONG_SQUARE).encode("latin-1"), "UTF-8"),
        ((HEAD + WRONG_SQUARE).replace("\n", "\r").encode(), "a carriage return alone"),
    ],
)
def test_a_text_that_cannot_be_edited_is_left_with_the_reason(tmp_path, data, why):
    (tmp_path / "slips.py").write_bytes(data)
    result = fixed(tmp_path, "--yes")
    assert result.exit_code == 1, result.output
    assert "Not written: square, x: " in result.output
    assert why in result.output
    assert "the edit is  3 " in result.output
    assert (tmp_path / "slips.py").read_bytes() == data


def test_a_file_that_may_not_be_written_is_left_with_the_reason(tmp_path, monkeypatch):
    path = write(tmp_path, WRONG_SQUARE)
    before = path.read_bytes()
    monkeypatch.setattr("gradcheck.cli.fix.os.access", lambda file, _: Path(file) != path)
    result = fixed(tmp_path, "--yes")
    assert result.exit_code == 1, result.output
    assert f"{path} is left as it is: it cannot be written: Permission denied" in result.output
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_file_whole(tmp_path, monkeypatch):
    path = write(tmp_path, WRONG_SQUARE)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gradcheck.reports.formats.replace_file", full)
    result = fixed(tmp_path, "--yes")
    assert result.exit_code == 1, result.output
    assert "it cannot be written: No space left on device" in result.output
    assert path.read_bytes() == before


def test_a_question_that_nobody_answers_writes_nothing_and_keeps_the_report(tmp_path):
    path = write(tmp_path, WRONG_SQUARE)
    before = path.read_bytes()
    result = fixed(tmp_path, "--report", str(tmp_path / "report.json"), given="")
    assert result.exit_code == 1, result.output
    assert "nothing is written without an answer; --yes writes without asking" in result.output
    assert path.read_bytes() == before
    assert '"refuted"' in (tmp_path / "report.json").read_text(encoding="utf-8")


def test_the_report_that_is_kept_is_that_of_the_mended_file(tmp_path):
    write(tmp_path, WRONG_SQUARE)
    result = fixed(tmp_path, "--yes", "--report", str(tmp_path / "report.json"))
    assert result.exit_code == 0, result.output
    assert '"refuted"' not in (tmp_path / "report.json").read_text(encoding="utf-8")


# ---------------------------------------------------------------------- the command that is printed


def test_the_command_is_one_that_a_shell_understands(tmp_path, monkeypatch):
    folder = tmp_path / "my specs"
    folder.mkdir()
    write(folder, WRONG_SQUARE)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["verify", "my specs", "--oracle", "symbolic", "--no-cache"])
    command = '`gradcheck verify "my specs/slips.py::square" --fix` writes it'
    assert command in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("target", "word"),
    [
        ("", ""),
        ("specs/größe.py::größe", "specs/größe.py::größe"),
        ("a b.py::c", '"a b.py::c"'),
        ("softmax >> l2", '"softmax >> l2"'),
        ('l2("w1")', "'l2(\"w1\")'"),
        ("$HOME/a.py::b", "'$HOME/a.py::b'"),
    ],
)
def test_a_target_is_one_word_for_a_shell(target, word):
    assert shell_word(target) == word


def test_a_spec_that_lives_in_memory_is_promised_no_command():
    def forward(xp, x):  # noqa: ARG001
        return x * x

    wrong = Spec(
        forward,
        inputs={"x": real("n")},
        output={"y": "n"},
        jacobian={"x": 3 * einsum("p,pq->pq", "x", delta)},
        name="square",
    )
    text = str(verify(wrong, oracles=["symbolic"]))
    assert "With this edit it is proved." in text
    assert "--fix" not in text
