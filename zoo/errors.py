"""Every error a user can cause.

Each says what was asked, what is wrong and what to do next, and is also the builtin that the convention asks for, so
that `except LookupError` and `except ValueError` work for people who do not know zoo.
"""

from __future__ import annotations

from collections.abc import Mapping


class ZooError(Exception):
    """Base of all errors of zoo. `hint` is the next step, already part of the text."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}: {self.hint}" if self.hint else message


class UnknownModel(ZooError, LookupError):
    """No model or tag has that name."""

    # KeyError-like builtins print repr(args); ours prints the sentence.
    __str__ = ZooError.__str__


class PluginError(ZooError):
    """A plugin broke its side of the contract: at discovery (with ZOO_STRICT=1), or when its builder was called."""


class SpecError(ZooError, ValueError):
    """A ModelSpec, Weights or Preprocessing that cannot be right, or an option that no model understands."""


class GeometryError(ZooError, ValueError):
    """A clip whose shape the model does not take."""


class NotCausal(ZooError, TypeError):
    """A model that looks ahead was asked for a step of a stream. The hint lists those that can."""


class VideoError(ZooError, ValueError):
    """A video that cannot be read as asked. `source` names it, `reason` says why."""

    def __init__(self, message: str, *, hint: str = "", source: str = "", reason: str = "") -> None:
        super().__init__(message, hint=hint)
        self.source, self.reason = source, reason or message


class VideoOpenError(VideoError):
    """The file is missing, is not a video, or is of a kind that zoo does not open."""


class NoVideoStreamError(VideoError):
    """The file opens but holds no video, such as an audio file."""


class VideoDecodeError(VideoError):
    """The video opens but some or all of its frames cannot be decoded."""


class VideoLimitError(VideoError):
    """The video is larger, longer or slower than the limits allow."""


class WeightsError(ZooError):
    """Weights that cannot be used."""


class WeightsNotFound(WeightsError, LookupError):
    """No such file, repository or revision, or a tag whose file has to be converted first."""

    __str__ = ZooError.__str__


class WeightsAccessDenied(WeightsError):
    """The repository is gated, private or disabled for this account."""


class WeightsOffline(WeightsError):
    """The weights are not in the cache, and the network may not be used."""


class WeightsDownloadError(WeightsError):
    """The network or the disk failed while the weights were fetched."""


class WeightsCorrupt(WeightsError):
    """The bytes are not what was published, or not a safetensors file."""


class WeightsMismatch(WeightsError, ValueError):
    """A sound file whose keys, shapes or labels are not those of the model.

    shapes: of the file's tensors by name, where they are of use to who says which model they are of.
    """

    def __init__(self, message: str, *, hint: str = "", shapes: Mapping[str, tuple[int, ...]] | None = None) -> None:
        super().__init__(message, hint=hint)
        self.shapes = shapes or {}


class DataError(ZooError, ValueError):
    """Videos with labels that cannot be used: unreadable files, labels that contradict each other, and such."""


class TrainingError(ZooError):
    """A training that cannot begin, go on from where it stopped, or lead anywhere."""


class PublishError(ZooError):
    """Something in the way of publishing; nothing was uploaded unless the text says so."""


class BatchError(ZooError):
    """A bulk run that cannot go on, or whose rows do not add up; what it has done is kept."""


class DeploymentError(ZooError):
    """A model that cannot be exported or optimised, or that would then say something else."""
