"""A web server with pictures that come in every way in which they come, or do not, on the open web."""

from __future__ import annotations

import io
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(seed: int, size: tuple[int, int] = (40, 30), kind: str = "JPEG") -> bytes:
    """Return an encoded picture of smooth noise, (width, height)."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(out, kind, quality=90)
    return out.getvalue()


def with_thumbnail(whole: bytes) -> bytes:
    """Return a JPEG with another whole JPEG in a segment at its head, as cameras write."""
    inner = picture(99, (8, 8))
    return whole[:2] + b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner + whole[2:]


@dataclass
class Server:
    """The address, and how often each path was asked for. `pause_s` slows every good answer down.

    `taken`: how often somebody read a long answer of a path to its end.
    """

    address: str = ""
    pause_s: float = 0.0
    asked: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    stop: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str) -> str:
        return f"{self.address}/{path}"


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked[self.path] += 1
            kind, _, rest = self.path.strip("/").partition("/")
            number = int(rest) if rest.isdigit() else 0
            with suppress(OSError):  # the client has given up
                getattr(self, f"send_{kind}")(number)

        def send(self, body: bytes, kind: str = "image/jpeg", status: int = 200, **headers: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            for name, value in ({"Content_Length": str(len(body))} | headers).items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def send_good(self, number: int) -> None:
            server.stop.wait(server.pause_s)
            self.send(picture(number))

        def send_png(self, number: int) -> None:
            self.send(picture(number, kind="PNG"), "image/png")

        def send_mislabelled(self, number: int) -> None:
            self.send(picture(number), "text/html")

        def send_page(self, number: int) -> None:
            self.send(b"<html>not here any more</html>" * 9)

        def send_cut(self, number: int) -> None:
            self.send(picture(number)[:-200])

        def send_cutthumb(self, number: int) -> None:
            self.send(with_thumbnail(picture(number))[:-200])

        def send_thumb(self, number: int) -> None:
            self.send(with_thumbnail(picture(number)))

        def send_cutpng(self, number: int) -> None:
            self.send(picture(number, kind="PNG")[:-60], "image/png")

        def send_broken(self, number: int) -> None:
            self.send(picture(number)[:-200], Content_Length=str(len(picture(number))))

        def send_empty(self, number: int) -> None:
            self.send(b"")

        def send_missing(self, number: int) -> None:
            self.send(b"", "text/plain", 404)

        def send_busy(self, number: int) -> None:
            self.send(b"", "text/plain", 503)

        def send_moved(self, number: int) -> None:
            self.send(b"", "text/plain", 302, Location=f"/good/{number}")

        def send_circle(self, number: int) -> None:
            self.send(b"", "text/plain", 302, Location=self.path)

        def send_local(self, number: int) -> None:
            self.send(b"", "text/plain", 302, Location="file:///etc/hostname")

        def send_noai(self, number: int) -> None:
            self.send(picture(number), X_Robots_Tag="noai")

        def send_silent(self, number: int) -> None:
            server.stop.wait(30)

        def send_drip(self, number: int) -> None:
            body = picture(number)
            self.send(b"", Content_Length=str(len(body)))
            self.trickle(body)

        def trickle(self, content: bytes) -> None:
            """Send a byte in a tenth of a second: never silent for long, and yet long in all."""
            for byte in content:
                if server.stop.wait(0.1):
                    return
                self.wfile.write(bytes([byte]))
            server.taken[self.path] += 1

        def send_headdrip(self, number: int) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nX-Filler: ")
            self.trickle(b"x" * 100)
            self.wfile.write(b"\r\n\r\n" + picture(number))

        def send_movedrip(self, number: int) -> None:
            self.send(b"", "text/plain", 302, Location=f"/good/{number}", Content_Length="100")
            self.trickle(b"x" * 100)

        def send_movehuge(self, number: int) -> None:
            self.send(b"", "text/plain", 302, Location=f"/good/{number}", Content_Length=str(60 << 20))
            for _ in range(60):
                self.wfile.write(b"x" * (1 << 20))
            server.taken[self.path] += 1

        def send_hops(self, number: int) -> None:
            server.stop.wait(1)
            self.send(b"", "text/plain", 302, Location=f"/hops/{number + 1}")

        def send_huge(self, number: int) -> None:
            self.send_response(200)
            self.end_headers()
            while not server.stop.is_set():
                self.wfile.write(b"\xff\xd8" * (1 << 16))

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def certificate(folder: Path) -> Path:
    """Make a key and a certificate for 127.0.0.1, in one file; openssl has to be there."""
    path = folder / "server.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        " -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    path.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return path


@contextmanager
def serving(secured: Path | None = None) -> Iterator[Server]:
    """Serve on 127.0.0.1. secured: a key and a certificate, to serve over TLS."""
    state = Server()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(state)) as http:
        http.daemon_threads = True
        http.block_on_close = False
        if secured:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(secured)
            http.socket = context.wrap_socket(http.socket, server_side=True)
        state.address = f"http{'s' if secured else ''}://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            state.stop.set()
            http.shutdown()
            thread.join()
