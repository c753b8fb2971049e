"""The pytest plugin: spec files as tests, a fixture for tests of one's own, a summary, and the gate.

Every pytest run of an environment that has gradcheck imports this module, so that it imports next to
nothing, and does nothing until specs are configured or the fixture is used. It asserts nothing:
PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from gradcheck._pytest_plugin.fixture import Verifier

MARKER = (
    "gradcheck(oracles, devices, dtypes, profile, seed, require, require_devices, require_verdict): "
    "defaults of the fixture gradcheck in this test"
)
_OPTIONS = {
    "oracles": ("NAME,...", "sources of the truth, instead of all that are installed"),
    "devices": ("NAME,...", "cpu, cuda, cuda:1, gpu, or all that are found"),
    "dtypes": ("NAME,...", "precisions: float64, float32"),
    "profile": ("NAME", "how many inputs are searched: quick, standard or thorough"),
    "require": ("NAME,...", "oracles that must support every claim"),
    "report": ("FILE", "write the report there, in the format that the suffix means"),
}

# The settings of the run.
settings_key = pytest.StashKey[Any]()
# The test that runs.
current_key = pytest.StashKey[pytest.Item]()
# What was found in a test: reports as JSON's types, which can travel between processes.
found_key = pytest.StashKey[list[dict[str, Any]]]()
# The claims that this process collected, whether or not their checks are run.
claims_key = pytest.StashKey[dict[str, None]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The ini option and the flags; flags that take lists are comma-separated or repeated."""
    parser.addini(
        "gradcheck_specs",
        "patterns of spec files to verify, relative to the folder of the ini-file",
        type="args",
        default=None,
    )
    group = parser.getgroup("gradcheck", "gradcheck: verify hand-derived gradients")
    for name, (metavar, text) in _OPTIONS.items():
        action = "store" if name == "profile" else "append"
        group.addoption(f"--gradcheck-{name}", action=action, metavar=metavar, help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Read what is configured; the process that the user started also gathers the results."""
    from gradcheck._pytest_plugin.results import Results
    from gradcheck._pytest_plugin.settings import settings

    config.addinivalue_line("markers", MARKER)
    config.stash[settings_key] = found = settings(config)
    found.add_arguments(config)
    config.stash[claims_key] = {}
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Results(found), "gradcheck-results")


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(
    file_path: Path, parent: pytest.Collector
) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """A spec file is collected as such, and not as a module of tests too."""
    others = yield
    if file_path not in parent.config.stash[settings_key].files:
        return others
    from gradcheck._pytest_plugin.items import SpecFile

    others = [node for node in others if not isinstance(node, pytest.Module)]
    return [*others, SpecFile.from_parent(parent, path=file_path)]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of xdist says what it collected."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        claims: dict[str, None] = session.config.stash[claims_key]
        output["gradcheck_claims"] = list(claims)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember the test, whose markers the fixture reads."""
    item.config.stash[current_key] = item


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What was found travels with pytest's own report, from a worker of xdist too."""
    report = yield
    if found := item.stash.get(found_key, None):
        report.gradcheck = found  # type: ignore[attr-defined]
        item.stash[found_key] = []
    return report


@pytest.fixture(scope="session")
def gradcheck(pytestconfig: pytest.Config) -> Verifier:
    """Verify gradients in tests of one's own; what is not verified fails the test with the report.

    `gradcheck.verify`, `gradcheck.verify_vjp`, `gradcheck.verify_jvp` and `gradcheck.verify_layer` are
    called as those of the library are, and return the report.
    """
    # Of the session, so that it can be used under `hypothesis.given` and in fixtures of any scope.
    from gradcheck._pytest_plugin.fixture import Verifier

    return Verifier(pytestconfig)
