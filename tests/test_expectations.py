"""What is known to fail: strict both ways, and no entry that speaks of nothing."""

from __future__ import annotations

import pytest
from made import case, structure
from msgspec import structs

from pt2e_ci.catalogue.cases import case_names
from pt2e_ci.cells.cell import load_cells
from pt2e_ci.errors import InputError
from pt2e_ci.record.expectations import Expectations, load_expectations
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.record.reasons import reason
from pt2e_ci.record.records import Distance, Evidence, Kind, Known, Operator, Witness

CELLS = {cell.name: cell for cell in load_cells().cells}
FIRST = r"expectations\.toml: \[\[known\]\] 1 \(conv2d\): "
ENTRY = '[[known]]\ncase = "conv2d"\noutcome = "float"\nreason = "r"\nlink = "l"\nfloat_operators = ["conv2d"]\n'


def in_float(name, *operators):
    return case(name, "float", structure=structure(**dict.fromkeys(operators, 1)))


FAR = {"name": "conv2d", "found": 2, "allowed": 1}


def mismatch(name, largest, *notes, why=None):
    """Return a case with an operator that is `largest` LSB off, and whatever else is wrong with it."""
    distance = Distance(max=largest, mean=0.0, differing=0.1, off=1)
    operator = Operator(name="conv2d", node="conv2d", levels="q", reference=distance)
    found = case(name, "mismatch", operators=[operator], deterministic=True)
    return structs.replace(found, reason=why or reason("PQ023", **FAR), notes=list(notes))


def load(tmp_path, text):
    path = tmp_path / "expectations.toml"
    path.write_text(text)
    return load_expectations(case_names(), CELLS.values(), path)


def test_the_packages_own():
    entries = load_expectations(case_names(), CELLS.values())
    for name in ("2.1", "2.2", "2.15"):
        here = Expectations(entries, CELLS[name], "x86_64")
        assert here.judge(in_float("conv2d", "conv2d")).known
        assert here.judge(in_float("maxpool2d", "conv2d", "max_pool2d")).known
        assert bool(here.judge(in_float("dynamic_linear", "linear")).known) == (name == "2.1")


def test_known_unknown_and_gone(tmp_path):
    here = Expectations(load(tmp_path, ENTRY), CELLS["2.4"], "x86_64")
    assert here.judge(in_float("conv2d", "conv2d")).known == Known(reason="r", link="l")
    assert here.judge(in_float("conv2d", "conv2d")).complaint is None
    gone = here.judge(case("conv2d"))
    assert gone.known is None
    assert gone.complaint.startswith("the known float is gone: remove its entry")
    assert gone.complaint.endswith("expectations.toml: [[known]] 1 (conv2d))")
    assert "where float is expected" in here.judge(case("conv2d", "mismatch")).complaint
    assert here.judge(case("add", "mismatch")).complaint
    assert here.judge(case("add")).complaint is None
    assert here.judge(case("conv2d", "skip")).complaint is None


def test_another_operator_in_float_is_another_defect(tmp_path):
    here = Expectations(load(tmp_path, ENTRY), CELLS["2.4"], "x86_64")
    assert "in float are linear; known are conv2d" in here.judge(in_float("conv2d", "linear")).complaint
    assert here.judge(in_float("conv2d", "conv2d", "linear")).complaint


def test_worse_mismatch_is_another_defect(tmp_path):
    text = ENTRY.replace("float", "mismatch", 1).replace('float_operators = ["conv2d"]', "max_lsb = 2")
    here = Expectations(load(tmp_path, text), CELLS["2.4"], "x86_64")
    assert here.judge(mismatch("conv2d", 2)).known
    assert "known are 2" in here.judge(mismatch("conv2d", 3)).complaint
    assert here.judge(mismatch("conv2d", 2, reason("PQ051", names="softmax"))).known
    assert here.judge(mismatch("conv2d", 2, reason("PQ027"))).complaint
    assert here.judge(mismatch("conv2d", 2, why=reason("PQ030"))).complaint


def test_mismatch_that_is_none_of_numbers_is_known_by_its_code(tmp_path):
    text = ENTRY.replace("float", "mismatch", 1).replace('float_operators = ["conv2d"]', 'code = "PQ029"')
    here = Expectations(load(tmp_path, text), CELLS["2.4"], "x86_64")
    dtype = reason("PQ029", what="output 0 is float64")
    assert here.judge(mismatch("conv2d", 0, why=dtype)).known
    assert here.judge(mismatch("conv2d", 2)).complaint
    assert here.judge(mismatch("conv2d", 2, reason("PQ023", **FAR), why=dtype)).complaint


def test_another_operator_that_is_inexact_is_another_defect(tmp_path):
    text = ENTRY.replace("float", "inexact", 1).replace("float_operators", "displacement = 0.51\noperators")
    here = Expectations(load(tmp_path, text), CELLS["2.4"], "x86_64")
    known = structs.replace(mismatch("conv2d", 1), outcome=Outcome.INEXACT)
    assert here.judge(known).known
    other = structs.replace(known, operators=[*known.operators, structs.replace(known.operators[0], name="add")])
    assert "inexact are add, conv2d; known are conv2d" in here.judge(other).complaint
    further = structs.replace(known.operators[0], evidence=refuted(0.75))
    assert "up to 0.75 LSB" in here.judge(structs.replace(known, operators=[further])).complaint
    nearer = structs.replace(known.operators[0], evidence=refuted(0.5))
    assert here.judge(structs.replace(known, operators=[nearer])).known


def refuted(displacement):
    """Return evidence that an input shows an operator to be wrong by so many LSB."""
    witness = Witness(element=0, got=1, exact=2)
    numbers = {"values": 10, "wrong": 1, "low": 1, "displacement": displacement}
    return Evidence(kind=Kind.REFUTED, domain="accumulators", witness=witness, **numbers)


def test_error_in_another_stage_is_another_defect(tmp_path):
    text = ENTRY.replace("float", "error", 1).replace('float_operators = ["conv2d"]', 'stage = "run"')
    here = Expectations(load(tmp_path, text), CELLS["2.4"], "x86_64")
    assert here.judge(case("conv2d", "error", stage="run")).known
    assert "in convert; known is one in run" in here.judge(case("conv2d", "error", stage="convert")).complaint
    with pytest.raises(InputError, match=r"Invalid enum value 'walk' - at `\$.stage`"):
        load(tmp_path, text.replace('"run"', '"walk"'))


def test_what_is_of_the_quantizer_needs_no_size(tmp_path):
    text = ENTRY.replace('float_operators = ["conv2d"]', 'of = "quantizer"')
    ((entry, where),) = load(tmp_path, text)
    assert entry.of_quantizer
    assert Expectations([(entry, where)], CELLS["2.4"], "x86_64").judge(in_float("conv2d", "anything")).known
    with pytest.raises(InputError, match=r"Invalid enum value 'me' - at `\$.of`"):
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
        if Expectations(entries, CELLS[name], machine).judge(in_float("conv2d", "conv2d")).known
    }
    assert tried == holds_for


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[known]\n", "not valid TOML: .*line 1"),
        ("[other]\n", "unknown table 'other'"),
        (ENTRY.replace('link = "l"\n', ""), FIRST + "Object missing required field `link`"),
        ("\n" + ENTRY.replace("conv2d", "conv9d"), r"expectations.toml: \[\[known\]\] 1 \(conv9d\): names no case"),
        (ENTRY + 'torch = "<2.0"\n', FIRST + r"names no cell"),
        (ENTRY + 'torch = "2.4 or so"\n', FIRST + r"'2.4 or so' is no version range"),
        (ENTRY + 'flow = "fx"\n', FIRST + r"Invalid enum value 'fx' - at `\$.flow`"),
        (ENTRY + 'machine = "sparc"\n', FIRST + r"Invalid enum value 'sparc' - at `\$.machine`"),
        (ENTRY.replace('"float"', '"skip"'), FIRST + r"Invalid value 'skip' - at `\$.outcome`"),
        (ENTRY.replace('"float"', '"vacuous"'), FIRST + "'vacuous' is no outcome any more: write 'float' for what is"),
        (ENTRY + 'why = "x"\n', FIRST + "Object contains unknown field `why`"),
        (ENTRY.replace('float_operators = ["conv2d"]', ""), FIRST + "Object missing required field `float_operators`"),
        (ENTRY + "max_lsb = 2\n", FIRST + "Object contains unknown field `max_lsb`"),
        (ENTRY.replace('["conv2d"]', '"conv2d"'), r"Expected `array`, got `str` - at `\$.float_operators`"),
        (ENTRY.replace("float", "mismatch", 1).replace('float_operators = ["conv2d"]', ""), "needs its size"),
        (ENTRY.replace("float", "mismatch", 1).replace('float_operators = ["conv2d"]', "max_lsb = 0"), "> 0.0"),
        (ENTRY.replace("float", "mismatch", 1).replace('float_operators = ["conv2d"]', "max_lsb = inf"), "<= 1.797"),
        (
            ENTRY.replace("float", "mismatch", 1).replace('float_operators = ["conv2d"]', "max_differing = 2"),
            "is no limit any more",
        ),
        (ENTRY + '"a\\n\\u001bb" = 1\n', "Object contains unknown field `a \N{REPLACEMENT CHARACTER}b`"),
        (ENTRY + ENTRY, r"\[\[known\]\] 2 \(conv2d\): overlaps with the entry at .*\[\[known\]\] 1"),
        (ENTRY.replace('"conv2d"', '"a\\nb"', 1), r"1 \(a\\nb\): names no case"),
        ("a = " + "[" * 5000, "not valid TOML"),
        ("known = 3\n", "'known' must be an array"),
    ],
)
def test_broken(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load(tmp_path, text)
