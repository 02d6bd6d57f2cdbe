"""Recurrent networks: models that watch a video as it happens. Only specs here: code is imported to build a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import zoo
from zoo_rnn import camera_motion

LRCN = "https://arxiv.org/abs/1411.4389"
CONV_LSTM = "https://arxiv.org/abs/1506.04214"
CONV_GRU = "https://arxiv.org/abs/1511.06432"
MIN_RNN = "https://arxiv.org/abs/2410.01201"
PREDRNN = (
    "https://papers.nips.cc/paper/6689-predrnn-recurrent-neural-networks-for-predictive-learning-using-"
    "spatiotemporal-lstms"
)

# Nothing is published for these, so the protocol is a proposal: two seconds as one view, eight frames a second, a rate
# that a live stream can keep.
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_PROTOCOL = zoo.Preprocessing(num_frames=16, fps=8, sampler="consecutive", resize=256, crop=224, clips=5, **_IMAGENET)
# What a camera does: small pictures, squeezed into a square so that no part is lost.
_TINY_PROTOCOL = zoo.Preprocessing(
    num_frames=8, fps=8, sampler="consecutive", resize=(64, 64), clips=5, mean=(0.45,) * 3, std=(0.25,) * 3
)
# Ten frames tell the next ten, as in the papers' Moving MNIST, of pixels in 0..1.
_NEXT_PROTOCOL = zoo.Preprocessing(num_frames=10, fps=10, sampler="consecutive", resize=(64, 64), activation="none")

_SQUARES = zoo.Geometry(min_size=4, size_multiple=4)

_QUICK_ENCODER = {"encoder": "timm/test_resnet", "hidden": 16}


def _spec(name: str, builder: str, params: int, description: str, paper: str, **more: Any) -> zoo.ModelSpec:
    defaults = {"family": "rnn", "num_classes": 400, "license": "Apache-2.0", "streaming": True}
    defaults |= {"preprocessing": _PROTOCOL, "geometry": zoo.Geometry()}
    fields = {**defaults, **more}
    return zoo.ModelSpec(
        name=name, builder=f"zoo_rnn.{builder}", params=params, description=description, paper=paper, **fields
    )


# name, encoder, more kwargs, parameters, description
_FRAME_RNNS = tuple(
    _spec(
        name,
        "lrcn:frame_rnn",
        params,
        f"{description}.",
        LRCN,
        kwargs={"encoder": encoder, **kwargs},
        small=_QUICK_ENCODER,
        streaming=not kwargs.get("bidirectional", False),
    )
    for name, encoder, kwargs, params, description in (
        (
            "lrcn_resnet18",
            "torchvision/resnet18",
            {"cell": "lstm", "pool": "mean"},
            12_067_792,
            "A ResNet-18 on every frame and an LSTM over them, whose answers are averaged",
        ),
        (
            "lrcn_resnet18_bi",
            "torchvision/resnet18",
            {"cell": "lstm", "pool": "mean", "bidirectional": True},
            12_958_672,
            "A ResNet-18 on every frame and an LSTM that reads the clip from both ends",
        ),
        (
            "lrcn_resnet50",
            "torchvision/resnet50",
            {"cell": "lstm", "pool": "mean"},
            25_972_176,
            "A ResNet-50 on every frame and an LSTM over them, whose answers are averaged",
        ),
        (
            "gru_resnet18",
            "torchvision/resnet18",
            {"cell": "gru"},
            11_870_672,
            "A ResNet-18 on every frame and a GRU over them, which decides what to keep",
        ),
        (
            "gru_resnet18_bi",
            "torchvision/resnet18",
            {"cell": "gru", "bidirectional": True},
            12_564_432,
            "A ResNet-18 on every frame and a GRU that reads the clip from both ends",
        ),
        (
            "gru_mobilenetv3_small_100",
            "timm/mobilenetv3_small_100",
            {"cell": "gru"},
            2_605_232,
            "A small MobileNetV3 on every frame and a GRU over them, light enough for live video",
        ),
        (
            "gru_efficientnet_b0",
            "timm/efficientnet_b0",
            {"cell": "gru"},
            5_291_532,
            "An EfficientNet-B0 on every frame and a GRU over them",
        ),
    )
)

_MIN_RNNS = tuple(
    _spec(
        f"{cell}_resnet18".replace("min_", "min"),
        "min_rnn:min_rnn",
        params,
        f"A ResNet-18 on every frame and {what}, a recurrence that a whole clip runs through at once.",
        MIN_RNN,
        kwargs={"encoder": "torchvision/resnet18", "cell": cell},
        small=_QUICK_ENCODER,
    )
    for cell, what, params in (("min_gru", "a minGRU", 12_957_648), ("min_lstm", "a minLSTM", 13_745_616))
)

_CONV_RNNS = tuple(
    _spec(
        name,
        "conv_rnn:conv_rnn",
        params,
        f"{description}.",
        paper,
        kwargs={"cell": cell, "widths": (32, 64, 128, 256), **kwargs},
        small={"widths": (4, 8, 8)},
    )
    for name, cell, kwargs, params, paper, description in (
        ("convlstm_small", "lstm", {}, 6_688_176, CONV_LSTM, "LSTMs that convolve, at three sizes of the picture"),
        (
            "convlstm_small_peephole",
            "lstm",
            {"peepholes": True},
            6_689_520,
            CONV_LSTM,
            "LSTMs that convolve and whose gates see the cell, at three sizes of the picture",
        ),
        (
            "convlstm_small_ln",
            "lstm",
            {"norm": True},
            6_696_240,
            CONV_LSTM,
            "LSTMs that convolve, with layer norm, at three sizes of the picture",
        ),
        ("convgru_small", "gru", {}, 5_140_784, CONV_GRU, "GRUs that convolve, at three sizes of the picture"),
        (
            "convgru_small_ln",
            "gru",
            {"norm": True},
            5_146_160,
            CONV_GRU,
            "GRUs that convolve, with layer norm, at three sizes of the picture",
        ),
    )
)

_TINY = tuple(
    _spec(
        name,
        "causal_rnn:causal_rnn",
        params,
        f"A few convolutions that look back, then {what}: for questions about motion in live video, at home on a CPU.",
        paper,
        kwargs={"cell": cell, "widths": widths},
        num_classes=9,
        preprocessing=_TINY_PROTOCOL,
        weights={"camera_motion": camera_motion.WEIGHTS[name]} if name in camera_motion.WEIGHTS else {},
        default_tag="camera_motion" if name in camera_motion.WEIGHTS else None,
    )
    for name, cell, widths, params, paper, what in (
        ("convgru_tiny", "gru", (16, 32, 64, 96), 632_617, CONV_GRU, "a GRU that convolves"),
        ("convlstm_tiny", "lstm", (16, 32, 64, 80), 576_537, CONV_LSTM, "an LSTM that convolves"),
    )
)

_NEXT_FRAMES = (
    _spec(
        "convlstm_next",
        "next_frames:conv_lstm_next",
        12_091_440,
        "Four ConvLSTM layers that read ten frames and go on with ten of their own.",
        CONV_LSTM,
        task="next_frame",
        num_classes=None,
        preprocessing=_NEXT_PROTOCOL,
        geometry=_SQUARES,
        small={"widths": (8, 8), "horizon": 2},
    ),
    _spec(
        "predrnn",
        "predrnn:predrnn",
        24_563_248,
        "Four ST-LSTM layers with a second memory that zigzags through them; reads ten frames, goes on with ten.",
        PREDRNN,
        task="next_frame",
        num_classes=None,
        preprocessing=_NEXT_PROTOCOL,
        geometry=_SQUARES,
        small={"hidden": 8, "layers": 2, "horizon": 2},
    ),
)

_MODELS = (*_FRAME_RNNS, *_MIN_RNNS, *_CONV_RNNS, *_TINY, *_NEXT_FRAMES)


@zoo.hookimpl
def zoo_models() -> Iterable[zoo.ModelSpec]:
    """The architectures of this family."""
    return _MODELS
