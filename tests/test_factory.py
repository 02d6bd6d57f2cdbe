"""build, create, load: every tensor fits, or one error names what does not, and nothing has changed (27 - 30)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from models import Tiny
from safetensors.torch import save_file

import zoo
from zoo.errors import (
    GeometryError,
    PluginError,
    SpecError,
    UnknownModel,
    WeightsCorrupt,
    WeightsMismatch,
    WeightsNotFound,
)
from zoo.testing import perturb
from zoo.weights.fetch import fetch
from zoo.weights.skip_init import skip_init

LABELS = ("a", "b", "c", "d", "e")
PROTOCOL = zoo.Preprocessing(num_frames=4, resize=(16, 16))


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return perturb(Tiny()).state_dict()


@pytest.fixture
def file(tmp_path: Path, state) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_file(state, path)
    return path


@pytest.fixture
def shelf(file: Path):
    """A registry with `local/tiny`, its weights `.t`, and a damaged copy `.bad`."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    weights = {
        "t": zoo.Weights(
            source=str(file), sha256=digest, size=file.stat().st_size, labels=LABELS, preprocessing=PROTOCOL
        ),
        "bad": zoo.Weights(source=str(file), sha256="0" * 64),
        "cut": zoo.Weights(source=str(file), size=7),
        "pickle": zoo.Weights(origin={"url": "https://example.org/tiny.pth", "format": "pth"}),
        "gone": zoo.Weights(source="pkg://zoo/no_such_file.safetensors"),
    }
    with zoo.testing.isolated():
        zoo.register(
            zoo.ModelSpec(
                name="tiny",
                builder="models:tiny",
                weights=weights,
                default_tag="t",
                geometry=zoo.Geometry(min_frames=2),
            )
        )
        yield


def test_build_gives_random_weights_and_knows_its_spec(shelf):
    model = zoo.build("local/tiny", num_classes=7, width=6)
    assert model.training
    assert model.num_classes == 7
    assert model.stem[0].out_channels == 6
    assert model.spec.full_name == "local/tiny"
    assert model.weights is None
    with pytest.raises(SpecError, match=r"zoo\.create\('local/tiny\.t'\)"):
        zoo.build("local/tiny.t")


def test_create_by_tag_default_tag_and_bare_name(shelf, state):
    for model in (
        zoo.create("local/tiny.t"),
        zoo.create("local/tiny", pretrained=True),
        zoo.create("local/tiny", pretrained="t"),
        zoo.create("local/tiny.t", pretrained=True),
    ):
        assert not model.training
        assert model.labels == LABELS
        assert model.preprocessing == PROTOCOL
        assert model.weights.tag == "t"
        assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
        assert torch.equal(model.scale, torch.tensor([2.0])), "a non-persistent buffer is computed as ever"
        assert all(p.requires_grad for p in model.parameters())
    bare = zoo.create("local/tiny")
    assert bare.weights is None
    assert bare.labels is None
    assert not bare.training


def test_contradictions_and_unknown_tags_raise(shelf):
    with pytest.raises(SpecError, match="leave pretrained away"):
        zoo.create("local/tiny.t", pretrained=False)
    with pytest.raises(UnknownModel, match="its tags are t, bad"):
        zoo.create("local/tiny", pretrained="k400")
    with pytest.raises(TypeError, match="'depth'; its options are num_classes, width"):
        zoo.create("local/tiny", depth=50)
    with pytest.raises(TypeError, match="a string"):
        zoo.create(None)


def test_28_other_classes_replace_the_head_for_real_and_drop_the_labels(shelf, state):
    torch.manual_seed(0)
    model = zoo.create("local/tiny.t", num_classes=3)
    assert model.num_classes == 3
    assert model.labels is None
    assert model.weights is None, "what comes out is no longer what was published"
    assert model.fc.weight.shape == (3, 8)
    bound = 8**-0.5  # what nn.Linear initialises within
    assert 0.1 * bound < model.fc.weight.abs().max() <= bound
    assert torch.equal(model.stem[0].weight, state["stem.0.weight"])
    same = zoo.create("local/tiny.t", num_classes=5)
    assert same.labels == LABELS
    assert torch.equal(same.fc.weight, state["fc.weight"])


def test_dtype_is_float32_whatever_the_file_holds_unless_asked(shelf, tmp_path, state):
    half = tmp_path / "half.safetensors"
    save_file({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, half)
    model = zoo.load(zoo.build("local/tiny"), half)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.fc.weight, state["fc.weight"].half().float())
    assert zoo.create("local/tiny.t", dtype=torch.bfloat16).fc.weight.dtype == torch.bfloat16
    assert zoo.create("local/tiny.t", device="meta").fc.weight.is_meta


def test_27_missing_unexpected_and_misshaped_keys_raise_with_names_and_leave_the_model_alone(shelf, tmp_path, state):
    broken = {k: v for k, v in state.items() if k != "stem.0.bias"}
    broken["fc.weight"] = torch.zeros(9, 8)
    broken |= {f"extra.{i:02}": torch.zeros(1) for i in range(12)}
    path = tmp_path / "broken.safetensors"
    save_file(broken, path)
    model = zoo.build("local/tiny")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(WeightsMismatch) as caught:
        zoo.load(model, path)
    text = str(caught.value)
    assert "1 missing: stem.0.bias" in text
    assert "12 unexpected: extra.00" in text
    assert "extra.09 and 2 more" in text
    assert "extra.10" not in text
    assert "1 of another shape: fc.weight (9, 8) instead of (5, 8)" in text
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("key", ["stem.0.bias", "stem.1.running_var", "stem.1.num_batches_tracked", "fc.weight"])
def test_27_each_kind_of_key_is_missed(shelf, tmp_path, state, key):
    path = tmp_path / "broken.safetensors"
    save_file({k: v for k, v in state.items() if k != key}, path)
    with pytest.raises(WeightsMismatch, match=f"1 missing: {key}"):
        zoo.load(zoo.build("local/tiny"), path)


def test_27_a_tensor_of_another_kind_raises(shelf, tmp_path, state):
    path = tmp_path / "broken.safetensors"
    save_file({**state, "fc.bias": torch.zeros(5, dtype=torch.int64)}, path)
    with pytest.raises(WeightsMismatch, match=r"fc\.bias is torch\.int64"):
        zoo.load(zoo.build("local/tiny"), path)


def test_load_takes_a_tag_or_a_file(shelf, file, state):
    model = zoo.load(zoo.build("local/tiny"), "t")
    assert model.labels == LABELS
    zoo.load(model, str(file))
    assert model.labels is None
    assert model.weights is None
    assert torch.equal(model.fc.weight, state["fc.weight"])
    with pytest.raises(UnknownModel, match="its tags are t"):
        zoo.load(model, "typo")
    with pytest.raises(WeightsNotFound, match="does not exist"):
        zoo.load(model, "no/such/file.safetensors")
    with pytest.raises(WeightsNotFound, match="is a folder"):
        zoo.load(model, file.parent)


def test_loading_keeps_the_parameters_that_an_optimiser_holds(shelf, file, state):
    model = zoo.build("local/tiny")
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    before = list(model.parameters())
    zoo.load(model, file)
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True))
    model(torch.ones(1, 3, 2, 8, 8)).sum().backward()
    optimiser.step()
    assert not torch.equal(model.fc.bias, state["fc.bias"])


def test_damaged_and_absent_files_say_what_they_are(shelf):
    with pytest.raises(WeightsCorrupt, match="sha256"):
        zoo.create("local/tiny.bad")
    with pytest.raises(WeightsCorrupt, match=r"bytes instead of 7"):
        zoo.create("local/tiny.cut")
    with pytest.raises(WeightsNotFound, match="published as a pickle only"):
        zoo.create("local/tiny.pickle")
    with pytest.raises(WeightsNotFound, match="no such file"):
        zoo.create("local/tiny.gone")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04" + bytes(60), "zip archive"),
        (b"\x80\x02}q\x00." + bytes(60), "pickle"),
        (b"<!DOCTYPE html><html></html>" + bytes(60), "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n" + bytes(60), "Git LFS pointer"),
        (b"", "not a sound safetensors file"),
        (b"1234567", "not a sound safetensors file"),
    ],
)
def test_30_impostors_are_named(shelf, tmp_path, content, what):
    path = tmp_path / "impostor.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsCorrupt, match=what):
        zoo.load(zoo.build("local/tiny"), path)


@pytest.mark.parametrize(
    "source", ["pkg://", "pkg://zoo", "pkg://zoo/../pyproject.toml", "pkg://not_there/a.safetensors"]
)
def test_a_packaged_source_stays_inside_its_package(source):
    with pytest.raises(WeightsNotFound):
        fetch(source)


def test_29_a_file_cut_under_a_living_model_does_not_reach_it(shelf, file):
    model = zoo.create("local/tiny.t")
    before = model.fc.weight.sum().item()
    file.write_bytes(b"")
    assert model.fc.weight.sum().item() == before


def test_builders_that_break_the_contract_are_plugin_errors():
    with zoo.testing.isolated():
        zoo.register(zoo.ModelSpec(name="gone", builder="models:gone"))
        zoo.register(zoo.ModelSpec(name="lost", builder="no_such_module_at_all:build"))
        zoo.register(zoo.ModelSpec(name="wrong", builder=lambda: torch.nn.Linear(1, 1)))
        zoo.register(zoo.ModelSpec(name="fussy", builder="models:fussy"))
        with pytest.raises(PluginError, match="models:gone failed: AttributeError"):
            zoo.build("local/gone")
        with pytest.raises(PluginError, match="does not exist"):
            zoo.build("local/lost")
        with pytest.raises(PluginError, match=r"local/fussy: .* failed: ValueError\('width is 3'\)") as caught:
            zoo.build("local/fussy", width=3)
        assert isinstance(caught.value.__cause__, ValueError)
        with pytest.raises(PluginError, match=r"gave Linear.*zoo\.VideoModel"):
            zoo.build("local/wrong")


def test_geometry_is_checked_before_forward(shelf):
    model = zoo.create("local/tiny")
    model.stem.register_forward_hook(lambda *_: pytest.fail("forward has begun"))
    with pytest.raises(GeometryError, match=r"local/tiny takes .* of at least 2 frames.*got \(1, 3, 1, 8, 8\)"):
        model(torch.zeros(1, 3, 1, 8, 8))


def test_skip_init_leaves_the_random_numbers_alone_and_only_in_its_block():
    before = torch.get_rng_state()
    with skip_init():
        skipped = Tiny()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(skipped.scale, torch.tensor([2.0]))
    assert all(p.requires_grad for p in skipped.parameters())
    torch.manual_seed(3)
    one = Tiny()
    torch.manual_seed(3)
    assert torch.equal(Tiny().fc.weight, one.fc.weight)


def test_skip_init_does_not_look_at_values_that_will_be_replaced(monkeypatch):
    weight = torch.nn.Parameter(torch.full((64, 64), 9.0))  # out of bounds: it would be drawn again and again
    monkeypatch.setattr(torch, "where", lambda *args: pytest.fail("draws again"))
    before = torch.get_rng_state()
    with skip_init():
        torch.nn.init.trunc_normal_(weight, std=0.02)
    assert weight.min() == 9.0
    assert torch.equal(torch.get_rng_state(), before)


def test_create_is_a_function_of_its_arguments_in_threads(shelf, state):
    from concurrent.futures import ThreadPoolExecutor

    def one(i):
        if i % 2:
            return bool(torch.equal(zoo.create("local/tiny.t").fc.weight, state["fc.weight"]))
        return bool(zoo.build("local/tiny").fc.weight.abs().max() > 0.01)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(64)))
