"""`cellvigil quarantine`: what is listed, and what is tried again while the service runs, without a restart."""

from __future__ import annotations

import errno
import json
import os
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import tifffile

from cellvigil.cli import main
from cellvigil.data import FileStat
from cellvigil.errors import StoreError
from cellvigil.quarantine import FILE, Entry, Quarantine, read_entries, release, released_beside
from lab import Lab
from store_records import START

PLATE = "240301_180000_Rehearsal/240301_180005_Plate 1"


def entry(path: str = "a.tif", reason: str = "truncated", minute: int = 0, source: str = "scope") -> Entry:
    return Entry(source, path, 10, 1, reason, "it ends early", "read", START + timedelta(minutes=minute))


def test_a_release_reaches_the_service_that_has_the_list_open(tmp_path: Path) -> None:
    path = tmp_path / FILE
    kept = Quarantine(path)
    kept.add(entry("a.tif"))
    kept.add(entry("b.tif"))
    assert kept.refresh() == ()
    release(path, [one for one in read_entries(path) if one.path == "a.tif"], START)
    assert kept.refresh() == (("scope", "a.tif"),)
    assert kept.refresh() == ()
    assert not kept.holds("scope", "a.tif", 10, 1)
    assert kept.holds("scope", "b.tif", 10, 1)
    kept.add(entry("c.tif"))  # the service goes on writing where it was
    for entries in (kept.entries(), read_entries(path), Quarantine(path).entries()):
        assert sorted(one.path for one in entries) == ["b.tif", "c.tif"]


def test_what_fails_again_after_a_release_is_held_again_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / FILE
    kept = Quarantine(path)
    kept.add(entry())
    release(path, read_entries(path), START)
    kept.refresh()
    kept.add(entry(minute=5))
    assert Quarantine(path).holds("scope", "a.tif", 10, 1)
    assert kept.refresh() == ()


def test_a_release_that_is_just_being_written_waits_and_a_bad_line_costs_itself(tmp_path: Path) -> None:
    path = tmp_path / FILE
    kept = Quarantine(path)
    for name in ("a.tif", "b.tif"):
        kept.add(entry(name))
    release(path, kept.entries()[:1], START)
    whole = released_beside(path).read_bytes()
    released_beside(path).write_bytes(b"this is no line\n" + whole[:-5])
    assert kept.refresh() == ()
    released_beside(path).write_bytes(b"this is no line\n" + whole)
    assert kept.refresh() == (("scope", "a.tif"),)


def test_releases_that_could_not_be_read_are_read_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / FILE
    kept = Quarantine(path)
    for name in ("a.tif", "b.tif"):
        kept.add(entry(name))
    release(path, kept.entries()[:1], START)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "an input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "open", fail)
        with pytest.raises(StoreError, match="cannot be read"):
            kept.refresh()
    assert kept.refresh() == ()  # told once
    release(path, kept.entries()[1:], START)
    assert kept.refresh() == (("scope", "a.tif"), ("scope", "b.tif"))


def test_what_became_a_frame_is_taken_off_the_list_but_not_a_newer_version_of_it(tmp_path: Path) -> None:
    path = tmp_path / FILE
    kept = Quarantine(path)
    kept.add(replace(entry("mended.tif"), mtime_ns=3))
    kept.add(replace(entry("spoiled.tif"), mtime_ns=9))
    kept.taken("scope", [FileStat(name, 10, 5) for name in ("mended.tif", "spoiled.tif", "never.tif")])
    for entries in (kept.entries(), read_entries(path), Quarantine(path).entries()):
        assert [one.path for one in entries] == ["spoiled.tif"]


def test_many_commands_and_a_service_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / FILE
    kept = Quarantine(path)
    for number in range(40):
        kept.add(entry(f"{number}.tif"))
    entries = kept.entries()
    threads = [threading.Thread(target=release, args=(path, entries[i::4], START)) for i in range(4)]
    for thread in threads:
        thread.start()
    found: list[tuple[str, str]] = []
    for number in range(40, 60):
        kept.add(entry(f"{number}.tif"))
        found += kept.refresh()
    for thread in threads:
        thread.join()
    found += kept.refresh()
    assert sorted(found) == sorted(one.file for one in entries)
    assert {one.path for one in Quarantine(path).entries()} == {f"{number}.tif" for number in range(40, 60)}


@pytest.fixture
def listed(lab: Lab) -> Path:
    """A configuration whose list holds three files."""
    config = lab.config_file()
    kept = Quarantine(lab.root / "state" / FILE, config="another")
    kept.add(entry("Plate 1/A1_Tsf[Phase Contrast]_001.tif"))
    kept.add(entry("Plate 1/B1\x1b[2J.tif", "bad_name", 1))
    kept.add(entry("Plate 2/A1.tif", "failed", 2))
    return config


def test_the_list_says_what_why_and_how_many(listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quarantine", "list", "--config", str(listed)]) == 0
    said = capsys.readouterr().out
    assert "scope/Plate 1/A1_Tsf[Phase Contrast]_001.tif" in said
    assert "read: it ends early" in said
    assert "3 in quarantine: 1 truncated, 1 bad_name, 1 failed" in said
    assert "\x1b" not in said
    assert main(["quarantine", "list", "--config", str(listed), "--reason", "failed", "--json"]) == 0
    [only] = json.loads(capsys.readouterr().out)
    assert (only["path"], only["reason"], only["stage"]) == ("Plate 2/A1.tif", "failed", "read")


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--all"], 0),
        (["Plate 1/*"], 1),
        (["Plate 1/A1_Tsf[Phase Contrast]_001.tif"], 2),
        (["--reason", "failed"], 2),
        (["Plate 1/*", "--reason", "failed"], 3),
        (["nothing"], 3),
    ],
)
def test_what_is_named_is_released(listed: Path, arguments: list[str], left: int) -> None:
    code = main(["quarantine", "retry", "--config", str(listed), *arguments])
    assert code == (1 if left == 3 else 0)
    assert len(read_entries(listed.parent / "state" / FILE)) == left


@pytest.mark.parametrize("arguments", [[], ["--all", "--source", "elsewhere"]])
def test_a_retry_of_nothing_named_is_refused(
    listed: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quarantine", "retry", "--config", str(listed), *arguments]) == 2
    assert "cellvigil: " in capsys.readouterr().err
    assert len(read_entries(listed.parent / "state" / FILE)) == 3


def test_a_list_without_a_service_ever_run_is_empty(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quarantine", "list", "--config", str(lab.config_file())]) == 0
    assert capsys.readouterr().out == "0 in quarantine\n"


def spoiled(path: Path, how: str) -> bytes:
    """Make the share deliver something else under the same size and date; returns what was there."""
    told, whole = path.stat(), path.read_bytes()
    if how == "zeros":
        path.write_bytes(bytes(len(whole)))
    else:  # its metadata breaks in the second half: found out only when the frame is read
        with tifffile.TiffFile(path) as file:
            at, length = file.pages.first.tags[270].valueoffset, file.pages.first.tags[270].count
        path.write_bytes(whole[: at + length // 2] + b"<" * 8 + whole[at + length // 2 + 8 :])
    os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))
    return whole


@pytest.mark.parametrize("how", ["zeros", "metadata"])
def test_a_running_service_takes_a_released_file_up_without_a_restart(lab: Lab, how: str) -> None:
    lab.film(timepoints=2)
    bad = sorted((lab.images / PLATE).glob("*.tif"))[1]
    whole, told = spoiled(bad, how), bad.stat()
    with lab.service(source={"frame_timeout_s": 0.5}) as service:
        service.wait_for(lambda: service.value("cellvigil_frames_total", source="scope", outcome="quarantined") == 1)
        service.wait_for(lambda: service.value("cellvigil_frames_total", source="scope", outcome="counted") == 3)
        bad.write_bytes(whole)
        os.utime(bad, ns=(told.st_atime_ns, told.st_mtime_ns))
        [held] = read_entries(lab.root / "state" / FILE)
        assert (held.path, held.reason) == (f"{PLATE}/{bad.name}", "wrong_type" if how == "zeros" else "bad_metadata")
        assert main(["quarantine", "retry", "--config", str(lab.root / "config.yaml"), f"*{bad.name}"]) == 0
        service.wait_for(lambda: service.value("cellvigil_frames_total", source="scope", outcome="counted") == 4)
        assert service.terminate() == 0
    assert read_entries(lab.root / "state" / FILE) == []
    [series] = lab.ledger().series()
    assert len(lab.ledger().frames(series)) == 4


def test_a_released_file_that_is_still_bad_is_put_aside_again(lab: Lab) -> None:
    lab.film(timepoints=1)
    bad = sorted((lab.images / PLATE).glob("*.tif"))[0]
    spoiled(bad, "metadata")
    quarantined = {"source": "scope", "outcome": "quarantined"}
    with lab.service() as service:
        service.wait_for(lambda: service.value("cellvigil_frames_total", **quarantined) == 1)
        assert main(["quarantine", "retry", "--config", str(lab.root / "config.yaml"), "--all"]) == 0
        service.wait_for(lambda: service.value("cellvigil_frames_total", **quarantined) == 2)
        assert service.terminate() == 0
    assert [one.reason for one in read_entries(lab.root / "state" / FILE)] == ["bad_metadata"]
