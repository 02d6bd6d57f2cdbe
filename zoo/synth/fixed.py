"""Videos of a camera that stays while large things pass before it, or slide within a part of the picture."""

from __future__ import annotations

from zoo.synth.footage import GeneratedFootage


class FixedFootage(GeneratedFootage):
    """A generated video, `static`, in which much moves, over a picture that may show little."""

    busy = True
