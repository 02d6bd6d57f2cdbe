"""Weights that a seed makes, and what PyTorchVideo's own builders say with them.

python tests/cnn_reference.py       write tests/data/cnn_logits.safetensors

That needs `pip install .[parity]`, and for MoViNet a checkout of github.com/Atze00/MoViNet-pytorch on the PYTHONPATH,
as nobody has put it on PyPI.

The networks here are those of the zoo with smaller crops: their windows cover 2 x 2 maps and the clips give 3 x 3, so
that one window is not all there is.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

import zoo
import zoo_cnn

FILE = Path(__file__).parent / "data" / "cnn_logits.safetensors"
SPECS = {spec.name: spec for spec in zoo_cnn.zoo_models()}
X3D = {f"x3d_{size}": SPECS[f"x3d_{size}"].kwargs for size in ("xs", "s", "m", "l")}
HUB = (
    *("c2d_r50", "i3d_r50", "slow_r50", "csn_r101", "r2plus1d_r50"),
    *("slowfast_r50", "slowfast_r101", "slowfast_16x8_r101_50_50"),
    *X3D,
)
WINDOW_FRAMES = {"c2d_r50": 2, "i3d_r50": 2, "slow_r50": 4, "csn_r101": 1, "r2plus1d_r50": 1}
SMALL = {  # frames of the small clips: more than a window, where the published head takes more
    **dict.fromkeys(HUB, 8),
    "c2d_r50": 6,
    "i3d_r50": 6,
    "slow_r50": 5,
    "csn_r101": 9,
    "r2plus1d_r50": 5,
    "x3d_xs": 4,
    "x3d_s": 5,
    "x3d_m": 3,
    "x3d_l": 3,
}
SIDE, WINDOW_SIDE = 96, 2


MOVINETS = tuple(name for name in SPECS if name.startswith("movinet"))
MOVINET_CLIP = (5, 47)  # frames and side: odd and even maps, so that TensorFlow's padding is on both sides


def build(name: str, **overrides: object) -> zoo.VideoModel:
    spec = SPECS[name]
    module, function = spec.builder.split(":")
    return getattr(import_module(module), function)(**{**spec.kwargs, **overrides})


def seeded(state: Mapping[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """Numbers for these keys, under which activations keep their size and every bias and statistic matters."""
    generator = torch.Generator().manual_seed(seed)
    out = {}
    for key in sorted(state):
        value = state[key]
        if not value.is_floating_point():
            out[key] = torch.ones_like(value)
            continue
        noise = torch.randn(value.shape, generator=generator)
        if key.endswith("running_var"):
            noise = 0.5 + noise.abs()
        elif value.ndim > 1:
            noise *= math.sqrt(2 / value[0].numel())
        elif key.endswith(".weight"):
            noise = (0.3 if "norm_c" in key or "project" in key else 1) * (1 + 0.2 * noise)
        else:
            noise *= 0.2
        out[key] = noise
    return out


def windows(name: str) -> list[int]:
    """Frames of the small windows, of SlowFast's for both pathways."""
    if name.startswith("slowfast"):
        return [SMALL[name] // 4, SMALL[name]]
    return [SMALL[name] if name in X3D else WINDOW_FRAMES[name]]


def clip(frames: int, side: int = SIDE, batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, frames, side, side, generator=torch.Generator().manual_seed(frames))


def small(name: str) -> zoo.VideoModel:
    """The zoo's network with seeded weights and small windows."""
    model = build(name)
    model.load_state_dict(seeded(model.state_dict()), strict=True)
    pool = model.head.pool if name in X3D else model.head
    pool.window = (windows(name)[0], WINDOW_SIDE, WINDOW_SIDE)
    return model.eval()


def reference(name: str, *, published: bool = False) -> nn.Module:
    """PyTorchVideo's network without the softmax it may end in; as published, or with small windows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorchvideo.models import hub

        model = getattr(hub, name)()
    if not published:
        pools = [module for module in model.modules() if isinstance(module, nn.AvgPool3d)]
        for pool, frames in zip(pools, windows(name), strict=True):
            pool.kernel_size = (frames, WINDOW_SIDE, WINDOW_SIDE)
    for module in model.modules():
        if isinstance(getattr(module, "activation", None), nn.Softmax):
            module.activation = None
    return model.eval()


def movinet_reference(name: str) -> nn.Module:
    """MoViNet-pytorch's network, as its published weights want it: with TensorFlow's padding."""
    from movinets import MoViNet
    from movinets.config import _C

    _, size, form = name.split("_")
    options = {"causal": form == "stream", "conv_type": "2plus1d" if form == "stream" else "3d"}
    return MoViNet(_C.MODEL[f"MoViNet{size.upper()}"], num_classes=600, tf_like=True, **options).eval()


def ask(model: nn.Module, name: str, x: Tensor) -> Tensor:
    """The reference's logits; SlowFast wants a list of two clips."""
    with torch.no_grad():
        if name.startswith("slowfast"):
            frames = x.shape[2]
            return model([x[:, :, torch.linspace(0, frames - 1, frames // 4).long()], x])
        return model(x)


def main() -> None:
    from safetensors.torch import save_file

    logits = {}
    for name in HUB:
        model = reference(name)
        model.load_state_dict(seeded(model.state_dict()), strict=True)
        logits[name] = ask(model, name, clip(SMALL[name]))[0].contiguous()
    for name in MOVINETS:
        model = movinet_reference(name)
        model.load_state_dict(seeded(model.state_dict()), strict=True)
        logits[name] = ask(model, name, clip(*MOVINET_CLIP))[0].contiguous()
    save_file(logits, FILE)


if __name__ == "__main__":
    main()
