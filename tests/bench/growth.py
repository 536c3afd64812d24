"""How time and memory grow: with the number of cases, with the size of a tensor, and on a network that people ship.

    python tests/bench/growth.py [--largest N] [--output DIR]

A comparison of two tensors is set against reading them: one pass of torch's sum over each, timed in the same
round. Writes growth.md.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from networks import mobilenet_v2

from pt2e_ci.cases.catalogue import CASES, Scheme
from pt2e_ci.cells import current_cell
from pt2e_ci.checks.numerics import Comparison
from pt2e_ci.controls.integer import integer_representation
from pt2e_ci.exact.oracle import run_exactly
from pt2e_ci.flows.exporting import export
from pt2e_ci.flows.homes import import_home
from pt2e_ci.flows.patterns import PatternGraphs
from pt2e_ci.running import run_case

ROUNDS = 3
STATISTICS = 5  # largest, mean, share that differs, histogram, and what is off the grid


def seconds(function) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def tensors(largest: int) -> str:
    lines = ["| Elements | Seconds | To one pass for each statistic | Memory over the tensors' own |"]
    lines.append("| --- | --- | --- | --- |")
    size = 10_000
    while size <= largest:
        expected = torch.arange(size, dtype=torch.float32).remainder_(255).mul_(0.03125)
        actual = expected + 0.03125 * (torch.arange(size) % 3 == 0)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        compared, passes = [], []
        for _ in range(ROUNDS):
            passes.append(seconds(lambda: (actual.sum(), expected.sum())))  # noqa: B023 - called at once
            compared.append(seconds(lambda: Comparison().add(actual, expected, 0.03125)))  # noqa: B023
        ratio = statistics.median(a / b for a, b in zip(compared, passes, strict=True)) / STATISTICS
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        lines.append(f"| {size:,} | {statistics.median(compared):.4f} | {ratio:.1f} | {grown:.0f} MiB |")
        del actual, expected
        size *= 10
    return "\n".join(lines) + "\n"


def cases() -> str:
    home = import_home(current_cell().flow)
    patterns = PatternGraphs(home)
    run_case(CASES[0], home, 0, patterns=patterns)
    lines = ["| Cases | Seconds | For each |", "| --- | --- | --- |"]
    count = 1
    while count <= 4 * len(CASES):
        chosen = [CASES[index % len(CASES)] for index in range(count)]
        took = seconds(lambda: [run_case(case, home, 0, patterns=patterns) for case in chosen])  # noqa: B023
        lines.append(f"| {count} | {took:.2f} | {took / count:.3f} |")
        count *= 2
    return "\n".join(lines) + "\n"


def network(size: int) -> str:
    model, inputs = mobilenet_v2(size)
    home = import_home(current_cell().flow)
    made: dict[str, float] = {}

    def timed(name, function):
        started = time.perf_counter()
        result = function()
        made[name] = time.perf_counter() - started
        return result

    graph = timed("export", lambda: export(model, inputs))
    prepared = timed("prepare", lambda: home.prepare(graph, home.quantizer(Scheme.PER_TENSOR)))
    prepared(*inputs)
    qdq = timed("convert", lambda: home.convert(prepared))
    exact = timed("one exact run", lambda: run_exactly(qdq, inputs, runtime={}))
    program = timed("integer representation", lambda: integer_representation(qdq))
    # But for the last bit of a float32, in which a program gives its levels' real numbers.
    same = torch.allclose(program(*inputs).double(), exact.outputs[0], rtol=2.0**-23, atol=0)
    lines = [f"| MobileNetV2, {size} x {size} | Seconds |", "| --- | --- |"]
    lines += [f"| {name} | {took:.1f} |" for name, took in made.items()]
    approximated = ", ".join(exact.approximated) or "nothing"
    return "\n".join(lines) + f"\n\nApproximated: {approximated}; exact and integer program agree: {same}.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=100_000_000)
    parser.add_argument("--output", type=Path, default=Path("reports", "bench"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.output.mkdir(parents=True, exist_ok=True)
    text = f"{network(224)}\n{tensors(arguments.largest)}\n{cases()}"
    (arguments.output / "growth.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
