"""img2dataset with limits on what one address may do; run by the Python of `.venv-crawl`, without Winnow.

img2dataset reads an answer to its end, however long it is and however slowly it comes, opens `file:` as it
does `http:`, and fills the missing part of a cut picture with grey. Here an answer has a largest size, an
address with all its redirects, headers and bodies a latest time, only http and https are spoken, and a JPEG
or PNG has to have its end. Its own code is not touched: all this is in handlers of urllib, through which it
fetches. Looking a name up is not timed here: the system has a limit of its own for that.

Usage: python crawl_worker.py '{"url_list": ..., ...}' (arguments of img2dataset's `download`)
"""

from __future__ import annotations

import ctypes
import importlib
import io
import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.request
from http.client import HTTPConnection, HTTPMessage, HTTPResponse, HTTPSConnection
from typing import IO, Any
from urllib.response import addinfourl

MAX_BYTES = int(os.environ.get("WINNOW_CRAWL_MAX_BYTES", str(50 << 20)))
MAX_SECONDS = float(os.environ.get("WINNOW_CRAWL_MAX_SECONDS", "60"))
PIECE = 1 << 16


class _Clock(threading.local):
    """Until when (`time.monotonic`) a thread may be at its address; 0: it is at none."""

    latest = 0.0


CLOCK = _Clock()


class Opener(urllib.request.OpenerDirector):
    """Gives each address its latest time; what it redirects to is opened within the same time."""

    def open(
        self, fullurl: str | urllib.request.Request, data: Any = None, timeout: float | None = None
    ) -> Any:
        if CLOCK.latest:
            return super().open(fullurl, data, timeout)
        CLOCK.latest = time.monotonic() + MAX_SECONDS
        try:
            return super().open(fullurl, data, timeout)
        finally:
            CLOCK.latest = 0.0


def patience(silent: float | None) -> float:
    """Return the seconds that the next wait may take: `silent`, or less where the address has less left.

    Raises `TimeoutError` where it has none.
    """
    left = CLOCK.latest - time.monotonic()
    if left <= 0:
        raise TimeoutError(f"took longer than {MAX_SECONDS:g} s")
    return min(silent, left) if isinstance(silent, int | float) else left  # urllib's default is an object


def reach(place: tuple[str, int], silent: float | None, source: Any = None) -> socket.socket:
    """Return a connection to (host, port): a name with many dead machines has the address's time, not each.

    A TLS handshake takes the time of one wait, whatever the server sends: Python sees to that.
    """
    host, port = place
    error = OSError(f"{host}: no address")
    for *_, found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            return socket.create_connection((str(found[0]), port), patience(silent), source)
        except OSError as failed:
            error = failed
    raise error


class Timed(io.RawIOBase):
    """What a server sends: each wait has the address's patience, so that no drip outlasts its time."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.silent = connection, connection.gettimeout()
        self.raw = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        self.connection.settimeout(patience(self.silent))
        return self.raw.readinto(buffer)

    def close(self) -> None:
        self.raw.close()
        super().close()


class Answer(HTTPResponse):
    """An answer whose status line, headers and body are read in time."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(Timed(sock))


class Plain(HTTPConnection):
    """A connection that is made, and answers, in time."""

    response_class = Answer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._create_connection = reach


class Secure(Plain, HTTPSConnection):
    """The same over TLS."""


class Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(Plain, req)


class Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(Secure, req)


class Redirects(urllib.request.HTTPRedirectHandler):
    """Goes where a redirect leads without a look at its body, which urllib would read to the end."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        fp.close()  # of a closed answer urllib reads nothing
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class Bounded(urllib.request.BaseHandler):
    """Reads an answer at once, within the limits; runs after redirects and error statuses are dealt with."""

    handler_order = 2000

    def http_response(
        self, request: urllib.request.Request, response: HTTPResponse | addinfourl
    ) -> addinfourl:
        if not isinstance(response, HTTPResponse):
            return response  # the answer to a redirect has been through here
        with response:
            body = whole_body(response)
        if is_cut(body):
            raise ValueError("truncated image")
        return addinfourl(io.BytesIO(body), response.headers, request.full_url, response.status)

    https_response = http_response


def whole_body(response: HTTPResponse) -> bytes:
    """Return the body; ValueError where it is too large, or ends before the announced length."""
    pieces, size = [], 0
    while piece := response.read1(PIECE):
        size += len(piece)
        if size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES} bytes")
        pieces.append(piece)
    if response.length:
        raise ValueError("truncated transfer")
    return b"".join(pieces)


def is_cut(body: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end; of anything else, the decoder decides."""
    if body.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" not in body
    if not body.startswith(b"\xff\xd8"):
        return False
    scan = first_scan(body)
    return scan < 0 or body.find(b"\xff\xd9", scan) < 0


def first_scan(body: bytes) -> int:
    """Return where a JPEG's picture data begin, or -1: a thumbnail in a segment before has an end too."""
    place = 2
    while place + 4 <= len(body) and body[place] == 0xFF:
        if body[place + 1] == 0xFF:  # fill byte
            place += 1
            continue
        if body[place + 1] == 0xDA:
            return place
        place += 2 + int.from_bytes(body[place + 2 : place + 4], "big")
    return -1


def opener() -> urllib.request.OpenerDirector:
    """Return an opener that speaks http and https only."""
    director = Opener()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        Http,
        Https,
        urllib.request.HTTPDefaultErrorHandler,
        Redirects,
        urllib.request.HTTPErrorProcessor,
        Bounded,
    ):
        director.add_handler(handler())
    return director


def die_with_parent() -> None:
    """Let the system end this process when its parent is killed: no orphan goes on downloading."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG


def main() -> None:
    arguments = json.loads(sys.argv[1])
    importlib.import_module("img2dataset.main").download(**arguments)


# img2dataset starts its processes anew, and each imports this file under the second name.
if __name__ in ("__main__", "__mp_main__"):
    die_with_parent()
    urllib.request.install_opener(opener())
if __name__ == "__main__":
    main()
