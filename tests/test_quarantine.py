"""A bad file is put aside once, with its reason, and tried again when it changes."""

from __future__ import annotations

import pytest

from cellvigil.data import FileStat
from cellvigil.quarantine import Entry, Quarantine, read_entries
from store_records import START


def entry(path: str = "a.tif", size: int = 10, mtime_ns: int = 1, reason: str = "truncated", **other: str) -> Entry:
    return Entry("scope", path, size, mtime_ns, reason, other.pop("message", "it ends early"), "read", START, **other)


def test_a_file_is_held_until_it_changes_also_after_a_restart(tmp_path):
    path = tmp_path / "state" / "quarantine.jsonl"
    Quarantine(path).add(entry())
    for quarantine in (Quarantine(path), Quarantine(path)):
        assert quarantine.holds("scope", "a.tif", 10, 1)
        assert not quarantine.holds("scope", "a.tif", 11, 1)
        assert not quarantine.holds("scope", "a.tif", 10, 2)
        assert not quarantine.holds("scope", "b.tif", 10, 1)
        assert not quarantine.holds("other", "a.tif", 10, 1)
        assert quarantine.entries() == [entry()]


def test_the_last_entry_of_a_file_stands(tmp_path):
    quarantine = Quarantine(tmp_path / "q.jsonl")
    quarantine.add(entry())
    quarantine.add(entry(size=20, reason="unreadable"))
    assert [one.reason for one in quarantine.entries()] == ["unreadable"]
    assert quarantine.holds("scope", "a.tif", 20, 1)
    assert not quarantine.holds("scope", "a.tif", 10, 1)


def test_a_file_that_became_a_frame_after_all_leaves_the_list(tmp_path):
    path = tmp_path / "q.jsonl"
    quarantine = Quarantine(path)
    for name in ("a.tif", "b.tif"):
        quarantine.add(entry(name))
    size = path.stat().st_size
    a, older, never = FileStat("a.tif", 12, 2), FileStat("a.tif", 9, 0), FileStat("never.tif", 10, 1)
    quarantine.taken("other", [a])
    quarantine.taken("scope", [never, older])
    assert path.stat().st_size == size  # most frames were never refused: nothing is written for them
    quarantine.taken("scope", [a, never])
    for entries in (quarantine.entries(), read_entries(path), Quarantine(path).entries()):
        assert [one.path for one in entries] == ["b.tif"]
    quarantine.add(entry("a.tif", size=11))
    assert [one.path for one in read_entries(path)] == ["a.tif", "b.tif"]


def test_long_messages_and_tracebacks_are_cut(tmp_path):
    quarantine = Quarantine(tmp_path / "q.jsonl")
    quarantine.add(entry(message="m" * 10_000, traceback="x" * 10_000 + "the last line"))
    [one] = quarantine.entries()
    assert len(one.message) == 1000
    assert len(one.traceback) == 4000
    assert one.traceback.endswith("the last line")


def test_a_reason_nobody_knows_is_refused(tmp_path):
    with pytest.raises(ValueError, match="bad_luck"):
        Quarantine(tmp_path / "q.jsonl").add(entry(reason="bad_luck"))


def test_names_that_are_no_text_survive(tmp_path):
    quarantine = Quarantine(tmp_path / "q.jsonl")
    quarantine.add(entry(path="caf\udce9/x.tif"))
    assert Quarantine(tmp_path / "q.jsonl").holds("scope", "caf\udce9/x.tif", 10, 1)


def test_a_torn_line_costs_one_entry(tmp_path):
    path = tmp_path / "q.jsonl"
    quarantine = Quarantine(path)
    quarantine.add(entry("a.tif"))
    quarantine.add(entry("b.tif"))
    path.write_bytes(path.read_bytes()[:-5])
    again = Quarantine(path)
    assert [one.path for one in again.entries()] == ["a.tif"]
    again.add(entry("c.tif"))
    assert [one.path for one in Quarantine(path).entries()] == ["a.tif", "c.tif"]


def test_a_changed_configuration_tries_the_file_again(tmp_path):
    path = tmp_path / "q.jsonl"
    Quarantine(path, config="one").add(entry())
    held = entry()
    asked = (held.source, held.path, held.size, held.mtime_ns)
    assert Quarantine(path, config="one").holds(*asked)
    assert not Quarantine(path, config="two").holds(*asked)
