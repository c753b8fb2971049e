"""`verify_layer` on torch: what backward returned before the engine repairs it, modules, state."""

# ruff: noqa: ARG004, ARG005, NPY002 - signatures are torch's; NumPy's global generator is meant
from __future__ import annotations

import functools

import numpy as np
import pytest

from gradcheck import constant, labels, load, number, real, verify_layer
from gradcheck.errors import UsageError

torch = pytest.importorskip("torch")
verify = functools.partial(verify_layer, oracles=["autograd"], profile="quick")
HAS_GPU = torch.cuda.is_available()


def add(xp, x, b):
    return xp.add(x, b)


ADD = {"of": add, "inputs": {"x": real("m n"), "b": real("n")}}


class Add(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, b):
        return x + b

    @staticmethod
    def backward(ctx, g):
        return g, g.sum(0)


def variant(name, backward, base=Add, forward=None):
    """A Function like another one with another backward."""
    parts = {"backward": staticmethod(backward)}
    if forward is not None:
        parts["forward"] = staticmethod(forward)
    return type(name, (base,), parts)


def verdicts(report):
    return {c.input: str(c.verdict) for c in report.checks}


def refuted(report, name):
    """The text of the fault or the kind of what is wrong with one input, which alone is refuted."""
    assert {n for n, v in verdicts(report).items() if v == "refuted"} == {name}, str(report)
    return str(report)


# ---------------------------------------------------------------- functions


def test_a_right_function_agrees():
    report = verify(Add.apply, **ADD)
    assert report.ok, str(report)
    assert {c.claim for c in report.checks} == {"Add"}
    assert {c.kind for c in report.checks} == {"layer"}


def test_a_forgotten_broadcast_sum_which_the_engine_and_torchs_own_checker_repair():
    wrong = variant("Forgotten", lambda ctx, g: (g, g))
    x = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
    b = torch.ones(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(wrong.apply, (x, b))
    text = refuted(verify(wrong.apply, **ADD), "b")
    assert "the shape is wrong: sum over axis 0" in text.lower()
    assert "b was broadcast, so sum over axis 0" in text


def test_a_gradient_of_another_dtype_which_the_engine_casts():
    wrong = variant("Narrow", lambda ctx, g: (g, g.float().sum(0)))
    assert "the gradient of b is float32, but b is float64" in refuted(
        verify(wrong.apply, **ADD), "b"
    )


def test_a_missing_gradient():
    wrong = variant("Missing", lambda ctx, g: (g, None))
    assert "the gradient of b is None" in refuted(verify(wrong.apply, **ADD), "b")


def test_another_number_of_gradients():
    wrong = variant("Short", lambda ctx, g: g)
    report = verify(wrong.apply, **ADD)
    assert set(verdicts(report).values()) == {"refuted"}
    assert "Short.backward returned 1 gradient for 2 arguments of forward" in str(report)


def test_the_original_backward_is_put_back():
    before = vars(Add)["backward"]
    verify(Add.apply, **ADD)
    inherited = type("Inherits", (Add,), {})
    verify(inherited.apply, **ADD)
    assert vars(Add)["backward"] is before
    assert "backward" not in vars(inherited)


@pytest.mark.parametrize(
    ("backward", "words"),
    [
        (lambda ctx, g: (-g, g.sum(0)), "The sign is wrong"),
        (lambda ctx, g: (2 * g, g.sum(0)), "Wrong factor: 2 too much"),
        (lambda ctx, g: (torch.ones_like(g), g.sum(0)), "ot linear in the cotangent"),
        (lambda ctx, g: (g.mul_(2), g.sum(0) / 2), "rgument is written into"),
        (lambda ctx, g: (g.abs(), g.sum(0)), "ot linear in the cotangent"),
        (lambda ctx, g: (g + 1e-4, g.sum(0)), "ot linear in the cotangent"),
    ],
)
def test_wrong_backwards_name_argument_and_kind(backward, words):
    report = verify(variant("Wrong", backward).apply, **ADD)
    assert verdicts(report)["x"] == "refuted", str(report)
    assert words in str(report)


def test_a_backward_that_needs_contiguous_cotangents():
    wrong = variant("Flat", lambda ctx, g: (g.clone().view(-1).view(g.shape), g.sum(0)))
    assert not verify(wrong.apply, **ADD).ok


def test_another_forward_is_refuted_as_such():
    other = variant("Shifted", lambda ctx, g: (g, g.sum(0)), forward=lambda ctx, x, b: x + b + 1e-9)
    report = verify(other.apply, **ADD)
    assert set(verdicts(report).values()) == {"refuted"}
    assert "the layer computes another function than `of`" in str(report)


def test_parameters_follow_by_place():
    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, factor):
            ctx.factor = factor
            return factor * x

        @staticmethod
        def backward(ctx, g):
            return ctx.factor * g, None

    wanted = {
        "of": lambda xp, x, *, c: c * x,
        "inputs": {"x": real("n")},
        "params": {"c": number(1, 3)},
    }
    assert verify(Scale.apply, **wanted).ok
    fixed = variant("AtTwo", lambda ctx, g: (2 * g, None), base=Scale)
    assert "c = " in refuted(verify(fixed.apply, **wanted), "x")


def test_labels_and_constants_get_none():
    class Pick(torch.autograd.Function):
        @staticmethod
        def forward(ctx, w, t):
            ctx.save_for_backward(t)
            ctx.rows = w.shape[0]
            return w[t]

        @staticmethod
        def backward(ctx, g):
            return _pick_backward(ctx, g, adds=True)

    wanted = {
        "of": lambda xp, w, t: xp.take(w, t, axis=0),
        "inputs": {"w": real("k n"), "t": labels("m", below="k")},
    }
    assert verify(Pick.apply, **wanted).ok
    overwrites = variant("Overwrites", lambda ctx, g: _pick_backward(ctx, g, adds=False), base=Pick)
    assert verdicts(verify(overwrites.apply, **wanted)) == {"w": "refuted"}


def _pick_backward(ctx, g, *, adds):
    """Repeated labels add up, or overwrite one another."""
    (t,) = ctx.saved_tensors
    grad = g.new_zeros(ctx.rows, g.shape[1])
    if adds:
        return grad.index_add(0, t, g), None
    grad[t] = g
    return grad, None


class Pair(torch.autograd.Function):
    """Two outputs; None stands for a cotangent that is not there."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.set_materialize_grads(False)
        return 2 * x, x * x

    @staticmethod
    def backward(ctx, g, h):
        (x,) = ctx.saved_tensors
        total = torch.zeros_like(x)
        if g is not None:
            total = total + 2 * g
        return total if h is None else total + 2 * x * h


def test_two_outputs_one_of_which_is_left_out():
    wanted = {"of": lambda xp, x: (2 * x, x * x), "inputs": {"x": real("n")}}
    report = verify(Pair.apply, **wanted)
    assert report.ok, str(report)
    assert "cotangent" in str(report.notes)
    wrong = variant(
        "Careless",
        lambda ctx, g, h: 2 * g + 2 * ctx.saved_tensors[0] * (0 if h is None else h),
        base=Pair,
    )
    careless = verify(wrong.apply, **wanted)
    assert not careless.ok


def test_forward_mode_is_compared_with_reverse_mode():
    class Sine(torch.autograd.Function):
        @staticmethod
        def forward(x):
            return torch.sin(x)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx, g):
            return g * torch.cos(ctx.saved_tensors[0])

        @staticmethod
        def jvp(ctx, t):
            return t * torch.cos(ctx.saved_tensors[0])

    wanted = {"of": lambda xp, x: xp.sin(x), "inputs": {"x": real("n", -3, 3)}}
    report = verify(Sine.apply, **wanted)
    assert report.ok, str(report)
    assert any("⟨v, Ju⟩ = ⟨Jᵀv, u⟩" in note for note in report.notes)
    Sine.jvp = staticmethod(lambda ctx, t: -t * torch.cos(ctx.saved_tensors[0]))
    assert "contradict each other" in refuted(verify(Sine.apply, **wanted), "x")


# ---------------------------------------------------------------- modules


def dense():
    return load("weighted_sum")("x", load("transpose")("weight"), "bias")


def test_a_linear_module_with_its_weight_transposed():
    module = torch.nn.Linear(4, 3)
    before = {n: p.detach().clone() for n, p in module.named_parameters()}
    report = verify(module, of=dense())
    assert report.ok, str(report)
    assert set(verdicts(report)) == {"x", "weight", "bias"}
    assert "Linear (train mode)" in str(report)
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None
        assert parameter.dtype is torch.float32


def test_a_module_around_a_function_that_forgets_a_sum():
    class Bias(torch.nn.Module):
        def __init__(self, function):
            super().__init__()
            self.b, self.function = torch.nn.Parameter(torch.zeros(3)), function

        def forward(self, x):
            return self.function.apply(x, self.b)

    assert verify(Bias(Add), **ADD).ok
    wrong = variant("Forgotten", lambda ctx, g: (g, g))
    assert "sum over axis 0" in refuted(verify(Bias(wrong), **ADD), "b")


def test_a_wrong_shape_inside_a_module_that_no_leaf_shows():
    wrong = variant("Forgotten", lambda ctx, g: (g, g))

    class Inside(torch.nn.Module):
        def forward(self, x, b):
            return wrong.apply(x, 2 * b)

    report = verify(Inside(), of=lambda xp, x, b: x + 2 * b, inputs=ADD["inputs"])
    assert set(verdicts(report).values()) == {"refuted"}
    assert "Forgotten.backward returned a gradient of shape" in str(report)


def test_modules_with_state_random_or_not():
    class Noisy(torch.nn.Module):
        """Batch norm's kind of state, and noise that does not reach the value."""

        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(3))
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            assert float(self.calls) == 1
            keep = torch.rand(()) < 2
            return self.w * x * keep

    module, state = Noisy(), torch.get_rng_state()
    report = verify(module, of=lambda xp, x, w: w * x, inputs={"x": real("m n"), "w": real("n")})
    assert report.ok, str(report)
    assert float(module.calls) == 0
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_is_the_same_on_a_second_call():
    class Dropped(torch.nn.Module):
        def forward(self, x):
            return x + 0 * torch.nn.functional.dropout(x, 0.5)

    assert verify(Dropped(), of=lambda xp, x: 1 * x, inputs={"x": real("m n", -5, 5)}).ok


def test_nested_parameters_have_dots_for_underscores():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 2)

        def forward(self, x):
            return torch.sigmoid(self.layer(x))

    of = load("sigmoid")(load("weighted_sum")("x", load("transpose")("layer_weight"), "layer_bias"))
    report = verify(Net().eval(), of=of)
    assert report.ok, str(report)
    assert "Net (eval mode)" in str(report)


def test_what_a_module_does_not_say():
    module = torch.nn.Linear(4, 3)
    with pytest.raises(UsageError, match=r"has the parameter 'bias', which is no input of `of`"):
        verify(
            module,
            of=lambda xp, x, weight: x @ weight.T,
            inputs={"x": real("m n"), "weight": real("o n")},
        )
    with pytest.raises(
        UsageError, match=r"holds bias of shape \(3,\), .* and o is 4 in weight; .*transpose"
    ):
        verify(module, of=load("weighted_sum")("x", "weight", "bias"))
    module.bias.requires_grad_(False)
    bias = {"x": real("m n"), "weight": real("o n"), "bias": constant(real("o"))}
    of = {"torch": torch.nn.functional.linear}
    report = verify_layer(module, of=of, inputs=bias, oracles=["torch"], profile="quick")
    assert set(verdicts(report)) == {"x", "weight"}
    assert report.ok, str(report)


# ---------------------------------------------------------------- other callables, and what is none


def test_a_plain_function_needs_its_framework():
    function = functools.partial(torch.add)
    with pytest.raises(
        UsageError, match='does not tell whose arrays it takes; write framework="torch"'
    ):
        verify(function, **ADD)
    assert verify(function, **ADD, framework="torch").ok


def test_classes_and_other_things_are_explained():
    with pytest.raises(UsageError, match=r"Add is a class; .*verify_layer\(Add.apply, of=...\)"):
        verify(Add, **ADD)
    with pytest.raises(
        UsageError, match=r"Linear is a class; .*verify_layer\(Linear\(...\), of=...\)"
    ):
        verify(torch.nn.Linear, **ADD)
    with pytest.raises(UsageError, match=r"a int is no layer; give a torch Function\.apply"):
        verify(3, **ADD)
    with pytest.raises(
        UsageError, match=r"grads= is for .*; this layer is a torch.autograd.Function"
    ):
        verify(Add.apply, **ADD, grads={"b": "db"})
    with pytest.raises(UsageError, match="say where the inputs live"):
        verify(Add.apply, of=add)


def test_the_report_can_be_repeated():
    wrong = variant("Forgotten", lambda ctx, g: (g, g))
    text = str(verify(wrong.apply, **ADD))
    assert 'verify_layer(Forgotten.apply, of=add, inputs={"x": real("m n"), "b": real("n")}' in text


def test_a_layer_may_refuse_arrays_without_entries():
    def of(xp, x, weight, bias):
        return xp.einsum("mik,oi->mok", x, weight[:, :, 0]) + xp.reshape(bias, (-1, 1))

    inputs = {"x": real("m 2 k"), "weight": real("3 2 1"), "bias": real("3")}
    report = verify(torch.nn.Conv1d(2, 3, 1), of=of, inputs=inputs)
    assert report.ok, str(report)
    assert "the layer raises RuntimeError at size 0" in str(report)

    class Picky(torch.nn.Conv1d):
        def forward(self, x):
            if x.shape[0] == 2:
                raise ValueError("no batches of two")
            return super().forward(x)

    report = verify(Picky(2, 3, 1), of=of, inputs=inputs)
    assert not report.ok
    assert "ValueError: no batches of two" in str(report)


def test_low_precision():
    report = verify(Add.apply, **ADD, dtypes=["float32", "bfloat16", "float16"])
    assert report.ok, str(report)
    assert {c.dtype for c in report.checks} == {"float32", "bfloat16", "float16"}


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="no CUDA device here")
def test_on_a_gpu():
    assert verify(Add.apply, **ADD, devices=["cuda"]).ok
    assert verify(torch.nn.Linear(4, 3), of=dense(), devices=["cuda"], dtypes=["float32"]).ok
    wrong = variant("Forgotten", lambda ctx, g: (g, g))
    assert "sum over axis 0" in refuted(verify(wrong.apply, **ADD, devices=["cuda"]), "b")


@pytest.mark.skipif(HAS_GPU, reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_skipped_and_does_not_pass():
    report = verify(Add.apply, **ADD, devices=["cuda"])
    assert {str(c.verdict) for c in report.checks} == {"skipped"}
    assert not report.ok


def test_random_numbers_of_numpy_are_left_alone():
    state = np.random.get_state()[1].copy()
    verify(Add.apply, **ADD)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_axes_that_are_large_as_soon_as_they_have_entries():
    def of(xp, x, w):
        return xp.matmul(x, w)

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return x @ w

        @staticmethod
        def backward(ctx, g):
            x, w = ctx.saved_tensors
            return g @ w.T, x.T @ g

    inputs = {"x": real("64 n"), "w": real("n 64")}
    report = verify(Product.apply, of=of, inputs=inputs)
    assert report.ok, str(report)
    wrong = variant("Off", lambda ctx, g: (g @ ctx.saved_tensors[1].T, -g.T @ g), base=Product)
    assert "w" in {
        c.input for c in verify(wrong.apply, of=of, inputs=inputs).checks if c.verdict != "agrees"
    }
