"""Reads PyTorch's legacy stream format (before 1.6) without torch, and can yield nothing but arrays.

Layout: four small pickles (magic number, protocol, system info, the state dict with its storages as persistent ids),
a fifth with the list of storage keys, then for each key an int64 count and the raw little-endian numbers.
A pickle is a program, so each is screened before it is run: only the operations that a state dict needs, only the
names in `_admitted`; there is no way from here to a general unpickler. It touches the one file it is given.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cellvigil.data import Array
from cellvigil.errors import BundleError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_MAX_BYTES = 1 << 30  # ten times the largest checkpoint that is read this way
_MAX_MEMO = 1 << 20  # a pickle may name any memo slot, and the unpickler would allocate up to it

_OPERATIONS = frozenset(
    {
        *("PROTO", "STOP", "MARK", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("APPEND", "APPENDS", "SETITEM", "SETITEMS", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2"),
        *("LONG1", "BINUNICODE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
        *("GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
    }
)

_STORAGES = {
    "torch FloatStorage": "<f4",
    "torch DoubleStorage": "<f8",
    "torch HalfStorage": "<f2",
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
    "torch ByteStorage": "|u1",
    "torch BoolStorage": "|b1",
}

_BROKEN = (
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError),
    *(AttributeError, OverflowError, RecursionError, struct.error),
)
"""What a damaged or hostile stream makes the unpickler and the checks below raise."""


class _Storage(NamedTuple):
    """A storage as the pickle names it; its numbers come later in the file."""

    dtype: np.dtype[Any]
    key: str
    length: int  # in elements


class _Tensor(NamedTuple):
    """A tensor as the pickle describes it: a strided window on a storage, in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _RebuildTensor:
    """Stands in for `torch._utils._rebuild_tensor_v2`. Without a __dict__, so that a pickle cannot write to it."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_unused: Any) -> _Tensor:
        whole = [offset, *shape, *strides]
        if not isinstance(storage, _Storage) or not all(type(number) is int and number >= 0 for number in whole):
            raise pickle.UnpicklingError("a tensor is not made of a storage and whole numbers")
        return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _admitted(name: str) -> Any:
    """What a name in the pickle stands for; `name` is "module attribute". Raises UnpicklingError for any other."""
    if name == "collections OrderedDict":
        return OrderedDict
    if name == "torch._utils _rebuild_tensor_v2":
        return _RebuildTensor()
    if name in _STORAGES:
        return np.dtype(_STORAGES[name])
    raise pickle.UnpicklingError(f"it asks for {name.replace(' ', '.')}, which is no part of a tensor")


class _TensorUnpickler(pickle.Unpickler):
    """An unpickler that knows the names in `_admitted` and storages, and nothing else."""

    def find_class(self, module: str, name: str, /) -> Any:
        return _admitted(f"{module} {name}")

    def persistent_load(self, pid: Any, /) -> _Storage:
        kind, dtype, key, _location, count, view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or not isinstance(key, str) or view is not None:
            raise pickle.UnpicklingError("a persistent id is not a plain storage")
        if type(count) is not int or count < 0:
            raise pickle.UnpicklingError("a storage has no size")
        return _Storage(dtype, key, count)


def _load(stream: io.BytesIO) -> Any:
    """One pickle from `stream`, screened before it is run."""
    start = stream.tell()
    for operation, argument, _position in pickletools.genops(stream):
        if operation.name not in _OPERATIONS:
            raise pickle.UnpicklingError(f"it uses {operation.name}, which no state dict needs")
        if operation.name == "GLOBAL":
            _admitted(str(argument))
        if operation.name == "LONG_BINPUT" and int(argument or 0) > _MAX_MEMO:
            raise pickle.UnpicklingError("it asks for too much memory")
    stream.seek(start)
    return _TensorUnpickler(stream, encoding="utf-8").load()


def _read_storages(stream: io.BytesIO, wanted: Mapping[str, _Storage], keys: Sequence[str]) -> dict[str, Array]:
    if sorted(keys) != sorted(wanted):
        raise ValueError("the list of storages does not fit the tensors")
    storages = {}
    for key in keys:
        storage = wanted[key]
        (count,) = struct.unpack("<q", stream.read(8))
        raw = stream.read(storage.length * storage.dtype.itemsize)
        if count != storage.length or len(raw) != storage.length * storage.dtype.itemsize:
            raise EOFError(f"storage {key} is cut short")
        storages[key] = np.frombuffer(raw, storage.dtype)
    return storages


def _window(tensor: _Tensor, numbers: Array) -> Array:
    """A copy of the strided window that `tensor` describes; never reads outside `numbers`."""
    last = tensor.offset + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.strides, strict=True))
    count = math.prod(tensor.shape)
    if count > len(numbers) or (count and last >= len(numbers)):
        raise ValueError("a tensor reaches outside its storage")
    if not count:
        return np.empty(tensor.shape, numbers.dtype)
    strides = tuple(step * numbers.itemsize for step in tensor.strides)
    view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)
    return np.array(view, order="C")


def _read(stream: io.BytesIO) -> dict[str, Array]:
    if _load(stream) != _MAGIC or _load(stream) != _PROTOCOL:
        raise ValueError("the magic number is not that of the legacy format")
    if _load(stream).get("little_endian") is not True:
        raise ValueError("it was written on a big-endian machine")
    state = _load(stream)
    if not isinstance(state, dict) or not all(isinstance(tensor, _Tensor) for tensor in state.values()):
        raise ValueError("it holds something other than named tensors")
    storages = _read_storages(stream, {t.storage.key: t.storage for t in state.values()}, _load(stream))
    return {str(name): _window(tensor, storages[tensor.storage.key]) for name, tensor in state.items()}


def read_legacy_pth(path: Path) -> dict[str, Array]:
    """The named arrays of a state dict saved by PyTorch before 1.6 (`.pth`, `.pt`), C-ordered copies.

    Raises BundleError for a file that is damaged, cut short, of another format, or asks for anything but tensors;
    nothing from such a file is run.
    """
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= _MAX_BYTES else b""
    except OSError as error:
        raise BundleError(f"the checkpoint cannot be read: {error.strerror}", where=path) from None
    if size > _MAX_BYTES:
        raise BundleError(f"the checkpoint is too large to be one ({size} bytes)", where=path)
    if content.startswith(b"PK"):
        hint = "save it with torch.save(..., _use_new_zipfile_serialization=False)"
        raise BundleError("this checkpoint is in PyTorch's zip format, not the legacy one", where=path, hint=hint)
    try:
        with warnings.catch_warnings():
            # pickletools warns of odd escapes in names; a name that is not admitted is refused anyway.
            warnings.simplefilter("ignore", DeprecationWarning)
            return _read(io.BytesIO(content))
    except _BROKEN as error:
        raise BundleError(f"this is not a plain checkpoint of tensors: {error}", where=path) from None
