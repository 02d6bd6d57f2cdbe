"""What `zoo doctor` looks at, area by area."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from zoo import __version__, discovery, registry
from zoo.doctor import BROKEN, SLOW, Check, Finding
from zoo.doctor import probe as child

LONGEST = 120.0  # seconds that the libraries may take to be imported
LONG = 20.0  # seconds for one of them that are worth a word
ROOM = 2 << 30  # bytes that a disk should have free
VARIABLES = ("ZOO_PLUGINS", "ZOO_STRICT", "ZOO_MAX_DOWNLOAD", "ZOO_MMAP")
REINSTALL = "pip install --force-reinstall {}"
EXTRAS = {
    "batch": "`zoo batch`",
    "onnx": "`zoo export` to ONNX and int8",
    "ray": "`zoo batch --engine ray`",
}


def system() -> Iterator[Finding]:
    yield Finding("system", "zoo", f"{__version__} in {Path(__file__).parents[1]}")
    yield Finding("system", "python", f"{platform.python_version()}, {sys.executable}")
    yield Finding("system", "platform", platform.platform())
    for variable in VARIABLES:
        if variable in os.environ:
            yield Finding("system", variable, os.environ[variable])
    if _version("analytics-zoo"):
        fix = "pip uninstall analytics-zoo, then install video-zoo again"
        yield Finding("system", "analytics-zoo", "is installed and has the import name zoo too", BROKEN, fix)


def packages() -> Iterator[Finding]:
    try:
        needed = _needed()
    except metadata.PackageNotFoundError:
        yield Finding("packages", discovery.HOME, "is not installed, so it has no plugins", BROKEN, "pip install -e .")
        return
    for name, wanted in needed.items():
        version = _version(name)
        if not version:
            yield Finding("packages", name, "missing", BROKEN, f"pip install '{wanted}'")
        elif not _inside(version, wanted):
            yield Finding("packages", name, f"{version}, and zoo needs {wanted}", BROKEN, f"pip install '{wanted}'")
        else:
            yield Finding("packages", name, version)


def extras() -> Iterator[Finding]:
    if not _version(discovery.HOME):
        return  # which is a finding of the packages
    for extra, purpose in EXTRAS.items():
        needed = _needed(extra)
        versions = {name: _version(name) for name in needed}
        install = f"pip install '{discovery.HOME}[{extra}]'"
        if absent := [name for name, version in versions.items() if not version]:
            said = f"not installed ({', '.join(absent)}); for {purpose}: {install}"
            yield Finding("extras", extra, said)
        elif old := [name for name, wanted in needed.items() if not _inside(versions[name], wanted)]:
            said = f"{old[0]} {versions[old[0]]}, and zoo needs {needed[old[0]]}"
            yield Finding("extras", extra, said, BROKEN, install)
        else:
            yield Finding("extras", extra, ", ".join(f"{name} {version}" for name, version in versions.items()))


def libraries() -> Iterator[Finding]:
    told = probed()
    for name in child.LIBRARIES:
        answer = told.get(name, {"error": told["ended"]})
        fix = REINSTALL.format({"PIL": "pillow"}.get(name, name))
        if "error" in answer:
            yield Finding("libraries", name, answer["error"], BROKEN, fix)
            if name not in told:
                return  # those after it were not reached
        elif answer["seconds"] > LONG:
            slow = f"takes {answer['seconds']:.0f} s to import"
            yield Finding("libraries", name, slow, SLOW, "keep the environment on a local disk, not on a network one")
        else:
            yield Finding("libraries", name, f"imported in {answer['seconds']:.1f} s")
    if not _facts("PIL").get("freetype", True):
        coarse = "has no FreeType, so text in pictures is coarse"
        yield Finding("libraries", "PIL", coarse, SLOW, REINSTALL.format("pillow"))


def devices() -> Iterator[Finding]:
    facts = _facts("torch")
    if not facts:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = quota()
    limit = f", of which this process may use {granted:g}" if granted else ""
    said = f"{cores} cores{limit}, {facts['threads']} threads"
    status, fix = "ok", ""
    if granted and facts["threads"] > max(granted, 1) * 1.5:
        status, fix = SLOW, f"set OMP_NUM_THREADS={max(int(granted), 1)}: threads wait for each other"
    elif cores > 3 and facts["threads"] == 1:
        status, fix = SLOW, "unset OMP_NUM_THREADS, or torch.set_num_threads(...)"
    elif facts["capability"] in ("DEFAULT", "NO AVX") and platform.machine() in ("x86_64", "AMD64"):
        status, fix = SLOW, "this CPU, or emulator, has no AVX2, for which torch is built"
    yield Finding("devices", "cpu", f"{said}, {facts['capability']}", status, fix)
    for i, name in enumerate(facts["devices"]):
        yield Finding("devices", f"cuda:{i}", name)
    if facts["mps"]:
        yield Finding("devices", "mps", "Apple GPU: pass device='mps'")
    if not facts["devices"] and _has_nvidia():
        if facts["built_for"] == "cpu":
            fix = "install torch for CUDA: https://pytorch.org/get-started/locally"
            yield Finding("devices", "cuda", "there is an NVIDIA GPU, and torch is built for CPUs only", SLOW, fix)
        else:
            fix = f"update the driver to one for CUDA {facts['built_for']}, and look at CUDA_VISIBLE_DEVICES"
            yield Finding("devices", "cuda", "there is an NVIDIA GPU that torch cannot use", SLOW, fix)


def decoder() -> Iterator[Finding]:
    facts = _facts("av")
    if not facts:
        return
    yield Finding("decoder", "FFmpeg", f"{facts['ffmpeg']}, inside av {_version('av')}")
    for mode, kind in (("r", "reads"), ("w", "writes")):
        missing = sorted(set(child.CODECS[mode]) - set(facts["codecs"][mode]))
        yield Finding("decoder", kind, ", ".join(facts["codecs"][mode]) or "nothing")
        if missing:
            fix = "install the wheel: pip install --force-reinstall --only-binary av av"
            yield Finding("decoder", f"{kind} not", ", ".join(missing), BROKEN, fix)


def cache_folder() -> Iterator[Finding]:
    facts = _facts("huggingface_hub")
    if not facts:
        return
    folder = Path(facts["cache"])
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    used = sum(file.stat().st_size for file in folder.glob("models--*/blobs/*") if file.is_file())
    yield Finding("cache", "folder", f"{folder}, {used / 1e6:,.0f} MB of models")
    if not os.access(there, os.W_OK):
        yield Finding("cache", "folder", f"{there} cannot be written", BROKEN, "set HF_HOME to a folder of yours")
    yield _room("cache", there, "`zoo cache prune`, or set HF_HOME to another disk")
    hub = f"{facts['endpoint']}, {'with' if facts['token'] else 'without'} a token"
    yield Finding("cache", "Hub", hub + (", offline: HF_HUB_OFFLINE is set" if facts["offline"] else ""))


def temporary() -> Iterator[Finding]:
    folder = Path(tempfile.gettempdir())
    yield _room("temporary files", folder, "make room, or set TMPDIR to another disk")


def plugins() -> Iterator[Finding]:
    for record in registry.default.plugins():
        if record.error:
            reason = record.reason or record.error.strip().splitlines()[-1]
            fix = f"`zoo plugins --verbose` shows where; update {record.distribution}, or ZOO_PLUGINS=-{record.name}"
            yield Finding("plugins", record.name, f"{record.origin} is switched off: {reason}", BROKEN, fix)
        else:
            said = f"{record.origin}, {record.n_models} models"
            yield Finding("plugins", record.name, "; ".join([said, *record.notes]))
    if not registry.default.plugins():
        yield Finding(
            "plugins", "none", "no plugin, so no model", BROKEN, "pip install video-zoo, and look at ZOO_PLUGINS"
        )


CHECKS: dict[str, Check] = {
    "system": system,
    "packages": packages,
    "extras": extras,
    "libraries": libraries,
    "devices": devices,
    "decoder": decoder,
    "cache": cache_folder,
    "temporary files": temporary,
    "plugins": plugins,
}


@cache
def probed() -> dict[str, Any]:
    """What the child says of each library; under "ended" why it says no more."""
    command = [sys.executable, "-P", child.__file__]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended, output = "", ""
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", timeout=LONGEST, check=False
        )
        output = done.stdout
        ended = f"its import ended the process with {done.returncode}" + (" (a crash)" if done.returncode < 0 else "")
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"").decode(errors="replace") if isinstance(error.stdout, bytes) else ""
        ended = f"its import takes longer than {LONGEST:g} s"
    lines = [json.loads(line) for line in output.splitlines() if line.startswith('{"library"')]
    return {"ended": ended, **{answer["library"]: answer for answer in lines}}


def _facts(library: str) -> dict[str, Any]:
    return probed().get(library, {}).get("facts") or {}


def _needed(extra: str = "") -> dict[str, str]:
    """The packages of zoo or of one of its extras, {name: requirement}."""
    found = {}
    for line in metadata.requires(discovery.HOME) or []:
        wanted, _, marker = line.partition(";")
        name, of = re.match(r"[\w.-]+", wanted), re.search(r"extra == ['\"]([\w-]+)", marker)
        if name and (of[1] if of else "") == extra:
            found[name[0]] = wanted.strip()
    return found


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _inside(version: str, wanted: str) -> bool:
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return True
    return Requirement(wanted).specifier.contains(version, prereleases=True)


def quota() -> float | None:
    """Cores that a container leaves to this process, if it limits them."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        return None


def _has_nvidia() -> bool:
    return Path("/dev/nvidia0").exists() or (os.name == "nt" and shutil.which("nvidia-smi") is not None)


def _room(area: str, folder: Path, fix: str) -> Finding:
    free = shutil.disk_usage(folder).free
    said = f"{free / 2**30:.1f} GiB free in {folder}"
    return Finding(area, "room", said, *(() if free > ROOM else (BROKEN, fix)))
