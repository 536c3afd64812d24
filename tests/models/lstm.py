# pytorch/pytorch#135198: LSTM between linears; what of it is quantized at all?
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 6, batch_first=True)
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        y, (_h, _c) = self.lstm(x)
        return self.out(y[:, -1])


torch.manual_seed(10)
model = Net().eval()
inputs = [(torch.randn(1, 5, 4),) for _ in range(3)]
EXPECT = {
    "upstream": {"outcome": "inexact", "code": "PQ031", "operators": {"linear": ["integer"]}, "unquantized": ["lstm"]},
    "exact": {"outcome": "pass", "code": "PQ053", "operators": {"linear": ["integer"]}, "unquantized": ["lstm"]},
}
