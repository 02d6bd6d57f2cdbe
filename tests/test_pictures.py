"""Pictures of a prediction show what was run, from the video itself, and nothing that others wrote is markup."""

from __future__ import annotations

import io
import pickle
import re
import subprocess
import sys
from fractions import Fraction
from html.parser import HTMLParser

import av
import numpy as np
import pytest
from PIL import Image
from test_predict import Brightness

import zoo
from zoo.errors import SpecError, VideoError
from zoo.video import probe, read_frames, write_video

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def colour(k: int) -> tuple[int, int, int]:
    """Another one for each of 40 frames, far from each other and from those of the pictures' own design."""
    return 250 - 60 * (k % 4), 40 * (k // 4 % 4), 250 - 100 * (k // 16)


def shown(image: Image.Image) -> set[int]:
    """The frames of which there is a plain patch in a picture."""
    counts = image.getcolors(1 << 24)
    pixels = np.array([rgb for count, rgb in counts if count > 60], int)
    return {k for k in range(40) if len(pixels) and (np.abs(pixels - colour(k)).max(-1) <= 6).any()}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    frames = np.array([np.full((36, 48, 3), colour(k), np.uint8) for k in range(40)])
    path = tmp_path_factory.mktemp("clips") / "colours.mkv"
    write_video(path, frames, fps=10, codec="ffv1", pix_fmt="bgr0")  # lossless
    return path


@pytest.fixture
def model():
    model = Brightness().eval()
    model.preprocessing = zoo.Preprocessing(
        num_frames=4, stride=2, sampler="consecutive", resize=24, crop=16, clips=2, crops=1
    )
    model.labels = ("dark", "bright")
    return model


def with_sound(path, *, seconds=2, fps=25, size=(120, 160), first=0, format=None):
    """A video with AAC, and B-frames; its first frame is shown `first` frames late."""
    rate = 16_000
    with av.open(str(path), "w", format=format) as out:
        video = out.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "bf": "2", "g": "12"})
        video.height, video.width, video.pix_fmt = *size, "yuv420p"
        audio = out.add_stream("aac", rate=rate, layout="mono")
        y, x = np.mgrid[: size[0], : size[1]]
        for k in range(seconds * fps):
            picture = np.stack([(x * 3 + k) % 256, (y * 3 + k) % 256, (x + y) % 256], -1).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = k + first, Fraction(1, fps)
            out.mux(video.encode(frame))
            if k % fps == 0:  # a second of sound at a time
                wave = np.sin(np.arange(rate) / 20, dtype=np.float32)[None]
                sound = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
                sound.pts, sound.sample_rate, sound.time_base = k // fps * rate, rate, Fraction(1, rate)
                out.mux(audio.encode(sound))
        out.mux(video.encode(None))
        out.mux(audio.encode(None))


def packets(path, kind):
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [(p.pts * p.time_base, bytes(p)) for p in container.demux(stream) if p.size]


# --- the sheet --------------------------------------------------------------------------------------------------------


def test_the_sheet_shows_the_frames_that_the_network_was_given(model, path):
    clips = zoo.load_clips(model, path)
    prediction = zoo.predict(model, path)
    assert shown(prediction.contact_sheet()) == {i for view in clips.indices for i in view}
    (fast,) = zoo.load_clips(model, path, views="fast").indices
    assert shown(zoo.predict(model, path, views="fast").contact_sheet()) == set(fast)
    assert len(shown(prediction.contact_sheet(rows=1, columns=2))) == 2


def test_what_the_crop_leaves_out_is_dark_and_the_crop_outlined(model, path):
    from zoo.pictures.seen import look_again
    from zoo.pictures.sheet import cropped

    seen = look_again(zoo.predict(model, path))
    assert seen.crops == [((32 - 16) / 2 / 32, 4 / 24, 24 / 32, 20 / 24)], "as load_clips has it, in parts"
    assert zoo.load_clips(model, path).crops[0] == (4, 8, 16, 16)
    look = seen.rows[0].looks[0]
    pixels = np.asarray(cropped(look.picture, seen.crops)).astype(int)
    height, width = pixels.shape[:2]
    assert tuple(pixels[height // 2, width // 2]) == colour(look.index)
    assert pixels[4, 4].sum() < sum(colour(look.index)) * 0.6
    assert tuple(pixels[height // 2, width // 4 + 1]) == (0xF0, 0xA8, 0x30)


def test_windows_have_a_row_each_and_a_prediction_stays_light(model, path):
    prediction = zoo.predict(model, path, window=1.0)
    again = pickle.loads(pickle.dumps(prediction))
    assert len(pickle.dumps(prediction)) < 10_000
    sheet = prediction.contact_sheet()
    assert sheet.tobytes() == again.contact_sheet().tobytes()
    assert any(k >= 30 for k in shown(sheet)) and any(k < 10 for k in shown(sheet))
    assert prediction._repr_png_().startswith(b"\x89PNG")


def test_pictures_of_what_is_no_file_want_it_again(model, path):
    frames = read_frames(path, range(40)).data
    prediction = zoo.predict(model, frames, fps=10)
    with pytest.raises(VideoError, match="video=") as caught:
        prediction.contact_sheet()
    assert caught.value.reason == "not kept"
    assert shown(prediction.contact_sheet(video=frames)) == shown(zoo.predict(model, path).contact_sheet())
    assert prediction._repr_png_() is None
    assert "Frames are not shown" in prediction._repr_html_()
    with pytest.raises(VideoError, match="39 frames, and 40 when"):
        prediction.contact_sheet(video=frames[:39])


def test_what_cannot_be_drawn_says_why(model, path, tmp_path):
    prediction = zoo.predict(model, path)
    with pytest.raises(SpecError, match="window="):
        prediction.timeline()
    with pytest.raises(SpecError, match=r"\.html"):
        prediction.save(tmp_path / "report.pdf")
    with pytest.raises(SpecError, match="rows=0"):
        prediction.contact_sheet(rows=0)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    (failed,) = zoo.predict(model, [tmp_path / "bad.mp4"])
    with pytest.raises(SpecError, match="nothing to draw"):
        failed.contact_sheet()
    with pytest.raises(SpecError, match="what was run"):
        zoo.Prediction(video="x", model="m", weights=None).overlay(tmp_path / "out.mp4")
    copy = tmp_path / "copy.mkv"
    copy.write_bytes(path.read_bytes())
    prediction = zoo.predict(model, copy)
    with pytest.raises(VideoError, match="the video itself"):
        prediction.overlay(copy)
    copy.unlink()
    with pytest.raises(VideoError, match="no such file"):
        prediction.contact_sheet()


def test_a_file_from_strangers_is_never_decoded_in_this_process(model, path, tmp_path, monkeypatch):
    prediction = zoo.predict(model, path, isolate=True, window=1.0)
    looked = zoo.attribute(model, path, isolate=True)
    monkeypatch.setattr("zoo.video.source.av.open", lambda *args, **options: 1 / 0)
    prediction.save(tmp_path / "report.html")
    assert shown(prediction.contact_sheet()) and looked.sheet()
    for made in (prediction, looked):
        with pytest.raises(SpecError, match="without isolate"):
            made.overlay(tmp_path / "out.mp4")


# --- the time line ----------------------------------------------------------------------------------------------------


def test_the_time_line_has_each_segment_where_it_is(model, tmp_path):
    from zoo.pictures.curves import curves_of
    from zoo.pictures.timeline import HEAD, MARGIN, SIDE, STRIP

    level = np.repeat([20, 230, 20], [20, 10, 10])[:, None, None, None]
    frames = np.broadcast_to(level, (40, 36, 48, 3)).astype(np.uint8)
    model.preprocessing = zoo.Preprocessing(num_frames=4, sampler="consecutive", resize=24, mean=(0.5,) * 3)
    prediction = zoo.predict(model, frames, fps=10, window=0.5)
    found = curves_of(prediction)
    pixels = np.asarray(prediction.timeline(width=1000))
    left, across = MARGIN + SIDE, 1000 - 2 * MARGIN - SIDE
    for segment in prediction.segments:
        at = left + round((segment.start_s + 0.05 * (segment.end_s - segment.start_s)) / 4 * across)
        assert "#" + bytes(pixels[HEAD + STRIP // 2, at].tolist()).hex() == found.colors[segment.label]
    assert [curve.label for curve in found.curves] == ["dark", "bright"]
    assert max(v for _, v in found.curves[1].points) == pytest.approx(float(max(w[2][1] for w in prediction.windows)))
    long = [(float(i), i + 1.0, prediction.scores) for i in range(50_000)]
    many = zoo.Prediction(**{**vars(prediction), "windows": long, "duration_s": 50_000.0})
    assert len(curves_of(many, points=500).curves[0].points) <= 502


# --- the overlay ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "late"), [("mp4", 0), ("mov", 7), ("mkv", 0)])
def test_an_overlay_keeps_frames_times_and_sound(model, tmp_path, suffix, late):
    source, made = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    with_sound(source, first=late)
    zoo.predict(model, source, window=0.5).overlay(made)
    before, after = probe(source), probe(made)
    assert after.n_frames == before.n_frames == 50
    assert list(after.time_s) == list(before.time_s)
    assert after.duration_s == pytest.approx(before.duration_s, abs=0.001)
    assert sorted(t for t, _ in packets(made, "video")) == sorted(t for t, _ in packets(source, "video"))
    assert packets(made, "audio") == packets(source, "audio")
    a, b = (read_frames(p, [20]).data[0].astype(int) for p in (source, made))
    assert np.abs(a - b)[:40].mean() < 6, "above the labels nothing is drawn"
    assert np.abs(a - b)[-40:-20, 10:60].mean() > 20


def test_an_overlay_of_frames_or_bytes_or_odd_sizes(model, path, tmp_path):
    frames = read_frames(path, range(40)).data[:, :35, :47]
    before = frames.copy()
    zoo.predict(model, frames, fps=10).overlay(tmp_path / "a.mp4", video=frames)
    assert (frames == before).all(), "the user's frames are the user's"
    assert probe(tmp_path / "a.mp4").n_frames == 40
    out = io.BytesIO()
    zoo.predict(model, path.read_bytes()).overlay(out, video=path.read_bytes())
    assert probe(out.getvalue()).time_s == probe(path).time_s


def test_sound_that_a_container_cannot_hold_is_one_error_and_no_file(model, tmp_path):
    source = tmp_path / "in.mp4"
    with_sound(source, seconds=1)
    with pytest.raises(VideoError, match=r"\.mkv"):
        zoo.predict(model, source).overlay(tmp_path / "out.webm")
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


PREDICT = """
import pickle, sys, zoo
prediction = zoo.predict("r2plus1d_tiny", sys.argv[1], window=5.0, views="fast")
pickle.dump(prediction, open(sys.argv[2], "wb"))
print(len(prediction.windows))
"""
DRAW = """
import pickle, resource, sys
pickle.load(open(sys.argv[1], "rb")).overlay(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def in_child(code, *paths):
    done = subprocess.run([sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
def test_ten_minutes_take_no_more_memory_than_twenty_seconds(tmp_path):
    """Predicted and drawn: every frame at its time and with its picture, and the packets of the sound as they were."""
    made, peaks = tmp_path / "out.mp4", {}
    for seconds in (20, 600):
        source = tmp_path / f"{seconds}.mp4"
        with_sound(source, seconds=seconds, size=(240, 320))
        assert in_child(PREDICT, source, tmp_path / "prediction") == seconds // 5
        peaks[seconds] = in_child(DRAW, tmp_path / "prediction", made)
        before, after = probe(source), probe(made)
        assert list(after.time_s) == list(before.time_s) and len(before.time_s) == seconds * 25
        assert packets(made, "audio") == packets(source, "audio")
        some = range(0, seconds * 25, seconds)
        pictures = zip(*(read_frames(path, some).data[:, :120].astype(int) for path in (source, made)), strict=True)
        assert max(np.abs(a - b).mean() for a, b in pictures) < 6, "above the labels nothing is drawn"
    assert peaks[600] - peaks[20] < 40 * 240 * 320 * 3, "of 15,000 frames, a few of 230 kB each"


# --- the report -------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Which elements and attributes a browser finds, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.words = set(), [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def hostile(model, path, tmp_path):
    """A video, labels and a model whose names want to be markup."""
    video = tmp_path / f"{EVIL.replace('/', '_')}.mkv"
    video.write_bytes(path.read_bytes())
    model.labels = (EVIL, f"</style>{EVIL}")
    with zoo.testing.isolated():
        zoo.register(
            zoo.ModelSpec(
                name="evil",
                builder="zoo_nowhere:build",
                description=EVIL,
                family=EVIL,
                license=EVIL,
                paper=f"javascript:{EVIL}",
            )
        )
        model.spec = zoo.info("local/evil")
        yield zoo.predict(model, video, window=1.0)


def test_a_report_needs_nothing_and_what_others_wrote_stays_text(hostile, tmp_path):
    target = tmp_path / "report.html"
    hostile.save(target)
    for html in (target.read_text("utf-8"), hostile._repr_html_()):
        page = Page(html)
        assert not page.tags & {"script", "link", "iframe", "object", "embed", "form", "base"}
        assert not any(name.startswith("on") for name, _ in page.attributes)
        addresses = [value for name, value in page.attributes if name in ("src", "href", "action", "xlink:href")]
        assert addresses and all(value.startswith("data:image/jpeg;base64,") for value in addresses)
        assert "<script>alert(1)</script>" in "".join(page.words), "it is there, as text"
        assert "url(" not in html and "@import" not in html
    assert "default-src 'none'" in target.read_text()
    assert str(tmp_path) not in target.read_text(), "where it lies is nobody's business"
    assert [p for p in tmp_path.iterdir() if p.suffix == ".part"] == []


def test_a_report_says_what_was_run_and_what_is_known(tmp_path):
    clip = zoo.synth.generate("pan_left", seed=7, duration_s=2.0, fps=25, size=(48, 64))
    write_video(tmp_path / "my_video.mp4", clip.frames, fps=25)
    prediction = zoo.predict("r2plus1d_tiny", tmp_path / "my_video.mp4", window=1.0, views="fast")
    prediction.save(tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    said = re.sub(r"\s+", " ", " ".join(Page(html).words))
    protocol = prediction.executed.protocol
    assert "2 of 1 s" in said
    assert f"{protocol.num_frames} in a clip" in said
    assert "one clip in the middle, one crop, instead of the published" in said
    assert "435,513" in said and "GFLOPs" in said and "sha256" in said
    assert all(label in said for label, _ in prediction.top)
    assert "prefers-color-scheme: dark" in html
    pictures = re.findall(r"data:image/jpeg;base64,([\w+/=]+)", html)
    assert len(pictures) == 2 * min(protocol.num_frames, 8)
