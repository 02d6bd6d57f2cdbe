"""Architectures of every major family of timm: the features of a clip are those of a loop over its frames.

The reference is timm's own network, made as timm makes it and given the same perturbed weights. Sizes are small where
the architecture allows it.
"""

from __future__ import annotations

import pytest
import timm
import torch

import zoo
from zoo_timm import images, index

FAST = (
    *(
        "test_vit",
        "test_convnext",
        "test_efficientnet",
        "test_resnet",
        "test_byobnet",
        "resnet18",
        "mobilenetv3_small_050",
    ),
    *("lcnet_035", "ghostnet_050", "efficientvit_b0", "levit_128s", "regnetx_002"),
)
SLOW = (
    *(
        "resnet50",
        "resnet50d",
        "resnetv2_50",
        "seresnet50",
        "ecaresnet26t",
        "skresnet18",
        "resnest14d",
        "res2net50_26w_4s",
    ),
    *("resnext50_32x4d", "densenet121", "vgg11_bn", "dla34", "dpn48b", "hrnet_w18_small", "inception_v3", "xception41"),
    *("regnety_002", "nfnet_l0", "repvgg_a0", "cspresnet50", "cs3darknet_s", "darknet53", "selecsls42b", "vovnet39a"),
    *("efficientnet_b0", "tf_efficientnetv2_b0", "mobilenetv2_035", "mobilenetv4_conv_small_035", "mnasnet_small"),
    *("rexnet_100", "tinynet_e", "hardcorenas_a", "fbnetc_100", "mixnet_s", "repghostnet_050", "convnext_atto"),
    *("convnextv2_atto", "convmixer_768_32", "edgenext_xx_small", "mobilevit_xxs", "mobileone_s0", "fastvit_t8"),
    *("repvit_m0_9", "efficientformer_l1", "efficientformerv2_s0", "poolformer_s12", "pvt_v2_b0", "swiftformer_xs"),
    *("vit_tiny_patch16_224", "vit_small_patch32_224", "deit_tiny_distilled_patch16_224", "beit_base_patch16_224"),
    *("eva02_tiny_patch14_224", "cait_xxs24_224", "crossvit_tiny_240", "convit_tiny", "tnt_s_legacy_patch16_224"),
    *(
        "xcit_nano_12_p16_224",
        "swin_tiny_patch4_window7_224",
        "swinv2_tiny_window8_256",
        "coat_lite_tiny",
        "volo_d1_224",
    ),
    *("mixer_s32_224", "gmixer_24_224", "resmlp_12_224", "maxvit_tiny_tf_224", "coatnet_nano_rw_224", "nest_tiny"),
    *(
        "hiera_tiny_224",
        "mvitv2_tiny",
        "davit_tiny",
        "focalnet_tiny_srf",
        "gcvit_xxtiny",
        "twins_svt_small",
        "visformer_tiny",
    ),
    *("pit_ti_224", "nextvit_small", "inception_next_atto", "mambaout_femto", "sequencer2d_s", "tiny_vit_5m_224"),
    *(
        "vit_base_patch16_siglip_224",
        "vit_small_patch14_dinov2",
        "starnet_s1",
        "shvit_s1",
        "rdnet_tiny",
        "samvit_base_patch16_224",
    ),
)
REDUCED = {"vit_small_patch14_dinov2": 98}  # made for 518


def equal_to_a_loop(arch: str) -> None:
    size = REDUCED.get(arch)
    torch.manual_seed(0)
    model = zoo.testing.perturb(zoo.build(f"timm/{arch}", num_classes=0, img_size=size, frame_chunk=2)).eval()
    network = timm.create_model(arch, **({"img_size": size} if size else {}))
    network.reset_classifier(0)
    network.load_state_dict({k.removeprefix("backbone."): v for k, v in model.state_dict().items()})
    network.eval()
    height, width = model.geometry.size or (max(model.geometry.min_size, 64),) * 2
    clip = torch.randn(1, 3, 3, height, width, generator=torch.Generator().manual_seed(1))
    grouped = sorted(name for names in model.layer_groups().values() for name in names)
    assert grouped == sorted(name for name, _ in model.named_parameters())
    with torch.no_grad():
        found = model.forward_features(clip)
        theirs = torch.stack([network(frame) for frame in clip.unbind(2)], 1)
    assert found.shape == theirs.shape == (1, 3, model.num_features)
    assert found.isfinite().all()
    assert float((found - theirs).abs().max() / theirs.abs().max()) < 2e-5


@pytest.mark.parametrize("arch", FAST)
def test_features_of_a_clip_are_those_of_its_frames(arch):
    equal_to_a_loop(arch)


@pytest.mark.slow
@pytest.mark.parametrize("arch", SLOW)
def test_features_of_a_clip_are_those_of_its_frames_everywhere(arch):
    equal_to_a_loop(arch)


@pytest.mark.slow
@pytest.mark.skipif(index.read()["timm"] != timm.__version__, reason="the index is of another timm")
def test_the_index_says_of_all_weights_what_timm_says():
    for arch in index.read()["architectures"]:
        spec = zoo.info(f"timm/{arch}")
        on_hub = {tag: stated for tag in timm_tags(arch) if (stated := images.config(arch, tag)).hf_hub_id}
        assert spec.weights.keys() == on_hub.keys(), arch
        for tag, stated in on_hub.items():
            weights = spec.weights[tag]
            assert weights.source.startswith(f"hf://{stated.hf_hub_id}/model.safetensors@")
            assert weights.preprocessing == zoo.Preprocessing(num_frames=8, **images.protocol(stated))
            assert weights.license == (stated.license or "not stated by timm").replace("unknown", "not stated by timm")


def timm_tags(arch: str) -> list[str]:
    return [name.partition(".")[2] for name in timm.list_models(f"{arch}.*", pretrained=True)]


def test_the_lists_are_long_and_of_timms_families():
    modules = {timm.model_entrypoint(arch).__module__ for arch in (*FAST, *SLOW)}
    assert len(set(FAST) | set(SLOW)) >= 60
    assert len(modules) >= 50
