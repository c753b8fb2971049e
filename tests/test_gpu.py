"""What runs on a GPU: claims, layers, kernels and compiled derivatives, on torch's and JAX's arrays there."""

from __future__ import annotations

import functools
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gradcheck import (
    Spec,
    backends,
    constant,
    delta,
    einsum,
    labels,
    load,
    real,
    verify,
    verify_layer,
    verify_vjp,
)

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
on_jax = pytest.mark.skipif(
    len(backends.get("jax").devices()) < 2, reason="JAX sees no CUDA device"
)
FRAMEWORKS = ["torch", pytest.param("jax", marks=on_jax)]
FOLDER = Path(__file__).parent.parent / "examples" / "custom_layers"
RNG = np.random.default_rng(0)
layer = functools.partial(verify_layer, devices=["cuda"], profile="quick")

softmax = load("softmax")
classifier = load("weighted_sum") >> softmax >> load("cross_entropy")


def refuted(report):
    """The inputs of which something is wrong."""
    return {c.input for c in report.checks if c.verdict == "refuted"}


def agrees(report):
    """Every check was made there, and agrees."""
    assert report.ok, str(report)
    kinds = {(c.device, str(c.verdict)) for c in report.checks}
    return kinds == {("cuda:0", "agrees")}


# ---------------------------------------------------------------- claims


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_right_claim_agrees_in_each_dtype(framework):
    report = verify(
        "softmax", oracles=[framework], devices=["cuda"], dtypes=["float64", "float32"],
        profile="quick",
    )  # fmt: skip
    assert agrees(report)
    assert len(report.checks) == 2


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_wrong_claim_is_refuted_and_the_snippet_asks_the_same_device(framework):
    wrong = Spec(
        lambda xp, z: xp.exp(z),
        inputs={"z": real("m n", -2, 2)},
        output={"e": "m n"},
        jacobian={"z": 2 * einsum("pq,pr,qs->pqrs", "e", delta, delta)},
    )
    report = verify(wrong, oracles=[framework], devices=["cuda"], profile="quick")
    assert refuted(report) == {"z"}
    text = str(report)
    assert "cuda:0" in text
    assert "Wrong factor" in text
    assert 'devices=["cuda:0"]' in text.replace("'", '"')


def test_the_command_asks_all_devices_and_says_so(tmp_path):
    kept = tmp_path / "report.json"
    command = [
        sys.executable, "-m", "gradcheck", "verify", "softmax", "--device", "all", "--oracle", "torch",
        "--profile", "quick", "--require-device", "cuda", "--output", str(kept),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    checks = json.loads(kept.read_text(encoding="utf-8"))["checks"]
    assert {c["device"] for c in checks} == {"cpu", "cuda:0"}


# ---------------------------------------------------------------- rules as plain functions


def softmax_rule(shift):
    """The vjp of softmax in any framework's arrays, with a number added that should be zero."""

    def rule(v, z):
        space = torch if isinstance(z, torch.Tensor) else jax.numpy
        a = torch.softmax(z, -1) if space is torch else jax.nn.softmax(z, -1)
        inner = space.sum(v * a, **({"dim": -1} if space is torch else {"axis": -1}))
        return a * (v - inner[..., None]) + shift * v

    return rule


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_a_rule_gets_arrays_of_that_device(framework, dtype):
    seen = set()
    inner = softmax_rule(0.0)

    def rule(v, z):
        seen.update(backends.get(framework).device_of(x) for x in (v, z))
        return inner(v, z)

    options = {
        "of": softmax, "backend": framework, "devices": ["cuda"], "dtypes": [dtype],
        "oracles": [framework], "profile": "quick",
    }  # fmt: skip
    assert agrees(verify_vjp(rule, **options))
    assert seen == {"cuda:0"}
    assert refuted(verify_vjp(softmax_rule(0.01 if dtype == "float64" else 0.3), **options)) == {
        "z"
    }


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_large_arrays_by_probes(framework):
    z = np.random.default_rng(0).normal(size=(512, 4000)).astype(np.float32)
    options = {
        "of": softmax, "backend": framework, "devices": ["cuda"], "dtypes": ["float32"],
        "oracles": ["torch"], "data": {"z": z},
    }  # fmt: skip
    report = verify_vjp(softmax_rule(0.0), **options)
    assert agrees(report)
    assert report.checks[0].probes
    assert refuted(verify_vjp(softmax_rule(1e-3), **options)) == {"z"}


# ---------------------------------------------------------------- layers


@on_jax
def test_a_custom_vjp_of_jax():
    def custom(sign):
        @jax.custom_vjp
        def scaled(x, s):
            return x * s

        def back(kept, g):
            x, s = kept
            return sign * g * s, jax.numpy.sum(g * x, axis=0)

        scaled.defvjp(lambda x, s: (x * s, (x, s)), back)
        return scaled

    def of(xp, x, s):
        return xp.multiply(x, s)

    given = {"of": of, "inputs": {"x": real("m n"), "s": real("n")}, "oracles": ["jax"]}
    assert agrees(layer(custom(1), **given, dtypes=["float64", "float32", "float16"]))
    assert refuted(layer(custom(-1), **given)) == {"x"}


def dense(xp, x, weight, bias):
    """A dense layer in torch's layout."""
    return xp.add(xp.matmul(x, xp.matrix_transpose(weight)), bias)


DENSE = {"x": real("m n"), "weight": real("o n"), "bias": real("o")}


def test_a_convolution_is_not_blamed_for_the_gpus_short_products():
    """cudnn convolves float32 with 10 bits of precision unless told not to; what the user set stays."""

    def of(xp, x, weight, bias):
        return xp.einsum("mik,oi->mok", x, weight[:, :, 0]) + bias[:, None]

    inputs = {"x": real("m 64 k"), "weight": real("8 64 1"), "bias": real("8")}
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    module = torch.nn.Conv1d(64, 8, 1)
    report = layer(module, of=of, inputs=inputs, dtypes=["float32"], oracles=["torch"])
    assert agrees(report)
    assert before == (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)


class Rounded(torch.autograd.Function):
    """A product that a backward pass computes in bfloat16."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        short = torch.bfloat16
        dx = (g.to(short) @ w.to(short).T).to(g.dtype)
        return dx, x.T @ g


def test_a_product_of_less_precision_is_refuted():
    def of(xp, x, w):
        return xp.matmul(x, w)

    inputs = {"x": real("m n"), "w": real("n o")}
    report = layer(Rounded.apply, of=of, inputs=inputs, dtypes=["float32"], oracles=["torch"])
    assert refuted(report) == {"x"}


class Gather(torch.autograd.Function):
    """Rows by label; the backward pass adds with atomic operations, in whatever order they come."""

    @staticmethod
    def forward(ctx, table, row):
        ctx.save_for_backward(row)
        ctx.rows = table.shape
        return table[row]

    @staticmethod
    def backward(ctx, g):
        (row,) = ctx.saved_tensors
        return torch.zeros(ctx.rows, dtype=g.dtype, device=g.device).index_add_(0, row, g), None


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_sums_in_another_order_each_time_count_as_the_same_answer(dtype):
    def of(xp, table, row):
        return xp.matmul(xp.one_hot(row, table.shape[0]), table)

    rng = np.random.default_rng(0)
    data = {"table": rng.normal(size=(3, 5)), "row": rng.integers(0, 3, 2000)}
    inputs = {"table": real("k n"), "row": labels("m", "k")}
    report = layer(Gather.apply, of=of, inputs=inputs, dtypes=[dtype], oracles=["torch"], data=data)
    assert agrees(report)


def test_random_numbers_of_the_device_are_left_alone():
    state = torch.cuda.get_rng_state()
    module = torch.nn.Linear(4, 3)
    assert agrees(layer(module, of=dense, inputs=DENSE, dtypes=["float32"], oracles=["torch"]))
    assert torch.equal(state, torch.cuda.get_rng_state())
    assert module.weight.device.type == "cpu"


# ---------------------------------------------------------------- Triton


@pytest.fixture(scope="module")
def kernels():
    """The example, as a module."""
    pytest.importorskip("triton")
    spec = importlib.util.spec_from_file_location("softmax_triton", FOLDER / "softmax_triton.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["softmax_triton"] = module  # where the kernels' source is looked for
    spec.loader.exec_module(module)
    return module


def test_a_right_kernel_agrees(kernels):
    report = kernels.verify(kernels.Softmax, ("float64", "float32", "float16", "bfloat16"))
    assert agrees(report)
    assert {c.dtype for c in report.checks} == {"float64", "float32", "float16", "bfloat16"}


def test_a_kernel_that_forgets_all_blocks_but_the_first_is_refuted(kernels):
    report = kernels.verify(kernels.OneBlock)
    assert refuted(report) == {"z"}
    text = str(report)
    assert "Wrong where n is 33 or more" in text
    assert 'devices=["cuda:0"]' in text
    ours = functools.partial(torch.autograd.gradcheck, kernels.OneBlock.apply)
    assert ours(torch.randn(3, 4, dtype=torch.float64, device="cuda", requires_grad=True))


def test_a_kernel_that_takes_the_cotangent_for_contiguous_is_refuted(kernels):
    class Strided(kernels.Softmax):
        @classmethod
        def backward(cls, ctx, da):
            (a,) = ctx.saved_tensors
            dz = torch.empty_like(a)
            kernels.launch(cls.kernel, a, da, dz)
            return dz

    report = kernels.verify(Strided, ("float64",))
    assert refuted(report) == {"z"}
    assert "contiguous" in str(report)


# ---------------------------------------------------------------- compiled derivatives


VALUES = {
    "x": RNG.normal(size=(6, 4)),
    "w": RNG.normal(size=(4, 3)),
    "b": RNG.normal(size=3),
    "y": np.eye(3)[RNG.integers(0, 3, 6)],
}
CALLS = {
    "gradient": lambda v, _: classifier.gradient("w", "b")(**v),
    "value_and_gradient": lambda v, _: classifier.value_and_gradient("w")(**v)[1],
    "dense": lambda v, _: {"z": softmax.dense("z")(z=v["x"])},
    "structured": lambda v, _: {"z": softmax.structured("z")(z=v["x"]).dense()},
    "matvec": lambda v, c: {"z": softmax.structured("z")(z=v["x"]) @ c(np.ones((6, 4)))},
    "vjp": lambda v, c: softmax.vjp("z")(c(np.arange(24.0).reshape(6, 4)), z=v["x"]),
    "jvp": lambda v, c: {"a": softmax.jvp("z")(c(np.arange(24.0).reshape(6, 4)), z=v["x"])},
    "hessian": lambda v, _: {"w": classifier.hessian("w", "w")(**v)},
    "hvp": lambda v, c: classifier.hvp("w")(c(np.ones((4, 3))), **v),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_programs_run_where_their_arrays_lie(framework, name):
    backend = backends.get(framework)

    def there(value):
        return backend.asarray(value, "float64", "cuda:0")

    values = {n: there(v) for n, v in VALUES.items()}
    expected = CALLS[name](VALUES, lambda v: v)
    for _ in range(2):  # the second call takes the program of the first
        found = CALLS[name](values, there)
        assert found.keys() == expected.keys()
        for n, value in found.items():
            assert backend.device_of(value) == "cuda:0"
            np.testing.assert_allclose(backend.to_numpy(value), expected[n], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_logits_of_a_hundred_in_float32(framework):
    backend = backends.get(framework)
    z = np.where(RNG.random((64, 10)) < 0.5, 100.0, -100.0)
    y = np.eye(10)[RNG.integers(0, 10, 64)]
    given = {n: backend.asarray(v, "float32", "cuda:0") for n, v in {"z": z, "y": y}.items()}
    chain = softmax >> load("cross_entropy")
    found = backend.to_numpy(chain.gradient("z")(**given)["z"])
    e = np.exp(z - z.max(1, keepdims=True))
    np.testing.assert_allclose(found, (e / e.sum(1, keepdims=True) - y) / 64, rtol=2e-6, atol=1e-9)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of what inductor would rather have
def test_inside_torch_compile():
    gradient = classifier.gradient("w", "b")

    @torch.compile(fullgraph=True)
    def step(x, w, b, y):
        found = gradient(x=x, w=w, b=b, y=y)
        return w - 0.1 * found["w"], b - 0.1 * found["b"]

    tensors = {n: torch.tensor(v, device="cuda") for n, v in VALUES.items()}
    w, b = step(**tensors)
    expected = gradient(**VALUES)
    np.testing.assert_allclose(w.cpu(), VALUES["w"] - 0.1 * expected["w"], rtol=1e-10)
    np.testing.assert_allclose(b.cpu(), VALUES["b"] - 0.1 * expected["b"], rtol=1e-10)


# ---------------------------------------------------------------- rules out


def test_a_rule_of_ours_trains_on_the_device():
    from gradcheck import as_torch

    rule = as_torch(softmax)
    assert agrees(layer(rule, of=softmax, dtypes=["float64", "float32"], oracles=["torch"]))
    z = torch.randn(5, 4, dtype=torch.float64, device="cuda", requires_grad=True)
    assert torch.autograd.gradcheck(rule, (z,))
    assert torch.autograd.gradgradcheck(rule, (z,))


@on_jax
def test_a_rule_of_ours_for_jax():
    from gradcheck import as_jax

    rule = as_jax(softmax)
    assert agrees(layer(rule, of=softmax, dtypes=["float64", "float32"], oracles=["jax"]))
    device = backends.get("jax")._device("cuda:0")
    z = jax.device_put(RNG.normal(size=(5, 4)).astype(np.float32), device)
    found = jax.jit(jax.grad(lambda z: (rule(z) ** 2).sum()))(z)
    expected = jax.grad(lambda z: (jax.nn.softmax(z) ** 2).sum())(z)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_constant_stays_without_a_gradient():
    class Weighted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, c):
            ctx.save_for_backward(c)
            return x * c

        @staticmethod
        def backward(ctx, g):
            return g * ctx.saved_tensors[0], None

    inputs = {"x": real("n"), "c": constant(real("n"))}
    report = layer(
        Weighted.apply, of=lambda xp, x, c: xp.multiply(x, c), inputs=inputs, oracles=["torch"]
    )
    assert agrees(report)
