"""Runs vectors on an engine, in another process: one that dies or hangs costs the vector that it was at alone."""

from __future__ import annotations

import multiprocessing
import os
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import numpy as np

from pt2e_ci.engines.runtime import NotTakenError, Ran, Runtime
from pt2e_ci.errors import InputError, death_reason, one_line
from pt2e_ci.exact.schemes import Multiplier, Rounding
from pt2e_ci.record.criteria import DEFAULT
from pt2e_ci.record.engines import Compared
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.vectors.arithmetic import sums
from pt2e_ci.vectors.comparison import compare

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from pt2e_ci.record.criteria import Criteria
    from pt2e_ci.vectors.vector import Vector

SECONDS = 120.0
"""How long an engine may take for one vector, and to start."""


def run(
    where: str,
    vectors: Sequence[Vector],
    criteria: Criteria = DEFAULT,
    rounding: Rounding | Multiplier = Rounding.HALF_EVEN,
    seconds: float = SECONDS,
) -> tuple[str, list[Compared]]:
    """Run vectors on an engine; return its package with the version, and what came of each vector.

    Args:
        where: the engine, as ``module:name``.
        vectors: what it runs.
        criteria: what it is held to.
        rounding: the scheme that is due.
        seconds: how long it may take for one.

    Raises:
        InputError: it cannot be started.

    """
    worker = _Worker(where, seconds)
    results = []
    try:
        for vector in vectors:
            if worker.process is None:
                worker.start()
            results.append(_result(vector, worker.ask(vector), criteria, rounding))
    finally:
        worker.stop()
    return worker.version, results


def _result(
    vector: Vector, answer: Ran | tuple[Outcome, str], criteria: Criteria, rounding: Rounding | Multiplier
) -> Compared:
    if not isinstance(answer, Ran):
        outcome, why = answer
        return Compared(vector=vector.name, operator=vector.operator, outcome=outcome, why=why)
    named: dict[str, Any] = {"vector": vector.name, "operator": vector.operator, "kernel": answer.kernel}
    if answer.in_float:
        return Compared(**named, outcome=Outcome.FLOAT, why=f"runs in float: {answer.in_float}")
    shape = sums(vector).whole.shape
    given = answer.levels
    if not isinstance(given, np.ndarray) or not np.issubdtype(given.dtype, np.integer) or given.shape != shape:
        kind = f"{given.dtype} of shape {given.shape}" if isinstance(given, np.ndarray) else type(given).__name__
        return Compared(**named, outcome=Outcome.ERROR, why=f"it gave {kind}, where levels of shape {shape} are due")
    return compare(vector, given, criteria, rounding, answer.kernel)


class _Worker:
    """The process that an engine runs in, which is started again where it has ended."""

    def __init__(self, where: str, seconds: float) -> None:
        self.process: Any = None
        self.version = ""
        self._where, self._seconds = where, seconds
        self._context = multiprocessing.get_context("spawn")
        self._connection: Any = None

    def start(self) -> None:
        """Start it.

        Raises:
            InputError: the engine cannot be loaded.

        """
        self._connection, other = self._context.Pipe()
        self.process = self._context.Process(target=_serve, args=(self._where, other), daemon=True)
        self.process.start()
        other.close()
        found = self._receive()
        if not isinstance(found, str):
            self.stop()
            raise InputError(f"the engine {self._where} cannot be started: {found[1]}")
        self.version = found

    def ask(self, vector: Vector) -> Ran | tuple[Outcome, str]:
        """Return what the engine makes of a vector, or how it ended."""
        self._connection.send(vector)
        return self._receive()

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None

    def _receive(self) -> Any:
        try:
            if self._connection.poll(self._seconds):
                return self._connection.recv()
            ended = Outcome.TIMEOUT, f"still running after {self._seconds:g} s"
        except (EOFError, ConnectionError):
            self.process.join()
            ended = Outcome.CRASH, death_reason(self.process.exitcode)
        self.stop()
        return ended


def _serve(where: str, connection: Connection) -> None:
    """Load an engine, and run what comes, in the child; what libraries say on the way is not the command's."""
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)
    try:
        engine = resolve_name(where)
        if not isinstance(engine, Runtime):
            raise TypeError("it is no engine: an engine has version() and run(vector)")
        connection.send(engine.version())
    except Exception as error:
        connection.send((Outcome.ERROR, one_line(error)))
        return
    while True:
        try:
            vector = connection.recv()
        except EOFError:
            return
        try:
            connection.send(engine.run(vector))
        except NotTakenError as error:
            connection.send((Outcome.SKIP, str(error)))
        except Exception as error:  # an engine may raise anything
            connection.send((Outcome.ERROR, one_line(error)))
