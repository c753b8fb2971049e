"""Spec files as pytest collects them: a file, its specs, and an item for each check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gradcheck._pytest_plugin import claims_key, found_key, settings_key
from gradcheck.checking.cache import FOLDER, Cache
from gradcheck.checking.executing import Execution
from gradcheck.checking.gate import outcome
from gradcheck.checking.plan import plan
from gradcheck.errors import GradcheckError
from gradcheck.library import resolve
from gradcheck.reports.model import Check, Report, Verdict
from gradcheck.reports.refutations import refutations
from gradcheck.reports.strict import encode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from gradcheck._pytest_plugin.settings import Settings
    from gradcheck.checking.plan import Planned
    from gradcheck.library import Target


# Seconds for one check, where the configuration says nothing.
TIME_LIMIT = 300.0


class NotVerified(Exception):
    """One check that fails; its text is what the failure section shows."""


class SpecFile(pytest.File):
    """A spec file. One that cannot be loaded is an error of its own, and the others go on."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Its specs and chains."""
        settings = self.config.stash[settings_key]
        settings.check()
        try:
            targets = resolve([str(self.path)])
        except GradcheckError as error:
            if self.config.getoption("collectonly"):
                raise self.CollectError(str(error)) from None
            yield Unloadable.from_parent(self, name="cannot be loaded", problem=str(error))
            return
        for target in targets:
            name = target.address.rpartition("::")[2]
            yield SpecNode.from_parent(self, name=name, target=target, settings=settings)


class Unloadable(pytest.Item):
    """A spec file that cannot be loaded: an error in its set-up, so that other files still run."""

    def __init__(self, *, problem: str, **options: Any) -> None:
        super().__init__(**options)
        self.problem = problem

    def setup(self) -> None:
        """Fail."""
        self.stash[found_key] = [{"spec": True, "ok": False, "checks": [], "problem": self.problem}]
        pytest.fail(self.problem, pytrace=False)

    def runtest(self) -> None:
        """Never reached."""

    def reportinfo(self) -> tuple[PathLike[str] | str, int | None, str]:
        """The file."""
        return self.path, 0, self.name


class SpecNode(pytest.Collector):
    """A spec or chain of a file."""

    def __init__(self, *, target: Target, settings: Settings, **options: Any) -> None:
        super().__init__(**options)
        self.target = target
        self.settings = settings

    def collect(self) -> Iterator[CheckItem]:
        """Its checks, those of one claim and dtype side by side, since they share examples."""
        for planned in plan([self.target], self.settings.request):
            self.config.stash[claims_key][f"{self.nodeid}::{planned.label}"] = None
            yield CheckItem.from_parent(self, name=planned.key, planned=planned)


class CheckItem(pytest.Item):
    """One check of one claim by one oracle on one device in one dtype."""

    def __init__(self, *, planned: Planned, parent: SpecNode, **options: Any) -> None:
        # As text, whose bracket pytest understands as it does when it reads the id from its cache.
        nodeid = f"{parent.nodeid}::{planned.key}"
        super().__init__(parent=parent, nodeid=nodeid, **options)
        self.planned = planned
        self.add_marker("gradcheck")
        if self.config.pluginmanager.hasplugin("xdist"):
            group = f"{planned.address}::{planned.label}-{planned.dtype}"
            self.add_marker(pytest.mark.xdist_group(group))  # heeded under --dist loadgroup

    def runtest(self) -> None:
        """Run the check; what it means by itself is decided by the gate."""
        settings = self.config.stash[settings_key]
        execution = Execution(limit=settings.known.time_limit or TIME_LIMIT, cache=_cache(settings))
        (check,) = execution.results([self.planned])
        self.stash[found_key] = [{"spec": True, "ok": True, "checks": [encode(check)]}]
        self.user_properties += _properties(check)
        kind, reason = outcome(check, settings.gate)
        if kind == "failed":
            raise NotVerified(_failure(check, reason))
        if kind == "gap":
            pytest.xfail(reason)
        if kind == "skipped":
            raise pytest.skip.Exception(reason, _use_item_location=True)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The counterexample, or why nothing could be concluded, without a traceback."""
        if isinstance(excinfo.value, NotVerified):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[PathLike[str] | str, int | None, str]:
        """The line of the spec."""
        location = self.planned.operation.location if self.planned.operation else None
        line = location.line - 1 if location else 0
        return self.path, line, f"{getattr(self.parent, 'name', '')}::{self.name}"


def _cache(settings: Settings) -> Cache | None:
    """Where results are kept, if the configuration asks for that: pytest is expected to run tests."""
    wanted = settings.known.cache
    if not wanted:
        return None
    return Cache(settings.known.folder / (FOLDER if wanted is True else wanted))


def _properties(check: Check) -> list[tuple[str, object]]:
    """What JUnit's files show beside the test."""
    worst = [] if check.worst is None else [("worst/bound", check.worst)]
    names = ("claim", "input", "oracle", "device", "dtype", "verdict", "examples")
    return [*((name, str(getattr(check, name))) for name in names), *worst]


def _failure(check: Check, reason: str) -> str:
    """The section of the report that is about this check."""
    if check.verdict is not Verdict.REFUTED:
        return f"{check.claim}, {check.input}: {reason}"
    (found,) = refutations(Report([check]))
    lines = [found.title, *(f"  {line}" for line in found.lines)]
    if found.snippet:
        code = found.snippet.strip("\n").splitlines()
        lines += ["  To reproduce:", *(f"    {line}".rstrip() for line in code)]
    return "\n".join(lines)
