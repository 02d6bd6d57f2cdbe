"""Compare the family `transformer` with transformers: create and load, steady forward, first answer of a new process.

python tools/bench_transformer.py [NAME ...] [--rounds 5] [--what load forward first] [--device cpu]

Needs the extra `parity`. Both sides get the same file, with random weights, and run in turns in one process (a process
of its own for each first answer). The third row is zoo once more: how far it is from 1 is what the figures are worth.
Ratios are of the medians, theirs over ours: above 1, zoo is faster. CPU time suffers less from a busy machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

import zoo
import zoo_transformer

CASES: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "videomae_base": ("VideoMAE", {"num_labels": 400}, (1, 3, 16, 224, 224)),
    "timesformer_base": ("Timesformer", {"num_labels": 400}, (1, 3, 8, 224, 224)),
    "vivit_b_16x2": ("Vivit", {"num_labels": 400}, (1, 3, 32, 224, 224)),
    "vjepa2_vitl": ("VJEPA2", {"num_labels": 174, "frames_per_clip": 16}, (1, 3, 16, 256, 256)),
}
SPECS = {spec.name: spec for spec in zoo_transformer.zoo_models()}


def ours(name: str, folder: Path) -> torch.nn.Module:
    """What `zoo.create` does with a file of another layout."""
    from safetensors.torch import load_file

    from zoo.weights.skip_init import skip_init

    spec = SPECS[name]
    options = {**spec.kwargs, "num_frames": CASES[name][2][2]}
    with skip_init():
        model = _function(spec.builder)(**options)
    (layout,) = spec.layouts.values()
    model.load_state_dict(_function(layout)(load_file(folder / "model.safetensors")), strict=True, assign=True)
    return model.eval()


def theirs(name: str, folder: Path) -> torch.nn.Module:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return getattr(transformers, f"{CASES[name][0]}ForVideoClassification").from_pretrained(folder).eval()


def _function(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


def logits(model: torch.nn.Module, clip: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        if isinstance(model, zoo.VideoModel):
            return model(clip)
        return model(clip.transpose(1, 2)).logits


Seconds = dict[str, list[tuple[float, float]]]


def turns(sides: dict[str, Callable[[], object]], rounds: int) -> Seconds:
    """Seconds of each side, on the wall and of this process and its children, in turns whose order changes."""
    seconds: Seconds = {side: [] for side in sides}
    for i in range(rounds + 1):
        order = list(sides) if i % 2 else list(reversed(sides))
        for side in order:
            start, before = time.perf_counter(), os.times()
            sides[side]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if i:  # the first round warms up
                cpu = sum(after - earlier for after, earlier in zip(os.times()[:4], before[:4], strict=True))
                seconds[side].append((time.perf_counter() - start, cpu))
    return seconds


def show(name: str, what: str, seconds: Seconds, note: str = "") -> None:
    wall, cpu = ({side: statistics.median(t[i] for t in times) for side, times in seconds.items()} for i in (0, 1))
    for side in ("transformers", "zoo again"):
        ratios = f"{wall[side] / wall['zoo']:5.2f}x on the wall, {cpu[side] / cpu['zoo']:5.2f}x CPU time"
        print(f"{name:18} {what:8} {side:13} {ratios}  {note}", flush=True)


def bench(name: str, what: list[str], rounds: int, device: str) -> None:
    import transformers

    kind, config, shape = CASES[name]
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        torch.manual_seed(0)
        made = getattr(transformers, f"{kind}Config")(**config)
        getattr(transformers, f"{kind}ForVideoClassification")(made).save_pretrained(folder)
        sides = {"zoo": ours, "transformers": theirs, "zoo again": ours}
        if "load" in what:
            show(name, "load", turns({s: lambda m=m: _touch(m(name, folder)) for s, m in sides.items()}, rounds))
        if "forward" in what:
            clip = torch.randn(shape).to(device)
            models = {side: make(name, folder).to(device) for side, make in list(sides.items())[:2]}
            models["zoo again"] = models["zoo"]
            a, b = (logits(models[side], clip) for side in ("zoo", "transformers"))
            note = f"max |d| / scale {float((a - b).abs().max() / b.abs().max()):.1e}"
            show(name, "forward", turns({s: lambda m=m: logits(m, clip) for s, m in models.items()}, rounds), note)
        if "first" in what:
            show(name, "first", turns({s: lambda s=s: _first(s, name, folder) for s in sides}, rounds))


def _touch(model: torch.nn.Module) -> None:
    """Read every weight once, so that one that is only mapped into memory counts as well."""
    for parameter in model.parameters():
        parameter.detach().sum()


def _first(side: str, name: str, folder: Path) -> None:
    command = [sys.executable, __file__, "--child", side.split()[0], name, str(folder)]
    subprocess.run(command, check=True, env=os.environ, stdout=subprocess.DEVNULL)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        side, name, folder = sys.argv[2:]
        logits({"zoo": ours, "transformers": theirs}[side](name, Path(folder)), torch.zeros(CASES[name][2]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(CASES), metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--what", nargs="+", choices=("load", "forward", "first"), default=["load", "forward", "first"])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    import transformers

    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"{versions}, {torch.get_num_threads()} threads, float32, load average {os.getloadavg()[0]:.1f}")
    for name in options.names:
        bench(name, options.what, options.rounds, options.device)


if __name__ == "__main__":
    main()
