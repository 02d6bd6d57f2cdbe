"""What every VideoModel can do, shown on a small one."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from models import Tiny

from zoo.testing import perturb


@pytest.fixture
def model() -> Tiny:
    return perturb(Tiny()).eval()


CLIP = torch.linspace(-1, 1, 2 * 3 * 4 * 8 * 8).reshape(2, 3, 4, 8, 8)


def test_forward_is_head_of_features_and_leaves_the_clip_alone(model):
    clip = CLIP.clone()
    logits = model(clip)
    assert logits.shape == (2, 5)
    assert torch.equal(clip, CLIP)
    features = model.forward_features(clip)
    assert features.shape == (2, model.num_features, 2, 4, 4)
    assert torch.equal(model.forward_head(features), logits)
    assert model.forward_head(features, pre_logits=True).shape == (2, 8)
    assert model.frame_features(features).shape == (2, 2, 8)


def test_intermediates_by_position_from_either_end(model):
    stem, body = model.forward_intermediates(CLIP)
    assert torch.equal(body, model.forward_features(CLIP))
    assert torch.equal(model.forward_intermediates(CLIP, [0])[0], stem)
    assert torch.equal(model.forward_intermediates(CLIP, [-1])[0], body)
    assert torch.equal(model.forward_intermediates(CLIP, 1)[0], body)
    assert len(model.forward_intermediates(CLIP, (0, -1))) == 2
    assert model.forward_intermediates(CLIP, []) == []
    with pytest.raises(IndexError, match=r"2 stages \(stem, body\)"):
        model.forward_intermediates(CLIP, [2])
    with pytest.raises(IndexError):
        model.forward_intermediates(CLIP, 3)
    with pytest.raises(IndexError):
        model.forward_intermediates(CLIP, 0)


def test_early_intermediates_do_not_run_the_rest(model):
    model.body.register_forward_hook(lambda *_: pytest.fail("the second stage has run"))
    model.forward_intermediates(CLIP, [0])


def test_layer_groups_name_every_parameter_once_from_input_to_head(model):
    groups = model.layer_groups()
    assert list(groups) == ["stem", "body", "head"]
    names = [name for group in groups.values() for name in group]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert groups["head"] == ["fc.weight", "fc.bias"]


def test_checkpointing_changes_no_gradient(model):
    def gradients():
        model.zero_grad()
        model(CLIP).square().sum().backward()
        return [p.grad.clone() for p in model.parameters()]

    expected = gradients()
    model.set_grad_checkpointing(True)
    calls = []
    model.stem.register_forward_hook(lambda *_: calls.append(1))
    assert all(torch.equal(a, b) for a, b in zip(gradients(), expected, strict=True))
    assert len(calls) == 2, "the stage runs again in backward"


def test_checkpointing_counts_each_clip_once_in_the_running_statistics(model):
    def statistics(checkpointing):
        network = copy.deepcopy(model).train()
        network.set_grad_checkpointing(checkpointing)
        network(CLIP).sum().backward()
        return network.stem[1].running_mean, network.stem[1].running_var, network.stem[1].num_batches_tracked

    for with_it, without in zip(statistics(True), statistics(False), strict=True):
        assert torch.equal(with_it, without)


def test_without_a_head_logits_are_the_features(model):
    model.reset_classifier(0)
    assert torch.equal(model(CLIP), model.forward_head(model.forward_features(CLIP), pre_logits=True))


def test_copies_pickles_and_exports(model):
    expected = model(CLIP)
    assert torch.equal(copy.deepcopy(model)(CLIP), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(CLIP), expected)
    exported = torch.export.export(model, (CLIP,)).module()
    torch.testing.assert_close(exported(CLIP), expected)
