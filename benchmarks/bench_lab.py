"""What the benchmarks share: a rehearsed folder, an index of simulated cells, a configuration. Real encoder weights."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as `cellvigil` itself does, before numpy comes

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("daemon", "export", "indexes")]

from cellvigil import config  # noqa: E402 - found through the path set above
from cellvigil.bundle.files import MANIFEST  # noqa: E402
from cellvigil.rehearse.assay import Assay  # noqa: E402
from cellvigil.rehearse.reference import write_reference  # noqa: E402
from cellvigil.rehearse.run import run as film  # noqa: E402
from cellvigil_export.cli import main as export  # noqa: E402
from cellvigil_indexes.cli import main as index_command  # noqa: E402

ENCODER = "efficientnet-lite0"
STATES = "live=alive,apoptotic=dying,necrotic=dead,debris=artefact"


@dataclass(frozen=True)
class BenchLab:
    """Folders of one benchmark."""

    root: Path
    encoders: Path

    def film(self, assay: Assay) -> int:
        """Write the assay's frames; returns how many."""
        return film(assay, self.root).frames

    def settings(self, **source: Any) -> dict[str, Any]:
        """The configuration as plain values."""
        entry = {
            "name": "bench", "kind": "gen5", "path": "images", "timezone": "UTC", "index": "states",
            "channels": {"segment": "Bright Field"}, "scan_interval_s": 0.3, **source,
        }  # fmt: skip
        return {
            "version": 1,
            "sources": [entry],
            "encoder": {"path": str(self.encoders)},
            "classify": {"indexes": str(self.root / "indexes")},
            "metrics": {"port": 0},
        }

    def config(self, **source: Any) -> config.Config:
        """The configuration, checked."""
        return config.parse(self.settings(**source), base=self.root)


def encoder_folder(root: Path) -> Path:
    """Folder of the encoders: the checkout's, or a fresh export below `root` where there is none."""
    if (ROOT / "encoders" / ENCODER / MANIFEST).is_file():
        return ROOT / "encoders"
    export(["run", ENCODER, "--out", str(root / "encoders")])
    return root / "encoders"


@contextlib.contextmanager
def bench_lab(frames: int = 24) -> Iterator[BenchLab]:
    """A lab with an index of `frames` simulated reference frames, in a temporary folder."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            encoders = encoder_folder(root)
            reference = write_reference(root / "reference", Assay(seed=2), frames)
            arguments = ["--coco", str(reference.annotations), "--encoder", ENCODER, "--encoders", str(encoders)]
            arguments += ["--states", STATES, "--crop-um", "28", "--mask", "--out", str(root / "indexes")]
            if index_command(["build", "states", *arguments]):
                raise SystemExit("the index could not be built")
        (root / "images").mkdir(exist_ok=True)
        yield BenchLab(root, encoders)
