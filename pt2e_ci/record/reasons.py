"""Reasons: a code for each, and its text. A code that is gone is never given to another reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pt2e_ci.record.records import Reason

if TYPE_CHECKING:
    from typing import Any

TEXTS = {
    # What the quantizer did.
    "PQ001": "the quantizer annotated nothing{left}",
    "PQ002": "the quantizer annotated {found}, where the case is about {wanted}",
    "PQ003": "the prepared program is not the float model: {what}",
    "PQ004": "{names}: observed a value, or has a scale, that is not finite",
    # What a program computes with. PQ013 was a count of integer operators.
    "PQ012": "{names}: computed in float ({left} of {annotated} operators): {why}",
    "PQ014": "{names}: not spelled out in plain operators",
    "PQ015": "the Q/DQ program has no quantize or dequantize operator",
    "PQ016": "what it does depends on values that were looked at out of sight: {what}",
    "PQ017": "{names}: not found in the reference program: {why}",
    "PQ018": "{names}: out of sight: {why}",
    "PQ019": "{names}: accumulators become levels in {found}, where {wanted} is asked for",
    "PQ020": "it takes another way for other inputs: {what}",
    # What it computes. PQ021 was the distance of the two programs, PQ025 the share of outputs that are not exact.
    "PQ022": "{count} values of outputs that are no floats differ",
    "PQ023": "{name}: up to {found:g} LSB from what its own operands should have given; {allowed:g} allowed",
    "PQ024": "output {index}: off by what {found:.3g} levels of its operands change; {allowed:g} allowed",
    "PQ026": "output {index}: up to {found:.3g} LSB from what its own levels stand for",
    "PQ027": "the same inputs gave other values when they were run again",
    "PQ028": "a run changes {what}, and so what the next one gives",
    "PQ029": "{what}",
    "PQ030": "a run writes into its inputs",
    "PQ031": "{names}: not exact: {what}",
    "PQ032": "output {index}: not the exact result",
    "PQ033": "a run changes what the one before gave",
    "PQ034": "it fails, or gives other numbers, with {how}",
    "PQ035": "what is called is not the program's graph",
    "PQ036": "{name}: ties are rounded {found}, where they are to go {wanted}",
    "PQ037": "{names}: not {kind}, which is asked for: {why}",
    # What could not be judged.
    "PQ040": "the model is in training mode: {names}; call model.eval() before it is exported",
    "PQ041": "no output value was compared",
    "PQ042": "no exact result to compare with: {why}",
    "PQ043": "{error}",
    "PQ044": "{death}",
    "PQ045": "still running after {limit} s",
    "PQ046": "{missing}",
    "PQ047": "pytest's {when} failed: {last}",
    # What a result does not say.
    "PQ051": "no exact form of {names}: worked out in float64",
    "PQ052": "{names}: one level of {available} is used, so that the comparison could not have failed",
    "PQ055": "{proved} of {total} operators are right for every input{rest}",
    "PQ054": "the float model is not known: it was not held against the Q/DQ program",
    "PQ053": "{quantized} of {total} operators are quantized; left in float: {names}",
}
"""The text of each code; what is in braces is filled in."""


MISMATCHES = frozenset(
    """PQ003 PQ004 PQ017 PQ022 PQ023 PQ024 PQ026 PQ027 PQ028 PQ029 PQ030 PQ033 PQ034 PQ035""".split()
)
"""The codes of what makes a mismatch."""


def reason(code: str, **values: Any) -> Reason:
    """Return a reason with its text filled in."""
    return Reason(code=code, text=TEXTS[code].format(**values))
