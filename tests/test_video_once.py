"""Views and windows of one video decode each frame that they need once, and let it go after its last use."""

from __future__ import annotations

import weakref

import pytest
from video_clips import clip

import zoo
from zoo.video import picture
from zoo.video.clips import iter_views
from zoo.video.footage import open_footage


@pytest.fixture
def made(monkeypatch):
    """(number, what gives the picture while somebody has it) of each frame that was converted and resized."""
    done = []
    apply = picture.Resize.apply

    def resize(self, pixels, target, index, name):
        result = apply(self, pixels, target, index, name)
        done.append((index, weakref.ref(result)))
        return result

    monkeypatch.setattr(picture.Resize, "apply", resize)
    return done


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(clip("open_gops.mp4"))
    return path


def test_overlapping_views_share_their_frames(made, path):
    protocol = zoo.Preprocessing(num_frames=16, stride=2, sampler="consecutive", resize=48, crop=48, clips=5, crops=3)
    clips = zoo.load_clips(protocol, path)
    assert len(clips) == 15 and sum(map(len, clips.indices)) == 15 * 16
    assert [index for index, _ in made] == sorted({i for indices in clips.indices for i in indices})


def test_overlapping_windows_share_their_frames_and_drop_them(made, path):
    protocol = zoo.Preprocessing(num_frames=12, sampler="uniform", resize=48, crop=48)
    windows = [(k / 10, k / 10 + 0.5) for k in range(27)]
    used, alive = set(), []
    for views in iter_views(protocol, open_footage(path), windows=windows):
        used |= {i for indices, _ in views.views for i in indices}
        alive.append(sum(get() is not None for _, get in made))
    assert [index for index, _ in made] == sorted(used) and len(used) > 70
    assert max(alive) < 30
