"""What a program must do to pass. Nothing here needs more than the standard library."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
        lsb: how far an operator's levels may be from what its own operands should have given, and still be called
            inexact and no mismatch, in steps of its grid.
        arithmetic: what accumulators may become levels in; anything where none is named.

    """

    claims: tuple[Claim, ...] = (Claim.COMPUTE,)
    annotated: tuple[str, ...] = ()
    lsb: float = 1
    arithmetic: tuple[str, ...] = ()


DEFAULT = Criteria()
"""What a program is held to where nothing else is said."""
