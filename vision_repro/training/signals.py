"""SIGTERM and SIGUSR1, by which a person or a cluster asks a process to stop: they set a flag, and nothing else.

What goes on looks at the flag where it can stop without a loss (`preemption`), and ends with exit code 99: stopped, to
be continued. The default action of both signals would end a process with nothing saved, and Lightning's own handlers
end it with code 0, which a cluster takes for done.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

CODE = 99
"""Exit code of what was stopped and is to be continued; a batch script takes it for `put me back in the queue`."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
CONTINUED = (CODE, *(128 + number for number in SIGNALS))
"""Exit codes, as a shell sees them, of what was stopped: saved, or ended by the signal while it was still starting."""


class Stopped(SystemExit):
    """This process was asked to stop, and all that the next start needs is saved; ends it with code 99."""

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
    # A forked child has a copy of this, and no children.
    if _State.then is not None and _State.owner == os.getpid():
        _State.then()


def _handle(number: int, frame: FrameType | None) -> None:
    ask()


def install() -> None:
    """Makes the signals set the flag, whatever they did before; other threads than the first have no say in it."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, _handle)


def ignore() -> None:
    """Makes further signals do nothing: this process is about to save and end."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def on_ask(then: Callable[[], None] | None) -> None:
    """Sets what else is done when a signal comes, such as telling it to child processes; None is nothing."""
    _State.then, _State.owner = then, os.getpid()


@contextmanager
def listening() -> Iterator[None]:
    """Makes the signals set the flag for as long as the block lasts, and restores what they did before."""
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
