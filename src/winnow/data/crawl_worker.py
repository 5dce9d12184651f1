"""img2dataset with limits on what one address may do; run by the Python of `.venv-crawl`, without Winnow.

img2dataset reads an answer to its end, however long it is and however slowly it comes, opens `file:` as it
does `http:`, and fills the missing part of a cut picture with grey. Here an answer has a largest size and a
latest time, only http and https are spoken, and a JPEG or PNG has to have its end. Its own code is not
touched: all this is a handler of urllib, through which it fetches.

Usage: python crawl_worker.py '{"url_list": ..., ...}' (arguments of img2dataset's `download`)
"""

from __future__ import annotations

import ctypes
import importlib
import io
import json
import os
import signal
import sys
import time
import urllib.request
from http.client import HTTPResponse
from urllib.response import addinfourl

MAX_BYTES = int(os.environ.get("WINNOW_CRAWL_MAX_BYTES", str(50 << 20)))
MAX_SECONDS = float(os.environ.get("WINNOW_CRAWL_MAX_SECONDS", "60"))
PIECE = 1 << 16


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
    """Return the body; ValueError where it is too large, too slow, or ends before the announced length."""
    latest, pieces, size = time.monotonic() + MAX_SECONDS, [], 0
    while piece := response.read1(PIECE):
        size += len(piece)
        if size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES} bytes")
        if time.monotonic() > latest:
            raise ValueError(f"took longer than {MAX_SECONDS:g} s")
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
    director = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
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
