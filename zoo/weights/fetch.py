"""From a source to a file on this machine whose bytes are those that were published.

A pinned file that is in the cache and sound costs no request. Everything else is asked for first, within a time limit,
and believed only after its bytes were hashed; what turns out wrong is fetched once more and then refused.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import SpecError, WeightsCorrupt, WeightsDownloadError, WeightsNotFound, WeightsOffline
from zoo.spec import Weights
from zoo.weights.cached import CachedFile, digest_of
from zoo.weights.conversions import Conversions
from zoo.weights.hub import Hub, Remote
from zoo.weights.source import HUB, PACKAGED, HubFile, local, packaged, readable

MAX_DOWNLOAD = 20 << 30  # bytes of a file whose size nobody has reviewed


@dataclass(frozen=True)
class Fetched:
    """A file on this machine.

    sha256: of its bytes where it is known. lasting: it is only ever replaced by another file, never written into, so
    that it can be mapped. commit: of a file from the Hub. reviewed: somebody wrote down beforehand what its bytes are.
    stamps: where notes about its bytes can be kept, if anywhere.
    """

    path: Path
    sha256: str = ""
    lasting: bool = False
    commit: str = ""
    reviewed: bool = False
    stamps: Path | None = None


def fetch(
    weights: Weights | str | Path,
    *,
    name: str = "",
    layouts: Mapping[str, str] | None = None,
    endpoint: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
) -> Fetched:
    """The verified file behind weights, "hf://owner/repo/file@revision", "pkg://package/path" or a local path.

    name: of the model, for the text of errors. name, layouts (`conversions.layouts_of`): find what was converted.
    endpoint, cache_dir, token: of the Hub; None is what its client has.
    Raises WeightsError: not found, no access, offline, download failed, corrupt.
    """
    if not isinstance(weights, Weights):
        weights = Weights(source=str(weights))
    if weights.origin is not None:
        return _converted(weights.origin, name, layouts or {}, cache_dir)
    if weights.source.startswith(HUB):
        hub = Hub(endpoint, cache_dir, token)
        file = HubFile.parse(weights.source)
        return fetch_from_hub(file, hub, sha256=weights.sha256, size=weights.size, name=name)
    inside = weights.source.startswith(PACKAGED)
    path = packaged(weights.source) if inside else local(weights.source)
    _compare(path, weights)
    return Fetched(path, weights.sha256, reviewed=weights.pinned)


def _converted(
    origin: Mapping[str, str], name: str, layouts: Mapping[str, str], cache_dir: str | Path | None
) -> Fetched:
    """What `zoo convert` has made of a pickle. Every value of it was looked at then."""
    command = f"zoo convert {name}" + (f" --cache-dir {cache_dir}" if cache_dir else "")
    found = Conversions(cache_dir).find(name, origin, layouts)
    if found is None:
        raise WeightsNotFound(
            f"{name} is published as a pickle only, which has not been converted on this machine as zoo does it now",
            hint=f"run `{command}` once; it downloads {origin['url']}",
        )
    with readable(found.path):
        problem = found.problem()
    if problem:
        raise WeightsCorrupt(f"{name}: {found.path} {problem}", hint=f"run `{command}` again")
    return Fetched(found.path, found.provenance.sha256, lasting=True, reviewed=True)


def fetch_from_hub(
    file: HubFile, hub: Hub, *, sha256: str = "", size: int | None = None, limit: int | None = None, name: str = ""
) -> Fetched:
    """A file from the Hub's cache, downloaded if need be.

    Without `sha256` the digest that the Hub declares is what the bytes are held to.
    limit: most bytes to take; None is `max_download` unless digest and size are known beforehand.
    """
    with hub.one_error(file, name):
        commit, remote = (file.revision, None) if file.pinned else _resolve(file, hub, name)
        entry = hub.cached(file, commit)
        wanted = sha256 or (remote.digest if remote else entry.declared())
        if not wanted or (problem := entry.problem(wanted, size)):
            problem = problem if wanted and entry.exists() else ""
            remote = remote or _ask(file.at(commit), hub, entry, problem, name)
            wanted = sha256 or remote.digest
            _accept(file, remote, commit, sha256, size, limit)
            hub.check_room(file, remote.size)
            _download(file.at(commit), hub, entry, remote, wanted, problem, name)
        if not file.pinned and remote:
            hub.remember(file, commit)
        return Fetched(entry.path, wanted if len(wanted) == 64 else "", True, commit, bool(sha256), entry.root)


def _resolve(file: HubFile, hub: Hub, name: str) -> tuple[str, Remote | None]:
    """The commit that a branch, tag or pull request means now, or meant last if the Hub cannot be asked."""
    try:
        with hub.one_error(file, name):
            remote = hub.ask(file)
    except (WeightsOffline, WeightsDownloadError) as away:
        commit = hub.remembered(file)
        if not commit or not hub.cached(file, commit).exists():
            raise
        if not isinstance(away, WeightsOffline):
            warnings.warn(f"{away}; used is {commit}, which it was when last asked", stacklevel=2)
        return commit, None
    return remote.commit, remote


def _ask(file: HubFile, hub: Hub, entry: CachedFile, problem: str, name: str) -> Remote:
    try:
        with hub.one_error(file, name):
            return hub.ask(file)
    except (WeightsOffline, WeightsDownloadError) as away:
        if not problem:
            raise
        raise WeightsCorrupt(
            f"{file}: {entry.path} {problem}, and it cannot be fetched again: {away}",
            hint="connect once and run the same again; it heals",
        ) from away


def _accept(file: HubFile, remote: Remote, commit: str, sha256: str, size: int | None, limit: int | None) -> None:
    """Refuse, before anything is written, what cannot be the file that was asked for."""
    if remote.commit != commit:
        raise WeightsDownloadError(
            f"{file}: the Hub answers with commit {remote.commit}", hint="is HF_ENDPOINT a sound mirror?"
        )
    other_bytes = sha256 and len(remote.digest) == 64 and remote.digest != sha256
    if other_bytes or (size is not None and remote.size != size):
        raise WeightsCorrupt(
            f"{file}: the Hub has a file of {remote.size} bytes with digest {remote.digest}, "
            f"published were {size} bytes with sha256 {sha256}",
            hint="is HF_ENDPOINT a sound mirror? If so, tell the author of the model",
        )
    most = limit if limit is not None or (sha256 and size is not None) else max_download()
    if most is not None and remote.size > most:
        raise WeightsDownloadError(
            f"{file} has {remote.size:,} bytes, more than the {most:,} that are taken from an unreviewed source",
            hint="ZOO_MAX_DOWNLOAD, in bytes, raises the limit for weights",
        )


def max_download() -> int:
    """Most bytes of a weights file that nobody has reviewed."""
    text = os.environ.get("ZOO_MAX_DOWNLOAD", "")
    if text and not (text.isascii() and text.isdigit() and len(text) < 30):
        raise SpecError(f"ZOO_MAX_DOWNLOAD={text!r}", hint="a number of bytes")
    return int(text) if text else MAX_DOWNLOAD


def _download(file: HubFile, hub: Hub, entry: CachedFile, remote: Remote, wanted: str, problem: str, name: str) -> None:
    """Put the file into the cache, once more if it is not what it should be, and never leave a wrong one there."""
    with hub.turn(file, remote):
        if not entry.problem(wanted, remote.size):
            return  # another process was faster
        if problem:
            warnings.warn(f"{entry.path} {problem}; it is fetched again", stacklevel=2)
        for last in (False, True):
            if entry.exists():
                entry.discard()
            try:
                with hub.one_error(file, name, remote.size):
                    hub.download(file, remote, replace=bool(problem))
                problem = entry.problem(wanted, remote.size)
            except WeightsCorrupt as short:
                problem = str(short)
            if not problem:
                return
            if not last:
                warnings.warn(f"{file} arrived damaged ({problem}); it is fetched again", stacklevel=2)
        entry.discard()
    raise WeightsCorrupt(
        f"{file}: what the Hub sends is not what it declares: {problem}",
        hint="nothing of it was kept; try again later or from another network, then tell the author",
    )


def _compare(path: Path, weights: Weights) -> None:
    """Hold a file that is not from the Hub to what is known about it."""
    with readable(path):
        found = path.stat().st_size
        digest = digest_of(path, like=weights.sha256) if weights.sha256 else ""
    if weights.size is not None and found != weights.size:
        raise WeightsCorrupt(
            f"{path} has {found} bytes instead of {weights.size}", hint="reinstall or get the file again"
        )
    if digest != weights.sha256:
        raise WeightsCorrupt(
            f"{path} is not the published file: its sha256 is {digest}, not {weights.sha256}",
            hint="reinstall or get the file again",
        )
