"""Published files of transformers and of Hiera's authors, with other names and more pieces than our networks have.

Each function turns {name: tensor} into ours. It takes every tensor, or is told which ones the network has no use for: a
name that is missing raises KeyError and one that is left over ValueError, as the file is then of another kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


class _File:
    """The tensors of a file, each of which can be taken once."""

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        # A file of the bare encoder has the same names without the name of the encoder before them.
        self.left = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        if len(self.left) != len(tensors):
            raise ValueError(f"names with and without {prefix!r} are the same")
        self.ours: Tensors = {}

    def __contains__(self, name: str) -> bool:
        return name in self.left

    def move(self, theirs: str, ours: str, change: Callable[[Tensor], Tensor] | None = None) -> None:
        tensor = self.left.pop(theirs)
        self.ours[ours] = tensor if change is None else change(tensor)

    def move_layer(self, theirs: str, ours: str) -> None:
        """weight and bias"""
        for kind in ("weight", "bias"):
            self.move(f"{theirs}.{kind}", f"{ours}.{kind}")

    def join(self, theirs: tuple[str, ...], ours: str, kind: str) -> None:
        parts = [self.left.pop(f"{name}.{kind}") for name in theirs]
        self.ours[f"{ours}.{kind}"] = parts[0] if len(parts) == 1 else torch.cat(parts)  # one alone is not copied

    def join_layer(self, theirs: tuple[str, ...], ours: str) -> None:
        """Several layers that are one of ours. Either all of them have a bias, or none has."""
        self.join(theirs, ours, "weight")
        if any(f"{name}.bias" in self for name in theirs):
            self.join(theirs, ours, "bias")

    def depth(self, stem: str) -> int:
        """How many numbered layers there are."""
        numbers = {int(found[1]) for name in self.left if (found := re.match(rf"{re.escape(stem)}\.(\d+)\.", name))}
        if not numbers or numbers != set(range(len(numbers))):
            raise KeyError(f"{stem}.0, {stem}.1, ...")
        return len(numbers)

    def finish(self, *without: str) -> Tensors:
        """What was moved. `without`: beginnings of the names that the network has no use for."""
        if left := sorted(name for name in self.left if not name.startswith(without)):
            raise ValueError(f"{len(left)} tensors are not known: {', '.join(left[:3])}")
        return self.ours


def _flat(weight: Tensor) -> Tensor:
    """The kernel of a convolution over patches as the matrix that it is."""
    return weight.flatten(1)


def _patches(file: _File, theirs: str, ours: str) -> None:
    file.move(f"{theirs}.weight", f"{ours}.weight", _flat)
    file.move(f"{theirs}.bias", f"{ours}.bias")


def _head(file: _File) -> None:
    if "classifier.weight" in file:
        file.move_layer("classifier", "head")


def _vit_layer(file: _File, theirs: str, ours: str) -> None:
    """What VideoMAE, TimeSformer and ViViT call the same: all but queries, keys and values."""
    for name, to in (
        ("attention.output.dense", "attn.proj"),
        ("layernorm_before", "norm1"),
        ("layernorm_after", "norm2"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
    ):
        file.move_layer(f"{theirs}.{name}", f"{ours}.{to}")


def videomae(tensors: Mapping[str, Tensor]) -> Tensors:
    """Fine-tuned or pre-trained; of the latter the encoder. Biases are called `q_bias` or `query.bias`."""
    file = _File(tensors, "videomae.")
    _patches(file, "embeddings.patch_embeddings.projection", "patch_embed.proj")
    for i in range(file.depth("encoder.layer")):
        theirs, ours = f"encoder.layer.{i}", f"blocks.{i}"
        inner = f"{theirs}.attention.attention"
        file.join(tuple(f"{inner}.{name}" for name in ("query", "key", "value")), f"{ours}.attn.qkv", "weight")
        names = ("q_bias", "v_bias") if f"{inner}.q_bias" in file else ("query.bias", "value.bias")
        if any(f"{inner}.{name}" in file for name in names):
            for name, to in zip(names, ("q_bias", "v_bias"), strict=True):
                file.move(f"{inner}.{name}", f"{ours}.attn.{to}")
        _vit_layer(file, theirs, ours)
    for theirs, ours in (("layernorm", "norm"), ("fc_norm", "fc_norm")):
        if f"{theirs}.weight" in file:
            file.move_layer(theirs, ours)
    _head(file)
    return file.finish("decoder.", "encoder_to_decoder.", "mask_token")


def timesformer(tensors: Mapping[str, Tensor]) -> Tensors:
    """Of any kind of attention; queries, keys and values are one tensor there, too."""
    file = _File(tensors, "timesformer.")
    _patches(file, "embeddings.patch_embeddings.projection", "embed_patches.proj.proj")
    file.move("embeddings.cls_token", "embed_patches.cls_token")
    file.move("embeddings.position_embeddings", "embed_patches.space")
    if "embeddings.time_embeddings" in file:
        file.move("embeddings.time_embeddings", "embed_patches.time")
    for i in range(file.depth("encoder.layer")):
        theirs, ours = f"encoder.layer.{i}", f"blocks.{i}"
        file.join_layer((f"{theirs}.attention.attention.qkv",), f"{ours}.attn.qkv")
        _vit_layer(file, theirs, ours)
        if f"{theirs}.temporal_dense.weight" in file:
            file.join_layer((f"{theirs}.temporal_attention.attention.qkv",), f"{ours}.time_attn.qkv")
            file.move_layer(f"{theirs}.temporal_attention.output.dense", f"{ours}.time_attn.proj")
            file.move_layer(f"{theirs}.temporal_layernorm", f"{ours}.time_norm")
            file.move_layer(f"{theirs}.temporal_dense", f"{ours}.time_fc")
    file.move_layer("layernorm", "norm")
    _head(file)
    return file.finish()


def vivit(tensors: Mapping[str, Tensor]) -> Tensors:
    """The pooler that transformers adds to a bare encoder is not part of the paper's network."""
    file = _File(tensors, "vivit.")
    _patches(file, "embeddings.patch_embeddings.projection", "embed_tubes.proj.proj")
    file.move("embeddings.cls_token", "embed_tubes.cls_token")
    file.move("embeddings.position_embeddings", "embed_tubes.positions")
    for i in range(file.depth("encoder.layer")):
        theirs, ours = f"encoder.layer.{i}", f"blocks.{i}"
        inner = f"{theirs}.attention.attention"
        file.join_layer(tuple(f"{inner}.{name}" for name in ("query", "key", "value")), f"{ours}.attn.qkv")
        _vit_layer(file, theirs, ours)
    file.move_layer("layernorm", "norm")
    _head(file)
    return file.finish("pooler.")


def vjepa2(tensors: Mapping[str, Tensor]) -> Tensors:
    """Classifiers and encoders; the predictor, which only pre-training needs, comes with both."""
    file = _File(tensors, "vjepa2.")
    _patches(file, "encoder.embeddings.patch_embeddings.proj", "patch_embed.proj")
    for i in range(file.depth("encoder.layer")):
        theirs, ours = f"encoder.layer.{i}", f"blocks.{i}"
        names = tuple(f"{theirs}.attention.{name}" for name in ("query", "key", "value"))
        file.join_layer(names, f"{ours}.attn.qkv")
        file.move_layer(f"{theirs}.attention.proj", f"{ours}.attn.proj")
        for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
            file.move_layer(f"{theirs}.{name}", f"{ours}.{name}")
    file.move_layer("encoder.layernorm", "norm")
    if "pooler.query_tokens" in file:
        _attentive_pooler(file)
    _head(file)
    return file.finish("predictor.")


def _attentive_pooler(file: _File) -> None:
    file.move("pooler.query_tokens", "pooler.query")
    layers = "pooler.self_attention_layers"
    depth = file.depth(layers) if any(name.startswith(layers) for name in file.left) else 0
    for i in range(depth):
        theirs, ours = f"{layers}.{i}", f"pooler.blocks.{i}"
        names = tuple(f"{theirs}.self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj"))
        file.join_layer(names, f"{ours}.attn.qkv")
        file.move_layer(f"{theirs}.self_attn.out_proj", f"{ours}.attn.proj")
        _pooler_layer(file, theirs, ours)
    theirs, ours = "pooler.cross_attention_layer", "pooler"
    file.move_layer(f"{theirs}.cross_attn.q_proj", f"{ours}.attn.q")
    file.join_layer((f"{theirs}.cross_attn.k_proj", f"{theirs}.cross_attn.v_proj"), f"{ours}.attn.kv")
    _pooler_layer(file, theirs, ours)


def _pooler_layer(file: _File, theirs: str, ours: str) -> None:
    for name, to in (
        ("layer_norm1", "norm1"),
        ("layer_norm2", "norm2"),
        ("mlp.fc1", "mlp.fc1"),
        ("mlp.fc2", "mlp.fc2"),
    ):
        file.move_layer(f"{theirs}.{name}", f"{ours}.{to}")


def hiera(tensors: Mapping[str, Tensor]) -> Tensors:
    """The authors' files of the video networks."""
    file = _File(tensors, "")
    file.move_layer("patch_embed.proj", "embed_patches.proj")
    file.move("pos_embed_spatial", "embed_patches.space")
    file.move("pos_embed_temporal", "embed_patches.time")
    for name in [name for name in file.left if name.startswith("blocks.")]:
        file.move(name, name)
    file.move_layer("norm", "norm")
    if "head.projection.weight" in file:
        file.move_layer("head.projection", "head")
    return file.finish()
