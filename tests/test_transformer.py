"""The family `transformer`: equal to its references on committed fixtures, strict about files, described truly.

The references themselves run in test_transformer_parity.py; here are small networks of every kind, and whole ones on
the meta device.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from importlib import import_module

import pytest
import torch
import transformer_references as refs
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import video

import zoo
import zoo_transformer
from zoo.errors import GeometryError, SpecError, WeightsMismatch
from zoo.testing import perturb
from zoo_transformer import layouts
from zoo_transformer.hiera import from_windows, halve, to_windows
from zoo_transformer.layers import PatchEmbed, attend
from zoo_transformer.swin3d import Swin3D
from zoo_transformer.videomae import sine_table
from zoo_transformer.vit_c import ViTC
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


def small_vit_c() -> ViTC:
    sizes = {"widths": (4, 8, 24), "strides": (2, 1, 2), "tube": 2, "hidden": 40, "num_frames": 6, "image_size": 16}
    return perturb(ViTC(depth=1, **sizes)).eval().double()


def test_a_layer_of_vit_c_is_torchs_encoder_layer():
    ours = small_vit_c()
    theirs = nn.TransformerEncoderLayer(24, 4, 40, 0.0, "gelu", batch_first=True, norm_first=True, layer_norm_eps=1e-6)
    theirs = theirs.eval().double()
    names = {"attn.qkv.": "self_attn.in_proj_", "attn.proj.": "self_attn.out_proj.", "mlp.fc": "linear"}
    state = {}
    for name, tensor in ours.blocks[0].state_dict().items():
        for of_ours, of_theirs in names.items():
            name = name.replace(of_ours, of_theirs)
        state[name] = tensor
    theirs.load_state_dict(state)
    clip = torch.randn(2, 3, 6, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        tokens = ours.tokens(clip).flatten(1, 3)
        seen = theirs(tokens)
        assert_close(ours(clip), ours.head(ours.norm(seen).mean(1)), 1e-12)
        assert (seen - tokens).abs().mean() > 1e-2


def test_the_first_layer_of_vit_c_is_a_convolution_over_tubes():
    ours, clip = small_vit_c().tokens, torch.randn(2, 3, 6, 16, 16, dtype=torch.float64)
    first, *rest = ours.convs
    with torch.no_grad():
        maps = F.conv3d(clip, first.weight.unflatten(1, (3, 2)), None, (2, 2, 2), (0, 2, 2))
        frames = torch.stack([nn.Sequential(*rest)(frame) for frame in maps.unbind(2)], 2)
        assert_close(ours(clip), frames.movedim(1, -1) + ours.place, 1e-12)


def test_vit_c_refuses_what_it_has_no_positions_for():
    ours = small_vit_c()
    with pytest.raises(GeometryError, match=r"\(3, 4, 4\) tokens, got \(4, 4, 4\)"):
        ours.forward_features(torch.zeros(1, 3, 8, 16, 16, dtype=torch.float64))
    for wrong, said in (
        ({"widths": ()}, "widths"),
        ({"heads": 5}, "in steps of 5"),
        ({"tube": 0}, "in steps of 0"),
        ({"num_frames": 12}, "num_frames"),
        ({"image_size": 60}, "image_size"),
    ):
        with pytest.raises(SpecError, match=said):
            zoo.build("vit_c_tiny", **wrong)


def test_windows_are_attended_in_four_dimensions(monkeypatch):
    """Of more, fused kernels and exports to ONNX know nothing."""
    seen, kernel = [], F.scaled_dot_product_attention
    watch = lambda *parts: seen.append({part.ndim for part in parts}) or kernel(*parts)  # noqa: E731
    monkeypatch.setattr(F, "scaled_dot_product_attention", watch)
    q, kv = torch.randn(2, 5, 9, 3, 8), torch.randn(2, 5, 7, 3, 8)
    found = attend(q, kv, 2 * kv)
    assert seen == [{4}] and found.shape == (2, 5, 9, 24)
    each = [attend(q[:, window], kv[:, window], 2 * kv[:, window]) for window in range(5)]
    assert torch.allclose(found, torch.stack(each, 1), atol=1e-5)


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


def test_comparing_a_repository_with_its_network_imports_no_compiler():
    """That takes over a second, and the first multiplication on the meta device, where `create` compares, does it."""
    openable = [name for name, spec in SPECS.items() if spec.opens]
    assert openable
    code = f"""
import sys, torch, zoo
from zoo.weights.skip_init import skip_init
with torch.device("meta"), skip_init():
    for name in {openable}:
        zoo.build(name)
print("torch._dynamo" in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


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
        if weights.source.startswith("pkg://"):  # our own: tests/test_camera_motion.py
            continue
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


def test_the_probes_on_the_giant_have_the_heads_of_their_authors_config():
    for tag in ("ssv2", "diving48"):
        with torch.device("meta"):
            model = build("vjepa2_vitg", **SPECS["vjepa2_vitg"].weights[tag].kwargs)
        heads = {module.heads for module in model.pooler.modules() if hasattr(module, "heads")}
        assert heads == {16} and model.blocks[0].attn.heads == 22
    case = refs.CASES["vjepa2"]
    alike, other = shaken("vjepa2"), refs.NETWORKS["vjepa2"](**case.ours, pooler_heads=1).eval()
    other.load_state_dict(alike.state_dict())
    clip = clip_for("vjepa2")
    with torch.no_grad():
        assert torch.equal(other.forward_features(clip), alike.forward_features(clip))
        assert (other(clip) - alike(clip)).abs().max() > 1e-3 * alike(clip).abs().max()
    with pytest.raises(ValueError, match="heads"):
        refs.NETWORKS["vjepa2"](**case.ours, pooler_heads=5)


def test_the_tiny_networks_weigh_less_than_three_megabytes():
    assert 4 * max(SPECS[name].params for name in ("videomae_tiny", "vit_c_tiny")) < 3_000_000
    model = build("videomae_tiny").eval()
    with torch.no_grad():
        assert model(torch.randn(2, 3, 8, 64, 64)).shape == (2, 9)


# --- through the door -------------------------------------------------------------------------------------------------

NAMES = {
    "videomae": "videomae_base",
    "timesformer": "timesformer_base",
    "vivit": "vivit_b_16x2",
    "vjepa2": "vjepa2_vitl",
    "hiera": "hiera_base_16x224",
}


@every_family
def test_a_file_of_another_library_loads_by_its_path(family, tmp_path):
    file, logits = fixture(family)
    save_file(file, tmp_path / "model.safetensors")
    model = zoo.load(zoo.build(NAMES[family], **refs.CASES[family].ours), tmp_path / "model.safetensors").eval()
    with torch.no_grad():
        assert_close(model(clip_for(family)), logits)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    lost = next(name for name in file if name.endswith(("q_bias", "query.bias", "qkv.bias")))
    save_file({name: t for name, t in file.items() if name != lost}, tmp_path / "lost.safetensors")
    with pytest.raises(WeightsMismatch):
        zoo.load(model, tmp_path / "lost.safetensors")
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
