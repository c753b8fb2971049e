"""`verify`: plan, run, report; an interrupted run reports what it did."""

from __future__ import annotations

import time
import zipfile
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.checking.given import given, remarks
from gradcheck.checking.plan import Planned, Request, how_to_install, plan, request
from gradcheck.checking.run import run
from gradcheck.checking.search import PROFILES
from gradcheck.errors import GradcheckError, UsageError
from gradcheck.library import Target, resolve
from gradcheck.operation import Operation
from gradcheck.oracles import EXACT, missing
from gradcheck.reports.model import Check, Report, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor


def verify(
    target: Any = None,
    wrt: Sequence[str] | str | None = None,
    oracles: Sequence[str] | str | None = None,
    devices: Sequence[str] | str = ("cpu",),
    dtypes: Sequence[str] | str = ("float64",),
    profile: str = "standard",
    seed: int = 0,
    data: Mapping[str, Any] | str | Path | None = None,
    executor: Executor | None = None,
    *,
    require: Sequence[str] | str = (),
    progress: Callable[[int], Any] | None = None,
    jobs: int = 1,
) -> Report:
    """Compare hand-derived derivatives with independent oracles, under derived error bounds.

    Args:
        target: A spec, a chain, a target of `gradcheck.library.resolve`, a text as on the command
            line, or a list of these; all bundled specs by default.
        wrt: The inputs whose derivatives are checked; all by default.
        oracles: Names of oracles; all that are installed by default.
        devices: `"cpu"`, `"cuda"`, `"cuda:1"`, `"gpu"`, or `"all"` for what is found.
        dtypes: `"float64"`, `"float32"`.
        profile: `"quick"`, `"standard"` or `"thorough"`: how many examples are drawn.
        seed: The same seed gives the same examples.
        data: Your own arrays by name (or a file `.npz` of them), instead of drawn examples.
        executor: Any `concurrent.futures.Executor`; checks then run in its workers.
        require: Oracles whose check must succeed for the report to be ok.
        progress: Called with the number of checks; gives a context manager whose value is called
            with a text before each check.
        jobs: The number of processes, where no executor is given.

    Returns:
        The report; `report.ok` says whether every claim is covered.

    Raises:
        UsageError: For an unknown oracle, device, dtype, profile or input.
        SpecError: For a target that cannot be loaded.
    """
    start = time.perf_counter()
    _check_profile(profile)
    wanted = request(
        oracles=oracles,
        devices=devices,
        dtypes=dtypes,
        wrt=wrt,
        require=require,
        profile=profile,
        seed=seed,
        data=_data(data),
    )
    targets = _targets(target)
    _check_data(targets, wanted)
    checks = plan(targets, wanted)
    report = Report(seed=seed, profile=profile)
    report.notes.extend(_notes(targets, wanted))
    report.problems.extend(_problems(wanted, checks))
    with _progress(progress, len(checks)) as step:
        try:
            for check in _results(checks, executor, jobs, step):
                report.checks.append(check)
        except KeyboardInterrupt:
            report.interrupted = True
    report.problems.extend(_not_compared(wanted, report))
    report.seconds = time.perf_counter() - start
    return report


def _check_data(targets: Sequence[Target], wanted: Request) -> None:
    """The user's arrays fit every target, before anything runs."""
    for target in targets if wanted.data is not None else ():
        given(target.operation, wanted.data or {}, wanted.dtypes[0] if wanted.dtypes else "float64")


def _not_compared(wanted: Request, report: Report) -> Iterator[str]:
    """The claims that no oracle could compare on the user's data: a proof does not look at them."""
    if wanted.data is None or report.interrupted:
        return
    numeric = [c for c in report.checks if c.oracle not in (*EXACT, "—")]
    decided = {
        (c.claim, c.input) for c in numeric if c.verdict in (Verdict.AGREES, Verdict.REFUTED)
    }
    for claim, name in dict.fromkeys((c.claim, c.input) for c in numeric):
        if (claim, name) not in decided:
            yield f"nothing could be compared on the data for {claim}, {name}"


def _check_profile(name: str) -> None:
    if name not in PROFILES:
        near = get_close_matches(name, PROFILES, n=1)
        guess = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"unknown profile {name!r}; {guess}known are {', '.join(PROFILES)}")


def _targets(target: Any) -> list[Target]:
    if target is None:
        return resolve([])
    found: list[Target] = []
    for item in target if isinstance(target, list | tuple) else [target]:
        if isinstance(item, Target):
            found.append(item)
        elif isinstance(item, str | Path):
            found.extend(resolve([str(item)]))
        elif isinstance(item, Operation):
            found.append(Target(item.name, item, getattr(item, "address", ""), None))
        else:
            raise UsageError(
                f"{item!r} cannot be verified; give a spec, a chain, or the text that names one"
            )
    return found


def _data(data: Mapping[str, Any] | str | Path | None) -> dict[str, Any] | None:
    if data is None:
        return None
    if isinstance(data, str | Path):
        return _archive(data)
    return dict(data)


def _archive(path: str | Path) -> dict[str, Any]:
    """The arrays of an .npz file by name."""
    if not zipfile.is_zipfile(path):
        wrong = "is no .npz file" if Path(path).is_file() else "does not exist"
        raise UsageError(f"{path} {wrong}; write one with numpy.savez({str(path)!r}, x=x, y=y)")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {n: archive[n] for n in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} cannot be read: {error}; store arrays of numbers only") from None


def _notes(targets: Sequence[Target], wanted: Request) -> Iterator[str]:
    for target in targets if wanted.data is not None else ():
        yield from remarks(target.operation, wanted.data or {})
    for name in missing(wanted.oracles):
        yield how_to_install(name)


def _problems(wanted: Request, checks: Sequence[Planned]) -> Iterator[str]:
    """What the run lacks before it starts: a required oracle, a device that was named."""
    for name in missing(wanted.required):
        yield f"the required oracle {how_to_install(name)}"
    for name in wanted.required:
        claimed = {(c.claim, c.label) for c in checks if c.oracle is not None}
        asked = {(c.claim, c.label) for c in checks if c.oracle and c.oracle.name == name}
        for claim, label in sorted(claimed - asked):
            yield f"the required oracle {name} has nothing to say about {claim} {label}"
    for device in wanted.devices:
        rows = [c for c in checks if c.device == device and c.oracle is not None]
        if device != "cpu" and not any(not c.skip for c in rows):
            yield f"no oracle can run on the device {device} here"


class _Quiet:
    """Progress that nobody watches."""

    def __enter__(self) -> Callable[[str], None]:
        return lambda _text: None

    def __exit__(self, *_: object) -> None:
        return None


def _progress(progress: Callable[[int], Any] | None, total: int) -> Any:
    return _Quiet() if progress is None else progress(total)


def _results(
    checks: Sequence[Planned],
    executor: Executor | None,
    jobs: int,
    step: Callable[[str], Any],
) -> Iterator[Check]:
    if executor is not None:
        yield from _in_workers(checks, executor, step)
    elif jobs > 1 and len(checks) > 1:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        # Frameworks start threads, and a forked copy of a threaded process may hang: spawn.
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            try:
                yield from _in_workers(checks, pool, step)
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    else:
        for check in checks:
            step(check.id)
            yield run(check)


def _in_workers(
    checks: Sequence[Planned], executor: Executor, step: Callable[[str], Any]
) -> Iterator[Check]:
    """Checks of one claim go to one worker together, since they share its examples."""
    batches: dict[tuple[str, str, str], list[Planned]] = {}
    for check in checks:
        key = (check.address, check.label, check.dtype)
        batches.setdefault(key, []).append(_portable(check))
    futures = [(batch, executor.submit(run_all, batch)) for batch in batches.values()]
    for batch, future in futures:
        try:
            results = future.result()
        except (GradcheckError, OSError, RuntimeError) as error:
            results = [_lost(check, error) for check in batch]
        for result in results:
            step(f"{result.claim} {result.input}")
            yield result


def run_all(checks: Sequence[Planned]) -> list[Check]:
    """Several checks, one after another, in a worker."""
    return [run(check) for check in checks]


def _portable(check: Planned) -> Planned:
    """The check without the operation, which the worker finds by its address."""
    from dataclasses import replace

    if not check.address:
        raise UsageError(
            f"{check.claim} lives only in this process, so other processes cannot find it; "
            "put it into a spec file, or run without -j and without an executor"
        )
    return replace(check, operation=None)


def _lost(check: Planned, error: Exception) -> Check:
    from gradcheck.checking.run import _blank

    lost = _blank(check)
    lost.verdict, lost.reason = Verdict.ERROR, f"the worker failed: {error}"
    return lost
