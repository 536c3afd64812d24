# pytorch/ao#4421: a SharedQuantizationSpec that points to a node later in the graph: prepare stops at a bare assert.
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


class Later(Quantizer):
    def annotate(self, graph):
        adds = [n for n in graph.graph.nodes if n.target is torch.ops.aten.add.Tensor]
        first, last = adds[0], adds[-1]
        for n in adds:
            n.meta["quantization_annotation"] = QuantizationAnnotation(
                input_qspec_map=dict.fromkeys(n.args, ACT), output_qspec=ACT, _annotated=True
            )
        first.meta["quantization_annotation"].output_qspec = SharedQuantizationSpec(last)
        return graph

    def validate(self, graph):
        pass


class Sums(nn.Module):
    def forward(self, x, y):
        return (x + y) + y


torch.manual_seed(18)
model = Sums().eval()
inputs = [(torch.randn(3, 8), torch.randn(3, 8)) for _ in range(3)]
quantizer = Later()
EXPECT = {
    "both": {
        "outcome": "error",
        "stage": "prepare",
        "error": "please make sure only refer to edge or node that has observe",
    }
}
