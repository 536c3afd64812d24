"""What a runtime is: it takes a vector, and gives levels and the name of what ran. It needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pt2e_ci.vectors.vector import Array, Vector


class NotTakenError(Exception):
    """An engine has no kernel for an operator as it is. The message is the engine's own."""


@dataclass(frozen=True)
class Ran:
    """What an engine gave.

    Attributes:
        levels: integers of the shape of the vector's result.
        kernel: what ran, as the engine names it.
        in_float: what of it computes in float; None where all of it computes on integers.

    """

    levels: Array
    kernel: str
    in_float: str | None = None


@runtime_checkable
class Runtime(Protocol):
    """What runs vectors, in a process of its own."""

    def version(self) -> str:
        """Return the name and the version of the package."""

    def run(self, vector: Vector) -> Ran:
        """Run one vector.

        Raises:
            NotTakenError: it has no kernel for it.

        """
