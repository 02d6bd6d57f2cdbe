"""Opening one thing opens nothing else: no string and no playlist reaches the network or another file."""

from __future__ import annotations

import io
import pathlib
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from video_clips import clip

from zoo.errors import VideoError, VideoOpenError
from zoo.video import Limits, probe, read_frames, source

DATA = clip("b_frames.mp4")


@pytest.fixture
def server():
    """A web server that counts who comes by."""
    hits = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(DATA)

        def log_message(self, *args: object) -> None:
            pass

    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}/a.mp4", hits
    httpd.shutdown()
    thread.join()
    httpd.server_close()


PLAYLISTS = {
    "hls.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n",
    "concat.ffconcat": "ffconcat version 1.0\nfile '{url}'\n",
    "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "dash.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="1" bandwidth="1"><BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>',
}


@pytest.mark.parametrize("way", ["{}", "concat:{}", "subfile,,start,0,end,0,,:{}", "async:{}", "cache:{}", "file:{}"])
def test_no_string_reaches_the_network(server, way):
    url, hits = server
    for src in (way.format(url), pathlib.Path(way.format(url))):
        with pytest.raises(VideoOpenError):
            probe(src)
    assert not hits


@pytest.mark.parametrize("name", PLAYLISTS)
@pytest.mark.parametrize("target", ["url", "local"])
def test_a_playlist_opens_neither_the_network_nor_another_file(server, tmp_path, monkeypatch, name, target):
    url, hits = server
    monkeypatch.chdir(tmp_path)
    pathlib.Path("private.mp4").write_bytes(DATA)
    path = tmp_path / name
    path.write_text(PLAYLISTS[name].format(url=url if target == "url" else "private.mp4"))
    started = time.monotonic()
    for disguise in (path, path.read_bytes(), io.BytesIO(path.read_bytes()), path.rename(tmp_path / "holiday.mp4")):
        with pytest.raises(VideoOpenError):
            read_frames(disguise, [0])
    assert not hits and time.monotonic() - started < 5


ARMED = {
    "hls.m3u8": ("url", {"protocol_whitelist": "file,http,tcp"}),
    "concat.ffconcat": ("local", {}),
    "session.sdp": ("local", {"protocol_whitelist": "file,udp,rtp"}),
}


@pytest.mark.parametrize("name", ARMED)
def test_these_playlists_do_open_what_they_name_where_nothing_forbids_it(server, tmp_path, monkeypatch, name):
    url, hits = server
    target, options = ARMED[name]
    monkeypatch.chdir(tmp_path)
    pathlib.Path("private.mp4").write_bytes(DATA)
    pathlib.Path(name).write_text(PLAYLISTS[name].format(url=url if target == "url" else "private.mp4"))
    monkeypatch.setattr(source, "OPTIONS", options)
    if name == "session.sdp":  # it waits for somebody to send to a port of this machine
        with pytest.raises(VideoError, match="took too long"):
            probe(name, limits=Limits(timeout_s=0.2))
    else:
        assert (read_frames(name, [3]).data == read_frames(DATA, [3]).data).all()
    assert len(hits) == (target == "url")
