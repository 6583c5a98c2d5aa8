"""What `cellvigil check` says of the store: room, locks, and what retention would delete soon."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cellvigil.check_store import store_findings
from cellvigil.config import Retention, Store
from cellvigil.store.writer import open_store
from store_records import SERIES, key, record


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A store of one time point, committed just now."""
    with_frames = open_store(tmp_path / "store", now=lambda: datetime.now(UTC) - timedelta(hours=2))
    with_frames.append(record(key("A1", 0), n=5))
    with_frames.close()
    return tmp_path / "store"


PIN = "/".join(SERIES)
CASES = {
    "room": (Store(), [("ok", "GB free")]),
    "no room": (Store(min_free_mb=1e9), [("fail", "nothing would be written; make room")]),
    "below the floor": (
        Store(retention=Retention(free_floor_gb=1e6)),
        [("warn", "oldest time points will be deleted"), ("warn", "free_floor_gb will delete")],
    ),
    "nothing is due": (Store(retention=Retention(pixels_days=30)), [("ok", "free")]),
    "age": (
        Store(retention=Retention(pixels_days=0.5)),
        [("ok", "free"), ("warn", "*_days will delete")],
    ),
    "size": (Store(retention=Retention(max_gb=1e-6, warn_hours=3)), [("ok", "free"), ("warn", "has stood 3 hours")]),
    "pinned": (Store(retention=Retention(pixels_days=0.5, pins=(PIN,))), [("ok", "free")]),
    "a pin that keeps nothing": (
        Store(retention=Retention(pins=("scope",))),
        [("ok", "free"), ("warn", "pin 'scope' names no source/experiment/plate")],
    ),
    "counts go before their images": (
        Store(retention=Retention(counts_days=60, pixels_days=90)),
        [("ok", "free"), ("warn", "whole plates after 60 days; pixels_days is longer")],
    ),
}


@pytest.mark.parametrize(("store", "expected"), CASES.values(), ids=CASES)
def test_a_store_is_judged_as_the_daemon_would(filled: Path, store: Store, expected: list[tuple[str, str]]) -> None:
    before = {path: path.stat().st_mtime_ns for path in filled.rglob("*")}
    found = list(store_findings(store.model_copy(update={"path": filled})))
    assert [level for level, _ in found] == [level for level, _ in expected]
    for (_, said), (_, part) in zip(found, expected, strict=True):
        assert part in said
    assert {path: path.stat().st_mtime_ns for path in filled.rglob("*")} == before


def test_a_store_that_is_not_there_yet_has_nothing_to_delete(tmp_path: Path) -> None:
    store = Store(path=tmp_path / "new" / "store", retention=Retention(pixels_days=1, max_gb=1))
    assert [level for level, _ in store_findings(store)] == ["ok"]


def test_who_holds_the_store_is_named(filled: Path) -> None:

    held = open_store(filled)
    try:
        first, *_ = store_findings(Store(path=filled))
    finally:
        held.close()
    assert first[0] == "fail"
    assert f"(pid {os.getpid()})" in first[1]
