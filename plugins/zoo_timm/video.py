"""An image network of timm's on every frame of a clip, or on every few of them as one picture, and a head over time.

The pictures of a batch of clips are one batch of images, as much of it at a time as fits a bound: a long clip takes
little more memory than a short one, and in evaluation mode the result does not depend on the bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import zoo
from zoo.errors import GeometryError, SpecError
from zoo_timm import images, mixing, options
from zoo_timm.heads import temporal_head
from zoo_timm.rerun import FirstRun

# Bytes of frames that go through the network at once in evaluation: 8 of 224x224 on a CPU, where more is not faster.
AT_ONCE = {"cpu": 5 << 20}
ELSEWHERE = 40 << 20


class FrameModel(zoo.VideoModel):
    """`backbone` is timm's network without its classifier. `forward_features` gives `[B, T, D]`, one row per picture.

    A picture is a frame, or `stack` frames in a row, side by side in its channels: frame by frame, as timm repeats the
    weights of three channels, so that with image weights it says of equal frames of three channels what it says of one.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        *,
        width: int,
        arch: str,
        clip: mixing.ClipLength | None = None,
        stack: int = 1,
        frame_chunk: int | None = None,
        freeze_bn: bool = False,
        dropout: float = 0.0,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        self.arch, self.tag = arch, ""
        self.image_options: dict[str, Any] = {}
        self.backbone, self.temporal = backbone, head
        self.clip, self.stack, self.frame_chunk = clip, stack, frame_chunk
        self.first_run = FirstRun()
        self.num_features = width
        self.dropout = nn.Dropout(dropout)
        self.reset_classifier(num_classes)
        self.freeze_bn = freeze_bn
        for norm in images.batch_norms(backbone) if freeze_bn else ():
            norm.requires_grad_(False)
        self.train()

    # --- the contract ------------------------------------------------------------------------------------------------

    def stages(self) -> dict[str, nn.Module]:
        return {"backbone": self.backbone, "temporal": self.temporal}

    def forward_features(self, clip: Tensor) -> Tensor:
        """timm's own features of every frame, `[B, T, D]`; of every stack of frames, `[B, T / stack, D]`."""
        rows = [images.pooled(self._run_images(self.backbone, pictures)) for pictures in self._chunks(clip)]
        features = rows[0] if len(rows) == 1 else torch.cat(rows)
        return features.unflatten(0, (clip.shape[0], clip.shape[2] // self.stack))

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        row = self.temporal(features)
        return row if pre_logits else self.fc(self.dropout(row))

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        like = next(self.backbone.parameters())
        width = self.temporal.out_features
        new = nn.Linear(width, num_classes, device=like.device, dtype=like.dtype) if num_classes else nn.Identity()
        self.fc = new

    def forward_intermediates(self, clip: Tensor, indices: Sequence[int] | int | None = None) -> list[Tensor]:
        """Maps `[B, C, T / stack, H', W']` of timm's own `forward_intermediates`, whose `indices` these are."""
        if not hasattr(self.backbone, "forward_intermediates"):
            raise SpecError(f"timm's {self.arch} gives no intermediate maps", hint="use forward_features")
        if not isinstance(indices, int) and indices is not None and not len(indices):
            return []

        def maps_of(frames: Tensor) -> list[Tensor]:
            maps: list[Tensor] = self.backbone.forward_intermediates(
                frames, indices=indices, intermediates_only=True, output_fmt="NCHW"
            )
            return maps

        try:
            chunks = [self._run_images(maps_of, frames) for frames in self._chunks(clip)]
        except AssertionError as refused:  # frames of a wrong size are a GeometryError already
            raise IndexError(f"timm's {self.arch} with indices={indices!r:.80}: {refused}") from refused
        shape = clip.shape[0], clip.shape[2] // self.stack
        return [torch.cat(maps).unflatten(0, shape).transpose(1, 2) for maps in zip(*chunks, strict=True)]

    def layer_groups(self) -> dict[str, list[str]]:
        """timm's own groups of its layers, then the head over time and the classifier."""
        groups: dict[str, list[str]] = {}
        names = [name for name, _ in self.backbone.named_parameters()]
        if hasattr(self.backbone, "group_matcher"):
            from timm.models import group_parameters

            found = group_parameters(self.backbone, self.backbone.group_matcher(coarse=False))
            for layer in sorted(found):
                groups[f"backbone.{layer}"] = [f"backbone.{name}" for name in found[layer]]
        else:
            groups["backbone"] = [f"backbone.{name}" for name in names]
        groups["head"] = [name for name, _ in self.named_parameters() if not name.startswith("backbone.")]
        return {layer: names for layer, names in groups.items() if names}

    def set_grad_checkpointing(self, on: bool = True) -> None:
        """timm's own: keep the inputs of its blocks only, and run them again in backward.

        Raises SpecError for architectures that timm cannot do this with.
        """
        try:
            self.backbone.set_grad_checkpointing(on)
        except (AssertionError, AttributeError) as refused:
            raise SpecError(
                f"timm's {self.arch} has no gradient checkpointing", hint="a smaller batch or freeze_bn=True"
            ) from refused
        self.grad_checkpointing = on
        self.first_run.watch(images.batch_norms(self.backbone) if on else ())

    def train(self, mode: bool = True) -> FrameModel:
        super().train(mode)
        for norm in images.batch_norms(self.backbone) if self.freeze_bn else ():
            norm.eval()
        return self

    # --- pictures ----------------------------------------------------------------------------------------------------

    def _chunks(self, clip: Tensor) -> Iterator[Tensor]:
        """The frames of `[B, C, T, H, W]` as pictures `[N, stack * C, H, W]`, in order: views where that is possible.

        Layers that mix frames get whole clips only.
        """
        pictures = clip.transpose(1, 2).unflatten(1, (-1, self.stack))  # [B, T / stack, stack, C, H, W]
        batch, length = pictures.shape[:2]
        most = self._at_once(pictures)
        if self.clip is not None:
            self.clip.frames = length
        if batch * length <= most:
            yield pictures.flatten(0, 1).flatten(1, 2)
        elif self.clip is not None or length <= most:
            for clips in pictures.split(max(1, most // length)):
                yield clips.flatten(0, 1).flatten(1, 2)
        else:
            parts = -(-length // most)
            for one in pictures:
                for part in one.split(-(-length // parts)):
                    yield part.flatten(1, 2)

    def _at_once(self, pictures: Tensor) -> int:
        """How many pictures go through the network together: all, while statistics of the batch are being taken."""
        batch, length, *picture = pictures.shape
        everything = batch * length
        if torch.compiler.is_exporting():
            return everything  # a bound would hold for some numbers of clips only
        if self.backbone.training and any(norm.training for norm in images.batch_norms(self.backbone)):
            return everything
        if self.frame_chunk is not None:
            return max(1, self.frame_chunk // self.stack)
        if self.training and torch.is_grad_enabled() and self._is_trained(pictures):
            return everything  # what backward needs is kept anyway
        size = math.prod(picture) * pictures.element_size()
        return max(1, AT_ONCE.get(pictures.device.type, ELSEWHERE) // size)

    def _is_trained(self, frames: Tensor) -> bool:
        return frames.requires_grad or any(parameter.requires_grad for parameter in self.backbone.parameters())

    def _run_images(self, function: Any, frames: Tensor) -> Any:
        """`function` of images. What timm cannot make sense of because of the frames' size is said in zoo's words."""
        if torch.compiler.is_compiling():
            with self.first_run:
                return function(frames)
        try:
            with self.first_run:
                return function(frames)
        except (AssertionError, RuntimeError, ValueError) as refused:
            count, channels, height, width = frames.shape
            if not (said := images.refusal(self.backbone, channels, (height, width), count)):
                raise  # whatever it is, it is not the size
            made_for = self.image_options["size"]
            raise GeometryError(
                f"timm's {self.arch} takes no frames of {height}x{width}: {said}",
                hint=f"it is made for {made_for[0]}x{made_for[1]}; zoo.load_clips(model, video) gives clips that fit",
            ) from refused


def frame_model(
    *,
    arch: str,
    tag: str = "",
    num_classes: int = 400,
    temporal: str = "mean",
    temporal_options: Mapping[str, Any] | None = None,
    shift: bool = False,
    inflate: int = 0,
    stack: int = 1,
    img_size: int | Sequence[int] | None = None,
    in_chans: int = 3,
    frame_chunk: int | None = None,
    freeze_bn: bool = False,
    drop_rate: float = 0.0,
    drop_path_rate: float | None = None,
    least: int = 1,
    multiple: int = 1,
) -> FrameModel:
    """A video model from timm's `arch`.

    tag: of timm's weights, which may differ in size from each other. temporal: the head over time, a name in
    `zoo_timm.heads.HEADS`; temporal_options: of the head, such as {"hidden": 256}.
    shift: temporal shift in the residual blocks. inflate: frames that convolutions look at, 0 for none. stack: frames
    that are one picture, side by side in its channels; a clip has a multiple of them.
    img_size: pixels, for architectures that are built for one size. in_chans: channels of a frame.
    frame_chunk: frames through the network at once in evaluation; None chooses by their size. freeze_bn: batch norms
    keep statistics and weights. drop_rate: before the classifier. drop_path_rate: of timm's blocks.
    least, multiple: sides that an architecture without a fixed size takes, as measured by tools/timm_index.py.
    Raises SpecError for options that the architecture does not have.
    """
    options.check(
        temporal_options=temporal_options,
        shift=shift,
        inflate=inflate,
        stack=stack,
        img_size=img_size,
        in_chans=in_chans,
        frame_chunk=frame_chunk,
        freeze_bn=freeze_bn,
        drop_rate=drop_rate,
        drop_path_rate=drop_path_rate,
    )
    if shift and inflate:
        raise SpecError("shift and inflate together", hint="choose one")
    size = tuple(img_size) if isinstance(img_size, Sequence) else img_size
    channels = stack * in_chans
    of_timm = {"img_size": size, "in_chans": channels, "drop_path_rate": drop_path_rate}
    if channels == 3:
        del of_timm["in_chans"]
    stated = images.config(arch, tag)
    network = images.without_classifier(images.image_network(arch, tag, **of_timm))
    made_for = images.input_size(stated, size)
    if size is not None and (said := images.refusal(network, channels, made_for)):
        raise SpecError(f"timm's {arch} cannot be built with img_size={img_size!r}: {said}", hint=images.advice(stated))
    width = images.probed_width(network, channels, made_for)
    clip = mixing.add_shift(network, arch) if shift else mixing.inflate(network, arch, inflate) if inflate else None
    model = FrameModel(
        network,
        temporal_head(temporal, width, temporal_options or {}),
        width=width,
        arch=arch,
        clip=clip,
        stack=stack,
        frame_chunk=frame_chunk,
        freeze_bn=freeze_bn,
        dropout=drop_rate,
        num_classes=num_classes,
    )
    model.tag, model.image_options = tag, {"options": of_timm, "size": made_for, "inflate": inflate}
    sides: dict[str, Any] = {"min_size": least, "size_multiple": multiple}
    if size is not None or (stated and stated.fixed_input_size):
        sides = {"size": made_for}
    model.geometry = zoo.Geometry(channels=in_chans, frames_multiple=stack, **sides)
    return model
