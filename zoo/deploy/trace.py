"""A network as one graph with a free number of clips, and the graph as a file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from zoo.contract import VideoModel
from zoo.deploy import attention
from zoo.deploy.rerun import OUTPUTS
from zoo.errors import DeploymentError, ZooError

PROTOBUF = 2 << 30  # bytes: the most that an ONNX file can hold in itself
Shape = tuple[int, int, int, int]


def needs(*packages: str) -> None:
    """Raise ZooError where a package of the extra is missing."""
    from importlib.util import find_spec

    if missing := [package for package in packages if find_spec(package) is None]:
        raise ZooError(f"ONNX needs {', '.join(missing)}", hint="pip install 'video-zoo[onnx]'")


class _Answers(nn.Module):
    """Logits and embedding of clips, in one pass."""

    def __init__(self, network: VideoModel) -> None:
        super().__init__()
        self.network = network

    def forward(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.forward_features(clip)
        return self.network.forward_head(features), self.network.forward_head(features, pre_logits=True)


def write(network: VideoModel, kind: str, clip: Shape, path: Path) -> None:
    """The network, which is in evaluation mode, as a file of this kind. Raises DeploymentError.

    kind: that of the file, or "onnxruntime" for an ONNX graph with operators that only ONNX Runtime has.
    """
    if kind.startswith("onnx"):
        needs("onnx", "onnxscript", "onnxruntime")
        if (size := sum(tensor.nbytes for tensor in network.state_dict().values())) > PROTOBUF:
            raise DeploymentError(f"its {size:,} bytes are more than an ONNX file can hold", hint="pt2 holds any size")
    try:
        with quiet(), torch.no_grad():
            _WRITERS[kind](trace(network, clip), path)
    except Exception as error:
        name = network.spec.full_name if network.spec else type(network).__name__
        reason = str(error).strip().partition("\n")[0][:300]
        raise DeploymentError(
            f"{name} cannot be exported as {kind}: {type(error).__name__}: {reason}",
            hint="the network has to be one graph for any number of clips, as torch.export wants it",
        ) from error


def trace(network: VideoModel, clip: Shape) -> ExportedProgram:
    device = next(network.parameters(), torch.empty(0)).device
    shapes = ({0: Dim("batch")},)
    return torch.export.export(_Answers(network), (torch.zeros(2, *clip, device=device),), dynamic_shapes=shapes)


def _write_onnx(program: ExportedProgram, path: Path, translations: attention.Translations | None = None) -> None:
    made = torch.onnx.export(
        program,
        input_names=["clip"],
        output_names=list(OUTPUTS),
        custom_translation_table=translations,
        dynamo=True,
        verbose=False,
    )
    assert made is not None
    made.save(str(path), external_data=False)


def _write_onnxruntime(program: ExportedProgram, path: Path) -> None:
    _write_onnx(program, path, attention.fused(program))


def _write_pt2(program: ExportedProgram, path: Path) -> None:
    program.example_inputs = None  # else they are written into the file
    torch.export.save(program, path)


def _write_aoti(program: ExportedProgram, path: Path) -> None:
    torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs={"freezing": True})


_WRITERS: dict[str, Callable[[ExportedProgram, Path], Any]] = {
    "onnx": _write_onnx,
    "onnxruntime": _write_onnxruntime,
    "pt2": _write_pt2,
    "aoti": _write_aoti,
}


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporters say to their own authors."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def own_code(function: Any) -> Any:
    """The same function, for torch.compile, which keeps what it compiles by code, only so much for each."""
    code, name = function.__code__.replace(), function.__name__
    copied = FunctionType(code, function.__globals__, name, function.__defaults__, function.__closure__)
    copied.__kwdefaults__ = function.__kwdefaults__
    return copied
