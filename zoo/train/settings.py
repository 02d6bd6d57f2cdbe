"""All that a training depends on, as frozen plain data: keyword arguments, one TOML file, options of the command line.

Each setting stands once, with its default and its meaning; the file, the options and the documentation come from here.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import SpecError
from zoo.plain import Data, frozen, is_count, is_number

OPTIMIZERS = ("adamw", "sgd")
PRECISIONS = ("", "bf16", "fp16")
PARALLEL = ("ddp", "fsdp")
SIDES = frozenset(
    (
        *("left", "right", "leftward", "leftwards", "rightward", "rightwards", "cw", "ccw"),
        *("clockwise", "counterclockwise", "anticlockwise", "east", "west"),
    )
)

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # of turn-left, turn left, TurnLeft and TURN_LEFT


def _(default: Any, meaning: str) -> Any:
    return dataclasses.field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, kw_only=True)
class Settings(Data):
    """What to train on what, and how. Two trainings with the same settings see the same clips in the same order."""

    model: str = _("", "Architecture (from scratch), architecture.tag, hf-hub:owner/repo or local-dir:path.")
    data: str = _("", "Folder of class folders, or a .csv or .jsonl of path, label, start_s, end_s, split.")
    out: str = _("", "Folder of the result, the log and the checkpoints. A training that is in it goes on.")
    val: str = _("", "What to validate on, of the same kinds as data; empty for a part of data.")
    val_fraction: float = _(0.2, "Of each class's files, held back to validate on if val and data do not say on what.")
    skip_unreadable: bool = _(False, "Leave out videos that cannot be read, after listing them, instead of stopping.")
    model_options: Mapping[str, Any] = _(frozen({}), "Options of the architecture, such as dropout=0.2.")
    protocol: Mapping[str, Any] = _(frozen({}), "Fields of the preprocessing that differ from the model's.")

    epochs: float = _(10.0, "How often each video is shown.")
    steps: int = _(0, "How many steps to make, whatever epochs says; 0 for epochs.")
    batch_size: int = _(16, "Clips in one step, all processes together.")
    accumulate: int = _(1, "Parts in which each process computes its share of a step, to save memory.")
    seed: int = _(0, "Order, augmentation, dropout and new layers all follow from it.")

    optimizer: str = _("adamw", "adamw or sgd.")
    lr: float = _(1e-3, "Highest learning rate, of the head.")
    min_lr: float = _(1e-6, "Learning rate of the last step.")
    warmup: float = _(0.05, "Part of the steps in which the learning rate rises, before it falls as a cosine.")
    weight_decay: float = _(0.05, "Of weights; biases and norms have none.")
    momentum: float = _(0.9, "Of sgd, Nesterov's.")
    betas: tuple[float, ...] = _((0.9, 0.999), "Of adamw.")
    layer_decay: float = _(1.0, "Each group of layers learns so many times as fast as the one behind it.")
    freeze: int = _(0, "This many groups of layers, from the input, are not trained.")
    freeze_bn: bool = _(False, "Batch norms keep the statistics that they have.")
    clip_grad: float = _(1.0, "Largest norm of the gradient; 0 for any.")
    label_smoothing: float = _(0.1, "Part of each target that is spread over all classes.")
    ema: float = _(0.0, "Decay of a moving average of the weights, which is then the result; 0 for none.")

    random_resized_crop: bool = _(True, "Crops of random place, size and shape, one per clip; else the protocol's.")
    crop_scale: tuple[float, ...] = _((0.5, 1.0), "Smallest and largest area of the crop, as parts of the picture.")
    crop_ratio: tuple[float, ...] = _((0.75, 1.3333), "Narrowest and widest shape of the crop.")
    flip: float | None = _(None, "How often clips are mirrored; if not given, 0.5, or 0 if a label names a side.")
    flip_labels: Mapping[str, str] = _(frozen({}), "Labels that a mirror exchanges, such as pan_left=pan_right.")
    upside_down_labels: Mapping[str, str] = _(frozen({}), "Turn half of the clips upside down, which exchanges these.")
    transpose_labels: Mapping[str, str] = _(frozen({}), "Exchange rows and columns of half of the clips, and these.")
    reverse_labels: Mapping[str, str] = _(frozen({}), "Play half of the clips backwards, which exchanges these.")
    rand_augment: int = _(0, "Operations of RandAugment on each clip.")
    rand_augment_magnitude: int = _(7, "Their strength, 0 to 30.")
    temporal_jitter: bool = _(True, "Clips start anywhere; otherwise where the protocol's centre clip does.")
    speed_jitter: float = _(0.0, "Clips are up to this part faster or slower.")
    repeats: int = _(1, "Clips made of a video each time it is read.")
    mixup: float = _(0.0, "Alpha of MixUp between two clips of a step; 0 for none.")
    cutmix: float = _(0.0, "Alpha of CutMix, one box for all frames of a clip; 0 for none.")

    calibrate: bool = _(False, "Give the result the temperature at which the validation labels are likeliest.")

    parallel: str = _("ddp", "ddp, or fsdp to shard the weights too, under torchrun.")
    device: str = _("", "Such as cpu or cuda; empty for cuda where there is one.")
    amp: str = _("", "bf16 or fp16 for mixed precision; empty for float32.")
    channels_last: bool = _(False, "Keep channels innermost in memory, which networks of convolutions are faster with.")
    grad_checkpointing: bool = _(False, "Compute the stages again in backward instead of keeping them in memory.")
    sync_bn: bool = _(False, "Batch norms count over all processes; only on cuda.")
    deterministic: bool = _(False, "Only deterministic kernels on cuda; on the CPU they always are.")
    threads: int = _(0, "Threads of the CPU; 0 leaves them. Bit-identical only with the same number.")
    workers: int = _(2, "Processes that decode, for each that trains; 0 decodes in the same one.")

    validate_every: int = _(0, "Steps between validations on one clip of each video; 0 for once in each epoch.")
    checkpoint_every: int = _(0, "Steps between checkpoints; 0 for once in each epoch.")
    keep: int = _(2, "Checkpoints to keep.")
    log_every: int = _(10, "Steps between rows of the log.")
    tensorboard: bool = _(False, "Also log for TensorBoard, if it is installed.")
    license: str = _("", "Of the trained weights, such as cc-by-4.0; empty for that of the weights it starts from.")
    training_data: str = _("", "What the card says about the data; empty for the data's name and size.")
    description: str = _("", "A sentence for the card.")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            self._cast(field.name, str(field.type))
        for name in ("model", "data", "out"):
            self._require(bool(getattr(self, name)), name, "given")
        for name in ("batch_size", "accumulate", "repeats", "keep", "log_every"):
            self._require(is_count(getattr(self, name)), name, "a whole number of at least 1")
        for name in ("steps", "seed", "freeze", "rand_augment", "threads", "workers"):
            self._require(getattr(self, name) >= 0, name, "a whole number, 0 or more")
        for name in ("validate_every", "checkpoint_every"):
            self._require(getattr(self, name) >= 0, name, "a number of steps, 0 for once in each epoch")
        for name in ("lr", "epochs", "layer_decay"):
            self._require(getattr(self, name) > 0, name, "more than 0")
        for name in ("min_lr", "weight_decay", "clip_grad", "mixup", "cutmix", "speed_jitter"):
            self._require(getattr(self, name) >= 0, name, "0 or more")
        for name in ("val_fraction", "label_smoothing", "ema", "momentum"):
            self._require(0 <= getattr(self, name) < 1, name, "0 or more, and less than 1")
        self._require(self.seed < 2**63, "seed", "less than 2**63")
        for name in ("license", "training_data", "description"):
            value = getattr(self, name)
            self._require(value.isprintable() and len(value) <= 2000, name, "one line of at most 2,000 characters")
        self._require(0 <= self.warmup <= 1, "warmup", "between 0 and 1")
        self._require(0 <= self.rand_augment_magnitude <= 30, "rand_augment_magnitude", "from 0 to 30")
        self._require(self.flip is None or 0 <= self.flip <= 1, "flip", "between 0 and 1, or left out")
        for name in ("betas", "crop_scale", "crop_ratio"):
            low_high = getattr(self, name)
            self._require(
                len(low_high) == 2 and 0 <= low_high[0] <= low_high[1], name, "two numbers, the smaller first"
            )
        self._require(self.crop_scale[1] <= 1 and self.crop_scale[0] > 0, "crop_scale", "parts of the picture, up to 1")
        self._require(self.crop_ratio[0] > 0, "crop_ratio", "more than 0")
        self._require(self.betas[1] < 1, "betas", "two numbers below 1")
        for name, allowed in (("optimizer", OPTIMIZERS), ("amp", PRECISIONS), ("parallel", PARALLEL)):
            self._require(getattr(self, name) in allowed, name, "one of " + ", ".join(map(repr, allowed)))
        mixes = bool(self.mixup or self.cutmix)
        self._require(not mixes or self.batch_size % 2 == 0, "batch_size", "even, as MixUp and CutMix take two clips")
        self._require(self.batch_size % self.repeats == 0, "batch_size", f"a multiple of repeats={self.repeats}")

    def _cast(self, name: str, kind: str) -> None:
        """Hold a value to its declared type; a whole number will do for a number, a list for a tuple."""
        value = getattr(self, name)
        if kind.startswith("Mapping"):
            right = isinstance(value, Mapping) and all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
            self._require(right, name, "a table of texts, numbers, lists and tables")
            if kind == "Mapping[str, str]":
                self._require(all(isinstance(v, str) for v in value.values()), name, "a table from label to label")
            self._set(name, frozen(value))
        elif kind.startswith("tuple"):
            self._require(isinstance(value, list | tuple) and all(map(is_number, value)), name, "a list of numbers")
            self._set(name, tuple(map(float, value)))
        elif kind.startswith("float"):
            self._require(is_number(value) or (value is None and "None" in kind), name, "a number")
            self._set(name, value if value is None else float(value))
        else:
            wanted = {"str": str, "bool": bool, "int": int}[kind]
            right = isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
            self._require(right, name, {"str": "text", "bool": "true or false", "int": "a whole number"}[kind])

    @classmethod
    def read(cls, file: str | Path | None = None, **changes: Any) -> Settings:
        """The settings of a TOML file, and those that are given besides. Raises SpecError."""
        data: dict[str, Any] = {}
        if file is not None:
            try:
                data = tomllib.loads(Path(file).read_text(encoding="utf-8"))
            except FileNotFoundError as missing:
                raise SpecError(f"{file} does not exist", hint="it is a TOML file of settings") from missing
            except (OSError, ValueError) as wrong:
                raise SpecError(f"{file} cannot be read: {wrong}", hint="it is a TOML file of settings") from wrong
        return cls.from_dict(data | changes)

    def to_toml(self) -> str:
        """All of them, with what they mean; `read` takes it."""
        plain, tables = [], []
        for field in dataclasses.fields(self):
            value, meaning = getattr(self, field.name), field.metadata["meaning"]
            if isinstance(value, Mapping):
                lines = [f"{_key(key)} = {_toml(item)}" for key, item in value.items()]
                tables.append("\n".join([f"\n# {meaning}", f"[{field.name}]", *lines]))
            elif value is not None:
                plain.append(f"{field.name} = {_toml(value)}  # {meaning}")
        return "\n".join([*plain, *tables]) + "\n"

    def sequence(self) -> dict[str, Any]:
        """Those that a training which goes on has to share with its beginning: all that change what is learned."""
        return {name: value for name, value in self.to_dict().items() if name not in FREE}


# What may change between the parts of a training: where and how fast it runs, and what is said of it.
FREE = frozenset(
    (
        *(
            "out",
            "parallel",
            "device",
            "grad_checkpointing",
            "channels_last",
            "calibrate",
            "threads",
            "workers",
            "validate_every",
            "deterministic",
        ),
        *("checkpoint_every", "keep", "log_every", "tensorboard", "license", "training_data", "description"),
        *("data", "val", "accumulate"),
    )
)

# Of these, those that may round otherwise, so that weights are no longer the same to the last bit.
EXACT = ("device", "parallel", "accumulate", "channels_last", "grad_checkpointing", "deterministic")


def names_a_side(labels: tuple[str, ...]) -> list[str]:
    """The labels that would be wrong in a mirror, by their words."""
    return [label for label in labels if SIDES & {word.casefold() for word in WORD.findall(label)}]


def _is_plain(value: Any) -> bool:
    """Whether a line of TOML can hold it."""
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    return all(map(_is_plain, value)) if isinstance(value, list | tuple) else isinstance(value, str | int | float)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
