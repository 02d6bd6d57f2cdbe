"""Pickles become safetensors of the same tensors, or one error, and nothing that they ask for happens (31)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from models import Tiny
from pickles import BAD, GOOD, saved
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import zoo
from zoo.cli import commands
from zoo.convert import convert_file
from zoo.errors import SpecError, WeightsCorrupt, WeightsError, WeightsMismatch, WeightsNotFound
from zoo.testing import perturb
from zoo.weights import isolate, pickled

LAYOUTS = {"renamed": "models:renamed"}


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return perturb(Tiny()).state_dict()


@pytest.fixture(params=["here", pytest.param("child", marks=pytest.mark.slow)])
def convert(request, state, tmp_path) -> Callable:
    """`convert(bytes)`, without the child that costs seconds; with it where all tests run."""
    parameters = dict(Tiny().named_parameters())
    wanted = {k: (list(t.shape), str(t.dtype).removeprefix("torch."), k in parameters) for k, t in state.items()}

    def convert(data: bytes, *, key: str = "", layouts: dict[str, str] = LAYOUTS):
        source, output = tmp_path / "file.pth", tmp_path / "out.safetensors"
        source.write_bytes(data)
        asked = {"key": key, "name": "tiny", "layouts": layouts, "wanted": wanted}
        if request.param == "child":
            return output, isolate.convert_in_child(source, output, asked)
        return output, pickled.convert(asked | {"source": str(source), "output": str(output)})

    return convert


@pytest.mark.parametrize("name", BAD)
def test_31_a_bad_pickle_is_one_error_and_has_no_effect(name, convert, state, tmp_path):
    make, words = BAD[name]
    mark = tmp_path / "side_effect"
    data = make(state, mark)
    with pytest.raises(WeightsError) as caught:
        convert(data, layouts={})
    text = str(caught.value)
    assert words in text, text
    assert str(tmp_path / "file.pth") in text
    assert caught.value.hint
    assert len(text) < 1000
    assert [p.name for p in tmp_path.iterdir()] == ["file.pth"]


def test_31_what_is_evil_here_is_evil_elsewhere(state, tmp_path):
    for i, name in enumerate(["evil", "evil, legacy"]):
        mark = tmp_path / str(i)
        (tmp_path / "file.pth").write_bytes(BAD[name][0](state, mark))
        torch.load(tmp_path / "file.pth", weights_only=False)
        assert mark.exists()


@pytest.mark.parametrize("name", GOOD)
def test_31_however_a_checkpoint_is_packed_its_tensors_come_out(name, convert, state):
    make, note = GOOD[name]
    output, said = convert(make(state))
    found = load_file(output)
    assert found.keys() == state.keys()
    for key, tensor in state.items():
        started_anew = name == "no counters" and key.endswith("num_batches_tracked")
        assert torch.equal(found[key].to(tensor.dtype), torch.zeros_like(tensor) if started_anew else tensor), key
    assert note in "\n".join(said["notes"])
    assert bool(said["notes"]) == bool(note)
    assert said["layout"] == ("renamed" if name == "another layout" else "")
    with safe_open(output, "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_the_key_says_which_of_several(convert, state):
    data = GOOD["averaged"][0](state)
    output, said = convert(data, key="model_ema")
    assert torch.equal(load_file(output)["fc.bias"], state["fc.bias"] + 1)
    assert said["key"] == "model_ema"
    convert(saved({"a": {"b": state}}), key="a.b")
    with pytest.raises(WeightsMismatch, match="under 'ema': its keys are model, model_ema"):
        convert(data, key="ema")


def test_another_model_is_said_with_the_first_names_and_the_layouts(convert):
    with pytest.raises(WeightsMismatch, match=r"known layout \(renamed\); it has 'blocks.0.w'.* lacks 'body.bias'"):
        convert(saved({"blocks.0.w": torch.ones(1)}))


# --- the child --------------------------------------------------------------------------------------------------------


@pytest.fixture
def in_child(state, tmp_path, monkeypatch):
    """`in_child(layout)` converts a file of no known kind by a layout that misbehaves."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_SECRET", "hf_secret")
    source = tmp_path / "file.pth"
    source.write_bytes(saved(state))

    def convert(layout: str):
        request = {"key": "", "name": "tiny", "layouts": {"theirs": f"models:{layout}"}, "wanted": {}}
        with pytest.raises(WeightsError) as caught:
            isolate.convert_in_child(source, tmp_path / "out.safetensors", request)
        assert [p.name for p in tmp_path.iterdir()] == ["file.pth"]
        return str(caught.value)

    return convert


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have fewer limits")
def test_31_code_that_ran_in_the_child_would_find_nothing_to_do(in_child):
    text = in_child("looks_around")
    assert "managed to: []" in text
    code = "import ctypes; l = ctypes.CDLL(None); print(l.unshare(0x40000000) and l.unshare(0x50000000))"
    may_leave = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"0\n"
    assert not may_leave or str(Path("/proc/self/ns/net").readlink()) not in text


def test_31_a_child_that_crashes_is_one_error(in_child):
    assert "crashes (signal 6)" in in_child("aborts")


@pytest.mark.slow
def test_31_a_child_that_takes_too_long_is_one_error(in_child, monkeypatch):
    monkeypatch.setattr(isolate, "SECONDS", 4)
    assert "more than 4 s of CPU" in in_child("never_ends")
    assert "more than 12 s" in in_child("sleeps")


# --- zoo convert FILE OUT --model NAME --------------------------------------------------------------------------------


@pytest.fixture
def shelf():
    with zoo.testing.isolated():
        zoo.register(zoo.ModelSpec(name="tiny", builder="models:tiny", num_classes=5, layouts=LAYOUTS))
        yield


def run(*arguments, code=0):
    result = CliRunner().invoke(commands, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result


def test_the_command_writes_a_file_that_zoo_loads(shelf, state, tmp_path):
    source, output = tmp_path / "theirs.pyth", tmp_path / "ours.safetensors"
    source.write_bytes(saved({"model_state": {f"module.{k}": v for k, v in state.items()}, "cfg": "NUM_GPUS: 8"}))
    (tmp_path / "plain").touch()
    done = run("convert", source, output, "--model", "local/tiny")
    assert done.stdout == f"{output}\n"
    assert "took 'module.' off every name" in done.stderr
    model = zoo.load(zoo.build("local/tiny"), output)
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert output.stat().st_mode == (tmp_path / "plain").stat().st_mode  # 42
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ours.safetensors", "plain", "theirs.pyth"]
    assert "is there already" in run("convert", source, output, "--model", "local/tiny", code=2).stderr


def test_what_cannot_be_converted_is_said_before_anything_is_opened(shelf, state, tmp_path):
    source, output = tmp_path / "a.pth", tmp_path / "b.safetensors"
    source.write_bytes(b"never looked at")
    for wrong, error, words in (
        ({"source": tmp_path / "none.pth"}, WeightsNotFound, "No such file"),
        ({"source": tmp_path}, WeightsNotFound, "Is a directory"),
        ({"output": tmp_path / "b.pth"}, SpecError, "not a .safetensors file"),
        ({"output": tmp_path / "none" / "b.safetensors"}, WeightsError, "cannot be written"),
        ({"model": "local/none"}, LookupError, "no model"),
    ):
        with pytest.raises(error, match=words):
            convert_file(**{"source": source, "output": output, "model": "local/tiny", **wrong})
    save_file(state, tmp_path / "c.safetensors")
    assert "say of which architecture" in run("convert", source, output, code=2).stderr
    assert "say where to write it" in run("convert", source, "--model", "local/tiny", code=2).stderr
    assert not output.exists()


def test_a_safetensors_file_needs_no_conversion(convert, state, tmp_path):
    save_file(state, tmp_path / "a")
    with pytest.raises(WeightsCorrupt, match=r"zoo\.load reads as it is"):
        convert((tmp_path / "a").read_bytes())
