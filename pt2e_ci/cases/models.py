"""The models of the catalogue. Their parameters are overwritten with portable ones (see `inputs`)."""

from __future__ import annotations

import torch
from torch import nn


class Linear(nn.Module):
    """``y = x W^T + b``, on the last dimension of x."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer to x, ``(..., in_features)``."""
        return self.linear(x)


class Conv2d(nn.Module):
    """One convolution, with bias."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(in_channels, out_channels, kernel_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve x, ``(N, in_channels, H, W)``."""
        return self.conv2d(x)


class Add(nn.Module):
    """``x + y``."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Add two tensors of one shape."""
        return x + y


class AddReLU(nn.Module):
    """``relu(x + y)``."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Add two tensors of one shape and drop what is negative."""
        return nn.functional.relu(x + y)


class ConvMaxPool2d(nn.Module):
    """A pointwise convolution of two channels, and a max pooling whose window is one element."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(2, 2, 1)
        self.max_pool2d = nn.MaxPool2d(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve and pool x, ``(N, 2, H, W)``."""
        return self.max_pool2d(self.conv2d(x))
