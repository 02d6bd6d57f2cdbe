"""Files of weights that are wrong in every way: the right model, or one error that says what is wrong (26 - 30)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from malformed import CASES, CORRUPT, GOOD
from models import Tiny
from safetensors.torch import save_file

import zoo
from zoo.errors import PluginError, WeightsCorrupt, WeightsError, WeightsMismatch
from zoo.testing import perturb
from zoo.weights.assign import load_into
from zoo.weights.safetensors_file import SafetensorsFile

CHILD = """
import json, resource, sys, time
from pathlib import Path
import torch
import zoo
from zoo.errors import ZooError
from zoo.weights.assign import load_into
from zoo.weights.safetensors_file import SafetensorsFile

class One(zoo.VideoModel):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(2))

used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (512 << 20),) * 2)
for path in sorted(Path(sys.argv[1]).iterdir()):
    for mapped in (False, True):
        model, start, told = One(), time.perf_counter(), ""
        try:
            load_into(model, SafetensorsFile(path, mapped=mapped), name="one", finite=True)
        except ZooError as error:
            told = f"{type(error).__name__} {error}"
        print(json.dumps([path.name, mapped, told, model.w.tolist(), time.perf_counter() - start]), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("malformed")
    for number, (data, _) in enumerate(CASES.values()):
        (folder / f"{number:02}").write_bytes(data)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error", "-c", CHILD, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {(list(CASES)[int(name)], mapped): rest for name, mapped, *rest in rows}


@pytest.mark.parametrize("mapped", [False, True], ids=["read", "mapped"])
@pytest.mark.parametrize("case", CASES)
def test_26_a_malformed_file_is_one_error_in_little_time_and_memory(outcomes, case, mapped):
    told, values, seconds = outcomes[case, mapped]
    expected = CASES[case][1]
    assert told.partition(" ")[0] == expected, told
    assert values == ([0.0, 0.0] if expected else [1.0, 2.0])
    assert seconds < 1.0
    assert len(told) < 3000


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_26_any_change_of_a_good_file_gives_an_error_or_a_whole_model(tmp_path_factory, data):
    content = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "mutated.safetensors"
    path.write_bytes(content)
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.zeros(2))
    try:
        load_into(model, SafetensorsFile(path), name="one")
    except WeightsError:
        assert model.w.tolist() == [0.0, 0.0]
    else:
        assert model.w.shape == (2,)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return perturb(Tiny()).state_dict()


def published(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors as somebody else names them."""
    return {f"net.{key}": tensor.clone() for key, tensor in state.items()}


def from_net(tensors):
    if not all(key.startswith("net.") for key in tensors):
        return None
    return {key.removeprefix("net."): tensor for key, tensor in tensors.items()}


def from_other(tensors):
    return {"fc.weight": tensors["head.w"]}


def not_a_layout(tensors):
    return list(tensors)


LAYOUTS = {"other": "test_weights_files:from_other", "net": "test_weights_files:from_net"}


@pytest.fixture
def tiny(state, tmp_path):
    """`tiny(layouts)` registers local/tiny; `.save(state)` writes a file."""

    class Desk:
        def __call__(self, layouts=LAYOUTS, **weights):
            zoo.register(zoo.ModelSpec(name="tiny", builder="models:tiny", layouts=layouts, weights=weights))
            return zoo.build("local/tiny")

        def save(self, tensors) -> Path:
            save_file({k: v.contiguous() for k, v in tensors.items()}, path := tmp_path / "some.safetensors")
            return path

    with zoo.testing.isolated():
        yield Desk()


def test_a_published_layout_is_recognised_by_its_keys(tiny, state):
    model = zoo.load(tiny(), tiny.save(published(state)))
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    zoo.load(model, tiny.save(state))  # and our own names need no layout


def test_a_layout_has_to_fit_to_the_last_key(tiny, state):
    broken = published(state)
    del broken["net.fc.bias"]
    with pytest.raises(WeightsMismatch, match=r"layout 'net'.*1 missing: fc\.bias"):
        zoo.load(tiny(), tiny.save(broken))


def test_an_unknown_layout_names_the_known_ones_and_the_first_differences(tiny, state):
    with pytest.raises(WeightsMismatch) as caught:
        zoo.load(tiny(), tiny.save({f"x.{key}": tensor for key, tensor in state.items()}))
    for word in ("other (KeyError", "net", "'x.body.bias'", "'body.bias'"):
        assert word in str(caught.value)


def test_a_declared_layout_is_the_only_one_that_is_tried(tiny, state):
    path = tiny.save(published(state))
    tiny(right=zoo.Weights(source=str(path), layout="net"), wrong=zoo.Weights(source=str(path), layout="other"))
    assert torch.equal(zoo.create("local/tiny.right").fc.bias, state["fc.bias"])
    with pytest.raises(WeightsMismatch):
        zoo.create("local/tiny.wrong")
    tiny({}, lost=zoo.Weights(source=str(path), layout="nowhere"))
    with pytest.raises(PluginError, match="no layout 'nowhere'"):
        zoo.create("local/tiny.lost")


@pytest.mark.parametrize("reference", ["test_weights_files:not_a_layout", "test_weights_files:gone", "no_such:thing"])
def test_a_layout_function_that_breaks_its_contract_is_the_plugins_fault(tiny, state, reference):
    with pytest.raises(PluginError):
        zoo.load(tiny({"bad": reference}), tiny.save(published(state)))


def test_27_a_parameter_that_is_no_number_is_refused_where_nobody_reviewed_the_file(tiny, state):
    state["fc.weight"][0, 0] = float("nan")
    with pytest.raises(WeightsCorrupt, match=r"fc\.weight holds NaN"):
        zoo.load(tiny(), tiny.save(state))


def test_28_other_classes_still_need_the_whole_published_file(tiny, state):
    path = tiny.save({key: tensor for key, tensor in state.items() if key != "fc.bias"})
    tiny(t=zoo.Weights(source=str(path), num_classes=5))
    with pytest.raises(WeightsMismatch, match=r"fc\.bias"):
        zoo.create("local/tiny.t", num_classes=3)
    tiny(t=zoo.Weights(source=str(tiny.save(state)), num_classes=5))
    model = zoo.create("local/tiny.t", num_classes=3)
    assert model.fc.weight.shape[0] == 3
    assert torch.equal(model.body.weight, state["body.weight"])


def test_a_model_keeps_its_own_type_and_create_converts_once(tiny, state):
    path = tiny.save(state)
    model = zoo.load(tiny(t=zoo.Weights(source=str(path), num_classes=5)).to(torch.bfloat16), path)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    made = zoo.create("local/tiny.t", dtype=torch.bfloat16)
    assert {t.dtype for t in [*made.parameters(), made.scale]} == {torch.bfloat16}
    assert torch.equal(made.fc.weight, state["fc.weight"].bfloat16())


def test_29_a_file_of_the_users_is_read_and_zoo_mmap_keeps_all_files_from_being_mapped(tmp_path, monkeypatch, state):
    save_file(state, path := tmp_path / "some.safetensors")

    def survives(mapped: bool) -> bool:
        tensor = SafetensorsFile(path, mapped=mapped).tensor("fc.weight")
        with path.open("r+b") as stream:  # in place: what the cache never does, and users do
            stream.seek(-len(GOOD), os.SEEK_END)
            content = path.read_bytes()
            stream.seek(0)
            stream.write(content[:8] + content[8:].replace(state["fc.weight"].numpy().tobytes(), bytes(160)))
        intact = torch.equal(tensor, state["fc.weight"])
        path.write_bytes(content)
        return intact

    assert survives(mapped=False)
    assert not survives(mapped=True)
    monkeypatch.setenv("ZOO_MMAP", "0")
    assert survives(mapped=True)


def test_numbers_whose_sum_is_too_large_are_still_numbers(tmp_path):
    large = {"w": torch.full((2,), 3e38)}
    save_file(large, tmp_path / "large.safetensors")
    model = torch.nn.ParameterDict({"w": torch.zeros(2)})
    load_into(model, SafetensorsFile(tmp_path / "large.safetensors"), name="large", finite=True)
    assert torch.equal(model["w"], large["w"])


def test_30_what_was_renamed_is_named(outcomes):
    for case, word in (("pickle", "pickle"), ("zip", "zip"), ("web page", "web page"), ("LFS pointer", "LFS pointer")):
        assert outcomes[case, False][0].startswith(CORRUPT)
        assert word in outcomes[case, False][0]
