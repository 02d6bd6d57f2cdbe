"""Say what a video shows next: frames `[B, C, T, H, W]` in, the frames after them `[B, C, N, H, W]` out.

A model of this task has `horizon`, how many frames it gives, and `forward(clip, frames=None)`, where `frames` asks for
another number. What comes out is in the units of the clip that goes in, and right after it in time.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.contract import VideoModel
from zoo.errors import SpecError, ZooError
from zoo.spec import Preprocessing
from zoo.tasks.running import evaluating, over_views
from zoo.video.clips import iter_views, protocol_of
from zoo.video.footage import Footage, name_of, open_footage, settled

if TYPE_CHECKING:
    from zoo.video import Limits

CHECKS = "zoo.testing.next_frames:CHECKS"  # what the conformance kit asks of every model of this task
MOST_FRAMES = 10_000
EARLY = 1e-6  # seconds of rounding


class Foreseen(NamedTuple):
    """When a frame is shown, and how far it is from the frame that the video shows then; None where it shows none.

    mse: the mean squared difference of values in 0..1. psnr_db: the same in decibels, infinite for equal frames.
    """

    time_s: float
    mse: float | None = None
    psnr_db: float | None = None


@dataclass(frozen=True, eq=False)
class Forecast:
    """What a model expects a video to show next.

    video: its name, a path as it was given. model, weights: names; weights is None where they are random.
    pixels: the frames, uint8 `[N, H, W, 3]`, as large as the clip that the network saw. fps: how fast to show them.
    start_s: when the first is shown. frames: one entry for each. repeated: the video up to there is shorter than a clip
    of this model, so that frames were repeated. error: why there is no answer; then `ok` is False.
    """

    video: str
    model: str
    weights: str | None
    duration_s: float = 0.0
    fps: float = 0.0
    start_s: float = 0.0
    frames: list[Foreseen] = field(default_factory=list)
    pixels: NDArray[np.uint8] | None = None
    repeated: bool = False
    error: ZooError | None = None

    @property
    def ok(self) -> bool:
        return self.error is None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as the command line prints it with --json; the pixels are left out."""
        if self.error is not None:
            return {"video": self.video, "error": {"type": type(self.error).__name__, "message": str(self.error)}}
        return {
            "video": self.video,
            "model": self.model,
            "weights": self.weights,
            "duration_s": self.duration_s,
            "fps": self.fps,
            "start_s": self.start_s,
            "frames": [_finite(frame._asdict()) for frame in self.frames],
        }

    def __str__(self) -> str:
        made_by = f"{self.model}.{self.weights}" if self.weights else f"{self.model} (random weights)"
        if self.error is not None:
            return f"{self.video} · {made_by}\n  {type(self.error).__name__}: {self.error}"
        lines = [f"{self.video} · {self.duration_s:.1f} s · {made_by}"]
        for time_s, _, psnr_db in self.frames:
            known = "" if psnr_db is None else f"  {psnr_db:5.1f} dB from what is shown"
            lines.append(f"  {time_s:7.2f} s{known}")
        return "\n".join(lines)

    __repr__ = __str__


def run(
    model: VideoModel,
    video: Any,
    *,
    frames: int | None = None,
    start_s: float | None = None,
    fps: float | None = None,
    limits: Limits | None = None,
    isolate: bool = False,
) -> Forecast:
    """`zoo.predict` for this task.

    frames: how many to foresee; None is the model's horizon. start_s: seconds, when the first of them is shown; None
    goes on where the video ends. Frames that the video shows too are compared with it.
    fps: of an array or a list of images. limits, isolate: of reading a file.
    Raises VideoError, GeometryError, SpecError.
    """
    if frames is not None and not (isinstance(frames, Integral) and 1 <= frames <= MOST_FRAMES):
        raise SpecError(f"frames={frames!r}", hint=f"it is a whole number from 1 to {MOST_FRAMES}")
    footage = open_footage(video, fps=fps, limits=limits, isolate=isolate)
    return settled(lambda: _forecast(model, video, footage, frames, start_s))


def _forecast(model: VideoModel, video: Any, footage: Footage, frames: int | None, start_s: float | None) -> Forecast:
    protocol = protocol_of(model)
    if start_s is not None and not (isinstance(start_s, Real) and 0 < start_s <= footage.duration_s):
        hint = f"it is a time in seconds, after 0 and up to the end of the video at {footage.duration_s:.2f}"
        raise SpecError(f"start_s={start_s!r}", hint=hint)
    start = footage.duration_s if start_s is None else float(start_s)
    rate = protocol.fps or footage.fps
    spacing = protocol.stride / rate
    before = max(start - protocol.num_frames * spacing, 0.0)
    protocol = dataclasses.replace(protocol, clips=1, crops=1)
    (seen,) = iter_views(protocol, footage, views="fast", windows=[(before, start)])
    with evaluating(model):
        expected = over_views(model, seen, lambda clip: model(clip, frames=frames))[0]  # [C, N, H, W]
    shown = [i * spacing + start for i in range(expected.shape[1])]
    truth = _shown(protocol, footage, [t for t in shown if t + spacing <= footage.duration_s + EARLY], spacing)
    errors = [float((a - b).square().mean()) for a, b in zip(_picture(expected, protocol), truth, strict=False)]
    known = [Foreseen(t, e, -10 * math.log10(e) if e else math.inf) for t, e in zip(shown, errors, strict=False)]
    return Forecast(
        video=name_of(video),
        **_who(model),
        duration_s=footage.duration_s,
        fps=1 / spacing,
        start_s=start,
        frames=[*known, *(Foreseen(t) for t in shown[len(known) :])],
        pixels=(_picture(expected, protocol) * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy(),
        repeated=seen.repeated,
    )


def failed(model: VideoModel, video: Any, error: ZooError) -> Forecast:
    """The result of a video that could not be predicted."""
    return Forecast(video=name_of(video), **_who(model), error=error)


def _shown(protocol: Preprocessing, footage: Footage, times: list[float], spacing: float) -> Tensor:
    """What the video shows at these times, `[N, C, H, W]` in 0..1."""
    if not times:
        return torch.empty(0)
    wanted = dataclasses.replace(protocol, num_frames=len(times))
    (found,) = iter_views(wanted, footage, views="fast", windows=[(times[0], times[-1] + spacing)])
    return _picture(found.clip(0), protocol)


def _picture(clip: Tensor, protocol: Preprocessing) -> Tensor:
    """A normalised clip `[C, T, H, W]` as pictures `[T, C, H, W]` with values in 0..1."""
    mean, std = (torch.tensor(values)[:, None, None, None] for values in (protocol.mean, protocol.std))
    return (clip * std + mean).clamp(0, 1).transpose(0, 1)


def _finite(frame: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity."""
    return {key: None if value == math.inf else value for key, value in frame.items()}


def _who(model: VideoModel) -> dict[str, Any]:
    return {
        "model": model.spec.full_name if model.spec else type(model).__name__,
        "weights": model.weights.tag if model.weights else None,
    }
