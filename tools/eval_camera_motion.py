"""Measure camera-motion weights as they are used: video files in, all views of the protocol, labels out.

    python tools/camera_motion_clips.py /tmp/clips --videos ../shared/videos
    python tools/eval_camera_motion.py /tmp/clips

Three kinds of clips that nothing was trained or tuned on: `generated` ones of unseen seeds, real stills `moved` by a
virtual camera, and footage whose camera is `fixed`. Beside each stands what the network says when every frame is the
same one, which is near chance when motion is what decides. Figures of a card come from here.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import zoo
from zoo.evaluate.calibration import best_temperature
from zoo.synth import LABELS
from zoo.video.clips import protocol_of

MODELS = ("r2plus1d_tiny", "convgru_tiny", "videomae_tiny", "tsm_tiny")
BARS = {"generated": 99.0, "moved": 97.0, "fixed": 90.0}  # percent of the clips
WORST_CLASS, WORST_ECE = 93.0, 0.05
CALIBRATION = "synth:camera_motion:270"  # what zoo train calibrates on by tools/camera_motion.toml
ROUNDS = 20


def kinds(clips: Path, generated: int) -> dict[str, str]:
    """Name -> what zoo.evaluate reads."""
    return {
        "generated": f"synth:camera_motion:{generated}",
        "moved": str(clips / "moved.csv"),
        "fixed": str(clips / "fixed.csv"),
    }


def one_frame(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
    """A clip whose frames are all the middle one."""
    clip = inputs[0]
    return (clip[:, :, clip.shape[2] // 2, None].expand_as(clip).contiguous(),)


def measured(model: zoo.VideoModel, data: str, out: Path | None) -> dict[str, Any]:
    """The figures on one kind of clips."""
    found = zoo.evaluate(model, data, workers=1, out=out)
    hook = model.register_forward_pre_hook(one_frame)
    try:
        still = zoo.evaluate(model, data, views="fast", workers=1)
    finally:
        hook.remove()
    if found.unreadable:
        raise SystemExit(f"not all clips can be read: {found.unreadable}")
    return {
        "videos": len(found.samples),
        "top1": round(found.accuracy(), 2),
        "worst_class_top1": round(min(row["top1"] for row in found.per_class.values()), 2),
        "one_frame_top1": round(still.accuracy(), 2),
        "ece": round(found.calibration["ece"], 4) if found.calibration else None,
        "per_class": {label: round(row["top1"], 2) for label, row in found.per_class.items()},
        "confusion": found.confusion,
    }


@torch.inference_mode()
def cpu_ms(model: zoo.VideoModel) -> float:
    """Processor time of one clip in the network, in milliseconds: the median of some, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    protocol = model.preprocessing
    clip = torch.randn(1, 3, protocol.num_frames, *protocol.resize)
    spent = []
    for _ in range(ROUNDS + 3):
        before = time.process_time()
        model(clip)
        spent.append(time.process_time() - before)
    torch.set_num_threads(threads)
    return round(sorted(spent[3:])[ROUNDS // 2] * 1e3, 1)


def temperature(model: zoo.VideoModel) -> float:
    """The one at which the labels of generated clips, other ones than are measured on, are likeliest."""
    found = zoo.evaluate(model, CALIBRATION, workers=1)
    return best_temperature(found.scores, protocol_of(model))


def table(confusion: dict[str, dict[str, int]]) -> str:
    """Who is taken for whom, as Markdown."""
    lines = ["| true, named | " + " | ".join(LABELS) + " |", "| --- |" + " ---: |" * len(LABELS)]
    for label in (label for label in LABELS if label in confusion):
        counts = (str(confusion[label].get(said, ".")) for said in LABELS)
        lines.append(f"| {label} | " + " | ".join(counts) + " |")
    return "\n".join(lines)


def missed(kind: str, row: dict[str, Any]) -> list[str]:
    """Bars that are not reached."""
    bars = [("top1", row["top1"] >= BARS[kind]), ("worst_class_top1", row["worst_class_top1"] >= WORST_CLASS)]
    bars.append(("ece", row["ece"] <= WORST_ECE))
    if kind == "fixed":  # of one class
        bars = bars[:1]
    return [name for name, reached in bars if not reached]


def report(name: str, result: dict[str, Any]) -> str:
    """All of a model's figures, as Markdown."""
    lines = [f"## {name}", "", f"{result['cpu_ms']} ms of processor time for one clip."]
    for kind, row in result["clips"].items():
        short = missed(kind, row)
        lines += ["", f"### {kind}: {row['top1']} % of {row['videos']} videos", ""]
        lines.append(f"Worst class {row['worst_class_top1']} %, expected calibration error {row['ece']}, every frame")
        lines.append(
            f"the same one {row['one_frame_top1']} %." + (f" Short of the bar: {', '.join(short)}." * bool(short))
        )
        lines += ["", table(row["confusion"])]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder that tools/camera_motion_clips.py has written")
    parser.add_argument("--model", action="append", help="a name or local-dir:PATH; all families if not given")
    parser.add_argument("--generated", type=int, default=450, help="how many generated clips")
    parser.add_argument("--only", choices=tuple(BARS), action="append", help="kinds of clips; all if not given")
    parser.add_argument("--temperature", action="store_true", help="say which one calibrates each model, and use it")
    parser.add_argument("--out", type=Path, help="folder for the report, the figures and each evaluation")
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = args.model or [f"{name}.camera_motion" for name in MODELS]
    results: dict[str, Any] = {}
    for name in names:
        model = zoo.create(name)
        if args.temperature:
            model.preprocessing = replace(protocol_of(model), temperature=temperature(model))
            print(f"{name}: temperature {model.preprocessing.temperature}", flush=True)
        row: dict[str, Any] = {"cpu_ms": cpu_ms(model), "clips": {}}
        for kind, data in kinds(args.clips, args.generated).items():
            if args.only and kind not in args.only:
                continue
            out = args.out / name.rpartition("/")[2] / kind if args.out else None
            row["clips"][kind] = measured(model, data, out)
        results[name] = row
        print(report(name, row), flush=True)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "camera_motion.json").write_text(json.dumps(results, indent=1) + "\n")
        (args.out / "camera_motion.md").write_text("\n".join(report(name, row) for name, row in results.items()))


if __name__ == "__main__":
    main()
