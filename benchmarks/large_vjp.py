"""What a verification costs: a softmax vjp at large shapes by probes, and at (4, 5) entry by entry.

    python benchmarks/large_vjp.py [ROWS ...]

Each large shape (ROWS, 32000) runs in a process of its own, so that its peak memory is its own: a NumPy
rule in float32, held against torch's reverse pass of the forward in float64. The time is set against 20
forward-and-backward passes in float32: torch's fused `softmax`, and torch's autodiff of the same forward as
written with `exp`, `max` and `sum`. Checks and passes take turns, and of each the least is taken: the others
waited for something else. The (4, 5) check is measured after warm-up, with one oracle, an example: the least
and the median, and how much of the median the process itself was busy, which other processes do not lengthen.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck import real, verify_vjp

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck.reports.model import Check

COLUMNS = 32_000
SHAPES = (128, 1024, 4096)
PASSES = 20
ROUNDS = 3
CHILD = "--child"


def softmax(xp: Any, z: Any) -> Any:
    """Along the last axis."""
    e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def backward(v: Any, z: Any) -> Any:
    """Its vjp, as one writes it in NumPy."""
    e = np.exp(z - z.max(-1, keepdims=True))
    a = e / e.sum(-1, keepdims=True)
    return a * (v - (v * a).sum(-1, keepdims=True))


def seconds(run: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def passes(rows: int) -> tuple[float, float]:
    """One forward-and-backward pass of torch: fused, and of the forward as written."""
    import torch

    z, v = torch.randn(rows, COLUMNS, requires_grad=True), torch.randn(rows, COLUMNS)

    def written() -> Any:
        e = torch.exp(z - z.amax(-1, keepdim=True))
        return e / e.sum(-1, keepdim=True)

    fused = min(seconds(lambda: torch.autograd.grad(torch.softmax(z, -1), z, v)) for _ in range(3))
    return fused, seconds(lambda: torch.autograd.grad(written(), z, v))


def peak() -> int:
    """Bytes of the process's largest resident set."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def verified(z: Any) -> Check:
    """The check of one large shape."""
    domains, data = {"z": real("m n")}, {"z": z}
    report = verify_vjp(backward, softmax, domains, data=data, oracles="torch", dtypes="float32")
    (check,) = report.checks
    return check


def child(rows: int) -> None:
    """One large shape: checks and passes in turn, then a line."""
    z = np.random.default_rng(0).normal(size=(rows, COLUMNS)).astype(np.float32)
    verified(z[:32])  # what is imported on the way is imported
    before = peak()
    check = verified(z)
    used, whole = peak() - before, peak()
    checks, rounds = [check.seconds], [passes(rows)]
    for _ in range(ROUNDS - 1):
        checks.append(verified(z).seconds)
        rounds.append(passes(rows))
    fused, written = (min(times) for times in zip(*rounds, strict=True))
    ours = min(checks)
    print(
        f"({rows}, {COLUMNS})  {check.verdict.value}, {check.probes} probes, detects {check.detects:.1e}; "
        f"{ours:.1f} s = {ours / PASSES / fused:.2f} x {PASSES} fused passes of {fused:.3g} s, "
        f"{ours / PASSES / written:.2f} x {PASSES} passes as written; peak {whole / 1e9:.2f} GB with the "
        f"input, {used / z.size:.0f} bytes an entry; load {os.getloadavg()[0]:.1f}"
    )


def small() -> None:
    """The (4, 5) check, an example after warm-up."""
    rng = np.random.default_rng(0)
    for oracle in ("autograd", "torch"):
        times, own = [], []
        for _ in range(40):
            data = {"z": np.round(rng.normal(size=(4, 5)), 2)}
            start, busy = time.perf_counter(), time.process_time()
            report = verify_vjp(backward, softmax, {"z": real("m n")}, data=data, oracles=oracle)
            times.append(time.perf_counter() - start)
            own.append(time.process_time() - busy)
            assert report.ok, str(report)
        warm = [1000 * s for s in times[10:]]
        middle = statistics.median(warm)
        ours = statistics.median([1000 * s for s in own[10:]])
        print(
            f"(4, 5) by {oracle}: least {min(warm):.1f} ms, median {middle:.1f} ms an example, of which "
            f"{ours:.1f} ms are the process's own"
        )


def main() -> None:
    """Small first, then each large shape in a process of its own."""
    if sys.argv[1:2] == [CHILD]:
        child(int(sys.argv[2]))
        return
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    small()
    for rows in [int(a) for a in sys.argv[1:]] or SHAPES:
        sys.stdout.flush()
        subprocess.run([sys.executable, __file__, CHILD, str(rows)], check=True)


if __name__ == "__main__":
    main()
