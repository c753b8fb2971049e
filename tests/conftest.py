"""What all tests share: no kept results, and a list of what was skipped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

# What an earlier run found must not stand in for what this one would find; the cache's own tests
# switch it on again.
os.environ["GRADCHECK_CACHE"] = "0"

# torch's threads wait for each other asleep, not in a loop that keeps a core busy: beside other workers
# on the same cores, a softmax of a few numbers would take 5 ms. It must be set before torch is loaded,
# and changes no number: as many threads share the work in the same way.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Where to write the ids of skipped tests and files, one a line: `pytest @FILE` runs those alone, in an
# environment that has more. Taken out, so that no process of a test writes there too.
SKIPPED_TO = os.environ.pop("GRADCHECK_SKIPPED_TO", None)


class Skipped:
    """Notes what is skipped, in whichever process: xdist's workers report to this one."""

    def __init__(self, file: Path) -> None:
        self.file, self.ids = file, dict[str, None]()

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        # A test that fails as expected is reported as skipped, but it did run.
        if report.skipped and not hasattr(report, "wasxfail"):
            self.ids[report.nodeid] = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def pytest_sessionfinish(self) -> None:
        self.file.write_text("".join(f"{name}\n" for name in self.ids), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    if SKIPPED_TO:
        config.pluginmanager.register(Skipped(Path(SKIPPED_TO).absolute()))
