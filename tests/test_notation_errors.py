"""A mistake in a derivation is one readable error: the file, the line, the spec, what to write."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest

import gradcheck
from gradcheck import Spec, delta, einsum, labels, load, ones, real, size
from gradcheck.errors import GradcheckError, SpecError
from gradcheck.library import resolve


def forward(xp, z):
    e = xp.exp(z)
    return e / xp.sum(e, axis=-1, keepdims=True)


def claim(expression, **changes):
    """A spec of a[p,q] with the derivative in z[r,s] that is given."""
    given = {"inputs": {"z": real("m n")}, "output": {"a": "m n"}, "name": "softmax", **changes}
    return Spec(forward, jacobian={"z": expression}, **given)


def message(call, *parts):
    """The error's text, which has one problem and one hint, each on a line."""
    with pytest.raises(SpecError) as caught:
        call()
    text = str(caught.value)
    assert caught.value.hint
    assert len(text.splitlines()) == 2, text
    for part in parts:
        assert part in text, text
    return text


# ---------------------------------------------------------------- the pattern and its operands

PATTERNS = [
    (
        ("pq,pr,qs->pqrt", "a", delta, delta),
        ["output letter 't'", "in no operand", "did you mean 's'?"],
    ),
    (("pq->pqr", "a"), ["output letter 'r'", "carry it by ones"]),
    (("pq->pp", "a"), ["output letter 'p' occurs twice", "join them by a delta"]),
    (("pq,pr->pqr", "a"), ["has 2 groups of letters for 1 operand", "separated by commas"]),
    (("pq->pq", "a", "a"), ["has one group of letters for 2 operands"]),
    (
        ("pq,prs->pqrs", "a", delta),
        ["a delta of 'pq,prs->pqrs' has the letters 'prs'", "exactly two letters"],
    ),
    (("pq,p->pq", "a", delta), ["has the letters 'p'", "exactly two letters"]),
    (("pq", "a"), ["needs one '->'"]),
    (("pq->q->p", "a"), ["needs one '->'"]),
    (("...q->...q", "a"), ["holds '...'", "derivative of one slice"]),
    (("p1->p1", "a"), ["'1' in the pattern", "single letters"]),
    (("p_->p", "a"), ["'_' in the pattern"]),
    ((3, "a"), ["is a pattern, not 3"]),
    (("pq->pq", "a**x"), ["the operand 'a**x' cannot be read", "rational k"]),
    (("pq->pq", "a**1/0"), ["the operand 'a**1/0' cannot be read"]),
    (("pq->pq", "a**(2"), ["the operand 'a**(2' cannot be read"]),
    (("pq->pq", "a**2)"), ["cannot be read"]),
    (("pq->pq", "2*a"), ["the operand '2*a' cannot be read"]),
    (("pq->pq", "exp(log(a))"), ["cannot be read"]),
    (("pq->pq", ""), ["the operand '' cannot be read"]),
    (
        ("pq->pq", "softplus(a)"),
        ["unknown function 'softplus'", "exp, log, sqrt", "residual output"],
    ),
    (("pq->pq", "sigmod(a)"), ["unknown function 'sigmod'", "did you mean 'sigmoid'?"]),
    (("pq->pq", "cos(a)"), ["unknown function 'cos'"]),
    (("pq->pq", "d(a)**2"), ["not linear in the cotangent", "'d(a)' without a power"]),
    (("pq->pq", 3.0), ["3.0 is no operand", "2 * einsum(...)"]),
    (("pq->pq", Fraction(1, 2)), ["is no operand"]),
    (("pq,u->pq", "a", ones), ["'u'", "only ones carry it", "* size('n')"]),
    (
        ("pq,pqr->pqr", "a", einsum("pq->pq", "a")),
        ["is given the letters 'pqr'", "2 output letters"],
    ),
]


@pytest.mark.parametrize(
    ("call", "parts"), PATTERNS, ids=[repr(c[0][0]) + str(i) for i, c in enumerate(PATTERNS)]
)
def test_pattern(call, parts):
    text = message(lambda: einsum(*call), *parts)
    assert re.match(r"(\S*/)?test_notation_errors\.py:\d+: ", text)


# ---------------------------------------------------------------- letters against the spec's shapes

BINDINGS = [
    (einsum("pq,pr,qs->pqrs", "b", delta, delta), ["unknown operand 'b'", "z, a"]),
    (
        einsum("pq,pr,qs->pqrs", "aa", delta, delta),
        ["unknown operand 'aa'", "did you mean 'a'?", "inputs, parameters and outputs: z, a"],
    ),
    (
        einsum("p,pr,qs->pqrs", "a", delta, delta),
        ["'a' is given the letters 'p'", "shape 'm n', so it takes 2 letters"],
    ),
    (einsum("pqs,pr->pqrs", "a", delta), ["given the letters 'pqs'", "2 letters"]),
    (einsum(",pr,qs->pqrs", "a", delta, delta), ["given the letters ''"]),
    (
        einsum("qp,pr,qs->pqrs", "a", delta, delta),
        ["the letter 'q'", "axis 'n'", "axis 'm'", "give it letters of these axes"],
    ),
    (
        einsum("pq,ps,qr->pqrs", "a", delta, delta),
        ["a delta joins 'p', on axis 'm' of a, and 's', on axis 'n' of z"],
    ),
    (
        einsum("pq,pr->pqr", "a", delta),
        [
            "ends in '->pqr'",
            "3 letters where 4 are needed",
            "2 for a (shape 'm n') and then 2 for z",
        ],
    ),
    (einsum("pq,pr,qs,t->pqrst", "a", delta, delta, ones), ["5 letters where 4 are needed"]),
    (
        einsum("pq,pr,qs,uv->pqrs", "a", delta, delta, delta),
        ["'u' and 'v' joins letters that stand nowhere else", "size('n')"],
    ),
    (einsum("pq,pr,qs->pqrs", "a", delta, delta) / size("k"), ["size('k') names no axis", "m, n"]),
]


@pytest.mark.parametrize(
    ("expression", "parts"), BINDINGS, ids=[str(i) for i in range(len(BINDINGS))]
)
def test_letters_against_the_spec(expression, parts):
    text = message(lambda: claim(expression), *parts, "spec 'softmax'")
    assert re.match(r"(\S*/)?test_notation_errors\.py:\d+: spec 'softmax': ", text)


@pytest.mark.parametrize("letters", ["", "pqr"])
def test_labels_take_their_letters_or_one_more(letters):
    def picked(xp, a, t):
        return xp.sum(a[xp.arange(a.shape[0]), t])

    expression = einsum(f"{letters},pq->pq{'r' if 'r' in letters else ''}", "t", ones)
    inputs = {"a": real("m n"), "t": labels("m", below="n")}
    with pytest.raises(SpecError, match=r"takes 1 letter \(or one more|letters where 2 are needed"):
        Spec(picked, inputs=inputs, output={"L": ""}, jacobian={"a": expression})


def test_fixed_sizes_are_axes_of_their_own():
    with pytest.raises(
        SpecError, match=r"axis '4' of a and on axis 'n'|axis 'n' of .* and on axis '4'"
    ):
        Spec(
            lambda xp, z, c: z * c,  # noqa: ARG005
            inputs={"z": real("m n"), "c": real("4")},
            output={"a": "m n"},
            jacobian={"z": einsum("q,pr,qs->pqrs", "c", delta, delta)},
        )


# ---------------------------------------------------------------- sums, factors, sizes

ARITHMETIC = [
    (lambda e: e + 1, "cannot be added", "einsum("),
    (lambda e: e * e, "naming their letters", 'einsum("pq,pq->pq", first, second)'),
    (lambda e: e / e, "cannot be divided by an expression", '"a**-1"'),
    (lambda e: 0.3333 * e, "the rounded number 0.3333", "Fraction(1, 3)"),
    (lambda e: e / 0.1, "the rounded number 0.1", "Fraction(1, 10)"),
    (lambda e: e * "2", "must be a rational number, not '2'", "Fraction(numerator, denominator)"),
    (lambda e: e * True, "must be a rational number, not True", ""),
    (lambda e: e * (size("m") + 1), "multiplied and divided, not added", "residual output"),
    (
        lambda e: e * size("m") ** 0.3,
        "an exponent of a size is the rounded number 0.3",
        "Fraction(3, 10)",
    ),
    (lambda e: e * (2 * size("m")) ** Fraction(1, 2), "is not rational", "raise the size alone"),
    (lambda _: size("m n"), "size('m n') does not name an axis", 'size("m")'),
    (lambda _: size(3), "size(3) does not name an axis", "numbers stand as they are"),
    (
        lambda e: e + einsum("pr->pr", "a"),
        "ends in '->pr' where the term before it ends in '->pq'",
        "'->pq'",
    ),
    (lambda e: e - einsum("pq->qp", "a"), "ends in '->qp' where", "same order"),
    (lambda e: e - einsum("p->p", "b"), "ends in '->p' where", "'->pq'"),
]


@pytest.mark.parametrize(("change", "problem", "hint"), ARITHMETIC, ids=[a[1] for a in ARITHMETIC])
def test_arithmetic(change, problem, hint):
    message(lambda: change(einsum("pq->pq", "a")), problem, hint)


def test_whole_floats_are_exact():
    assert str(2.0 * einsum("pq->pq", "a")) == "2 a[p,q]"


@pytest.mark.parametrize(
    "power", ["a**-1", "a**(-1)", "a ** -1", "a**(1/2)", "a**-1/2", "a**1.5", "a**+2"]
)
def test_powers_that_can_be_read(power):
    text = power.split("**")[1].strip(" ()")
    assert einsum("pq->pq", power).terms[0].factors[0].power == Fraction(text)


# ---------------------------------------------------------------- where the mistake was made

WRONG_FILE = '''
"""A user's file."""

from gradcheck import Spec, delta, einsum, real


def forward(xp, z):
    return xp.exp(z)


exponential = Spec(
    forward,
    inputs={"z": real("m n")},
    output={"a": "m n"},
    jacobian={
        "z": einsum("pq,pr,qs->pqrs", "a", delta, delta)
        + einsum("pq,pr,qs->pqrs", "b", delta, delta),
    },
)
'''


@pytest.mark.parametrize(
    ("right", "wrong", "problem", "line"),
    [
        ('"b"', '"b"', "unknown operand 'b'", 16),
        ('pqrs", "b"', 'pqrt", "b"', "output letter 't'", 16),
        ('"b"', '"cos(a)"', "unknown function 'cos'", 16),
        ('"z": real', '"y": real', "jacobian['z'] names no input", 10),
        ('{"a": "m n"}', '{"z": "m n"}', "'z' is both an input and an output", 10),
        ('{"a": "m n"}', '{"a": "m-n"}', "'m-n' is no axis", 10),
    ],
)
def test_error_names_file_line_and_spec(tmp_path, monkeypatch, right, wrong, problem, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules").mkdir()
    file = tmp_path / "rules" / "exponential.py"
    file.write_text(WRONG_FILE.lstrip("\n").replace(right, wrong, 1), encoding="utf-8")
    with pytest.raises(GradcheckError) as caught:
        resolve([str(file)])
    shown = str(caught.value)
    assert shown.startswith(f"rules/exponential.py:{line}: spec 'exponential': "), shown
    assert problem in shown.splitlines()[0]


def test_folder_that_begins_like_the_package_is_the_users():
    package = Path(gradcheck.__file__).parent
    file = package.with_name(f"{package.name}_rules") / "rules.py"
    with pytest.raises(SpecError) as caught:
        exec(compile(WRONG_FILE, str(file), "exec"), {"__name__": "rules"})
    assert caught.value.location is not None
    assert Path(caught.value.location.file) == file


def test_error_of_a_composed_spec_is_raised_where_it_is_written():
    with pytest.raises(SpecError, match="unknown operand 'q'") as caught:
        Spec(load("softmax") >> load("cross_entropy"), jacobian={"z": einsum("pq->pq", "q")})
    assert "test_notation_errors.py" in str(caught.value.location)
    assert caught.value.hint.endswith("z, a, y, L")
