"""How the time of a vjp grows with the number of entries, for us and for what people use instead."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax  # noqa: TID253
import jax.numpy as jnp  # noqa: TID253
import numpy as np
import torch  # noqa: TID253
from timing import ready, timed

from gradcheck import load

if TYPE_CHECKING:
    from timing import Call

# The largest slope of log time over log entries that is aimed at.
EXPONENT = 1.05
softmax = load("softmax")


@dataclass
class Growth:
    """Times of the vjp of softmax as m·n grows, and the exponent that fits them.

    Attributes:
        framework: The framework.
        entries: m·n.
        seconds: The smallest time at each size, by contender; "compiled" is ours.
        exponents: The least-squares slope of log time over log entries, by contender.
    """

    framework: str
    entries: list[int]
    seconds: dict[str, list[float]]
    exponents: dict[str, float]

    @property
    def steps(self) -> list[float]:
        """The slope from each size to the next."""
        x, t = np.log(self.entries), np.log(self.seconds["compiled"])
        return (np.diff(t) / np.diff(x)).tolist()  # type: ignore[no-any-return]


def hand_pull(a: Any, v: Any) -> Any:
    """The vjp of softmax as one writes it, from the softmax."""
    return a * (v - (v * a).sum(1)[:, None])


def numpy_softmax(z: Any) -> Any:
    """The softmax as one writes it."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def torch_pull(z: Any, v: Any) -> Any:
    """What torch runs: forward and backward, whose backward of softmax is one fused kernel."""
    leaf = z.detach().requires_grad_()
    return torch.autograd.grad(torch.softmax(leaf, 1), leaf, v)


@jax.jit
def jax_pull(z: Any, v: Any) -> Any:
    """JAX's own vjp."""
    return jax.vjp(partial(jax.nn.softmax, axis=1), z)[1](v)


hand_jax_pull = jax.jit(lambda z, v: hand_pull(jax.nn.softmax(z, axis=1), v))


def pulls(framework: str, z: Any, v: Any) -> dict[str, Call]:
    """The contenders on one framework."""
    pull = softmax.vjp("z")
    if framework == "numpy":
        return {
            "compiled": partial(pull, v, z=z),
            "by hand": lambda: hand_pull(numpy_softmax(z), v),
        }
    if framework == "torch":
        z, v = torch.from_numpy(z), torch.from_numpy(v)
        return {
            "compiled": partial(pull, v, z=z),
            "by hand": lambda: hand_pull(torch.softmax(z, 1), v),
            "autodiff": partial(torch_pull, z, v),
        }
    z, v = jnp.asarray(z), jnp.asarray(v)
    return {
        "compiled": ready(pull, v, z=z),
        "by hand": ready(hand_jax_pull, z, v),
        "autodiff": ready(jax_pull, z, v),
    }


def growth(framework: str, quick: bool, rounds: int) -> Growth:
    """The smallest of several times at each size, all contenders in turn."""
    entries = [10**k for k in range(3, 6 if quick else 9)]
    seconds: dict[str, list[float]] = {}
    for count in entries:
        shape = (count // 100, 100)
        z = np.random.default_rng(0).standard_normal(shape, np.float32)
        calls = pulls(framework, z, z[::-1].copy())
        for call in calls.values():
            call()
        repeats = max(1, min(200, 10**6 // count))
        best = dict.fromkeys(calls, float("inf"))
        for _ in range(max(3, rounds // 2) if count == 10**8 else rounds):
            for name, call in calls.items():
                best[name] = min(best[name], timed(call, repeats))
        for name, time_taken in best.items():
            seconds.setdefault(name, []).append(time_taken)
    x = np.log(entries)
    slopes = {n: float(np.polyfit(x, np.log(t), 1)[0]) for n, t in seconds.items()}
    return Growth(framework, entries, seconds, slopes)


def show_growth(found: Growth) -> None:
    """The exponents on one framework, and the times at the largest size."""
    steps = ", ".join(f"{s:.2f}" for s in found.steps)
    exponent = found.exponents["compiled"]
    verdict = "met" if exponent <= EXPONENT else "NOT met"
    print(f"  vjp, {found.framework}: exponent {exponent:.3f} (steps {steps})  {verdict} (≤ 1.05)")
    for name, slope in found.exponents.items():
        times = ", ".join(f"{1e6 * t:,.0f}" for t in found.seconds[name])
        print(f"    {name:<18} {slope:8.3f}  ({times} µs)", flush=True)
