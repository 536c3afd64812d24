"""A second computation of a Q/DQ program, to hold the oracle against: Python's fractions, one element at a time.

It shares nothing with `pt2e_ci.exact` and knows no tensors: an array is a shape and a list of numbers.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction

import mpmath
import torch
from torch.fx import Interpreter


@dataclass(frozen=True)
class Array:
    shape: tuple[int, ...]
    values: tuple

    def at(self, *index):
        place = 0
        for size, position in zip(self.shape, index, strict=True):
            place = place * size + position
        return self.values[place]

    @classmethod
    def of(cls, tensor):
        return cls(tuple(tensor.shape), tuple(Fraction(value) for value in tensor.flatten().tolist()))

    @classmethod
    def made(cls, shape, function):
        return cls(tuple(shape), tuple(function(*index) for index in itertools.product(*map(range, shape))))

    def each(self, function):
        return Array(self.shape, tuple(function(value) for value in self.values))


def broadcast(a, b, function):
    a, b = (Array.of(one) if isinstance(one, torch.Tensor) else one for one in (a, b))
    shape = torch.broadcast_shapes(a.shape, b.shape)

    def pick(array, index):
        own = index[len(index) - len(array.shape) :]
        return array.at(*(0 if size == 1 else position for size, position in zip(array.shape, own, strict=True)))

    return Array.made(shape, lambda *index: function(pick(a, index), pick(b, index)))


def pair(value):
    values = [value] if isinstance(value, int) else list(value)
    return values * 2 if len(values) == 1 else values


def quantize(x, scale, zero_point, low, high, _dtype=None):
    if not isinstance(x, Array):
        x = Array.of(x)
    scale, zero_point = Fraction(float(scale)), int(zero_point)
    return x.each(lambda value: max(low, min(high, round(value / scale) + zero_point)))


def dequantize(levels, scale, zero_point, *_):
    if isinstance(levels, torch.Tensor):
        levels = Array.of(levels)
    scale, zero_point = Fraction(float(scale)), int(zero_point)
    return levels.each(lambda level: (level - zero_point) * scale)


def dequantize_per_channel(levels, scales, zero_points, axis, *_):
    levels = Array.of(levels)
    scales, zero_points = [Fraction(scale) for scale in scales.tolist()], zero_points.tolist()
    return Array.made(levels.shape, lambda *index: (levels.at(*index) - zero_points[index[axis]]) * scales[index[axis]])


def in_blocks(array, sizes, parameters):
    """Return, for each index, the parameter of its block."""
    counts = [length // size for length, size in zip(array.shape, sizes, strict=True)]
    values = parameters.flatten().tolist()

    def pick(index):
        place = 0
        for count, position, size in zip(counts, index, sizes, strict=True):
            place = place * count + position // size
        return Fraction(values[place])

    return pick


def quantize_affine(x, sizes, scale, zero_point, _dtype, low, high):
    scales, zero_points = in_blocks(x, sizes, scale), in_blocks(x, sizes, zero_point)
    return Array.made(
        x.shape,
        lambda *index: max(low, min(high, round(x.at(*index) / scales(index)) + int(zero_points(index)))),
    )


def dequantize_affine(levels, sizes, scale, zero_point, *_):
    levels = Array.of(levels) if isinstance(levels, torch.Tensor) else levels
    scales, zero_points = in_blocks(levels, sizes, scale), in_blocks(levels, sizes, zero_point)
    return Array.made(levels.shape, lambda *index: (levels.at(*index) - zero_points(index)) * scales(index))


def whole(values):
    """Return fractions as whole numbers of one unit, in which they add up faster."""
    unit = math.lcm(*(value.denominator for value in values))
    return [int(value * unit) for value in values], unit


def linear(x, weight, bias=None):
    rows, inner = weight.shape
    columns = [whole(weight.values[row * inner : (row + 1) * inner]) for row in range(rows)]
    values = []
    for start in range(0, len(x.values), inner):
        part, unit = whole(x.values[start : start + inner])
        for row, (column, unit_of_column) in enumerate(columns):
            total = Fraction(sum(a * b for a, b in zip(part, column, strict=True)), unit * unit_of_column)
            values.append(total + (Fraction(float(bias[row])) if bias is not None else 0))
    return Array((*x.shape[:-1], rows), tuple(values))


def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    weight = Array.of(weight) if isinstance(weight, torch.Tensor) else weight
    stride, dilation = map(pair, (stride, dilation))
    outer, inner, *kernel = weight.shape
    reach = [dilation[axis] * (kernel[axis] - 1) for axis in (0, 1)]
    # Of an odd number of zeros, the one more comes at the end.
    ends = (
        [(sum(divmod(one, 2)), one) for one in reach]
        if padding == "same"
        else [(one, 2 * one) for one in pair(padding)]
    )
    padding = [both - last if padding == "same" else last for last, both in ends]
    sizes = [(x.shape[axis + 2] + ends[axis][1] - reach[axis] - 1) // stride[axis] + 1 for axis in (0, 1)]

    def one(n, channel, row, column):
        total = Fraction(0) if bias is None else Fraction(float(bias[channel]))
        first = channel // (outer // groups) * inner
        for k, i, j in itertools.product(range(inner), range(kernel[0]), range(kernel[1])):
            y = row * stride[0] - padding[0] + i * dilation[0]
            z = column * stride[1] - padding[1] + j * dilation[1]
            if 0 <= y < x.shape[2] and 0 <= z < x.shape[3]:
                total += x.at(n, first + k, y, z) * weight.at(channel, k, i, j)
        return total

    return Array.made((x.shape[0], outer, *sizes), one)


def windows(x, kernel, stride, padding, function, dilation=1, ceil_mode=False):
    kernel, padding, dilation = pair(kernel), pair(padding), pair(dilation)
    stride = pair(stride) if stride else kernel
    sizes = []
    for axis in (0, 1):
        room = x.shape[axis + 2] + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1
        count = (-(-room // stride[axis]) if ceil_mode else room // stride[axis]) + 1
        # A window begins within the tensor or what is padded before it.
        sizes.append(count - ((count - 1) * stride[axis] >= x.shape[axis + 2] + padding[axis]))

    def one(n, channel, row, column):
        tops = [row * stride[0] - padding[0], column * stride[1] - padding[1]]
        return function(
            [
                x.at(n, channel, y, z)
                for y in range(tops[0], tops[0] + dilation[0] * kernel[0], dilation[0])
                for z in range(tops[1], tops[1] + dilation[1] * kernel[1], dilation[1])
                if 0 <= y < x.shape[2] and 0 <= z < x.shape[3]
            ]
        )

    return Array.made((*x.shape[:2], *sizes), one)


def conv1d(x, weight, bias=None, stride=(1,), padding=(0,), dilation=(1,), groups=1):
    x, weight = (Array((*one.shape[:2], 1, one.shape[2]), one.values) for one in (x, weight))
    found = conv2d(x, weight, bias, (1, *stride), (0, *padding), (1, *dilation), groups)
    return Array((*found.shape[:2], found.shape[3]), found.values)


def conv3d(x, weight, bias=None, stride=(1, 1, 1), padding=(0, 0, 0), *_):
    kernel = weight.shape[2:]
    sizes = [(x.shape[axis + 2] + 2 * padding[axis] - kernel[axis]) // stride[axis] + 1 for axis in range(3)]

    def one(n, channel, *place):
        total = Fraction(0) if bias is None else Fraction(float(bias[channel]))
        for k, *at in itertools.product(range(weight.shape[1]), *map(range, kernel)):
            index = [place[axis] * stride[axis] - padding[axis] + at[axis] for axis in range(3)]
            if all(0 <= index[axis] < x.shape[axis + 2] for axis in range(3)):
                total += x.at(n, k, *index) * weight.at(channel, k, *at)
        return total

    return Array.made((x.shape[0], weight.shape[0], *sizes), one)


def conv_transpose2d(x, weight, bias=None, stride=(1, 1), padding=(0, 0), *_):
    """Each number of the input is added to a window of the result, times the kernel."""
    kernel = weight.shape[2:]
    sizes = [(x.shape[axis + 2] - 1) * stride[axis] - 2 * padding[axis] + kernel[axis] for axis in (0, 1)]
    sums = {}
    for n, k, row, column in itertools.product(*map(range, x.shape)):
        for channel, i, j in itertools.product(range(weight.shape[1]), *map(range, kernel)):
            place = (n, channel, row * stride[0] - padding[0] + i, column * stride[1] - padding[1] + j)
            sums[place] = sums.get(place, 0) + x.at(n, k, row, column) * weight.at(k, channel, i, j)
    shape = (x.shape[0], weight.shape[1], *sizes)
    return Array.made(shape, lambda *at: sums.get(at, 0) + (0 if bias is None else Fraction(float(bias[at[1]]))))


def matmul(a, b):
    def one(*index):
        *batch, row, column = index
        return sum(a.at(*batch, row, k) * b.at(*batch, k, column) for k in range(a.shape[-1]))

    return Array.made((*a.shape[:-1], b.shape[-1]), one)


def avg_pool1d(x, kernel, stride=(), padding=(0,), *_):
    """Zeros that are padded count."""
    (kernel,), (padding,) = kernel, padding
    (stride,) = stride or (kernel,)
    count = (x.shape[2] + 2 * padding - kernel) // stride + 1

    def one(n, channel, place):
        first = place * stride - padding
        inside = [x.at(n, channel, at) for at in range(first, first + kernel) if 0 <= at < x.shape[2]]
        return sum(inside) / Fraction(kernel)

    return Array.made((*x.shape[:2], count), one)


def adaptive_avg_pool1d(x, size):
    found = adaptive_avg_pool2d(Array((*x.shape[:2], 1, x.shape[2]), x.values), (1, *size))
    return Array((*x.shape[:2], *size), found.values)


def total(x, dims, keepdim=False):
    count = math.prod(x.shape[dim] for dim in dims)
    return mean(x, dims, keepdim).each(lambda value: value * count)


def stack(arrays, dim=0):
    def grown(array):
        return Array((*array.shape[:dim], 1, *array.shape[dim:]), array.values)

    return cat([grown(array) for array in arrays], dim)


def by_mpmath(function):
    """Return a function of one number, to a multiple of 2^-100, as is declared; an infinity is 2^200."""

    def one(value, *options):
        with mpmath.workprec(500):
            try:
                found = function(mpmath.mpf(value.numerator) / value.denominator, *options)
            except ZeroDivisionError:
                return Fraction(2) ** 200
            if mpmath.isinf(found):
                return Fraction(2) ** 200 * int(mpmath.sign(found))
            return Fraction(int(mpmath.nint(mpmath.ldexp(found, 100))), 2**100)

    return lambda x, *options, **_: x.each(lambda value: one(value, *options))


def max_pool2d(x, kernel, stride=(), padding=0, dilation=1, ceil_mode=False):
    return windows(x, kernel, stride, padding, max, dilation, ceil_mode)


def avg_pool2d(x, kernel, stride=(), padding=0, ceil_mode=False, *_):
    if padding and not ceil_mode:  # zeros that are padded count
        return windows(x, kernel, stride, padding, lambda values: sum(values) / Fraction(math.prod(pair(kernel))))
    return windows(x, kernel, stride, 0, lambda values: sum(values) / len(values))


def adaptive_avg_pool2d(x, size):
    def bounds(length, count, index):
        return range(index * length // count, math.ceil(Fraction((index + 1) * length, count)))

    def one(n, channel, row, column):
        found = [
            x.at(n, channel, y, z)
            for y in bounds(x.shape[2], size[0], row)
            for z in bounds(x.shape[3], size[1], column)
        ]
        return sum(found) / len(found)

    return Array.made((*x.shape[:2], *size), one)


def mean(x, dims, keepdim=False):
    over = {dim % len(x.shape) for dim in dims}
    kept = Array.made(
        [1 if axis in over else size for axis, size in enumerate(x.shape)],
        lambda *index: (
            sum(x.at(*one) for one in along(x.shape, over, index)) / math.prod(x.shape[axis] for axis in over)
        ),
    )
    return kept if keepdim else Array(tuple(size for axis, size in enumerate(x.shape) if axis not in over), kept.values)


def along(shape, over, index):
    """Yield the places that differ from one in some dimensions alone."""
    return itertools.product(*(range(shape[axis]) if axis in over else [index[axis]] for axis in range(len(shape))))


def cat(arrays, dim=0):
    sizes = [array.shape[dim] for array in arrays]

    def one(*index):
        index, chosen = list(index), 0
        while index[dim] >= sizes[chosen]:
            index[dim] -= sizes[chosen]
            chosen += 1
        return arrays[chosen].at(*index)

    shape = list(arrays[0].shape)
    shape[dim] = sum(sizes)
    return Array.made(shape, one)


OPERATORS = {
    "quantize_per_tensor": quantize,
    "dequantize_per_tensor": dequantize,
    "dequantize_per_channel": dequantize_per_channel,
    "quantize_affine": quantize_affine,
    "dequantize_affine": dequantize_affine,
    "linear": linear,
    "conv2d": conv2d,
    "add": lambda x, y: broadcast(x, y, lambda a, b: a + b),
    "mul": lambda x, y: broadcast(x, y, lambda a, b: a * b),
    "relu": lambda x: x.each(lambda value: max(value, Fraction(0))),
    "hardtanh": lambda x, low=-1, high=1: x.each(lambda value: max(min(value, Fraction(high)), Fraction(low))),
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "adaptive_avg_pool2d": adaptive_avg_pool2d,
    "mean": mean,
    "cat": cat,
    "stack": stack,
    "sum": total,
    "avg_pool1d": avg_pool1d,
    "adaptive_avg_pool1d": adaptive_avg_pool1d,
    "conv1d": conv1d,
    "conv3d": conv3d,
    "conv_transpose2d": conv_transpose2d,
    "matmul": matmul,
    "mm": matmul,
    "bmm": matmul,
    "sub": lambda x, y: broadcast(x, y, lambda a, b: a - b),
    "rsub": lambda x, number: x.each(lambda value: Fraction(number) - value),
    "div": lambda x, number: x.each(lambda value: value / Fraction(number)),
    "maximum": lambda x, y: broadcast(x, y, max),
    "minimum": lambda x, y: broadcast(x, y, min),
    "clamp": lambda x, low, high: x.each(lambda value: max(min(value, Fraction(high)), Fraction(low))),
    "relu6": lambda x: x.each(lambda value: max(min(value, Fraction(6)), Fraction(0))),
    "neg": lambda x: x.each(lambda value: -value),
    "abs": lambda x: x.each(abs),
    "pow": lambda x, power: x.each(lambda value: value**power),
    "leaky_relu": lambda x, slope=0.01: x.each(lambda value: value if value > 0 else Fraction(slope) * value),
    "prelu": lambda x, slope: x.each(lambda value: value if value > 0 else Fraction(float(slope)) * value),
    "hardsigmoid": lambda x: x.each(lambda value: max(min(value + 3, Fraction(6)), Fraction(0)) / 6),
    "hardswish": lambda x: x.each(lambda value: value * max(min(value + 3, Fraction(6)), Fraction(0)) / 6),
    "reciprocal": lambda x: x.each(lambda value: 1 / value if value else Fraction(2) ** 200),
    "sigmoid": by_mpmath(lambda x: mpmath.exp(x) / (mpmath.exp(x) + 1)),
    "tanh": by_mpmath(lambda x: (mpmath.exp(2 * x) - 1) / (mpmath.exp(2 * x) + 1)),
    "silu": by_mpmath(lambda x: x * mpmath.exp(x) / (mpmath.exp(x) + 1)),
    "gelu": by_mpmath(lambda x: x * mpmath.ncdf(x)),
    "elu": by_mpmath(lambda x, alpha=1: x if x > 0 else alpha * (mpmath.exp(x) - 1)),
    "softplus": by_mpmath(lambda x: mpmath.log(1 + mpmath.exp(x))),
    "exp": by_mpmath(mpmath.exp),
    "log": by_mpmath(lambda x: mpmath.log(x) if x else -mpmath.inf),
    "sqrt": by_mpmath(lambda x: x ** mpmath.mpf("0.5")),
    "rsqrt": by_mpmath(lambda x: 1 / x ** mpmath.mpf("0.5")),
    "sin": by_mpmath(lambda x: mpmath.cos(x - mpmath.pi / 2)),
    "cos": by_mpmath(lambda x: mpmath.sin(x + mpmath.pi / 2)),
    "erf": by_mpmath(lambda x: 2 * mpmath.ncdf(x * mpmath.sqrt(2)) - 1),
    "clone": lambda x: x,
}


class OneByOne(Interpreter):
    """Runs a Q/DQ program; `levels` holds what each quantize node gave."""

    def __init__(self, program, runtime):
        super().__init__(program)
        self.runtime = runtime
        self.levels = {}

    def run_node(self, n):
        if n in self.runtime:
            return self.runtime[n]
        if n.op == "placeholder":
            value = super().run_node(n)
            limited = value.to(torch.float64).clamp(-(2.0**200), 2.0**200)
            return Array.of(limited)
        if n.op == "call_module":
            return None
        if n.op == "call_function":
            name = n.target._schema.name.rsplit("::", 1)[-1].rstrip("_") if hasattr(n.target, "_schema") else ""
            if name.startswith("choose_qparams"):
                return None
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            result = OPERATORS[name](*args, **kwargs)
            if name.startswith("quantize"):
                self.levels[n] = result
            return result
        return super().run_node(n)
