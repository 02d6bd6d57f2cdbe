"""The files of bench_video.py: footage whose every frame says its number, in several codecs.

The number is written as black and white blocks in the middle, so that any decoder's answer can be read, whatever its
pixels.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from zoo.video import write_video

SIZE, CROP, FPS, BITS = 256, 224, 30, 11

# name: (codec, height, width, frames of one encode, joined so often, encoder options)
FILES = {
    f"h264_{name}_gop{gop}": (
        "libx264",
        1080,
        1920,
        seconds * FPS,
        times,
        {"g": str(gop), "bf": "3", "preset": "veryfast"},
    )
    for name, seconds, times in (("10s", 10, 1), ("60s", 60, 1), ("10min", 60, 10))
    for gop in (30, 250)
} | {
    "hevc_10s": ("libx265", 480, 854, 10 * FPS, 1, {"x265-params": "keyint=60:log-level=none"}),
    "vp9_10s": ("libvpx-vp9", 480, 854, 10 * FPS, 1, {"g": "60", "deadline": "realtime", "cpu-used": "6"}),
    "av1_10s": ("libsvtav1", 480, 854, 10 * FPS, 1, {"g": "60", "preset": "10"}),
}


def footage(count: int, height: int, width: int) -> Iterator[np.ndarray]:
    """A camera that pans over a landscape of clouds at every scale, things that cross it, and the grain of a sensor."""
    rng = np.random.default_rng(0)
    scene = _clouds(rng, height + 200, width + 600)
    grain = rng.normal(8, 2, (8, height, width, 1)).clip(0, 16).astype(np.uint8)
    y, x = np.mgrid[:height, :width]
    for k in range(count):
        t = k / FPS
        left, top = int(300 + 290 * math.sin(t / 3)), int(100 + 90 * math.sin(t / 5))
        frame = scene[top : top + height, left : left + width] + grain[k % 8]
        for i in range(3):
            cx, cy = width * (0.5 + 0.45 * math.sin(t * (0.7 + i / 5) + i)), height * (0.2 + 0.3 * i)
            r = height // (8 + 4 * i)
            box = np.s_[max(int(cy) - r, 0) : int(cy) + r, max(int(cx) - r, 0) : int(cx) + r]
            disc = (y[box] - cy) ** 2 + (x[box] - cx) ** 2 < r * r
            frame[box][disc] = (60 * i + 40, 200 - 60 * i, 90)
        _write_number(frame, k)
        yield frame


def _clouds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    falling = 1 / np.maximum(np.hypot(fy, fx), 1 / width) ** 1.3
    planes = []
    for _ in range(3):
        plane = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(height, width))) * falling, (height, width))
        planes.append((plane - plane.mean()) / plane.std() * 45 + 120)
    return np.stack(planes, -1).clip(0, 235).astype(np.uint8)


def _write_number(frame: np.ndarray, number: int) -> None:
    height, width = frame.shape[:2]
    block = height // 24
    top, left = (height - block) // 2, (width - BITS * block) // 2
    for bit in range(BITS):
        frame[top : top + block, left + bit * block : left + (bit + 1) * block] = 235 * (number >> bit & 1)


def read_number(picture: np.ndarray) -> int:
    """From a 224 crop of a frame whose short side was made 256."""
    block = SIZE / 24
    middle, left = CROP / 2, CROP / 2 - BITS * block / 2
    levels = [picture[int(middle), int(left + (bit + 0.5) * block)].mean() for bit in range(BITS)]
    return sum(int(level > 117) << bit for bit, level in enumerate(levels))


def make(folder: Path, name: str) -> Path:
    codec, height, width, count, times, options = FILES[name]
    suffix = "webm" if codec == "libvpx-vp9" else "mp4"
    path = folder / f"{name}.{suffix}"
    if path.exists():
        return path
    if times > 1:
        return join(make(folder, name.replace("10min", "60s")), path, times)
    print("making", path.name, file=sys.stderr, flush=True)
    write_video(path, footage(count, height, width), fps=FPS, codec=codec, options=options)
    return path


def join(source: Path, path: Path, times: int) -> Path:
    part = path.with_suffix(".part.mp4")
    with av.open(str(part), "w", format="mp4") as out:
        stream, shift = None, 0
        for _ in range(times):
            with av.open(str(source)) as container:
                video = container.streams.video[0]
                stream = stream or out.add_stream_from_template(video)
                for packet in container.demux(video):
                    if packet.size:
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                        out.mux_one(packet)
                shift += round(video.frames / FPS / video.time_base)
    return part.rename(path)
