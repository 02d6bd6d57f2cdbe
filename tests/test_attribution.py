"""Maps find what the answer depends on, in place and in time, and are lost with the weights."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from test_pictures import packets, with_sound
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
from zoo.attribution.attention import Watched
from zoo.attribution.methods import METHODS, contributions
from zoo.cli import commands
from zoo.errors import SpecError
from zoo.tasks import as_model
from zoo.video import probe, read_frames

FRAMES, SIZE, SIDE, FPS = 16, (64, 80), 16, 10
HERE = range(4, 11)  # the frames that show the patch


def places():
    """Top and left of the patch in each frame."""
    return [(2 + 3 * t, 60 - 4 * t) for t in range(FRAMES)]


@pytest.fixture(scope="module")
def video():
    """Grey noise, in which a red patch moves for a while."""
    frames = np.random.default_rng(0).integers(40, 200, (FRAMES, *SIZE, 1)).repeat(3, -1).astype(np.uint8)
    for t in HERE:
        top, left = places()[t]
        frames[t, top : top + SIDE, left : left + SIDE] = (230, 20, 20)
    return frames


class Planted(zoo.VideoModel):
    """Says how red a clip is; made by hand, so that what counts is known."""

    def __init__(self) -> None:
        super().__init__()
        self.num_features, self.num_classes, self.labels = 2, 2, ("grey", "red")
        self.look = nn.Conv3d(3, 2, 1, bias=False)
        self.look.weight.data = torch.tensor([[1.0, -0.5, -0.5], [0.3, 0.3, 0.3]])[..., None, None, None]
        self.pool = nn.AvgPool3d((1, 8, 8))
        self.fc = nn.Linear(2, 2, bias=False)
        self.fc.weight.data = torch.tensor([[-1.0, 0.1], [1.0, -0.1]])
        self.preprocessing = zoo.Preprocessing(
            num_frames=FRAMES, sampler="consecutive", resize=64, mean=(0.0,) * 3, std=(1.0,) * 3
        )

    def forward_features(self, clip: Tensor) -> Tensor:
        return self.pool(self.look(clip).relu())

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        return self.fc(features.mean((2, 3, 4)))


class Attending(Planted):
    """The same, whose tokens all look at what is red; with a token without a place in front."""

    def __init__(self, extra: int = 0) -> None:
        super().__init__()
        self.extra = extra

    def forward_features(self, clip: Tensor) -> Tensor:
        tokens = super().forward_features(clip).flatten(2).transpose(1, 2)[:, None]  # [B, 1, N, 2]
        tokens = F.pad(tokens, (0, 0, self.extra, 0))
        query = torch.tensor([60.0, 0.0]).expand_as(tokens)
        return tokens[:, 0] + F.scaled_dot_product_attention(query, tokens, tokens)[:, 0]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        return self.fc(features[:, 0] if self.extra else features.mean(1))

    def frame_features(self, features: Tensor) -> Tensor:
        return features[:, self.extra :].unflatten(1, (FRAMES, -1)).mean(2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("extra", [0, 1])
def test_a_moving_patch_is_found_where_and_when_it_is(video, method, extra):
    model = Attending(extra) if method == "rollout" or extra else Planted()
    if extra and method == "gradcam":
        pytest.skip("the label depends on the token without a place alone")
    found = zoo.attribute(model, video, fps=FPS, label="red", method=method)
    assert found.heat.shape == (FRAMES, *SIZE) and found.heat.max() == 1 and found.heat.min() >= 0
    assert found.indices == list(range(FRAMES)) and found.times_s == pytest.approx([t / FPS for t in range(FRAMES)])
    shares = found.heat.mean((1, 2))
    assert shares[list(HERE)].min() > 1.5 * shares[[t for t in range(FRAMES) if t not in HERE]].max()
    for t in HERE:
        (top, left), (y, x) = places()[t], divmod(int(found.heat[t].argmax()), SIZE[1])
        assert top - 4 <= y < top + SIDE + 4 and left - 4 <= x < left + SIDE + 4, "within half of a patch"


def test_auto_takes_what_the_network_allows(video):
    methods = {type(m): zoo.attribute(m, video, fps=FPS).method for m in (Planted(), Attending(1))}
    assert methods == {Planted: "gradcam", Attending: "integrated_gradients"}
    found = zoo.attribute(Planted(), video, fps=FPS)
    assert found.label == found.prediction.top[0].label == "grey"


def test_gradcam_is_the_class_activation_map_of_zhou_et_al(video):
    """Of a linear layer after the mean, equation 2 of https://arxiv.org/abs/1512.04150, but for a factor."""
    model = Planted()
    clip = zoo.load_clips(model, video, fps=FPS).data
    features = model.forward_features(clip)[0]
    expected = torch.einsum("c,cthw->thw", model.fc.weight[1], features).relu() / features[0].numel()
    torch.testing.assert_close(METHODS["gradcam"](model, clip, 1), expected)


def test_rollout_is_the_product_of_the_attention_that_pytorch_returns():
    torch.manual_seed(0)
    layers = [nn.MultiheadAttention(16, 4, batch_first=True) for _ in range(3)]
    x = torch.randn(1, 9, 16)
    product = torch.eye(9)
    with Watched() as seen:
        for layer in layers:
            _, weights = layer(x, x, x, need_weights=True)
            product = (weights[0] + torch.eye(9)) / 2 @ product
            q, k, v = F.linear(x, layer.in_proj_weight, layer.in_proj_bias).unflatten(-1, (3, 4, 4)).unbind(2)
            F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (q, k, v)))
    torch.testing.assert_close(seen.product, product)
    assert not seen.other


@pytest.mark.parametrize("make", [Planted, lambda: as_model("r2plus1d_tiny")])
def test_contributions_add_up_to_the_logit(make):
    """Completeness, proposition 1 of https://arxiv.org/abs/1703.01365, whose authors take 5 % for enough."""
    model, clip = make(), torch.rand(1, 3, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(clip)[0, 1] - model(torch.zeros_like(clip))[0, 1]
    assert contributions(model, clip, 1).sum() == pytest.approx(float(expected), rel=0.05)


def rank_correlation(a, b):
    ranks = [x.flatten().argsort().argsort().double() for x in (a, b)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


@pytest.mark.parametrize(
    ("method", "motions"),
    [
        ("gradcam", ("zoom_in", "pan_left", "roll_cw", "tilt_up")),
        pytest.param("integrated_gradients", ("zoom_in", "tilt_up"), marks=pytest.mark.slow),
    ],
)
def test_random_weights_destroy_the_map(method, motions):
    """The sanity check of Adebayo et al., https://arxiv.org/abs/1810.03292; noise that changes no answer does not."""
    model = as_model("r2plus1d_tiny")
    randoms = []
    for seed in range(3):
        torch.manual_seed(seed)
        randoms.append(zoo.build("r2plus1d_tiny", num_classes=9).eval())
        randoms[-1].labels, randoms[-1].preprocessing = model.labels, model.preprocessing
    same, other = [], []
    for seed, motion in enumerate(motions):
        clip = zoo.synth.generate(motion, seed=3 + seed, duration_s=2.0, fps=25, size=(96, 128))
        frames = np.asarray(clip.frames)
        noisy = np.clip(frames + np.random.default_rng(0).integers(-2, 3, frames.shape), 0, 255).astype(np.uint8)
        options = {"fps": clip.fps, "method": method, "views": "fast", "label": motion}
        heat = zoo.attribute(model, frames, **options).heat
        same.append(rank_correlation(heat, zoo.attribute(model, noisy, **options).heat))
        other += [rank_correlation(heat, zoo.attribute(random, frames, **options).heat) for random in randoms]
    assert min(same) > 0.95
    assert np.abs(other).mean() < 0.5, other


def test_other_weights_attend_elsewhere():
    """The same of rollout, for networks whose attention is sharp, as that of trained ones."""
    clip = zoo.synth.generate("zoom_in", seed=3, duration_s=2.0, fps=25, size=(96, 128))
    frames = np.asarray(clip.frames)
    noisy = np.clip(frames + np.random.default_rng(0).integers(-2, 3, frames.shape), 0, 255).astype(np.uint8)

    def rolled(seed, frames):
        torch.manual_seed(seed)
        model = zoo.build("videomae_tiny", num_classes=3).eval()
        for block in model.modules():
            if hasattr(block, "qkv"):
                block.qkv.weight.data *= 8
        return zoo.attribute(model, frames, fps=clip.fps, views="fast", method="rollout").heat

    maps = [rolled(seed, frames) for seed in range(4)]
    assert rank_correlation(maps[0], rolled(0, noisy)) > 0.95
    other = [rank_correlation(a, b) for a, b in itertools.combinations(maps, 2)]
    assert np.abs(other).mean() < 0.5, other


def test_crops_and_clips_meet_on_the_frame_and_what_none_has_is_cold(video):
    model = Planted()
    model.preprocessing = zoo.Preprocessing(
        num_frames=8, sampler="consecutive", resize=64, crop=32, clips=2, crops=1, mean=(0.0,) * 3, std=(1.0,) * 3
    )
    found = zoo.attribute(model, video, fps=FPS, label="red")
    clips = zoo.load_clips(model, video, fps=FPS)
    assert found.indices == sorted({i for frames in clips.indices for i in frames})
    assert found.heat.shape == (len(found.indices), *SIZE)
    top, left, height, width = clips.crops[0]
    outside = found.heat.clone()
    outside[:, top : top + height, left : left + width] = 0
    assert not outside.any() and found.heat.any()


@pytest.mark.parametrize(
    "name",
    [
        "convgru_tiny",
        "videomae_tiny",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("tsm_tiny", "timm/test_vit")),
    ],
)
def test_every_family_can_be_asked_and_is_left_as_it_was(name, video):
    torch.manual_seed(0)
    model = zoo.build(name, num_classes=3).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = zoo.attribute(model, video, fps=FPS, views="fast")
    assert found.heat.isfinite().all() and found.heat.std() > 0
    assert model.training and all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_attention_is_rolled_out_where_blocks_attend_to_all(video):
    found = zoo.attribute(zoo.build("videomae_tiny", num_classes=3), video, fps=FPS, views="fast", method="rollout")
    assert found.heat.std() > 0
    with pytest.raises(SpecError, match=r'rollout.*method="integrated_gradients"'):
        zoo.attribute(zoo.build("convgru_tiny", num_classes=3), video, fps=FPS, views="fast", method="rollout")


def test_what_cannot_be_asked_says_so(video):
    for options, match in (
        ({"label": "rad"}, "no label 'rad'.* red"),
        ({"method": "magic"}, "auto, gradcam, integrated_gradients, rollout"),
        ({"views": (0, 1)}, "views"),
    ):
        with pytest.raises(SpecError, match=match):
            zoo.attribute(Planted(), video, fps=FPS, **options)
    with pytest.raises(SpecError, match="one video at a time"):
        zoo.attribute(Planted(), ["a.mp4", "b.mp4"])
    with pytest.raises(SpecError, match="next_frame"):
        zoo.attribute(zoo.build("convlstm_next", **zoo.info("convlstm_next").small), video, fps=FPS)
    with pytest.raises(SpecError, match="no classifier"):
        zoo.attribute(zoo.build("r2plus1d_tiny", num_classes=0), video, fps=FPS)


def test_the_overlay_is_warm_where_it_counts_and_keeps_times_and_sound(tmp_path):
    source, made = tmp_path / "in.mp4", tmp_path / "out.mp4"
    with_sound(source)
    model = Planted()
    model.preprocessing = zoo.Preprocessing(num_frames=8, stride=2, sampler="consecutive", resize=64)
    found = zoo.attribute(model, source, views="fast")
    found.overlay(made)
    assert list(probe(made).time_s) == list(probe(source).time_s)
    assert packets(made, "audio") == packets(source, "audio")
    seen, far = found.indices[4], 0 if found.indices[0] > 4 else 49
    before, after = (read_frames(path, [seen, seen + 1, far]).data.astype(int) for path in (source, made))
    changed = np.abs(before - after).mean((1, 2, 3))
    assert changed[0] > 5 and changed[1] > 5 and changed[2] < 3, "far from all frames that were seen there is none"


def test_the_command_writes_frames_or_the_video(tmp_path):
    source = tmp_path / "in.mp4"
    with_sound(source, seconds=1)
    for name in ("looked.png", "looked.mp4"):
        done = CliRunner().invoke(commands, ["predict", str(source), "--attribution", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
    with Image.open(tmp_path / "looked.png") as sheet:
        assert np.asarray(sheet).std() > 10
    assert probe(tmp_path / "looked.mp4").n_frames == 25
