"""What a model makes of labelled videos, measured by the protocol of its weights."""

from __future__ import annotations

from zoo.evaluate.scoring import Outcome, Scores, score

__all__ = ["Outcome", "Scores", "score"]
