"""A limit on the time of one check.

An alarm interrupts Python code wherever it is. Code that never returns to Python cannot be interrupted;
in a worker process a watchdog ends the process then, and the run goes on without it.
"""

from __future__ import annotations

import faulthandler
import numbers
import os
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gradcheck.arguments import brief
from gradcheck.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

# How long code that ignores the alarm may go on before its process is ended.
GRACE = 5.0
_AT_ONCE = 1e-3
_LONGEST = 366 * 86400.0  # systems refuse alarms in the far future


class TimeLimitReached(BaseException):
    """The time of a check is up; no `except Exception` on the way may swallow it."""


def check_limit(seconds: Any) -> None:
    """Whether an alarm can be set for so many seconds; None is no limit.

    Raises:
        UsageError: Where it is no number, not above 0, or more than a year.
    """
    if seconds is None:
        return
    number = isinstance(seconds, numbers.Real) and not isinstance(seconds, bool)
    if not number or not 0 < seconds <= _LONGEST:
        raise UsageError(
            f"time_limit is {brief(seconds)}; write seconds above 0 (a year at most), or None for no limit"
        )


@contextmanager
def time_limit(seconds: float | None, *, expendable: bool = False) -> Iterator[None]:
    """A context that is left by `TimeLimitReached` after so many seconds.

    Args:
        seconds: The limit; None for none. It needs the main thread and a system with alarms.
        expendable: Whether this process may be ended where the alarm is not heeded.
    """
    if seconds is None or not _possible():
        yield
        return
    if expendable:
        sink = open(os.devnull, "w")  # noqa: SIM115, PTH123  it must stay open while it is armed
        faulthandler.dump_traceback_later(seconds + GRACE, exit=True, file=sink)
    before, start = signal.signal(signal.SIGALRM, _expire), time.monotonic()
    # It rings again each second: a finaliser may have swallowed the first one.
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if (
            left
        ):  # somebody else's limit, of a whole test say, goes on; one that is over rings at once
            rest = max(left - (time.monotonic() - start), _AT_ONCE)
            signal.setitimer(signal.ITIMER_REAL, rest, interval)
        if expendable:
            faulthandler.cancel_dump_traceback_later()
            sink.close()


def _possible() -> bool:
    main = threading.current_thread() is threading.main_thread()
    return main and hasattr(signal, "SIGALRM")


def _expire(_signum: int, _frame: Any) -> None:
    raise TimeLimitReached
