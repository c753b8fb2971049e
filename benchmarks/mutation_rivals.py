"""The frameworks' own gradient checkers, at their defaults, on a mutant's vjp as a custom rule."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import backends

if TYPE_CHECKING:
    from collections.abc import Callable

    from mutants import Mutant

SIZES = {"m": 3, "n": 4, "o": 2}
RIVALS = (
    "torch.autograd.gradcheck",
    "torch gradcheck, fast_mode",
    "jax check_grads (float32)",
    "autograd check_grads",
)


def refuted_by(name: str, mutant: Mutant) -> bool | None:
    """Whether a checker complains of the mutant; None where it cannot be asked."""
    if mutant.claim.output != mutant.operation.result:
        return None
    check: dict[str, Callable[[Mutant], bool]] = {
        RIVALS[0]: lambda m: _torch(m, fast=False),
        RIVALS[1]: lambda m: _torch(m, fast=True),
        RIVALS[2]: _jax,
        RIVALS[3]: _autograd,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return check[name](mutant)


def point(mutant: Mutant, dtype: str) -> dict[str, np.ndarray]:
    """Standard normal inputs, and rows of probabilities where the domain asks for them."""
    rng = np.random.default_rng(0)
    found = {}
    for name, domain in mutant.operation.inputs.items():
        array = rng.standard_normal([SIZES[a] for a in domain.shape])
        if domain.kind == "probability":
            array = np.exp(array) / np.exp(array).sum(-1, keepdims=True)
        found[name] = array.astype(dtype)
    return found


def _parts(mutant: Mutant) -> tuple[str, Callable[..., Any]]:
    """The input that is differentiated, and the rule as it was mutated."""
    return mutant.claim.input, mutant.operation.vjp(mutant.claim.input)


def _torch(mutant: Mutant, *, fast: bool) -> bool:
    import torch

    wrt, rule = _parts(mutant)
    xp = backends.get("torch").namespace("float64", "cpu")
    values = {n: torch.tensor(v) for n, v in point(mutant, "float64").items()}

    class Rule(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return mutant.operation.environment(xp, {**values, wrt: x})[mutant.claim.output].clone()

        @staticmethod
        def backward(ctx: Any, cotangent: Any) -> Any:
            (x,) = ctx.saved_tensors
            return rule(cotangent, **{**values, wrt: x})[wrt]

    x = values[wrt].clone().requires_grad_()
    return not torch.autograd.gradcheck(Rule.apply, (x,), raise_exception=False, fast_mode=fast)


def _jax(mutant: Mutant) -> bool:
    import jax
    from jax.test_util import check_grads

    wrt, rule = _parts(mutant)
    values = {n: jax.numpy.asarray(v) for n, v in point(mutant, "float32").items()}
    xp = backends.get("jax").namespace("float32", "cpu")

    @jax.custom_vjp
    def f(x: Any) -> Any:
        return mutant.operation.environment(xp, {**values, wrt: x})[mutant.claim.output]

    def back(x: Any, cotangent: Any) -> Any:
        def on_host(x: Any, cotangent: Any) -> Any:
            arrays = {**{n: np.asarray(v) for n, v in values.items()}, wrt: np.asarray(x)}
            return np.asarray(rule(np.asarray(cotangent), **arrays)[wrt], np.float32)

        return (jax.pure_callback(on_host, jax.ShapeDtypeStruct(x.shape, x.dtype), x, cotangent),)

    f.defvjp(lambda x: (f(x), x), back)
    return _complains(lambda: check_grads(f, (values[wrt],), order=1, modes=("rev",)))


def _autograd(mutant: Mutant) -> bool:
    from autograd.extend import defvjp, primitive
    from autograd.test_util import check_grads

    wrt, rule = _parts(mutant)
    values = point(mutant, "float64")
    xp = backends.get("numpy").namespace("float64", "cpu")

    @primitive
    def f(x: Any) -> Any:
        return np.asarray(
            mutant.operation.environment(xp, {**values, wrt: np.asarray(x)})[mutant.claim.output]
        )

    defvjp(
        f, lambda _answer, x: lambda g: rule(np.asarray(g), **{**values, wrt: np.asarray(x)})[wrt]
    )
    np.random.seed(0)  # noqa: NPY002  its check draws from the global generator
    return _complains(lambda: check_grads(f, modes=["rev"], order=1)(values[wrt]))


def _complains(check: Callable[[], Any]) -> bool:
    try:
        check()
    except AssertionError:
        return True
    return False
