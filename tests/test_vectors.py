"""Golden vectors: what is due of each, where their levels lie, and what a folder of them may not hold."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import msgspec
import numpy as np
import pytest
from conftest import ROOT

from pt2e_ci.errors import InputError
from pt2e_ci.exact.schemes import Multiplier, Rounding
from pt2e_ci.record.engines import NEAREST
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.vectors import folder
from pt2e_ci.vectors.aiming import aimed, drawn
from pt2e_ci.vectors.arithmetic import OPERATORS, boundaries, levels, schemes, sums
from pt2e_ci.vectors.catalogue import catalogue
from pt2e_ci.vectors.comparison import compare, compare_all
from pt2e_ci.vectors.vector import Grid, Operand, Vector, Weight

VECTORS = {vector.name: vector for vector in catalogue()}
DIGEST = "sha256:e3afef4c9b9854e9c7deae309a9f7e793b44cd12c34342fc6a441de4799288c1"


def real(operand, index):
    """The real number of one level."""
    return operand.grid.scale * (int(operand.levels[index]) - operand.grid.zero_point)


def images(vector, index):
    """The elements in the window of one of a convolution's or a pooling's results, with their places in the kernel."""
    image, channel, row, column = index
    stride, padding = vector.options.get("stride", 1), vector.options.get("padding", 0)
    (operand,) = vector.operands
    height, width = operand.levels.shape[2:]
    if vector.weight is not None:
        per_group = vector.weight.levels.shape[1]
        first = channel // (len(vector.weight.levels) // vector.options["groups"]) * per_group
        kernel = vector.weight.levels.shape[2:]
    else:
        per_group, first = 1, channel
        kernel = (vector.options.get("kernel_size", height),) * 2
    for c in range(per_group):
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                y, x = row * stride + i - padding, column * stride + j - padding
                if 0 <= y < height and 0 <= x < width:
                    yield real(operand, (image, first + c, y, x)), (c, i, j)


def weighed(vector, row, products):
    """A sum of products with one row of the weight, and the bias."""
    scales = vector.weight.scales
    scale = scales[row] if len(scales) > 1 else scales[0]
    total = sum((value * int(vector.weight.levels[(row, *place)]) * scale for value, place in products), Fraction(0))
    return total + (0 if vector.bias is None else int(vector.bias[row]) * vector.operands[0].grid.scale * scale)


def clamp(value, low, high):
    return min(max(value, Fraction(low)), Fraction(high))


def row_of(vector, index):
    return ((real(vector.operands[0], (index[0], k)), (k,)) for k in range(vector.weight.levels.shape[1]))


ONE_BY_ONE = {
    "linear": lambda v, i: weighed(v, i[1], row_of(v, i)),
    "conv2d": lambda v, i: weighed(v, i[1], images(v, i)),
    "matmul": lambda v, i: sum(
        real(v.operands[0], (i[0], k)) * real(v.operands[1], (k, i[1])) for k in range(v.operands[1].levels.shape[0])
    ),
    "add": lambda v, i: real(v.operands[0], i) + real(v.operands[1], i),
    "sub": lambda v, i: real(v.operands[0], i) - real(v.operands[1], i),
    "mul": lambda v, i: real(v.operands[0], i) * real(v.operands[1], i),
    "maximum": lambda v, i: max(real(v.operands[0], i), real(v.operands[1], i)),
    "minimum": lambda v, i: min(real(v.operands[0], i), real(v.operands[1], i)),
    "cat": lambda v, i: real(v.operands[i[1] // 16], (i[0], i[1] % 16)),
    "requantize": lambda v, i: real(v.operands[0], i),
    "relu": lambda v, i: max(real(v.operands[0], i), Fraction(0)),
    "hardtanh": lambda v, i: clamp(real(v.operands[0], i), 0, 6),
    "leaky_relu": lambda v, i: max(real(v.operands[0], i), real(v.operands[0], i) / 8),
    "hardsigmoid": lambda v, i: clamp(real(v.operands[0], i) / 6 + Fraction(1, 2), 0, 1),
    "hardswish": lambda v, i: real(v.operands[0], i) * clamp(real(v.operands[0], i) / 6 + Fraction(1, 2), 0, 1),
    "max_pool2d": lambda v, i: max(value for value, _ in images(v, i)),
    "avg_pool2d": lambda v, i: sum(value for value, _ in images(v, i)) / v.options["kernel_size"] ** 2,
    "mean": lambda v, i: sum(value for value, _ in images(v, i)) / (v.operands[0].levels[0, 0].size),
}


def test_every_operator_has_a_vector_and_is_worked_out_here():
    assert {vector.operator for vector in VECTORS.values()} == set(OPERATORS) == set(ONE_BY_ONE)


@pytest.mark.parametrize("name", VECTORS)
def test_exact_levels_are_those_of_fractions_one_by_one(name):
    vector = VECTORS[name]
    found = sums(vector)
    places = np.unravel_index(drawn(f"tried {name}", (40,), 0, found.whole.size - 1), found.whole.shape)
    for index in zip(*(axis.tolist() for axis in places), strict=True):
        steps = ONE_BY_ONE[vector.operator](vector, index) / vector.output.scale
        for scheme in Rounding:
            level = scheme.whole(steps, vector.output.zero_point) + vector.output.zero_point
            due = min(max(level, vector.output.low), vector.output.high)
            assert int(levels(found, vector.output, scheme)[index]) == due, (scheme, index)
        if found.is_rescaled and Multiplier.TOSA in schemes(found):
            tosa = levels(found, vector.output, Multiplier.TOSA)[index]
            assert abs(int(tosa) - due) <= 1


@pytest.mark.parametrize("name", ["linear-per-tensor", "linear-per-channel", "conv2d-per-channel", "mean-same"])
def test_levels_lie_on_both_sides_of_each_boundary_of_each_channel(name):
    vector = VECTORS[name]
    found = sums(vector)
    rows = found.rows() if len(found.units) > 1 else np.moveaxis(found.whole, 1, 0).reshape(found.whole.shape[1], -1)
    for number, row in enumerate(rows):
        unit = found.units[number if len(found.units) > 1 else 0]
        begins = [one for one in boundaries(unit, vector.output, Rounding.HALF_EVEN) if row.min() < one < row.max()]
        missing = {one for begin in begins for one in (begin - 1, begin)} - set(row.tolist())
        assert not missing, f"channel {number}"


def test_one_boundary_moved_by_one_sum_is_seen():
    vector = VECTORS["linear-per-channel"]
    found, right = sums(vector), levels(sums(vector), VECTORS["linear-per-channel"].output, Rounding.HALF_EVEN)
    begins = boundaries(found.units[2], vector.output, Rounding.HALF_EVEN)
    moved = right.astype(np.int64)
    moved[:, 2] -= found.whole[:, 2] == begins[100]
    result = compare(vector, moved)
    assert result.wrong
    assert result.max == 1
    assert 0 < result.displacement < 0.01
    assert not result.schemes


@pytest.mark.parametrize("name", ["add-ties", "linear-ties", "conv2d-ties", "requantize-ties", "cat-ties"])
@pytest.mark.parametrize("scheme", NEAREST)
def test_ties_name_the_scheme(name, scheme):
    vector = VECTORS[name]
    result = compare(vector, levels(sums(vector), vector.output, scheme))
    assert result.schemes[0] == scheme
    assert result.ties_by[scheme] == result.ties > 0
    assert all(count < result.ties for other, count in result.ties_by.items() if other != scheme)
    assert result.outcome is Outcome.PASS  # a tie is on the boundary itself
    assert compare(vector, levels(sums(vector), vector.output, scheme), rounding=scheme).wrong == 0


def test_a_level_cut_off_is_inexact_and_one_far_off_a_mismatch():
    vector = VECTORS["linear-per-tensor"]
    cut = compare(vector, levels(sums(vector), vector.output, Rounding.FLOOR))
    assert (cut.outcome, cut.max) == (Outcome.INEXACT, 1)
    assert 0.4 < cut.displacement <= 0.51
    assert "FLOOR".lower() in cut.schemes
    far = levels(sums(vector), vector.output, Rounding.HALF_EVEN).astype(np.int64)
    far[0, 0] += 2 if far[0, 0] < 100 else -2
    assert compare(vector, far).outcome is Outcome.MISMATCH


def test_sixteen_bits_that_saturate_are_seen():
    vector = VECTORS["linear-16-bits"]
    x = vector.operands[0].levels.astype(np.int64) + 128
    pairs = (x[:, None, :] * vector.weight.levels[None].astype(np.int64)).reshape(len(x), 4, -1, 2).sum(-1)
    saturated = replace(vector, bias=None)
    found = replace(sums(saturated), whole=np.clip(pairs, -(2**15), 2**15 - 1).sum(-1))
    assert compare(vector, levels(found, vector.output, Rounding.HALF_EVEN)).outcome is Outcome.MISMATCH


def test_thirty_two_bits_that_wrap_are_seen():
    vector = VECTORS["linear-32-bits"]
    found = sums(vector)
    assert found.whole.max() >= 2**31
    assert found.whole.min() < -(2**31)
    wrapped = replace(found, whole=found.whole.astype(np.int32).astype(np.int64))
    assert compare(vector, levels(wrapped, vector.output, Rounding.HALF_EVEN)).outcome is Outcome.MISMATCH
    assert not any(scheme in Multiplier for scheme in schemes(found))


def test_aimed_sums_are_hit_where_a_weight_of_one_is_among_them():
    weights = np.array([1, -2, 11, 127, -119, 83])
    targets = np.arange(-20000, 20000, 37)
    x = aimed(weights, targets, -105, 150, "aimed")
    assert x.min() >= -105
    assert x.max() <= 150
    assert np.array_equal(x @ weights, targets)


# A folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / "all"
    return path, folder.write(path, [*VECTORS.values()])


@pytest.fixture
def small(tmp_path):
    folder.write(tmp_path / "small", [VECTORS["linear-ties"], VECTORS["requantize-levels"]])
    return tmp_path / "small"


def test_bytes_are_the_same_wherever_they_are_made(whole):
    """The digest stands here, so that a machine, a Python or a numpy that makes others is found out."""
    assert whole[1] == folder.digest_of([*VECTORS.values()]) == DIGEST


def test_what_is_written_is_read_again(whole):
    path, digest = whole
    manifest, vectors = folder.read(path)
    assert manifest.digest == digest
    for vector in vectors:
        mine = VECTORS[vector.name]
        assert (vector.output, vector.operator, vector.options) == (mine.output, mine.operator, dict(mine.options))
        assert all(np.array_equal(a.levels, b.levels) for a, b in zip(vector.operands, mine.operands, strict=True))


def edited(path, change):
    """Change a manifest, and give it the digest that it then has."""
    text = json.loads((path / folder.MANIFEST).read_text())
    change(text)
    records = msgspec.convert(text["vectors"], list[folder.VectorRecord])
    text["digest"] = folder._digest(records)
    (path / folder.MANIFEST).write_text(json.dumps(text))


def test_manifest_that_is_cut_short_changed_or_of_another_version_is_refused(small):
    manifest = small / folder.MANIFEST
    text = manifest.read_text()
    for broken, message in (
        (text[:-20], "no manifest of vectors"),
        (text.replace('"version": 1', '"version": 2'), "of version 2"),
        (text.replace("half of the sums", "none of the sums"), "its digest does not match"),
        ("[" * 100_000, "no manifest of vectors"),
        (text.replace('"vectors"', '"others"'), "no manifest of vectors"),
    ):
        manifest.write_text(broken)
        with pytest.raises(InputError, match=message):
            folder.read(small)
    manifest.unlink()
    with pytest.raises(InputError, match=r"manifest\.json: cannot be read"):
        folder.read(small)


@pytest.mark.parametrize("name", ["../out.npy", "/etc/passwd", "a/b.npy", ".hidden.npy", "x.txt"])
def test_path_out_of_the_folder_is_refused(small, name):
    text = json.loads((small / folder.MANIFEST).read_text())
    text["vectors"][0]["operands"][0]["levels"]["file"] = name
    (small / folder.MANIFEST).write_text(json.dumps(text))
    with pytest.raises(InputError, match="no manifest of vectors"):
        folder.read(small)


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def header(shape, descr="|i1"):
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not an npy file"),
        (b"\x93NUMPY\x09\x00", "is not an npy file"),
        (pickle.dumps([1, 2]), "is not an npy file"),
        (npy(np.array([{}], dtype=object), allow_pickle=True), "holds object"),
        (npy(np.zeros((16, 16), np.float32)), "holds float32"),
        (npy(np.zeros((4, 4), np.int8)), "is of shape"),
        (header((16, 16)) + b"\0" * 10, "truncated"),
        (header((16, 16)) + b"\0" * 300, "has data after"),
        (header((1 << 40, 1 << 20)), "is of shape"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "is not an npy file"),
    ],
)
def test_array_that_is_something_else_is_refused(tmp_path, data, message):
    path = tmp_path / "requantize-levels.npy"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message):
        folder.outputs_in(path, (16, 16))


def test_array_that_was_changed_is_refused(small):
    path = small / "linear-ties.weight.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="is not what was written"):
        folder.read(small)


def test_exact_levels_that_are_not_those_of_the_operands_are_refused(small):
    def change(text):
        text["vectors"][1]["output"]["scale"] = "1/3"

    edited(small, change)
    with pytest.raises(InputError, match="the exact levels of requantize-levels are not those of its operands"):
        folder.read(small)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("operator", "gelu", "which is unknown"),
        ("exact", {"bankers": None}, "which is unknown"),
        ("options", {"negative_slope": 3}, None),
        ("weight", None, "is not a vector"),
    ],
)
def test_vector_that_is_none_is_refused(small, key, value, message):
    def change(text):
        one = text["vectors"][0]
        one[key] = {"bankers": next(iter(one["exact"].values()))} if key == "exact" else value

    edited(small, change)
    if message is None:  # an option that the operator does not have changes nothing
        folder.read(small)
        return
    with pytest.raises(InputError, match=message):
        folder.read(small)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one["output"].update(scale="1/0"), "no manifest of vectors"),
        (lambda one: one["output"].update(scale="0/1"), "no manifest of vectors"),
        (lambda one: one["output"].update(low=-(2**31)), "no manifest of vectors"),
        (lambda one: one["output"].update(low=-129), "a grid has levels from -129 to 127, which int8 does not have"),
        (lambda one: one["output"].update(low=100, high=-100), "a grid has levels from 100 to -100"),
        (lambda one: one["operands"][0]["grid"].update(high=-128), "holds a value that is not a level of its grid"),
        (
            lambda one: one["operands"][0]["grid"].update(dtype="uint8", low=0),
            "holds a value that is not a level of its grid",
        ),
        (lambda one: one["options"].update(padding=10**9), "no manifest of vectors"),
        (lambda one: one["operands"].clear(), "no manifest of vectors"),
    ],
)
def test_number_that_no_vector_has_is_refused(small, change, message):
    text = json.loads((small / folder.MANIFEST).read_text())
    change(text["vectors"][0])
    with contextlib.suppress(msgspec.ValidationError):
        text["digest"] = folder._digest(msgspec.convert(text["vectors"], list[folder.VectorRecord]))
    (small / folder.MANIFEST).write_text(json.dumps(text))
    with pytest.raises(InputError, match=message):
        folder.read(small)


def test_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        folder.write(tmp_path, [VECTORS["linear-ties"]])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match="two vectors are called linear-ties"):
        folder.write(tmp_path / "new", [VECTORS["linear-ties"]] * 2)


# What a device gave


def test_outputs_are_judged_and_a_missing_one_is_named(small, tmp_path):
    _, vectors = folder.read(small)
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    due = levels(sums(vectors[0]), vectors[0].output, Rounding.HALF_UP)
    np.save(outputs / "linear-ties.npy", due.astype(np.int32))
    first, second = compare_all(vectors, outputs, Rounding.HALF_UP)
    assert (first.outcome, first.wrong) == (Outcome.PASS, 0)
    assert second.outcome is Outcome.ERROR
    assert "requantize-levels.npy: is missing" in second.why
    with pytest.raises(InputError, match="is not a folder of outputs"):
        compare_all(vectors, tmp_path / "nowhere")


def command(*arguments):
    line = [sys.executable, "-m", "pt2e_ci", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_commands_write_and_judge(small, tmp_path):
    written = command("vectors", "write", tmp_path / "vectors")
    assert written.returncode == 0
    assert DIGEST in written.stdout
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    for vector in folder.read(small)[1]:
        np.save(outputs / f"{vector.name}.npy", levels(sums(vector), vector.output, Rounding.HALF_EVEN))
    right = command("vectors", "compare", small, outputs)
    assert right.returncode == 0
    assert "2 of 2 vectors are right under half_even" in right.stdout
    (outputs / "linear-ties.npy").unlink()
    missing = command("vectors", "compare", small, outputs)
    assert missing.returncode == 1
    assert "linear-ties.npy: is missing" in missing.stdout
    unknown = command("vectors", "compare", small, outputs, "--rounding", "half_evan")
    assert unknown.returncode == 2
    assert unknown.stderr.splitlines() == [
        "pt2e-ci: error: unknown rounding scheme 'half_evan': did you mean 'half_even'?"
    ]
    nothing = command("vectors", "compare", tmp_path, outputs)
    assert (nothing.returncode, len(nothing.stderr.splitlines())) == (2, 1)


def test_plain_reader_of_the_docs_agrees(whole):
    """It has at most fifty lines, and needs neither torch nor this package."""
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "vectors.md").read_text(), re.DOTALL)[1]
    assert len(code.splitlines()) <= 50
    alone = f"import sys; sys.modules.update(torch=None, pt2e_ci=None); sys.argv[1:] = [{str(whole[0])!r}]\n{code}"
    done = subprocess.run([sys.executable, "-I", "-c", alone], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    named = [line.split()[0] for line in done.stdout.splitlines()]
    assert named == [vector.name for vector in VECTORS.values() if vector.operator in ("linear", "add", "requantize")]
    assert all(line.endswith("right") for line in done.stdout.splitlines())
    changed = alone.replace("round(steps)", "math.floor(steps)")
    done = subprocess.run([sys.executable, "-I", "-c", changed], capture_output=True, text=True, check=False)
    assert "wrong" in done.stdout


# Vectors of a model


MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5)

    def forward(self, x):
        y = torch.relu(self.conv(x))
        y = (y + y).mean([2, 3], keepdim=True)
        return torch.softmax(self.linear(y.flatten(1)), 1)

torch.manual_seed(0)
model, inputs = Net().eval(), (torch.randn(2, 3, 6, 6),)
"""


def test_operators_of_a_model_become_vectors(tmp_path):
    from pt2e_ci.checking.vectors import vectors_of
    from pt2e_ci.engines.lowered import QDQ

    (tmp_path / "net.py").write_text(MODEL)
    found, left = vectors_of(str(tmp_path / "net.py"))
    assert {vector.operator for vector in found} >= {"linear", "conv2d", "add"}
    for vector in found:
        result = compare(vector, QDQ.run(vector).levels)
        assert result.outcome is Outcome.PASS, result
        assert result.values
    assert all("is left out: " in line for line in left)
    conv = next(vector for vector in found if vector.operator == "conv2d")
    assert conv.output.low == max(conv.output.zero_point, -128)
    assert conv.operands[0].levels.shape[1:] == (3, 3, 3)
    folder.write(tmp_path / "vectors", found)
    assert len(folder.read(tmp_path / "vectors")[1]) == len(found)


def test_model_that_will_not_do_is_one_line(tmp_path):
    (tmp_path / "net.py").write_text("model = 3\ninputs = (1,)\n")
    done = command("vectors", "write", tmp_path / "out", tmp_path / "net.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("pt2e-ci: error: model is an int")
    assert not (tmp_path / "out").exists()


def test_ties_of_a_grid_that_clamps_are_no_ties():
    """A result beyond the last level says nothing of rounding."""
    levels_in = np.arange(-128, 128, dtype=np.int8)[None]
    vector = Vector(
        "narrow", "requantize", "all", (Operand(levels_in, Grid(Fraction(1, 2), 3)),), Grid(Fraction(1), 5, -10, 10)
    )
    result = compare(vector, levels(sums(vector), vector.output, Rounding.HALF_EVEN))
    assert result.ties == 20


def test_relu_is_fused_where_levels_stop_at_the_zero_point():
    assert Grid(Fraction(1), 11, low=11).has_relu
    assert not Grid(Fraction(1), -128).has_relu
    weight = Weight(np.ones((1, 2), np.int8), (Fraction(1),))
    x = np.array([[-3, -4], [3, 4]], dtype=np.int8)
    vector = Vector("relu", "linear", "", (Operand(x, Grid(Fraction(1), 0)),), Grid(Fraction(1), 5, low=5), {}, weight)
    assert levels(sums(vector), vector.output, Rounding.HALF_EVEN).tolist() == [[5], [12]]


@pytest.mark.parametrize("name", ["linear-per-channel", "add-pairs", "relu-levels", "max_pool2d-same", "linear-ties"])
def test_levels_of_uint8_are_the_same_numbers(name):
    vector = VECTORS[name]
    unsigned = vector.unsigned
    assert (unsigned.output.dtype, unsigned.unsigned.output) == ("uint8", unsigned.output)
    assert all(one.levels.dtype == np.uint8 for one in unsigned.operands)
    due = levels(sums(vector), vector.output, Rounding.HALF_EVEN)
    found = levels(sums(unsigned), unsigned.output, Rounding.HALF_EVEN)
    assert found.dtype == np.uint8
    assert np.array_equal(unsigned.as_asked(found), found)  # what is uint8 already stays
    assert np.array_equal(vector.as_asked(found), due)


@pytest.mark.parametrize("name", ["linear-per-tensor", "conv2d-depthwise-per-channel", "linear-ties", "cat-other"])
def test_programs_that_are_lowered_are_the_vectors(name):
    """With a scale for each channel, a bias of int32, and levels of uint8, as each lowering wants them."""
    import torch

    from pt2e_ci.engines.lowered import Between, floats_of, quantize

    vector = VECTORS[name].unsigned
    program = Between(vector, by_channel=True, int32_bias=True)
    with torch.no_grad():
        found = quantize(program(*floats_of(vector)), vector.output)
    result = compare(VECTORS[name], VECTORS[name].as_asked(found.numpy()))
    assert (result.outcome, result.max) == (Outcome.PASS, int(result.wrong > 0))
