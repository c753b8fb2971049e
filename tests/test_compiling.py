"""Programs made of derivatives: what they compute, what they leave out, and what they never write into."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcheck import (
    Spec,
    backends,
    choice,
    delta,
    einsum,
    labels,
    load,
    number,
    ones,
    real,
    running,
    size,
)
from gradcheck.errors import ShapeError, UsageError
from gradcheck.evaluation import evaluate

GALLERY = Path(__file__).parent.parent / "examples" / "specs"

jax = pytest.importorskip("jax")
torch = pytest.importorskip("torch")
jnp = jax.numpy

RNG = np.random.default_rng(11)
FRAMEWORKS = ("numpy", "torch", "jax")
weighted_sum, softmax, cross_entropy = map(load, ("weighted_sum", "softmax", "cross_entropy"))
sigmoid, relu, transpose, l2 = map(load, ("sigmoid", "relu", "transpose", "l2"))
classifier = weighted_sum >> softmax >> cross_entropy
VALUES = {
    "x": RNG.normal(size=(6, 4)),
    "w": RNG.normal(size=(4, 3)),
    "b": RNG.normal(size=3),
    "y": np.eye(3)[[0, 2, 1, 1, 0, 2]],
}


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


def on(framework, values):
    make = {"numpy": np.array, "torch": lambda v: torch.from_numpy(np.array(v)), "jax": jnp.asarray}
    return {n: make[framework](v) if hasattr(v, "shape") else v for n, v in values.items()}


def statements(source):
    """The lines that compute: neither head, comment, test of the arguments nor return."""
    lines = [line.strip() for line in source.splitlines()[1:]]
    return [x for x in lines if x and not x.startswith(("#", "if ", "raise", "return"))]


# ---------------------------------------------------------------- what the source says


def test_the_gradient_of_the_classifier_is_what_one_writes_by_hand():
    gradient = classifier.gradient("w", "b")
    gradient(**VALUES)
    assert statements(gradient.source) == [
        "t1 = np.dot(x, w)",
        "t1 += b",
        "z = t1",
        "t2 = np.maximum.reduce(z, axis=1, keepdims=True)",
        "z -= t2",
        "t3 = np.exp(z, out=z)",
        "t4 = np.add.reduce(t3, axis=1, keepdims=True)",
        "t3 /= t4",
        "a = t3",
        "a -= y",
        "a /= 6",
        "d_z = a",
        "d_w = np.dot(x.T, d_z)",
        "d_b = np.add.reduce(d_z, axis=0)",
    ]
    assert "return {'w': d_w, 'b': d_b}" in gradient.source
    assert "# numpy, float64, m = 6, n = 4, o = 3" in gradient.source


def test_source_before_any_call_is_that_of_small_sizes():
    source = classifier.gradient("w").source
    assert source.startswith(
        "def gradient(*, x, w, b, y):\n    # numpy, float64, m = 7, n = 5, o = 3"
    )


def test_only_links_that_are_needed_are_run():
    value = classifier.value_and_gradient("w")
    value(**VALUES)
    assert "np.log" in value.source
    gradient = classifier.gradient("x", "w", "b")
    gradient(**VALUES)
    assert "np.log" not in gradient.source
    assert gradient.source.count("a -= y") == gradient.source.count("np.exp(") == 1
    linear = weighted_sum.vjp("x")
    found = linear(np.ones((6, 3)), x=VALUES["x"], w=VALUES["w"], b=VALUES["b"])["x"]
    assert (
        statements(linear.source) == ["d_x = np.dot(d_z, w.T)"]
        or "np.dot(d_z, w.T)" in linear.source
    )
    assert "x, w)" not in "".join(statements(linear.source))
    np.testing.assert_allclose(found, np.ones((6, 3)) @ VALUES["w"].T)


def test_numbers_go_to_the_smaller_array():
    big = {
        "x": RNG.normal(size=(900, 4)),
        "w": RNG.normal(size=(4, 50)),
        "b": RNG.normal(size=50),
        "y": np.eye(50)[RNG.integers(0, 50, 900)],
    }
    gradient = classifier.gradient("w", "b")
    gradient(**big)
    divided = [x for x in statements(gradient.source) if "900" in x]
    assert len(divided) == 2
    assert all(x.startswith(("d_w", "d_b")) for x in divided)


def test_softmax_vjp_has_the_form_that_people_write():
    pull = softmax.vjp("z")
    v, z = RNG.normal(size=(2, 6, 3))
    found = pull(v, z=z)["z"]
    a = softmax.value(z=z)
    np.testing.assert_allclose(
        found, a * (v - (v * a).sum(1, keepdims=True)), rtol=1e-13, atol=1e-16
    )
    assert pull.source.count(" *= ") + pull.source.count(" * ") == 2


# ---------------------------------------------------------------- equal to the terms as they stand

TERMS = {
    "plain": einsum("pr,qs->pqrs", delta, delta),
    "scaled": 3 * einsum("pq,pr,qs->pqrs", "x", delta, delta) / size("m"),
    "row": einsum("pq,ps,pr->pqrs", "x", "x", delta),
    "inverse": einsum("pq,ps,pr->pqrs", "x**-1", "x**2", delta),
    "summed": einsum("pk,ks,kq,pr->pqrs", "x", "v", "v", delta),
    "function": einsum("pq,pr,qs->pqrs", "exp(x)", delta, delta),
    "full": einsum("pq,rs->pqrs", "x", "x"),
    "constant": einsum("p,q,r,s->pqrs", ones, ones, ones, ones),
    "across": einsum("ps,qs,pr->pqrs", "x", delta, delta),
    "root": -einsum("pq,pr,qs->pqrs", "x**(1/2)", delta, delta) * size("n"),
}


SHAPES = [(1, 1), (2, 3), (4, 2), (1, 5)]


@given(
    st.lists(st.sampled_from(sorted(TERMS)), min_size=1, max_size=4),
    st.integers(0, 2**31),
    st.sampled_from(SHAPES),
)
@settings(deadline=None, max_examples=40)
def test_any_sum_of_terms_is_its_unsimplified_value(names, seed, shape):
    jacobian = sum(TERMS[n] for n in names)
    spec = Spec(
        lambda xp, x, v: xp.matmul(x, v),
        inputs={"x": real("m n"), "v": real("n n")},
        output={"y": "m n"},
        jacobian={"x": jacobian},
    )
    rng = np.random.default_rng(seed)
    values = {"x": rng.uniform(0.5, 2, shape), "v": rng.normal(size=(shape[1], shape[1]))}
    xp = running.ErrorNamespace("float64")
    ops = running.ErrorOperations(xp)
    carried = {n: xp.asarray(v) for n, v in values.items()}
    bindings = spec.bind(carried, spec.environment(xp, carried), xp.asarray(0.0))
    expected = evaluate(spec.derivative("y", "x"), bindings, ops)
    bound = np.broadcast_to(2 * expected.error, expected.value.shape)
    u, w = rng.normal(size=shape), rng.normal(size=shape)
    room = np.abs(np.tensordot(bound, np.abs(u), 2)) + 1e-13 * np.tensordot(
        np.abs(expected.value), np.abs(u), 2
    )
    for framework in ("numpy", "torch"):
        arrays = on(framework, values)
        dense = np.asarray(spec.dense("x")(**arrays))
        assert (np.abs(dense - expected.value) <= bound).all()
        structured = spec.structured("x")(**arrays)
        assert (np.abs(np.asarray(structured.dense()) - expected.value) <= bound).all()
        vectors = on(framework, {"u": u, "w": w})
        pushed = np.tensordot(expected.value, u, 2)
        assert (np.abs(np.asarray(spec.jvp("x")(vectors["u"], **arrays)) - pushed) <= room).all()
        assert (np.abs(np.asarray(structured @ vectors["u"]) - pushed) <= room).all()
        pulled = np.tensordot(w, expected.value, 2)
        space = np.tensordot(np.abs(w), bound + 1e-13 * np.abs(expected.value), 2)
        found = np.asarray(spec.vjp("x")(vectors["w"], **arrays)["x"])
        assert (np.abs(found - pulled) <= space).all()
        assert (np.abs(np.asarray(structured.__rmatmul__(vectors["w"])) - pulled) <= space).all()


LINKS = {"sigmoid": sigmoid, "relu": relu, "softmax": softmax, "transpose": transpose}


@given(st.lists(st.sampled_from(sorted(LINKS)), min_size=1, max_size=5), st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_random_chains_equal_the_links_one_by_one(names, seed):
    chain = weighted_sum
    for name in names:
        chain = chain >> LINKS[name]
    rng = np.random.default_rng(seed)
    values = {"x": rng.normal(size=(3, 2)), "w": rng.normal(size=(2, 4)), "b": rng.normal(size=4)}
    xp = running.ErrorNamespace("float64")
    ops = running.ErrorOperations(xp)
    carried = {n: xp.asarray(v) for n, v in values.items()}
    operands = chain.environment(xp, carried)
    bindings = chain.bind(carried, operands, xp.asarray(0.0))
    v = rng.normal(size=operands[chain.result].shape)
    expected = chain.pull(bindings, ops, xp.asarray(v), ("x", "w", "b"))
    for framework in ("numpy", "torch"):
        vector = on(framework, {"v": v})["v"]
        found = chain.vjp("x", "w", "b")(vector, **on(framework, values))
        for name, entry in expected.items():
            assert (np.abs(np.asarray(found[name]) - entry.value) <= 2 * entry.error).all()


def test_a_wrong_rule_stays_wrong():
    wrong = Spec(
        softmax.forward,
        inputs={"z": real("m n")},
        output={"a": "m n"},
        jacobian={"z": einsum("pq,pr,qs->pqrs", "a", delta, delta)},
    )
    z, v = VALUES["x"], np.ones((6, 4))
    assert np.abs(wrong.vjp("z")(v, z=z)["z"]).min() > 1e-3  # the right one is zero
    assert np.abs(softmax.vjp("z")(v, z=z)["z"]).max() < 1e-15


def test_what_a_domain_declares_is_relied_on():
    """Targets that do not sum to one are outside the declared domain, and the closed form differs there."""
    doubled = {**VALUES, "y": 2 * VALUES["y"]}
    found = classifier.gradient("b")(**doubled)["b"]
    a = softmax.value(z=VALUES["x"] @ VALUES["w"] + VALUES["b"])
    np.testing.assert_allclose(found, (a - doubled["y"]).mean(0), rtol=1e-13, atol=1e-15)
    assert not np.allclose(found, (2 * a - doubled["y"]).mean(0))


# ---------------------------------------------------------------- numerical form


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_logits_of_a_hundred_in_single_precision(framework):
    """The composed chain divides 0 by 0 there: y / a with a = 0."""
    z = np.array([[100, -100, 0], [-100, 100, 100], [100, 100, 100], [-100, -100, 100]], np.float32)
    y = np.eye(3, dtype=np.float32)[[1, 0, 2, 0]]
    loss = softmax >> cross_entropy
    arrays = on(framework, {"z": z, "y": y})
    found = np.asarray(loss.gradient("z")(**arrays)["z"])
    assert found.dtype == np.float32
    xp = running.ErrorNamespace("float32")
    a = softmax.environment(xp, {"z": xp.asarray(z)})["a"]
    exact = (a - xp.asarray(y)) / len(z)
    assert np.isfinite(found).all()
    assert (np.abs(found - exact.value) <= exact.error).all()
    with np.errstate(all="ignore"):
        naive = softmax.vjp("z")(-(y / np.asarray(softmax.value(z=z))) / len(z), z=z)["z"]
    assert not np.isfinite(naive).all()


# ---------------------------------------------------------------- calls


def test_other_shapes_dtypes_and_frameworks_find_their_own_program():
    gradient = classifier.gradient("w")
    for framework in FRAMEWORKS:
        for rows in (6, 2, 6, 4):
            values = {n: v[:rows] if n in "xy" else v for n, v in VALUES.items()}
            a = softmax.value(z=values["x"] @ values["w"] + values["b"])
            expected = values["x"].T @ (a - values["y"]) / rows
            for dtype in ("float64", "float32"):
                cast = {n: v.astype(dtype) for n, v in values.items()}
                found = gradient(**on(framework, cast))["w"]
                assert str(found.dtype).removeprefix("torch.") == dtype
                rtol = 1e-12 if dtype == "float64" else 1e-4
                np.testing.assert_allclose(np.asarray(found), expected, rtol=rtol, atol=rtol / 10)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_errors_are_the_same_once_a_program_is_warm(framework):
    gradient = classifier.gradient("w")
    values = on(framework, VALUES)
    for _ in range(2):
        gradient(**values)
    with pytest.raises(ShapeError, match="w has shape"):
        gradient(**{**values, "w": values["w"].T})
    with pytest.raises(UsageError, match="unknown q; missing y"):
        gradient(**{n: v for n, v in values.items() if n != "y"}, q=1)
    with pytest.raises(UsageError, match="takes its inputs by name"):
        gradient(values["x"], **values)
    gradient(**values)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_inputs_are_left_as_they_are(framework):
    values = on(framework, VALUES)
    for made in (classifier.gradient(), classifier.value_and_gradient(), classifier.dense("w")):
        for _ in range(2):
            made(**values)
    for name, value in values.items():
        np.testing.assert_array_equal(np.asarray(value), VALUES[name])


def test_parameters_are_arguments_and_choices_are_programs():
    scaled = Spec(
        lambda xp, x, *, t, how: xp.sum(x * x) * t if how == "sum" else xp.mean(x * x) * t,
        inputs={"x": real("n")},
        output={"l": ""},
        params={"t": number(0.1, 3), "how": choice("sum", "mean")},
        jacobian={"x": 2 * einsum("p,->p", "x", "t")},
    )
    x = RNG.normal(size=5)
    for framework in FRAMEWORKS:
        gradient = scaled.gradient("x")
        for t in (0.5, 2.0):
            found = gradient(x=on(framework, {"x": x})["x"], t=t, how="sum")["x"]
            np.testing.assert_allclose(np.asarray(found), 2 * x * t, rtol=1e-14)
        assert len(gradient._made) == 1
        gradient(x=on(framework, {"x": x})["x"], t=t, how="mean")
        assert len(gradient._made) == 2


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_forward_that_looks_at_values_is_called_as_it_is(framework):
    def forward(xp, x):
        top = xp.max(abs(x))
        return x / top if float(top) > 1 else x * top

    looks = Spec(
        forward,
        inputs={"x": real("n")},
        output={"y": "n"},
        jacobian={"x": einsum("p,pq->pq", "y", delta)},
    )
    for x in (np.array([0.5, -0.25]), np.array([4.0, 2.0])):
        v = np.array([1.0, 3.0])
        arrays = on(framework, {"x": x, "v": v})
        expected = v * (x / abs(x).max() if abs(x).max() > 1 else x * abs(x).max())
        pull = looks.vjp("x")
        np.testing.assert_allclose(np.asarray(pull(arrays["v"], x=arrays["x"])["x"]), expected)
    if framework != "jax":
        assert "forward(" in pull.source


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_labels_are_one_hot_where_they_are_needed(framework):
    nll = Spec(
        lambda xp, z, t: -xp.sum(z[xp.arange(z.shape[0]), t]) / z.shape[0],
        inputs={"z": real("m n"), "t": labels("m", below="n")},
        output={"L": ""},
        jacobian={"z": -einsum("pq->pq", "t") / size("m")},
    )
    z, t = RNG.normal(size=(3, 2)), np.array([1, 0, 1])
    for _ in range(2):
        found = nll.gradient("z")(**on(framework, {"z": z, "t": t}))["z"]
        np.testing.assert_allclose(np.asarray(found), -np.eye(2)[t] / 3)


# ---------------------------------------------------------------- inside the frameworks' own compilers


def test_inside_torch_compile_without_a_break():
    values = on("torch", VALUES)
    for made in (
        classifier.gradient("w"),
        classifier.value_and_gradient("w"),
        classifier.dense("w"),
    ):
        expected = made(**values)
        for _ in range(2):
            torch._dynamo.reset()
            found = torch.compile(lambda v, made=made: made(**v), fullgraph=True, backend="eager")(
                values
            )
            torch.testing.assert_close(found, expected)


def test_under_vmap_of_torch():
    values, gradient = on("torch", VALUES), classifier.gradient("w")
    gradient(**values)
    stack = torch.stack([values["b"], 2 * values["b"]])
    found = torch.func.vmap(lambda b: gradient(**{**values, "b": b})["w"])(stack)
    for i in range(2):
        torch.testing.assert_close(found[i], gradient(**{**values, "b": stack[i]})["w"])


def test_no_graph_is_built_where_torch_records_none():
    values = {n: v.requires_grad_() for n, v in on("torch", VALUES).items()}
    gradient = classifier.gradient("w")
    assert gradient(**values)["w"].requires_grad
    with torch.no_grad():
        assert not gradient(**values)["w"].requires_grad
    assert not gradient(**on("torch", VALUES))["w"].requires_grad


def test_every_other_framework_runs_through_the_namespace():
    if "autograd" not in backends.installed():
        pytest.skip("autograd is not installed")
    from autograd import numpy as anp

    found = classifier.gradient("w")(**{n: anp.array(v) for n, v in VALUES.items()})["w"]
    np.testing.assert_allclose(found, classifier.gradient("w")(**VALUES)["w"], rtol=1e-13)


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_diagonals_of_transposed_arrays(framework):
    """A result computed from a transpose lies in memory as that does; a diagonal must still be one."""
    chain = transpose >> softmax
    (name,) = chain.differentiable
    for shape in ((3, 4), (4, 4)):
        value = RNG.normal(size=shape)
        a = softmax.value(z=value.T)
        expected = np.einsum("pq,qs,pr->pqsr", a, np.eye(a.shape[1]), np.eye(a.shape[0]))
        expected -= np.einsum("pq,ps,pr->pqsr", a, a, np.eye(a.shape[0]))
        for array in (value, np.asfortranarray(value)):
            given = array if framework == "numpy" else torch.from_numpy(array)
            found = np.asarray(chain.dense(name)(**{name: given}))
            np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-16)


def test_dead_arrays_are_written_over():
    pull = softmax.vjp("z")
    v, z = RNG.normal(size=(2, 6, 3))
    kept_v, kept_z = v.copy(), z.copy()
    first = pull(v, z=z)["z"]
    assert "np.subtract(d_a, t6[:, None], out=t5)" in pull.source
    second = pull(v, z=z)["z"]
    np.testing.assert_array_equal(first, second)
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(v, kept_v)
    np.testing.assert_array_equal(z, kept_z)


# ---------------------------------------------------------------- what is trusted


def test_the_source_names_the_relations_it_trusts():
    line = "# uses Σ_q y[p,q] = 1: each row of y is a probability distribution"
    for framework in FRAMEWORKS:
        for made in (classifier.gradient("w"), classifier.dense("w")):
            made(**on(framework, VALUES))
            assert line in made.source
    product = classifier.hvp("w")
    product(VALUES["w"], **VALUES)
    assert line in product.source
    assert "Σ_q y[p,q] = 1" in classifier.jacobian["w"].simplify().conditions()
    pull = softmax.vjp("z")
    pull(VALUES["x"], z=VALUES["x"])
    assert "# uses" not in pull.source


def test_no_array_is_larger_than_what_it_is_contracted_from():
    swiglu = load(str(GALLERY / "swiglu.py"))
    rng = np.random.default_rng(0)
    batch = {
        "x": rng.normal(size=(5, 4)),
        "w": rng.normal(size=(4, 3)),
        "v": rng.normal(size=(4, 3)),
    }
    pull = swiglu.vjp("x")
    cotangent = rng.normal(size=(5, 3))
    found = pull(cotangent, **batch)["x"]
    assert "None" not in pull.source  # no axis is put in to form an array of three
    u, c = batch["x"] @ batch["w"], batch["x"] @ batch["v"]
    s = 1 / (1 + np.exp(-u))
    by_hand = (cotangent * c * (s + u * s - u * s * s)) @ batch["w"].T
    by_hand += (cotangent * u * s) @ batch["v"].T
    np.testing.assert_allclose(found, by_hand, rtol=1e-12)


@pytest.mark.parametrize("count", [70_001, 300_000])
def test_a_mean_over_more_than_float16_counts_to(count):
    """1/m with m above 65,504: the divisor itself would be infinite in float16, and the gradient 0."""
    entropy = load(str(GALLERY / "binary_cross_entropy.py"))
    gradient = entropy.gradient("z")
    z, y = np.ones(count, np.float16), np.zeros(count, np.float16)
    found = gradient(z=z, y=y)["z"]
    assert found.dtype == np.float16
    true = 1 / (1 + np.exp(-1.0)) / count
    np.testing.assert_allclose(found.astype(np.float64), true, atol=6e-8)  # a subnormal's spacing


# ---------------------------------------------------------------- bounded factors, shared products


def gated(*names, m=4, n=6, o=5):
    """The gated unit's compiled vjp and arrays for it."""
    root = Path(__file__).parent.parent
    swiglu = load(str(root / "examples" / "specs" / "swiglu.py"))
    rng = np.random.default_rng(0)
    shapes = {"x": (m, n), "w": (n, o), "v": (n, o)}
    return swiglu, swiglu.vjp(*names), {k: rng.normal(size=s) for k, s in shapes.items()}


def test_products_that_share_a_factor_become_one():
    """By hand: two products forward, and one for each weight and each path back to x."""
    _, vjp, arrays = gated("x", "w", "v")
    vjp(np.ones((4, 5)), **arrays)
    assert vjp.source.count("np.dot(") == 6


def test_nothing_is_computed_twice_in_another_order():
    _, vjp, arrays = gated("x", "w", "v")
    vjp(np.ones((4, 5)), **arrays)
    assert vjp.source.count("d_h * ") + vjp.source.count("*= d_h") == 2
    assert "t1.T" not in vjp.source


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_cannot_exceed_one_comes_before_a_third_large_factor(framework):
    """In float16 c u is infinite where the gate σ(u), and with it the derivative, is zero."""
    _, vjp, _ = gated("x")
    values = {"x": [[-2.0, -2.0]], "w": [[200.0], [200.0]], "v": [[-200.0], [-200.0]]}
    arrays = on(framework, {n: np.array(v, np.float16) for n, v in values.items()})
    (v,) = on(framework, {"v": np.ones((1, 1), np.float16)}).values()
    assert (np.asarray(vjp(v, **arrays)["x"]) == 0).all()


# ---------------------------------------------------------------- JAX on the host


@pytest.fixture
def on_host():
    """JAX's arrays lie on the host, also where it sees a GPU and would take that one."""
    import jax

    with jax.default_device(jax.devices("cpu")[0]):
        yield


@pytest.mark.usefixtures("on_host")
def test_large_dense_jacobians_of_jax_arrays_leave_zeros_unwritten():
    import jax

    dense = softmax.dense("z")
    z = np.random.default_rng(0).normal(size=(64, 48))
    for dtype in ("float64", "float32"):
        with jax.enable_x64(dtype == "float64"):
            array = jax.numpy.asarray(z.astype(dtype))
            found = dense(z=array)
            assert isinstance(found, jax.Array)
            assert found.dtype == dtype
            assert "taken over without a copy" in dense.source
            np.testing.assert_array_equal(np.asarray(found), dense(z=z.astype(dtype)))
            # Traced, it is XLA's own, and what was handed over is an operand like any other.
            traced = jax.jit(lambda q: dense(z=q))(array)
            np.testing.assert_allclose(traced, found, rtol=1e-5, atol=1e-7)
            assert float(jax.jit(lambda q: (2 * q).sum())(found)) == pytest.approx(
                2 * float(found.sum()), abs=1e-4
            )


@pytest.mark.usefixtures("on_host")
def test_a_large_dense_array_is_filled_so_after_a_small_one_too():
    import jax

    dense = softmax.dense("z")
    for shape, filled in (((3, 2), False), ((64, 48), True), ((3, 2), False), ((64, 48), True)):
        for _ in range(2):
            z = np.random.default_rng(0).normal(size=shape).astype(np.float32)
            np.testing.assert_allclose(
                np.asarray(dense(z=jax.numpy.asarray(z))), dense(z=z), rtol=1e-4, atol=1e-6
            )
            dense(z=jax.numpy.asarray(z))
            assert ("taken over without a copy" in dense.source) == filled


@pytest.mark.usefixtures("on_host")
@pytest.mark.parametrize("shapes", [((300, 80), (300, 5)), ((300, 5), (300, 80)), ((7, 3), (7, 2))])
def test_products_of_first_axes_are_what_they_say_and_can_be_differentiated(shapes):
    import jax

    from gradcheck.backends.jax_ import transposed_times

    rng = np.random.default_rng(0)
    left, right = (rng.normal(size=s).astype(np.float32) for s in shapes)
    np.testing.assert_allclose(transposed_times(left, right), left.T @ right, rtol=1e-4, atol=1e-4)
    ours = jax.grad(lambda a, b: (transposed_times(a, b) ** 2).sum(), (0, 1))(left, right)
    plain = jax.grad(lambda a, b: ((a.T @ b) ** 2).sum(), (0, 1))(left, right)
    for found, expected in zip(ours, plain, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-2)


@pytest.mark.usefixtures("on_host")
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (100, 3), (50, 8), (50, 9)])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int32"])
def test_sums_of_columns_are_what_they_say_and_can_be_differentiated(shape, dtype):
    import jax

    from gradcheck.backends.jax_ import column_sums

    array = (np.random.default_rng(0).normal(size=shape) * 4).astype(dtype)
    found = column_sums(jax.numpy.asarray(array))
    assert found.dtype == jax.numpy.sum(jax.numpy.asarray(array), axis=0).dtype
    np.testing.assert_allclose(found, array.astype(float).sum(0), rtol=2e-2, atol=5e-2)
    if dtype == "float32":
        slope = jax.grad(lambda a: (column_sums(a) ** 2).sum())(array)
        expected = np.broadcast_to(2 * array.sum(0), shape)
        np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("folder", ["specs", "examples/specs"])
def test_both_products_of_every_spec_are_those_of_its_dense_jacobian(folder):
    """Also where sizes are equal, so that a transposed result has the right shape."""
    from gradcheck.diagnosis.points import generic_at, generic_points
    from gradcheck.library import resolve

    root = Path(__file__).parent.parent
    compared = 0
    for operation in {
        t.operation.name: t.operation for t in resolve([str(root / folder)])
    }.values():
        square = generic_at(operation, dict.fromkeys(operation.axes, 3))
        for name in operation.differentiable:
            for example in [*generic_points(operation, 1), *([square] if square else [])]:
                values = {**example.inputs, **example.params}
                jacobian, x = np.asarray(operation.dense(name)(**values)), example.inputs[name]
                rng = np.random.default_rng(0)
                tangent = rng.normal(size=x.shape)
                v = rng.normal(size=jacobian.shape[: jacobian.ndim - x.ndim])
                pushed = operation.jvp(name)(tangent, **values)
                pulled = operation.vjp(name)(v, **values)[name]
                np.testing.assert_allclose(
                    pushed, np.tensordot(jacobian, tangent, x.ndim), rtol=1e-9, atol=1e-9
                )
                np.testing.assert_allclose(
                    pulled, np.tensordot(v, jacobian, v.ndim), rtol=1e-9, atol=1e-9
                )
                compared += 1
    assert compared > 20
