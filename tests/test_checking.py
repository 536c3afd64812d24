"""Anybody's model: every way to give it, what is said of it, and what is refused in one line."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
import zipfile
from collections import Counter

import pytest
import torch
from conftest import flow
from torch import nn
from torchao.quantization.pt2e.quantizer import Quantizer

import pt2e_ci
from pt2e_ci import Criteria, InputError, assert_integer, check, compare
from pt2e_ci.checking import elsewhere
from pt2e_ci.checking.file import read_file
from pt2e_ci.checking.result import counts
from pt2e_ci.record.outcomes import Outcome, Stage
from pt2e_ci.record.reasons import reason
from pt2e_ci.record.records import Kind
from pt2e_ci.record.report import read_report, read_whole_report

EXACT = "exact"


class Two(nn.Module):
    """A conv that upstream leaves in float, a linear that it truncates, and a softmax that nobody quantizes."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return torch.softmax(self.head(self.stem(x).flatten(1)), 1)


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x, scale=None, *, shift, times: int = 1):
        y = self.fc(x) + shift
        return y if scale is None else [y * scale, {"times": times}]


def drawn(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def made(model):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.5)
    return model.eval()


@pytest.fixture(scope="module")
def two():
    return made(Two()), (drawn(1, 2, 4, 4),)


@pytest.fixture(scope="module")
def result(two):
    return check(*two, name="two")


def test_ten_lines_say_what_why_where_and_what_to_do(result):
    lines = str(result).splitlines()
    assert result.outcome is Outcome.FLOAT
    assert len(lines) <= 10
    assert lines[0].startswith("float: two: of 2 quantized operators 1 computes in float, 1 is inexact (torch ")
    conv, linear = lines[1].split(), lines[2].split()
    assert conv[:3] == ["float", "conv2d", "stem"]
    assert conv[3].startswith("test_checking.py:")
    assert conv[4] == "PQ012"
    assert linear[:3] == ["inexact", "linear", "head"]
    assert "accumulators" in lines[2]
    assert lines[3].startswith(
        "Do (PQ012): Add a pattern for it to the representation, or mark it known: `known={'PQ012': 1}`"
    )
    assert lines[4].startswith("Do (PQ031): ")
    proved = "0 of 2 quantized operators are right for every input; 1 only tested on samples, 1 refuted"
    assert lines[5].endswith(proved)
    assert lines[6].startswith("Annotated: conv2d 1, linear 1.  Not annotated: softmax 1 (test_checking.py:")
    assert lines[7] == "Next: pt2e-ci explain PQ012"


def test_model_stays_as_it_is(two):
    model, inputs = two
    before = copy.deepcopy(model.state_dict())
    check(model, inputs, representation=EXACT)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


def test_right_representation_passes(two):
    found = check(*two, representation=EXACT)
    assert found.passed
    assert found.outcome is Outcome.PASS
    assert found.run.representation == EXACT


def test_evidence_that_is_asked_for(two):
    strict = check(*two, representation=EXACT, criteria=Criteria(evidence="proved"))
    assert strict.passed
    weak = check(
        made(nn.Sequential(nn.Linear(4, 4), nn.Softmax(1))), (drawn(2, 4),), criteria=Criteria(evidence="proved")
    )
    assert not weak.passed


def test_known_is_strict_both_ways(two, result):
    found = counts(result.case, ())
    assert found == Counter({"PQ012": 1, "PQ031": 1})
    assert assert_integer(*two, known=dict(found)).passed
    with pytest.raises(AssertionError, match=r"PQ012: 1 found, 2 known") as raised:
        assert_integer(*two, known={"PQ012": 2, "PQ031": 1})
    assert len(str(raised.value).splitlines()) <= 11
    with pytest.raises(AssertionError, match=r"PQ012: 1 found, 0 known"):
        assert_integer(*two, known={"PQ031": 1})
    with pytest.raises(AssertionError, match=r"PQ031: 0 found, 1 known"):
        assert_integer(*two, known={"PQ031": 1}, representation=EXACT)


def test_assertion_is_the_ten_lines(two, result):
    with pytest.raises(AssertionError) as raised:
        assert_integer(*two, name="two")
    assert str(raised.value).endswith(str(result))


def test_one_cause_of_three_operators_is_one_line():
    model = made(nn.Sequential(*(nn.Conv2d(2, 2, 1) for _ in range(3))))
    lines = str(check(model, (drawn(1, 2, 3, 3),))).splitlines()
    assert [line.split()[1:3] for line in lines if "PQ012" in line and line.startswith("float ")] == [
        ["conv2d", "\N{MULTIPLICATION SIGN}3"]
    ]


def test_result_is_a_report_for_every_view(tmp_path, result):
    place = result.save(tmp_path / "two.jsonl")
    assert read_report(place).cases == (result.case,)
    for command in (["report"], ["explain", "two", "--report"], ["explain", "stem", "--report"]):
        done = run_cli(*command, place)
        assert done.returncode == 0, done.stderr
        assert "conv2d" in done.stdout or command == ["report"]
    done = run_cli("explain", "stemm", "--report", place)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_notebook_shows_a_row_for_each_operator(result):
    text = result._repr_html_()
    assert text.count("<tr>") == 1 + len(result.case.operators) + len(result.case.unquantized)
    assert "<td>conv2d</td><td>stem</td>" in text


# What a model may be.


@pytest.fixture(scope="module")
def stages(two):
    """The same model, further and further on its way."""
    model, inputs = two
    home = flow().home
    captured = torch.export.export(copy.deepcopy(model), inputs, strict=True)
    prepared = home.prepare(captured.module(), home.xnnpack(is_per_channel=False))
    with torch.no_grad():
        prepared(*inputs)
    qdq = home.convert(copy.deepcopy(prepared))
    return {"exported": captured, "captured": captured.module(), "calibrated": prepared, "converted": qdq}


@pytest.mark.parametrize("form", ["exported", "captured", "calibrated", "converted"])
def test_program_of_any_stage(stages, two, result, form):
    found = check(stages[form], two[1])
    assert counts(found.case, ()) == counts(result.case, ())
    is_known = form in ("exported", "captured")
    assert is_known == all(note.code != "PQ054" for note in found.case.notes)


def test_two_programs_that_are_there_already(stages, two):
    qdq = stages["converted"]
    reference = flow().represent(qdq).program
    assert counts(compare(qdq, reference, two[1]).case, ()) == {"PQ012": 1, "PQ031": 1}
    with pytest.raises(InputError, match="qdq has no quantize or dequantize operator"):
        compare(stages["captured"], reference, two[1])
    with pytest.raises(InputError, match="reference is function: give a GraphModule"):
        compare(qdq, lambda x: x, two[1])


def test_training_aware_quantization():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x):
            return self.norm(self.conv(x))

    trained = []

    def train(prepared):
        for _ in range(2):
            prepared(drawn(2, 2, 4, 4)).sum().backward()
        trained.append(prepared)

    found = check(Normed(), (drawn(2, 2, 4, 4),), qat=True, train=train, representation=EXACT)
    assert trained
    assert found.outcome is Outcome.PASS
    assert "PQ054" in {note.code for note in (found.case.reason, *found.case.notes) if note}


# What inputs may be.


@pytest.mark.parametrize(
    "inputs",
    [
        {"x": drawn(2, 4), "shift": drawn(4)},
        {"shift": drawn(4), "x": drawn(2, 4), "scale": 2.0, "times": 3},
        [{"x": drawn(2, 4), "shift": drawn(4)}, {"x": drawn(2, 4) / 2, "shift": drawn(4)}],
    ],
    ids=["keywords", "numbers", "two calls"],
)
def test_keyword_arguments(inputs):
    assert check(made(Named()), inputs, representation=EXACT).outcome is Outcome.PASS


def test_tensor_alone_and_several_calls():
    model = made(nn.Linear(4, 4))
    assert check(model, drawn(2, 4), representation=EXACT).passed
    assert check(model, [(drawn(2, 4),), (drawn(2, 4) * 3,)], representation=EXACT).passed


def test_dynamic_shapes():
    model = made(nn.Linear(4, 4))
    calls = [(drawn(2, 4),), (drawn(5, 4),)]
    shapes = ({0: torch.export.Dim("batch", min=2, max=64)},)
    assert check(model, calls, dynamic_shapes=shapes, representation=EXACT).passed
    with pytest.raises(InputError, match=r"inputs\[1\] has shape \(5, 4\)"):
        check(model, calls)


def test_made_up_input_that_a_model_refuses_is_a_note():
    class Choosy(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.table = nn.Linear(4, 4), nn.Embedding(2, 4)

        def forward(self, x):
            return self.fc(x) + self.table(x[:, 0].abs().long())

    found = check(made(Choosy()), (drawn(2, 4),), representation=EXACT)
    assert "PQ056" in {note.code for note in found.case.notes}
    assert "saturating" in next(note.text for note in found.case.notes if note.code == "PQ056")


# What goes wrong on the way is an outcome.


class Idle(Quantizer):
    """A quantizer that annotates nothing."""

    def annotate(self, model):
        return model

    def validate(self, model):
        pass


class Raising(Idle):
    def annotate(self, model):
        raise KeyError("no such pattern")


def test_quantizer_that_annotates_nothing(two):
    found = check(*two, quantizer=Idle())
    assert (found.outcome, found.case.reason.code) == (Outcome.UNQUANTIZED, "PQ001")


def test_quantizer_that_raises(two):
    found = check(*two, quantizer=Raising())
    assert (found.outcome, found.case.stage) == (Outcome.ERROR, Stage.PREPARE)
    assert "no such pattern" in str(found)


def test_representation_that_raises_or_returns_something_else(two):
    def raises(qdq):
        raise ValueError("cannot")

    for representation, said in ((raises, "ValueError: cannot"), (lambda qdq: 3, "returned int")):
        found = check(*two, representation=representation)
        assert found.outcome is Outcome.ERROR
        assert said in found.case.reason.text


def test_model_that_does_not_export_names_its_line():
    class Branching(nn.Module):
        def forward(self, x):
            if x.sum() > 0:
                return x + 1
            return x

    found = check(Branching().eval(), (drawn(2, 2),))
    assert (found.outcome, found.case.stage) == (Outcome.ERROR, Stage.EXPORT)
    assert "(test_checking.py:" in found.case.reason.text


# What will not do is one line.


def nan_weights():
    model = made(nn.Linear(2, 2))
    with torch.no_grad():
        model.weight[0, 0] = float("nan")
    return model


LINEAR = made(nn.Linear(2, 2))
X = (drawn(1, 2),)


class Attending(nn.Module):
    """An attention over a sequence of whatever length, and a mean over it."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return x + self.out(torch.softmax(q @ k.transpose(1, 2), -1) @ v), self.out(x).mean(1)


@pytest.mark.parametrize("representation", [None, EXACT])
def test_calls_of_several_lengths(representation):
    model, calls = made(Attending()), [(drawn(2, 5, 8),), (drawn(3, 7, 8),)]
    sizes = {"x": {0: torch.export.Dim("b", min=2, max=9), 1: torch.export.Dim("t", min=2, max=50)}}
    result = check(model, calls, dynamic_shapes=sizes, representation=representation)
    assert result.case.outcome is not Outcome.ERROR, result
    verdicts = Counter((one.name, str(one.verdict)) for one in result.case.operators if one.verdict)
    # A mean over a length that is not known is left in float.
    assert verdicts["linear", "integer"] == 3
    assert verdicts["mean", "float"] == 1


def test_numbers_near_the_largest_are_proved():
    class Huge(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(x) + x

    result = check(made(Huge()), (drawn(2, 4) * 1e37,), representation=EXACT)
    assert result.passed
    assert {one.evidence.kind for one in result.case.operators} == {Kind.PROVED}


def test_tensors_that_cannot_be_told_apart_refute_nothing():
    class Tiny(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.b(self.a(x) + x * 1e-30)

    model = made(Tiny())
    with torch.no_grad():
        for parameter in model.a.parameters():
            parameter.mul_(1e-30)
    result = check(model, (drawn(2, 4),), representation=EXACT)
    assert result.passed
    assert Kind.REFUTED not in {one.evidence.kind for one in result.case.operators}


def test_model_with_a_weight_norm_of_old():
    with pytest.warns(FutureWarning, match="weight_norm"):
        model = nn.utils.weight_norm(nn.Linear(4, 4)).eval()
    weight = model.weight
    assert check(model, (drawn(2, 4),), representation=EXACT).passed
    assert model.weight is weight


def test_output_that_is_a_constant_is_one_of_the_integer_program_too():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.kept = nn.Linear(4, 4), nn.Parameter(drawn(3))

        def forward(self, x):
            return self.fc(x), self.kept

    assert check(made(Constant()), (drawn(2, 4),), representation=EXACT).passed


def test_operator_that_is_wrong_in_two_ways_is_counted_once():
    class Near(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return torch.relu(self.a(x) + self.b(x))

    first, *_ = str(check(made(Near()), (drawn(2, 4),))).splitlines()
    numbers = [int(one) for one in re.findall(r"\d+(?= (?:is|are|compute))", first)]
    assert sum(numbers) == 3, first


@pytest.mark.parametrize(
    ("model", "inputs", "options", "says"),
    [
        (nn.Linear, X, {}, r"model is the class Linear: give an instance, Linear\(\)"),
        (lambda x: x, X, {}, "model is a function: give an nn.Module"),
        (nan_weights(), X, {}, "weight has a value that is NaN or infinite"),
        (nn.Linear(2, 2, device="meta"), X, {}, "weight is on meta: programs are judged on the CPU"),
        (nn.Sequential(LINEAR, nn.Dropout()).train(), X, {}, "the model is in training mode: dropout"),
        (LINEAR, (drawn(1, 3),), {}, r"the model cannot be called on inputs\[0\]: RuntimeError"),
        (LINEAR, (X[0] / 0 * 0,), {}, r"inputs\[0\] has a NaN: no scale can represent it"),
        (LINEAR, [], {}, "inputs is an empty list"),
        (LINEAR, [3.0], {}, r"inputs\[0\] is a float: give the arguments of a call as a tuple"),
        (LINEAR, {"y": X[0]}, {}, r"inputs\[0\] does not fit the model"),
        (LINEAR, X, {"quantizer": Idle}, r"quantizer is the class Idle: give an instance, Idle\(\)"),
        (LINEAR, X, {"quantizer": 3}, "quantizer is an int: give a quantizer, which has a method"),
        (LINEAR, X, {"quantizer": lambda: 3}, "the quantizer's function returned an int"),
        (LINEAR, X, {"quantizer": "nothing"}, "no quantizer is called 'nothing'"),
        (LINEAR, X, {"representation": 3}, "representation is an int: give a function"),
        (LINEAR, X, {"criteria": 3}, r"criteria is an int: give pt2e_ci.Criteria\(...\)"),
        (LINEAR, X, {"known": {"PQ999": 1}}, "known has 'PQ999', which is not a reason"),
        (LINEAR, X, {"known": {"PQ055": 1}}, "known has 'PQ055', which is not a reason that fails a model"),
        (LINEAR, X, {"known": {"PQ012": 0}}, "known has PQ012: 0: give how many there are"),
        (LINEAR, X, {"train": print}, "train is for quantization-aware training"),
    ],
)
def test_bad_input_is_one_line(model, inputs, options, says):
    with pytest.raises(InputError, match=says) as raised:
        check(model, inputs, **options)
    assert "\n" not in str(raised.value)


# From a shell.

FILE = """
import torch
from torch import nn

def model():
    torch.manual_seed(0)
    return nn.Linear(4, 4).eval()

small = nn.Linear(2, 2).eval()
inputs = (torch.linspace(-1, 1, 8).reshape(2, 4),)
"""


def run_cli(*arguments, cwd=None, **environment):
    command = [sys.executable, "-m", "pt2e_ci", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("files")
    (path / "model.py").write_text(FILE)
    (path / "mine.py").write_text("from pt2e_ci import Criteria\nLOOSE = Criteria(allow=('inexact',))\n")
    return path


def test_command_says_it_in_ten_lines_and_writes_a_report(folder):
    done = run_cli("check", "model.py", cwd=folder)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) <= 10
    assert lines[0].startswith("inexact: model: of 1 quantized operator 1 is inexact (torch ")
    (report,) = (folder / "reports" / "model").glob("*.jsonl")
    assert lines[-1].endswith(f"explain linear --report {report.relative_to(folder)}")
    assert run_cli("explain", "linear", "--report", report).returncode == 0


def test_report_goes_to_standard_output_and_the_lines_beside_it(folder, tmp_path):
    done = run_cli("check", folder / "model.py", "--report", "-", cwd=tmp_path)
    assert done.returncode == 1
    (tmp_path / "report.jsonl").write_text(done.stdout)
    assert read_whole_report(tmp_path / "report.jsonl").cases[0].name == "model"
    assert "inexact: model: of 1 quantized operator 1 is inexact (torch " in done.stderr
    assert not (tmp_path / "reports").exists()
    many = run_cli("check", folder / "model.py", "--torch", "2.4,2.13", "--report", "-", cwd=tmp_path)
    assert (many.returncode, many.stdout) == (2, "")
    assert many.stderr.startswith("pt2e-ci: error: --report - takes one report")


def test_command_exits_with_0_where_all_is_right_or_allowed(folder):
    assert run_cli("check", "model.py", "--representation", "exact", "--report", "a.jsonl", cwd=folder).returncode == 0
    assert run_cli("check", "model.py", "--criteria", "mine:LOOSE", "--report", "b.jsonl", cwd=folder).returncode == 0
    (folder / "known.py").write_text(FILE + "known = {'PQ031': 1}\n")
    done = run_cli("check", "known.py", cwd=folder)
    assert done.returncode == 0
    assert done.stdout.startswith("inexact, known: known: of 1 quantized operator 1 is inexact (torch ")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("none.py", None, "none.py: no such file"),
        ("a.py", "inputs = ()\n", "a.py has no `model`"),
        ("a.py", "import torch\nmodel = torch.nn.Linear(2, 2)\n", "a.py has no `inputs`"),
        ("a.py", "1 / 0\n", "a.py cannot be loaded: ZeroDivisionError: division by zero (a.py:1)"),
        (
            "a.py",
            "def model():\n    raise OSError('gone')\ninputs = ()\n",
            "a.py: model() raised OSError: gone (a.py:2)",
        ),
        ("a.py", "import torch\nmodel = torch.nn.Linear\ninputs = ()\n", "model is the class Linear"),
        ("a.py:big", FILE, "a.py has no `big`"),
        ("a.py:small", FILE, "the model cannot be called on inputs[0]"),
        ("a.txt", "", "a.txt is not a Python file"),
    ],
)
def test_bad_file_is_one_line(tmp_path, name, text, says):
    if text is not None:
        (tmp_path / name.partition(":")[0]).write_text(text)
    done = run_cli("check", name, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "reports").exists()


def test_traceback_is_shown_where_it_is_asked_for(tmp_path):
    (tmp_path / "a.py").write_text("1 / 0\n")
    done = run_cli("check", "a.py", "--traceback", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_functions_and_names_of_a_file(folder):
    given = read_file(f"{folder / 'model.py'}:small")
    assert given["name"] == "model:small"
    assert given["model"].in_features == 2


BARE = """
import os, sys, multiprocessing
for name in ("fork", "sched_getaffinity"):
    delattr(os, name)
multiprocessing.get_all_start_methods = lambda: ["spawn"]
import torch
import pt2e_ci
result = pt2e_ci.check(torch.nn.Linear(3, 3).eval(), (torch.ones(1, 3) / 3,), representation="exact")
sys.exit(not result.passed)
"""


def test_no_fork_and_no_affinity_are_needed():
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_import_imports_no_torch():
    code = "import sys, pt2e_ci; dir(pt2e_ci); pt2e_ci.Criteria; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert set(pt2e_ci.__all__) <= set(dir(pt2e_ci))
    with pytest.raises(AttributeError, match="no attribute 'chekc'"):
        pt2e_ci.chekc  # noqa: B018


@pytest.mark.parametrize("arguments", [[], ["-n", "2"], ["-p", "no:pt2e_ci"]], ids=["plain", "xdist", "no plugin"])
def test_assertion_in_somebody_elses_tests(tmp_path, arguments):
    fixture = "assert_integer" if "no:pt2e_ci" not in arguments else ""
    text = f"""
import torch
import pt2e_ci

def test_model({fixture}):
    ask = {fixture or "pt2e_ci.assert_integer"}
    ask(torch.nn.Linear(3, 3).eval(), (torch.ones(1, 3) / 3,), representation="exact")
"""
    (tmp_path / "test_mine.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "1 passed" in done.stdout, done.stdout


# On the torch of cells.


def test_wheel_is_the_package_that_runs(tmp_path):
    path = elsewhere.build_wheel(tmp_path)
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        assert wheel.read("pt2e_ci/checking/elsewhere.py").decode() == (
            open(elsewhere.__file__, encoding="utf-8").read()  # noqa: SIM115, PTH123
        )
    assert "pt2e_ci/cells/locks/2.4/dependencies.txt" in names
    assert not any("__pycache__" in name for name in names)
    target = tmp_path / "target"
    install = [sys.executable, "-m", "uv", "pip", "install", "-q", "--no-deps", "--target", str(target), str(path)]
    subprocess.run(install, check=True)
    code = "import pt2e_ci; print(pt2e_ci.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(target)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert str(target) in done.stdout


@pytest.fixture
def made_up_cells(tmp_path, monkeypatch):
    """Environments whose Python is a script that ends with a code of its own."""
    codes, asked = {}, []

    def environment(cell, extras, say):
        asked.append((cell.name, [one.rpartition("/")[2] for one in extras]))
        script = tmp_path / f"python-{cell.name}"
        script.write_text(f"#!/bin/sh\n{codes.get(cell.name, 'exit 0')}\n")
        script.chmod(0o755)
        return script

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(elsewhere, "_environment", environment)
    return codes, asked


@pytest.mark.parametrize(
    ("codes", "due"),
    [({}, 0), ({"2.4": "exit 1"}, 1), ({"2.4": "exit 1", "2.13": "exit 2"}, 2), ({"2.4": "kill -SEGV $$"}, 1)],
)
def test_worst_exit_code_of_all_cells(made_up_cells, codes, due):
    known, asked = made_up_cells
    known.update(codes)
    said = []
    assert elsewhere.run(["2.4", "2.13"], ["model.py"], ["mine"], said.append) == due
    wheel = f"pt2e_ci-{pt2e_ci.__version__}-py3-none-any.whl"
    assert asked == [("2.4", [wheel, "mine"]), ("2.13", [wheel, "mine"])]
    assert ("SIGSEGV" in "".join(said)) == ("SEGV" in str(codes))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--torch", "2.99"], "unknown cell '2.99'"),
        (["--torch", ","], "--torch needs a name"),
        (["--with", "x"], "--with goes with --torch"),
    ],
)
def test_bad_cells_are_one_line(folder, arguments, says):
    done = run_cli("check", "model.py", *arguments, cwd=folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert says in done.stderr


def test_other_systems_have_no_cells(monkeypatch):
    monkeypatch.setattr(elsewhere.sys, "platform", "darwin")
    with pytest.raises(InputError, match="--torch makes environments on Linux only"):
        elsewhere.run(["2.4"], [], [], print)


def test_without_torch_the_command_says_what_to_name(folder, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.metadata as m\nversion = m.version\n"
        "def none(name):\n"
        "    if name == 'torch':\n        raise m.PackageNotFoundError(name)\n"
        "    return version(name)\n"
        "m.version = none\n"
    )
    done = run_cli("check", "model.py", cwd=folder, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--torch 2.13" in done.stderr


# The reasons.


def test_every_code_is_explained():
    listed = run_cli("explain").stdout
    for code in ("PQ001", "PQ012", "PQ056"):
        assert f"{code} " in listed
        assert "What to do: " in run_cli("explain", code.lower()).stdout
    done = run_cli("explain", "PQ999")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_reason_names_its_operators_once():
    assert reason("PQ012", ["a", "b", "a"], names="", left=1, annotated=1, why="").operators == ["a", "b"]
