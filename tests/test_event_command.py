"""`cellvigil event`: added, listed, taken back, by several people at once, with and without a store."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from cellvigil.assays.added import FILE, Entry, add_event, read_added, remove_event
from cellvigil.cli import main
from cellvigil.journal import seal
from cellvigil.store.repair import check
from cellvigil.store.writer import open_store
from store_records import START, key, record

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def configured(root: Path, **changes: Any) -> Path:
    source = {"kind": "plain", "path": "images", "pattern": "(?P<well>[A-H][0-9]+)", "index": "states"}
    names = changes.pop("names", ["scope"])
    settings = {
        "sources": [{"name": name, "timezone": "Europe/Berlin", **source, **changes} for name in names],
        "store": {"path": "store"},
    }
    path = root / "config.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def event(root: Path, *arguments: str) -> int:
    words = list(arguments)
    return main(["event", words[0], "--config", str(root / "config.yaml"), *words[1:]])


def listed(root: Path, capsys: pytest.CaptureFixture[str], *more: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert event(root, "list", "--json", *more) == 0
    return list(json.loads(capsys.readouterr().out))


def plates(root: Path, *series: Sequence[str], hours: Sequence[float] = ()) -> None:
    """A store with a frame of each plate, committed that many hours after START."""
    for place, one in enumerate(series):
        at = START + timedelta(hours=hours[place] if hours else place)
        store = open_store(root / "store", now=lambda at=at: at)  # type: ignore[misc]
        store.append(record(key(series=("scope", one[0], one[1]))))
        store.close()


def test_an_event_is_added_shown_and_taken_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configured(tmp_path)
    arguments = ["--kind", "Dosed", "--wells", "b1-b3 C1", "--plate", "Plate 1", "--at", "2026-11-20 18:05"]
    assert event(tmp_path, "add", *arguments, "--note", "Raptinal\n10 uM") == 0
    told = capsys.readouterr()
    assert f"take it back: cellvigil event remove --config {tmp_path / 'config.yaml'} 1" in told.out
    assert "1  2026-11-20 18:05:00+01:00  dosed" in told.out
    assert "Raptinal 10 uM" in told.out
    assert "no such plate is in the store yet" in told.err
    [one] = listed(tmp_path, capsys)
    assert (one["id"], one["kind"], one["plate"], one["at"]) == (1, "dosed", "Plate 1", "2026-11-20T17:05:00+00:00")
    [entry] = read_added(tmp_path / "store")
    assert entry.row.event.wells == ("B1", "B2", "B3", "C1")
    assert event(tmp_path, "remove", "1") == event(tmp_path, "remove", "1") == 0
    assert listed(tmp_path, capsys) == []
    [gone] = listed(tmp_path, capsys, "--all")
    assert gone["removed_at"]
    assert len((tmp_path / "store" / FILE).read_bytes().splitlines()) == 2  # nothing erased, nothing said twice


def test_without_a_plate_it_is_the_one_at_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configured(tmp_path)
    assert event(tmp_path, "add", "--kind", "medium") == 0
    assert "every plate of the source" in capsys.readouterr().err
    plates(tmp_path, ("old", "Plate 1"), ("new", "Plate 1"), hours=(0, 30))
    assert event(tmp_path, "add", "--kind", "medium") == 0
    assert capsys.readouterr().err == ""
    assert [(one.experiment, one.plate) for one in read_added(tmp_path / "store")] == [("", ""), ("new", "Plate 1")]
    plates(tmp_path, ("new", "Plate 2"), hours=(31,))
    assert event(tmp_path, "add", "--kind", "medium") == 2
    assert "--experiment 'new' --plate 'Plate 2'" in capsys.readouterr().err
    assert event(tmp_path, "add", "--kind", "medium", "--plate", "*") == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--kind", "doesd"], "did you mean 'dosed'"),
        (["--kind", "dosed", "--wells", "Z99"], "'Z99' is no well"),
        (["--kind", "dosed", "--at", "yesterday"], "write it like 2026-11-20 18:05"),
        (["--kind", "dosed", "--at", "2026-10-25 02:30"], "was twice"),
        (["--kind", "dosed", "--source", "scoop"], "known: scope"),
    ],
)
def test_a_wrong_event_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    configured(tmp_path)
    assert event(tmp_path, "add", *arguments) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_of_several_sources_one_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configured(tmp_path, names=["scope", "other"])
    assert event(tmp_path, "add", "--kind", "medium") == 2
    assert "one of scope, other" in capsys.readouterr().err
    assert event(tmp_path, "add", "--kind", "medium", "--source", "other", "--json") == 0
    assert json.loads(capsys.readouterr().out)["source"] == "other"
    assert listed(tmp_path, capsys, "--source", "scope") == []
    assert len(listed(tmp_path, capsys)) == 1


def test_an_event_that_is_not_there_cannot_be_taken_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configured(tmp_path)
    assert event(tmp_path, "remove", "7") == 2
    assert "there is no event 7" in capsys.readouterr().err


def test_what_is_to_come_is_doubted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configured(tmp_path)
    assert event(tmp_path, "add", "--kind", "dosed", "--plate", "*", "--at", "2199-01-01 00:00") == 0
    assert "is in the future" in capsys.readouterr().err


def test_files_and_commands_are_listed_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configured(tmp_path, events="events.csv")
    (tmp_path / "events.csv").write_text("at,kind,wells\n2026-11-20 18:05,medium,B1-B2\n")
    add_event(tmp_path / "store", Entry("scope", NOW, "dosed"), NOW)
    assert [(one["id"], one["kind"], one["wells"]) for one in listed(tmp_path, capsys)] == [
        (None, "medium", "B1 B2"), (1, "dosed", ""),
    ]  # fmt: skip
    (tmp_path / "events.csv").write_text("at,kind\nnow,medium\n")
    assert event(tmp_path, "list") == 1
    told = capsys.readouterr()
    assert "1  2026-11-21 13:00:00+01:00  dosed" in told.out
    assert "line 2, column at" in told.err


def test_a_note_cannot_move_the_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configured(tmp_path)
    add_event(tmp_path / "store", Entry("scope", NOW, "dosed", note="\x1b[2J gone"), NOW)
    assert event(tmp_path, "list") == 0
    assert "\x1b" not in capsys.readouterr().out


BUSY = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from cellvigil.assays.added import Entry, add_event
store, name = Path(sys.argv[1]), sys.argv[2]
sys.stdin.read()  # until all are ready
now = datetime.now(UTC)
for number in range(25):
    add_event(store, Entry("scope", now, "medium", note=f"{name}{number}"), now)
"""


def test_several_at_once_tear_nothing(tmp_path: Path) -> None:
    people = [
        subprocess.Popen([sys.executable, "-c", BUSY, str(tmp_path / "store"), name], stdin=subprocess.PIPE)
        for name in "abcd"
    ]
    for one in people:
        assert one.stdin is not None
        one.stdin.close()
    assert [one.wait() for one in people] == [0] * 4
    entries = read_added(tmp_path / "store")
    assert {entry.note for entry in entries} == {f"{name}{number}" for name in "abcd" for number in range(25)}
    assert [entry.id for entry in entries] == list(range(1, 101))


def test_a_torn_line_is_cut_off_by_the_next_command_and_costs_nothing_else(tmp_path: Path) -> None:
    store = tmp_path / "store"
    add_event(store, Entry("scope", NOW, "dosed"), NOW)
    with (store / FILE).open("ab") as file:
        file.write(seal({"seq": 2, "kind": "event"})[:-9])
    assert [entry.kind for entry in read_added(store)] == ["dosed"]
    assert add_event(store, Entry("scope", NOW, "medium"), NOW).id == 2
    assert [entry.kind for entry in read_added(store)] == ["dosed", "medium"]
    assert remove_event(store, 9, NOW) is None


def test_a_store_with_events_opens_and_is_whole(tmp_path: Path) -> None:
    store = tmp_path / "store"
    add_event(store, Entry("scope", NOW, "dosed"), NOW)  # before the store was ever opened
    plates(tmp_path, ("run", "Plate 1"))
    add_event(store, Entry("scope", NOW, "medium"), NOW)
    found = check(store)
    assert (found.plates, found.frames, found.lost, found.bad_lines, found.strays) == (1, 1, (), (), 0)
    assert len(read_added(store)) == 2
