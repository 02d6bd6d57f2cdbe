"""What a model costs: its parameters, and the multiply-adds of one clip, counted on the meta device.

No memory is used and nothing is computed, so that the largest model takes a second. Counted are the convolutions, the
matrix products and both products of attention, each multiply-add as one, as papers and torchvision count their
"GFLOPs". Norms, activations, pooling and additions are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from zoo import factory
from zoo.contract import VideoModel
from zoo.errors import SpecError, ZooError
from zoo.spec import Geometry, ModelSpec, Preprocessing, Weights


@dataclass(frozen=True)
class Cost:
    """params: of the model. multiply_adds: for one clip `(C, T, H, W)`."""

    params: int
    multiply_adds: int
    clip: tuple[int, int, int, int]

    @property
    def gflops(self) -> float:
        """Thousand millions of multiply-adds."""
        return self.multiply_adds / 1e9


def cost_of(spec: ModelSpec, weights: Weights | None = None) -> Cost:
    """The cost of a registered architecture, with the options and the protocol of its weights if there are any.

    Raises SpecError if the model does not run on the meta device, PluginError if it cannot be built.
    """
    model = build_on_meta(spec, weights)
    return count(model, clip_of(spec, weights), name=spec.full_name)


def count(model: VideoModel, clip: tuple[int, int, int, int], *, name: str = "the model") -> Cost:
    """The cost of a model on the meta device for one clip `(C, T, H, W)`. Raises SpecError if it does not run there."""
    model.requires_grad_(False)  # the counter looks for gradients
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.empty(1, *clip, device="meta"))
    except ZooError:
        raise
    except Exception as error:
        raise SpecError(
            f"{name} does not run with shapes only: {error!r:.300}", hint="`zoo check PLUGIN` says more"
        ) from error
    params = sum(parameter.numel() for parameter in model.parameters())
    return Cost(params, counter.get_total_flops() // 2, clip)


def build_on_meta(spec: ModelSpec, weights: Weights | None = None, *, num_classes: int | None = None) -> VideoModel:
    """The whole model without any memory: shapes only. With weights, as they need it."""
    options = {} if weights is None else weights.kwargs
    if weights is not None and num_classes is None:
        num_classes = weights.num_classes
    with torch.device("meta"):
        model = factory.build(spec.full_name, num_classes=num_classes, **options)
    return model.to("meta").eval()


def protocol_shape(protocol: Preprocessing) -> tuple[int, int, int, int]:
    """The clip `(C, T, H, W)` of a protocol; of one that crops nothing, a square of the size it resizes to."""
    size = protocol.crop or protocol.resize or 224
    height, width = (size, size) if isinstance(size, int) else size
    return 3, protocol.num_frames, height, width


def clip_of(spec: ModelSpec, weights: Weights | None = None) -> tuple[int, int, int, int]:
    """The clip `(C, T, H, W)` of the weights' protocol, else of the spec's; without one, by its geometry."""
    if protocol := (weights and weights.preprocessing) or spec.preprocessing:
        return protocol_shape(protocol)
    geometry = spec.geometry or Geometry()
    return geometry.channels, geometry.frames or 16, *(geometry.size or (224, 224))
