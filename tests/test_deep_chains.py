"""Chains of a hundred links and more: made, run, verified, and refused where they have too many terms."""

from __future__ import annotations

import pickle
import time

import numpy as np
import pytest

from gradcheck import Spec, delta, derive, einsum, load, real, verify
from gradcheck.chain import Chain
from gradcheck.errors import SpecError, TooManyTerms, UsageError

relu, sigmoid, softmax = load("relu"), load("sigmoid"), load("softmax")
weighted_sum, add = load("weighted_sum"), load("add")


def _sigmoid(xp, z):
    return xp.sigmoid(z)


wrong_sigmoid = Spec(
    _sigmoid,
    inputs={"z": real("m n")},
    output={"a": "m n"},
    jacobian={"z": einsum("pq,pr,qs->pqrs", "a", delta, delta)},
    source="wrong on purpose: a instead of a (1 - a)",
    name="wrong_sigmoid",
)


def repeated(spec, links):
    chain = spec()
    for _ in range(links - 1):
        chain = spec(chain)
    return chain


def network(layers):
    chain = "x"
    for i in range(layers):
        chain = sigmoid(weighted_sum(chain, f"w{i}", f"b{i}"))
    return chain


def residual(blocks):
    chain = "x"
    for i in range(blocks):
        chain = add(chain, relu(weighted_sum(chain, f"w{i}", f"b{i}")))
    return chain


def values(chain, seed=0):
    rng = np.random.default_rng(seed)
    sizes = {"m": 2}
    shape = {n: [sizes.get(a, 3) for a in d.shape] for n, d in chain.inputs.items()}
    return {n: rng.normal(size=s) / 2 for n, s in shape.items()}


def slope(chain, given, name, direction, step=1e-6):
    """The derivative of the result's sum along a direction, by central differences."""
    ends = [
        chain.value(**{**given, name: given[name] + s * direction}).sum() for s in (step, -step)
    ]
    return (ends[0] - ends[1]) / (2 * step)


def seconds(links):
    start = time.process_time()
    repeated(relu, links)
    return time.process_time() - start


def test_making_a_chain_takes_about_linear_time():
    # What is quadratic copies tables of names, microseconds a link; it took 16 times as long, and minutes.
    short, long = (min(seconds(n) for _ in range(5)) for n in (100, 400))
    assert long < 12 * short


def test_a_chain_that_grew_is_the_one_made_at_once():
    grown = residual(5)
    again = Chain(grown.root)
    assert list(grown.inputs) == list(again.inputs)
    assert grown.shapes == again.shapes
    assert [n.names for n in grown.nodes] == [n.names for n in again.nodes]
    assert grown.name == again.name


def test_a_later_variable_with_the_name_of_a_result_renames_the_result():
    inner = relu("z")  # its result is h
    outer = add(inner, "h")
    assert list(outer.inputs) == ["z", "h"]
    assert inner.result == "h"
    assert outer.nodes[0].result == "h_2"


def test_two_chains_may_grow_from_one():
    trunk = repeated(relu, 3)
    first, second = sigmoid(trunk), softmax(trunk)
    assert [n.call.operation.name for n in first.nodes] == ["relu"] * 3 + ["sigmoid"]
    assert [n.call.operation.name for n in second.nodes] == ["relu"] * 3 + ["softmax"]
    assert len(trunk.nodes) == 3


def test_ranks_are_checked_at_once():
    with pytest.raises(SpecError, match="axes"):
        repeated(relu, 50) >> load("cross_entropy") >> relu


def test_long_names_are_short_and_tell_chains_apart():
    one = network(40)
    other = network(20)
    for layer in range(20, 40):
        other = relu(weighted_sum(other, f"w{layer}", f"b{layer}"))
    assert len(one.name) < 200
    assert "[80 calls, " in one.name
    assert one.name != other.name


def test_a_residual_network_has_a_short_name():
    assert len(residual(30).name) < 200


def test_a_deep_chain_is_sent_to_another_process():
    chain = residual(60)
    copy = pickle.loads(pickle.dumps(chain))
    given = values(chain)
    np.testing.assert_array_equal(copy.value(**given), chain.value(**given))


@pytest.mark.parametrize(
    ("chain", "name"),
    [
        (repeated(relu, 200), "z"),
        (network(50), "w0"),
        (residual(30), "w3"),
        (repeated(softmax, 30), "z"),
    ],
    ids=["relu", "network", "residual", "softmax"],
)
def test_vjp_and_jvp_of_deep_chains(chain, name):
    given = values(chain)
    given[name] = np.abs(given[name])
    direction = np.random.default_rng(1).normal(size=given[name].shape)
    pulled = chain.vjp(name)(np.ones(chain.value(**given).shape), **given)[name]
    pushed = chain.jvp(name)(direction, **given)
    expected = slope(chain, given, name, direction)
    assert np.sum(pulled * direction) == pytest.approx(expected, rel=1e-5, abs=1e-8)
    assert pushed.sum() == pytest.approx(np.sum(pulled * direction), rel=1e-9, abs=1e-12)


def test_verify_of_a_hundred_links_agrees():
    report = verify(repeated(relu, 100), oracles=["autograd"], profile="quick")
    assert report.ok, report
    assert report.checks[0].form == "by the chain rule, link by link"


def test_verify_of_a_network_is_proved_link_by_link():
    report = verify(network(50), wrt="w7", oracles=["symbolic"])
    assert [c.verdict for c in report.checks] == ["proved"]
    assert "weighted_sum, sigmoid (each proved)" in report.checks[0].reason


def test_exact_says_why_it_cannot():
    report = verify(repeated(relu, 100), oracles=["exact"])
    (check,) = report.checks
    assert check.verdict == "undecided"
    assert "not supported" in check.reason
    assert "100 links" in check.reason


@pytest.mark.parametrize("oracle", ["autograd", "symbolic"])
def test_the_wrong_link_among_a_hundred_is_named(oracle):
    chain = repeated(sigmoid, 61)
    chain = wrong_sigmoid(chain)
    for _ in range(38):
        chain = sigmoid(chain)
    report = verify(chain, oracles=[oracle], profile="quick")
    (check,) = report.checks
    assert check.verdict == "refuted"
    assert check.diagnosis["link"] == "wrong_sigmoid"
    if oracle == "symbolic":
        assert "link 62 of 100, wrong_sigmoid, is wrong in z" in str(report)


def test_a_wrong_link_of_a_residual_network_is_refuted():
    chain = "x"
    for i in range(8):
        link = wrong_sigmoid if i == 5 else sigmoid
        chain = add(chain, link(weighted_sum(chain, f"w{i}", f"b{i}")))
    report = verify(chain, wrt="x", oracles=["autograd"], profile="quick")
    (check,) = report.checks
    assert check.form == "by the chain rule, link by link"
    assert check.verdict == "refuted"
    assert check.diagnosis["link"] == "wrong_sigmoid"


@pytest.mark.parametrize("chain", [network(50), residual(30)], ids=["network", "residual"])
def test_one_expression_of_too_many_terms_is_refused(chain):
    with pytest.raises(TooManyTerms, match=r"terms before like terms are collected") as caught:
        chain.jacobian["x"]
    assert ".vjp()" in str(caught.value)
    with pytest.raises(TooManyTerms):
        chain.dense("x")


def test_the_number_of_terms_is_named():
    with pytest.raises(TooManyTerms, match=r"has 1,048,576 terms"):
        repeated(softmax, 20).jacobian["z"]


def test_paths_that_meet_again_are_not_printed():
    with pytest.raises(UsageError, match=r"paths lead from .* to 'x'"):
        residual(30).links("x")


def test_like_terms_that_are_collected_are_not_too_many():
    chain = add("x", "x")
    for _ in range(30):
        chain = add(chain, chain)
    (term,) = chain.jacobian["x"].terms
    assert term.coefficient == 2**31


def test_deriving_line_by_line_is_refused_with_what_to_do():
    with pytest.raises(UsageError, match="derive a part"):
        derive(repeated(relu, 100), "z")


def test_hvp_of_a_deep_network():
    chain = load("l2")(repeated(relu, 60))
    given = {"z": np.array([[1.5, -2.0]]), **dict.fromkeys(chain.params, 1.0)}
    found = chain.hvp("z")(np.ones((1, 2)), **given)["z"]
    np.testing.assert_allclose(found, [[found[0, 0], 0.0]])
    assert found[0, 0] != 0
