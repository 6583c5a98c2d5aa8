"""The watched folder: real folders, real links, a real writer."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from watchdog.observers import Observer

from cellvigil import watch
from cellvigil.data import FileStat
from cellvigil.errors import BadFile, NotYet, UsageError
from cellvigil.settle import Settler
from cellvigil.sources.complete import finished
from source_files import LIMITS, texture, tiff_bytes

TIFF = (".tif", ".tiff")


def _names(root: Path) -> list[str]:
    return sorted(watch.scan(root, TIFF))


def test_a_scan_lists_images_of_every_depth(tmp_path: Path) -> None:
    for name in ("b/c/2.TIF", "b/1.tiff", "a.tif", "notes.txt", "b/empty/x.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    os.utime(tmp_path / "a.tif", ns=(7, 1_234_567_891))
    found = watch.scan(tmp_path, TIFF)
    assert sorted(found) == ["a.tif", "b/1.tiff", "b/c/2.TIF"]
    assert found["a.tif"] == FileStat("a.tif", 5, 1_234_567_891)


def test_links_lead_nowhere(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    (outside / "deep").mkdir(parents=True)
    root.mkdir()
    (outside / "deep" / "secret.tif").touch()
    (root / "real.tif").touch()
    (root / "folder").symlink_to(outside, target_is_directory=True)
    (root / "file.tif").symlink_to(outside / "deep" / "secret.tif")
    (root / "circle").symlink_to(root, target_is_directory=True)
    (root / "dangling.tif").symlink_to(tmp_path / "nowhere.tif")
    assert _names(root) == ["real.tif"]
    (tmp_path / "way in").symlink_to(root, target_is_directory=True)
    assert _names(tmp_path / "way in") == ["real.tif"]  # the root itself may be a link


def test_what_is_no_file_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "folder.tif").mkdir()
    os.mkfifo(tmp_path / "pipe.tif")
    assert _names(tmp_path) == []


def test_a_folder_that_does_not_exist_is_a_wrong_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(UsageError) as caught:
            watch.scan(root, TIFF)
        assert str(root) in str(caught.value)
        assert "sources[].path" in str(caught.value)


def test_what_vanishes_during_the_scan_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gone/a.tif", "stays/b.tif"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    list_folder = os.scandir

    def scandir(folder: str | Path) -> object:
        if Path(folder) == tmp_path / "gone":
            (tmp_path / "gone" / "a.tif").unlink()
            (tmp_path / "gone").rmdir()
        return list_folder(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert _names(tmp_path) == ["stays/b.tif"]


def test_a_scan_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    before = sorted((path, path.stat().st_mtime_ns) for path in [tmp_path, *tmp_path.rglob("*")])
    with watch.hints(tmp_path, lambda: None):
        watch.scan(tmp_path, TIFF)
    assert sorted((path, path.stat().st_mtime_ns) for path in [tmp_path, *tmp_path.rglob("*")]) == before


def _within(seconds: float, true: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.01)
    return true()


def test_writing_wakes_and_reading_does_not(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "old.tif").write_bytes(b"old")
    woken = threading.Event()
    with watch.hints(tmp_path, woken.set):
        (tmp_path / "sub" / "old.tif").read_bytes()
        watch.scan(tmp_path, TIFF)
        (tmp_path / "sub" / "old.tif").read_bytes()
        assert not woken.wait(0.3)
        (tmp_path / "sub" / "new.tif").write_bytes(b"new")
        assert woken.wait(10)
        woken.clear()
    (tmp_path / "sub" / "later.tif").write_bytes(b"x")
    assert not woken.is_set()


def test_a_folder_that_cannot_be_listened_to_is_told_and_scanned_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def exhausted(self: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(Observer, "start", exhausted)
    (tmp_path / "a.tif").touch()
    with caplog.at_level(logging.WARNING), watch.hints(tmp_path, lambda: None):
        assert _names(tmp_path) == ["a.tif"]
    assert "inotify watch limit reached" in caplog.text


def _write_in_pieces(path: Path, data: bytes, pieces: int) -> None:
    """As a microscope does: the file is there from the start, and grows."""
    step = -(-len(data) // pieces)
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(data), step):
            file.write(data[start : start + step])
            time.sleep(0.02)


def test_growing_files_are_taken_whole_and_once(tmp_path: Path) -> None:
    """Scans at full speed beside a real writer: settling and the page chain together never let half a file through."""
    wanted = {f"f{i}.tif": tiff_bytes(texture(60, 80, seed=i)) for i in range(4)}
    writer = threading.Thread(
        target=lambda: [_write_in_pieces(tmp_path / name, data, 12) for name, data in wanted.items()]
    )
    settler, taken, tried_early = Settler(3), [], 0
    waiting: list[FileStat] = []
    writer.start()
    try:
        end = time.monotonic() + 30
        while len(taken) < len(wanted) and time.monotonic() < end:
            waiting += settler.update(watch.scan(tmp_path, TIFF), time.monotonic())
            for stat in list(waiting):
                waiting.remove(stat)
                try:
                    finished(tmp_path / stat.path, stat.path, "tiff", LIMITS)
                except (NotYet, BadFile):
                    tried_early += 1  # settled between two pieces: the chain is not complete, it will settle anew
                    continue
                taken.append(stat.path)
                assert (tmp_path / stat.path).read_bytes() == wanted[stat.path]
    finally:
        writer.join()
    assert sorted(taken) == sorted(wanted)
    assert tried_early > 0  # at this speed the settle rule alone would have let halves through


def _plate(root: Path) -> dict[str, FileStat]:
    for name in ("a/1.tif", "a/deep/2.tif", "b/3.tif", "4.tif"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"12345")
    return watch.scan(root, TIFF)


def _failing_scandir(monkeypatch: pytest.MonkeyPatch, folder: Path, code: int) -> None:
    real = os.scandir

    def scandir(path: str | Path) -> object:
        if Path(path) == folder:
            raise OSError(code, os.strerror(code), str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESTALE, errno.EIO, errno.EBUSY, errno.EACCES])
def test_what_lies_below_a_folder_that_cannot_be_listed_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    before = _plate(tmp_path)
    (tmp_path / "b" / "3.tif").unlink()
    (tmp_path / "a" / "5.tif").touch()
    _failing_scandir(monkeypatch, tmp_path / "a", code)
    assert sorted(watch.scan(tmp_path, TIFF, before)) == ["4.tif", "a/1.tif", "a/deep/2.tif"]
    monkeypatch.undo()
    assert sorted(watch.scan(tmp_path, TIFF, before)) == ["4.tif", "a/1.tif", "a/5.tif", "a/deep/2.tif"]
    _failing_scandir(monkeypatch, tmp_path, code)
    with pytest.raises(UsageError, match="cannot be listed"):
        watch.scan(tmp_path, TIFF, before)


def test_a_listing_that_breaks_off_keeps_what_it_did_not_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _plate(tmp_path)
    real = os.scandir

    @contextlib.contextmanager
    def breaking(path: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        def entries() -> Iterator[os.DirEntry[str]]:
            with real(path) as found:
                yield next(found)
            raise OSError(errno.EIO, "Input/output error")

        yield entries() if path.rstrip("/").endswith("a") else real(path)

    monkeypatch.setattr(os, "scandir", breaking)
    assert watch.scan(tmp_path, TIFF, before) == before


def test_files_that_did_not_change_are_listed_as_the_same_values(tmp_path: Path) -> None:
    before = _plate(tmp_path)
    (tmp_path / "b" / "3.tif").write_bytes(b"123456")
    after = watch.scan(tmp_path, TIFF, before)
    assert {path for path in after if after[path] is not before[path]} == {"b/3.tif"}
    assert after["b/3.tif"].size == 6


def test_a_scan_gives_signs_of_life(tmp_path: Path) -> None:
    for i in range(600):
        (tmp_path / f"{i}.tif").touch()
    signs: list[int] = []
    watch.scan(tmp_path, TIFF, progress=lambda: signs.append(1))
    assert len(signs) >= 3
