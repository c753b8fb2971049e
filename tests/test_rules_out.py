"""Verified rules out: `as_torch`, `as_jax`, `as_autograd` (TensorFlow's: test_tensorflow_layers.py)."""

# ruff: noqa: ARG005 - signatures are given
from __future__ import annotations

import functools

import numpy as np
import pytest

from gradcheck import (
    Spec,
    as_autograd,
    as_jax,
    as_torch,
    backends,
    choice,
    delta,
    einsum,
    integer,
    load,
    number,
    one_hot,
    real,
    verify_layer,
)
from gradcheck.errors import ShapeError, UsageError
from gradcheck.library import bundled, resolve

RNG = np.random.default_rng(0)
MAKERS = {"torch": as_torch, "jax": as_jax, "autograd": as_autograd}
SPECS = "examples/specs"
BUNDLED = [t.name for t in bundled()]

# A residual, labels, a mask and a parameter, a scalar broadcast, a graph with a shared variable.
# Loading torch's forward mode, torch warns of itself.
FORWARD_MODE = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
GALLERY = ["rms_norm", "batch_norm", "embedding", "dropout", "gelu", "perceptron"]


@pytest.fixture(autouse=True)
def _wide():
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        yield


def operation(name):
    return load(name) if name in BUNDLED else resolve([f"{SPECS}/{name}.py::{name}"])[0].operation


def example(op):
    """Values inside the domains, at sizes that are all different; and where derivatives are."""
    sizes = {a: 2 + i for i, a in enumerate(op.axes)}
    sizes |= {f"#{a}": n for a, n in sizes.items()} | {"...0": 2}
    params = {n: p.simplest() for n, p in op.params.items()}
    values = []
    for domain in op.inputs.values():
        value = np.array(domain.simplest(sizes, params))
        if domain.kind == "probability":
            value = np.exp(RNG.random(value.shape))
            value /= value.sum(-1, keepdims=True)
        elif domain.differentiable:
            value = value + RNG.random(value.shape)
        values.append(value)
    return values, params, [i for i, n in enumerate(op.inputs) if n in op.differentiable]


def softmax_forward(xp, z):
    e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def wrong_softmax():
    return Spec(
        softmax_forward,
        inputs={"z": real("m n")},
        output={"a": "m n"},
        jacobian={"z": einsum("pq,pr,qs->pqrs", "a", delta, delta)},
        name="wrong_softmax",
    )


# ---------------------------------------------------------------- verified by verify_layer


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("framework", MAKERS)
def test_every_bundled_spec_is_right_as_a_rule(framework, name):
    oracle = "autograd" if framework == "torch" else "torch"
    rule = MAKERS[framework](name)
    report = verify_layer(rule, of=name, oracles=[oracle], profile="quick")
    assert report.ok, str(report)
    assert {c.input for c in report.checks} == set(rule.operation.differentiable)


@pytest.mark.parametrize("name", GALLERY)
@pytest.mark.parametrize("framework", MAKERS)
def test_the_gallery_is_right_as_rules(framework, name):
    op, oracle = operation(name), "autograd" if framework == "torch" else "torch"
    report = verify_layer(MAKERS[framework](op), of=op, oracles=[oracle], profile="quick")
    assert report.ok, str(report)


@pytest.mark.parametrize("framework", MAKERS)
def test_a_wrong_derivation_is_a_wrong_rule(framework):
    rule = MAKERS[framework](wrong_softmax())
    report = verify_layer(rule, of="softmax", oracles=["differences"], profile="quick")
    assert [c.verdict for c in report.checks] == ["refuted"]
    assert "wrong_softmax_by_hand" in str(report)


LOW = {"torch": "bfloat16", "jax": "bfloat16", "autograd": "float16"}


@pytest.mark.parametrize("framework", MAKERS)
def test_low_precision(framework):
    oracle = "torch" if framework == "jax" else "jax"
    dtypes = ["float32", LOW[framework]]
    rule = MAKERS[framework]("softmax")
    report = verify_layer(rule, of="softmax", oracles=[oracle], dtypes=dtypes, profile="quick")
    assert report.ok, str(report)


# ---------------------------------------------------------------- torch


@FORWARD_MODE
@pytest.mark.parametrize("name", [*BUNDLED, *GALLERY])
def test_torch_differentiates_once_twice_forwards_and_in_batches(name):
    torch = pytest.importorskip("torch")
    op = operation(name)
    values, params, wrt = example(op)
    rule = as_torch(op)
    tensors = [torch.tensor(v, requires_grad=i in wrt) for i, v in enumerate(values)]
    function = functools.partial(rule, **params)
    assert torch.autograd.gradcheck(function, tensors)
    assert torch.autograd.gradgradcheck(function, tensors)
    assert torch.autograd.gradcheck(
        function, tensors, check_forward_ad=True, check_backward_ad=False, check_batched_grad=False
    )
    expected = torch.autograd.grad(function(*tensors).square().sum(), [tensors[i] for i in wrt])
    batch = [torch.stack([t.detach()] * 3) for t in tensors]
    pull = torch.func.grad(lambda *t: function(*t).square().sum(), argnums=tuple(wrt))
    for got, want in zip(torch.func.vmap(pull)(*batch), expected, strict=True):
        torch.testing.assert_close(got[1], want)


@FORWARD_MODE
def test_forward_over_reverse_sees_the_residuals_move():
    """Tangents through a backward pass that was run without create_graph."""
    torch = pytest.importorskip("torch")
    from torch.autograd import forward_ad

    op = operation("rms_norm")
    (x, g), params, _ = example(op)
    x, g, v = (torch.tensor(a) for a in (x, g, RNG.standard_normal(x.shape)))

    def moved(function):
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x.clone().requires_grad_(), v)
            (found,) = torch.autograd.grad(function(dual, g, **params).square().sum(), dual)
            return forward_ad.unpack_dual(found).tangent

    own = moved(lambda x, g, eps: g * x * (x.square().mean(-1, keepdim=True) + eps).rsqrt())
    torch.testing.assert_close(moved(as_torch(op)), own)


def test_a_training_step_is_that_of_the_frameworks_own_layers():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    loss_by_hand = as_torch("softmax_cross_entropy")
    x = torch.randn(8, 4)
    y = torch.nn.functional.one_hot(torch.randint(3, (8,)), 3).to(x.dtype)
    losses = {}
    for kind in ("by hand", "torch"):
        torch.manual_seed(1)
        model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        losses[kind] = []
        for _ in range(20):
            z = model(x)
            loss = (
                loss_by_hand(z, y) if kind == "by hand" else torch.nn.functional.cross_entropy(z, y)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[kind].append(loss.item())
    assert losses["by hand"][-1] < 0.5 * losses["by hand"][0]
    np.testing.assert_allclose(losses["by hand"], losses["torch"], rtol=1e-4)


def test_only_gradients_that_are_asked_for_are_computed(monkeypatch):
    torch = pytest.importorskip("torch")
    rule, asked = as_torch("weighted_sum"), []
    backward = rule._rule.backward

    def noting(ops, forwarded, cotangent, names):
        asked.append(names)
        return backward(ops, forwarded, cotangent, names)

    monkeypatch.setattr(rule._rule, "backward", noting)
    x, w, b = torch.ones(2, 3), torch.ones(3, 4, requires_grad=True), torch.ones(4)
    rule(x, w, b=b).sum().backward()
    assert asked == [("w",)]
    assert w.grad.shape == (3, 4)


def test_the_forward_runs_once_in_training():
    torch = pytest.importorskip("torch")
    runs = []

    def forward(xp, x):
        runs.append(1)
        r = xp.sqrt(xp.sum(x * x, axis=-1))
        return r, r * r

    spec = Spec(
        forward,
        inputs={"x": real("m n")},
        output={"r": "m", "s": "m"},
        jacobian={"x": einsum("p,p,ps,pr->prs", "s", "r**-3", "x", delta)},
        name="norm",
    )
    x = torch.tensor(RNG.random((3, 2)), requires_grad=True)
    before = len(runs)
    as_torch(spec)(x).sum().backward()
    assert len(runs) - before == 1
    torch.testing.assert_close(x.grad, x.detach() / x.detach().norm(dim=-1, keepdim=True))


def test_mixed_dtypes_are_torchs_to_promote():
    torch = pytest.importorskip("torch")
    x = torch.ones(2, 3, dtype=torch.float32, requires_grad=True)
    w = torch.ones(3, 4, dtype=torch.float64, requires_grad=True)
    out = as_torch("weighted_sum")(x, w, torch.zeros(4))
    out.sum().backward()
    assert (out.dtype, x.grad.dtype, w.grad.dtype) == (torch.float64, torch.float32, torch.float64)


def test_a_transpose_is_no_view_of_its_input():
    torch = pytest.importorskip("torch")
    x = torch.ones(2, 3)
    as_torch("transpose")(x).add_(1)
    assert bool((x == 1).all())


# ---------------------------------------------------------------- every framework


def gradient(framework, rule, *values, **params):
    """The gradient of the sum of sin(rule) in the first input, as the framework takes it."""
    if framework == "torch":
        torch = pytest.importorskip("torch")
        first, *rest = map(torch.tensor, values)
        torch.sin(rule(first.requires_grad_(), *rest, **params)).sum().backward()
        return first.grad
    autograd, jax = pytest.importorskip("autograd"), pytest.importorskip("jax")
    import autograd.numpy as anp

    xp, grad = (jax.numpy, jax.grad) if framework == "jax" else (anp, autograd.grad)
    return grad(lambda *arrays: xp.sum(xp.sin(rule(*arrays, **params))))(*values)


@pytest.mark.parametrize("framework", MAKERS)
def test_the_backward_pass_is_a_program(framework, monkeypatch):
    """Never the expressions term by term, at whatever shape; the program of a shape is made once."""
    op = load("softmax")
    rule, z = MAKERS[framework](op), RNG.random((2, 3))
    monkeypatch.setattr(type(op), "pull", lambda *_: pytest.fail("term by term"))
    a = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    v = np.cos(a)
    for _ in range(2):
        found = gradient(framework, rule, z)
        np.testing.assert_allclose(found, a * (v - (v * a).sum(-1, keepdims=True)), rtol=1e-12)
    assert len(rule._rule._programs) == 1
    gradient(framework, rule, RNG.random((4, 3)))
    assert len(rule._rule._programs) == 2


@pytest.mark.parametrize("framework", MAKERS)
def test_programs_know_counts_words_and_numbers(framework):
    def forward(xp, x, *, k, kind, rate):  # noqa: ARG001 - only operators
        s = -x if kind == "falling" else 1 * x
        return k * rate * s * x, s

    spec = Spec(
        forward,
        inputs={"x": real("n")},
        output={"h": "n", "s": "n"},
        params={"k": integer(1, 4), "kind": choice("rising", "falling"), "rate": number(0.5, 2.0)},
        jacobian={"x": 2 * einsum(",,p,pq->pq", "k", "rate", "s", delta)},
        name="parabola",
    )
    rule, x = MAKERS[framework](spec), np.array([1.5, -0.5])
    for k, kind, rate in ((2, "rising", 0.5), (3, "rising", 0.5), (3, "falling", 2.0)):
        found = gradient(framework, rule, x, k=k, kind=kind, rate=rate)
        factor = k * rate * (1 if kind == "rising" else -1)
        np.testing.assert_allclose(found, np.cos(factor * x * x) * 2 * factor * x, rtol=1e-12)


@pytest.mark.parametrize("framework", MAKERS)
def test_a_cotangent_of_another_shape_is_refused(framework):
    rule = MAKERS[framework]("softmax")._rule
    backend = backends.get("numpy")
    z = np.ones((2, 3))
    _, forwarded = rule.forward(backend, [z], {})
    with pytest.raises(ShapeError, match=r"cotangent has shape \(3,\), but a has shape \(2, 3\)"):
        rule.backward(backend, forwarded, np.ones(3), ("z",))


# ---------------------------------------------------------------- JAX and autograd


@pytest.mark.parametrize("name", [*BUNDLED, *GALLERY])
@pytest.mark.parametrize("framework", ["jax", "autograd"])
def test_first_and_second_derivatives_are_torchs(framework, name):
    torch, autograd, jax = (pytest.importorskip(n) for n in ("torch", "autograd", "jax"))
    import autograd.numpy as anp

    op = operation(name)
    values, params, wrt = example(op)
    tensors = [torch.tensor(v, requires_grad=i in wrt) for i, v in enumerate(values)]
    leaves = [tensors[i] for i in wrt]
    loss = torch.sin(as_torch(op)(*tensors, **params)).sum()
    first = torch.autograd.grad(loss, leaves, create_graph=True)
    square = sum(g.square().sum() for g in first)
    second = torch.autograd.grad(square, leaves, materialize_grads=True)

    rule = MAKERS[framework](op)
    xp, grad = (jax.numpy, jax.grad) if framework == "jax" else (anp, autograd.grad)

    def scalar(*arrays):
        return xp.sum(xp.sin(rule(*arrays, **params)))

    def squared(*arrays):
        return sum(xp.sum(grad(scalar, i)(*arrays) ** 2) for i in wrt)

    for i, one, two in zip(wrt, first, second, strict=True):
        np.testing.assert_allclose(grad(scalar, i)(*values), one.detach(), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(grad(squared, i)(*values), two, rtol=1e-10, atol=1e-12)


def test_jax_compiles_and_batches():
    jax = pytest.importorskip("jax")
    op = operation("rms_norm")
    (x, g), params, _ = example(op)
    rule = as_jax(op)
    pull = jax.grad(lambda x, g: jax.numpy.sum(rule(x, g, **params) ** 2), argnums=(0, 1))
    one = pull(x, g)
    batched = jax.vmap(pull)(np.stack([x] * 3), np.stack([g] * 3))
    for got, compiled, want in zip(batched, jax.jit(pull)(x, g), one, strict=True):
        np.testing.assert_allclose(got[2], want, rtol=1e-13)
        np.testing.assert_allclose(compiled, want, rtol=1e-13)


def counted(forward, runs):
    """The forward, noting each run."""

    def noting(*args, **params):
        runs.append(1)
        return forward(*args, **params)

    return noting


def test_jax_traces_once_for_all_values_of_a_number():
    """A rate that changes from step to step is no new compilation."""
    jax = pytest.importorskip("jax")
    runs = []
    spec = Spec(
        counted(lambda xp, x, *, rate: xp.exp(rate * x), runs),
        inputs={"x": real("n")},
        output={"h": "n"},
        params={"rate": number(0.5, 2.0)},
        jacobian={"x": einsum("p,,pq->pq", "h", "rate", delta)},
        name="growth",
    )
    rule, x = as_jax(spec), np.array([0.5, 1.0])
    before = len(runs)
    slopes = [
        jax.grad(lambda x, rate=rate: rule(x, rate=rate).sum())(x) for rate in (0.5, 0.75, 1.25)
    ]
    assert len(runs) - before == 2  # the forward alone, and the one before a backward pass
    for rate, slope in zip((0.5, 0.75, 1.25), slopes, strict=True):
        np.testing.assert_allclose(slope, rate * np.exp(rate * x), rtol=1e-14)


def test_a_forward_that_looks_at_values_runs_uncompiled_in_jax():
    jax = pytest.importorskip("jax")

    def forward(xp, x):
        return x * x if float(xp.sum(x)) > 0 else -x * x

    spec = Spec(
        forward,
        inputs={"x": real("n")},
        output={"h": "n"},
        jacobian={"x": 2 * einsum("p,p,pq->pq", "h", "x**-1", delta)},
        name="signed_square",
    )
    rule = as_jax(spec)
    for x in (np.array([1.0, 2.0]), np.array([-1.0, -2.0])):
        slope = jax.grad(lambda x: rule(x).sum())(x)
        np.testing.assert_allclose(slope, np.sign(x) * 2 * x, rtol=1e-14)


def test_jax_keeps_the_dtype_of_its_inputs():
    jax = pytest.importorskip("jax")
    op = operation("rms_norm")
    (x, g), params, _ = example(op)
    given = [jax.numpy.asarray(a, "float32") for a in (x, g)]
    rule = as_jax(op)
    slopes = jax.grad(lambda *a: rule(*a, **params).sum(), argnums=(0, 1))(*given)
    assert [str(a.dtype) for a in (rule(*given, **params), *slopes)] == ["float32"] * 3


def test_autograd_computes_a_first_gradient_in_numpy_alone():
    """Only a second differentiation needs operations that autograd follows."""
    autograd = pytest.importorskip("autograd")
    rule, z = as_autograd("softmax"), RNG.random((2, 3))

    def total(z):
        return (rule(z) ** 2).sum()

    autograd.grad(total)(z)
    assert {key[1] for key in rule._rule._programs} == {"numpy"}
    autograd.grad(lambda z: (autograd.grad(total)(z) ** 2).sum())(z)
    assert {key[1] for key in rule._rule._programs} == {"numpy", "autograd"}


# ---------------------------------------------------------------- what cannot be


def test_a_missing_derivative_is_named_when_the_rule_is_made():
    spec = Spec(
        lambda xp, x, y: x * y,
        inputs={"x": real("n"), "y": real("n")},
        output={"h": "n"},
        jacobian={"x": einsum("p,pq->pq", "y", delta)},
        name="product",
    )
    for make in MAKERS.values():
        with pytest.raises(
            UsageError, match=r"product has no derivative with respect to y: .*derive it"
        ):
            make(spec)


def test_nothing_to_differentiate():
    spec = Spec(
        lambda xp, y: 2 * y, inputs={"y": one_hot("m n")}, output={"h": "m n"}, name="constant"
    )
    with pytest.raises(UsageError, match="nothing to differentiate"):
        as_torch(spec)


@pytest.mark.parametrize("make", MAKERS.values())
def test_calls_that_do_not_fit(make):
    rule = make("weighted_sum")
    x, w, b = np.ones((2, 3)), np.ones((3, 4)), np.ones(4)
    with pytest.raises(UsageError, match="takes 3 inputs"):
        rule(x, w, b, b)
    with pytest.raises(UsageError, match="missing b"):
        rule(x, w)
    with pytest.raises(UsageError, match="'x' twice"):
        rule(x, w, b, x=x)
    with pytest.raises(ShapeError, match="so n = 2, but x has shape"):
        rule(x, w[:2], b)
    with pytest.raises(UsageError, match=r"input 'x' .* an array of int64 came"):
        rule(np.ones((2, 3), np.int64), w, b)
    with pytest.raises(UsageError, match="expected a spec, a chain or the name of one"):
        make(3)


def test_an_array_for_a_parameter_would_lose_its_gradient():
    torch = pytest.importorskip("torch")
    op = operation("dropout")
    x = torch.ones(2, 3)
    with pytest.raises(
        UsageError, match=r"parameter 'keep' of dropout is an array .*a Python number"
    ):
        as_torch(op)(x, x, keep=torch.tensor(0.5))


def test_one_rule_shows_its_derivation():
    rule = as_torch("softmax")
    assert repr(rule) == "<torch rule of softmax>"
    assert "∂a[p,q]/∂z[r,s]" in rule.__doc__
    assert rule.function.__name__ == "softmax_by_hand"
