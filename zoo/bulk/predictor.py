"""A callable from a batch of rows to a batch of results, for zoo's own engines and for everybody else's."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from zoo import registry
from zoo.bulk.arrow import FAILED, OK, TASKS, arrow, check_bytes, schema_of
from zoo.contract import VideoModel
from zoo.errors import DataError, SpecError
from zoo.tasks import as_model
from zoo.tasks.classification import aggregate, answer, check_top_k
from zoo.tasks.embedding import clip_features
from zoo.tasks.running import evaluating, over_views
from zoo.video.clips import Views, ViewsOption, iter_views, protocol_of, view_counts
from zoo.video.footage import open_footage, settled
from zoo.weights.repository import exported_folder, is_repository

if TYPE_CHECKING:
    import pyarrow as pa

    from zoo.video import Limits

Row = Mapping[str, Any]
SEED = 0  # of random weights, which are then the same in every process
WELL = {"status": OK, "error_type": None, "error_message": None}
VIDEO = ("id", "path", "bytes")  # columns of the input that are not just kept
ESCAPED = re.compile(r"\\u(dc[89a-f][0-9a-f])")  # a byte of a file's name that is not Unicode, as `text` shows it


@dataclass(frozen=True)
class Identity:
    """What an answer depends on besides the video.

    weights: their tag, None where they are random or a model's own. weights_digest: the sha256 of the published file,
    else of all tensors. preprocessing_digest: the sha256 of the protocol and the views.
    """

    model: str
    weights: str | None
    weights_digest: str
    preprocessing_digest: str


@dataclass(frozen=True)
class Decoded:
    views: Views
    duration_s: float


class VideoPredictor:
    """Called with a batch of rows, gives a pyarrow Table of results, a row for each, in the same order.

        VideoPredictor("r2plus1d_tiny.camera_motion")({"path": ["a.mp4", "b.mp4"]}).to_pylist()

    model: a name, with its default weights as in `zoo.predict`, or a model. Pickles as that name, so that it is sent
    to a process in no time; each process builds the model once, when it is first called. Random weights are the same
    everywhere.
    task: "predict" gives label, score and top (the `top_k` best labels and scores); "embed" gives embedding, `[D]`.
    views: "card", "fast" or (clips, crops), as in `zoo.predict`.
    device: None is cuda where there is one; a model object stays where it is, and an exported one on the CPU.
    threads: of torch, set for the whole process; None leaves them as they are.
    decoders: threads that decode the next videos while the model runs.
    limits, isolate: for files from strangers, as in `zoo.predict`.

    A batch is a dict of columns, a pyarrow Table or RecordBatch. It has a column `path`, or `bytes` with whole files;
    `id` names a video where it is there, else its path does, else the sha256 of its bytes. Other columns are kept.
    A row never raises: what goes wrong is in its status ("ok" or "failed"), error_type and error_message.
    Raises SpecError and what `zoo.create` raises for a wrong option or model, at construction or when it is built;
    DataError for a batch that has neither path nor bytes, bytes that are none, or a column with the name of one of the
    results.
    """

    def __init__(
        self,
        model: str | VideoModel,
        *,
        task: str = "predict",
        top_k: int = 5,
        views: ViewsOption = "card",
        device: str | torch.device | None = None,
        threads: int | None = None,
        decoders: int = 1,
        limits: Limits | None = None,
        isolate: bool = False,
    ) -> None:
        if task not in TASKS:
            raise SpecError(f"task={task!r}", hint=f"it is {' or '.join(TASKS)}")
        check_top_k(top_k)
        for name, count in (("threads", threads), ("decoders", decoders)):
            if count is not None and not (isinstance(count, int) and count >= 1):
                raise SpecError(f"{name}={count!r}", hint="a whole number of at least 1")
        if isinstance(model, str) and not is_repository(model):
            registry.default.find(model)
        self.model, self.task, self.top_k, self.views, self.device = model, task, top_k, views, device
        self.threads, self.decoders, self.limits, self.isolate = threads, decoders, limits, isolate
        self._built: VideoModel | None = None
        self._identity: Identity | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_built": None}

    @property
    def schema(self) -> pa.Schema:
        """Of the results of a batch without other columns."""
        return schema_of(self.task)

    @property
    def identity(self) -> Identity:
        """What every result says of the model; of a name, found out by building it on the CPU once."""
        if self._identity is None:
            self._identity = self._identify(self._built or self._make("cpu" if self._named else None))
        return self._identity

    def runs_on(self, *, gpu: bool) -> str:
        """The device of the model in a process that has a GPU, or has none."""
        if self.device is not None:
            return str(self.device)
        if isinstance(self.model, str):
            return "cuda" if gpu and exported_folder(self.model) is None else "cpu"
        return str(next((tensor.device for tensor in self.model.state_dict().values()), "cpu"))

    def options(self) -> dict[str, Any]:
        """What else the results depend on, as plain data."""
        return {"task": self.task} | ({"top_k": self.top_k} if self.task == "predict" else {})

    def __call__(self, batch: Any) -> pa.Table:
        table = _table(batch)
        videos = [name for name in VIDEO if name in table.column_names]
        others = table.drop_columns(videos)
        schema = schema_of(self.task, others.schema)
        made = arrow().Table.from_pylist([*self.results(table.select(videos).to_pylist())], schema=self.schema)
        return arrow().table([*made.columns, *others.columns], schema=schema)

    def results(self, rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
        """One result for each row, as plain data, in order. The next videos are decoded while the model runs."""
        self.build()
        with ThreadPoolExecutor(self.decoders, thread_name_prefix="decode") as pool:
            pending: deque[tuple[Row, Future[Any]]] = deque()
            for row in rows:
                pending.append((row, pool.submit(self.decode, row)))
                if len(pending) > self.decoders + 1:
                    yield self.result(*pending.popleft())
            while pending:
                yield self.result(*pending.popleft())

    def build(self) -> VideoModel:
        """The model, built and moved when this is first called. Raises what `zoo.create` raises."""
        if self._built is None:
            if self.threads:
                torch.set_num_threads(self.threads)
            stays = self.device is None and not self._named
            self._built = self._make(None if stays else self.runs_on(gpu=torch.cuda.is_available()))
            found = self._identify(self._built)
            if self._identity not in (None, found):
                raise SpecError(
                    f"{found.model} has other weights here ({found.weights_digest[:12]}) than where this run began",
                    hint="name a revision, or give every machine the same files",
                )
            self._identity = found
        return self._built

    def decode(self, row: Row) -> tuple[Decoded | Exception, float]:
        """The frames of a row or why there are none, and the seconds it took. Runs beside the model."""
        started = time.perf_counter()
        try:
            return self.open(row), time.perf_counter() - started
        except Exception as error:
            return error, time.perf_counter() - started

    def open(self, row: Row) -> Decoded:
        """The frames of a row. Raises VideoError."""
        path, data = row.get("path"), row.get("bytes")
        if not path and data is None:
            raise DataError("neither path nor bytes", hint="give one of them")
        video = openable(path) if data is None else data
        footage = open_footage(video, limits=self.limits, isolate=self.isolate, threads=1)
        protocol = protocol_of(self.build())
        (views,) = settled(lambda: [*iter_views(protocol, footage, views=self.views)])
        return Decoded(views, footage.duration_s)

    def result(self, row: Row, decoding: Future[Any]) -> dict[str, Any]:
        """The result of a row, as plain data."""
        decoded, seconds = decoding.result()
        started, found = time.perf_counter(), dict[str, Any]()
        if not isinstance(decoded, Exception):
            try:
                found = self._answer(decoded)
            except Exception as error:
                decoded = error
        said = failure(type(decoded).__name__, str(decoded)) if isinstance(decoded, Exception) else WELL
        elapsed = {"elapsed_s": seconds + time.perf_counter() - started}
        return self.about(row) | said | {"attempts": 1, **elapsed} | found

    def about(self, row: Row) -> dict[str, Any]:
        """The columns of a result that say which video it is of, and made by what."""
        path = row.get("path")
        return {"id": id_of(row), "path": text(str(path)) if path else None, **asdict(self.identity)}

    def _answer(self, decoded: Decoded) -> dict[str, Any]:
        model, found = self.build(), {"duration_s": decoded.duration_s}
        with evaluating(model):
            if self.task == "embed":
                return found | {"embedding": clip_features(model, decoded.views).tolist()}
            scores = aggregate(over_views(model, decoded.views, model), protocol_of(model))
        top = [score._asdict() for score in answer(model, scores, self.top_k, video="").top]
        return found | top[0] | {"top": top}

    def _make(self, device: str | torch.device | None) -> VideoModel:
        """The model there, checked; a model that was given stays where it is without a device."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            model = as_model(self.model, device, features=self.task == "embed")
        view_counts(protocol_of(model), self.views)
        who = model.spec.full_name if model.spec else type(model).__name__
        if self.task == "predict":
            if model.spec and model.spec.task != "classification":
                hint = "bulk work names what videos show, or embeds them; zoo.predict runs it on single videos"
                raise SpecError(f"{who} is a model for {model.spec.task}", hint=hint)
            if getattr(model, "num_classes", None) == 0:
                raise SpecError(f"{who} has no classifier", hint="task='embed' gives its features")
        return model

    @property
    def _named(self) -> bool:
        return isinstance(self.model, str)

    def _identify(self, model: VideoModel) -> Identity:
        protocol = json.dumps([protocol_of(model).to_dict(), self.views], sort_keys=True)
        published = model.weights.sha256 if model.weights and self._named else ""  # a model may be trained since
        return Identity(
            model=model.spec.full_name if model.spec else type(model).__name__,
            weights=model.weights.tag if model.weights else None,
            weights_digest=published or _digest(model),
            preprocessing_digest=hashlib.sha256(protocol.encode()).hexdigest(),
        )


def failure(kind: str, message: str) -> dict[str, Any]:
    return {"status": FAILED, "error_type": kind, "error_message": text(message)}


def text(value: str) -> str:
    """As Arrow can hold it: a file's name need not be Unicode."""
    return value.encode("utf-8", "backslashreplace").decode()


def openable(path: Any) -> Any:
    """The name that a file has, where `text` has escaped it."""
    if isinstance(path, str) and ESCAPED.search(path) and not os.path.lexists(path):
        return ESCAPED.sub(lambda byte: chr(int(byte[1], 16)), path)
    return path


def id_of(row: Row) -> str:
    """What a row is known by."""
    if (known := row.get("id")) is not None:
        return text(str(known))
    if path := row.get("path"):
        return text(str(path))
    data = row.get("bytes")
    return hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else ""


def _table(batch: Any) -> pa.Table:
    pa = arrow()
    try:
        if isinstance(batch, Mapping):
            batch = pa.table({name: pa.array(list(map(_plain, column))) for name, column in batch.items()})
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"a batch that is no table: {error}", hint="a dict of columns of the same length") from error
    if not isinstance(table, pa.Table):
        raise DataError(f"a {type(batch).__name__} is no batch", hint="a dict of columns, or a pyarrow Table")
    if not {"path", "bytes"} & set(table.column_names):
        raise DataError(f"a batch with the columns {', '.join(table.column_names)}", hint="it needs path, or bytes")
    check_bytes("the batch", table.schema)
    return table


def _plain(value: Any) -> Any:
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    return text(value) if isinstance(value, str) else value


def _digest(model: VideoModel) -> str:
    """Of every tensor, with its name, type and shape."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.view(-1).view(torch.uint8).numpy() if plain.numel() else b"")
    return digest.hexdigest()
