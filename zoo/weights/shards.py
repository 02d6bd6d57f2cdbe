"""Weights in several safetensors files, as transformers writes large ones, with an index of which tensor is where.

Strangers write the index: it names files beside itself and nothing else. `safetensors_file.Shards` opens them.
"""

from __future__ import annotations

from pathlib import Path

from zoo.errors import WeightsCorrupt
from zoo.weights.config import FILE, MOST_BYTES, read_object
from zoo.weights.source import readable

SUFFIX = ".safetensors.index.json"
MOST_FILES = 1000


def read_index(path: Path) -> dict[str, set[str]]:
    """{file beside the index: the tensors in it}. Raises WeightsCorrupt, WeightsNotFound."""
    with readable(path), path.open("rb") as stream:
        places = read_object(stream.read(MOST_BYTES + 1), str(path)).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise WeightsCorrupt(f"{path} has no weight_map", hint="it should say which tensor is in which file")
    found: dict[str, set[str]] = {}
    for tensor, file in places.items():
        if not isinstance(file, str) or not FILE.fullmatch(file):
            raise WeightsCorrupt(
                f"{path}: {tensor!r:.80} is said to be in {file!r:.80}",
                hint="only the name of a .safetensors file beside the index is followed",
            )
        found.setdefault(file, set()).add(tensor)
    if len(found) > MOST_FILES:
        raise WeightsCorrupt(f"{path} names {len(found):,} files", hint=f"at most {MOST_FILES:,} are opened")
    return dict(sorted(found.items()))
