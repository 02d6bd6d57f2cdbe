"""The published files, byte for byte. Written by tools/pin.py; delete a line to look it up again."""

PINS: dict[str, tuple[str, str, int]] = {  # "hf://owner/repo/file@revision": (commit, sha256, size)
}
