"""Published names become ours: PySlowFast's are written down here once more, and checked against its own builders'.

The digests are of the sorted key lists of the state dicts that PySlowFast's builders made from its own configuration
files; loaded through these functions, those networks and ours gave the same logits.
"""

from __future__ import annotations

import hashlib
import re
from importlib import import_module

import pytest
import torch
from cnn_reference import HUB, MOVINETS, SPECS, build
from torch import Tensor

from zoo.errors import WeightsMismatch
from zoo_cnn import layouts

DIGESTS = {
    "c2d_r50": "fc007ba3cb8417da3d9e0b5bf45b9558886637c2668f2df88b8cd866ad8d8012",
    "i3d_r50": "fc007ba3cb8417da3d9e0b5bf45b9558886637c2668f2df88b8cd866ad8d8012",
    "slow_r50": "fc007ba3cb8417da3d9e0b5bf45b9558886637c2668f2df88b8cd866ad8d8012",
    "slowfast_r50": "60b98cf5a709c0c794c2bde2c9110c0ff640fde6b37dbbd006171915d8af6181",
    "slowfast_r101": "8a7a9a96675653147a12e839109ba058fb71495b7c5ca6463d4a57c6d7f84353",
    "slowfast_16x8_r101_50_50": "8a7a9a96675653147a12e839109ba058fb71495b7c5ca6463d4a57c6d7f84353",
    "x3d_xs_psf": "af15cbde4ed0ac6ab0dbb399691ec129376fc7cb440477dfcbc128d9b75efc76",
    "x3d_s_psf": "af15cbde4ed0ac6ab0dbb399691ec129376fc7cb440477dfcbc128d9b75efc76",
    "x3d_m_psf": "af15cbde4ed0ac6ab0dbb399691ec129376fc7cb440477dfcbc128d9b75efc76",
    "x3d_l_psf": "94b8c13d8f96081505947252829e4a6183810111006649d1aa370b998d1cf624",
}


def ours(name: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        return build(name).state_dict()


def function(name: str, layout: str):
    module, attribute = SPECS[name].layouts[layout].split(":")
    return getattr(import_module(module), attribute)


def pyslowfast_name(model: str, key: str) -> str:
    """How PySlowFast calls one of our tensors."""
    around_pool = model in ("c2d_r50", "i3d_r50")
    head = 6 if around_pool or model.startswith("slowfast") else 5
    _, block, *rest = key.split(".")
    rest = ".".join(rest)
    if int(block) == head:
        return (
            f"head.{rest.replace('proj.', 'projection.')}"
            if rest.startswith("proj.")
            else (
                "head."
                + rest.replace("pool.pre_conv", "conv_5")
                .replace("pool.pre_norm", "conv_5_bn")
                .replace("pool.post_conv", "lin_5")
            )
        )
    stage = int(block) + (0 if around_pool and int(block) > 1 else 1)
    pathway = "0"
    if found := re.match(r"multipathway_blocks\.(\d)\.", rest):
        pathway, rest = found[1], rest[found.end() :]
    if rest.startswith("multipathway_fusion."):
        rest = rest.removeprefix("multipathway_fusion.")
        return f"s{stage}_fuse." + rest.replace("conv_fast_to_slow", "conv_f2s").replace("norm", "bn")
    if stage == 1:
        names = {"conv.conv_t.weight": "conv_xy.weight", "conv.conv_xy.weight": "conv.weight"}
        return f"s1.pathway{pathway}_stem." + names.get(rest, rest.replace("norm.", "bn."))
    rest = rest.replace("branch1_norm", "branch1_bn").replace("branch1_conv", "branch1")
    rest = (
        rest.replace("norm_b.0.", "norm_b.").replace("norm_b.1.block.0", "se.fc1").replace("norm_b.1.block.2", "se.fc2")
    )
    rest = re.sub(r"norm_([abc])", r"\1_bn", re.sub(r"conv_([abc])", r"\1", rest))
    return f"s{stage}.pathway{pathway}_" + rest.replace("res_blocks.", "res", 1)


@pytest.mark.parametrize("name", DIGESTS)
def test_a_file_of_pyslowfast_gets_our_names(name: str) -> None:
    wanted = ours(name)
    published = {pyslowfast_name(name, key): value for key, value in wanted.items()}
    assert hashlib.sha256("\n".join(sorted(published)).encode()).hexdigest() == DIGESTS[name]
    kept = dict(published)
    converted = function(name, "pyslowfast")(published)
    assert converted.keys() == wanted.keys()
    assert all(converted[key] is value for key, value in wanted.items())
    assert published == kept


@pytest.mark.parametrize("name", (*HUB, *MOVINETS))
def test_a_file_of_pytorchvideo_or_movinet_pytorch_has_our_names(name: str) -> None:
    layout = "movinet_pytorch" if name in MOVINETS else "pytorchvideo"
    state = ours(name)
    converted = function(name, layout)(state)
    assert converted.keys() == state.keys() and all(converted[key] is value for key, value in state.items())


def test_what_is_not_known_keeps_its_name_and_two_names_never_become_one() -> None:
    tensor = torch.zeros(1)
    stem = {"s1.pathway0_stem.conv.weight": tensor}
    assert layouts.pyslowfast({**stem, "optimizer.lr": tensor}) == {
        "blocks.0.conv.weight": tensor,
        "optimizer.lr": tensor,
    }
    with pytest.raises(WeightsMismatch, match=r"two tensors .* 'blocks.5.proj.weight'"):
        layouts.pyslowfast({**stem, "head.projection.weight": tensor, "blocks.5.proj.weight": tensor})


def test_a_file_of_another_kind_is_left_to_others() -> None:
    for spec in SPECS.values():
        for layout in spec.layouts:
            assert function(spec.name, layout)({"encoder.weight": torch.zeros(1)}) is None
            if layout != "pyslowfast":
                assert function(spec.name, layout)({"s1.pathway0_stem.conv.weight": torch.zeros(1)}) is None


def test_every_layout_of_the_family_is_a_function() -> None:
    for spec in SPECS.values():
        assert all(callable(function(spec.name, layout)) for layout in spec.layouts)
