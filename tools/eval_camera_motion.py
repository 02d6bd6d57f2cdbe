"""Measure camera-motion weights as they are used: video files in, all views of the protocol, labels out.

    python tools/camera_motion_clips.py /tmp/clips --videos ../shared/videos
    python tools/eval_camera_motion.py /tmp/clips

Three kinds of clips that nothing was trained on: `generated` ones of unseen seeds, real stills `moved` by a virtual
camera, and real clips whose camera is `fixed`. What such clips got wrong was a reason to train with
`synth:fixed_camera`; the things that pass in the clips measured here were given other outlines and ways after that.
Beside each stands what the network says when every frame is the middle one, which is chance when motion is what
decides. And clips of two motions, at once or in turn, of which nobody can be more than half sure. With `--optimised`
(extra `onnx`) the same models made faster follow, each with its speed in turns with the original. The results are kept
in tools/camera_motion.json, which the figures of the cards come from, and with all confusions in
tools/camera_motion.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

import zoo
from zoo.evaluate.calibration import best_temperature
from zoo.speed.bench import processor
from zoo.synth import LABELS
from zoo.video.clips import protocol_of

RESULTS = Path(__file__).with_name("camera_motion.json")
COMMAND = "python tools/eval_camera_motion.py CLIPS"
BARS = {"generated": 99.0, "moved": 97.0, "fixed": 90.0}  # percent of the clips
WORST_CLASS, WORST_ECE = 93.0, 0.05
MOST_SURE = 0.7  # mean score of the answer to clips of two motions
# What zoo train calibrates on by tools/camera_motion.toml.
CALIBRATION = "synth:camera_motion:270+mixed_motion:30"
ROUNDS = 20
WAYS = {"compile": "compiled", "int8": "in int8"}  # of zoo.optimize
WORST_LOSS = 0.5  # of accuracy by such a way, in percent of the clips
ABOUT = {
    "generated": "generated clips of unseen seeds",
    "moved": "clips of a virtual camera over real stills",
    "fixed": "clips of a fixed camera: footage, charts, stills before which a thing passes",
    "mixed": "generated clips of two motions, mean score of the answer",
}


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
    """The figures on one kind of clips; with one frame, on the centre view."""
    found = zoo.evaluate(model, data, workers=1, out=out)
    hook = model.register_forward_pre_hook(one_frame)
    try:
        still = zoo.evaluate(model, data, views="fast", workers=1)
    finally:
        hook.remove()
    if found.unreadable or found.calibration is None:
        raise SystemExit(f"not all clips can be read: {found.unreadable}")
    return {
        "videos": len(found.samples),
        "top1": round(found.accuracy(), 2),
        "worst_class_top1": round(min(row["top1"] for row in found.per_class.values()), 2),
        "one_frame_top1": round(still.accuracy(), 2),
        "ece": round(found.calibration["ece"], 4),
        "confusion": found.confusion,
    }


def sure_of_two(model: zoo.VideoModel, count: int, out: Path | None) -> dict[str, Any]:
    """How sure the model is where nobody can be more than half sure."""
    found = zoo.evaluate(model, f"synth:mixed_motion:{count}", workers=1, out=out)
    best = [float(outcome.scores.max()) for outcome in found.scores.scored if outcome.scores is not None]
    return {"videos": len(best), "confidence": round(sum(best) / len(best), 4)}


@torch.inference_mode()
def cpu_ms(model: zoo.VideoModel) -> float:
    """Processor time of one clip in the network, in milliseconds: the median of some, on one thread."""
    protocol = protocol_of(model)
    clip = torch.randn(1, 3, protocol.num_frames, *protocol.resize)
    spent = []
    for _ in range(ROUNDS + 3):
        before = time.process_time()
        model(clip)
        spent.append(time.process_time() - before)
    return round(sorted(spent[3:])[ROUNDS // 2] * 1e3, 1)


@torch.inference_mode()
def speeds(model: zoo.VideoModel, others: dict[str, zoo.VideoModel]) -> dict[str, float]:
    """How many times as fast others are, by processor time on one thread: medians over rounds in which all take turns.

    "control" is the model itself once more.
    """
    protocol = protocol_of(model)
    clip = torch.randn(1, 3, protocol.num_frames, *protocol.resize)
    contestants = {"": model, "control": model, **others}
    spent: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(ROUNDS + 3):
        for name in list(contestants)[:: -1 if turn % 2 else 1]:
            before = time.process_time()
            contestants[name](clip)
            spent[name].append(time.process_time() - before)
    ratios = {
        name: [a / b for a, b in zip(spent[""][3:], spent[name][3:], strict=True)] for name in contestants if name
    }
    return {name: round(statistics.median(found), 2) for name, found in ratios.items()}


def optimised(model: zoo.VideoModel, data: dict[str, str], before: dict[str, Any]) -> dict[str, Any]:
    """What is lost and gained in every way that can be had. before: the figures of the model as it is."""
    made: dict[str, zoo.VideoModel] = {}
    for way in WAYS:
        try:
            made[way] = zoo.optimize(model, way)
        except zoo.errors.DeploymentError as error:
            print(error, flush=True)
    if not made:
        return {}
    gained = speeds(model, made)
    rows: dict[str, Any] = {"control": gained["control"]}
    for way, other in made.items():
        found = {kind: round(zoo.evaluate(other, where, workers=1).accuracy(), 2) for kind, where in data.items()}
        lost = max(before[kind]["top1"] - top1 for kind, top1 in found.items())
        rows[way] = {"top1": found, "lost": round(lost, 2), "speedup": gained[way]}
    return rows


def temperature(model: zoo.VideoModel) -> float:
    """The one at which the labels of generated clips, other ones than are measured on, are likeliest."""
    protocol = replace(protocol_of(model), temperature=1.0)
    return best_temperature(zoo.evaluate(model, CALIBRATION, workers=1).scores, protocol) or 1.0


def figures(result: dict[str, Any]) -> list[zoo.Metric]:
    """As the card has them."""
    figure = partial(zoo.Metric, origin="measured", by=COMMAND)
    faster = partial(zoo.Metric, origin="measured", by=f"{COMMAND} --optimised")
    alone = {"level": "clip", "views": "1"}
    rows: list[zoo.Metric] = []
    for kind, row in in_order(result["clips"]):
        about = f"{row['videos']} {ABOUT[kind]}"
        rows += [
            figure(name="top1", value=row["top1"], dataset=about),
            figure(name="ece", value=row["ece"], dataset=about),
        ]
        if kind != "fixed":  # of one class, and of one that shows in one frame
            worst, still = f"{about}, of its worst class", f"{about}, every frame the middle one"
            rows += [
                figure(name="top1", value=row["worst_class_top1"], dataset=worst),
                figure(name="one_frame_top1", value=row["one_frame_top1"], dataset=still, views="fast"),
            ]
    if mixed := result.get("mixed"):
        about = f"{mixed['videos']} {ABOUT['mixed']}"
        rows.append(figure(name="confidence", value=mixed["confidence"], dataset=about))
    rows.append(
        figure(name="cpu_ms", value=result["cpu_ms"], dataset=f"one clip in the network, {result['on']}", **alone)
    )
    for way, how in WAYS.items():
        if row := result.get("optimised", {}).get(way):
            for kind, top1 in in_order(row["top1"]):
                about = f"{result['clips'][kind]['videos']} {ABOUT[kind]}, {how}"
                rows.append(faster(name="top1", value=top1, dataset=about))
            beside = f"one clip, {how}, beside the network as it is, {result['on']}"
            rows.append(faster(name="speedup", value=row["speedup"], dataset=beside, **alone))
    return rows


def in_order(by_kind: dict[str, Any]) -> list[tuple[str, Any]]:
    """Items by kind, the one that says most first."""
    return [(kind, by_kind[kind]) for kind in ABOUT if kind in by_kind]


def missed(kind: str, row: dict[str, Any]) -> list[str]:
    """Bars that are not reached."""
    bars = {"top1": row["top1"] >= BARS[kind], "ece": row["ece"] <= WORST_ECE}
    if kind != "fixed":
        bars["the worst class"] = row["worst_class_top1"] >= WORST_CLASS
    return [name for name, reached in bars.items() if not reached]


def table(confusion: dict[str, dict[str, int]]) -> str:
    """Who is taken for whom, as Markdown."""
    lines = ["| true, named | " + " | ".join(LABELS) + " |", "| --- |" + " ---: |" * len(LABELS)]
    for label in (label for label in LABELS if label in confusion):
        counts = (str(confusion[label].get(said, ".")) for said in LABELS)
        lines.append(f"| {label} | " + " | ".join(counts) + " |")
    return "\n".join(lines)


def report(name: str, result: dict[str, Any]) -> str:
    """All of a model's figures, as Markdown."""
    lines = [f"## {name}", "", f"{result['cpu_ms']} ms of processor time for one clip, {result['on']}."]
    if mixed := result.get("mixed"):
        short = "" if mixed["confidence"] <= MOST_SURE else " Short of the bar."
        lines += ["", f"{mixed['confidence']} over {mixed['videos']} {ABOUT['mixed']}; half would be right.{short}"]
    for kind, row in in_order(result["clips"]):
        said = f"Worst class {row['worst_class_top1']} %; expected calibration error {row['ece']}; every frame the "
        said += f"middle one {row['one_frame_top1']} %."
        if short := missed(kind, row):
            said += f" Short of the bar: {', '.join(short)}."
        lines += ["", f"### {row['top1']} % of {row['videos']} {ABOUT[kind]}", "", said, "", table(row["confusion"])]
    for way, how in WAYS.items():
        if row := result.get("optimised", {}).get(way):
            said = ", ".join(f"{top1} % of {ABOUT[kind]}" for kind, top1 in in_order(row["top1"]))
            short = f" Short of the bar: {row['lost']} % are lost." if row["lost"] > WORST_LOSS else ""
            lines += ["", f"### {row['speedup']} times as fast {how}", "", f"{said}.{short}"]
            lines.append(f"The network beside itself is {result['optimised']['control']} times as fast.")
    return "\n".join(lines) + "\n"


def page(results: dict[str, Any]) -> str:
    """tools/camera_motion.md."""
    reports = (report(name, result) for name, result in sorted(results.items()))
    return "\n".join([f"# Camera motion, measured by `{COMMAND}`\n", *reports])


def stored() -> dict[str, Any]:
    """What was kept, by model."""
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    return found


def keep(name: str, result: dict[str, Any]) -> None:
    """In place of what was known of this model; how it does when optimised stays known where it is the same one."""
    results = stored()
    before = results.get(name, {})
    if "optimised" in before and all(before.get(key) == result[key] for key in ("sha256", "temperature", "on")):
        result = {"optimised": before["optimised"]} | result
    results[name] = result
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    RESULTS.with_suffix(".md").write_text(page(results))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder that tools/camera_motion_clips.py has written")
    parser.add_argument("--model", action="append", help="a name or local-dir:PATH; all of the zoo's if not given")
    parser.add_argument("--generated", type=int, default=450, help="how many generated clips")
    parser.add_argument("--only", choices=tuple(BARS), action="append", help="kinds of clips; nothing is kept then")
    parser.add_argument("--temperature", action="store_true", help="say which one calibrates each model, and use it")
    parser.add_argument("--optimised", action="store_true", help="also what zoo.optimize loses and gains")
    parser.add_argument("--out", type=Path, help="folder for each evaluation")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.model or zoo.list_models("*.camera_motion"):
        model = zoo.create(name)
        if args.temperature:
            model.preprocessing = replace(protocol_of(model), temperature=temperature(model))
            print(f"{name}: temperature {model.preprocessing.temperature}", flush=True)
        weights = {"sha256": model.weights and model.weights.sha256, "temperature": protocol_of(model).temperature}
        place = (args.out or Path()) / name.rpartition("/")[2]
        on = f"on one thread of {processor()} with torch {torch.__version__.partition('+')[0]}"
        result: dict[str, Any] = {**weights, "on": on, "cpu_ms": cpu_ms(model), "clips": {}}
        for kind, data in kinds(args.clips, args.generated).items():
            if not args.only or kind in args.only:
                result["clips"][kind] = measured(model, data, args.out and place / kind)
        if not args.only:
            result["mixed"] = sure_of_two(model, args.generated, args.out and place / "mixed")
        if args.optimised and not args.only:
            result["optimised"] = optimised(model, kinds(args.clips, args.generated), result["clips"])
        print(report(name, result), flush=True)
        if not args.only and ":" not in name:
            keep(name, result)


if __name__ == "__main__":
    main()
