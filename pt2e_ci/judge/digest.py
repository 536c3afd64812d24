"""A digest of integer levels, equal on every CPU where the arithmetic is."""

from __future__ import annotations

import ctypes
import hashlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

_CHUNK = 1 << 20


class Digest:
    """Hashes integer tensors: their shapes and values, whatever their width. Floats have no place in it."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._empty = True

    def add(self, label: str, levels: Iterable[torch.Tensor]) -> None:
        """Take in the tensors that a program gave under a label, in order."""
        for tensor in levels:
            self._empty = False
            self._hash.update(f"{label} {tuple(tensor.shape)}\n".encode())
            flat = tensor.reshape(-1)
            for start in range(0, flat.numel(), _CHUNK):
                part = flat[start : start + _CHUNK].to(torch.int64).contiguous()
                self._hash.update(ctypes.string_at(part.data_ptr(), part.numel() * part.element_size()))

    def value(self) -> str | None:
        """Return ``sha256:...``, or None if there was no integer to hash."""
        return None if self._empty else f"sha256:{self._hash.hexdigest()}"
