"""How time grows with the number of cells, against upstream's procedure on the same cells one after another.

    python tests/bench/cells.py [CELL ...] [--output DIR]

Runs from a checkout whose environments are there (`nox -s matrix` makes them); without names it takes every cell that
has one. Each command is run once: a cell of upstream's procedure takes most of a minute. Writes cells.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from pt2e_ci.catalogue.cases import UPSTREAM
from pt2e_ci.cells.cell import Cell, load_cells

SEED_PROCEDURE = Path(__file__).with_name("seed_procedure.py")


def environment(cell: Cell) -> Path:
    return Path(".nox", cell.session.replace(".", "-"), "bin", "python")


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout[-2000:]}")
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*")
    parser.add_argument("--output", type=Path, default=Path("reports", "bench"))
    arguments = parser.parse_args()
    cells = [
        cell
        for cell in load_cells().cells
        if environment(cell).exists() and (not arguments.cells or cell.name in arguments.cells)
    ]
    if not cells:
        sys.exit("no cell has an environment: run `nox -s matrix` first")
    lines = [
        "| Cells | Upstream's procedure, s | Matrix, s | Ratio | Unchanged, s |",
        "| --- | --- | --- | --- | --- |",
    ]
    matrix = [sys.executable, "-m", "pt2e_ci", "matrix"]
    upstream: dict[str, float] = {}
    sizes = sorted({min(2**power, len(cells)) for power in range(len(cells).bit_length() + 1)})
    for size in sizes:
        names = [cell.name for cell in cells[:size]]
        for cell in cells[:size]:
            if cell.name not in upstream:
                upstream[cell.name] = seconds(
                    [str(environment(cell)), "-m", "pytest", "-q", "-p", "no:xdist", str(SEED_PROCEDURE)]
                )
        total = sum(upstream[name] for name in names)
        fresh = seconds([*matrix, "--fresh", f"--arguments={' '.join(case.name for case in UPSTREAM)}", *names])
        seconds([*matrix, *names])  # leaves reports that may be reused
        unchanged = seconds([*matrix, *names])
        lines.append(f"| {size} | {total:.0f} | {fresh:.1f} | {fresh / total:.2f} | {unchanged:.1f} |")
        print(lines[-1], file=sys.stderr, flush=True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines) + "\n"
    (arguments.output / "cells.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
