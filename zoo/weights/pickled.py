"""A checkpoint as PyTorch pickles it, turned into tensors under the model's names. Runs in the child of `isolate` only.

`weights_only=True` keeps a file from running code, not from asking for more memory than there is: what a file may
unfold to is bounded by its own size.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from zoo.errors import WeightsCorrupt, WeightsError, WeightsMismatch
from zoo.weights.assign import LONGEST, check_kind, compare, some
from zoo.weights.layouts import converted
from zoo.weights.safetensors_file import IMPOSTORS

# Where projects keep the tensors, those that were evaluated last.
KEYS = ("state_dict", "model_state", "model", "module", "state_dict_ema", "model_ema", "ema_state_dict")
PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "backbone.", "encoder.")  # in front of every name
COUNTER, STATISTIC = "num_batches_tracked", "running_mean"
ZIP = b"PK\x03\x04"
GLOBAL = re.compile(r"GLOBAL (\S+)")
DEEPEST = 3  # keys that lead to the tensors
MOST = 2  # times its own size that a file may unfold to
DAMAGED = "get the file again; if it stays so, do not use it"


@dataclass(frozen=True)
class State:
    """Tensors by name, as a file has them. `where`: the keys that lead to them."""

    path: Path
    where: str
    tensors: Mapping[str, Tensor]
    left_out: tuple[str, ...] = ()


def convert(request: Mapping[str, Any]) -> dict[str, Any]:
    """Write the tensors of a pickle as safetensors, under the model's names.

    request: source, output: paths. key: where the tensors are, such as "model_ema"; empty to find out. name: of the
    model. layouts: as in ModelSpec. wanted: {name: [shape, dtype, whether it is finite]}.
    Returns notes: sentences about what was chosen and left out. key, layout: which were.
    """
    source = Path(request["source"])
    wanted = {
        name: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for name, (shape, dtype, _) in request["wanted"].items()
    }
    states, notes = _states(_unpickled(source), request["key"], source), list[str]()
    chosen, layout, tensors = _fitting(states, wanted, request, notes)
    if chosen.left_out:
        notes.append(f"left out what is no tensor: {some(chosen.left_out)}")
    if others := [state.where for state in states if state.where != chosen.where]:
        notes.append(f"took {chosen.where!r}; there is also {some(others)}, which --key takes")
    numbers = [name for name, (_, _, finite) in request["wanted"].items() if finite]
    if broken := [name for name in numbers if not bool(torch.isfinite(tensors[name]).all())]:
        raise WeightsCorrupt(f"{source}: {some(broken)} holds NaN or infinity", hint="its training has diverged")
    _write(tensors, Path(request["output"]))
    return {"notes": notes, "key": chosen.where, "layout": layout}


# --- from a file to tensors -------------------------------------------------------------------------------------------


def _unpickled(path: Path) -> Any:
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(32)
    zipped = start.startswith(ZIP)
    if zipped:
        _check_archive(path, size)
    elif not start.startswith(b"\x80"):
        known = (what for magic, what in IMPOSTORS.items() if start.startswith(magic))
        tensors = "a safetensors file, which zoo.load reads as it is" if start[8:9] == b"{" else "no PyTorch checkpoint"
        raise WeightsCorrupt(f"{path} is {next(known, tensors)}", hint="give a .pth, .pyth, .pt, .bin or .ckpt file")
    try:
        with warnings.catch_warnings(action="ignore"):  # of kinds of tensors that are refused below
            return torch.load(path, weights_only=True, map_location="cpu", mmap=zipped)
    except pickle.UnpicklingError as refused:
        names = ", ".join(_foreign_names(path, str(refused)))
        if not names:
            raise WeightsCorrupt(f"{path} is no sound checkpoint: {_line(refused)}", hint=DAMAGED) from refused
        raise WeightsCorrupt(
            f"{path} holds more than tensors, and zoo runs no code from a file: {names}",
            hint="ask its author for a safetensors file, or, where you trust it with everything you have, "
            "save its state dict alone",
        ) from refused
    except Exception as broken:  # whatever a damaged pickle runs into
        if isinstance(broken, MemoryError) or "allocate memory" in str(broken):
            raise WeightsCorrupt(
                f"{path} asks for more memory than its size explains", hint="do not use it"
            ) from broken
        raise WeightsCorrupt(f"{path} is cut off or damaged: {_line(broken)}", hint=DAMAGED) from broken


def _check_archive(path: Path, size: int) -> None:
    try:
        members = zipfile.ZipFile(path).infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as broken:
        raise WeightsCorrupt(f"{path} is cut off or damaged: {_line(broken)}", hint=DAMAGED) from broken
    if any(member.filename.endswith("/constants.pkl") for member in members):
        raise WeightsCorrupt(
            f"{path} is a TorchScript program, not a checkpoint", hint="ask its author for the state dict alone"
        )
    packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if packed or sum(member.file_size for member in members) > size:
        raise WeightsCorrupt(
            f"{path} is compressed, which PyTorch's own files never are: it could unfold to any size",
            hint="do not use it",
        )


def _foreign_names(path: Path, message: str) -> list[str]:
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # it reads one of the two formats only, and sound files only
        names = []
    return [name[:LONGEST] for name in (names or GLOBAL.findall(message))[:10]]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


# --- from what was unpickled to a state dict --------------------------------------------------------------------------


def _states(loaded: Any, key: str, path: Path) -> list[State]:
    """Every state dict in the file, or the one under `key`; the likeliest first."""
    if not isinstance(loaded, Mapping):
        raise WeightsMismatch(f"{path} holds {type(loaded).__name__}, not a state dict", hint="ask its author for one")
    found = list(_walk(loaded, "")) if not key else list(_under(loaded, key))
    if not found:
        where = f"under {key!r}" if key else f"under the usual keys ({', '.join(KEYS)})"
        raise WeightsMismatch(
            f"{path} holds no tensors by name {where}", hint=f"its keys are {some(map(str, loaded))}; --key says which"
        )
    return [_state(path, where, value) for where, value in found]


def _state(path: Path, where: str, value: Mapping[Any, Any]) -> State:
    tensors = {name: item for name, item in value.items() if isinstance(item, Tensor) and isinstance(name, str)}
    others = [f"{name} ({type(item).__name__})" for name, item in value.items() if name not in tensors]
    return State(path, where, tensors, tuple(others))


def _walk(value: Mapping[Any, Any], where: str, depth: int = 0) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    if _has_tensors(value):
        yield where, value
    for key in KEYS if depth < DEEPEST else ():  # a pickle may contain itself
        if isinstance(inner := value.get(key), Mapping):
            yield from _walk(inner, f"{where}.{key}" if where else key, depth + 1)


def _under(value: Any, key: str) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    for part in [key] if key in value else key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping) and _has_tensors(value):
        yield key, value


def _has_tensors(value: Mapping[Any, Any]) -> bool:
    return any(isinstance(item, Tensor) and isinstance(name, str) for name, item in value.items())


def _check_tensors(state: State) -> None:
    """Only plain tensors, and no more of them than their bytes are."""
    for name, tensor in state.tensors.items():
        problem = ""
        if tensor.layout != torch.strided or tensor.is_nested:
            problem = f"is {'nested' if tensor.is_nested else 'sparse'}"
        elif tensor.is_quantized:
            problem = "is quantised"
        elif tensor.device.type != "cpu" or type(tensor) not in (Tensor, nn.Parameter):
            problem = f"is no plain tensor ({type(tensor).__name__} on {tensor.device.type})"
        elif tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
            problem = f"has a shape {tuple(tensor.shape)} that its bytes do not fill"
        if problem:
            raise WeightsCorrupt(f"{state.path}: {some([name])} {problem}", hint="ask its author for plain weights")
    total, size = sum(t.numel() * t.itemsize for t in state.tensors.values()), state.path.stat().st_size
    if total > MOST * size:
        raise WeightsCorrupt(
            f"{state.path}: its tensors would take {total:,} bytes, the file has {size:,}", hint="do not use it"
        )


# --- from a state dict to the model's names ---------------------------------------------------------------------------


def _fitting(
    states: list[State], wanted: Mapping[str, Tensor], request: Mapping[str, Any], notes: list[str]
) -> tuple[State, str, Mapping[str, Tensor]]:
    """The first state dict whose every tensor fits the model; else the error of the first one, read as it was meant."""
    wrong: WeightsMismatch | None = None
    for state in states:
        _check_tensors(state)
        for prefix, bare in reversed(list(_without_prefixes(state))):
            said: list[str] = []
            try:
                layout, tensors = _arranged(bare, wanted, request, said)
            except WeightsMismatch as mismatch:
                wrong = wrong or mismatch
                continue
            notes += [f"took {prefix!r} off every name"] if prefix else []
            notes += said
            return state, layout, tensors
    assert wrong is not None
    barest = [bare for _, bare in _without_prefixes(states[0])][-1]
    wrong.shapes = {name: tuple(tensor.shape) for name, tensor in barest.tensors.items()}
    raise wrong


def _without_prefixes(state: State) -> Iterator[tuple[str, State]]:
    """The state dict as it is, then with one prefix after the other taken off that all of its names have."""
    taken, tensors = "", state.tensors
    while tensors:
        yield taken, State(state.path, state.where, tensors)
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None)
        if prefix is None:
            return
        taken, tensors = taken + prefix, {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _arranged(
    state: State, wanted: Mapping[str, Tensor], request: Mapping[str, Any], notes: list[str]
) -> tuple[str, Mapping[str, Tensor]]:
    """The layout that the tensors have, and themselves under the model's names. Raises WeightsMismatch."""
    layouts, layout, tensors = request["layouts"], "", _with_counters(state.tensors, wanted, notes)
    what = f"{state.path} does not fit {request['name']}"
    if layouts and tensors.keys() != wanted.keys():
        layout, found = converted(tensors, layouts, what, wanted)
        tensors = _with_counters(found, wanted, notes)
        what = f"{state.path}, read as layout {layout!r}, does not fit {request['name']}"
    compare({key: tuple(t.shape) for key, t in wanted.items()}, {k: tuple(t.shape) for k, t in tensors.items()}, what)
    for key, like in wanted.items():
        check_kind(tensors[key], like, f"{state.path}: {some([key])}")
    return layout, tensors


def _with_counters(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], notes: list[str]
) -> Mapping[str, Tensor]:
    """Files older than PyTorch 0.4.1 have no counters of batches; nn.BatchNorm, too, starts those at 0."""
    if any(name.endswith(COUNTER) for name in tensors):
        return tensors
    missing = [name for name in wanted if name.endswith(COUNTER) and name.removesuffix(COUNTER) + STATISTIC in tensors]
    if missing:
        notes.append(f"{len(missing)} {COUNTER} start at 0: the file is older than they are")
    return {**tensors, **{name: torch.zeros((), dtype=torch.int64) for name in missing}}


def _write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write, read again, compare to the last bit."""
    plain = {name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}  # no aliases
    try:
        save_file(plain, path, {"format": "pt"})
        again = load_file(path)
    except SafetensorError as failed:
        raise WeightsError(
            f"{path.parent} cannot be written: {_line(failed)}", hint="make room, or write elsewhere"
        ) from failed
    same = again.keys() == plain.keys() and all(_bits(again[name]).equal(_bits(t)) for name, t in plain.items())
    if not same:
        raise WeightsError(f"{path} does not hold what was written into it", hint="is the disk sound?")


def _bits(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)
