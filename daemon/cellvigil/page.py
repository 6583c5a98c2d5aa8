"""The one door: /metrics for Prometheus, /healthz for a supervisor, / for a person who followed the log's address.

Plain HTTP on localhost unless the configuration opens it; then a token and TLS guard it. Serves what it is handed, and
knows nothing of frames.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import gzip
import hashlib
import hmac
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cellvigil.errors import UsageError

Health = Callable[[], tuple[bool, Mapping[str, Any]]]
"""Says whether the service works, and the figures that say so."""

Page = Callable[[], tuple[str, bytes] | None]
"""Makes one address's answer: content type and bytes; None = there is nothing (yet). TimeoutError: it takes long."""

_MOST_CLIENTS = 32  # at once
_PATIENCE_S = 10  # a client that sends nothing does not hold a thread for ever
_LONGEST_S = 30  # in all, for one client

_LEVEL = 4  # of compression: a page of many wells shrinks to a tenth

_TEXT = ("Content-Type", "text/plain; charset=utf-8")
_GUARDS = (
    # No script at all, nothing from elsewhere, in nobody's frame; and no browser keeps what needed a token.
    (
        "Content-Security-Policy",
        "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # A second daemon on the same port must fail, not share it.
    allow_reuse_port = False
    # Who comes in a burst is not kept waiting for seconds by the system; one too many is turned away by us.
    request_queue_size = 2 * _MOST_CLIENTS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tls: ssl.SSLContext | None = None
        self._places = threading.BoundedSemaphore(_MOST_CLIENTS)
        self._inside: dict[socket.socket, float] = {}  # clients being served; since when (monotonic seconds)

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for the client; one too many is turned away at once, so slow ones cannot use up the memory."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """In the client's own thread: the handshake of one never holds up another."""
        try:
            if self.tls is not None:
                request.settimeout(_PATIENCE_S)
                try:
                    request = self.tls.wrap_socket(request, server_side=True)
                except OSError:  # no TLS, or too slow: the client's trouble
                    self.shutdown_request(request)
                    return
            self._inside[request] = time.monotonic()
            try:
                super().process_request_thread(request, client_address)
            finally:
                del self._inside[request]
        finally:
            self._places.release()

    def service_actions(self) -> None:
        """Now and then: a client that sends a byte every few seconds is not served for ever."""
        for request, since in list(self._inside.items()):
            if time.monotonic() - since > _LONGEST_S:
                with contextlib.suppress(OSError):  # it is going already
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is no news."""


class _Quiet(WSGIRequestHandler):
    timeout = _PATIENCE_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Scrapes come every few seconds; logging each would bury what matters."""


def application(
    metrics: WSGIApplication, health: Health, token: str = "", pages: Mapping[str, Page] | None = None
) -> WSGIApplication:
    """The WSGI application: `metrics` answers /metrics, `health` /healthz, `pages` whatever else there is, by address.

    With a `token` a request must bring it (`Authorization: Bearer ...`, or as the password that a browser asks for);
    without it /healthz only says whether all is well, and nothing else answers.
    """
    shown = pages or {}
    wanted = hashlib.sha256(token.encode()).digest()

    def is_known(environ: WSGIEnvironment) -> bool:
        # Digests: they are of one length, so the time of the comparison tells nothing of the token.
        brought = _brought(str(environ.get("HTTP_AUTHORIZATION", "")))
        return not token or hmac.compare_digest(hashlib.sha256(brought).digest(), wanted)

    def answer(environ: WSGIEnvironment, plainly: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *failure: Any) -> Any:
            return plainly(status, [*headers, *_GUARDS], *failure)

        path = environ.get("PATH_INFO", "/")
        known = is_known(environ)
        if path == "/healthz":
            well, figures = health()
            start("200 OK" if well else "503 Service Unavailable", [("Content-Type", "application/json")])
            return [json.dumps({"ok": well, **(figures if known else {})}).encode()]
        if not known:
            start("401 Unauthorized", [_TEXT, ("WWW-Authenticate", 'Basic realm="Cellvigil: any name, and the token"')])
            return [b"this needs the token of metrics.token_file\n"]
        if path == "/metrics":
            return metrics(environ, start)
        try:
            found = shown[path]() if path in shown else None
        except TimeoutError:
            start("503 Service Unavailable", [_TEXT, ("Retry-After", "15")])
            return [b"this cannot be had at the moment: the disk hangs, or the machine is very busy\n"]
        if found is not None:
            kind, body = found
            wants = kind.startswith("text/") and "gzip" in str(environ.get("HTTP_ACCEPT_ENCODING", ""))
            start("200 OK", [("Content-Type", kind), *([("Content-Encoding", "gzip")] if wants else [])])
            return [gzip.compress(body, _LEVEL, mtime=0) if wants else body]
        start("404 Not Found", [_TEXT])
        return [b"not here: try /, /metrics or /healthz\n"]

    return answer


def _brought(authorization: str) -> bytes:
    """The token that a request brings, as a bearer's or as a password; b"" if it brings none."""
    kind, _, rest = authorization.partition(" ")
    if kind == "Bearer":
        return rest.encode("utf-8", "replace")
    if kind != "Basic":
        return b""
    try:
        return base64.b64decode(rest, validate=True).partition(b":")[2]
    except ValueError:
        return b""


def hint_of(error: OSError) -> str:
    """What to do where an address cannot be had."""
    if error.errno == errno.EADDRINUSE:
        return "end the other service (another Cellvigil?), or set metrics.port to a free one"
    if error.errno == errno.EACCES:
        return "set metrics.port to one above 1023"
    return "set metrics.listen to an address of this machine, or 0.0.0.0 for all of them"


@contextlib.contextmanager
def served(app: WSGIApplication, *, listen: str, port: int, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve `app` in a thread until the block ends; yields the port (the one taken where 0 was asked).

    Raises UsageError if the address cannot be had, e.g. because another service listens there.
    """
    try:
        server = make_server(listen, port, app, server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {listen}:{port}: {error.strerror}",
            where="metrics.port",
            hint=hint_of(error),
        ) from None
    server.tls = tls
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
