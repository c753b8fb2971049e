"""`verify`: plan, run, report; an interrupted run reports what it did."""

from __future__ import annotations

import os
import time
import zipfile
from collections import Counter
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.accumulating import why_link_by_link
from gradcheck.algebra.text import left_side
from gradcheck.arguments import brief
from gradcheck.arguments import names as words
from gradcheck.checking.cache import Cache
from gradcheck.checking.executing import Execution, check_means
from gradcheck.checking.gate import gate, judge
from gradcheck.checking.given import arrays_by_name, given, remarks
from gradcheck.checking.limits import interruptible
from gradcheck.checking.plan import (
    Planned,
    Request,
    check_devices,
    check_dtypes,
    how_to_install,
    plan,
    request,
)
from gradcheck.checking.search import PROFILES
from gradcheck.errors import GradcheckError, UsageError
from gradcheck.library import Target, resolve
from gradcheck.operation import Operation
from gradcheck.oracles import EXACT, check_names, missing
from gradcheck.reports.model import Check, Report, Verdict
from gradcheck.second_order.compiled import Hessian, Hvp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor

    from gradcheck.configuration import Configuration
    from gradcheck.reports.gaps import Gap


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
    require_devices: Sequence[str] | str = (),
    require_verdict: Mapping[str, str] | str | None = None,
    gaps: Iterable[Gap | Mapping[str, Any]] = (),
    complete: bool = False,
    progress: Callable[[int], Any] | None = None,
    jobs: int = 1,
    time_limit: float | None = None,
    cache: str | Path | None = None,
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
        require_devices: Devices on which every claim must be verified.
        require_verdict: What claims must reach at least, `"proved"` for instance; or a table of that
            by a pattern of names or files of specs.
        gaps: What is known not to be verified, each with claim, input, reason, until, and perhaps
            oracle. It is accepted until that day, and reported.
        complete: Whether the targets are all there are, so that a pattern of `require_verdict` or a
            gap that matches none of them is a mistake.
        progress: Called with the number of checks; gives a context manager whose value is called
            with a text before each check.
        jobs: The number of processes, where no executor is given.
        time_limit: Seconds for one check, after which it is an error and the rest goes on; none by
            default. It works in a main thread only.
        cache: A folder where supporting results are kept and found again while nothing that they
            depend on has changed; none by default.

    Returns:
        The report; `report.ok` says whether every claim is covered.

    Raises:
        UsageError: For an unknown oracle, device, dtype, profile or input.
        SpecError: For a target that cannot be loaded.
    """
    start = time.perf_counter()
    check_profile(profile)
    check_means(executor, jobs, time_limit, progress)
    kept = _kept(cache)
    own = gate(
        require=require,
        require_devices=require_devices,
        require_verdict=require_verdict,
        gaps=gaps,
        complete=complete and wrt is None,
    )
    wanted = request(
        oracles=None if oracles is None else [*words(oracles, "oracles"), *own.needed],
        devices=[*words(devices, "devices"), *own.devices],
        dtypes=dtypes,
        wrt=wrt,
        require=require,
        profile=profile,
        seed=seed,
        data=_data(data),
    )
    targets, broken = _targets(target)
    _check_data(targets, wanted)
    checks = plan(targets, wanted)
    report = Report(seed=wanted.seed, profile=profile)
    report.notes.extend(_notes(targets, wanted))
    report.checks.extend(_broken(name, error) for name, error in broken.items())
    report.problems.extend(_problems(wanted, checks))
    with _progress(progress, len(checks)) as step:
        try:
            execution = Execution(executor, jobs, time_limit, kept, step)
            with interruptible() as heed:
                for check in execution.results(checks):
                    heed()  # what was swallowed may have spoilt the check
                    report.checks.append(check)
        except KeyboardInterrupt:
            report.interrupted = True
    if not report.interrupted:
        judge(report, own)
    report.problems.extend(_not_loaded(report))
    report.problems.extend(_not_compared(wanted, report))
    report.notes.extend(_of_cache(kept, report))
    report.formulas.update(_formulas(targets, report))
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
        (c.claim, c.address, c.input)
        for c in numeric
        if c.verdict in (Verdict.AGREES, Verdict.REFUTED)
    }
    labels = report.labels()
    for claim, address, name in dict.fromkeys((c.claim, c.address, c.input) for c in numeric):
        if (claim, address, name) not in decided:
            yield f"nothing could be compared on the data for {labels[claim, address]}, {name}"


def _kept(folder: str | Path | None) -> Cache | None:
    if folder is None:
        return None
    if not isinstance(folder, str | os.PathLike):
        raise UsageError(f"cache is {brief(folder)}; write a folder: cache='.gradcheck_cache'")
    return Cache(Path(folder))


def check_profile(name: str) -> None:
    """Whether a profile is known.

    Raises:
        UsageError: Suggesting the nearest name.
    """
    if not isinstance(name, str):
        raise UsageError(f"profile is {brief(name)}; write one of {', '.join(PROFILES)}")
    if name not in PROFILES:
        near = get_close_matches(name, PROFILES, n=1)
        guess = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"unknown profile {name!r}; {guess}known are {', '.join(PROFILES)}")


def check_configured(known: Configuration) -> None:
    """Whether the words of `[tool.gradcheck]` are known, which only what uses them can tell.

    Raises:
        UsageError: Naming the file and the key.
    """
    checks: dict[str, Callable[[Any], object]] = {
        "oracles": check_names, "require": check_names, "profile": check_profile, "dtypes": check_dtypes,
        "devices": check_devices, "require_devices": check_devices,
    }  # fmt: skip
    for key, check in checks.items():
        try:
            if value := getattr(known, key):
                check(value)
        except UsageError as error:
            raise UsageError(f"{known.path}, [tool.gradcheck]: {key}: {error}") from None


def _targets(target: Any) -> tuple[list[Target], dict[str, GradcheckError]]:
    """The targets, and the files among several that cannot be loaded; a single one is an error."""
    broken: dict[str, GradcheckError] = {}
    if target is None:
        return resolve([], broken), broken
    found: dict[str, Target] = {}
    for given_item in target if isinstance(target, list | tuple) else [target]:
        # A Hessian or its product, ready to be called, stands for the operation that it runs.
        item = given_item.as_operation() if isinstance(given_item, Hessian | Hvp) else given_item
        if isinstance(item, Target):
            found[item.address or str(id(item.operation))] = item
        elif isinstance(item, str | Path):
            found.update((t.address, t) for t in resolve([str(item)], broken))
        elif isinstance(item, Operation):
            address = getattr(item, "address", "")
            found[address or str(id(item))] = Target(item.name, item, address, None)
        else:
            raise UsageError(
                f"{item!r} cannot be verified; give a spec, a chain, or the text that names one"
            )
    if broken and not found:
        raise next(iter(broken.values()))
    return _told_apart(list(found.values())), broken


def _told_apart(targets: Sequence[Target]) -> list[Target]:
    """Operations that live in memory under one name, numbered: no claim may cover another's."""
    bare = Counter(target.name for target in targets if not target.address)
    seen: Counter[str] = Counter()
    told = []
    for target in targets:
        if not target.address and bare[target.name] > 1:
            seen[target.name] += 1
            target = replace(target, name=f"{target.name} ({seen[target.name]})")  # noqa: PLW2901
        told.append(target)
    return told


def _broken(name: str, error: GradcheckError) -> Check:
    """A file that cannot be loaded, as a check that nothing is known of: the others go on."""
    return Check(
        claim=name,
        input="—",
        oracle="—",
        device="—",
        dtype="—",
        verdict=Verdict.ERROR,
        reason=str(error),
        address=name,
    )


def _not_loaded(report: Report) -> Iterator[str]:
    """Files that cannot be loaded although a gap speaks of all there is: what they claim nobody knows."""
    for check in report.checks:
        unread = (check.oracle, check.input, check.verdict) == ("—", "—", Verdict.ERROR)
        if unread and report.excuse(check):
            yield f"{check.claim} cannot be loaded, which no known gap excuses"


def _data(data: Mapping[str, Any] | str | Path | None) -> dict[str, Any] | None:
    if data is None:
        return None
    if isinstance(data, str | Path):
        return _archive(data)
    return arrays_by_name(data)


def _archive(path: str | Path) -> dict[str, Any]:
    """The arrays of an .npz file by name."""
    if not zipfile.is_zipfile(path):
        wrong = "is no .npz file" if Path(path).is_file() else "does not exist"
        shown = str(Path(path).with_suffix(".npz"))
        raise UsageError(f"{path} {wrong}; write one with numpy.savez({shown!r}, x=x, y=y)")
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


def _formulas(targets: Sequence[Target], report: Report) -> Iterator[tuple[str, str]]:
    """Each claimed derivative as LaTeX, under the name that the report gives it."""
    labels = report.labels()
    claimed = {(c.claim, c.address, c.input) for c in report.checks}
    for target in targets:
        for claim in target.operation.claims():
            if claim.form == "missing" or (target.name, target.address, claim.label) not in claimed:
                continue
            if why_link_by_link(target.operation, claim):  # there is no one formula to show
                continue
            expression = target.operation.slice_derivative(claim.output, claim.input)
            if expression is not None:
                left = left_side(expression, latex=True)
                label = labels[target.name, target.address]
                # What somebody wrote stands as written; what was composed, as one would write it.
                shown = expression.simplify() if claim.form == "chain" else expression
                yield f"{label}, {claim.label}", f"{left} = {shown.latex()}"


def _of_cache(kept: Cache | None, report: Report) -> Iterator[str]:
    """How much of the report was found in the cache."""
    if kept is None:
        return
    found = sum(check.cached for check in report.checks)
    if found:
        yield (
            f"{found} of {len(report.checks)} results were kept from earlier runs: nothing that they depend "
            f"on has changed ({kept.folder})"
        )
    if kept.trouble:
        yield kept.trouble


def _problems(wanted: Request, checks: Sequence[Planned]) -> Iterator[str]:
    """What the run lacks before it starts: a device that was named."""
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
