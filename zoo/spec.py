"""What the zoo knows about a model, as frozen plain data that is checked when it is made.

A spec can be listed, printed, compared, pickled and written as JSON without importing the model's code or torch.
New fields always come with a default, so that a plugin written for an older zoo keeps working.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from zoo.errors import SpecError
from zoo.plain import Data, FrozenDict, by, frozen, is_count, is_number, is_size

NAME = re.compile(r"[a-z0-9][a-z0-9_]*")  # no dot: "architecture.tag" splits there
FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
SHA256 = re.compile(r"[0-9a-f]{64}")
PREFIX = re.compile(r"([0-9a-f]{8,64})?")  # of a sha256, as torchvision's file names have it
SCHEMES = ("hf://", "pkg://")

SAMPLERS = (
    *("uniform", "consecutive", "resampled_tv", "dense_psf", "dense_psf_offset", "subsample_ptv", "dense_mm"),
    *("segments_mm", "segments_mm_twice", "uniform_mm", "uniform_hf", "head_hf"),
    *("videomae_k400", "videomae_ssv2", "vjepa2_uniform"),
)
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
ROUNDINGS = ("floor", "round", "ceil")
ACTIVATIONS = ("softmax", "sigmoid", "none")
AGGREGATIONS = ("prob_mean", "logit_mean")
SHORT_POLICIES = ("repeat_last", "loop", "spread", "error")
LEVELS = ("clip", "video")
MEANS = {"prob_mean": "mean of the views' {}", "logit_mean": "{} of the views' mean"}  # in words
ORIGINS = ("measured", "published")


@dataclass(frozen=True, kw_only=True)
class Preprocessing(Data):
    """The protocol that turns a video into clips and logits into scores. It is executed, not only described.

    num_frames: frames in one clip.
    sampler: which frames; the names are those of `zoo.video.sampling.SAMPLERS`.
    stride: frames between two sampled frames, counted after resampling to `fps`.
    fps: the video is first resampled to this rate by its timestamps; None takes the file's own frames.
    resize: short side in pixels, or exactly (height, width); None keeps the size.
    interpolation, antialias: of the resize, on uint8, equal to torchvision's v2 transforms.
    crop: side of the square, or (height, width); None keeps everything.
    crop_rounding: how half a pixel is rounded when the centre is found; projects differ.
    mean, std: per channel, for RGB in 0..1.
    clips, crops: views of one video; crops is 1 (centre) or 3 (along the longer side).
    activation: what turns logits into scores. temperature: logits are divided by it before, so that scores are as sure
    as they are right.
    aggregation: mean of the views' scores ("prob_mean"), or of their logits before the activation ("logit_mean").
    short: what a video with too few frames does.
    """

    num_frames: int
    sampler: str = "uniform"
    stride: int = 1
    fps: float | None = None
    resize: int | tuple[int, int] | None = None
    interpolation: str = "bilinear"
    antialias: bool = True
    crop: int | tuple[int, int] | None = None
    crop_rounding: str = "floor"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    clips: int = 1
    crops: int = 1
    activation: str = "softmax"
    aggregation: str = "prob_mean"
    short: str = "repeat_last"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for name in ("resize", "crop"):
            if isinstance(value := getattr(self, name), list):
                self._set(name, tuple(value))
            self._require(is_size(getattr(self, name)), name, "a positive int, (height, width) or None")
        for name in ("mean", "std"):
            values = getattr(self, name)
            right = isinstance(values, (list, tuple)) and len(values) == 3 and all(map(is_number, values))
            self._require(right, name, "three numbers, one per colour")
            self._set(name, tuple(map(float, values)))
        self._require(all(self.std), "std", "three numbers other than zero")
        self._require_type(bool, "True or False", "antialias")
        for name in ("num_frames", "stride", "clips"):
            self._require(is_count(getattr(self, name)), name, "an int of at least 1")
        self._require(is_count(self.crops) and self.crops in (1, 3), "crops", "1 (centre) or 3 (along the longer side)")
        self._require(self.crops == 1 or self.crop is not None, "crop", "given when there are three crops")
        positive = self.fps is None or (is_number(self.fps) and self.fps > 0)
        self._require(positive, "fps", "a positive number, or None for the file's own frames")
        self._require(is_number(self.temperature) and self.temperature > 0, "temperature", "a positive number")
        for name, allowed in (
            ("sampler", SAMPLERS),
            ("interpolation", INTERPOLATIONS),
            ("crop_rounding", ROUNDINGS),
            ("activation", ACTIVATIONS),
            ("aggregation", AGGREGATIONS),
            ("short", SHORT_POLICIES),
        ):
            self._require(getattr(self, name) in allowed, name, "one of " + ", ".join(allowed))

    def for_size(self, size: tuple[int, int]) -> Preprocessing:
        """The same protocol with pictures of (height, width): what is resized and cropped grows or shrinks alike."""
        old = (self.crop, self.crop) if isinstance(self.crop, int) else self.crop or self.resize
        if not isinstance(old, tuple) or old == size:
            return self  # pictures of any shape, or these already
        scale = [new / was for new, was in zip(size, old, strict=True)]
        resize: int | tuple[int, int] | None = None
        if isinstance(self.resize, tuple):
            resize = round(self.resize[0] * scale[0]), round(self.resize[1] * scale[1])
        elif self.resize is not None:
            resize = round(self.resize * max(scale))
        crop = None if self.crop is None else size[0] if size[0] == size[1] else size
        return dataclasses.replace(self, resize=resize, crop=crop)

    def describe(self) -> str:
        """The protocol in one line of words."""
        frames = f"{self.num_frames} frames" + (f" {self.stride} apart" if self.stride > 1 else "")
        rate = f"at {self.fps:g} fps" if self.fps else "of the file's own"
        parts = [f"{frames} {rate} ({self.sampler})"]
        if self.resize is not None:
            where = f"short side {self.resize}" if isinstance(self.resize, int) else by(self.resize)
            parts.append(f"{where} {self.interpolation}{'' if self.antialias else ' without antialias'}")
        if self.crop is not None:
            parts.append(f"crop {by(self.crop)}")
        parts.append(f"{self.clips} x {self.crops} views, {MEANS[self.aggregation].format(self.activation)}")
        if self.temperature != 1:
            parts.append(f"temperature {self.temperature:g}")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Geometry(Data):
    """The clips that a network takes. None means any; a clip that does not fit raises before forward.

    channels: colours, 3 for RGB.
    frames, size: exactly this many frames, exactly (height, width).
    min_frames, min_size: at least this many frames, at least this many pixels on both sides.
    frames_multiple, size_multiple: a whole multiple of this.
    """

    channels: int = 3
    frames: int | None = None
    min_frames: int = 1
    frames_multiple: int = 1
    size: tuple[int, int] | None = None
    min_size: int = 1
    size_multiple: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.size, list):
            self._set("size", tuple(self.size))
        self._require(
            self.size is None or (isinstance(self.size, tuple) and is_size(self.size)), "size", "(height, width)"
        )
        self._require(self.frames is None or is_count(self.frames), "frames", "an int of at least 1, or None")
        for name in ("channels", "min_frames", "frames_multiple", "min_size", "size_multiple"):
            self._require(is_count(getattr(self, name)), name, "an int of at least 1")

    def frames_for(self, wanted: int) -> int:
        """A number of frames that fits: `wanted`, or the next larger one; the only one, where there is no other."""
        step = self.frames_multiple
        return self.frames or -(-max(wanted, self.min_frames) // step) * step

    def problem(self, shape: tuple[int, ...]) -> str:
        """Why a clip of this shape does not fit, or an empty string."""
        if len(shape) != 5:
            return f"a clip has five dimensions, this has {len(shape)}"
        _, channels, frames, height, width = shape
        if channels != self.channels:
            return f"{channels} channels instead of {self.channels}"
        if self.frames is not None and frames != self.frames:
            return f"{frames} frames instead of {self.frames}"
        if frames < self.min_frames or frames % self.frames_multiple:
            return f"{frames} frames"
        if self.size is not None and (height, width) != self.size:
            return f"{height}x{width} pixels instead of {by(self.size)}"
        if min(height, width) < self.min_size or height % self.size_multiple or width % self.size_multiple:
            return f"{height}x{width} pixels"
        return ""

    def __str__(self) -> str:
        frames = _range("frames", self.frames, self.min_frames, self.frames_multiple)
        exact = by(self.size) if self.size else None
        pixels = _range("pixels a side" if exact is None else "pixels", exact, self.min_size, self.size_multiple)
        return f"clips [B, {self.channels}, T, H, W] of {frames} and {pixels}"


def _range(what: str, exact: object, least: int, multiple: int) -> str:
    if exact is not None:
        return f"{exact} {what}"
    text = f"at least {least} {what}" if least > 1 else f"any number of {what}"
    return f"{text} in steps of {multiple}" if multiple > 1 else text


@dataclass(frozen=True, kw_only=True)
class Metric(Data):
    """One figure and where it comes from.

    name: such as "top1". value: in percent where the name is an accuracy. dataset, split: what it was measured on.
    origin: "measured" by us, or "published" by others. by: the command that measures it, or who states it.
    level: whether one clip or one video is one vote. views: how many of each video, "card" for the protocol's.
    url: where it is published.
    """

    name: str
    value: float
    dataset: str
    origin: str
    by: str
    split: str = ""
    level: str = "video"
    views: str = "card"
    url: str = ""

    def __post_init__(self) -> None:
        self._require(self.origin in ORIGINS, "origin", "one of " + ", ".join(ORIGINS))
        self._require(self.level in LEVELS, "level", "one of " + ", ".join(LEVELS))
        self._require_type(str, "text", "name", "dataset", "by", "split", "views", "url")
        self._require(is_number(self.value), "value", "a finite number")
        self._require(bool(self.by), "by", "the command that measures it, or the source that states it")


@dataclass(frozen=True, kw_only=True)
class Weights(Data):
    """One published checkpoint.

    source: "hf://owner/repo/file@revision", "pkg://package/path" (inside an installed package), or a local path.
    sha256, size: of the file, size in bytes; what is loaded is checked against them.
    layout: how the file names its tensors, a key of the spec's layouts; empty for the model's own, or to find out.
    origin: {"url", "sha256", "format"} of a file that exists only as a pickle, which `zoo convert` has to convert
    first; the sha256 whole or its first digits, the format in words.
    labels: in the order of the logits. num_classes: how many there are, where the labels are not known.
    kwargs: of the builder, on top of the spec's. preprocessing: the protocol, if it is not the spec's.
    metrics: what was measured, and by whom. license: of the weights; training_data: what they have seen.
    description: a sentence. url: a page to read more. tag: filled in by the ModelSpec.
    """

    source: str = ""
    sha256: str = ""
    size: int | None = None
    layout: str = ""
    origin: Mapping[str, str] | None = None
    labels: tuple[str, ...] = ()
    num_classes: int | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    metrics: tuple[Metric, ...] = ()
    license: str = ""
    training_data: str = ""
    description: str = ""
    url: str = ""
    tag: str = ""

    def __post_init__(self) -> None:
        self._require_type(str, "text", "source", "sha256", "layout", "license", "training_data", "description", "url")
        self._require_type((list, tuple), "a list of texts", "labels")
        self._require(all(isinstance(label, str) for label in self.labels), "labels", "a list of texts")
        self._require_type((list, tuple), "a list of zoo.Metric", "metrics")
        self._require_type(Mapping, "a dict", "kwargs")
        self._require(
            bool(self.source) != bool(self.origin), "source", "given, unless there is an origin to convert from"
        )
        known = "://" not in self.source or self.source.startswith(SCHEMES)
        self._require(known, "source", "hf://owner/repo/file@revision, pkg://package/path or a local path")
        self._require(not self.sha256 or SHA256.fullmatch(self.sha256) is not None, "sha256", "64 hexadecimal digits")
        self._require(self.size is None or is_count(self.size), "size", "the file's size in bytes")
        self._set("labels", tuple(self.labels))
        self._set("metrics", tuple(Metric.from_dict(m) if isinstance(m, Mapping) else m for m in self.metrics))
        self._require(all(isinstance(m, Metric) for m in self.metrics), "metrics", "a list of zoo.Metric")
        self._nest("preprocessing", Preprocessing)
        known = self.num_classes in (None, 0) or is_count(self.num_classes)
        self._require(known, "num_classes", "how many classes, 0 for an encoder without a classifier")
        if self.num_classes is None and self.labels:
            self._set("num_classes", len(self.labels))
        matches = not self.labels or len(self.labels) == self.num_classes
        self._require(matches, "num_classes", f"{len(self.labels)}, as there are that many labels")
        self._set("kwargs", frozen(self.kwargs))
        if self.origin is not None:
            self._set("origin", FrozenDict(self.origin))
            known = {"url", "format"} <= self.origin.keys() and all(isinstance(t, str) for t in self.origin.values())
            known = known and PREFIX.fullmatch(self.origin.get("sha256", "")) is not None
            self._require(known, "origin", "{'url', 'sha256' or its first digits, 'format'}")

    @property
    def pinned(self) -> bool:
        """Whether the bytes are fixed: their digest is known."""
        return bool(self.sha256)


@dataclass(frozen=True, kw_only=True)
class ModelSpec(Data):
    """One architecture. Only `name` and `builder` (or `resolver`) are required.

    name: lower case letters, digits and _; or "*" for a namespace, whose `resolver` makes a spec for any name.
    builder: "package.module:function", called as `builder(**{**kwargs, **overrides})`; a callable only in notebooks.
    resolver: "package.module:function", called with a concrete name; returns a ModelSpec, or None if there is none.
    lister: "package.module:function" of a namespace whose names can be listed without importing what is behind them; it
    gives {architecture: {tag: licence of the weights}}.
    family: free text to list by, such as "cnn". task: what comes out; "classification" gives logits `[B, K]`.
    description: a sentence. paper: the URL of the paper, or of the source, that the model follows.
    license: of the code. kwargs: what the builder is called with. num_classes: logits at these kwargs.
    preprocessing: the protocol where the weights do not bring their own. geometry: the clips it takes.
    params: parameters at the default kwargs. streaming: whether the model has `init_state` and `step`.
    delay, receptive_field, period: of such a model, in frames of its protocol, as `zoo.VideoModel` explains them.
    small: kwargs on top of `kwargs` for a variant that runs in a fraction of a second, which is what most conformance
    checks run; empty where the model itself does. Where it takes other clips, the network sets its own `geometry`.
    layouts: {layout: "package.module:function"}. Such a function takes a dict of tensors as some file names them,
    and gives the same tensors under the model's names, or None (or KeyError, ValueError) if the file is not of that
    layout. It is asked when a file's names are not the model's own; one with a second parameter `model` is given that.
    opens: {"transformers:model_type": "package.module:function"} for foreign repositories this architecture can open.
    Such a function takes what config.json holds, and what the preprocessor's file holds or None, both bounded JSON by
    strangers; it gives a dict of kwargs, num_classes, labels, preprocessing as in Weights, and refuses by SpecError.
    weights: {tag: Weights}. default_tag: the tag that `pretrained=True` means.
    plugin, namespace: filled in by the registry.
    """

    name: str
    builder: str | Callable[..., Any] | None = None
    resolver: str | None = None
    lister: str | None = None
    family: str = ""
    task: str = "classification"
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    small: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    geometry: Geometry | None = None
    num_classes: int | None = None
    params: int | None = None
    description: str = ""
    paper: str = ""
    license: str = ""
    streaming: bool = False
    delay: int = 0
    receptive_field: int | None = None
    period: int = 1
    layouts: Mapping[str, str] = field(default_factory=dict)
    opens: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, Weights] = field(default_factory=dict)
    default_tag: str | None = None
    plugin: str = ""
    namespace: str = ""

    WILDCARD: ClassVar[str] = "*"

    def __post_init__(self) -> None:
        named = isinstance(self.name, str) and (self.is_namespace or NAME.fullmatch(self.name) is not None)
        self._require(named, "name", "lower case letters, digits and _")
        self._require(not self.is_namespace or bool(self.resolver), "resolver", "given for a namespace")
        texts = ("family", "task", "description", "paper", "license", "plugin", "namespace")
        self._require_type(str, "text", *texts)
        self._require_type(Mapping, "a dict", "kwargs", "small", "layouts", "opens", "weights")
        self._require_type(bool, "True or False", "streaming")
        for name in ("num_classes", "params"):
            right = getattr(self, name) in (None, 0) or is_count(getattr(self, name))
            self._require(right, name, "an int, or None where it is not known")
        counts = is_count(self.period) and (self.receptive_field is None or is_count(self.receptive_field))
        self._require(counts, "receptive_field", "an int of at least 1, as is period")
        self._require(self.delay == 0 or is_count(self.delay), "delay", "an int, 0 where there is none")
        called = self.builder is None or isinstance(self.builder, str) or callable(self.builder)
        self._require(called, "builder", "'package.module:function'")
        self._require(self.is_namespace or bool(self.builder), "builder", "'package.module:function'")
        for name in ("builder", "resolver", "lister"):
            if isinstance(value := getattr(self, name), str):
                self._require(FUNCTION.fullmatch(value) is not None, name, "'package.module:function'")
        self._nest("preprocessing", Preprocessing)
        self._nest("geometry", Geometry)
        for name in ("layouts", "opens"):
            self._set(name, FrozenDict(getattr(self, name)))
            functions = getattr(self, name).values()
            right = all(isinstance(f, str) and FUNCTION.fullmatch(f) for f in functions)
            self._require(right, name, "{key: 'package.module:function'}")
        self._set("kwargs", frozen(self.kwargs))
        self._set("small", frozen(self.small))
        self._set("weights", FrozenDict({tag: self._tagged(tag, w) for tag, w in self.weights.items()}))
        known = self.default_tag is None or self.default_tag in self.weights
        self._require(known, "default_tag", f"one of the tags: {', '.join(self.weights) or 'there are none'}")

    def _tagged(self, tag: str, weights: Weights) -> Weights:
        if not isinstance(tag, str) or not NAME.fullmatch(tag):
            raise SpecError(f"{self.name}: tag {tag!r}", hint="a tag is lower case letters, digits and _")
        if isinstance(weights, Mapping):
            weights = Weights.from_dict(weights)
        if not isinstance(weights, Weights):
            raise SpecError(f"{self.name}.{tag}: {weights!r:.80}", hint="weights must be {tag: zoo.Weights(...)}")
        return dataclasses.replace(weights, tag=tag)

    @property
    def is_namespace(self) -> bool:
        """Whether this stands for every name that its resolver knows."""
        return self.name == self.WILDCARD

    @property
    def full_name(self) -> str:
        """The name to create it by: with its namespace, if it has one."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name
