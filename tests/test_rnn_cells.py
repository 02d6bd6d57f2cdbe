"""Recurrent cells compute what torch's, the papers' equations and plain loops compute, with every weight moved."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.testing import perturb
from zoo_rnn.causal_rnn import CausalLevel, Memory
from zoo_rnn.conv_gru import ConvGRU
from zoo_rnn.conv_lstm import ConvLSTM
from zoo_rnn.conv_rnn import unroll
from zoo_rnn.lrcn import TorchRNN
from zoo_rnn.min_rnn import BLOCK, MinRNN, scan
from zoo_rnn.predrnn import STLSTM, PredRNNStack
from zoo_rnn.recurrent import RecurrentNet

CELLS = {
    "lstm": lambda **more: ConvLSTM(3, 4, **more),
    "peepholes": lambda **more: ConvLSTM(3, 4, peepholes=(1, 1), **more),
    "lstm with norm": lambda **more: ConvLSTM(3, 4, norm=True, **more),
    "gru": lambda **more: ConvGRU(3, 4, **more),
    "gru with norm": lambda **more: ConvGRU(3, 4, norm=True, **more),
}
every_cell = pytest.mark.parametrize("make", CELLS.values(), ids=CELLS)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ready(module: nn.Module) -> nn.Module:
    return perturb(module.double()).eval()


def past_of(cell: nn.Module, *shape: int) -> tuple[Tensor, ...]:
    return tuple(random(*shape, seed=i) for i, _ in enumerate(cell.PARTS, 1))


def assert_equal(got: Tensor, wanted: Tensor, tolerance: float = 1e-12) -> None:
    assert got.shape == wanted.shape and wanted.isfinite().all() and wanted.std() > 1e-3
    assert (got - wanted).abs().max() <= tolerance * wanted.abs().max()


# --- convolutional cells --------------------------------------------------------------------------------------------


def pixel(rows: Tensor) -> Tensor:
    return rows[:, :, None, None]


def test_a_conv_lstm_of_one_pixel_is_torchs_lstm_cell():
    theirs, ours = ready(nn.LSTMCell(3, 4)), ready(ConvLSTM(3, 4, kernel=1))
    with torch.no_grad():
        ours.conv_x.weight.copy_(pixel(theirs.weight_ih))
        ours.conv_h.weight.copy_(pixel(theirs.weight_hh))
        ours.conv_x.bias.copy_(theirs.bias_ih + theirs.bias_hh)
        x, past = random(2, 3), past_of(ours, 2, 4)
        for _ in range(3):
            wanted = theirs(x, past)
            got = ours(ours.inputs(pixel(x)), tuple(map(pixel, past)))
            for a, b in zip(got, wanted, strict=True):
                assert_equal(a, pixel(b))
            past = wanted


def test_a_conv_gru_of_one_pixel_is_torchs_gru_cell():
    theirs, ours = ready(nn.GRUCell(3, 4)), ready(ConvGRU(3, 4, kernel=1))
    with torch.no_grad():
        ours.conv_x.weight.copy_(pixel(theirs.weight_ih))
        ours.conv_h.weight.copy_(pixel(theirs.weight_hh))
        ours.conv_x.bias.copy_(theirs.bias_ih)
        ours.conv_h.bias.copy_(theirs.bias_hh)
        x, h = random(2, 3), random(2, 4, seed=1)
        for _ in range(3):
            wanted = theirs(x, h)
            assert_equal(ours(ours.inputs(pixel(x)), (pixel(h),))[0], pixel(wanted))
            h = wanted


@pytest.mark.parametrize("places", [(1, 1), (5, 6)])
def test_peepholes_are_the_papers(places):
    """Equation 3 of Shi et al., one product at a time; peepholes are Hadamard products with the cell."""
    cell = ready(ConvLSTM(3, 4, peepholes=places))
    x, (h0, c0) = random(2, 3, 5, 6), past_of(cell, 2, 4, 5, 6)
    w_x, w_h, b = cell.conv_x.weight.chunk(4), cell.conv_h.weight.chunk(4), cell.conv_x.bias.chunk(4)
    w_ci, w_cf, w_co = cell.peepholes

    def gate(k: int) -> Tensor:
        conv = nn.functional.conv2d
        return conv(x, w_x[k], padding=1) + conv(h0, w_h[k], padding=1) + b[k][:, None, None]

    i = torch.sigmoid(gate(0) + w_ci * c0)
    f = torch.sigmoid(gate(1) + w_cf * c0)
    c = f * c0 + i * torch.tanh(gate(2))
    o = torch.sigmoid(gate(3) + w_co * c)
    h = o * torch.tanh(c)
    got = cell(cell.inputs(x), (h0, c0))
    assert_equal(got[0], h)
    assert_equal(got[1], c)


@pytest.mark.parametrize("kind", [ConvLSTM, ConvGRU])
def test_norm_is_torchs_layer_norm_of_the_gates(kind):
    """Channels and places of one frame together, for input and past apart; a fresh gain is one."""
    cell = ready(kind(3, 4, norm=True))
    x = random(2, 3, 5, 6)
    raw = cell.conv_x(x)
    wanted = nn.functional.layer_norm(raw, raw.shape[1:]) * pixel(cell.norm_x.weight[None]) + pixel(
        cell.norm_x.bias[None]
    )
    assert_equal(cell.inputs(x), wanted)
    past = past_of(cell, 2, 4, 5, 6)
    louder = copy.deepcopy(cell)
    with torch.no_grad():  # a norm forgets how loud the past was, but for eps
        louder.conv_h.weight *= 1000
        if louder.conv_h.bias is not None:
            louder.conv_h.bias *= 1000
    assert (louder(cell.inputs(x), past)[0] - cell(cell.inputs(x), past)[0]).abs().max() < 1e-3


@every_cell
def test_gradients_of_cells_are_right(make):
    cell = ready(make())
    x, past = random(1, 3, 3, 2).requires_grad_(), [p.requires_grad_() for p in past_of(cell, 1, 4, 3, 2)]
    assert torch.autograd.gradcheck(lambda x, *past: cell(cell.inputs(x), past), (x, *past))


@pytest.mark.parametrize("name", ["lstm", "peepholes", "gru"])
def test_a_cell_moves_with_the_picture(name):
    """Away from the borders, what it says of a shifted picture is what it said, shifted."""
    cell = ready(CELLS[name]())
    maps = torch.zeros(1, 3, 3, 16, 16, dtype=torch.float64)
    maps[..., 6:10, 6:10] = random(1, 3, 3, 4, 4)
    state = {name: torch.zeros(1, 4, 1, 1, dtype=torch.float64) for name in cell.PARTS}
    with torch.no_grad():
        here, there = (unroll(cell, m, state)[0] for m in (maps, maps.roll((2, -3), (3, 4))))
    assert_equal(there[..., 6:10, 5:9], here[..., 4:8, 8:12], 1e-9)


# --- recurrent layers on rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("kind", "network"), [("lstm", nn.LSTM), ("gru", nn.GRU)])
def test_a_head_on_frozen_features_is_torchs_recurrent_network(kind, network, bidirectional):
    """The logits of the whole head, from the last output of either direction, and from the mean over time."""
    theirs = ready(network(6, 5, 2, batch_first=True, bidirectional=bidirectional))
    rnn = TorchRNN(kind, 6, 5, 2, bidirectional).double()
    rnn.network.load_state_dict(theirs.state_dict())
    rows = random(2, 7, 6)
    with torch.no_grad():
        outputs, last = theirs(rows)
        hidden = last[0] if kind == "lstm" else last  # [layers * directions, B, D]
        finals = torch.cat([hidden[-2], hidden[-1]], 1) if bidirectional else hidden[-1]
        for pool, pooled in (("last", finals), ("mean", outputs.mean(1))):
            model = RecurrentNet({"rnn": rnn}, rnn.num_features, pool=pool, num_classes=3, dropout=0.5).double().eval()
            perturb(model.head)
            assert_equal(model(rows), model.head(pooled))


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_several_layers_go_on_from_a_state_that_a_file_takes(kind):
    rnn, rows = ready(TorchRNN(kind, 6, 5, 2, False)), random(3, 7, 6)
    first, state = rnn.step(rows[:, :4], rnn.init_state(3))
    assert all(part.shape == (3, 2, 5) and part.is_contiguous() for part in state.values())
    second, _ = rnn.step(rows[:, 4:], state)
    assert_equal(torch.cat([first, second], 1), rnn(rows))


def g(x: Tensor) -> Tensor:
    return torch.where(x >= 0, x + 0.5, x.sigmoid())


@pytest.mark.parametrize("kind", ["min_gru", "min_lstm"])
def test_the_scan_is_the_papers_loop(kind):
    """Sections 3.1 and 3.2 of Feng et al., a frame at a time and without logarithms."""
    rnn = ready(MinRNN(kind, 6, 5, 1))
    rows = random(2, 2 * BLOCK + 9, 6)  # three blocks
    gates = rnn.layers[0].gates(rows).chunk(2 if kind == "min_gru" else 3, -1)
    h, wanted = g(torch.zeros(2, 5, dtype=torch.float64)), []
    for t in range(rows.shape[1]):
        if kind == "min_gru":
            z, candidate = (gate[:, t] for gate in gates)
            h = (1 - z.sigmoid()) * h + z.sigmoid() * g(candidate)
        else:
            f, i, candidate = (gate[:, t] for gate in gates)
            f, i = f.sigmoid(), i.sigmoid()
            h = f / (f + i) * h + i / (f + i) * g(candidate)
        wanted.append(h)
    assert_equal(rnn(rows), torch.stack(wanted, 1))


def test_a_long_scan_keeps_its_digits():
    log_a = -torch.rand(1, 2000, 3, generator=torch.Generator().manual_seed(0)) * 3
    log_b = torch.randn(1, 2000, 3, generator=torch.Generator().manual_seed(1))
    h = exact = torch.full((1, 3), 0.5)
    exact = exact.double()
    for a, b in zip(log_a.double().unbind(1), log_b.double().unbind(1), strict=True):
        exact = a.exp() * exact + b.exp()
    assert_equal(scan(log_a, log_b, h)[:, -1].double(), exact, 1e-5)


@pytest.mark.parametrize("kind", ["min_gru", "min_lstm"])
def test_gradients_of_the_scan_are_right(kind):
    rnn = ready(MinRNN(kind, 3, 2, 2))
    h = torch.rand(1, 2, 2, dtype=torch.float64) + 0.1
    rows = random(1, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, h: rnn.step(x, {"hidden": h})[0], (rows, h.requires_grad_()))


# --- PredRNN --------------------------------------------------------------------------------------------------------


def st_lstm(cell: STLSTM, x: Tensor, h: Tensor, c: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Equation 3 of Wang et al., line by line, with a convolution for every product."""

    def conv(weight: Tensor, maps: Tensor) -> Tensor:
        return nn.functional.conv2d(maps, weight, padding=weight.shape[-1] // 2)

    w_xg, w_xi, w_xf, v_xg, v_xi, v_xf, w_xo = cell.conv_x.weight.chunk(7)
    b_g, b_i, b_f, d_g, d_i, d_f, b_o = (bias[:, None, None] for bias in cell.conv_x.bias.chunk(7))
    w_hg, w_hi, w_hf, w_ho = cell.conv_h.weight.chunk(4)
    w_mg, w_mi, w_mf = cell.conv_m.weight.chunk(3)
    w_co, w_mo = cell.conv_o.weight.chunk(2, 1)
    g_t = torch.tanh(conv(w_xg, x) + conv(w_hg, h) + b_g)
    i_t = torch.sigmoid(conv(w_xi, x) + conv(w_hi, h) + b_i)
    f_t = torch.sigmoid(conv(w_xf, x) + conv(w_hf, h) + b_f)
    c_t = f_t * c + i_t * g_t
    g_m = torch.tanh(conv(v_xg, x) + conv(w_mg, m) + d_g)
    i_m = torch.sigmoid(conv(v_xi, x) + conv(w_mi, m) + d_i)
    f_m = torch.sigmoid(conv(v_xf, x) + conv(w_mf, m) + d_f)
    m_t = f_m * m + i_m * g_m
    o_t = torch.sigmoid(conv(w_xo, x) + conv(w_ho, h) + conv(w_co, c_t) + conv(w_mo, m_t) + b_o)
    return o_t * torch.tanh(conv(cell.conv_1x1.weight, torch.cat([c_t, m_t], 1))), c_t, m_t


def test_an_st_lstm_is_the_papers():
    cell = ready(STLSTM(3, 4, 5))
    x, past = random(2, 3, 6, 7), [random(2, 4, 6, 7, seed=i) for i in (1, 2, 3)]
    for got, wanted in zip(cell(cell.conv_x(x), *past), st_lstm(cell, x, *past), strict=True):
        assert_equal(got, wanted)


def test_the_second_memory_zigzags():
    """Up through the layers within a frame, and from the top layer down to the first of the next frame."""
    stack = ready(PredRNNStack(3, [4, 4, 4], 3))
    maps = random(1, 3, 4, 5, 5)
    zeros = torch.zeros(1, 4, 5, 5, dtype=torch.float64)
    h, c, m, wanted = [zeros] * 3, [zeros] * 3, zeros, []
    for x in maps.unbind(2):
        for i, layer in enumerate(stack.layers):
            h[i], c[i], m = st_lstm(layer, x, h[i], c[i], m)
            x = h[i]
        wanted.append(x)
    assert_equal(stack(maps), torch.stack(wanted, 2))


def test_gradients_of_an_st_lstm_are_right():
    cell = ready(STLSTM(2, 2, 3))
    inputs = [random(1, 2, 3, 2, seed=i).requires_grad_() for i in range(4)]
    assert torch.autograd.gradcheck(lambda x, h, c, m: cell(cell.conv_x(x), h, c, m), inputs)


def test_predrnn_is_as_large_as_published():
    """OpenSTL states 23.8 M for one channel; it has no biases, and a constant in the forget gates instead."""
    from zoo_rnn.predrnn import predrnn

    with torch.device("meta"):
        model = predrnn(channels=1)
    count = sum(p.numel() for name, p in model.named_parameters() if not name.endswith("bias"))
    assert round(count / 1e6, 1) == 23.8


# --- causal levels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look_back", [0, 2, 3])
def test_a_causal_level_is_torchs_convolution_over_a_clip_that_begins_with_nothing(look_back):
    level = ready(CausalLevel(3, 4, 5, look_back))
    clip = random(2, 3, 6, 8, 10)
    with torch.no_grad():
        maps = level.space_norm(F.conv3d(clip, level.space.weight, None, (1, 2, 2), (0, 2, 2))).relu()
        before = F.conv3d(maps, level.time.weight, None, 1, (look_back, 0, 0))[:, :, : clip.shape[2]]
        assert_equal(level(clip), (level.time_norm(before) + level.shortcut(clip)).relu())


def test_a_memory_of_one_pixel_is_torchs_gru():
    theirs, memory = ready(nn.GRU(3, 4, batch_first=True)), ready(Memory(ConvGRU(3, 4, kernel=1)))
    ours, x = memory.cell, random(2, 3, 5, 1, 1)
    with torch.no_grad():
        ours.conv_x.weight.copy_(pixel(theirs.weight_ih_l0))
        ours.conv_h.weight.copy_(pixel(theirs.weight_hh_l0))
        ours.conv_x.bias.copy_(theirs.bias_ih_l0)
        ours.conv_h.bias.copy_(theirs.bias_hh_l0)
        hidden = theirs(x[..., 0, 0].transpose(1, 2))[0].transpose(1, 2)[..., None, None]
        assert_equal(memory(x), memory.norm(hidden))
