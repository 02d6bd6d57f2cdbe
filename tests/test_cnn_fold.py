"""Folding batch norms is one call that changes neither the model nor what it says, for every architecture."""

from __future__ import annotations

import cnn_reference as reference
import pytest
import torch
from cnn_reference import SPECS
from torch import nn

from zoo_cnn.fold import fold_batch_norms

# One of each kind with few layers: what differs is which module holds which norms.
FEW = (
    *("r2plus1d_18", "s3d", "r2plus1d_tiny", "slowfast_r50", "csn_r101", "r2plus1d_r50", "x3d_xs_psf"),
    *("movinet_a0_base", "movinet_a0_stream", "co_i3d_r50", "co_x3d_xs"),
)
FRAMES = {"slowfast_r50": 8, "s3d": 8, "co_i3d_r50": 12, "co_x3d_xs": 12}


def norms(model: nn.Module) -> list[str]:
    return [name for name, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize("name", FEW)
def test_a_folded_copy_says_the_same_without_a_batch_norm(name: str) -> None:
    check(name, SPECS[name].small)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_a_folded_copy_of_every_network_says_the_same(name: str) -> None:
    check(name, {"window": (1, 1, 1)} if name == "s3d" else {})


def check(name: str, options: dict) -> None:
    model = reference.build(name, **options).eval()
    model.load_state_dict(reference.seeded(model.state_dict()))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    geometry = model.geometry or SPECS[name].geometry
    frames = geometry.frames or max(FRAMES.get(name, 4), geometry.min_frames)
    x = reference.clip(frames, geometry.size[0] if geometry.size else max(40, geometry.min_size))
    with torch.no_grad():
        wanted = model.train().eval()(x)
        folded = fold_batch_norms(model.train())
        got = folded(x)
    assert not folded.training and model.training
    assert norms(folded) == [] and (norms(model) or name == "c3d")
    assert wanted.isfinite().all() and wanted.std() > 0
    assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_the_state_of_a_stream_survives_folding() -> None:
    model = reference.build("movinet_a0_stream", **SPECS["movinet_a0_stream"].small)
    model.load_state_dict(reference.seeded(model.state_dict()))
    folded, frames = fold_batch_norms(model), reference.clip(4, 32)
    state = folded.init_state(1)
    with torch.no_grad():
        for frame in frames.split(1, 2):
            logits, state = folded.step(frame, state)
        wanted = model.eval()(frames)
    assert (logits - wanted).abs().max() <= 1e-5 * wanted.abs().max()


# --- as a network runs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["r2plus1d_r50", "x3d_xs"])
def test_in_evaluation_a_norm_scales_weights_and_neither_numbers_nor_gradients_change(name: str) -> None:
    model = reference.build(name, **SPECS[name].small)
    model.load_state_dict(reference.seeded(model.state_dict()))
    model.double().eval()  # in which no ReLU turns by rounding
    x, shown = reference.clip(4, 32).double(), []

    def run() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        model.zero_grad()
        logits = model(x)
        logits.square().mean().backward()
        return logits.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}

    logits, gradients = run()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm3d):
            part.register_forward_hook(lambda norm, *_: shown.append(norm))  # whoever looks at a norm is shown it
    wanted, of_norms = run()
    assert len(shown) == len(norms(model))
    torch.testing.assert_close(logits, wanted, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradients, of_norms, rtol=1e-6, atol=1e-12)
    before = {key: value.clone() for key, value in model.state_dict().items() if "running" in key}
    model.train()(torch.cat([x, x + 1]))
    assert all(not torch.equal(model.state_dict()[key], value) for key, value in before.items()), "training counts"
