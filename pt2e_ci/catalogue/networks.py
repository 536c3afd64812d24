"""Networks that people ship, written out: the models of `pt2e_ci.catalogue.cases.DEPLOYED`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterable

# What a batch norm takes the variance for: drawn weights make of a normal number one of about this variance, and a
# signal should neither die nor grow over fifty layers.
_VARIANCE = 2.0**-4


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    norm.register_buffer("running_var", torch.full((channels,), _VARIANCE))
    return norm


def _conv(inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a convolution whose output has the input's size, divided by the stride."""
    sizes = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    padding = (sizes[0] // 2, sizes[1] // 2)
    return nn.Conv2d(inputs, outputs, sizes, stride, padding, groups=groups, bias=False)


class _InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        layers: list[nn.Module] = [_conv(inputs, inner, 1), _norm(inner), nn.ReLU6()] if expansion > 1 else []
        layers += [_conv(inner, inner, 3, stride, inner), _norm(inner), nn.ReLU6(), _conv(inner, outputs, 1)]
        self.layers = nn.Sequential(*layers, _norm(outputs))
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layers(x)
        return x + found if self.is_residual else found


class MobileNetV2(nn.Module):
    """MobileNetV2, of images ``(N, 3, H, W)``; its 52 convolutions, a mean and a linear."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, 32, 3, 2), _norm(32), nn.ReLU6()]
        channels = 32
        stages = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2)]
        for expansion, outputs, repeats, stride in [*stages, (6, 320, 1, 1)]:
            for index in range(repeats):
                layers.append(_InvertedResidual(channels, outputs, 1 if index else stride, expansion))
                channels = outputs
        layers += [_conv(channels, 1280, 1), _norm(1280), nn.ReLU6()]
        self.features, self.classifier = nn.Sequential(*layers), nn.Linear(1280, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(N, classes)``."""
        found: torch.Tensor = self.classifier(self.features(x).mean([2, 3]))
        return found


class _BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first = [_conv(inputs, outputs, 3, stride), _norm(outputs), nn.ReLU()]
        self.layers = nn.Sequential(*first, _conv(outputs, outputs, 3), _norm(outputs))
        is_same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if is_same else nn.Sequential(_conv(inputs, outputs, 1, stride), _norm(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.layers(x) + self.shortcut(x))


class ResNet18(nn.Module):
    """ResNet-18, of images ``(N, 3, H, W)``; its 20 convolutions, a maximum, a mean and a linear."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, 64, 7, 2), _norm(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        channels = 64
        for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            layers += [_BasicBlock(channels, outputs, stride), _BasicBlock(outputs, outputs, 1)]
            channels = outputs
        self.features, self.classifier = nn.Sequential(*layers), nn.Linear(512, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(N, classes)``."""
        found: torch.Tensor = self.classifier(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))
        return found


class DepthwiseSeparable(nn.Module):
    """MLPerf Tiny's network for spotting keywords, DS-CNN, of 49 spectra of 10 numbers each, ``(N, 1, 49, 10)``."""

    def __init__(self, channels: int = 64, words: int = 12) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(1, channels, (10, 4), 2), _norm(channels), nn.ReLU(), nn.Dropout(0.2)]
        for _ in range(4):
            layers += [_conv(channels, channels, 3, groups=channels), _norm(channels), nn.ReLU()]
            layers += [_conv(channels, channels, 1), _norm(channels), nn.ReLU()]
        self.features, self.classifier = nn.Sequential(*layers, nn.Dropout(0.4)), nn.Linear(channels, words)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(N, words)``."""
        found: torch.Tensor = self.classifier(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))
        return found


class TransformerBlock(nn.Module):
    """A block of a transformer, of embeddings ``(N, L, E)``: attention of some heads and two linears, normed first."""

    def __init__(self, embedding: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_linears = nn.LayerNorm(embedding), nn.LayerNorm(embedding)
        self.query, self.key, self.value, self.out = (nn.Linear(embedding, embedding) for _ in range(4))
        self.up, self.down = nn.Linear(embedding, 4 * embedding), nn.Linear(4 * embedding, embedding)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(N, L, E)``."""
        y = x + self.attend(self.before_attention(x))
        found: torch.Tensor = y + self.down(F.gelu(self.up(self.before_linears(y))))
        return found

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """Return what each position makes of all, ``(N, L, E)``."""
        batch, length, size = x.shape
        heads = [one(x).view(batch, length, self.heads, size // self.heads).transpose(1, 2) for one in self._inputs()]
        query, key, value = heads
        shares = torch.softmax(torch.matmul(query, key.transpose(2, 3)) * (size // self.heads) ** -0.5, -1)
        found: torch.Tensor = self.out(torch.matmul(shares, value).transpose(1, 2).reshape(batch, length, size))
        return found

    def _inputs(self) -> Iterable[nn.Module]:
        return self.query, self.key, self.value


class UNet(nn.Module):
    """A small U-Net, of images ``(N, 1, H, W)`` whose sides are multiples of four: it halves and doubles them twice."""

    def __init__(self, channels: int = 8, classes: int = 2) -> None:
        super().__init__()
        self.down, self.down_again = self._double(1, channels), self._double(channels, 2 * channels)
        self.bottom = self._double(2 * channels, 4 * channels)
        self.grow = nn.ConvTranspose2d(4 * channels, 2 * channels, 2, 2)
        self.up = self._double(4 * channels, 2 * channels)
        self.grow_again = nn.ConvTranspose2d(2 * channels, channels, 2, 2)
        self.up_again = self._double(2 * channels, channels)
        self.last = nn.Conv2d(channels, classes, 1)

    @staticmethod
    def _double(inputs: int, outputs: int) -> nn.Module:
        first = [_conv(inputs, outputs, 3), _norm(outputs), nn.ReLU()]
        return nn.Sequential(*first, _conv(outputs, outputs, 3), _norm(outputs), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(N, classes, H, W)``."""
        whole = self.down(x)
        half = self.down_again(F.max_pool2d(whole, 2))
        x = self.bottom(F.max_pool2d(half, 2))
        x = self.up(torch.cat([self.grow(x), half], 1))
        x = self.up_again(torch.cat([self.grow_again(x), whole], 1))
        found: torch.Tensor = self.last(x)
        return found
