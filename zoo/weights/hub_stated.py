"""What the Hub has stated of a file, told to its client in place of a second answer.

Before it downloads, the client asks once more, and makes paths of what it hears: of the digest one for the bytes, of
the commit one for the link to them. Nobody has looked at that answer, which may lead out of the cache.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Told(threading.local):
    """In each thread, what stands in for the Hub's answers."""

    answer: Any = None


_told, _teaching = _Told(), threading.Lock()


@contextmanager
def stated(answer: Any) -> Iterator[None]:
    """Within this block, in this thread, the client does not ask what a file is: it is `answer`."""
    _teach_the_client()
    _told.answer = answer
    try:
        yield
    finally:
        _told.answer = None


def _teach_the_client() -> None:
    """Have the client listen to this module. It has no argument for that."""
    from huggingface_hub import file_download

    client: Any = file_download
    with _teaching:
        asks = client.get_hf_file_metadata
        if getattr(asks, "listens", False):
            return

        @functools.wraps(asks)
        def listens_or_asks(*args: Any, **kwargs: Any) -> Any:
            return _told.answer or asks(*args, **kwargs)

        listens_or_asks.listens = True  # type: ignore[attr-defined]
        client.get_hf_file_metadata = listens_or_asks
