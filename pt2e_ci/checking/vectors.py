"""The quantized operators of a model as vectors, on levels that tell most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pt2e_ci.cells.capabilities import quietly
from pt2e_ci.cells.cell import current_cell
from pt2e_ci.checking.api import converted_here
from pt2e_ci.checking.file import read_file
from pt2e_ci.checking.forms import ONE_VALUE, PAIRS, NoVectorError, form_of
from pt2e_ci.checking.question import question
from pt2e_ci.program.segments import Reading
from pt2e_ci.program.trace import run, trace
from pt2e_ci.vectors.aiming import rows_beside

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.fx import Node

    from pt2e_ci.checking.forms import Form
    from pt2e_ci.program.segments import QuantizedOperator
    from pt2e_ci.vectors.vector import Array, Vector

_BESIDE = "sums on both sides of each boundary, as near as the weights allow"


def vectors_of(target: str) -> tuple[list[Vector], list[str]]:
    """Return the quantized operators of a file's model as vectors, and a line on each that has no such form.

    Args:
        target: ``FILE`` or ``FILE:NAME``, as `pt2e-ci check` takes it.

    Raises:
        InputError: the file, or what it gives, will not do; or a stage of the flow raised.

    """
    asked = question(**read_file(target))
    with quietly():
        qdq = converted_here(asked, current_cell())
        reading = Reading(qdq)
        kept = run(qdq, asked.calls[0], [one.quantize.node for one in reading.levels], trace(qdq, asked.calls[0])).kept
    found, left = [], []
    for operator in reading.operators:
        try:
            found.append(_vector(operator, kept))
        except NoVectorError as error:
            left.append(f"{operator.node.name} is left out: {error}")
    return found, left


def _vector(operator: QuantizedOperator, kept: Mapping[Node, Any]) -> Vector:
    form = form_of(operator)
    if any(one.is_moved for one in operator.activations):
        raise NoVectorError("an operand is moved on its way")
    kind, grid = form.vector.operator, form.grids[0]
    if form.vector.weight is not None:
        return _contraction(form)
    if kind in PAIRS:
        columns = [np.arange(one.low, one.high + 1) for one in form.grids]
        return form.on(np.meshgrid(*columns, indexing="ij"), "all pairs of levels")
    if kind in ONE_VALUE:
        return form.on([np.arange(grid.low, grid.high + 1)[None]], "all levels")
    levels = [_levels(kept, one.source) for one in operator.activations]
    if kind == "mean":
        form.as_run(levels)  # which takes images alone
        return form.on([_means(form, levels[0].shape[2:])], "sums on both sides of each boundary")
    return form.on(levels, "the levels of the first input")


def _levels(kept: Mapping[Node, Any], source: Node) -> Array:
    if source not in kept:
        raise NoVectorError("an operand's levels are given from outside")
    return np.asarray(kept[source].numpy())


def _contraction(form: Form) -> Vector:
    vector, (grid,) = form.vector, form.grids
    weight: Any = vector.weight
    kernels = weight.levels.reshape(len(weight.levels), -1).astype(np.int64)
    rows = rows_beside(kernels, np.asarray(vector.bias), [*form.units], grid, vector.output, vector.name)
    if vector.operator == "linear":
        return form.on([rows], _BESIDE)
    channels, *kernel = weight.levels.shape[1:]
    images = rows.reshape(-1, channels, *kernel).repeat(int(str(vector.options["groups"])), 1)
    options = {**vector.options, "stride": 1, "padding": 0}
    return form.on([images], f"images of the kernel's size: {_BESIDE}", options=options)


def _means(form: Form, size: tuple[int, ...]) -> Array:
    (grid,), count = form.grids, size[0] * size[1]
    ones, no_bias = np.ones((1, count), dtype=np.int64), np.zeros(1, dtype=np.int64)
    rows = rows_beside(ones, no_bias, [grid.scale / count], grid, form.vector.output, form.vector.name)
    return np.asarray(rows.reshape(-1, 1, *size))
