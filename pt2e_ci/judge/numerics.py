"""How far two programs' outputs are apart, in steps of each output's own grid.

Tensors are read in chunks, so that the memory needed does not grow with them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from msgspec import structs

from pt2e_ci.record import records

if TYPE_CHECKING:
    from collections.abc import Iterator

Unit = Literal["lsb", "absolute"]

# A chunk of two float32 tensors, and what is made of them on the way, stays in the processor's cache; a smaller one
# costs more in calls than it saves.
CHUNK = 1 << 17
# Outputs are float32: a whole number of steps comes back from the division with an error of a few 2^-24 of it.
_ON_GRID = 2.0**-8
# Two int8 levels differ by 255 at most; the last bin at each end also holds what lies beyond.
_LAST_BIN = 1024
_BINS = 2 * _LAST_BIN + 1


class Comparison:
    """Collects the differences of pairs of outputs, one pair after another.

    Differences in LSB are counted apart from those of outputs that are on no grid.
    """

    def __init__(self) -> None:
        self._lsb = _Statistics()
        self._absolute = _Statistics()
        self._bins = torch.zeros(_BINS, dtype=torch.int64)  # of differences that `_lsb` has taken
        self._whole_bins = torch.zeros(_BINS, dtype=torch.int64)  # of those that it has not, for all are whole
        self.off_grid = 0

    def add(self, actual: torch.Tensor, expected: torch.Tensor, steps: float | torch.Tensor | None = None) -> None:
        """Compare two tensors of one shape. `steps` is the output's grid, or None where it has none."""
        if isinstance(steps, torch.Tensor):
            steps = steps.expand(expected.shape)
        for a, b, step in _chunks(actual, expected, steps):
            if isinstance(step, float) and a.is_floating_point() and self._add_whole_steps(a, b, step):
                continue
            a, b = a.to(torch.float64), b.to(torch.float64)
            difference = a - b
            difference[(a == b) | (a.isnan() & b.isnan())] = 0  # two infinities of a sign, or two NaN, agree
            if step is None:
                self._absolute.add(difference)
            else:
                self._add_steps(difference / step, _on_grid(actual.dtype))

    def add_levels(self, actual: torch.Tensor, expected: torch.Tensor) -> None:
        """Compare integers, which are whole steps apart, in a dtype that their differences fit in."""
        for a, b, _ in _chunks(actual, expected, None):
            difference = a - b
            low, high = difference.aminmax()
            if low == high == 0:
                self._whole_bins[_LAST_BIN] += difference.numel()
            elif max(-int(low), int(high)) < _LAST_BIN:
                self._whole_bins += difference.add_(_LAST_BIN).bincount(minlength=_BINS)
            else:
                self._add_steps(difference.double(), _ON_GRID)

    def _add_whole_steps(self, a: torch.Tensor, b: torch.Tensor, step: float) -> bool:
        """Count the differences if all of them are few and whole steps, as they nearly always are.

        This takes float32 as it is and one pass for each statistic; False leaves the chunk to the exact way.
        """
        difference = a - b
        low, high = (value / step for value in _range(difference))
        if not max(-low, high) < _LAST_BIN:  # or not finite
            return False
        if low == high == 0:
            self._whole_bins[_LAST_BIN] += difference.numel()
        else:
            whole = difference.mul_(1 / step).round()
            low, high = _range(difference.sub_(whole))
            if max(-low, high) > _ON_GRID:
                return False
            self._whole_bins += whole.add_(_LAST_BIN).to(torch.int16).bincount(minlength=_BINS)
        return True

    def _add_steps(self, difference: torch.Tensor, tolerance: float) -> None:
        """Count differences in steps that may be anything; within `tolerance` of a whole number they are that."""
        finite = difference[difference.isfinite()]
        rounded = finite.round()
        self.off_grid += int(((finite - rounded).abs() > tolerance).sum())
        self._bins += (rounded.clamp_(-_LAST_BIN, _LAST_BIN) + _LAST_BIN).long().bincount(minlength=_BINS)
        whole = (difference - difference.round()).abs() <= tolerance
        self._lsb.add(torch.where(whole, difference.round(), difference))

    @property
    def histogram(self) -> dict[int, int]:
        """How often each difference occurs, in whole steps."""
        bins = self._bins + self._whole_bins
        return {index - _LAST_BIN: int(bins[index]) for index in bins.nonzero().flatten().tolist()}

    @property
    def compared(self) -> int:
        """How many values were compared."""
        return self._steps().compared + self._absolute.compared

    @property
    def max_lsb(self) -> float:
        """The largest difference of outputs on a grid, in steps; infinite where one is not finite."""
        return self._steps().worst

    @property
    def max_absolute(self) -> float:
        """The largest difference of outputs on no grid; infinite where one is not finite."""
        return self._absolute.worst

    @property
    def differing(self) -> float:
        """The share of values that differ at all."""
        steps = self._steps()
        return (steps.differing + self._absolute.differing) / max(self.compared, 1)

    def record(self) -> records.Comparison:
        """Return what the report holds: in LSB where any output is on a grid, with the others beside."""
        absolute, steps = self._absolute.record("absolute"), self._steps()
        if not steps.compared:
            return absolute
        return structs.replace(
            steps.record("lsb"),
            histogram={str(value): count for value, count in self.histogram.items()},
            off_grid=self.off_grid,
            absolute=absolute if self._absolute.compared else None,
        )

    def distance(self) -> records.Distance | None:
        """Return the record in short; None where nothing was compared."""
        if not self.compared:
            return None
        numbers = self.record()
        return records.Distance(max=numbers.max, mean=numbers.mean, differing=numbers.differing)

    def _steps(self) -> _Statistics:
        """Return the statistics of all differences in steps."""
        return self._lsb.with_counts(torch.arange(-_LAST_BIN, _LAST_BIN + 1), self._whole_bins)


@dataclass
class _Statistics:
    compared: int = 0
    differing: int = 0
    not_finite: int = 0
    max: float = 0.0
    sum: float = 0.0

    def add(self, difference: torch.Tensor) -> None:
        finite = difference[difference.isfinite()]
        self.compared += difference.numel()
        self.not_finite += difference.numel() - finite.numel()
        self.differing += int((difference != 0).sum())
        if finite.numel():
            self.max = max(self.max, float(finite.abs().max()))
            self.sum += float(finite.sum())

    def with_counts(self, values: torch.Tensor, counts: torch.Tensor) -> _Statistics:
        """Return the statistics with `counts` of whole `values` added."""
        total = int(counts.sum())
        largest = int(values[counts > 0].abs().max()) if total else 0
        return _Statistics(
            self.compared + total,
            self.differing + total - int(counts[values == 0]),
            self.not_finite,
            max(self.max, largest),
            self.sum + float((values * counts).sum()),
        )

    @property
    def worst(self) -> float:
        return math.inf if self.not_finite else self.max

    def record(self, unit: Unit) -> records.Comparison:
        whole = unit == "lsb" and self.max == int(self.max)
        return records.Comparison(
            unit=unit,
            max=int(self.max) if whole else self.max,
            mean=self.sum / max(self.compared - self.not_finite, 1),
            differing=self.differing / max(self.compared, 1),
            compared=self.compared,
            not_finite=self.not_finite,
        )


def _range(values: torch.Tensor) -> tuple[float, float]:
    """Return the least and the largest value, in one pass."""
    low, high = values.aminmax()
    return float(low), float(high)


def _on_grid(dtype: torch.dtype) -> float:
    """Return how far from a whole number of steps a value on the grid may be, for the float error of its dtype."""
    if dtype in (torch.float16, torch.bfloat16):
        return min(256 * torch.finfo(dtype).eps, 0.25)
    return _ON_GRID


def _chunks(
    actual: torch.Tensor, expected: torch.Tensor, steps: float | torch.Tensor | None
) -> Iterator[tuple[torch.Tensor, torch.Tensor, float | torch.Tensor | None]]:
    """Walk over two tensors, and the steps that belong to them."""
    a, b = actual.reshape(-1), expected.reshape(-1)
    spread = steps.reshape(-1) if isinstance(steps, torch.Tensor) else None
    for start in range(0, a.numel(), CHUNK):
        part = slice(start, start + CHUNK)
        yield a[part], b[part], steps if spread is None else spread[part]
