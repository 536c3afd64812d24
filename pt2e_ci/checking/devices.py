"""Where a device would part from the simulation: a model's operators on an engine, each alone and in a chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Interpreter, Node
from torch.utils._pytree import tree_flatten

from pt2e_ci.cells.engines import place_of_engine
from pt2e_ci.checking.forms import Form, NoVectorError, form_of
from pt2e_ci.engines.running import Worker
from pt2e_ci.engines.runtime import Ran
from pt2e_ci.operators.names import named_arguments
from pt2e_ci.record.records import Departure

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pt2e_ci.program.segments import QuantizedOperator, Reading
    from pt2e_ci.vectors.vector import Array, Vector


class Device:
    """An engine that runs a model's quantized operators on the levels that they have.

    Args:
        reading: the Q/DQ program.
        worker: the engine, started.

    Attributes:
        forms: the operators that have a form as a vector, by the quantize node that takes their result.
        why: why another was not run, or not on integers.
        kernels: what ran, as the engine names it.

    """

    def __init__(self, reading: Reading, worker: Worker) -> None:
        self.forms: dict[Node, tuple[QuantizedOperator, Form]] = {}
        self.why: dict[Node, str] = {}
        self.kernels: dict[Node, str] = {}
        self._worker = worker
        self._answers: dict[tuple[Any, ...], Array] = {}
        for operator in (one for one in reading.operators if one.output is not None):
            node: Any = operator.output and operator.output.node
            try:
                self.forms[node] = operator, form_of(operator)
            except NoVectorError as error:
                self.why[node] = str(error)

    def ask(self, node: Node, levels: Sequence[Array], shape: tuple[int, ...]) -> Array | None:
        """Return the levels that the engine gives before a quantize node; None where it runs no such operator."""
        if node not in self.forms or node in self.why:
            return None
        key = (node, *((one.shape, one.tobytes()) for one in levels))
        if key not in self._answers:
            try:
                given = self.run(self.forms[node][1].as_run(levels))
            except NoVectorError as error:
                given = str(error)
            if isinstance(given, str):
                self.why[node] = given
                return None
            if given.levels.size != torch.Size(shape).numel():
                self.why[node] = f"it gave levels of shape {given.levels.shape}, where {shape} is due"
                return None
            self.kernels[node], self._answers[key] = given.kernel, given.levels.reshape(shape)
        return self._answers[key]

    def run(self, vector: Vector) -> Ran | str:
        """Return what the engine gives for a vector, or why that is nothing."""
        answer = self._worker.ask(vector)
        if not isinstance(answer, Ran):
            return answer[1]
        return f"runs in float: {answer.in_float}" if answer.in_float else answer


class Walk(Interpreter):
    """Runs a Q/DQ program beside a device, whose levels may take the place of its own.

    Args:
        reading: the program.
        device: the device.
        taken: the quantize nodes before which it takes over.

    Attributes:
        given: what the device gave, by quantize node.
        levels: what went on.
        operands: of each that was asked, the levels that it was given.

    """

    def __init__(self, reading: Reading, device: Device, taken: Collection[Node]) -> None:
        super().__init__(reading.program, garbage_collect_values=False)
        self.given: dict[Node, Array] = {}
        self.levels: dict[Node, Array] = {}
        self.operands: dict[Node, list[Array]] = {}
        self._device, self._taken = device, taken

    def run_node(self, n: Node) -> Any:
        """Run a node; where it quantizes what the device gives, too, that may go on."""
        own = super().run_node(n)
        if n not in self._device.forms:
            return own
        self.levels[n] = own.numpy()
        operands = self._operands(self._device.forms[n][0])
        given = self._device.ask(n, operands, tuple(own.shape))
        if given is None:
            return own
        self.given[n], self.operands[n] = given, operands
        if n not in self._taken:
            return own
        taken = torch.from_numpy(given.copy()).to(own.dtype)
        self.levels[n] = taken.numpy()
        return taken

    def _operands(self, operator: QuantizedOperator) -> list[Array]:
        """Return the levels of what an operator takes, as it takes them: moved on their way, it may be."""
        given = [value for name, value in named_arguments(operator.node).items() if name != "bias"]
        nodes = [one for one in tree_flatten(given)[0] if isinstance(one, Node)]
        found = []
        for node, (_, operand) in zip(nodes, operator.operands, strict=True):
            if operand.levels is None and operand.grid.one is not None:
                scale, point = operand.grid.one
                found.append((self.env[node].double() / scale + point).round().to(operand.grid.dtype).numpy())
        return found


def walk(reading: Reading, inputs: Sequence[Any], device: Device, taken: Collection[Node] = ()) -> Walk:
    """Run a program beside a device, whose levels go on after the quantize nodes that are named."""
    found = Walk(reading, device, taken)
    with torch.no_grad():
        found.run(*inputs)
    return found


def departures(reading: Reading, inputs: Sequence[Any], name: str) -> dict[str, Departure]:
    """Return where a device would part from a Q/DQ program, by the node of the operator.

    Args:
        reading: the program.
        inputs: the arguments of the call that both are run on.
        name: the engine, by its name or as ``module:name``.

    Raises:
        InputError: there is no such engine, or it cannot be started.

    """
    with Worker(place_of_engine(name)) as worker:
        device = Device(reading, worker)
        alone = walk(reading, inputs, device)
        chain = walk(reading, inputs, device, device.forms)
    found = {}
    for operator in reading.operators:
        node = operator.output.node if operator.output else None
        if node is None or node not in alone.given:
            why = device.why.get(node, "its result is on no grid") if node else "its result is on no grid"
            found[operator.node.name] = Departure(why=why)
            continue
        found[operator.node.name] = Departure(
            kernel=device.kernels[node],
            isolated=apart(alone.given[node], alone.levels[node]),
            cumulative=apart(chain.levels[node], alone.levels[node]) if node in chain.given else None,
            why=device.why.get(node),  # of levels that only the chain has
        )
    return found


def apart(given: Array, own: Array) -> int:
    """Return how far levels are from others, at most."""
    return int(abs(given.astype("int64") - own.astype("int64")).max()) if own.size else 0
