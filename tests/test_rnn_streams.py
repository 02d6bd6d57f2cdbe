"""Every model that takes a stream says of chunks what it says of the whole, and keeps nothing but its state."""

from __future__ import annotations

import functools

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import zoo
from zoo.errors import GeometryError, NotCausal, SpecError, WeightsCorrupt, WeightsMismatch, WeightsNotFound
from zoo.testing import perturb

STREAMS = zoo.list_models(plugin="rnn", streaming=True, pretrained=False)
BLIND = [name for name in zoo.list_models(plugin="rnn", pretrained=False) if name not in STREAMS]
FRAMES = 64
STEPS = 200  # of training, where a tiny model shows that it can learn
# By default the networks that differ in code, the others by name.
QUICK = {"lrcn_resnet18", "mingru_resnet18", "convlstm_small_peephole", "convgru_tiny", "predrnn"}


def each(names, quick=QUICK):
    marks = {name: () if name in quick else pytest.mark.slow for name in names}
    return pytest.mark.parametrize("name", [pytest.param(name, marks=mark) for name, mark in marks.items()])


@functools.cache
def model_of(name: str) -> zoo.VideoModel:
    """The small variant, every weight moved. Read only."""
    torch.manual_seed(0)
    return perturb(zoo.build(name, **zoo.info(name).small)).eval()


def clip(frames: int, *, batch: int = 1, side: int = 32) -> Tensor:
    return torch.randn(batch, 3, frames, side, side, generator=torch.Generator().manual_seed(frames))


def run(model: zoo.VideoModel, frames: Tensor, size: int, state: dict | None = None) -> tuple[Tensor, dict]:
    state = model.init_state(len(frames)) if state is None else state
    with torch.no_grad():
        for chunk in frames.split(size, 2):
            logits, state = model.step(chunk, state)
    return logits, state


def assert_close(got: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    assert got.shape == wanted.shape and wanted.isfinite().all() and wanted.std() > 0
    assert (got - wanted).abs().max() <= tolerance * wanted.abs().max()


def test_all_but_the_bidirectional_take_streams():
    assert [name for name in BLIND if not name.endswith("_bi")] == []
    assert set(STREAMS) > QUICK


@each(STREAMS)
def test_sixty_four_frames_in_any_chunks_say_what_one_pass_says(name):
    model, frames = model_of(name), clip(FRAMES)
    with torch.no_grad():
        whole = model(frames)
    _, state = run(model, frames, FRAMES)
    for size in (1, 2, 4, 8, 16, FRAMES):
        logits, after = run(model, frames, size)
        assert_close(logits, whole)
        assert {k: v.shape for k, v in after.items()} == {k: v.shape for k, v in state.items()}


@each(STREAMS)
def test_a_stream_goes_on_from_a_file(name, tmp_path):
    model, frames = model_of(name), clip(9, batch=2)
    whole, _ = run(model, frames, 9)
    _, state = run(model, frames[:, :, :4], 4)
    save_file(state, tmp_path / "state.safetensors")
    del state
    restored = load_file(tmp_path / "state.safetensors")
    assert_close(run(model, frames[:, :, 4:], 5, restored)[0], whole)


@each(STREAMS)
def test_a_state_has_its_size_from_the_start_where_the_pictures_is_known(name):
    model, frames = model_of(name), clip(2, batch=2, side=36)
    state = model.init_state(2, size=(36, 36))
    logits, after = run(model, frames, 1, state)
    assert {k: (v.shape, v.dtype) for k, v in state.items()} == {k: (v.shape, v.dtype) for k, v in after.items()}
    assert_close(logits, run(model, frames, 1)[0])


@pytest.mark.filterwarnings("ignore:The tensor attribute")  # torch.export about torch.nn.LSTM
@each(STREAMS)
def test_a_program_exported_from_step_follows_a_stream(name):
    model, frames = model_of(name), clip(3)

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, frames: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            return self.model.step(frames, state)

    state = model.init_state(1, size=(32, 32))
    with torch.no_grad():
        program = torch.export.export(Step(), (frames[:, :, :1], state)).module()
        for frame in frames.split(1, 2):
            logits, state = program(frame, state)
    assert_close(logits, run(model, frames, 3)[0])


@each(STREAMS)
def test_streams_of_one_batch_start_anew_alone(name):
    model, frames = model_of(name), clip(3, batch=3)
    with torch.no_grad():
        whole = model(frames)
    twice, _ = run(model, torch.cat([frames, frames], 2), 3)
    _, state = run(model, frames, 3)
    kept = {key: value.clone() for key, value in state.items()}
    for chosen in ([1], torch.tensor([False, True, False])):
        logits, _ = run(model, frames, 3, model.reset_state(state, chosen))
        assert_close(logits[1], whole[1])
        assert_close(logits[[0, 2]], twice[[0, 2]])
    assert all(torch.equal(kept[key], state[key]) for key in state)


def test_a_stream_that_does_not_exist_cannot_start_anew():
    model = model_of("convgru_tiny")
    for wrong in ([3], [-1], [0.5], [True], torch.tensor([True, False, True])):
        with pytest.raises(SpecError, match="streams 0 to 1"):
            model.reset_state(model.init_state(2), wrong)
    assert model.reset_state(model.init_state(2), []).keys() == model.init_state(2).keys()


def test_a_mean_over_all_frames_still_is_one_after_months():
    model = model_of("lrcn_resnet18")
    state = model.init_state(1)
    state["head.frames"] += 2**30
    state["head.mean"] += 3.0
    _, after = run(model, clip(2), 1, state)
    assert torch.allclose(after["head.mean"], state["head.mean"], atol=1e-5)


@pytest.mark.parametrize("name", ["lrcn_resnet18", "convgru_tiny", "predrnn"])
def test_frames_and_states_that_do_not_fit_say_so(name):
    model, frames = model_of(name), clip(2, batch=2)
    with pytest.raises(SpecError, match=r"2 streams of frames with a state for another number.*init_state\(2\)"):
        model.step(frames, model.init_state(1))
    with pytest.raises(SpecError, match="of another model"):
        model.step(frames, {"other": torch.zeros(2, 1)})
    with pytest.raises(GeometryError, match="1 channels"):
        model.step(frames[:, :1], model.init_state(2))
    with pytest.raises(GeometryError, match="0 frames"):
        model.step(frames[:, :, :0], model.init_state(2))


@pytest.mark.parametrize("name", ["convgru_tiny", "convlstm_small", "predrnn"])
def test_a_state_of_frames_of_another_size_says_so(name):
    model = model_of(name)
    _, state = run(model, clip(1), 1)
    with pytest.raises(GeometryError, match="another size"):
        model.step(clip(1, side=48), state)


@pytest.mark.parametrize("name", BLIND)
def test_a_bidirectional_network_refuses_and_names_those_that_take_streams(name):
    model = model_of(name)
    for ask in (lambda: model.init_state(1), lambda: model.step(clip(1), {})):
        with pytest.raises(NotCausal, match=f"{name} looks ahead") as refused:
            ask()
        listed = refused.value.hint.partition(": ")[2].split(", ")
        assert {"gru_resnet18", "convgru_tiny", "movinet_a0_stream"} <= set(listed)
        assert all(zoo.info(one).streaming and zoo.info(one).task == "classification" for one in listed)


def test_every_other_network_refuses_too():
    with torch.device("meta"), pytest.raises(NotCausal, match=r"r3d_18 looks ahead.*convgru_tiny"):
        zoo.build("r3d_18").init_state(1)


@pytest.mark.parametrize("name", ["gru_resnet18", "gru_resnet18_bi"])
def test_the_order_of_frames_counts_and_the_future_only_where_it_may(name):
    model, frames = model_of(name), clip(6)
    other = torch.cat([frames[:, :, :4], -frames[:, :, 4:]], 2)
    with torch.no_grad():
        assert not torch.allclose(model(frames), model(frames.flip(2)), atol=1e-3)
        past = [model.forward_features(x)[:, :4] for x in (frames, other)]
    assert torch.allclose(*past, atol=1e-6) == (name == "gru_resnet18")


# --- weights of the encoder -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_an_encoder_sees_what_its_library_computes(library, tmp_path):
    import timm
    import torchvision

    with torch.random.fork_rng():
        torch.manual_seed(3)
        if library == "timm":
            theirs, encoder = timm.create_model("test_resnet", num_classes=7), "timm/test_resnet"
        else:
            theirs, encoder = torchvision.models.mobilenet_v3_small(), "torchvision/mobilenet_v3_small"
    perturb(theirs).eval()
    path = tmp_path / "encoder.safetensors"
    save_file(theirs.state_dict(), path)
    model = zoo.create("gru_resnet18", encoder=encoder, encoder_weights=str(path), hidden=8)
    frames = clip(3, batch=2)
    with torch.no_grad():
        rows = model.encoder(frames)
        last = [m for m in theirs.modules() if isinstance(m, torch.nn.Linear)][-1]
        for b in range(2):
            assert_close(torch.nn.functional.linear(rows[b], last.weight, last.bias), theirs(frames[b].transpose(0, 1)))


def test_encoders_that_cannot_be_say_so(tmp_path):
    def create(**options: object) -> zoo.VideoModel:
        return zoo.create("gru_resnet18", **{"encoder": "timm/test_resnet", **options})

    for encoder in ("resnet18", "keras/resnet18", "timm/resnet81", "torchvision/resnet81"):
        with pytest.raises(SpecError, match=r"NAME|has no model"):
            create(encoder=encoder)
    with pytest.raises(SpecError, match="pool='max'"):
        create(pool="max")
    path = tmp_path / "weights.safetensors"
    with pytest.raises(WeightsNotFound, match="is no file"):
        create(encoder_weights=str(path))
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsCorrupt, match="not a safetensors file"):
        create(encoder_weights=str(path))
    save_file({"conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsMismatch, match="does not fit the encoder"):
        create(encoder_weights=str(path))
    with pytest.raises(SpecError, match="no peepholes"):
        zoo.build("convgru_small", peepholes=True)
    for wrong in ({"cell": "rnn"}, {"widths": ()}, {"look_back": -1}, {"kernel": 2}):
        with pytest.raises(SpecError, match=next(iter(wrong))):
            zoo.build("convgru_tiny", **wrong)


def motions(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Six frames of 32x32 under a camera that rests, pans, tilts, zooms or rolls over soft noise; which of nine."""
    labels = torch.randint(0, 9, (batch,), generator=generator)
    speed = (0.5 + torch.rand(batch, generator=generator))[:, None] * torch.linspace(-1, 1, 6)  # [B, T]
    way = 2.0 * (labels % 2) - 1
    amount = speed * way[:, None]
    kind = ((labels + 1) // 2)[:, None]
    pan, tilt, zoom, roll = (torch.where(kind == k, amount, 0) for k in (1, 2, 3, 4))
    scale, turn = 0.4 * (0.5 * zoom).exp(), 0.7 * roll
    rows = [scale * turn.cos(), -scale * turn.sin(), 0.25 * pan, scale * turn.sin(), scale * turn.cos(), 0.25 * tilt]
    theta = torch.stack(rows, -1).reshape(-1, 2, 3)  # [B*T, 2, 3]
    world = torch.nn.functional.interpolate(
        torch.randn(batch, 3, 20, 20, generator=generator), (80, 80), mode="bicubic"
    )
    grid = torch.nn.functional.affine_grid(theta, [6 * batch, 3, 32, 32], align_corners=False)
    frames = torch.nn.functional.grid_sample(world.repeat_interleave(6, 0), grid, align_corners=False)
    return frames.unflatten(0, (batch, 6)).transpose(1, 2), labels


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convgru_tiny", "convlstm_tiny"])
def test_a_tiny_model_learns_the_motion_of_a_camera(name):
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = zoo.build(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    slower = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)  # running statistics can then catch up
    for _ in range(STEPS):
        frames, labels = motions(32, generator)
        loss = torch.nn.functional.cross_entropy(model(frames), labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        slower.step()
    frames, labels = motions(256, generator)
    with torch.no_grad():
        right = (model.eval()(frames).argmax(1) == labels).float().mean()
    print(f"{name}: {right:.3f}")
    assert right > 0.8


def test_tiny_models_are_small_enough_to_ship():
    for name in ("convgru_tiny", "convlstm_tiny"):
        assert sum(t.numel() * t.element_size() for t in zoo.build(name).state_dict().values()) < 3e6
