"""Compare the family `transformer` with transformers: create and load, steady forward, first answer of a new process.

python tools/bench_transformer.py [NAME ...] [--rounds 6] [--what load forward first] [--device cpu]

Needs the extra `parity`. Both sides open the same repository, written by transformers with random weights, from the
same cache of the Hub, filled once by a loopback Hub: zoo.create("hf-hub:...") and from_pretrained. They run in turns.
In `load` zoo's file is a pinned tag; "zoo hf-hub:" is one that nobody has reviewed, in which zoo has looked for NaN
once, and "zoo at first" the same when it does.
`load` reads every weight once, as what is only mapped into memory would cost nothing otherwise. `first` is a process of
its own, from its start to the answer for a video file: imports, model, decoding, preprocessing, forward; both sides
have to give the same score, and the most memory that the process had is compared as well. In `forward`, "its kernels"
are zoo's calls of linear layers, attention and layer norm with nothing between them, and "its products" the matrix
products of its linear layers alone, without their biases: what no arrangement of the rest can go below.
The last row is zoo once more: how far it is from 1 is what the figures are worth. Ratios are of the
medians, theirs over ours: above 1, zoo is faster or smaller. CPU time suffers less from a busy machine.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import layer_norm, linear, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

import zoo

CASES: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "videomae_base": ("VideoMAE", {"num_labels": 400}, (1, 3, 16, 224, 224)),
    "timesformer_base": ("Timesformer", {"num_labels": 400}, (1, 3, 8, 224, 224)),
    "vivit_b_16x2": ("Vivit", {"num_labels": 400}, (1, 3, 32, 224, 224)),
    "vjepa2_vitl": ("VJEPA2", {"num_labels": 174, "frames_per_clip": 16}, (1, 3, 16, 256, 256)),
}


@dataclass(frozen=True)
class Place:
    """A repository in a cache of the Hub, at a commit."""

    name: str
    cache: str
    commit: str
    sha256: str = ""

    @property
    def repo(self) -> str:
        return f"bench/{self.name}"


def ours(place: Place) -> zoo.VideoModel:
    return zoo.create(f"hf-hub:{place.repo}@{place.commit}", cache_dir=place.cache)


def unread(place: Place) -> zoo.VideoModel:
    """The same, when it has not been looked through."""
    for note in Path(place.cache).glob("*/.zoo/*.note"):
        note.unlink()
    return ours(place)


def pinned(place: Place) -> zoo.VideoModel:
    """The same file as a tag of the registry, which was reviewed once."""
    return zoo.create(f"local/{place.name}.bench", cache_dir=place.cache)


def register(place: Place) -> None:
    _, config, shape = CASES[place.name]
    source = f"hf://{place.repo}/model.safetensors@{place.commit}"
    known = {"sha256": place.sha256, "layout": "transformers", "num_classes": config["num_labels"]}
    weights = zoo.Weights(source=source, kwargs={"num_frames": shape[2]}, **known)
    zoo.register(replace(zoo.info(place.name), weights={"bench": weights}, default_tag=None))


def theirs(place: Place) -> torch.nn.Module:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return getattr(transformers, f"{CASES[place.name][0]}ForVideoClassification").from_pretrained(
        place.repo, revision=place.commit, cache_dir=place.cache, local_files_only=True
    )


def our_answer(place: Place, video: Path) -> float:
    return zoo.predict(ours(place), video).top[0].score


def their_answer(place: Place, video: Path) -> float:
    import transformers
    from transformers.video_utils import load_video

    processor = getattr(transformers, f"{CASES[place.name][0]}VideoProcessor").from_pretrained(
        place.repo, revision=place.commit, cache_dir=place.cache, local_files_only=True
    )
    frames, _ = load_video(str(video), num_frames=CASES[place.name][2][2], backend="pyav")
    with torch.inference_mode():
        inputs = processor(torch.from_numpy(frames).permute(0, 3, 1, 2), return_tensors="pt")
        return float(theirs(place)(**inputs).logits.softmax(-1).max())


def written(name: str, folder: Path) -> Place:
    """Have transformers write a repository, and put it into a cache as a download would."""
    import transformers

    from zoo.testing.loopback_hub import LoopbackHub

    transformers.utils.logging.disable_progress_bar()
    kind, config, _ = CASES[name]
    torch.manual_seed(0)
    made = getattr(transformers, f"{kind}Config")(**config)
    getattr(transformers, f"{kind}ForVideoClassification")(made).save_pretrained(folder / "written")
    getattr(transformers, f"{kind}VideoProcessor")().save_pretrained(folder / "written")
    with (folder / "written" / "model.safetensors").open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    with LoopbackHub() as hub:
        commit = hub.add(f"bench/{name}", {path.name: path.read_bytes() for path in (folder / "written").iterdir()})
        place = Place(name, str(folder / "cache"), commit)
        zoo.create(f"hf-hub:{place.repo}@{commit}", endpoint=hub.url, cache_dir=place.cache)
    place = replace(place, sha256=digest)
    register(place)
    shutil.rmtree(folder / "written")
    return place


def logits(model: torch.nn.Module, clip: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        if isinstance(model, zoo.VideoModel):
            return model(clip)
        return model(clip.transpose(1, 2)).logits


class _Kernels(TorchFunctionMode):
    """Notes the calls that a forward pass cannot do without, and can do them again on memory that is there already."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
        self.products: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self._memory: dict[tuple[object, ...], torch.Tensor] = {}

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in (linear, scaled_dot_product_attention, layer_norm):
            self.calls.append((function, tuple(map(self._stand_in, args, range(len(args)))), kwargs))
        if function is linear:
            x, weight = args[0].reshape(-1, args[0].shape[-1]), args[1]
            out = self._stand_in(x.new_empty(len(x), len(weight)), "out")
            self.products.append((self._stand_in(x, "in"), weight, out))
        return function(*args, **kwargs)

    def _stand_in(self, value: Any, role: object) -> Any:
        """Another tensor of the same shape and strides, shared by all calls; parameters stand for themselves."""
        if not isinstance(value, torch.Tensor) or isinstance(value, torch.nn.Parameter):
            return value
        key = role, value.shape, value.stride()
        if key not in self._memory:
            self._memory[key] = torch.empty_strided(*key[1:], device=value.device).normal_()
        return self._memory[key]

    def run(self) -> None:
        for function, args, kwargs in self.calls:
            function(*args, **kwargs)

    def run_products(self) -> None:
        for x, weight, out in self.products:
            torch.mm(x, weight.T, out=out)


def bounds(model: torch.nn.Module, clip: torch.Tensor) -> dict[str, Callable[[], None]]:
    """What no arrangement of the rest can go below."""
    with torch.inference_mode(), _Kernels() as seen:
        model(clip)
    timed = {"its kernels": seen.run, "its products": seen.run_products}
    return {name: torch.inference_mode()(run) for name, run in timed.items()}


Seconds = dict[str, list[tuple[float, float]]]


def turns(sides: dict[str, Callable[[], object]], rounds: int) -> Seconds:
    """Seconds of each side, on the wall and of this process and its children, in turns.

    The order turns round each time, so that an even number of rounds is fair.
    """
    seconds: Seconds = {side: [] for side in sides}
    for i in range(rounds + 1):
        order = list(sides) if i % 2 else list(reversed(sides))
        for side in order:
            start, before = time.perf_counter(), os.times()
            sides[side]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if i:  # the first round warms up
                cpu = sum(after - earlier for after, earlier in zip(os.times()[:4], before[:4], strict=True))
                seconds[side].append((time.perf_counter() - start, cpu))
    return seconds


def show(name: str, what: str, seconds: Seconds, note: str = "") -> None:
    wall, cpu = ({side: statistics.median(t[i] for t in times) for side, times in seconds.items()} for i in (0, 1))
    for side in list(seconds)[1:]:
        ratios = f"{wall[side] / wall['zoo']:5.2f}x on the wall, {cpu[side] / cpu['zoo']:5.2f}x CPU time"
        print(f"{name:18} {what:8} {side:13} {ratios}  {note}", flush=True)


def bench(name: str, what: list[str], rounds: int, device: str) -> None:
    with tempfile.TemporaryDirectory() as parent:
        place = written(name, Path(parent))
        sides: dict[str, Callable[[Place], torch.nn.Module]] = {"zoo": ours, "transformers": theirs, "zoo again": ours}
        if "load" in what:
            ways = {
                "zoo": pinned,
                "transformers": theirs,
                "zoo hf-hub:": ours,
                "zoo at first": unread,
                "zoo again": pinned,
            }
            show(name, "load", turns({s: lambda m=m: _touch(m(place)) for s, m in ways.items()}, rounds))
        if "forward" in what:
            clip = torch.randn(CASES[name][2]).to(device)
            models = {side: make(place).to(device) for side, make in list(sides.items())[:2]}
            models["zoo again"] = models["zoo"]
            a, b = (logits(models[side], clip) for side in ("zoo", "transformers"))
            note = f"max |d| / scale {float((a - b).abs().max() / b.abs().max()):.1e}"
            ways = {s: lambda m=m: logits(m, clip) for s, m in models.items()}
            show(name, "forward", turns(ways | bounds(models["zoo"], clip), rounds), note)
            del models
        if "first" in what:
            video = Path(parent) / "video.mp4"
            frames = torch.randint(0, 256, (1, 240, 320, 3), dtype=torch.uint8).expand(100, -1, -1, -1)
            zoo.video.write_video(video, frames.numpy(), fps=25)
            told: dict[str, tuple[float, float]] = {}
            show(
                name, "first", turns({s: lambda s=s: told.update({s: _first(s, place, video)}) for s in sides}, rounds)
            )
            (a, mine), (b, yours) = told["zoo"], told["transformers"]
            assert abs(a - b) <= 1e-5 * b, f"{a} is not {b}"
            print(
                f"{name:18} memory   transformers  {yours / mine:5.2f}x: {mine:.0f} MB and {yours:.0f} MB", flush=True
            )


def _touch(model: torch.nn.Module) -> None:
    """Read every weight once."""
    for parameter in model.parameters():
        parameter.detach().sum()


def _first(side: str, place: Place, video: Path) -> tuple[float, float]:
    """Score and peak memory (MB) that a new process prints."""
    command = [sys.executable, __file__, "--child", side.split()[0], place.name, place.cache, place.commit, str(video)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    score, memory = map(float, done.stdout.split()[-2:])
    return score, memory


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        side, name, cache, commit, video = sys.argv[2:]
        score = {"zoo": our_answer, "transformers": their_answer}[side](Place(name, cache, commit), Path(video))
        # Not ru_maxrss, which a process takes over from the one that started it.
        (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        print(score, int(peak) / 1024)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(CASES), metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--what", nargs="+", choices=("load", "forward", "first"), default=["load", "forward", "first"])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    import transformers

    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"{versions}, {torch.get_num_threads()} threads, float32, load average {os.getloadavg()[0]:.1f}")
    for name in options.names:
        bench(name, options.what, options.rounds, options.device)


if __name__ == "__main__":
    main()
