"""Reasons: the one list of codes, each with its outcome, its text, why it comes about and what to do.

A code that is gone is never given to another reason. `python -m pt2e_ci.record.reasons > docs/reasons.md` writes the
page of the documentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.record.records import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pt2e_ci.record.records import Case


@dataclass(frozen=True)
class Entry:
    """A code's entry in the list.

    Attributes:
        outcome: what it makes of a case; None for what only has to be known.
        text: what is wrong, in a line; what is in braces is filled in.
        why: how it comes about.
        remedy: what to do.

    """

    outcome: Outcome | None
    text: str
    why: str
    remedy: str


REASONS = {
    # What the quantizer did.
    "PQ001": Entry(
        Outcome.UNQUANTIZED,
        "the quantizer annotated nothing{left}",
        "None of the quantizer's patterns matched an operator of the graph. Up to torch 2.6 `torch.export.export`"
        " takes linear apart; some quantizers want channels_last, or modules of their own.",
        "Compare the names of the graph's operators with the quantizer's patterns. Check that its configuration was"
        " set, with `set_global` for XNNPACK's.",
    ),
    "PQ002": Entry(
        Outcome.UNQUANTIZED,
        "the quantizer annotated {found}, where the case is about {wanted}",
        "The criteria name the operators that the quantizer has to annotate, and it annotated others.",
        "Look at what the export made of the operator, or change `Criteria(annotated=...)`.",
    ),
    "PQ003": Entry(
        Outcome.MISMATCH,
        "what was quantized is not the float model: {what}",
        "The flow changed what the model computes. It is known to lose writes through an alias, as in"
        " `y = x; y += 1`, to make a constant of state that is quantized, and to fold two batch norms into the one conv"
        " that both follow.",
        "Write in-place operators out of place, return state as an output, and give each batch norm a conv of its own."
        " Until then all that is compared computes something other than the model.",
    ),
    "PQ004": Entry(
        Outcome.MISMATCH,
        "{names}: observed a value, or has a scale, that is not finite",
        "An observer saw an infinity or NaN, such as a mask of -inf. No scale can represent that.",
        "Mask with a large finite number, as -1e4, or keep the operator out of the quantizer's reach.",
    ),
    # What a program computes with. PQ013 was a count of integer operators.
    "PQ012": Entry(
        Outcome.FLOAT,
        "{names}: computed in float ({left} of {annotated} operators): {why}",
        "The quantizer annotated the operator, and the reference program still computes it in float: no pattern of the"
        " representation matched. Upstream has no pattern for many operators, and its conv2d pattern has looked for"
        " `aten.convolution` since torch 2.1, where the graph has `aten.conv2d`.",
        "Add a pattern for it to the representation, or mark it known: `known={'PQ012': COUNT}`, in the model's file or"
        " in `assert_integer`.",
    ),
    "PQ014": Entry(
        Outcome.FLOAT,
        "{names}: not spelled out in plain operators",
        "A quantize or dequantize operator is left, where the criteria ask for plain operators in its place.",
        "Give the representation a pattern for this form of the operator.",
    ),
    "PQ015": Entry(
        Outcome.FLOAT,
        "the Q/DQ program has no quantize or dequantize operator",
        "The criteria are about these operators, and there are none.",
        "Check that the program was converted.",
    ),
    "PQ016": Entry(
        Outcome.FLOAT,
        "what it does depends on values that were looked at out of sight: {what}",
        "A value left the program for Python, numpy or an operator in C++, and came back: what was computed there"
        " cannot be seen.",
        "Compute with torch's operators alone.",
    ),
    "PQ017": Entry(
        Outcome.MISMATCH,
        "{names}: not found in the reference program: {why}",
        "No tensor of the reference program has the levels that the operator must give.",
        "Look in `pt2e-ci explain` for the operators before it: the first that is off is to blame. A program may also"
        " keep levels in a form of its own; then it cannot be judged.",
    ),
    "PQ018": Entry(
        Outcome.FLOAT,
        "{names}: out of sight: {why}",
        "It is not computed by torch's operators, so nobody can say whether it computes in integers.",
        "Write it in torch's operators in the reference program.",
    ),
    "PQ019": Entry(
        Outcome.FLOAT,
        "{names}: accumulators become levels in {found}, where {wanted} is asked for",
        "Requantization multiplies by a float scale. An integer-only target needs a multiplier and a shift.",
        "Requantize with integers, or drop `arithmetic` from the criteria.",
    ),
    "PQ020": Entry(
        Outcome.FLOAT,
        "it takes a different path for other inputs: {what}",
        "The program branches on data: what was seen on one input says nothing of the next.",
        "Write it without branches, as with `torch.where`.",
    ),
    # What it computes. PQ021 was the distance of the two programs, PQ025 the share of outputs that are not exact.
    "PQ022": Entry(
        Outcome.MISMATCH,
        "{count} values of non-float outputs differ",
        "An integer or boolean output, such as an argmax, is another one than exact arithmetic gives.",
        "Look for the first operator that is off in `pt2e-ci explain`.",
    ),
    "PQ023": Entry(
        Outcome.MISMATCH,
        "{name}: up to {found:g} LSB from what its own operands should have given; {allowed:g} allowed",
        "The operator is wrong, and by more than rounding: a zero point, a scale, an overflow, padding or a clamp.",
        "`pt2e-ci explain` shows an input, the accumulator and each step of the element that is furthest off.",
    ),
    "PQ024": Entry(
        Outcome.MISMATCH,
        "output {index}: off by what {found:.3g} levels of its operands change; {allowed:g} allowed",
        "An output that is not quantized is further from the exact result than its operands' own steps explain.",
        "Look at what follows the last levels: the dequantize, or an operator in float.",
    ),
    "PQ026": Entry(
        Outcome.MISMATCH,
        "output {index}: up to {found:.3g} LSB from what its own levels stand for",
        "The levels are right, and the dequantize that makes the output of them is not.",
        "Compare its scale and zero point with those of the Q/DQ program.",
    ),
    "PQ027": Entry(
        Outcome.MISMATCH,
        "the same inputs gave other values when they were run again",
        "Something random, uninitialized or kept from run to run takes part.",
        "Look for dropout, `torch.empty` and buffers that are written.",
    ),
    "PQ028": Entry(
        Outcome.MISMATCH,
        "a run changes {what}, and so what the next one gives",
        "The reference program keeps state, where the Q/DQ program keeps none.",
        "Return state as an output, or clone what is written.",
    ),
    "PQ029": Entry(
        Outcome.MISMATCH,
        "{what}",
        "An output has another dtype than the Q/DQ program's. Upstream's dynamic linear returns float64.",
        "Cast the output to the dtype that the Q/DQ program gives.",
    ),
    "PQ030": Entry(
        Outcome.MISMATCH,
        "a run writes into its inputs",
        "An in-place operator of the reference program changes what the caller gave.",
        "Clone before it writes.",
    ),
    "PQ031": Entry(
        Outcome.INEXACT,
        "{names}: not exact: {what}",
        "The operator is integer, and its rounding is not that of the exact result. Upstream truncates where it should"
        " round, so that about half of its values are a level low.",
        "Round half to even, declare your scheme with `Criteria(rounding=...)`, or accept it with"
        " `Criteria(allow=('inexact',))`.",
    ),
    "PQ032": Entry(
        Outcome.INEXACT,
        "output {index}: not the exact result",
        "What follows the last levels rounds otherwise than exact arithmetic.",
        "Look at the dequantize of that output.",
    ),
    "PQ033": Entry(
        Outcome.MISMATCH,
        "a run overwrites what the run before it returned",
        "An output is a buffer of the program that the next run overwrites.",
        "Return a new tensor.",
    ),
    "PQ034": Entry(
        Outcome.MISMATCH,
        "it fails, or gives other numbers, with {how}",
        "What a program computes must not depend on gradients, strides or memory format.",
        "Make inputs contiguous first, or use operators that take any strides.",
    ),
    "PQ035": Entry(
        Outcome.MISMATCH,
        "what is called is not the program's graph",
        "The module's code is not what its graph says: `recompile` was not called, or a hook takes part.",
        "Call `program.recompile()` and remove hooks.",
    ),
    "PQ036": Entry(
        Outcome.INEXACT,
        "{names}: ties are rounded {found}, where they are to go {wanted}",
        "Only values exactly between two levels differ: another rounding scheme than the declared one.",
        "Declare the scheme that you mean with `Criteria(rounding=...)`.",
    ),
    "PQ037": Entry(
        Outcome.INEXACT,
        "{names}: not {kind}, which is asked for: {why}",
        "The criteria ask for stronger evidence than there is.",
        "Ask for less with `Criteria(evidence=...)`, or see in `pt2e-ci explain` why it could not be decided.",
    ),
    # What could not be judged.
    "PQ040": Entry(
        Outcome.ERROR,
        "the model is in training mode: {names}; call model.eval() before it is exported",
        "With batch statistics or dropout, a program is not a function of its input alone.",
        "Call `model.eval()` before the export; for quantization-aware training give `qat=True`.",
    ),
    "PQ041": Entry(
        Outcome.ERROR,
        "no output value was compared",
        "The outputs hold no tensor, or an empty one.",
        "Give the model an output to judge.",
    ),
    "PQ042": Entry(
        Outcome.ERROR,
        "no exact result to compare with: {why}",
        "An operator of the Q/DQ program could not be followed.",
        "Report it with the model: the operator needs a row of its own.",
    ),
    "PQ043": Entry(
        Outcome.ERROR,
        "{error}",
        "A stage of the flow raised.",
        "The stage says whose it is: export and prepare are torch's and the quantizer's, run is the representation's."
        " `--traceback` shows all of it.",
    ),
    "PQ044": Entry(
        Outcome.CRASH,
        "{death}",
        "The process died: a kernel crashed, or memory ran out.",
        "Run it alone, and watch its memory.",
    ),
    "PQ045": Entry(
        Outcome.TIMEOUT,
        "still running after {limit} s",
        "It hangs, or is slow under emulation.",
        "Give more with `--timeout SECONDS`.",
    ),
    "PQ046": Entry(
        Outcome.SKIP,
        "{missing}",
        "The machine lacks a capability that the case needs.",
        "`pt2e-ci doctor` lists what is missing; `--require` turns a skip red.",
    ),
    "PQ047": Entry(
        Outcome.ERROR,
        "pytest's {when} failed: {last}",
        "What runs around the case failed, not the case itself.",
        "Read pytest's own output above.",
    ),
    # What a result does not say.
    "PQ051": Entry(
        None,
        "no exact form of {names}: worked out in float64",
        "There is no integer that it should give: a softmax, say, is compared with float64.",
        "Its evidence is `tested` at most.",
    ),
    "PQ052": Entry(
        None,
        "{names}: only one of {available} levels is used, so the comparison could not have failed",
        "The inputs give one level throughout, as ids in a float tensor or a scale far too large do.",
        "Calibrate on inputs of the range that the model sees.",
    ),
    "PQ053": Entry(
        None,
        "{quantized} of {total} operators are quantized; left in float: {names}",
        "The quantizer annotates only what its patterns match; a second use of a shared module is often left out.",
        "`pt2e-ci explain` lists each with its line of source.",
    ),
    "PQ054": Entry(
        None,
        "the float model is not known: it was not compared with the Q/DQ program",
        "What was given is prepared or converted already, or was trained after that.",
        "Give the float model to have that compared, too.",
    ),
    "PQ055": Entry(
        None,
        "{proved} of {total} operators are right for every input{rest}",
        "Each was decided on all values that its operands can have, and not on samples.",
        "Nothing: `Criteria(evidence='proved')` asks for it of all.",
    ),
    "PQ056": Entry(
        None,
        "the model rejects an input generated in addition to yours ({label}): {error}",
        "Floating tensors are varied for further inputs, and the model does not take every value.",
        "Give several inputs of your own if it matters.",
    ),
}
"""Every code."""

MISMATCHES = frozenset(code for code, entry in REASONS.items() if entry.outcome is Outcome.MISMATCH)
"""The codes of what makes a mismatch."""


def reason(code: str, operators: Iterable[str] = (), **values: Any) -> Reason:
    """Return a reason with its text filled in, and the operators that it is about, by their nodes."""
    return Reason(code=code, text=REASONS[code].text.format(**values), operators=[*dict.fromkeys(operators)])


def findings(case: Case) -> list[Reason]:
    """Return the reasons that make something of a case, that of its outcome first, and no notes."""
    return [one for one in (case.reason, *case.notes) if one is not None and outcome_of(one) is not None]


def page() -> str:
    """Return the list as a page of the documentation, in Markdown."""
    parts = [
        "# Reasons",
        "Each outcome has a reason, whose code stays the same. `pt2e-ci explain CODE` prints its entry.",
    ]
    for code, entry in REASONS.items():
        outcome = f"`{entry.outcome}`" if entry.outcome else "a note"
        parts += [f"## {code}", f"`{entry.text}` ({outcome})", entry.why, f"**What to do.** {entry.remedy}"]
    return "\n\n".join(parts) + "\n"


def outcome_of(found: Reason) -> Outcome | None:
    """Return what a reason makes of a case; None for what only has to be known."""
    return REASONS[found.code].outcome if found.code in REASONS else None


if __name__ == "__main__":
    print(page(), end="")
