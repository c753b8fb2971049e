"""Does it ever blame a right rule? Seeded checks of right ones, each of which must not be refuted.

    python benchmarks/false_alarms.py --checks 10000 --seed 0 -j 2 [--tensorflow] [--only softmax,gelu]
    python benchmarks/false_alarms.py --device cuda --json benchmarks/results/false_alarms_gpu.json

The rules are those of the bundled specs and of the gallery, each proved for all shapes elsewhere. Each
goes two ways: its claim through `verify`, and its compiled vjp, as an opaque function, through
`verify_vjp`; against autograd, JAX, torch and the frameworks' own implementations (TensorFlow where asked
for), on NumPy's, torch's and JAX's arrays, in float64, float32, float16 and bfloat16. Every seed draws
other examples. Interrupted, it reports what it has so far; the JSON file is kept up to date.

Exits with 1 if anything right was refuted, or raised an error.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import sys
import time
import warnings
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck import Report
    from gradcheck.operation import Operation

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "false_alarms.json"
FOLDERS = ("specs", "examples/specs")
# Verdicts of checks that were made; the others could not be.
MADE = ("agrees", "undecided", "refuted", "error")
# What frameworks say of an operation that they do not have in half precision.
NO_KERNEL = (
    "is unsupported in linalg",
    "Low precision dtypes not supported",
    "Unsupported dtype",
    "does not accept dtype",
)
# How often the file is written, in seconds.
SAVED_EVERY = 20.0


@dataclass(frozen=True)
class Lane:
    """One way to check a rule.

    Attributes:
        way: "verify" for the claim, "vjp" for the compiled vjp as an opaque function.
        arrays: Whose arrays the vjp runs on; empty for a claim.
        oracles: Who is asked.
        dtypes: In which precision.
    """

    way: str
    arrays: str
    oracles: tuple[str, ...]
    dtypes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.way} {self.arrays}".strip()


LANES = (
    Lane("verify", "", ("autograd", "torch"), ("float64", "float32")),
    Lane("verify", "", ("native",), ("float64", "float32")),
    Lane("verify", "", ("jax",), ("float64", "float32")),
    Lane("vjp", "numpy", ("autograd", "torch"), ("float64", "float32", "float16")),
    Lane("vjp", "torch", ("autograd", "torch"), ("float64", "float32", "float16", "bfloat16")),
    Lane("vjp", "jax", ("autograd", "jax"), ("float64", "float32", "float16", "bfloat16")),
)
TENSORFLOW = Lane("verify", "", ("tensorflow",), ("float64", "float32"))
# What a GPU runs; autograd and NumPy stay on the host.
ON_GPU = (
    Lane("verify", "", ("torch",), ("float64", "float32")),
    Lane("verify", "", ("native",), ("float64", "float32")),
    Lane("verify", "", ("jax",), ("float64", "float32")),
    Lane("vjp", "torch", ("torch",), ("float64", "float32", "float16", "bfloat16")),
    Lane("vjp", "jax", ("jax",), ("float64", "float32", "float16", "bfloat16")),
)


@dataclass(frozen=True)
class Job:
    """One rule, one way, one seed, on one device."""

    file: str
    name: str
    lane: Lane
    seed: int
    device: str = "cpu"


@dataclass
class Tally:
    """What became of the checks.

    Attributes:
        checks: How many were made.
        verdicts: How many of each verdict, by way, oracle and dtype.
        examples: How many examples were compared in all.
        alarms: Everything that was refuted or raised, with what repeats it.
        reasons: Why checks were undecided, with how many.
        skipped: Why checks could not be made.
        seconds: Time in the checks, all processes together.
    """

    checks: int = 0
    examples: int = 0
    verdicts: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    alarms: list[dict[str, Any]] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def add(self, job: Job, found: list[dict[str, Any]]) -> None:
        """The checks of one job."""
        for check in found:
            verdict = check["verdict"]
            if verdict not in MADE or any(sign in (check["reason"] or "") for sign in NO_KERNEL):
                self.skipped[f"{job.lane}: {check['reason']}"] += 1
                continue
            self.checks += 1
            self.examples += check["examples"]
            self.seconds += check["seconds"]
            self.verdicts[str(job.lane), check["oracle"], check["dtype"], verdict] += 1
            if verdict == "undecided":
                self.reasons[f"{job.name}, {check['dtype']}: {check['reason']}"] += 1
            if verdict in ("refuted", "error"):
                self.alarms.append(
                    {"target": job.name, "seed": job.seed, "way": str(job.lane), **check}
                )

    def total(self, verdict: str) -> int:
        """How many checks had a verdict."""
        return sum(n for (*_, v), n in self.verdicts.items() if v == verdict)


def jobs(
    first_seed: int, only: tuple[str, ...], *, tensorflow: bool, device: str = "cpu"
) -> Iterator[Job]:
    """Every rule every way, in a mixed order, seed after seed: any part of it is a fair sample."""
    from gradcheck.library import resolve

    files = [f for folder in FOLDERS for f in sorted((ROOT / folder).glob("*.py"))]
    rules = [(str(f), t.operation.name) for f in files for t in resolve([str(f)])]
    rules = [r for r in dict.fromkeys(rules) if not only or r[1] in only]
    lanes = LANES if device == "cpu" else ON_GPU
    lanes = (*lanes, TENSORFLOW) if tensorflow else lanes
    for seed in itertools.count(first_seed):
        batch = [Job(file, name, lane, seed, device) for (file, name) in rules for lane in lanes]
        random.Random(seed).shuffle(batch)
        yield from batch


def operation_of(file: str, name: str) -> Operation:
    """A spec or chain out of its file."""
    from gradcheck.library import resolve

    return next(t.operation for t in resolve([file]) if t.operation.name == name)


def rule_of(operation: Operation) -> Any:
    """The compiled vjp as a function that shows nothing of where it comes from."""
    wanted = [n for n, d in operation.inputs.items() if d.differentiable]
    compiled = operation.vjp(*wanted)

    def rule(cotangent: Any, *arrays: Any, **params: Any) -> tuple[Any, ...]:
        given = dict(zip(operation.inputs, arrays, strict=True))
        found = compiled(cotangent, **given, **params)
        return tuple(found[n] for n in wanted)

    return rule


def report_of(job: Job) -> Report:
    """The report of one job."""
    from gradcheck import verify, verify_vjp

    operation, lane = operation_of(job.file, job.name), job.lane
    options: dict[str, Any] = {
        "oracles": lane.oracles, "dtypes": lane.dtypes, "profile": "quick", "seed": job.seed,
        "devices": [job.device],
    }  # fmt: skip
    if lane.way == "verify":
        return verify(operation, **options)
    rule = rule_of(operation)
    return verify_vjp(rule, of=operation, backend=lane.arrays, name=job.name, **options)


def run(job: Job) -> tuple[Job, list[dict[str, Any]]]:
    """Do a job in this process: its checks, as they are kept."""
    kept = ("input", "oracle", "dtype", "verdict", "examples", "worst", "seconds", "reason")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = report_of(job)
    # What is kept tells of the project, and not where somebody keeps it.
    found = json.loads(report.to_json().replace(f"{ROOT.resolve()}/", ""))["checks"]
    for check in found:
        if check["verdict"] in ("refuted", "error"):
            kept = (*kept, "counterexample", "diagnosis")
    return job, [{k: check.get(k) for k in kept} for check in found]


def prepare() -> None:
    """A worker has one thread, and no cache of earlier verdicts."""
    os.environ["GRADCHECK_CACHE"] = "0"
    import torch

    torch.set_num_threads(1)


def measure(wanted: list[Job] | Iterator[Job], checks: int, workers: int, seen: Any) -> Tally:
    """Run jobs until so many checks were made; interrupted, what there is so far."""
    tally, source = Tally(), iter(wanted)
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=prepare) as pool:
        running: set[Future[Any]] = set()
        try:
            while tally.checks < checks:
                running |= {
                    pool.submit(run, j)
                    for j in itertools.islice(source, 2 * workers - len(running))
                }
                if not running:
                    break
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    tally.add(*future.result())
                seen(tally)
        except KeyboardInterrupt:
            pass
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return tally


def as_dict(tally: Tally, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """What is kept."""
    rows = [
        {"way": way, "oracle": oracle, "dtype": dtype, "verdict": verdict, "checks": n}
        for (way, oracle, dtype, verdict), n in sorted(tally.verdicts.items())
    ]
    return {
        "command": f"python benchmarks/false_alarms.py --checks {options.checks} --seed {options.seed}"
        + (f" --device {options.device}" if options.device != "cpu" else ""),
        "device": named(options.device),
        "python": platform.python_version(),
        "checks": tally.checks,
        "examples": tally.examples,
        "refuted": tally.total("refuted"),
        "errors": tally.total("error"),
        "undecided": tally.total("undecided"),
        "agrees": tally.total("agrees"),
        "seconds": round(seconds, 1),
        "seconds_in_checks": round(tally.seconds, 1),
        "by_lane": rows,
        "undecided_because": dict(tally.reasons.most_common()),
        "not_made": dict(tally.skipped.most_common()),
        "alarms": tally.alarms,
    }


def named(device: str) -> str:
    """What the device is called; empty where torch finds none."""
    import torch

    if device == "cpu":
        return platform.machine()
    return torch.cuda.get_device_name(device) if torch.cuda.is_available() else ""


def table(tally: Tally) -> Table:
    """Verdicts by way, oracle and dtype."""
    shown = Table(title=f"{tally.checks} checks of right rules, {tally.examples} examples")
    for column in ("way", "oracle", "dtype"):
        shown.add_column(column)
    for column in MADE:
        shown.add_column(column, justify="right")
    lanes = sorted({key[:3] for key in tally.verdicts})
    for lane in lanes:
        shown.add_row(*lane, *(str(tally.verdicts[*lane, v] or "") for v in MADE))
    shown.add_section()
    shown.add_row("all", "", "", *(str(tally.total(v)) for v in MADE))
    return shown


def main() -> int:
    """Run, print the table, keep the figures."""
    parser = argparse.ArgumentParser(
        description="Checks of right rules, none of which may be refuted."
    )
    parser.add_argument("--checks", type=int, default=1000, help="how many checks to make")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("-j", type=int, default=1, help="how many processes")
    parser.add_argument("--only", default="", help="names of specs, comma-separated")
    parser.add_argument("--tensorflow", action="store_true", help="ask TensorFlow as well")
    parser.add_argument("--device", default="cpu", help="where frameworks compute, such as cuda")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures are kept")
    options = parser.parse_args()
    only = tuple(n for n in options.only.split(",") if n)
    if not (known := named(options.device)):
        parser.error(f"--device {options.device}: torch has no such device here")
    print(known, file=sys.stderr)
    start = saved = time.perf_counter()

    def save(tally: Tally) -> None:
        figures = as_dict(tally, options, time.perf_counter() - start)
        options.json.write_text(
            json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )

    def seen(tally: Tally) -> None:
        nonlocal saved
        if time.perf_counter() - saved > SAVED_EVERY:
            saved = time.perf_counter()
            save(tally)
            alarms = tally.total("refuted") + tally.total("error")
            print(f"{tally.checks} checks, {alarms} alarms, {saved - start:.0f} s", file=sys.stderr)

    wanted = jobs(options.seed, only, tensorflow=options.tensorflow, device=options.device)
    tally = measure(wanted, options.checks, options.j, seen)
    save(tally)
    console = Console()
    console.print(table(tally))
    for alarm in tally.alarms:
        console.print_json(data=alarm)
    refuted, errors = tally.total("refuted"), tally.total("error")
    print(
        f"{tally.checks} checks of right rules: {refuted} refuted, {errors} errors, "
        f"{tally.total('undecided')} undecided"
    )
    return 1 if refuted or errors else 0


if __name__ == "__main__":
    sys.exit(main())
