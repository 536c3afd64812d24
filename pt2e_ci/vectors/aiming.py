"""Levels that tell most: on both sides of each boundary, and numbers that are the same wherever they are drawn."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from pt2e_ci.exact.schemes import Rounding
from pt2e_ci.vectors.arithmetic import boundaries

if TYPE_CHECKING:
    from fractions import Fraction

    from pt2e_ci.vectors.vector import Array, Grid


_ATTEMPTS = 16
"""From so many places it is tried to come to a target."""


def drawn(name: str, shape: tuple[int, ...], low: int = -128, high: int = 127) -> Array:
    """Return whole numbers from `low` to `high`, int64: what a hash makes of a name, on every machine and numpy."""
    count = int(np.prod(shape))
    words = np.frombuffer(hashlib.shake_256(name.encode()).digest(4 * count), dtype="<u4").astype(np.int64)
    return (words % (high - low + 1) + low).reshape(shape)


def beside_boundaries(unit: Fraction, grid: Grid, least: int, most: int) -> Array:
    """Return the whole numbers on both sides of each boundary, of those from `least` to `most`."""
    begins = np.array(boundaries(unit, grid, Rounding.HALF_EVEN), dtype=np.int64)
    # A tie may belong to either side: the one before it and the one after it settle what is due to each.
    wanted = np.unique(np.stack([begins - 2, begins - 1, begins, begins + 1]))
    return wanted[(wanted >= least) & (wanted <= most)]


def aimed(weights: Array, targets: Array, low: int, high: int, name: str) -> Array:
    """Return whole numbers from `low` to `high` whose product with the weights comes as near to a target as it can.

    Args:
        weights: whole numbers, (K,).
        targets: what the products should be, (M,).
        low: the least number.
        high: the largest.
        name: what the numbers are drawn by that a target leaves open.

    Returns:
        (M, K), int64.

    """
    found = np.zeros((len(targets), len(weights)), dtype=np.int64)
    distance = np.full(len(targets), np.iinfo(np.int64).max)
    order = np.argsort(-np.abs(weights), kind="stable")
    for attempt in range(_ATTEMPTS):
        left = distance.nonzero()[0]
        tried = drawn(f"{name} {attempt}", (len(left), len(weights)), low, high)
        rest = targets[left] - tried @ weights
        for place in [*order, *order]:
            if weights[place]:
                moved = np.clip(tried[:, place] + np.rint(rest / weights[place]).astype(np.int64), low, high)
                rest -= (moved - tried[:, place]) * weights[place]
                tried[:, place] = moved
        nearer = np.abs(rest) < distance[left]
        found[left[nearer]], distance[left[nearer]] = tried[nearer], np.abs(rest)[nearer]
    return found


def rows_beside(kernels: Array, bias: Array, units: list[Fraction], grid: Grid, out: Grid, name: str) -> Array:
    """Return rows of levels whose products with kernels are on both sides of each boundary, kernel after kernel.

    Args:
        kernels: whole numbers, (N, K).
        bias: what is added to each kernel's products, (N,).
        units: the real number that one of a kernel's products stands for.
        grid: the grid of the levels.
        out: the grid of the result.
        name: what the levels are drawn by that a boundary leaves open.

    Returns:
        (M, K), int64.

    """
    low, high = grid.low - grid.zero_point, grid.high - grid.zero_point
    rows = []
    for index, (kernel, start, unit) in enumerate(zip(kernels, bias.tolist(), units, strict=True)):
        ends = np.stack([kernel * low, kernel * high])
        least, most = int(ends.min(0).sum()) + start, int(ends.max(0).sum()) + start
        targets = beside_boundaries(unit, out, least, most)
        rows.append(aimed(kernel, targets - start, low, high, f"{name} {index}"))
    return np.concatenate(rows) + grid.zero_point
