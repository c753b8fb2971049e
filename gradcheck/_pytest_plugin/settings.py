"""What a run of pytest is asked to verify: flags before the ini-file before `[tool.gradcheck]`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gradcheck.configuration import Configuration, nearest, spec_files
from gradcheck.errors import GradcheckError
from gradcheck.reports.formats import check_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck.checking.gate import Gate
    from gradcheck.checking.plan import Request

DTYPES = ("float64", "float32")
PROFILE = "standard"
# With any of these, a run may leave spec files or checks out.
_NARROWING = (
    "keyword", "markexpr", "deselect", "lf", "last_failed", "stepwise", "ignore", "ignore_glob",
    "maxfail", "collectonly",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What is asked for; None where nothing is said.

    Attributes:
        specs: The patterns of spec files; None where no specs are configured.
        files: The spec files that they match.
        given: Oracles, devices, dtypes, profile and seed, as far as something is said of them.
        require: Oracles that must support every claim.
        known: What `[tool.gradcheck]` says besides.
        reports: Where the report is written.
        whole: Whether pytest was asked for all there is, and not for some files or tests.
    """

    specs: tuple[str, ...] | None = None
    files: frozenset[Path] = frozenset()
    given: dict[str, Any] = field(default_factory=dict)
    require: tuple[str, ...] = ()
    known: Configuration = field(default_factory=Configuration)
    reports: tuple[Path, ...] = ()
    whole: bool = False

    @cached_property
    def request(self) -> Request:
        """What checks to plan.

        Raises:
            UsageError: For a name that is not known.
        """
        from gradcheck.checking.plan import request
        from gradcheck.checking.verifying import check_profile

        given = {"oracles": None, "devices": ("cpu",), "dtypes": DTYPES, **self.given}
        given = {"profile": PROFILE, "seed": 0, **given}
        check_profile(given["profile"])
        if given["oracles"] is not None:
            given["oracles"] = (*given["oracles"], *self.gate.needed)
        given["devices"] = (*given["devices"], *self.gate.devices)
        return request(**given, wrt=None, require=self.require, data=None)

    @cached_property
    def gate(self) -> Gate:
        """What must be verified.

        Raises:
            UsageError: For a name that is not known.
        """
        from gradcheck.checking.gate import gate

        return gate(
            require=self.require,
            require_devices=self.known.require_devices,
            require_verdict=self.known.require_verdict,
            gaps=self.known.gaps,
            complete=self.whole,
        )

    def check(self) -> None:
        """Whether all names are known, asked before anything runs."""
        from gradcheck.checking.verifying import check_configured

        with usage_errors():
            check_configured(self.known)
            _ = self.gate, self.request

    def add_arguments(self, config: pytest.Config) -> None:
        """Spec files are collected wherever they lie, unless the user named what to collect."""
        if not self.files or not _unnamed(config):
            return
        roots = [Path(config.invocation_params.dir, arg.partition("::")[0]) for arg in config.args]
        config.args += [
            str(path)
            for path in sorted(self.files)
            if not any(path.is_relative_to(root) for root in roots)
        ]


class usage_errors:  # noqa: N801  a context, read as a phrase
    """Errors made to be read become pytest's own, which are shown without a traceback."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, GradcheckError):
            raise pytest.UsageError(f"gradcheck: {error}") from None


def settings(config: pytest.Config) -> Settings:
    """The settings of a run.

    Raises:
        pytest.UsageError: For a configuration that cannot be understood, and for patterns that match
            no spec file.
    """
    with usage_errors():
        known = nearest(config.rootpath)
        ini = config.getini("gradcheck_specs")
        specs, folder = (
            (known.specs, known.folder) if ini is None else (tuple(ini), _folder(config))
        )
        if ini is not None and not ini:
            raise pytest.UsageError(
                "gradcheck_specs is empty; write patterns such as specs/*.py, or leave it out"
            )
        files = frozenset(spec_files(specs, folder)) if specs is not None else frozenset()
        reports = _reports(config, known)
        for path in reports:
            check_path(path)
    return Settings(
        specs=specs,
        files=files,
        given=_given(config, known),
        require=_words(config, "require") or known.require,
        known=known,
        reports=reports,
        whole=specs is not None and _whole(config),
    )


def _folder(config: pytest.Config) -> Path:
    return config.inipath.parent if config.inipath else config.rootpath


def _given(config: pytest.Config, known: Configuration) -> dict[str, Any]:
    """What flags or the configuration say, flags first."""
    said: dict[str, Any] = {
        name: _words(config, name) or getattr(known, name)
        for name in ("oracles", "devices", "dtypes")
    }
    said["profile"] = config.getoption("--gradcheck-profile") or known.profile
    said["seed"] = known.seed
    return {name: value for name, value in said.items() if value is not None}


def _words(config: pytest.Config, name: str) -> tuple[str, ...]:
    values: Sequence[str] = config.getoption(f"--gradcheck-{name}") or ()
    words = (word.strip() for value in values for word in value.split(","))
    return tuple(dict.fromkeys(word for word in words if word))


def _reports(config: pytest.Config, known: Configuration) -> tuple[Path, ...]:
    """The flag is relative to where pytest was called, the configuration to its own folder."""
    flag = config.getoption("--gradcheck-report")
    if flag:
        return tuple(Path(config.invocation_params.dir, name) for name in flag)
    return tuple(known.folder / name for name in known.report)


def _unnamed(config: pytest.Config) -> bool:
    """Whether pytest collects what it does by itself: `testpaths`, or all below the root."""
    source = config.args_source
    if source is config.ArgsSource.INVOCATION_DIR:
        return config.invocation_params.dir == config.rootpath
    return source is config.ArgsSource.TESTPATHS


def _whole(config: pytest.Config) -> bool:
    return _unnamed(config) and not any(config.getoption(n, None) for n in _NARROWING)
