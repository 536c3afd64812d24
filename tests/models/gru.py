# pytorch/executorch#10104: static quantization of a GRU fails in prepare (io-only annotator), an LSTM goes through.
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(4, 6, batch_first=True)
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        y, _ = self.gru(x)
        return self.out(y)


torch.manual_seed(9)
model = Net().eval()
inputs = [(torch.randn(1, 5, 4),) for _ in range(3)]
EXPECT = {"both": {"outcome": "error", "stage": "prepare", "error": "expecting GRU to have two outputs"}}
