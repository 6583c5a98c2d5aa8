"""Bad files of every kind: each ends with a reason, soon, in little memory; none ends the service, none is lost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bad_file_reader import PATTERN
from bad_files import CASES, UNSEEN
from cellvigil.data import FileStat
from cellvigil.errors import BadFile, NotYet
from cellvigil.sources.gen5 import Gen5
from cellvigil.sources.intake import take
from cellvigil_indexes.inputs.images import own_pixel_size
from lab import Lab
from source_files import LIMITS, make_source, stat_of, write_gen5

HERE = Path(__file__).parent
MOST_MB = 300
MOST_S = 20  # a hang is one beyond all noise, not a slow machine


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """How each case ended in a process of its own, and what it cost."""
    command = [sys.executable, str(HERE / "bad_file_reader.py"), str(tmp_path_factory.mktemp("bad"))]
    path = os.pathsep.join((str(HERE.parent / "daemon"), str(HERE)))
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"it ended after {lines[-1:]}: {done.stderr[-3000:]}"
    return {line["case"]: line for line in lines}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_ends_with_a_reason_soon_and_in_little_memory(case: str, ends: dict[str, dict[str, Any]]) -> None:
    end = ends[case]
    wanted = CASES[case].expected - {UNSEEN} or {UNSEEN}
    assert end["ended"] in wanted, end["said"]
    assert end["mb"] < MOST_MB
    assert end["seconds"] < MOST_S
    if end["ended"] == "too_large":
        assert (
            "limits.max_" in end["said"]
            or "become" in end["said"]
            or "elements" in end["said"]
            or "pieces" in end["said"]
        )


def test_there_are_at_least_sixty_kinds_over_all_sources() -> None:
    assert len(CASES) >= 60
    assert Counter(bad.source for bad in CASES.values()).keys() == {"gen5", "nanolive", "ometiff", "plain"}


def gen5_file(root: Path) -> tuple[Gen5, FileStat]:
    """A sound image as it was listed."""
    name = "A1_02_1_1_Bright Field_001.tif"
    write_gen5(root / name)
    return Gen5(make_source(root), LIMITS), stat_of(root, name)


def test_a_file_that_grows_on_is_asked_for_again(tmp_path: Path) -> None:
    fmt, listed = gen5_file(tmp_path)
    with (tmp_path / listed.path).open("ab") as file:
        file.write(bytes(100))
    with pytest.raises(NotYet, match="changed since it was listed"):
        take(fmt, tmp_path, listed)


def test_a_file_that_became_a_folder_since_it_was_listed_is_refused(tmp_path: Path) -> None:
    fmt, listed = gen5_file(tmp_path)
    (tmp_path / listed.path).unlink()
    (tmp_path / listed.path).mkdir()
    with pytest.raises(BadFile, match="a folder, where a file should be"):
        take(fmt, tmp_path, listed)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not read")
def test_a_file_that_may_not_be_read_is_asked_for_again(tmp_path: Path) -> None:
    fmt, listed = gen5_file(tmp_path)
    (tmp_path / listed.path).chmod(0)
    os.seteuid(65534)
    try:
        with pytest.raises(NotYet, match="Permission denied") as caught:
            take(fmt, tmp_path, listed)
    finally:
        os.seteuid(0)
    assert caught.value.becomes == "unreadable"


SOURCES = {
    "gen5": {"timezone": "UTC", "channels": {"segment": "Bright Field"}},
    "nanolive": {"pixel_size_um": 0.19},
    "ometiff": {},
    "plain": {"pattern": PATTERN, "pixel_size_um": 0.3},
}


def test_the_service_outlives_them_all_and_accounts_for_each(lab: Lab) -> None:
    lab.film(timepoints=3)
    settings = lab.settings()
    good = settings["sources"][0]
    settings["sources"] = [{**good, "frame_timeout_s": 600}]
    for kind, own in SOURCES.items():
        folder = lab.root / kind
        folder.mkdir()
        settings["sources"].append(
            {
                "name": kind,
                "kind": kind,
                "path": kind,
                "index": "states",
                "scan_interval_s": 0.1,
                "frame_timeout_s": 0.5,
                **own,
            }
        )
    for bad in CASES.values():
        bad.write(lab.root / bad.source / bad.name)
    with lab.service(**{key: value for key, value in settings.items() if key != "version"}) as service:
        counted = {"source": "scope", "outcome": "counted"}
        service.wait_for(lambda: service.value("cellvigil_frames_total", **counted) == 6, 200, every=0.2)
        service.wait_for(lambda: not _missing(lab), 200, every=0.5)
        assert service.terminate() == 0
        log = service.log.read_text(encoding="utf-8", errors="replace")
    assert len({frame.key for series in lab.ledger().series() if series[0] == "scope" for frame in
                lab.ledger().frames(series)}) == 6  # fmt: skip
    assert "Traceback" not in log
    told = [
        bad
        for bad in CASES.values()
        if (lab.root / bad.source / bad.name).is_symlink() or bad.expected == {UNSEEN, "wrong_type"}
    ]
    assert len(told) >= 6
    for bad in told:
        assert bad.name in log or (lab.root / bad.source / bad.name).is_dir()
    assert not re.search("[\x1b\u202e]", log), "a file's name reached the terminal"
    reasons = _reasons(lab)
    assert {reason for found in reasons.values() for reason in found} & {"failed"} == set()


def _missing(lab: Lab) -> list[str]:
    """The cases of which nothing is known yet."""
    held, stored = _reasons(lab), _stored(lab)
    return [
        case
        for case, bad in CASES.items()
        if UNSEEN not in bad.expected and (bad.source, bad.name) not in held and (bad.source, bad.name) not in stored
    ]


def _reasons(lab: Lab) -> dict[tuple[str, str], set[str]]:
    """Quarantine reasons by source and file; of a part, its container."""
    path = lab.root / "state" / "quarantine.jsonl"
    found: dict[tuple[str, str], set[str]] = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        line = json.loads(text)
        for name in (line["path"], line["path"].partition("!")[0]):
            found.setdefault((line["source"], name), set()).add(line["reason"])
    return found


def _stored(lab: Lab) -> set[tuple[str, str]]:
    """Files that became frames."""
    ledger = lab.ledger()
    paths = {
        (series[0], ref.path) for series in ledger.series() for frame in ledger.frames(series) for ref in frame.files
    }
    return paths | {(source, path.partition("!")[0]) for source, path in paths}


def test_reference_images_may_be_links(tmp_path: Path) -> None:
    """Links are refused on the share only: a person who builds an index names the files himself."""
    write_gen5(tmp_path / "a.tif")
    (tmp_path / "link.tif").symlink_to("a.tif")
    assert own_pixel_size(tmp_path / "link.tif") == own_pixel_size(tmp_path / "a.tif")
    assert own_pixel_size(tmp_path / "a.tif") is not None
