"""How fast compiled derivatives are, beside hand-written code and automatic differentiation.

    python benchmarks/speed.py            all of it, kept in benchmarks/results/speed.json
    python benchmarks/speed.py --quick    small sizes and few rounds; kept only with --output

Everything that is compared runs in one process, in turn: each round times every contender once, in
another order each time, so that a machine whose speed drifts slows all of them. Printed are the median
and the quartiles of the ratios of single rounds, never ratios of different moments. Times are minima.
On a machine that does other work too, give each framework one thread, or idle threads are waited for:

    OMP_NUM_THREADS=1 XLA_FLAGS=--xla_cpu_multi_thread_eigen=false python benchmarks/speed.py
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import autograd  # noqa: TID253
import autograd.numpy as anp  # noqa: TID253
import jax  # noqa: TID253
import jax.numpy as jnp  # noqa: TID253
import numpy as np
import torch  # noqa: TID253

from gradcheck import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Call = Callable[[], Any]

RESULTS = Path(__file__).parent / "results" / "speed.json"
classifier = load("weighted_sum") >> load("softmax") >> load("cross_entropy")
softmax = load("softmax")


@dataclass
class Case:
    """Contenders of one task, timed in turn.

    Attributes:
        task: Which question of the four it belongs to.
        name: Sizes and framework.
        calls: What is timed, by name; "compiled" is ours.
        limits: The ratio compiled / other that is aimed at, by name of the other.
    """

    task: str
    name: str
    calls: dict[str, Call]
    limits: dict[str, float] = field(default_factory=dict)


@dataclass
class Result:
    """What a case took."""

    task: str
    name: str
    seconds: dict[str, list[float]]
    ratios: dict[str, tuple[float, float, float]]
    limits: dict[str, float]

    def verdict(self, other: str) -> str:
        """Whether the limit is met, within the quartiles or not."""
        low, middle, _ = self.ratios[other]
        if other not in self.limits:
            return ""
        limit = self.limits[other]
        if middle <= limit:
            return f"met (≤ {limit:g})"
        return f"within the spread (≤ {limit:g})" if low <= limit else f"NOT met (≤ {limit:g})"


# ---------------------------------------------------------------- timing


def measure(case: Case, rounds: int, seconds: float) -> Result:
    """Every contender once a round; a quick one several times, until `seconds` are filled."""
    counts = {}
    for name, call in case.calls.items():
        call()
        call()
        start = time.perf_counter()
        call()
        once = time.perf_counter() - start
        counts[name] = max(1, min(2000, int(seconds / max(once, 1e-7))))
    taken: dict[str, list[float]] = {name: [] for name in case.calls}
    order = list(case.calls)
    shuffle = random.Random(0).shuffle
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            shuffle(order)
            for name in order:
                taken[name].append(_timed(case.calls[name], counts[name]))
    finally:
        gc.enable()
    ratios = {n: _quartiles(taken["compiled"], t) for n, t in taken.items() if n != "compiled"}
    return Result(case.task, case.name, taken, ratios, case.limits)


def _timed(call: Call, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def _quartiles(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    ratios = np.array(ours) / np.array(theirs)
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return float(low), float(middle), float(high)


def ready(function: Callable[..., Any], *args: Any, **values: Any) -> Call:
    """A call that waits for JAX's result."""
    return lambda: jax.block_until_ready(function(*args, **values))


# ---------------------------------------------------------------- (a) the gradient of the chain


def hand_numpy(x: Any, w: Any, b: Any, y: Any) -> dict[str, Any]:
    """The closed form as one writes it."""
    z = x @ w + b
    e = np.exp(z - z.max(axis=1, keepdims=True))
    a = e / e.sum(axis=1, keepdims=True)
    d = (a - y) / len(x)
    return {"w": x.T @ d, "b": d.sum(axis=0)}


def tuned_numpy(x: Any, w: Any, b: Any, y: Any) -> dict[str, Any]:
    """The closed form by somebody who counts temporaries."""
    z = x @ w
    z += b
    z -= z.max(axis=1, keepdims=True)
    np.exp(z, out=z)
    z /= z.sum(axis=1, keepdims=True)
    z -= y
    w_bar, b_bar = x.T @ z, z.sum(axis=0)
    w_bar /= len(x)
    b_bar /= len(x)
    return {"w": w_bar, "b": b_bar}


def hand_torch(x: Any, w: Any, b: Any, y: Any) -> dict[str, Any]:
    """The closed form with torch's own softmax."""
    d = (torch.softmax(x @ w + b, 1) - y) / len(x)
    return {"w": x.T @ d, "b": d.sum(0)}


def autodiff_torch(x: Any, w: Any, b: Any, y: Any, *, fused: bool) -> dict[str, Any]:
    """Forward and backward: `cross_entropy`, or the chain link by link."""
    w.grad = b.grad = None
    z = x @ w + b
    if fused:
        loss = torch.nn.functional.cross_entropy(z, y)
    else:
        e = torch.exp(z - torch.max(z, dim=1, keepdim=True)[0])
        a = e / e.sum(1, keepdim=True)
        loss = -(y * torch.log(a)).sum() / len(y)
    loss.backward()
    return {"w": w.grad, "b": b.grad}


@jax.jit
def hand_jax(x: Any, w: Any, b: Any, y: Any) -> dict[str, Any]:
    """The closed form, compiled."""
    d = (jax.nn.softmax(x @ w + b, axis=1) - y) / len(x)
    return {"w": x.T @ d, "b": d.sum(0)}


def loss_jax(w: Any, b: Any, x: Any, y: Any) -> Any:
    """The loss that JAX differentiates."""
    return -(y * jax.nn.log_softmax(x @ w + b)).sum() / len(x)


autodiff_jax = jax.jit(jax.grad(loss_jax, argnums=(0, 1)))


def gradients(quick: bool) -> Iterator[Case]:
    """Gradient in w and b on three frameworks and at three sizes."""
    sizes = [(100, 5, 3, "float64"), (1024, 784, 10, "float32"), (4096, 512, 1000, "float32")]
    for m, n, o, dtype in sizes[: 1 if quick else 3]:
        rng = np.random.default_rng(0)
        values = {
            "x": rng.normal(size=(m, n)).astype(dtype),
            "w": (rng.normal(size=(n, o)) / n**0.5).astype(dtype),
            "b": rng.normal(size=o).astype(dtype),
            "y": np.eye(o, dtype=dtype)[rng.integers(0, o, m)],
        }
        tensors = {k: torch.from_numpy(v) for k, v in values.items()}
        leaves = {k: v.clone().requires_grad_(k in "wb") for k, v in tensors.items()}
        arrays = {k: jnp.asarray(v) for k, v in values.items()}
        chain = partial(autodiff_torch, **leaves, fused=False)
        title = f"({m}, {n}, {o}) {dtype}"
        yield Case(
            "a",
            f"{title} numpy",
            {
                "compiled": partial(classifier.gradient("w", "b"), **values),
                "by hand": partial(hand_numpy, **values),
                "by hand, in place": partial(tuned_numpy, **values),
                "torch chain": chain,
            },
            {"by hand": 1.05, "torch chain": 1.0},
        )
        yield Case(
            "a",
            f"{title} torch",
            {
                "compiled": partial(classifier.gradient("w", "b"), **tensors),
                "by hand": partial(hand_torch, **tensors),
                "autodiff": partial(autodiff_torch, **leaves, fused=True),
                "torch chain": chain,
            },
            {"by hand": 1.05, "autodiff": 1.0, "torch chain": 1.0},
        )
        yield Case(
            "a",
            f"{title} jax",
            {
                "compiled": ready(classifier.gradient("w", "b"), **arrays),
                "by hand": ready(hand_jax, **arrays),
                "autodiff": ready(autodiff_jax, arrays["w"], arrays["b"], arrays["x"], arrays["y"]),
                "torch chain": chain,
            },
            {"by hand": 1.05, "autodiff": 1.0, "torch chain": 1.0},
        )


# ---------------------------------------------------------------- (b) dense and (d) structured


def notebook(z: Any) -> Any:
    """The notebook's way: einsum with identity matrices."""
    e = np.exp(z)
    a = e / e.sum(axis=-1, keepdims=True)
    m, n = a.shape
    return np.einsum("pq,pr,qs->pqrs", a, np.eye(m), np.eye(n)) - np.einsum(
        "pq,ps,pr->pqrs", a, a, np.eye(m)
    )


def plain_autograd(z: Any) -> Any:
    """What autograd differentiates."""
    e = anp.exp(z)
    return e / anp.sum(e, axis=-1, keepdims=True)


def jacobians(quick: bool) -> Iterator[Case]:
    """The dense Jacobian of softmax, against automatic differentiation and against mere writing."""
    jax_softmax = partial(jax.nn.softmax, axis=-1)
    reverse, forward = jax.jit(jax.jacrev(jax_softmax)), jax.jit(jax.jacfwd(jax_softmax))
    for shape in [(150, 3), (100, 20), (64, 64)][: 1 if quick else 3]:
        z = np.random.default_rng(0).normal(size=shape)
        tensor, array, full = torch.from_numpy(z), jnp.asarray(z), shape + shape
        written = jax.jit(partial(jnp.full, full, 1.0))
        quarter = dict.fromkeys(("jax jacrev", "jax jacfwd", "torch jacrev", "autograd"), 0.25)
        rivals: dict[str, Call] = {
            "jax jacrev": ready(reverse, array),
            "jax jacfwd": ready(forward, array),
            "torch jacrev": partial(torch.func.jacrev(partial(torch.softmax, dim=-1)), tensor),
            "autograd": partial(autograd.jacobian(plain_autograd), z),
        }
        limits = {"writing": 1.5, **quarter}
        dense, structured = softmax.dense("z"), softmax.structured("z")
        yield Case(
            "b",
            f"{shape} numpy",
            {
                "compiled": partial(dense, z=z),
                "writing": partial(np.full, full, 1.0),
                "notebook's einsum": partial(notebook, z),
                **rivals,
            },
            limits,
        )
        yield Case(
            "b",
            f"{shape} torch",
            {
                "compiled": partial(softmax.dense("z"), z=tensor),
                "writing": partial(torch.full, full, 1.0, dtype=torch.float64),
                **rivals,
            },
            limits,
        )
        yield Case(
            "b",
            f"{shape} jax",
            {
                "compiled": ready(softmax.dense("z"), z=array),
                "writing": ready(written),
                **rivals,
            },
            limits,
        )
        against = ("dense, numpy", "dense, torch", "dense, jax") if shape == (64, 64) else ()
        yield Case(
            "d",
            f"{shape} structured",
            {
                "compiled": partial(structured, z=z),
                "dense, numpy": partial(dense, z=z),
                "dense, torch": partial(softmax.dense("z"), z=tensor),
                "dense, jax": ready(softmax.dense("z"), z=array),
            },
            dict.fromkeys(against, 0.01),
        )


# ---------------------------------------------------------------- (c) growth of the vjp


@dataclass
class Growth:
    """Times of the vjp of softmax as m·n grows, and the exponent that fits them."""

    framework: str
    entries: list[int]
    seconds: list[float]
    exponent: float
    steps: list[float]


def growth(framework: str, quick: bool, rounds: int) -> Growth:
    """The least-squares slope of log time over log entries; the smallest of several times each."""
    entries = [10**k for k in range(3, 6 if quick else 9)]
    seconds = []
    pull = softmax.vjp("z")
    for count in entries:
        shape = (count // 100, 100)
        z = np.random.default_rng(0).standard_normal(shape, np.float32)
        make = {
            "numpy": np.array,
            "torch": lambda v: torch.from_numpy(v.copy()),
            "jax": jnp.asarray,
        }
        array, cotangent = make[framework](z), make[framework](z[::-1].copy())
        call = (
            ready(pull, cotangent, z=array)
            if framework == "jax"
            else partial(pull, cotangent, z=array)
        )
        call()
        repeats = max(1, min(200, 10**6 // count))
        seconds.append(min(_timed(call, repeats) for _ in range(rounds)))
    x, t = np.log(entries), np.log(seconds)
    slope = float(np.polyfit(x, t, 1)[0])
    return Growth(framework, entries, seconds, slope, (np.diff(t) / np.diff(x)).tolist())


# ---------------------------------------------------------------- the report


def show(result: Result) -> None:
    """One case as lines."""
    best = min(result.seconds["compiled"])
    print(f"  {result.name}: compiled {1e6 * best:,.1f} µs", flush=True)
    for other, (low, middle, high) in result.ratios.items():
        took = 1e6 * min(result.seconds[other])
        print(
            f"    / {other:<18} {middle:8.4f}  [{low:.4f}, {high:.4f}]  ({took:,.1f} µs)  "
            f"{result.verdict(other)}"
        )


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    found = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "threads of torch": torch.get_num_threads(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "jax": jax.__version__,
    }
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return found
    blas = [(i["internal_api"], i.get("architecture")) for i in threadpool_info()]
    return {**found, "libraries": blas}


def main() -> int:
    """Run, print and keep; the exit status is 1 where a limit is missed beyond the spread."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds")
    parser.add_argument("--output", type=Path, help="where the figures go, as JSON")
    parser.add_argument("--only", default="abdc", help="which tasks, such as ab")
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rounds, seconds = (5, 0.002) if given.quick else (25, 0.02)
    where = environment()
    print(", ".join(f"{k} {v}" for k, v in where.items()))
    results: list[Result] = []
    for task, cases in (("a", gradients), ("bd", jacobians)):
        for case in cases(given.quick) if set(task) & set(given.only) else ():
            if case.task in given.only:
                heavy = "64, 64" in case.name or "4096" in case.name
                results.append(measure(case, max(5, rounds // 3) if heavy else rounds, seconds))
                show(results[-1])
    slopes = []
    for framework in ("numpy", "torch", "jax") if "c" in given.only else ():
        found = growth(framework, given.quick, 3 if given.quick else 7)
        slopes.append(found)
        steps = ", ".join(f"{s:.2f}" for s in found.steps)
        print(f"  vjp, {framework}: exponent {found.exponent:.3f} (steps {steps})", flush=True)
    kept = given.output or (None if given.quick else RESULTS)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        figures = {
            "environment": where,
            "cases": [asdict(r) for r in results],
            "growth": [asdict(g) for g in slopes],
        }
        kept.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    missed = [
        f"{r.name} / {o}" for r in results for o in r.limits if r.verdict(o).startswith("NOT")
    ]
    missed += [f"growth on {g.framework}" for g in slopes if g.exponent > 1.05]
    print(f"{len(missed)} limits missed" + (f": {'; '.join(missed)}" if missed else ""))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
