"""A real Prometheus for a test: on loopback and a free port, its data in a folder of the test, ended by its own id."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PROGRAM = shutil.which("prometheus")
"""None where it is not installed; `make test-ops` says how to get it."""


@dataclass(frozen=True)
class Prometheus:
    """A running server."""

    address: str  # "http://127.0.0.1:..."
    process: subprocess.Popen[bytes]
    log: Path

    def ask(self, path: str, **parameters: Any) -> Any:
        """The `data` of one answer of its API ("query", "label/plate/values"); a refused query fails with its words."""
        asked = urllib.parse.urlencode(parameters, doseq=True)
        try:
            with urllib.request.urlopen(f"{self.address}/api/v1/{path}?{asked}", timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} {parameters}: {error.read().decode()}") from None

    def query(self, expr: str, at: float | None = None) -> list[dict[str, Any]]:
        """An instant query's series, each with "metric" and "value"; `at`: seconds since 1970, None = now."""
        found = self.ask("query", query=expr, **({} if at is None else {"time": at}))
        return list(found["result"]) if found["resultType"] == "vector" else [{"metric": {}, "value": found["result"]}]

    def query_range(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """A range query's series, each with "metric" and "values"."""
        return list(self.ask("query_range", query=expr, start=start, end=end, step=step)["result"])

    def wait_for(self, what: Any, seconds: float = 60.0) -> Any:
        """Ask again until the answer is true; fails with the server's log if it ends or the time is up."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(OSError):
                if answer := what():
                    return answer
            time.sleep(0.05)
        raise AssertionError(f"waited in vain; Prometheus says:\n{self.log.read_text(encoding='utf-8')[-4000:]}")


@contextlib.contextmanager
def prometheus_server(config: Mapping[str, Any], root: Path, *options: str) -> Iterator[Prometheus]:
    """A server with this configuration (as in prometheus.yml), ready; `root` gets its files and its data.

    Blocks that lie in `root`/data already (promtool tsdb create-blocks-from) are its history. `options`: more flags.
    """
    root.mkdir(parents=True, exist_ok=True)
    file, log = root / "prometheus.yml", root / "prometheus.log"
    file.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = [str(PROGRAM), f"--config.file={file}", f"--storage.tsdb.path={root / 'data'}",
               f"--web.listen-address={address}", *options]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    server = Prometheus(f"http://{address}", process, log)
    try:
        server.wait_for(lambda: urllib.request.urlopen(f"{server.address}/-/ready", timeout=5).close() or True)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def free_port() -> int:
    """A port of the loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
