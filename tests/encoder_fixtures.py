"""The embedded default encoder, exported once a test session from the weights that its package brings."""

import json
from pathlib import Path

from cellvigil.bundle.files import MANIFEST, write_manifest
from cellvigil_export.make import export
from cellvigil_export.zoo import declared


def lite0_bundle(out: Path) -> Path:
    """Folder of a fresh EfficientNet-Lite0 bundle below `out`; tests that change it copy it first."""
    return export(declared("efficientnet-lite0"), weights=None, out=out).folder


def rewritten(folder: Path, **changed: object) -> None:
    """Write the bundle's manifest again: with what is `changed`, and the hashes of the files as they now are."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    del manifest["files"]
    write_manifest(folder, {**manifest, **changed})
