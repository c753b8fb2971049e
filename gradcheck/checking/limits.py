"""A limit on the time of one check, and Ctrl-C.

An alarm interrupts Python code wherever it is. Code that never returns to Python cannot be interrupted;
in a worker process a watchdog ends the process then, and the run goes on without it.
"""

from __future__ import annotations

import _thread
import faulthandler
import gc
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
    from collections.abc import Callable, Iterator
    from types import FrameType

# How long code that ignores the alarm may go on before its process is ended.
GRACE = 5.0
_AT_ONCE = 1e-3
# After so long Ctrl-C rings again, where nothing that it raised would have been heard.
_AGAIN = 0.05
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


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """A context in which Ctrl-C is not lost; it gives a function that raises what was swallowed.

    Python prints and drops whatever is raised in a callback of the garbage collector or in a finaliser, and
    Hypothesis has such a callback. In a callback Ctrl-C therefore rings again a moment later.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: None  # somebody else's handler, who knows what to do
        return
    pressed = False
    timers: list[threading.Timer] = []

    def pressing(_signum: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        if not _collecting(frame):
            raise KeyboardInterrupt
        timers.append(threading.Timer(_AGAIN, _ring))
        timers[-1].daemon = True
        timers[-1].start()

    def heed() -> None:
        if pressed:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, pressing)
    try:
        yield heed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for timer in timers:
            timer.cancel()


def _ring() -> None:
    """Ctrl-C once more, in the main thread, which wakes it from a sleep where the system can do that."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)
    else:
        _thread.interrupt_main()


def _collecting(frame: FrameType | None) -> bool:
    """Whether a frame belongs to a callback of the garbage collector."""
    callbacks = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame is not None:
        if frame.f_code in callbacks:
            return True
        frame = frame.f_back
    return False
