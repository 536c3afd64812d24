"""Pattern graphs that are kept change nothing: not the programs, not the outputs, whatever happens to the file."""

from __future__ import annotations

import contextlib
import copy
import functools
import subprocess
import sys
import textwrap

import pytest
import torch

from pt2e_ci.cases.catalogue import CASES, select_cases
from pt2e_ci.cases.inputs import build_model, input_sets
from pt2e_ci.cells import current_cell
from pt2e_ci.flows.exporting import export
from pt2e_ci.flows.homes import import_home
from pt2e_ci.flows.patterns import PatternGraphs, _call_key, _Stored, environment_key
from pt2e_ci.flows.representation import apply_upstream

HOME = import_home(current_cell().flow)
(ADD,) = select_cases(["add"])
HERE = [case for case in CASES if HOME.name in case.flows]


@pytest.fixture(scope="module")
def exported():
    """The exported graph of each case."""
    return {
        case.name: export(HOME.quantize_ahead(build_model(case, 0), case.scheme), input_sets(case, 0)[0].tensors)
        for case in HERE
    }


def convert(exported, case, kept=None):
    """Take an exported graph to both programs, with pattern graphs that are kept or without."""
    graph = HOME.prepare(copy.deepcopy(exported[case.name]), HOME.quantizer(case.scheme))
    graph(*input_sets(case, 0)[0].tensors)
    with kept.serve() if kept else contextlib.nullcontext():
        qdq = HOME.convert(graph)
        reference = apply_upstream(HOME, qdq)
    return qdq, reference


@pytest.fixture(scope="module")
def filled(tmp_path_factory, exported):
    """A folder with the file that one conversion leaves."""
    folder = tmp_path_factory.mktemp("cache")
    convert(exported, ADD, PatternGraphs(HOME, folder))
    return folder


def nodes(program):
    return [(n.op, n.name, str(n.target), str(n.args), str(n.kwargs)) for n in program.graph.nodes]


def ran(program, tensors):
    """The bits that a program gives, or what it raises: some of upstream's do not run."""
    try:
        output = program(*tensors)
        return str(output.dtype), output.tolist()
    except RuntimeError as error:
        return str(error)


@pytest.mark.parametrize("case", HERE, ids=lambda case: case.name)
def test_same_programs_and_same_bits(case, exported, filled):
    kept = PatternGraphs(HOME, filled)
    without, fresh, again = (convert(exported, case, keep) for keep in (None, kept, kept))
    for index in (0, 1):
        programs = [pair[index] if index == 0 else pair[index].program for pair in (without, fresh, again)]
        assert nodes(programs[0]) == nodes(programs[1]) == nodes(programs[2])
        for given in input_sets(case, 0):
            assert ran(programs[0], given.tensors) == ran(programs[1], given.tensors)
    assert without[1].rewrites == fresh[1].rewrites == again[1].rewrites


def test_file_spares_the_export(exported, filled, monkeypatch):
    exports = []
    take_apart = _Stored.of
    monkeypatch.setattr(_Stored, "of", lambda module: exports.append(module) or take_apart(module))
    kept = PatternGraphs(HOME, filled)
    assert convert(exported, ADD, kept)[1].rewrites["add"] == 1
    assert kept.notes == []
    assert exports == []
    convert(exported, ADD, PatternGraphs(HOME))
    assert len(exports) >= 20


def only_file(folder):
    (path,) = folder.iterdir()
    return path


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-1], lambda data: data[:99] + b"\0" + data[100:]]
)
def test_damaged_file_is_made_anew(tmp_path, exported, filled, damage):
    whole = only_file(filled).read_bytes()
    path = tmp_path / only_file(filled).name
    path.write_bytes(damage(whole))
    kept = PatternGraphs(HOME, tmp_path)
    reference = convert(exported, ADD, kept)[1]
    assert "is damaged" in kept.notes[0]
    assert nodes(reference.program) == nodes(convert(exported, ADD, PatternGraphs(HOME, filled))[1].program)
    again = PatternGraphs(HOME, tmp_path)
    convert(exported, ADD, again)[1]
    assert again.notes == []


def test_folder_that_cannot_be_made(tmp_path, exported):
    (tmp_path / "file").write_text("")
    kept = PatternGraphs(HOME, tmp_path / "file")
    assert convert(exported, ADD, kept)[1].rewrites["add"] == 1
    assert len(kept.notes) == 1
    assert "for this process only" in kept.notes[0]


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
    ]
    assert len({key, *others}) == len(others) + 1


def test_what_may_be_anything_is_not_kept():
    assert _call_key(closing_over(object()), (), {}) is None
    assert _call_key(closing_over(functools.partial(nodes)), (), {}) is None
    assert _call_key(closing_over(torch.conv2d), (), {}) not in (None, _call_key(closing_over(torch.mm), (), {}))
    assert _call_key(closing_over(1), (object(),), {}) is None
    assert _call_key(eval("lambda x: x"), (), {}) is None


def test_other_sources_are_another_file(monkeypatch, tmp_path):
    key = environment_key(HOME)
    source = tmp_path / "rewrites.py"
    source.write_text("# another version of the rewrites\n")
    monkeypatch.setattr(HOME.rewrites, "__file__", str(source))
    assert environment_key(HOME) != key
    monkeypatch.undo()
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    assert environment_key(HOME) != key


def test_eight_processes_at_once(tmp_path):
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from pt2e_ci.cases.catalogue import select_cases
        from pt2e_ci.cells import current_cell
        from pt2e_ci.flows.homes import import_home
        from pt2e_ci.flows.patterns import PatternGraphs
        from pt2e_ci.running import run_case
        home = import_home(current_cell().flow)
        patterns = PatternGraphs(home, Path(sys.argv[1]))
        result = run_case(select_cases(["add"])[0], home, 0, patterns=patterns)
        assert not patterns.notes, patterns.notes
        print(result.outcome, result.digest)
        """
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(8)]
    said = {process.communicate()[0] for process in started}
    assert len(said) == 1
    assert said.pop().startswith("pass sha256:")
    assert only_file(tmp_path).name.startswith("patterns-")
