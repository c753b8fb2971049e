"""What compiled derivatives take, refuse, share and survive: dtypes, parameters, copies, threads, sizes."""

# ruff: noqa: ARG005 - signatures are given
from __future__ import annotations

import copy
import gc
import linecache
import pickle
import threading

import numpy as np
import pytest

from gradcheck import (
    Spec,
    as_torch,
    backends,
    choice,
    delta,
    einsum,
    integer,
    labels,
    load,
    number,
    ones,
    real,
    verify,
)
from gradcheck.errors import ShapeError, UsageError
from gradcheck.evaluation import evaluate

FRAMEWORKS = ["numpy", "torch", "jax"]
COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
}


def array_of(framework, value):
    """An array of a framework, in the dtype that the value has."""
    if framework == "numpy":
        return np.array(value)
    module = pytest.importorskip(framework)
    return module.from_numpy(np.array(value)) if framework == "torch" else module.numpy.array(value)


def cubes(power, claim, name):
    return Spec(
        lambda xp, x, y: xp.sum(x) + xp.sum(power(y)),
        inputs={"x": real("n"), "y": real("m")},
        output={"s": ""},
        jacobian={"x": einsum("p->p", ones), "y": claim},
        name=name,
    )


cube = cubes(lambda y: y * y * y, 3 * einsum("p->p", "y**2"), "cube")
inverse = cubes(lambda y: 1 / y, -einsum("p->p", "y**-2"), "inverse")
half = cubes(lambda y: y * y / 4, einsum("p->p", "y") / 2, "half")
embedding = Spec(
    lambda xp, e, t: xp.take(e, t, axis=0),
    inputs={"e": real("v d"), "t": labels("m", below="v")},
    output={"y": "m d"},
    jacobian={"e": einsum("pr,qs->pqrs", "t", delta)},
    name="embedding",
)


def flagship():
    return load("weighted_sum") >> load("softmax") >> load("cross_entropy")


def flagship_data(framework, dtype, m, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.random((m, 4))
    values = {
        "x": rng.normal(size=(m, 3)),
        "w": rng.normal(size=(3, 4)),
        "b": rng.normal(size=4),
        "y": y / y.sum(-1, keepdims=True),
    }
    return {n: array_of(framework, v.astype(dtype)) for n, v in values.items()}


def leaves(found):
    """Every array of a result, on the host."""
    if hasattr(found, "dense"):
        return [np.asarray(found.dense())]
    if isinstance(found, dict):
        return [np.asarray(v) for v in found.values()]
    return (
        [a for f in found for a in leaves(f)] if isinstance(found, tuple) else [np.asarray(found)]
    )


# ---------------------------------------------------------------- integers and mixed dtypes


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("spec", [cube, inverse, half], ids=lambda s: s.name)
@pytest.mark.parametrize("entries", [[100000, 2000], [True, True]], ids=["int32", "bool"])
def test_integers_in_place_of_real_numbers_are_real_numbers(framework, spec, entries):
    """They were multiplied as integers: 3 y² of 100,000 was -64,771,072."""
    y = np.array(entries, None if entries[0] is True else np.int32)
    x = np.ones(2, np.float32)
    for warm in (False, True):
        gradient, value = spec.gradient("y"), spec.value_and_gradient("y")
        real_y = array_of(framework, y.astype(np.float32))
        x_ = array_of(framework, x)
        expected = gradient(x=x_, y=real_y)["y"]
        if warm:
            for _ in range(2):
                gradient(x=x_, y=real_y)
                value(x=x_, y=real_y)
        y_ = array_of(framework, y)
        for found in (gradient(x=x_, y=y_)["y"], value(x=x_, y=y_)[1]["y"]):
            assert "float32" in str(found.dtype)
            np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
        first = spec.value(x=x_, y=y_)
        np.testing.assert_array_equal(np.asarray(first), np.asarray(spec.value(x=x_, y=real_y)))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("warm", [False, True])
def test_mixed_dtypes_are_computed_with_in_the_wider_one(framework, warm):
    """The first input's dtype once cut the others down: 1e10 in half precision is infinite."""
    x = array_of(framework, np.ones(2, np.float16))
    y = array_of(framework, np.array([1e5, 2.0], np.float32))
    gradient = cube.gradient("y")
    if warm:
        for _ in range(2):
            gradient(x=x, y=array_of(framework, np.ones(2, np.float16)))
    found = gradient(x=x, y=y)["y"]
    assert "float32" in str(found.dtype)
    np.testing.assert_allclose(np.asarray(found), [3e10, 12], rtol=1e-6)


def test_half_precision_of_two_kinds_meets_in_float32():
    torch = pytest.importorskip("torch")
    x, y = torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.float16)
    assert cube.gradient("y")(x=x, y=y)["y"].dtype is torch.float32


def test_numpy_arrays_and_lists_beside_tensors_take_their_dtype():
    torch = pytest.importorskip("torch")
    x = torch.ones(2)
    for y in (np.ones(2), [1, 2], [1.0, 2.0]):
        assert cube.gradient("y")(x=x, y=y)["y"].dtype is torch.float32


def test_big_endian_arrays_are_numbers():
    found = cube.gradient("y")(x=np.ones(2, ">f8"), y=np.array([1.0, 2.0], ">f4"))["y"]
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [3, 12])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.ma.masked_array([1.0, 2.0], mask=[True, False]), "masked array, and its mask would be"),
        (np.array(["1.0", "2.0"]), "an array of <U3 came"),
        (np.array([1, 2], "M8[s]"), r"an array of datetime64\[s\] came"),
        (np.zeros(2, [("a", float)]), "takes numbers, but an array of"),
        ([[1, 2], [3]], "input 'y' of cube is no array of real numbers: .*inhomogeneous"),
        ([10**400, 1], "an array of object came"),
    ],
    ids=["masked", "words", "dates", "records", "ragged", "huge"],
)
@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_what_holds_no_numbers_is_refused(framework, bad, message):
    x = array_of(framework, np.ones(2))
    with pytest.raises(UsageError, match=message):
        cube.gradient("y")(x=x, y=bad)
    with pytest.raises(UsageError, match=message):
        cube.value(x=x, y=bad)


def test_a_masked_array_without_masked_entries_is_one_of_numbers():
    found = cube.gradient("y")(x=np.ones(1), y=np.ma.masked_array([1.0, 2.0]))["y"]
    np.testing.assert_array_equal(found, [3, 12])


def test_a_masked_cotangent_is_refused():
    u = np.ma.masked_array(np.ones((2, 3)), mask=np.eye(2, 3))
    with pytest.raises(UsageError, match="what vjp is given first is a masked array"):
        load("softmax").vjp("z")(u, z=np.ones((2, 3)))


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize(("bad", "kind"), [([0.0, 1.0], "float"), ([True, False], "bool")])
def test_labels_are_integers(framework, warm, bad, kind):
    e = array_of(framework, np.ones((3, 2), np.float32))
    u = array_of(framework, np.ones((2, 2), np.float32))
    vjp = embedding.vjp("e")
    for _ in range(2 * warm):
        vjp(u, e=e, t=array_of(framework, np.array([0, 1])))
    with pytest.raises(UsageError, match=f"input 't' of embedding is labels.*an array of {kind}"):
        vjp(u, e=e, t=array_of(framework, np.array(bad)))


@pytest.mark.parametrize("framework", ["numpy", "torch"])
@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_of_no_class_is_refused(framework, label):
    """The forward counts -1 from the end, and the derivative gave that row nothing."""
    e, u = (array_of(framework, np.ones(s)) for s in ((3, 2), (2, 2)))
    with pytest.raises(UsageError, match=f"holds the label {label}; there are 3 classes"):
        embedding.vjp("e")(u, e=e, t=array_of(framework, np.array([0, label])))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_empty_list_of_labels_and_unsigned_ones(framework):
    e = array_of(framework, np.ones((3, 2), np.float32))
    none = embedding.vjp("e")(array_of(framework, np.ones((0, 2), np.float32)), e=e, t=[])["e"]
    np.testing.assert_array_equal(np.asarray(none), np.zeros((3, 2)))
    u = array_of(framework, np.ones((2, 2), np.float32))
    t = array_of(framework, np.array([2, 2], np.uint32))
    np.testing.assert_array_equal(
        np.asarray(embedding.vjp("e")(u, e=e, t=t)["e"]), [[0, 0], [0, 0], [2, 2]]
    )


# ---------------------------------------------------------------- parameters

scaled = Spec(
    lambda xp, x, *, k: x * k,
    inputs={"x": real("n")},
    output={"y": "n"},
    params={"k": integer(1, 5)},
    jacobian={"x": einsum(",pq->pq", "k", delta)},
    name="scaled",
)
reduced = Spec(
    lambda xp, x, *, how: xp.sum(x) if how == "sum" else xp.mean(x) * x.shape[0],
    inputs={"x": real("n")},
    output={"y": ""},
    params={"how": choice("mean", "sum", None)},
    jacobian={"x": einsum("p->p", ones)},
    name="reduced",
)
tempered = Spec(
    lambda xp, x, *, t: x * t,
    inputs={"x": real("n")},
    output={"y": "n"},
    params={"t": number(0.1, 3)},
    jacobian={"x": einsum(",pq->pq", "t", delta)},
    name="tempered",
)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.array([3, 3]), "give a Python number"),
        (2.5, "2.5 came; give a whole number"),
        (float("nan"), "nan came; give a whole number"),
        (10**400, "an integer of 1329 bits came; it is larger than what an array can hold"),
        (10**5000, "bits came; it is larger"),
        ("two", "'two' came"),
    ],
    ids=["array", "fraction", "nan", "huge", "thousands of digits", "word"],
)
def test_an_integer_parameter_is_a_whole_number(framework, warm, bad, message):
    """Where a program was there, its test of the parameter raised from inside."""
    x = array_of(framework, np.ones(3, np.float32))
    vjp = scaled.vjp("x")
    for _ in range(2 * warm):
        vjp(x, x=x, k=2)
    with pytest.raises(UsageError, match=f"parameter 'k' of scaled is integer.1, 5.*{message}"):
        vjp(x, x=x, k=bad)


@pytest.mark.parametrize("warm", [False, True])
def test_parameters_change_between_calls(warm):
    x, vjp = np.ones(3), scaled.vjp("x")
    for _ in range(2 * warm):
        vjp(x, x=x, k=1)
    for k in (3, True, 3.0, np.int64(2), 1, 2, True):
        np.testing.assert_array_equal(vjp(x, x=x, k=k)["x"], np.full(3, float(k)))


@pytest.mark.parametrize("warm", [False, True])
def test_a_choice_is_among_its_values(warm):
    """A word with a slip took the forward's last branch."""
    x, gradient = np.ones(3), reduced.gradient("x")
    for _ in range(2 * warm):
        gradient(x=x, how="sum")
    with pytest.raises(UsageError, match="'maen' came; did you mean 'mean'"):
        gradient(x=x, how="maen")
    with pytest.raises(UsageError, match="3 came; give one of these"):
        gradient(x=x, how=3)
    with pytest.raises(UsageError, match="give one of these"):
        gradient(x=x, how=np.array(["sum", "mean"]))
    for how in ("mean", None, "sum", np.str_("sum")):
        for _ in range(2):
            np.testing.assert_array_equal(gradient(x=x, how=how)["x"], np.ones(3))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("wide", [False, True])
def test_a_number_that_jax_traces_has_no_dtype_of_its_own(dtype, wide):
    jax = pytest.importorskip("jax")
    with jax.enable_x64(wide or dtype == "float64"):
        x, vjp = jax.numpy.ones(3, dtype), tempered.vjp("x")
        for t in (0.5, 0.25, 0.5):
            found = vjp(x, x=x, t=t)["x"]
            assert str(found.dtype) == dtype
            np.testing.assert_array_equal(np.asarray(found, np.float64), [t, t, t])


def test_large_numbers_are_numbers():
    x = np.ones(2)
    vjp = tempered.vjp("x")
    np.testing.assert_array_equal(vjp(x, x=x, t=10**30)["x"], [1e30, 1e30])
    with pytest.raises(UsageError, match="larger than what an array can hold"):
        vjp(x, x=x, t=-(10**400))


# ---------------------------------------------------------------- copies


def calls_of(framework):
    chain, layer = flagship(), load("weighted_sum")
    values = flagship_data(framework, "float32", 2)
    inner = {n: values[n] for n in ("x", "w", "b")}
    u = array_of(framework, np.ones((2, 4), np.float32))
    return {
        "gradient": (chain.gradient("w"), (), values),
        "value_and_gradient": (chain.value_and_gradient("w", "b"), (), values),
        "dense": (chain.dense("w"), (), values),
        "structured": (layer.structured("w"), (), inner),
        "vjp": (layer.vjp("w", "x"), (u,), inner),
        "jvp": (layer.jvp("w"), (values["w"],), inner),
        "hessian": (chain.hessian("w", "b"), (), values),
        "hvp": (chain.hvp("w"), (values["w"],), values),
    }


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("how", COPIES)
def test_what_was_called_can_be_copied(framework, how):
    """Programs are functions that were made in memory, and modules: neither can be pickled."""
    for method, (compiled, vector, values) in calls_of(framework).items():
        for _ in range(2):
            expected = leaves(compiled(*vector, **values))
        again = COPIES[how](compiled)
        assert repr(again) == repr(compiled), method
        for _ in range(2):
            found = leaves(again(*vector, **values))
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_array_equal(a, b, err_msg=method)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("how", COPIES)
def test_a_structured_jacobian_can_be_copied(framework, how):
    values = {n: v for n, v in flagship_data(framework, "float32", 2).items() if n != "y"}
    held = load("weighted_sum").structured("w")(**values)
    u = array_of(framework, np.ones((2, 4), np.float32))
    expected, row = np.asarray(held.dense()), np.asarray(u @ held)
    again = COPIES[how](held)
    np.testing.assert_array_equal(np.asarray(again.dense()), expected)
    np.testing.assert_array_equal(np.asarray(u @ again), row)


# ---------------------------------------------------------------- state


def test_a_structured_jacobian_has_the_sizes_of_its_own_call():
    """JAX has one program for all sizes: 1/m was that of the first call."""
    pytest.importorskip("jax")
    chain, structured = flagship(), flagship().structured("w")
    for m in (5, 2, 5):
        found = structured(**flagship_data("jax", "float32", m))
        expected = chain.dense("w")(**flagship_data("numpy", "float64", m))
        assert found.shape == expected.shape
        np.testing.assert_allclose(np.asarray(found.dense()), expected, atol=1e-6)


@pytest.mark.parametrize("method", ["gradient", "hvp", "structured"])
def test_threads_share_a_derivative(method):
    """Each with its own framework, dtype and sizes, from the first call on."""
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    kinds = [(f, d, m) for f in FRAMEWORKS for d in ("float32", "float64") for m in (1, 3)]
    kinds = [k for k in kinds if k[:2] != ("jax", "float64")]
    data = [flagship_data(*k) for k in kinds]

    def call(compiled, values):
        return leaves(compiled(*([values["w"]] if method == "hvp" else []), **values))

    expected = [call(getattr(flagship(), method)("w"), v) for v in data]
    shared, wrong = getattr(flagship(), method)("w"), []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(25):
            place = int(rng.integers(len(data)))
            try:
                for a, b in zip(call(shared, data[place]), expected[place], strict=True):
                    assert a.dtype == b.dtype
                    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
            except Exception as error:  # noqa: BLE001 - a thread's failure is told by the test
                wrong.append((kinds[place], error))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_programs_that_are_dropped_leave_no_source_behind():
    gradient = flagship().gradient("w")
    gc.collect()
    before = len(linecache.cache)
    for m in range(1, 8):
        gradient(**flagship_data("numpy", "float64", m))
    assert any("def gradient" in "".join(linecache.getlines(f)) for f in list(linecache.cache))
    del gradient
    gc.collect()
    assert len(linecache.cache) <= before


def test_inside_a_graph_tensors_have_one_dtype():
    torch = pytest.importorskip("torch")
    vjp = load("weighted_sum").vjp("x")
    x, w, b, u = torch.ones(2, 3), torch.ones(3, 2), torch.ones(2), torch.ones(2, 2)

    def call(u, x, w, b):
        return vjp(u, x=x, w=w, b=b)["x"]

    torch._dynamo.reset()
    compiled = torch.compile(call, backend="eager")
    halves = [t.bfloat16() for t in (u, x, w, b)]
    assert compiled(*halves).dtype is torch.bfloat16
    for other in (w.double(), w.int()):
        torch._dynamo.reset()
        with pytest.raises(
            Exception, match=r"inside torch.compile weighted_sum takes tensors of one"
        ):
            torch.compile(call, backend="eager")(u, x, other, b)


# ---------------------------------------------------------------- broadcast letters


def gathered(claim):
    return Spec(
        lambda xp, x, b: xp.sum(x * b),
        inputs={"x": real("m n"), "b": real("#m n")},
        output={"y": ""},
        jacobian={"x": einsum("pq->pq", "b"), "b": claim},
        name="gathered",
    )


@pytest.mark.parametrize("size", [1, 3])
def test_a_free_letter_on_a_broadcast_axis_takes_one_value_there(size):
    """It was that of the wide axis: the gradient had the shape (3, 2) for an input of (1, 2)."""
    spec = gathered(einsum("pq->pq", "x"))
    values = {"x": np.arange(6.0).reshape(3, 2), "b": np.ones((size, 2))}
    expected = values["x"][:size]
    np.testing.assert_array_equal(spec.gradient("b")(**values)["b"], expected)
    np.testing.assert_array_equal(spec.dense("b")(**values), expected)
    np.testing.assert_array_equal(spec.structured("b")(**values).dense(), expected)
    backend = backends.get("numpy")
    operands = spec.environment(backend.namespace("float64"), values)
    bindings = spec.bind(values, operands, values["x"])
    np.testing.assert_array_equal(evaluate(spec.derivative("y", "b"), bindings, backend), expected)


def test_a_claim_that_forgets_the_sum_over_a_broadcast_axis_is_refuted():
    """By every oracle: those that evaluate it had an error of shapes instead."""
    report = verify(gathered(einsum("pq->pq", "x")), wrt="b", oracles=["autograd", "differences"])
    assert [str(c.verdict) for c in report.checks] == ["refuted", "refuted"]


def test_a_first_entry_that_is_not_there_is_named():
    spec = gathered(einsum("pq->pq", "x"))
    with pytest.raises(ShapeError, match="reads the first entry of x along a broadcast axis"):
        spec.gradient("b")(x=np.ones((0, 2)), b=np.ones((1, 2)))


# ---------------------------------------------------------------- torch's forward mode


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_rules_for_torch_work_forwards_under_vmap_and_over_reverse():
    torch = pytest.importorskip("torch")
    rule = as_torch("softmax")
    z = torch.tensor([[0.1, 0.7, -0.4], [0.3, 0.0, 1.0]], dtype=torch.float64)

    def plain(z):
        return torch.softmax(z, -1)

    for ours, theirs in (
        (torch.func.jacfwd(rule), torch.func.jacrev(plain)),
        (torch.func.jacfwd(torch.func.jacrev(rule)), torch.func.jacfwd(torch.func.jacrev(plain))),
        (torch.func.jacrev(torch.func.jacfwd(rule)), torch.func.jacfwd(torch.func.jacrev(plain))),
    ):
        torch.testing.assert_close(ours(z), theirs(z))
    with pytest.raises(UsageError, match=r"differentiated forwards twice.*jacfwd\(jacrev\(f\)\)"):
        torch.func.jacfwd(torch.func.jacfwd(rule))(z)


# ---------------------------------------------------------------- dense arrays


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_block_that_is_repeated_along_an_axis_is_there_each_time(framework):
    """∂z[p,j]/∂q[r,c] = k[j,c] δ[p,r] / √d does not depend on p: torch shrinks what it writes into."""
    scores = Spec(
        lambda xp, q, k: xp.einsum("mc,nc->mn", q, k) / 2,
        inputs={"q": real("m d"), "k": real("n d")},
        output={"z": "m n"},
        jacobian={
            "q": einsum("jc,pr->pjrc", "k", delta) / 2,
            "k": einsum("pc,js->pjsc", "q", delta) / 2,
        },
    )
    q, k = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((4, 3), np.float32)
    values = {"q": array_of(framework, q), "k": array_of(framework, k)}
    for name, expected in (
        ("q", np.einsum("jc,pr->pjrc", k, np.eye(2)) / 2),
        ("k", np.einsum("pc,js->pjsc", q, np.eye(4)) / 2),
    ):
        for _ in range(2):
            np.testing.assert_array_equal(np.asarray(scores.dense(name)(**values)), expected)
            held = scores.structured(name)(**values)
            np.testing.assert_array_equal(np.asarray(held.dense()), expected)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_method_takes_an_input_called_self(framework):
    square = Spec(
        lambda xp, self: xp.sum(self * self),
        inputs={"self": real("n")},
        output={"r": ""},
        jacobian={"self": 2 * einsum("p->p", "self")},
        name="square",
    )
    x = array_of(framework, np.arange(3, dtype=np.float32))
    np.testing.assert_array_equal(np.asarray(square.hvp("self")(x, self=x)["self"]), [0, 2, 4])
    np.testing.assert_array_equal(np.asarray(square.hessian("self", "self")(self=x)), 2 * np.eye(3))
    assert float(square.value(self=x)) == 5
    if framework == "torch":
        assert float(as_torch(square)(self=x)) == 5
