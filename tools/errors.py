"""Every error of zoo's as somebody meets it: each is provoked, and says what it says.

`tools/tables.py` makes a table of them.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import av
import numpy as np
import torch
from safetensors.torch import save_file

import zoo
from zoo import errors
from zoo.bulk.folder import check_rows
from zoo.deploy.compare import check
from zoo.deploy.facts import Comparison
from zoo.testing.loopback_hub import LoopbackHub, Request, Response
from zoo.train.state import FACTS, FOLDER, Checkpoints

LONGEST = 240
TINY = "r2plus1d_tiny"


def video(path: str = "my_video.mp4") -> str:
    frames = np.random.default_rng(0).integers(0, 255, (25, 48, 64, 3), dtype=np.uint8)
    zoo.video.write_video(path, frames, fps=25)
    return path


def sound() -> str:
    with av.open("speech.m4a", "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), "fltp", "mono")
        frame.sample_rate = 16_000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return "speech.m4a"


def damaged() -> str:
    path = Path(video("damaged.mp4"))
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 8
    data[start : start + 20_000] = bytes(20_000)
    path.write_bytes(data)
    return str(path)


def weights_of(classes: int) -> str:
    save_file(zoo.build(TINY, num_classes=classes).state_dict(), "weights.safetensors")
    return "weights.safetensors"


def written(name: str, data: bytes) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(data)
    return name


class Refusing(LoopbackHub):
    """A Hub whose repositories are gated."""

    def answer(self, request: Request) -> Response:
        return Response(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})


class Portal(LoopbackHub):
    """A network that answers every question with its login page."""

    def answer(self, request: Request) -> Response:
        return Response(200, {"Content-Type": "text/html"}, b"<html>please log in</html>")


def from_hub(kind: type[LoopbackHub]) -> None:
    with kind() as hub, as_if_the_real(hub):
        zoo.create("hf-hub:acme/net", endpoint=hub.url, cache_dir="cache")


@contextlib.contextmanager
def as_if_the_real(hub: LoopbackHub) -> Iterator[None]:
    """What is said names the Hub, and not a port of this machine."""
    try:
        yield
    except zoo.ZooError as error:
        error.args = (error.args[0].replace(hub.url, "https://huggingface.co"),)
        error.hint = error.hint.replace(hub.url, "https://huggingface.co")
        raise


def offline() -> None:
    with mock.patch("huggingface_hub.constants.HF_HUB_OFFLINE", True):
        zoo.create("videomae_base.k400", cache_dir="cache")


def half_a_checkpoint() -> None:
    written(f"runs/mine/{FOLDER}/step_00000010/{FACTS}", b"half")
    Checkpoints(Path("runs/mine"), mock.Mock(), 1).newest()


def narrow_view() -> None:
    zoo.video.read_frames(video(), [0], limits=zoo.video.Limits(max_pixels=1000))


PROVOKED: dict[type[zoo.ZooError], Callable[[], object]] = {
    errors.UnknownModel: lambda: zoo.info("r3d_81"),
    errors.PluginError: lambda: zoo.register(SimpleNamespace(), "acme"),
    errors.SpecError: lambda: zoo.Preprocessing(num_frames=16, crop=-1),
    errors.GeometryError: lambda: zoo.build("videomae_tiny")(torch.zeros(1, 3, 3, 8, 8)),
    errors.NotCausal: lambda: zoo.build(TINY).init_state(1),
    errors.VideoOpenError: lambda: zoo.video.read_frames("my_vidoe.mp4", [0]),
    errors.NoVideoStreamError: lambda: zoo.video.read_frames(sound(), [0]),
    errors.VideoDecodeError: lambda: zoo.video.read_frames(damaged(), range(25)),
    errors.VideoLimitError: narrow_view,
    errors.WeightsNotFound: lambda: zoo.create("r3d_18.k400", cache_dir="cache"),
    errors.WeightsAccessDenied: lambda: from_hub(Refusing),
    errors.WeightsOffline: offline,
    errors.WeightsDownloadError: lambda: from_hub(Portal),
    errors.WeightsCorrupt: lambda: zoo.load(zoo.build(TINY), written("half.safetensors", b"half of a file")),
    errors.WeightsMismatch: lambda: zoo.load(zoo.build(TINY, num_classes=9), weights_of(3)),
    errors.DataError: lambda: zoo.evaluate(TINY, str(Path(written("clips.csv", b"path,label\n")))),
    errors.TrainingError: half_a_checkpoint,
    errors.PublishError: lambda: zoo.publish(zoo.build(TINY), "you/net", tag="main"),
    errors.BatchError: lambda: check_rows(np.arange(3), SimpleNamespace(keys=np.arange(2)), np.arange(0)),
    errors.DeploymentError: lambda: check(
        Comparison(9, 0.31, 0.6), max_distance=0.2, min_agreement=0.85, what="acme/net by 'int8'"
    ),
}


def said() -> dict[str, tuple[str, str]]:
    """What each error says, and the next step, provoked in a folder of its own."""
    found = {}
    for kind, provoke in PROVOKED.items():
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.chdir(folder),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            try:
                provoke()
            except kind as error:
                assert type(error) is kind, error
                assert error.hint, f"{kind.__name__} says no next step: {error}"
                assert str(error) == f"{error.args[0]}: {error.hint}"
                found[kind.__name__] = _elsewhere(str(error.args[0]), folder), _elsewhere(error.hint, folder)
    assert len(found) == len(PROVOKED), "some are not raised any more"
    return found


def _elsewhere(text: str, folder: str) -> str:
    return text.replace(f"{folder}/", "").replace(folder, "/home/you")


def table() -> str:
    """A row for every class, bases first."""
    told = said()
    lines = ["| error | also a | when | for example | next step |", "|---|---|---|---|---|"]
    for kind in [zoo.ZooError, *descendants(zoo.ZooError)]:
        about = (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")
        builtins = [base.__name__ for base in kind.__mro__ if base.__module__ == "builtins"]
        also = ", ".join(f"`{name}`" for name in builtins if name in ("LookupError", "ValueError", "TypeError"))
        message, hint = told.get(kind.__name__, ("", ""))
        message = message if len(message) <= LONGEST else f"{message[:LONGEST].rpartition(' ')[0]} ..."
        lines.append(f"| `{kind.__name__}` | {also} | {about} | {_cell(message)} | {_cell(hint)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def descendants(kind: type) -> Iterator[type]:
    """The classes of zoo/errors.py below this one, in their order there."""
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from descendants(child)
