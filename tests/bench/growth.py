"""How time and memory grow: with the number of cases, the size of a tensor, networks and loops; and the page.

    python tests/bench/growth.py [--largest N] [--output DIR]

A comparison of two tensors is set against reading them: one pass of torch's sum over each, timed in the same
round. Writes growth.md.
"""

from __future__ import annotations

import argparse
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from msgspec import structs

sys.path.insert(0, str(Path(__file__).parents[1]))

from made import report
from networks import Branching, Looping, mobilenet_v2
from test_models import FILES, judged, module_of

from pt2e_ci.catalogue.cases import CASES
from pt2e_ci.cells.cell import current_cell, load_cells
from pt2e_ci.flow.capture import export
from pt2e_ci.flow.exact import representation
from pt2e_ci.flow.homes import import_home
from pt2e_ci.flow.patterns import PatternGraphs
from pt2e_ci.judge import verdict
from pt2e_ci.judge.numerics import Comparison
from pt2e_ci.judge.verdict import InputSet, judge
from pt2e_ci.pipeline import Clock, Flow, run_case
from pt2e_ci.program.oracle import run_exactly
from pt2e_ci.program.segments import Reading
from pt2e_ci.record.report import Report
from pt2e_ci.views.pages import page

ROUNDS = 3
SLOWEST = 5
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
    flow = flow_here()
    run_case(CASES[0], flow, 0)
    lines = ["| Cases | Seconds | For each |", "| --- | --- | --- |"]
    count = 1
    while count <= 4 * len(CASES):
        chosen = [CASES[index % len(CASES)] for index in range(count)]
        took = seconds(lambda: [run_case(case, flow, 0) for case in chosen])  # noqa: B023
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
    prepared = timed("prepare", lambda: home.prepare(graph, home.xnnpack(is_per_channel=False)))
    prepared(*inputs)
    qdq = timed("convert", lambda: home.convert(prepared))
    exact = timed("one exact run", lambda: run_exactly(Reading(qdq), inputs, runtime={}))
    program = timed("integer representation", lambda: representation(qdq))
    # But for the last bit of a float32, in which a program gives its levels' real numbers.
    judgement = timed("judge", lambda: judge(qdq, program, [InputSet("calibration", inputs)]))
    same = torch.allclose(program(*inputs).double(), exact.outputs[0], rtol=2.0**-23, atol=0)
    lines = [f"| MobileNetV2, {size} x {size} | Seconds |", "| --- | --- |"]
    lines += [f"| {name} | {took:.1f} |" for name, took in made.items()]
    approximated = ", ".join(exact.approximated) or "nothing"
    (proved,) = [note.text for note in judgement.case.notes if note.code == "PQ055"]
    lines.append(f"| of which deciding | {DECIDING[-1]:.1f} |")
    return "\n".join(lines) + f"\n\nApproximated: {approximated}; exact and integer program agree: {same}. {proved}.\n"


CONVERTING = """
import sys
sys.path.insert(0, {here!r})
from growth import *
from pt2e_ci import check
torch.set_num_threads(1)
timed_deciding()
flow = flow_here()

def converting(model, inputs):
    quantizer = lambda: flow.home.xnnpack(is_per_channel=False)
    flow.represent(Clock().follow(flow.convert(lambda: model, inputs, quantizer)).qdq)

{what}(*mobilenet_v2(32))  # upstream's patterns are warm then
DECIDING.clear()
model, inputs = mobilenet_v2({size})
started = time.perf_counter()
{what}(model, inputs)
print(time.perf_counter() - started, sum(DECIDING), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""
"""What is timed in a process of its own, for its memory."""


def checking(size: int) -> str:
    """Set checking a model against converting it, which is exporting, preparing and both conversions."""
    found = {}
    for name, what in (("converting", "converting"), ("checking", "check")):
        code = CONVERTING.format(here=str(Path(__file__).parent), size=size, what=what)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        found[name] = [float(text) for text in done.stdout.split()[-3:]]
    lines = [
        f"| MobileNetV2, {size} x {size} | Seconds | of which deciding | Memory in GiB |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {name} | {took:.1f} | {mine:.1f} | {memory:.1f} |" for name, (took, mine, memory) in found.items()]
    (base, _, least), (whole, mine, most) = found["converting"], found["checking"]
    lines.append(
        f"\nWithout deciding {(whole - mine) / base:.2f} times as long, and {most / least:.2f} times the memory."
    )
    return "\n".join(lines) + "\n"


DECIDING: list[float] = []


def timed_deciding() -> None:
    """Note how long deciding takes, each time that a verdict asks for it."""
    gather = verdict.gather

    def timed(*args):
        started = time.perf_counter()
        found = gather(*args)
        DECIDING.append(time.perf_counter() - started)
        return found

    verdict.gather = timed


def deciding() -> str:
    """Compare what deciding takes with the rest of the judging of all cases, and how it grows."""
    flow = replace(flow_here(), representation=representation)
    DECIDING.clear()
    total = 0.0
    for case in CASES:
        record, _ = run_case(case, flow, 0)
        total += record.seconds.get("run", 0.0)
    mine = sum(DECIDING)
    lines = [
        "| All cases | Seconds |",
        "| --- | --- |",
        f"| deciding | {mine:.1f} |",
        f"| the rest | {total - mine:.1f} |",
    ]
    lines += [f"\nRatio: {mine / (total - mine):.2f}", "", "| Linear, K x channels | Deciding in s |", "| --- | --- |"]
    for k, channels in ((64, 64), (64, 256), (64, 1024), (256, 64), (1024, 64), (4096, 64)):
        x = torch.randn(2, k, generator=torch.Generator().manual_seed(0))
        made = flow.convert(torch.nn.Linear(k, channels).eval, (x,), lambda: flow.home.xnnpack(is_per_channel=True))
        qdq = Clock().follow(made).qdq
        judge(qdq, representation(qdq), [InputSet("calibration", (x,))])
        lines.append(f"| {k} x {channels} | {DECIDING[-1]:.2f} |")
    return "\n".join(lines) + "\n"


def flow_here() -> Flow:
    home = import_home(current_cell().flow)
    return Flow(home, patterns=PatternGraphs(home))


def higher_order() -> str:
    """Judge models whose operators stand in the bodies of higher-order operators."""
    flow, x = flow_here(), torch.arange(-32.0, 32.0).reshape(16, 4) / 16
    sets = [InputSet("calibration", (x,)), InputSet("other", (x.flip(0),))]
    lines = ["| Model | Converted in s | Judged in s |", "| --- | --- | --- |"]
    for model in (Looping, Branching):
        started = time.perf_counter()
        stages = flow.convert(model().eval, (x,), lambda: flow.home.xnnpack(is_per_channel=False))
        qdq = Clock().follow(stages).qdq
        reference = flow.represent(qdq).program
        converted = time.perf_counter() - started
        judged = seconds(lambda: judge(qdq, reference, sets))  # noqa: B023 - called at once
        lines.append(f"| {model.__doc__} | {converted:.2f} | {judged:.2f} |")
    return "\n".join(lines) + "\n"


def models() -> str:
    """Take the models of `tests/models` through the flow, once to warm up and once for the clock; name the slowest."""
    took: dict[str, float] = {}
    for path in FILES:
        module = module_of(path)
        for _ in range(2):
            took[path.stem] = seconds(lambda: judged(module, None))  # noqa: B023 - called at once
    lines = ["| Model, the slowest first | Seconds |", "| --- | --- |"]
    slowest = sorted(took.items(), key=lambda pair: -pair[1])[:SLOWEST]
    return "\n".join([*lines, *(f"| {name} | {took:.2f} |" for name, took in slowest)]) + "\n"


PAINT = """<script>new PerformanceObserver(
  (seen) => { document.title = seen.getEntries().map((one) => `${one.name}=${one.startTime}`).join(" "); }
).observe({ type: "paint", buffered: true });</script>"""


def opening() -> str:
    """Open the page of a whole matrix, of as many cells as are listed on two architectures, in headless Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        return "The page was not opened: there is no Chromium.\n"
    flow = flow_here()
    whole = report(*(run_case(case, flow, 0)[0] for case in CASES))
    cells = [
        structs.replace(whole.run, cell=f"torch{one.torch}-{machine}", torch=one.torch, machine=machine)
        for one in load_cells().cells
        for machine in ("x86_64", "aarch64")
    ]
    html = page([Report(run, whole.cases, whole.end) for run in cells])
    # Its policy would stop what looks at the clock.
    looked = re.sub(r"<meta http-equiv=[^>]*>", "", html).replace("</body>", f"{PAINT}</body>")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "index.html")
        path.write_text(looked, encoding="utf-8")
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", path.as_uri()]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (painted,) = re.findall(r"first-contentful-paint=([0-9.]+)", shown)
    size = len(html.encode()) / 1e6
    return f"The page of {len(cells)} cells: {size:.1f} MB, first paint after {float(painted):.0f} ms.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=100_000_000)
    parser.add_argument("--output", type=Path, default=Path("reports", "bench"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.output.mkdir(parents=True, exist_ok=True)
    timed_deciding()
    parts = (
        network(224),
        checking(224),
        deciding(),
        higher_order(),
        models(),
        tensors(arguments.largest),
        cases(),
        opening(),
    )
    text = "\n".join(parts)
    (arguments.output / "growth.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
