"""Checkpoints as people publish them, and as nobody should."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

State = dict[str, Tensor]


class Evil:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Foreign(nn.Linear):
    """A class that only its author has."""


def saved(content: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pickle asks every module that is imported, and one of torch's then warns
        torch.save(content, buffer, **options)
    return buffer.getvalue()


def legacy(content: object) -> bytes:
    """As PyTorch wrote before 1.6."""
    return saved(content, _use_new_zipfile_serialization=False)


def packed_again(data: bytes, compression: int, only: str = "") -> bytes:
    """The same archive with other compression."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for member in old.infolist():
            chosen = compression if member.filename.endswith(only) else zipfile.ZIP_STORED
            new.writestr(member.filename, old.read(member), chosen)
    return buffer.getvalue()


def torchscript() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


def huge_legacy_storage() -> bytes:
    """A kilobyte that says it holds four terabytes."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            return ("storage", torch.FloatStorage, "0", "cpu", 10**12, None) if obj == "the storage" else None

    class Stored:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, ("the storage", 0, (10**12,), (1,), False, {})

    buffer = io.BytesIO()
    for head in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": sys.byteorder == "little"}):
        pickle.dump(head, buffer, protocol=2)
    Pickler(buffer, protocol=2).dump({"stem.0.weight": Stored()})
    pickle.dump(["0"], buffer, protocol=2)
    return buffer.getvalue() + bytes(100)


def recursive(state: State) -> bytes:
    content: dict[str, object] = {}
    content["model"] = content
    return saved(content)


def quantised() -> Tensor:
    with warnings.catch_warnings(action="ignore"):
        return torch.quantize_per_tensor(torch.ones(4), 1.0, 0, torch.qint8)


# name: (state dict, where an evil one would leave its mark) -> bytes, and words of the error
Bad = tuple[Callable[[State, Path], bytes], str]
BAD: dict[str, Bad] = {
    "evil": (lambda s, mark: saved({"model": s, "x": Evil(mark)}), "runs no code from a file: posix.mkdir"),
    "evil, legacy": (lambda s, mark: legacy({"model": s, "x": Evil(mark)}), "posix.mkdir"),
    "evil, bare pickle": (lambda s, mark: pickle.dumps(Evil(mark), protocol=2), "posix.mkdir"),
    "evil, newer bare pickle": (lambda s, mark: pickle.dumps(Evil(mark), protocol=5), ""),
    "namespace": (lambda s, _: saved({"model": s, "args": argparse.Namespace(lr=1)}), "argparse.Namespace"),
    "numpy scalar": (lambda s, _: saved({"model": s, "best": np.float64(71.3)}), "scalar"),
    "whole module": (lambda s, _: saved(Foreign(2, 2)), "pickles.Foreign"),
    "torchscript": (lambda s, _: torchscript(), "TorchScript"),
    "cut": (lambda s, _: saved(s)[:-400], "cut off or damaged"),
    "cut, legacy": (lambda s, _: legacy(s)[:-40], "cut off or damaged"),
    "empty": (lambda s, _: b"", "no PyTorch checkpoint"),
    "web page": (lambda s, _: b"<!DOCTYPE html>", "a web page"),
    "lfs pointer": (lambda s, _: b"version https://git-lfs.github.com/spec/v1", "LFS pointer"),
    "zip bomb": (lambda s, _: packed_again(saved({"a": torch.zeros(1 << 22)}), zipfile.ZIP_DEFLATED), "is compressed"),
    "pickle bomb": (lambda s, _: packed_again(saved(s), zipfile.ZIP_DEFLATED, "data.pkl"), "is compressed"),
    "stride 0": (lambda s, _: saved(s | {"fc.bias": torch.zeros(1).expand(10**5, 10**5)}), "do not fill"),
    "many names for one tensor": (lambda s, _: saved({f"{i}": _BIG for i in range(64)}), "its tensors would take"),
    "huge storage": (lambda s, _: huge_legacy_storage(), "more memory"),
    "sparse": (lambda s, _: saved(s | {"fc.bias": torch.ones(5).to_sparse()}), "fc.bias is sparse"),
    "quantised": (lambda s, _: saved(s | {"fc.bias": quantised()}), "fc.bias is quantised"),
    "on no device": (lambda s, _: saved(s | {"fc.bias": torch.ones(5, device="meta")}), "no plain tensor"),
    "nan": (lambda s, _: saved(s | {"fc.bias": torch.full((5,), torch.nan)}), "fc.bias holds NaN"),
    "a list": (lambda s, _: saved(list(s.values())), "holds list, not a state dict"),
    "no tensors": (lambda s, _: saved({"epoch": 3, "cfg": "a"}), "its keys are cfg, epoch"),
    "only itself": (lambda s, _: recursive(s), "holds no tensors by name"),
    "another model": (lambda s, _: saved({"a": torch.ones(3)}), "1 unexpected: a"),
    "a shape": (lambda s, _: saved(s | {"fc.bias": torch.ones(6)}), "fc.bias (6,) instead of (5,)"),
    "a type": (lambda s, _: saved(s | {"fc.bias": torch.ones(5, dtype=torch.int32)}), "fc.bias is torch.int32"),
    "a tensor missing": (lambda s, _: saved({k: v for k, v in s.items() if k != "fc.bias"}), "1 missing: fc.bias"),
}
_BIG = torch.zeros(1 << 12)

# name: a state dict -> bytes, and a note about it. All of them are the same weights.
GOOD: dict[str, tuple[Callable[[State], bytes], str]] = {
    "flat": (saved, ""),
    "legacy": (legacy, ""),
    "state_dict": (lambda s: saved({"state_dict": s, "epoch": 3}), ""),
    "model_state": (lambda s: saved({"model_state": s, "optimizer_state": {"state": {0: torch.ones(3)}}}), ""),
    "nested": (lambda s: saved({"model": {"state_dict": s}}), ""),
    "module": (lambda s: saved({f"module.{k}": v for k, v in s.items()}), "took 'module.' off"),
    "compiled, parallel": (
        lambda s: saved({"state_dict": {f"module._orig_mod.{k}": v for k, v in s.items()}}),
        "took 'module._orig_mod.' off",
    ),
    "not tensors": (lambda s: saved(s | {"epoch": 3, "note": "x"}), "no tensor: epoch (int), note (str)"),
    "averaged": (lambda s: saved({"model": s, "model_ema": _moved(s)}), "there is also model_ema"),
    "the wrong one first": (lambda s: saved({"state_dict": {"a": torch.ones(1)}, "model": s}), "took 'model'"),
    "half": (lambda s: saved({k: v.double() if v.is_floating_point() else v for k, v in s.items()}), ""),
    "transposed": (lambda s: saved(s | {"fc.weight": s["fc.weight"].t().contiguous().t()}), ""),
    "one storage": (lambda s: saved(_in_one_storage(s)), ""),
    "parameters": (lambda s: saved({k: nn.Parameter(v) if v.ndim > 1 else v for k, v in s.items()}), ""),
    "no counters": (
        lambda s: legacy({k: v for k, v in s.items() if "num_batches" not in k}),
        "1 num_batches_tracked start at 0",
    ),
    "another layout": (lambda s: saved({k.replace("stem.", "conv1."): v for k, v in s.items()}), ""),
}


def _moved(state: State) -> State:
    return {name: tensor + 1 for name, tensor in state.items()}


def _in_one_storage(state: State) -> State:
    floats = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    pieces = torch.cat([tensor.flatten() for tensor in floats.values()]).split([t.numel() for t in floats.values()])
    return state | {name: piece.view_as(floats[name]) for name, piece in zip(floats, pieces, strict=True)}
