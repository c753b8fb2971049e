"""The search: which sizes are tried, that examples repeat, and that counterexamples shrink."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcheck.algebra.conditions import parse_condition
from gradcheck.checking.search import (
    PROFILES,
    collect,
    describe,
    examples,
    find_smallest,
    swarm,
)
from gradcheck.domains import (
    as_domain,
    choice,
    constant,
    integer,
    labels,
    mask,
    number,
    one_hot,
    positive,
    probability,
    real,
)
from gradcheck.drawing import Features, run
from gradcheck.errors import SpecError, UsageError

MN = {"z": real("m n")}


def rungs(search):
    return [rung.as_dict() for rung in search.pool.ladder]


def members(search):
    return [member.as_dict() for member in search.pool.members]


# --------------------------------------------------------------------------------------- sizes


def test_the_pool_of_two_axes_holds_what_it_must():
    found = members(examples(MN, {}))
    assert found[0] == {"m": 1, "n": 1}
    for sizes in ({"m": 1, "n": 2}, {"m": 2, "n": 1}, {"m": 2, "n": 3}, {"m": 3, "n": 3}):
        assert sizes in found
    assert sum(0 in sizes.values() for sizes in found) == 1
    assert 0 in found[-1].values()
    large = [sizes for sizes in found if max(sizes.values()) > 32]
    assert [min(sizes.values()) <= 3 for sizes in large] == [True]
    assert len(found) == 8


def test_the_ladder_is_ordered_from_small_to_large_with_empty_sizes_last():
    ladder = rungs(examples({"x": real("m n"), "w": real("n o")}, {}))
    combinations = [{"m": m, "n": n, "o": o} for m in (1, 2) for n in (1, 2) for o in (1, 2)]
    assert ladder[0] == combinations[0]
    assert all(sizes in ladder for sizes in combinations)
    full = [s for s in ladder if 0 not in s.values()]
    assert ladder[: len(full)] == full
    entries = [s["m"] * s["n"] + s["n"] * s["o"] for s in full]
    assert entries == sorted(entries)


@pytest.mark.parametrize("profile", PROFILES)
def test_no_profile_has_more_shapes_than_it_says(profile):
    for inputs in (MN, {"x": real("... m #n"), "w": real("n o")}, {"s": real("")}):
        search = examples(inputs, {}, profile=profile)
        assert 1 <= len(members(search)) <= PROFILES[profile].shapes
    axes = members(examples({"x": real("m n"), "w": real("n o")}, {}, profile=profile))
    assert any(len(set(sizes.values())) == 3 for sizes in axes)
    assert any(0 in sizes.values() for sizes in axes)
    assert any(33 in sizes.values() for sizes in axes)


def test_leading_axes_come_at_several_ranks_and_broadcasts_as_one_and_as_n():
    inputs = {"x": real("... n"), "b": real("#n")}
    for profile, ranks in (
        ("quick", {0, 1, 2}),
        ("standard", {0, 1, 2}),
        ("thorough", {0, 1, 2, 3}),
    ):
        search = examples(inputs, {}, profile=profile)
        assert {member.rank for member in search.pool.members} == ranks
        pairs = [(sizes["n"], sizes["#n"]) for sizes in members(search) if sizes["n"] > 1]
        assert any(b == 1 for _, b in pairs)
        if profile != "quick":
            assert any(b == n for n, b in pairs)
    for example in collect(search, 60, 0):
        assert example.inputs["x"].ndim == example.rank + 1
        assert example.inputs["b"].shape == (example.sizes["#n"],)
        assert [k for k in example.sizes if k[:3] == "..."] == [
            f"...{i}" for i in range(example.rank)
        ]


def test_sizes_that_cost_too_much_or_break_the_condition_are_left_out():
    search = examples(MN, {}, where="n >= 2 and m <= n", cost=lambda s: s["m"] * s["n"], budget=30)
    assert all(s["n"] >= 2 and s["m"] <= s["n"] and s["m"] * s["n"] <= 30 for s in rungs(search))
    assert rungs(search)[0] == {"m": 1, "n": 2}
    assert any(s["m"] == 0 for s in members(search))


def test_conditions_that_exclude_the_usual_sizes_are_searched_for():
    inputs = {"x": real("n"), "y": real("h")}
    found = members(examples(inputs, {}, where="n == 4 * h"))
    assert {"n": 4, "h": 1} in found
    assert {"n": 8, "h": 2} in found
    assert all(s["n"] == 4 * s["h"] for s in found)


def test_rows_that_cannot_exist_are_left_out():
    search = examples({"y": one_hot("m n"), "i": labels("m", below="n")}, {}, profile="thorough")
    assert all(s["n"] > 0 or s["m"] == 0 for s in rungs(search))
    assert any(s["m"] == 0 for s in rungs(search))


def test_the_seed_chooses_which_axis_is_empty_and_which_is_large():
    def axis(seed, size):
        found = members(examples(MN, {}, seed=seed))
        return {a for sizes in found for a, n in sizes.items() if n == size}

    assert axis(0, 0) != axis(1, 0)
    assert axis(0, 33) != axis(1, 33)


@pytest.mark.parametrize(
    ("where", "kind", "named"),
    [
        ("m > n and n > m", UsageError, "where='m > n and n > m' excludes sizes 0 to 12"),
        ("k > 9", UsageError, "where='k > 9', for the parameter k = integer(1, 9), excludes"),
        ("k - k > 0", UsageError, "where='k - k > 0', for the parameter k"),
        ("k > l", UsageError, "where='k > l' excludes all parameters tried (k integer(1, 9)"),
        ("q > 1", SpecError, "'q' is neither an axis nor a parameter"),
        ("m.x > 1", SpecError, "'m.x' is not allowed"),
    ],
)
def test_what_excludes_everything_is_named(where, kind, named):
    with pytest.raises(kind) as caught:
        collect(examples(MN, {"k": integer(1, 9), "l": integer(9, 10)}, where=where), 10, 0)
    assert named in str(caught.value)


def test_a_budget_that_excludes_everything_is_named():
    with pytest.raises(UsageError, match="the budget of 5 excludes"):
        examples(MN, {}, cost=lambda _: 6, budget=5)
    with pytest.raises(UsageError, match="no profile 'fast'; write one of quick, standard, thor"):
        examples(MN, {}, profile="fast")


# ------------------------------------------------------------------------------------ examples


EVERYTHING = {
    "x": real("m n"),
    "a": probability("m n"),
    "y": one_hot("m n"),
    "i": labels("m", below="n"),
    "keep": mask("m n"),
    "s": positive("", hi=10),
}
PARAMS = {"eps": number(1e-8, 1e-3), "k": integer(1, 4), "mode": choice("mean", "sum")}


def test_the_same_seed_gives_the_same_examples():
    search = examples(EVERYTHING, PARAMS, where="k <= n")
    keys = [[e.key() for e in collect(search, 30, seed)] for seed in (7, 7, 8)]
    assert keys[0] == keys[1]
    assert len(set(keys[0]) & set(keys[2])) < 10
    assert len(keys[0]) == len(set(keys[0])) == 30
    for example in collect(search, 30, 7):
        assert example.params["k"] <= example.sizes["n"]


def test_the_simplest_comes_first():
    first = collect(examples(EVERYTHING, PARAMS), 30, 3)[0]
    assert first.features == Features()
    assert first.sizes == {"m": 1, "n": 1}
    assert first.inputs["x"].tolist() == [[0]]
    assert first.params == {"eps": 1e-3, "k": 1, "mode": "mean"}


def test_every_size_of_the_pool_is_exercised():
    for profile in PROFILES.values():
        search = examples(MN, {}, profile=profile)
        drawn = collect(search, profile.examples, 1)
        assert len(drawn) == profile.examples
        assert {tuple(e.sizes.values()) for e in drawn} == {
            tuple(s.values()) for s in members(search)
        }


def test_examples_are_numbers_of_the_dtype():
    for example in collect(examples(EVERYTHING, {}, dtype="float32"), 30, 0):
        for name, array in example.inputs.items():
            assert array.dtype == (np.int64 if name == "i" else np.float64)
            np.testing.assert_array_equal(array.astype(np.float32).astype(np.float64), array)


def test_only_features_that_make_a_difference_are_drawn():
    kinds = set(swarm({"y": one_hot("n")}, {}))
    assert kinds == {Features()}
    assert any(f.masks for f in swarm({"k": mask("n")}, {}))
    assert not any(f.masks or f.ends for f in swarm(MN, {"mode": choice(1, 2)}))
    assert all(sum(v is True for v in vars(f).values()) <= 2 for f in swarm(EVERYTHING, PARAMS))


def test_what_was_exercised_is_counted():
    counts = describe(collect(examples(EVERYTHING, PARAMS, profile="thorough"), 200, 0))
    expected = ("m = 1", "size 0", "beyond 32", "equal axes", "magnitude 1000", "magnitude edge")
    for what in (*expected, "zeros", "ties", "rows", "repeats", "masks", "ends"):
        assert counts[what] > 0
    leading = describe(collect(examples({"x": real("... n")}, {}), 30, 0))
    assert {"rank 0", "rank 1", "rank 2"} <= leading.keys()


def test_dependent_domains_get_their_sizes_and_parameters():
    def positive_definite(n):
        entries = st.lists(st.integers(-3, 3), min_size=n * n, max_size=n * n)
        square = entries.map(lambda drawn: np.array(drawn, dtype=float).reshape(n, n))
        return square.map(lambda a: a @ a.T + np.eye(n))

    inputs = {
        "S": as_domain(positive_definite, "S"),
        "t": as_domain(lambda n, k: constant(real("m", 0, n * k)), "t", params=PARAMS),
    }
    search = examples(inputs, PARAMS, cost=lambda s: s["n"], budget=10)
    for example in collect(search, 20, 0):
        assert example.inputs["S"].shape == (example.sizes["n"],) * 2
        assert (example.inputs["t"] <= example.sizes["n"] * example.params["k"]).all()


def test_axes_without_a_name_get_the_size_that_was_drawn():
    rows = st.integers(1, 4).map(lambda m: np.full((m, 2), 0.5))
    search = examples(
        {"data": as_domain(rows, "data"), "w": real("n")}, {}, cost=lambda s: s["?data0"]
    )
    for example in collect(search, 20, 0):
        assert example.sizes["?data0"] == example.inputs["data"].shape[0]


@settings(max_examples=3, deadline=None, database=None)
@given(seed=st.integers(0, 100))
def test_it_works_inside_a_test_of_hypothesis(seed):
    search = examples(MN, {})
    assert len(collect(search, 10, seed)) == 10
    assert find_smallest(search, lambda e: e.inputs["z"].size == 2, 10, seed) is not None


@settings(max_examples=10, deadline=None, database=None)
@given(example=examples(MN, {"k": integer(1, 3)}, where="k <= n").strategy)
def test_a_search_is_also_a_strategy(example):
    assert example.inputs["z"].shape == (example.sizes["m"], example.sizes["n"])
    assert example.params["k"] <= example.sizes["n"]


def test_it_works_in_threads():
    search = examples(MN, {})
    alone = [e.key() for e in collect(search, 20, 0)]
    found: dict[int, list[object]] = {}
    threads = [
        threading.Thread(
            target=lambda i=i: found.update({i: [e.key() for e in collect(search, 20, 0)]})
        )
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [alone] * 4


# ----------------------------------------------------------------------------------- shrinking


def softmax_rule_is_wrong(example):
    """-a[p,s] a[p,s] for -a[p,q] a[p,s] beside the diagonal."""
    z = example.inputs["z"]
    if z.size == 0:
        return False
    e = np.exp(z - z.max(-1, keepdims=True))
    a = e / e.sum(-1, keepdims=True)
    right = np.einsum("pq,ps->pqs", a, a)
    wrong = np.einsum("ps,ps,q->pqs", a, a, np.ones(z.shape[1]))
    beside = ~np.eye(z.shape[1], dtype=bool)
    return bool((abs(right - wrong)[:, beside] > 1e-12).any())


@pytest.mark.parametrize("seed", range(5))
def test_a_wrong_softmax_shrinks_to_one_row_of_two_entries(seed, capfd):
    found = find_smallest(examples(MN, {}, seed=seed), softmax_rule_is_wrong, 30, seed)
    assert found.sizes == {"m": 1, "n": 2}
    assert sorted(abs(found.inputs["z"]).ravel().tolist()) == [0, 1]
    assert capfd.readouterr() == ("", "")


def test_shrinking_starts_from_a_known_example_and_from_none():
    search = examples(MN, {})
    known = [e for e in collect(search, 30, 0) if softmax_rule_is_wrong(e)][-1]
    found = find_smallest(search, softmax_rule_is_wrong, 30, 0, known)
    assert found.sizes == {"m": 1, "n": 2}
    assert find_smallest(search, lambda _: False, 30, 0) is None
    # An example that the search never draws comes back as it is.
    rare = next(e for e in collect(search, 30, 1) if e.inputs["z"].size > 20)
    assert find_smallest(search, lambda e: e is rare, 30, 0, rare) is rare


def test_large_arrays_are_simplified_to_the_entry_that_matters():
    def fails(example):
        z = example.inputs["z"]
        return z.shape[1] > 32 and bool((z > 1.3).any())

    found = find_smallest(examples(MN, {}, seed=0), fails, 30, 0)
    assert found.sizes == {"m": 1, "n": 33}
    assert sorted(found.inputs["z"].ravel().tolist()) == [0.0] * 32 + [2.0]


def test_magnitudes_shrink_to_plain_values():
    found = find_smallest(examples(MN, {}), lambda e: bool((e.inputs["z"] > 1.3).any()), 30, 0)
    assert found.inputs["z"].tolist() == [[2]]
    assert found.features == Features()


def test_parameters_shrink_too():
    inputs, params = {"x": real("n")}, {"p": number(-3, 3), "k": integer(1, 9)}
    search = examples(inputs, params)
    found = find_smallest(search, lambda e: e.params["p"] < 0 and e.params["k"] > 4, 30, 0)
    assert found.params == {"p": -1, "k": 5}


def test_an_empty_array_is_the_last_thing_tried():
    found = find_smallest(examples(MN, {}), lambda e: e.inputs["z"].size in (0, 6), 30, 0)
    assert 0 not in found.sizes.values()
    empty = find_smallest(examples(MN, {}), lambda e: e.inputs["z"].size == 0, 30, 0)
    assert 0 in empty.sizes.values()


def test_shrinking_is_bounded_in_time():
    def slow(example):
        time.sleep(0.02)
        return bool(np.sum(example.inputs["z"]) > 2.5)

    search = examples(MN, {})
    known = next(e for e in collect(search, 30, 0) if np.sum(e.inputs["z"]) > 2.5)
    start = time.monotonic()
    found = find_smallest(search, slow, 30, 0, known, seconds=0.5)
    assert time.monotonic() - start < 1.5
    assert np.sum(found.inputs["z"]) > 2.5


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_the_predicate_raises_comes_out(error):
    def raising(example):
        if example.inputs["z"].size > 1:
            raise error
        return False

    search = examples(MN, {})
    known = collect(search, 30, 0)[-1]
    with pytest.raises(error):
        find_smallest(search, raising, 30, 0, known)


def test_hypothesis_own_complaints_are_usage_errors():
    with pytest.raises(UsageError, match="Hypothesis cannot draw from"):
        run(st.sampled_from([]).flatmap(lambda _: st.integers(2, 1)), print, count=3, seed=0)
    with pytest.raises(UsageError, match="Hypothesis cannot draw from"):
        run(st.integers(2, 1), print, count=3, seed=0)


def test_conditions_are_those_of_the_where():
    search = examples(MN, {"k": integer(1, 3)}, where=("k <= n", "m != 4"))
    assert [c.text for c in search.conditions] == ["k <= n", "m != 4"]
    assert parse_condition("k <= n and m != 4")[1].text == "m != 4"
