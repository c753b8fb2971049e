"""What a refutation shows: a small input, the entry, the pattern, and code that shows it again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gradcheck import Spec, delta, einsum, load, ones, real, size, verify
from gradcheck.checking.patterns import groups, pairs, pattern_at

CHEAP = {"oracles": ["differences"], "profile": "quick"}

# What `(targets - preds) * preds` amounts to: a[p,s] a[p,s] δ[p,r] for a[p,q] a[p,s] δ[p,r].
WRONG = """
from gradcheck import Spec, delta, einsum, ones, probability, real


def forward(xp, z):
    e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


softmax = Spec(
    forward,
    inputs={"z": real("m n")},
    output={"a": probability("m n")},
    jacobian={
        "z": einsum("pq,pr,qs->pqrs", "a", delta, delta)
        - einsum("ps,ps,pr,q->pqrs", "a", "a", delta, ones),
    },
)
"""


@pytest.fixture(scope="module")
def spec_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("user") / "softmax.py"
    file.write_text(WRONG, encoding="utf-8")
    return file


@pytest.fixture(scope="module", params=["torch", "jax", "autograd", "differences"])
def refutation(request, spec_file):
    if request.param != "differences":
        pytest.importorskip(request.param)
    (check,) = verify(str(spec_file), oracles=[request.param]).checks
    assert str(check.verdict) == "refuted"
    return check


def decimals(value):
    return len(repr(value).partition(".")[2])


def test_smallest_input_that_shows_it(refutation):
    found = refutation.counterexample
    assert found.sizes == {"m": 1, "n": 2}
    (row,) = found.inputs["z"]
    assert len(row) == 2
    assert all(decimals(value) <= 2 and abs(value) <= 10 for value in row)


def test_entry_and_values_are_what_they_say(refutation):
    found = refutation.counterexample
    z = np.array(found.inputs["z"])
    a = np.exp(z) / np.exp(z).sum()
    assert found.entry in ("∂a[0,0]/∂z[0,1]", "∂a[0,1]/∂z[0,0]")
    q, s = (0, 1) if found.entry == "∂a[0,0]/∂z[0,1]" else (1, 0)
    assert found.claim_value == pytest.approx(-(a[0, s] ** 2), rel=1e-12)
    assert found.oracle_value == pytest.approx(-a[0, q] * a[0, s], rel=1e-7)
    gap = abs(found.claim_value - found.oracle_value)
    assert 0 < found.bound < gap
    assert refutation.worst == pytest.approx(gap / found.bound)


def test_pattern_is_the_off_diagonal_of_a_row(refutation):
    found = refutation.counterexample
    assert found.pattern == "p = r, q ≠ s"
    wrong = {g["pattern"] for g in found.patterns if g["wrong"]}
    right = {g["pattern"] for g in found.patterns if not g["wrong"]}
    assert wrong == {"p = r, q ≠ s"}
    assert right == {"p = r, q = s", "p ≠ r"}  # whatever q and s are


def test_term_is_pointed_at(refutation, spec_file):
    file, _, line = refutation.counterexample.location.rpartition(":")
    assert Path(file).name == spec_file.name
    assert 'einsum("pq,pr,qs->pqrs"' in spec_file.read_text().splitlines()[int(line) - 1]


def test_report_shows_all_of_it(spec_file):
    pytest.importorskip("torch")
    text = str(verify(str(spec_file), oracles=["torch"], profile="quick"))
    for part in (
        "m = 1, n = 2",
        "z (1 × 2) = [[",
        "∂a[0,",
        "torch",
        "p = r, q ≠ s",
        "print(verify(",
    ):
        assert part in text


def test_snippet_shows_the_refutation_again(refutation, spec_file, tmp_path):
    if refutation.oracle in ("jax", "torch"):  # the same code, and frameworks are slow to start
        assert f'oracles=["{refutation.oracle}"]' in refutation.counterexample.snippet
        return
    ran = subprocess.run(
        [sys.executable, "-c", refutation.counterexample.snippet],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "1 refuted" in ran.stdout
    assert refutation.counterexample.entry in ran.stdout
    assert spec_file.name in refutation.counterexample.snippet


# ---------------------------------------------------------------- other ways to be wrong


def row_scaled(expression):
    """y[p,q] = b[q] x[p,q], whose derivative in x is spoilt in some way."""
    return Spec(
        lambda _, x, b: x * b,
        inputs={"x": real("m n"), "b": real("n")},
        output={"y": "m n"},
        jacobian={"x": expression},
        name="row_scaled",
    )


@pytest.mark.parametrize(
    ("expression", "pattern", "sizes"),
    [
        (-einsum("q,pr,qs->pqrs", "b", delta, delta), "p = r, q = s", {"m": 1, "n": 1}),
        (2 * einsum("q,pr,qs->pqrs", "b", delta, delta), "p = r, q = s", {"m": 1, "n": 1}),
        (einsum("q,pr,qs->pqrs", "b", delta, delta) / size("m"), "p = r, q = s", {"m": 2, "n": 1}),
        (einsum("q,pr,s->pqrs", "b", delta, ones), "p = r, q ≠ s", {"m": 1, "n": 2}),
        (einsum("q,qs,p,r->pqrs", "b", delta, ones, ones), "p ≠ r, q = s", {"m": 2, "n": 1}),
        (einsum("q,pr,qs->pqrs", "b**2", delta, delta), "p = r, q = s", {"m": 1, "n": 1}),
    ],
    ids=["sign", "factor", "1/m", "no delta in n", "no delta in m", "power"],
)
def test_kind_of_error_shows_in_sizes_and_pattern(expression, pattern, sizes):
    report = verify(row_scaled(expression), wrt="x", **CHEAP)
    found = report.checks[0].counterexample
    assert (found.pattern, found.sizes) == (pattern, sizes)
    assert all(decimals(v) <= 2 for v in np.ravel(found.inputs["b"]).tolist())
    assert found.claim_value != found.oracle_value


def test_entry_of_a_scalar_and_of_a_scalar_input():
    loss = Spec(
        lambda xp, x, t: t * xp.sum(x),
        inputs={"x": real("n"), "t": real("")},
        output={"L": ""},
        jacobian={"x": einsum("p->p", ones), "t": 2 * einsum("p->", "x")},
    )
    by_input = {c.input: c.counterexample for c in verify(loss, **CHEAP).checks}
    assert by_input["x"].entry == "∂L/∂x[0]"
    assert by_input["t"].entry == "∂L/∂t"
    assert by_input["x"].pattern == by_input["t"].pattern == "every entry"


def test_chain_is_blamed_with_its_own_letters_and_inputs():
    wrong = Spec(
        load("softmax").forward,
        inputs={"z": real("m n")},
        output={"a": "m n"},
        jacobian={"z": einsum("pq,pr,qs->pqrs", "a", delta, delta)},
        name="wrong",
    )
    check = verify(load("weighted_sum") >> wrong, wrt="b", **CHEAP).checks[0]
    assert str(check.verdict) == "refuted"
    assert set(check.counterexample.inputs) == {"x", "w", "b"}
    assert check.counterexample.entry.startswith("∂a[0,")
    assert "∂b[" in check.counterexample.entry


# ---------------------------------------------------------------- patterns by themselves


def test_pairs_join_letters_of_one_axis_across_the_derivative():
    softmax = load("softmax").jacobian["z"]
    assert pairs(softmax) == [(0, 2), (1, 3)]
    by_w = load("weighted_sum").jacobian["w"]  # ∂z[r,s]/∂w[t,u]: s and u lie on o
    assert pairs(by_w) == [(1, 3)]
    assert pattern_at(by_w, (0, 1, 5, 1)) == "s = u"
    assert pairs(load("cross_entropy").jacobian["a"]) == []


def test_group_remembers_its_worst_entry():
    softmax = load("softmax").jacobian["z"]
    shape = (2, 2, 2, 2)
    wrong, ratio = np.zeros(shape, bool), np.zeros(shape)
    claim, oracle = np.zeros(shape), np.ones(shape)
    for place, value in {(0, 0, 0, 1): 5.0, (1, 1, 1, 0): 9.0}.items():
        wrong[place], ratio[place] = True, value
    ratio[0, 0, 0, 0] = 0.5
    found = groups(softmax, [(wrong, ratio, claim, oracle)])
    assert [(g.text, g.wrong, g.place, g.entries) for g in found if g.wrong] == [
        ("p = r, q ≠ s", True, (1, 1, 1, 0), 4)
    ]
    assert {g.text for g in found if not g.wrong} == {"p = r, q = s", "p ≠ r"}
    assert sum(g.entries for g in found) == 16
