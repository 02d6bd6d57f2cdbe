"""`python -m watched_training FOLDER ...`: `zoo train ...`, and in FOLDER what each process trained on and by.

steps-RANK.jsonl has a row for each forward: step, learning rate, digests of its clips and their labels, in order.
gradient.pt is the gradient of the first step, as the first process gets it after all were averaged.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from pathlib import Path

import torch

from zoo.cli import main
from zoo.train import loop


def watch(folder: Path) -> None:
    """Look on from inside; the training itself does not change."""
    compute, judge = loop._Training._loss, loop._Training._sound

    def loss(self, batch):
        clips = [sha256(clip.contiguous().numpy().tobytes()).hexdigest()[:16] for clip in batch.clips]
        row = {"step": batch.step, "lr": self.optimizer.param_groups[-1]["lr"], "first": batch.first}
        row |= {"clips": clips, "labels": batch.labels.tolist()}
        with (folder / f"steps-{self.world.rank}.jsonl").open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        return compute(self, batch)

    def sound(self, found, norm):
        if self.world.first and not (folder / "gradient.pt").exists():
            gradients = {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}
            torch.save({n: g.detach().clone() for n, g in gradients.items() if type(g) is torch.Tensor}, folder / "new")
            (folder / "new").rename(folder / "gradient.pt")
        return judge(self, found, norm)

    loop._Training._loss, loop._Training._sound = loss, sound


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
    main(["train", *sys.argv[2:]])
