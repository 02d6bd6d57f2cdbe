"""`zoo predict --stream`: a line per prediction of a file, a pipe or a device, as it happens, and a clean end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import av
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo.cli import commands, live
from zoo.cli.videos import DEFAULT_MODEL
from zoo.errors import VideoError

MODEL = "r2plus1d_tiny.camera_motion"
FPS = 24
# Where the tests run in a background job, children begin deaf to SIGINT.
PROGRAM = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from zoo.cli import main; main()"


@pytest.fixture(scope="module")
def clip():
    made = zoo.synth.generate("pan_left", seed=7, duration_s=3.0, fps=FPS, size=(96, 128), distract=False)
    return np.asarray(made.frames)


@pytest.fixture(scope="module")
def path(clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "clip.mkv"
    zoo.video.write_video(path, clip, fps=FPS)
    return path


def start(*arguments: str, **options: object) -> subprocess.Popen:
    command = [sys.executable, "-c", PROGRAM, "predict", "--stream", *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **{**pipes, **options})


def run(*arguments: str, given: bytes | None = None, code: int = 0) -> tuple[list[str], str]:
    """Lines and errors, in this process."""
    result = CliRunner().invoke(commands, ["predict", *arguments], input=given)
    assert result.exit_code == code, result.output
    return result.stdout.splitlines(), result.stderr


def test_a_file_gives_the_lines_that_a_stream_gives(path, clip):
    lines, error = run("--stream", str(path), "--rate", "4", "--json")
    rows = [json.loads(line) for line in lines]
    stream = zoo.Stream(DEFAULT_MODEL, rate=4)
    frames = zoo.video.iter_frames(path)
    wanted = [p for frame in frames for p in stream.push(frame.data, frame.time_s)] + stream.finish()
    assert [row["time_s"] for row in rows] == [p.time_s for p in wanted]
    assert [row["top"][0]["label"] for row in rows] == [p.top[0].label for p in wanted]
    assert rows[-1]["frames"] == len(clip) and rows[-1]["late"] == rows[-1]["dropped"] == rows[-1]["lost"] == 0
    assert not error


def test_a_pipe_takes_a_container_or_bare_frames_and_both_end(path, clip):
    out, error = start("-").communicate(path.read_bytes(), timeout=60)
    bare = run("--stream", "-", "--raw", f"128x96@{FPS}", given=clip.tobytes() + b"cut")
    assert bare[1] == f"of {len(clip)} frames: 1 cut short at the end\n"
    for lines, said in ((out.decode().splitlines(), error), (bare[0], "")):
        assert not said
        assert len(lines) >= 5 and all(line.split()[1] == "s" for line in lines)
        assert sum("pan_left" in line for line in lines) > len(lines) / 2


def test_it_ends_cleanly_when_the_reader_goes_or_the_user_does(clip, path):
    def feed(process: subprocess.Popen, data: bytes) -> None:
        try:
            process.stdin.write(data)
            process.stdin.flush()
        except BrokenPipeError:
            pass

    bare = np.concatenate([clip] * 2).tobytes()
    for how, data, options in (("reader", bare, ("--raw", f"128x96@{FPS}")), ("user", path.read_bytes(), ())):
        process = start("-", *options, "--rate", "8")
        feeder = threading.Thread(target=feed, args=(process, data), daemon=True)
        feeder.start()
        assert process.stdout.readline()
        if how == "reader":
            process.stdout.close()
        else:
            feeder.join(30)
            process.send_signal(signal.SIGINT)  # while it waits for more
        try:
            code = process.wait(30)
        finally:
            process.kill()
        error = process.stderr.read().decode()
        assert "Traceback" not in error and "Aborted" not in error, error
        assert code == (0 if how == "user" else 1)
        for end in (process.stdin, process.stderr):
            with contextlib.suppress(BrokenPipeError):
                end.close()
        process.stdout.close()


def test_what_is_missing_is_told(tmp_path, clip):
    path = tmp_path / "gaps.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=FPS, width=128, height=96, pix_fmt="yuvj420p")
        for i, picture in enumerate(clip):
            if i % 20 == 10:
                continue
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    lines, error = run("--stream", str(path), "--json")
    assert json.loads(lines[-1])["dropped"] == 4
    assert "4 missing" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.mp4", "b.mp4", "--stream"), "follows one video"),
        (("a.mp4", "--rate", "2"), "--rate goes with --stream"),
        (("a.mp4", "--timeline", "a.png"), "--timeline goes with --stream or --window"),
        (("a.mp4", "--stream", "--timeline", "none/a.png"), "the folder 'none' does not exist"),
        (("a.mp4", "--stream", "--timeline", "a.mp4"), "its suffix is not one of .png"),
        (("-", "--stream", "--raw", "99999x99999@1"), "at most"),
        (("-", "--stream", "--raw", "4x4@1"), "it ended after 0 bytes, and a frame has 48"),
        (("-", "--stream", "--raw", "big"), "WIDTHxHEIGHT@FPS"),
        (("a.mp4", "--stream", "--raw", "4x4@1"), "--raw is about a pipe"),
        (("a.mp4", "--stream", "--stride", "2"), "--rate"),
        (("x", "--stream", "--input-format", "no_such"), "there is no format"),
        (("x", "--stream", "--input-format", "lavfi", "--input-option", "rate"), "KEY=VALUE"),
        (("none.mp4", "--stream"), "no such file"),
    ],
)
def test_wrong_use_is_one_sentence(arguments, message):
    result = CliRunner().invoke(commands, ["predict", *arguments])
    assert result.exit_code in (2, 3) and message in result.output


def test_a_device_is_followed():
    if "lavfi" not in av.formats_available:
        pytest.skip("this av has no lavfi")
    lines, _ = run("--stream", "testsrc=size=96x64:rate=10:duration=3", "--input-format", "lavfi")
    assert len(lines) >= 4


def test_a_video_too_short_for_an_answer_says_so(path, monkeypatch):
    monkeypatch.setattr(zoo.VideoModel, "delay", 99)  # as of continual networks
    with pytest.warns(UserWarning, match="random"):
        lines, error = run("--stream", str(path), "--model", "convgru_small", code=3)
    assert not lines and "ended before there was an answer, for which this model needs 100 of its frames" in error


def test_what_was_said_before_an_error_is_not_lost(clip, monkeypatch, tmp_path):
    def breaks(*_: object):
        for i, picture in enumerate(clip):
            yield zoo.video.Frame(picture, i, i / FPS)
        raise VideoError("the camera went away")

    monkeypatch.setattr(live, "_frames", breaks)
    file = tmp_path / "when.png"
    lines, error = run("--stream", "x", "--timeline", str(file), code=3)
    assert lines[-1].split()[0] == f"{(len(clip) - 1) / FPS:.2f}" and "the camera went away" in error
    with Image.open(file) as picture:
        assert picture.width == 1200


def test_of_a_device_the_newest_frames_are_kept(monkeypatch):
    monkeypatch.setattr(live, "WAITING", 4)
    all_came = threading.Event()

    def camera():
        for i in range(50):
            yield zoo.video.Frame(np.zeros((2, 2, 3), np.uint8), i, i / 30)
            all_came.wait(10 if i == 0 else 0)
        raise VideoError("unplugged")

    watch = live._Watch(live=True)
    frames = live._newest(camera(), watch)
    seen = [next(frames).index]
    all_came.set()
    with pytest.raises(VideoError, match="unplugged"):
        for frame in frames:
            seen.append(frame.index)
            time.sleep(0.1 if len(seen) == 2 else 0)  # the model is busy
    assert seen[-1] == 49 and seen == sorted(seen) and watch.lost == 50 - len(seen) > 20


def test_lateness_is_counted_from_the_soonest_answer(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    watch = live._Watch(live=True)
    for now[0], frame_s, behind in ((103.0, 0.0, 0.0), (103.1, 3.0, 0.0), (106.1, 6.0, 0.0), (111.1, 8.0, 3.0)):
        watch.sees(zoo.video.Frame(np.zeros((2, 2, 3), np.uint8), 0, frame_s))
        assert watch.behind_s == pytest.approx(behind)


def test_silence_is_told_once(monkeypatch, capsys):
    monkeypatch.setattr(live, "PATIENCE_S", 0.05)
    with live._Watch(live=True).speaks_of_silence():
        time.sleep(0.5)
    assert capsys.readouterr().err.count("nothing came") == 1


@pytest.mark.slow
@pytest.mark.parametrize("model", [MODEL, "convgru_tiny"])
def test_live_video_is_named_in_less_than_a_second(model, clip):
    """A camera writes a growing video into a pipe at real time; every line comes soon after the frame it is about."""
    process = start("-", "--model", model, "--rate", "4", "--json")
    began: list[float] = []

    def camera() -> None:
        pipe = os.fdopen(os.dup(process.stdin.fileno()), "wb", buffering=0)
        with pipe, av.open(pipe, "w", format="mpegts") as container:
            stream = container.add_stream("libx264", rate=FPS, width=128, height=96, pix_fmt="yuv420p")
            stream.options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(FPS)}
            for i in range(8 * FPS):
                began.append(time.monotonic()) if not i else time.sleep(max(began[0] + i / FPS - time.monotonic(), 0))
                frame = av.VideoFrame.from_ndarray(clip[i % len(clip)], format="rgb24")
                frame.pts = i
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        process.stdin.close()

    thread = threading.Thread(target=camera)
    thread.start()
    late = []
    with process.stdout, process.stderr:
        for line in process.stdout:
            row = json.loads(line)
            late.append((row["time_s"], time.monotonic() - began[0] - row["time_s"]))
        thread.join()
        assert process.wait(30) == 0
    print(model, [f"{t:.2f}: {seconds:.2f}" for t, seconds in late])
    after_start = [seconds for t, seconds in late if t > 5.0]  # imports, and what FFmpeg wants to see of a stream first
    assert len(after_start) >= 8 and max(after_start) < 1.0
