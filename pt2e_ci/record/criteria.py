"""What a program must do to pass. Nothing here needs more than the standard library."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Claim(StrEnum):
    """What is said of a reference program."""

    COMPUTE = "compute"
    """Every compute operator that the quantizer annotated takes integer tensors."""
    QDQ = "qdq"
    """Every quantize and dequantize operator is spelled out in plain operators."""


@dataclass(frozen=True)
class Criteria:
    """What a program is held to.

    Attributes:
        claims: what it must do.
        annotated: the compute operators that the quantizer must annotate; one at least where none is named.
        lsb: the largest difference allowed between the two programs, and between each and the exact result, in steps
            of an output's own grid.
        absolute: the same for an output that is on no grid, in the output's own units.
        differing: the share of the reference program's outputs that may differ from the exact ones at all.

    """

    claims: tuple[Claim, ...] = (Claim.COMPUTE,)
    annotated: tuple[str, ...] = ()
    lsb: float = 1
    absolute: float = 1e-4
    differing: float = 1


DEFAULT = Criteria()
"""What a program is held to where nothing else is said."""
