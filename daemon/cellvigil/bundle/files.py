"""What both kinds of bundle share: hashes, a manifest that lists every file, and writing that is all or nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from cellvigil.errors import BundleError

MANIFEST = "manifest.json"
VERIFIED = "verified.json"
"""Of the state folder: `verify`'s memory of the files whose hashes were verified before."""

_BLOCK = 1 << 20


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def listing(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and sha256 of every file in a bundle but its manifest, by relative name: the manifest's `files` entry."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256_of(path)} for path in files
    }


def bundle_sha256(manifest: Mapping[str, Any]) -> str:
    """A bundle's identity: the sha256 of its manifest in canonical form (which holds every file's own sha256)."""
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """The manifest of the bundle in `folder`. Raises BundleError if there is none, or it is of another kind."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(
            f"no {kind} bundle here: {MANIFEST} is missing", where=folder, hint=_cut_off(folder)
        ) from None
    except (OSError, ValueError) as error:
        raise BundleError(f"the manifest cannot be read: {error}", where=path, hint="make the bundle again") from None
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        raise BundleError(f"this is not a {kind} bundle", where=path)
    return manifest


def kind_of(folder: Path) -> str:
    """The kind that the manifest in `folder` names, such as "encoder"; "" where it names none, or cannot be read.

    What opens that kind of bundle then says what is the matter.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(manifest.get("kind", "")) if isinstance(manifest, dict) else ""


def _cut_off(folder: Path) -> str:
    """What to do where a change of a bundle was cut off between its two renames; see `cellvigil_indexes.versions`."""
    fresh = folder.parent / f"{folder.name}.next"
    return f"a change was cut off: rename {fresh.name} to {folder.name}" if (fresh / MANIFEST).is_file() else ""


def check_listed(folder: Path, files: Mapping[str, Any], opened: Collection[str]) -> None:
    """Nothing that a reader opens may be outside the manifest's list `files`, or its hash would prove nothing.

    `opened` are those files' names. Raises BundleError for one that is not listed, or an entry without size or sha256.
    """
    if unlisted := sorted(set(opened) - files.keys()):
        raise BundleError(f"the manifest does not list {', '.join(unlisted)}", where=folder, hint="export it again")
    for name, entry in files.items():
        if not isinstance(entry, dict) or not {"size", "sha256"} <= entry.keys():
            raise BundleError(f"the manifest's entry for {name} lacks its size or sha256", where=folder)


def verify(folder: Path, manifest: Mapping[str, Any], *, memory: Path | None = None) -> None:
    """Check every listed file's size and sha256.

    With `memory` (a JSON file in the state folder) a file that was verified before under the same path, size, mtime
    and inode is not hashed again; without it everything is. Raises BundleError on the first file that differs.
    """
    before = _remembered(memory)
    remembered = dict(before)
    for name, entry in manifest["files"].items():
        path = _inside(folder, name)
        try:
            stat = path.stat()
        except OSError:
            raise BundleError(f"{name} is missing", where=folder, hint="make the bundle again") from None
        mark = [stat.st_size, stat.st_mtime_ns, stat.st_ino, entry["sha256"]]
        if remembered.get(str(path)) == mark:
            continue
        if stat.st_size != entry["size"] or sha256_of(path) != entry["sha256"]:
            raise BundleError(f"{name} is not the file its manifest describes", where=path, hint="make it again")
        remembered[str(path)] = mark
    if memory is not None and remembered != before:
        _remember(memory, remembered)


@contextlib.contextmanager
def written_whole(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary folder that becomes `folder` when the block ends well: a reader sees a whole bundle or none.

    Raises BundleError if `folder` exists and `replace` is false, or is no bundle: that is never taken away.
    """
    if folder.exists() and not replace:
        raise BundleError("there is a bundle of this name already", where=folder, hint="choose another name or --force")
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise BundleError("this is no bundle, and is not replaced", where=folder, hint="choose another name")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield work
        work.chmod(0o755)
        for path in work.rglob("*"):
            _fsync(path)
        _fsync(work)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
            folder.rename(old / folder.name)
            work.rename(folder)
            shutil.rmtree(old)
        else:
            work.rename(folder)
        fsync_folder(folder.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write `manifest` with the listing of the folder's files added under "files"."""
    whole = {**manifest, "files": listing(folder)}
    (folder / MANIFEST).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BundleError(f"the manifest names a file outside the bundle: {name}", where=folder)
    return path


def _remembered(memory: Path | None) -> dict[str, Any]:
    if memory is None:
        return {}
    try:
        entries = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # a lost memory only costs hashing once more
    return entries if isinstance(entries, dict) else {}


def _remember(memory: Path, entries: Mapping[str, Any]) -> None:
    fresh = memory.with_suffix(f".{os.getpid()}.tmp")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps(entries), encoding="utf-8")
        fresh.replace(memory)
    except OSError:  # a full or read-only disk: hashing once more at the next start is all it costs
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)


def fsync_folder(folder: Path) -> None:
    """Make renames inside a folder last."""
    _fsync(folder)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
