"""What a program must do to pass. Nothing here needs more than the standard library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pt2e_ci.errors import InputError, kind_of_value
from pt2e_ci.exact.schemes import Rounding
from pt2e_ci.plugins import load

DISPLACEMENT = 0.01
"""How far beyond a rounding boundary, in LSB, a value may be and pass: float32's own error. Half an accumulator is
allowed beside, where a bias is no whole number of them."""

DISPLACEMENTS: Mapping[str, float] = {"input": 0.001}
"""The same by operator, where it is another: what a program is given is divided once, and rounded."""


class Claim(StrEnum):
    """What is said of a reference program."""

    COMPUTE = "compute"
    """Every operator that the quantizer annotated computes on integers, in sight."""
    QDQ = "qdq"
    """Every quantize and dequantize operator is spelled out in plain operators."""


@dataclass(frozen=True)
class Criteria:
    """What a program is held to.

    Attributes:
        claims: what it must do.
        annotated: the compute operators that the quantizer must annotate; one at least where none is named.
        displacement: how far beyond a rounding boundary an operator's values may be and pass, in LSB.
        displacements: the same by operator, where it is another.
        lsb: how far they may be and be called inexact, and no mismatch, in LSB.
        evidence: how well that must be known: ``proved``, ``partly`` or ``tested``.
        arithmetic: what accumulators may become levels in; anything where none is named.
        rounding: how a real number becomes a level.
        allow: the outcomes that pass all the same: ``inexact``.

    """

    claims: tuple[Claim, ...] = (Claim.COMPUTE,)
    annotated: tuple[str, ...] = ()
    displacement: float = DISPLACEMENT
    displacements: Mapping[str, float] = field(default_factory=lambda: DISPLACEMENTS)
    lsb: float = 1
    evidence: str = "tested"
    arithmetic: tuple[str, ...] = ()
    rounding: Rounding = Rounding.HALF_EVEN
    allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse words that nothing is called.

        Raises:
            ValueError: which, and what to write.

        """
        if self.evidence not in ("proved", "partly", "tested"):
            raise ValueError(f"evidence is {self.evidence!r}: write 'proved', 'partly' or 'tested'")
        if not set(self.allow) <= {"inexact"}:
            raise ValueError(f"allow is {', '.join(self.allow)}: 'inexact' is all that can be allowed")

    def allowed(self, operator: str) -> float:
        """Return the displacement that an operator may have."""
        return self.displacements.get(operator, self.displacement)


DEFAULT = Criteria()
"""What a program is held to where nothing else is said."""


def criteria_of(given: Any) -> Criteria:
    """Return criteria, or those of a plugin's name.

    Raises:
        InputError: it is something else.

    """
    found = load("criteria", given) if isinstance(given, str) else given
    if not isinstance(found, Criteria):
        raise InputError(f"criteria is {kind_of_value(found)}: give pt2e_ci.Criteria(...)")
    return found


def criteria_by_case(given: Any) -> Mapping[str, Criteria]:
    """Return criteria by a pattern of cases' names, as a shell reads it: those alone are everybody's.

    Raises:
        InputError: it is something else.

    """
    found = load("criteria", given) if isinstance(given, str) else given
    if not isinstance(found, Mapping):
        return {"*": criteria_of(found)}
    for pattern, one in found.items():
        if not isinstance(pattern, str) or not isinstance(one, Criteria):
            raise InputError(
                f"criteria has {pattern!r}: {one!r:.60}: give pt2e_ci.Criteria(...) by the pattern of a case"
            )
    return found
