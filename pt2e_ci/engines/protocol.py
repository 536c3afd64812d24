"""What an engine is: it takes an operator and levels, and gives levels."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pt2e_ci.engines.runtime import NotTakenError as NotTakenError
from pt2e_ci.errors import InputError
from pt2e_ci.plugins import load

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch

    from pt2e_ci.program.segments import Operand, QuantizedOperator


@dataclass(frozen=True)
class QParams:
    """Scale and zero point of int8 levels."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Weight:
    """A quantized weight: int8 levels, and scales and zero points, one of each or one for each index of an axis."""

    levels: torch.Tensor
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None


@dataclass(frozen=True)
class Task:
    """An operator on int8 levels, as plain data that another process can be given.

    Attributes:
        name: as in ``conv2d``.
        relu: whether a ReLU is fused into it.
        operands: the grids of its operands.
        options: its other arguments, by the names of its schema.
        weight: its weight, if it has one.
        bias: in float; None where there is none.
        output: the grid of its result.

    """

    name: str
    relu: bool
    operands: tuple[QParams, ...]
    options: Mapping[str, Any]
    weight: Weight | None
    bias: torch.Tensor | None
    output: QParams

    @classmethod
    def of(cls, operator: QuantizedOperator) -> Task | None:
        """Return a quantized operator as a task; None unless all that it takes and gives is int8, on known grids."""
        weight = operator.weight
        activations = operator.activations
        others = [one for _, one in operator.operands if one.levels is not None and one is not weight]
        grids = [one.grid for one in activations]
        grids += [operator.output.grid] if operator.output else []
        known = [grid.one for grid in grids]
        usual = operator.is_whole and operator.output is not None and operator.activation in (None, "relu")
        usual = usual and not others and not any(one.is_moved for _, one in operator.operands)
        if not usual or not all(known) or any(str(grid.dtype) != "torch.int8" for grid in grids):
            return None
        qparams = [QParams(*one) for one in known if one]
        made = _weight(weight) if weight is not None else None
        if weight is not None and made is None:
            return None
        fields = (tuple(qparams[:-1]), operator.options, made, operator.bias, qparams[-1])
        return cls(operator.name, operator.activation == "relu", *fields)


def _weight(operand: Operand) -> Weight | None:
    """Return a weight as plain data; None for one whose levels are not int8, or not on a grid along an axis."""
    grid, levels = operand.grid, operand.levels
    if levels is None or str(levels.dtype) != "torch.int8" or grid.blocks is not None:
        return None
    if not isinstance(grid.scales, tuple) or not isinstance(grid.zero_points, tuple):
        return None
    return Weight(levels, grid.scales, tuple(int(point) for point in grid.zero_points), grid.axis)


@runtime_checkable
class Engine(Protocol):
    """What runs quantized operators."""

    names: frozenset[str]
    """The operators that it may have a kernel for."""

    def open(self, task: Task) -> Callable[[Sequence[torch.Tensor]], torch.Tensor]:
        """Return what runs an operator: from the levels of its operands to those of its result, all int8's.

        It, or what it returns, raises NotTakenError.
        """


def load_engine(name: str) -> Engine:
    """Return an engine by the name of an entry point of ``pt2e_ci.engines``, or by ``module:name``.

    Raises:
        InputError: there is no such thing, its module cannot be imported, or it is no engine.

    """
    engine: Engine = load("engines", name)
    if isinstance(engine, type) or not isinstance(engine, Engine) or not isinstance(engine.names, Set):
        raise InputError(
            f"{name} is not an engine: an engine is an object with a set of operators' names, and open(task)"
        )
    return engine
