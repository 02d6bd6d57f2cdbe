"""Networks of the family `transformer` within the contract: features, heads, copies, graphs, and clips they take."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import transformer_references as refs
from test_transformer import FAMILIES, STEPS, assert_close, build, clip_for, every_family, every_network, shaken, small
from torch import nn
from torchvision.models import video

from zoo.errors import GeometryError
from zoo.testing import perturb
from zoo.weights.skip_init import skip_init
from zoo_transformer.layers import DropPath, Mlp
from zoo_transformer.videomae import VideoMAE

# --- the contract -----------------------------------------------------------------------------------------------------


@every_network
def test_forward_is_the_head_of_the_features_and_leaves_its_input_alone(family):
    model, clip = shaken(family), clip_for(family)
    kept = clip.clone()
    features, logits = model.forward_features(clip), model(clip)  # with gradients, where there are no shortcuts
    assert torch.equal(model.forward_head(features), logits)
    assert model.forward_head(features, pre_logits=True).shape == (len(clip), model.num_features)
    rows = model.frame_features(features)
    assert torch.equal(clip, kept)
    assert logits.std() > 0
    assert rows.shape == (len(clip), STEPS[family], model.num_features)
    assert features.shape[1 if features.ndim == 5 else -1] == model.num_features


@every_network
def test_intermediates_are_the_outputs_of_the_stages_in_order(family):
    model, clip = shaken(family), clip_for(family)
    with torch.no_grad():
        everything = model.forward_intermediates(clip)
        last = model.forward_intermediates(clip, [-2, -1])
        assert torch.equal(everything[-1], model.forward_features(clip))
    assert len(everything) == len(model.stages())
    assert torch.equal(last[1], everything[-1]) and torch.equal(last[0], everything[-2])


@every_network
def test_features_know_when_and_where(family):
    """A change in the last frame is largest in the last time step, one on the right on the right."""
    model, clip = shaken(family), clip_for(family)
    later = clip.clone()
    later[:, :, -1:] += 3
    with torch.no_grad():
        start = model.frame_features(model.forward_intermediates(clip, [0])[0])
        change = (model.frame_features(model.forward_intermediates(later, [0])[0]) - start).abs().amax((0, 2))
    assert change.argmax() == len(change) - 1


@every_network
def test_layer_groups_hold_every_parameter_once_from_input_to_head(family):
    model = shaken(family)
    groups = model.layer_groups()
    names = [name for group in groups.values() for name in group]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert next(iter(groups)) == "embed" and list(groups)[-1] == "head"
    assert {"head.weight", "head.bias"} <= set(groups["head"])


@every_network
def test_the_classifier_can_be_replaced_and_removed(family):
    model, clip = copy.deepcopy(shaken(family)), clip_for(family)
    rows = model.forward_head(model.forward_features(clip), pre_logits=True)
    for count in (7, 0, 3):
        model.reset_classifier(count)
        assert model.num_classes == count
        wanted = (len(clip), count or model.num_features)
        assert model(clip).shape == wanted
        if not count:
            assert torch.equal(model(clip), rows)
    assert small(family, 0).num_classes == 0
    assert not any(name.startswith("head") for name in small(family, 0).state_dict())


@every_network
def test_gradient_checkpointing_gives_the_same_gradients(family):
    model, clip = copy.deepcopy(shaken(family)), clip_for(family)
    gradients = []
    for on in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(on)
        model(clip).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)
    assert all(gradient.any() for gradient in gradients[0]), "a parameter takes no part"


@every_network
def test_copies_and_pickles_say_the_same(family):
    model, clip = shaken(family), clip_for(family)
    with torch.no_grad():
        wanted = model(clip)
        assert torch.equal(copy.deepcopy(model)(clip), wanted)
        assert torch.equal(pickle.loads(pickle.dumps(model))(clip), wanted)
        assert_close(model(clip.flip(0)).flip(0), wanted)


@every_family
def test_what_is_computed_is_not_in_the_file_and_follows_the_model(family):
    with skip_init():
        model = refs.CASES[family].build()
    model.load_state_dict({k: v.clone() for k, v in refs.CASES[family].build().state_dict().items()}, assign=True)
    assert not any(t.is_meta for t in [*model.parameters(), *model.buffers()])
    assert not {name for name, _ in model.named_buffers()} & model.state_dict().keys()
    with torch.no_grad():
        assert model.double()(clip_for(family).double()).dtype == torch.float64
        assert model.bfloat16()(clip_for(family).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=[pytest.mark.slow] * (f in ("hiera", "swin3d"))) for f in [*FAMILIES, "swin3d"]]
)
def test_the_graph_has_no_breaks(family):
    torch._dynamo.reset()
    model, clip = copy.deepcopy(shaken(family)), clip_for(family)
    with torch.no_grad():
        assert_close(torch.compile(model, backend="eager", fullgraph=True)(clip), model(clip))


@pytest.mark.slow
@every_network
def test_an_exported_program_says_the_same(family):
    model, clip = shaken(family), clip_for(family)
    with torch.no_grad():
        assert_close(torch.export.export(model, (clip,)).module()(clip), model(clip))


# --- shortcuts of inference -------------------------------------------------------------------------------------------


class Wrapped(nn.Module):
    """What adapters do to a linear layer: its weight is there, and is not all that it does."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    weight = property(lambda self: self.layer.weight)
    bias = property(lambda self: self.layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.layer(x)
        return out + out.roll(1, -1)


@pytest.mark.parametrize("family", ["timesformer", "vivit"])
def test_where_only_logits_are_asked_for_the_last_layer_makes_one_token(family, monkeypatch):
    model, clip = shaken(family), clip_for(family)
    wanted = model(clip).detach()  # with gradients nothing is left out
    tokens = []
    plain = Mlp.forward
    monkeypatch.setattr(Mlp, "forward", lambda self, x: tokens.append(x[0, ..., 0].numel()) or plain(self, x))
    with torch.inference_mode():
        assert_close(model(clip), wanted)
    assert tokens[-1] == 1 < tokens[0]
    tokens.clear()
    with torch.no_grad():
        model.forward_features(clip)
    assert tokens[-1] == tokens[0]
    with pytest.raises(GeometryError), torch.no_grad():
        model(clip[:, :, :, :-1])


@pytest.mark.parametrize("family", ["timesformer", "vivit"])
def test_who_looks_into_the_network_sees_all_of_it(family):
    model, clip, seen = copy.deepcopy(shaken(family)), clip_for(family), []
    with torch.no_grad():
        wanted, features = model(clip), model.forward_intermediates(clip)
        inside = [model.blocks[-1], model.blocks[-1].mlp.fc1, model.blocks[0].attn.proj, model.norm]
        for module in inside:
            module.register_forward_hook(lambda _, __, out: seen.append(out))
        assert_close(model(clip), wanted)
        assert len(seen) == len(inside)
        proj, last, fc1, norm = (seen[i] for i in (0, 2, 1, 3))
        assert_close(last, features[-2])
        assert_close(norm, features[-1])
        assert fc1.min() < -0.2, "as it left the layer, before the activation"
        assert proj.shape[-1] == model.num_features


@pytest.mark.parametrize("family", ["timesformer", "vivit", "vjepa2"])
def test_what_is_put_around_a_layer_counts_with_gradients_and_without(family):
    model, clip = copy.deepcopy(shaken(family)), clip_for(family)
    before = model(clip).detach()
    names = [name for name, m in model.blocks.named_modules() if isinstance(m, nn.Linear)]
    for name in names:
        parent, _, child = name.rpartition(".")
        layer = model.blocks.get_submodule(name)
        setattr(model.blocks.get_submodule(parent), child, Wrapped(layer))
        wanted = model(clip).detach()
        assert (wanted - before).abs().max() > 1e-4 * before.abs().max(), name
        with torch.no_grad():
            assert_close(model(clip), wanted)
        setattr(model.blocks.get_submodule(parent), child, layer)


def test_the_activation_overwrites_nothing_but_its_own():
    torch.manual_seed(0)
    for name in ("gelu", "gelu_tanh", "relu"):
        mlp, x = Mlp(6, 20, name).eval(), torch.randn(3, 6)
        kept, wanted = x.clone(), mlp(x).detach()
        with torch.no_grad():
            assert torch.equal(mlp(x), wanted) and torch.equal(x, kept)
        assert torch.equal(mlp(x), wanted)


# --- geometry ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "shape"),
    [
        ("videomae", (3, 6, 8, 12)),
        ("videomae", (3, 4, 12, 8)),
        ("videomae", (4, 4, 8, 12)),
        ("vivit", (3, 6, 8, 8)),
        ("vivit", (3, 4, 12, 12)),
        ("timesformer", (3, 3, 10, 8)),
        ("timesformer", (3, 3, 8, 2)),
        ("vjepa2", (3, 5, 12, 12)),
        ("vjepa2", (3, 1, 12, 12)),
        ("vjepa2", (3, 4, 12, 14)),
        ("hiera", (3, 4, 64, 64)),
        ("hiera", (3, 6, 32, 32)),
    ],
)
def test_a_clip_that_the_method_has_no_answer_for_raises(family, shape):
    with pytest.raises(GeometryError):
        shaken(family)(torch.zeros(1, *shape))


@pytest.mark.parametrize(
    ("family", "shape"),
    [
        ("timesformer", (3, 7, 4, 16)),
        ("timesformer", (3, 1, 20, 8)),
        ("vjepa2", (3, 10, 4, 24)),
        ("vjepa2", (3, 2, 8, 8)),
    ],
)
def test_other_clips_work_where_places_can_be_made_for_them(family, shape):
    clip = refs.clip_of((2, *shape))
    with torch.no_grad():
        features = shaken(family).forward_features(clip)
        assert shaken(family)(clip).isfinite().all()
        steps = shape[1] if family == "timesformer" else shape[1] // 2
        assert shaken(family).frame_features(features).shape == (2, steps, shaken(family).num_features)


@pytest.mark.parametrize("name", ["swin3d_t"])
def test_swin_refuses_clips_that_its_reference_misreads(name):
    with torch.device("meta"):
        model = build(name)
    assert model.geometry.problem((1, 3, 1, 193, 250)) == ""
    with pytest.raises(GeometryError):
        model(torch.zeros(1, 3, 4, 192, 224))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mvit_v1_b", "mvit_v2_s"])
def test_mvit_keeps_the_contract(name):
    model = perturb(build(name, num_classes=3)).eval()
    clip = refs.clip_of((1, 3, 16, 224, 224))
    with torch.no_grad():
        everything, logits = model.forward_intermediates(clip), model(clip)
        assert torch.equal(model.forward_head(everything[-1]), logits)
        assert model.frame_features(everything[-1]).shape == (1, 8, 768)
        assert torch.equal(copy.deepcopy(model)(clip), logits)
        model.reset_classifier(0)
        assert torch.equal(model(clip), everything[-1][:, 0])
    names = [name for group in model.layer_groups().values() for name in group]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    with pytest.raises(GeometryError):
        model(torch.zeros(1, 3, 16, 256, 256))


@pytest.mark.parametrize("name", ["mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b"])
def test_the_names_are_torchvisions(name):
    with torch.device("meta"):
        theirs, ours = getattr(video, name)(weights=None).state_dict(), build(name).state_dict()
    assert [(k, v.shape) for k, v in ours.items()] == [(k, v.shape) for k, v in theirs.items()]


# --- training ---------------------------------------------------------------------------------------------------------


def test_drop_path_leaves_branches_out_in_training_and_makes_up_for_it():
    torch.manual_seed(0)
    drop, x = DropPath(0.25), torch.ones(4000, 2)
    out = drop(x)
    assert out.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert out[:, 0].equal(out[:, 1])
    assert abs(float(out.mean()) - 1) < 0.05
    assert drop.eval()(x) is x


def test_an_unknown_option_is_named():
    with pytest.raises(ValueError, match="pool='last'"):
        VideoMAE(pool="last")
