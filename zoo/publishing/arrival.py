"""What has arrived on the Hub, fetched back as anybody would fetch it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from zoo.errors import PublishError, WeightsError
from zoo.publishing.folder import WEIGHTS, Folder
from zoo.weights.cached import digest_of
from zoo.weights.fetch import fetch_from_hub
from zoo.weights.hub import Hub
from zoo.weights.hub_publish import HubRepository
from zoo.weights.safetensors_file import SafetensorsFile
from zoo.weights.source import HubFile

SMALL = 64 << 20  # bytes: up to here the weights are fetched back whole


def verify(
    folder: Folder, remote: HubRepository, revision: str, *, endpoint: str | None, token: str | bool | None
) -> None:
    """Raise PublishError unless the commit holds the folder's files, byte for byte.

    Of large weights the Hub's digest is compared, and the header fetched; all else is downloaded into an empty cache.
    """
    with TemporaryDirectory(prefix="zoo-publish-") as cache:
        hub = Hub(endpoint, cache, token)
        try:
            for name, path in folder.files.items():
                file = HubFile(remote.repo, name, revision)
                if name == WEIGHTS and path.stat().st_size > SMALL:
                    _compare_declared(folder, file, hub)
                    _compare_header(path, remote, revision)
                else:
                    digest = digest_of(path, like="0" * 64)
                    fetch_from_hub(file, hub, sha256=digest, size=path.stat().st_size)
        except WeightsError as error:
            raise PublishError(
                f"{remote.page}: commit {revision} was made, but not all of it can be read back: {error}",
                hint="run the same again; it compares what is there and makes no second commit",
            ) from error


def _compare_declared(folder: Folder, file: HubFile, hub: Hub) -> None:
    with hub.one_error(file, ""):
        declared = hub.ask(file)
    if (declared.digest, declared.size) != (folder.sha256, folder.weights.size):
        raise PublishError(
            f"{file}: the Hub has {declared.size} bytes with digest {declared.digest}, sent were "
            f"{folder.weights.size} with {folder.sha256}",
            hint="run the same again",
        )


def _compare_header(path: Path, remote: HubRepository, revision: str) -> None:
    shapes = {name: shape for name, (_, shape) in remote.header(WEIGHTS, revision).items()}
    if shapes != SafetensorsFile(path).shapes:
        raise PublishError(
            f"{remote.page}: {WEIGHTS} of {revision} has another header than was sent", hint="run the same again"
        )
