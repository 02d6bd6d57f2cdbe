"""Whether sums of int8 products can saturate, and what a file says of that.

ONNX Runtime multiplies values of 0 to 255 with weights in int8. An x86 processor without VNNI adds two such products up
in 16 bits, where 2 * 255 * 127 does not fit and silently becomes 32767; with weights of 7 bits it always fits. Others
add up in 32 bits. So weights have 8 bits where there is VNNI, 7 elsewhere, and the file, which goes anywhere, says so.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping

import torch

BITS = "int8 weights"  # in `made_with`
ANYWHERE, WITH_VNNI = "7 bits", "8 bits"


def has_vnni() -> bool:
    """Whether there is the VNNI of AVX-512; where torch cannot say so there is none, which is never wrong."""
    return bool(getattr(torch.cpu, "_is_vnni_supported", lambda: False)())


def made_here() -> dict[str, str]:
    """What `made_with` gets in a file that is quantised on this machine."""
    return {BITS: WITH_VNNI if has_vnni() else ANYWHERE}


def can_saturate(made_with: Mapping[str, str]) -> bool:
    """Whether sums of an int8 file can saturate on this machine. One that does not say how it was made can."""
    adds_in_16_bits = platform.machine().lower() in ("x86_64", "amd64") and not has_vnni()
    return adds_in_16_bits and made_with.get(BITS) != ANYWHERE
