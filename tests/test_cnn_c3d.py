"""C3D is the paper's: counted as MMAction2 counts it, and computed once more from torch's functions alone."""

from __future__ import annotations

import cnn_reference as reference
import pytest
import torch
import torch.nn.functional as F

import zoo
from zoo.errors import GeometryError
from zoo_cnn import layouts
from zoo_cnn.specs import MODELS

(SPEC,) = (spec for spec in MODELS if spec.name == "c3d")


def test_it_has_the_parameters_of_mmaction2() -> None:
    with torch.device("meta"):
        trunk, whole = reference.build("c3d", num_classes=0), reference.build("c3d")
    assert sum(p.numel() for p in trunk.parameters()) == 77_995_776
    assert sum(p.numel() for p in whole.parameters()) == SPEC.params == 77_995_776 + 4097 * 487
    features = trunk.forward_features(torch.empty(1, 3, 16, 112, 112, device="meta"))
    assert features.shape == (1, 512, 1, 4, 4)
    assert trunk(torch.empty(2, 3, 16, 112, 112, device="meta")).shape == (2, 4096)
    shapes = [tuple(m.shape[1:4]) for m in trunk.forward_intermediates(torch.empty(1, 3, 16, 112, 112, device="meta"))]
    assert shapes == [(64, 16, 56), (128, 8, 28), (256, 4, 14), (512, 2, 7), (512, 1, 4)]
    groups = whole.layer_groups()
    assert list(groups) == ["layer1", "layer2", "layer3", "layer4", "layer5", "head"]
    assert sorted(n for names in groups.values() for n in names) == sorted(n for n, _ in whole.named_parameters())
    whole.reset_classifier(7)
    assert whole.fc8.weight.shape == (7, 4096) and whole.fc8.weight.is_meta


def test_the_logits_are_those_of_the_layers_of_the_paper() -> None:
    model = reference.build("c3d", num_classes=11).eval()
    state = reference.seeded(model.state_dict())
    model.load_state_dict(state)
    clip = reference.clip(16, 112)
    x = clip
    for name in ("1a", "pool1", "2a", "pool2", "3a", "3b", "pool2", "4a", "4b", "pool2", "5a", "5b", "last"):
        if name == "last":
            x = F.max_pool3d(F.pad(x, (1, 1, 1, 1), value=-torch.inf), 2, 2)
        elif name.startswith("pool"):
            x = F.max_pool3d(x, (int(name[-1]), 2, 2))
        else:
            x = F.relu(F.conv3d(x, state[f"conv{name}.weight"], state[f"conv{name}.bias"], padding=1))
    x = x.flatten(1)
    for name in ("fc6", "fc7"):
        x = F.relu(F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"]))
    wanted = F.linear(x, state["fc8.weight"], state["fc8.bias"])
    with torch.no_grad():
        got = model(clip)
        pooled = model.forward_head(model.forward_features(clip), pre_logits=True)
    assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert (pooled - x).abs().max() <= 1e-5 * x.abs().max()


def test_any_other_clip_is_refused() -> None:
    with torch.device("meta"):
        model = reference.build("c3d")
    model.geometry = SPEC.geometry
    with pytest.raises(GeometryError, match="16 frames and 112x112 pixels"):
        model(torch.empty(1, 3, 16, 128, 128, device="meta"))
    assert SPEC.preprocessing.mean[0] * 255 == pytest.approx(104)


def test_names_of_mmaction2_become_ours() -> None:
    with torch.device("meta"):
        ours = reference.build("c3d").state_dict()
    theirs = {
        (
            f"cls_head.fc_cls.{k.split('.')[1]}"
            if k.startswith("fc8")
            else f"backbone.{k.replace('.', '.conv.', 1)}"
            if k.startswith("conv")
            else f"backbone.{k}"
        ): v
        for k, v in ours.items()
    }
    assert "backbone.conv1a.conv.weight" in theirs and "backbone.fc6.bias" in theirs
    converted = layouts.mmaction2_c3d(theirs)
    assert converted.keys() == ours.keys() and all(converted[key] is value for key, value in ours.items())
    assert zoo.ModelSpec.from_dict(SPEC.to_dict()) == SPEC
