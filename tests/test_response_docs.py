"""docs/response.md: its spreadsheets are read, its commands run, its figures are the code's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from cellvigil import config
from cellvigil.assays.event_list import COLUMNS as EVENT_COLUMNS
from cellvigil.assays.event_list import read_events
from cellvigil.assays.plate_map import COLUMNS, read_plate_map
from cellvigil.check_assay import assay_findings
from cellvigil.cli import main
from cellvigil.events import KINDS
from cellvigil.platemap import ROLES, plan_of
from cellvigil.response.correction import Status
from cellvigil.response.dose import FEWEST
from cellvigil.response.growth import MIN_GROWTH
from cellvigil.response.live import GRACE_S, MIN_LIVE
from cellvigil.response.onset import MIN_CONTROLS

PAGE = Path(__file__).parent.parent / "docs" / "response.md"
TEXT = PAGE.read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    plate, events = blocks("csv")
    (tmp_path / "plate.csv").write_text(plate, encoding="utf-8")
    (tmp_path / "events.csv").write_text(events, encoding="utf-8")
    source = {"name": "scope", "kind": "gen5", "path": "images", "timezone": "Europe/Berlin", "index": "states",
              "interval_s": 900, "plate_map": "plate.csv", "events": "events.csv"}  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"sources": [source]}), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_sheets_are_read(folder: Path) -> None:
    plan = plan_of(read_plate_map(folder / "plate.csv", timezone="Europe/Berlin"), "run", "Plate 1")
    assert plan.arm("B2") == "Raptinal 10 uM"
    assert plan.controls("B2") == ("A1", "A2", "A3")
    assert {row.event.kind for row in read_events(folder / "events.csv", timezone="Europe/Berlin")} == set(KINDS)
    settings = config.load(folder / "config.yaml")
    assert {level for level, text in assay_findings(settings.sources[0], settings) if "2 doses" not in text} == {"ok"}


def test_its_commands_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [commands] = blocks("sh")
    for line in commands.splitlines():
        words = [quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|(\S+)', line)]
        assert words[0] == "cellvigil"
        assert main(words[1:]) == 0, line
    assert "taken back" in capsys.readouterr().out


def test_it_names_every_column_kind_role_and_status() -> None:
    table = TEXT.split("## Events")[0]
    assert all(f"`{name}`" in table for name in (*COLUMNS, *ROLES))
    events = TEXT.split("## Events")[1].split("## What")[0]
    assert all(name in events for name in (*EVENT_COLUMNS, *KINDS))
    assert all(f"`{status}`" in TEXT for status in get_args(Status) if status != "ok")


def test_its_figures_are_the_codes() -> None:
    assert f"fewer than {MIN_LIVE} live cells" in TEXT
    assert f"fewer than {MIN_CONTROLS} control wells" in TEXT
    assert f"fewer than {FEWEST} doses" in TEXT
    assert f"less than {MIN_GROWTH - 1:.0%}".replace("%", " %") in TEXT
    assert GRACE_S == 3600
    assert "within the hour" in TEXT
    limits = config.Response()
    assert f"in\n{limits.horizon_h:.0f} hours is at most {limits.false_onset:.0%}".replace("%", " %") in TEXT


def test_it_stays_short_enough_to_be_read() -> None:
    assert len(TEXT.splitlines()) < 150
