"""Shape strings, the sizes of axes, and conditions on them."""

from __future__ import annotations

import pytest

from gradcheck.algebra.conditions import parse_condition, rename_condition
from gradcheck.algebra.shapes import (
    at_rank,
    axes_of,
    base_axis,
    concrete_shape,
    infer_sizes,
    is_broadcast,
    is_number,
    parse_shape,
)
from gradcheck.errors import ShapeError, SpecError


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("m n", ("m", "n")),
        ("", ()),
        ("m m", ("m", "m")),
        ("4 n", ("4", "n")),
        ("#n", ("#n",)),
        ("... n", ("...", "n")),
        ("...", ("...",)),
        ("  m   n2 ", ("m", "n2")),
        ("batch größe", ("batch", "größe")),
    ],
)
def test_shapes_parse(text, shape):
    assert parse_shape(text) == shape


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("m,n", "write 'm n'"),
        ("m, n", "write 'm n'"),
        ("(m, n)", "write 'm n'"),
        ("n ...", "write '... n'"),
        ("... ... n", "write '... n'"),
        ("m-1", "axes are names"),
        ("4x", "axes are names"),
        ("# n", "axes are names"),
        ("#4", "axes are names"),
        ("#", "axes are names"),
        (("m", "n"), "write 'm n'"),
        (3, ""),
    ],
)
def test_what_is_no_shape_is_refused_with_a_hint(text, hint):
    with pytest.raises(SpecError) as caught:
        parse_shape(text)
    assert hint in caught.value.hint


def test_parts_of_a_shape():
    shape = parse_shape("... m #n 4 m")
    assert axes_of(shape) == ("m", "n")
    assert [is_number(dim) for dim in shape] == [False, False, False, True, False]
    assert is_broadcast("#n")
    assert base_axis("#n") == base_axis("n") == "n"
    assert at_rank(shape, 0) == ("m", "#n", "4", "m")
    assert at_rank(shape, 2) == ("...0", "...1", "m", "#n", "4", "m")
    assert at_rank(("m",), 2) == ("m",)


def test_concrete_shapes():
    assert concrete_shape(parse_shape("... m 4"), {"m": 2, "...0": 7, "...1": 0}) == (7, 0, 2, 4)
    assert concrete_shape((), {"m": 2}) == ()
    with pytest.raises(ShapeError, match="no size is known for axis 'k' of 'm k'; known: m = 2"):
        concrete_shape(("m", "k"), {"m": 2})


def shapes(**texts):
    return {name: parse_shape(text) for name, text in texts.items()}


@pytest.mark.parametrize(
    ("declared", "actual", "sizes"),
    [
        (shapes(x="m n", w="n o"), {"x": (2, 3), "w": (3, 0)}, {"m": 2, "n": 3, "o": 0}),
        (shapes(x="m n", b="#n"), {"x": (2, 3), "b": (1,)}, {"m": 2, "n": 3, "#n": 1}),
        (shapes(b="#n", x="m n"), {"x": (2, 3), "b": (3,)}, {"m": 2, "n": 3, "#n": 3}),
        (shapes(b="#n"), {"b": (5,)}, {"n": 5, "#n": 5}),
        (shapes(x="... n"), {"x": (4, 5, 6)}, {"...0": 4, "...1": 5, "n": 6}),
        (shapes(x="... n", w="n"), {"x": (6,), "w": (6,)}, {"n": 6}),
        (shapes(x="4", s=""), {"x": (4,), "s": ()}, {}),
    ],
)
def test_sizes_are_inferred(declared, actual, sizes):
    assert infer_sizes(declared, actual) == sizes


@pytest.mark.parametrize(
    ("declared", "actual", "message"),
    [
        (
            shapes(x="m n", w="n o"),
            {"x": (100, 4), "w": (5, 3)},
            "w has shape (5, 3), so n = 5, but x has shape (100, 4), so n = 4; expected w: 'n o'",
        ),
        (
            shapes(x="m n"),
            {"x": (4,)},
            "x has shape (4,), of rank 1; expected x: 'm n', of rank 2",
        ),
        (
            shapes(x="... m n"),
            {"x": (4,)},
            "x has shape (4,), of rank 1; expected x: '... m n', of at least rank 2",
        ),
        (
            shapes(x="m m"),
            {"x": (4, 5)},
            "x has shape (4, 5), so m = 5 and m = 4; expected x: 'm m'",
        ),
        (
            shapes(x="m n", b="#n"),
            {"x": (2, 3), "b": (2,)},
            "b has shape (2,), so n = 2, but x has shape (2, 3), so n = 3; expected b: '#n'",
        ),
        (
            shapes(x="4 n"),
            {"x": (3, 3)},
            "x has shape (3, 3), with 3 where 4 is declared; expected x: '4 n'",
        ),
        (
            shapes(x="... n", y="... n"),
            {"x": (2, 3), "y": (3,)},
            "y has shape (3,), so '...' is 0 axes, but x has shape (2, 3), so '...' is 1 axes",
        ),
        (shapes(x="m", y="m"), {"x": (2,)}, "no array came for y, expected shape 'm'"),
    ],
)
def test_sizes_that_disagree_name_both_inputs(declared, actual, message):
    with pytest.raises(ShapeError) as caught:
        infer_sizes(declared, actual)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "values", "truth"),
    [
        ("l >= k", {"l": 3, "k": 3}, True),
        ("k < n and p != 0", {"k": 1, "n": 2, "p": 0.0}, False),
        ("not (m == n) or m % 2 == 0", {"m": 3, "n": 3}, False),
        ("1 <= k < n - 1", {"k": 1, "n": 3}, True),
        ("n == h * d + -1", {"n": 5, "h": 2, "d": 3}, True),
        ("n // h >= 2", {"n": 5, "h": 0}, False),
        ("mode == 'mean'", {"mode": "mean"}, True),
    ],
)
def test_conditions_hold_or_not(text, values, truth):
    conditions = parse_condition(text, values)
    assert all(condition.holds(values) for condition in conditions) is truth


def test_conditions_are_split_at_and():
    parts = parse_condition("l >= k and p != 0", ["l", "k", "p"])
    assert [(part.text, sorted(part.names)) for part in parts] == [
        ("l >= k", ["k", "l"]),
        ("p != 0", ["p"]),
    ]
    assert parse_condition(None) == parse_condition("  ") == ()


def test_names_in_conditions_can_be_renamed():
    assert rename_condition("l >= k and k != 0", {"k": "l", "l": "q"}) == "q >= l and l != 0"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("l >=", "is not an expression"),
        ("max(l, k) > 1", "'max(l, k)' is not allowed"),
        ("l.real > 1", "'l.real' is not allowed"),
        ("l ** 2 > 1", "'l ** 2' is not allowed"),
        ("l in k", "'l in k' is not allowed"),
        ("l / 2 == k", "'l / 2' is not allowed"),
        ("z > 1", "'z' is neither an axis nor a parameter"),
    ],
)
def test_conditions_that_are_refused(text, named):
    with pytest.raises(SpecError, match="where=") as caught:
        parse_condition(text, ["l", "k"])
    assert named in str(caught.value)
    assert caught.value.hint
