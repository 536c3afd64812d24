"""The run line of a report that this process makes."""

from __future__ import annotations

import socket
import sys
from importlib import metadata
from typing import TYPE_CHECKING

from pt2e_ci.cells.cell import installed, platform_tag
from pt2e_ci.record.records import Run
from pt2e_ci.record.unchanged import now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pt2e_ci.cells.capabilities import Capabilities
    from pt2e_ci.cells.cell import Cell


def run_here(
    cell: Cell, found: Capabilities, key: str, representation: str | None, seed: int, required: Sequence[str] = ()
) -> Run:
    """Return the run line of this process: what is installed in it, and the machine that it runs on."""
    packages = sorted(metadata.distributions(), key=lambda distribution: distribution.name.lower())
    return Run(
        cell=cell.id(platform_tag()),
        listed=cell.listed,
        torch=cell.torch,
        torchao=installed("torchao"),
        flow=cell.flow,
        machine=found.machine,
        emulated=found.emulated,
        engines=[*found.engines],
        xnnpack=found.xnnpack,
        cpu=found.cpu,
        build=found.build,
        python=".".join(str(number) for number in sys.version_info[:3]),
        packages={distribution.name: distribution.version for distribution in packages},
        required=[*required],
        representation=representation or "upstream",
        seed=seed,
        started=now(),
        host=socket.gethostname(),
        key=key,
    )
