"""Reasons: a code for each, and its text. A code that is gone is never given to another reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pt2e_ci.record.records import Reason

if TYPE_CHECKING:
    from typing import Any

TEXTS = {
    # What the quantizer did.
    "PQ001": "the quantizer annotated nothing",
    "PQ002": "the quantizer annotated {found}, where the case is about {wanted}",
    # What a program computes with.
    "PQ012": "{names}: computed in float ({left} of {annotated} operators)",
    "PQ013": "{found} integer operators are to be seen, where {wanted} were annotated",
    "PQ014": "{names}: not spelled out in plain operators",
    "PQ015": "the Q/DQ program has no quantize or dequantize operator",
    "PQ016": "what it does depends on values that were looked at out of sight",
    # What it computes.
    "PQ021": "up to {found:g} LSB apart; {allowed:g} allowed",
    "PQ022": "up to {found:.3g} apart; {allowed:g} allowed",
    "PQ023": "up to {found:g} LSB from the exact result; {allowed:g} allowed",
    "PQ024": "up to {found:.3g} from the exact result; {allowed:g} allowed",
    "PQ025": "{found:.0%} of the outputs are not the exact ones; {allowed:.0%} allowed",
    "PQ026": "{count} outputs lie off the grid of the quantize node",
    "PQ027": "the same inputs gave other values when they were run again",
    "PQ028": "a run changes the program's own tensors, and so what the next one gives",
    # What could not be judged.
    "PQ041": "no output value was compared",
    "PQ042": "no exact result to compare with: {why}",
    "PQ043": "{error}",
    "PQ044": "{death}",
    "PQ045": "still running after {limit} s",
    "PQ046": "{missing}",
    "PQ047": "pytest's {when} failed: {last}",
    # A pass that says less than others.
    "PQ051": "held against the Q/DQ program alone, for there is no exact form of {names}",
}
"""The text of each code; what is in braces is filled in."""


def reason(code: str, **values: Any) -> Reason:
    """Return a reason with its text filled in."""
    return Reason(code=code, text=TEXTS[code].format(**values))
