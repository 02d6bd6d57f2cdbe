"""How maps are made. Each method takes a model, one clip `[1, C, T, H, W]` and the number of a label, with gradients
enabled, and gives what each place has to do with that label's logit, `[t, h, w]` of at least 0, as coarse as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.attribution.attention import Watched
from zoo.contract import VideoModel
from zoo.errors import SpecError

STEPS = (20, 60, 180)  # between the mean colour and the clip, more while sums are not CLOSE; the paper: 20 to 300
CLOSE = 0.05  # to the difference of the logits, as a part of it; the paper takes it for enough
PATCH = 8  # pixels over which attributions are averaged: single ones are grain
MOST_EXTRA = 8  # tokens that have no place, such as that of the class


def gradcam(model: VideoModel, clip: Tensor, index: int) -> Tensor:
    """Features of the last stage, summed with the mean gradient of each channel; what is negative is left out."""
    with torch.no_grad():
        features = model.forward_features(clip)
    placed = _placed(model, features, clip)
    if placed is None:
        raise _unfit(model, "gradcam", "its features have no places")
    gradient, values = (_grid(x, *placed) for x in (_gradient(model.forward_head, features, index), features))
    weights = gradient.mean((2, 3, 4), keepdim=True)
    return (weights * values).sum(1)[0].relu()


def integrated_gradients(model: VideoModel, clip: Tensor, index: int) -> Tensor:
    """What each patch adds to the logit, compared with a clip of the mean colour; what takes from it is left out."""
    return F.avg_pool2d(contributions(model, clip, index).sum(0)[None], PATCH, ceil_mode=True)[0].relu()


def contributions(model: VideoModel, clip: Tensor, index: int) -> Tensor:
    """`[C, T, H, W]`: the clip times the mean of the gradients on the straight way to it, from zeros.

    Zeros are the mean colour of the protocol. The sum is the difference of the two logits, but for the steps: there are
    more of them until it is, or there are 180.
    """
    with torch.no_grad():
        difference = float((model(clip) - model(torch.zeros_like(clip)))[0, index])
    total, found = torch.zeros_like(clip, dtype=torch.float32), torch.zeros_like(clip[0], dtype=torch.float32)
    for steps in STEPS:
        for step in range(steps):
            if steps == STEPS[0] or step % 3 != 1:  # every third is one of the steps before
                total += _gradient(model, clip * ((step + 0.5) / steps), index).float()
        found = (total * clip.float() / steps)[0]
        if abs(float(found.sum()) - difference) <= CLOSE * abs(difference):
            break
    return found


def rollout(model: VideoModel, clip: Tensor, index: int) -> Tensor:
    """The product of the attention of all blocks, each the mean of its heads and half of what passes it by.

    Read for the class token if there is one, else for the mean of all tokens. It does not depend on the label.
    """
    with Watched() as seen:  # and with gradients, as without them a network may leave out what nobody asks for
        features = model.forward_features(clip).detach()
    placed = _placed(model, features, clip)
    if placed is None or seen.product is None:
        raise _unfit(model, "rollout", "no attention was seen over all of its tokens at once")
    extra, grid = placed
    if seen.other or len(seen.product) != extra + math.prod(grid):
        raise _unfit(model, "rollout", "its blocks do not all attend over all tokens")
    row = seen.product[0] if extra else seen.product.mean(0)
    found: Tensor = row[extra:].reshape(grid)
    return found


METHODS: dict[str, Callable[[VideoModel, Tensor, int], Tensor]] = {
    "gradcam": gradcam,
    "integrated_gradients": integrated_gradients,
    "rollout": rollout,
}


def automatic(model: VideoModel, clip: Tensor, index: int) -> str:
    """Grad-CAM, unless features have no places, or the label does not depend on them there (but on a class token)."""
    with torch.no_grad():
        features = model.forward_features(clip)
    placed = _placed(model, features, clip)
    if placed is None or math.prod(placed[1][1:]) == 1:
        return "integrated_gradients"
    with torch.enable_grad():
        gradient = _grid(_gradient(model.forward_head, features, index), *placed)
    return "gradcam" if bool(gradient.any()) else "integrated_gradients"


def _gradient(function: Callable[[Tensor], Tensor], x: Tensor, index: int) -> Tensor:
    x = x.detach().clone().requires_grad_()
    with torch.backends.cudnn.flags(enabled=not _has_recurrence(function)):
        (found,) = torch.autograd.grad(function(x)[0, index], x, allow_unused=True)
    return torch.zeros_like(x) if found is None else found


def _has_recurrence(function: object) -> bool:
    """cuDNN's recurrent layers have no gradient in evaluation mode; PyTorch's own have."""
    module = getattr(function, "__self__", function)
    return isinstance(module, nn.Module) and any(isinstance(part, nn.RNNBase) for part in module.modules())


def _placed(model: VideoModel, features: Tensor, clip: Tensor) -> tuple[int, tuple[int, int, int]] | None:
    """How many tokens come first that have no place, and the grid (T', H', W') of the others; None without a grid."""
    if features.ndim == 5:
        return 0, (features.shape[2], features.shape[3], features.shape[4])
    if features.ndim != 3:
        return None
    steps, (height, width) = model.frame_features(features).shape[1], clip.shape[3:]
    for extra in range(MOST_EXTRA + 1):
        count, rest = divmod(features.shape[1] - extra, steps)
        across = round(math.sqrt(count * width / height)) if count > 0 else 0
        if not rest and across and count % across == 0 and count // across == round(across * height / width):
            return extra, (steps, count // across, across)
    return None


def _grid(features: Tensor, extra: int, grid: tuple[int, int, int]) -> Tensor:
    """Features as maps `[1, D, T', H', W']`."""
    return features if features.ndim == 5 else features[:, extra:].movedim(-1, 1).reshape(1, -1, *grid)


def _unfit(model: VideoModel, method: str, why: str) -> SpecError:
    name = model.spec.full_name if model.spec else type(model).__name__
    return SpecError(f"{name} allows no {method}: {why}", hint='method="integrated_gradients" works with every network')
