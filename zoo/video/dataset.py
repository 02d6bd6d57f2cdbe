"""Videos for any DataLoader, as the very tensors that `predict` would see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils.data import Dataset

from zoo.errors import SpecError
from zoo.video.clips import ViewsOption, load_clips, protocol_of

if TYPE_CHECKING:
    from zoo.video.source import Limits


class VideoDataset(Dataset[tuple[Tensor, Any]]):
    """Items are (clip, label): a float32 clip `[C, T, H, W]`, or `[V, C, T, H, W]` where `views` is not "fast".

    paths, labels: of the same length. preprocessing: a model, its name, or a Preprocessing.
    limits, isolate: for files from strangers, as `read_frames` takes them.
    A video that cannot be read raises its VideoError when its item is asked for.
    """

    def __init__(
        self,
        paths: Sequence[Any],
        labels: Sequence[Any],
        preprocessing: Any,
        *,
        views: ViewsOption = "fast",
        limits: Limits | None = None,
        isolate: bool = False,
    ) -> None:
        if len(paths) != len(labels):
            raise SpecError(f"{len(paths)} paths and {len(labels)} labels", hint="give one label per path")
        self.paths, self.labels, self.views = paths, labels, views
        self.limits, self.isolate = limits, isolate
        self.preprocessing = protocol_of(preprocessing)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Tensor, Any]:
        clips = load_clips(
            self.preprocessing, self.paths[i], views=self.views, limits=self.limits, isolate=self.isolate
        ).data
        return (clips[0] if self.views == "fast" else clips), self.labels[i]
