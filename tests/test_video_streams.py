"""What can be read only once is read in constant memory; the network only through a Url, within a time and a size."""

from __future__ import annotations

import http.server
import io
import os
import pathlib
import pickle
import subprocess
import sys
import threading
import time

import pytest
from video_clips import clip, decoded, encode

import zoo
from zoo.errors import VideoError, VideoLimitError, VideoOpenError
from zoo.video import Limits, Url, iter_frames, open_device, probe, read_frames

STREAMS = ["h264.mkv", "vp9.webm", "h264.ts", "raw.h264", "fragmented.mp4", "no_duration.webm", "b_frames_mpeg4.avi"]


def pipe(data: bytes, pause: float = 0.0):
    """The reading end of a pipe, into which a thread writes."""
    out, into = os.pipe()

    def write() -> None:
        with open(into, "wb", buffering=0) as file:  # noqa: PTH123
            try:
                for at in range(0, len(data), 4096):
                    file.write(data[at : at + 4096])
                    time.sleep(pause)
            except BrokenPipeError:
                pass

    threading.Thread(target=write, daemon=True).start()
    return open(out, "rb")  # noqa: PTH123


@pytest.mark.parametrize("name", STREAMS)
def test_a_pipe_gives_the_frames_of_the_file(name):
    data = clip(name)
    with pipe(data) as file:
        frames = list(iter_frames(file, stride=3))
    truth = decoded(data)[::3]
    assert len(frames) == len(truth) > 5
    assert all((f.data == t).all() for f, t in zip(frames, truth, strict=True))


def test_frames_come_before_the_pipe_ends():
    with pipe(clip("h264.ts") * 3, pause=0.01) as file:
        frames = iter_frames(file, on_error="skip")
        first = next(frames)
        frames.close()
        assert first.index == 0 and file.read(1), "there was more to come"


def test_only_iter_frames_reads_a_pipe():
    for read in (probe, lambda src: read_frames(src, [0])):
        with pipe(clip("h264.ts")) as file, pytest.raises(VideoOpenError, match="iter_frames reads a pipe"):
            read(file)


def test_a_pipe_that_is_no_video_or_fails_is_a_video_error():
    with pipe(b"text " * 9999) as file, pytest.raises(VideoOpenError, match="not a video file"):
        next(iter_frames(file))

    class Gone(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            raise ConnectionResetError("the camera went away")

    with pytest.raises(VideoOpenError, match="the camera went away"):
        next(iter_frames(Gone()))


@pytest.mark.skipif(sys.platform == "win32", reason="its pipes cannot be waited for")
@pytest.mark.parametrize("limit", ["timeout_s", "deadline_s"])
def test_a_pipe_from_which_nothing_more_comes_ends_at_the_limit(limit):
    out, into = os.pipe()
    os.write(into, clip("h264.ts")[:5000])
    started = time.monotonic()
    with open(out, "rb") as file, pytest.raises(VideoLimitError, match=f"{limit}=0.3"):  # noqa: PTH123
        list(iter_frames(file, limits=Limits(**{limit: 0.3})))
    os.close(into)
    assert time.monotonic() - started < 5


LONG = """
import resource, sys
from zoo.video import iter_frames
n = 0
for frame in iter_frames(sys.stdin.buffer, on_error="skip"):
    n += 1
    if n == 60:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_a_long_stream_takes_constant_memory():
    data = encode("h264", 60, size=(240, 320), options={"preset": "ultrafast", "bf": "0"})
    done = subprocess.run([sys.executable, "-c", LONG], input=data * 8, capture_output=True)
    assert done.returncode == 0, done.stderr
    n, growth = map(int, done.stdout.split())
    assert n > 400 and growth < 8000  # KiB; the frames after the 60th take 96_000


# --- devices ----------------------------------------------------------------------------------------------------------


def test_a_device_is_read_live_and_only_when_it_is_asked_for():
    device = open_device("testsrc=size=64x48:rate=10", format="lavfi")
    frames = iter_frames(device, stride=2, size=24)
    assert [next(frames).data.shape for _ in range(3)] == [(24, 32, 3)] * 3
    frames.close()
    with pytest.raises(VideoLimitError, match="max_frames"):
        list(iter_frames(device, limits=Limits(max_frames=30)))
    with pytest.raises(VideoOpenError, match="only iter_frames reads devices"):
        probe(device)
    with pytest.raises(VideoOpenError, match="no such file"):
        probe("testsrc=size=64x48:rate=10")
    with pytest.raises(VideoError) as raised:
        next(iter_frames(open_device("nothing=such", format="lavfi")))
    assert "nothing=such" in str(raised.value)
    with pytest.raises(VideoOpenError, match="no format"):
        open_device("camera", format="no_such_format")


# --- the network ------------------------------------------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hits: list[str]

    def do_GET(self) -> None:
        self.server.hits.append(self.path)
        self.path = self.path.partition("?")[0]
        data = clip("b_frames.mp4")
        target = {"/moved": "/a.mp4", "/file": "file:///etc/hostname", "/ftp": "ftp://127.0.0.1/a"}.get(self.path)
        self.send_response(302 if target else 404 if self.path == "/none" else 200)
        if target:
            self.send_header("Location", target)
        if self.path == "/endless":
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(0 if target else len(data)))
        self.end_headers()
        try:
            while self.path == "/endless":
                self.wfile.write(bytes(10_000))
                time.sleep(0.002)
            if self.path == "/slow":
                self.server.stop.wait(10)
            elif self.path == "/short":
                self.wfile.write(data[:100])
                self.close_connection = True
            elif not target:
                self.wfile.write(data)
        except OSError:
            self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads, httpd.hits, httpd.stop = True, [], threading.Event()
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", httpd.hits
        httpd.stop.set()
        httpd.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["/a.mp4", "/moved"])
def test_a_url_is_read_like_a_file_and_downloaded_once(server, path):
    base, hits = server
    url = Url(base + path + "?key=secret")
    assert repr(url) == f"Url('http://127.0.0.1{path}')"
    assert not hits
    assert probe(url).n_frames == 40
    assert (read_frames(url, [35]).data == read_frames(clip("b_frames.mp4"), [35]).data).all()
    assert sum(1 for _ in iter_frames(url)) == 40
    assert len(zoo.load_clips(zoo.Preprocessing(num_frames=4), url)) == 1
    assert len(hits) == (2 if path == "/moved" else 1)
    file = url.path()
    again = pickle.loads(pickle.dumps(url))
    assert again.url == url.url and again._file is None
    del url
    assert not file.exists()


@pytest.mark.parametrize(
    ("path", "options", "kind", "text"),
    [
        ("/none", {}, VideoOpenError, "the server says 404"),
        ("/file", {}, VideoOpenError, "(?i)redirect|not allowed"),
        ("/ftp", {}, VideoOpenError, "a redirect from http to ftp is not followed"),
        ("/a.mp4", {"max_bytes": 1000}, VideoLimitError, "more than max_bytes=1000"),
        ("/endless", {"max_bytes": 100_000}, VideoLimitError, "more than max_bytes=100000"),
        ("/endless", {"deadline_s": 0.1}, VideoLimitError, r"not downloaded after 0\.1 s"),
        ("/slow", {"timeout_s": 0.2}, VideoLimitError, r"no answer for 0\.2 s"),
        ("/short", {}, VideoOpenError, "cut short|IncompleteRead|damaged"),
    ],
)
def test_what_goes_wrong_with_a_url_is_a_video_error_in_time(server, path, options, kind, text, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    base, _ = server
    started = time.monotonic()
    with pytest.raises(kind, match=text) as raised:
        probe(Url(base + path + "?key=secret", **options))
    assert time.monotonic() - started < 5
    assert raised.value.hint and "secret" not in str(raised.value)
    raised.value.__traceback__ = None
    del raised
    import gc

    gc.collect()
    assert not list(tmp_path.iterdir()), "nothing stays behind"


def test_nobody_listening_is_a_video_error():
    with pytest.raises(VideoOpenError, match="refused"):
        probe(Url("http://127.0.0.1:9/a.mp4"))


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "/a.mp4", "", "ftp://a/b", "data:,a", "https://", "rtsp://a/b", None]
)
def test_a_url_is_http_or_https(url):
    with pytest.raises(VideoOpenError, match="not a web address"):
        Url(url)


def test_a_path_that_looks_like_a_url_is_still_a_path(server):
    base, hits = server
    for src in (base + "/a.mp4", pathlib.Path(base + "/a.mp4")):
        with pytest.raises(VideoOpenError, match=r"zoo\.video\.Url"):
            probe(src)
    assert not hits
