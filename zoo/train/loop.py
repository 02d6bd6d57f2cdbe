"""The training itself: step after step, each a function of the state before it, of the settings and of its number."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.contract import VideoModel
from zoo.data import digest_of
from zoo.errors import SpecError, TrainingError
from zoo.evaluate.calibration import best_temperature
from zoo.evaluate.evaluation import Evaluation
from zoo.evaluate.running import setting_of
from zoo.evaluate.scoring import Scores, score
from zoo.processes import World, decoded, processes
from zoo.spec import Metric
from zoo.train.augment import input_size, recipe_of
from zoo.train.clips import Batch, Clips, loader
from zoo.train.curves import draw_curves
from zoo.train.folder import CURVES, SETTINGS, prepare
from zoo.train.log import Log, Row, progress
from zoo.train.material import Material, material_of, write_val
from zoo.train.mix import mix, targets_of
from zoo.train.network import network_of, order_of
from zoo.train.optimise import INNERMOST, Average, channels_innermost, freeze, optimizer_of, rate, set_rate, to_training
from zoo.train.parallel import gathered, part, share_statistics, spread, whole
from zoo.train.result import FOLDER, start_of, write_result
from zoo.train.sampler import Course, Share, key
from zoo.train.settings import EXACT, Settings
from zoo.train.state import Checkpoints
from zoo.train.stopping import Stop, stoppable
from zoo.video.clips import ViewsOption, protocol_of

PRECISION = {"bf16": torch.bfloat16, "fp16": torch.float16}
Tell = Callable[[str], object]


@dataclass(frozen=True)
class Trained:
    """What a training has come to.

    out: its folder. model: the folder of the result, for `zoo.create(f"local-dir:{model}")`; None if it was stopped.
    step, steps: how many were made, of how many. metrics: measured on the validation videos at the end, by all views.
    stopped: the number of the signal that stopped it, or 0; the same call goes on. log: the rows of log.csv.
    """

    out: Path
    model: Path | None
    step: int
    steps: int
    metrics: dict[str, float] = field(default_factory=dict)
    stopped: int = 0
    log: list[Row] = field(default_factory=list, repr=False)


def run(settings: Settings, tell: Tell) -> Trained:
    """See `zoo.train`."""
    with processes(settings.device, group=settings.parallel == "fsdp") as world, _torch(settings):
        said: Tell = tell if world.first else lambda text: None
        _check_shares(settings, world)
        checkpoints = Checkpoints(Path(settings.out), world, settings.keep)
        world.by_first(lambda: prepare(settings, goes_on=checkpoints.newest() is not None))
        said(f"settings:\n{settings.to_toml()}")
        material: Material = world.by_first(lambda: material_of(settings, said))
        material = dataclasses.replace(material, labels=order_of(material.labels, settings))
        with stoppable() as stop:
            return _Training(settings, material, world, checkpoints, said).run(stop)


class _Training:
    def __init__(
        self, settings: Settings, material: Material, world: World, checkpoints: Checkpoints, tell: Tell
    ) -> None:
        self.settings, self.material, self.world, self.tell = settings, material, world, tell
        self.checkpoints = checkpoints
        self.out = Path(settings.out)
        self.course = Course(len(material.train), settings.batch_size, settings.repeats, settings.seed)
        self.steps = settings.steps or self.course.steps_of(settings.epochs)
        self.model = network_of(material.labels, settings, tell)
        self.protocol = protocol_of(self.model)
        self.model.check_geometry(torch.empty(1, 3, self.protocol.num_frames, *input_size(self.protocol)))
        self.recipe = recipe_of(self.protocol, settings, material.labels)
        if settings.flip is None and "flip" not in self.recipe.turns:
            tell("clips are not mirrored, as labels name a side; flip_labels says which change places")
        freeze(self.model, settings.freeze)
        if settings.sync_bn and world.device.type == "cuda":
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)  # type: ignore[no-untyped-call]
        self.model.to(world.device)
        if settings.channels_last:
            channels_innermost(self.model)
        self.network = spread(self.model, settings, world, tell)
        self.optimizer = optimizer_of(self.model, settings)
        self.average = Average(self.model, settings.ema) if settings.ema else None
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=settings.amp == "fp16")
        self.started = time.perf_counter()

    def run(self, stop: Stop) -> Trained:
        begin = self._go_on()
        if self.world.first:
            (self.out / SETTINGS).write_text(self.settings.to_toml(), encoding="utf-8")
        self.tell(
            f"step {begin} of {self.steps}, {self.course.steps_per_epoch} in an epoch, "
            f"{self.world.size} process(es) on {self.world.device}, {torch.get_num_threads()} threads"
        )
        log = Log(self.out, step=begin, first=self.world.first, tensorboard=self.settings.tensorboard)
        try:
            step = self._steps(begin, log, stop)
        finally:
            log.close()
            if self.world.first and log.rows:
                draw_curves(log.rows, self.out / CURVES, f"{self.settings.model} on {self.material.source}")
        if step < self.steps:
            self.tell(f"stopped after step {step}; the same command goes on from there")
            return Trained(self.out, None, step, self.steps, stopped=stop.asked or -1, log=log.rows)
        metrics = self._finish()
        return Trained(self.out, self.out / FOLDER, step, self.steps, metrics, log=log.rows)

    def _steps(self, begin: int, log: Log, stop: Stop) -> int:
        """Make the steps from `begin` on; gives how many are made when they end or are stopped."""
        settings, world = self.settings, self.world
        every = self.course.steps_per_epoch
        validate, save = settings.validate_every or every, settings.checkpoint_every or every
        clips = Clips(self.material.train, self.material.labels, self.recipe)
        share = Share(
            self.course, range(begin, self.steps), rank=world.rank, world=world.size, accumulate=settings.accumulate
        )
        pin = world.device.type == "cuda"
        batches = decoded(loader(clips, share, workers=settings.workers, pin=pin), TrainingError)

        def due(step: int) -> bool:
            return bool(self.material.val) and (step % validate == 0 or step == self.steps)

        if begin and due(begin) and world.by_first(lambda: log.lacks(begin, "val_loss")):  # a stop did not wait for it
            log.complete(**_row(self._measure("fast", self._autocast)))
        since, at = time.perf_counter(), begin
        with progress(self.steps, begin, shown=world.first) as show:
            for step in range(begin, self.steps):
                loss, norm, asked = self._step(step, batches, stop)
                done = step + 1
                if not self._sound(loss, norm):
                    raise TrainingError(
                        f"step {step} has a loss of {loss} and a gradient of {norm}: the training has diverged",
                        hint="a smaller lr, a longer warmup or clip_grad=1 may help; checkpoints are as they were",
                    )
                show(done, f"loss {loss:.3f}")
                row = {"step": done, "epoch": done / every, "lr": rate(step, self.steps, settings), "loss": loss}
                if done % settings.log_every == 0 or done % validate == 0 or done in (self.steps, 1):
                    now = time.perf_counter()
                    row |= {"grad_norm": norm, "clips_per_s": (done - at) * settings.batch_size / (now - since)}
                    if due(done) and not asked:
                        row |= _row(self._measure("fast", self._autocast))
                        self.tell(_sentence(row, self.steps))
                    log.add(**row)
                    since, at = time.perf_counter(), done
                if done % save == 0 or done == self.steps or asked:
                    self._save(done)
                if asked:
                    return done
        return self.steps

    def _step(self, step: int, batches: Iterator[Batch], stop: Stop) -> tuple[float, float, bool]:
        """(loss, norm of the gradient, whether any process was asked to stop)."""
        settings, world = self.settings, self.world
        to_training(self.model, freeze_bn=settings.freeze_bn)
        torch.manual_seed(key(settings.seed, "network", step, world.rank))  # dropout
        set_rate(self.optimizer, rate(step, self.steps, settings))
        total, lost = torch.zeros((), device=world.device), list[str]()
        for i in range(settings.accumulate):
            batch = next(batches)
            lost += map(str, batch.errors)
            with part(self.network, last=i == settings.accumulate - 1):
                loss = self._loss(batch) / settings.accumulate
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        self.scaler.unscale_(self.optimizer)
        most = settings.clip_grad or math.inf
        norm: Any = nn.utils.clip_grad_norm_((p for p in self.model.parameters() if p.requires_grad), most)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        counts = torch.tensor([stop.asked > 0, len(lost)], dtype=torch.float64)
        sums = world.sum(torch.cat([total.double().cpu()[None], counts]))
        mean = float(sums[0]) / world.size
        if sums[2]:
            for error in chain(*world.gather(lost)):
                self.tell(f"step {step} goes on without a video: {error}")
        if self._sound(mean, float(norm)):
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if self.average is not None:
                self.average.update(step)
        self.optimizer.zero_grad(set_to_none=True)
        return mean, float(norm), bool(sums[1])

    def _sound(self, loss: float, norm: float) -> bool:
        """Whether weights may move by this gradient; in fp16 the scaler leaves out those that overflow."""
        return math.isfinite(loss) and (self.settings.amp == "fp16" or math.isfinite(norm))

    def _loss(self, batch: Batch) -> Tensor:
        settings, device = self.settings, self.world.device
        clips = batch.clips.to(device, non_blocking=True)
        targets = targets_of(batch.labels.to(device, non_blocking=True), len(self.material.labels))
        where = {"step": batch.step, "first": batch.first, "repeats": settings.repeats}
        clips, targets = mix(clips, targets, settings, **where)
        smooth = settings.label_smoothing
        targets = targets * (1 - smooth) + targets.sum(1, keepdim=True) * smooth / targets.shape[1]
        if settings.channels_last:
            clips = clips.contiguous(memory_format=INNERMOST[clips.ndim])
        with self._autocast():
            logits = self.network(clips)
        return F.cross_entropy(logits.float(), targets)

    def _autocast(self) -> AbstractContextManager[object]:
        if not self.settings.amp:
            return nullcontext()
        return torch.autocast(self.world.device.type, PRECISION[self.settings.amp])

    def _measure(self, views: ViewsOption, around: Callable[[], AbstractContextManager[object]]) -> Scores:
        """On the validation videos, with the averaged weights if there are any. around: what forwards run in."""
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        with self.average.in_place() if self.average else nullcontext(), gathered(self.model):
            share_statistics(self.model, self.world)
            options: dict[str, Any] = {"workers": self.settings.workers, "around": around, "views": views}
            scores = score(self.model, self.material.val, self.material.labels, self.protocol, self.world, **options)
        for name, buffer in self.model.named_buffers():
            buffer.copy_(buffers[name])
        return scores

    def _save(self, step: int) -> None:
        facts = {
            "settings": self.settings.to_dict(),
            "data": self.material.digest,
            "labels": list(self.material.labels),
            "world": self.world.size,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        extra = {"scaler": self.scaler.state_dict()}
        self.checkpoints.save(step, self.model, self.optimizer, self.average, extra, facts)

    def _go_on(self) -> int:
        """The number of the first step: 0, or that after the newest checkpoint, which is then loaded."""
        newest = self.world.by_first(self.checkpoints.newest)
        if newest is None:
            return 0
        path, facts = newest
        self._check_sequel(path, facts)
        extra = {"scaler": self.scaler.state_dict()}
        extra = self.checkpoints.load(path, self.model, self.optimizer, self.average, extra)
        if self.settings.amp == "fp16":
            self.scaler.load_state_dict(extra["scaler"])
        before = facts | {name: facts["settings"].get(name) for name in EXACT}
        now = {"world": self.world.size, "threads": torch.get_num_threads(), "torch": torch.__version__}
        now |= {name: getattr(self.settings, name) for name in EXACT}
        changed = [f"{name} {before.get(name)!r} -> {new!r}" for name, new in now.items() if before.get(name) != new]
        exactly = f"not bit for bit, as these differ: {', '.join(changed)}" if changed else "exactly"
        self.tell(f"goes on from {path}, {exactly}")
        return int(facts["step"])

    def _check_sequel(self, path: Path, facts: dict[str, Any]) -> None:
        try:
            before = Settings.from_dict(facts["settings"]).sequence()
        except (SpecError, KeyError, TypeError) as error:
            raise TrainingError(f"{path} is of another zoo: {error}", hint="choose another folder with out=") from error
        now = self.settings.sequence()
        if changed := [f"{k}={now[k]!r} instead of {before[k]!r}" for k in now if now[k] != before[k]]:
            raise TrainingError(
                f"{self.out} holds a training with other settings: {', '.join(changed)}",
                hint="go on with the same ones, or choose another folder with out=",
            )
        if facts["data"] != self.material.digest:
            raise TrainingError(
                f"{self.out} holds a training on other data than {self.settings.data} has now",
                hint="restore the data, or choose another folder with out=",
            )

    def _finish(self) -> dict[str, float]:
        """Measure the result by the whole protocol and write it."""
        figures: dict[str, float] = {}
        metrics: tuple[Metric, ...] = ()
        chosen = False
        if self.material.val:
            scores = self._measure("card", nullcontext)  # in float32, as who repeats it
            if self.settings.calibrate and self.protocol.activation == "softmax":
                scores, chosen = self._calibrated(scores)
            figures = {"top1": scores.accuracy(1), "top5": scores.accuracy(5), "loss": scores.loss()}
            found = self._evaluation(scores)
            for name, why in found.unreadable.items():
                self.tell(f"not measured: {name}: {why}")
            dataset = f"{len(scores.scored)} videos of {self.material.source!r}"
            dataset += f", {len(found.unreadable)} more could not be read" if found.unreadable else ""
            dataset += ", by which the temperature was chosen" if chosen else ""
            metrics = found.metrics(dataset, "zoo train", "val")
            self.world.by_first(lambda: self._keep(found))
            self.tell(f"by all views of the protocol: top-1 {figures['top1']:.2f} %, loss {figures['loss']:.3f}")
        else:
            self.tell("there is nothing to validate on: the result has no figures")
        with self.average.in_place() if self.average else nullcontext():
            state = whole(self.model.state_dict())
        path = self.world.by_first(lambda: write_result(self._plain(state), self.settings, metrics, self._describe()))
        self.tell(f"{path}: zoo predict VIDEO --model local-dir:{path}")
        return figures

    def _calibrated(self, scores: Scores) -> tuple[Scores, bool]:
        """The same by the temperature that fits these videos, which the result gets; whether there is one."""
        temperature = best_temperature(scores, self.protocol)
        if temperature is None:
            self.tell("no temperature: the validation videos are too few, or none of them is answered wrong")
            return scores, False
        self.protocol = dataclasses.replace(self.protocol, temperature=temperature)
        self.tell(f"temperature {temperature}")
        return scores.under(self.protocol), True

    def _evaluation(self, scores: Scores) -> Evaluation:
        samples, probable = self.material.val, self.protocol.activation == "softmax"
        data = {"source": self.material.source, "split": "val", "digest": digest_of(samples)}
        setting = setting_of(self.model, data, self.protocol, "card", self.world, self.settings.workers)
        return Evaluation(self.material.labels, samples, scores, probable, setting)

    def _keep(self, found: Evaluation) -> None:
        found.save(self.out)
        write_val(self.out, self.material)

    def _plain(self, state: dict[str, Tensor]) -> VideoModel:
        """The result as an ordinary model on the CPU."""
        model = network_of(self.material.labels, self.settings, lambda text: None)
        model.load_state_dict(state)
        model.preprocessing = self.protocol
        return model.eval()

    def _describe(self) -> str:
        return self.material.describe() + start_of(self.settings.model)


def _check_shares(settings: Settings, world: World) -> None:
    parts = world.size * settings.accumulate
    pair = 2 if settings.mixup or settings.cutmix else 1
    if settings.batch_size % (parts * settings.repeats * pair):
        factors = {"processes": world.size, "accumulate": settings.accumulate, "repeats": settings.repeats}
        factors |= {"pairs to mix": 2} if pair == 2 else {}
        said = " x ".join(f"{n} ({name})" for name, n in factors.items())
        raise SpecError(f"batch_size={settings.batch_size}", hint=f"a multiple of {said}")


def _row(scores: Scores) -> dict[str, float]:
    return {"val_loss": scores.loss(), "val_top1": scores.accuracy(1), "val_top5": scores.accuracy(5)}


def _sentence(row: Row, steps: int) -> str:
    return (
        f"step {row['step']:.0f} of {steps}, epoch {row['epoch']:.2f}: loss {row['loss']:.4f}, "
        f"validation loss {row['val_loss']:.4f}, top-1 {row['val_top1']:.2f} %, one clip each"
    )


@contextmanager
def _torch(settings: Settings) -> Iterator[None]:
    """Torch's own switches, and its random state, as they were afterwards."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    if settings.deterministic:
        torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
