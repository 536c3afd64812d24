"""The models of the catalogue. Their parameters are overwritten with portable ones (see `inputs`)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

_Size = int | tuple[int, int]


class Linear(nn.Module):
    """``y = x W^T + b``, on the last dimension of x; with a ReLU, or a factor, behind it if asked for."""

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = True, relu: bool = False, factor: float = 1
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias)
        self.relu = nn.ReLU() if relu else None
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer to x, ``(..., in_features)``."""
        y = self.linear(x)
        y = y if self.relu is None else self.relu(y)
        return y if self.factor == 1 else y * self.factor


class Conv2d(nn.Module):
    """One convolution; with batch normalization, and a ReLU, behind it if asked for."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        *,
        batch_norm: bool = False,
        relu: bool = False,
        stride: _Size = 1,
        padding: _Size | str = 0,
        dilation: _Size = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.norm = nn.BatchNorm2d(out_channels) if batch_norm else None
        self.relu = nn.ReLU() if relu else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve x, ``(N, in_channels, H, W)``."""
        y = self.conv2d(x)
        y = y if self.norm is None else self.norm(y)
        return y if self.relu is None else self.relu(y)


class Add(nn.Module):
    """``x + y``."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Add two tensors whose shapes broadcast."""
        return x + y


class AddReLU(nn.Module):
    """``relu(x + y)``."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Add two tensors of one shape and drop what is negative."""
        return F.relu(x + y)


class AddSelf(nn.Module):
    """``x + x``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add a tensor to itself."""
        return x + x


class Mul(nn.Module):
    """``x * y``."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Multiply two tensors of one shape."""
        return x * y


class MulReLU(nn.Module):
    """``relu(x * y)``."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Multiply two tensors of one shape and drop what is negative."""
        return F.relu(x * y)


class AddScalar(nn.Module):
    """``x + 0.375``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add a number."""
        return x + 0.375


class MulScalar(nn.Module):
    """``x * 0.3``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply by a number."""
        return x * 0.3


class Cat(nn.Module):
    """``cat([x, y], dim=1)``."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Put two tensors, ``(N, C, ...)``, one after the other along C."""
        return torch.cat([x, y], 1)


class CatThree(nn.Module):
    """``cat([x, y, z], dim=-1)``."""

    def forward(self, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Put three tensors one after the other along their last dimension."""
        return torch.cat([x, y, z], -1)


class Shared(nn.Module):
    """One linear layer that is applied twice."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer to x, ``(N, features)``, and to what it gives."""
        return self.linear(self.linear(x))


class Heads(nn.Module):
    """Two linear layers, whose results are given by name."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first = nn.Linear(features, 3)
        self.second = nn.Linear(features, 5)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Apply both to x, ``(N, features)``."""
        return {"first": self.first(x), "second": self.second(x)}


class RunningSum(nn.Module):
    """A linear layer, and a sum of all that it gave."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, features)
        self.register_buffer("total", torch.zeros(1, features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add what the layer makes of x, ``(1, features)``, to the sum, and return it."""
        self.total.add_(self.linear(x))
        return self.total.clone()


class CatReLU(nn.Module):
    """``cat([relu(x + y), y], dim=1)``, on one grid, so that the ReLU is not implied by its output's range."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Add two tensors of one shape, ``(N, C, ...)``, and put what is positive before the second along C."""
        return torch.cat([F.relu(x + y), y], 1)


class ConvMaxPool2d(nn.Module):
    """A pointwise convolution of two channels, and a max pooling."""

    def __init__(
        self,
        kernel_size: _Size = 1,
        stride: _Size = 1,
        padding: _Size = 0,
        dilation: _Size = 1,
        *,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(2, 2, 1)
        self.max_pool2d = nn.MaxPool2d(kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve and pool x, ``(N, 2, H, W)``."""
        return self.max_pool2d(self.conv2d(x))


class ConvThen(nn.Module):
    """A pointwise convolution of two channels, and one of the operators that quantizers give its input's grid to."""

    def __init__(
        self,
        then: str,
        *,
        size: _Size = 4,
        bounds: tuple[float, float] = (-0.125, 0.25),
        dims: tuple[int, ...] = (2, 3),
        keepdim: bool = False,
    ) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(2, 2, 1)
        self.then = {
            "avg_pool2d": nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(2, 2, 1)),  # whose input is quantized
            "adaptive_avg_pool2d": nn.AdaptiveAvgPool2d(size),
            "hardtanh": nn.Hardtanh(*bounds),
            "mean": nn.Identity(),
        }[then]
        self.mean = then == "mean"
        self.dims, self.keepdim = [*dims], keepdim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply both to x, ``(N, 2, H, W)``."""
        y = self.then(self.conv2d(x))
        return y.mean(self.dims, self.keepdim) if self.mean else y


class MLP(nn.Module):
    """Three linear layers with ReLUs between them."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, 2 * features),
            nn.ReLU(),
            nn.Linear(2 * features, features),
            nn.ReLU(),
            nn.Linear(features, 4),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layers to x, ``(N, features)``."""
        return self.layers(x)


class ResidualBlock(nn.Module):
    """Two convolutions with batch normalization, and the input added to what they give."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Conv2d(channels, channels, 3, padding=1, batch_norm=True, relu=True)
        self.second = Conv2d(channels, channels, 3, padding=1, batch_norm=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block to x, ``(N, channels, H, W)``."""
        return F.relu(self.second(self.first(x)) + x)


class InvertedResidual(nn.Module):
    """MobileNetV2's block: expand, convolve each channel by itself, project, and add the input."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.expand = Conv2d(channels, hidden, 1, batch_norm=True)
        self.depthwise = Conv2d(hidden, hidden, 3, padding=1, groups=hidden, batch_norm=True)
        self.project = Conv2d(hidden, channels, 1, batch_norm=True)
        self.clip = nn.ReLU6()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block to x, ``(N, channels, H, W)``."""
        return x + self.project(self.clip(self.depthwise(self.clip(self.expand(x)))))


class SmallCNN(nn.Module):
    """Convolution, pooling, convolution, mean over the image, classifier."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first = Conv2d(3, 4, 3, padding=1, relu=True)
        self.pool = nn.MaxPool2d(2)
        self.second = Conv2d(4, 8, 3, padding=1, relu=True)
        self.classifier = nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify x, ``(N, 3, H, W)``."""
        return self.classifier(self.second(self.pool(self.first(x))).mean([2, 3]))


class Attention(nn.Module):
    """One head of self-attention. Its matrix products and its softmax are not quantized by XNNPACK's quantizer."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.query = nn.Linear(features, features)
        self.key = nn.Linear(features, features)
        self.value = nn.Linear(features, features)
        self.output = nn.Linear(features, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend over x, ``(N, length, features)``."""
        scores = self.query(x) @ self.key(x).transpose(1, 2)
        return self.output(torch.softmax(scores * 0.25, -1) @ self.value(x))
