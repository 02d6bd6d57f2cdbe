"""A safetensors file: names and shapes at once, tensors when asked for, nothing believed that was not checked."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from zoo.errors import WeightsCorrupt, WeightsNotFound
from zoo.weights.shards import SUFFIX, read_index

# What people rename to .safetensors by mistake, by first bytes.
IMPOSTORS = {
    b"PK\x03\x04": "a zip archive, probably a PyTorch checkpoint",
    b"\x80\x02": "a Python pickle",
    b"\x80\x04": "a Python pickle",
    b"<": "a web page",
    b"version https://git-lfs": "a Git LFS pointer, not the file it points to",
}
LARGEST_HEADER = 8 << 20  # room for some 50 000 tensors; a file of empty ones would keep the parser busy for minutes

_open: Any = safe_open  # its methods have no types


class SafetensorsFile:
    """An open file. Raises WeightsCorrupt for what is not a safetensors file.

    mapped: tensors are the file's own pages, read when touched. Only right for a file that nobody writes into: cutting
    it would end the process. ZOO_MMAP=0 switches it off, for network file systems.
    """

    def __init__(self, path: Path, *, mapped: bool = False) -> None:
        self.path = path
        mapped = mapped and os.environ.get("ZOO_MMAP") != "0"
        try:
            self._check_header_size()
            self._file: Any = _open(path, framework="pt", backend="mmap" if mapped else "pread")
            names = self._file.keys()
            self.shapes = {name: tuple(self._file.get_slice(name).get_shape()) for name in names}
        except SafetensorError as broken:
            raise WeightsCorrupt(
                f"{path} is not a sound safetensors file: {self._impostor() or str(broken)[:300]}",
                hint="get the file itself, again",
            ) from broken
        except OSError as unreadable:
            raise WeightsNotFound(
                f"{path} cannot be read: {unreadable}", hint="check the path and its permissions"
            ) from unreadable

    @property
    def files(self) -> list[Path]:
        """The files that hold the tensors: this one."""
        return [self.path]

    def tensor(self, name: str) -> Tensor:
        """One tensor, in memory of its own unless the file is mapped."""
        try:
            tensor: Tensor = self._file.get_tensor(name)
        # What an element type that torch does not have, or a size that overflows, comes out as.
        except (SafetensorError, KeyError, RuntimeError, OverflowError) as broken:
            raise WeightsCorrupt(
                f"{self.path}: tensor {name!r:.80} cannot be read: {str(broken)[:300]}", hint="get the file again"
            ) from broken
        return tensor

    def _check_header_size(self) -> None:
        with self.path.open("rb") as stream:
            start = stream.read(8)
        if len(start) == 8 and struct.unpack("<Q", start)[0] > LARGEST_HEADER:
            raise SafetensorError(f"its header claims more than {LARGEST_HEADER:,} bytes")

    def _impostor(self) -> str:
        # Asked only of files that do not parse: the length of a sound header may begin with the same bytes.
        with self.path.open("rb") as stream:
            start = stream.read(32)
        return next((f"it is {what}" for magic, what in IMPOSTORS.items() if start.startswith(magic)), "")


class Shards:
    """Several open files, as if they were one. Raises WeightsCorrupt unless every tensor is where the index says.

    path: of the index. mapped: as of `SafetensorsFile`.
    """

    def __init__(self, path: Path, *, mapped: bool = False) -> None:
        self.path = path
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._file: dict[str, SafetensorsFile] = {}
        for name, said in read_index(path).items():
            file = SafetensorsFile(path.parent / name, mapped=mapped)
            if odd := sorted(file.shapes.keys() ^ said):
                where = "not there" if odd[0] in said else "there, but not by the index"
                raise WeightsCorrupt(
                    f"{file.path}: {odd[0]!r:.80} is {where}", hint="get index and files again, from one commit"
                )
            self.shapes |= file.shapes
            self._file |= dict.fromkeys(said, file)

    @property
    def files(self) -> list[Path]:
        """The files that hold the tensors."""
        return sorted({file.path for file in self._file.values()})

    def tensor(self, name: str) -> Tensor:
        """One tensor, in memory of its own unless the file is mapped."""
        return self._file[name].tensor(name)


def open_weights(path: Path, *, mapped: bool = False) -> SafetensorsFile | Shards:
    """A safetensors file, or those that an index names."""
    return Shards(path, mapped=mapped) if path.name.endswith(SUFFIX) else SafetensorsFile(path, mapped=mapped)
