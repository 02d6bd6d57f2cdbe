"""Checks of what every network can do, whatever its task. They run the small variant with perturbed weights."""

from __future__ import annotations

import copy
import io
import pickle
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save

from zoo import factory
from zoo.spec import ModelSpec
from zoo.testing.failure import CheckFailed, require
from zoo.testing.subject import build_small, difference, run, subject
from zoo.testing.world import restored

CLOSE = 1e-4  # of the largest output: far above rounding, far below any mistake
SHOWN = 5


def check_input_is_not_mutated(spec: ModelSpec) -> None:
    """The clip that goes in is the same afterwards."""
    model, clip, _ = subject(spec)
    kept = clip.clone()
    with torch.no_grad():
        model(kept)
    require(
        torch.equal(kept, clip),
        expected="forward leaves its input alone",
        seen=f"the clip has changed by up to {float((kept - clip).abs().max()):.3g}",
        fix="no in-place operation (x += ..., relu(inplace=True), x.sub_) may reach the clip: write x = x - mean",
    )


def check_clips_are_independent(spec: ModelSpec) -> None:
    """In evaluation mode a clip gets the same answer alone, in a batch, and at another place of the batch."""
    model, clip, output = subject(spec)
    alone = difference(run(model, clip[:1]), output[:1])
    turned = difference(run(model, clip.flip(0)).flip(0), output)
    require(
        max(alone, turned) <= CLOSE,
        expected="the answer for a clip does not depend on the other clips of the batch",
        seen=f"relative differences of {alone:.2g} alone and {turned:.2g} in another order",
        fix="look for statistics, attention or a reshape over dimension 0, such as view(-1, ...) that mixes B and T",
    )


def check_deterministic(spec: ModelSpec) -> None:
    """In evaluation mode two runs give exactly the same answer."""
    model, clip, _ = subject(spec)
    with torch.no_grad():
        first, second = model(clip.clone()), model(clip.clone())
    require(
        torch.equal(first, second),
        expected="two runs in evaluation mode are equal to the bit",
        seen=f"a relative difference of {difference(first, second):.2g}",
        fix="look for dropout that ignores self.training, random projections, and state kept between calls",
    )


def check_safetensors_round_trip(spec: ModelSpec) -> None:
    """The state dict survives a safetensors file, and is all that the answer depends on."""
    model, clip, output = subject(spec)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        try:
            path.write_bytes(save({key: value.contiguous() for key, value in model.state_dict().items()}))
        except RuntimeError as shared:
            raise CheckFailed(
                "every tensor of the state dict has memory of its own",
                " ".join(str(shared).split()),
                "give a tied weight one name: keep the second use a plain reference inside forward",
            ) from shared
        other = factory.load(build_small(spec, seed=1), path).eval()
    again = difference(run(other, clip), output)
    require(
        again <= CLOSE,
        expected="a second model, with the file of the first loaded, gives the same answer",
        seen=f"a relative difference of {again:.2g}",
        fix="whatever is random or learned has to be a parameter or a persistent buffer; the rest has to be computed",
    )


def check_every_parameter_learns(spec: ModelSpec) -> None:
    """Every parameter that wants a gradient gets one that is not zero."""
    model, clip, _ = subject(spec)
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with restored():
        answer = model(clip.clone())
    loss = answer.square().sum()
    gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    dead = [name for name, gradient in zip(named, gradients, strict=True) if gradient is None or not gradient.any()]
    require(
        not dead,
        expected="every parameter takes part in the answer",
        seen=f"{len(dead)} without a gradient: {', '.join(dead[:SHOWN])}",
        fix="remove what is not used (DDP stops at such parameters), or set requires_grad=False if it is meant to rest",
    )


def check_layer_groups(spec: ModelSpec) -> None:
    """`layer_groups` names every parameter once."""
    model = subject(spec).model
    counts = Counter(name for names in model.layer_groups().values() for name in names)
    wanted = {name for name, _ in model.named_parameters()}
    wrong = sorted((wanted ^ counts.keys()) | {name for name, n in counts.items() if n > 1})
    require(
        not wrong,
        expected="each name of named_parameters() in one group, from input to head",
        seen=f"missing, unknown or named twice: {', '.join(wrong[:SHOWN])}",
        fix="define stages() and leave layer_groups() to zoo.VideoModel, or add the missing names to a group",
    )


def check_deepcopy(spec: ModelSpec) -> None:
    """A deep copy gives the same answer and shares no memory with the original."""
    model, clip, output = subject(spec)
    other = copy.deepcopy(model)
    shared = {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in other.parameters()}
    again = difference(run(other, clip), output)
    require(
        not shared and again <= CLOSE,
        expected="a copy that is equal and independent (for averaged weights, for several processes)",
        seen=f"{len(shared)} parameters share memory, a relative difference of {again:.2g}",
        fix="keep parameters and buffers registered, and leave __deepcopy__ to torch",
    )


def check_pickle(spec: ModelSpec) -> None:
    """The model goes through pickle, as data loaders and process pools need."""
    model, clip, output = subject(spec)
    stream = io.BytesIO()
    try:
        pickle.dump(model, stream)
        stream.seek(0)
        other = pickle.load(stream)
    except Exception as error:
        raise CheckFailed(
            "the model can be pickled",
            f"{type(error).__name__}: {error}",
            "keep no lambdas, closures, hooks or open files on the model; define classes at the top of a module",
        ) from error
    again = difference(run(other, clip), output)
    require(
        again <= CLOSE,
        expected="the model that comes back gives the same answer",
        seen=f"a relative difference of {again:.2g}",
        fix="leave __reduce__, __getstate__ and __setstate__ to torch",
    )


def check_export(spec: ModelSpec) -> None:
    """`torch.export` takes the model, and the exported program gives the same answer."""
    model, clip, output = subject(spec)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.export talks about its own deprecations
            program = torch.export.export(model, (clip.clone(),)).module()
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        raise CheckFailed(
            "torch.export.export(model, (clip,)) works",
            f"{type(error).__name__}: {reason}",
            "no branch and no shape may depend on the values of tensors (.item(), if x.max() > 1), and no hook be used",
        ) from error
    with torch.no_grad():
        again = difference(program(clip.clone()), output)
    require(
        again <= CLOSE,
        expected="the exported program gives the same answer",
        seen=f"a relative difference of {again:.2g}",
        fix="look for Python state or numbers that forward computes from the clip's values",
    )


def check_autocast(spec: ModelSpec) -> None:
    """Under bfloat16 autocast the answer is finite and near the one in float32."""
    model, clip, output = subject(spec)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(clip.clone()).float()
    away = difference(half, output)
    require(
        away <= 0.1,
        expected="within a tenth of the largest float32 output",
        seen=f"a relative difference of {away:.2g}",
        fix="make new tensors with the dtype of what they meet (x.new_zeros, like=x), compute norms in float32",
    )
