"""What a new frame of a stream costs: by steps, and by running the whole window again at every frame.

python tools/bench_stream.py                          co_x3d_s and movinet_a0_stream: operations, and time on a CPU
python tools/bench_stream.py co_slow_r50 --rounds 9   others
python tools/bench_stream.py --memory 100000          memory of small models and their Streams over so many frames

The window is the clip of the network's protocol: of a continual network, that of the clip network it is made from,
which is then also what runs on it. Operations are multiplications and additions of convolutions and linear layers, as
torch counts them on the meta device, those with the zeros around a picture or a clip too. Both ways take turns, so that
a busy machine is as busy for each; of the times there are the medians, and the least, which others disturb the least.
Weights are random and norms are folded where `fold_batch_norms` can; neither changes the work. The stream has been
going on for long.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import zoo
from zoo_cnn.fold import fold_batch_norms

NAMES = ("co_x3d_s", "movinet_a0_stream")
BLOCK = 5  # steps that are timed together
CHUNK = 16  # frames that are pushed together


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


def memory(name: str, frames: int) -> None:
    """Peak memory as a stream goes on, with the small variant of a network and small pictures (Linux).

    Two predictions a second: what was said of the stream is kept, and has its full size before the first mark.
    """
    model = zoo.build(name, **zoo.info(name).small).eval()
    fps, side = 8, 32
    protocol = {"fps": fps, "stride": 1, "resize": (side, side), "crop": None, "crops": 1}
    model.preprocessing = dataclasses.replace(model.preprocessing, **protocol)
    stream = zoo.Stream(model, rate=2)
    pictures = np.random.default_rng(0).integers(0, 256, (CHUNK, side, side, 3), np.uint8)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    marks, start = [frames * part // 8 for part in (1, 2, 4, 8)], time.monotonic()
    for at in range(0, frames, CHUNK):
        stream.push(pictures, [(at + i) / fps for i in range(CHUNK)])
        if at + CHUNK >= marks[0]:
            peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
            took = time.monotonic() - start
            print(f"{name}: peak memory {peak:.1f} MB after {marks.pop(0)} frames, {took:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--memory", type=int, metavar="FRAMES")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.memory:
        for name in options.names or (*NAMES, "convgru_tiny", "r2plus1d_tiny"):
            memory(name, options.memory)
        return
    for name in options.names or NAMES:
        compare(name, options.rounds)


if __name__ == "__main__":
    main()
