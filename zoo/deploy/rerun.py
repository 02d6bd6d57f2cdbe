"""Run an exported file without zoo: needs NumPy, and ONNX Runtime or torch. Also the proof that this is possible.

    python rerun.py onnx model.onnx clips.npz answers.npz

clips.npz holds arrays `[B, C, T, H, W]`, float32, as the protocol in export.json makes them of a video; answers.npz
gets what the model says of each, under the same names with `.logits` and `.embedding` after them.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

OUTPUTS = ("logits", "embedding")  # of every file, in this order
Run = Callable[..., list[Any]]  # an array of clips and names of outputs, to an array for each


def open_onnx(file: str | io.BytesIO, threads: int = 0) -> Run:
    """threads: 0 is one for each core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    source = file if isinstance(file, str) else file.getvalue()
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return lambda clips, *outputs: session.run(outputs, {"clip": clips})


def open_pt2(file: str | io.BytesIO, threads: int = 0) -> Run:
    """threads: are those of torch, and 0 leaves them."""
    import torch

    return _of_torch(torch.export.load(file).module(), "cpu")


def open_aoti(file: str | io.BytesIO, threads: int = 0) -> Run:
    """threads: are those of torch, and 0 leaves them."""
    from torch._inductor import aoti_load_package

    model = aoti_load_package(file)
    return _of_torch(model, model.get_metadata()["AOTI_DEVICE_KEY"])


def _of_torch(model: Callable[..., Any], device: str) -> Run:
    import torch

    def run(clips: Any, *outputs: str) -> list[Any]:
        with torch.no_grad():
            said = model(torch.from_numpy(clips).to(device))
        return [said[OUTPUTS.index(output)].cpu().numpy() for output in outputs]

    return run


OPENERS = {"onnx": open_onnx, "pt2": open_pt2, "aoti": open_aoti}


def main() -> None:
    kind, file, clips, answers = sys.argv[1:]
    run = OPENERS[kind](file)
    said: dict[str, Any] = {}
    with np.load(clips) as batches:
        for name in batches.files:
            arrays = run(batches[name], *OUTPUTS)
            said |= {f"{name}.{output}": array for output, array in zip(OUTPUTS, arrays, strict=True)}
    assert not [name for name in sys.modules if name.partition(".")[0] == "zoo"], "zoo was imported"
    np.savez(answers, **said)


if __name__ == "__main__":
    main()
