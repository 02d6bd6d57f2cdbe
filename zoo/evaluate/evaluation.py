"""The result of an evaluation: figures, where they come from, and what is needed to measure them again."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from zoo.data import Sample
from zoo.data.checks import by_name
from zoo.evaluate.calibration import expected_calibration_error, reliability
from zoo.evaluate.scoring import Outcome, Scores
from zoo.spec import LEVELS, Metric

FILE, PICTURE = "evaluation.json", "confusion.png"
SHOWN = 10  # classes in the text, the worst ones


@dataclass(frozen=True, repr=False, eq=False)
class Evaluation:
    """What a model made of labelled videos. Accuracies are in percent of the videos (or clips) that could be read.

    labels: in the order of the logits. samples, scores: the videos, and what came out of each. probable: whether the
    scores are probabilities of one class, so that there is a calibration. setting: what was run on what, and how.
    """

    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    scores: Scores
    probable: bool
    setting: Mapping[str, Any] = field(default_factory=dict)

    def accuracy(self, k: int = 1, level: str = "video") -> float:
        """Top-k in percent; a video, or with level="clip" each of its clips, is one vote."""
        return self.scores.accuracy(k, level)

    @property
    def unreadable(self) -> dict[str, str]:
        """Videos that could not be read, and why: {name: reason}. They count in no figure.

        One for each: where several have one name, the second is `name (2)`.
        """
        return by_name((self.samples[one.sample].name, one.error) for one in self.scores.outcomes if one.error)

    @cached_property
    def confusion(self) -> dict[str, dict[str, int]]:
        """{label: {what was said: videos}}, of the labels that occur."""
        counts = Counter((outcome.target, outcome.best) for outcome in self.scores.scored)
        table: dict[str, dict[str, int]] = {}
        for (target, said), count in sorted(counts.items()):
            table.setdefault(self.labels[target], {})[self.labels[said]] = count
        return table

    @cached_property
    def per_class(self) -> dict[str, dict[str, float]]:
        """{label: {"videos", "top1", "top5", "clip_top1"}}, of the labels that occur."""
        members: dict[str, list[Outcome]] = {}
        for outcome in self.scores.scored:
            members.setdefault(self.labels[outcome.target], []).append(outcome)
        found = {}
        for label in sorted(members, key=self.labels.index):
            part = replace(self.scores, outcomes=tuple(members[label]))
            clip = part.accuracy(1, "clip")
            found[label] = {"videos": len(members[label]), **_tops(part, "video"), "clip_top1": clip}
        return found

    @cached_property
    def calibration(self) -> dict[str, Any] | None:
        """{"ece": 0 to 1, "bins": [...]} of the videos' best scores; None where scores are no probabilities."""
        if not self.probable or not self.scores.scored:
            return None
        rows = [(float(o.scores.max()), o.best == o.target) for o in self.scores.scored if o.scores is not None]
        bins = reliability([score for score, _ in rows], [right for _, right in rows])
        return {"ece": expected_calibration_error(bins), "bins": [one._asdict() for one in bins]}

    def metrics(self, dataset: str, by: str, split: str = "") -> tuple[Metric, ...]:
        """The figures as a card has them; top-5 where there are more than five classes."""
        views = self.setting.get("views", "card")
        about = {"dataset": dataset, "split": split, "origin": "measured", "by": by}
        about |= {"views": views if isinstance(views, str) else "x".join(map(str, views))}
        tops = [k for k in (1, 5) if k == 1 or len(self.labels) > k]
        return tuple(Metric(name=f"top{k}", value=round(self.accuracy(k), 3), **about) for k in tops)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: every figure, every video, and what is needed to measure again. What is no number is None."""
        classes = self.per_class.values()
        seconds = max(self.scores.seconds, 1e-9)
        data = {
            **self.setting,
            "videos": len(self.samples),
            "unreadable": [
                {"video": self.samples[one.sample].name, "error": one.error}
                for one in self.scores.outcomes
                if one.error
            ],
            **{level: _tops(self.scores, level) for level in LEVELS},
            "mean_class_top1": sum(one["top1"] for one in classes) / max(len(classes), 1),
            "loss": self.scores.loss() if self.probable else None,
            "calibration": self.calibration,
            "throughput": {
                "seconds": self.scores.seconds,
                "videos_per_s": len(self.scores.scored) / seconds,
                "views_per_s": len(self.scores.scored) * self.scores.views / seconds,
            },
            "per_class": self.per_class,
            "confusion": self.confusion,
            "results": [self._result(outcome) for outcome in self.scores.outcomes],
        }
        return _numbers(data)  # type: ignore[no-any-return]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write evaluation.json and confusion.png; the folder is made if need be."""
        from zoo.pictures.confusion import draw_confusion

        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        (path / FILE).write_text(text + "\n", encoding="utf-8")
        draw_confusion(self.confusion, self.labels).save(path / PICTURE)

    def __str__(self) -> str:
        lines = [
            f"{self.setting.get('model', 'model')} on {len(self.scores.scored)} videos, {self.scores.views} views each"
        ]
        for level in LEVELS:
            top1, top5 = _tops(self.scores, level).values()
            lines.append(f"  {level:<6} top-1 {top1:6.2f} %   top-5 {top5:6.2f} %")
        if self.calibration is not None:
            lines.append(f"  expected calibration error {self.calibration['ece']:.3f}, loss {self.scores.loss():.3f}")
        worst = sorted(self.per_class.items(), key=lambda item: item[1]["top1"])[:SHOWN]
        width = max((len(label) for label, _ in worst), default=0)
        lines += [f"  {label:<{width}}  {row['top1']:6.2f} %  of {row['videos']}" for label, row in worst]
        if len(self.per_class) > SHOWN:
            lines.append(f"  and {len(self.per_class) - SHOWN} classes that are better")
        lines.append(f"  {len(self.scores.scored) / max(self.scores.seconds, 1e-9):.1f} videos/s")
        if self.unreadable:
            lines.append(f"  {len(self.unreadable)} could not be read and are in no figure:")
            lines += [f"    {name}: {why}" for name, why in self.unreadable.items()]
        return "\n".join(lines)

    __repr__ = __str__

    def _result(self, outcome: Outcome) -> dict[str, Any]:
        sample = self.samples[outcome.sample]
        if outcome.scores is None or outcome.clips is None:
            return {"video": sample.name, "label": sample.label, "error": outcome.error}
        return {
            "video": sample.name,
            "label": sample.label,
            "said": self.labels[outcome.best],
            "score": float(outcome.scores.max()),
            "score_of_label": float(outcome.scores[outcome.target]),
            "clips": [self.labels[int(i)] for i in outcome.clips.argmax(1)],
        }


def _numbers(data: Any) -> Any:
    """The same with None for what JSON has no number for, such as the scores of a network that has diverged."""
    if isinstance(data, dict):
        return {key: _numbers(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_numbers(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _tops(scores: Scores, level: str) -> dict[str, float]:
    return {f"top{k}": scores.accuracy(k, level) for k in (1, 5)}
