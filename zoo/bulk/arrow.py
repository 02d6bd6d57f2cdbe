"""pyarrow, which only bulk work needs, and the columns that come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.errors import DataError, ZooError

if TYPE_CHECKING:
    import pyarrow as pa

OK, FAILED = "ok", "failed"
TASKS = ("predict", "embed")


def arrow() -> Any:
    """The module pyarrow with pyarrow.parquet. Raises ZooError where it is missing."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as missing:
        hint = "pip install 'video-zoo[batch]'"
        raise ZooError(f"bulk work needs pyarrow, which cannot be imported ({missing})", hint=hint) from missing
    return pyarrow


def check_bytes(what: str, schema: pa.Schema) -> None:
    """Raise DataError for a column `bytes` that cannot hold videos."""
    pa = arrow()
    of = schema.field("bytes").type if "bytes" in schema.names else pa.null()
    if of not in (pa.binary(), pa.large_binary(), pa.null()):
        raise DataError(f"{what} has a column 'bytes' of {of}, which are no videos", hint="rename it")


def schema_of(task: str, others: pa.Schema | None = None) -> pa.Schema:
    """The columns of a result: the same for every model of a task, then those of the input that are kept.

    Raises DataError for a column of the input that has the name of one of ours.
    """
    pa = arrow()
    predicted = {
        "label": pa.string(),
        "score": pa.float32(),
        "top": pa.list_(pa.struct([("label", pa.string()), ("score", pa.float32())])),
    }
    fields = {
        "id": pa.string(),
        "path": pa.string(),
        "status": pa.string(),
        "error_type": pa.string(),
        "error_message": pa.string(),
        "attempts": pa.int32(),
        "elapsed_s": pa.float64(),
        "duration_s": pa.float64(),
        **(predicted if task == "predict" else {"embedding": pa.list_(pa.float32())}),
        "model": pa.string(),
        "weights": pa.string(),
        "weights_digest": pa.string(),
        "preprocessing_digest": pa.string(),
    }
    kept = list(others or [])
    if taken := [field.name for field in kept if field.name in fields]:
        raise DataError(f"the input has a column {taken[0]!r}, which the output has too", hint="rename it")
    return pa.schema([pa.field(*item) for item in fields.items()] + kept)
