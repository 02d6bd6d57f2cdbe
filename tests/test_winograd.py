"""3D convolutions by Winograd's algorithm: equal to torch's, used where they can be and where they are faster."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule

import zoo
from zoo.deploy import winograd
from zoo.deploy.compiled import CompiledModel


@pytest.fixture
def uncompiled(monkeypatch):
    """Without what makes code, which takes 10 s for each size."""
    monkeypatch.setattr(winograd, "_compiled", lambda function, *sizes: function)


@pytest.mark.parametrize(
    ("shape", "out", "steps", "in_time"),
    [
        ((2, 8, 5, 9, 11), 12, 3, 1),
        ((1, 4, 4, 8, 8), 6, 1, 0),
        ((3, 5, 6, 1, 4), 4, 5, 0),
        ((1, 3, 3, 5, 2), 4, 3, 2),
        ((2, 40, 8, 45, 40), 4, 3, 1),  # in several blocks
    ],
)
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_it_is_a_convolution(uncompiled, monkeypatch, shape, out, steps, in_time, biased, channels_last):
    monkeypatch.setattr(winograd, "BLOCK", 8000)  # several of them, in the last case
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=draw)
    weight = torch.randn((out, shape[1], steps, 3, 3), generator=draw)
    bias = torch.randn(out, generator=draw) if biased else None
    exact = [None if tensor is None else tensor.double() for tensor in (x, weight, bias)]
    wanted = F.conv3d(*exact, padding=(in_time, 1, 1))
    if channels_last:
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    said = winograd.convolve(x, weight, bias, in_time)
    assert said.shape == wanted.shape and said.dtype == torch.float32
    assert float((said - wanted).abs().max() / wanted.abs().max()) < 2e-5
    in_double = winograd.convolve(*exact, in_time)
    assert float((in_double - wanted).abs().max() / wanted.abs().max()) < 1e-13


def traced(network: nn.Module, x: Tensor) -> tuple[tuple[int, int], Tensor]:
    """(how many convolutions were replaced, of how many), and what the graph says then."""
    found = []
    torch._dynamo.reset()  # it keeps only so many graphs of one forward

    def backend(graph: GraphModule, inputs: Any) -> Any:
        found.append(winograd.use_winograd(graph))
        return graph.forward

    with torch.no_grad():
        said = torch.compile(network, fullgraph=True, backend=backend)(x)
    return found[0], said


BIG = (1, 32, 8, 40, 40)
SUITS = {"kernel_size": 3, "padding": 1}


@pytest.mark.parametrize(
    ("shape", "options", "used"),
    [
        (BIG, SUITS, True),
        (BIG, {"kernel_size": (5, 3, 3), "padding": (2, 1, 1)}, True),
        ((1, 32, 8, 39, 41), SUITS, True),
        (BIG, SUITS | {"bias": False}, True),
        (BIG, SUITS | {"stride": 2}, False),
        (BIG, SUITS | {"stride": (2, 1, 1)}, False),
        (BIG, SUITS | {"padding": (1, 0, 0)}, False),
        (BIG, SUITS | {"padding": "same"}, False),
        (BIG, SUITS | {"groups": 32}, False),
        (BIG, SUITS | {"padding": 2, "dilation": 2}, False),
        (BIG, {"kernel_size": (3, 1, 1), "padding": (1, 0, 0)}, False),
        (BIG[1:], SUITS, False),  # without a batch
        (BIG, {"kernel_size": (1, 3, 3), "padding": (0, 1, 1)}, False),
        ((1, 32, 4, 4, 4), SUITS, False),  # few tiles
        ((1, 8, 8, 40, 40), SUITS | {"in_channels": 8}, False),
    ],
)
def test_only_what_it_can_compute_and_gains_by_is_replaced(uncompiled, shape, options, used):
    torch.manual_seed(0)
    options = {"in_channels": 32, "out_channels": 64} | options
    convolution = nn.Conv3d(**options)
    x = torch.randn(shape)
    counted, said = traced(nn.Sequential(convolution, nn.ReLU()), x)
    assert counted == (int(used), 1)
    torch.testing.assert_close(said, F.relu(convolution(x)).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_the_result_lies_in_memory_as_before(uncompiled, layout):
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv3d(32, 32, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.convolution(x)
            return y.view(len(x), -1) if layout is torch.contiguous_format else y.permute(0, 2, 3, 4, 1).view(-1, 32)

    network, x = Flat(), torch.randn(1, 32, 8, 47, 46).contiguous(memory_format=layout)
    counted, said = traced(network, x)
    assert counted == (1, 1)
    torch.testing.assert_close(said, network(x).detach(), rtol=1e-4, atol=1e-4)


def test_other_types_and_devices_stay_as_they_are(uncompiled):
    convolution = nn.Conv3d(32, 64, 3, padding=1)
    assert traced(convolution, torch.randn(BIG))[0] == (1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert traced(convolution, torch.randn(BIG))[0] == (0, 1)
    assert traced(convolution.double(), torch.randn(BIG).double())[0] == (0, 1)
    assert traced(convolution.to("meta", torch.float32), torch.randn(BIG, device="meta"))[0] == (0, 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*random weights")
def test_a_compiled_network_uses_it_and_says_so():
    """For one clip, and for another number of them."""
    model = zoo.testing.perturb(zoo.create("r3d_18", num_classes=5)).eval()
    made = CompiledModel(model)
    for clips in (1, 2, 3):
        x = torch.randn(clips, 3, 8, 64, 64, generator=torch.Generator().manual_seed(clips))
        with torch.no_grad():
            said, wanted = made.forward_embedding(x), model.forward_embedding(x)
        assert float((said - wanted).abs().max() / wanted.abs().max()) < 1e-4
        used, of = made.changes["convolutions by Winograd"]
        assert 0 < used < of
