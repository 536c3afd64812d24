"""How far two programs' outputs are apart, in steps of each output's own grid.

Tensors are read in chunks, so that the memory needed does not grow with them.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

Unit = Literal["lsb", "absolute"]

CHUNK = 1 << 20
# Outputs are float32: a whole number of steps comes back from the division with an error of a few 2^-24 of it.
_ON_GRID = 2.0**-8
# Two int8 levels differ by 255 at most; the last bin at each end also holds what lies beyond.
_LAST_BIN = 1024


class Comparison:
    """Collects the differences of pairs of outputs, one pair after another.

    Differences in LSB are counted apart from those of outputs that are on no grid.
    """

    def __init__(self) -> None:
        self._lsb = _Statistics()
        self._absolute = _Statistics()
        self.histogram: Counter[int] = Counter()
        self.off_grid = 0

    def add(self, actual: torch.Tensor, expected: torch.Tensor, steps: float | torch.Tensor | None = None) -> None:
        """Compare two tensors of one shape. `steps` is the output's grid, or None where it has none."""
        if isinstance(steps, torch.Tensor):
            steps = steps.expand(expected.shape)
        for a, b, step in _chunks(actual, expected, steps):
            difference = a - b
            difference[(a == b) | (a.isnan() & b.isnan())] = 0  # two infinities of a sign, or two NaN, agree
            if step is None:
                self._absolute.add(difference)
                continue
            difference /= step
            finite = difference[difference.isfinite()]
            rounded = finite.round()
            self.off_grid += int(((finite - rounded).abs() > _ON_GRID).sum())
            bins = rounded.clamp_(-_LAST_BIN, _LAST_BIN).to(torch.int64) + _LAST_BIN
            counts = bins.bincount(minlength=2 * _LAST_BIN + 1)
            for index in counts.nonzero().flatten().tolist():
                self.histogram[index - _LAST_BIN] += int(counts[index])
            # Within the float error, a difference on the grid is the whole number that it stands for.
            whole = (difference - difference.round()).abs() <= _ON_GRID
            self._lsb.add(torch.where(whole, difference.round(), difference))

    @property
    def max_lsb(self) -> float:
        """The largest difference of outputs on a grid, in steps; infinite where one is not finite."""
        return self._lsb.worst

    @property
    def max_absolute(self) -> float:
        """The largest difference of outputs on no grid; infinite where one is not finite."""
        return self._absolute.worst

    def record(self) -> dict[str, Any]:
        """Return the report's fields: in LSB where any output is on a grid, with the others beside."""
        absolute = self._absolute.record("absolute")
        if not self._lsb.compared:
            return absolute
        fields = self._lsb.record("lsb")
        fields["histogram"] = {str(value): self.histogram[value] for value in sorted(self.histogram)}
        fields["off_grid"] = self.off_grid
        if self._absolute.compared:
            fields["absolute"] = absolute
        return fields


class _Statistics:
    def __init__(self) -> None:
        self.compared = 0
        self._differing = 0
        self._not_finite = 0
        self._max = 0.0
        self._sum = 0.0

    def add(self, difference: torch.Tensor) -> None:
        finite = difference[difference.isfinite()]
        self.compared += difference.numel()
        self._not_finite += difference.numel() - finite.numel()
        self._differing += int((difference != 0).sum())
        if finite.numel():
            self._max = max(self._max, float(finite.abs().max()))
            self._sum += float(finite.sum())

    @property
    def worst(self) -> float:
        return math.inf if self._not_finite else self._max

    def record(self, unit: Unit) -> dict[str, Any]:
        count = max(self.compared - self._not_finite, 1)
        whole = unit == "lsb" and self._max == int(self._max)
        return {
            "unit": unit,
            "max": int(self._max) if whole else self._max,
            "mean": self._sum / count,
            "differing": self._differing / max(self.compared, 1),
            "compared": self.compared,
            "not_finite": self._not_finite,
        }


def _chunks(
    actual: torch.Tensor, expected: torch.Tensor, steps: float | torch.Tensor | None
) -> Iterator[tuple[torch.Tensor, torch.Tensor, float | torch.Tensor | None]]:
    """Walk over two tensors, and the steps that belong to them, as float64."""
    a, b = actual.reshape(-1), expected.reshape(-1)
    spread = steps.reshape(-1) if isinstance(steps, torch.Tensor) else None
    for start in range(0, a.numel(), CHUNK):
        part = slice(start, start + CHUNK)
        yield (
            a[part].to(torch.float64),
            b[part].to(torch.float64),
            steps if spread is None else spread[part],
        )
