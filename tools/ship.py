"""Put camera-motion weights that were trained here, with what was measured of them, into the plugin of their network.

    python tools/ship.py stacked_tiny runs/stacked/model     # the file, then its stanza
    python tools/eval_camera_motion.py /tmp/clips --optimised --model stacked_tiny.camera_motion
    python tools/ship.py stacked_tiny                        # the stanza again, with those figures

Then `zoo.testing.record_golden("stacked_tiny.camera_motion")`, tools/cards.py and tools/tables.py.

The folder is a result of zoo train. Its weights become `plugins/PLUGIN/weights/NAME.camera_motion.safetensors`, in half
precision where they would take more than 3 MB, and `plugins/PLUGIN/camera_motion.py` says all else about them. Where
these are the first of a network, its spec in `plugins/PLUGIN/__init__.py` has to be given `camera_motion.WEIGHTS[NAME]`
by hand before they are measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib.util
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save

import zoo
from zoo.publishing.stanza import as_python

PLUGINS = Path(__file__).parent.parent / "plugins"
TAG, LARGEST = "camera_motion", 3_000_000
HEAD = '''"""What is known of the camera-motion weights of this family; written by tools/ship.py."""

import zoo

'''


def evaluation() -> ModuleType:
    """tools/eval_camera_motion.py, which knows what a result says."""
    found = importlib.util.spec_from_file_location("eval_camera_motion", Path(__file__).with_name(f"eval_{TAG}.py"))
    assert found is not None and found.loader is not None
    tool = importlib.util.module_from_spec(found)
    found.loader.exec_module(tool)
    return tool


def plugin_of(name: str) -> str:
    """The package of a network of ours."""
    return zoo.info(name).builder.partition(".")[0].partition(":")[0]


def write_file(name: str, folder: str) -> dict[str, Any]:
    """The weights of a training as they ship; gives what the stanza says of them."""
    model = zoo.create(f"local-dir:{folder}")
    if model.spec is None or model.spec.full_name != name or model.options:
        of = f"{model.spec.full_name if model.spec else 'something else'} with options {dict(model.options)}"
        raise SystemExit(f"{folder} holds {of}, not {name} as it is")
    state = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    if sum(tensor.nbytes for tensor in state.values()) > LARGEST:
        state = {key: tensor.half() if tensor.dtype == torch.float32 else tensor for key, tensor in state.items()}
    package = plugin_of(name)
    path = PLUGINS / package / "weights" / f"{name}.{TAG}.safetensors"
    data = save(state, {"format": "pt"})
    if len(data) > LARGEST:
        raise SystemExit(f"{path.name} would have {len(data):,} bytes, of {LARGEST:,} that may ship")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    assert model.weights is not None
    return {
        "source": f"pkg://{package}/weights/{path.name}",
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "labels": tuple(model.labels or ()),
        "preprocessing": model.preprocessing,
        "license": zoo.info(name).license,
        "training_data": model.weights.training_data,
        "description": model.weights.description,
    }


def metrics_of(name: str, sha256: str) -> tuple[zoo.Metric, ...]:
    """What was measured of exactly these bytes."""
    tool = evaluation()
    result = tool.stored().get(f"{name}.{TAG}")
    if result is None or result["sha256"] != sha256:
        return ()
    return tuple(tool.figures(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the architecture")
    parser.add_argument("folder", nargs="?", help="of the training's result; without it, those that ship already")
    args = parser.parse_args()
    path = PLUGINS / plugin_of(args.name) / f"{TAG}.py"
    known: dict[str, zoo.Weights] = runpy.run_path(str(path))["WEIGHTS"] if path.exists() else {}
    if args.folder:
        known[args.name] = zoo.Weights(**write_file(args.name, args.folder))
    elif args.name not in known:
        raise SystemExit(f"{path.name} says nothing of {args.name} yet: name the folder of its training")
    stanzas = {
        name: dataclasses.replace(weights, tag="", metrics=metrics_of(name, weights.sha256))
        for name, weights in sorted(known.items())
    }
    path.write_text(f"{HEAD}WEIGHTS = {as_python(stanzas)}\n")
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", path], check=True)
    print(f"{path.relative_to(PLUGINS.parent)}: {', '.join(stanzas)}")


if __name__ == "__main__":
    main()
