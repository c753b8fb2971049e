"""Layers as people write them by hand, right and with one mistake: verdicts, and what the user is told."""

# ruff: noqa: ARG004, ARG005 - signatures are torch's
from __future__ import annotations

import functools

import numpy as np
import pytest

from gradcheck import constant, labels, mask, number, real, verify_layer, verify_vjp

torch = pytest.importorskip("torch")
torch_only = functools.partial(verify_layer, oracles=["torch"], profile="quick")


def words(report):
    """The report in one line."""
    return " ".join(str(report).split())


def kinds(report):
    """The verdicts by input."""
    return {c.input: str(c.verdict) for c in report.checks}


# ---------------------------------------------------------------- sizes that a forward or a rule refuses


class Upsample(torch.autograd.Function):
    """Every entry twice along the last axis."""

    @staticmethod
    def forward(ctx, x):
        return x.repeat_interleave(2, -1)

    @staticmethod
    def backward(ctx, g):
        return g.reshape(*g.shape[:-1], -1, 2).sum(-1) if g.numel() else g[..., ::2]


def test_a_framework_may_refuse_arrays_without_entries():
    def twice(x):
        return torch.nn.functional.interpolate(x, scale_factor=2)

    report = torch_only(Upsample.apply, of={"torch": twice}, inputs={"x": real("b c n")})
    assert report.ok, str(report)
    assert "the forward raises RuntimeError at size 0" in words(report)


class Convolved(torch.autograd.Function):
    """A convolution without padding, with or without the bias' gradient at its own place."""

    own = 1

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return torch.nn.functional.conv1d(x, w)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        gx = torch.nn.grad.conv1d_input(x.shape, w, g) if ctx.needs_input_grad[0] else None
        gw = torch.nn.grad.conv1d_weight(x, w.shape, g) if ctx.needs_input_grad[1] else None
        return gx, gw


def test_a_framework_may_refuse_sizes_that_it_cannot_have():
    inputs = {"x": real("n 2 l"), "w": real("3 2 3")}
    of = {"torch": torch.nn.functional.conv1d}
    report = torch_only(Convolved.apply, of=of, inputs=inputs)
    assert report.ok, str(report)
    assert "the forward raises RuntimeError: Calculated padded input size" in words(report)


def convolution(xp, x, w):
    k, n = w.shape[0], x.shape[0]
    return xp.stack([xp.sum(x[i : i + k] * w) for i in range(n - k + 1)])


def test_a_rule_may_refuse_an_input_without_entries():
    def backward(g, x, w):
        return np.convolve(g, w), np.correlate(x, g, "valid")

    report = verify_vjp(
        backward, of=convolution, inputs={"x": real("n"), "w": real("k")}, where="n >= k",
        oracles=["differences"], profile="quick",
    )  # fmt: skip
    assert report.ok, str(report)
    assert "the rule raises ValueError at size 0" in words(report)


def test_where_a_rule_raises_the_sizes_are_told():
    def of(xp, z):
        return xp.sum(z * z) / z.shape[1]

    def backward(g, z):
        return 2 * g * z / z.shape[1] + 0 / (z.shape[1] - 1)

    report = verify_vjp(backward, of=of, inputs={"z": real("m c")}, oracles=["differences"])
    assert not report.ok
    told = words(report)
    assert "c = 1: ZeroDivisionError: division by zero" in told
    assert "if the rule is not meant for such sizes, say where=" in told


# ---------------------------------------------------------------- rounding where no bound is derived


def test_a_frameworks_own_forward_may_round_where_one_point_does_not_show_it():
    """Equal values cancel in the backward pass of a softmax, in each implementation to another last digit."""

    class Mixed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, s, v):
            a = torch.softmax(s, -1)
            ctx.save_for_backward(a, v)
            return a @ v

        @staticmethod
        def backward(ctx, g):
            a, v = ctx.saved_tensors
            ga = g @ v.T
            return a * (ga - (ga * a).sum(-1, keepdim=True)), a.T @ g

    row = np.array([0.01, 0.003, 3e-12, 20.0, -500.0, -3.0, -0.1, 2e-7])
    data = {"s": np.array([[-30.0, 0.03, 1.7]]), "v": np.stack([row, row, row])}
    report = verify_layer(
        Mixed.apply, of={"torch": lambda s, v: torch.softmax(s, -1) @ v}, oracles=["torch"],
        inputs={"s": real("m n"), "v": real("n d")}, data=data,
    )  # fmt: skip
    assert kinds(report)["v"] == "agrees", str(report)
    assert kinds(report)["s"] != "refuted", str(report)


class GroupNorm(torch.autograd.Function):
    """Two groups of channels, with what is counted."""

    @staticmethod
    def forward(ctx, x, w, b, per):
        n, c, _ = x.shape
        groups = x.reshape(n, 2, c // 2 * x.shape[2])
        mean = groups.mean(-1, keepdim=True)
        r = ((groups - mean).square().mean(-1, keepdim=True) + 1e-5).rsqrt()
        normal = (groups - mean) * r
        ctx.save_for_backward(normal, r, w)
        ctx.per = per
        return normal.reshape(x.shape) * w[:, None] + b[:, None]

    @staticmethod
    def backward(ctx, g):
        normal, r, w = ctx.saved_tensors
        scaled = (g * w[:, None]).reshape(normal.shape)
        count = normal.shape[-1] / ctx.per
        mean = scaled.sum(-1, keepdim=True) / count
        along = (scaled * normal).sum(-1, keepdim=True) / count
        gx = (r * (scaled - mean - normal * along)).reshape(g.shape)
        return gx, (g * normal.reshape(g.shape)).sum((0, 2)), g.sum((0, 2)), None


@pytest.mark.parametrize("per", [1, 2])
def test_a_fused_forward_has_rounding_of_its_own(per):
    data = {
        "x": np.full((1, 4, 1), 0.64), "w": np.array([0.3, 0.1, 0.7, 1.89]), "b": np.zeros(4),
    }  # fmt: skip
    ask = functools.partial(
        verify_layer,
        lambda x, w, b: GroupNorm.apply(x, w, b, per),
        of={"torch": lambda x, w, b: torch.nn.functional.group_norm(x, 2, w, b)},
        inputs={"x": real("n 4 l"), "w": real("4"), "b": real("4")},
        oracles=["torch"],
    )
    report = ask(profile="quick")
    assert kinds(report)["x"] == ("agrees" if per == 1 else "refuted"), str(report)
    assert kinds(report)["b"] == "agrees"
    if per == 1:
        assert "differences cannot tell" not in words(report)
        assert "another function" not in words(ask(data=data))


def sigmoid(z):
    """Right, and without digits where z is far below 0."""
    return 0.5 * (1 + np.tanh(z / 2))


def entropy(xp, z, y):
    return xp.mean(xp.logaddexp(0.0, z) - y * z)


@pytest.mark.parametrize("factor", [1, 1 + 1e-9])
def test_a_rule_that_cancels_is_told_so_and_one_that_is_wrong_is_refuted(factor):
    report = verify_vjp(
        lambda g, z, y: factor * g * (sigmoid(z) - y) / z.size, of=entropy, oracles=["autograd"],
        inputs={"z": real("m n"), "y": constant(real("m n", 0, 1))},
        data={"z": np.array([[-10.0, 1.0, 0.5]]), "y": np.array([[0.0, 1.0, 0.25]])},
    )  # fmt: skip
    assert report.ok == (factor == 1), str(report)
    told = "the rule rounds where a derivative of `of` need not: in float64"
    assert (told in words(report)) == (factor == 1)


def attention(xp, q, k, v, m):
    scores = xp.where(m == 0, -1e9, q @ xp.matrix_transpose(k) / float(q.shape[-1]) ** 0.5)
    e = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True) @ v


class Attention(torch.autograd.Function):
    """Its backward forgets that a row without any key has scores of no gradient."""

    @staticmethod
    def forward(ctx, q, k, v, m):
        a = torch.softmax((q @ k.T / q.shape[-1] ** 0.5).masked_fill(m == 0, -1e9), -1)
        ctx.save_for_backward(q, k, v, a)
        return a @ v

    @staticmethod
    def backward(ctx, g):
        q, k, v, a = ctx.saved_tensors
        ga = g @ v.T
        gs = a * (ga - (ga * a).sum(-1, keepdim=True)) / q.shape[-1] ** 0.5
        return gs @ k, gs.T @ q, a.T @ g, None


def test_what_is_wrong_by_its_values_is_not_called_nonlinear_for_its_rounding():
    data = {
        "q": np.array([[-709.5, -354.5, 0.0], [-709.5, 708.0, 0.0], [0.0, 709.0, 0.0], [0.0, -708.5, 0.0]]),
        "k": np.array([[-707.0, 1.0, 1.0], [-709.0, -710.0, -708.0]]),
        "v": np.array([[0.0, -709, 0, -708, 0], [0, 0, -709.0, -709, -710]]),
        "m": np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]),
    }  # fmt: skip
    report = verify_layer(
        Attention.apply, of=attention, oracles=["autograd"], data=data,
        inputs={"q": real("t d"), "k": real("s d"), "v": real("s e"), "m": mask("t s")},
    )  # fmt: skip
    assert kinds(report) == {"q": "refuted", "k": "refuted", "v": "agrees"}
    assert "Not linear" not in str(report), str(report)


# ---------------------------------------------------------------- what a layer keeps


class Dense:
    """Adds its gradients to arrays that it has had from the start."""

    def __init__(self, features, outputs):
        self.w, self.b = np.ones((features, outputs)), np.zeros(outputs)
        self.dw, self.db = np.full((features, outputs), 7.0), np.zeros(outputs)

    def forward(self, x):
        self.x = x
        return x @ self.w + self.b

    def backward(self, g):
        self.dw += self.x.T @ g
        self.db += g.sum(0)
        return g @ self.w.T


class AveragedDense(Dense):
    def backward(self, g):
        self.db += g.mean(0) - g.sum(0) if len(g) else 0
        return super().backward(g)


@pytest.mark.parametrize(("layer", "bias"), [(Dense, "agrees"), (AveragedDense, "refuted")])
def test_gradients_are_added_to_arrays_of_the_size_at_hand(layer, bias):
    report = verify_layer(
        layer(4, 3), of=lambda xp, x, w, b: x @ w + b, grads={"w": "dw", "b": "db"},
        inputs={"x": real("m n"), "w": real("n o"), "b": real("o")}, oracles=["autograd"], profile="quick",
    )  # fmt: skip
    assert kinds(report) == {"x": "agrees", "w": "agrees", "b": bias}, str(report)


class Stale(torch.autograd.Function):
    """Keeps its output on the class, where the next call overwrites it."""

    kept = None

    @staticmethod
    def forward(ctx, x):
        Stale.kept = x.tanh()
        return Stale.kept.clone()

    @staticmethod
    def backward(ctx, g):
        return g * (1 - Stale.kept**2)


def test_a_layer_that_stands_twice_in_a_model():
    report = verify_layer(
        Stale.apply, of=lambda xp, x: xp.tanh(x), inputs={"x": real("m n")}, oracles=["autograd"]
    )
    assert kinds(report) == {"x": "refuted"}, str(report)
    assert "Wrong where the layer is called again before backward" in str(report)
    assert "keep it with the call, as ctx.save_for_backward does" in words(report)


class Careless(torch.autograd.Function):
    """Counts on the gradient of x, which nobody asks for where w alone is trained."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        gx = g * w if ctx.needs_input_grad[0] else None
        return gx, (gx / w) * x


def test_a_backward_that_raises_where_one_input_alone_is_trained():
    report = verify_layer(
        Careless.apply, of=lambda xp, x, w: x * w, oracles=["autograd"], profile="quick",
        inputs={"x": real("m n", 1, 2), "w": real("m n", 1, 2)},
    )  # fmt: skip
    assert not report.ok
    told = words(report)
    assert "where w alone requires a gradient, as where w is trained on data that is not" in told
    assert "raises TypeError" in told


# ---------------------------------------------------------------- what cannot be, in our words


def test_complex_numbers_are_refused_in_our_words():
    class Fourier(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return torch.fft.fft(x)

        @staticmethod
        def backward(ctx, g):
            return torch.fft.ifft(g).real * g.shape[-1]

    inputs = {"x": real("m 4")}
    report = torch_only(Fourier.apply, of={"torch": torch.fft.fft}, inputs=inputs)
    assert not report.ok
    assert "the forward gives complex numbers, whose derivatives are not verified here" in words(
        report
    )
    of = {"torch": lambda x: torch.fft.fft(x).real}
    assert "Fourier gives complex numbers" in words(torch_only(Fourier.apply, of=of, inputs=inputs))


def test_a_forward_of_torchs_own_functions_is_told_where_it_goes():
    report = torch_only(Stale.apply, of=lambda xp, x: torch.tanh(x), inputs={"x": real("m n")})
    assert not report.ok
    assert 'or of={"torch": fn} for a function on tensors' in words(report)


def test_losses_with_their_mistakes():
    """A parameter put in as a number, a mean over rows for one over entries: each is refuted."""

    def focal(xp, p, y, *, g):
        right = y * p + (1 - y) * (1 - p)
        return -xp.mean((1 - right) ** g * xp.log(right))

    def backward(power, count, d, p, y, *, g):
        right, sign, k = y * p + (1 - y) * (1 - p), 2 * y - 1, power or g
        slope = k * (1 - right) ** (k - 1) * np.log(right) - (1 - right) ** g / right
        return d * sign * slope / count(p)

    ask = functools.partial(
        verify_vjp, of=focal, inputs={"p": real("m n", 0.05, 0.95), "y": mask("m n")},
        params={"g": number(1.0, 4.0)}, oracles=["autograd"], profile="quick",
    )  # fmt: skip
    assert ask(functools.partial(backward, None, np.size)).ok
    assert kinds(ask(functools.partial(backward, 2, np.size))) == {"p": "refuted"}
    assert kinds(ask(functools.partial(backward, None, len))) == {"p": "refuted"}


def test_repeated_labels_that_overwrite_each_other():
    def of(xp, x, i):
        return xp.take(x, i, axis=1)

    def added(g, x, i):
        found = np.zeros_like(x)
        np.add.at(found.T, i, g.T)
        return found

    def written(g, x, i):
        found = np.zeros_like(x)
        found[:, i] += g
        return found

    ask = functools.partial(
        verify_vjp, of=of, inputs={"x": real("m n"), "i": labels("k", below="n")},
        oracles=["autograd"], profile="quick",
    )  # fmt: skip
    assert ask(added).ok
    assert kinds(ask(written)) == {"x": "refuted"}


def to_all(g, x):
    return (x == x.max(1, keepdims=True)) * g[:, None]


def to_none(g, x):
    alone = (x == x.max(1, keepdims=True)).sum(1, keepdims=True) == 1
    return to_all(g, x) * alone


def shared(g, x):
    return to_all(g, x) / (x == x.max(1, keepdims=True)).sum(1, keepdims=True)


def to_first(g, x):
    found = np.zeros_like(x)
    found[np.arange(len(x)), x.argmax(1)] = g
    return found


@pytest.mark.parametrize(("rule", "right"), [(to_all, 0), (to_none, 0), (shared, 1), (to_first, 1)])
def test_equal_largest_entries_share_one_gradient(rule, right):
    report = verify_vjp(
        rule, of=lambda xp, x: xp.max(x, axis=1), inputs={"x": real("m n")}, oracles=["autograd"],
        where="n >= 1",
    )  # fmt: skip
    assert report.ok == bool(right), str(report)
    told = "whatever is chosen there: equal entries share one gradient, or one of them has it all"
    assert (told in words(report)) != right
    assert ("Wrong at a tie" in str(report)) != right
