"""What was converted from pickles and kept: one folder per `architecture.tag`, and what is known about its file.

<assets>/converted/<architecture.tag>/<sha256>.safetensors   named by what it holds
                                      provenance.json        replaced last: a file that it does not name is nothing
                                      .zoo/                  stamps, as in the Hub's cache
                                      incoming-*/            what is being downloaded and converted
                                      .lock                  held meanwhile
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from zoo.errors import WeightsDownloadError
from zoo.spec import SHA256
from zoo.weights import hub_folder
from zoo.weights.cached import file_problem

FOLDER, PROVENANCE, INCOMING, LOCK = "converted", "provenance.json", "incoming-", ".lock"
LOCK_WAIT = 3600.0  # seconds; whoever holds the lock downloads within limits and converts within limits


@dataclass(frozen=True)
class Provenance:
    """Where a converted file is from, and what it is. model: architecture.tag. torch: the version that unpickled it."""

    model: str
    source_url: str
    source_sha256: str
    sha256: str
    size: int
    layout: str
    torch: str

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """None where there is none, or where it makes no sense."""
        try:
            found = cls(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        digests = (found.source_sha256, found.sha256)
        sound = all(isinstance(digest, str) and SHA256.fullmatch(digest) for digest in digests)
        return found if sound and isinstance(found.size, int) and isinstance(found.model, str) else None

    def is_of(self, origin: Mapping[str, str]) -> bool:
        """Whether this is what the origin says today."""
        return self.source_url == origin["url"] and self.source_sha256.startswith(origin.get("sha256", ""))


@dataclass(frozen=True)
class Conversion:
    """A converted file that is in the cache."""

    folder: Path
    provenance: Provenance

    @property
    def path(self) -> Path:
        return self.folder / f"{self.provenance.sha256}.safetensors"

    def problem(self) -> str:
        """What is wrong with its bytes, or ""."""
        return file_problem(self.path, self.provenance.sha256, self.provenance.size, stamps=self.folder)


class Conversions:
    """The converted files of one cache. cache_dir: as for the Hub; None is its client's folder for other libraries."""

    def __init__(self, cache_dir: str | Path | None = None) -> None:
        self.folder = hub_folder.assets(cache_dir) / FOLDER

    def find(self, model: str, origin: Mapping[str, str]) -> Conversion | None:
        """What was made of this origin for "architecture.tag", sound or not."""
        found = self._at(self._folder(model))
        return found if found and found.provenance.model == model and found.provenance.is_of(origin) else None

    def all(self) -> list[Conversion]:
        return [found for folder in sorted(self.folder.glob("*")) if (found := self._at(folder))]

    @contextmanager
    def turn(self, model: str) -> Iterator[Path]:
        """Be the only process that converts this model, with an empty folder to work in that goes away afterwards.

        Raises WeightsDownloadError if the cache cannot be written, or another process holds on to it.
        """
        folder = self._folder(model)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with hub_folder.lock(folder / LOCK, LOCK_WAIT):  # noqa: SIM117
                with tempfile.TemporaryDirectory(dir=folder, prefix=INCOMING) as work:
                    yield Path(work)
        except TimeoutError as held:
            raise WeightsDownloadError(
                f"{folder / LOCK} is held by another process that converts {model}", hint="wait for it, or end it"
            ) from held
        except OSError as error:
            raise WeightsDownloadError(
                f"{model}: the cache {folder} cannot be written: {error.strerror or error}",
                hint="make room, or set HF_HOME or --cache-dir to a folder of your own",
            ) from error

    def keep(self, file: Path, provenance: Provenance) -> Conversion:
        """Move a converted file into the cache, in place of what was there. The caller has the turn."""
        kept = Conversion(self._folder(provenance.model), provenance)
        note = file.with_name(PROVENANCE)
        note.write_text(json.dumps(asdict(provenance), indent=2) + "\n")
        file.replace(kept.path)
        note.replace(kept.folder / PROVENANCE)
        for path in self._unnamed(kept.folder):
            if path != file.parent:
                delete(path)
        return kept

    def leftovers(self) -> list[Path]:
        """What an interrupted conversion left: files that no provenance names, and nobody works on."""
        found = []
        for folder in sorted(self.folder.glob("*")):
            if (folder / LOCK).exists():
                with suppress(OSError), hub_folder.lock(folder / LOCK, 0.1):
                    found += self._unnamed(folder)
        return found

    def _folder(self, model: str) -> Path:
        return self.folder / model.replace("/", "--")

    def _at(self, folder: Path) -> Conversion | None:
        provenance = Provenance.read(folder / PROVENANCE)
        return Conversion(folder, provenance) if provenance else None

    def _unnamed(self, folder: Path) -> list[Path]:
        conversion = self._at(folder)
        files = [*folder.glob("*.safetensors"), *folder.glob(f"{INCOMING}*")]
        return sorted(path for path in files if conversion is None or path != conversion.path)


def delete(path: Path) -> None:
    """A file, or a folder with all that is in it."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
