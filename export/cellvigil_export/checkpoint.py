"""The files of a checkpoint: which of a folder matter, and the tensors that they hold.

A folder is as transformers lays it out (config.json, preprocessor_config.json, model.safetensors, in shards or whole),
or holds one published file. safetensors come first; pickles are read by torch's weights-only loader, which runs no
code. Tensors stay mapped from their file wherever its format allows it. Reads those files, writes nothing.
"""

from __future__ import annotations

import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellvigil.errors import BundleError, UsageError
from cellvigil_export import preprocessor

State = dict[str, Any]  # name -> torch.Tensor

CONFIG = "config.json"
WHOLE = ("model.safetensors", "pytorch_model.bin")
"""A model in one file, as transformers names it; the first that is there is taken, sharded or not."""
SAVED = ("model", "pytorch_model")
"""What the names of files begin with that transformers wrote; its folders have a config.json."""

_PICKLES = (".pth", ".pt", ".bin")
_WRAPPERS = ("teacher", "model", "state_dict")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a file or folder of weights holds."""

    where: Path  # as it was given
    tensors: tuple[Path, ...]
    config: Path | None  # transformers' description of the architecture
    described: tuple[Path, ...]  # all JSON files that were or will be read

    @property
    def sources(self) -> dict[str, Path]:
        """All files, by name."""
        return {path.name: path for path in (*self.described, *self.tensors)}


def held(where: Path) -> Checkpoint:
    """The checkpoint at `where`, a file or a folder. Raises UsageError where there is none, or more than one."""
    if not where.is_dir():
        return Checkpoint(where, (where,), None, ())
    tensors, index = _tensor_files(where)
    jsons = tuple(path for name in (CONFIG, *preprocessor.FILES) if (path := where / name).is_file())
    config = where / CONFIG if where / CONFIG in jsons else None
    return Checkpoint(where, tensors, config, jsons + index)


def _tensor_files(folder: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The files with the tensors, and the index that lists them if they are in shards."""
    for name in WHOLE:
        if (folder / f"{name}.index.json").is_file():
            return _shards(folder / f"{name}.index.json"), (folder / f"{name}.index.json",)
        if (folder / name).is_file():
            return (folder / name,), ()
    for suffixes in ((".safetensors",), _PICKLES):
        files = sorted(path for path in folder.iterdir() if path.suffix in suffixes and path.is_file())
        if len(files) > 1:
            names = ", ".join(path.name for path in files)
            raise UsageError(f"which is the checkpoint: {names}?", where=folder, hint="name the file itself")
        if files:
            return tuple(files), ()
    raise UsageError("the folder holds no model.safetensors", where=folder, hint="a checkpoint's folder, or its file")


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        inside = all(name == Path(name).name for name in names)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BundleError(f"the list of shards cannot be read: {error!r}", where=index) from None
    missing = [name for name in names if not inside or not (index.parent / name).is_file()]
    if missing or not names:
        raise BundleError(f"shards are missing: {', '.join(missing) or 'all'}", where=index.parent, hint="bring them")
    return tuple(index.parent / name for name in names)


def settings(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises BundleError if it holds none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise BundleError(f"the configuration cannot be read: {error}", where=path) from None
    if not isinstance(content, dict):
        raise BundleError("the configuration cannot be read: it is no JSON object", where=path)
    return content


def tensors(checkpoint: Checkpoint) -> State:
    """The tensors of `checkpoint`, under the names they have there, wrappers taken off. Needs torch.

    Raises BundleError for a file that holds anything else: a pickle that carries code is refused, not run.
    """
    state: State = {}
    for path in checkpoint.tensors:
        state |= _read(path)
    return state


def _read(path: Path) -> State:
    import torch  # noqa: PLC0415 - listing a folder's files needs none
    from safetensors import SafetensorError  # noqa: PLC0415 - comes with torch's extra
    from safetensors.torch import load_file  # noqa: PLC0415 - the same

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with warnings.catch_warnings(action="ignore"):  # of a pickle protocol that it then refuses
            mapped = zipfile.is_zipfile(path)  # the older format is a stream, which cannot be
            return _unwrapped(torch.load(path, map_location="cpu", weights_only=True, mmap=mapped))
    except (
        *(SafetensorError, pickle.UnpicklingError, zipfile.BadZipFile, struct.error, AssertionError),
        *(RuntimeError, EOFError, OSError, TypeError, ValueError, KeyError, IndexError, AttributeError),
    ) as error:
        first = str(error).strip().partition("\n")[0]
        raise BundleError(f"this is not a plain checkpoint of tensors: {first}", where=path) from None


def _unwrapped(content: Any) -> State:
    """The state dict inside a training checkpoint."""
    while isinstance(content, Mapping) and (inner := next((name for name in _WRAPPERS if name in content), None)):
        content = content[inner]
    if not isinstance(content, Mapping) or not all(hasattr(value, "untyped_storage") for value in content.values()):
        raise TypeError("it holds something other than named tensors")
    return dict(content)
