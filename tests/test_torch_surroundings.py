"""`verify_layer` on torch: hooks, gradients that are off outside, and modules that cannot run so."""

# ruff: noqa: ARG005 - signatures are torch's
from __future__ import annotations

import functools

import pytest

from gradcheck import real, verify_layer
from gradcheck.errors import UsageError

torch = pytest.importorskip("torch")
verify = functools.partial(verify_layer, oracles=["autograd"], profile="quick")


def add(xp, x, b):
    return xp.add(x, b)


ADD = {"of": add, "inputs": {"x": real("m n"), "b": real("n")}}


def added(name, backward):
    """x + b as a Function with this backward."""
    parts = {"forward": staticmethod(lambda ctx, x, b: x + b), "backward": staticmethod(backward)}
    return type(name, (torch.autograd.Function,), parts).apply


def tanh(xp, x):
    return xp.tanh(x)


TANH = {"of": tanh, "inputs": {"x": real("m n")}}


def test_a_backward_that_asks_for_another_input_than_it_gives():
    def swapped(ctx, g):
        first, second = ctx.needs_input_grad
        return (g if second else None), (g.sum(0) if first else None)

    report = verify(added("Swapped", swapped), **ADD)
    assert not report.ok
    assert "alone requires a gradient, Swapped gives it none" in " ".join(str(report).split())

    def asked(ctx, g):
        first, second = ctx.needs_input_grad
        return (g if first else None), (g.sum(0) if second else None)

    assert verify(added("Asked", asked), **ADD).ok


def test_an_output_without_derivative():
    class Signed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            sign = torch.sign(x)
            ctx.mark_non_differentiable(sign)
            return x * x, sign

        @staticmethod
        def backward(ctx, g, _):
            return 2 * ctx.saved_tensors[0] * g

    report = verify(Signed.apply, of=lambda xp, x: (x * x, xp.sign(x)), inputs={"x": real("m n")})
    assert report.ok, report


@pytest.mark.parametrize("outside", [torch.no_grad, torch.inference_mode])
def test_gradients_are_recorded_whatever_the_caller_is_in(outside):
    with outside():
        assert verify(torch.nn.Tanh(), **TANH).ok


def test_hooks_that_change_gradients_are_part_of_a_module():
    hooked = torch.nn.Tanh()
    hooked.register_full_backward_hook(lambda _module, given, _out: (2 * given[0],))
    assert not verify(hooked, **TANH).ok

    def linear(xp, x, weight):
        return xp.matmul(x, weight.T)

    module = torch.nn.Linear(3, 2, bias=False)
    of = {"of": linear, "inputs": {"x": real("m 3"), "weight": real("2 3")}}
    assert verify(module, **of).ok
    module.weight.register_hook(lambda g: 2 * g)
    assert {c.input: str(c.verdict) for c in verify(module, **of).checks} == {
        "x": "agrees",
        "weight": "refuted",
    }


def test_an_input_changed_in_place_teaches():
    report = verify(
        torch.nn.ReLU(inplace=True), of=lambda xp, x: xp.maximum(x, 0), inputs=TANH["inputs"]
    )
    assert not report.ok
    assert "hand it a copy: verify_layer(lambda x: layer(x.clone())" in " ".join(
        str(report).split()
    )


class Kept(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(3))
        self.twice = self.w * 2

    def forward(self, x):
        return x * self.twice


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: torch.nn.Linear(3, 3, device="meta"), "lies on the meta device"),
        (Kept, "Compute it in forward, or keep it as a constant"),
        (lambda: torch.nn.DataParallel(torch.nn.Tanh()), "layer.module"),
    ],
)
def test_modules_that_cannot_run_on_other_tensors_teach(make, text):
    with pytest.raises(UsageError, match=text):
        verify(make(), of=lambda xp, x, w: x * w, inputs={"x": real("m 3"), "w": real("3")})


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_lazy_module_teaches():
    with pytest.raises(UsageError, match="lazy parameters take theirs from it"):
        verify(
            torch.nn.LazyLinear(2, bias=False),
            of=lambda xp, x, weight: xp.matmul(x, weight.T),
            inputs={"x": real("m 3"), "weight": real("2 3")},
        )
