"""Models by where they are: "hf-hub:owner/repo@revision" and "local-dir:path".

What is there is in zoo's own format, or in that of another library if an installed model opens it. All files are of one
commit, whatever the branch becomes meanwhile.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from zoo import registry
from zoo.errors import WeightsDownloadError, WeightsNotFound, WeightsOffline
from zoo.spec import Weights
from zoo.weights.config import MOST_BYTES, Config, read_object
from zoo.weights.fetch import Fetched, fetch, fetch_from_hub, max_download
from zoo.weights.foreign import FILE, INDEX, PICKLES, PROCESSORS, kind_of, translated
from zoo.weights.hub import Hub
from zoo.weights.hub_errors import NoSuchFile
from zoo.weights.shards import read_index
from zoo.weights.source import HUB, MAIN, HubFile, at_home, is_file, readable

ON_HUB = "hf-hub:"
IN_FOLDER = "local-dir:"
CONFIG = "config.json"
EXPORT = "export.json"  # of a file that another runtime executes

log = logging.getLogger("zoo")
_told: set[str] = set()


class Place(Protocol):
    """Where the files of a repository are. tag: names them for good, where that is possible."""

    name: str
    tag: str

    def find(self, file: str) -> Path | None:
        """A small file, or None if there is none."""

    def has(self, file: str) -> bool:
        """Whether there is such a file, of any size. Nothing is fetched."""

    def source(self, file: str) -> str:
        """As in `Weights.source`."""

    def weights(self, weights: Weights) -> Fetched:
        """The weights file, or where there is none the index of several. Raises WeightsNotFound if there is neither."""


@dataclass(frozen=True)
class Repository:
    """A config that was read, and the weights beside it.

    kind: "library:model_type" of a repository in the format of another library, "" of one in zoo's own.
    """

    name: str
    config: Config
    weights: Weights
    kind: str
    _place: Place

    def file(self) -> Fetched:
        """The weights file, held to the config's digest. The config came with it, so that it counts as unreviewed.

        Of weights in several files, all of them verified, it is their index (`safetensors_file.open_weights`).
        """
        try:
            found = self._place.weights(self.weights)
        except WeightsNotFound as missing:
            if self.kind and (told := _other_files(self._place, self.config.architecture)):
                raise told from missing
            raise
        return replace(found, reviewed=False)


def is_repository(name: object) -> bool:
    """Whether the name says where a model is, rather than what it is called."""
    return isinstance(name, str) and name.startswith((ON_HUB, IN_FOLDER))


def exported_folder(name: object) -> Path | None:
    """The folder that "local-dir:..." names where it holds what `zoo.export` has written, and no repository."""
    if not (isinstance(name, str) and name.startswith(IN_FOLDER)):
        return None
    folder = at_home(name.removeprefix(IN_FOLDER))
    return folder if is_file(folder / EXPORT) and not is_file(folder / CONFIG) else None


def open_repository(name: str, *, endpoint: str | None = None, cache_dir: str | Path | None = None) -> Repository:
    """Read the config of "hf-hub:..." or "local-dir:...". Raises WeightsError, UnknownModel, PluginError."""
    place: Place = _Folder(name) if name.startswith(IN_FOLDER) else _OnHub(name, Hub(endpoint, cache_dir))
    if (path := place.find(CONFIG)) is None:
        raise WeightsNotFound(f"{name} has no {CONFIG}", hint="a model in zoo's own format or in transformers' has one")
    text, where = _bytes(path), f"{name}/{CONFIG}"
    kind = kind_of(data := read_object(text, where), where)
    if kind:
        paths = ((file, place.find(file)) for file in PROCESSORS)
        processor = next((read_object(_bytes(path), f"{name}/{file}") for file, path in paths if path), None)
        config = translated(kind, data, processor, where)
    else:
        config = Config.parse(text, where)
    weights = config.as_weights(place.source(config.weights["file"]), place.tag)
    return Repository(name, config, weights, kind, place)


class _Folder:
    def __init__(self, name: str) -> None:
        self.name = self.tag = name
        self._path = at_home(name.removeprefix(IN_FOLDER))

    def find(self, file: str) -> Path | None:
        return self._path / file if self.has(file) else None

    def has(self, file: str) -> bool:
        return is_file(self._path / file)

    def source(self, file: str) -> str:
        return str(self._path / file)

    def weights(self, weights: Weights) -> Fetched:
        if not weights.sha256 and not self.has(FILE) and (index := self.find(INDEX)):
            return Fetched(index)
        return fetch(weights, name=self.name)


class _OnHub:
    def __init__(self, name: str, hub: Hub) -> None:
        repo, at, revision = name.removeprefix(ON_HUB).partition("@")
        self.name, self._hub = name, hub
        found = fetch_from_hub(HubFile(repo, CONFIG, revision if at else MAIN), hub, limit=MOST_BYTES, name=name)
        self._repo, self._commit = repo, found.commit
        self.tag = f"{ON_HUB}{repo}@{found.commit}"

    def find(self, file: str) -> Path | None:
        wanted = self._file(file)
        if self._hub.known_absent(wanted):
            return None
        try:
            return fetch_from_hub(wanted, self._hub, limit=MOST_BYTES, name=self.name).path
        except NoSuchFile:
            self._hub.remember_absence(wanted)
            return None

    def has(self, file: str) -> bool:
        try:
            with self._hub.one_error(self._file(file), self.name):
                return bool(self._hub.ask(self._file(file)))
        except (WeightsNotFound, WeightsOffline, WeightsDownloadError):
            return False

    def source(self, file: str) -> str:
        return str(self._file(file))

    def weights(self, weights: Weights) -> Fetched:
        _warn_once(self.name, self._commit)
        file, sha256, size = HubFile.parse(weights.source), weights.sha256, weights.size
        index = self.find(INDEX) if self._hub.known_absent(file) else None
        if index is None:
            try:
                return fetch_from_hub(file, self._hub, sha256=sha256, size=size, name=self.name, limit=max_download())
            except NoSuchFile:
                # A config of zoo's own says by its digest that there is one file.
                if sha256 or (index := self.find(INDEX)) is None:
                    raise
            self._hub.remember_absence(file)
        return self._shards(index)

    def _shards(self, index: Path) -> Fetched:
        """All files that the index names, together no larger than one may be."""
        limit = max_download()
        for file in read_index(index):
            found = fetch_from_hub(self._file(file), self._hub, name=self.name, limit=limit)
            limit -= found.path.stat().st_size
        root = self._hub.cached(self._file(INDEX), self._commit).root
        return Fetched(index, lasting=True, commit=self._commit, stamps=root)

    def _file(self, file: str) -> HubFile:
        return HubFile(self._repo, file, self._commit)


def _other_files(place: Place, architecture: str) -> WeightsNotFound | None:
    """What to say of a repository whose weights are there, but as a pickle only."""
    if pickle := next((file for file in PICKLES if place.has(file)), None):
        convert = f"`zoo convert {pickle} OUT --model {architecture}` turns a pickle that you have into one"
        elsewhere = " or ".join(_revisions(place.name))
        return WeightsNotFound(
            f"{place.name} has no {FILE}, only {pickle}, and zoo opens no pickle",
            hint=f"{elsewhere} has one; or {convert}" if elsewhere else convert,
        )
    return None


def _revisions(name: str) -> list[str]:
    """Other revisions of the repository that a registered checkpoint comes from, such as "hf-hub:o/r@refs/pr/1"."""
    repo, _, asked = name.removeprefix(ON_HUB).partition("@")
    found = set()
    for known in registry.default.list_models(pretrained=True):
        _, weights = registry.default.find(known)
        if name.startswith(ON_HUB) and weights and weights.source.startswith(f"{HUB}{repo}/{FILE}@"):
            found.add(weights.source.rpartition("@")[2])
    return [f"{ON_HUB}{repo}@{revision}" for revision in sorted(found - {asked or MAIN})]


def _bytes(path: Path) -> bytes:
    with readable(path), path.open("rb") as stream:
        return stream.read(MOST_BYTES + 1)


def _warn_once(name: str, commit: str) -> None:
    if (told := f"{name} {commit}") not in _told:
        _told.add(told)
        log.warning("%s, commit %s: nobody has reviewed these weights for zoo", name, commit)
