"""The judge: from two programs and their inputs to one outcome, with what was measured on the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.cases.catalogue import Claim
from pt2e_ci.checks.digest import Digest
from pt2e_ci.checks.exactness import Exactness
from pt2e_ci.checks.grids import find_grid, integer_frontier, output_nodes, runtime_scales
from pt2e_ci.checks.listing import listing
from pt2e_ci.checks.numerics import Comparison
from pt2e_ci.checks.recording import record, replay
from pt2e_ci.checks.seed_rule import seed_check
from pt2e_ci.checks.structure import Operator, Structure, left_float, read_structure, still_float
from pt2e_ci.exact.rounding import Rounding
from pt2e_ci.operators import family_of
from pt2e_ci.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch.fx import GraphModule, Node

    from pt2e_ci.cases.catalogue import Case
    from pt2e_ci.cases.inputs import InputSet
    from pt2e_ci.checks.recording import Recording


@dataclass(frozen=True)
class Judgement:
    """An outcome, the reason where it is not a pass, and the measurements as the report holds them."""

    outcome: Outcome
    reason: str | None
    structure: dict[str, Any]
    numerics: dict[str, Any]
    exact: dict[str, Any]
    engines: dict[str, Any]
    seed_check: dict[str, Any] | None
    deterministic: bool
    digest: str | None
    seconds: dict[str, float]
    programs: dict[str, list[list[str]]]
    left: tuple[Operator, ...]
    """The operators of the Q/DQ program that were annotated and stayed float."""


class ProgramError(Exception):
    """The reference program ran, and gave what cannot be compared with the Q/DQ program's outputs."""


def judge(
    case: Case,
    qdq: GraphModule,
    reference: GraphModule,
    rewrites: Mapping[str, int] | None,
    inputs: Sequence[InputSet],
    *,
    rounding: Rounding = Rounding.HALF_EVEN,
    engines: Sequence[str] = (),
) -> Judgement:
    """Run both programs on every input set, and compare them with each other and with the exact result.

    `engines` names those whose kernels are measured beside; what they give is no part of the verdict.
    Raises what a program raises.
    """
    calibration = inputs[0].tensors
    qdq_recording, reference_recording = record(qdq, calibration), record(reference, calibration)
    _check_outputs(qdq_recording, reference_recording)
    qdq_structure = read_structure(qdq, qdq_recording)
    structure = read_structure(reference, reference_recording)

    grids = [find_grid(node) for node in output_nodes(qdq)]
    qdq_levels = integer_frontier(qdq, qdq_recording)
    levels = integer_frontier(reference, reference_recording)
    exactness = Exactness(qdq, reference, reference_recording, rounding, engines)
    keep = [*qdq_levels, *runtime_scales(grids), *exactness.keep_of_qdq]

    comparison, digest, deterministic = Comparison(), Digest(), True
    seed: dict[str, Any] | None = None
    for given in inputs:
        expected = replay(qdq, given.tensors, keep)
        actual = replay(reference, given.tensors, [*levels, *exactness.keep_of_reference])
        for a, b, grid in zip(actual.outputs, expected.outputs, grids, strict=True):
            if isinstance(b, torch.Tensor):
                comparison.add(a, b, grid.steps(expected, b) if grid else None)
        exactness.add(given.tensors, expected, actual, grids)
        if case.seed_rule and seed is None:
            seed = seed_check(case.seed_rule, qdq, reference, expected.outputs, actual.outputs)
        _take_in(digest, given.label, (expected.kept, qdq_levels), (actual.kept, levels))
        # The case is run twice, for a program must not depend on what ran before.
        for once, program, kept in ((expected, qdq, keep), (actual, reference, levels)):
            deterministic = deterministic and _same(once, replay(program, given.tensors, kept))

    outcome, reason = _verdict(case, qdq_structure, structure, comparison, exactness)
    if not deterministic:
        outcome, reason = Outcome.MISMATCH, "the same inputs gave other values when they were run again"
    return Judgement(
        outcome,
        reason,
        structure={
            "integer": structure.integer,
            "float": sum(structure.in_float.values()),
            "coverage": structure.coverage,
            "rewrites": None if rewrites is None else dict(sorted(rewrites.items())),
            "float_operators": dict(sorted(structure.in_float.items())),
            "qdq": len(structure.qdq),
            # Upstream's dynamic linear gives float64, for its scale is one: no wrong number, but worth a look.
            "outputs": [_describe(output) for output in reference_recording.outputs],
        },
        numerics={
            "reference_vs_qdq": comparison.record(),
            "reference_vs_exact": exactness.reference.record(),
            "qdq_vs_exact": exactness.qdq.record(),
        },
        exact=exactness.record(),
        engines=exactness.engines(),
        seed_check=seed,
        deterministic=deterministic,
        digest=digest.value(),
        seconds={name: round(spent, 6) for name, spent in exactness.seconds.items()},
        programs={
            "qdq": listing(qdq, qdq_recording, qdq_structure),
            "reference": listing(reference, reference_recording, structure),
        },
        left=left_float(qdq_structure, structure),
    )


def _verdict(
    case: Case, qdq: Structure, reference: Structure, comparison: Comparison, exactness: Exactness
) -> tuple[Outcome, str | None]:
    """Weigh the numbers before the structure: a program that computes something else is wrong however it does it.

    Before both, the quantizer must have annotated what the case is about.
    """
    if not qdq.annotated:
        return Outcome.VACUOUS, "the quantizer annotated nothing"
    # Whether an activation is part of the operator before it or annotated by itself differs from torch to torch.
    annotated = [
        operator.name
        for operator in qdq.operators
        if operator.quantized and (not operator.is_activation or operator.name in case.annotated)
    ]
    if case.annotated and _families(annotated) != _families(case.annotated):
        found, wanted = (", ".join(sorted(names)) for names in (annotated, case.annotated))
        return Outcome.VACUOUS, f"the quantizer annotated {found}, where the case is about {wanted}"
    if comparison.max_lsb > case.max_lsb:
        return Outcome.MISMATCH, f"up to {comparison.max_lsb:g} LSB apart; {case.max_lsb:g} allowed"
    if comparison.max_absolute > case.max_absolute:
        return Outcome.MISMATCH, f"up to {comparison.max_absolute:.3g} apart; {case.max_absolute:g} allowed"
    exact = exactness.reference
    # What was worked out in float64 is no exact result, to call a program right or wrong by.
    if not exactness.approximated and (inexact := _inexact(case, exact)):
        return Outcome.MISMATCH, inexact
    if comparison.off_grid:
        return Outcome.MISMATCH, f"{comparison.off_grid} outputs lie off the grid of the quantize node"
    if not comparison.compared:
        return Outcome.VACUOUS, "no output value was compared"
    if exactness.unavailable or not exact.compared:
        return Outcome.VACUOUS, f"no exact result to compare with: {exactness.unavailable or 'every input has a NaN'}"
    if Claim.COMPUTE in case.claims:
        if left := still_float(qdq, reference):
            in_float = {operator.name for operator in reference.operators if not operator.integer}
            names = ", ".join(sorted(name for name in in_float if family_of(name) in left))
            return Outcome.VACUOUS, f"{names}: computed in float ({left.total()} of {qdq.annotated.total()} operators)"
        wanted_integer = sum(operator.quantized and not operator.is_activation for operator in qdq.operators)
        if reference.integer < wanted_integer:
            return (
                Outcome.VACUOUS,
                f"{reference.integer} integer operators are to be seen, where {wanted_integer} were annotated",
            )
    if Claim.QDQ in case.claims:
        if not qdq.qdq:
            return Outcome.VACUOUS, "the Q/DQ program has no quantize or dequantize operator"
        if reference.qdq:
            return Outcome.VACUOUS, f"{', '.join(sorted(set(reference.qdq)))}: not spelled out in plain operators"
    if exactness.approximated:
        names = ", ".join(exactness.approximated)
        return Outcome.PASS, f"held against the Q/DQ program alone, for there is no exact form of {names}"
    return Outcome.PASS, None


def _inexact(case: Case, exact: Comparison) -> str | None:
    """Say in what a program is further from the exact result than its case allows, if it is."""
    if exact.max_lsb > case.max_lsb:
        return f"up to {exact.max_lsb:g} LSB from the exact result; {case.max_lsb:g} allowed"
    if exact.max_absolute > case.max_absolute:
        return f"up to {exact.max_absolute:.3g} from the exact result; {case.max_absolute:g} allowed"
    if exact.differing > case.max_differing:
        return f"{exact.differing:.0%} of the outputs are not the exact ones; {case.max_differing:.0%} allowed"
    return None


def _families(names: Iterable[str]) -> Counter[str]:
    return Counter(family_of(name) for name in names)


def _check_outputs(expected: Recording, actual: Recording) -> None:
    if actual.layout != expected.layout:
        raise ProgramError(f"gives {actual.layout}, where the Q/DQ program gives {expected.layout}")
    for index, (a, b) in enumerate(zip(actual.outputs, expected.outputs, strict=True)):
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
            if a.shape != b.shape:
                raise ProgramError(f"output {index} is {_describe(a)}, where the Q/DQ program gives {_describe(b)}")
        elif type(a) is not type(b) or a != b:
            raise ProgramError(f"output {index} is {_describe(a)}, where the Q/DQ program gives {_describe(b)}")


def _describe(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return repr(value)


def _same(once: Recording, again: Recording) -> bool:
    """Tell whether two runs gave the same outputs and levels, bit by bit, NaN for NaN."""
    pairs = [*zip(once.outputs, again.outputs, strict=True)]
    pairs += [(once.kept[node], value) for node, value in again.kept.items()]
    return all(
        bool(((a == b) | ((a != a) & (b != b))).all()) if isinstance(a, torch.Tensor) else a == b for a, b in pairs
    )


def _take_in(digest: Digest, label: str, *programs: tuple[Mapping[Node, Any], Sequence[Node]]) -> None:
    for program, (kept, nodes) in zip(("qdq", "reference"), programs, strict=True):
        digest.add(f"{label}/{program}", (kept[node] for node in nodes))
