"""Live comparisons with transformers, torchvision and hiera-transformer, run by name: `pytest -m parity`.

Needs the extra `parity`. Every parameter of the reference is perturbed, and its tensors are read as they are on disk.
"""

from __future__ import annotations

import json
from importlib import import_module
from importlib.util import find_spec

import pytest
import torch
import transformer_references as refs
from safetensors.torch import load_file
from torchvision.models import video

import zoo
import zoo_transformer
from zoo.testing import perturb
from zoo_transformer import configs
from zoo_transformer.mvit import MViT
from zoo_transformer.swin3d import Swin3D

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not (find_spec("transformers") and find_spec("hiera")), reason="needs the extra `parity`"),
    pytest.mark.filterwarnings("ignore:Importing from timm.models.layers"),
]
SPECS = {spec.name: spec for spec in zoo_transformer.zoo_models()}
LIMIT = 1e-5  # of the scale of the logits


def difference(got: torch.Tensor, wanted: torch.Tensor) -> float:
    assert got.shape == wanted.shape and wanted.isfinite().all()
    return float((got - wanted).abs().max() / wanted.abs().max())


def build(name: str, **overrides: object) -> zoo.VideoModel:
    spec = SPECS[name]
    module, function = spec.builder.split(":")
    return getattr(import_module(module), function)(**{**spec.kwargs, **overrides})


def compare(case: refs.Case, ours: zoo.VideoModel, clip: torch.Tensor) -> None:
    network = refs.reference(case)
    ours.load_state_dict(refs.LAYOUTS[case.family](refs.on_disk(network)), strict=True)
    logits, hidden = refs.run(network, case, clip)
    del network
    with torch.no_grad():
        features = ours.forward_intermediates(clip)
        got = ours.forward_head(features[-1])  # the same as ours(clip), which takes a while for the large ones
    away = [difference(refs.like_theirs(case.family, f), h) for f, h in zip(features[1:], hidden, strict=False)]
    name = f"{case.family} {tuple(clip.shape)} {sum(p.numel() for p in ours.parameters()):,} parameters"
    print(f"\n{name}: max |d| / scale, logits {difference(got, logits):.1e}, {len(away)} layers {max(away):.1e}")
    assert difference(got, logits) <= LIMIT
    assert max(away) <= LIMIT


@pytest.mark.parametrize("name", refs.CASES)
def test_small_networks_equal_their_reference(name):
    case = refs.CASES[name]
    compare(case, case.build(), refs.clip_of(case.clip))


def full(name: str, theirs: dict[str, object], clip: tuple[int, ...], **kwargs: object) -> refs.Case:
    family = SPECS[name].builder.split(".")[1].split(":")[0]
    return refs.Case(family, {**SPECS[name].kwargs, **kwargs}, theirs, clip)


LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
SMALL = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
FULL = {
    "videomae_small": full("videomae_small", {"num_labels": 400, **SMALL}, (1, 3, 16, 224, 224)),
    "videomae_base": full("videomae_base", {"num_labels": 400}, (1, 3, 16, 224, 224)),
    "videomae_large": full("videomae_large", {"num_labels": 400, **LARGE}, (1, 3, 16, 224, 224)),
    "timesformer_base": full("timesformer_base", {"num_labels": 400}, (1, 3, 8, 224, 224)),
    "timesformer_hr": full(
        "timesformer_hr", {"num_labels": 400, "num_frames": 16, "image_size": 448}, (1, 3, 16, 448, 448)
    ),
    "vivit_b_16x2": full("vivit_b_16x2", {"num_labels": 400}, (1, 3, 32, 224, 224)),
    "vjepa2_vitl": full("vjepa2_vitl", {"num_labels": 174, "frames_per_clip": 16}, (1, 3, 16, 256, 256), num_frames=16),
    "hiera_base_16x224": full(
        "hiera_base_16x224", {"num_classes": 400, "input_size": (16, 224, 224)}, (1, 3, 16, 224, 224)
    ),
    "hiera_large_16x224": full(
        "hiera_large_16x224",
        {
            "num_classes": 400,
            "input_size": (16, 224, 224),
            "embed_dim": 144,
            "num_heads": 2,
            "stages": (2, 6, 36, 4),
        },
        (1, 3, 16, 224, 224),
    ),
}


@pytest.mark.parametrize("name", FULL)
def test_published_sizes_equal_their_reference_at_the_published_clip(name):
    case = FULL[name]
    assert SPECS[name].geometry.problem(case.clip) == ""
    compare(case, case.build(), refs.clip_of(case.clip))


WIDE = {
    "videomae_huge": full(
        "videomae_huge",
        {
            "hidden_size": 1280,
            "num_attention_heads": 16,
            "intermediate_size": 5120,
            "num_hidden_layers": 2,
            "image_size": 64,
            "num_frames": 4,
        },
        (1, 3, 4, 64, 64),
        depth=2,
        image_size=64,
        num_frames=4,
        num_classes=2,
    ),
    "vjepa2_vith": full(
        "vjepa2_vith",
        {
            "hidden_size": 1280,
            "num_attention_heads": 16,
            "num_hidden_layers": 2,
            "frames_per_clip": 4,
            "crop_size": 64,
            "num_labels": 174,
        },
        (1, 3, 4, 64, 64),
        depth=2,
        num_frames=4,
        image_size=64,
    ),
    "vjepa2_vitg": full(
        "vjepa2_vitg",
        {
            "hidden_size": 1408,
            "num_attention_heads": 22,
            "mlp_ratio": 48 / 11,
            "num_hidden_layers": 2,
            "frames_per_clip": 4,
            "crop_size": 64,
            "num_labels": 174,
        },
        (1, 3, 4, 64, 64),
        depth=2,
        num_frames=4,
        image_size=64,
    ),
}


@pytest.mark.parametrize("name", WIDE)
def test_the_largest_equal_their_reference_with_two_layers(name):
    case = WIDE[name]
    compare(case, case.build(), refs.clip_of(case.clip))


META = {
    "videomae_huge": ("VideoMAE", LARGE | {"hidden_size": 1280, "num_hidden_layers": 32, "intermediate_size": 5120}),
    "timesformer_large": ("Timesformer", {"num_frames": 96}),
    "vjepa2_vith": ("VJEPA2", {"hidden_size": 1280, "num_hidden_layers": 32, "num_labels": 174}),
    "vjepa2_vitg": (
        "VJEPA2",
        {
            "hidden_size": 1408,
            "num_hidden_layers": 40,
            "num_attention_heads": 22,
            "mlp_ratio": 48 / 11,
            "num_labels": 174,
        },
    ),
}


@pytest.mark.parametrize("name", META)
def test_the_largest_have_every_tensor_of_their_reference_and_no_other(name):
    import transformers

    kind, config = META[name]
    config = getattr(transformers, f"{kind}Config")(**{"num_labels": 400, **config})
    with torch.device("meta"):
        theirs = getattr(transformers, f"{kind}ForVideoClassification")(config)
        ours = build(name)
    converted = refs.LAYOUTS[refs_family(name)](dict(theirs.state_dict()))
    wanted = ours.state_dict()
    assert {k: v.shape for k, v in converted.items()} == {k: v.shape for k, v in wanted.items()}
    predictor = sum(p.numel() for n, p in theirs.named_parameters() if ".predictor." in n)
    assert sum(p.numel() for p in theirs.parameters()) - predictor == SPECS[name].params


def refs_family(name: str) -> str:
    return SPECS[name].builder.split(".")[1].split(":")[0]


# --- other clips than those of the config -----------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [(1, 3, 6, 12, 12), (2, 3, 8, 20, 20), (1, 3, 2, 4, 4)])
def test_vjepa2_takes_its_places_from_the_clip(clip):
    # transformers takes them from its config, so that a config of the clip's size is the reference.
    case = refs.CASES["vjepa2"]
    fitting = refs.Case("vjepa2", case.ours, case.theirs | {"frames_per_clip": clip[2], "crop_size": clip[3]}, clip)
    compare(fitting, case.build(), refs.clip_of(clip))


@pytest.mark.parametrize("clip", [(1, 3, 3, 16, 8), (2, 3, 3, 12, 12), (1, 3, 6, 8, 8), (2, 3, 2, 4, 12)])
def test_timesformer_repeats_or_skips_its_positions(clip):
    case = refs.CASES["timesformer"]
    network, ours = refs.reference(case), case.build()
    ours.load_state_dict(refs.LAYOUTS["timesformer"](refs.on_disk(network)), strict=True)
    # Its layers read the number of frames and the width of the grid from the config, while its embedding interpolates.
    network.config.num_frames, network.config.image_size = clip[2], clip[4]
    wanted, _ = refs.run(network, case, refs.clip_of(clip))
    with torch.no_grad():
        assert difference(ours(refs.clip_of(clip)), wanted) <= LIMIT


def test_timesformer_without_time_takes_the_mean_of_the_frames():
    # transformers leaves frames in the batch; the authors' code takes their mean before the last norm.
    case = refs.CASES["timesformer"]
    case = refs.Case(
        "timesformer",
        case.ours | {"attention": "space_only"},
        case.theirs | {"attention_type": "space_only"},
        case.clip,
    )
    network, ours = refs.reference(case), case.build()
    ours.load_state_dict(refs.LAYOUTS["timesformer"](refs.on_disk(network)), strict=True)
    clip = refs.clip_of(case.clip)
    _, hidden = refs.run(network, case, clip)
    with torch.no_grad():
        mean = hidden[-1].unflatten(0, case.clip[0:3:2]).mean(1)
        wanted = network.classifier(network.timesformer.layernorm(mean)[:, 0])
        assert difference(ours(clip), wanted) <= LIMIT


def test_a_pretrained_encoder_gives_the_features_of_its_reference():
    import transformers

    case = refs.CASES["videomae"]
    theirs = case.theirs | {"use_mean_pooling": False, "decoder_hidden_size": 12, "decoder_num_attention_heads": 2}
    theirs |= {"decoder_num_hidden_layers": 1, "decoder_intermediate_size": 8}
    network = perturb(transformers.VideoMAEForPreTraining(transformers.VideoMAEConfig(**theirs))).eval()
    ours = refs.VideoMAE(**case.ours | {"num_classes": 0, "final_norm": "token"}).eval()
    ours.load_state_dict(refs.LAYOUTS["videomae"](refs.on_disk(network)), strict=True)
    clip = refs.clip_of(case.clip)
    with torch.no_grad():
        wanted = network.videomae(clip.transpose(1, 2)).last_hidden_state
        assert difference(refs.like_theirs("videomae", ours.forward_features(clip)), wanted) <= LIMIT
        assert difference(ours(clip), wanted.mean(1)) <= LIMIT


def test_a_vjepa2_encoder_gives_the_features_of_its_reference():
    import transformers

    case = refs.CASES["vjepa2"]
    network = perturb(transformers.VJEPA2Model(transformers.VJEPA2Config(**case.theirs))).eval()
    ours = refs.VJEPA2(**case.ours | {"num_classes": 0, "pooler_depth": None}).eval()
    ours.load_state_dict(refs.LAYOUTS["vjepa2"](refs.on_disk(network)), strict=True)
    clip = refs.clip_of(case.clip)
    with torch.no_grad():
        wanted = network.get_vision_features(clip.transpose(1, 2))
        assert difference(refs.like_theirs("vjepa2", ours.forward_features(clip)), wanted) <= LIMIT


# --- torchvision's ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b"])
def test_torchvisions_networks_are_equal_to_the_bit(name):
    torch.manual_seed(0)
    network = perturb(getattr(video, name)(weights=None)).eval()
    ours = build(name).eval()
    ours.load_state_dict(network.state_dict(), strict=True)
    clip = refs.clip_of((1, 3, 16 if name.startswith("mvit") else 32, 224, 224))
    with torch.no_grad():
        assert torch.equal(ours(clip), network(clip))


def block(heads: int, inputs: int, outputs: int, query: list[int], keys: list[int]) -> object:
    return video.mvit.MSBlockConfig(heads, inputs, outputs, [3, 3, 3] if query else [], [3, 3, 3], query, keys)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("clip", [(2, 3, 4, 32, 48), (1, 3, 6, 40, 36), (1, 3, 10, 24, 24)])
def test_small_networks_of_mvit_are_equal_to_the_bit(clip, second):
    # Sizes that no stride divides round up in the convolutions but down in torchvision's table of positions, so that
    # the relative kind interpolates; both are torchvision's.
    blocks = [block(1, 8, 16, [], [1, 4, 4]), block(2, 16, 16, [1, 2, 2], [1, 2, 2]), block(2, 16, 24, [], [1, 1, 1])]
    if second:
        blocks = [block(1, 8, 8, [1, 1, 1], [1, 4, 4]), block(2, 8, 16, [1, 2, 2], [1, 2, 2])]
    options = {"residual_pool": second, "rel_pos_embed": second, "proj_after_attn": second}
    torch.manual_seed(0)
    network = video.MViT(clip[3:], clip[2], blocks, residual_with_cls_embed=False, num_classes=5, **options).eval()
    wanted = perturb(network)(refs.clip_of(clip))
    assert torch.equal(MViT(network, 5)(refs.clip_of(clip)), wanted)


@pytest.mark.parametrize("clip", [(2, 3, 4, 32, 48), (1, 3, 7, 40, 36), (1, 3, 1, 64, 64)])
def test_small_networks_of_swin3d_are_equal_to_the_bit(clip):
    made = []

    def architecture(weights: None, num_classes: int) -> torch.nn.Module:
        made.append(
            video.SwinTransformer3d([2, 4, 4], 12, [1, 2, 2, 1], [1, 2, 2, 3], [2, 2, 3], num_classes=num_classes)
        )
        return made[-1]

    ours = Swin3D(architecture, 5).eval()
    network = perturb(made[0]).eval()
    with torch.no_grad():
        assert torch.equal(ours(refs.clip_of(clip)), network(refs.clip_of(clip)))


# --- folders as transformers writes them ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in refs.CASES if not name.startswith("hiera")])
def test_a_folder_that_transformers_wrote_says_how_to_build_its_network(name, tmp_path):
    case = refs.CASES[name]
    network = refs.reference(case)
    network.save_pretrained(tmp_path)
    found = getattr(configs, case.family)(json.loads((tmp_path / "config.json").read_text()))
    ours = refs.NETWORKS[case.family](num_classes=found["num_classes"], **found["kwargs"]).eval()
    ours.load_state_dict(refs.LAYOUTS[case.family](load_file(tmp_path / "model.safetensors")), strict=True)
    clip = refs.clip_of(case.clip)
    wanted, _ = refs.run(network, case, clip)
    with torch.no_grad():
        assert difference(ours(clip), wanted) <= LIMIT


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("VideoMAE", {}),
        ("Timesformer", {"image_mean": [0.45] * 3, "image_std": [0.225] * 3, "size": {"shortest_edge": 230}}),
        ("Vivit", {"size": {"shortest_edge": 224}}),
        ("VJEPA2", {"crop_size": 256}),
    ],
)
def test_a_protocol_from_a_processor_makes_its_pixels(kind, options, tmp_path):
    import transformers

    processor = getattr(transformers, f"{kind}VideoProcessor")(**options)
    processor.save_pretrained(tmp_path)
    (file,) = tmp_path.glob("*.json")
    family = kind.lower()
    config = {"model_type": family, "architectures": [f"{kind.replace('Mae', 'MAE')}ForVideoClassification"]}
    frames = {"num_frames": 4} if family != "vjepa2" else {"frames_per_clip": 4}
    protocol = getattr(configs, family)(config | frames, json.loads(file.read_text()))["preprocessing"]
    video_frames = torch.randint(
        0, 256, (4, 270, 400, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    wanted = processor(video_frames.permute(0, 3, 1, 2), return_tensors="pt")
    wanted = wanted["pixel_values_videos" if family == "vjepa2" else "pixel_values"][0].transpose(0, 1)
    got = zoo.load_clips(protocol, video_frames.numpy(), fps=4).data[0]
    assert got.shape == wanted.shape
    # A level of grey is 4e-3 before the normalisation: a resize that rounds elsewhere would be far above this.
    assert (got - wanted).abs().max() <= 1e-6 * max(1.0, float(wanted.abs().max()))
