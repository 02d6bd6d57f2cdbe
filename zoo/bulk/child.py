"""What a worker process does: it answers rows on its stdin, one line of JSON each, until there are no more.

The predictor and the rows come pickled from the process that started this one. What goes back is plain data, and says
when the decoding of a row begins: so it is known which videos a worker had in its hands when it died.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import IO, Any

LOST = "AcceleratorError"  # torch's name for a GPU that this process cannot use any more, whatever comes next
READY, BROKEN, BEGUN, DONE = "ready", "broken", "begun", "done"


def child() -> None:
    """Serve until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that keeps what was done
    rows, say = sys.stdin.buffer, _speaker()
    try:
        warnings.simplefilter("ignore")  # the other process has warned
        predictor = pickle.load(rows)
        predictor.build()
    except BaseException as error:
        last = traceback.format_exception_only(error)[-1].strip()
        return say({"said": BROKEN, "error": str(error) or last, "type": type(error).__name__})
    say({"said": READY})
    given: SimpleQueue[tuple[int, Any, Future[Any]] | None] = SimpleQueue()
    with ThreadPoolExecutor(predictor.decoders) as pool:

        def decode(number: int, row: Any) -> Any:
            say({"said": BEGUN, "row": number})
            return predictor.decode(row)

        def listen() -> None:
            while (item := _next(rows)) is not None:
                given.put((*item, pool.submit(decode, *item)))
            given.put(None)

        threading.Thread(target=listen, daemon=True).start()
        while (item := given.get()) is not None:
            number, row, decoding = item
            result = predictor.result(row, decoding)
            if result["error_type"] == LOST:
                print(result["error_message"], file=sys.stderr, flush=True)
                os._exit(1)
            say({"said": DONE, "row": number, "result": result})


def _next(rows: IO[bytes]) -> tuple[int, Any] | None:
    try:
        return pickle.load(rows)  # type: ignore[no-any-return]
    except (EOFError, pickle.UnpicklingError):  # the other process has closed it, or has died
        return None


def _speaker() -> Callable[[dict[str, Any]], None]:
    """What writes a line to stdout as it is now; everybody else's stdout becomes stderr."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    turn = threading.Lock()

    def say(message: dict[str, Any]) -> None:
        line = memoryview(json.dumps(message).encode() + b"\n")
        with turn:
            try:
                while line:
                    line = line[out.write(line) :]
            except BrokenPipeError:
                os._exit(1)  # nobody listens any more

    return say
