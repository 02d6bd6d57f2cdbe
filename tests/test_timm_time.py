"""What the frames of a clip have to do with each other: temporal shift, inflation and heads over time."""

from __future__ import annotations

import pytest
import timm
import torch
from timm_models import a_clip, away, fresh
from torch import Tensor, nn

import zoo
from zoo.errors import GeometryError, SpecError
from zoo_timm.heads import HEADS
from zoo_timm.mixing import temporal_shift


def test_the_shift_is_the_published_one():
    # ops/temporal_shift.py, by hand: 16 channels, fold = 16 // 8 = 2; frame t of channel c is 100 * t + c.
    clip = torch.arange(4.0)[:, None] * 100 + torch.arange(16.0)  # [T, C]
    shifted = temporal_shift(torch.cat((clip, clip + 1000))[..., None, None], 4)[..., 0, 0]
    for start in (0, 4):  # two clips do not touch
        one, base = shifted[start : start + 4], clip + 1000 * (start > 0)
        assert torch.equal(one[:3, :2], base[1:, :2])
        assert torch.equal(one[3, :2], torch.zeros(2))
        assert torch.equal(one[1:, 2:4], base[:3, 2:4])
        assert torch.equal(one[0, 2:4], torch.zeros(2))
        assert torch.equal(one[:, 4:], base[:, 4:])


def reference_shift(x: Tensor, segments: int) -> Tensor:
    """The equations of the paper, one frame at a time."""
    out, fold = torch.zeros_like(x), x.shape[1] // 8
    for i in range(len(x)):
        t = i % segments
        out[i, 2 * fold :] = x[i, 2 * fold :]
        if t + 1 < segments:
            out[i, :fold] = x[i + 1, :fold]
        if t > 0:
            out[i, fold : 2 * fold] = x[i - 1, fold : 2 * fold]
    return out


@pytest.mark.parametrize("arch", ["test_resnet", "mobilenetv2_035", "regnetx_002", "res2net50_26w_4s"])
def test_networks_shift_where_it_is_published(arch):
    """Against timm's own network with hooks before the first convolution of each residual block."""
    model, clip = fresh(f"timm/{arch}", shift=True), a_clip(frames=5)
    network = timm.create_model(arch)
    network.reset_classifier(0)
    network.load_state_dict({k.removeprefix("backbone."): v for k, v in model.state_dict().items() if "backbone" in k})
    network.eval()
    hooked = 0
    for block in network.modules():
        first = getattr(block, "conv1", None) or getattr(block, "conv_pw", None)
        kind = type(block).__name__
        if kind in ("BasicBlock", "Bottleneck", "Bottle2neck") or (kind == "InvertedResidual" and block.has_skip):
            first.register_forward_pre_hook(lambda _, args: (reference_shift(args[0], 5),))
            hooked += 1
    assert hooked >= 2
    with torch.no_grad():
        theirs = network(clip.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 5))
        assert away(model.forward_features(clip), theirs) < 1e-5
        assert away(model(clip.flip(2)), model(clip)) > 1e-3  # it sees order


def test_in_long_stages_every_other_block_shifts():
    from zoo_timm.mixing import ShiftedConv2d

    with torch.device("meta"):
        model = zoo.build("timm/resnet101", shift=True)
    blocks = [isinstance(block.conv1, ShiftedConv2d) for block in model.backbone.layer3]
    assert blocks == [i % 2 == 0 for i in range(23)]


@pytest.mark.parametrize("arch", ["test_vit", "test_convnext", "vgg11"])
def test_architectures_without_such_blocks_refuse_to_shift(arch):
    with torch.device("meta"), pytest.raises(SpecError, match="no residual blocks that shift"):
        zoo.build(f"timm/{arch}", shift=True)


INFLATED = ("test_resnet", "resnet18d", "densenet121", "vgg11_bn", "repvgg_a0", "dla34")


@pytest.mark.parametrize("arch", INFLATED)
def test_inflated_networks_say_of_a_still_clip_what_they_say_of_its_frame(arch):
    from zoo_timm.mixing import inflated

    flat, deep = fresh(f"timm/{arch}", num_classes=0), zoo.build(f"timm/{arch}", num_classes=0, inflate=3).eval()
    states = deep.state_dict()
    deep.load_state_dict({k: inflated(v, 3) if v.ndim < states[k].ndim else v for k, v in flat.state_dict().items()})
    still = a_clip(2, 1, 64).expand(2, 3, 4, 64, 64)
    moving = a_clip(2, 4, 64)
    with torch.no_grad():
        assert away(deep.forward_features(still), flat.forward_features(still)) < 1e-5
        early = [model.forward_intermediates(moving, [0])[0] for model in (deep, flat)]
    assert away(*early) > 1e-3


@pytest.mark.parametrize("arch", ["test_resnet", "test_vit"])
def test_stacked_frames_are_channels_of_one_picture(arch):
    model = fresh(f"timm/{arch}", num_classes=5, stack=3, img_size=64 if arch == "test_vit" else None)
    network, clip = model.backbone, a_clip(2, 6, 64)
    assert model.geometry.problem(clip.shape) == "" and model.geometry.frames_multiple == 3
    pictures = [torch.cat(list(clip[:, :, at : at + 3].unbind(2)), 1) for at in (0, 3)]
    with torch.no_grad():
        wanted = torch.stack([network(picture) for picture in pictures], 1)
        assert away(model.forward_features(clip), wanted) < 1e-5
        assert away(model(clip.flip(2)), model(clip)) > 1e-4
        assert model.forward_intermediates(clip, [0])[0].shape[:3:2] == (2, 2)
    with pytest.raises(GeometryError, match="5 frames"):
        model(clip[:, :, :5])


def test_the_protocol_has_as_many_frames_as_fit():
    assert zoo.build("timm/test_resnet", stack=5).preprocessing.num_frames == 10
    assert zoo.build("timm/test_resnet", stack=4).preprocessing.num_frames == 8
    assert zoo.build("vit_c_tiny", num_frames=16).preprocessing.num_frames == 16


@pytest.mark.parametrize("options", [{"stack": 2}, {"shift": True}, {"temporal": "tcn"}])
def test_one_graph_is_for_any_number_of_clips(options):
    """However many pictures go through the network at once."""
    from zoo.deploy.trace import trace

    model = fresh(num_classes=5, frame_chunk=2, **options)
    graph = trace(model, (3, 4, 64, 64)).module()
    for batch in (1, 7):
        clips = a_clip(batch, 4, 64)
        with torch.no_grad():
            assert away(graph(clips)[0], model(clips)) < 1e-5


@pytest.mark.parametrize("arch", ["seresnet50", "regnety_002", "efficientnet_b0", "test_vit", "mobilenetv3_small_050"])
def test_other_architectures_refuse_inflation(arch):
    with torch.device("meta"), pytest.raises(SpecError, match="not known to be itself"):
        zoo.build(f"timm/{arch}", inflate=3)


@pytest.mark.parametrize("temporal", HEADS)
def test_heads_over_time(temporal):
    model, clip = fresh(temporal=temporal), a_clip(frames=5)
    with torch.no_grad():
        logits, backwards, longer = model(clip), model(clip.flip(2)), model(a_clip(frames=9))
    assert logits.shape == longer.shape == (2, 400)
    sees_order = away(backwards, logits) > 1e-4
    assert sees_order == (temporal in ("lstm", "gru", "tcn", "transformer"))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_recurrent_heads_are_torchs(cell):
    model, clip = fresh(temporal=cell, temporal_options={"hidden": 24, "layers": 2}), a_clip()
    rnn = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](model.num_features, 24, 2, batch_first=True)
    rnn.load_state_dict(model.temporal.rnn.state_dict())
    with torch.no_grad():
        features = model.forward_features(clip)
        assert away(model.forward_head(features, pre_logits=True), rnn(features)[0][:, -1]) < 1e-6


def test_a_learned_head_of_a_model_from_a_file_has_fresh_values():
    from zoo_timm.heads import temporal_head

    for name in HEADS:
        for key, values in temporal_head(name, 24, {}).state_dict().items():
            assert values.isfinite().all()
            assert values.ndim == 1 or values.std() > 0, (name, key)
