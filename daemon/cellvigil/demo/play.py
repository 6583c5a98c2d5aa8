"""Plays the demo: rehearses, builds an index, starts the real service on the folder, and watches it through /metrics.

Everything goes through the commands and files that a lab would use; nothing is passed in memory.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from cellvigil.bundle.files import MANIFEST
from cellvigil.demo.pictures import draw_curves, draw_frame
from cellvigil.demo.result import Result, result_of, table_lines
from cellvigil.errors import CellvigilError, UsageError
from cellvigil.rehearse.assay import Assay
from cellvigil.rehearse.reference import write_reference
from cellvigil.rehearse.run import IMAGES, TRUTH, Rehearsal, run
from cellvigil.rehearse.sheets import write_sheets

ENCODER = "efficientnet-lite0"
STATES = "live=alive,apoptotic=dying,necrotic=dead,debris=artefact"
_MARK = ".cellvigil-demo"
_REFERENCE_FRAMES = 24
_WELLS = ("A1", "A2", "A3", "B1", "B2", "B3")  # three of an arm: fewer tell little of how wells differ
_PACE_S = 1.0  # real seconds between two time points
_PATIENCE_S = 600.0  # without a new frame


@dataclass(frozen=True, slots=True)
class Places:
    """Where the demo keeps what it makes."""

    out: Path

    @property
    def config(self) -> Path:
        """The service's configuration."""
        return self.out / "config.yaml"

    @property
    def store(self) -> Path:
        """The record."""
        return self.out / "store"

    @property
    def log(self) -> Path:
        """What the service said."""
        return self.out / "service.log"


def demo(out: Path, *, seed: int = 7, port: int = 0, keep: bool = False) -> dict[str, Any]:
    """Run the demo into folder `out`; returns its figures. With `keep` the service goes on until Ctrl-C.

    Raises UsageError if `out` holds something that no demo made, CellvigilError if a step fails.
    """
    began = time.monotonic()
    places = Places(out.absolute())
    _claim(places.out)
    assay = Assay(seed=seed, wells=_WELLS, treated=_WELLS[3:], timepoints=16, minutes=120.0, dosed_at=2)
    _say("1/5  encoder: EfficientNet-Lite0 with its real ImageNet weights, to ONNX without torch")
    _encoder(places)
    _say("2/5  reference cells of another seed, and an index of them")
    reference = write_reference(places.out / "reference", assay, _REFERENCE_FRAMES)
    _indexed(places, reference.annotations)
    _configure(places, assay, port)
    _say(f"3/5  the service watches {places.out / IMAGES} while the microscope writes")
    with _service(places) as address:
        _say(f"     live: {address}/metrics for Prometheus, {address}/ for you")
        written = _film(assay, places, address)
        _say("4/5  every frame is committed; the counts beside the truth")
        if keep:
            _hold(address)
    result = result_of(places.store, places.out / TRUTH)
    for line in table_lines(result):
        _say(line)
    _say("5/5  pictures")
    pictures = _pictures(places, result)
    seconds = time.monotonic() - began
    _say(f"     {', '.join(str(picture) for picture in pictures)}")
    _say(f"done in {seconds:.0f} s: {written.frames} frames, {result.cells} cells")
    return {**result.figures(), "frames": written.frames, "seconds": round(seconds, 1)}


def _claim(out: Path) -> None:
    """An empty folder of ours: an earlier demo's is emptied, anybody else's is left alone."""
    if out.exists() and any(out.iterdir()) and not (out / _MARK).exists():
        raise UsageError("this folder holds something else", where=out, hint="give a new one with --out")
    kept = {"encoders"}
    for path in out.iterdir() if out.exists() else ():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).touch()


def _encoder(places: Places) -> None:
    if not (places.out / "encoders" / ENCODER / MANIFEST).is_file():
        _tool("cellvigil_export", "run", ENCODER, "--out", str(places.out / "encoders"))


def _indexed(places: Places, annotations: Path) -> None:
    arguments = ["build", "demo", "--coco", str(annotations), "--encoder", ENCODER, "--states", STATES]
    # A cell of 12 to 25 um with a little of what is around it.
    arguments += [
        "--crop-um",
        "28",
        "--mask",
        "--cell-diameter",
        "18",
        "--k-max",
        "24",
        "--scale",
        "discriminant",
        "--encoders",
        str(places.out / "encoders"),
        "--out",
        str(places.out / "indexes"),
    ]
    _tool("cellvigil_indexes", *arguments)


def _tool(module: str, *arguments: str) -> None:
    """Run one of the other two distributions' commands in a process of its own: the runtime never imports them."""
    done = subprocess.run(  # noqa: S603 - our own module, our own arguments, no shell
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CellvigilError(f"{module} {arguments[0]} failed: {done.stderr.strip() or done.stdout.strip()}")


def _configure(places: Places, assay: Assay, port: int) -> None:
    (places.out / IMAGES).mkdir()
    plate_map, events = write_sheets(assay, places.out)  # as the biologist does: before the plate goes in
    settings = {
        "version": 1,
        "sources": [
            {
                "name": "rehearsal",
                "kind": "gen5",
                "path": IMAGES,
                "timezone": "UTC",
                "channels": {"segment": "Bright Field"},
                "expect": {"wells": len(assay.wells), "fields": assay.fields, "cells": 40},
                "interval_s": assay.minutes * 60,
                "plate_map": plate_map.name,
                "events": events.name,
                "scan_interval_s": 0.3,
                "index": "demo",
                "same_device_as_index": True,
            }
        ],
        "metrics": {"port": port},
    }
    places.config.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


@contextlib.contextmanager
def _service(places: Places) -> Iterator[str]:
    """`cellvigil run` as a process of its own; yields its address, and stops it with SIGTERM, which drains."""
    with places.log.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            [sys.executable, "-m", "cellvigil", "run", "--config", str(places.config)], stderr=log, stdout=log
        )
        try:
            yield _address(process, places.log)
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            if process.returncode != 0:
                raise CellvigilError("the service did not end well", where=places.log, hint="its log says why")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where the service listens, from its log."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        for line in log.read_text(encoding="utf-8").splitlines():
            if "http://" in line:
                return "http://" + line.split("http://", 1)[1].split("/", 1)[0]
        time.sleep(0.1)
    raise CellvigilError("the service did not start", where=log, hint="its log says why")


def _film(assay: Assay, places: Places, address: str) -> Rehearsal:
    """Write the assay in a thread while the service works, until every frame is in the store."""
    written: list[Rehearsal] = []
    failed: list[BaseException] = []

    def film() -> None:
        try:
            written.append(run(assay, places.out, pace_s=_PACE_S, pieces=3, pause_s=0.02))
        except BaseException as error:  # noqa: BLE001 - a thread's last word, raised below
            failed.append(error)

    microscope = threading.Thread(target=film, name="microscope", daemon=True)
    microscope.start()
    frames = len(assay.wells) * assay.fields * assay.timepoints
    done, last = 0, time.monotonic()
    while done < frames:
        time.sleep(0.5)
        if failed:
            raise failed[0]
        now_done = _committed(address)
        if now_done != done:
            done, last = now_done, time.monotonic()
            _progress(done, frames)
        if time.monotonic() - last > _PATIENCE_S:
            raise CellvigilError(f"no frame for {_PATIENCE_S:.0f} s, {done} of {frames} done", where=places.log)
    microscope.join()
    return written[0]


def _committed(address: str) -> int:
    """Frames committed so far, as /metrics says."""
    try:
        with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:  # noqa: S310 - our own localhost
            text = answer.read().decode()
    except (urllib.error.URLError, OSError) as error:
        raise CellvigilError(f"the service does not answer: {error}", where=address) from None
    for family in text_string_to_metric_families(text):
        if family.name == "cellvigil_frames":
            return int(sum(sample.value for sample in family.samples if sample.name.endswith("_total")))
    return 0


def _hold(address: str) -> None:
    _say(f"     serving {address}/ until Ctrl-C")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(1)


def _pictures(places: Places, result: Result) -> list[Path]:
    curves, frame = places.out / "curves.png", places.out / "frame.png"
    try:
        draw_curves(result, curves)
        draw_frame(places.store, frame)
    except ModuleNotFoundError as error:
        _say(f"     no pictures: {error.name} is not installed (pip install 'cellvigil[demo]')")
        return []
    return [curves, frame]


def _progress(done: int, frames: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r     {done} of {frames} frames" + ("\n" if done == frames else ""))
        sys.stderr.flush()
    elif done == frames or done % 8 == 0:
        _say(f"     {done} of {frames} frames")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
