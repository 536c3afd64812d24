"""What this machine and this torch can do, and the reason for each skip that follows from it."""

from __future__ import annotations

import csv
import hashlib
import inspect
import logging
import math
import os
import platform
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pt2e_ci.catalogue.cases import Case

ENGINES = ("qnnpack", "fbgemm", "onednn", "x86")
"""Torch's own quantized engines."""

OTHER_ENGINES = ("xnnpack", "executorch")
"""What runs quantized operators beside them."""

THREADS = 1
"""How many threads torch uses: cases run side by side, and more threads would only fight, and round differently."""

_MOST_WORKERS = 4
_CASES_PER_WORKER = 5
# The extensions that decide which quantized kernels run, as /proc/cpuinfo spells them.
INSTRUCTION_SETS = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8"),  # x86-64
    *("asimd", "asimddp", "i8mm", "bf16", "sve"),  # aarch64
)
_INSTALLERS_FILES = ("INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")
_TALKATIVE = ("torchao", "torch.utils._pytree", "torch._export")
DYNAMIC_SHAPES = "dynamic_shapes"
"""Export with dimensions that are not fixed."""

CAPABILITIES = (*ENGINES, *OTHER_ENGINES, DYNAMIC_SHAPES, *INSTRUCTION_SETS)


@dataclass(frozen=True)
class Cpu:
    """A CPU.

    Attributes:
        model: as the system names it.
        instruction_sets: those of `INSTRUCTION_SETS` that it has.
        torch: the set that torch's own kernels were dispatched to.
        cores: how many this process may use.
        threads: how many torch uses.

    """

    model: str
    instruction_sets: list[str]
    torch: str
    cores: int | None
    threads: int


@dataclass(frozen=True)
class Build:
    """A build of torch: its version with the local part, its commit, and a digest of the wheel if there was one."""

    version: str | None = None
    git: str | None = None
    debug: bool = False
    digest: str | None = None


@dataclass(frozen=True)
class Capabilities:
    """What was found on this machine.

    Attributes:
        machine: the architecture, ``x86_64`` or ``aarch64``.
        emulated: whether qemu runs this process on a CPU of another architecture.
        engines: torch's quantized engines that have kernels (``none`` is left out).
        xnnpack: whether torch was built with XNNPACK.
        executorch: whether ExecuTorch is installed beside torch, whose XNNPACK delegate is an engine, too.
        dynamic_shapes: whether torch exports dimensions that are not fixed.
        cpu: the CPU.
        build: the build of torch.

    """

    machine: str
    emulated: bool
    engines: tuple[str, ...]
    xnnpack: bool
    cpu: Cpu
    build: Build
    executorch: bool = False
    dynamic_shapes: bool = True

    @property
    def measurable(self) -> tuple[str, ...]:
        """The engines whose results can be measured here."""
        return (*self.engines, *["xnnpack"] * self.xnnpack, *["executorch"] * self.executorch)

    def missing(self, names: Iterable[str]) -> dict[str, str]:
        """Return those of `names` that are not here, each with the reason."""
        return {name: reason for name in names if (reason := self._why_not(name))}

    def _why_not(self, name: str) -> str | None:
        if name in ENGINES and name not in self.engines:
            return f"torch has no {name} engine here (it has {', '.join(self.engines) or 'none'})"
        if name == "xnnpack" and not self.xnnpack:
            return "torch was built without XNNPACK"
        if name == "executorch" and not self.executorch:
            return "ExecuTorch is not installed"
        if name == DYNAMIC_SHAPES and not self.dynamic_shapes:
            return "this torch exports fixed shapes only"
        if name in INSTRUCTION_SETS and name not in self.cpu.instruction_sets:
            return f"this CPU has no {name}"
        return None

    def skips(self, cases: Iterable[Case]) -> dict[str, str]:
        """Return the cases that cannot run here, each with the reason."""
        return {case.name: "; ".join(missing.values()) for case in cases if (missing := self.missing(case.needs))}


def quiet_torch() -> None:
    """Have torch and torchao, which are about to be imported, keep to themselves what they miss and will change."""
    warnings.simplefilter("ignore")
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def quietly() -> Iterator[None]:
    """Have them keep it to themselves for a while, in a process that is somebody else's."""
    levels = {name: logging.getLogger(name).level for name in _TALKATIVE}
    with warnings.catch_warnings():
        quiet_torch()
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def detect() -> Capabilities:
    """Look at the machine and at torch, which is imported."""
    import torch

    engines = tuple(name for name in torch.backends.quantized.supported_engines if name != "none")
    flags = cpu_flags()
    return Capabilities(
        machine=platform.machine(),
        emulated=is_emulated(),
        engines=engines,
        xnnpack=_has_xnnpack(),
        cpu=Cpu(
            model=cpu_model(),
            instruction_sets=[name for name in INSTRUCTION_SETS if name in flags],
            torch=torch.backends.cpu.get_cpu_capability(),
            cores=cores(),
            threads=torch.get_num_threads(),
        ),
        build=Build(
            version=str(torch.__version__),
            git=torch.version.git_version,
            debug=bool(torch.version.debug),
            digest=wheel_digest("torch"),
        ),
        executorch=find_spec("executorch") is not None,
        dynamic_shapes=exports_dynamic_shapes(),
    )


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers(cases: int) -> int:
    """Return how many processes run as many cases: one for each core, up to a few, or as pytest-xdist's variable says.

    Each imports torch, which takes longer than a few cases do; and each computes on one thread, for the cases are
    small, and more threads would only fight, and round differently.
    """
    told = os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS", "")
    return int(told) if told.isdecimal() and int(told) else min(cores(), _MOST_WORKERS, -(-cases // _CASES_PER_WORKER))


def free_gib() -> float:
    """Return how much memory is free, in GiB; infinite where the system does not tell."""
    names = ("SC_AVPHYS_PAGES", "SC_PAGE_SIZE")
    known = all(name in os.sysconf_names for name in names)
    return math.prod(os.sysconf(name) for name in names) / 2**30 if known else math.inf


def wheel_digest(distribution: str) -> str | None:
    """Return a digest of the files that a distribution's wheel holds: the same for each installer and each folder.

    It is taken of the digests in RECORD. What installers add to that file (bytecode, scripts, their own notes) is
    left out; two builds of one version differ in it.
    """
    try:
        record = metadata.distribution(distribution).read_text("RECORD")
    except metadata.PackageNotFoundError:
        return None
    files = sorted(
        f"{path} {digest}"
        for path, digest, _ in csv.reader((record or "").splitlines())
        if digest and not path.startswith("../") and not path.endswith((".pyc", *_INSTALLERS_FILES))
    )
    return f"sha256:{hashlib.sha256(chr(10).join(files).encode()).hexdigest()}" if files else None


def _has_xnnpack() -> bool:
    try:
        # Not imported with torch, and gone from 2.13 on together with XNNPACK itself.
        return bool(import_module("torch.backends.xnnpack").enabled)
    except ImportError:
        return False


def exports_dynamic_shapes() -> bool:
    """Tell whether the interface that exports for quantization takes dynamic shapes; that of 2.1 and 2.2 does not."""
    export = getattr(import_module("torch._export"), "capture_pre_autograd_graph", None)
    return export is None or "dynamic_shapes" in inspect.signature(export).parameters


def cpu_flags() -> set[str]:
    """Return the CPU's extensions, as the kernel names them; none where it does not tell."""
    for key, value in _cpuinfo():
        if key in ("flags", "Features"):
            return set(value.split())
    return set()


def cpu_model() -> str:
    """Name the CPU as the system does."""
    names = [value for key, value in _cpuinfo() if key in ("model name", "Model")]
    return names[0] if names else platform.processor() or "unknown"


def _cpuinfo() -> list[tuple[str, str]]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    pairs = (line.partition(":") for line in lines)
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def is_emulated() -> bool:
    """Tell whether qemu's user mode runs this process.

    qemu answers for /proc/self/exe with the program that it emulates, but not for the same link under the
    thread, which still names qemu.
    """
    try:
        return Path("/proc/thread-self/exe").readlink().name.startswith("qemu-")
    except OSError:
        return False
