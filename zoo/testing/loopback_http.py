"""Requests, responses and the two servers of the loopback Hub: HTTP and nothing of what a Hub means."""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any


class ResetConnection(Exception):
    """Raised by the chunks of a response: the connection ends with a TCP reset."""


@dataclass(frozen=True)
class Request:
    """What a client asks. `storage`: it asks the second origin, where the bytes of large files are."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    storage: bool


@dataclass
class Response:
    """What is sent back. A body in chunks is sent without a length of its own; when it ends the connection closes."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Iterator[bytes] = b""


def json_reply(data: Any, status: int = 200) -> Response:
    return Response(status, {"Content-Type": "application/json"}, json.dumps(data).encode())


def refusal(status: int, code: str, message: str, headers: Mapping[str, str] = MappingProxyType({})) -> Response:
    return Response(status, {**headers, "X-Error-Code": code, "X-Error-Message": message})


def content(request: Request, data: bytes, headers: dict[str, str]) -> Response:
    """All of it, or the range that was asked for."""
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if not wanted:
        return Response(200, headers, data)
    start, end = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
    return Response(206, {**headers, "Content-Range": f"bytes {start}-{end}/{len(data)}"}, data[start : end + 1])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every answer with a body takes 40 ms
    received: Callable[[Request], Response]
    storage: bool

    def log_message(self, *args: object) -> None:
        pass

    def _handle(self) -> None:
        # The body first, or a connection that is used again would start in the middle of it.
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            self._send(self.received(Request(self.command, self.path, headers, body, self.storage)))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        headers = dict(response.headers)
        if isinstance(response.body, bytes):
            headers.setdefault("Content-Length", str(len(response.body)))
        else:
            self.close_connection = True
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            for chunk in [response.body] if isinstance(response.body, bytes) else response.body:
                self.wfile.write(chunk)
        except ResetConnection:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # many clients at once are what some tests are about
    block_on_close = False  # a stalled answer must not keep the test waiting

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients go away in the middle; that is what these tests are about


def new_server(received: Callable[[Request], Response], *, storage: bool) -> ThreadingHTTPServer:
    """A server on a free port of this machine that hands every request to `received`."""
    bound = type("_Bound", (_Handler,), {"received": staticmethod(received), "storage": storage})
    return _Server(("127.0.0.1", 0), bound)
