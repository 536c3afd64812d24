# pytorch/executorch#13842: minimum(x, y) and a comparison with x, both with shared specs, sent prepare into endless
# recursion. The comparison's output is bool.
import torch
from torch import nn
from torchao.quantization.pt2e import MinMaxObserver
from torchao.quantization.pt2e.quantizer import (
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
    SharedQuantizationSpec,
)

ACT = QuantizationSpec(
    dtype=torch.int8,
    quant_min=-128,
    quant_max=127,
    qscheme=torch.per_tensor_affine,
    observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=2**-12),
)


class Shares(Quantizer):
    def annotate(self, graph):
        for n in graph.graph.nodes:
            if n.target is torch.ops.aten.minimum.default:
                a, b = n.args
                same = SharedQuantizationSpec((a, n))
                n.meta["quantization_annotation"] = QuantizationAnnotation(
                    input_qspec_map={a: ACT, b: same}, output_qspec=same, _annotated=True
                )
            elif n.target is torch.ops.aten.eq.Tensor:
                a, b = n.args
                n.meta["quantization_annotation"] = QuantizationAnnotation(
                    input_qspec_map={a: ACT, b: SharedQuantizationSpec((a, n))}, _annotated=True
                )
        return graph

    def validate(self, graph):
        pass


class Least(nn.Module):
    def forward(self, x, y):
        a = torch.minimum(x, y)
        return a, a == x


torch.manual_seed(17)
model = Least().eval()
inputs = [(torch.randn(3, 8), torch.randn(3, 8)) for _ in range(3)]
quantizer = Shares()
EXPECT = {
    "upstream": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {"minimum": ["float"], "eq": ["float"]},
        "unquantized": [],
    },
    "exact": {
        "outcome": "float",
        "code": "PQ012",
        "operators": {"minimum": ["integer"], "eq": ["float"]},
        "unquantized": [],
    },
}
