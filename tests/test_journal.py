"""Lines that prove themselves: what was written is read, and what was damaged is never taken for it."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellvigil.errors import StoreError, StoreFull
from cellvigil.journal import fold, open_journal, parse, read, seal

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(min_size=1).filter(lambda name: name != "crc"), VALUES, min_size=1, max_size=4)


def write(path: Path, count: int) -> bytes:
    journal, _ = open_journal(path, lambda line: None)
    journal.append([{"kind": "frame", "number": number} for number in range(count)])
    return path.read_bytes()


@settings(max_examples=50)
@given(OBJECTS)
def test_a_sealed_line_reads_as_what_was_sealed(line):
    raw = seal(line)
    assert raw.endswith(b"\n")
    assert raw.count(b"\n") == 1
    assert parse(raw[:-1]) == line


@settings(max_examples=50)
@given(OBJECTS, st.data())
def test_a_changed_byte_is_noticed(line, data):
    raw = bytearray(seal(line)[:-1])
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    assert parse(bytes(raw)) is None


@settings(max_examples=50)
@given(OBJECTS, st.data())
def test_a_line_cut_short_is_noticed(line, data):
    raw = seal(line)[:-1]
    assert parse(raw[: data.draw(st.integers(0, len(raw) - 1))]) is None


def test_a_value_json_has_no_word_for_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        seal({"focus": float("nan")})


def test_an_absent_journal_is_an_empty_one(tmp_path):
    assert read(tmp_path / "journal.jsonl") == []


def test_lines_are_numbered_on_over_a_restart(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, 3)
    lines = []
    journal, _ = open_journal(path, lines.append)
    assert [line["seq"] for line in lines] == [1, 2, 3]
    assert journal.append([{"kind": "event"}])[0]["seq"] == 4
    assert [line["seq"] for line in read(path)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "tail",
    [b"\0" * 512, b'{"seq":4,"kind":"frame"', b'{"seq":4,"kind":"frame","crc":"00000000"}\n', b"\n", b"\xff\xfe\n"],
    ids=["zeros", "torn", "wrong checksum", "empty line", "no text"],
)
def test_a_bad_last_line_is_cut_and_the_next_one_stands(tmp_path, tail):
    path = tmp_path / "journal.jsonl"
    good = write(path, 3)
    path.write_bytes(good + tail)
    journal, found = open_journal(path, lambda line: None)
    assert found.torn == tail
    assert found.bad == ()
    assert path.read_bytes() == good
    journal.append([{"kind": "after"}])
    assert [line["kind"] for line in read(path)] == ["frame"] * 3 + ["after"]


def test_a_last_line_without_its_newline_was_never_confirmed_and_is_cut(tmp_path):
    path = tmp_path / "journal.jsonl"
    good = write(path, 3)
    path.write_bytes(good[:-1])
    lines = []
    open_journal(path, lines.append)
    assert [line["number"] for line in lines] == [0, 1]


def test_a_bad_line_in_the_middle_costs_only_itself(tmp_path):
    path = tmp_path / "journal.jsonl"
    rows = write(path, 5).split(b"\n")
    rows[2] = rows[2].replace(b"frame", b"fr\0me")
    path.write_bytes(b"\n".join(rows))
    lines = []
    _, found = open_journal(path, lines.append)
    assert [line["number"] for line in lines] == [0, 1, 3, 4]
    assert found.bad == (3,)
    assert found.torn == b""


@pytest.mark.parametrize("bytes_before", [0, 1, 20])
def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch, bytes_before):
    path = tmp_path / "journal.jsonl"
    good = write(path, 2)
    journal, _ = open_journal(path, lambda line: None)
    real, room = os.write, [bytes_before]

    def full(descriptor, data):
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(descriptor, data[: room[0]])  # a short write, as a full disk makes it
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match="No space left") as caught:
        journal.append([{"kind": "frame"}])
    assert isinstance(caught.value.__cause__, OSError)
    monkeypatch.setattr(os, "write", real)
    assert path.read_bytes() == good
    journal.append([{"kind": "later"}])
    assert [line["kind"] for line in read(path)] == ["frame", "frame", "later"]


def test_a_short_write_goes_on_to_the_end(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    write(tmp_path / "journal.jsonl", 3)
    assert len(read(tmp_path / "journal.jsonl")) == 3


def test_after_a_failed_fsync_nothing_is_written_until_it_is_opened_again(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    write(path, 1)
    journal, _ = open_journal(path, lambda line: None)

    def fails(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fails)
        with pytest.raises(StoreError, match="Input/output error"):
            journal.append([{"kind": "doubtful"}])
    with pytest.raises(StoreError, match="start again"):
        journal.append([{"kind": "refused"}])
    journal, _ = open_journal(path, lambda line: None)
    journal.append([{"kind": "after"}])
    assert read(path)[-1]["kind"] == "after"
    assert [line["seq"] for line in read(path)] == sorted({line["seq"] for line in read(path)})


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["open", "write"])
def test_want_of_room_is_told_as_such_and_the_same_append_works_later(tmp_path, monkeypatch, code, call):
    path = tmp_path / "journal.jsonl"
    write(path, 2)
    journal, _ = open_journal(path, lambda line: None)

    def full(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(StoreFull):
            journal.append([{"kind": "later"}])
    assert not journal.broken
    journal.append([{"kind": "later"}])
    assert [line["kind"] for line in read(path)] == ["frame", "frame", "later"]


def test_a_reader_leaves_a_half_written_line_out_and_takes_it_for_no_error(tmp_path):
    path = tmp_path / "journal.jsonl"
    good = write(path, 3)
    line = seal({"seq": 4, "kind": "frame"})
    for size in range(len(line)):
        path.write_bytes(good + line[:size])
        found = fold(path, lambda line: None)
        assert (found.good_bytes, found.torn, found.bad) == (len(good), line[:size], ())
        assert path.read_bytes() == good + line[:size]


def test_what_is_added_while_a_reader_stands_at_a_half_line_is_left_to_the_next_reading(tmp_path):
    path = tmp_path / "journal.jsonl"
    good = write(path, 1)
    line = seal({"seq": 2, "kind": "frame"})
    path.write_bytes(good + line[:9])
    taken = []

    def take(one: dict[str, object]) -> None:
        taken.append(one["seq"])

    # The writer goes on between the reader's two looks at the file's end.
    class Growing(io.BufferedReader):
        def __next__(self) -> bytes:
            row = super().__next__()
            if row == line[:9]:
                with path.open("ab") as file:
                    file.write(line[9:] + seal({"seq": 3, "kind": "frame"}))
            return row

    class GrowingPath(type(path)):
        def open(self, *_: object, **__: object) -> Growing:
            return Growing(io.FileIO(path))

    found = fold(GrowingPath(path), take)
    assert taken == [1]
    assert found.bad == ()
    assert [line["seq"] for line in read(path)] == [1, 2, 3]


@pytest.mark.parametrize("how", ["gone", "shorter", "longer"])
def test_a_journal_that_somebody_else_changed_takes_no_line(tmp_path, how):
    path = tmp_path / "journal.jsonl"
    good = write(path, 3)
    journal, _ = open_journal(path, lambda line: None)
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(good[:-5] if how == "shorter" else good + b"x")
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(StoreError):
        journal.append([{"kind": "later"}])
    assert (path.read_bytes() if path.exists() else None) == before


def test_a_new_journals_name_is_as_durable_as_its_first_line(tmp_path, monkeypatch):
    synced, real = [], os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    journal, _ = open_journal(tmp_path / "journal.jsonl", lambda line: None)
    journal.append([{"kind": "first"}])
    assert synced == [tmp_path / "journal.jsonl", tmp_path]
    journal.append([{"kind": "second"}])
    assert synced[2:] == [tmp_path / "journal.jsonl"]
