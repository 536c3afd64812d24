"""oneDNN's quantized operators, as torchao's x86 lowering and Inductor make them of a Q/DQ program of uint8."""

from __future__ import annotations

import platform
import shutil
import warnings
from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.engines.lowered import Between, floats_of, quantize
from pt2e_ci.engines.runtime import NotTakenError, Ran
from pt2e_ci.errors import one_line

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from pt2e_ci.vectors.vector import Vector


class Lowered:
    """torchao's lowering of a Q/DQ program for x86, without a compiler."""

    def version(self) -> str:
        """Return the names and the versions of the packages."""
        import torchao

        return f"torch {torch.__version__}, torchao {torchao.__version__}"

    def run(self, vector: Vector) -> Ran:
        """Run one vector; what ran is read off the lowered graph."""
        _check_machine()
        from torchao.quantization.pt2e.lowering import lower_pt2e_quantized_to_x86

        unsigned = vector.unsigned
        floats = floats_of(unsigned)
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                module = lower_pt2e_quantized_to_x86(_program(unsigned, floats), floats)
                found = module(*floats)
        except Exception as error:  # whatever the lowering raises
            raise NotTakenError(one_line(error, 200)) from None
        calls = [str(node.target) for node in module.graph.nodes if node.op == "call_function"]
        names = [name for name in calls if "quantize" not in name and "getitem" not in name]
        # What is on levels is one of these; all else that computes is in float.
        in_float = [name for name in names if name.startswith("aten.") and not name.startswith(_MOVES)]
        if not any(name.startswith("onednn.q") for name in names):
            in_float = in_float or names or ["quantize and dequantize"]
        levels = quantize(found, unsigned.output).numpy()
        return Ran(vector.as_asked(levels), " ".join(names) or "nothing", " ".join(in_float) or None)


def _check_machine() -> None:
    if platform.machine() != "x86_64":
        raise NotTakenError("it lowers to x86 alone")


_MOVES = ("aten.view", "aten.reshape", "aten.permute", "aten.transpose", "aten.clone", "aten.to")


def _program(vector: Vector, floats: tuple[torch.Tensor, ...]) -> GraphModule:
    import torchao.quantization.pt2e.inductor_passes.x86 as passes

    passes._register_quantization_weight_pack_pass()
    exported: Any = torch.export.export(Between(vector, by_channel=True).eval(), floats, strict=True)
    return exported.module(check_guards=False)


class Inductor:
    """The same program, compiled by Inductor."""

    def version(self) -> str:
        """Return the name and the version of the package."""
        return f"torch {torch.__version__}"

    def run(self, vector: Vector) -> Ran:
        """Run one vector; what ran is read off the code that was generated."""
        _check_machine()
        if shutil.which("g++") is None:
            raise NotTakenError("Inductor needs g++")
        import torch._inductor.config as config
        from torch._inductor.utils import run_and_get_code

        unsigned = vector.unsigned
        floats = floats_of(unsigned)
        config.freezing = True
        torch._dynamo.reset()
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                found, code = run_and_get_code(torch.compile(_program(unsigned, floats)), *floats)
        except Exception as error:  # whatever the compiler raises
            raise NotTakenError(one_line(error, 200)) from None
        text = "\n".join(code)
        kernels = [name for name in _KERNELS if name in text]
        in_float = None if kernels else "generated code on float32"
        return Ran(
            vector.as_asked(quantize(found, unsigned.output).numpy()), " ".join(kernels) or "generated", in_float
        )


_KERNELS = ("qlinear_pointwise", "qconv_pointwise", "qconv2d_pointwise")

ONEDNN, INDUCTOR = Lowered(), Inductor()
