"""How a run is stopped: Ctrl-C and SIGTERM both end it in order, each with its own exit code."""

from __future__ import annotations

import signal
from typing import NoReturn

INTERRUPTED, TERMINATED = 130, 143
_terminated: list[int] = []


def _terminate(number: int, frame: object) -> NoReturn:
    _terminated.append(number)
    raise KeyboardInterrupt


def listen() -> None:
    """Have SIGTERM, and SIGINT where a shell's background job ignores it, end this process as Ctrl-C does.

    The first process of a container is deaf to them otherwise.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminate)


def be_deaf() -> None:
    """Have no second signal take what this process is about to write."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def exit_code() -> int:
    """Return the exit code of a process that was stopped: 128 and the number of the signal."""
    return TERMINATED if _terminated else INTERRUPTED
