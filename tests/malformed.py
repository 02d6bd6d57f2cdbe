"""Files that are no safetensors, or odd ones: {name: (bytes, outcome)} for a model whose only tensor is `w` = [1, 2].

The outcome is the error that has to come, or "" where the file is right, however oddly it is written.
"""

from __future__ import annotations

import json
import pickle
import struct

W = struct.pack("<2f", 1.0, 2.0)
CORRUPT, MISMATCH = "WeightsCorrupt", "WeightsMismatch"


def tensor(start: int = 0, end: int = 8, dtype: str = "F32", shape: tuple = (2,), **more: object) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end], **more}


def file(header: object, data: bytes = W, *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def pairs(*items: tuple[str, object]) -> bytes:
    """An object in which a key may occur twice."""
    return b"{" + b",".join(json.dumps(k).encode() + b":" + json.dumps(v).encode() for k, v in items) + b"}"


GOOD = file({"w": tensor()})
w = ("w", tensor())
CASES = {
    "good": (GOOD, ""),
    # no safetensors at all
    "empty": (b"", CORRUPT),
    "7 bytes": (GOOD[:7], CORRUPT),
    "pickle": (pickle.dumps({"w": [1.0, 2.0]}, 2), CORRUPT),
    "zip": (b"PK\x03\x04" + bytes(100), CORRUPT),
    "web page": (b"<!DOCTYPE html><html></html>" + bytes(100), CORRUPT),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 8\n", CORRUPT),
    # the header's length
    "header 0": (file(b"", length=0), CORRUPT),
    "header 2^64-1": (file({"w": tensor()}, length=2**64 - 1), CORRUPT),
    "header over 100 MB": (file({"w": tensor()}, length=100_000_001), CORRUPT),
    "header beyond the end": (file({"w": tensor()}, length=5000), CORRUPT),
    # the header's text
    "bad UTF-8": (file(b'{"\xff":1}'), CORRUPT),
    "a list": (file([1, 2]), CORRUPT),
    "NUL padded": (file(json.dumps({"w": tensor()}).encode() + bytes(4)), CORRUPT),
    "200 000 deep": (file(b'{"w":' + b"[" * 200_000 + b"]" * 200_000 + b"}"), CORRUPT),
    "metadata twice": (file(pairs(("__metadata__", {"a": "b"}), ("__metadata__", {"a": "c"}), w)), CORRUPT),
    "metadata not text": (file({"__metadata__": {"a": 1}, "w": tensor()}), CORRUPT),
    "metadata a number": (file({"__metadata__": 7, "w": tensor()}), CORRUPT),
    # one tensor
    "unknown dtype": (file({"w": tensor(dtype="F31")}), CORRUPT),
    "no dtype": (file({"w": {"shape": [2], "data_offsets": [0, 8]}}), CORRUPT),
    "no offsets": (file({"w": {"shape": [2], "dtype": "F32"}}), CORRUPT),
    "bytes and shape differ": (file({"w": tensor(shape=(3,))}), CORRUPT),
    "shape overflows": (file({"w": tensor(shape=(2**40, 2**40))}), CORRUPT),
    "negative size": (file({"w": tensor(shape=(-2,))}), CORRUPT),
    "begin after end": (file({"w": tensor(8, 0)}), CORRUPT),
    "offset 2^64": (file({"w": tensor(0, 2**64)}), CORRUPT),
    "offset beyond the end": (file({"w": tensor(1 << 40, (1 << 40) + 8)}), CORRUPT),
    "odd number of 4 bit values": (file({"w": tensor(0, 2, "F4", (3,))}, b"\0\0"), CORRUPT),
    "8 bit exponents": (file({"w": tensor(0, 2, "F8_E8M0")}, b"\0\0"), MISMATCH),
    # the data
    "short by one": (GOOD[:-1], CORRUPT),
    "one byte more": (GOOD + b"\0", CORRUPT),
    "no tensors but a byte": (file({}, b"\0"), CORRUPT),
    "overlap": (file({"v": tensor(0, 8), "w": tensor(4, 12)}, W + W), CORRUPT),
    "hole": (file({"v": tensor(0, 8), "w": tensor(12, 20)}, W + W + W), CORRUPT),
    "two on one range": (file({"v": tensor(), "w": tensor()}), CORRUPT),
    "twice, other ranges": (file(pairs(w, ("w", tensor(8, 16))), W + W), CORRUPT),
    # accepted by the format
    "twice, same range": (file(pairs(w, w)), ""),
    "metadata key twice": (file(b'{"__metadata__":{"a":"b","a":"c"},' + pairs(w)[1:]), ""),
    "leading space": (file(b" " + pairs(w)), ""),
    "unknown field": (file({"w": tensor(more=[1])}), ""),
    "metadata null": (file({"__metadata__": None, "w": tensor()}), ""),
    "misaligned": (file({"a": tensor(0, 1, "U8", (1,)), "w": tensor(1, 9)}, b"\0" + W), MISMATCH),
    "misaligned alone": (file(pairs(w) + b" "), ""),
    "no tensors": (file({}, b""), MISMATCH),
    "2^62 x 0": (file({"w": tensor(0, 0, shape=(2**62, 0))}, b""), MISMATCH),
    "rank 100": (file({"w": tensor(shape=(2, *[1] * 99))}), MISMATCH),
    "no name": (file({"": tensor()}), MISMATCH),
    "name with ..": (file({"../../w": tensor()}), MISMATCH),
    "name with NUL": (file({"w\0": tensor()}), MISMATCH),
    "name of 100 kB": (file({"w" * 100_000: tensor()}), MISMATCH),
    "300 000 empty tensors": (file({f"t{i}": tensor(0, 0, shape=(0,)) for i in range(300_000)}, b""), CORRUPT),
    "another dtype": (file({"w": tensor(dtype="I32")}), MISMATCH),
    "bool 7": (file({"w": tensor(0, 2, "BOOL")}, b"\7\7"), MISMATCH),
    "NaN": (file({"w": tensor()}, struct.pack("<2f", float("nan"), 1.0)), CORRUPT),
    "infinity": (file({"w": tensor()}, struct.pack("<2f", float("inf"), 1.0)), CORRUPT),
}
