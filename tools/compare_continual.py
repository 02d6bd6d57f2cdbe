"""How far continual networks are from the clip networks whose weights they have, on real clips.

python tools/compare_continual.py FOLDER_OF_VIDEOS [x3d_s slow_r50] [--step 2]

A clip network pads its clips with zeros in time; on a stream there is the video before and after instead. Here both
name the same frames: of every video a clip in its middle, and for the continual network also the frames around it that
it sees. Printed is the distance of the two logits as a part of their spread over classes, its median over the videos,
and for how many of them the best class is the same. No published weights are at hand: they are random (seed 0), with
running statistics of these videos, so the figure tells of the architecture, not of an accuracy.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from torch import Tensor, nn

import zoo
from zoo.errors import ZooError
from zoo.video.transforms import crop_boxes, to_clip
from zoo_cnn.continual import continual

SIDE = 160


def clips_of(folder: Path, frames: int, step: int, protocol: zoo.Preprocessing) -> list[Tensor]:
    """Of every video that is long enough, `frames` frames of its middle, `step` apart, as `[1, 3, T, H, W]`."""
    found = []
    for path in sorted(folder.iterdir()):
        try:
            count = zoo.video.probe(path).n_frames
            start = (count - frames * step) // 2
            if start < 0:
                continue
            wanted = range(start, start + frames * step, step)
            data = zoo.video.read_frames(path, wanted, size=SIDE).data
        except ZooError:
            continue
        (box,) = crop_boxes(*data.shape[1:3], SIDE)
        found.append(to_clip(data, protocol, box)[None])
    return found


def compare(name: str, folder: Path, step: int) -> str:
    torch.manual_seed(0)
    model = zoo.build(name).eval()
    for module in model.modules():  # fresh networks switch their branches off
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.momentum = None  # the mean of all that is seen
    stream = continual(model)
    seen = stream.receptive_field - stream.frames if stream.receptive_field < 100 else 2 * stream.delay
    around = max(seen, stream.delay)
    frames = stream.frames + around
    videos = clips_of(folder, frames, step, model.preprocessing)
    if not videos:
        return f"{name}: no video has {frames} frames that are {step} apart"
    middle = slice(around - stream.delay, around - stream.delay + stream.frames)
    with torch.no_grad():
        model.train()
        for video in videos:
            model(video[:, :, middle])
        model.eval()
        stream.eval()
        away, agree = [], 0
        for video in videos:
            padded = model(video[:, :, middle])
            state = stream.init_state(1)
            for chunk in video.split(8, 2):
                logits, state = stream.step(chunk, state)
            away.append(float((logits - padded).norm() / (padded - padded.mean()).norm()))
            agree += int(logits.argmax() == padded.argmax())
    middle_one = statistics.median(away)
    return (
        f"{name}: logits differ by {100 * middle_one:.0f} % of their spread (median; {100 * min(away):.0f} to "
        f"{100 * max(away):.0f} %), the same best class for {agree} of {len(videos)} clips"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", default=("x3d_s", "slow_r50"))
    parser.add_argument("--step", type=int, default=2, help="frames of the video from one that is seen to the next")
    options = parser.parse_args()
    for name in options.names:
        print(compare(name, options.folder, options.step), flush=True)


if __name__ == "__main__":
    main()
