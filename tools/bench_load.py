"""What getting weights into a model costs: time and memory of ways to do it, each in a fresh process, interleaved.

    python tools/bench_load.py [--rounds 5] [--megabytes 350]

The model is a stack of transformer blocks as in ViT-B, as a plain VideoModel; the files are made in a temporary
folder. Rows: zoo.create on a pinned file in the Hub's cache (served once by a loopback Hub), twice as a control;
zoo.create on a pinned file of the user's, which is read and hashed every time; build, torch.load and copy;
timm.create_model with a local safetensors file, for timm's ViT-B/16. Time is from the call to the model in evaluation
mode, with imports done, and again until every parameter was read. Memory is the most that the process had above what it
had before the call, file pages included. All of them are medians, and given as ratios: to "copy", which is build,
torch.load and copy, to timm, and of memory to the size of the file. On a busy machine the ratio of CPU time says more
than that of time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import zoo

WIDTH, BLOCK_MB = 768, 28.35


class Stack(zoo.VideoModel):
    """Blocks of attention and MLP; only its construction and its size matter here."""

    def __init__(self, *, depth: int = 12, num_classes: int = 400) -> None:
        super().__init__()
        self.num_features, self.num_classes = WIDTH, num_classes
        self.embed = nn.Conv3d(3, WIDTH, (2, 16, 16), stride=(2, 16, 16))
        layers = [nn.TransformerEncoderLayer(WIDTH, 12, 4 * WIDTH, batch_first=True) for _ in range(depth)]
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(WIDTH, num_classes)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=0.02)

    def stages(self) -> dict[str, nn.Module]:
        return {"embed": self.embed, "blocks": self.blocks}

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        return features if pre_logits else self.head(features)


def register(folder: Path) -> None:
    facts = json.loads((folder / "facts.json").read_text())
    kwargs = {"depth": facts["depth"]}
    known = {"sha256": facts["sha256"], "size": facts["size"], "num_classes": 400}
    weights = {
        "hub": zoo.Weights(source=facts["source"], **known),
        "file": zoo.Weights(source=str(folder / "stack.safetensors"), **known),
    }
    zoo.register(zoo.ModelSpec(name="stack", builder=Stack, kwargs=kwargs, weights=weights))


def naive(folder: Path) -> nn.Module:
    model = zoo.build("local/stack")
    model.load_state_dict(torch.load(folder / "stack.pth", weights_only=True))
    return model.eval()


def with_timm(folder: Path) -> nn.Module:
    import timm

    path = str(folder / "timm.safetensors")
    return timm.create_model("vit_base_patch16_224", checkpoint_path=path).eval()


COPY, TIMM = "build + torch.load + copy", "timm.create_model, local file"
WAYS = {
    COPY: naive,
    TIMM: with_timm,
    "zoo.create, from the cache": lambda folder: zoo.create("local/stack.hub", cache_dir=folder / "cache"),
    "zoo.create, from the cache, again": lambda folder: zoo.create("local/stack.hub", cache_dir=folder / "cache"),
    "zoo.create, a file of the user's": lambda folder: zoo.create("local/stack.file"),
}


def peak() -> int:
    """The most bytes that this process had in memory since the mark was last set back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def one(way: str, folder: Path) -> None:
    """In a fresh process: do it once, and print seconds and bytes."""
    import time

    import timm

    from zoo.weights import fetch  # noqa: F401

    timm.create_model("test_vit")  # both libraries are imported and warm
    register(folder)
    Path("/proc/self/clear_refs").write_text("5")
    before, start, busy = peak(), time.perf_counter(), time.process_time()
    model = WAYS[way](folder)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    total = sum(float(parameter.sum()) for parameter in model.parameters())  # touches every page
    print(json.dumps([seconds, peak() - before, time.perf_counter() - start, busy, total]))


def prepare(folder: Path, megabytes: float) -> int:
    """Make the files, and have the Hub's client cache one of them. Gives the file's size."""
    import hashlib

    import timm

    from zoo.testing.loopback_hub import LoopbackHub
    from zoo.weights.fetch import fetch

    depth = max(1, round(megabytes / BLOCK_MB))
    state = Stack(depth=depth).state_dict()
    torch.save(state, folder / "stack.pth")
    save_file(state, folder / "stack.safetensors")
    save_file(timm.create_model("vit_base_patch16_224").state_dict(), folder / "timm.safetensors")
    data = (folder / "stack.safetensors").read_bytes()
    with LoopbackHub() as hub:
        source = f"hf://bench/stack/stack.safetensors@{hub.add('bench/stack', {'stack.safetensors': data})}"
        digest = hashlib.sha256(data).hexdigest()
        facts = {"depth": depth, "source": source, "sha256": digest, "size": len(data)}
        (folder / "facts.json").write_text(json.dumps(facts))
        weights = zoo.Weights(source=source, sha256=digest, size=len(data))
        fetch(weights, endpoint=hub.url, cache_dir=folder / "cache")
    return len(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=350)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one[0], Path(arguments.one[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = prepare(folder, arguments.megabytes)
        rows: dict[str, list[list[float]]] = {way: [] for way in WAYS}
        for _ in range(arguments.rounds):
            for way in WAYS:
                command = [sys.executable, __file__, "--one", way, name]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                rows[way].append(json.loads(done.stdout))
                print(f"{way}: {rows[way][-1][0]:.3f} s", file=sys.stderr)
    load = " ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"{size / 1e6:.0f} MB, torch {torch.__version__}, {torch.get_num_threads()} threads, load {load}")
    print(table(rows, size))


def table(rows: dict[str, list[list[float]]], size: int) -> str:
    """A line for each way, of what `one` printed in every round."""
    middle = {way: [statistics.median(column) for column in zip(*found, strict=True)] for way, found in rows.items()}
    heads = ("median s", "min", "max", "/ copy", "/ timm", "CPU / copy", "touched s", "memory / file")
    heads = (*heads, "/ copy", "/ timm")
    lines = [f"{'way':<34}" + "".join(f"{head:>{len(head) + 3}}" for head in heads)]
    for way, (seconds, memory, touched, busy, _) in middle.items():
        took = [row[0] for row in rows[way]]
        cells = [seconds, min(took), max(took), *(seconds / middle[other][0] for other in (COPY, TIMM))]
        cells += [busy / middle[COPY][3], touched, memory / size, *(memory / middle[o][1] for o in (COPY, TIMM))]
        line = (f"{cell:>{len(head) + 3}.3f}" for cell, head in zip(cells, heads, strict=True))
        lines.append(f"{way:<34}" + "".join(line))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
