"""Running the checks of a plan: one after another, in processes, or in somebody's executor.

A check that crashes its process or does not end costs its own verdict, and no other's.
"""

from __future__ import annotations

import sys
from concurrent.futures import BrokenExecutor, CancelledError
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gradcheck.arguments import brief, whole
from gradcheck.checking.limits import TimeLimitReached, check_limit, time_limit
from gradcheck.checking.run import blank, run
from gradcheck.errors import UsageError
from gradcheck.reports.model import Check, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor, Future, ProcessPoolExecutor

    from gradcheck.checking.cache import Cache
    from gradcheck.checking.plan import Planned

    Batch = Sequence[Planned]


@dataclass(frozen=True)
class Execution:
    """How checks are run.

    Attributes:
        executor: Somebody's pool of workers, if any.
        jobs: How many processes of our own, where there is no executor.
        limit: Seconds for one check; None for no limit.
        cache: Where results are kept, if they are.
        step: Told the name of each check as it begins or ends.
    """

    executor: Executor | None = None
    jobs: int = 1
    limit: float | None = None
    cache: Cache | None = None
    step: Callable[[str], Any] = lambda _text: None

    def results(self, checks: Sequence[Planned]) -> Iterator[Check]:
        """The results in the order of the plan; kept ones are not done again."""
        kept = {i: c for i, p in enumerate(checks) if (c := self._kept(p)) is not None}
        fresh = self._fresh([p for i, p in enumerate(checks) if i not in kept])
        for index, planned in enumerate(checks):
            if index in kept:
                self.step(planned.id)
                yield kept[index]
                continue
            check = next(fresh)
            if self.cache is not None:
                self.cache.keep(planned, check)
            yield check

    def _kept(self, planned: Planned) -> Check | None:
        return None if self.cache is None else self.cache.find(planned)

    def _fresh(self, checks: Batch) -> Iterator[Check]:
        if self.executor is not None:
            yield from self._in_executor(_batches(checks), self.executor)
        elif self.jobs > 1 and len(checks) > 1:
            yield from self._in_processes(_batches(checks))
        else:
            for check in checks:
                self.step(check.id)
                yield run_within(check, self.limit)

    # ------------------------------------------------------------------ workers

    def _in_executor(self, batches: Sequence[Batch], executor: Executor) -> Iterator[Check]:
        """One batch a task; whether its processes may be ended is not ours to decide."""
        futures = [(b, executor.submit(run_all, b, self.limit)) for b in batches]
        for batch, future in futures:
            yield from self._named(_outcome(batch, future))

    def _in_processes(self, batches: Sequence[Batch]) -> Iterator[Check]:
        """A pool of our own. When a process dies, what it left is done batch by batch, alone."""
        pool = _pool(min(self.jobs, len(batches)))
        try:
            futures = [pool.submit(run_all, b, self.limit, expendable=True) for b in batches]
            for batch, future in zip(batches, futures, strict=True):
                try:
                    results = future.result()
                except (BrokenExecutor, CancelledError):
                    results = self._alone(batch)
                yield from self._named(results)
        except BaseException:
            _end(pool)  # Ctrl-C: nobody waits for what the workers are at
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _alone(self, batch: Batch) -> list[Check]:
        """Check by check, each in a process that serves nobody else until it dies."""
        results: list[Check] = []
        pool = _pool(1)
        try:
            for check in batch:
                try:
                    results += pool.submit(run_all, [check], self.limit, expendable=True).result()
                except BrokenExecutor:
                    results.append(lost(check, self._death()))
                    pool = _pool(1)
        except BaseException:
            _end(pool)
            raise
        finally:
            pool.shutdown(wait=False)
        return results

    def _death(self) -> str:
        limit = f" or did not end within its {self.limit:g} s" if self.limit is not None else ""
        return f"it ended its process: it crashed, was killed for memory{limit}"

    def _named(self, results: Sequence[Check]) -> Iterator[Check]:
        for result in results:
            self.step(f"{result.claim} {result.input}")
            yield result


def check_means(executor: Any, jobs: Any, limit: Any, progress: Any) -> None:
    """Whether checks can be run in this way, found out before the first one.

    Raises:
        UsageError: Naming the argument.
    """
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise UsageError(
            f"executor is {brief(executor)}; give a concurrent.futures.Executor, such as "
            "ProcessPoolExecutor(4), or write jobs=4 for processes of gradcheck's own"
        )
    if whole(jobs, "jobs") < 1:
        raise UsageError(
            f"jobs is {jobs}; write how many processes there are to be, jobs=1 or more"
        )
    check_limit(limit)
    if progress is not None and not callable(progress):
        raise UsageError(
            f"progress is {brief(progress)}; give a function of the number of checks that returns a "
            "context manager"
        )


def _pool(workers: int) -> ProcessPoolExecutor:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # Frameworks start threads, and a forked copy of a threaded process may hang: spawn.
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


def _end(pool: ProcessPoolExecutor) -> None:
    """End the workers at once: a pool that is only shut down lets each finish what it is at."""
    for process in list((pool._processes or {}).values()):
        process.terminate()


def _batches(checks: Batch) -> list[Batch]:
    """Checks of one claim go to one worker together, since they share its examples."""
    batches: dict[tuple[str, ...], list[Planned]] = {}
    for check in checks:
        key = (check.address, check.claim, check.label, check.dtype)
        batches.setdefault(key, []).append(portable(check))
    return list(batches.values())


def _outcome(batch: Batch, future: Future[list[Check]]) -> list[Check]:
    try:
        return future.result()
    except Exception as error:  # noqa: BLE001  a cluster may fail in any way; the others go on
        reason = str(error).strip().partition("\n")[0]
        return [lost(c, f"the worker failed: {type(error).__name__}: {reason}") for c in batch]


def run_all(checks: Batch, limit: float | None = None, *, expendable: bool = False) -> list[Check]:
    """Several checks, one after another, in a worker."""
    return [run_within(check, limit, expendable=expendable) for check in checks]


def run_within(check: Planned, limit: float | None, *, expendable: bool = False) -> Check:
    """One check; one that does not end in time is an error of its own."""
    try:
        with time_limit(limit, expendable=expendable):
            return run(check)
    except TimeLimitReached:
        late = lost(check, f"it did not end within {limit:g} s; a longer limit is --time-limit")
        late.seconds = limit or 0.0
        return late


def lost(check: Planned, reason: str) -> Check:
    """The check as one that nothing is known of."""
    found = blank(check)
    found.verdict, found.reason = Verdict.ERROR, reason
    return found


def portable(check: Planned) -> Planned:
    """The check as it travels: without the operation, which the worker finds by its address.

    Raises:
        UsageError: Where it has no address and cannot be sent either.
    """
    if check.address:
        return replace(check, operation=None, kind=blank(check).kind)
    return replace(check, operation=None, kind=blank(check).kind, payload=_pickled(check))


def _pickled(check: Planned) -> bytes:
    """An operation that lives only in memory, as bytes."""
    advice = "put it into a spec file, or run without -j and without an executor"
    try:
        import cloudpickle
    except ImportError:
        raise UsageError(
            f"{check.claim} lives only in this process, so other processes cannot find it; {advice}, "
            "or send it with cloudpickle: pip install cloudpickle"
        ) from None
    for name, module in list(sys.modules.items()):
        if name.startswith("gradcheck.specs."):  # loaded from files: no process could import them
            cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(check.operation)  # type: ignore[no-any-return]
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(
            f"{check.claim} lives only in this process and cannot be sent to another "
            f"({type(error).__name__}: {reason}); {advice}"
        ) from error
