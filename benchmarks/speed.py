"""How fast compiled derivatives are, beside hand-written code and automatic differentiation.

    python benchmarks/speed.py            all of it, kept in benchmarks/results/speed.json
    python benchmarks/speed.py --quick    small sizes and few rounds; kept only with --output
    python benchmarks/speed.py --device cuda    (a) and (b) on a GPU, kept in speed_gpu.json

Everything that is compared runs in one process, in turn: each round times every contender once, in
another order each time, so that a machine whose speed drifts slows all of them. Printed are the median
and the quartiles of the ratios of single rounds, never ratios of different moments. Times are minima.
On a machine that does other work too, give each framework one thread, or idle threads are waited for:

    OMP_NUM_THREADS=1 XLA_FLAGS=--xla_cpu_multi_thread_eigen=false python benchmarks/speed.py
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import autograd  # noqa: TID253
import autograd.numpy as anp  # noqa: TID253
import jax  # noqa: TID253
import jax.numpy as jnp  # noqa: TID253
import numpy as np
import torch  # noqa: TID253
from growth import EXPONENT, growth, show_growth
from timing import Case, Result, measure, ready

from gradcheck import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Call = Callable[[], Any]

RESULTS = Path(__file__).parent / "results" / "speed.json"
classifier = load("weighted_sum") >> load("softmax") >> load("cross_entropy")
softmax = load("softmax")


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


def loss_numpy(w: Any, b: Any, x: Any, y: Any) -> Any:
    """The loss that autograd differentiates."""
    z = anp.dot(x, w) + b
    z = z - anp.max(z, axis=1, keepdims=True)
    return -anp.sum(y * (z - anp.log(anp.sum(anp.exp(z), axis=1, keepdims=True)))) / len(x)


autodiff_numpy = autograd.grad(loss_numpy, (0, 1))
autodiff_jax = jax.jit(jax.grad(loss_jax, argnums=(0, 1)))


def settled(device: str, function: Callable[..., Any], /, *args: Any, **values: Any) -> Call:
    """A call that waits for torch's device."""
    call = partial(function, *args, **values)
    return call if device == "cpu" else lambda: (call(), torch.cuda.synchronize())


def there(array: np.ndarray, device: str) -> tuple[torch.Tensor, jax.Array]:
    """An array as torch's and as JAX's on a device."""
    place = jax.local_devices(backend="cpu" if device == "cpu" else "gpu")[0]
    return torch.from_numpy(array).to(device), jax.device_put(array, place)


def gradients(quick: bool, device: str = "cpu") -> Iterator[Case]:
    """Gradient in w and b on three frameworks and at three sizes; NumPy's on the host alone."""
    sizes = [(100, 5, 3, "float64"), (1024, 784, 10, "float32"), (4096, 512, 1000, "float32")]
    for m, n, o, dtype in sizes[: 1 if quick else 3]:
        rng = np.random.default_rng(0)
        values = {
            "x": rng.normal(size=(m, n)).astype(dtype),
            "w": (rng.normal(size=(n, o)) / n**0.5).astype(dtype),
            "b": rng.normal(size=o).astype(dtype),
            "y": np.eye(o, dtype=dtype)[rng.integers(0, o, m)],
        }
        on = partial(settled, device)
        tensors = {k: there(v, device)[0] for k, v in values.items()}
        leaves = {k: v.clone().requires_grad_(k in "wb") for k, v in tensors.items()}
        arrays = {k: there(v, device)[1] for k, v in values.items()}
        chain = on(autodiff_torch, **leaves, fused=False)
        plain = [values[k] for k in "wbxy"]
        jax_grad = ready(autodiff_jax, *(arrays[k] for k in "wbxy"))
        title = f"({m}, {n}, {o}) {dtype}"
        if device == "cpu":
            yield Case(
                "a",
                f"{title} numpy",
                {
                    "compiled": partial(classifier.gradient("w", "b"), **values),
                    "by hand": partial(hand_numpy, **values),
                    "by hand, in place": partial(tuned_numpy, **values),
                    "autodiff": partial(autodiff_numpy, *plain),
                    "torch chain": chain,
                    "jax.grad": jax_grad,
                },
                {"by hand": 1.05, "autodiff": 1.0, "torch chain": 1.0},
            )
        yield Case(
            "a",
            f"{title} torch",
            {
                "compiled": on(classifier.gradient("w", "b"), **tensors),
                "by hand": on(hand_torch, **tensors),
                "autodiff": on(autodiff_torch, **leaves, fused=True),
                "torch chain": chain,
                "jax.grad": jax_grad,
            },
            {"by hand": 1.05, "autodiff": 1.0, "torch chain": 1.0},
        )
        yield Case(
            "a",
            f"{title} jax",
            {
                "compiled": ready(classifier.gradient("w", "b"), **arrays),
                "by hand": ready(hand_jax, **arrays),
                "autodiff": jax_grad,
                "torch chain": chain,
                "torch autograd": on(autodiff_torch, **leaves, fused=True),
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


def jacobians(quick: bool, device: str = "cpu") -> Iterator[Case]:
    """The dense Jacobian of softmax, against automatic differentiation and against mere writing."""
    jax_softmax = partial(jax.nn.softmax, axis=-1)
    reverse, forward = jax.jit(jax.jacrev(jax_softmax)), jax.jit(jax.jacfwd(jax_softmax))
    on = partial(settled, device)
    for shape in [(150, 3), (100, 20), (64, 64)][: 1 if quick else 3]:
        z = np.random.default_rng(0).normal(size=shape)
        (tensor, array), full = there(z, device), shape + shape
        written = jax.jit(partial(jnp.full, full, 1.0))
        rivals: dict[str, Call] = {
            "jax jacrev": ready(reverse, array),
            "jax jacfwd": ready(forward, array),
            "torch jacrev": on(torch.func.jacrev(partial(torch.softmax, dim=-1)), tensor),
        }
        if device == "cpu":
            rivals["autograd"] = partial(autograd.jacobian(plain_autograd), z)
        limits = {"writing": 1.5, **dict.fromkeys(rivals, 0.25)}
        if device == "cpu":
            yield Case(
                "b",
                f"{shape} numpy",
                {
                    "compiled": partial(softmax.dense("z"), z=z),
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
                "compiled": on(softmax.dense("z"), z=tensor),
                "writing": on(torch.full, full, 1.0, dtype=torch.float64, device=device),
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
        if device == "cpu":
            yield structured_at(shape, z, tensor, array)


def structured_at(shape: tuple[int, int], z: np.ndarray, tensor: Any, array: Any) -> Case:
    """The Jacobian without its zeros, against dense ones."""
    against = ("dense, numpy", "dense, torch", "dense, jax") if shape == (64, 64) else ()
    return Case(
        "d",
        f"{shape} structured",
        {
            "compiled": partial(softmax.structured("z"), z=z),
            "dense, numpy": partial(softmax.dense("z"), z=z),
            "dense, torch": partial(softmax.dense("z"), z=tensor),
            "dense, jax": ready(softmax.dense("z"), z=array),
        },
        dict.fromkeys(against, 0.01),
    )


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
    parser.add_argument("--device", default="cpu", help="cuda: torch and JAX on a GPU, (a) and (b)")
    given = parser.parse_args()
    if given.device != "cpu":
        if not torch.cuda.is_available():
            parser.error(f"--device {given.device}: torch has no such device here")
        given.only = "".join(t for t in given.only if t in "ab")
    jax.config.update("jax_enable_x64", True)
    rounds, seconds = (5, 0.002) if given.quick else (25, 0.02)
    where = environment()
    if given.device != "cpu":
        where["device"] = torch.cuda.get_device_name(given.device)
    print(", ".join(f"{k} {v}" for k, v in where.items()))
    results: list[Result] = []
    for task, cases in (("a", gradients), ("bd", jacobians)):
        for case in cases(given.quick, given.device) if set(task) & set(given.only) else ():
            if case.task in given.only:
                heavy = "64, 64" in case.name or "4096" in case.name
                results.append(measure(case, max(5, rounds // 3) if heavy else rounds, seconds))
                show(results[-1])
    slopes = []
    for framework in ("numpy", "torch", "jax") if "c" in given.only else ():
        found = growth(framework, given.quick, 3 if given.quick else 7)
        slopes.append(found)
        show_growth(found)
    usual = RESULTS if given.device == "cpu" else RESULTS.with_name("speed_gpu.json")
    kept = given.output or (None if given.quick else usual)
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
    missed += [f"growth on {g.framework}" for g in slopes if g.exponents["compiled"] > EXPONENT]
    print(f"{len(missed)} limits missed" + (f": {'; '.join(missed)}" if missed else ""))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
