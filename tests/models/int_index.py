# pytorch/executorch#22062: transform_for_annotation turns every scalar operand of add into a float32 tensor, also of
# an int64 add whose result is an index: the prepared program raises IndexError at calibration.
import torch
from torch import nn


class Index(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.register_buffer("order", torch.tensor([2, 0, 1]))

    def forward(self, x):
        return self.fc(x)[:, self.order + 1]


torch.manual_seed(25)
model = Index().eval()
inputs = [(torch.randn(2, 4),) for _ in range(3)]
EXPECT = {
    "both": {
        "outcome": "error",
        "stage": "calibrate",
        "error": "tensors used as indices must be long, int, byte or bool tens",
    }
}
