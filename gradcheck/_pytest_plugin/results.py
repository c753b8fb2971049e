"""The results of a run, in the process that the user started: the summary and the gate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gradcheck._pytest_plugin import claims_key
from gradcheck._pytest_plugin.settings import usage_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck._pytest_plugin.settings import Settings
    from gradcheck.reports.model import Check, Report


class Results:
    """What the checks of a run found, whichever process ran them.

    Args:
        settings: What was asked for.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.started = time.perf_counter()
        self.found: dict[str, list[dict[str, Any]]] = {}
        self.order: dict[str, int] = {}
        self.report: Report | None = None
        self.tested: list[tuple[str, Check]] = []
        self.trouble: list[str] = []
        self.folder = Path()
        self.claims: dict[str, None] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Find out what cannot be understood before anything runs."""
        self.folder = session.config.rootpath
        if self.settings.whole:
            self.settings.check()

    def pytest_report_header(self) -> list[str]:
        """Which spec files are verified."""
        if self.settings.specs is None:
            return []
        count = len(self.settings.files)
        noun = "spec file" if count == 1 else "spec files"
        return [f"gradcheck: {count} {noun} ({', '.join(self.settings.specs)})"]

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """The order of the tests, which workers finish in another."""
        for nodeid in ids:
            self.order.setdefault(nodeid, len(self.order))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """What a worker collected; one that crashed does not say, and another takes its place."""
        self.claims.update(
            dict.fromkeys(getattr(node, "workeroutput", {}).get("gradcheck_claims", ()))
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """What a test found; the last word counts where a test is run again."""
        found: list[dict[str, Any]] = getattr(report, "gradcheck", [])
        if found:
            # A report that was not ok in a test that passed was expected, or looked at.
            kept = [f for f in found if f["ok"] or report.outcome != "passed"]
            self.found[report.nodeid] = kept

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge the run as a whole: a claim may be uncovered although none of its checks failed."""
        asked = bool(self.settings.files) and self.settings.whole
        if session.config.getoption("collectonly") or not (self.found or asked):
            return
        own: dict[str, None] = session.config.stash[claims_key]
        self.claims.update(own)
        stopped = session.exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR)
        self._judge(stopped=stopped, cut=bool(session.shouldstop or session.shouldfail))
        if self.report is None:
            return
        if session.exitstatus == pytest.ExitCode.OK and (self._failing() or self.trouble):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _failing(self) -> bool:
        return bool(self._has_specs() and self.report and not self.report.ok)

    def _has_specs(self) -> bool:
        """Whether checks of spec files ran or should have run; tests with the fixture fail alone."""
        return self.settings.whole or any(f["spec"] for fs in self.found.values() for f in fs)

    def _judge(self, *, stopped: bool, cut: bool) -> None:
        from gradcheck.checking.gate import judge
        from gradcheck.reports.model import Check, Report

        given = self.settings.given
        self.report = report = Report(
            seed=given.get("seed", 0), profile=given.get("profile", "standard")
        )
        latest = len(self.order)
        for nodeid in sorted(self.found, key=lambda n: self.order.get(n, latest)):
            for found in self.found[nodeid]:
                checks = [Check.from_dict(check) for check in found["checks"]]
                if problem := found.get("problem"):
                    report.problems.append(problem)
                elif found["spec"]:
                    report.checks += checks
                else:
                    self.tested += [(nodeid, check) for check in checks]
        if stopped:
            report.interrupted = True
        elif cut:  # -x and --maxfail end a run on purpose: what was found until then counts
            report.problems.append("pytest stopped after its first failures; the rest was not run")
        elif self._has_specs():
            judge(report, self.settings.gate)
            report.problems += self._not_collected() + self._not_run()
        report.checks += [check for _, check in self.tested]
        report.seconds = time.perf_counter() - self.started
        self._write(report)

    def _not_collected(self) -> list[str]:
        """Spec files that pytest should have run and of which it ran nothing."""
        if not self.settings.whole:
            return []
        ran = {self.folder / nodeid.partition("::")[0] for nodeid in self.found}
        left = sorted(self.settings.files - {path.resolve() for path in ran} - ran)
        return [f"{path} is among the specs, and nothing of it was run" for path in left]

    def _not_run(self) -> list[str]:
        """Claims that were collected and of which a mark or a hook kept every check from running."""
        if not self.settings.whole:
            return []
        ran = {nodeid.rpartition("[")[0] for nodeid in self.found}
        files = {nodeid.partition("::")[0] for nodeid in self.found}
        left = [c for c in self.claims if c not in ran and c.partition("::")[0] in files]
        return [f"{claim} was collected, and nothing of it was run" for claim in left]

    def _write(self, report: Report) -> None:
        from gradcheck.reports.formats import write

        for path in self.settings.reports:
            try:
                with usage_errors():
                    write(report, path)
            except pytest.UsageError as error:
                self.trouble.append(str(error))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The matrix of claims and oracles, and whatever is not verified."""
        if self.report is None:
            return
        from gradcheck._pytest_plugin.summary import summarise

        summarise(self, terminalreporter)
