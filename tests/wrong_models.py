"""Networks that each break one rule, by name, for the tests of the conformance kit."""

from __future__ import annotations

import torch
from models import Tiny
from torch import Tensor, nn

import zoo


def right(*, num_classes: int = 5, width: int = 4) -> Tiny:
    return Tiny(num_classes=num_classes, width=width)


def resolve(name: str) -> zoo.ModelSpec | None:
    return zoo.ModelSpec(name=name, builder="wrong_models:right", num_classes=5) if name == "net" else None


def with_layer(*, num_classes: int = 5, layer: type = nn.ReLU) -> Tiny:
    return Tiny(num_classes=num_classes)


def fixed_classes(*, num_classes: int = 5) -> Tiny:
    return Tiny()


class Probabilities(Tiny):
    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        rows = super().forward_head(features, pre_logits)
        return rows if pre_logits or not self.num_classes else rows.softmax(-1)


class Mutates(Tiny):
    def forward_features(self, clip: Tensor) -> Tensor:
        return super().forward_features(clip.mul_(0.5))


class Leaks(Tiny):
    def forward_features(self, clip: Tensor) -> Tensor:
        return super().forward_features(clip - clip.mean(0))


class Trembles(Tiny):
    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        rows = super().forward_head(features, pre_logits)
        return rows + 1e-6 * torch.randn_like(rows)


class OneLength(Tiny):
    """Says that it takes any clip, and takes those with four steps of time only."""

    def forward_features(self, clip: Tensor) -> Tensor:
        return super().forward_features(clip).unflatten(2, (4, 1)).flatten(2, 3)


class Unchecked(Tiny):
    def forward(self, clip: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(clip))


class Tied(Tiny):
    def __init__(self, **options: int) -> None:
        super().__init__(**options)
        self.again = self.stem[0]


class Unsaved(Tiny):
    """Multiplies by something random that is in no file."""

    def __init__(self, **options: int) -> None:
        super().__init__(**options)
        self.register_buffer("secret", torch.rand(1) + 0.5, persistent=False)

    def forward_features(self, clip: Tensor) -> Tensor:
        return super().forward_features(clip) * self.secret


class Dead(Tiny):
    def __init__(self, **options: int) -> None:
        super().__init__(**options)
        self.unused = nn.Parameter(torch.ones(3))


class Scaled(Tiny):
    def forward(self, clip: Tensor) -> Tensor:
        return 2 * super().forward(clip)


class WrongWidth(Tiny):
    def reset_classifier(self, num_classes: int) -> None:
        self.num_features = self.body.out_channels
        super().reset_classifier(num_classes)
        self.num_features = 99


class OneHead(Tiny):
    """`reset_classifier` works once, in the constructor."""

    def reset_classifier(self, num_classes: int) -> None:
        if not hasattr(self, "fc"):
            super().reset_classifier(num_classes)


class Ungrouped(Tiny):
    def layer_groups(self) -> dict[str, list[str]]:
        return {name: names for name, names in super().layer_groups().items() if name != "head"}


class NoCopy(Tiny):
    def __deepcopy__(self, memo: object) -> Tiny:
        return self


class NoPickle(Tiny):
    def __init__(self, **options: int) -> None:
        super().__init__(**options)
        self.callback = lambda x: x


class NoExport(Tiny):
    def forward_features(self, clip: Tensor) -> Tensor:
        if not clip.is_meta and clip.max() > 100:
            clip = clip / 255
        return super().forward_features(clip)


class NoAutocast(Tiny):
    def forward_features(self, clip: Tensor) -> Tensor:
        features = super().forward_features(clip)
        return features.lerp(torch.ones(features.shape, device=features.device), 0.1)


def seeds(*, num_classes: int = 5) -> Tiny:
    torch.manual_seed(0)
    return Tiny(num_classes=num_classes)


def switches(*, num_classes: int = 5) -> Tiny:
    torch.backends.cudnn.benchmark = True
    return Tiny(num_classes=num_classes)


class Causal(Tiny):
    """A network for streams: a frame at a time, then the mean of what it saw so far."""

    def __init__(self, *, num_classes: int = 5, width: int = 4) -> None:
        super().__init__(num_classes=num_classes, width=width)
        self.stem[0] = nn.Conv3d(3, width, (1, 3, 3), padding=(0, 1, 1))
        self.body = nn.Conv3d(width, 2 * width, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))

    def init_state(self, batch: int) -> dict[str, Tensor]:
        return {"total": torch.zeros(batch, self.num_features), "frames": torch.zeros(batch)}

    def step(self, frames: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        seen = self.forward_features(frames).mean((3, 4)).sum(2)
        state = {"total": state["total"] + seen, "frames": state["frames"] + frames.shape[2]}
        return self.fc(state["total"] / state["frames"][:, None] * self.scale), state


class Forgets(Causal):
    def step(self, frames: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return super().step(frames, self.init_state(len(frames)))


class Impure(Causal):
    def step(self, frames: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        logits, new = super().step(frames, state)
        state["total"].copy_(new["total"])
        state["frames"].copy_(new["frames"])
        return logits, state


class Views(Causal):
    """Its state is a view that no file takes."""

    def step(self, frames: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        logits, new = super().step(frames, state)
        return logits, {"total": new["total"].repeat(1, 2)[:, : self.num_features], "frames": new["frames"]}


class OneCount(Causal):
    """Counts the frames of the stream that has run longest."""

    def step(self, frames: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        longest = state["frames"].max().expand(len(frames))
        return super().step(frames, {"total": state["total"], "frames": longest})


class BranchesInStep(Causal):
    def step(self, frames: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        if state["frames"].max() > 1e6:
            state = {name: value / 2 for name, value in state.items()}
        return super().step(frames, state)
