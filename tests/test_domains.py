"""Domains: arrays lie inside them, static shapes of strategies and functions, teaching errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcheck import domains, parameters
from gradcheck.domains import (
    as_domain,
    choice,
    constant,
    integer,
    integers,
    labels,
    mask,
    number,
    one_hot,
    positive,
    probability,
    real,
)
from gradcheck.drawing import Features, generate
from gradcheck.errors import ShapeError, SpecError, UsageError
from gradcheck.palettes import MAGNITUDES, largest, round_to

FEATURES = st.builds(
    Features,
    magnitude=st.sampled_from(MAGNITUDES),
    zeros=st.booleans(),
    ties=st.booleans(),
    rows=st.booleans(),
    repeats=st.booleans(),
    masks=st.booleans(),
    ends=st.booleans(),
)
DTYPES = st.sampled_from(["float64", "float32", "float16", "bfloat16"])
# Few entries, none, and so many that they come from a seed.
SIZES = st.fixed_dictionaries({"m": st.sampled_from([0, 1, 3, 9]), "n": st.integers(1, 7)})

INSIDE = {
    "real": (real("m n"), lambda _: True),
    "unit interval": (real("m n", 0, 1), lambda a: ((a >= 0) & (a <= 1)).all()),
    "narrow": (real("m n", -0.1, 0.1), lambda a: (abs(a) <= 0.1).all()),
    "far": (real("m n", 100, 200), lambda a: ((a >= 100) & (a <= 200)).all()),
    "above": (real("m n", lo=5), lambda a: (a >= 5).all()),
    "below": (real("m n", hi=-0.3), lambda a: (a <= -0.3).all()),
    "positive": (positive("m n"), lambda a: (a > 0).all()),
    "positive to 3": (positive("m n", hi=3), lambda a: ((a > 0) & (a <= 3)).all()),
    "scalar": (real(""), lambda a: a.shape == ()),
    "probability": (probability("m n"), lambda a: (a > 0).all()),
    "one_hot": (
        one_hot("m n"),
        lambda a: set(np.unique(a)) <= {0.0, 1.0} and (a.sum(-1) == 1).all(),
    ),
    "labels": (labels("m", below="n"), lambda a: (a >= 0).all()),
    "integers": (integers("m n", -3, 4), lambda a: ((a >= -3) & (a <= 4)).all()),
    "mask": (mask("m n"), lambda a: set(np.unique(a)) <= {0.0, 1.0}),
}


@pytest.mark.parametrize("name", INSIDE)
@settings(max_examples=40, deadline=None, database=None)
@given(data=st.data(), sizes=SIZES, dtype=DTYPES, features=FEATURES)
def test_arrays_lie_inside_their_domain(name, data, sizes, dtype, features):
    domain, inside = INSIDE[name]
    array = data.draw(domain.strategy(sizes, {}, dtype, features))
    assert array.shape == tuple(sizes[axis] for axis in domain.shape)
    assert array.dtype == (np.int64 if domain.kind in ("labels", "integers") else np.float64)
    assert inside(array)
    assert np.isfinite(array).all()
    if array.dtype == np.float64:
        np.testing.assert_array_equal(round_to(array, dtype), array)


@settings(max_examples=40, deadline=None, database=None)
@given(data=st.data(), sizes=SIZES, dtype=DTYPES, features=FEATURES)
def test_rows_of_probabilities_sum_to_one_up_to_rounding(data, sizes, dtype, features):
    array = data.draw(probability("m n").strategy(sizes, {}, dtype, features))
    unit = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
    assert (abs(array.sum(axis=-1) - 1) <= unit[dtype] * sizes["n"]).all()


@settings(max_examples=40, deadline=None, database=None)
@given(data=st.data(), sizes=SIZES, features=FEATURES)
def test_labels_stay_below_the_number_of_classes(data, sizes, features):
    for below, bound in (("n", sizes["n"]), ("k", 4), (3, 3)):
        array = data.draw(labels("m", below=below).strategy(sizes, {"k": 4}, "float64", features))
        assert (array < bound).all()


def draw(domain, features=None, *, count=30, seed=1, dtype="float64", params=None, **sizes):
    return generate(domain.strategy(sizes, params or {}, dtype, features), count, seed)


def test_values_are_short_decimals_and_the_simplest_come_first():
    arrays = draw(real("m n"), m=3, n=4)
    assert (arrays[0] == 0).all()
    for value in np.concatenate([a.ravel() for a in arrays]):
        assert len(f"{abs(value):g}") <= 4
    assert real("m").simplest({"m": 2}).tolist() == [0, 0]
    assert positive("m").simplest({"m": 2}).tolist() == [1, 1]
    assert mask("m").simplest({"m": 2}).tolist() == [1, 1]
    assert probability("n").simplest({"n": 2}).tolist() == [0.5, 0.5]
    assert real("m", 100, 200).simplest({"m": 1}).tolist() == [100]


@pytest.mark.parametrize("n", [5, 50])
def test_features_do_what_they_say(n):
    plain = np.concatenate(draw(real("m n"), m=4, n=n)[1:])
    zeros = np.concatenate(draw(real("m n"), Features(zeros=True), m=4, n=n)[1:])
    assert (plain == 0).mean() < 0.1 < (zeros == 0).mean() < 0.6
    for array in draw(real("m n"), Features(ties=True), m=4, n=n):
        assert len(np.unique(array)) <= 3
    for array in draw(real("m n"), Features(rows=True), m=4, n=n):
        assert len(np.unique(array, axis=0)) <= 2
    for array in draw(labels("m", below=1000), Features(repeats=True), m=n):
        assert len(np.unique(array)) <= 3
    counts = [a.sum(-1) for a in draw(mask("m n"), Features(masks=True), m=4, n=n)]
    assert any(len(set(row)) >= 3 and 0 in row and n in row for row in counts)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_magnitudes_reach_their_sizes(dtype):
    def top(magnitude):
        arrays = draw(real("m n"), Features(magnitude=magnitude), m=6, n=6, dtype=dtype)
        return max(abs(a).max() for a in arrays)

    assert 1 <= top("unit") <= 3
    assert [top("30"), top("100")] == [pytest.approx(30, abs=3), pytest.approx(100, abs=10)]
    assert top("tiny") <= 1
    edge = {"float64": 709, "float32": 88, "float16": 11}[dtype]
    assert edge < top("edge") <= edge + 1
    assert edge <= np.log(largest(dtype)) < edge + 1
    tiny = np.concatenate(draw(positive("m"), Features(magnitude="tiny"), m=30))
    assert tiny.min() < 1e-14


def test_generation_is_deterministic_in_the_seed():
    same = [draw(real("m n"), seed=s, m=2, n=3) for s in (1, 1, 2)]
    for one, two in zip(same[0], same[1], strict=True):
        np.testing.assert_array_equal(one, two)
    assert any((one != two).any() for one, two in zip(same[0], same[2], strict=True))


@pytest.mark.parametrize(
    ("make", "problem", "hint"),
    [
        (lambda: real("m n", 1, 0), "lo > hi", "lo=0, hi=1"),
        (lambda: real("m,n"), "is no axis", "write 'm n'"),
        (lambda: real("m", "0"), "is no number", "numbers or None"),
        (lambda: real("m", -float("inf")), "is no bound", "write None"),
        (lambda: positive("m", -1, 2), "starts at 0", "write real('m', -1, 2)"),
        (lambda: positive("m", hi=0), "holds nothing", "above 0"),
        (lambda: probability(""), "no last axis", 'write probability("m n")'),
        (lambda: one_hot("..."), "no last axis", 'write one_hot("m n")'),
        (lambda: labels("m"), "how many classes", 'below="n"'),
        (lambda: labels("m", below=0), "no number of classes", "from 1 on"),
        (lambda: labels("m", below="n o"), "no number of classes", "from 1 on"),
        (lambda: integers("m", 0, 1.5), "1.5 is no integer", "whole numbers"),
        (lambda: integers("m", 4, 1), "lo > hi", "write 1, 4"),
        (lambda: number(1, 0), "lo > hi", "number(0, 1)"),
        (lambda: number(0, float("inf")), "no end of a range", "finite"),
        (lambda: number("a", 0), "'a' is no number", "number(1e-8, 1e-3)"),
        (lambda: integer(1.0, 2), "1.0 is no integer", "whole numbers"),
        (choice, "no values", 'choice("mean", "sum")'),
        (lambda: choice(["mean", "sum"]), "one value", "choice('mean', 'sum')"),
        (lambda: as_domain("m n", "x"), "is the shape", 'write real("m n")'),
        (lambda: as_domain(3, "x"), "input 'x' is 3", 'write real("m n")'),
        (lambda: parameters.as_parameter(1e-5, "eps"), "parameter 'eps'", "number(1e-05, 1e-05)"),
        (lambda: parameters.as_parameter("mean", "mode"), "'mode'", "choice('mean', ...)"),
        (lambda: parameters.as_parameter((0, 1), "p"), "'p'", "write number(0, 1)"),
        (lambda: parameters.as_parameter(real("m"), "p"), "'p'", "an array is an input"),
    ],
)
def test_errors_teach(make, problem, hint):
    with pytest.raises(SpecError) as caught:
        make()
    assert problem in caught.value.problem
    assert hint in caught.value.hint


def test_what_is_differentiable():
    for domain in (real("m"), positive("m"), probability("m")):
        assert domain.differentiable
        assert not constant(domain).differentiable
    for domain in (one_hot("m"), labels("m", below=3), integers("m", 0, 1), mask("m")):
        assert not domain.differentiable


def test_domains_say_what_they_are():
    assert real("m n", 0, 1).describe() == 'real("m n", lo=0, hi=1)'
    assert constant(positive("n")).describe() == 'constant(positive("n"))'
    assert labels("m", below="n").describe() == 'labels("m", below="n")'
    assert number(1e-8, 1e-3).describe() == "number(1e-08, 0.001)"
    assert choice("mean", "sum").describe() == "choice('mean', 'sum')"


def test_axes_can_be_renamed_and_dots_replaced():
    domain = labels("... m #n", below="n").renamed({"n": "k", "m": "n"})
    assert domain.shape == ("...", "n", "#k")
    assert domain.below == "k"
    assert domain.at_rank(2).shape == ("...0", "...1", "n", "#k")


def test_which_sizes_have_arrays():
    assert not one_hot("m n").admits({"m": 2, "n": 0})
    assert one_hot("m n").admits({"m": 0, "n": 0})
    assert not labels("m", below="n").admits({"m": 2, "n": 0})
    assert real("m n").admits({"m": 2, "n": 0})
    with pytest.raises(UsageError, match="has no array where m = 2, n = 0"):
        probability("m n").simplest({"m": 2, "n": 0})


# --------------------------------------------------------------- strategies and functions


def positive_definite(n):
    entries = st.lists(st.integers(-3, 3), min_size=n * n, max_size=n * n)

    def product(drawn):
        a = np.array(drawn, dtype=float).reshape(n, n)
        return a @ a.T + np.eye(n)

    return entries.map(product)


def test_a_function_of_sizes_stands_for_a_domain():
    domain = as_domain(lambda n: positive_definite(n=n), "S", axes=["n"])
    assert (domain.kind, domain.shape, domain.differentiable) == ("dependent", ("n", "n"), True)
    for array in draw(domain, n=3):
        assert array.shape == (3, 3)
        assert (np.linalg.eigvalsh(array) > 0.99).all()
    renamed = domain.renamed({"n": "k"})
    assert renamed.shape == ("k", "k")
    assert draw(renamed, k=2)[0].tolist() == [[1, 0], [0, 1]]


def test_the_function_may_bring_an_axis_of_its_own():
    assert as_domain(positive_definite, "S", axes=["m"]).shape == ("n", "n")
    assert as_domain(positive_definite, "S").shape == ("n", "n")


def test_a_size_that_no_one_knows_is_refused():
    with pytest.raises(
        SpecError, match="takes 'q', which is neither an axis nor a param"
    ) as caught:
        as_domain(lambda q: real("m n", hi=q), "x", axes=["m", "n"], params={"k": integer(1, 4)})
    assert caught.value.hint == "known are m, n, k"


def test_a_function_may_return_a_domain_and_take_parameters():
    params = {"k": integer(1, 9)}
    domain = as_domain(lambda n, k: integers("m", 0, n * k), "i", axes=["m", "n"], params=params)
    assert (domain.kind, domain.shape, domain.hi) == ("integers", ("m",), None)
    arrays = draw(domain, Features(), m=30, n=2, params={"k": 3})
    assert max(a.max() for a in arrays) == 6
    named = as_domain(lambda n: labels("m", below=n), "y", axes=["m", "n"])
    assert named.below == "n"
    again = named.renamed({"n": "k", "m": "n"})
    assert max(a.max() for a in draw(again, n=30, k=4)) == 3
    numbered = as_domain(lambda n: real(f"m {n}"), "x", axes=["m", "n"])
    assert numbered.shape == ("m", "n")


def test_dimensions_that_are_no_axis_are_anonymous_or_numbers():
    def padded(n, k):
        return st.just(np.zeros((n, k, n + 1, 4)))

    assert as_domain(padded, "x").shape == ("n", "k", "?x2", "4")
    rows = st.integers(1, 5).map(lambda m: np.zeros((m, 3)))
    domain = as_domain(rows, "data", axes=[])
    assert (domain.kind, domain.shape) == ("strategy", ("?data0", "3"))
    assert draw(domain, **{"?data0": 9})[0].shape == (1, 3)


def test_strategies_of_integers_are_constant_and_floats_are_rounded():
    permutations = as_domain(lambda n: st.permutations(range(n)), "p", axes=["n"])
    assert permutations.shape == ("n",)
    assert not permutations.differentiable
    assert draw(permutations, n=3)[0].tolist() == [0, 1, 2]
    tenths = as_domain(st.just(np.array([0.1])), "x")
    assert draw(tenths, dtype="float32")[0].tolist() == [float(np.float32(0.1))]
    assert not as_domain(constant(lambda n: positive_definite(n=n)), "S").differentiable


def test_a_draw_of_another_shape_is_refused():
    lying = as_domain(lambda n: st.just(np.zeros(min(n, 5))), "x", axes=["n"])
    with pytest.raises(ShapeError, match=r"shape \(5,\) was drawn where 'n' is expected \(n = 9\)"):
        draw(lying, n=9)


def test_a_function_that_fails_is_named():
    def broken(n):
        return real("n") if n < 0 else 1 / 0

    with pytest.raises(SpecError, match="the function of input 'x' raised ZeroDivisionError at n"):
        as_domain(broken, "x")
    with pytest.raises(SpecError, match="returns 2"):
        as_domain(lambda n: n, "x")
    with pytest.raises(SpecError, match="arrays of ranks 1 and 2"):
        as_domain(st.integers(1, 2).map(lambda k: np.zeros((1,) * k)), "x")


# --------------------------------------------------------------------------------- parameters


def test_parameters_are_drawn_between_their_ends():
    eps = number(1e-8, 1e-3)
    found = eps.palette()
    assert (min(found), max(found)) == (1e-8, 1e-3)
    assert sum(v < 1e-5 for v in found) > len(found) / 3
    assert set(eps.palette(Features(ends=True))) == {1e-8, 1e-3}
    assert number(-1, 1).simplest() == 0
    assert integer(2, 5).palette() == (2, 3, 4, 5)
    assert max(integer(0, 10**6).palette()) == 10**6
    assert choice("mean", "sum").simplest() == "mean"
    assert domains.Parameter is parameters.Parameter
