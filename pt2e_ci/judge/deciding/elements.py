"""Single elements of a segment's result as functions of what the segment begins with.

Where a segment works element by element and moves elements, each element of its result is a function of a few elements
of its beginnings, and most are the same function. `Elements.fold` walks such functions from the result back, for many
elements at once; what is made of them is an algebra: their values on vectors, their classes, the way they turn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import torch

from pt2e_ci.judge.provenance import TABLES
from pt2e_ci.operators.names import by_name, name_of
from pt2e_ci.operators.row import Kind
from pt2e_ci.operators.rows import is_elementwise, is_moving, kind_of
from pt2e_ci.program.trace import Value, filled, tensors_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pt2e_ci.judge.provenance import Segment
    from pt2e_ci.program.trace import Step

_Result = TypeVar("_Result")
# Take a table that is no operand of the same shape: where its rows or its numbers begin.
_SEARCHES = {"bucketize": "boundaries", "searchsorted": "sorted_sequence"}
# Of more elements than these, some are looked at in place of all, where that is a check of the method.
_MANY = 1 << 16


class UndecidedError(Exception):
    """It cannot be decided this way: why."""


@dataclass(frozen=True)
class Part(Generic[_Result]):
    """Some of the rows of a result that comes from several tensors."""

    rows: torch.Tensor
    result: _Result


class Algebra(Protocol[_Result]):
    """What is made of elements. Rows are elements, in the order that was asked for."""

    def free(self, value: Value, at: torch.Tensor) -> _Result:
        """Return what the elements `at` of a beginning are."""

    def constant(self, tensor: torch.Tensor, at: torch.Tensor | None) -> _Result:
        """Return what elements of a constant are; `at` is None where there is one for all."""

    def apply(self, step: Step, operands: Mapping[Value, _Result], at: torch.Tensor) -> _Result:
        """Return what an operator makes of elements."""

    def join(self, step: Step, parts: Sequence[Part[_Result]], count: int) -> _Result:
        """Put rows together; those in no part are the operator's padding."""


class Elements:
    """The elements of a segment.

    Args:
        segment: the segment.
        values: all tensors of a run.
        free: the tensors that elements are functions of.

    """

    def __init__(self, segment: Segment, values: Mapping[Value, torch.Tensor], free: Sequence[Value]) -> None:
        self.trace, self.values, self.free = segment.trace, values, frozenset(free)
        self._steps = {value: segment.trace.steps[place] for place in segment.steps for value in _gives(segment, place)}
        self.data = descending(segment, self.free)
        self._numbers: dict[Any, Any] = {}
        self._moving: dict[Value, bool] = {}

    def fold(self, target: Value, at: torch.Tensor, algebra: Algebra[_Result]) -> _Result:
        """Return what an algebra makes of the elements `at`, by their place in the flattened target.

        Raises:
            UndecidedError: something on the way does not work element by element.

        """
        known: dict[tuple[Value, int], tuple[_Result, torch.Tensor]] = {}

        def walk(value: Value, at: torch.Tensor) -> _Result:
            key = (value, id(at))
            if key not in known:
                known[key] = self._result(value, at, algebra, walk), at
            return known[key][0]

        return walk(target, at)

    def _result(
        self, value: Value, at: torch.Tensor, algebra: Algebra[_Result], walk: Callable[[Value, torch.Tensor], _Result]
    ) -> _Result:
        if value in self.free:
            return algebra.free(value, at)
        if value not in self.data:
            return algebra.constant(self.values[value].reshape(-1), at)
        step = self._steps[value]
        if self._moves_at(value):
            sources = self._remembered((value, id(at), at), lambda: self.sources(step, value, at))
            parts = [Part(rows, walk(one, places)) for one, rows, places in sources]
            whole = len(parts) == 1 and len(parts[0].rows) == len(at)
            return parts[0].result if whole else algebra.join(step, parts, len(at))
        return algebra.apply(step, self._operands(step, value, at, algebra, walk), at)

    def _operands(
        self,
        step: Step,
        value: Value,
        at: torch.Tensor,
        algebra: Algebra[_Result],
        walk: Callable[[Value, torch.Tensor], _Result],
    ) -> dict[Value, _Result]:
        found = {}
        tables = {one for one in [table_of(step)] if one is not None and one not in self.data}
        for one in dict.fromkeys(step.takes):
            if one in tables:
                continue
            tensor = self.trace.info[one]
            if one not in self.data:
                flat = self.values[one].reshape(-1)
                scalar = not tensor.shape
                found[one] = algebra.constant(flat, None if scalar else self._spread(one, value, at))
            else:
                found[one] = walk(one, self._spread(one, value, at))
        return found

    def _moves_at(self, value: Value) -> bool:
        """Tell whether what gives a value moves elements.

        Raises:
            UndecidedError: it neither does, nor works element by element.

        """
        if value not in self._moving:
            step = self._steps[value]
            name = name_of(step.target)
            if step.is_opaque or step.is_inside or (len(step.gives) > 1 and not is_moving(step.target)):
                raise UndecidedError(f"{name} does not work element by element")
            self._moving[value] = self.moves(step)
            works = is_elementwise(name) or name in TABLES or kind_of(step.target) is Kind.QDQ
            if not self._moving[value] and not works:
                raise UndecidedError(f"{name} is neither elementwise nor a movement")
        return self._moving[value]

    def moves(self, step: Step) -> bool:
        """Tell whether a step only picks elements, from places that are no data."""
        name = name_of(step.target)
        if name == "view" and step.target._overloadname == "dtype":
            return False
        return is_moving(step.target) or (name in TABLES and not any(one in self.data for one in step.takes[1:]))

    def sources(self, step: Step, value: Value, at: torch.Tensor) -> list[tuple[Value, torch.Tensor, torch.Tensor]]:
        """Return where elements of what a movement gives come from: tensor, rows, and places in it."""
        starts: list[tuple[Value, int, int]] = []
        total = 0

        def number(leaf: Any) -> Any:
            nonlocal total
            if not isinstance(leaf, Value) or (name_of(step.target) in TABLES and leaf != step.takes[0]):
                return self.values[leaf] if isinstance(leaf, Value) else leaf
            size = self.values[leaf].numel()
            starts.append((leaf, total, size))
            total += size
            return torch.arange(total - size, total).reshape(self.trace.info[leaf].shape)

        args, kwargs = filled(step.args, number), filled(step.kwargs, number)
        name = name_of(step.target)
        if name == "constant_pad_nd":
            args = (*args[:2], -1)
        if name == "im2col":  # which has no kernel for integers, and pads with 0
            args = ((args[0] + 1).double(), *args[1:])
        moved = tensors_in(step.target(*args, **kwargs))[step.results.index(value)]
        places = (moved.long() - int(name == "im2col")).reshape(-1)[at]
        found = []
        for one, start, size in starts:
            rows = ((places >= start) & (places < start + size)).nonzero().flatten()
            if len(rows):
                found.append((one, rows, places[rows] - start))
        return found

    def _spread(self, one: Value, value: Value, at: torch.Tensor) -> torch.Tensor:
        """Return which elements of an operand belong to elements of the result."""
        shape, wide = self.trace.info[one].shape, self.trace.info[value].shape
        if shape == wide or math.prod(shape) == math.prod(wide):
            return at
        if name_of(self._steps[value].target) == "index":
            indices = [self.trace.info[index].shape for index in self._steps[value].takes[1:]]
            wide = tuple(torch.broadcast_shapes(*indices))
        numbers = torch.arange(math.prod(shape)).reshape(shape).expand(wide).reshape(-1)
        return self._remembered((one, wide, id(at), at), lambda: numbers[at])

    def _remembered(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """Keep what was worked out: the same elements are walked to by several algebras."""
        names, at = key[:-1], key[-1]
        if names not in self._numbers:
            self._numbers[names] = make(), at
        return self._numbers[names][0]


def descending(segment: Segment, free: frozenset[Value]) -> frozenset[Value]:
    """Return what a segment works out from some of its tensors, and these themselves."""
    found = set(free)
    for place in segment.steps:
        step = segment.trace.steps[place]
        if kind_of(step.target) is not Kind.CONSTANT and any(value in found for value in step.reads):
            found.update(step.gives)
    return frozenset(found)


def table_of(step: Step) -> Value | None:
    """Return the tensor that a step looks things up in."""
    name = name_of(step.target)
    if name in _SEARCHES:
        named = by_name(step.target, step.args, step.kwargs)
        table: Value = named[_SEARCHES[name]]
        return table
    return step.takes[0] if name in TABLES and step.takes else None


def _gives(segment: Segment, place: int) -> list[Value]:
    """Return what a step gives; a write that others see by another name is not followed."""
    step = segment.trace.steps[place]
    return [*step.results] if len(step.written) <= 1 else []


@dataclass
class OnVectors:
    """The values of elements: a row for each, and along it what the beginnings are put to.

    Attributes:
        given: what each beginning is, as a function of its elements: a tensor of as many rows, or of one.
        elements: whose values they are.
        strict: whether to refuse what leaves the range of its dtype, and is no shift in that.
        log: where the name and the values of each step are noted, if they are wanted.

    """

    given: Mapping[Value, Callable[[torch.Tensor], torch.Tensor]]
    elements: Elements
    strict: bool = False
    log: list[tuple[str, torch.Tensor]] | None = None

    def free(self, value: Value, at: torch.Tensor) -> torch.Tensor:
        """Return what it is put to, in its own dtype."""
        return self.given[value](at).to(self.elements.trace.info[value].dtype)

    def constant(self, tensor: torch.Tensor, at: torch.Tensor | None) -> torch.Tensor:
        """Return a column, or a number, which takes part in no promotion of dtypes."""
        return tensor[0] if at is None else tensor[at][:, None]

    def apply(self, step: Step, operands: Mapping[Value, torch.Tensor], at: torch.Tensor) -> torch.Tensor:
        """Call the operator."""
        name, table = name_of(step.target), table_of(step)
        if table is not None and table in operands:
            raise UndecidedError(f"{name} in a table that is data")
        if table is not None:
            found = self._look_up(step, name, table, operands, at)
        else:

            def operand(leaf: Any) -> Any:
                if not isinstance(leaf, Value):
                    return leaf
                return operands[leaf].clone() if step.written else operands[leaf]

            args, kwargs = filled(step.args, operand), filled(step.kwargs, operand)
            if name in ("clone", "_to_copy", "to"):
                kwargs.pop("memory_format", None)
            found = step.target(*args, **kwargs)
        if self.strict:
            self._check(step, name, found, operands)
        dtype = self.elements.trace.info[step.results[0]].dtype
        found = found if found.dtype == dtype else found.to(dtype)  # one of no dimension promotes otherwise
        if self.log is not None:
            self.log.append((name, found))
        return found

    def _look_up(
        self, step: Step, name: str, table: Value, operands: Mapping[Value, torch.Tensor], at: torch.Tensor
    ) -> torch.Tensor:
        tensor, rows = self.elements.values[table], [*operands.values()]
        if name in _SEARCHES:
            given = by_name(step.target, step.args, step.kwargs)
            options = {key: given[key] for key in ("out_int32", "right") if key in given}
            if name == "bucketize" or tensor.dim() == 1:
                return torch.searchsorted(tensor, rows[0].contiguous(), **options)
            shape = self.elements.trace.info[step.results[0]].shape
            own = tensor.reshape(-1, tensor.shape[-1])[torch.div(at, shape[-1], rounding_mode="floor")]
            return torch.searchsorted(own.contiguous(), rows[0].contiguous(), **options)
        if name == "index":
            indices = step.args[1]
            if any(one is None for one in indices) or len(indices) != tensor.dim():
                raise UndecidedError("index in some dimensions of a table")
            return tensor[tuple(torch.broadcast_tensors(*(operands[one].long() for one in indices)))]
        if name in ("take", "index_select", "embedding", "gather") and tensor.numel() == tensor.shape[0]:
            return tensor.reshape(-1)[rows[0].long()]
        raise UndecidedError(f"{name} in a table of several dimensions")

    def _check(self, step: Step, name: str, found: torch.Tensor, operands: Mapping[Value, torch.Tensor]) -> None:
        """Refuse a cast, or integer arithmetic, that leaves the range of its dtype.

        Where all of a row wrap around equally often, as 128 to 383 do in a cast to int8, it is a shift.

        Raises:
            UndecidedError: it does.

        """
        if found.dtype.is_floating_point or found.dtype is torch.bool:
            return
        if name in ("add", "sub", "rsub", "mul", "neg"):
            wide = {one: operand.double() for one, operand in operands.items()}
            args, kwargs = (filled(some, lambda leaf: wide.get(leaf, leaf)) for some in (step.args, step.kwargs))
            real = step.target(*args, **kwargs)
        elif name in ("_to_copy", "to"):
            real = next(iter(operands.values())).double().trunc()
        else:
            return
        info = torch.iinfo(found.dtype)
        if not bool((real.isnan() | (real < info.min) | (real > info.max)).any()):
            return
        whole = info.bits < 64 and not any(one.dtype.is_floating_point for one in operands.values())
        wraps = torch.div(real - info.min, 2.0**info.bits, rounding_mode="floor")
        if not (whole and torch.equal(wraps, wraps[:, :1].expand_as(wraps))):
            raise UndecidedError(f"{name} leaves the range of {str(found.dtype).removeprefix('torch.')}")

    def join(self, step: Step, parts: Sequence[Part[torch.Tensor]], count: int) -> torch.Tensor:
        """Put rows together."""
        width = max((part.result.shape[1] for part in parts), default=1)
        dtype = self.elements.trace.info[step.results[0]].dtype
        padding = by_name(step.target, step.args, step.kwargs).get("value") if _pads(step) else 0
        found = torch.full((count, width), padding or 0, dtype=dtype)
        for part in parts:
            found[part.rows] = part.result.expand(len(part.rows), width).to(dtype)
        return found


class InClasses:
    """Which elements are the same function: a number each, the same for the same. No two differ by chance."""

    def __init__(self, elements: Elements) -> None:
        self._elements = elements

    def free(self, value: Value, at: torch.Tensor) -> torch.Tensor:
        """Beginnings are what functions are of."""
        return torch.zeros(len(at), dtype=torch.int64)

    def constant(self, tensor: torch.Tensor, at: torch.Tensor | None) -> torch.Tensor:
        """Return a number for each that there is."""
        if at is None:
            return torch.zeros(1, dtype=torch.int64)
        return tensor.unique(return_inverse=True)[1][at]

    def apply(self, step: Step, operands: Mapping[Value, torch.Tensor], at: torch.Tensor) -> torch.Tensor:
        """Two are the same where all that they take is."""
        found = torch.zeros(len(at), dtype=torch.int64)
        for one in operands.values():
            found = merged(found, one)
        table = table_of(step)
        if name_of(step.target) == "searchsorted" and table is not None and self._elements.values[table].dim() > 1:
            tensor = self._elements.values[table]
            _, rows = tensor.reshape(-1, tensor.shape[-1]).unique(dim=0, return_inverse=True)
            length = self._elements.trace.info[step.results[0]].shape[-1]
            found = merged(found, rows[torch.div(at, length, rounding_mode="floor")])
        return found

    def join(self, step: Step, parts: Sequence[Part[torch.Tensor]], count: int) -> torch.Tensor:
        """Tell apart what comes from different tensors."""
        found = torch.zeros(count, dtype=torch.int64)
        for number, part in enumerate(parts):
            found[part.rows] = part.result * (len(parts) + 1) + number + 1
        return found


def merged(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return a number for each pair of numbers that there is."""
    if not bool(second.any()):
        return first
    if not bool(first.any()):
        return second.expand(len(first))
    _, numbers = (first * (int(second.max()) + 1) + second).unique(return_inverse=True)
    return numbers


def grouped(classes: torch.Tensor) -> tuple[int, torch.Tensor, torch.Tensor]:
    """Return how many classes there are, each element's, and an element of each."""
    kinds, rows = classes.unique(return_inverse=True)
    first = torch.full((len(kinds),), len(rows)).scatter_reduce_(0, rows, torch.arange(len(rows)), "amin")
    return len(kinds), rows, first


def some_of(count: int) -> torch.Tensor:
    """Return the places of all elements, or of some at random where they are many."""
    return torch.arange(count) if count <= _MANY else torch.randint(0, count, (_MANY,)).sort().values


def bisected(
    levels_at: Callable[[torch.Tensor], torch.Tensor], levels: torch.Tensor, least: torch.Tensor, most: torch.Tensor
) -> torch.Tensor:
    """Return the least whole number that a function which never falls takes to each level; `most` + 1 if none.

    Args:
        levels_at: the function, for a row of numbers for each kind of elements.
        levels: the levels.
        least: the first number, a column of a row for each kind.
        most: the last.

    """
    low, high = (one.expand(len(least), len(levels)).clone() for one in (least, most + 1))
    while bool((low < high).any()):
        middle = torch.div(low + high, 2, rounding_mode="floor").minimum(most)
        above, open_ = levels_at(middle) >= levels, low < high
        high = torch.where(above & open_, middle, high)
        low = torch.where(~above & open_, middle + 1, low)
    return low


class Touching:
    """Which element of one beginning each element reads: -1 for none."""

    def __init__(self, beginnings: frozenset[Value]) -> None:
        self._beginnings = beginnings

    def free(self, value: Value, at: torch.Tensor) -> torch.Tensor:
        """Return its own place."""
        return at if value in self._beginnings else torch.full_like(at, -1)

    def constant(self, tensor: torch.Tensor, at: torch.Tensor | None) -> torch.Tensor:
        """Return that it reads none."""
        return torch.tensor([-1])

    def apply(self, step: Step, operands: Mapping[Value, torch.Tensor], at: torch.Tensor) -> torch.Tensor:
        """Take the one that is read.

        Raises:
            UndecidedError: several are.

        """
        found = torch.full_like(at, -1)
        for one in operands.values():
            if bool(((found >= 0) & (one >= 0) & (found != one)).any()):
                raise UndecidedError(f"{name_of(step.target)} puts several elements of an operand together")
            found = torch.where(found >= 0, found, one)
        return found

    def join(self, step: Step, parts: Sequence[Part[torch.Tensor]], count: int) -> torch.Tensor:
        """Put rows together."""
        found = torch.full((count,), -1)
        for part in parts:
            found[part.rows] = part.result
        return found


class Turning:
    """Which way each element goes as the one beginning grows: 1 up, -1 down, 0 not at all.

    IEEE rounding is monotone, and so are casts, as long as they stay in range; what may turn is refused.
    """

    _KEEPING = frozenset(
        """round floor ceil trunc _to_copy to clamp clamp_min clamp_max relu hardtanh clone copy contiguous nan_to_num
        bitwise_right_shift rshift bucketize searchsorted""".split()
    )

    def __init__(self, elements: Elements) -> None:
        self._elements = elements

    def free(self, value: Value, at: torch.Tensor) -> torch.Tensor:
        """Return that it grows."""
        return torch.ones(len(at), dtype=torch.int64)

    def constant(self, tensor: torch.Tensor, at: torch.Tensor | None) -> torch.Tensor:
        """Return that it stays."""
        return torch.zeros(1, dtype=torch.int64)

    def apply(self, step: Step, operands: Mapping[Value, torch.Tensor], at: torch.Tensor) -> torch.Tensor:
        """Compose.

        Raises:
            UndecidedError: it may turn.

        """
        name = name_of(step.target)
        signs = [operands.get(one) for one in step.takes]
        moving = [sign for sign in signs if sign is not None and bool(sign.any())]
        if name in self._KEEPING and len(moving) == 1:
            table = table_of(step)
            rows = self._elements.values[table] if table is not None else torch.zeros(1)
            if bool((rows[..., 1:] < rows[..., :-1]).any()):
                raise UndecidedError(f"{name} in what is not sorted")
            return moving[0]
        if name in ("add", "maximum", "minimum", "sub", "rsub"):
            return self._summed(step, name, operands)
        if name == "neg":
            return -moving[0]
        if name in ("mul", "div", "true_divide", "ldexp") and len(moving) == 1:
            return self._scaled(step, operands, at)
        raise UndecidedError(f"{name} may turn")

    def _summed(self, step: Step, name: str, operands: Mapping[Value, torch.Tensor]) -> torch.Tensor:
        given = by_name(step.target, step.args, step.kwargs)
        alpha = given.get("alpha", 1)
        weights = {"sub": (1, -1), "rsub": (-1, 1)}.get(name, (1, 1))
        names = [one.name for one in step.target._schema.arguments][:2]
        total = torch.zeros(1, dtype=torch.int64)
        for key, weight in zip(names, weights, strict=True):
            sign = operands.get(given[key]) if isinstance(given[key], Value) else None
            if sign is None:
                continue
            factor = weight * (1 if key == "self" or alpha >= 0 else -1)
            if name == "rsub" and alpha < 0:
                factor = 1
            if bool((total * sign * factor < 0).any()):
                raise UndecidedError(f"{name} may turn")
            total = (total + sign * factor).sign()
        return total

    def _scaled(self, step: Step, operands: Mapping[Value, torch.Tensor], at: torch.Tensor) -> torch.Tensor:
        """Turn where a factor is below 0; what is divided must not be the divisor."""
        given = by_name(step.target, step.args, step.kwargs)
        first, second = given["self"], given["other"]
        data = [one for one in (first, second) if isinstance(one, Value) and bool(operands[one].any())]
        other = second if data[0] is first else first
        if len(data) != 1 or (data[0] is second and name_of(step.target) != "mul"):
            raise UndecidedError(f"{name_of(step.target)} may turn")
        if name_of(step.target) == "ldexp":
            return operands[data[0]]
        if isinstance(other, Value):
            factor = self._elements.values[other]
            spread = factor.reshape(-1)
            if len(spread) > 1:
                spread = spread[self._elements._spread(other, step.results[0], at)]
        else:
            spread = torch.tensor([float(other)])
        return operands[data[0]] * spread.sign().to(torch.int64)

    def join(self, step: Step, parts: Sequence[Part[torch.Tensor]], count: int) -> torch.Tensor:
        """Put rows together."""
        found = torch.zeros(count, dtype=torch.int64)
        for part in parts:
            found[part.rows] = part.result.expand(len(part.rows))
        return found


def _pads(step: Step) -> bool:
    return name_of(step.target) == "constant_pad_nd"
