"""Upstream's way to test the same models, as a pytest module: what the suite's speed is measured against.

Each model is exported once and converted twice, from two copies that are prepared and calibrated apart; nothing
is kept from one to the next. One test for each of upstream's eight; one of them has four inputs.
"""

from __future__ import annotations

import copy

import pytest
import torch

from pt2e_ci.catalogue.cases import UPSTREAM
from pt2e_ci.catalogue.inputs import build_model, input_sets
from pt2e_ci.cells.cell import current_cell
from pt2e_ci.flow.capture import export
from pt2e_ci.flow.homes import import_home
from pt2e_ci.plugins import load

HOME = import_home(current_cell().flow)
TESTS: dict[str, list] = {}
for case in UPSTREAM:
    TESTS.setdefault("qdq_per_channel" if case.name.startswith("qdq_per_channel") else case.name, []).append(case)


def convert(graph, case, inputs, *, reference):
    prepared = HOME.prepare(graph, load("quantizers", case.quantizer.value)())
    prepared(*inputs)
    return HOME._flow.convert_pt2e(prepared, use_reference_representation=reference)


@pytest.mark.parametrize("cases", TESTS.values(), ids=TESTS)
def test_representation(cases):
    for case in cases:
        inputs = input_sets(case, 0)[0].tensors
        graph = export(build_model(case, 0), inputs)
        twin = copy.deepcopy(graph)
        reference = convert(graph, case, inputs, reference=True)
        qdq = convert(twin, case, inputs, reference=False)
        assert torch.max(torch.abs(reference(*inputs) - qdq(*inputs))) < 1
