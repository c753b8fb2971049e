"""The bundled specs and the gallery: every right derivation agrees, every spoilt one is refuted."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gradcheck import Spec, delta, einsum, load, ones, size, verify
from gradcheck.library import resolve
from gradcheck.operation import Claim

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck import Report

pytest.importorskip("jax")

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / "specs").glob("*.py"), *(ROOT / "examples" / "specs").glob("*.py")])
TARGETS = [target for file in FILES for target in resolve([str(file)])]
THE_TWENTY = {
    "layer_norm", "rms_norm", "batch_norm", "gelu", "silu", "swiglu", "log_softmax", "logsumexp",
    "attention", "attention_graph", "embedding", "mean_squared_error", "binary_cross_entropy",
    "kl_divergence", "cosine_similarity", "row_max", "dropout", "inverse", "linear",
    "self_attention", "perceptron", "tied_perceptron",
}  # fmt: skip


def check(operation: Any) -> Report:
    return verify(operation, oracles=["jax"], dtypes=["float64"], profile="quick")


# ---------------------------------------------------------------- right ones


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_right_derivation_agrees(target):
    report = check(target.operation)
    assert report.ok, str(report)
    assert {str(c.verdict) for c in report.checks} == {"agrees"}, str(report)
    assert all(c.examples > 0 for c in report.checks)


def test_gallery_holds_the_twenty():
    assert {target.name for target in TARGETS} >= THE_TWENTY


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_file_holds_its_derivation(file):
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")), clean=False) or ""
    derivation = [line for line in text.splitlines() if line.startswith("    ")]
    assert derivation, f"{file} shows no step of its derivation"


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_spec_names_its_source(target):
    if isinstance(target.operation, Spec):
        assert target.operation.source


# ---------------------------------------------------------------- wrong ones


@dataclass(frozen=True)
class Wrong:
    """A spec with one thing spoilt: the derivative of one input, or the forward's residuals."""

    name: str
    input: str
    why: str
    claim: Any = None
    forward: Callable[..., Any] | None = None
    only: bool = True  # whether no other input's derivative becomes wrong with it

    def __str__(self) -> str:
        return f"{self.name}-{self.input}: {self.why}"


def right(name: str) -> Any:
    (found,) = (target.operation for target in TARGETS if target.name == name)
    return found


def outputs(operation: Any) -> dict[str, Any]:
    """Name and shape, or domain, of each output, as a spec takes them."""
    shapes = {name: " ".join(shape) for name, shape in operation.outputs.items()}
    return {**shapes, **operation.relations}


def spoilt(wrong: Wrong) -> Any:
    original = right(wrong.name)
    claims = dict(original.jacobian)
    if wrong.claim is not None:
        assert wrong.input in claims
        claims[wrong.input] = wrong.claim
    return Spec(
        wrong.forward or original.forward,
        inputs=original.inputs,
        output=outputs(original),
        params=original.params,
        jacobian=claims,
        name="spoilt",
    )


def both(name: str) -> Any:
    """An elementwise derivative of two axes."""
    return einsum("pq,pr,qs->pqrs", name, delta, delta)


def rms_with_eps_outside(xp, x, g, *, eps):
    mean = xp.mean(x * x, axis=-1)
    return g * x / xp.sqrt(mean + eps)[:, None], 1 / (xp.sqrt(mean) + eps)


def rms_without_eps(xp, x, g, *, eps):
    mean = xp.mean(x * x, axis=-1)
    return g * x / xp.sqrt(mean + eps)[:, None], 1 / xp.sqrt(mean)


def layer_norm_unbiased(xp, x, g, b, *, eps):
    centred = x - xp.mean(x, axis=-1, keepdims=True)
    total = xp.sum(centred * centred, axis=-1)
    normal = centred / xp.sqrt(total / x.shape[1] + eps)[:, None]
    return g * normal + b, normal, 1 / xp.sqrt(total / (x.shape[1] - 0.5) + eps)


def gelu_with_the_tanh_cdf(xp, z):
    cdf = (1 + xp.erf(z / xp.sqrt(2))) / 2
    near = (1 + xp.tanh(xp.sqrt(2 / xp.pi) * (z + 0.044715 * z * z * z))) / 2
    return z * cdf, near, xp.exp(-z * z / 2) / xp.sqrt(2 * xp.pi)


def smallest_selected(xp, z):
    low = xp.equal(z, xp.min(z, axis=-1, keepdims=True))
    selector = xp.where(low, xp.ones_like(z), xp.zeros_like(z))
    return xp.max(z, axis=-1), selector / xp.sum(selector, axis=-1, keepdims=True)


diagonal = einsum("pq,pr,qs->pqrs", "a", delta, delta)
scale = size("d") ** Fraction(-1, 2)
through_softmax = einsum("pj,ju->puj", "a", "v") - einsum("pj,pu->puj", "a", "h")
ln_diagonal = einsum("q,p,pr,qs->pqrs", "g", "r", delta, delta)
ln_mean = einsum("q,p,pr,s->pqrs", "g", "r", delta, ones)
ln_normal = einsum("q,p,pq,ps,pr->pqrs", "g", "r", "normal", "normal", delta)
bn_diagonal = einsum("q,q,pr,qs->pqrs", "g", "r", delta, delta)
bn_mean = einsum("q,q,p,r,qs->pqrs", "g", "r", ones, ones, delta)
bn_normal = einsum("q,q,pq,rq,qs->pqrs", "g", "r", "normal", "normal", delta)
rms_diagonal = einsum("q,p,pr,qs->pqrs", "g", "r", delta, delta)

WRONG = [
    Wrong(
        "softmax", "z", "letter: a[p,s]² for a[p,q] a[p,s], as (targets - preds) * preds has it",
        diagonal - einsum("ps,ps,pr,q->pqrs", "a", "a", delta, ones),
    ),
    Wrong(
        "softmax", "z", "delta: rows are mixed",
        diagonal - einsum("pq,ps,r->pqrs", "a", "a", ones),
    ),
    Wrong("softmax", "z", "sign", diagonal + einsum("pq,ps,pr->pqrs", "a", "a", delta)),
    Wrong("softmax", "z", "term: the diagonal alone", diagonal),
    Wrong("softmax", "z", "term: a (1 - a) on the diagonal alone", diagonal - both("a**2")),
    Wrong(
        "softmax", "z", "special: a (1 - a) (2 δ[q,s] - 1), right at two classes only",
        2 * (diagonal - both("a**2"))
        - einsum("pq,pr,s->pqrs", "a", delta, ones)
        + einsum("pq,pr,s->pqrs", "a**2", delta, ones),
    ),
    Wrong("cross_entropy", "a", "size: no mean", -einsum("pq,pq->pq", "y", "a**-1")),
    Wrong(
        "cross_entropy", "a", "size: mean over the classes",
        -einsum("pq,pq->pq", "y", "a**-1") / size("n"),
    ),
    Wrong("cross_entropy", "a", "sign", einsum("pq,pq->pq", "y", "a**-1") / size("m")),
    Wrong(
        "cross_entropy", "a", "special: y², right for one-hot targets only",
        -einsum("pq,pq->pq", "y**2", "a**-1") / size("m"),
    ),
    Wrong("weighted_sum", "x", "sign", -einsum("us,rt->rstu", "w", delta)),
    Wrong("weighted_sum", "x", "delta: rows mixed", einsum("us,r,t->rstu", "w", ones, ones)),
    Wrong("weighted_sum", "w", "delta: outputs mixed", einsum("rt,s,u->rstu", "x", ones, ones)),
    Wrong("weighted_sum", "b", "size: a mean", einsum("r,st->rst", ones, delta) / size("m")),
    Wrong("sigmoid", "z", "operand: z (1 - z) for s (1 - s)", both("z") - both("z**2")),
    Wrong(
        "sigmoid", "z", "operand: the derivative at the output instead of the input",
        both("sigmoid(s)") - both("sigmoid(s)**2"),
    ),
    Wrong("sigmoid", "z", "power: s - s³", both("s") - both("s**3")),
    Wrong("relu", "z", "function: sign for step", both("sign(z)")),
    Wrong("relu", "z", "operand: no step", einsum("pr,qs->pqrs", delta, delta)),
    Wrong("relu", "z", "operand: the value for its slope", both("h")),
    Wrong("add", "b", "sign: a difference", -einsum("pr,qt->pqrt", delta, delta)),
    Wrong("l2", "w", "factor: the 2 is lost", einsum("pq->pq", "w")),
    Wrong(
        "layer_norm", "x", "term: the mean held constant",
        ln_diagonal - ln_normal / size("n"),
    ),
    Wrong(
        "layer_norm", "x", "term: the variance held constant",
        ln_diagonal - ln_mean / size("n"),
    ),
    Wrong(
        "layer_norm", "x", "size: Σ for the mean in the last term",
        ln_diagonal - ln_mean / size("n") - ln_normal,
    ),
    Wrong(
        "layer_norm", "x", "letter: the gain of the input's entry",
        einsum("s,p,pr,qs->pqrs", "g", "r", delta, delta)
        - einsum("s,p,pr,q->pqrs", "g", "r", delta, ones) / size("n")
        - einsum("s,p,pq,ps,pr->pqrs", "g", "r", "normal", "normal", delta) / size("n"),
    ),
    Wrong("layer_norm", "g", "operand: x not normalised", einsum("pq,qr->pqr", "x", delta)),
    Wrong("layer_norm", "x", "residual: another divisor", forward=layer_norm_unbiased),
    Wrong(
        "rms_norm", "x", "power: r² for r³",
        rms_diagonal - einsum("q,pq,ps,p,pr->pqrs", "g", "x", "x", "r**2", delta) / size("n"),
    ),
    Wrong(
        "rms_norm", "x", "operand: the gain is lost in the last term",
        rms_diagonal - einsum("pq,ps,p,pr->pqrs", "x", "x", "r**3", delta) / size("n"),
    ),
    Wrong(
        "rms_norm", "x", "residual: ε outside the root",
        forward=rms_with_eps_outside, only=False,
    ),
    Wrong("rms_norm", "x", "residual: ε left out", forward=rms_without_eps, only=False),
    Wrong(
        "batch_norm", "x", "size: n for m",
        bn_diagonal - bn_mean / size("n") - bn_normal / size("n"),
    ),
    Wrong("batch_norm", "x", "term: statistics held constant, as in evaluation", bn_diagonal),
    Wrong("batch_norm", "b", "size: a mean", einsum("p,qr->pqr", ones, delta) / size("m")),
    Wrong("gelu", "z", "term: z φ is lost", both("cdf")),
    Wrong(
        "gelu", "z", "residual: tanh's approximation",
        forward=gelu_with_the_tanh_cdf, only=False,
    ),
    Wrong(
        "silu", "z", "operand: σ at the output",
        both("sigmoid(h)") + both("h")
        - einsum("pq,pq,pr,qs->pqrs", "h", "sigmoid(z)", delta, delta),
    ),
    Wrong("silu", "z", "term: the product rule's first half", both("sigmoid(z)")),
    Wrong(
        "swiglu", "w", "term: the gate's slope is taken for σ",
        einsum("pq,pq,pt,qs->pqts", "c", "sigmoid(u)", "x", delta),
    ),
    Wrong(
        "swiglu", "v", "operand: c for the gate u",
        einsum("pq,pq,pt,qs->pqts", "c", "sigmoid(u)", "x", delta),
    ),
    Wrong(
        "log_softmax", "z", "letter: exp l[p,q] for exp l[p,s]",
        einsum("pr,qs->pqrs", delta, delta) - einsum("pq,s,pr->pqrs", "exp(l)", ones, delta),
    ),
    Wrong("logsumexp", "z", "delta: rows mixed", einsum("ps,r->prs", "a", ones)),
    Wrong("logsumexp", "z", "operand: one exp too many", einsum("ps,pr->prs", "exp(a)", delta)),
    Wrong(
        "attention", "q", "size: the scale is lost",
        einsum("puj,jc,pr->purc", through_softmax, "k", delta),
    ),
    Wrong(
        "attention", "k", "power: 1/d for 1/√d",
        einsum("puj,pc->pujc", through_softmax, "q") / size("d"),
    ),
    Wrong(
        "attention", "q", "term: the softmax's normalisation held constant",
        einsum("pj,ju,jc,pr->purc", "a", "v", "k", delta) * scale,
    ),
    Wrong("attention", "v", "operand: a²", einsum("pj,ut->pujt", "a**2", delta)),
    Wrong(
        "embedding", "w", "size: a mean over the labels",
        einsum("pr,qs->pqrs", "t", delta) / size("m"),
    ),
    Wrong("embedding", "w", "letter: every row is read", einsum("p,r,qs->pqrs", ones, ones, delta)),
    Wrong(
        "mean_squared_error", "a", "factor: the 2 is lost",
        (einsum("pq->pq", "a") - einsum("pq->pq", "y")) / size("m") / size("n"),
    ),
    Wrong(
        "mean_squared_error", "a", "size: divided by the samples only",
        2 * (einsum("pq->pq", "a") - einsum("pq->pq", "y")) / size("m"),
    ),
    Wrong(
        "binary_cross_entropy", "z", "sign: target minus prediction",
        (einsum("p->p", "y") - einsum("p->p", "sigmoid(z)")) / size("m"),
    ),
    Wrong(
        "binary_cross_entropy", "z", "function: z for σ(z)",
        (einsum("p->p", "z") - einsum("p->p", "y")) / size("m"),
    ),
    Wrong(
        "kl_divergence", "y", "term: the 1 is lost",
        (einsum("pq->pq", "log(y)") - einsum("pq->pq", "log(a)")) / size("m"),
    ),
    Wrong(
        "cosine_similarity", "x", "letter: the norms are exchanged",
        einsum("ps,p,p,pr->prs", "y", "u", "v", delta)
        - einsum("p,p,ps,pr->prs", "c", "v**2", "x", delta),
    ),
    Wrong(
        "cosine_similarity", "y", "power: u for u²",
        einsum("ps,p,p,pr->prs", "x", "u", "v", delta)
        - einsum("p,p,ps,pr->prs", "c", "v", "y", delta),
    ),
    Wrong("row_max", "z", "residual: selects the smallest entry", forward=smallest_selected),
    Wrong(
        "row_max", "z", "operand: the mean's derivative",
        einsum("pr,s->prs", delta, ones) / size("n"),
    ),
    Wrong("dropout", "x", "factor: 1/keep is lost", both("k")),
    Wrong(
        "dropout", "x", "power: keep for 1/keep",
        einsum("pq,,pr,qs->pqrs", "k", "keep", delta, delta),
    ),
    Wrong("inverse", "a", "sign", einsum("pr,sq->pqrs", "b", "b")),
    Wrong("inverse", "a", "axes: the gradient's transpose", -einsum("ps,rq->pqrs", "b", "b")),
    Wrong("inverse", "a", "axes: b transposed", -einsum("rp,qs->pqrs", "b", "b")),
    Wrong("linear", "x", "sign", -einsum("us->su", "w")),
    Wrong("linear", "w", "operand: x squared", einsum("t,su->stu", "x**2", delta)),
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_spoilt_derivation_is_refuted(wrong):
    report = check(spoilt(wrong))
    assert report.exit_code == 1, str(report)
    refuted = {c.input: c for c in report.checks if c.verdict == "refuted"}
    assert wrong.input in refuted, str(report)
    assert refuted[wrong.input].counterexample is not None
    if wrong.only:
        assert set(refuted) == {wrong.input}, str(report)


RESIDUALS = [
    (target.operation, claim)
    for target in TARGETS
    if isinstance(target.operation, Spec)
    for claim in target.operation.claims()
    if claim.output != target.operation.result
]


def test_the_residuals_of_the_gallery_have_claims():
    assert {(operation.name, claim.output) for operation, claim in RESIDUALS} == {
        ("layer_norm", "normal"), ("layer_norm", "r"), ("batch_norm", "normal"), ("batch_norm", "r"),
        ("rms_norm", "r"), ("gelu", "cdf"), ("gelu", "pdf"), ("swiglu", "u"), ("swiglu", "c"),
        ("logsumexp", "a"), ("attention", "a"), ("cosine_similarity", "u"), ("cosine_similarity", "v"),
        ("row_max", "g"),
    }  # fmt: skip


def spoilt_claim(operation: Spec, claim: Claim) -> Any:
    """The negative of a derivative, or ones in place of zeros."""
    derived = operation.derivative(claim.output, claim.input)
    if any(term.coefficient for term in derived.terms):
        return -derived
    return einsum(
        f"{','.join(derived.output)}->{''.join(derived.output)}", *[ones] * len(derived.output)
    )


@pytest.mark.parametrize(
    ("operation", "claim"),
    RESIDUALS,
    ids=lambda thing: thing.label.replace(", ", "-") if isinstance(thing, Claim) else thing.name,
)
def test_claims_about_residuals_are_exact_and_refuted_once_spoilt(operation, claim):
    """The right one in exact arithmetic; with another sign, or 1 for 0, it is refuted."""
    report = verify(operation, oracles=("symbolic", "exact"), wrt=[claim.label], profile="quick")
    found = {c.oracle: str(c.verdict) for c in report.checks if c.input == claim.label}
    assert found == {"symbolic": "proved", "exact": "identity"}, str(report)
    wrong = Spec(
        operation.forward,
        inputs=operation.inputs,
        output=outputs(operation),
        params=operation.params,
        jacobian={(claim.output, claim.input): spoilt_claim(operation, claim)},
        name="spoilt",
    )
    report = verify(wrong, oracles="exact", wrt=[claim.label], profile="quick")
    (spoilt_check,) = [c for c in report.checks if c.input == claim.label]
    assert spoilt_check.verdict == "refuted", str(report)
    assert spoilt_check.counterexample is not None


CLOSED_FORMS = {
    "size": einsum("pq->pq", "a") - einsum("pq->pq", "y"),
    "sign": (einsum("pq->pq", "y") - einsum("pq->pq", "a")) / size("m"),
    "operand": (einsum("pq->pq", "z") - einsum("pq->pq", "y")) / size("m"),
    "term": einsum("pq->pq", "a") / size("m"),
    "axis": (einsum("pq->pq", "a") - einsum("pq->pq", "y")) / size("n"),
}


@pytest.mark.parametrize("claim", CLOSED_FORMS.values(), ids=CLOSED_FORMS)
def test_wrong_closed_form_of_a_chain_is_refuted(claim):
    closed = Spec(load("softmax") >> load("cross_entropy"), jacobian={"z": claim}, name="closed")
    assert check(closed).exit_code == 1


BACKWARD_PASSES = {
    "the sum is lost": einsum("pq,pq->pq", "a", "d(a)") - einsum("pq,pq->pq", "a**2", "d(a)"),
    "the sum is over the wrong axis": einsum("pq,pq->pq", "a", "d(a)")
    - einsum("pq,sq,sq->pq", "a", "a", "d(a)"),
    "the diagonal alone": einsum("pq,pq->pq", "a", "d(a)"),
    "transposed": einsum("pq,pq->pq", "a", "d(a)") - einsum("ps,pq,ps->pq", "a", "a**2", "d(a)"),
}


@pytest.mark.parametrize("claim", BACKWARD_PASSES.values(), ids=BACKWARD_PASSES)
def test_wrong_backward_pass_is_refuted(claim):
    original = right("softmax_vjp")
    backward = Spec(
        original.forward,
        inputs=original.inputs,
        output=outputs(original),
        vjp={"z": claim},
        name="backward",
    )
    assert check(backward).exit_code == 1


def test_one_wrong_link_refutes_a_chain():
    link = spoilt(WRONG[0])
    report = check(load("weighted_sum") >> link >> load("cross_entropy"))
    refuted = {c.input for c in report.checks if c.verdict == "refuted"}
    assert refuted == {"x", "w", "b"}, str(report)


def test_one_wrong_path_refutes_a_graph():
    """The penalty's gradient is half of the right one; the biases' are not touched by it."""
    penalty = spoilt(next(wrong for wrong in WRONG if wrong.name == "l2"))
    hidden = load("relu")(load("weighted_sum")("x", "w", "b1"))
    logits = load("weighted_sum")(hidden, load("transpose")("w"), "b2")
    loss = load("cross_entropy")(load("softmax")(logits), "y") + penalty("w")
    refuted = {c.input for c in check(loss).checks if c.verdict == "refuted"}
    assert refuted == {"w"}
