"""Which elements each element of a segment comes from, and what is done in float on the way.

Beside each tensor goes a tensor of ids: the number of the integer element that an element is a function of, or none
(-1) for a constant. What moves elements is run on the ids. An operator that works element by element keeps an id where
all that it takes agrees, and else joins elements: integers are then a new root, and floats are float compute. A scale
that is found at run time, the range of floats that are not levels yet, is no data, as long as it meets its own tensor.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_map

from pt2e_ci.operators.names import by_name, name_of
from pt2e_ci.operators.row import Kind
from pt2e_ci.operators.rows import is_elementwise, is_moving, is_scaling, kind_of, row_of
from pt2e_ci.program.trace import Value, tensors_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from pt2e_ci.program.trace import Step, Trace

_RANGES = frozenset("amin amax aminmax min max".split())
_REDUCTIONS = _RANGES | frozenset("sum mean any all prod".split())
TABLES = frozenset("index index_select gather embedding take".split())
"""What looks a table up, or picks from one."""

_PLACING = frozenset("index_put index_copy scatter masked_scatter".split())
_NONE = frozenset[Value]()


@dataclass(frozen=True)
class Segment:
    """The part of a trace between some tensors and one that is worked out from them.

    Attributes:
        trace: the trace.
        target: what is worked out.
        cuts: where it begins, such as the levels of an operator's operands.
        steps: the places in the line of the operators between.

    """

    trace: Trace
    target: Value
    cuts: tuple[Value, ...]
    steps: tuple[int, ...]

    @classmethod
    def between(cls, trace: Trace, cuts: Iterable[Value], target: Value) -> Segment:
        """Walk back from the target to the cuts, and to the program's inputs where it reads around them."""
        cuts, waiting, steps = tuple(cuts), [target], set[int]()
        seen = set(cuts)
        while waiting:
            value = waiting.pop()
            if value in seen:
                continue
            seen.add(value)
            place = trace.maker.get(value)
            if place is None or place in steps:
                continue
            step = trace.steps[place]
            steps.add(place)
            if kind_of(step.target) is not Kind.CONSTANT:
                waiting += step.reads
        return cls(trace, target, cuts, tuple(sorted(steps)))

    @cached_property
    def values(self) -> frozenset[Value]:
        """All its tensors."""
        steps = [self.trace.steps[place] for place in self.steps]
        return frozenset((self.target, *self.cuts, *(value for step in steps for value in (*step.reads, *step.gives))))

    @cached_property
    def inputs(self) -> frozenset[Value]:
        """The program's inputs that are read around the cuts, for whatever."""
        read = {value for place in self.steps for value in self.trace.steps[place].takes} | {self.target}
        return frozenset(read & {*self.trace.inputs}) - {*self.cuts}

    @cached_property
    def beginnings(self) -> frozenset[Value]:
        """What the operators take that none of them gives."""
        steps = [self.trace.steps[place] for place in self.steps]
        given = {value for step in steps for value in step.gives}
        return frozenset(value for step in steps for value in step.reads if value not in given)


@dataclass
class Provenance:
    """What became of the elements of a segment's beginnings.

    Attributes:
        in_float: the operators that compute in float, each with the dtype.
        unseen: the operators that cannot be looked into.
        around: the program's inputs that the target reads around the cuts.
        dtypes: the float dtypes on the way from integers to the target.
        float_steps, integer_steps: the places in the line of what computes, in float and on integers.
        ids: of each element of the target, the number of the element that it is a function of.
        roots: the tensors whose elements have numbers of their own, each with its first.

    """

    in_float: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    around: frozenset[Value] = _NONE
    dtypes: set[torch.dtype] = field(default_factory=set)
    float_steps: list[int] = field(default_factory=list)
    integer_steps: list[int] = field(default_factory=list)
    ids: torch.Tensor | None = None
    roots: list[tuple[int, Value]] = field(default_factory=list)

    def root(self, values: Mapping[Value, torch.Tensor]) -> tuple[Value, torch.Tensor] | None:
        """Return the one tensor that the target's elements are functions of, and their places in it."""
        if self.ids is None or self.unseen or not self.ids.numel():
            return None
        ids = self.ids.reshape(-1)
        least, most = int(ids.min()), int(ids.max())
        known = [one for one in self.roots if one[0] <= least]
        if least < 0 or not known:
            return None
        first, value = max(known, key=lambda one: one[0])
        return (value, ids - first) if most < first + values[value].numel() else None


def provenance(
    segment: Segment,
    values: Mapping[Value, torch.Tensor],
    operator: str = "",
    constants: Collection[Value] = (),
    *,
    is_dynamic: bool = False,
) -> Provenance:
    """Follow the elements through a segment.

    Args:
        segment: the segment.
        values: all tensors of a run.
        operator: the name of the quantized operator: called on floats, it is float compute, if it is no arithmetic.
        constants: levels that are constants of the program and operands of the operator, as a quantized scalar is.
        is_dynamic: whether the program is to find scales at run time, of what an operator gave, too.

    """
    return _Follower(segment, values, operator, constants, is_dynamic).follow()


class _Follower:
    """One pass over a segment."""

    def __init__(
        self,
        segment: Segment,
        values: Mapping[Value, torch.Tensor],
        operator: str,
        constants: Collection[Value],
        is_dynamic: bool,
    ) -> None:
        self._trace, self._segment, self._operator = segment.trace, segment, operator
        self._values, self._is_dynamic = values, is_dynamic
        self._found = Provenance()
        self._ids: dict[Value, torch.Tensor] = {}
        self._sources: dict[Value, frozenset[Value]] = {}  # the cuts and inputs that an element's value carries
        self._ranges: dict[Value, frozenset[Value]] = {}  # of a range: the inputs that it is of
        self._raw: set[Value] = set()  # floats that have not been levels yet
        self._next = 0
        self._done: set[Value] = set()  # what the operator gave on integers, and what was made of it
        for value in (*segment.cuts, *self._trace.inputs, *constants):
            if value not in self._ids:
                self._root(value, frozenset({value}))
        self._raw.update(value for value in self._ids if self._is_float(value))
        self._origins = self._trace.origins

    def follow(self) -> Provenance:
        for place in self._segment.steps:
            step = self._trace.steps[place]
            if kind_of(step.target) is Kind.CONSTANT:
                continue
            given = [value for value in dict.fromkeys(step.takes) if value in self._ids or value in self._ranges]
            if given and any(value not in self._segment.cuts for value in step.gives):
                before = len(self._found.in_float) + len(self._found.unseen), self._next
                if any(value in self._done for value in given):
                    self._done.update(step.gives)
                self._take(step, given)
                if len(self._found.in_float) + len(self._found.unseen) > before[0]:
                    self._found.float_steps.append(place)
                elif self._next > before[1]:
                    self._found.integer_steps.append(place)
        target = self._segment.target
        if target in self._ranges:
            self._found.in_float.append("a range of floats")
        self._found.ids = self._ids.get(target)
        self._found.around = (self._sources.get(target, _NONE) & frozenset(self._trace.inputs)) - {*self._segment.cuts}
        return self._found

    def _take(self, step: Step, given: list[Value]) -> None:
        name, data = name_of(step.target), [value for value in given if value in self._ids]
        if step.is_opaque:
            self._found.unseen.append(name)
            self._roots(step, data)
        elif step.is_inside and step.target is torch.clone:  # a part of what a loop was given
            self._roots(step, data)
        elif not data and not self._keeps_range(step, name):
            self._in_float(step, name)
        elif not data or self._is_range(step, name, data):
            self._found_range(step, given)
        elif name == "view" and step.target._overloadname == "dtype":  # the same bits, read otherwise
            self._compute(step, name, data)
        elif (
            (is_moving(step.target) and self._move(step))
            or self._place(step, name)
            or (name in TABLES and self._look_up(step, name, data))
            or (name in _REDUCTIONS and len(step.takes) == 1 and self._reduce(step, name, data[0]))
            or ((is_elementwise(name) or kind_of(step.target) is Kind.QDQ) and self._combine(step, name, given, data))
        ):
            self._note_float(step, name, data)
        else:
            self._compute(step, name, data)

    # What each way of computing does with ids: False where it is none of this way.

    def _move(self, step: Step) -> bool:
        args, kwargs = tree_map(self._as_ids, (step.args, dict(step.kwargs)))
        name = name_of(step.target)
        if name == "constant_pad_nd":
            args, kwargs = (*args[:2], -1), {}
        if name == "im2col":  # which has no kernel for integers, and pads with 0: ids begin at 1 there
            args = ((args[0] + 1).double(), *args[1:])
        moved = step.target(*args, **kwargs)
        for value, ids in zip(step.results, tensors_in(moved), strict=True):
            self._set(value, ids.long() - 1 if name == "im2col" else ids)
        self._carry(step)
        return True

    def _place(self, step: Step, name: str) -> bool:
        """Put floats at places that are constant."""
        if name not in _PLACING or not self._is_float(step.gives[0]) or "value" in step.target._overloadname:
            return False
        indices = [value for value in step.takes if not self._is_float(value)]
        if any(value in self._ids for value in indices):
            return False
        args, kwargs = tree_map(self._as_ids_at(indices), (step.args, dict(step.kwargs)))
        args = tuple(one.clone() if isinstance(one, torch.Tensor) else one for one in args)
        self._write(step, step.target(*args, **kwargs))
        self._carry(step)
        return True

    def _look_up(self, step: Step, name: str, data: list[Value]) -> bool:
        """Look up a constant table at a place that is data, or data at a place that is constant."""
        table, shape = step.takes[0], self._info(step.results[0]).shape
        if table not in self._ids:
            (index, *others) = data
            ids, dimensions = self._ids[index], len(self._info(table).shape)
            if name == "embedding":
                ids = ids.unsqueeze(-1)
            # Each element is of one place alone where all dimensions are looked up.
            whole = len([one for one in step.args[1] if one is not None]) == dimensions if name == "index" else True
            if others or not whole or (name == "index_select" and dimensions > 1) or not _broadcasts(ids.shape, shape):
                return False
            self._set(step.results[0], ids.expand(shape))
        elif data == [table]:
            places = [value for value in step.takes if value != table]
            args, kwargs = tree_map(self._as_ids_at(places), (step.args, dict(step.kwargs)))
            self._set(step.results[0], step.target(*args, **kwargs))
        else:
            return False
        self._carry(step)
        return True

    def _reduce(self, step: Step, name: str, value: Value) -> bool:
        """Elements that are all functions of one stay functions of it, whatever is made of them."""
        if not self._ids[value].numel():
            return False
        least, most = (_reduced(kind, self._ids[value], step) for kind in ("amin", "amax"))
        results = step.results
        if not bool((least == most).all()) or any(self._info(one).shape != least.shape for one in results[:1]):
            return False
        for one in results:
            self._set(one, least.reshape(self._info(one).shape))
        self._carry(step)
        return True

    def _combine(self, step: Step, name: str, given: list[Value], data: list[Value]) -> bool:
        """Element by element: all that an element is made of must be one id."""
        gives = step.gives
        shape = self._info(gives[0]).shape
        ids: torch.Tensor | None = None
        written = {before for before, _ in step.written}
        if name in ("fill", "copy") and written:  # what was there is gone
            data = [value for value in data if value not in written]
        for value in data:
            other = self._ids[value]
            if not _broadcasts(other.shape, shape):
                return False
            other = other.expand(shape)
            if ids is None or ids is other:
                ids = other
                continue
            if bool(((ids >= 0) & (other >= 0) & (ids != other)).any()):
                return False
            ids = torch.where(ids >= 0, ids, other)
        self._check_ranges(step, name, given, data)
        self._write(step, torch.full(shape, -1) if ids is None else ids)
        self._carry(step)
        return True

    def _compute(self, step: Step, name: str, data: list[Value]) -> None:
        """Elements are joined: a root of its own, and no compute on integers where any of it is float."""
        if any(self._is_float(value) for value in (*data, *step.gives)):
            self._in_float(step, name)
        elif name == self._operator:
            self._done.update(step.gives)
        self._roots(step, data)

    # Ranges.

    def _is_range(self, step: Step, name: str, data: list[Value]) -> bool:
        """Tell whether a scale is found here: the range of floats that are not levels yet."""
        if not self._is_dynamic or not self._is_float(data[0]):
            return False
        if name.startswith("choose_qparams"):
            return True
        if name not in _RANGES or len(step.takes) != 1 or not self._ids[data[0]].numel():
            return False
        least, most = (_reduced(kind, self._ids[data[0]], step) for kind in ("amin", "amax"))
        # Of one element it is that element, with a constant beside it, too.
        return bool(((least != most) & (least >= 0)).all())

    def _keeps_range(self, step: Step, name: str) -> bool:
        """Tell whether what is made of ranges alone may be a scale or a zero point."""
        return is_elementwise(name) or is_moving(step.target) or name in _REDUCTIONS or kind_of(step.target) is Kind.QDQ

    def _found_range(self, step: Step, given: list[Value]) -> None:
        inputs = _NONE.union(*(self._ranges.get(value, self._origins.get(value, _NONE)) for value in given))
        for value in step.gives:
            self._ranges[value] = inputs

    def _check_ranges(self, step: Step, name: str, given: list[Value], data: list[Value]) -> None:
        sources = _NONE.union(*(self._origins.get(one, _NONE) for value in data for one in self._sources[value]))
        for value in given:
            if value in self._ranges and not self._ranges[value] & sources:
                self._found.in_float.append(f"{name} of a tensor and the range of another one")

    # What is noted.

    def _note_float(self, step: Step, name: str, data: list[Value]) -> None:
        dtypes = {self._info(value).dtype for value in (*data, *step.gives) if self._is_float(value)}
        packed = {dtype for dtype in dtypes if not (dtype.is_floating_point or dtype.is_complex)}
        dtypes -= packed
        if packed and kind_of(step.target) is not Kind.QDQ:  # what torch does with its quantized dtypes is not seen
            self._in_float(step, name)
        if not dtypes and name == self._operator:
            self._done.update(step.gives)
        if not dtypes or name.startswith("quantize"):
            self._found.dtypes |= dtypes
            return
        # Floats that have not been levels yet are not requantized.
        if any(value not in self._raw for value in (*data, *step.gives)):
            self._found.dtypes |= dtypes
        row = row_of(step.target)
        is_work = name == self._operator and (
            (row is not None and row.kind in (Kind.ACTIVATION, Kind.JOIN, Kind.POOLING)) or self._is_of_two(step)
        )
        is_table = name in TABLES or name in _PLACING or is_moving(step.target) or kind_of(step.target) is Kind.QDQ
        if is_work or not (is_scaling(name) or is_table):
            self._in_float(step, name)

    def _is_of_two(self, step: Step) -> bool:
        """Tell whether it puts a tensor together with itself, as `x + x` does, and integers were not before."""
        return sum(value in self._ids and value not in self._done for value in step.takes) > 1

    def _in_float(self, step: Step, name: str) -> None:
        values = (*step.takes, *step.gives)
        dtype = next((self._info(value).dtype for value in values if self._is_float(value)), "integers")
        self._found.in_float.append(f"{name} on {str(dtype).removeprefix('torch.')}")

    def _carry(self, step: Step) -> None:
        """Pass on what elements carry, and whether they are raw."""
        data = [value for value in step.takes if value in self._sources]
        sources = _NONE.union(*(self._sources[value] for value in data))
        is_raw = any(value in self._raw for value in data)
        for value in step.gives:
            self._sources[value] = sources
            if is_raw and self._is_float(value):
                self._raw.add(value)

    def _roots(self, step: Step, data: Sequence[Value]) -> None:
        sources = _NONE.union(*(self._sources[value] for value in data))
        written = {after for _, after in step.written}
        for value in step.results:
            if value not in written:
                self._root(value, sources)
        if written:
            target = next((value for value in step.results if value in written), step.gives[0])
            self._write(step, self._fresh(target))
            self._sources |= dict.fromkeys(written, sources)

    def _root(self, value: Value, sources: frozenset[Value]) -> None:
        self._found.roots.append((self._next, value))
        self._set(value, self._fresh(value))
        self._sources[value] = sources

    def _fresh(self, value: Value) -> torch.Tensor:
        """Return an id of its own for each element."""
        shape = self._info(value).shape
        first, self._next = self._next, self._next + torch.Size(shape).numel()
        return torch.arange(first, self._next).reshape(shape)

    def _write(self, step: Step, ids: torch.Tensor) -> None:
        """Set the ids of what a step gives; a write changes what shares its memory, too."""
        afters = {after for _, after in step.written}
        for value in step.results:
            if value not in afters:
                self._set(value, ids)
        target = next((value for value in step.results if value in afters), None)
        befores = {after: before for before, after in step.written}
        if target is None:
            for after in afters:
                self._set(after, ids)
            return
        if self._id_tensor(befores[target]).shape != ids.shape:  # it was given another size, too
            for after in afters:
                same = self._info(after).shape == tuple(ids.shape)
                self._set(after, ids if same else torch.full(self._info(after).shape, -1))
            return
        kept = {before: self._id_tensor(before).clone() for before in befores.values()}
        self._id_tensor(befores[target]).copy_(ids)
        for after, before in befores.items():
            self._ids[after] = self._id_tensor(before)
        for before, old in kept.items():
            self._ids[before] = old

    def _set(self, value: Value, ids: torch.Tensor) -> None:
        info = self._info(value)
        if tuple(ids.stride()) != info.strides and info.strides and 0 not in info.strides:
            ids = torch.empty_strided(info.shape, info.strides, dtype=torch.int64).copy_(ids)
        self._ids[value] = ids

    def _id_tensor(self, value: Value) -> torch.Tensor:
        if value not in self._ids:
            self._set(value, torch.full(self._info(value).shape, -1))
            self._sources[value] = _NONE
        return self._ids[value]

    def _as_ids(self, leaf: Any) -> Any:
        return self._id_tensor(leaf) if isinstance(leaf, Value) else leaf

    def _as_ids_at(self, indices: Sequence[Value]) -> Any:
        def convert(leaf: Any) -> Any:
            if not isinstance(leaf, Value):
                return leaf
            return self._values[leaf] if leaf in indices else self._id_tensor(leaf)

        return convert

    def _info(self, value: Value) -> Any:
        return self._trace.info[value]

    def _is_float(self, value: Value) -> bool:
        """Tell whether a tensor holds no integers and no truth values; complex numbers are float, too."""
        info = self._info(value)
        return not (info.is_integer or info.dtype is torch.bool)


def _broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    """Tell whether a shape expands to another."""
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(reversed([*shape]), reversed([*to]), strict=False))


def _reduced(kind: str, ids: torch.Tensor, step: Step) -> torch.Tensor:
    """Return the least or the largest id over the dimensions that a reduction goes over."""
    named = by_name(step.target, step.args, step.kwargs)
    dims, keep = named.get("dim"), bool(named.get("keepdim", False))
    dims = [*range(ids.dim())] if dims is None or dims == [] else [dims] if isinstance(dims, int) else [*dims]
    return getattr(torch, kind)(ids, dims, keep) if ids.dim() else ids
