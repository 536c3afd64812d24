"""What is shown while cases run: on a terminal one line that stays up to date, in a pipe one for every ten cases."""

from __future__ import annotations

import time
from typing import Any

_STEP = 10


class Progress:
    """Counts cases as they end, and shows where the run is.

    Args:
        reporter: pytest's terminal reporter.
        started: since when cases run, as `time.monotonic` gives it.

    """

    def __init__(self, reporter: Any) -> None:
        self._reporter = reporter
        self._started = time.monotonic()
        self._done = 0

    def count(self, name: str, selected: int) -> None:
        """Note that a case has ended, of as many as are selected."""
        self._done += 1
        left = (time.monotonic() - self._started) / self._done * (selected - self._done)
        about = f", about {left:.0f} s left" if self._done < selected else ""
        line = f"{self._done} of {selected} cases{about}"
        if self._reporter.isatty:
            self._reporter.rewrite(f"{line}: {name}", erase=True)
        elif self._done % _STEP == 0:
            self._reporter.write_line(line)
        self._reporter.flush()  # a pipe would hold back what came before, too
