"""What is known to fail: strict both ways, and no entry that speaks of nothing."""

from __future__ import annotations

import pytest
from made import case, structure
from msgspec import structs

from pt2e_ci.catalogue.cases import CASES, DEPLOYED, case_names
from pt2e_ci.cells.cell import load_cells
from pt2e_ci.errors import InputError
from pt2e_ci.record.expectations import Expectations, load_expectations, load_operators
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
    entries = load_expectations(case_names((*CASES, *DEPLOYED)), CELLS.values())
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
        (ENTRY + 'torch = "2.4 or so"\n', FIRST + r"'2.4 or so' is not a version range"),
        (ENTRY + 'flow = "fx"\n', FIRST + r"Invalid enum value 'fx' - at `\$.flow`"),
        (ENTRY + 'machine = "sparc"\n', FIRST + r"Invalid enum value 'sparc' - at `\$.machine`"),
        (ENTRY.replace('"float"', '"skip"'), FIRST + r"Invalid value 'skip' - at `\$.outcome`"),
        (ENTRY.replace('"float"', '"vacuous"'), FIRST + "'vacuous' is no longer an outcome: write 'float' for what is"),
        (ENTRY + 'why = "x"\n', FIRST + "Object contains unknown field `why`"),
        (ENTRY.replace('float_operators = ["conv2d"]', ""), FIRST + "Object missing required field `float_operators`"),
        (ENTRY + "max_lsb = 2\n", FIRST + "Object contains unknown field `max_lsb`"),
        (ENTRY.replace('["conv2d"]', '"conv2d"'), r"Expected `array`, got `str` - at `\$.float_operators`"),
        (ENTRY.replace("float", "mismatch", 1).replace('float_operators = ["conv2d"]', ""), "needs its size"),
        (ENTRY.replace("float", "mismatch", 1).replace('float_operators = ["conv2d"]', "max_lsb = 0"), "> 0.0"),
        (ENTRY.replace("float", "mismatch", 1).replace('float_operators = ["conv2d"]', "max_lsb = inf"), "<= 1.797"),
        (
            ENTRY.replace("float", "mismatch", 1).replace('float_operators = ["conv2d"]', "max_differing = 2"),
            "is no longer a limit",
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


IN_FLOAT = '[[operator]]\nname = "conv2d"\nverdict = "float"\nreason = "r"\nlink = "l"\n'
OFF = '[[operator]]\nname = "linear"\nverdict = "off"\ndisplacement = 0.51\nreason = "s"\nlink = "m"\n'


NETWORKS = {"unet": ("conv2d", "linear"), "resnet18": ("conv2d", "linear")}


def network(*operators, outcome="float", name="unet", **fields):
    """Return a network's case; an operator is a name, and its verdict or by how much it is off."""
    made = []
    for kind, how in operators:
        off = {} if isinstance(how, str) else {"reference": Distance(max=1, mean=0, differing=1, off=1, boundary=how)}
        verdict = how if isinstance(how, str) else "integer"
        made.append(Operator(name=kind, node=kind, levels="q", verdict=verdict, **off))
    return structs.replace(case(name, outcome, family="deployed", **fields), operators=made)


def of_operators(tmp_path, text):
    path = tmp_path / "expectations.toml"
    path.write_text(text)
    return Expectations([], CELLS["2.4"], "x86_64", load_operators(NETWORKS, CELLS.values(), path))


def test_network_is_known_by_its_operators(tmp_path):
    here = of_operators(tmp_path, IN_FLOAT + OFF)
    both = here.judge(network(("conv2d", "float"), ("conv2d", "float"), ("linear", 0.5)))
    assert both.known == Known(reason="r; s", link="l")
    assert both.complaint is None
    assert here.judge(network(("linear", 0.5), outcome="mismatch")).known == Known(reason="s", link="m")
    assert here.judge(network(("add", "integer"), outcome="pass")).complaint is None
    # A case of the suite is known by its own entries alone.
    assert here.judge(structs.replace(network(("conv2d", "float")), family="network")).complaint


@pytest.mark.parametrize(
    ("found", "change", "complaint"),
    [
        (network(("conv2d", "float"), ("add", "float")), "new", "add (add) is float, which it is not known for"),
        (network(("conv2d", 0.5)), "new", "conv2d (conv2d) is off, which it is not known for"),
        (network(("conv2d", "unseen")), "new", "conv2d (conv2d) is unseen, which"),
        (network(("linear", 0.75)), "worse", "up to 0.75 LSB beyond a boundary; known are 0.51"),
        (network(("conv2d", "integer"), outcome="pass"), "gone", "no conv2d is float any more: remove its row"),
        (network(("add", "integer")), "new", "float, and none of its operators is"),
        (network(("conv2d", "float"), ("conv2d", 199.5)), "new", "conv2d (conv2d) is off, which it is not known for"),
        (network(("linear", 0.5), ("linear", 0.0)), "worse", "up to 1 LSB beyond a boundary; known are 0.51"),
        (network(("conv2d", "float"), outcome="error"), "new", "error is not an outcome that unet is known for"),
        *(
            (
                network(("conv2d", "float"), notes=[{"code": code, "text": "output 0"}]),
                "new",
                "output 0, which is nothing that its operators are known for",
            )
            for code in ("PQ029", "PQ016", "PQ020", "PQ032")
        ),
    ],
)  # fmt: skip
def test_what_its_operators_are_not_known_for_turns_a_network_red(tmp_path, found, change, complaint):
    verdict = of_operators(tmp_path, IN_FLOAT + OFF).judge(found)
    assert (verdict.known, verdict.change) == (None, change)
    assert complaint in verdict.complaint


def test_row_of_an_operator_may_be_about_some_networks(tmp_path):
    here = of_operators(tmp_path, IN_FLOAT.replace("verdict", 'case = "res*"\nverdict'))
    assert here.judge(network(("conv2d", "float"), name="resnet18")).known
    assert here.judge(network(("conv2d", "float"))).change == "new"
    assert here.judge(network(("conv2d", "integer"), outcome="pass")).complaint is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (IN_FLOAT + IN_FLOAT, r"\[\[operator\]\] 2: overlaps with the row at .*\[\[operator\]\] 1: keep one"),
        (IN_FLOAT + IN_FLOAT.replace("verdict", 'case = "res*"\nverdict'), "2: overlaps with the row at"),
        (IN_FLOAT.replace("verdict", 'case = "vgg*"\nverdict'), "none called 'vgg\\*' has a 'conv2d'"),
        (IN_FLOAT.replace("conv2d", "conv9d"), "names no operator of a network: none called '\\*' has a 'conv9d'"),
        (OFF.replace("displacement = 0.51\n", ""), "needs its size, displacement"),
        (IN_FLOAT + "displacement = 1.0\n", "one in float has none"),
        (IN_FLOAT + 'torch = "<2"\n', "names no cell"),
        (IN_FLOAT + 'torch = "2 or so"\n', "is not a version range"),
        (IN_FLOAT.replace("float", "fine"), "Invalid enum value 'fine'"),
        ("[operator]\n", "must be an array of tables"),
    ],
)
def test_bad_row_of_an_operator(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        of_operators(tmp_path, text)


def test_users_own_row_goes_before_the_packages(tmp_path):
    path = tmp_path / "expectations.toml"
    path.write_text(OFF.replace("0.51", "3.0"))
    own = load_operators(NETWORKS, CELLS.values(), path)
    path.write_text(OFF)
    both = Expectations([], CELLS["2.4"], "x86_64", [*own, *load_operators(NETWORKS, CELLS.values(), path)])
    assert both.judge(network(("linear", 2.0), outcome="inexact")).known


def test_the_packages_own_rows():
    networks = {one.name: one.criteria.annotated for one in DEPLOYED}
    here = Expectations([], CELLS["2.13"], "x86_64", load_operators(networks, CELLS.values()))
    known = here.judge(network(("conv2d", "float"), ("max_pool2d", "float"), ("cat", "float")))
    assert known.known
    assert here.judge(network(("conv2d", "integer"), outcome="pass")).change == "gone"
