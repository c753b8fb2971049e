"""How long a hand-written vjp takes to verify: small examples entry by entry, a large one by probes.

    python benchmarks/rule_checks.py [--shape 4096,32000] [--dtype float32] [--json FILE]

Small: a (4, 5) softmax vjp, time an example after warm-up, with one autodiff oracle; the least of several
runs, the wall clock and the processor's time of this process, since others may share the machine. Large: the
same rule by signed probes, against the time of 20 forward-and-backward passes of the oracle's framework at
the same point, measured before and after; and the most memory that it takes beyond the input, at a quarter,
a half and the whole of the rows.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from field_cases import softmax, softmax_rule

from gradcheck import real, verify_vjp

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).parent / "results" / "rule_checks.json"
RUNS = 5
PASSES = 20
PAGE = os.sysconf("SC_PAGE_SIZE")


def best(call: Callable[[], Any], runs: int) -> tuple[float, float]:
    """The least wall-clock and processor time of some runs."""
    walls, cpus = [], []
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return min(walls), min(cpus)


def small(oracle: str) -> dict[str, Any]:
    """One (4, 5) example after another, each with all raw checks and every entry compared."""
    inputs = {"z": real("4 5")}

    def check() -> Any:
        return verify_vjp(
            softmax_rule, of=softmax, inputs=inputs, oracles=oracle, profile="standard"
        )

    report = check()
    (found,) = report.checks
    drawn = found.examples + found.weak + sum(found.apart.values())
    wall, cpu = best(check, RUNS)
    return {
        "oracle": oracle, "examples": drawn, "verdict": str(found.verdict),
        "ms an example": 1e3 * wall / drawn, "processor ms an example": 1e3 * cpu / drawn,
    }  # fmt: skip


def resident() -> int:
    """The memory that this process holds, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


class Peak:
    """The most memory held while it is open, sampled fifty times a second."""

    def __enter__(self) -> Peak:
        self.start = self.most = resident()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.done.wait(0.02):
            self.most = max(self.most, resident())

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    @property
    def taken(self) -> int:
        """What came on top."""
        return self.most - self.start


def passes(z: np.ndarray, count: int) -> float:
    """Forward and backward in torch, so many times."""
    import torch

    tensor = torch.from_numpy(z).requires_grad_()
    vector = torch.ones_like(tensor)
    start = time.perf_counter()
    for _ in range(count):
        shifted = torch.exp(tensor - torch.amax(tensor, -1, keepdim=True))
        (shifted / shifted.sum(-1, keepdim=True)).backward(vector)
        tensor.grad = None
    return time.perf_counter() - start


def large(shape: tuple[int, int], dtype: str, oracle: str = "torch") -> dict[str, Any]:
    """The probes at one large point."""
    z = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    passes(z[:2], 1)
    before = passes(z, PASSES // 2)
    with Peak() as peak:
        start = time.perf_counter()
        report = verify_vjp(
            softmax_rule,
            of=softmax,
            inputs={"z": real("m n")},
            oracles=oracle,
            dtypes=dtype,
            data={"z": z},
        )
        took = time.perf_counter() - start
    twenty = before + passes(z, PASSES - PASSES // 2)
    (check,) = report.checks
    return {
        "shape": list(shape), "dtype": dtype, "oracle": oracle, "verdict": str(check.verdict),
        "reason": check.reason, "probes": check.probes, "detects": check.detects,
        "seconds": took, "seconds of 20 passes": twenty, "times": took / twenty,
        "input bytes": z.nbytes, "bytes beyond": peak.taken,
    }  # fmt: skip


def main() -> int:
    """Measure, print a line each, keep the figures."""
    parser = argparse.ArgumentParser(description="How long a hand-written vjp takes to verify.")
    parser.add_argument("--shape", default="4096,32000", help="the large shape")
    parser.add_argument("--dtype", default="float32", help="the large point's dtype")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures are kept")
    options = parser.parse_args()
    os.environ["GRADCHECK_CACHE"] = "0"
    rows, columns = (int(n) for n in options.shape.split(","))
    found: dict[str, Any] = {"small": [small(o) for o in ("autograd", "torch")], "large": []}
    for row in found["small"]:
        print(
            f"(4, 5) softmax, {row['oracle']}: {row['ms an example']:.1f} ms an example "
            f"({row['processor ms an example']:.1f} of processor), {row['examples']} examples, {row['verdict']}"
        )
    for part in (rows // 4, rows // 2, rows):
        row = large((part, columns), options.dtype)
        found["large"].append(row)
        print(
            f"({part}, {columns}) {row['dtype']}: {row['verdict']}, {row['seconds']:.1f} s, "
            f"{row['times']:.2f} × 20 passes; {row['bytes beyond'] / 1e6:.0f} MB beyond the input, "
            f"{row['bytes beyond'] / row['input bytes']:.1f} times its size"
        )
    options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
