"""The one door: /metrics for Prometheus, /healthz for a supervisor, / for a person who followed the log's address.

Plain HTTP on localhost unless the configuration opens it. Serves what it is handed and knows nothing of frames.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app

from cellvigil.errors import UsageError

Health = Callable[[], tuple[bool, Mapping[str, Any]]]
"""Says whether the service works, and the figures that say so."""

_INDEX = b"""<!doctype html><title>Cellvigil</title><h1>Cellvigil</h1>
<p><a href="/metrics">/metrics</a> for Prometheus, <a href="/healthz">/healthz</a> for a supervisor.</p>
"""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # A second daemon on the same port must fail, not share it.
    allow_reuse_port = False


class _Quiet(WSGIRequestHandler):
    timeout = 10  # seconds; a client that sends nothing does not hold a thread for ever

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Scrapes come every few seconds; logging each would bury what matters."""


def application(registry: CollectorRegistry, health: Health) -> WSGIApplication:
    """The WSGI application of the three addresses."""
    metrics: WSGIApplication = make_wsgi_app(registry)

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            return metrics(environ, start)
        if path == "/healthz":
            well, figures = health()
            start("200 OK" if well else "503 Service Unavailable", [("Content-Type", "application/json")])
            return [json.dumps({"ok": well, **figures}).encode()]
        if path == "/":
            start("200 OK", [("Content-Type", "text/html; charset=utf-8")])
            return [_INDEX]
        start("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"not here: try /metrics or /healthz\n"]

    return answer


@contextlib.contextmanager
def served(app: WSGIApplication, *, listen: str, port: int) -> Iterator[int]:
    """Serve `app` in a thread until the block ends; yields the port (the one taken where 0 was asked).

    Raises UsageError if the address cannot be had, e.g. because another service listens there.
    """
    try:
        server = make_server(listen, port, app, server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {listen}:{port}: {error.strerror}",
            where="metrics.port",
            hint="end the other service, or set metrics.port to a free one",
        ) from None
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
