"""The reader of PyTorch's legacy checkpoints: tensors come out right, and nothing but tensors comes out."""

import os
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellvigil.data import Array
from cellvigil.errors import BundleError
from cellvigil_export.checkpoint import held, tensors
from cellvigil_export.legacy_pth import read_legacy_pth
from cellvigil_export.weights import packaged_weights
from cellvigil_export.zoo import declared

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
SYSTEM = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}, 2)


# A checkpoint put together by hand, operation by operation, as torch writes it.
def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def pair(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def storage(key: str, count: int, kind: str = "FloatStorage") -> bytes:
    return pair(text("storage"), name("torch", kind), text(key), text("cpu"), number(count), b"N") + b"Q"


def tensor(held: bytes, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    hooks = name("collections", "OrderedDict") + b")R"
    window = (number(offset), pair(*map(number, shape)), pair(*map(number, strides)))
    return name("torch._utils", "_rebuild_tensor_v2") + pair(held, *window, b"\x89", hooks) + b"R"


def state(tensors: Mapping[str, bytes]) -> bytes:
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in tensors.items()) + b"u."


def checkpoint(content: bytes, numbers: Mapping[str, Array], system: bytes = SYSTEM) -> bytes:
    tail = b"".join(struct.pack("<q", len(array)) + array.tobytes() for array in numbers.values())
    return MAGIC + system + content + pickle.dumps(list(numbers), 2) + tail


SIX = np.arange(6, dtype="<f4")
PLAIN = checkpoint(state({"w": tensor(storage("0", 6), 0, (2, 3), (3, 1))}), {"0": SIX})


def read(tmp_path: Path, content: bytes) -> dict[str, Array]:
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(content)
    return read_legacy_pth(path)


def test_the_packaged_checkpoint_is_read() -> None:
    arrays = read_legacy_pth(packaged_weights(declared("efficientnet-lite0")))
    assert len(arrays) == 296
    assert arrays["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert arrays["_bn0.num_batches_tracked"].dtype == np.int64
    assert all(np.isfinite(array).all() and array.flags.c_contiguous for array in arrays.values())


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "expected"),
    [
        (0, (2, 3), (3, 1), [[0, 1, 2], [3, 4, 5]]),
        (0, (3, 2), (1, 3), [[0, 3], [1, 4], [2, 5]]),
        (2, (2,), (2,), [2, 4]),
        (5, (), (), 5),
        (0, (0, 3), (3, 1), np.zeros((0, 3))),
    ],
    ids=["rows", "transposed", "window", "scalar", "empty"],
)
def test_windows_on_a_storage(
    tmp_path: Path, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], expected: object
) -> None:
    content = state(
        {"w": tensor(storage("0", 6), offset, shape, strides), "same": tensor(storage("0", 6), 0, (6,), (1,))}
    )
    arrays = read(tmp_path, checkpoint(content, {"0": SIX}))
    np.testing.assert_array_equal(arrays["w"], expected)
    np.testing.assert_array_equal(arrays["same"], SIX)


KINDS = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "ByteStorage": "|u1",
}


@given(st.data(), st.sampled_from(sorted(KINDS)))
def test_numbers_come_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, kind: str
) -> None:
    numbers = data.draw(hnp.arrays(KINDS[kind], st.integers(0, 20)))
    content = state({"w": tensor(storage("7", len(numbers), kind), 0, (len(numbers),), (1,))})
    (array,) = read(tmp_path_factory.mktemp("pth"), checkpoint(content, {"7": numbers})).values()
    assert array.tobytes() == numbers.tobytes()
    assert array.dtype == np.dtype(KINDS[kind])


class Evil:
    """Runs a command when it is unpickled, as a general unpickler would."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.flag}",)


@pytest.mark.parametrize("place", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_is_refused_and_runs_nothing(tmp_path: Path, place: int, protocol: int) -> None:
    flag = tmp_path / "ran"
    evil = pickle.dumps({"w": Evil(flag)}, protocol)
    pickle.loads(evil)
    assert flag.exists()  # it does run where nothing holds it back
    flag.unlink()
    parts = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), SYSTEM, state({}), pickle.dumps([], 2)]
    parts[place] = evil
    with pytest.raises(BundleError, match="not a plain checkpoint of tensors"):
        read(tmp_path, b"".join(parts))
    assert not flag.exists()


HOSTILE = {
    "builtins": name("builtins", "eval") + pair(text("1")) + b"R",
    "dotted": name("collections", "OrderedDict.fromkeys") + pair(text("ab")) + b"R",
    "torch module": name("torch", "load") + pair(text("x")) + b"R",
    "extension": b"\x82\x01",
    "memo bomb": b"K\x01r\xff\xff\xff\xff",
    "stack global": text("os") + text("system") + b"\x93",
    "setting state": name("torch._utils", "_rebuild_tensor_v2") + b"}(" + text("a") + number(1) + b"ub",
    "not a storage": tensor(text("0"), 0, (1,), (1,)),
    "foreign id": text("x") + b"Q",
    "other thing": number(3),
    "outside": tensor(storage("0", 6), 4, (3,), (1,)),
    "far outside": tensor(storage("0", 6), 0, (2,), (2**31 - 1,)),
    "before": tensor(storage("0", 6), -1, (1,), (1,)),
    "backwards": tensor(storage("0", 6), 5, (2,), (-1,)),
    "inflated": tensor(storage("0", 6), 0, (2**31 - 1, 2**31 - 1), (0, 0)),
    "more strides": tensor(storage("0", 6), 0, (2,), (1, 1)),
    "wrong count": tensor(storage("0", 7), 0, (1,), (1,)),
    "no such storage": tensor(storage("9", 6), 0, (1,), (1,)),
    "unknown type": tensor(storage("0", 6, "EvilStorage"), 0, (1,), (1,)),
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_hostile_content_is_refused(tmp_path: Path, value: bytes) -> None:
    with pytest.raises(BundleError, match="not a plain checkpoint of tensors"):
        read(tmp_path, checkpoint(state({"w": value}), {"0": SIX}))


@pytest.mark.parametrize("length", range(0, len(PLAIN), 7))
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(BundleError):
        read(tmp_path, PLAIN[:length])


@given(st.integers(0, len(PLAIN) - 1), st.integers(1, 255))
@example(place=125, change=114)  # an escape in a name that Python warns of
def test_a_changed_byte_is_refused_or_changes_a_number(
    tmp_path_factory: pytest.TempPathFactory, place: int, change: int
) -> None:
    content = bytearray(PLAIN)
    content[place] ^= change
    try:
        arrays = read(tmp_path_factory.mktemp("pth"), bytes(content))
    except BundleError:
        return
    assert all(isinstance(array, np.ndarray) for array in arrays.values())


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"PK\x03\x04" + bytes(60), "zip format"),
        (b"", "not a plain checkpoint"),
        (pickle.dumps({"w": [1.0]}, 2), "not a plain checkpoint"),
        (checkpoint(state({}), {}, pickle.dumps({"little_endian": False}, 2)), "big-endian"),
    ],
    ids=["zip", "empty", "no magic", "big-endian"],
)
def test_other_formats_are_told_apart(tmp_path: Path, content: bytes, complaint: str) -> None:
    with pytest.raises(BundleError, match=complaint):
        read(tmp_path, content)


def test_a_checkpoint_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be read"):
        read_legacy_pth(tmp_path / "none.pth")


# torch's own reader of the same format, which files outside of the packages are read by.
OLD = checkpoint(state({"w": tensor(storage("0", 6), 0, (6,), (1,))}), {"0": SIX})


def with_another_key(content: bytes) -> bytes:
    """The list of the storages at its end names one that the tensors do not."""
    there = pickle.dumps(["0"], 2)
    return content.replace(there, pickle.dumps(["9"], 2))


@pytest.mark.export
@pytest.mark.parametrize("change", [lambda content: content[:28], with_another_key], ids=["cut", "another key"])
def test_what_torch_asserts_of_a_damaged_file_is_a_complaint_in_a_line(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    pytest.importorskip("torch", reason="needs the extra `export`")
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(OLD)
    assert tensors(held(path))["w"].tolist() == SIX.tolist()
    path.write_bytes(change(OLD))
    assert path.read_bytes() != OLD
    with pytest.raises(BundleError, match="not a plain checkpoint of tensors") as caught:
        tensors(held(path))
    assert (caught.value.where, "\n" in str(caught.value)) == (str(path), False)
