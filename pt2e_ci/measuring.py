"""How far each engine is from the exact result: every operator is run on the levels that it had, in another process.

A kernel that the CPU cannot run would end this one.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from msgspec import structs

from pt2e_ci.cells.capabilities import THREADS
from pt2e_ci.engines.delegate import Delegate
from pt2e_ci.engines.protocol import NotTakenError, Task, load_engine
from pt2e_ci.errors import death_reason, one_line
from pt2e_ci.judge.numerics import Comparison
from pt2e_ci.program.trace import shapes_in
from pt2e_ci.record import records

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from torch.fx import GraphModule

    from pt2e_ci.engines.protocol import Engine
    from pt2e_ci.program.oracle import Sample
    from pt2e_ci.program.segments import Reading

SECONDS = 60
"""How long an engine may take."""

DELEGATE = "executorch"
"""The engine that runs a whole program, and none of its operators alone."""


@dataclass(frozen=True)
class Work:
    """An operator, and for each sample the levels of its operands and the exact ones of its result."""

    task: Task
    given: list[tuple[list[torch.Tensor], torch.Tensor]]


def measure(
    qdq: GraphModule, reading: Reading, samples: Sequence[Sample], engines: Sequence[str]
) -> dict[str, records.Engine]:
    """Run the quantized operators of a Q/DQ program on engines, and return how far each is from the exact result."""
    found: dict[str, records.Engine] = {}
    # Loaded here, and not once more in each process that is forked.
    if loaded := {name: load_engine(name) for name in engines if name != DELEGATE}:
        works, unread = _works(reading, samples)
        found |= _measured(loaded, works, unread)
    if DELEGATE in engines and samples:
        found[DELEGATE] = _delegated(qdq, samples)
    return found


def _delegated(qdq: GraphModule, samples: Sequence[Sample]) -> records.Engine:
    """Hold a delegated program's outputs against the exact ones, in steps of their grids."""
    delegate, comparison = Delegate(qdq, samples[0].inputs), Comparison()
    shapes = shapes_in(samples[0].inputs)
    for sample in (one for one in samples if shapes_in(one.inputs) == shapes):  # it is lowered for these alone
        for output, exact, step in zip(delegate.run(sample.inputs) or (), sample.outputs, sample.steps, strict=False):
            if isinstance(exact, torch.Tensor):
                comparison.add(output, exact, step)
    return records.Engine(**structs.asdict(comparison.record()), skipped=delegate.skipped)


def _works(reading: Reading, samples: Sequence[Sample]) -> tuple[list[Work], dict[str, str]]:
    """Return the work there is, and the operators that could not be read, each with the reason."""
    works: list[Work] = []
    unread: dict[str, str] = {}
    for operator in reading.operators:
        task, sources = Task.of(operator), [one.source for one in operator.activations]
        known = all(source in sample.levels for sample in samples for source in sources)
        if task is None or operator.output is None or not known:
            unread[operator.name] = "its result, or an operand, is on no grid that is known before the program runs"
            continue
        node = operator.output.node
        works.append(Work(task, [([one.levels[s] for s in sources], one.exact[node]) for one in samples]))
    return works, unread


def _measured(engines: dict[str, Engine], works: list[Work], unread: dict[str, str]) -> dict[str, records.Engine]:
    measured, reason = _measure_apart(engines, works, unread)
    if not reason:
        return measured
    if len(engines) == 1:
        return {name: _without(engine, works, unread, reason) for name, engine in engines.items()}
    # One of them ended the process: find out which.
    return {name: _measured({name: engine}, works, unread)[name] for name, engine in engines.items()}


def _measure_apart(
    engines: dict[str, Engine], works: list[Work], unread: dict[str, str]
) -> tuple[dict[str, records.Engine], str]:
    """Return what was measured by engine, or nothing and how the process ended."""
    # A fork has torch and the levels already; where there is none, both are made again.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(engines, works, unread, sender), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of a fork beside threads; the child uses none of them
        process.start()
    sender.close()
    try:
        if not receiver.poll(SECONDS):
            return {}, f"still running after {SECONDS} s"
        return receiver.recv(), ""
    except EOFError:
        process.join()
        return {}, death_reason(process.exitcode)
    finally:
        process.kill()
        process.join()


def _send(engines: dict[str, Engine], works: list[Work], unread: dict[str, str], sender: Connection) -> None:
    """Measure, in the child."""
    faulthandler.disable()  # an end is reported by its signal
    torch.set_num_threads(THREADS)  # those of the parent are not here
    sender.send({name: _measure(engine, works, unread) for name, engine in engines.items()})


def _measure(engine: Engine, works: list[Work], unread: dict[str, str]) -> records.Engine:
    comparison = Comparison()
    skipped = {name: why for name, why in unread.items() if name in engine.names}
    for work in works:
        name = work.task.name
        if name not in engine.names or name in skipped:
            continue
        try:
            run = engine.open(work.task)
            for levels, exact in work.given:
                comparison.add(_checked(run(levels), exact).double(), exact.double(), 1.0)
        except NotTakenError as error:
            skipped[name] = str(error)
        except (Exception, SystemExit) as error:  # an engine of the user's own may raise anything
            skipped[name] = one_line(error)
    return _as_engine(comparison, skipped)


def _checked(found: Any, exact: torch.Tensor) -> torch.Tensor:
    """Return what an engine gave, if it is levels that can be held against the exact ones."""
    if not isinstance(found, torch.Tensor) or found.is_floating_point():
        given = found.dtype if isinstance(found, torch.Tensor) else type(found).__name__
        raise NotTakenError(f"it gave {given}, where levels are due")
    if found.shape != exact.shape:
        raise NotTakenError(f"it gave levels of shape {tuple(found.shape)}, where {tuple(exact.shape)} is due")
    return found


def _without(engine: Engine, works: list[Work], unread: dict[str, str], reason: str) -> records.Engine:
    """Return the record of an engine that gave nothing."""
    skipped = unread | dict.fromkeys((work.task.name for work in works), reason)
    return _as_engine(Comparison(), {name: why for name, why in skipped.items() if name in engine.names})


def _as_engine(comparison: Comparison, skipped: dict[str, str]) -> records.Engine:
    """Return a comparison as an engine's record; one that compared nothing has the unit that it would have had."""
    numbers = structs.asdict(comparison.record())
    return records.Engine(**numbers | {"unit": numbers["unit"] if comparison.compared else "lsb"}, skipped=skipped)
