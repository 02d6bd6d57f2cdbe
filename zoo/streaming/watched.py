"""What is remembered of one stream, and its last seconds as a video."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.contract import State
from zoo.streaming.history import History
from zoo.tasks.classification import Report
from zoo.video.footage import Pixels
from zoo.video.picture import Frame

USUAL = 15  # intervals that tell what is usual between frames


@dataclass
class Watched:
    """One stream: what came, when the next prediction is due, and what is kept of its past."""

    frames: int = 0
    late: int = 0
    dropped: int = 0
    restarts: int = 0
    intervals: deque[float] = field(default_factory=lambda: deque(maxlen=USUAL))
    first_s: float = math.nan  # since it last began anew
    last_s: float = math.nan
    arrived: int = 0
    size: tuple[int, ...] = ()  # (height, width)
    due_s: float = -math.inf  # when the next prediction is due
    open: bool = False  # something came since the last prediction
    scores: Tensor | None = None  # smoothed
    scored_s: float = -math.inf
    history: History = field(default_factory=History)
    # where the model has steps
    state: State | None = None
    logits: Tensor | None = None
    seen: int = 0
    moment: int = 0  # the next one of the protocol at which the network looks
    picture: Pixels | None = None  # the newest
    # where it has not
    ring: deque[tuple[float, Pixels]] = field(default_factory=deque)

    @property
    def report(self) -> Report:
        return Report(self.frames, self.late, self.dropped, self.restarts)

    def anew(self, *, forget: bool) -> Watched:
        """Without a past, but for what came of it and, unless it is to `forget` that, for what was said."""
        return Watched(*self.report, intervals=self.intervals, history=History() if forget else self.history)

    def usual(self) -> float:
        """Seconds between frames."""
        return median(self.intervals) if self.intervals else 0.0

    def facts(self) -> dict[str, Any]:
        """All but tensors, for a file."""
        numbers = {name: value for name, value in vars(self).items() if isinstance(value, bool | int | float)}
        lists = {"intervals": list(self.intervals), "size": self.size, "ring": [t for t, _ in self.ring]}
        return {**numbers, **lists, "history": self.history.facts()}

    def tensors(self) -> dict[str, Tensor]:
        """The rest."""
        tensors = {f"state.{name}": value for name, value in (self.state or {}).items()}
        found = {"scores": self.scores, "logits": self.logits}
        if self.picture is not None:
            found["picture"] = torch.from_numpy(self.picture)
        if self.history.windows:
            found["history"] = torch.stack([scores for *_, scores in self.history.windows])
        if self.ring:
            found["ring"] = torch.from_numpy(np.stack([picture for _, picture in self.ring]))
        tensors |= {name: value for name, value in found.items() if value is not None}
        return {name: value.contiguous() for name, value in tensors.items()}

    @classmethod
    def of(cls, facts: dict[str, Any], tensors: dict[str, Tensor], device: torch.device) -> Watched:
        """What `facts` and `tensors` gave."""
        state = {name[6:]: value.to(device) for name, value in tensors.items() if name.startswith("state.")}
        kept: dict[str, Any] = {name: tensors[name] for name in ("scores", "logits") if name in tensors}
        intervals = deque(facts["intervals"], USUAL)
        history = History.of(facts["history"], tensors.get("history"))
        watched = cls(**{**facts, "intervals": intervals, "history": history, "ring": deque(), **kept})
        watched.size = tuple(facts["size"])
        watched.state = state or None
        watched.picture = tensors["picture"].numpy() if "picture" in tensors else None
        watched.ring.extend(zip(facts["ring"], tensors["ring"].numpy() if facts["ring"] else (), strict=True))
        return watched


class Held:
    """The frames of a window as a video of their own."""

    def __init__(self, name: str, watched: Watched) -> None:
        self.name = name
        start = watched.ring[0][0]
        self.time_s: Sequence[float] = [t - start for t, _ in watched.ring]
        self._pictures = [picture for _, picture in watched.ring]
        self.duration_s = self.time_s[-1] + (watched.usual() or 1.0)
        self.fps = len(self.time_s) / self.duration_s

    def frames(self, wanted: Sequence[int], preprocessing: Any) -> Iterator[Frame]:
        """They are resized already."""
        return (Frame(self._pictures[i], i, self.time_s[i]) for i in wanted)
