"""Pattern graphs that are kept, or not exported at all, change nothing: graphs and programs are the same."""

from __future__ import annotations

import contextlib
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import converted, flow, taken
from write_patterns import write_down

from pt2e_ci.catalogue.cases import CASES, select_cases
from pt2e_ci.flow import patterns
from pt2e_ci.flow.patterns import (
    OPERATORS_FILE,
    PatternGraphs,
    _call_key,
    exporters_of,
    families_of,
    pattern_name,
    replaced,
)
from pt2e_ci.flow.representation import apply_upstream

HOME, KEPT = flow().home, flow().patterns
# It has a rewrite that matches, and some that do not.
MIXED = select_cases(["residual_block"])


def nodes(program):
    return [(n.op, n.name, str(n.target), str(n.args), str(n.kwargs)) for n in program.graph.nodes]


@contextlib.contextmanager
def noted(wrap=lambda export: export):
    """Note every export of one conversion, through what stands in for upstream's exporter: name, nodes, families."""
    calls = []
    with contextlib.ExitStack() as stack:
        for name in exporters_of(HOME.rewrites):
            export = wrap(getattr(HOME.rewrites, name))

            def note(pattern, *args, export=export, **kwargs):
                graph = export(pattern, *args, **kwargs)
                calls.append((pattern_name(pattern), nodes(graph), families_of(graph)))
                return graph

            stack.enter_context(replaced(HOME.rewrites, name, note))
        yield calls


@pytest.fixture(scope="module")
def exported():
    with noted() as calls:
        apply_upstream(HOME, converted(CASES[0])[0])
    assert len(calls) >= 20
    return calls


def test_kept_graphs_are_those_that_upstream_exports(exported, monkeypatch):
    monkeypatch.setattr(patterns, "_needed", dict)
    monkeypatch.setattr(patterns, "_calls_of", lambda program: frozenset())  # so that each may match
    kept = PatternGraphs(HOME)
    for _ in range(2):  # fresh, and kept
        with noted(lambda export: partial(kept.export, export)) as calls:
            apply_upstream(HOME, converted(CASES[0])[0])
        assert calls == exported


def test_data_names_no_operator_that_a_pattern_lacks(exported):
    first = {}
    for name, _, families in exported:
        first.setdefault(name, families)  # the pattern comes before its replacement
    assert {name for name, families in first.items() if not patterns._needed()[name] <= families} == set()


def test_data_is_what_the_command_writes(tmp_path):
    """On a torch that it was written on it stays as it is."""
    path = Path(shutil.copy(OPERATORS_FILE, tmp_path))
    path.write_text(path.read_text().replace("quantized_add_relu = ", "another = "))
    write_down(HOME, path)
    assert path.read_text().replace("another = ", "").count("quantized_add_relu = ") == 1
    lines = [line for line in path.read_text().splitlines() if not line.startswith("another")]
    assert lines == OPERATORS_FILE.read_text().splitlines()


@pytest.mark.parametrize("case", MIXED, ids=lambda case: case.name)
def test_same_programs(case):
    qdq = converted(case)[0]
    without = apply_upstream(HOME, qdq)
    with KEPT.serve(qdq):
        kept = apply_upstream(HOME, qdq)
    assert nodes(kept.program) == nodes(without.program)
    assert (kept.rewrites, kept.rewritten) == (without.rewrites, without.rewritten)


def test_what_cannot_match_is_not_exported(monkeypatch):
    (add,) = select_cases(["add"])
    kept, asked = PatternGraphs(HOME), []
    take_apart = patterns._Stored.of
    monkeypatch.setattr(patterns._Stored, "of", lambda module: asked.append(module) or take_apart(module))
    qdq = converted(add)[0]
    for _ in range(2):
        with kept.serve(qdq):
            assert apply_upstream(HOME, qdq).rewrites["add"] == 1
    # The addition, quantize and dequantize, each with its replacement, and once.
    assert len(asked) == 6


def test_replacement_of_what_cannot_match_is_not_exported():
    """The pattern of a convolution calls another operator than the program, which a report is to say."""
    qdq = converted(select_cases(["conv2d"])[0])[0]
    with KEPT.serve(qdq), noted() as calls:
        apply_upstream(HOME, qdq)
    convs = [families for name, _, families in calls if name == "quantized_conv2d"]
    assert ["conv" in families for families in convs] == [True, False]


def test_representation_may_change_the_program_and_then_call_upstreams():
    """The obvious repair: the program calls what the pattern of a convolution does."""

    def repaired(qdq):
        for node in qdq.graph.nodes:
            if node.target == torch.ops.aten.conv2d.default:
                x, weight, bias = node.args[:3]
                node.target = torch.ops.aten.convolution.default
                node.args = (x, weight, bias, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
        qdq.recompile()
        return HOME.rewrite(qdq)

    record = taken("conv2d", representation=repaired)
    assert record.structure.float_operators == {}, record.reason


def test_pattern_that_the_data_does_not_name_is_exported(monkeypatch):
    monkeypatch.setattr(patterns, "_needed", lambda: {"another": frozenset(["no such operator"])})
    exports = []
    kept = PatternGraphs(HOME)
    for name in exporters_of(HOME.rewrites):
        monkeypatch.setattr(HOME.rewrites, name, lambda *args, **kwargs: exports.append(args[0]) or 1 / 0)
    qdq = converted(CASES[0])[0]
    with kept.serve(qdq), pytest.raises(ZeroDivisionError):
        apply_upstream(HOME, qdq)
    assert len(exports) == 1


def closing_over(value):
    def pattern(x):
        return x + value

    return pattern


def test_key_is_of_all_that_an_export_depends_on():
    tensor = torch.zeros(2, 3)
    key = _call_key(closing_over(1), (tensor,), {})
    assert key == _call_key(closing_over(1), (torch.ones(2, 3),), {})
    others = [
        _call_key(closing_over(2), (tensor,), {}),
        _call_key(closing_over(closing_over(1)), (tensor,), {}),
        _call_key(closing_over(1), (tensor.t(),), {}),
        _call_key(closing_over(1), (tensor.to(torch.int8),), {}),
        _call_key(closing_over(1), (tensor, 1), {}),
        _call_key(closing_over(1), (tensor,), {"a": 1}),
        _call_key(nodes, (tensor,), {}),
        _call_key(closing_over(torch.conv2d), (tensor,), {}),
        _call_key(closing_over(torch.mm), (tensor,), {}),
    ]
    assert len({key, *others}) == len(others) + 1


def test_what_may_be_anything_is_not_kept():
    assert _call_key(closing_over(object()), (), {}) is None
    assert _call_key(closing_over(1), (object(),), {}) is None
    assert _call_key(closing_over(partial(nodes)), (), {}) is None
