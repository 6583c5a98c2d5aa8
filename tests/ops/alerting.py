"""A lab's alerting for a test: the repository's rules at a quickened pace, a real Prometheus, a real Alertmanager with
the repository's example, and somebody who gets the messages. All on loopback, on free ports, in the test's folder.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from prometheus_server import Prometheus, free_port, prometheus_server

ROOT = Path(__file__).parents[2]
PACE = 0.02  # an hour of the rules is 72 s
ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or ALERTMANAGER is None,
    reason="prometheus and prometheus-alertmanager are not installed (Debian packages of these names)",
)


@dataclass(frozen=True)
class Message:
    """What Alertmanager told one receiver."""

    receiver: str
    status: str  # "firing" or "resolved"
    alerts: tuple[Mapping[str, Any], ...]

    @property
    def name(self) -> str:
        """The kind of alert that its group is about; "" where it is about several."""
        names = {alert["labels"]["alertname"] for alert in self.alerts}
        return names.pop() if len(names) == 1 else ""

    def labels(self, name: str) -> set[str]:
        """The values that one label has in it."""
        return {alert["labels"][name] for alert in self.alerts if name in alert["labels"]}


@dataclass(frozen=True)
class Inbox:
    """Who gets the messages."""

    address: str
    messages: list[Message] = field(default_factory=list)

    def named(self, name: str, status: str = "firing") -> list[Message]:
        """The messages about one kind of alert."""
        return [message for message in self.messages if message.name == name and message.status == status]


@dataclass(frozen=True)
class Alertmanager:
    """A running Alertmanager."""

    address: str

    def alerts(self) -> dict[str, list[Mapping[str, Any]]]:
        """What it holds now, by name of the alert."""
        with urllib.request.urlopen(f"{self.address}/api/v2/alerts", timeout=10) as answer:
            found = json.load(answer)
        by_name: dict[str, list[Mapping[str, Any]]] = {}
        for alert in found:
            by_name.setdefault(alert["labels"]["alertname"], []).append(alert)
        return by_name

    def post(self, alerts: Sequence[Mapping[str, Any]]) -> None:
        """Tell it of alerts, as Prometheus does."""
        request = urllib.request.Request(
            f"{self.address}/api/v2/alerts", json.dumps(alerts).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=10).close()


@dataclass(frozen=True)
class Alerting:
    """All of it."""

    prometheus: Prometheus
    alertmanager: Alertmanager
    inbox: Inbox


@contextlib.contextmanager
def inbox() -> Iterator[Inbox]:
    """A receiver of webhooks: the last part of the path is the receiver's name."""

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            box.messages.append(Message(self.path.strip("/"), body["status"], tuple(body["alerts"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        box = Inbox(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield box
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def alertmanager_server(root: Path, box: Inbox) -> Iterator[Alertmanager]:
    """The repository's example as it is, but for the receivers (all are `box`), the pace, and the nights."""
    root.mkdir(parents=True, exist_ok=True)
    file, log = root / "alertmanager.yml", root / "alertmanager.log"
    file.write_text(yaml.safe_dump(quickened_example(box.address)), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = [str(ALERTMANAGER), f"--config.file={file}", f"--storage.path={root / 'alertmanager'}",
               f"--web.listen-address={address}", "--cluster.listen-address="]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        wait_for(lambda: _is_ready(f"http://{address}/-/ready"), log)
        yield Alertmanager(f"http://{address}")
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


@contextlib.contextmanager
def alerting(root: Path, targets: Sequence[str]) -> Iterator[Alerting]:
    """Watch these daemons ("127.0.0.1:9108"), and tell the inbox what there is to tell."""
    rules = root / "rules"
    made = [sys.executable, "-m", "dashboards.rules", "--pace", str(PACE), "--out", str(rules)]
    subprocess.run(made, cwd=ROOT, check=True)
    with inbox() as box, alertmanager_server(root, box) as alertmanager:
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "300ms"},
            "rule_files": [str(rules / "*.rules.yaml")],
            "alerting": {
                "alertmanagers": [{"static_configs": [{"targets": [alertmanager.address.partition("//")[2]]}]}]
            },
            "scrape_configs": [{"job_name": "cellvigil", "static_configs": [{"targets": list(targets)}]}],
        }
        with prometheus_server(config, root / "prometheus") as prometheus:
            yield Alerting(prometheus, alertmanager, box)


def quickened_example(address: str) -> dict[str, Any]:
    """The example's routes and inhibitions with every wait at the test's pace."""
    path = ROOT / "dashboards" / "alertmanager" / "alertmanager.example.yaml"
    example = yaml.safe_load(path.read_text(encoding="utf-8"))
    for receiver in example["receivers"]:
        hook = {"url": f"{address}/{receiver['name']}", "send_resolved": receiver["name"] != "results"}
        receiver.pop("email_configs", None)
        receiver["webhook_configs"] = [hook]
    del example["global"], example["time_intervals"]
    _quicken(example["route"])
    return dict(example)


def _quicken(route: dict[str, Any]) -> None:
    route.pop("mute_time_intervals", None)
    for key in ("group_wait", "group_interval", "repeat_interval"):
        if key in route:
            number, unit = re.fullmatch(r"(\d+)([smhd])", route[key]).groups()
            seconds = int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
            route[key] = f"{round(1000 * PACE * seconds)}ms"
    for inner in route.get("routes", ()):
        _quicken(inner)


def wait_for(what: Callable[[], Any], *logs: Path, seconds: float = 120.0) -> Any:
    """Ask again until the answer is true; fails with the logs when the time is up."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if answer := what():
            return answer
        time.sleep(0.05)
    raise AssertionError("waited in vain\n" + "\n".join(log.read_text(encoding="utf-8")[-3000:] for log in logs))


def _is_ready(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True
