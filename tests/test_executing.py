# ruff: noqa: ARG005
"""Processes, executors, time limits and crashes: one check's trouble is its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import OrderedDict
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import pytest

from gradcheck import Spec, delta, einsum, load, real, verify
from gradcheck.checking.limits import TimeLimitReached, time_limit
from gradcheck.errors import UsageError
from gradcheck.library import resolve

CHEAP = {"oracles": ["differences"], "profile": "quick"}
FILE = """
import os
from gradcheck import Spec, delta, einsum, real

DIAGONAL = {{"x": 2 * einsum("p,pq->pq", "x", delta)}}
def shape(**more): return dict(inputs={{"x": real("n")}}, output={{"y": "n"}}, jacobian=DIAGONAL, **more)

good = Spec(lambda xp, x: x * x, **shape())

def dies(xp, x):
    {crash}
    return x * x

bad = Spec(dies, **shape())
"""
# One of our own files, so that a worker finds it by its address.
CRASHES = {
    "raises": ("raise ZeroDivisionError('on purpose')", "ZeroDivisionError: on purpose"),
    "exits": ("os._exit(3)", "it ended its process"),
    "aborts": ("os.abort()", "it ended its process"),
    "sleeps": ("import time; time.sleep(60)", "it did not end within 2 s"),
    "ignores the alarm": (
        "import signal, time; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM]); time.sleep(60)",
        "it ended its process: it crashed, was killed for memory or did not end within its 2 s",
    ),
}


@pytest.fixture
def file(tmp_path):
    def written(crash):
        path = tmp_path / "some_specs.py"
        path.write_text(FILE.format(crash=crash), encoding="utf-8")
        return str(path)

    return written


def by_name(report):
    return {check.claim: check for check in report.checks}


@pytest.mark.parametrize("name", CRASHES)
def test_a_check_that_goes_wrong_in_a_worker_costs_no_other(file, name):
    crash, reason = CRASHES[name]
    report = verify(file(crash), **CHEAP, jobs=2, time_limit=2)
    checks = by_name(report)
    assert str(checks["good"].verdict) == "agrees"
    assert str(checks["bad"].verdict) in ("error", "undecided")
    assert reason in checks["bad"].reason
    assert report.exit_code == 3


def test_a_time_limit_holds_in_this_process_too(file):
    start = time.perf_counter()
    report = verify(file("import time; time.sleep(60)"), **CHEAP, time_limit=1)
    assert time.perf_counter() - start < 30
    checks = by_name(report)
    assert str(checks["good"].verdict) == "agrees"
    assert (str(checks["bad"].verdict), report.exit_code) == ("error", 3)
    assert checks["bad"].reason == "it did not end within 1 s; a longer limit is --time-limit"


def test_no_except_swallows_the_limit():
    def stubborn():
        for _ in range(100):
            with suppress(Exception):
                time.sleep(0.1)

    with pytest.raises(TimeLimitReached), time_limit(0.1):
        stubborn()


def test_the_limit_is_lifted_afterwards():
    with time_limit(0.2):
        pass
    time.sleep(0.4)


def test_somebody_elses_alarm_goes_on_behind_ours():
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(time.monotonic()))
    try:
        start = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 60.0)
        with time_limit(30):
            pass
        assert 50 < signal.getitimer(signal.ITIMER_REAL)[0] < 60
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with time_limit(30):
            time.sleep(0.3)
        time.sleep(0.1)
        assert rung
        assert time.monotonic() - start < 20
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_workspace_that_another_thread_drops_is_kept_by_whoever_has_it(monkeypatch):
    class Racing(OrderedDict):
        """Drops everything once it was asked whether it holds something."""

        def __contains__(self, key):
            found = super().__contains__(key)
            self.clear()
            return found

    monkeypatch.setattr(sys.modules["gradcheck.checking.run"], "_WORKSPACES", Racing())
    for _ in range(2):
        assert verify(square(), **CHEAP).ok


def test_threads_that_verify_the_same_and_other_claims_say_what_one_thread_says():
    names = ("softmax", "relu", "sigmoid", "l2", "cross_entropy", "add")

    def said(name):
        report = verify(load(name), **CHEAP)
        return [(c.input, str(c.verdict), c.examples, c.weak, c.worst) for c in report.checks]

    alone = {name: said(name) for name in names}
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            together = [(name, pool.submit(said, name)) for name in names * 3]
            assert all(found.result() == alone[name] for name, found in together)
    finally:
        sys.setswitchinterval(interval)


def test_a_thread_has_no_alarm_and_runs_without_a_limit(file):
    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(verify, file("pass"), **CHEAP, time_limit=5).result()
    assert report.ok


# ---------------------------------------------------------------- executors


def square(scale=2):
    return Spec(
        lambda xp, x: x * x,
        inputs={"x": real("n")},
        output={"y": "n"},
        jacobian={"x": scale * einsum("p,pq->pq", "x", delta)},
        name="square",
    )


def spawned(workers=1):
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


def test_a_claim_without_an_address_is_sent_by_cloudpickle():
    pytest.importorskip("cloudpickle")
    with spawned() as pool:
        right = verify(square(), **CHEAP, executor=pool)
        wrong = verify(square(3), **CHEAP, executor=pool)
        chain = verify(load("weighted_sum") >> load("softmax"), **CHEAP, executor=pool)
    assert right.ok
    assert wrong.exit_code == 1
    assert chain.ok
    assert {c.kind for c in chain.checks} == {"chain"}


def test_without_cloudpickle_it_is_refused_with_the_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with spawned() as pool, pytest.raises(UsageError) as caught:
        verify(square(), **CHEAP, executor=pool)
    assert "square lives only in this process" in str(caught.value)
    assert "put it into a spec file" in str(caught.value)


def test_what_cannot_be_pickled_is_refused_with_the_reason():
    pytest.importorskip("cloudpickle")
    lock = __import__("threading").Lock()
    spec = Spec(
        lambda xp, x: x if lock.locked() else x * x,
        inputs={"x": real("n")},
        output={"y": "n"},
        jacobian={"x": 2 * einsum("p,pq->pq", "x", delta)},
        name="locked",
    )
    with (
        spawned() as pool,
        pytest.raises(UsageError, match=r"locked .* cannot be sent .*TypeError"),
    ):
        verify(spec, **CHEAP, executor=pool)


def test_threads_of_an_executor_give_the_same_report():
    with ThreadPoolExecutor(2) as pool:
        report = verify(
            "softmax", oracles=["symbolic", "differences"], profile="quick", executor=pool
        )
    assert [str(c.verdict) for c in report.checks] == ["proved", "agrees"]


def test_a_dask_cluster_gives_the_same_report(file):
    distributed = pytest.importorskip("distributed")
    path = file("pass")
    alone = verify(path, **CHEAP)
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        report = verify(path, **CHEAP, executor=client.get_executor())
    assert [(c.claim, c.verdict) for c in report.checks] == [
        (c.claim, c.verdict) for c in alone.checks
    ]


def test_an_executor_that_fails_costs_its_checks_and_no_traceback(file):
    class Failing(ThreadPoolExecutor):
        def submit(self, _function, /, *_args, **_kwargs):
            def fail():
                raise ConnectionError("the scheduler is gone")

            return super().submit(fail)

    with Failing(1) as pool:
        report = verify(file("pass"), **CHEAP, executor=pool)
    assert {str(c.verdict) for c in report.checks} == {"error"}
    assert "the worker failed: ConnectionError: the scheduler is gone" in report.checks[0].reason
    assert report.exit_code == 3


def test_the_order_is_the_plan_s(file):
    path = file("pass")
    names = [c.claim for c in verify(path, **CHEAP).checks]
    assert [c.claim for c in verify(path, **CHEAP, jobs=2).checks] == names
    assert names == [t.name for t in resolve([path])]


def test_the_dask_example_verifies_with_worker_processes():
    pytest.importorskip("distributed")
    example = Path(__file__).parent.parent / "examples" / "dask_pool.py"
    done = subprocess.run(
        [sys.executable, str(example), "1", "softmax"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "exit 0" in done.stdout
