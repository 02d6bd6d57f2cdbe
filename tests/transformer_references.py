"""The implementations that the family `transformer` is compared with, with perturbed weights as they would be on disk.

Needs the extra `parity`. `python tests/transformer_references.py` writes the fixtures that the default tests read.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from zoo_transformer import layouts
from zoo_transformer.hiera import Hiera
from zoo_transformer.timesformer import TimeSformer
from zoo_transformer.videomae import VideoMAE
from zoo_transformer.vivit import ViViT
from zoo_transformer.vjepa2 import VJEPA2

FIXTURES = Path(__file__).parent / "fixtures"


@dataclass(frozen=True)
class Case:
    """One small network: kwargs of ours, the config of theirs, and a clip."""

    family: str
    ours: dict[str, Any]
    theirs: dict[str, Any]
    clip: tuple[int, ...]
    extra: dict[str, Any] = field(default_factory=dict)  # of theirs, where its class has no default for it

    def build(self) -> nn.Module:
        return NETWORKS[self.family](**self.ours).eval()


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "videomae": VideoMAE,
    "timesformer": TimeSformer,
    "vivit": ViViT,
    "vjepa2": VJEPA2,
    "hiera": Hiera,
}
LAYOUTS = {family: getattr(layouts, family) for family in NETWORKS}
LAYERS = {
    "videomae": "videomae.encoder.layer",
    "timesformer": "timesformer.encoder.layer",
    "vivit": "vivit.layers",
    "vjepa2": "vjepa2.encoder.layer",
}


def clip_of(shape: tuple[int, ...]) -> Tensor:
    """Numbers that need no file and no random state."""
    count = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return (torch.sin(count * 0.7) + torch.cos(count * count * 0.013)).float().view(shape)


def _vit(dim: int, heads: int, hidden: int, depth: int, classes: int) -> tuple[dict[str, Any], dict[str, Any]]:
    ours = {"dim": dim, "heads": heads, "hidden": hidden, "depth": depth, "num_classes": classes}
    theirs = {
        "hidden_size": dim,
        "num_attention_heads": heads,
        "intermediate_size": hidden,
        "num_hidden_layers": depth,
        "num_labels": classes,
    }
    return ours, theirs


def _case(
    family: str, size: tuple[int, int, int, int, int], clip: tuple[int, ...], theirs: dict[str, Any], **ours: Any
) -> Case:
    mine, yours = _vit(*size)
    return Case(family, mine | ours, yours | theirs, clip)


def _vjepa2(
    size: tuple[int, int, int, int], pooler: int, frames: int, side: int, clip: tuple[int, ...], **options: Any
) -> Case:
    dim, heads, depth, classes = size
    shared = {"patch_size": 4, "tubelet_size": 2, "mlp_ratio": 2.0, "qkv_bias": True, "hidden_act": "gelu"} | options
    theirs = {
        **shared,
        "hidden_size": dim,
        "num_attention_heads": heads,
        "num_hidden_layers": depth,
        "num_labels": classes,
        "num_pooler_layers": pooler,
        "frames_per_clip": frames,
        "crop_size": side,
        "pred_hidden_size": 12,
        "pred_num_attention_heads": 2,
        "pred_num_hidden_layers": 1,
    }
    ours = {
        "dim": dim,
        "heads": heads,
        "depth": depth,
        "num_classes": classes,
        "pooler_depth": pooler,
        "num_frames": frames,
        "image_size": side,
        "patch_size": shared["patch_size"],
        "tubelet": shared["tubelet_size"],
        "mlp_ratio": shared["mlp_ratio"],
        "bias": shared["qkv_bias"],
        "activation": "gelu_tanh" if shared["hidden_act"] == "gelu_new" else "gelu",
    }
    return Case("vjepa2", ours, theirs, clip)


def _hiera(dim: int, heads: int, depths: tuple[int, ...], frames: int, side: int, classes: int) -> Case:
    ours = {"dim": dim, "heads": heads, "depths": depths, "num_frames": frames, "image_size": side}
    theirs = {"embed_dim": dim, "num_heads": heads, "stages": depths, "input_size": (frames, side, side)}
    clip = (2, 3, frames, side, side)
    return Case("hiera", ours | {"num_classes": classes}, theirs | {"num_classes": classes}, clip)


CASES = {
    "videomae": _case(
        "videomae",
        (12, 3, 20, 2, 5),
        (2, 3, 4, 8, 12),
        {"image_size": (8, 12), "patch_size": 4, "num_frames": 4},
        image_size=(8, 12),
        patch_size=4,
        num_frames=4,
    ),
    "videomae_left_over": _case(
        "videomae",
        (36, 3, 50, 3, 7),
        (1, 3, 7, 20, 21),
        {
            "image_size": (20, 21),
            "patch_size": (8, 5),
            "num_frames": 7,
            "tubelet_size": 3,
            "hidden_act": "relu",
            "layer_norm_eps": 1e-3,
        },
        image_size=(20, 21),
        patch_size=(8, 5),
        num_frames=7,
        tubelet=3,
        activation="relu",
        eps=1e-3,
    ),
    "videomae_first_token": _case(
        "videomae",
        (20, 5, 33, 3, 4),
        (3, 1, 2, 16, 16),
        {
            "image_size": 16,
            "patch_size": 8,
            "num_frames": 2,
            "num_channels": 1,
            "tubelet_size": 1,
            "qv_bias": False,
            "use_mean_pooling": False,
        },
        image_size=16,
        patch_size=8,
        num_frames=2,
        channels=1,
        tubelet=1,
        bias=False,
        pool="first",
        final_norm="token",
    ),
    "timesformer": _case(
        "timesformer",
        (12, 3, 20, 2, 5),
        (2, 3, 3, 8, 8),
        {"image_size": 8, "patch_size": 4, "num_frames": 3},
        image_size=8,
        patch_size=4,
        num_frames=3,
    ),
    "timesformer_joint": _case(
        "timesformer",
        (36, 4, 50, 3, 7),
        (1, 3, 5, 24, 24),
        {"image_size": 24, "patch_size": 8, "num_frames": 5, "attention_type": "joint_space_time"},
        image_size=24,
        patch_size=8,
        num_frames=5,
        attention="joint_space_time",
    ),
    "timesformer_no_bias": _case(
        "timesformer",
        (20, 5, 33, 4, 4),
        (3, 1, 1, 16, 16),
        {"image_size": 16, "patch_size": 8, "num_frames": 1, "num_channels": 1, "qkv_bias": False},
        image_size=16,
        patch_size=8,
        num_frames=1,
        channels=1,
        bias=False,
    ),
    "vivit": _case(
        "vivit",
        (12, 3, 20, 2, 5),
        (2, 3, 4, 8, 8),
        {"image_size": 8, "tubelet_size": (2, 4, 4), "num_frames": 4},
        image_size=8,
        tubelet=(2, 4, 4),
        num_frames=4,
    ),
    "vivit_oblong": _case(
        "vivit",
        (36, 4, 50, 3, 7),
        (1, 3, 7, 16, 30),
        {"image_size": (16, 30), "tubelet_size": (3, 8, 5), "num_frames": 7, "hidden_act": "gelu"},
        image_size=(16, 30),
        tubelet=(3, 8, 5),
        num_frames=7,
        activation="gelu",
    ),
    "vivit_no_bias": _case(
        "vivit",
        (20, 5, 33, 4, 4),
        (3, 1, 2, 16, 16),
        {"image_size": 16, "tubelet_size": (1, 8, 8), "num_frames": 2, "num_channels": 1, "qkv_bias": False},
        image_size=16,
        tubelet=(1, 8, 8),
        num_frames=2,
        channels=1,
        bias=False,
    ),
    "vjepa2": _vjepa2((28, 2, 1, 5), 1, 4, 12, (2, 3, 4, 12, 12), mlp_ratio=1.0),
    "vjepa2_no_pooler_layers": _vjepa2((48, 3, 3, 7), 0, 6, 16, (1, 3, 6, 16, 16), tubelet_size=1, qkv_bias=False),
    "vjepa2_other_ratio": _vjepa2((44, 2, 2, 4), 2, 8, 20, (1, 3, 8, 20, 20), mlp_ratio=48 / 11, hidden_act="gelu_new"),
    "hiera": _hiera(2, 1, (1, 1, 1, 1), 4, 32, 5),
    "hiera_deep": _hiera(24, 2, (1, 2, 3, 2), 4, 64, 7),
    "hiera_long": _hiera(12, 3, (2, 1, 1, 1), 6, 96, 4),
}


def shake(network: nn.Module) -> nn.Module:
    """Move every parameter, as `zoo.testing.perturb` does, but wide matrices by less.

    N(0, 0.1) makes the attention of a wide network so sharp that rounding errors grow from layer to layer.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            matrix = parameter.ndim in (2, 4, 5)
            std = min(0.1, parameter[0].numel() ** -0.5) if matrix else 0.1
            parameter.add_(std * torch.randn(parameter.shape, generator=generator))
    return network


def reference(case: Case) -> nn.Module:
    """Theirs, perturbed, giving logits."""
    torch.manual_seed(0)
    if case.family == "hiera":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it imports timm by an old path
            from hiera import Hiera as Theirs
        video = {"q_stride": (1, 2, 2), "mask_unit_size": (1, 8, 8), "patch_kernel": (3, 7, 7)}
        video |= {"patch_stride": (2, 4, 4), "patch_padding": (1, 3, 3), "sep_pos_embed": True}
        network = shake(Theirs(**case.theirs, **video)).eval()
        network.head.act_func = nn.Identity()  # it gives probabilities otherwise
        return network
    import transformers

    names = {"videomae": "VideoMAE", "timesformer": "Timesformer", "vivit": "Vivit", "vjepa2": "VJEPA2"}
    config = getattr(transformers, f"{names[case.family]}Config")(**case.theirs)
    return shake(getattr(transformers, f"{names[case.family]}ForVideoClassification")(config)).eval()


def on_disk(network: nn.Module) -> dict[str, Tensor]:
    """The tensors as the library writes them, which is not as it holds them."""
    if not hasattr(network, "save_pretrained") or type(network).__module__.startswith("hiera"):
        return dict(network.state_dict())
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        return load_file(Path(folder) / "model.safetensors")


def run(network: nn.Module, case: Case, clip: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits, and what comes out of each layer."""
    hidden: list[Tensor] = []
    if case.family == "hiera":
        with torch.no_grad():
            logits, hidden = network(clip, return_intermediates=True)
        return logits, hidden
    layers = network.get_submodule(LAYERS[case.family])
    take = lambda _, __, out: hidden.append(out[0] if isinstance(out, tuple) else out)  # noqa: E731
    handles = [layer.register_forward_hook(take) for layer in layers]
    with torch.no_grad():
        logits = network(clip.transpose(1, 2)).logits
    for handle in handles:
        handle.remove()
    return logits, hidden


def like_theirs(family: str, features: Tensor) -> Tensor:
    """Our intermediate features in the shape of theirs."""
    if family == "hiera":
        return features.movedim(1, -1)
    if family == "timesformer":  # theirs are sorted by place, ours by frame
        return torch.cat((features[:, 0, :1], features[:, :, 1:].transpose(1, 2).flatten(1, 2)), 1)
    return features.flatten(2).transpose(1, 2) if features.ndim == 5 else features


def write_fixtures() -> None:
    """Weights in half precision, which the reference ran with, and its logits."""
    FIXTURES.mkdir(exist_ok=True)
    for family in NETWORKS:
        case = CASES[family]
        network = reference(case)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(parameter.half().float())
        logits, _ = run(network, case, clip_of(case.clip))
        tensors = {f"file.{name}": tensor.half().contiguous() for name, tensor in on_disk(network).items()}
        save_file(tensors | {"logits": logits}, FIXTURES / f"transformer_{family}.safetensors")


if __name__ == "__main__":
    sys.exit(write_fixtures())
