"""The exact oracle: right derivations are identities, wrong ones are suspect."""

# Forwards take xp, whether they use it or not.
# ruff: noqa: ARG005
from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from exact_cases import both, entropy_with, judged, lanes, outer, softmax_with, spec

from gradcheck import (
    Spec,
    choice,
    delta,
    einsum,
    integer,
    labels,
    load,
    one_hot,
    ones,
    real,
    size,
)
from gradcheck.errors import UnsupportedOperation
from gradcheck.library import resolve
from gradcheck.oracles.exact import exact
from gradcheck.oracles.exact.inputs import cases

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / "specs").glob("*.py"), *(ROOT / "examples" / "specs").glob("*.py")])
TARGETS = [target for file in FILES for target in resolve([str(file)])]
CLAIMS = [(t, c) for t in TARGETS for c in t.operation.claims() if c.form != "missing"]


# ---------------------------------------------------------------- right ones


@pytest.mark.parametrize(
    ("target", "claim"), CLAIMS, ids=lambda x: getattr(x, "label", None) or x.name
)
def test_every_right_derivation_is_an_identity(target, claim):
    found = exact(target.operation, claim)
    assert found.verdict == "identity", found.reason
    assert found.bound is not None
    assert 0 < found.bound < 1e-12
    assert "is exactly as claimed at" in found.statement
    assert len(found.sizes) >= 2 or not found.sizes[0]


@pytest.mark.parametrize("seed", range(5))
def test_the_verdict_does_not_depend_on_the_seed(seed):
    assert judged(load("softmax"), seed=seed).verdict == "identity"


def test_the_statement_names_sizes_samples_parameters_and_the_bound():
    (target,) = [t for t in TARGETS if t.name == "embedding"]
    text = judged(target.operation).statement
    assert "m = 2, n = 3, d = 4" in text
    assert "with samples of t" in text
    assert "passed with probability <" in text
    (target,) = [t for t in TARGETS if t.name == "rms_norm"]
    assert "for every eps" in judged(target.operation, "g").statement


def test_sizes_are_pairwise_distinct_and_edges_follow():
    found = list(cases(load("weighted_sum")))
    main = [c.sizes for c in found if not c.edge]
    assert main == [{"m": 2, "n": 3, "o": 4}, {"m": 3, "n": 4, "o": 2}]
    assert [c.sizes for c in found if c.edge] == [
        {"m": 1, "n": 3, "o": 4},
        {"m": 2, "n": 1, "o": 4},
        {"m": 2, "n": 3, "o": 1},
        {"m": 2, "n": 2, "o": 2},
    ]


def test_leading_axes_and_broadcast_axes_are_tried_both_ways():
    linear = next(t.operation for t in TARGETS if t.name == "linear")
    ranks = [sum(a.startswith("...") for a in c.sizes) for c in cases(linear) if not c.edge]
    assert ranks == [0, 2]
    scaled = spec(
        lambda xp, x, g: x * g,
        {"x": einsum("q,qs->qs", "g", delta), "g": einsum("q,qs->qs", "x", delta)},
        "n",
        x=real("n"),
        g=real("#n"),
    )
    assert {c.sizes["#n"] == 1 for c in cases(scaled)} == {True, False}
    assert judged(scaled, "x").verdict == "identity"
    assert judged(scaled, "g").verdict == "identity"


# ---------------------------------------------------------------- wrong ones


def sum_with(**claims: Any) -> Any:
    return spec(
        load("weighted_sum").forward,
        claims,
        {"z": "m o"},
        x=real("m n"),
        w=real("n o"),
        b=real("o"),
    )


def elementwise(forward: Any, *terms: Any) -> Any:
    claim = sum(
        (c * einsum("pq,pr,qs->pqrs", f, delta, delta) for c, f in terms[1:]),
        terms[0][0] * einsum("pq,pr,qs->pqrs", terms[0][1], delta, delta),
    )
    return spec(forward, {"z": claim}, {"h": "m n"}, z=real("m n"))


WRONG = {
    "softmax: sign": softmax_with(both + outer),
    "softmax: sign of all": softmax_with(outer - both),
    "softmax: diagonal × (1 + 1e-12)": softmax_with((1 + Fraction(1, 10**12)) * both - outer),
    "softmax: right at n = 2 only": softmax_with(
        2 * (both - einsum("pq,pr,qs->pqrs", "a**2", delta, delta))
        - einsum("pq,pr,s->pqrs", "a", delta, ones)
        + einsum("pq,pr,s->pqrs", "a**2", delta, ones)
    ),
    "softmax: seed 3, a[p,s] twice": softmax_with(
        both - einsum("ps,ps,pr,q->pqrs", "a", "a", delta, ones)
    ),
    "softmax: no δ[p,r]": softmax_with(both - einsum("pq,ps,r->pqrs", "a", "a", ones)),
    "softmax: dropped term": softmax_with(both),
    "softmax: letter": softmax_with(both - einsum("pq,rs,pr->pqrs", "a", "a", delta) * 2),
    "softmax: z for a": softmax_with(both - einsum("pq,ps,pr->pqrs", "z", "a", delta)),
    "entropy: no 1/m": entropy_with(-einsum("pq,pq->pq", "y", "a**-1")),
    "entropy: 1/n": entropy_with(-einsum("pq,pq->pq", "y", "a**-1") / size("n")),
    "entropy: m": entropy_with(-einsum("pq,pq->pq", "y", "a**-1") * size("m")),
    "entropy: sign": entropy_with(einsum("pq,pq->pq", "y", "a**-1") / size("m")),
    "entropy: power": entropy_with(-einsum("pq,pq->pq", "y", "a**-2") / size("m")),
    "entropy: soft y²": entropy_with(-einsum("pq,pq->pq", "y**2", "a**-1") / size("m")),
    "sum: sign": sum_with(x=-einsum("us,rt->rstu", "w", delta)),
    "sum: no delta": sum_with(x=einsum("us,r,t->rstu", "w", ones, ones)),
    "sum: mean": sum_with(b=einsum("r,st->rst", ones, delta) / size("m")),
    "sum: factor": sum_with(w=2 * einsum("rt,su->rstu", "x", delta)),
    "sigmoid: power": elementwise(load("sigmoid").forward, (1, "h"), (-1, "h**3")),
    "sigmoid: operand": elementwise(load("sigmoid").forward, (1, "z"), (-1, "h**2")),
    "relu: no step": elementwise(load("relu").forward, (1, "step(z)**0")),
    "relu: sign": elementwise(load("relu").forward, (1, "sign(z)")),
    "l2: the 2": spec(load("l2").forward, {"w": einsum("pq->pq", "w")}, "", w=real("m n")),
    "mean: Σ": spec(lambda xp, x: xp.mean(x), {"x": einsum("p->p", ones)}, "", x=real("n")),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_wrong_derivation_is_suspect(name, seed):
    found = judged(WRONG[name], seed=seed)
    assert found.verdict == "suspect", found.statement
    assert "differs from the claim" in found.reason
    assert len(found.sizes) == 1


def test_a_suspicion_names_entry_and_sizes():
    reason = judged(WRONG["softmax: seed 3, a[p,s] twice"]).reason
    assert "12 of 36 entries, first at p = 0, q = 0, r = 0, s = 1 (m = 2, n = 3)" in reason


def test_a_rule_right_at_two_classes_is_an_identity_there_and_nowhere_else():
    special = WRONG["softmax: right at n = 2 only"]
    found = judged(special, sizes=[{"m": 3, "n": 2}])
    assert found.verdict == "identity"
    assert found.sizes == ({"m": 3, "n": 2},)
    assert judged(special, sizes=[{"m": 3, "n": 4}]).verdict == "suspect"


def test_soft_targets_and_one_hot_targets():
    claim = -einsum("pq,pq->pq", "y**2", "a**-1") / size("m")
    assert judged(entropy_with(claim)).verdict == "suspect"
    found = judged(entropy_with(claim, one_hot("m n")))
    assert found.verdict == "identity"
    assert "with samples of y" in found.statement


# ---------------------------------------------------------------- parameters


def test_every_value_of_a_choice_is_tried():
    def reduced(xp: Any, x: Any, *, how: str, k: int) -> Any:
        return (xp.sum(x) if how == "sum" else xp.mean(x)) * k

    claim = einsum(",r->r", "k", ones)
    only_sum = spec(
        reduced, {"x": claim}, "", x=real("n"),
        params={"how": choice("sum", "mean"), "k": integer(1, 3)},
    )  # fmt: skip
    found = judged(only_sum)
    assert found.verdict == "suspect"
    assert "how = mean" in found.reason
    fixed = spec(
        reduced, {"x": claim}, "", x=real("n"), params={"how": choice("sum"), "k": integer(1, 3)}
    )
    assert "for how = sum; k = 1, 2, 3" in judged(fixed).statement


def test_conditions_choose_the_sizes():
    wide = Spec(
        lambda xp, x, y: xp.sum(x) + xp.sum(y),
        inputs={"x": real("l"), "y": real("k")},
        jacobian={"x": einsum("r->r", ones)},
        where="l >= 2 * k",
        output="",
        name="wide",
    )
    found = judged(wide)
    assert found.verdict == "identity"
    assert all(s["l"] >= 2 * s["k"] for s in found.sizes)


def test_labels_below_a_number():
    table = spec(
        lambda xp, t, w: xp.take(w, t, axis=0), {"w": einsum("pr->pr", "t")},
        {"e": "m"}, t=labels("m", below=4), w=real("4"),
    )  # fmt: skip
    assert judged(table, "w").verdict == "identity"


# ---------------------------------------------------------------- the limits, said in words


def refused(forward: Any) -> str:
    claim = einsum("pr->pr", delta)
    found = judged(spec(forward, {"x": claim}, {"f": "m"}, x=real("m")))
    assert found.verdict == "undecided", found
    return str(found.reason)


def test_what_has_no_exact_meaning_is_undecided_and_says_what_to_write():
    assert "write xp.where(condition, x, y)" in refused(lambda xp, x: x if x[0] > 0 else -x)
    assert "write the formula with xp functions" in refused(lambda xp, x: x * math.sin(x[0]))
    assert "test_exact.py" in refused(lambda xp, x: x * float(x[0]))
    assert "is not in the documented list" in refused(lambda xp, x: xp.gamma(x))
    assert "no number of a field" in refused(lambda xp, x: xp.where(x > 0, x, -xp.inf))
    assert "as an index" in refused(lambda xp, x: xp.take(x, x, axis=0))


def test_errors_of_a_namespace_are_of_the_family():
    with pytest.raises(UnsupportedOperation):
        lanes().gamma(1)
