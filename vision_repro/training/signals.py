"""Handles SIGTERM and SIGUSR1, with which a person or a cluster asks a process to stop: they only set a flag.

A training checks the flag where it can stop without losing work (`preemption`), and ends with exit code 99: stopped, to
be continued. By default both signals would end a process without saving, and Lightning's own handlers end it with code
0, which a cluster takes for success.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

CODE = 99
"""Exit code of a process that was stopped and is to be continued; a batch script then requeues its job."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
CONTINUED = (CODE, *(128 + number for number in SIGNALS))
"""Exit codes of a stopped process in a shell: it saved, or the signal ended it while it was still starting."""


class Stopped(SystemExit):
    """Ends this process with code 99: it was asked to stop and has saved everything that the next start needs."""

    def __init__(self) -> None:
        super().__init__(CODE)


class _State:
    asked = False
    then: Callable[[], None] | None = None
    owner = 0


def asked() -> bool:
    """Returns whether this process has been asked to stop."""
    return _State.asked


def ask() -> None:
    """Asks this process to stop, as a signal does."""
    _State.asked = True
    # A forked child has a copy of this state but no children of its own.
    if _State.then is not None and _State.owner == os.getpid():
        _State.then()


def _handle(number: int, frame: FrameType | None) -> None:
    ask()


def install() -> None:
    """Makes the signals set the flag, whatever they did before; does nothing in a thread other than the main one."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, _handle)


def ignore() -> None:
    """Ignores further signals: this process is about to save and end."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def on_ask(then: Callable[[], None] | None) -> None:
    """Sets a function that is also called when a signal comes, for example to notify child processes; None for none."""
    _State.then, _State.owner = then, os.getpid()


@contextmanager
def listening() -> Iterator[None]:
    """Makes the signals set the flag inside the block, and restores the previous handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _State.asked = False
    install()
    try:
        yield
    finally:
        on_ask(None)
        _State.asked = False
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
