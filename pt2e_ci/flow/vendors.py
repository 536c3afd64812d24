"""The quantizers that packages bring, each set up as its own documentation does. None is imported before it is made."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch

from pt2e_ci.flow.homes import QUANTIZERS, home_in_use

_ARM = "executorch.backends.arm"
_CADENCE = "executorch.backends.cadence.aot.quantizer.quantizer"


def _inductor(kind: str, named: str) -> Any:
    module = import_module(f"{QUANTIZERS[home_in_use().name]}.{kind}_inductor_quantizer")
    quantizer = getattr(module, f"{named}InductorQuantizer")()
    return quantizer.set_global(getattr(module, f"get_default_{kind}_inductor_quantization_config")())


def x86_inductor() -> Any:
    """Inductor's for x86."""
    return _inductor("x86", "X86")


def arm_inductor() -> Any:
    """Inductor's for Arm."""
    return _inductor("arm", "Arm")


def xpu_inductor() -> Any:
    """Inductor's for Intel's GPUs."""
    return _inductor("xpu", "XPU")


def executorch_xnnpack() -> Any:
    """ExecuTorch's copy of XNNPACK's."""
    module = import_module("executorch.backends.xnnpack.quantizer.xnnpack_quantizer")
    return module.XNNPACKQuantizer().set_global(module.get_symmetric_quantization_config())


def _tosa(specification: str, configuration: str, **options: Any) -> Any:
    module = import_module(f"{_ARM}.quantizer.arm_quantizer")
    tosa = import_module(f"{_ARM}.tosa.specification").TosaSpecification
    quantizer = module.TOSAQuantizer(tosa.create_from_string(specification))
    return quantizer.set_global(getattr(module, configuration)(**options))


def tosa() -> Any:
    """Arm's for TOSA, a scale for each output channel."""
    return _tosa("TOSA-1.0+INT", "get_symmetric_quantization_config")


def tosa_per_tensor() -> Any:
    """Arm's for TOSA, one scale for each weight."""
    return _tosa("TOSA-1.0+INT", "get_symmetric_quantization_config", is_per_channel=False)


def tosa_a16w8() -> Any:
    """Arm's for TOSA, activations of 16 bits."""
    return _tosa("TOSA-1.0+INT+int16", "get_symmetric_a16w8_quantization_config")


def tosa_a8w4() -> Any:
    """Arm's for TOSA, weights of 4 bits."""
    return _tosa("TOSA-1.0+INT+int4", "get_symmetric_a8w4_quantization_config", is_qat=False)


def ethos_u() -> Any:
    """Arm's for the Ethos-U."""
    module = import_module(f"{_ARM}.quantizer")
    target = import_module(f"{_ARM}.ethosu").EthosUCompileSpec("ethos-u55-128")
    return module.EthosUQuantizer(target).set_global(module.get_symmetric_quantization_config())


def vgf() -> Any:
    """Arm's for VGF, which is Vulkan's."""
    module = import_module(f"{_ARM}.quantizer")
    target = import_module(f"{_ARM}.vgf").VgfCompileSpec()
    return module.VgfQuantizer(target).set_global(module.get_symmetric_quantization_config())


def cortex_m() -> Any:
    """Arm's for Cortex-M."""
    return import_module("executorch.backends.cortex_m.quantizer.quantizer").CortexMQuantizer()


def cadence() -> Any:
    """Cadence's."""
    return import_module(_CADENCE).CadenceDefaultQuantizer()


def cadence_fused_relu() -> Any:
    """Cadence's, a ReLU fused into a convolution."""
    return import_module(_CADENCE).CadenceFusedConvReluQuantizer()


def cadence_a16_linear() -> Any:
    """Cadence's for linear on activations of 16 bits."""
    return import_module(_CADENCE).CadenceWith16BitLinearActivationsQuantizer()


def coreml() -> Any:
    """Core ML's, through ExecuTorch."""
    configuration = import_module("coremltools.optimize.torch.quantization.quantization_config")
    asked = {
        "quantization_scheme": configuration.QuantizationScheme.symmetric,
        "activation_dtype": torch.quint8,
        "weight_dtype": torch.qint8,
        "weight_per_channel": True,
    }
    quantizer = import_module("executorch.backends.apple.coreml.quantizer").CoreMLQuantizer
    return quantizer(configuration.LinearQuantizerConfig.from_dict({"global_config": asked}))


def samsung() -> Any:
    """Samsung's for its Exynos."""
    return import_module("executorch.backends.samsung.quantizer.quantizer").EnnQuantizer()


def openvino() -> Any:
    """ExecuTorch's for OpenVINO, which is made with NNCF."""
    return import_module("executorch.backends.openvino.quantizer.quantizer").OpenVINOQuantizer()


def vulkan() -> Any:
    """ExecuTorch's for Vulkan."""
    module = import_module("executorch.backends.vulkan.quantizer.vulkan_quantizer")
    return module.VulkanQuantizer().set_global(module.get_symmetric_quantization_config(is_dynamic=False))


def qualcomm() -> Any:
    """Qualcomm's for its HTP."""
    return import_module("executorch.backends.qualcomm.quantizer.quantizer").QnnQuantizer()


def nxp() -> Any:
    """NXP's for the Neutron."""
    target = import_module("executorch.backends.nxp.backend.neutron_target_spec").NeutronTargetSpec("imxrt700")
    return import_module("executorch.backends.nxp.quantizer.neutron_quantizer").NeutronQuantizer(target)


def mediatek() -> Any:
    """MediaTek's."""
    return import_module("executorch.backends.mediatek.quantizer.quantizer").NeuropilotQuantizer()
