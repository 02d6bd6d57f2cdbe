"""Models made faster: the same answers, or an error."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch
from deploying import NAME, same, write_onnx, write_videos

import zoo
from zoo.deploy import optimize, quantize, saturation, trace
from zoo.deploy.compare import check, compare
from zoo.deploy.compiled import CompiledModel
from zoo.errors import DeploymentError, NotCausal, SpecError


@pytest.fixture(scope="module")
def model():
    return zoo.create(NAME)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def onnx(model, videos, tmp_path_factory):
    return write_onnx(model, videos, tmp_path_factory.mktemp("onnx"))


def test_too_far_from_the_original_is_an_error():
    wanted = torch.eye(4)
    near = compare(wanted * 1.01, wanted)
    assert (near.clips, near.agreement) == (4, 1.0) and abs(near.distance - 0.01) < 1e-6
    check(near, max_distance=0.02, min_agreement=1.0, what="x")
    with pytest.raises(DeploymentError, match="x says something else"):
        check(near, max_distance=0.005, min_agreement=1.0, what="x")
    other = compare(wanted.flip(1), wanted)
    with pytest.raises(DeploymentError, match="0% keep their best label"):
        check(other, max_distance=10, min_agreement=0.5, what="x")
    broken = compare(wanted * float("nan"), wanted)
    assert broken.distance == float("inf")
    within = compare(wanted, wanted, (wanted * 1.5, wanted))
    assert "embeddings by 5.0e-01" in str(within) and "embeddings" not in str(near)
    check(within, max_distance=0.5, min_agreement=1.0, what="x")
    with pytest.raises(DeploymentError, match=r"embeddings by 5\.0e-01"):
        check(within, max_distance=0.4, min_agreement=1.0, what="x")


def test_what_is_slower_or_unknown_is_not_made(model, monkeypatch):
    with pytest.raises(SpecError, match="compile, bf16, int8"):
        zoo.optimize(model, "int4")
    monkeypatch.setattr(optimize, "_has_matrix_units", lambda: False)
    monkeypatch.setattr(optimize, "clips_of", lambda *a, **k: torch.zeros(1, 3, 8, 64, 64))
    with pytest.raises(DeploymentError, match="slower than float32 on this CPU"):
        zoo.optimize(model, "bf16")
    assert optimize._convolves(model, torch.zeros(1, 3, 8, 64, 64))
    assert not optimize._convolves(zoo.create("videomae_tiny"), torch.zeros(1, 3, 8, 64, 64))


def test_a_compiled_model_follows_streams_as_its_network():
    model = zoo.create("convgru_tiny.camera_motion")
    made = CompiledModel(model)
    assert (made.delay, made.receptive_field, made.period) == (model.delay, model.receptive_field, model.period)
    clip = zoo.synth.generate("pan_left", seed=3, duration_s=1.5, fps=12, size=(96, 128))
    said, wanted = [], []
    for network, found in ((made, said), (model, wanted)):
        live = zoo.Stream(network)
        assert live.has_steps
        found += live.push(clip.frames, [i / 12 for i in range(len(clip.frames))])
    assert len(said) == len(wanted) > 2
    assert all(torch.equal(one.scores, other.scores) for one, other in zip(said, wanted, strict=True))
    state = made.reset_state(made.init_state(2), [1])
    assert state.keys() == model.init_state(2).keys()
    with pytest.raises(NotCausal, match="looks ahead"):
        CompiledModel(zoo.create(NAME)).init_state(1)


def test_steps_keep_what_a_model_says_of_itself(model):
    late = copy.deepcopy(model)
    late.delay, late.receptive_field, late.period = 3, 9, 2
    made = CompiledModel(late)
    assert (made.delay, made.receptive_field, made.period) == (3, 9, 2)


def test_a_compiled_classifier_is_not_replaced(model):
    with pytest.raises(SpecError, match="r2plus1d_tiny is compiled") as refused:
        CompiledModel(model).reset_classifier(3)
    assert "optimise" in refused.value.hint


def test_nothing_changed_is_an_error(model, monkeypatch):
    clips, same = torch.randn(3, 3, 8, 64, 64), copy.deepcopy(model)
    same.changes = {"Conv3d": (0, 17), "Linear": (0, 1), "convolutions by Winograd": (3, 17)}
    monkeypatch.setattr(optimize, "_compiled", lambda original, method: same)
    with pytest.raises(DeploymentError, match="'compile' changes nothing of r2plus1d_tiny"):
        optimize.optimized(model, "compile", clips, clips)


@pytest.mark.parametrize(("vnni", "bits", "most"), [(False, "7 bits", 64), (True, "8 bits", 127)])
def test_weights_have_as_many_bits_as_the_processor_can_add_up(tmp_path, monkeypatch, vnni, bits, most):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(saturation, "has_vnni", lambda: vnni)
    weights = onnx.numpy_helper.from_array(torch.linspace(-1, 1, 64).reshape(8, 8).numpy(), "weights")
    clip, logits = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 8]) for name in ("clip", "logits")
    )
    product = onnx.helper.make_node("MatMul", ["clip", "weights"], ["logits"])
    graph = onnx.helper.make_graph([product], "graph", [clip], [logits], [weights])
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), str(tmp_path / "a.onnx"))
    with trace.quiet():
        quantize._quantize(tmp_path / "a.onnx", tmp_path / "b.onnx", None)
    made = onnx.load(str(tmp_path / "b.onnx")).graph.initializer
    (whole,) = (onnx.numpy_helper.to_array(w) for w in made if w.data_type == onnx.TensorProto.INT8 and len(w.dims) > 1)
    assert abs(whole.astype(int)).max() == most and saturation.made_here() == {"int8 weights": bits}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method", "changes"),
    [
        (NAME, "int8", {"convolution": (17, 17), "linear": (1, 1)}),
        (NAME, "int8-dynamic", {"convolution": (0, 17), "linear": (1, 1)}),
        ("videomae_tiny", "int8", {"linear": (18, 18)}),
    ],
)
def test_int8_runs_in_whole_numbers_and_says_how_much(onnx, videos, tmp_path, name, method, changes):
    model = zoo.testing.perturb(zoo.create(name)) if name != NAME else zoo.create(name)
    made = zoo.optimize(model, method, videos=videos, min_agreement=0.0)
    assert dict(made.changes) == changes
    assert f"linear: {changes['linear'][0]} of {changes['linear'][1]} in int8" in repr(made)
    attended = len(model.blocks) if name != NAME else 0
    assert made.data.count(b"MultiHeadAttention") >= attended and (attended > 0) == (b"MultiHead" in made.data)
    assert 0 < made.comparison.distance < 0.2 and 0 < made.comparison.embedding < 0.2
    assert made.facts.made_with["int8 weights"] == ("8 bits" if saturation.has_vnni() else "7 bits")
    assert made.facts.size < (0.5 if method == "int8" else 1.1) * 4 * sum(p.numel() for p in model.parameters())
    written = zoo.export(made, "onnx", tmp_path / "int8")
    assert zoo.create(f"local-dir:{tmp_path / 'int8'}").predict(videos[0]).top == written.predict(videos[0]).top
    with pytest.raises(SpecError, match="is onnx already"):
        zoo.export(made, "pt2", tmp_path / "other")


@pytest.mark.slow
def test_no_product_in_int8_is_an_error(onnx, monkeypatch):
    monkeypatch.setattr(quantize, "_whole", lambda file: Counter())
    with pytest.raises(DeploymentError, match="of its 18 products none would run in int8"):
        quantize.quantized(zoo.load_exported(onnx))


class Attends(torch.nn.Module):
    """Tokens of the second half look at all; values are twice the keys."""

    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, x):  # [..., heads, 6, d]
        return torch.nn.functional.scaled_dot_product_attention(x[..., 3:, :], x, 2 * x, **self.options)


@pytest.mark.slow
def test_attention_becomes_one_operator_of_onnx_runtime(tmp_path):
    onnx, _, onnxruntime = (pytest.importorskip(name) for name in ("onnx", "onnxscript", "onnxruntime"))
    windows, whole = (4, 5, 6, 8), (5, 6, 8)
    for options, shape, count in (
        ({}, windows, 1),
        ({}, whole, 1),
        ({"scale": 0.3}, whole, 0),
        ({"attn_mask": torch.eye(3, 6)}, whole, 0),
    ):
        x, shapes = torch.randn(2, *shape), ({0: torch.export.Dim("batch")},)
        program = torch.export.export(Attends(**options).eval(), (x,), dynamic_shapes=shapes)
        file = tmp_path / "attention.onnx"
        with trace.quiet():
            trace._write_onnxruntime(program, file)
        nodes = [node.op_type for node in onnx.load(str(file)).graph.node]
        assert (nodes.count("MultiHeadAttention"), nodes.count("Softmax")) == (count, 1 - count)
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        more = torch.randn(3, *shape)
        (said,) = session.run(None, {session.get_inputs()[0].name: more.numpy()})
        assert torch.allclose(torch.from_numpy(said), Attends(**options)(more), atol=1e-5)


@pytest.mark.slow
def test_int8_too_far_away_is_refused(model, videos, onnx):
    with pytest.raises(DeploymentError, match="something else than the original"):
        zoo.optimize(model, "int8", videos=videos, max_distance=1e-6)
    with pytest.raises(SpecError, match="too few"):
        zoo.optimize(model, "int8", videos=videos[:1])


@pytest.mark.slow
def test_a_compiled_model_is_the_same_and_frozen(videos):
    model = zoo.create(NAME)
    made = zoo.optimize(model, "compile", videos=videos)
    same(made, model, videos)
    assert made.changes["Conv3d"] == (17, 17) and made.comparison.distance < 1e-5
    video = videos[0]
    for level in ("frame", "map"):
        assert (made.embed(video, level=level) - model.embed(video, level=level)).abs().max() < 1e-3
    before = made.predict(video).scores
    for module in made.network.modules():
        if isinstance(module, torch.nn.Conv3d | torch.nn.BatchNorm3d):  # which have become one constant each
            module.weight.data.zero_()
    assert torch.equal(made.predict(video).scores, before)
    assert not torch.equal(copy.deepcopy(made).predict(video).scores, before)  # compiled anew
    assert made.train().training is False
    compiled = {**made._compiled}
    assert made.to("cpu")._compiled == compiled != {}  # predict moves it where it is
    assert made.to(torch.float64)._compiled == {}


@pytest.mark.slow
def test_compiled_models_do_not_use_up_what_torch_keeps_for_each_other(videos):
    with torch._dynamo.config.patch(recompile_limit=1):
        for name in ("stacked_tiny.camera_motion", "vit_c_tiny.camera_motion"):
            assert zoo.optimize(zoo.create(name), "compile", videos=videos).comparison.agreement == 1


@pytest.mark.slow
def test_bf16_is_made_where_the_processor_has_units_for_it(model, videos, monkeypatch):
    monkeypatch.setattr(optimize, "_has_matrix_units", lambda: True)
    made = zoo.optimize(model, "bf16", videos=videos)
    assert {p.dtype for p in made.parameters()} == {torch.bfloat16} and made.comparison.distance < 0.1
    assert made.changes["Conv3d"] == (17, 17)
    for video in videos:
        assert made.predict(video).top[0].label == model.predict(video).top[0].label
        assert made.embed(video).dtype == torch.float32
    assert {p.dtype for p in model.parameters()} == {torch.float32}
