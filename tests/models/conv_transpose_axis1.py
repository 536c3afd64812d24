# pytorch/executorch#11730: per-channel weights of a transposed conv must go along axis 1 (its output channels); the
# quantizer only knew axis 0. Own quantizer with axis 1, and a per-tensor output.
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
    dtype=torch.int8,
    quant_min=-127,
    quant_max=127,
    qscheme=torch.per_channel_symmetric,
    ch_axis=1,
    observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=2**-12),
)


class Axis1(Quantizer):
    def annotate(self, graph):
        for n in graph.graph.nodes:
            if n.target is torch.ops.aten.conv_transpose2d.input:
                n.meta["quantization_annotation"] = QuantizationAnnotation(
                    input_qspec_map={n.args[0]: ACT, n.args[1]: WEIGHT}, output_qspec=ACT, _annotated=True
                )
        return graph

    def validate(self, graph):
        pass


class Up(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 5, 3, stride=2, padding=1, output_padding=1)

    def forward(self, x):
        return self.up(x)


torch.manual_seed(13)
model = Up().eval()
inputs = [(torch.randn(1, 3, 4, 4),) for _ in range(3)]
quantizer = Axis1()
EXPECT = {
    "upstream": {"outcome": "float", "code": "PQ012", "operators": {"conv_transpose2d": ["float"]}, "unquantized": []},
    "exact": {"outcome": "pass", "operators": {"conv_transpose2d": ["integer"]}, "unquantized": []},
}
