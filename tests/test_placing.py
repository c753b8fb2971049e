"""Dense arrays of blocks between zeros: written once where they belong, and by whom."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from gradcheck import Spec, delta, einsum, load, number, ones, real
from gradcheck.compiling import compiled, kernels

jax = pytest.importorskip("jax")
torch = pytest.importorskip("torch")
from gradcheck.backends import jax_memory  # noqa: E402 - which needs JAX

jnp = jax.numpy

RNG = np.random.default_rng(5)
FRAMEWORKS = {
    "numpy": np.array,
    "torch": lambda v: torch.from_numpy(np.array(v)),
    "jax": jnp.asarray,
}
softmax = load("softmax")


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        yield


def statements(source):
    """The lines that compute: neither head, comment, test of the arguments nor return."""
    lines = [line.strip() for line in source.splitlines()[1:]]
    return [x for x in lines if x and not x.startswith(("#", "if ", "raise", "return"))]


# ---------------------------------------------------------------- the same entries, however they are written

# Terms on a square matrix, of which every letter may meet every other: a factor before them, an einsum, and
# its operands; the rules need not be right.
TERMS = {
    "softmax": [(1, "pq,pr,qs", "a", delta, delta), (-1, "pq,ps,pr", "a", "a", delta)],
    "a product alone": [(2, "pq,ps,pr", "a", "z", delta)],
    "a product repeated": [(2, "ps,ps,pr,q", "a", "z", delta, ones), (1, "pq,pr,qs", "a", delta, delta)],
    "an outer product repeated": [(2, "r,s,qp", "b", "b", delta), (1, "pq,pr,qs", "a", delta, delta)],
    "a sum": [(1, "pq,s,pr", "a", ones, delta), (1, "ps,q,pr", "z", ones, delta)],
    "a quotient": [(1, "pq,ps,pr", "a", "a**-1", delta)],
    "a function": [(1, "pq,pr,qs", "tanh(z)", delta, delta)],
    "a power": [(1, "pq,pr,qs", "a**2", delta, delta), (1, "pq,ps,pr", "z", "a", delta)],
    "numbers": [(3, "pr,qs", delta, delta)],
    "a number on a wider diagonal": [(3, "pr,qs,q", delta, ones, ones), (1, "pq,pr,qs", "a", delta, delta)],
    "an array first, then a number": [(1, "pq,ps,pr", "a", "z", delta), (-2, "pr,qs", delta, delta)],
    "transposed": [(1, "qp,sp,pr", "a", "z", delta), (1, "qp,pr,qs", "z", delta, delta)],
    "transposed alone": [(1, "qp,pr,qs", "z", delta, delta)],
    "a matrix product": [(1, "qk,ks,pr", "a", "z", delta), (1, "pq,pr,qs", "a", delta, delta)],
    "other diagonals": [
        (1, "pq,ps,pr", "a", "z", delta), (1, "pq,qr,qs", "z", "a", delta),
        (1, "pq,ps,qr", "a", delta, delta),
    ],
    "one product on two diagonals": [(1, "pq,ps,pr", "a", "a", delta), (1, "pq,ps,qr", "a", "a", delta)],
    "three deep": [
        (1, "pq,ps,pr", "a", "z", delta), (1, "pq,pr,qs", "a", delta, delta),
        (1, "p,pr,qs,pq", "b", delta, delta, delta),
    ],
    "no zeros": [
        (1, "pq,rs", "a", "z"), (1, "pq,pr,qs", "a", delta, delta), (1, "ps,pr,q", "a", delta, ones),
    ],
    "a parameter": [(1, "pq,,pr,qs", "a", "keep", delta, delta), (1, "pq,ps,,pr", "a", "z", "keep", delta)],
}  # fmt: skip


def made(terms):
    rule = None
    for factor, letters, *operands in terms:
        term = factor * einsum(f"{letters}->pqrs", *operands)
        rule = term if rule is None else rule + term
    return Spec(
        lambda xp, z, b, *, keep: xp.exp(z) + 0 * keep * b[:, None],
        inputs={"z": real("n n"), "b": real("n")},
        output={"a": "n n"},
        params={"keep": number(0.1, 0.9)},
        jacobian={"z": rule},
        name="made",
    )


def entries(terms, values, dtype):
    """The same by identity matrices and nothing else."""
    n = len(values["b"])
    arrays = {k: v.astype(dtype).astype(np.float64) for k, v in values.items()}
    a = arrays["a"] = np.exp(arrays["z"])
    arrays |= {"a**2": a**2, "a**-1": 1 / a, "tanh(z)": np.tanh(arrays["z"]), "keep": 0.5}
    found = np.zeros((n,) * 4)
    for factor, letters, *operands in terms:
        given = [
            np.eye(n) if o is delta else np.ones((n,) * len(axes)) if o is ones else arrays[o]
            for o, axes in zip(operands, letters.split(","), strict=True)
        ]
        found += factor * np.einsum(f"{letters}->pqrs", *given)
    return found


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", TERMS)
def test_every_kind_of_block_lies_where_it_belongs(name, framework, dtype):
    values = {"z": RNG.normal(size=(5, 5)), "b": RNG.normal(size=5)}
    given = {k: FRAMEWORKS[framework](v.astype(dtype)) for k, v in values.items()}
    found = made(TERMS[name]).dense("z")(**given, keep=0.5)
    assert dtype in str(found.dtype)
    # A few roundings of numbers below 100.
    close = {"float64": 1e-13, "float32": 1e-5, "float16": 5e-2}[dtype]
    expected = entries(TERMS[name], values, dtype)
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, rtol=close, atol=close)
    assert not np.any(np.asarray(found)[expected == 0])


# ---------------------------------------------------------------- what the lines say

TENSOR = torch.from_numpy(RNG.normal(size=(150, 3)))


def test_products_go_where_they_belong_without_a_temporary():
    dense = softmax.dense("z")
    dense(z=TENSOR)
    assert statements(dense.source) == [
        "a = torch.softmax(z.t(), 0).t()",
        "t1 = -a",
        "t2 = torch.from_numpy(np.zeros((150, 3, 150, 3), 'float64'))",
        "torch.mul(t1.unsqueeze(2), a.unsqueeze(1), out=t2.as_strided((150, 3, 3), (1353, 450, 1)))",
        "diagonal = t2.as_strided((150, 3), (1353, 451))",
        "diagonal += a",
    ]
    dense(z=TENSOR.numpy())
    assert statements(dense.source)[-5:] == [
        "t5 = -a",
        "t6 = np.zeros((150, 3, 150, 3), float64)",
        "np.multiply(t5[:, :, None], a[:, None, :], "
        "out=np.ndarray((150, 3, 3), float64, t6, 0, (10824, 3600, 8)))",
        "diagonal = np.ndarray((150, 3), float64, t6, 0, (10824, 3608))",
        "diagonal += a",
    ]


def test_what_is_used_twice_has_a_name():
    dense = made(TERMS["one product on two diagonals"]).dense("z")
    dense(z=np.ones((3, 3)), b=np.ones(3), keep=0.5)
    assert "out=np.ndarray" not in dense.source
    assert dense.source.count("a[:, None, :]") <= 1 >= dense.source.count("a[:, :, None]")


def test_no_zeros_are_written_where_every_entry_is():
    dense = made(TERMS["no zeros"]).dense("z")
    dense(z=np.ones((3, 3)), b=np.ones(3), keep=0.5)
    assert "np.zeros" not in dense.source


def test_arguments_are_left_alone_and_results_are_new():
    dense = softmax.dense("z")
    kept = TENSOR.clone()
    first, second = dense(z=TENSOR), dense(z=TENSOR)
    assert torch.equal(TENSOR, kept)
    assert torch.equal(first, second)
    assert first.data_ptr() != second.data_ptr()
    assert first.is_contiguous()


# ---------------------------------------------------------------- where torch looks on


def test_nothing_is_written_into_while_torch_records():
    dense, z = softmax.dense("z"), TENSOR[:6].clone().requires_grad_()
    found = dense(z=z)
    assert "out=" not in dense.source
    (ours,) = torch.autograd.grad((found**2).sum(), z)
    plain = torch.func.jacrev(lambda v: torch.softmax(v, 1))
    (expected,) = torch.autograd.grad((plain(z) ** 2).sum(), z)
    torch.testing.assert_close(ours, expected)
    with torch.no_grad():
        quiet = dense(z=z)
        assert "out=t2.as_strided" in dense.source
    assert not quiet.requires_grad
    torch.testing.assert_close(quiet, found.detach())


def test_nothing_is_written_into_while_torch_transforms():
    dense, stack = softmax.dense("z"), TENSOR.reshape(5, 30, 3)[:, :4]
    expected = torch.stack([dense(z=z) for z in stack])
    assert "out=" in dense.source
    torch.testing.assert_close(torch.func.vmap(lambda z: dense(z=z))(stack), expected)
    assert "out=" not in dense.source
    twice = torch.func.jacrev(lambda z: dense(z=z))(stack[0])
    plain = torch.func.jacrev(lambda z: torch.softmax(z, 1))
    torch.testing.assert_close(twice, torch.func.jacrev(plain)(stack[0]))
    torch._dynamo.reset()
    compiled_by_torch = torch.compile(lambda z: dense(z=z), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled_by_torch(stack[0]), expected[0])


# ---------------------------------------------------------------- softmax of few columns


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("columns", [1, 2, 3, 12, 13])
def test_softmax_of_few_columns_is_that_of_the_transpose(columns, dtype):
    rows = kernels._MANY
    z = 40 * torch.randn(rows, columns, dtype=dtype, generator=torch.Generator().manual_seed(0))
    z[0], z[1, 0], z[2] = 1000.0, 1000.0, torch.finfo(dtype).max
    pull = softmax.vjp("z")
    v = torch.ones_like(z)
    found = pull(v, z=z)["z"]
    assert (".t()" in pull.source) == (columns <= kernels._FEW)
    assert found.is_contiguous()
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found, torch.zeros_like(z), rtol=0, atol=4 * columns * eps)
    z[3, 0] = torch.nan
    assert torch.equal(pull(v, z=z)["z"].isnan(), z.isnan().any(1, keepdim=True).expand_as(z))
    pull(v[1:], z=z[1:])
    assert ".t()" not in pull.source


# ---------------------------------------------------------------- JAX's large arrays


@pytest.fixture
def filling(monkeypatch):
    """Every array of JAX on the host counts as large."""
    monkeypatch.setattr(compiled, "_LARGE", 0)


@pytest.mark.usefixtures("filling")
def test_the_next_call_of_a_filled_array_goes_straight_to_its_program():
    dense, z = softmax.dense("z"), jnp.asarray(RNG.normal(size=(4, 3)))
    first = dense(z=z)
    assert "taken over without a copy" in dense.source
    checked = []
    dense._checked = lambda *given: checked.append(given)
    np.testing.assert_array_equal(dense(z=z), first)
    np.testing.assert_array_equal(dense(z=z + 1), dense(z=z + 1))
    assert not checked
    for other in (z[:3], z[:1], z.astype("float32"), np.asarray(z), torch.ones(4, 3), 1.0, "z"):
        dense(z=other)
    assert len(checked) == 7
    jax.jit(lambda q: dense(z=q) or q)(z)
    dense(z)
    dense()
    dense(z=z, y=z)
    assert len(checked) == 11


@pytest.mark.usefixtures("filling")
def test_a_filled_array_looks_at_parameters_too():
    spec = made(TERMS["a parameter"])
    dense = spec.dense("z")
    given = {"z": jnp.asarray(RNG.normal(size=(3, 3))), "b": jnp.ones(3)}
    host = {k: np.asarray(v) for k, v in given.items()}
    for keep in (0.5, 0.25, 0.5, 1, 2, 2, 0.75):
        found = dense(**given, keep=keep)
        assert isinstance(found, jax.Array)
        np.testing.assert_array_equal(found, spec.dense("z")(**host, keep=keep))


@pytest.mark.usefixtures("filling")
def test_filled_arrays_are_let_go():
    dense, z = softmax.dense("z"), jnp.asarray(RNG.normal(size=(4, 3)))
    dense(z=z)
    gc.collect()
    before = len(jax.live_arrays())
    gc.disable()
    try:
        for _ in range(5):
            dense(z=z)
        assert len(jax.live_arrays()) <= before
    finally:
        gc.enable()


def test_memory_that_xla_made_is_written_before_anyone_has_it():
    first, second = (jax_memory.blank((40, 30), np.dtype("float32")) for _ in range(2))
    assert not first.any()
    first[...] = 1.0
    assert not second.any()
    taken = jax_memory.adopted(first)
    assert isinstance(taken, jax.Array)
    assert taken.unsafe_buffer_pointer() == first.ctypes.data
    third = jax_memory.blank((40, 30), np.dtype("float32"))
    assert third.ctypes.data != first.ctypes.data
    assert not third.any()
    np.testing.assert_array_equal(jnp.sum(taken), 1200.0)


@pytest.mark.parametrize("change", [lambda a: a * 2, lambda a: a[1:], lambda a: a.T])
def test_what_is_no_longer_the_whole_memory_is_adopted_as_it_is(change):
    memory = jax_memory.blank((4, 4), np.dtype("float32"))
    memory[...] = RNG.normal(size=(4, 4))
    changed = change(memory)
    np.testing.assert_array_equal(jax_memory.adopted(changed), changed)


@pytest.mark.parametrize("entries", [1 << 20, 1 << 22])
def test_fresh_and_used_memory_both_hold_zeros(entries):
    shape = (entries // 4, 4)
    memory = jax_memory.blank(shape, np.dtype("float64"))
    assert memory.shape == shape
    assert not memory.any()
    assert jax_memory.adopted(memory).shape == shape


@pytest.mark.usefixtures("filling")
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_filled_arrays_of_earlier_calls_stay_what_they_are(dtype):
    dense = softmax.dense("z")
    points = [jnp.asarray(RNG.normal(size=(5, 4)), dtype) for _ in range(3)]
    kept = [dense(z=z) for z in points]
    for z, found in zip(points, kept, strict=True):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, softmax.dense("z")(z=np.asarray(z)))
