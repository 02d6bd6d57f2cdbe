"""A file of another network is refused, and the error says of which network it is, as far as a file can tell."""

from __future__ import annotations

import functools

import cnn_reference as reference
import pytest
import torch
from cnn_reference import HUB, MOVINETS, SPECS
from safetensors.torch import save_file
from test_cnn_layouts import DIGESTS, pyslowfast_name

import zoo
from zoo.convert import convert_file
from zoo.errors import WeightsMismatch
from zoo.recognise import named

TORCHVISION = ("r3d_18", "mc3_18", "r2plus1d_18", "s3d")
PSF = tuple(name for name in DIGESTS if name.endswith("_psf"))
# In these sizes X3D has the same names and shapes: a file does not say of which it is.
ALIKE = [{f"x3d_{size}{form}" for size in ("xs", "s", "m")} for form in ("", "_psf")]
FORMS = [(name, "ours") for name in (*HUB, *PSF, *MOVINETS, *TORCHVISION, "c3d")]
FORMS += [(name, "pyslowfast") for name in DIGESTS]


@functools.cache
def on_meta(name: str) -> torch.nn.Module:
    with torch.device("meta"):
        return reference.build(name)


def shapes_of(name: str, form: str = "ours") -> dict[str, tuple[int, ...]]:
    rename = (lambda key: pyslowfast_name(name, key)) if form == "pyslowfast" else str
    return {rename(key): tuple(tensor.shape) for key, tensor in on_meta(name).state_dict().items()}


def said_of(shapes: dict[str, tuple[int, ...]], into: str) -> str:
    wrong = WeightsMismatch("it does not fit", hint="what to do", shapes=shapes)
    named(wrong, SPECS[into], SPECS.values(), on_meta)
    return wrong.hint


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_the_right_network_is_named(name: str, form: str) -> None:
    alike = next((sorted(group) for group in ALIKE if name in group), [name])
    into = "c2d_r50" if name != "c2d_r50" else "i3d_r50"
    hint = said_of(shapes_of(name, form), into)
    assert hint.startswith("it is a file of ")
    found = hint.removeprefix("it is a file of ").partition(":")[0].split(" or ")
    assert sorted(found) == alike
    assert hint.endswith(f": load it into zoo.build({found[0]!r})")


@pytest.mark.parametrize("name", ["slow_r50", "slowfast_r50", "x3d_l", "movinet_a0_base", "s3d", "c3d"])
def test_so_it_is_with_other_classes(name: str) -> None:
    usual = SPECS[name].num_classes
    shapes = {k: (10, *s[1:]) if s[:1] == (usual,) else s for k, s in shapes_of(name).items()}
    assert said_of(shapes, "csn_r101") == (
        f"it is a file of {name}, with 10 classes: load it into zoo.build({name!r}, num_classes=10)"
    )
    assert said_of(shapes, name).endswith(f"zoo.build({name!r}, num_classes=10)")


def test_a_stream_is_named_only_where_nothing_else_fits() -> None:
    assert "co_" not in said_of(shapes_of("slow_r50"), "c2d_r50")
    assert said_of(shapes_of("slow_r50"), "movinet_a0_stream").startswith("it is a file of co_slow_r50")
    assert "movinet_a1_stream" in said_of(shapes_of("movinet_a1_stream"), "movinet_a1_base")


def test_an_unknown_file_and_one_of_the_right_network_keep_their_hint() -> None:
    assert said_of({"weight": (3, 3)}, "slow_r50") == "what to do"
    assert said_of({**shapes_of("slow_r50"), "more": (1,)}, "c2d_r50") == "what to do"
    assert said_of(shapes_of("slow_r50"), "slow_r50") == "what to do"
    assert said_of({}, "slow_r50") == "what to do"


def test_loading_and_converting_say_it(tmp_path) -> None:
    psf = {
        key: torch.zeros(tensor.shape, dtype=tensor.dtype) for key, tensor in on_meta("x3d_s_psf").state_dict().items()
    }
    save_file(psf, tmp_path / "ours.safetensors")
    theirs = {pyslowfast_name("x3d_s_psf", key): tensor for key, tensor in psf.items()}
    save_file(theirs, tmp_path / "theirs.safetensors")
    torch.save({"model_state": theirs}, tmp_path / "theirs.pyth")
    model = zoo.build("x3d_s")
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    for file in ("ours", "theirs"):
        with pytest.raises(
            WeightsMismatch, match=r"branch1_norm.*it is a file of x3d_xs_psf or x3d_s_psf or x3d_m_psf:"
        ):
            zoo.load(model, tmp_path / f"{file}.safetensors")
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    with pytest.raises(WeightsMismatch, match=r"it is a file of x3d_xs_psf or x3d_s_psf or x3d_m_psf:"):
        convert_file(tmp_path / "theirs.pyth", tmp_path / "out.safetensors", model="x3d_s")
    assert not (tmp_path / "out.safetensors").exists()


def test_what_a_layout_says_is_told_in_full(tmp_path) -> None:
    stem, head = "s1.pathway0_stem.conv.weight", torch.zeros(1)
    save_file(
        {stem: head, "head.projection.weight": head + 1, "blocks.5.proj.weight": head + 2}, tmp_path / "a.safetensors"
    )
    said = r"two tensors of the file would be called 'blocks.5.proj.weight'; one of them is 'head.projection.weight'"
    with torch.device("meta"):
        model = zoo.build("slow_r50", depth=10)
    with pytest.raises(WeightsMismatch, match=said):
        zoo.load(model, tmp_path / "a.safetensors")
