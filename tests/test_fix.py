"""`gradcheck verify --fix`: what is written, what is only printed, and that nothing is without a proof."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from gradcheck.cli import main
from gradcheck.diagnosis import fixing
from gradcheck.diagnosis.source import Source, Unwritable, applied, changes
from gradcheck.library import resolve

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
