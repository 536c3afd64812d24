"""What is known to fail: strict both ways, and no entry that speaks of nothing."""

from __future__ import annotations

import pytest

from pt2e_ci.cases.catalogue import case_names
from pt2e_ci.cells import load_cells
from pt2e_ci.errors import InputError
from pt2e_ci.expectations import Expectations, load_expectations
from pt2e_ci.outcomes import Outcome, Result, Stage

CELLS = {cell.name: cell for cell in load_cells().cells}
FIRST = r"expectations\.toml: \[\[known\]\] 1 \(conv2d\): "
ENTRY = '[[known]]\ncase = "conv2d"\noutcome = "vacuous"\nreason = "r"\nlink = "l"\nfloat_operators = ["conv2d"]\n'


def vacuous(name, *in_float):
    return Result(name, "f", Outcome.VACUOUS, structure={"float_operators": dict.fromkeys(in_float, 1)})


def mismatch(name, largest, **fields):
    numbers = {"unit": "lsb", "max": largest, "not_finite": 0, "off_grid": 0} | fields
    return Result(name, "f", Outcome.MISMATCH, reason="r", numerics={"reference_vs_qdq": numbers}, deterministic=True)


def ended(name, outcome):
    return Result(name, "f", outcome)


def load(tmp_path, text):
    path = tmp_path / "expectations.toml"
    path.write_text(text)
    return load_expectations(case_names(), CELLS.values(), path)


def test_the_packages_own():
    entries = load_expectations(case_names(), CELLS.values())
    for name in ("2.1", "2.2", "2.15"):
        here = Expectations(entries, CELLS[name], "x86_64")
        assert here.judge(vacuous("conv2d", "conv2d")).known
        assert here.judge(vacuous("maxpool2d", "conv2d", "max_pool2d")).known
        assert bool(here.judge(vacuous("dynamic_linear", "linear")).known) == (name == "2.1")


def test_known_unknown_and_gone(tmp_path):
    here = Expectations(load(tmp_path, ENTRY), CELLS["2.4"], "x86_64")
    assert here.judge(vacuous("conv2d", "conv2d")).known == {"reason": "r", "link": "l"}
    assert here.judge(vacuous("conv2d", "conv2d")).complaint is None
    gone = here.judge(ended("conv2d", Outcome.PASS))
    assert gone.known is None
    assert gone.complaint.startswith("the known vacuous is gone: remove its entry")
    assert gone.complaint.endswith("expectations.toml: [[known]] 1 (conv2d))")
    assert "where vacuous is expected" in here.judge(ended("conv2d", Outcome.MISMATCH)).complaint
    assert here.judge(ended("add", Outcome.MISMATCH)).complaint
    assert here.judge(ended("add", Outcome.PASS)).complaint is None
    assert here.judge(ended("conv2d", Outcome.SKIP)).complaint is None


def test_another_operator_in_float_is_another_defect(tmp_path):
    here = Expectations(load(tmp_path, ENTRY), CELLS["2.4"], "x86_64")
    assert "in float are linear; known are conv2d" in here.judge(vacuous("conv2d", "linear")).complaint
    assert here.judge(vacuous("conv2d", "conv2d", "linear")).complaint


def test_worse_mismatch_is_another_defect(tmp_path):
    text = ENTRY.replace("vacuous", "mismatch").replace('float_operators = ["conv2d"]', "max_lsb = 2")
    here = Expectations(load(tmp_path, text), CELLS["2.4"], "x86_64")
    assert here.judge(mismatch("conv2d", 2)).known
    assert here.judge(mismatch("conv2d", 3)).complaint
    assert here.judge(mismatch("conv2d", 0, not_finite=1)).complaint
    assert here.judge(mismatch("conv2d", 2, off_grid=1)).complaint
    assert here.judge(mismatch("conv2d", 2, unit="absolute")).complaint


def test_larger_share_is_another_defect(tmp_path):
    text = ENTRY.replace("vacuous", "mismatch").replace(
        'float_operators = ["conv2d"]', "max_lsb = 2\nmax_differing = 0.1"
    )
    here = Expectations(load(tmp_path, text), CELLS["2.4"], "x86_64")
    assert here.judge(mismatch("conv2d", 1, differing=0.1)).known
    assert "known are 10%" in here.judge(mismatch("conv2d", 1, differing=0.11)).complaint


def test_error_in_another_stage_is_another_defect(tmp_path):
    text = ENTRY.replace("vacuous", "error").replace('float_operators = ["conv2d"]', 'stage = "run"')
    here = Expectations(load(tmp_path, text), CELLS["2.4"], "x86_64")
    assert here.judge(Result("conv2d", "f", Outcome.ERROR, stage=Stage.RUN)).known
    assert (
        "in convert; known is one in run"
        in here.judge(Result("conv2d", "f", Outcome.ERROR, stage=Stage.CONVERT)).complaint
    )
    with pytest.raises(InputError, match="unknown stage 'walk'"):
        load(tmp_path, text.replace('"run"', '"walk"'))


def test_what_is_of_the_quantizer_needs_no_size(tmp_path):
    text = ENTRY.replace('float_operators = ["conv2d"]', 'of = "quantizer"')
    (entry,) = load(tmp_path, text)
    assert entry.of_quantizer
    assert Expectations([entry], CELLS["2.4"], "x86_64").judge(vacuous("conv2d", "anything")).known
    with pytest.raises(InputError, match="unknown 'of' 'me'"):
        load(tmp_path, ENTRY + 'of = "me"')


@pytest.mark.parametrize(
    ("narrowing", "holds_for"),
    [
        ('torch = ">=2.2,<2.5"', {("2.2", "x86_64"), ("2.4", "x86_64"), ("2.4", "aarch64")}),
        ('flow = "torchao"', {("2.13", "x86_64"), ("2.10-torchao", "x86_64")}),
        ('machine = "aarch64"', {("2.4", "aarch64")}),
    ],
)
def test_narrowed(tmp_path, narrowing, holds_for):
    entries = load(tmp_path, ENTRY + narrowing)
    tried = {
        (name, machine)
        for name, machine in [
            *(("2.1", "x86_64"), ("2.2", "x86_64"), ("2.4", "x86_64"), ("2.4", "aarch64"), ("2.5", "x86_64")),
            *(("2.10", "x86_64"), ("2.10-torchao", "x86_64"), ("2.13", "x86_64")),
        ]
        if Expectations(entries, CELLS[name], machine).judge(vacuous("conv2d", "conv2d")).known
    }
    assert tried == holds_for


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[known]\n", "not valid TOML: .*line 1"),
        ("[other]\n", "unknown table 'other'"),
        (ENTRY.replace('link = "l"\n', ""), FIRST + r"the entry has no 'link'"),
        ("\n" + ENTRY.replace("conv2d", "conv9d"), r"expectations.toml: \[\[known\]\] 1 \(conv9d\): names no case"),
        (ENTRY + 'torch = "<2.0"\n', FIRST + r"names no cell"),
        (ENTRY + 'torch = "2.4 or so"\n', FIRST + r"'2.4 or so' is no version range"),
        (ENTRY + 'flow = "fx"\n', FIRST + r"unknown flow 'fx'"),
        (ENTRY + 'machine = "sparc"\n', FIRST + r"unknown machine 'sparc'"),
        (ENTRY.replace('"vacuous"', '"skip"'), FIRST + r"unknown outcome 'skip'"),
        (ENTRY + 'why = "x"\n', FIRST + r"unknown key 'why'"),
        (ENTRY.replace('float_operators = ["conv2d"]', ""), FIRST + r"a known vacuous needs its size"),
        (ENTRY + "max_lsb = 2\n", FIRST + r"unknown key 'max_lsb' in an entry of a known vacuous"),
        (ENTRY.replace('["conv2d"]', '"conv2d"'), "'float_operators' must be a list"),
        (ENTRY + ENTRY, r"\[\[known\]\] 2 \(conv2d\): overlaps with the entry at .*\[\[known\]\] 1"),
        ("known = 3\n", "'known' must be an array"),
    ],
)
def test_broken(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load(tmp_path, text)
