"""The fixture `gradcheck`: the library's checks, whose failure is the test's."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import gradcheck
from gradcheck._pytest_plugin import current_key, found_key, settings_key
from gradcheck.configuration import unknown
from gradcheck.errors import GradcheckError, UsageError, VerificationFailed
from gradcheck.reports.strict import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from gradcheck.reports.model import Report

_KEYS = (
    "oracles", "devices", "dtypes", "profile", "seed", "require", "require_devices", "require_verdict",
)  # fmt: skip


class Verifier:
    """Verifies as the library does, and fails the test where the report is not ok.

    What the test's markers say is the default of each call, and then what flags and configuration say.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def verify(self, *given: Any, **options: Any) -> Report:
        """Verify a spec, a chain, or the text that names one: `gradcheck.verify`."""
        __tracebackhide__ = True
        return self._call("verify", given, options)

    def verify_vjp(self, *given: Any, **options: Any) -> Report:
        """Verify a vector-Jacobian product: `gradcheck.verify_vjp`."""
        __tracebackhide__ = True
        return self._call("verify_vjp", given, options)

    def verify_jvp(self, *given: Any, **options: Any) -> Report:
        """Verify a Jacobian-vector product: `gradcheck.verify_jvp`."""
        __tracebackhide__ = True
        return self._call("verify_jvp", given, options)

    def verify_layer(self, *given: Any, **options: Any) -> Report:
        """Verify a framework's layer: `gradcheck.verify_layer`."""
        __tracebackhide__ = True
        return self._call("verify_layer", given, options)

    def _call(self, name: str, given: tuple[Any, ...], options: dict[str, Any]) -> Report:
        __tracebackhide__ = True
        try:
            function = getattr(gradcheck, name)
            defaults = self._defaults(function, len(given))
            report: Report = function(*given, **{**defaults, **options})
        except GradcheckError as error:
            raise error.with_traceback(None) from None  # the frames inside tell the user nothing
        if report.interrupted:
            raise KeyboardInterrupt
        self._record(report)
        if not report.ok:
            from gradcheck.reports.text import summary

            raise VerificationFailed(f"{summary(report)}\n{report}")
        return report

    def _defaults(self, function: Callable[..., Any], count: int) -> dict[str, Any]:
        """Flags and configuration as far as the function takes them, and the markers, nearest last.

        What the call gives by its first `count` arguments is left out.
        """
        taken = list(inspect.signature(function).parameters)
        said = self._config.stash[settings_key].given
        found = {key: value for key, value in said.items() if key in taken}
        for marker in reversed(list(self._item.iter_markers("gradcheck"))):
            if marker.args:
                raise UsageError(
                    "the marker gradcheck takes names only: gradcheck(devices=['cpu'])"
                )
            for key, value in marker.kwargs.items():
                if key not in _KEYS:
                    raise UsageError(f"the marker gradcheck: {unknown('name', key, _KEYS)}")
                found[key] = value
        return {key: value for key, value in found.items() if key not in taken[:count]}

    @property
    def _item(self) -> pytest.Item:
        return self._config.stash[current_key]

    def _record(self, report: Report) -> None:
        found = {"spec": False, "ok": report.ok, "checks": [encode(c) for c in report.checks]}
        self._item.stash.setdefault(found_key, []).append(found)
