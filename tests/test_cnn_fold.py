"""Folding batch norms is one call that changes neither the model nor what it says."""

from __future__ import annotations

import cnn_reference as reference
import pytest
import torch
from torch import nn

from zoo_cnn.fold import fold_batch_norms

FEW = (
    "i3d_r50",
    "slowfast_r50",
    "csn_r101",
    "r2plus1d_r50",
    "x3d_xs",
    "movinet_a0_base",
    "movinet_a0_stream",
    "r3d_18",
)


@pytest.mark.parametrize("name", FEW)
def test_a_folded_copy_says_the_same_without_a_batch_norm(name: str) -> None:
    model = reference.build(name).eval()
    model.load_state_dict(reference.seeded(model.state_dict()))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x = reference.clip(8 if name.startswith("slowfast") else 4, 40)
    with torch.no_grad():
        wanted = model.train().eval()(x)
        folded = fold_batch_norms(model.train())
        got = folded(x)
    assert not folded.training and model.training
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in folded.modules())
    assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_the_state_of_a_stream_survives_folding() -> None:
    model = reference.build("movinet_a0_stream")
    model.load_state_dict(reference.seeded(model.state_dict()))
    folded, frames = fold_batch_norms(model), reference.clip(4, 32)
    state = folded.init_state(1)
    with torch.no_grad():
        for frame in frames.split(1, 2):
            logits, state = folded.step(frame, state)
        wanted = model.eval()(frames)
    assert (logits - wanted).abs().max() <= 1e-5 * wanted.abs().max()
