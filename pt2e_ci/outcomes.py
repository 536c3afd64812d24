"""How a case can end: the words for it, and the result that carries what was measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a case ended. Only `PASS` is good; `SKIP` names a capability that the machine lacks."""

    PASS = "pass"  # noqa: S105 - a word, not a password
    VACUOUS = "vacuous"
    MISMATCH = "mismatch"
    ERROR = "error"
    CRASH = "crash"
    TIMEOUT = "timeout"
    SKIP = "skip"


class Stage(StrEnum):
    """The part of the flow in which a case ended, where it did not reach the checks."""

    EXPORT = "export"
    PREPARE = "prepare"
    CALIBRATE = "calibrate"
    CONVERT = "convert"
    RUN = "run"


@dataclass(frozen=True)
class Result:
    """How a case ended, and what was measured: the fields of the report's line, but `known`."""

    name: str
    family: str
    outcome: Outcome
    stage: Stage | None = None
    reason: str | None = None
    structure: dict[str, Any] | None = None
    numerics: dict[str, Any] = field(default_factory=dict)
    exact: dict[str, Any] | None = None
    engines: dict[str, Any] = field(default_factory=dict)
    seed_check: dict[str, Any] | None = None
    deterministic: bool | None = None
    digest: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    programs: dict[str, list[list[str]]] | None = None
    traceback: str | None = field(default=None, compare=False)
