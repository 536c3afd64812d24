"""Runs vectors on an engine, in another process: one that dies or hangs costs the vector that it was at alone."""

from __future__ import annotations

import multiprocessing
import os
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Self

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
    with Worker(where, seconds) as worker:
        results = [_result(vector, worker.ask(vector), criteria, rounding) for vector in vectors]
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


class Worker:
    """The process that an engine runs in, while the context lasts; it is started again where it has ended.

    Args:
        where: the engine, as ``module:name``.
        seconds: how long it may take for one vector, and to start.

    """

    def __init__(self, where: str, seconds: float = SECONDS) -> None:
        self.version = ""
        self._where, self._seconds = where, seconds
        self._context = multiprocessing.get_context("spawn")
        self._process: Any = None
        self._connection: Any = None

    def __enter__(self) -> Self:
        """Start it.

        Raises:
            InputError: the engine cannot be loaded.

        """
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._stop()

    def ask(self, vector: Vector) -> Ran | tuple[Outcome, str]:
        """Return what the engine makes of a vector, or how it ended.

        Raises:
            InputError: the engine had ended, and cannot be loaded once more.

        """
        if self._process is None:
            self._start()
        self._connection.send(vector)
        return self._receive()

    def _start(self) -> None:
        self._connection, other = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(self._where, other), daemon=True)
        self._process.start()
        other.close()
        found = self._receive()
        if not isinstance(found, str):
            self._stop()
            raise InputError(f"the engine {self._where} cannot be started: {found[1]}")
        self.version = found

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def _receive(self) -> Any:
        try:
            if self._connection.poll(self._seconds):
                return self._connection.recv()
            ended = Outcome.TIMEOUT, f"still running after {self._seconds:g} s"
        except (EOFError, ConnectionError):
            self._process.join()
            ended = Outcome.CRASH, death_reason(self._process.exitcode)
        self._stop()
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
