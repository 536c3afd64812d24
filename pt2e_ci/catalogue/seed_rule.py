"""What upstream's own test says of the same two programs, kept beside our verdict to compare with.

The rule, from test/quantization/pt2e/test_representation.py of torch 2.10: the outputs on the calibration
input differ by at most twice a step and 1e-5, the step being the scale of the n-th quantize node; and some
operators occur a given number of times. It is restated here with its weaknesses, for they are the point.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.operators.names import named_arguments, qualified_name
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.record.records import SeedCheck

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.fx import GraphModule

    from pt2e_ci.catalogue.cases import SeedRule


def seed_check(
    rule: SeedRule, qdq: GraphModule, reference: GraphModule, outputs: tuple[Sequence[Any], Sequence[Any]]
) -> SeedCheck:
    """Return the rule's outcome and its tolerance, absolute; `outputs` are both programs' on the calibration input."""
    step = rule.tolerance if rule.tolerance is not None else _scale(qdq, rule.scale_index)
    if step is None:
        return SeedCheck(outcome=Outcome.ERROR, tolerance=None)
    tolerance = 2 * step + 1e-5
    agrees = _occurs(qdq, rule.qdq_nodes) and _occurs(reference, rule.reference_nodes)
    for a, b in zip(outputs[1], outputs[0], strict=True):
        if isinstance(b, torch.Tensor) and b.numel():
            agrees = agrees and bool((a.double() - b.double()).abs().max() <= tolerance)
    return SeedCheck(outcome=Outcome.PASS if agrees else Outcome.MISMATCH, tolerance=tolerance)


def _scale(qdq: GraphModule, index: int) -> float | None:
    quantize = torch.ops.quantized_decomposed.quantize_per_tensor.default
    scales = [named_arguments(node)["scale"] for node in qdq.graph.nodes if node.target == quantize]
    return float(scales[index - 1]) if len(scales) >= index else None


def _occurs(program: GraphModule, counts: Mapping[str, int]) -> bool:
    found = Counter(qualified_name(node.target) for node in program.graph.nodes if node.op == "call_function")
    return all(found[name] == count for name, count in counts.items())
