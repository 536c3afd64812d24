"""Ways to break the suite, so that tests can see it go red: functions that are given a `patch` to break it with.

As a pytest plugin (``-p broken``) it calls the one that the variable PT2E_CI_FAULT names, in the processes that run
cases.
"""

from __future__ import annotations

import os
import signal
import time

import pytest


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") or config.option.numprocesses == 0:
        globals()[os.environ["PT2E_CI_FAULT"]](pytest.MonkeyPatch())


def _replace_export(patch, **actions) -> None:
    """Do something else than export, by the model's name."""
    from pt2e_ci import pipeline

    export = pipeline.export

    def broken(model, inputs, shapes):
        actions.get(type(model).__name__, lambda: None)()
        return export(model, inputs, shapes)

    patch.setattr(pipeline, "export", broken)


def deaths(patch) -> None:
    def die(number):
        return lambda: os.kill(os.getpid(), number)

    _replace_export(patch, Add=die(signal.SIGSEGV), Mul=die(signal.SIGKILL))


def hang(patch) -> None:
    _replace_export(patch, Add=lambda: time.sleep(600))


def slow_qdq(patch) -> None:
    """The case `qdq`, which is an addition as `add` is, takes for ever."""
    from pt2e_ci.suite import test_cases

    run_case = test_cases.run_case

    def slow(case, *args, **kwargs):
        if case.name == "qdq":
            time.sleep(600)
        return run_case(case, *args, **kwargs)

    patch.setattr(test_cases, "run_case", slow)


def exception(patch) -> None:
    def fail() -> None:
        raise RuntimeError("no graph today\nand a second line")

    _replace_export(patch, Add=fail)


def _replace_representation(patch, change) -> None:
    """Put `change(program)` after upstream's representation."""
    from pt2e_ci import pipeline
    from pt2e_ci.flow.representation import Reference

    apply = pipeline.apply_upstream

    def broken(home, qdq):
        reference = apply(home, qdq)
        return Reference(change(reference.program, qdq), reference.rewrites)

    patch.setattr(pipeline, "apply_upstream", broken)


def rewrite_gone(patch) -> None:
    """Nothing is rewritten: the reference program is the Q/DQ program."""
    _replace_representation(patch, lambda program, qdq: qdq)


def rewrite_new(patch) -> None:
    """Upstream's own mistake mended: its conv rewrite looks for the operator that exported graphs hold."""
    import torch

    from pt2e_ci.cells.cell import current_cell
    from pt2e_ci.flow.homes import import_home

    rewrites = import_home(current_cell().flow).rewrites
    dequantize = torch.ops.quantized_decomposed.dequantize_per_tensor
    quantize = torch.ops.quantized_decomposed.quantize_per_tensor
    conv2d = torch.ops.aten.conv2d.default

    def _qdq_quantized_conv2d(x, sx, zx, lx, hx, w, sw, zw, lw, hw, bias, so, zo, lo, ho):
        x = dequantize(x, sx, zx, lx, hx, torch.int8)
        w = dequantize(w, sw, zw, lw, hw, torch.int8)
        return quantize(conv2d(x, w, bias), so, zo, lo, ho, torch.int8)

    def _reference_quantized_conv2d(x, sx, zx, lx, hx, w, sw, zw, lw, hw, bias, so, zo, lo, ho):
        x = torch.ops.aten.clamp(x, lx, hx).to(torch.int64) - zx
        w = torch.ops.aten.clamp(w, lw, hw).to(torch.int64) - zw
        b = torch.round(bias / (sx * sw)).to(torch.int64)
        levels = torch.round(conv2d(x, w, b) * (sx * sw / so)).to(torch.int32) + zo
        return torch.ops.aten.clamp(levels, lo, ho).to(torch.int8)

    patch.setattr(rewrites, "_qdq_quantized_conv2d", _qdq_quantized_conv2d)
    patch.setattr(rewrites, "_reference_quantized_conv2d", _reference_quantized_conv2d)


def _add_to_outputs(patch, steps: float) -> None:
    """Make every output larger by `steps` of its grid."""
    import operator

    from pt2e_ci.program.segments import Reading

    def shift(program, qdq):
        reading = Reading(qdq)
        (step,) = reading.output_grid(reading.outputs[0]).scales
        output = Reading(program).outputs[0]
        with program.graph.inserting_after(output):
            shifted = program.graph.call_function(operator.add, (output, steps * step))
        output.replace_all_uses_with(shifted, delete_user_cb=lambda user: user is not shifted)
        program.recompile()
        return program

    _replace_representation(patch, shift)


def off_by_two(patch) -> None:
    _add_to_outputs(patch, 2)


def off_grid(patch) -> None:
    """No output is one of the quantize node's any more."""
    _add_to_outputs(patch, 0.375)


def not_a_number(patch) -> None:
    """The first output is NaN."""
    import torch

    from pt2e_ci.program.segments import Reading

    def spoil(program, qdq):
        output = Reading(program).outputs[0]
        with program.graph.inserting_after(output):
            spoilt = program.graph.call_function(torch.mul, (output, float("nan")))
        output.replace_all_uses_with(spoilt, delete_user_cb=lambda user: user is not spoilt)
        program.recompile()
        return program

    _replace_representation(patch, spoil)


def not_deterministic(patch) -> None:
    """One level more at every other call."""
    import torch

    calls = iter(range(10**9))

    def wobble(levels: torch.Tensor) -> torch.Tensor:
        return levels.clamp(max=126) + next(calls) % 2

    def change(program, qdq):
        cast = next(
            node for node in reversed(program.graph.nodes) if node.op == "call_function" and "int8" in str(node.args)
        )
        with program.graph.inserting_after(cast):
            changed = program.graph.call_function(wobble, (cast,))
        cast.replace_all_uses_with(changed, delete_user_cb=lambda user: user is not changed)
        program.recompile()
        return program

    _replace_representation(patch, change)


def no_annotation(patch) -> None:
    """A quantizer that finds nothing to annotate, as after an export that decomposes linear."""
    from pt2e_ci.flow.homes import Home

    patch.setattr(Home, "xnnpack", lambda home, **options: home._quantizer.XNNPACKQuantizer())


def no_qnnpack(patch) -> None:
    """A torch that was built without QNNPACK."""
    import dataclasses

    from pt2e_ci.cells import capabilities
    from pt2e_ci.suite import test_cases

    detect = capabilities.detect

    def poorer():
        found = detect()
        return dataclasses.replace(found, engines=tuple(e for e in found.engines if e != "qnnpack"))

    patch.setattr(test_cases, "detect", poorer)
