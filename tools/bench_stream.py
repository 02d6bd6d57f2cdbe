"""What a new frame of a stream costs: by steps, and by running the whole window again at every frame.

python tools/bench_stream.py                          co_x3d_s and movinet_a0_stream: operations, and time on a CPU
python tools/bench_stream.py co_slow_r50 --rounds 9   others
python tools/bench_stream.py --memory 100000          memory of a tiny model and its Stream over so many frames

The window is the clip of the network's protocol: of a continual network, that of the clip network it is made from,
which is then also what runs on it. Operations are multiplications and additions of convolutions and linear layers, as
torch counts them on the meta device. Both ways take turns, so that a busy machine is as busy for each; of the times
there are the medians, and the least, which others disturb the least. Weights are random and norms are folded where
`fold_batch_norms` can; neither changes the work. The stream has been going on for long.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
import warnings

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import zoo
from zoo_cnn.fold import fold_batch_norms

NAMES = ("co_x3d_s", "movinet_a0_stream")
BLOCK = 5  # steps that are timed together


def pair(name: str) -> tuple[zoo.VideoModel, zoo.VideoModel, tuple[int, ...]]:
    """The network with steps, the one that looks at windows, and a window."""
    of_clips = name.removeprefix("co_")
    p = zoo.info(of_clips).preprocessing
    side = p.crop if isinstance(p.crop, tuple) else (p.crop, p.crop)
    return zoo.build(name).eval(), zoo.build(of_clips).eval(), (1, 3, p.num_frames, *side)


def step_of(model: zoo.VideoModel, frames: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return model.step(frames, state)[1]


def count(name: str) -> tuple[int, int]:
    """Operations of one step, and of one window."""
    with torch.device("meta"):
        stream, clips, shape = pair(name)
        clip = torch.empty(shape)
        state = stream.to("meta").init_state(1, shape[3:])
    with torch.no_grad():
        with FlopCounterMode(display=False) as stepped:
            stream.step(clip[:, :, :1], state)
        with FlopCounterMode(display=False) as whole:
            clips(clip)
    return stepped.get_total_flops(), whole.get_total_flops()


def compare(name: str, rounds: int) -> None:
    stepped, whole = count(name)
    stream, clips, shape = pair(name)
    stream, clips = fold_batch_norms(stream), fold_batch_norms(clips)
    clip = torch.randn(shape)
    state, times = stream.init_state(1, shape[3:]), {"step": [], "window": []}
    state |= {name: torch.full_like(count, 1000) for name, count in state.items() if name == "frames"}
    with torch.inference_mode():
        for i in range(rounds + 1):
            start = time.perf_counter()
            for _ in range(BLOCK):
                state = step_of(stream, clip[:, :, :1], state)
            middle = time.perf_counter()
            clips(clip)
            end = time.perf_counter()
            if i:  # the first round warms up
                times["step"].append((middle - start) / BLOCK)
                times["window"].append(end - middle)
    print(f"{name}, a window of {shape[2]} frames of {shape[3]}x{shape[4]}, per new frame:")
    print(f"  operations  {stepped / 1e9:8.3f} G by a step  {whole / 1e9:8.2f} G by a window   {whole / stepped:5.1f}x")
    for what, of in (("median", statistics.median), ("least", min)):
        a, b = (of(times[way]) * 1e3 for way in ("step", "window"))
        print(f"  {what:6} time {a:8.1f} ms by a step {b:8.1f} ms by a window   {b / a:5.1f}x   ({rounds} rounds)")


def memory(frames: int) -> None:
    """Peak memory as a stream goes on, of one with steps and of one with a window."""
    for name in ("convgru_tiny", "r2plus1d_tiny.camera_motion"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # random weights
            stream = zoo.Stream(name, rate=0.1)
        picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        marks = {int(frames * part): 0.0 for part in (0.1, 0.25, 0.5, 1)}
        for i in range(1, frames + 1):
            stream.push(picture, i / 8)
            if i in marks:
                marks[i] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{name}: peak memory " + ", ".join(f"{mb:.1f} MB after {n} frames" for n, mb in marks.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--memory", type=int, metavar="FRAMES")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.memory:
        memory(options.memory)
        return
    for name in options.names:
        compare(name, options.rounds)


if __name__ == "__main__":
    main()
