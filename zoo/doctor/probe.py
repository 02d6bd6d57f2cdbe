"""Run in a child process: import each heavy library and say what it finds, one JSON object a line."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

CODECS = {"r": ("h264", "hevc", "vp9", "av1", "mpeg4"), "w": ("libx264", "libvpx-vp9")}


def torch(module: Any) -> dict[str, Any]:
    cuda = module.cuda.is_available()
    devices = [module.cuda.get_device_properties(i) for i in range(module.cuda.device_count())] if cuda else []
    return {
        "threads": module.get_num_threads(),
        "capability": module.backends.cpu.get_cpu_capability(),
        "built_for": module.version.cuda or getattr(module.version, "hip", None) or "cpu",
        "devices": [f"{device.name}, {device.total_memory / 2**30:.0f} GiB" for device in devices],
        "mps": module.backends.mps.is_available(),
    }


def av(module: Any) -> dict[str, Any]:
    codecs = {mode: [name for name in names if _has(module, name, mode)] for mode, names in CODECS.items()}
    return {"ffmpeg": str(getattr(module, "ffmpeg_version_info", "unknown")), "codecs": codecs}


def pillow(module: Any) -> dict[str, Any]:
    return {"freetype": bool(import_module("PIL.features").check("freetype2"))}


def hub(module: Any) -> dict[str, Any]:
    constants = import_module("huggingface_hub.constants")
    return {
        "cache": str(constants.HF_HUB_CACHE),
        "endpoint": constants.ENDPOINT,
        "offline": bool(constants.HF_HUB_OFFLINE),
        "token": module.get_token() is not None,
    }


def nothing(module: Any) -> dict[str, Any]:
    return {}


LIBRARIES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "torch": torch,
    "torchvision": nothing,
    "timm": nothing,
    "av": av,
    "PIL": pillow,
    "safetensors": nothing,
    "huggingface_hub": hub,
}


def _has(module: Any, name: str, mode: str) -> bool:
    try:
        module.Codec(name, mode)
    except ValueError:
        return False
    return True


def main() -> None:
    for name, look in LIBRARIES.items():
        started = time.monotonic()
        told: dict[str, Any] = {"library": name}
        try:
            module = import_module(name)
            told["seconds"] = time.monotonic() - started
            told["facts"] = look(module)
        except BaseException as error:  # it ends here, not in a traceback that nobody reads
            told["error"] = f"{type(error).__name__}: {error}"
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    sys.stderr.close()  # libraries greet and warn
    main()
