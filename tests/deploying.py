"""Exported and optimised models beside the network that they were made of."""

from __future__ import annotations

import pytest

import zoo

NAME = "r2plus1d_tiny.camera_motion"


def write_videos(folder):
    """Three files, each with another motion."""
    for seed, label in enumerate(("pan_left", "zoom_in", "static")):
        clip = zoo.synth.generate(label, seed=seed, duration_s=1.5, fps=12, size=(96, 128))
        zoo.video.write_video(folder / f"{label}.mp4", clip.frames, fps=12)
    return sorted(map(str, folder.iterdir()))


def write_onnx(model, videos, folder):
    """What `zoo.export` writes as ONNX."""
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library)
    zoo.export(model, "onnx", folder / "model", videos=videos)
    return folder / "model"


def same(made, model, videos, near=1e-4):
    """Predictions and embeddings as those of the network."""
    for video in videos:
        said, wanted = made.predict(video), model.predict(video)
        assert (said.model, said.weights, said.labels) == (wanted.model, wanted.weights, wanted.labels)
        assert (said.scores - wanted.scores).abs().max() <= near
        assert said.top[0].label == wanted.top[0].label
        features, whole = made.embed(video), model.embed(video)
        assert (features - whole).abs().max() <= near * whole.abs().max()
