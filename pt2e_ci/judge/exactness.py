"""How far the two programs are from the truth: operator by operator on their own operands, and end to end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from msgspec import structs

from pt2e_ci.errors import one_line
from pt2e_ci.judge.alignment import Alignment
from pt2e_ci.judge.numerics import Comparison
from pt2e_ci.program.oracle import Exact, Sample, run_exactly
from pt2e_ci.program.trace import put_back, tensors_in
from pt2e_ci.record import records
from pt2e_ci.record.criteria import DEFAULT, DISPLACEMENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch.fx import Node

    from pt2e_ci.exact.schemes import Rounding
    from pt2e_ci.program.segments import Grid, Levels, QuantizedOperator, Reading
    from pt2e_ci.program.trace import Run, Trace, Value
    from pt2e_ci.record.criteria import Criteria

# So many ties tell a scheme from another.
_TIES = 8
_ROUNDINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "to even": torch.round,
    "away from zero": lambda steps: steps.sign() * steps.abs().ceil(),
    "towards zero": torch.trunc,
    "up": torch.ceil,
    "down": torch.floor,
}

# Of a float result, what the same float operators on other CPUs may differ by, as a multiple of what the Q/DQ program
# itself differs from real numbers; no more than a level all the same.
_NOISE = 4
# And of one that depends on no levels, this share of the largest value at most.
_FLOAT = 2.0**-10

# Levels that lie within a range of so many are counted.
_COUNTED = 2**16


@dataclass
class Wrong:
    """The levels that are not the exact ones.

    Attributes:
        off: how many are further from right than the arithmetic's own error explains.
        boundary: the largest distance of an exact value from the boundary that the level is beyond, in LSB.
        ties: in runs that have wrong levels, how many exact values are ties.
        by_scheme: how many of them are what a scheme makes of ties.

    """

    off: int = 0
    boundary: float = 0.0
    ties: int = 0
    by_scheme: Counter[str] = field(default_factory=Counter)

    @property
    def scheme(self) -> str | None:
        """The one scheme that all ties follow, where they are enough to tell."""
        schemes = [name for name, count in self.by_scheme.items() if count == self.ties >= _TIES]
        return schemes[0] if len(schemes) == 1 else None

    def add_ties(self, found: torch.Tensor, steps: torch.Tensor, zero_point: int, bounds: tuple[int, int]) -> None:
        """Take in levels, and the real numbers of steps that are due, to see what becomes of ties."""
        real = steps.expand(found.shape) - zero_point
        ties = ((real - real.floor()) == 0.5) & (steps > bounds[0]) & (steps < bounds[1])
        real, got = real[ties], found[ties].double() - zero_point
        self.ties += got.numel()
        for name, turned in _ROUNDINGS.items():
            self.by_scheme[name] += int((turned(real) == got).sum())

    def add(
        self,
        found: torch.Tensor,
        exact: torch.Tensor,
        steps: torch.Tensor,
        rounding: Rounding,
        allowed: float | torch.Tensor,
    ) -> None:
        """Take in levels, the exact ones, and the real numbers of steps that those were rounded from."""
        differ = found != exact
        got, right, steps = found[differ].double(), exact[differ].double(), steps.expand(exact.shape)[differ]
        allowed = torch.as_tensor(allowed, dtype=torch.float64).expand(exact.shape)[differ]
        least = torch.minimum(got, right)
        turns = (rounding.turn, 1 - rounding.turn)  # below zero, one that cuts off turns at the other end
        distance = torch.stack([(steps - least - turn).abs() for turn in turns]).amin(0)
        beside = (got - right).abs() == 1
        self.off += int((~beside | ~(distance <= allowed)).sum())
        if got.numel():
            self.boundary = max(self.boundary, float((distance + (got - right).abs() - 1).max()))


@dataclass
class Measured:
    """What was measured of one thing that both programs give: an operator's levels, its float result, an output."""

    qdq: Comparison = field(default_factory=Comparison)
    reference: Comparison = field(default_factory=Comparison)
    wrong: Wrong = field(default_factory=Wrong)
    through: Comparison = field(default_factory=Comparison)
    qdq_through: Comparison = field(default_factory=Comparison)
    used: set[int] = field(default_factory=set)

    def distance(self) -> records.Distance | None:
        """Return how far the reference program is from what its own operands should have given."""
        found = self.reference.distance()
        if found is None or not found.max:
            return found
        return structs.replace(found, boundary=self.wrong.boundary, off=self.wrong.off)


@dataclass(frozen=True)
class Given:
    """What was run on one input set: the Q/DQ program, and all tensors of the reference program."""

    inputs: Sequence[Any]
    qdq: Run
    outputs: Sequence[Any]
    values: dict[Value, torch.Tensor]
    steps: Sequence[float | torch.Tensor | None]


class Exactness:
    """Collects the differences of a Q/DQ program and a reference program from the exact result.

    Attributes:
        reference: of the reference program's outputs, end to end.
        qdq: of the Q/DQ program's outputs, end to end.
        levels: of each quantize node.
        results: of each operator whose result is not quantized, in units of what one level of its operands changes.
        outputs: of each output, on the levels that the reference program had last.
        unequal: how many values of outputs that are no floats differ.
        rounding: the scheme of the exact result.
        approximated: operators that have no exact form.
        unavailable: why there is no exact result, if there is none.
        samples: what both the Q/DQ program and exact arithmetic gave, for engines to be held against; none where they
            are not kept.
        alignment: which tensors of the reference program are which; None before there is any.

    """

    def __init__(
        self,
        reading: Reading,
        qdq: Trace,
        reference: Trace,
        rounding: Rounding,
        criteria: Criteria = DEFAULT,
        *,
        keeps_samples: bool = True,
    ) -> None:
        self._keeps_samples = keeps_samples
        self._state = qdq.state
        self._exact: dict[int, Exact] = {}  # of the runs that are taken in first
        self.reference, self.qdq = Comparison(), Comparison()
        self.levels = {one.quantize.node: Measured() for one in reading.levels}
        self.results = {one.node: Measured() for one in reading.operators if _ends_in_float(one)}
        self.outputs = [Measured() for _ in reading.outputs]
        self.unequal = 0
        self.approximated: list[str] = []
        self.unavailable: str | None = None
        self.samples: list[Sample] = []
        self.alignment: Alignment | None = None
        self._reading, self._trace, self.rounding = reading, reference, rounding
        self._grids = {one.quantize.node: one.quantize.grid for one in reading.levels}
        self._allowed: dict[Node, float | torch.Tensor] = {
            one.quantize.node: criteria.allowed(one.name) for one in reading.levels
        }
        for one in reading.operators:
            if one.output is not None and one.output.node in self.levels:
                self._allowed[one.output.node] = self._allowed[one.output.node] + _half_accumulator(one)

    @property
    def keep_of_qdq(self) -> list[Node]:
        """The nodes of the Q/DQ program whose values are needed of each run."""
        return [*self.levels, *self.results, *self._reading.runtime]

    def align(self, runs: Sequence[Given]) -> None:
        """Find the reference program's tensors by their values on some runs."""
        runs = [run for run in runs if not _any_nan(run.inputs)]
        if not runs:
            return
        try:
            exact = [self._run(run, None) for run in runs]
            self._exact = {id(run): one for run, one in zip(runs, exact, strict=True)}
        except Exception as error:  # a program that is no plain Q/DQ program, as another quantizer may give
            self.unavailable = one_line(error)
            return
        self.alignment = Alignment(self._reading, self._trace, [run.values for run in runs])
        self.alignment.align([one.levels for one in exact])
        operators = {one.node: one for one in self._reading.operators}
        for node in self.results:
            wanted = [one.values[node] for one in exact]
            if all(isinstance(value, torch.Tensor) for value in wanted):
                self.alignment.find(node, wanted, self._reading.sources(operators[node]))

    def add(self, run: Given) -> None:
        """Take in what both programs gave on one input set. What real arithmetic makes of NaN is not defined."""
        if self.unavailable or self.alignment is None or _any_nan(run.inputs):
            return
        exact = self._exact.pop(id(run), None) or self._run(run, None)
        self.approximated = [*dict.fromkeys((*self.approximated, *exact.approximated))]
        for a, b, truth, step in zip(run.outputs, run.qdq.outputs, exact.outputs, run.steps, strict=True):
            if isinstance(b, torch.Tensor):
                self.reference.add(a, truth, step)
                self.qdq.add(b, truth, step)
        qdq = {node: run.qdq.kept[node].to(exact.levels[node].dtype) for node in self.levels}
        aligned = self.alignment.levels.items()
        reference = {node: narrowed(run.values[value], exact.levels[node].dtype) for node, value in aligned}
        of_qdq = self._own(run, exact, qdq)
        of_reference = self._own(run, exact, reference, keep_steps=True)
        for node, found in qdq.items():
            self.levels[node].qdq.add_levels(found, of_qdq.levels[node])
            self.levels[node].qdq_through.add_levels(found, exact.levels[node])
            self.levels[node].used.update(_distinct(found))
        for node, found in reference.items():
            measured, right = self.levels[node], of_reference.levels[node]
            measured.reference.add_levels(found, right)
            measured.through.add_levels(found, exact.levels[node])
            if not torch.equal(found, right):
                steps, point = of_reference.steps(node), of_reference.zero_point(node)
                measured.wrong.add(found, right, steps, self.rounding, self._allowed[node])
                if point is not None:
                    grid = self._grids[node]
                    measured.wrong.add_ties(found, steps, point, (grid.low, grid.high))
        self._add_floats(run, reference, of_qdq, of_reference)
        if self._keeps_samples:
            self.samples.append(Sample([*run.inputs], qdq, of_qdq.levels, exact.outputs, [*run.steps]))

    def record(self) -> records.Exact:
        """Return what the report holds of the exact result."""
        return records.Exact(
            rounding=self.rounding,
            unavailable=self.unavailable,
            approximated=self.approximated,
            reference_starts_at=self._start(is_reference=True),
            qdq_starts_at=self._start(is_reference=False),
        )

    def _add_floats(self, run: Given, levels: Mapping[Node, torch.Tensor], of_qdq: Exact, of_reference: Exact) -> None:
        """Compare what lies on no grid, in units of what one level more or less of its operands makes of it."""
        bare = [index for index, step in enumerate(run.steps) if step is None]
        moved = None
        if self.results or any(_is_float(run.qdq.outputs[index]) for index in bare):
            moved = self._run(run, {node: _beside(found, node, self._grids[node]) for node, found in levels.items()})
        for index, (output, step) in enumerate(zip(run.outputs, run.steps, strict=True)):
            right, own = of_reference.outputs[index], run.qdq.outputs[index]
            if not isinstance(output, torch.Tensor) or not isinstance(right, torch.Tensor):
                continue
            if step is not None:
                # A float of few bits is off its grid in the Q/DQ program as well.
                noise = _largest((own.double() - of_qdq.outputs[index].double()) / step)
                same = ((output.double() - right.double()) / step).abs() <= noise
                self.outputs[index].reference.add(torch.where(same, right.double(), output.double()), right, step)
            elif not _is_float(own):
                self.unequal += int((output != right).sum())
            elif moved is not None:
                unit = _unit(moved.outputs[index], right, own, of_qdq.outputs[index])
                self._add_float(self.outputs[index], output, right, unit)
        for node, measured in self.results.items():
            value = self.alignment.results.get(node) if self.alignment else None
            if value is not None and moved is not None and _is_float(run.values[value]):
                right, own = of_reference.values[node], run.qdq.kept[node]
                unit = _unit(moved.values[node], right, own, of_qdq.values[node])
                self._add_float(measured, run.values[value], right, unit)

    def _add_float(
        self, measured: Measured, found: torch.Tensor, right: torch.Tensor, unit: tuple[float, float]
    ) -> None:
        step, noise = unit
        difference = (found.double() - right.double()).abs()
        same = (found == right) | (found.isnan() & right.isnan()) | (difference <= noise)
        measured.reference.add(torch.where(same, right.double(), found.double()), right.double(), step)
        measured.wrong.off += int((~same & ~(difference <= noise + DISPLACEMENT * step)).sum())

    def _run(self, run: Given, operands: Mapping[Node, Any] | None, *, keep_steps: bool = False) -> Exact:
        runtime = {node: run.qdq.kept[node] for node in self._reading.runtime}
        given = (self._reading, run.inputs)
        before = [(tensor, tensor.detach().clone()) for tensor in self._state]
        try:
            return run_exactly(
                *given,
                runtime=runtime,
                operands=operands,
                keep=self.results.keys(),
                keep_steps=keep_steps,
                rounding=self.rounding,
            )
        finally:
            put_back(before)  # what is no float is run as it is, and may write into the program's own

    def _own(self, run: Given, exact: Exact, levels: Mapping[Node, torch.Tensor], *, keep_steps: bool = False) -> Exact:
        """Return what each operator should have made of the operands that it had."""
        # The same levels everywhere are the same operands, too, and of what is right nobody asks the steps.
        same = all(torch.equal(exact.levels[node], found) for node, found in levels.items())
        return exact if same else self._run(run, levels, keep_steps=keep_steps)

    def _start(self, *, is_reference: bool) -> str | None:
        """Name the first operator whose levels differ from the exact program's."""
        unseen = None
        for one in self._reading.levels:
            measured = self.levels[one.quantize.node]
            through = measured.through if is_reference else measured.qdq_through
            if through.max_lsb:
                return _label(one)
            if not through.compared:
                unseen = unseen or _label(one)
        whole = self.reference if is_reference else self.qdq
        return unseen if whole.max_lsb else None


def _label(levels: Levels) -> str:
    """Name an operator and its quantize node."""
    return f"{levels.name} ({levels.quantize.node.name})"


def _ends_in_float(operator: QuantizedOperator) -> bool:
    """Tell whether an operator's result is not quantized, or not before it is something else."""
    return operator.annotated and (operator.output is None or not operator.is_clamped)


def _half_accumulator(operator: QuantizedOperator) -> float | torch.Tensor:
    """Return half a unit of the accumulator in LSB of the output, for a bias that is rounded to a whole unit.

    One for all, or a tensor that broadcasts against the output: one for each channel.
    """
    output = operator.output
    if operator.bias is None or operator.weight is None or output is None or output.grid.one is None:
        return 0.0
    unit = torch.tensor(0.5 / output.grid.one[0], dtype=torch.float64)
    for _, one in operator.operands:
        if not isinstance(one.grid.scales, tuple):
            return 0.0
        scales = torch.tensor(one.grid.scales, dtype=torch.float64)
        spatial = max(one.levels.dim() - 2, 0) if one.levels is not None else 0  # behind the channels
        unit = unit * scales.reshape([-1] + [1] * spatial)
    return unit


def _beside(levels: torch.Tensor, node: Node, grid: Grid) -> torch.Tensor:
    """Return levels one more or one less than these, at random, and within the grid."""
    generator = torch.Generator().manual_seed(len(node.name))
    signs = torch.randint(0, 2, levels.shape, generator=generator) * 2 - 1
    signs = torch.where((levels + signs > grid.high) | (levels + signs < grid.low), -signs, signs)
    return levels + signs


def _unit(moved: torch.Tensor, right: torch.Tensor, own: torch.Tensor, own_right: torch.Tensor) -> tuple[float, float]:
    """Return what a level of the operands changes of a result, and what the result's own float arithmetic does."""
    step = _largest(moved.double() - right.double())
    size = _largest(right.double())
    noise = _NOISE * _largest(own.double() - own_right.double())
    least = size * float(torch.finfo(own.dtype).eps)
    return step or least or 1.0, max(least, min(noise, step or size * _FLOAT))


def narrowed(levels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return levels in another dtype, in which their differences fit; what is no level anyway may be another one."""
    limits = torch.iinfo(dtype)
    if torch.iinfo(levels.dtype).max > limits.max // 2:
        levels = levels.to(torch.int64).clamp(limits.min // 2, limits.max // 2)
    return levels.to(dtype)


def _distinct(levels: torch.Tensor) -> list[int]:
    """Return the levels that occur: counted, for what counts few numbers is much faster than what sorts them."""
    if not levels.numel():
        return []
    low, high = levels.aminmax()
    if int(high) - int(low) >= _COUNTED:
        return levels.unique().tolist()
    return (levels - low).flatten().bincount().nonzero().flatten().add_(low).tolist()


def _largest(values: torch.Tensor) -> float:
    finite = values[values.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 0.0


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _any_nan(inputs: Sequence[Any]) -> bool:
    return any(tensor.is_floating_point() and bool(tensor.isnan().any()) for tensor in tensors_in(inputs))
