# pytorch/pytorch#103088, pytorch/executorch#10325: tables and weights quantized with float scales AND float zero
# points (per_channel_affine_float_qparams), as torchao's EmbeddingQuantizer does. Here for a linear's weight, so that
# something is annotated: a zero point of 112.4 is not 112.
import torch
from torch import nn
from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer

ACT = QuantizationSpec(
    dtype=torch.int8,
    quant_min=-128,
    quant_max=127,
    qscheme=torch.per_tensor_affine,
    observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=2**-12),
)
WEIGHT = QuantizationSpec(
    dtype=torch.uint8,
    quant_min=0,
    quant_max=15,
    qscheme=torch.per_channel_affine_float_qparams,
    ch_axis=0,
    observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=2**-12),
)


class FloatQParams(Quantizer):
    def annotate(self, graph):
        for n in graph.graph.nodes:
            if n.target is torch.ops.aten.linear.default:
                n.meta["quantization_annotation"] = QuantizationAnnotation(
                    input_qspec_map={n.args[0]: ACT, n.args[1]: WEIGHT}, output_qspec=ACT, _annotated=True
                )
        return graph

    def validate(self, graph):
        pass


class One(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        return self.fc(x)


torch.manual_seed(41)
model = One().eval()
inputs = [(torch.randn(4, 8),) for _ in range(3)]
quantizer = FloatQParams()
EXPECT = {"both": {"outcome": "float", "code": "PQ012", "operators": {"linear": ["float"]}, "unquantized": []}}
