"""A right plugin, and networks that each break one rule, by name, for the tests of the conformance kit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from models import Tiny
from torch import Tensor, nn

import zoo

RIGHT = zoo.ModelSpec(
    name="net",
    builder="wrong_models:right",
    family="test",
    num_classes=5,
    params=1253,
    description="Two convolutions.",
    paper="https://example.org/paper",
    license="MIT",
    preprocessing=zoo.Preprocessing(num_frames=8, resize=32),
    geometry=zoo.Geometry(min_frames=2),
)
STREAM = replace(RIGHT, builder="wrong_models:Causal", streaming=True, params=461)
PUBLISHED = {"license": "MIT", "training_data": "nothing", "num_classes": 5}
ON_THE_HUB = zoo.Weights(source="hf://acme/net/net.safetensors@main", sha256="0" * 64, size=1, **PUBLISHED)


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


class Rescaled(Probabilities):
    """In percent."""

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        rows = super().forward_head(features, pre_logits)
        return rows if pre_logits or not self.num_classes else 100 * rows


class Logarithms(Tiny):
    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        rows = super().forward_head(features, pre_logits)
        return rows if pre_logits or not self.num_classes else rows.log_softmax(-1)


class Odds(Tiny):
    """A sigmoid for each class, times two."""

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        rows = super().forward_head(features, pre_logits)
        return rows if pre_logits or not self.num_classes else 2 * rows.sigmoid()


class FoldsTime(Tiny):
    """Pieces of eight frames, as if each were a clip; the last ones of what is left over are dropped."""

    def forward_features(self, clip: Tensor) -> Tensor:
        pieces = max(clip.shape[2] // 8, 1)
        frames = clip.shape[2] // pieces
        clip = clip[:, :, : pieces * frames].unflatten(2, (pieces, frames)).transpose(1, 2).flatten(0, 1)
        return super().forward_features(clip)


class StopsInTraining(Tiny):
    """It ends the whole process, as scripts do."""

    def forward_features(self, clip: Tensor) -> Tensor:
        if self.training:
            raise SystemExit("only for inference")
        return super().forward_features(clip)


class DividesByZero(Tiny):
    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        rows = super().forward_head(features, pre_logits)
        return rows / (0.0 if self.training else 1.0)


class AuxiliaryHead(Tiny):
    """Two answers in training, as some published networks have."""

    def forward(self, clip: Tensor) -> Tensor:
        rows = super().forward(clip)
        return torch.stack([rows, rows]) if self.training else rows


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


class SeedsWhileRunning(Tiny):
    def forward_features(self, clip: Tensor) -> Tensor:
        torch.manual_seed(0)
        return super().forward_features(clip)


class SeedsInTraining(Tiny):
    def forward_features(self, clip: Tensor) -> Tensor:
        if self.training:
            np.random.seed(0)
        return super().forward_features(clip)


class SwitchesGradientsOff(Tiny):
    def forward(self, clip: Tensor) -> Tensor:
        rows = super().forward(clip)
        torch.set_grad_enabled(False)
        return rows


class SwitchesThreads(Tiny):
    def forward_features(self, clip: Tensor) -> Tensor:
        torch.set_num_threads(torch.get_num_threads() % 2 + 1)
        return super().forward_features(clip)


class SwitchesDtype(Tiny):
    def forward_features(self, clip: Tensor) -> Tensor:
        torch.set_default_dtype(torch.float64)
        return super().forward_features(clip)


class SwitchesInTraining(Tiny):
    def forward_features(self, clip: Tensor) -> Tensor:
        if self.training:
            torch.set_float32_matmul_precision("high")
        return super().forward_features(clip)


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
        return super().step(frames, state if frames.shape[2] > 1 else self.init_state(len(frames)))


class HalfAStream(Tiny):
    def step(self, frames: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError


class Pairs(Causal):
    """Looks at two frames at a time, and at one that comes alone."""

    def step(self, frames: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        even = max(frames.shape[2] // 2 * 2, 1)
        return super().step(frames[:, :, :even], state)


class Late(Causal):
    """Says nothing before the third frame."""

    delay = 2

    def step(self, frames: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        logits, state = super().step(frames, state)
        return logits * (state["frames"] > 2)[:, None], state


class LateUnsaid(Late):
    delay = 0


class NotLate(Causal):
    delay = 2


class Window(Causal):
    """The mean of the last four frames."""

    receptive_field = 4

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        return super().forward_head(features[:, :, -4:], pre_logits)

    def init_state(self, batch: int) -> dict[str, Tensor]:
        return {"recent": torch.zeros(batch, 4, self.num_features), "frames": torch.zeros(batch)}

    def step(self, frames: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        new = self.forward_features(frames).mean((3, 4)).transpose(1, 2)
        recent = torch.cat([state["recent"], new], 1)[:, -4:].clone()
        count = state["frames"] + frames.shape[2]
        return self.fc(recent.sum(1) / count.clamp(max=4)[:, None] * self.scale), {"recent": recent, "frames": count}


class WindowUnsaid(Window):
    receptive_field = None


class NoWindow(Causal):
    receptive_field = 4


class EverySecond(Causal):
    """Answers to the first, third, fifth frame, and repeats itself in between."""

    period = 2

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        return super().forward_head(features[:, :, : (features.shape[2] - 1) // 2 * 2 + 1], pre_logits)

    def init_state(self, batch: int) -> dict[str, Tensor]:
        return {**super().init_state(batch), "said": torch.zeros(batch, self.num_classes)}

    def step(self, frames: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        for frame in frames.split(1, dim=2):
            logits, counted = super().step(frame, state)
            due = (counted["frames"] % 2 == 1)[:, None]
            state = {**counted, "said": torch.where(due, logits, state["said"])}
        return state["said"], state


class EverySecondUnsaid(EverySecond):
    period = 1


class EveryFrame(Causal):
    period = 2


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
