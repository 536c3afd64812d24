"""How fast the suite is, as ratios to upstream's procedure and to the imports alone, measured in one run.

    python tests/bench/speed.py [--rounds N] [--output DIR]

Every round runs each command once, so that whatever else the machine does falls on all of them alike. A ratio is
taken within a round; the table gives its median, least and greatest. Writes speed.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from pt2e_ci.catalogue.cases import UPSTREAM
from pt2e_ci.cells.cell import current_cell

IMPORTS = {
    "torch.ao": "import torch, pytest, torch.ao.quantization.quantize_pt2e as _",
    "torchao": "import torch, pytest, torchao.quantization.pt2e.quantize_pt2e, torchao.testing.pt2e._xnnpack_quantizer",
}
FLOOR, SEED = "imports alone", "upstream's procedure"


@dataclass
class Measured:
    """A command, its seconds in each round, and the largest memory of any of its processes."""

    command: list[str]
    seconds: list[float] = field(default_factory=list)
    mebibytes: float = 0


def commands() -> dict[str, Measured]:
    python = [sys.executable]
    suite = [*python, "-m", "pt2e_ci", "run", *(case.name for case in UPSTREAM), "-q"]
    seed = Path(__file__).with_name("seed_procedure.py")
    found = {
        FLOOR: [*python, "-c", IMPORTS[current_cell().flow]],
        SEED: [*python, "-m", "pytest", "-q", "-p", "no:xdist", str(seed)],
        "suite, one worker": [*suite, "-n1"],
        "suite, two workers": [*suite, "-n2"],
        "suite, not isolated": [*suite, "-n0"],
        "suite, every case": [*python, "-m", "pt2e_ci", "run", "-q"],
    }
    return {name: Measured(command) for name, command in found.items()}


def measure(measured: Measured, cwd: Path) -> None:
    started = time.perf_counter()
    process = subprocess.Popen(measured.command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    measured.seconds.append(time.perf_counter() - started)
    measured.mebibytes = max(measured.mebibytes, usage.ru_maxrss / 1024)
    if process.returncode:
        sys.exit(f"{' '.join(measured.command)} failed with {process.returncode}")


def ratio(of: Measured, to: Measured) -> str:
    ratios = [a / b for a, b in zip(of.seconds, to.seconds, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def table(results: dict[str, Measured]) -> str:
    lines = ["| | Seconds | To upstream's procedure | To the imports alone | MiB |", "| --- | --- | --- | --- | --- |"]
    for name, measured in results.items():
        row = (
            name,
            f"{statistics.median(measured.seconds):.1f}",
            ratio(measured, results[SEED]),
            ratio(measured, results[FLOOR]),
            f"{measured.mebibytes:.0f}",
        )
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("reports", "bench"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    results = commands()
    with tempfile.TemporaryDirectory() as scratch:
        measure(Measured(results["suite, one worker"].command), Path(scratch))  # fills the disk's cache
        for number in range(arguments.rounds):
            for name, measured in results.items():
                measure(measured, Path(scratch))
                print(f"round {number + 1}: {name}: {measured.seconds[-1]:.1f} s", file=sys.stderr, flush=True)
    text = table(results)
    (arguments.output / "speed.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
