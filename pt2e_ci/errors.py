"""What goes wrong, in words: on the user's side of the line, and where an exception or a process ends."""

from __future__ import annotations

import difflib
import re
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_ASSERTION = re.compile(r'INTERNAL ASSERT FAILED at ".*?":\d+, please report a bug to PyTorch\. ?')


class InputError(Exception):
    """Bad input. The message is one line: what is wrong, and what to do. The command exits with 2."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Return a text that moves no cursor and begins no line, whoever shows it.

    That is what `str.isprintable` leaves out: control characters, and those that turn the direction of writing.
    """
    spaced = re.sub(r"\s", " ", text)
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in spaced)


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Say that `name` is no `kind`, and which one may have been meant."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(names)}"
    return InputError(f"unknown {kind} {name!r}: {hint}")


def kind_of_value(given: object) -> str:
    """Name the type of what was given, with its article."""
    name = type(given).__name__
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"


def one_line(error: BaseException | str | None, limit: int = 300) -> str:
    """Return an exception's type and the first line of what it says; of a text, its first line.

    The place in torch's source where one of its assertions stands is left out: it moves with every release.
    """
    try:
        text = str(error).strip().splitlines() or [""]
    except Exception:  # a class of the user's own, which cannot say what it is
        text = [""]
    kind = "" if isinstance(error, str) else f"{type(error).__name__}: "
    line = f"{kind}{_ASSERTION.sub('INTERNAL ASSERT FAILED: ', text[0])}".rstrip(": ")
    line = line.encode(errors="replace").decode()  # half of a surrogate pair, as in a path that is no text, is none
    return line if len(line) <= limit else line[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def death_reason(code: int | None) -> str:
    """Say how a process ended, by its exit code as `subprocess` gives it: negative for a signal."""
    if code is None:
        return "the process died"
    if code < 0:
        try:
            return f"the process was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"the process was ended by signal {-code}"
    return f"the process exited with {code}"


def need_numpy() -> None:
    """Refuse to go on without numpy.

    Raises:
        InputError: there is none.

    """
    try:
        import numpy  # noqa: F401
    except ImportError:
        raise InputError("vectors and engines need numpy: pip install 'pt2e-ci[vectors]'") from None
