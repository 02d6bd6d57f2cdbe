"""The few facts of a bitstream that no container tells: packets that give no frame, and streams that start anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import av

HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)  # of H.264, with more in their header
# Units of H.265: pictures before which everything is lost, the end of a sequence and the end of all of them.
FRESH_STARTS = {16, 17, 18, 36, 37}


def hidden_vp8(packet: Any) -> bool:
    """Whether this frame only serves others (RFC 6386, 9.1)."""
    return not memoryview(packet)[0] & 0x10


def hidden_vp9(packet: Any) -> bool:
    """The same for VP9 (bitstream specification, 6.2), where mostly such a frame shares a packet with a shown one."""
    data = memoryview(packet)
    header = data[0] << (data[0] & 0x30 == 0x30)  # profile 3 has one bit more
    return not header & 0x0A and data[-1] & 0xE0 != 0xC0


HIDES: dict[str, Callable[[Any], bool]] = {"vp8": hidden_vp8, "vp9": hidden_vp9}


def oddity(context: av.VideoCodecContext, before: Any, key: Any) -> str | None:
    """Why the packets of an H.264 or H.265 stream may not be its frames; asked for each keyframe, given two packets.

    A stream that may be interlaced can have two packets for a frame. After a fresh start, leading pictures are dropped.
    """
    if context.name not in ("h264", "hevc"):
        return None
    header = context.extradata or b""
    if not header or header[0] != 1:
        return "its packets have no lengths"
    try:
        if context.name == "h264":
            sets: list[Any] = [unit for unit in _units(key, header[4] % 4 + 1) if unit[0] & 31 == 7]
            if before is None:
                sets += _sets(header)
            return "interlaced" if any(map(_may_have_fields, sets)) else None
        units = [unit for packet in (before, key) if before for unit in _units(packet, header[21] % 4 + 1)]
        return "a new sequence begins" if any(unit[0] >> 1 & 63 in FRESH_STARTS for unit in units) else None
    except (IndexError, ValueError):
        return "its headers cannot be read"


def _units(packet: Any, size: int) -> Iterator[memoryview]:
    data, at = memoryview(packet), 0
    while at < len(data):
        end = at + size + int.from_bytes(data[at : at + size])
        yield data[at + size : end]
        at = end


def _sets(header: bytes) -> Iterator[bytes]:
    """The sequence parameter sets of an avcC (ISO 14496-15, 5.3.3.1)."""
    at = 6
    for _ in range(header[5] & 31):
        end = at + 2 + int.from_bytes(header[at : at + 2])
        yield header[at + 2 : end]
        at = end


def _may_have_fields(parameters: bytes | memoryview) -> bool:
    """frame_mbs_only_flag of a sequence parameter set (ITU-T H.264, 7.3.2.1.1) is not set."""
    data = bytes(parameters).replace(b"\0\0\3", b"\0\0")
    bits, at = "".join(f"{byte:08b}" for byte in data[4:]), 0

    def bit() -> bool:
        nonlocal at
        at += 1
        return bits[at - 1] == "1"

    def number() -> int:
        nonlocal at
        start = bits.index("1", at)
        at, end = 2 * start - at + 1, start
        return int(bits[end:at], 2) - 1

    def scaling(size: int) -> None:
        last = 8
        for _ in range(size):
            code = number()
            last = (last + (code + 1) // 2 * (1 if code % 2 else -1)) % 256
            if not last:
                break

    number()
    if data[1] in HIGH_PROFILES:
        chroma = number()
        if chroma == 3:
            bit()
        number(), number(), bit()
        if bit():
            for k in range(12 if chroma == 3 else 8):
                if bit():
                    scaling(16 if k < 6 else 64)
    number()
    order = number()
    if order == 0:
        number()
    elif order == 1:
        bit(), number(), number()
        for _ in range(number()):
            number()
    number(), bit(), number(), number()
    return not bit()
