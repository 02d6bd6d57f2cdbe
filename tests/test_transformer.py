"""The family `transformer`: equal to its references on committed fixtures, strict about files, and within the contract.

The references themselves run in test_transformer_parity.py; here are small networks of every kind, and whole ones on
the meta device.
"""

from __future__ import annotations

import copy
import functools
import pickle
import subprocess
import sys
from importlib import import_module

import pytest
import torch
import transformer_references as refs
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import video

import zoo
import zoo_transformer
from zoo.errors import GeometryError
from zoo.testing import perturb
from zoo.weights import skip_init
from zoo_transformer import layouts
from zoo_transformer.hiera import from_windows, halve, to_windows
from zoo_transformer.layers import DropPath, PatchEmbed
from zoo_transformer.swin3d import Swin3D
from zoo_transformer.videomae import VideoMAE, sine_table
from zoo_transformer.vjepa2 import Rotary

SPECS = {spec.name: spec for spec in zoo_transformer.zoo_models()}
FAMILIES = tuple(refs.NETWORKS)
STEPS = {"videomae": 2, "timesformer": 3, "vivit": 2, "vjepa2": 2, "hiera": 2, "swin3d": 2}  # T' of the small clips

every_family = pytest.mark.parametrize("family", FAMILIES)
every_network = pytest.mark.parametrize("family", [*FAMILIES, "swin3d"])
every_spec = pytest.mark.parametrize("name", SPECS)


def fixture(family: str) -> tuple[dict[str, Tensor], Tensor]:
    """A file as its library writes it, and the logits that the library gets with it."""
    tensors = load_file(refs.FIXTURES / f"transformer_{family}.safetensors")
    file = {name.removeprefix("file."): t.float() for name, t in tensors.items() if name.startswith("file.")}
    return file, tensors["logits"]


def build(name: str, **overrides: object) -> zoo.VideoModel:
    spec = SPECS[name]
    module, function = spec.builder.split(":")
    model: zoo.VideoModel = getattr(import_module(module), function)(**{**spec.kwargs, **overrides})
    model.geometry = model.geometry or spec.geometry  # as the factory does
    return model


def small(family: str, num_classes: int = 5) -> zoo.VideoModel:
    torch.manual_seed(0)
    if family == "swin3d":
        sizes = [2, 4, 4], 12, [1, 1, 2, 1], [1, 1, 2, 2], [2, 2, 2]
        return Swin3D(lambda weights, **n: video.SwinTransformer3d(*sizes, **n), num_classes)
    return refs.NETWORKS[family](**refs.CASES[family].ours | {"num_classes": num_classes})


def clip_for(family: str) -> Tensor:
    return refs.clip_of((2, 3, 4, 32, 48) if family == "swin3d" else refs.CASES[family].clip)


@functools.cache
def shaken(family: str) -> zoo.VideoModel:
    """Read only."""
    model = perturb(small(family)).eval()
    assert isinstance(model, zoo.VideoModel)
    return model


def assert_close(got: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    assert got.shape == wanted.shape and wanted.isfinite().all()
    assert (got - wanted).abs().max() <= tolerance * wanted.abs().max()


# --- the references, by their numbers ---------------------------------------------------------------------------------


@every_family
def test_logits_of_a_published_layout_are_those_of_its_library(family):
    file, logits = fixture(family)
    model = refs.CASES[family].build()
    model.load_state_dict(refs.LAYOUTS[family](file), strict=True)
    with torch.no_grad():
        assert_close(model(clip_for(family)), logits)


def test_the_fixtures_are_small():
    assert sum(path.stat().st_size for path in refs.FIXTURES.glob("transformer_*")) < 200_000


@every_family
def test_a_file_with_a_name_too_few_or_too_many_is_refused(family):
    file, _ = fixture(family)
    wanted = {name: t.shape for name, t in refs.CASES[family].build().state_dict().items()}

    def fits(tensors: dict[str, Tensor]) -> bool:
        try:
            found = refs.LAYOUTS[family](tensors)
        except (KeyError, ValueError):
            return False
        return {name: t.shape for name, t in found.items()} == wanted

    assert fits(file)
    dropped = {name for name in file if ".predictor." in name}
    assert family != "vjepa2" or dropped
    for name in file.keys() - dropped:
        assert not fits({key: t for key, t in file.items() if key != name}), f"without {name}"
        assert not fits({key + "x" * (key == name): t for key, t in file.items()}), f"with {name}x instead"
    assert not fits(file | {"surplus": torch.zeros(1)})
    assert fits({name: t for name, t in file.items() if name not in dropped})


@every_family
def test_converting_changes_neither_the_dictionary_nor_the_tensors(family):
    file, _ = fixture(family)
    before = {name: t.clone() for name, t in file.items()}
    refs.LAYOUTS[family](file)
    assert file.keys() == before.keys() and all(torch.equal(file[name], t) for name, t in before.items())


def test_both_names_for_the_biases_of_videomae_are_read():
    file, _ = fixture("videomae")
    names = {"query.bias": "q_bias", "value.bias": "v_bias"}
    newer, old = dict(file), any(name.endswith("q_bias") for name in file)
    for name in file:
        for new, older in names.items():
            theirs, other = (older, new) if old else (new, older)
            if name.endswith(theirs):
                newer[name.removesuffix(theirs) + other] = newer.pop(name)
    assert newer.keys() != file.keys()
    wanted, found = layouts.videomae(file), layouts.videomae(newer)
    assert wanted.keys() == found.keys() and all(torch.equal(wanted[k], t) for k, t in found.items())
    assert any(k.endswith("q_bias") and t.any() for k, t in found.items())
    mixed = {name.replace("value.bias", "v_bias").replace("v_bias", "value.bias"): t for name, t in file.items()}
    if mixed.keys() not in (file.keys(), newer.keys()):
        with pytest.raises(KeyError):
            layouts.videomae(mixed)


@every_family
def test_a_bare_encoder_has_the_same_names_without_the_prefix(family):
    if family == "hiera":
        return
    file, _ = fixture(family)
    bare = {name.removeprefix(f"{family}."): t for name, t in file.items()}
    assert bare.keys() != file.keys()
    assert layouts.__dict__[family](bare).keys() == layouts.__dict__[family](file).keys()


def test_the_table_of_sines_is_that_of_the_formula():
    table = sine_table(7, 5)
    for place in range(7):
        for channel in range(5):
            angle = torch.tensor(place / 10000 ** (2 * (channel // 2) / 5), dtype=torch.float64)
            wanted = angle.cos() if channel % 2 else angle.sin()
            assert abs(float(table[place, channel]) - float(wanted)) < 1e-7


def test_patches_are_what_a_convolution_makes_of_them():
    torch.manual_seed(0)
    convolution = nn.Conv3d(3, 11, (2, 4, 5), (2, 4, 5))
    patches = PatchEmbed((2, 4, 5), 3, 11)
    patches.proj.weight = nn.Parameter(convolution.weight.flatten(1).detach())
    patches.proj.bias = convolution.bias
    clip = torch.randn(2, 3, 5, 13, 17)  # with something left over on all sides
    with torch.no_grad():
        assert_close(patches(clip).movedim(-1, 1), convolution(clip), 1e-6)


def test_the_places_of_vjepa2_do_not_depend_on_the_table_that_was_made_beforehand():
    qk, grid = torch.randn(2, 5 * 4 * 3, 2, 2, 14), (5, 4, 3)
    wanted = Rotary(14, (9, 9, 9))(qk, grid)
    assert torch.equal(Rotary(14, grid)(qk, grid), wanted)
    assert torch.equal(Rotary(14, (2, 9, 9))(qk, grid), wanted)
    assert_close(wanted.norm(dim=-1)[:, 0], qk.norm(dim=-1)[:, 0])  # nothing turns at the origin
    assert torch.equal(wanted[..., 12:], qk[..., 12:])  # what three thirds leave over


def test_windows_of_hiera_are_squares_of_one_frame():
    x = torch.arange(2 * 2 * 8 * 12).view(2, 2, 8, 12, 1)
    windows = to_windows(x, 4)
    assert windows.shape == (2, 2 * 2 * 3, 16, 1)
    assert torch.equal(windows[0, 1].view(4, 4), x[0, 0, :4, 4:8, 0])
    assert torch.equal(from_windows(windows, (2, 8, 12), 4), x)
    assert torch.equal(halve(x), x[:, :, 1::2, 1::2])  # the last of four is the largest here


# --- the specs --------------------------------------------------------------------------------------------------------


def test_describing_the_models_imports_neither_torch_nor_torchvision():
    code = "import sys, zoo_transformer as z; list(z.zoo_models()); print([m for m in sys.modules if 'torch' in m])"
    path = f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}; "
    done = subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@every_spec
def test_the_spec_is_true_of_the_network(name):
    spec = SPECS[name]
    with torch.device("meta"):
        model = build(name)
    assert spec.params == sum(p.numel() for p in model.parameters())
    assert spec.num_classes == model.num_classes
    assert spec.geometry == model.geometry
    assert zoo.ModelSpec.from_dict(spec.to_dict()) == spec
    assert set(spec.layouts) <= {"transformers", "hiera"} and all(":" in f for f in spec.layouts.values())
    for reference in [*spec.layouts.values(), *spec.opens.values()]:
        module, function = reference.split(":")
        assert callable(getattr(import_module(module), function))


@every_spec
def test_every_protocol_makes_clips_that_its_network_takes(name):
    spec = SPECS[name]
    for protocol, kwargs in [(spec.preprocessing, {}), *((w.preprocessing, w.kwargs) for w in spec.weights.values())]:
        with torch.device("meta"):
            model = build(name, **kwargs)
        side = protocol.crop or protocol.resize
        size = (side, side) if isinstance(side, int) else side
        assert model.geometry.problem((1, 3, protocol.num_frames, *size)) == ""


@every_spec
def test_every_checkpoint_says_what_it_is_and_where_its_figures_are_from(name):
    for tag, weights in SPECS[name].weights.items():
        assert weights.license and weights.training_data and weights.url, tag
        assert weights.layout in SPECS[name].layouts or weights.origin is not None
        assert weights.num_classes is not None and not weights.labels
        assert all(metric.url and metric.origin == "published" for metric in weights.metrics)
        if weights.source:
            assert weights.source.startswith("hf://") and ".safetensors@" in weights.source
            assert weights.pinned == (weights.size is not None)


def test_the_small_videomae_has_the_heads_that_its_authors_trained():
    with torch.device("meta"):
        assert build("videomae_small").blocks[0].attn.heads == 6


def test_the_tiny_network_weighs_less_than_three_megabytes():
    assert 4 * SPECS["videomae_tiny"].params < 3_000_000
    model = build("videomae_tiny").eval()
    with torch.no_grad():
        assert model(torch.randn(2, 3, 8, 64, 64)).shape == (2, 9)


# --- the contract -----------------------------------------------------------------------------------------------------


@every_network
def test_forward_is_the_head_of_the_features_and_leaves_its_input_alone(family):
    model, clip = shaken(family), clip_for(family)
    kept = clip.clone()
    with torch.no_grad():
        features, logits = model.forward_features(clip), model(clip)
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
    with torch.no_grad():
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
