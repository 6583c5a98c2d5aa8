"""A small lab for end-to-end tests: a rehearsed assay, an index of its reference cells, a configuration, a service."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from cellvigil import config
from cellvigil.ledger import Ledger
from cellvigil.rehearse.assay import Assay
from cellvigil.rehearse.reference import write_reference
from cellvigil.rehearse.run import run as film
from cellvigil.store.reader import read_ledger
from cellvigil_indexes.cli import main as index_command

STATES = "live=alive,apoptotic=dying,necrotic=dead,debris=artefact"
SMALL = {"shape": (200, 240), "wells": ("A1", "B1"), "treated": ("B1",), "defocus_rate": 0.0, "bubble_rate": 0.0}


def small_assay(**changes: Any) -> Assay:
    """Frames of a few cells, quick to make and to embed."""
    return Assay(**{"seed": 3, "timepoints": 3, **SMALL, **changes})


def build_index(out: Path, encoder: Path, *options: str, name: str = "states") -> Path:
    """An index of simulated reference cells, with further options of `build`; returns the folder of indexes."""
    reference = write_reference(out / "reference", small_assay(), 6)
    code = index_command(
        ["build", name, "--coco", str(reference.annotations), "--encoder", encoder.name, "--encoders",
         str(encoder.parent), "--states", STATES, "--crop-um", "28", "--mask", "--k-max", "12", "--out", str(out),
         *options]
    )  # fmt: skip
    assert code == 0
    return out


@dataclass(frozen=True)
class Lab:
    """Folders of one test, and the indexes and encoders that all share."""

    root: Path
    indexes: Path
    encoders: Path

    @property
    def images(self) -> Path:
        """The watched folder."""
        return self.root / "images"

    @property
    def store(self) -> Path:
        """The record."""
        return self.root / "store"

    def settings(self, **changes: Any) -> dict[str, Any]:
        """The configuration as plain values; `source` holds changes of the one source."""
        source = {
            "name": "scope", "kind": "gen5", "path": "images", "timezone": "UTC", "index": "states",
            "channels": {"segment": "Bright Field"}, "scan_interval_s": 0.1, **changes.pop("source", {}),
        }  # fmt: skip
        return {
            "version": 1,
            "sources": [source],
            "encoder": {"path": str(self.encoders)},
            "classify": {"indexes": str(self.indexes)},
            "metrics": {"port": 0},
            **changes,
        }

    def config(self, **changes: Any) -> config.Config:
        """The configuration, checked."""
        return config.parse(self.settings(**changes), base=self.root)

    def config_file(self, **changes: Any) -> Path:
        """The configuration, written."""
        path = self.root / "config.yaml"
        path.write_text(yaml.safe_dump(self.settings(**changes)), encoding="utf-8")
        return path

    def film(self, **changes: Any) -> int:
        """Write an assay's frames into the watched folder; returns how many."""
        return film(small_assay(**changes), self.root).frames

    def ledger(self) -> Ledger:
        """What the store's journals say now."""
        return read_ledger(self.store)

    def quarantined(self) -> dict[str, str]:
        """Reason by file name of everything in quarantine."""
        path = self.root / "state" / "quarantine.jsonl"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        lines = [yaml.safe_load(line) for line in text.splitlines()]
        return {Path(line["path"]).name: line["reason"] for line in lines}

    @contextlib.contextmanager
    def service(
        self,
        *,
        program: Sequence[str] = ("-m", "cellvigil"),
        environment: Mapping[str, str] | None = None,
        **changes: Any,
    ) -> Iterator[Service]:
        """`cellvigil run` as a process of its own; killed at the end if it still runs.

        `program`: what Python runs in its place, given the same arguments; `environment`: variables besides our own.
        """
        path = self.config_file(**changes)
        log = self.root / f"service-{time.monotonic_ns()}.log"
        with log.open("w", encoding="utf-8") as out:
            command = [sys.executable, *program, "run", "--config", str(path)]
            process = subprocess.Popen(command, stderr=out, env={**os.environ, **(environment or {})})
            try:
                yield Service(process, log)
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()


@dataclass(frozen=True)
class Service:
    """A running service, seen from outside."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def address(self) -> str:
        """Where it listens; waits until its log says so."""
        found = self.wait_for(lambda: re.search(r"http://[\d.:]+", self.log.read_text(encoding="utf-8")))
        return str(found.group())

    def get(self, path: str) -> str:
        """One answer of the service."""
        with urllib.request.urlopen(self.address + path, timeout=10) as answer:
            return str(answer.read().decode())

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of /metrics by name and labels."""
        families = text_string_to_metric_families(self.get("/metrics"))
        return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}

    def value(self, name: str, **labels: str) -> float | None:
        """One sample, or None."""
        return self.samples().get((name, frozenset(labels.items())))

    def tallied(self) -> None:
        """Wait until the figures of wells hold all that was committed before this call."""
        now = time.time()
        self.wait_for(lambda: (self.value("cellvigil_tally_timestamp_seconds") or 0) >= now)

    def committed(self) -> int:
        """Frames committed by this process."""
        return int(sum(value for (name, _), value in self.samples().items() if name == "cellvigil_frames_total"))

    def wait_for(self, what: Any, seconds: float = 60.0, *, every: float = 0.05) -> Any:
        """Ask again until the answer is true; fails if the service ends or the time is up. Asking has its price."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if answer := what():
                return answer
            assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
            time.sleep(every)
        raise AssertionError(f"waited in vain; the log says:\n{self.log.read_text(encoding='utf-8')}")

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(60)
