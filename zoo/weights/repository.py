"""Models by where they are: "hf-hub:owner/repo@revision" and "local-dir:path", in zoo's own format."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import WeightsNotFound
from zoo.spec import Weights
from zoo.weights.config import MOST_BYTES, Config
from zoo.weights.fetch import Fetched, fetch, fetch_from_hub, max_download
from zoo.weights.hub import Hub
from zoo.weights.source import MAIN, HubFile

ON_HUB = "hf-hub:"
IN_FOLDER = "local-dir:"
CONFIG = "config.json"

log = logging.getLogger("zoo")
_told: set[str] = set()


@dataclass(frozen=True)
class Repository:
    """A config that was read, and the weights beside it."""

    name: str
    config: Config
    weights: Weights
    _hub: Hub | None

    def file(self) -> Fetched:
        """The weights file, held to the config's digest. The config came with it, so that it counts as unreviewed."""
        sha256, size = self.config.weights["sha256"], self.config.weights["size"]
        if self._hub is None:
            found = fetch(self.weights, name=self.name)
        else:
            file = HubFile.parse(self.weights.source)
            _warn_once(self.name, file.revision)
            found = fetch_from_hub(file, self._hub, sha256=sha256, size=size, name=self.name, limit=max_download())
        return Fetched(found.path, found.sha256, found.lasting, found.commit, reviewed=False)


def is_repository(name: object) -> bool:
    """Whether the name says where a model is, rather than what it is called."""
    return isinstance(name, str) and name.startswith((ON_HUB, IN_FOLDER))


def open_repository(name: str, *, endpoint: str | None = None, cache_dir: str | Path | None = None) -> Repository:
    """Read the config of "hf-hub:..." or "local-dir:...". Raises WeightsError."""
    if name.startswith(IN_FOLDER):
        folder = Path(name.removeprefix(IN_FOLDER)).expanduser()
        path = folder / CONFIG
        if not path.is_file():
            raise WeightsNotFound(f"{name} has no {CONFIG}", hint="it has to be a folder in zoo's own format")
        config = _read(path, name)
        return Repository(name, config, config.as_weights(str(folder / config.weights["file"]), name), None)
    repo, at, revision = name.removeprefix(ON_HUB).partition("@")
    hub = Hub(endpoint, cache_dir)
    found = fetch_from_hub(HubFile(repo, CONFIG, revision if at else MAIN), hub, limit=MOST_BYTES, name=name)
    config = _read(found.path, name)
    source = HubFile(repo, config.weights["file"], found.commit)  # of the same commit, whatever main becomes meanwhile
    return Repository(name, config, config.as_weights(str(source), f"{ON_HUB}{repo}@{found.commit}"), hub)


def _read(path: Path, name: str) -> Config:
    with path.open("rb") as stream:
        return Config.parse(stream.read(MOST_BYTES + 1), f"{name}/{CONFIG}")


def _warn_once(name: str, commit: str) -> None:
    if (told := f"{name} {commit}") not in _told:
        _told.add(told)
        log.warning("%s, commit %s: nobody has reviewed these weights for zoo", name, commit)
