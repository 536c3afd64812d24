"""How a case can end, and where: the one list of outcomes, with their order, signs and colours."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """How a case ended, from good to bad. Only `PASS` is good; `SKIP` names a capability that the machine lacks."""

    PASS = "pass"  # noqa: S105 - a word, not a password
    INEXACT = "inexact"
    FLOAT = "float"
    UNQUANTIZED = "unquantized"
    MISMATCH = "mismatch"
    SKIP = "skip"
    ERROR = "error"
    TIMEOUT = "timeout"
    CRASH = "crash"

    @property
    def rank(self) -> int:
        """How bad it is: a case that moves to a higher one broke."""
        return [*Outcome].index(self)

    @property
    def sign(self) -> str:
        """A sign, for those who do not see the colour; the word stands beside it."""
        return _LOOKS[self][0]

    @property
    def color(self) -> str:
        """Its colour, in a word."""
        return _LOOKS[self][1]


_LOOKS = {
    Outcome.PASS: ("\N{CHECK MARK}", "green"),
    Outcome.INEXACT: ("\N{ALMOST EQUAL TO}", "yellow"),
    Outcome.FLOAT: ("\N{WHITE CIRCLE}", "yellow"),
    Outcome.UNQUANTIZED: ("\N{DOTTED CIRCLE}", "yellow"),
    Outcome.MISMATCH: ("\N{NOT EQUAL TO}", "orange"),
    Outcome.SKIP: ("\N{EN DASH}", "grey"),
    Outcome.ERROR: ("!", "red"),
    Outcome.TIMEOUT: ("\N{HORIZONTAL ELLIPSIS}", "red"),
    Outcome.CRASH: ("\N{MULTIPLICATION SIGN}", "red"),
}


class Stage(StrEnum):
    """The part of the flow in which a case ended, where it did not come to a verdict."""

    EXPORT = "export"
    PREPARE = "prepare"
    CALIBRATE = "calibrate"
    CONVERT = "convert"
    RUN = "run"
    JUDGE = "judge"
