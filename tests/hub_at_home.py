"""A model hub on the loopback device: one repository's files at one commit, as huggingface_hub asks for them."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Asked(BaseHTTPRequestHandler):
    """Answers for the files of `folder`, which the server carries."""

    server: "Hub"

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        self.server.asked.append(self.path)

    def _answer(self, *, body: bool) -> None:
        kind, _, rest = self.path.partition(f"/{self.server.repository}/")
        if kind == "/api/models" and rest.partition("?")[0] in {"revision/main", f"revision/{COMMIT}"}:
            names = sorted(path.name for path in self.server.folder.iterdir())
            told = {"id": self.server.repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
            self._send(json.dumps(told).encode(), {"Content-Type": "application/json"}, body=body)
        elif kind == "/api/models" and rest.partition("?")[0] == f"tree/{COMMIT}":
            files = [path for path in sorted(self.server.folder.iterdir()) if path.is_file()]
            tree = [
                {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": _etag(path.read_bytes())}
                for path in files
            ]
            self._send(json.dumps(tree).encode(), {"Content-Type": "application/json"}, body=body)
        elif (
            rest.startswith((f"resolve/{COMMIT}/", "resolve/main/"))
            and (self.server.folder / Path(rest).name).is_file()
        ):
            content = (self.server.folder / Path(rest).name).read_bytes()
            self._send(content, {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": COMMIT}, body=body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RevisionNotFound" if "/revision/" in self.path else "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, content: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)


def _etag(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


class Hub(ThreadingHTTPServer):
    """The server, and what it was asked for."""

    def __init__(self, repository: str, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Asked)
        self.repository, self.folder = repository, folder
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(repository: str, folder: Path) -> Iterator[Hub]:
    """A hub with the files of `folder` as `repository`, as long as the block lasts."""
    hub = Hub(repository, folder)
    thread = Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
