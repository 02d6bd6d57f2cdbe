"""Specs are frozen, checked, plain data."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import pytest

import zoo
from zoo.errors import SpecError
from zoo.spec import SAMPLERS

SPEC = zoo.ModelSpec(
    name="a",
    builder="pkg.module:function",
    kwargs={"depth": 18},
    preprocessing=zoo.Preprocessing(num_frames=16, fps=15, resize=(128, 171), crop=112, sampler="resampled_tv"),
    geometry=zoo.Geometry(min_frames=4, size=(112, 112)),
    weights={
        "t": zoo.Weights(
            source="pkg://package/file.safetensors",
            labels=("x", "y"),
            metrics=(
                zoo.Metric(name="top-1", value=63.2, dataset="Kinetics-400", origin="published", by="torchvision"),
            ),
        )
    },
    default_tag="t",
)


def test_a_spec_survives_pickle_copy_and_json():
    assert pickle.loads(pickle.dumps(SPEC)) == SPEC == copy.deepcopy(SPEC)
    assert hash(pickle.loads(pickle.dumps(SPEC))) == hash(SPEC)
    assert zoo.ModelSpec.from_dict(json.loads(json.dumps(SPEC.to_dict()))) == SPEC


def test_a_spec_cannot_be_changed_even_inside():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SPEC.name = "b"
    for change in (
        lambda: SPEC.kwargs.update(depth=34),
        lambda: SPEC.weights.pop("t"),
        lambda: SPEC.kwargs.__setitem__("depth", 34),
    ):
        with pytest.raises(TypeError, match="frozen"):
            change()


def test_weights_know_their_tag_and_number_of_classes():
    assert SPEC.weights["t"].tag == "t"
    assert SPEC.weights["t"].num_classes == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zoo.ModelSpec(name="A", builder="x:y"), "lower case letters"),
        (lambda: zoo.ModelSpec(name="a.b", builder="x:y"), "lower case letters"),
        (lambda: zoo.ModelSpec(name="a"), "builder"),
        (lambda: zoo.ModelSpec(name="a", builder="os.system"), "package.module:function"),
        (lambda: zoo.ModelSpec(name="*", builder="x:y"), "resolver"),
        (lambda: zoo.ModelSpec(name="a", builder="x:y", layouts={"tv": "no function"}), "layouts"),
        (lambda: zoo.ModelSpec(name="a", builder="x:y", default_tag="t"), "there are none"),
        (lambda: zoo.ModelSpec(name="a", builder="x:y", weights={"T 1": zoo.Weights(source="f")}), "tag 'T 1'"),
        (lambda: zoo.ModelSpec(name="a", builder="x:y", weights={"t": "file"}), "zoo.Weights"),
        (lambda: zoo.Weights(), "source"),
        (lambda: zoo.Weights(source="https://somewhere/file"), "hf://"),
        (lambda: zoo.Weights(source="f", sha256="abc"), "64 hexadecimal"),
        (lambda: zoo.Weights(source="f", labels=("a", "b"), num_classes=3), "there are that many labels"),
        (lambda: zoo.Weights(source="f", size=0), "bytes"),
        (lambda: zoo.Preprocessing(num_frames=0), "num_frames"),
        (lambda: zoo.Preprocessing(num_frames=True), "num_frames"),
        (lambda: zoo.Preprocessing(num_frames=8, sampler="magic"), "uniform"),
        (lambda: zoo.Preprocessing(num_frames=8, crops=2), "crops"),
        (lambda: zoo.Preprocessing(num_frames=8, crops=3), "three crops"),
        (lambda: zoo.Preprocessing(num_frames=8, mean=(0.5,)), "three numbers"),
        (lambda: zoo.Preprocessing(num_frames=8, std=(0, 1, 1)), "other than zero"),
        (lambda: zoo.Preprocessing(num_frames=8, resize=(0, 3)), "resize"),
        (lambda: zoo.Preprocessing(num_frames=8, fps=-1), "fps"),
        (lambda: zoo.Preprocessing.from_dict({"num_frames": 8, "frames": 3}), "no field 'frames'"),
        (lambda: zoo.Preprocessing(num_frames=8, fps="15"), "fps"),
        (lambda: zoo.Preprocessing(num_frames=8, fps=float("inf")), "fps"),
        (lambda: zoo.Preprocessing(num_frames=8, mean=0.5), "mean"),
        (lambda: zoo.Preprocessing(num_frames=8, std=(float("nan"), 1, 1)), "std"),
        (lambda: zoo.Weights(source=5), "source"),
        (lambda: zoo.Weights(source="f", labels="static"), "labels"),
        (lambda: zoo.Weights(source="f", labels=(1, 2)), "labels"),
        (lambda: zoo.Weights(source="f", metrics=(1,)), "metrics"),
        (lambda: zoo.Weights(source="f", num_classes="3"), "num_classes"),
        (lambda: zoo.ModelSpec(name="a", builder=5), "builder"),
        (lambda: zoo.ModelSpec(name="a", builder="x:y", layouts="x"), "layouts"),
        (lambda: zoo.ModelSpec(name="a", builder="x:y", layouts={"a": 5}), "layouts"),
        (lambda: zoo.ModelSpec(name="a", builder="x:y", weights=[1]), "weights"),
        (lambda: zoo.Geometry(size=224), "height, width"),
        (lambda: zoo.Metric(name="a", value=1, dataset="d", origin="guess", by="me"), "measured, published"),
        (lambda: zoo.Metric(name="a", value=1, dataset="d", origin="measured", by=""), "by"),
    ],
)
def test_what_cannot_be_right_raises_at_construction(make, message):
    with pytest.raises(SpecError, match=message):
        make()


def test_an_unknown_field_is_a_type_error_as_for_every_dataclass():
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        zoo.ModelSpec(name="a", bulider="x:y")


def test_the_samplers_of_the_spec_are_those_that_exist():
    from zoo.video import sampling

    assert tuple(sampling.SAMPLERS) == SAMPLERS


@pytest.mark.parametrize(
    ("geometry", "shape", "problem"),
    [
        (zoo.Geometry(), (1, 3, 1, 1, 1), ""),
        (zoo.Geometry(), (3, 16, 112, 112), "five dimensions"),
        (zoo.Geometry(), (1, 4, 16, 112, 112), "4 channels"),
        (zoo.Geometry(frames=16), (1, 3, 8, 112, 112), "8 frames instead of 16"),
        (zoo.Geometry(min_frames=16), (1, 3, 8, 112, 112), "8 frames"),
        (zoo.Geometry(frames_multiple=2), (1, 3, 7, 112, 112), "7 frames"),
        (zoo.Geometry(size=(224, 224)), (1, 3, 8, 224, 112), "224x112 pixels instead of 224x224"),
        (zoo.Geometry(min_size=32), (1, 3, 8, 31, 112), "31x112"),
        (zoo.Geometry(size_multiple=16), (1, 3, 8, 32, 40), "32x40"),
    ],
)
def test_geometry_names_what_does_not_fit(geometry, shape, problem):
    found = geometry.problem(shape)
    assert (found == "") == (problem == "")
    assert problem in found


def test_a_protocol_can_be_said_in_words():
    text = SPEC.preprocessing.describe()
    assert "16 frames at 15 fps" in text
    assert "128x171" in text
    assert "crop 112x112" in text
