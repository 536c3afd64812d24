"""The smallest part of a model that shows where a device is off: the fewest operators, and the fewest levels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pt2e_ci.cells.capabilities import quietly
from pt2e_ci.cells.cell import current_cell
from pt2e_ci.cells.engines import place_of_engine
from pt2e_ci.checking.api import converted_here
from pt2e_ci.checking.devices import Device, apart, walk
from pt2e_ci.checking.file import read_file
from pt2e_ci.checking.forms import ONE_VALUE, PAIRS
from pt2e_ci.checking.question import question
from pt2e_ci.engines.running import Worker
from pt2e_ci.program.segments import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch.fx import Node

    from pt2e_ci.checking.devices import Walk
    from pt2e_ci.vectors.vector import Array, Vector


@dataclass(frozen=True)
class Shown:
    """One operator on some levels.

    Attributes:
        vector: the operator, and its operands.
        own: what the simulation gives for them.
        place: where the device is furthest off.

    """

    vector: Vector
    own: Array
    place: tuple[int, ...]


@dataclass(frozen=True)
class Reduced:
    """Operators in a row after which a device is off, all before being the simulation's.

    Attributes:
        vectors: one for each, on the levels that it had.
        lsb: how far off the device is after the last.
        source: the line of the user's source of the last.

    """

    vectors: list[Vector]
    lsb: int
    source: str | None


def reduce(target: str, engine: str, least: int) -> Reduced | None:
    """Reduce a file's model to the least that shows where an engine is off.

    Args:
        target: ``FILE`` or ``FILE:NAME``, as `pt2e-ci check` takes it.
        engine: its name, or ``module:name``.
        least: the LSB from which levels count as off.

    Returns:
        None where the engine's levels are off nowhere on the file's first input.

    Raises:
        InputError: the file, or what it gives, will not do; or the engine cannot be started.

    """
    asked, where = question(**read_file(target)), place_of_engine(engine)
    with quietly():
        reading = Reading(converted_here(asked, current_cell()))
        with Worker(where) as worker:
            device = Device(reading, worker)
            found = _row(reading, asked.calls[0], device, least)
            if found is None:
                return None
            nodes, shown, alone = found
            vectors = [device.forms[node][1].as_run(shown.operands[node]) for node in nodes]
            if len(nodes) == 1:
                vectors = [_smallest(vectors[0], shown.given[nodes[0]], shown.levels[nodes[0]], device, least)]
    last = nodes[-1]
    return Reduced(vectors, _off(shown, alone, last), device.forms[last][0].source)


def _off(shown: Walk, alone: Walk, node: Node) -> int:
    return apart(shown.given[node], alone.levels[node]) if node in shown.given else 0


def _row(reading: Reading, inputs: Sequence[Any], device: Device, least: int) -> tuple[list[Node], Walk, Walk] | None:
    """Find one operator that is off alone; or else the shortest row up to the first that is off in the chain."""
    alone = walk(reading, inputs, device)
    for node in alone.given:
        if _off(alone, alone, node) >= least:
            return [node], alone, alone
    chain = walk(reading, inputs, device, device.forms)
    last = next((node for node in chain.given if _off(chain, alone, node) >= least), None)
    if last is None:
        return None
    order = [*chain.given]
    end = order.index(last) + 1
    for first in range(end - 2, 0, -1):
        row = order[first:end]
        found = walk(reading, inputs, device, row)
        if _off(found, alone, last) >= least:
            return row, found, alone
    return order[:end], chain, alone


def _smallest(vector: Vector, given: Array, own: Array, device: Device, least: int) -> Vector:
    """Take levels away as long as the device is off on what is left, which is tried: a kernel may go by sizes."""
    shape = _shape(vector, own)
    distance = np.abs(given.astype(np.int64) - own.astype(np.int64)).reshape(shape)
    place = np.unravel_index(int(distance.argmax()), shape)
    shown = Shown(vector, own.reshape(shape), tuple(int(one) for one in place))
    for step in (_one_image, _one_channel, _one_window, _one_value):
        smaller = step(shown)
        answer = device.run(smaller.vector)
        if isinstance(answer, str) or answer.levels.size != smaller.own.size:
            continue
        if apart(answer.levels.reshape(smaller.own.shape), smaller.own) >= least:
            shown = smaller
    return shown.vector


def _shape(vector: Vector, own: Array) -> tuple[int, ...]:
    """Return the shape of a vector's result."""
    return (-1, own.shape[-1]) if vector.operator == "linear" else own.shape


def _with(shown: Shown, change: Callable[[Array], Array], own: Array, place: tuple[int, ...], **more: Any) -> Shown:
    operands = tuple(replace(one, levels=change(one.levels)) for one in shown.vector.operands)
    return Shown(replace(shown.vector, operands=operands, **more), own, place)


def _one_image(shown: Shown) -> Shown:
    """Keep one of a batch."""
    vector, (first, *rest) = shown.vector, shown.place
    if vector.operator in PAIRS or vector.operator in ONE_VALUE or _joins_batches(vector):
        return shown
    kept = slice(first, first + 1)
    return _with(shown, lambda levels: levels[kept], shown.own[kept], (0, *rest))


def _joins_batches(vector: Vector) -> bool:
    return vector.operator == "cat" and int(str(vector.options["dim"])) % vector.operands[0].levels.ndim == 0


def _one_channel(shown: Shown) -> Shown:
    """Keep one of a contraction's output channels, with the input channels that it takes."""
    vector, weight, bias = shown.vector, shown.vector.weight, shown.vector.bias
    if weight is None:
        return shown
    channel, groups = shown.place[1], int(str(vector.options.get("groups", 1)))
    kept, width = slice(channel, channel + 1), weight.levels.shape[1]
    group = channel // (len(weight.levels) // groups)
    scales = weight.scales[kept] if len(weight.scales) > 1 else weight.scales
    made = replace(weight, levels=weight.levels[kept], scales=scales)
    options = {**vector.options, "groups": 1} if "groups" in vector.options else vector.options
    return _with(
        shown,
        lambda levels: levels[:, group * width : (group + 1) * width],
        shown.own[:, kept],
        (0, 0, *shown.place[2:]),
        weight=made,
        bias=None if bias is None else bias[kept],
        options=options,
    )


def _one_window(shown: Shown) -> Shown:
    """Keep what one element of a convolution's or a pooling's result is made of."""
    vector, place = shown.vector, shown.place
    if vector.operator not in ("conv2d", "max_pool2d", "avg_pool2d"):
        return shown
    size: Any = vector.weight.levels.shape[2:] if vector.weight else (vector.options["kernel_size"],) * 2
    padding, stride = int(str(vector.options.get("padding", 0))), int(str(vector.options["stride"]))
    point = vector.operands[0].grid.zero_point

    def cut(levels: Array) -> Array:
        padded = np.pad(levels, ((0, 0), (0, 0), *[(padding, padding)] * 2), constant_values=point)
        high, left = place[2] * stride, place[3] * stride
        return np.ascontiguousarray(padded[:, :, high : high + size[0], left : left + size[1]])

    options = {**vector.options, **({"padding": 0} if "padding" in vector.options else {})}
    element = shown.own[..., place[2] : place[2] + 1, place[3] : place[3] + 1]
    return _with(shown, cut, element, (*place[:2], 0, 0), options=options)


def _one_value(shown: Shown) -> Shown:
    """Keep one value of each operand, where the result is made value by value."""
    if shown.vector.operator not in PAIRS | ONE_VALUE.keys():
        return shown
    return _with(shown, lambda levels: levels[shown.place].reshape(1, 1), shown.own[shown.place].reshape(1, 1), (0, 0))
