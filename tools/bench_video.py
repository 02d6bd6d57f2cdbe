"""How fast zoo reads 16 uniform frames (short side 256, 224 crop), and whether they are the right ones, beside peers.

    python tools/bench_video.py --folder FOLDER [--rounds 5] [--only h264_10s_gop30 ...] [--json RESULTS]

Makes its files once, into FOLDER: 1080p h264 (x264 veryfast) with a keyframe every 30 and every 250 frames, 10 s, 60 s,
and 10 min joined from the 60 s without re-encoding; hevc, vp9 and av1 at 480p; their frames say their numbers. Every
contender lives in a process of its own; rounds are interleaved; memory is the peak above what the process had before.
zoo forgets its index before each round. The lower bound decodes the same packets with the same skipping on the same
threads, from an index made before, and converts nothing. torchcodec, decord and OpenCV are extras: one that is missing
is a row that says so. Who decodes ten minutes from the front is asked once, not in every round.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from bench_video_files import CROP, FILES, SIZE, make, read_number

from zoo.video import probe, read_frames
from zoo.video.sampling import uniform

FRAMES = 16
MEMORY = 24 * 1920 * 1080 * 3 / 2 / 2**20  # MiB of 24 decoded frames, 4:2:0
ONCE_S = 20.0  # who takes longer than this is asked once, and shown without a spread

# --- the contenders: (path, numbers of frames) -> uint8 [T, 224, 224, 3] ----------------------------------------------

Reader = Callable[[str, list[int]], np.ndarray]


def _crop(frames: np.ndarray) -> np.ndarray:
    top, left = (frames.shape[1] - CROP) // 2, (frames.shape[2] - CROP) // 2
    return frames[:, top : top + CROP, left : left + CROP]


def _threads() -> int:
    from zoo.video.select import allowed_threads

    return allowed_threads(None)


def zoo_frames(path: str, numbers: list[int]) -> np.ndarray:
    from zoo.video import index

    index._kept.clear()
    return _crop(read_frames(path, numbers, size=SIZE).data)


def zoo_frames_again(path: str, numbers: list[int]) -> np.ndarray:
    return _crop(read_frames(path, numbers, size=SIZE).data)


def naive_pyav(path: str, numbers: list[int]) -> np.ndarray:
    from zoo.video.transforms import resize

    wanted, found = set(numbers), []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for k, frame in enumerate(container.decode(stream)):
            if k in wanted:
                found.append(resize(frame.to_ndarray(format="rgb24"), SIZE))
            if k >= numbers[-1]:
                break
    return _crop(np.stack(found))


def torchcodec(threads: Callable[[], int], own_resize: bool) -> Reader:
    def read(path: str, numbers: list[int]) -> np.ndarray:
        from torchcodec.decoders import VideoDecoder

        from zoo.video.transforms import output_size, resize

        options: dict[str, object] = {}
        if own_resize:
            from torchcodec.transforms import Resize

            _, height, width, *_ = FILES[Path(path).stem]
            options["transforms"] = [Resize(output_size(height, width, SIZE))]
        decoder = VideoDecoder(path, seek_mode="exact", dimension_order="NHWC", num_ffmpeg_threads=threads(), **options)
        return _crop(resize(decoder.get_frames_at(numbers).data, SIZE))

    return read


def decord(path: str, numbers: list[int]) -> np.ndarray:
    import decord

    from zoo.video.transforms import output_size

    _, height, width, *_ = FILES[Path(path).stem]
    height, width = output_size(height, width, SIZE)
    reader = decord.VideoReader(path, width=width, height=height, num_threads=_threads())
    return _crop(reader.get_batch(numbers).asnumpy())


def opencv(path: str, numbers: list[int]) -> np.ndarray:
    import cv2

    from zoo.video.transforms import resize

    capture, found = cv2.VideoCapture(path), []
    for k in numbers:
        capture.set(cv2.CAP_PROP_POS_FRAMES, k)
        found.append(resize(cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB), SIZE))
    return _crop(np.stack(found))


def lower_bound(path: str, numbers: list[int]) -> np.ndarray:
    """Nothing comes out of it: it is only decoded."""
    from zoo.video import select

    index = probe(path)  # kept since the round before the first
    selection = select.Selection(path, numbers, select.Resize(SIZE), index=index, limits=select.Limits())
    empty = np.zeros((1, 1, 3), np.uint8)
    convert, select.Converter = select.Converter, lambda: lambda frame: empty  # type: ignore[assignment, misc]
    apply, select.Resize.apply = select.Resize.apply, lambda *args: empty  # type: ignore[method-assign]
    try:
        assert sum(1 for _ in selection) == len(numbers) and selection.path == "fast"
    finally:
        select.Converter, select.Resize.apply = convert, apply  # type: ignore[misc, method-assign]
    return np.zeros((0, CROP, CROP, 3), np.uint8)


CONTENDERS: dict[str, Reader] = {
    "zoo": zoo_frames,
    "zoo, index kept": zoo_frames_again,
    "naive PyAV": naive_pyav,
    "torchcodec exact": torchcodec(lambda: 1, own_resize=False),
    "torchcodec exact, threads": torchcodec(_threads, own_resize=False),
    "torchcodec exact, threads, its resize": torchcodec(_threads, own_resize=True),
    "decord": decord,
    "OpenCV": opencv,
    "lower bound": lower_bound,
}
PEERS = [name for name in CONTENDERS if name.startswith(("naive", "torchcodec", "decord", "OpenCV"))]


# --- one process per contender ----------------------------------------------------------------------------------------


def serve(contender: str) -> None:
    """Answers requests on stdin, one JSON object per line, until it is closed."""
    for line in sys.stdin:
        path, numbers = json.loads(line)
        try:
            answer = measure(CONTENDERS[contender], path, numbers)
        except ImportError as error:
            answer = {"missing": str(error).splitlines()[0]}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:80]}
        print("ANSWER", json.dumps(answer), flush=True)


def measure(read: Reader, path: str, numbers: list[int]) -> dict[str, object]:
    baseline = _reset_peak()
    wall, cpu = time.perf_counter(), _cpu()
    frames = read(path, numbers)
    wall, cpu = time.perf_counter() - wall, _cpu() - cpu
    peak = _peak()
    period = FILES[Path(path).stem][3]
    right = [read_number(f) == k % period for f, k in zip(frames, numbers, strict=False)]
    return {"wall": wall, "cpu": cpu, "memory": peak - baseline, "right": sum(right), "of": len(right)}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _reset_peak() -> float:
    """MiB that are used now, after what was freed is given back; from here on the peak is counted."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak() -> float:
    return _status("VmHWM")


def _status(field: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


class Contender:
    def __init__(self, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, path: Path, numbers: list[int]) -> dict[str, object]:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps([str(path), numbers]) + "\n")
            self.process.stdin.flush()
            for line in self.process.stdout:  # some libraries print
                if line.startswith("ANSWER "):
                    return json.loads(line[7:])
        except BrokenPipeError:
            pass
        return {"error": f"the process ended with {self.process.wait()}"}

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


# --- the table --------------------------------------------------------------------------------------------------------


Answers = dict[str, list[dict[str, object]]]


def compare(contenders: dict[str, Contender], path: Path, rounds: int) -> Answers:
    *_, count, times, _ = FILES[path.stem]
    numbers = uniform(count * times, FRAMES)
    answers: Answers = {name: [] for name in contenders}
    for name in ("zoo, index kept", "lower bound"):
        if name in contenders:
            contenders[name].ask(path, numbers)
    for _ in range(rounds):
        for name, contender in contenders.items():
            if all(row.get("wall", math.inf) < ONCE_S for row in answers[name]):  # type: ignore[operator]
                answers[name].append(contender.ask(path, numbers))
    return answers


def report(name: str, answers: Answers) -> dict[str, float]:
    """Prints the table of one file; gives zoo's times over those of the fastest exact peer and of the lower bound."""
    print(f"\n{name}\n  {'':38}{'exact':>8}{'wall s':>9}{'+-':>7}{'cpu s':>8}{'MiB':>7}{'wall / zoo':>12}")
    zoo_wall = _median(answers["zoo"], "wall")
    for contender, rows in answers.items():
        if "wall" not in rows[-1]:
            print(f"  {contender:38}  {' '.join(map(str, next(iter(rows[-1].items()))))}")
            continue
        walls = sorted(float(row["wall"]) for row in rows)  # type: ignore[arg-type]
        spread = f"{(walls[-1] - walls[0]) / 2:7.3f}" if len(walls) > 1 else f"{'once':>7}"
        exact = f"{min(row['right'] for row in rows)}/{rows[0]['of']}" if rows[0]["of"] else "-"  # type: ignore[type-var]
        print(
            f"  {contender:38}{exact:>8}{statistics.median(walls):9.3f}{spread}"
            f"{_median(rows, 'cpu'):8.3f}{_median(rows, 'memory'):7.0f}{statistics.median(walls) / zoo_wall:12.2f}"
        )
    ratios = {}
    exact_peers = [p for p in PEERS if p in answers and all(row.get("right") == FRAMES for row in answers[p])]
    for field in ("wall", "cpu"):
        fastest = min(exact_peers, key=lambda p: _median(answers[p], field), default="lower bound")
        for kind, other in (("peer", fastest), ("bound", "lower bound")):
            ratios[f"{field} {kind}"] = _median(answers["zoo"], field) / _median(answers[other], field)
        print(
            f"  {field}: zoo takes {ratios[f'{field} peer']:.2f} of {fastest}, "
            f"{ratios[f'{field} bound']:.2f} of the lower bound",
            flush=True,
        )
    ratios["memory of 24 frames"] = _median(answers["zoo"], "memory") / MEMORY
    return ratios


def _median(rows: list[dict[str, object]], field: str) -> float:
    return statistics.median(float(row[field]) for row in rows if field in row)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=list(FILES), help="these files")
    parser.add_argument("--without", nargs="+", default=[], help="contenders to leave out")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--make", action="store_true", help="make the files and stop")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve)
    options.folder.mkdir(parents=True, exist_ok=True)
    paths = [make(options.folder, name) for name in options.only]
    if options.make:
        return None
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"Python {platform.python_version()}, av {av.__version__}, numpy {np.__version__}")
    print(f"{FRAMES} frames, medians of {options.rounds} rounds", flush=True)
    contenders = {name: Contender(name) for name in CONTENDERS if name not in options.without}
    results, ratios = {}, {}
    try:
        warm_up = make(options.folder, "hevc_10s")
        for contender in contenders.values():  # imports, thread pools
            contender.ask(warm_up, [0])
        for path in paths:
            results[path.stem] = compare(contenders, path, options.rounds)
            ratios[path.stem] = report(path.stem, results[path.stem])
    finally:
        for contender in contenders.values():
            contender.close()
    h264 = [ratio for name, ratio in ratios.items() if name.startswith("h264")]
    for kind in h264[0] if h264 else ():
        values = [ratio[kind] for ratio in h264]
        print(f"h264, {kind}: {statistics.geometric_mean(values):.2f} on average, {max(values):.2f} at most")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return None


if __name__ == "__main__":
    main()
