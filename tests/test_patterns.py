"""Pattern graphs that are kept change nothing: not the programs, not the outputs, whatever happens to the file."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import torch

from pt2e_ci.cases.catalogue import CASES
from pt2e_ci.cases.inputs import build_model, input_sets
from pt2e_ci.cells import current_cell
from pt2e_ci.flows.exporting import export
from pt2e_ci.flows.homes import import_home
from pt2e_ci.flows.patterns import PatternGraphs, environment_key
from pt2e_ci.flows.representation import apply_upstream

HOME = import_home(current_cell().flow)


def qdq_of(case):
    inputs = input_sets(case, 0)[0].tensors
    graph = HOME.prepare(export(build_model(case, 0), inputs), HOME.quantizer(case.scheme))
    graph(*inputs)
    return HOME.convert(graph)


@pytest.fixture(scope="module")
def programs():
    return {case.name: qdq_of(case) for case in CASES}


@pytest.fixture(scope="module")
def filled(tmp_path_factory, programs):
    """A folder with the file that one conversion leaves."""
    folder = tmp_path_factory.mktemp("cache")
    apply_upstream(HOME, programs["add"], PatternGraphs(folder))
    return folder


def nodes(program):
    return [(n.op, n.name, str(n.target), str(n.args), str(n.kwargs)) for n in program.graph.nodes]


def no_export(*args, **kwargs):
    raise AssertionError("exported a pattern again")


@pytest.fixture
def forbid_export(monkeypatch):
    monkeypatch.setattr(HOME.rewrites, "_get_aten_graph_module_for_pattern", no_export)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_same_program_and_same_bits(case, programs, filled):
    qdq = programs[case.name]
    kept = PatternGraphs(filled)
    without = apply_upstream(HOME, qdq)
    fresh, again = apply_upstream(HOME, qdq, kept), apply_upstream(HOME, qdq, kept)
    assert nodes(without.program) == nodes(fresh.program) == nodes(again.program)
    assert without.rewrites == fresh.rewrites == again.rewrites
    for given in input_sets(case, 0):
        assert torch.equal(without.program(*given.tensors), fresh.program(*given.tensors))


def test_file_spares_the_export(programs, filled, forbid_export):
    kept = PatternGraphs(filled)
    assert apply_upstream(HOME, programs["add"], kept).rewrites["add"] == 1
    assert kept.notes == []
    with pytest.raises(AssertionError, match="exported a pattern again"):
        apply_upstream(HOME, programs["add"], PatternGraphs())


def only_file(folder):
    (path,) = folder.iterdir()
    return path


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-1], lambda data: data[:99] + b"\0" + data[100:]]
)
def test_damaged_file_is_made_anew(tmp_path, programs, filled, damage):
    whole = only_file(filled).read_bytes()
    path = tmp_path / only_file(filled).name
    path.write_bytes(damage(whole))
    kept = PatternGraphs(tmp_path)
    reference = apply_upstream(HOME, programs["add"], kept)
    assert "is damaged" in kept.notes[0]
    assert nodes(reference.program) == nodes(apply_upstream(HOME, programs["add"], PatternGraphs(filled)).program)
    again = PatternGraphs(tmp_path)
    apply_upstream(HOME, programs["add"], again)
    assert again.notes == []


def test_folder_that_cannot_be_made(tmp_path, programs):
    (tmp_path / "file").write_text("")
    kept = PatternGraphs(tmp_path / "file")
    assert apply_upstream(HOME, programs["add"], kept).rewrites["add"] == 1
    assert len(kept.notes) == 1
    assert "for this process only" in kept.notes[0]


def test_patched_rewrite_is_not_taken_from_the_file(monkeypatch, programs, filled):
    original = HOME.rewrites._reference_quantized_add

    def _reference_quantized_add(x, xs, xz, y, ys, yz, os, oz, low, high):
        return original(x, xs, xz, y, ys, yz, os, oz, low, high) + 1

    monkeypatch.setattr(HOME.rewrites, "_reference_quantized_add", _reference_quantized_add)
    patched = apply_upstream(HOME, programs["add"], PatternGraphs(filled)).program
    zero = input_sets(next(case for case in CASES if case.name == "add"), 0)[6].tensors
    monkeypatch.undo()
    unpatched = apply_upstream(HOME, programs["add"], PatternGraphs(filled)).program
    assert not torch.equal(patched(*zero), unpatched(*zero))


def test_other_sources_are_another_file(monkeypatch, tmp_path):
    key = environment_key(HOME.rewrites)
    source = tmp_path / "rewrites.py"
    source.write_text("# another version of the rewrites\n")
    monkeypatch.setattr(HOME.rewrites, "__file__", str(source))
    assert environment_key(HOME.rewrites) != key
    monkeypatch.undo()
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    assert environment_key(HOME.rewrites) != key


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
        patterns = PatternGraphs(Path(sys.argv[1]))
        result = run_case(select_cases(["add"])[0], import_home(current_cell().flow), 0, patterns=patterns)
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
