"""The pieces that the networks of this family share: patches as a matrix product, fused attention, pre-norm blocks.

Tokens keep their place: where there is no class token, a tensor is `[B, T, H, W, D]` from the patches to the head, so
that every layer can see the grid. Attention runs over all dimensions between batch and channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import zoo

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}
IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": torch.ops.aten.gelu_,
    "gelu_tanh": partial(torch.ops.aten.gelu_, approximate="tanh"),
    "relu": F.relu_,
}
BIASES = ("qkv", "qv", "none")


class GridModel(zoo.VideoModel):
    """A network whose stages work on `[B, T, H, W, D]`; what leaves it are maps `[B, D, T, H, W]`, as from a CNN.

    Maps, because they say where and when a feature is, for any size of clip: `frame_features` and dense tasks need
    no more. Both are views of the same memory.
    """

    def forward_features(self, clip: Tensor) -> Tensor:
        return super().forward_features(clip).movedim(-1, 1)

    def forward_intermediates(self, clip: Tensor, indices: Sequence[int] | int | None = None) -> list[Tensor]:
        return [grid.movedim(-1, 1) for grid in super().forward_intermediates(clip, indices)]


def unseen(module: nn.Module, x: Tensor) -> bool:
    """Whether only results count: no autograd, compiler, counter of operations or hook sees what is in between.

    Then it may be left out, overwritten or computed in another order. Everybody else sees the textbook.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or x.is_meta:
        return False
    return not any(m.training or m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def plain(*layers: nn.Module) -> bool:
    """Whether these are linear layers and no more: nothing that adapts or quantises has been put around them."""
    return all(type(layer) is nn.Linear for layer in layers)


class PatchEmbed(nn.Module):
    """Tubes of `patch` (frames, height, width), each to one token: `[B, C, T, H, W]` to `[B, T', H', W', D]`.

    A convolution whose stride is its kernel, written as the matrix product that it is. What is left over at the ends
    is not seen, as in a convolution.
    """

    def __init__(self, patch: tuple[int, int, int], channels: int, dim: int) -> None:
        super().__init__()
        self.patch = patch
        t, h, w = patch
        self.proj = nn.Linear(channels * t * h * w, dim)

    def forward(self, clip: Tensor) -> Tensor:
        t, h, w = self.patch
        grid = [size // step for size, step in zip(clip.shape[2:], self.patch, strict=True)]
        clip = clip[:, :, : grid[0] * t, : grid[1] * h, : grid[2] * w]
        tubes = clip.unflatten(4, (grid[2], w)).unflatten(3, (grid[1], h)).unflatten(2, (grid[0], t))
        out: Tensor = self.proj(tubes.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4))
        return out


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention of `[..., N, heads, d]`, giving `[..., N, heads * d]`.

    What is outside of the tokens is one dimension meanwhile: of more, fused kernels and exports to ONNX know nothing.
    """
    outer = q.shape[:-3]
    q, k, v = (part.flatten(0, -4).transpose(1, 2) for part in (q, k, v))  # [B, heads, N, d]
    out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return out if len(outer) == 1 else out.unflatten(0, (-1, *outer[1:]))


class Attention(nn.Module):
    """Multi-head self-attention over all dimensions between the first and the last.

    bias: of queries, keys and values ("qkv"), of queries and values only ("qv": a bias of the keys would cancel in the
    softmax), or "none". rotate: turns queries and keys, `[B, N, 2, heads, d]`, by their places in the grid.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        bias: str = "qkv",
        rotate: Callable[[Tensor, Sequence[int]], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if dim % heads or bias not in BIASES:
            raise ValueError(f"dim={dim}, heads={heads}, bias={bias!r}: heads divide dim, bias is one of {BIASES}")
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias == "qkv")
        if bias == "qv":
            self.q_bias = nn.Parameter(torch.zeros(dim))
            self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)
        self.partial_bias = bias == "qv"
        self.rotate = rotate

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(self.mix(x))
        return out.unflatten(1, x.shape[1:-1])

    def mix(self, x: Tensor) -> Tensor:
        """What the heads have found, before the last layer: `[B, ..., D]` to `[B, N, D]`."""
        grid, x = x.shape[1:-1], x.flatten(1, -2)
        qkv = F.linear(x, self.qkv.weight, self.bias()) if self.partial_bias else self.qkv(x)
        qkv = qkv.unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.unbind(2)  # [B, N, heads, d]
        if self.rotate is not None:
            q, k = self.rotate(qkv[:, :, :2], grid).unbind(2)
        return attend(q, k, v)

    def look(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """What `forward` gives for some of the tokens, `[B, n, D]`, that look at all of them, `[B, N, D]`.

        Only where nothing turns by its place, and `qkv` is the plain layer that it was built as.
        """
        dim, bias = queries.shape[-1], self.bias()
        of_query, of_rest = (None, None) if bias is None else (bias[:dim], bias[dim:])
        q = F.linear(queries, self.qkv.weight[:dim], of_query).unflatten(-1, (self.heads, -1))
        k, v = F.linear(tokens, self.qkv.weight[dim:], of_rest).unflatten(-1, (2, self.heads, -1)).unbind(2)
        out: Tensor = self.proj(attend(q, k, v))
        return out

    def bias(self) -> Tensor | None:
        """Of queries, keys and values together."""
        if self.partial_bias:
            return torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        return self.qkv.bias


class Mlp(nn.Module):
    """Two linear layers, the activation between them in place where nobody needs what it overwrites.

    What is between them is the largest tensor of a network, and on a CPU fresh memory costs more than the activation.
    """

    def __init__(self, dim: int, hidden: int, activation: str = "gelu") -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r}: it is one of {', '.join(ACTIVATIONS)}")
        self.activation = activation  # by its name, as operators cannot be pickled
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        activate = (IN_PLACE if unseen(self, x) and plain(self.fc1) else ACTIVATIONS)[self.activation]
        out: Tensor = self.fc2(activate(self.fc1(x)))
        return out


class DropPath(nn.Module):
    """In training, leaves a branch out for some samples of the batch and makes up for it in the others."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.p):
            return x
        keep = torch.full((x.shape[0], *[1] * (x.ndim - 1)), 1 - self.p, dtype=x.dtype, device=x.device)
        return x * torch.bernoulli(keep) / keep


class Block(nn.Module):
    """A pre-norm transformer layer over `[B, ..., D]`."""

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        *,
        eps: float,
        bias: str = "qkv",
        activation: str = "gelu",
        drop_path: float = 0.0,
        rotate: Callable[[Tensor, Sequence[int]], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, heads, bias=bias, rotate=rotate)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, hidden, activation)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def class_token(self, x: Tensor) -> Tensor:
        """The first of the tokens `[B, N, D]` after this layer, `[B, 1, D]`, in inference."""
        normed = self.norm1(x)
        x = x[:, :1] + self.attn.look(normed[:, :1], normed)
        return x + self.mlp(self.norm2(x))


class ClassTokenModel(zoo.VideoModel):
    """A network whose head reads the class token. Where nothing but logits is asked for, the last layer makes only it.

    A layer before `norm`, the last of the stages, that can do that has a method `class_token`.
    """

    def forward(self, clip: Tensor) -> Tensor:
        *before, last, norm = self.stages().values()
        able = hasattr(last, "class_token") and isinstance(last.attn, Attention) and plain(last.attn.qkv)
        if not (able and unseen(last, clip) and unseen(norm, clip)):
            return super().forward(clip)
        self.check_geometry(clip)
        for stage in before:
            clip = stage(clip)
        return self.forward_head(norm(last.class_token(clip)))


def drop_rates(most: float, depth: int) -> list[float]:
    """Rates of DropPath that grow from 0 at the first layer to `most` at the last."""
    return [most * i / max(depth - 1, 1) for i in range(depth)]


def initialise(model: nn.Module, std: float = 0.02) -> None:
    """Normal weights, zero biases: how these networks start training.

    Papers cut the distribution at two, which is 100 standard deviations and never happens; `trunc_normal_` would look
    for it in every weight, even in those that a file is about to replace.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def new_head(model: zoo.VideoModel, dim: int, num_classes: int) -> nn.Module:
    """A fresh last layer of the model's device and type; none for no classes."""
    if not num_classes:
        return nn.Identity()
    like = next(model.parameters())
    head = nn.Linear(dim, num_classes, device=like.device, dtype=like.dtype)
    nn.init.normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head


def fixed_table(make: Callable[..., Tensor], *args: Any) -> Tensor:
    """What `make(*args)` computes, computed on the CPU and moved to the device that the network is built on.

    So it is the same everywhere, and quick on the meta device, where the first multiplication imports torch's compiler:
    longer than it takes to read the weights.
    """
    with torch.device("cpu"):
        made = make(*args)
    return made.to(torch.get_default_device())


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) from one number or from two."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width
