"""The trace of a program: the straight line of operators that ran when it was given inputs.

A dispatch mode below autograd sees every operator with its real dtypes, whatever called it: a node of the graph, code
of the user's own, the kernel of an operator that is written in Python, the body of a loop. Each tensor has a name for
as long as it keeps its value: a write in place gives new names to what it changed, and to all that share its memory.
What is asked of a program's structure is asked of this line, and it can be run again with other values, as long as
none was made a number of Python's on the way.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from torch._higher_order_ops.out_dtype import out_dtype, out_dtype_dense
from torch.fx import GraphModule, Interpreter, Node
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from pt2e_ci.operators.names import is_native, is_out_dtype, name_of, qualified_name, written_arguments
from pt2e_ci.operators.row import Kind
from pt2e_ci.operators.rows import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

# What hands a tensor's values to Python, where no operator is seen any more.
_LEAVES = frozenset("_local_scalar_dense equal is_nonzero".split())
_LEAVING_METHODS = frozenset("tolist numpy __array__ data_ptr untyped_storage __dlpack__".split())
# An operator of torchao's checks what it is given by the truth of a tensor, and raises where that does not hold.
_CHECKED = "torchao"
_INTEGERS = {torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64} | {
    dtype for name in ("uint16", "uint32", "uint64") if (dtype := getattr(torch, name, None)) is not None
}


@dataclass(frozen=True)
class Value:
    """The name of a tensor as one operator gave it."""

    index: int


@dataclass(frozen=True)
class TensorInfo:
    """The dtype and shape of a tensor, and how it lies in memory."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...] = field(default=(), compare=False)

    @property
    def is_integer(self) -> bool:
        """Whether it holds integers (bool is none: it counts nothing; nor are torch's quantized dtypes)."""
        return self.dtype in _INTEGERS

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} {self.shape}"


@dataclass(frozen=True)
class Step:
    """One operator that ran.

    Attributes:
        target: the overload.
        args, kwargs: what it was given, with a `Value` for each tensor.
        results: the tensors that it gave, in order.
        written: what it changed in place: the name before, and the name after.
        is_inside: whether it ran in the body of a higher-order operator, which is a step as a whole, too.
        bodies: what the bodies of a higher-order operator gave.
        is_opaque: whether what it does cannot be seen: its kernel is none of torch's, and calls no operator.

    """

    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    results: tuple[Value, ...]
    written: tuple[tuple[Value, Value], ...] = ()
    is_inside: bool = False
    bodies: tuple[Value, ...] = ()
    is_opaque: bool = False

    @cached_property
    def takes(self) -> list[Value]:
        """What it was given, as often as it was given it."""
        return values_in((self.args, self.kwargs))

    @cached_property
    def reads(self) -> list[Value]:
        """What its results come from: what it was given, what bodies gave, and what it changed."""
        return [*self.takes, *self.bodies, *(before for before, _ in self.written)]

    @property
    def gives(self) -> list[Value]:
        """What it gave or changed."""
        return [*self.results, *(after for _, after in self.written)]


@dataclass(frozen=True)
class Call:
    """A node of the program as it ran.

    Attributes:
        node: the node.
        results: the tensors that it gave, in order.
        first, end: the operators that ran in it, as a range of the trace's steps.

    """

    node: Node
    results: tuple[Value, ...]
    first: int
    end: int


@dataclass
class Trace:
    """What ran when a program was given inputs.

    Attributes:
        program: the program.
        inputs: the names of its inputs that are tensors.
        outputs: the leaves of what it gave, in order.
        layout: how they are put together in tuples, lists and dicts.
        output_values: the names of those leaves; None for what is no tensor.
        calls: its nodes, in the order in which they ran; none where the program was called, and not interpreted.
        steps: all operators, in the order in which they ran.
        info: dtype and shape of each tensor.
        constants: the tensors that no operator gave, as they were before the run.
        state: the program's own tensors that it changed.
        depends: the tensors that depend on the inputs.
        exits: the calls that handed values which depend on the inputs to Python.
        branches: those of them that asked whether a tensor is true.

    """

    program: GraphModule
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    layout: str = ""
    output_values: list[Value | None] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    info: dict[Value, TensorInfo] = field(default_factory=dict)
    constants: dict[Value, torch.Tensor] = field(default_factory=dict)
    state: list[torch.Tensor] = field(default_factory=list)
    depends: set[Value] = field(default_factory=set)
    exits: list[str] = field(default_factory=list)
    branches: list[str] = field(default_factory=list)

    @cached_property
    def live(self) -> set[Value]:
        """The tensors that the outputs depend on: what is computed for nothing does not count."""
        found = {value for value in self.output_values if value is not None}
        for step in reversed(self.steps):
            if any(value in found for value in step.gives):
                found.update(step.reads)
        return found

    def results_of(self, node: Node) -> tuple[Value, ...]:
        """Return the tensors that a node gave."""
        return self._by_node[node].results if node in self._by_node else ()

    def is_live(self, node: Node) -> bool:
        """Tell whether the outputs depend on a node."""
        call = self._by_node.get(node)
        if call is None:
            return node.op == "output"
        gives = [*call.results, *(value for step in self.steps[call.first : call.end] for value in step.gives)]
        return any(value in self.live for value in gives)

    @cached_property
    def _written(self) -> set[Value]:
        """The tensors that are written into, or share memory with one that is."""
        return {before for step in self.steps for before, _ in step.written}

    @cached_property
    def _by_node(self) -> dict[Node, Call]:
        return {call.node: call for call in self.calls}

    @cached_property
    def maker(self) -> dict[Value, int]:
        """The place in the line of the operator that gave each tensor."""
        return {value: position for position, step in enumerate(self.steps) for value in step.gives}

    @cached_property
    def origins(self) -> dict[Value, frozenset[Value]]:
        """The inputs that each tensor depends on."""
        found = {value: frozenset({value}) for value in self.inputs}
        none = frozenset[Value]()
        for step in self.steps:
            inputs = none.union(*(found.get(value, none) for value in (*step.takes, *step.bodies)))
            found |= dict.fromkeys(step.gives, inputs)
        return found

    @property
    def line(self) -> list[Any]:
        """What ran, without the values: the same for all inputs, unless the program looks at them."""
        found = []
        for step in self.steps:
            name, infos = qualified_name(step.target), [self.info[one] for one in step.gives]
            # torch shapes a product in one way where it is called, and in another in an interpreter.
            name = name.replace("._unsafe_view.", ".view.")
            if name.startswith("aten.squeeze_."):
                name, infos = name.replace("squeeze_", "squeeze"), infos[-1:]
            found.append((name, *infos))
        return found

    @cached_property
    def _last(self) -> dict[int, list[Value]]:
        """The tensors that no operator after a place in the line needs."""
        ends: dict[Value, int] = {}
        for position, step in enumerate(self.steps):
            written = (value for pair in step.written for value in pair)
            ends |= dict.fromkeys((*values_in((step.args, step.kwargs)), *step.results, *written), position)
        found: dict[int, list[Value]] = defaultdict(list)
        for value, position in ends.items():
            found[position].append(value)
        return found

    def replay(
        self,
        inputs: Sequence[torch.Tensor],
        substitutes: Mapping[Value, torch.Tensor] | None = None,
        keep: Collection[Value] | None = None,
    ) -> dict[Value, torch.Tensor]:
        """Run the line again on other inputs, or with other tensors in place of what it gave.

        Return all tensors; or those to keep, with no more memory in use beside them than the program itself needs.
        """
        given = {name: tensor.clone() for name, tensor in (substitutes or {}).items()}
        found = {name: tensor.clone() if name in self._written else tensor for name, tensor in self.constants.items()}
        found |= {name: tensor.clone() for name, tensor in zip(self.inputs, inputs, strict=True)}
        found |= given

        def value(leaf: Any) -> Any:
            return found[leaf] if isinstance(leaf, Value) else leaf

        with torch.no_grad():
            for position, step in enumerate(self.steps):
                if step.is_inside:
                    continue
                args, kwargs = filled(step.args, value), filled(step.kwargs, value)
                kept = {before: found[before].clone() for before, _ in step.written}
                result = step.target(*args, **kwargs)
                for name, tensor in zip(step.results, tensors_in(result), strict=True):
                    found.setdefault(name, tensor)
                for before, after in step.written:
                    found.setdefault(after, found[before])
                found |= kept
                if keep is not None:
                    for name in (one for one in self._last[position] if one not in keep):
                        found.pop(name, None)
        return found


@dataclass(frozen=True)
class Run:
    """One run of a program: its outputs, how they are put together, and the values of nodes that were to be kept."""

    outputs: list[Any]
    layout: str
    kept: dict[Node, Any]


class _Observer(TorchDispatchMode):
    """Writes the line down while a program runs."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._trace = trace
        self._names: dict[int, Value] = {}
        self._alive: list[torch.Tensor] = []  # so that no id is given twice
        self._sharing: dict[int, list[torch.Tensor]] = defaultdict(list)
        self._checks = 0  # how many of torch's own operators, which check what they are given, are running
        self._sources: list[Value] | None = None
        self._bodies: list[Value] = []

    @classmethod
    def supports_higher_order_operators(cls) -> bool:
        """Say so: they come to `__torch_dispatch__`, too."""
        return True

    def name(self, tensor: torch.Tensor) -> Value:
        """Give a tensor a name of its own."""
        value = Value(len(self._trace.info))
        strides = tuple(tensor.stride()) if tensor.layout is torch.strided else ()
        self._trace.info[value] = TensorInfo(tensor.dtype, tuple(tensor.shape), strides)
        if id(tensor) not in self._names:
            self._alive.append(tensor)
            self._sharing[_memory(tensor)].append(tensor)
        self._names[id(tensor)] = value
        return value

    def value_of(self, tensor: torch.Tensor) -> Value:
        """Return the name that a tensor has now; what no operator gave is a constant, or a view that none made."""
        if id(tensor) in self._names:
            return self._names[id(tensor)]
        shared = next(iter(self._sharing.get(_memory(tensor), [])), None)
        base = self._names[id(shared)] if shared is not None and shared.dtype is tensor.dtype else None
        if base is not None and base not in self._trace.constants:
            place = ([*tensor.shape], [*tensor.stride()], tensor.storage_offset())
            return self.note(torch.ops.aten.as_strided.default, (base, *place), {}, [tensor]).results[0]
        if self._sources is not None:  # what a higher-order operator hands its body is a part of what it was given
            return self.note(torch.clone, tuple(self._sources), {}, [tensor]).results[0]
        value = self.name(tensor)
        self._trace.constants[value] = tensor
        return value

    def note(self, target: Any, args: Any, kwargs: Any, results: Sequence[torch.Tensor], **fields: Any) -> Step:
        """Add a step; `args` and `kwargs` have names already."""
        gives = tuple(self._names.get(id(tensor)) or self.name(tensor) for tensor in results)
        step = Step(target, tuple(args), dict(kwargs), gives, is_inside=self._sources is not None, **fields)
        if kind_of(target) is not Kind.CONSTANT and any(value in self._trace.depends for value in step.takes):
            self._trace.depends.update(step.gives)
        self._trace.steps.append(step)
        return step

    def named(self, tree: Any) -> Any:
        """Put names in place of tensors."""
        return filled(tree, lambda leaf: self.value_of(leaf) if isinstance(leaf, torch.Tensor) else leaf)

    def leaves(self, name: str, tensors: Iterable[torch.Tensor]) -> None:
        """Note that Python is about to look at values."""
        left = [tensor for tensor in tensors if self._names.get(id(tensor)) in self._trace.depends]
        is_truth = name != "equal" and all(tensor.dtype is torch.bool for tensor in left)
        if left and not (self._checks and is_truth):
            (self._trace.branches if is_truth else self._trace.exits).append(name)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, torch._ops.HigherOrderOperator):
            with self:
                return self.run_higher(func, args, kwargs)
        if not is_native(func):
            return self.look_into(func, args, kwargs)
        if _is_composite(func):  # below autograd, as in the kernel of another, it is not taken apart yet
            with self:
                return func.decompose(*args, **kwargs)
        if name_of(func) in _LEAVES:
            self.leaves(name_of(func), tensors_in((args, kwargs)))
        named = self.named((args, kwargs))
        targets = _written(func, args, kwargs)
        sharing = {id(one): one for target in targets for one in self._sharing[_memory(target)]}
        for one in sharing.values():
            self._save(one)
        result = func(*args, **kwargs)
        before = [(self._names[key], one) for key, one in sharing.items()]
        written = tuple((name, self.name(one)) for name, one in before)
        self.note(func, named[0], named[1], tensors_in(result), written=written)
        return result

    def look_into(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run the kernel of an operator that is none of torch's natives, so that what it calls is seen."""
        named, checks = self.named((args, kwargs)), func.namespace == _CHECKED
        first = len(self._trace.info)
        self._checks += checks
        with self:
            result = _redispatched(func, args, kwargs)
        self._checks -= checks
        given = {id(tensor) for tensor in tensors_in((args, kwargs))}
        made = [tensor for tensor in tensors_in(result) if id(tensor) not in given]
        depends = self._trace.depends
        is_data = any(value in depends for value in values_in(named))
        names = {id(one): self._names.get(id(one)) for one in made}
        is_unseen = any(
            (name := names[id(one)]) is None or name.index < first or (is_data and name not in depends) for one in made
        )
        unseen = made if is_unseen else []
        for one in unseen:  # worked out with numbers of Python's: what gave it says nothing
            self.name(one)
        if unseen:
            self.note(func, named[0], named[1], unseen, is_opaque=True)
        return result

    def _save(self, tensor: torch.Tensor) -> None:
        """Keep what a constant is before it is written."""
        value = self._names[id(tensor)]
        if value in self._trace.constants and self._trace.constants[value] is tensor:
            self._trace.constants[value] = tensor.detach().clone()

    def run_higher(self, target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run a higher-order operator so that what its bodies do is seen."""
        if is_out_dtype(target):
            return out_dtype_dense(*args)
        if name_of(target) == "cond":
            chosen, first, second, *operands = args
            return _both(chosen, [self._run_body(body, *operands[0]) for body in (first, second)])
        named = self.named((args, kwargs))
        observed = tree_map(lambda leaf: partial(self._observe, leaf) if isinstance(leaf, GraphModule) else leaf, args)
        before = self._sources, self._bodies
        self._sources, self._bodies = values_in(named), []
        try:
            with _disable_current_modes():  # its own kernel refuses to run under one
                result = target(*observed, **kwargs)
            bodies = tuple(self._bodies)
        finally:
            self._sources, self._bodies = before
        for tensor in tensors_in(result):
            self.name(tensor)  # what a body gave is now what the whole gives
        # A body that is no graph ran where it is not seen.
        self.note(target, named[0], named[1], tensors_in(result), bodies=bodies, is_opaque=not bodies)
        return result

    def _observe(self, body: GraphModule, *operands: Any) -> Any:
        with self:
            result = self._run_body(body, *operands)
        self._bodies += [self.value_of(tensor) for tensor in tensors_in(result)]
        return result

    def _run_body(self, body: GraphModule, *operands: Any) -> Any:
        return _Tracer(body, self._trace, self).run(*operands)


class _Leaving(TorchFunctionMode):
    """Sees the calls that hand values to Python without an operator."""

    def __init__(self, observer: _Observer) -> None:
        super().__init__()
        self._observer = observer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _LEAVING_METHODS:
            self._observer.leaves(func.__name__, tensors_in((args, kwargs)))
        return func(*args, **(kwargs or {}))


class _Tracer(Interpreter):
    """Runs a program node by node under an observer."""

    def __init__(self, program: GraphModule, trace: Trace, observer: _Observer) -> None:
        super().__init__(program)
        self._trace = trace
        self._observer = observer

    def run_node(self, n: Node) -> Any:
        first = len(self._trace.steps)
        if isinstance(n.target, torch._ops.HigherOrderOperator):
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            value = self._observer.run_higher(n.target, args, kwargs)
        else:
            value = super().run_node(n)
        if n.op != "output" and self.module is self._trace.program:  # a body's nodes are steps of what runs it
            results = tuple(self._observer.value_of(tensor) for tensor in tensors_in(value))
            self._trace.calls.append(Call(n, results, first, len(self._trace.steps)))
        return value


def _both(chosen: Any, results: Sequence[Any]) -> Any:
    """Select from what both branches give: the line is then the same for all inputs."""
    flat = [tree_flatten(result)[0] for result in results]
    mask = chosen if isinstance(chosen, torch.Tensor) else torch.tensor(chosen)
    leaves = [torch.where(mask, a, b) for a, b in zip(*flat, strict=True)]
    return tree_unflatten(leaves, tree_flatten(results[0])[1])


def trace(program: GraphModule, inputs: Sequence[Any]) -> Trace:
    """Run a program's graph on `inputs`, node by node, and return what ran; the calls say which node did what.

    Raises what the program raises.
    """
    return _traced(program, inputs, lambda found, observer: _Tracer(program, found, observer).run)


def trace_call(program: GraphModule, inputs: Sequence[Any]) -> Trace:
    """Call a program on `inputs`, as a user does, and return what ran.

    Raises what the program raises.
    """
    return _traced(program, inputs, lambda found, observer: program)


def _traced(
    program: GraphModule, inputs: Sequence[Any], running: Callable[[Trace, _Observer], Callable[..., Any]]
) -> Trace:
    """Run a program under an observer. Inputs stay as they are, and the program's own tensors are put back."""
    found = Trace(program)
    observer = _Observer(found)
    given = tree_map(copied, [*inputs])
    found.inputs += [observer.name(tensor) for tensor in tensors_in(given)]
    found.depends.update(found.inputs)
    own = [*program.parameters(), *program.buffers()]
    before = [copied(tensor) for tensor in own]
    try:
        with torch.no_grad(), observer, _Leaving(observer):
            output = running(found, observer)(*given)
        leaves, found.layout = _flat(output)
        found.output_values = [observer.value_of(leaf) if isinstance(leaf, torch.Tensor) else None for leaf in leaves]
        found.outputs = [copied(leaf) for leaf in leaves]
    except Exception:
        run(program, inputs, ())  # it raises in its own words, without an observer
        raise
    finally:
        # Not every operator says in its schema what it changes: a batch norm in training mode does not.
        changed = [(tensor, kept) for tensor, kept in zip(own, before, strict=True) if not is_same(tensor, kept)]
        found.state = [tensor for tensor, _ in changed]
        put_back(changed)
    return found


def run(program: GraphModule, inputs: Iterable[Any], keep: Iterable[Node], known: Trace | None = None) -> Run:
    """Run a program for its outputs and the values of the nodes in `keep`.

    What its trace, where that is known, says it changes of its own is put back, so that no run sees another.
    """
    state = known.state if known else []
    before = [(tensor, copied(tensor)) for tensor in state]
    # A value that is written later would be another one by the time that it is read.
    keeper = _Keeper(program, keep, copies=known is None or any(step.written for step in known.steps))
    with torch.no_grad():
        try:
            leaves, layout = _flat(keeper.run(*tree_map(copied, [*inputs])))
            outputs = [copied(leaf) for leaf in leaves] if state else leaves
        finally:
            put_back(before)
    return Run(outputs, layout, keeper.kept)


def put_back(changed: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Give tensors back what they held."""
    with torch.no_grad():
        for tensor, kept in changed:
            if tensor.shape == kept.shape:
                tensor.copy_(kept)
            else:  # it was given another size, too
                tensor.data = kept


def is_same(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    """Tell whether two tensors are the same bit for bit, NaN for NaN."""
    return tensor.shape == other.shape and bool(((tensor == other) | ((tensor != tensor) & (other != other))).all())


class _Keeper(Interpreter):
    def __init__(self, program: GraphModule, keep: Iterable[Node], *, copies: bool) -> None:
        super().__init__(program)
        self.kept: dict[Node, Any] = {}
        self._keep = set(keep)
        self._copies = copies

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n in self._keep:
            self.kept[n] = copied(value) if self._copies else value
        return value


@cache
def _is_composite(func: Any) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"))


def _redispatched(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call an operator's CPU kernel, or what it is composed of."""
    if _is_composite(func):
        return func.decompose(*args, **kwargs)
    is_quantized = any(tensor.is_quantized for tensor in tensors_in((args, kwargs)))
    key = torch._C.DispatchKey.QuantizedCPU if is_quantized else torch._C.DispatchKey.CPU
    if hasattr(func, "redispatch"):
        return func.redispatch(torch._C.DispatchKeySet(key), *args, **kwargs)
    return func._op_dk(key, *args, **kwargs)  # torch 2.1


def _written(func: Any, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """Return the tensors that an operator writes into."""
    return tensors_in(written_arguments(func, args, kwargs))


def _memory(tensor: torch.Tensor) -> int:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # such as a sparse one, which has none to share
        return id(tensor)


def copied(value: Any) -> Any:
    """Return a tensor of its own memory; what is no tensor stays."""
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def laid_out_like(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return a tensor with another's strides: what views it depends on them."""
    return torch.empty_like(other, dtype=tensor.dtype).copy_(tensor)


def _flat(output: Any) -> tuple[list[Any], str]:
    leaves, layout = tree_flatten(output)
    return leaves, _layout(tree_unflatten(["*"] * len(leaves), layout))


def _layout(value: Any) -> str:
    """Return the shape of a nest of outputs; a tuple and a list of the same are alike, for exporters mix them."""
    if isinstance(value, tuple | list):
        return f"({', '.join(_layout(item) for item in value)})" if len(value) != 1 else _layout(value[0])
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_layout(item)}" for key, item in value.items()) + "}"
    return str(value)


def filled(tree: Any, function: Callable[[Any], Any]) -> Any:
    """Put what a function makes of them in place of the leaves of tuples, lists and dicts."""
    if isinstance(tree, tuple | list):
        items = [filled(one, function) for one in tree]
        if hasattr(tree, "_fields"):  # a named tuple
            return type(tree)(*items)
        return tuple(items) if isinstance(tree, torch.Size) else type(tree)(items)
    if isinstance(tree, dict):
        return {key: filled(one, function) for key, one in tree.items()}
    return function(tree)


def tensors_in(tree: Any) -> list[torch.Tensor]:
    """Return the tensors of a nest, in order."""
    if isinstance(tree, torch.Tensor):  # as what nearly all operators give
        return [tree]
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, torch.Tensor)]


def shapes_in(tree: Any) -> list[tuple[int, ...]]:
    """Return the shapes of the tensors of a nest, in order."""
    return [tuple(tensor.shape) for tensor in tensors_in(tree)]


def values_in(tree: Any) -> list[Value]:
    """Return the names in tuples, lists and dicts, in order."""
    if isinstance(tree, tuple | list):
        return [value for one in tree for value in values_in(one)]
    if isinstance(tree, dict):
        return values_in([*tree.values()])
    return [tree] if isinstance(tree, Value) else []


@out_dtype.py_impl(_Observer)  # type: ignore[untyped-decorator]
def _run_out_dtype(*args: Any, **kwargs: Any) -> Any:
    """Run the operator as torch hands it to a mode: with the mode, or, on torch 2.1, without and still under it."""
    if isinstance(args[0], _Observer):
        return args[0].__torch_dispatch__(out_dtype, (), args[1:], kwargs)
    return out_dtype_dense(*args)
