"""When a result is still good: a digest of all that it depends on, the same as when it was made.

The digest covers the installed packages (by the digests that their installers recorded), the sources of the flow
as they are on disk, this package, the options and expectations of the run, the interpreter, and the CPU. It can be
taken of another environment than the running one, and torch is not imported for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from pt2e_ci.cells.capabilities import cpu_flags, is_emulated
from pt2e_ci.errors import InputError
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.record.report import Report, read_report

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGE = Path(__file__).parent.parent
# Where a patch of the flow would be made in place, which no installer's record would show.
_FLOW_SOURCES = (
    *("torch/ao/quantization", "torch/export", "torch/_export", "torch/fx", "torch/_higher_order_ops"),
    *("torchao/quantization", "torchao/testing"),
)
# They change what torch computes, or with which kernels.
_VARIABLES = ("ATEN_CPU_CAPABILITY", "DNNL_MAX_CPU_ISA", "QEMU_CPU")


def result_key(site_packages: Path, python: str, options: Mapping[str, Any]) -> str:
    """Return the digest of a run in an environment.

    Args:
        site_packages: the environment's folder of packages.
        python: the full version of its interpreter.
        options: what the run was asked for, as JSON can hold it.

    """
    digest = hashlib.sha256()

    def take(*parts: object) -> None:
        digest.update(json.dumps([str(part) for part in parts]).encode())

    take("python", python, platform.machine(), is_emulated())
    take("cpu", *sorted(cpu_flags()))
    take("variables", *(f"{name}={os.environ.get(name)}" for name in _VARIABLES))
    take("options", json.dumps(options, sort_keys=True))
    for distribution in sorted(metadata.distributions(path=[str(site_packages)]), key=lambda d: d.name.lower()):
        take(distribution.name, distribution.version, _digest((distribution.read_text("RECORD") or "").encode()))
    for folder in _FLOW_SOURCES:
        _take_folder(digest, site_packages / folder, ("*.py",))
    _take_folder(digest, _PACKAGE, ("*.py", "*.toml", "*.json"))
    return f"sha256:{digest.hexdigest()}"


def reusable(path: Path, key: str) -> Report | None:
    """Return the report at `path` if it was made under `key` and may stand for another run.

    One that is not whole may not, nor one with an unexpected outcome, nor one with a skip: what the machine
    lacked may be there now.
    """
    try:
        report = read_report(path)
    except InputError:
        return None
    good = report.is_complete and not any(case.is_unexpected or case.outcome is Outcome.SKIP for case in report.cases)
    return report if good and report.run.key == key else None


def mark_reused(report: Report) -> Report:
    """Return the report with the time at which it stands for another run."""
    return Report(structs.replace(report.run, reused=now()), report.cases, report.end)


def now() -> str:
    """Return the time as reports hold it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _take_folder(digest: Any, folder: Path, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        for path in sorted(folder.rglob(pattern)):
            digest.update(f"{path.relative_to(folder).as_posix()} {_digest(path.read_bytes())}\n".encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
