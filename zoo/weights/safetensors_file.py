"""A safetensors file that has been checked before any of it is believed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from zoo.errors import WeightsCorrupt, WeightsNotFound

# What people rename to .safetensors by mistake, by first bytes.
IMPOSTORS = {
    b"PK\x03\x04": "a zip archive, probably a PyTorch checkpoint",
    b"\x80\x02": "a Python pickle",
    b"\x80\x04": "a Python pickle",
    b"<": "a web page",
    b"version https://git-lfs": "a Git LFS pointer, not the file it points to",
}


_open: Any = safe_open  # its methods have no types


class SafetensorsFile:
    """Names and shapes at once, tensors when asked for.

    With `size` (bytes) and `sha256` the whole file is compared first. Raises WeightsCorrupt.
    """

    def __init__(self, path: Path, *, sha256: str = "", size: int | None = None) -> None:
        self.path = path
        try:
            self._compare(sha256, size)
            # pread: a file that is cut or overwritten while the model lives must not reach the model's memory.
            self._file: Any = _open(path, framework="pt", backend="pread")
            names = self._file.keys()
            self.shapes = {name: tuple(self._file.get_slice(name).get_shape()) for name in names}
        except SafetensorError as broken:
            raise WeightsCorrupt(
                f"{path} is not a sound safetensors file: {self._impostor() or broken}", hint="get the file again"
            ) from broken
        except OSError as unreadable:
            raise WeightsNotFound(f"{path} cannot be read: {unreadable}") from unreadable

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor, in memory of its own."""
        try:
            return {name: self._file.get_tensor(name) for name in self.shapes}
        except (SafetensorError, KeyError) as broken:  # KeyError: an element type that torch does not have
            raise WeightsCorrupt(
                f"{self.path}: a tensor cannot be read: {broken}", hint="get the file again"
            ) from broken

    def _compare(self, sha256: str, size: int | None) -> None:
        found = self.path.stat().st_size
        if size is not None and found != size:
            raise WeightsCorrupt(
                f"{self.path} has {found} bytes instead of {size}", hint="reinstall or get the file again"
            )
        if not sha256:
            return
        with self.path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != sha256:
            raise WeightsCorrupt(
                f"{self.path} is not the published file: its sha256 is {digest}, not {sha256}",
                hint="reinstall or get the file again",
            )

    def _impostor(self) -> str:
        with self.path.open("rb") as stream:
            start = stream.read(32)
        return next((f"it is {what}" for magic, what in IMPOSTORS.items() if start.startswith(magic)), "")
