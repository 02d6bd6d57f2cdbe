"""Fix published checkpoints of the family `transformer` to a commit, a digest and a size, as the Hub states them.

python tools/pin.py                  look up what is not pinned yet, and write it down
python tools/pin.py --check          only say what is not pinned; exit with 1 if there is something
python tools/pin.py --endpoint URL   ask another Hub

Needs a network, and the Hub's client; downloads nothing. Read the licence in each repository when you pin it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import zoo_transformer
from zoo_transformer.pins import PINS

FILE = Path(zoo_transformer.__file__).parent / "pins.py"
SOURCE = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)/(?P<file>[^@]+)@(?P<revision>.+)")
HEX = re.compile(r"[0-9a-f]+")

Pin = tuple[str, str, int]


def unpinned() -> list[str]:
    """The sources whose bytes are not fixed, each once."""
    found = [w.source for spec in zoo_transformer.zoo_models() for w in spec.weights.values() if not w.pinned]
    return sorted({source for source in found if source})


def look_up(source: str, endpoint: str | None = None) -> Pin:
    """What the Hub says of a file, from one HEAD request. Raises ValueError where that fixes no bytes."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    parts = SOURCE.fullmatch(source)
    if parts is None:
        raise ValueError(f"{source} is no file on the Hub")
    url = hf_hub_url(parts["repo"], parts["file"], revision=parts["revision"], endpoint=endpoint)
    stated = get_hf_file_metadata(url, token=False, endpoint=endpoint)
    commit, digest, size = stated.commit_hash or "", stated.etag or "", stated.size or 0
    # A large file's etag is its sha256; a small one's is what git calls it, which fixes nothing here.
    if not (HEX.fullmatch(commit) and len(commit) == 40 and HEX.fullmatch(digest) and len(digest) == 64 and size > 0):
        raise ValueError(f"{source}: commit {commit!r}, digest {digest!r}, size {size} fix no bytes")
    return commit, digest, size


def written(pins: dict[str, Pin]) -> str:
    """The module that holds the pins."""
    before = FILE.read_text().partition("PINS:")[0]
    lines = [f'    "{source}": ("{c}", "{d}", {size:_}),\n' for source, (c, d, size) in sorted(pins.items())]
    head = 'PINS: dict[str, tuple[str, str, int]] = {  # "hf://owner/repo/file@revision": (commit, sha256, size)\n'
    return f"{before}{head}{''.join(lines)}}}\n"


def main(arguments: list[str]) -> int:
    missing = unpinned()
    if arguments == ["--check"]:
        print("\n".join(missing))
        return 1 if missing else 0
    endpoint = arguments[1] if arguments[:1] == ["--endpoint"] else None
    pins, failed = dict(PINS), 0
    for source in missing:
        try:
            pins[source] = look_up(source, endpoint)
            print(f"{source}: {' '.join(map(str, pins[source]))}")
        except Exception as problem:  # a repository that is gone must not lose the others
            failed += 1
            print(f"{source}: {type(problem).__name__}: {str(problem).splitlines()[0]}", file=sys.stderr)
    FILE.write_text(written(pins))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
