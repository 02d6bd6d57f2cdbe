"""Train the camera-motion weights from nothing but a seed: clips are made while the network learns from them.

    python tools/train_camera_motion.py --work /tmp/camera_motion --out weights.safetensors

Runs on two CPU cores in about half an hour: one trains, one makes clips. A stopped run continues from its last
checkpoint in --work. The same seed, thread count and torch version give the same weights, unless a run is interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import shlex
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, IterableDataset

from zoo import synth

MEAN, STD = 0.45, 0.25


class Clips(IterableDataset[tuple[Tensor, Tensor]]):
    def __init__(self, seed: list[int], size: int, reuse: int) -> None:
        self.arguments = {"seed": seed, "size": size, "reuse": reuse}

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return synth.batches(**self.arguments)


def network_input(clips: Tensor) -> Tensor:
    """uint8 [B, T, C, H, W] -> what the protocol gives the network, [B, C, T, H, W]."""
    clips = (clips.float() / 255 - MEAN) / STD
    return clips.transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)


@torch.inference_mode()
def accuracy(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    model.eval()
    right = sum(int((model(network_input(x)).argmax(1) == y).sum()) for x, y in batches)
    return right / sum(len(y) for _, y in batches)


def write(model: nn.Module, path: Path) -> None:
    """The weights as float32 safetensors, and what a Weights entry has to say about them."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    data = save(state, metadata={"format": "pt"})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o644)
    params = sum(p.numel() for p in model.parameters())
    print(f"{path.name}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}, {params} parameters")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="zoo_cnn.r2plus1d_tiny:r2plus1d_tiny", help="package.module:builder")
    parser.add_argument("--work", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="the safetensors file to write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--reuse", type=int, default=4, help="how often a rendered clip is shown, mirrored or turned")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument(
        "--one-frame", action="store_true", help="every frame the first one: how far is that from chance?"
    )
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.work.mkdir(parents=True, exist_ok=True)
    print("python", shlex.join(sys.argv), "| torch", torch.__version__, flush=True)

    module, builder = args.model.split(":")
    model = getattr(import_module(module), builder)(num_classes=len(synth.LABELS))
    model = model.to(memory_format=torch.channels_last_3d)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.998), use_buffers=True)
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.03}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr)
    warmup = min(200, args.steps // 10 + 1)

    def rate(step: int) -> float:
        return min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * min(step / args.steps, 1)))

    start, spent = 0, 0.0
    checkpoint = args.work / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        start, spent = saved["step"], saved["spent"]
        for part, name in ((model, "model"), (average, "average"), (optimizer, "optimizer")):
            part.load_state_dict(saved[name])
        print(f"goes on from step {start}", flush=True)

    unseen = synth.batches(seed=[args.seed, 2**31], size=64, reuse=1)
    held_out = [next(unseen) for _ in range(8)]
    if args.one_frame:
        held_out = [(x[:, :1].expand_as(x), y) for x, y in held_out]
    data = iter(DataLoader(Clips([args.seed, start], args.batch, args.reuse), batch_size=None, num_workers=1))
    began = time.perf_counter() - spent
    losses: list[float] = []
    for step in range(start, args.steps):
        for group in optimizer.param_groups:
            group["lr"] = args.lr * rate(step)
        clips, labels = next(data)
        model.train()
        if args.one_frame:
            clips = clips[:, :1].expand_as(clips)
        loss = F.cross_entropy(model(network_input(clips)), labels, label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        if step < args.steps // 6:  # an average of untrained weights helps nobody
            average.module.load_state_dict(model.state_dict())
        else:
            average.update_parameters(model)
        losses.append(loss.item())
        done = step + 1
        if done % 50 == 0:
            spent = time.perf_counter() - began
            print(f"step {done} loss {sum(losses) / len(losses):.3f} seconds {spent:.0f}", flush=True)
            losses.clear()
        if done % 250 == 0 or done == args.steps:
            parts = {"model": model, "average": average, "optimizer": optimizer}
            states = {name: part.state_dict() for name, part in parts.items()}
            torch.save({"step": done, "spent": spent, **states}, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
            print(f"step {done} held-out accuracy {accuracy(average.module, held_out):.4f}", flush=True)
    write(average.module, args.out)


if __name__ == "__main__":
    main()
