"""The vectors that come with the package. They depend on no observer, no torch and no machine: their bytes are one.

Scales are float32's, so that every engine can be given them as they are: short ones, of which many results lie halfway
between two levels, and real ones.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from pt2e_ci.vectors.aiming import drawn, rows_beside
from pt2e_ci.vectors.vector import Grid, Operand, Vector, Weight

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pt2e_ci.vectors.vector import Array, Option


def real(text: str) -> Fraction:
    """Return the float32 that is nearest to a number."""
    return Fraction(float(np.float32(text)))


HALF, ONE = Fraction(1, 2), Fraction(1)
# An odd zero point tells a tie that goes to the even number of steps from one that goes to the even level.
TIES = Grid(HALF, 3), Grid(ONE, 5), Grid(ONE, -3)
A, B, OUT = Grid(real("0.0371"), -17), Grid(real("0.0213"), 42), Grid(real("0.0502"), -9)
ACTIVATION = Grid(real("0.031"), -23)
SCALES = tuple(real(text) for text in ("0.0113", "0.00271", "0.0196", "0.00734"))
KERNEL = (1, -2, 11, 127, -119, 83, 45, -64, 29)
"""A kernel by which every whole number within its reach can be hit."""


def catalogue() -> list[Vector]:
    """Return the vectors, of all operators."""
    return [*_pairs(), *_contractions(), *_of_one_value(), *_pools(), *_joins()]


def int8(levels: Array) -> Array:
    """Return levels as they are stored."""
    return np.ascontiguousarray(levels.astype(np.int8))


def _all_pairs() -> tuple[Array, Array]:
    levels = np.arange(-128, 128)
    first, second = np.meshgrid(levels, levels, indexing="ij")
    return int8(first), int8(second)


def _pairs() -> Iterator[Vector]:
    grids = {
        "pairs": ("all pairs of levels", (A, B, OUT)),
        "ties": ("all pairs, many of them ties", TIES),
        "same": ("all pairs, on one grid", (A, A, A)),
    }
    for operator, (name, (about, (a, b, out))) in product(("add", "sub", "mul", "maximum", "minimum"), grids.items()):
        x, y = _all_pairs()
        if operator == "mul" and name != "ties":
            out = Grid(real(str(float(a.scale * b.scale * 129))), out.zero_point)  # all of its levels are used
        yield Vector(f"{operator}-{name}", operator, about, (Operand(x, a), Operand(y, b)), out)


def _linear(name: str, about: str, x: Array, grid: Grid, weight: Weight, bias: Any, out: Grid) -> Vector:
    levels = None if bias is None else np.asarray(bias, dtype=np.int32)
    return Vector(name, "linear", about, (Operand(int8(x), grid),), out, weight=weight, bias=levels)


def _contractions() -> Iterator[Vector]:
    count = len(SCALES)
    kernels = np.stack([np.roll(KERNEL, shift) for shift in range(count)])
    bias = np.array([1021, -2903, 77, 0])
    for name, scales in (("per-tensor", SCALES[:1]), ("per-channel", SCALES)):
        units = [ACTIVATION.scale * scale for scale in scales * (count // len(scales))]
        out = Grid(real("0.171"), 11)
        rows = rows_beside(kernels, bias, units, ACTIVATION, out, f"contraction {name}")
        weight = Weight(int8(kernels), scales)
        about = f"sums on both sides of each boundary, weights {name.replace('-', ' ')}"
        yield _linear(f"linear-{name}", about, rows, ACTIVATION, weight, bias, out)
        weight = Weight(int8(kernels.reshape(count, 1, 3, 3)), scales)
        for operator, groups in (("conv2d", 1), ("conv2d-depthwise", count)):
            images = rows.reshape(-1, 1, 3, 3).repeat(groups, 1)
            yield _conv(f"{operator}-{name}", about, images, ACTIVATION, weight, bias, out, groups)
    x = drawn("padded", (2, 8, 9, 9))
    weight = Weight(int8(drawn("padded weight", (4, 8, 3, 3), -127)), SCALES)
    yield _conv(
        "conv2d-padded", "full ranges, padding and stride", x, ACTIVATION, weight, bias, Grid(real("1.9"), 7), 1,
        padding=1, stride=2,
    )  # fmt: skip
    ties = Grid(HALF, 3)
    few = Weight(int8(drawn("few", (16, 16), -2, 2)), (HALF,))
    yield _linear(
        "linear-ties", "half of the sums are ties", drawn("ties", (256, 16), -8, 7), ties, few, None, Grid(HALF, -1)
    )
    few = Weight(int8(drawn("few 3x3", (8, 8, 3, 3), -1, 1)), (HALF,))
    images = drawn("tied images", (2, 8, 10, 10), -8, 7)
    yield _conv("conv2d-ties", "half of the sums are ties", images, ties, few, None, Grid(HALF, -1), 1, padding=1)
    yield from _saturating()
    yield from _products()


def _conv(
    name: str, about: str, x: Array, grid: Grid, weight: Weight, bias: Any, out: Grid, groups: int, **options: Option
) -> Vector:
    levels = None if bias is None else np.asarray(bias, dtype=np.int32)
    given = {"stride": 1, "padding": 0, "groups": groups} | options
    return Vector(name, "conv2d", about, (Operand(int8(x), grid),), out, given, weight, levels)


def _saturating() -> Iterator[Vector]:
    """Yield sums that leave 16 bits, of two products even, and 32 bits."""
    signs = np.array([[1, 1, 1, 1], [-1, -1, -1, -1], [1, -1, 1, -1], [1, 1, -1, -1]]).repeat(8, 1)
    full = Weight(int8(signs * 127), (real("0.01"),))
    x = np.concatenate([np.full((1, 32), 127), np.full((1, 32), -128), drawn("full", (62, 32))])
    grid, out = Grid(real("0.02"), -128), Grid(real("1.7"), 0)
    yield _linear("linear-16-bits", "two products leave 16 bits", x, grid, full, None, out)
    images, kernels = x.reshape(64, 8, 2, 2), full.levels.reshape(4, 8, 2, 2)
    weight = Weight(kernels, full.scales)
    yield _conv("conv2d-16-bits", "two products leave 16 bits", images, grid, weight, None, out, 1)
    edge = np.array([2**31 - 1 - 300_000, -(2**31) + 300_000, 2**30, 0])
    out = Grid(real("160000"), 0)
    yield _linear("linear-32-bits", "the bias takes sums to the ends of 32 bits", x, grid, full, edge, out)


def _products() -> Iterator[Vector]:
    """Yield products of two matrices that are both given."""
    second = np.stack([np.roll(KERNEL, shift) for shift in range(4)], 1)
    kernels = np.ascontiguousarray(second.T)
    unit = ACTIVATION.scale * A.scale
    out = Grid(real("0.51"), 11)
    flat = np.zeros(4, dtype=np.int64)
    rows = rows_beside(kernels, flat, [unit] * 4, ACTIVATION, out, "matmul")
    around_zero = Grid(A.scale, 0)  # as engines take a second matrix that they see as a weight
    operands = Operand(int8(rows), ACTIVATION), Operand(int8(second), around_zero)
    yield Vector("matmul-boundaries", "matmul", "sums on both sides of each boundary", operands, out)


def _of_one_value() -> Iterator[Vector]:
    levels = np.arange(-128, 128).reshape(16, 16)
    wide = Grid(real("0.0431"), -11)
    operators: dict[str, tuple[dict[str, Option], Grid]] = {
        "requantize": ({}, Grid(real("0.0337"), 9)),
        "relu": ({}, Grid(real("0.0173"), -128)),
        "hardtanh": ({"min_val": 0.0, "max_val": 6.0}, Grid(real("0.02353"), -128)),
        "leaky_relu": ({"negative_slope": 0.125}, Grid(real("0.0399"), 5)),
        "hardsigmoid": ({}, Grid(Fraction(1, 256), -128)),
        "hardswish": ({}, Grid(real("0.0227"), -111)),
    }
    for operator, (options, out) in operators.items():
        given = (Operand(int8(levels), wide),)
        yield Vector(f"{operator}-levels", operator, "all levels", given, out, options)
    for operator in ("requantize", "relu"):
        given = (Operand(int8(levels), Grid(HALF, 3)),)
        yield Vector(f"{operator}-ties", operator, "all levels, half of them ties", given, Grid(ONE, -3), {})


def _pools() -> Iterator[Vector]:
    full = drawn("images", (2, 4, 12, 12))
    windows: dict[str, Option] = {"kernel_size": 2, "stride": 2}
    for name, out in (("same", ACTIVATION), ("other", Grid(real("0.0277"), 12))):
        about = "full range, " + ("one grid" if name == "same" else "another grid")
        yield Vector(f"max_pool2d-{name}", "max_pool2d", about, (Operand(int8(full), ACTIVATION),), out, windows)
        for operator, size in (("avg_pool2d", 2), ("mean", 5)):
            count = size * size
            ones, zero = np.ones((1, count), dtype=np.int64), np.zeros(1, dtype=np.int64)
            rows = rows_beside(ones, zero, [ACTIVATION.scale / count], ACTIVATION, out, f"{operator} {name}")
            images = rows.reshape(-1, 1, size, size)
            options = {"kernel_size": size, "stride": size} if operator == "avg_pool2d" else {}
            about = "sums on both sides of each boundary, " + ("one grid" if name == "same" else "another grid")
            yield Vector(f"{operator}-{name}", operator, about, (Operand(int8(images), ACTIVATION),), out, options)


def _joins() -> Iterator[Vector]:
    levels = np.arange(-128, 128).reshape(16, 16)
    dim: dict[str, Option] = {"dim": 1}
    for name, grids in (("same", (A, A, A)), ("other", (A, B, OUT)), ("ties", TIES)):
        operands = tuple(Operand(int8(levels), grid) for grid in grids[:2])
        yield Vector(f"cat-{name}", "cat", "all levels of both", operands, grids[2], dim)
