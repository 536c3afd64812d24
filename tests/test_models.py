"""Models that people had trouble with: what the suite says of each, under upstream's representation and the exact one.

A file of `models` has `model`, `inputs`, of which the first calibrates, sometimes `quantizer`, and `EXPECT`: how it
ends, what each quantized operator computes with, and what the quantizer left in float.
"""

from __future__ import annotations

import copy
import importlib.util
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import flow

from pt2e_ci.judge.verdict import InputSet
from pt2e_ci.pipeline import Clock, StageError, TrainingModeError
from pt2e_ci.plugins import load
from pt2e_ci.program.segments import Reading
from pt2e_ci.record.criteria import DEFAULT

FILES = sorted(Path(__file__).with_name("models").glob("*.py"))


def module_of(path):
    spec = importlib.util.spec_from_file_location(f"models_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # strict export looks there
    spec.loader.exec_module(module)
    return module


def judged(module, representation):
    """Return what is said of a model, in the words of its `EXPECT`."""
    with_one = replace(flow(), representation=representation and load("representations", representation))
    sets = [InputSet(str(number), tuple(tensors)) for number, tensors in enumerate(module.inputs)]
    own = getattr(module, "quantizer", None)
    quantizer = (lambda: copy.deepcopy(own)) if own else load("quantizers", "xnnpack_per_tensor")
    stages = with_one.convert(lambda: copy.deepcopy(module.model), sets[0].tensors, quantizer)
    try:
        case = Clock().follow(with_one.judge(stages, sets, DEFAULT)).judgement.case
    except StageError as error:
        if isinstance(error.__cause__, TrainingModeError):
            return {"outcome": "error", "code": error.__cause__.reason.code}
        return {
            "outcome": "error",
            "stage": error.stage and str(error.stage),
            "error": str(error.__cause__)[:60].split("\n")[0],
        }
    found = {"outcome": str(case.outcome)} | ({"code": case.reason.code} if case.reason else {})
    if case.outcome == "error":
        return found
    operators = defaultdict(list)
    for one in case.operators:
        if one.verdict:
            operators[one.name].append(str(one.verdict))
    return found | {"operators": dict(operators), "unquantized": [one.name for one in case.unquantized]}


@pytest.mark.parametrize("representation", [None, "exact"], ids=["upstream", "exact"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_model(path, representation):
    module = module_of(path)
    expected = module.EXPECT.get("both") or module.EXPECT[representation or "upstream"]
    assert judged(module, representation) == expected


def test_write_that_a_representation_loses_is_found(monkeypatch):
    class Blind(Reading):
        in_place = frozenset()

    (path,) = [one for one in FILES if one.stem == "written_slice"]
    monkeypatch.setattr("pt2e_ci.flow.exact.Reading", Blind)
    assert judged(module_of(path), "exact")["outcome"] == "mismatch"


def test_models_are_many():
    assert len(FILES) == 53
