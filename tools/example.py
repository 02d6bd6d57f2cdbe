"""The picture at the top of the README: `python tools/example.py` draws tools/example.png.

A generated video of three camera motions, as `zoo.predict(..., window=1.0)` sees it: a frame of each with its labels,
and the scores over time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import zoo
from zoo.pictures.paint import GROUND

TARGET = Path(__file__).with_suffix(".png")
MOTIONS, SECONDS, FPS, SIZE = ("pan_right", "zoom_in", "roll_cw"), 3.0, 25, (180, 320)
WIDTH, GAP = 1000, 8


def draw(folder: Path) -> Image.Image:
    clips = [zoo.synth.generate(m, seed=11, duration_s=SECONDS, fps=FPS, size=SIZE, distract=False) for m in MOTIONS]
    zoo.video.write_video(folder / "my_video.mp4", np.concatenate([np.asarray(c.frames) for c in clips]), fps=FPS)
    prediction = zoo.predict("r2plus1d_tiny", folder / "my_video.mp4", window=1.0, stride=0.25)
    prediction.overlay(folder / "labelled.mp4")
    middles = [round((k + 0.5) * SECONDS * FPS) for k in range(len(MOTIONS))]
    across = (WIDTH - GAP * (len(MOTIONS) - 1)) // len(MOTIONS)
    shown = zoo.video.read_frames(folder / "labelled.mp4", middles, size=(across * SIZE[0] // SIZE[1], across)).data
    line = prediction.timeline(width=WIDTH)
    picture = Image.new("RGB", (WIDTH, shown.shape[1] + line.height), GROUND)
    for k, frame in enumerate(shown):
        picture.paste(Image.fromarray(frame), (k * (across + GAP), 0))
    picture.paste(line, (0, shown.shape[1]))
    return picture


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder)).quantize(256, kmeans=1).save(TARGET, optimize=True)
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")
