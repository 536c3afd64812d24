"""The flow against upstream's own entry point, and what it does where upstream has less."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from conftest import converted, flow

from pt2e_ci.catalogue.cases import select_cases
from pt2e_ci.catalogue.inputs import build_model, input_sets
from pt2e_ci.errors import InputError
from pt2e_ci.flow import homes
from pt2e_ci.flow.capture import export
from pt2e_ci.flow.folding import fold_quantized_constants
from pt2e_ci.flow.homes import import_home
from pt2e_ci.flow.patterns import pattern_name
from pt2e_ci.flow.representation import apply_upstream
from pt2e_ci.judge.verdict import InputSet
from pt2e_ci.pipeline import Clock
from pt2e_ci.plugins import load
from pt2e_ci.record.criteria import DEFAULT
from pt2e_ci.record.outcomes import Outcome

HOME, KEPT = flow().home, flow().patterns


def quantize_nodes(program):
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    return [str(node.target) for node in calls if "quantize" in str(node.target)]


def prepared(case):
    inputs = input_sets(case, 0)[0].tensors
    graph = HOME.prepare(export(build_model(case, 0), inputs), load("quantizers", case.quantizer.value)())
    graph(*inputs)
    return graph


@pytest.mark.parametrize("case", select_cases(["maxpool2d"]), ids=lambda case: case.name)
def test_representation_is_what_converting_gives(case):
    graph = prepared(case)
    ours = apply_upstream(HOME, HOME.convert(copy.deepcopy(graph))).program
    theirs = HOME._flow.convert_pt2e(graph, use_reference_representation=True)
    assert ours.code == theirs.code
    for given in input_sets(case, 0):
        assert torch.equal(ours(*given.tensors), theirs(*given.tensors))


def test_representation_leaves_the_qdq_program_alone():
    (case,) = select_cases(["static_linear"])
    qdq = HOME.convert(prepared(case))
    before = qdq.code
    with KEPT.serve(qdq):
        apply_upstream(HOME, qdq)
    assert qdq.code == before


def test_watching_is_undone():
    names = ("_get_aten_graph_module_for_pattern", "replace_pattern_with_filters")
    before = [getattr(HOME.rewrites, name) for name in names]
    qdq = converted(select_cases(["add"])[0])[0]
    with KEPT.serve(qdq):
        apply_upstream(HOME, qdq)
    assert [getattr(HOME.rewrites, name) for name in names] == before


def test_module_that_cannot_be_watched_runs_all_the_same(monkeypatch):
    from pt2e_ci.flow import representation

    monkeypatch.setattr(representation, "_REPLACERS", ("renamed",))
    qdq = converted(select_cases(["add"])[0])[0]
    with KEPT.serve(qdq):
        assert apply_upstream(HOME, qdq).rewrites is None


@pytest.mark.parametrize(
    ("function", "name"),
    [
        ("_qdq_quantized_add_relu", "quantized_add_relu"),
        ("_reference_quantized_add_relu", "quantized_add_relu"),
        ("_quantize_per_tensor_int8", "quantize_per_tensor_int8"),
        ("_reference_quantize_per_tensor_int8", "quantize_per_tensor_int8"),
        ("_folded_quantized_qat_conv_bn_pattern", "quantized_qat_conv_bn_pattern"),
    ],
)
def test_pattern_and_replacement_have_one_name(function, name):
    def pattern():
        pass

    pattern.__name__ = function
    assert pattern_name(pattern) == name


@pytest.mark.parametrize(
    "case",
    select_cases(["static_linear", "conv2d", "qdq_per_channel_2d"]),
    ids=lambda case: case.name,
)
def test_folding_where_convert_has_no_such_option(case):
    graph = prepared(case)
    folded = HOME.convert(copy.deepcopy(graph))
    unfolded = HOME._flow.convert_pt2e(graph, fold_quantize=False)
    by_us = fold_quantized_constants(unfolded)
    assert quantize_nodes(by_us) == quantize_nodes(folded)
    for given in input_sets(case, 0):
        assert torch.equal(by_us(*given.tensors), folded(*given.tensors))


def test_home_that_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(homes._MODULES, "torch.ao", ("no_such_module",) * 4)
    with pytest.raises(InputError, match=r"the PT2E flow of torch\.ao cannot be imported beside torch 2\.\d+"):
        import_home("torch.ao")


class Pair(torch.nn.Module):
    def forward(self, pair):
        return pair[0] + pair[1]


@pytest.mark.parametrize("representation", [None, "exact"])
def test_argument_that_is_a_list_of_tensors(representation):
    with_one = replace(flow(), representation=representation and load("representations", representation))
    draw = torch.Generator().manual_seed(0)
    sets = [InputSet(str(i), ([torch.randn(3, 4, generator=draw) for _ in "ab"],)) for i in range(2)]
    stages = with_one.convert(Pair, sets[0].tensors, load("quantizers", "xnnpack_per_tensor"))
    found = Clock().follow(with_one.judge(stages, sets, DEFAULT)).judgement.case
    outcome = Outcome.PASS if representation else Outcome.INEXACT
    assert (found.outcome, found.exact.unavailable) == (outcome, None)
    assert found.numerics.reference_vs_exact.compared == 2 * 12
    assert found.numerics.reference_vs_exact.max == (0 if representation else 1)


class Lookup(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.linear = torch.nn.Embedding(4, 8), torch.nn.Linear(8, 8)

    def forward(self, ids):
        return self.linear(self.table(ids))


def test_operator_that_is_not_quantized_has_a_place_too():
    sets = [InputSet("ids", (torch.arange(4),))]
    stages = flow().convert(Lookup, sets[0].tensors, load("quantizers", "xnnpack_per_tensor"))
    found = Clock().follow(flow().judge(stages, sets, DEFAULT)).judgement.case
    places = [(one.name, one.module, one.annotated) for one in found.operators]
    assert places == [("embedding", "table", False), ("linear", "linear", True)]
    assert {one.source.partition(":")[0] for one in found.operators} == {"test_flows.py"}
