"""What models cost is what others have counted of them, and what a pencil says."""

from __future__ import annotations

from math import prod

import pytest
import torch
from torch import nn
from torchvision.models import get_model_weights

import zoo
from zoo.cost import Cost, build_on_meta, clip_of, cost_of, count
from zoo.errors import SpecError

TORCHVISION = {
    **dict.fromkeys(("r3d_18", "mc3_18", "r2plus1d_18"), (3, 16, 112, 112)),
    **dict.fromkeys(("s3d", "mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b"), (3, 16, 224, 224)),
}
# name: (frames, side, GFLOPs, whether batch norms are counted too). PySlowFast's figures of X3D are of the training
# crop, PyTorchVideo's of the test crop.
PUBLISHED = {
    "x3d_xs_psf": (4, 160, 0.60, False),
    "x3d_s_psf": (13, 160, 1.96, False),
    "x3d_m_psf": (16, 224, 4.73, False),
    "x3d_l_psf": (16, 312, 18.37, False),
    "slow_r50": (8, 256, 54.52, False),
    "slowfast_r50": (32, 256, 65.71, False),
    "c2d_r50": (8, 256, 25.89, True),
    "i3d_r50": (8, 256, 37.53, True),
    "r2plus1d_r50": (16, 256, 76.45, True),
    "csn_r101": (32, 256, 75.62, True),
    "slowfast_r101": (32, 256, 127.20, True),
    "slowfast_16x8_r101_50_50": (64, 256, 215.61, True),
    "x3d_xs": (4, 182, 0.91, True),
    "x3d_s": (13, 182, 2.96, True),
    "x3d_m": (16, 256, 6.72, True),
    "x3d_l": (16, 356, 26.64, True),
}
QUICK = {"x3d_xs_psf", "x3d_s_psf", "slow_r50", "slowfast_r50", "c2d_r50", "x3d_s"}
NORM = 5  # operations of a batch norm for each number, as fvcore counted them when PyTorchVideo's table was made


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_counts_the_same_to_its_last_digit(name):
    cost = count(build_on_meta(zoo.info(name)), TORCHVISION[name])
    for published in get_model_weights(name):
        assert round(cost.gflops, 3) == published.meta["_ops"]
        assert cost.params == published.meta["num_params"] == zoo.info(name).params


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in PUBLISHED])
def test_the_tables_of_pyslowfast_and_pytorchvideo_say_the_same(name):
    """Within 0.01: their two digits round by half of that, and in X3D fvcore also counts the pooling of its gates."""
    frames, side, published, with_norms = PUBLISHED[name]
    model = build_on_meta(zoo.info(name))
    norms = []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.register_forward_hook(lambda module, inputs, output: norms.append(output.numel()))
    cost = count(model, (3, frames, side, side))
    assert cost.params == zoo.info(name).params
    counted = cost.gflops + with_norms * NORM * sum(norms) / 1e9
    assert counted == pytest.approx(published, abs=0.01, rel=0)


def vit(dim, depth, hidden, tokens, tube, classes, *, with_class_token=False):
    """Multiply-adds of a plain vision transformer, from its definition."""
    n = tokens + with_class_token
    layer = n * dim * (3 * dim + dim + 2 * hidden) + 2 * n * n * dim  # q, k, v, out, two of the MLP; scores, mixing
    return tokens * prod(tube) * 3 * dim + depth * layer + dim * classes


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("videomae_small", vit(384, 12, 1536, 8 * 14 * 14, (2, 16, 16), 400)),
        ("videomae_base", vit(768, 12, 3072, 8 * 14 * 14, (2, 16, 16), 400)),
        ("videomae_large", vit(1024, 24, 4096, 8 * 14 * 14, (2, 16, 16), 400)),
        ("vivit_b_16x2", vit(768, 12, 3072, 16 * 14 * 14, (2, 16, 16), 400, with_class_token=True)),
    ],
)
def test_transformers_cost_what_their_definition_says_attention_included(name, expected):
    assert cost_of(zoo.info(name)).multiply_adds == expected


def test_weights_are_counted_with_their_own_options_and_clip():
    spec = zoo.info("videomae_base")
    encoder = spec.weights["mae_k400"]
    assert cost_of(spec).params == spec.params
    head = 768 * 400 + 400
    assert cost_of(spec, encoder).params == spec.params - head
    long = zoo.info("timesformer_large")  # 96 frames; these weights have 64, and 174 classes instead of 400
    cost = cost_of(long, long.weights["ssv2"])
    assert cost.clip[1] == 64
    assert cost.params == long.params - (96 - 64) * 768 - (400 - 174) * (768 + 1)
    assert clip_of(zoo.ModelSpec(name="a", builder="x:y", geometry=zoo.Geometry(frames=8, size=(32, 64)))) == (
        3,
        8,
        32,
        64,
    )


class Convolution(zoo.VideoModel):
    def __init__(self, groups):
        super().__init__()
        self.num_features, self.num_classes = 8, 0
        self.conv = nn.Conv3d(4, 8, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2), groups=groups)

    def stages(self):
        return {"conv": self.conv}

    def forward_head(self, features, pre_logits=False):
        if self.conv.groups == 4:
            features = features[:, :, : int(features.sum())]
        return features.mean((2, 3, 4))


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_costs_its_outputs_times_its_kernel(groups):
    with torch.device("meta"):
        model = Convolution(groups)
    outputs = 8 * 6 * 10 * 12
    assert count(model, (4, 6, 20, 24)) == Cost(
        model.conv.weight.numel() + 8, outputs * 75 * 4 // groups, (4, 6, 20, 24)
    )


def test_a_model_that_looks_at_values_cannot_be_counted():
    with torch.device("meta"):
        model = Convolution(4)
    with pytest.raises(SpecError, match="does not run with shapes only"):
        count(model, (4, 6, 20, 24))
