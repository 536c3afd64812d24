"""The judge: from two programs and their inputs to one outcome, with what was measured on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.cases.catalogue import Claim
from pt2e_ci.checks.digest import Digest
from pt2e_ci.checks.grids import find_grid, integer_frontier, output_nodes, runtime_scales
from pt2e_ci.checks.numerics import Comparison
from pt2e_ci.checks.recording import record, replay
from pt2e_ci.checks.seed_rule import seed_check
from pt2e_ci.checks.structure import Structure, read_structure, still_float
from pt2e_ci.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.fx import GraphModule, Node

    from pt2e_ci.cases.catalogue import Case
    from pt2e_ci.cases.inputs import InputSet


@dataclass(frozen=True)
class Judgement:
    """An outcome, the reason where it is not a pass, and the measurements as the report holds them."""

    outcome: Outcome
    reason: str | None
    structure: dict[str, Any]
    numerics: dict[str, Any]
    seed_check: dict[str, Any]
    digest: str | None


class ProgramError(Exception):
    """The reference program ran, and gave what cannot be compared with the Q/DQ program's outputs."""


def judge(
    case: Case,
    qdq: GraphModule,
    reference: GraphModule,
    rewrites: Mapping[str, int] | None,
    inputs: Sequence[InputSet],
) -> Judgement:
    """Run both programs on every input set and compare them. Raises what a program raises."""
    calibration = inputs[0].tensors
    qdq_recording, reference_recording = record(qdq, calibration), record(reference, calibration)
    _check_outputs(qdq_recording.outputs, reference_recording.outputs)
    qdq_structure = read_structure(qdq, qdq_recording)
    structure = read_structure(reference, reference_recording)

    grids = [find_grid(node) for node in output_nodes(qdq)]
    qdq_levels = integer_frontier(qdq, qdq_recording)
    levels = integer_frontier(reference, reference_recording)
    keep = [*qdq_levels, *runtime_scales(grids)]

    comparison, digest, again = Comparison(), Digest(), Digest()
    seed: dict[str, Any] = {}
    for given in inputs:
        expected = replay(qdq, given.tensors, keep)
        actual = replay(reference, given.tensors, levels)
        for a, b, grid in zip(actual.outputs, expected.outputs, grids, strict=True):
            comparison.add(a, b, grid.steps(expected, b) if grid else None)
        if not seed:
            seed = seed_check(case.seed_rule, qdq, reference, expected.outputs, actual.outputs)
        _take_in(digest, given.label, (expected.kept, qdq_levels), (actual.kept, levels))
        # The case is run twice, for a program must not depend on what ran before.
        second = replay(qdq, given.tensors, keep), replay(reference, given.tensors, levels)
        _take_in(again, given.label, (second[0].kept, qdq_levels), (second[1].kept, levels))

    outcome, reason = _verdict(case, qdq_structure, structure, comparison)
    if digest.value() != again.value():
        outcome, reason = Outcome.MISMATCH, "the same inputs gave other integers when they were run again"
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
        },
        numerics={"reference_vs_qdq": comparison.record()},
        seed_check=seed,
        digest=digest.value(),
    )


def _verdict(case: Case, qdq: Structure, reference: Structure, comparison: Comparison) -> tuple[Outcome, str | None]:
    """Weigh the numbers first: a program that computes something else is wrong however it does it."""
    if comparison.max_lsb > case.max_lsb:
        return Outcome.MISMATCH, f"up to {comparison.max_lsb:g} LSB apart; {case.max_lsb:g} allowed"
    if comparison.max_absolute > case.max_absolute:
        return Outcome.MISMATCH, f"up to {comparison.max_absolute:.3g} apart; {case.max_absolute:g} allowed"
    if comparison.off_grid:
        return Outcome.MISMATCH, f"{comparison.off_grid} outputs lie off the grid of the quantize node"
    if Claim.COMPUTE in case.claims:
        annotated = [operator.name for operator in qdq.operators if operator.quantized]
        if not annotated:
            return Outcome.VACUOUS, "the quantizer annotated no compute operator"
        if left := still_float(qdq, reference):
            names = ", ".join(sorted(left))
            return (
                Outcome.VACUOUS,
                f"{names}: computed in float ({left.total()} of {len(annotated)} operators)",
            )
    if Claim.QDQ in case.claims and reference.qdq:
        names = ", ".join(sorted(set(reference.qdq)))
        return Outcome.VACUOUS, f"{names}: not spelled out in plain operators"
    return Outcome.PASS, None


def _check_outputs(expected: Sequence[Any], actual: Sequence[Any]) -> None:
    if len(expected) != len(actual):
        raise ProgramError(f"gives {len(actual)} outputs, where the Q/DQ program gives {len(expected)}")
    for index, (a, b) in enumerate(zip(actual, expected, strict=True)):
        if not isinstance(a, torch.Tensor) or a.shape != b.shape:
            what = tuple(a.shape) if isinstance(a, torch.Tensor) else type(a).__name__
            raise ProgramError(f"output {index} is {what}, where the Q/DQ program gives {tuple(b.shape)}")


def _take_in(digest: Digest, label: str, *programs: tuple[Mapping[Node, Any], Sequence[Node]]) -> None:
    for program, (kept, nodes) in zip(("qdq", "reference"), programs, strict=True):
        digest.add(f"{label}/{program}", (kept[node] for node in nodes))
