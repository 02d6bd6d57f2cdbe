"""Where `zoo predict` puts pictures: into the file that was named, or for several videos into a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from zoo.errors import SpecError, ZooError

IMAGES = ".png, .jpg, .jpeg, .webp"


def _attribute(prediction: Any, path: Path, network: Any) -> None:
    import zoo

    executed = prediction.executed
    found = zoo.attribute(network, executed.source, views=executed.views, isolate=executed.isolate)
    if path.suffix.lower() in IMAGES.split(", "):
        found.sheet().save(path)
    else:
        found.overlay(path)


DEFAULT_SUFFIX = {"report": ".html", "overlay": ".mp4", "sheet": ".png", "timeline": ".png", "attribution": ".png"}
METHODS: dict[str, Callable[[Any, Path, Any], None]] = {
    "report": lambda prediction, path, network: prediction.save(path),
    "overlay": lambda prediction, path, network: prediction.overlay(path),
    "sheet": lambda prediction, path, network: prediction.contact_sheet().save(path),
    "timeline": lambda prediction, path, network: prediction.timeline().save(path),
    "attribution": _attribute,
}
VIDEOS = ".mp4, .mkv, .mov, .webm, ..."
SUFFIXES = {
    "report": ".html, .htm",
    "sheet": IMAGES,
    "timeline": IMAGES,
    "overlay": VIDEOS,
    "attribution": f"{IMAGES}, {VIDEOS}",
}
ABOUT = {
    "report": "Write a self-contained web page: scores, frames, what was run.",
    "overlay": "Write the video with its labels drawn in; the sound is kept.",
    "sheet": "Write a picture of the frames that the model saw.",
    "timeline": "Write a picture of what happened when, with --window or --stream.",
    "attribution": "Write where and when the model looked: frames (.png) or the video (.mp4).",
}


def picture_options(command: Callable[..., None]) -> Callable[..., None]:
    """--report, --overlay, --sheet, --timeline and --attribution."""
    for name, about in reversed(ABOUT.items()):
        kind = click.Path(path_type=Path)
        command = click.option(
            f"--{name}", metavar="FILE", type=kind, help=f"{about} Or a folder, for several videos."
        )(command)
    return command


class Pictures:
    """The files to write for each video. Made, and so checked, before anything is predicted."""

    def __init__(self, videos: Sequence[str], wanted: dict[str, Path | None]) -> None:
        self.wanted = {name: path for name, path in wanted.items() if path is not None}
        self.stems = _distinct([Path(video).stem or "video" for video in videos])
        for name, path in self.wanted.items():
            if path.is_dir():
                continue
            if len(videos) > 1:
                raise click.BadParameter(
                    f"{str(path)!r} is no folder: for several videos give one that exists", param_hint=f"--{name}"
                )
            check_picture(name, path)

    def write(self, position: int, prediction: Any, network: Any) -> bool:
        """All that is wanted of the video at this position; False if some of it could not be written."""
        good = True
        for name, path in self.wanted.items():
            file = path / f"{self.stems[position]}{DEFAULT_SUFFIX[name]}" if path.is_dir() else path
            try:
                if not hasattr(prediction, "contact_sheet"):
                    raise SpecError(f"{prediction.model} gives nothing to draw", hint="take a model that classifies")
                METHODS[name](prediction, file, network)
            except (ZooError, OSError) as error:
                good = False
                click.echo(f"Error: --{name}: {error}", err=True)
            else:
                click.echo(f"{name}: {file}", err=True)
        return good


def check_picture(name: str, path: Path | None) -> None:
    """Refuse a file that cannot be written there, or not of this kind, before anything is predicted."""
    if path is not None and not path.parent.is_dir():
        raise click.BadParameter(f"the folder {str(path.parent)!r} does not exist", param_hint=f"--{name}")
    if path is not None and not _fits(name, path):
        raise click.BadParameter(
            f"{str(path)!r}: its suffix is not one of {SUFFIXES[name]}, nor is it an existing folder",
            param_hint=f"--{name}",
        )


def _fits(name: str, path: Path) -> bool:
    return bool(path.suffix) and (SUFFIXES[name].endswith("...") or path.suffix.lower() in SUFFIXES[name].split(", "))


def _distinct(stems: list[str]) -> list[str]:
    """The same names, numbered where they would meet."""
    taken: set[str] = set()
    found = []
    for stem in stems:
        name, count = stem, 1
        while name.casefold() in taken:
            count += 1
            name = f"{stem}-{count}"
        taken.add(name.casefold())
        found.append(name)
    return found
