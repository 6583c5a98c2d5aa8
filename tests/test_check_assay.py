"""What `cellvigil check` says of plate maps and events: what is wrong, and what they will not allow."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cellvigil import config
from cellvigil.assays.added import Entry, add_event
from cellvigil.check_assay import assay_findings
from cellvigil.cli import main
from lab import Lab

CONTROLS = "A1,control,,\nA2,control,,\nA3,control,,\n"
DOSES = "".join(f"B{column},treated,X,{dose} uM\n" for column, dose in enumerate((1, 2, 4, 8, 16), start=1))


def settings(root: Path, **changes: Any) -> config.Config:
    source = {"name": "scope", "kind": "plain", "path": "images", "pattern": "(?P<well>[A-H][0-9]+)", "index": "states",
              "interval_s": 900.0, **changes}  # fmt: skip
    return config.parse({"sources": [source], "store": {"path": "store"}}, base=root)


def found(root: Path, **changes: Any) -> list[tuple[str, str]]:
    checked = settings(root, **changes)
    return list(assay_findings(checked.sources[0], checked))


def mapped(root: Path, text: str, events: str = "at,kind\n2026-11-20 18:00,dosed\n", **changes: Any) -> str:
    """The warnings about a map, as one text."""
    (root / "plate.csv").write_text(text, encoding="utf-8")
    (root / "events.csv").write_text(events, encoding="utf-8")
    every = found(root, plate_map="plate.csv", events="events.csv", **changes)
    return "\n".join(f"{level} {text}" for level, text in every)


def test_a_good_map_has_nothing_to_warn_of(tmp_path: Path) -> None:
    told = mapped(tmp_path, f"well,role,compound,dose\n{CONTROLS}{DOSES}")
    assert "warn" not in told
    assert "fail" not in told
    assert "ok plate.csv: 8 wells, 5 treated, 3 control, 6 arms" in told
    assert "ok 1 event known" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"well,role,compound,dose\n{DOSES}", "no control well: no response can be computed"),
        (f"well,role,compound,dose\nA1,control,,\n{DOSES}", "1 control well: no onset is told (that takes 2"),
        (f"well,role,compound,dose\n{CONTROLS}{DOSES}P24,blank,,\n", "P24 is beyond a plate of 96"),
        (f"well,role,compound,dose\n{CONTROLS}{DOSES}C1,treated,X,100 nM\n", "X has doses in 'nM' and 'uM'"),
        (f"well,role,compound,dose\n{CONTROLS}{DOSES}C1,treated,Y,1 uM\nC2,treated,Y,2 uM\n",
         "warn plate.csv: Y has 2 doses: no half-maximal dose (that takes 5)"),
        (f"well,role,compound,dose\n{CONTROLS}{DOSES}C1,treated,Y,1 uM\n", "ok plate.csv: Y has 1 dose: no half"),
        (f"well,role,compound,dose\n{CONTROLS}{DOSES}C1,treated,x,1 uM\n", "compound 'X' and 'x' are taken"),
        ("well,role,compound,dose,cell_line\n" + "".join(f"A{c},control,,,HeLa\n" for c in (1, 2, 3))
         + "B1,treated,X,1,U2OS\n", "no control well of U2OS"),
    ],
)  # fmt: skip
def test_what_a_map_will_not_allow_is_told(tmp_path: Path, text: str, told: str) -> None:
    assert told in mapped(tmp_path, text)


def test_rows_of_one_plate_are_looked_at_for_themselves(tmp_path: Path) -> None:
    general = f"{CONTROLS}{DOSES}".replace("\n", ",\n")
    told = mapped(tmp_path, f"well,role,compound,dose,plate\n{general}A1,blank,,,Plate 2\n")
    assert "ok plate.csv: 8 wells, 5 treated, 3 control" in told
    assert "warn plate.csv (*/Plate 2): 2 control wells: with fewer than 3" in told
    assert told.count("warn") == 1


def test_treatment_at_no_known_time_is_told_until_an_event_says_when(tmp_path: Path) -> None:
    text = f"well,role,compound,dose\n{CONTROLS}{DOSES}"
    assert "B1, B2, B3, B4, B5 are treated at no known time" in mapped(tmp_path, text, "at,kind\n")
    told = mapped(tmp_path, text, "at,kind,wells\n2026-11-20 18:00,dosed,B1-B4\n")
    assert "B5 is treated at no known time: no response can be computed" in told
    assert "after 24 h" in told
    now = datetime(2026, 11, 21, tzinfo=UTC)
    add_event(tmp_path / "store", Entry("scope", now, "dosed", wells="B5"), now)
    assert "no known time" not in mapped(tmp_path, text, "at,kind,wells\n2026-11-20 18:00,dosed,B1-B4\n")
    times = f"well,role,compound,dose,treated_at\n{CONTROLS}{DOSES}".replace(" uM\n", " uM,2026-11-20 18:00\n")
    assert "no known time" not in mapped(tmp_path, times, "at,kind\n")


@pytest.mark.parametrize(
    ("map_plate", "event_plate", "known"),
    [("", "Plate 1", True), ("Plate *", "Plate 1", True), ("Plate 1", "P*", True), ("Plate 1", "Plate 2", False)],
)
def test_an_event_of_a_plate_that_the_map_may_mean_counts(
    tmp_path: Path, map_plate: str, event_plate: str, *, known: bool
) -> None:
    text = f"well,role,compound,dose,plate\n{CONTROLS}{DOSES}".replace("\n", f",{map_plate}\n").replace(
        "plate," + map_plate, "plate", 1
    )
    told = mapped(tmp_path, text, f"at,kind,plate\n2026-11-20 18:00,dosed,{event_plate}\n")
    assert ("no known time" not in told) == known


def test_wrong_files_fail_and_a_missing_interval_warns(tmp_path: Path) -> None:
    told = mapped(tmp_path, "well,role\nZ99,control\nA1,boss\n", "at,kind\nnow,medium\n", interval_s=None)
    assert "fail plate_map: plate.csv, line 2, column well: 'Z99' is no well" in told
    assert "fail plate_map: plate.csv, line 3, column role" in told.splitlines()[2]
    assert "fail events: events.csv, line 2, column at" in told
    assert "no alert will say that the microscope has stalled" in told
    (tmp_path / "plate.csv").unlink()
    assert any(level == "fail" and "No such file" in text for level, text in found(tmp_path, plate_map="plate.csv"))


def test_without_a_map_there_is_one_line_that_says_so(tmp_path: Path) -> None:
    [(level, text)] = found(tmp_path)
    assert level == "ok"
    assert "no arms and no response" in text


def test_a_rehearsals_sheets_are_in_order(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    wells = tuple(f"{row}{column}" for row in "AB" for column in (1, 2, 3))
    lab.film(timepoints=1, wells=wells, treated=wells[3:])
    path = lab.config_file(source={"plate_map": "plate.csv", "events": "events.csv", "interval_s": 3600.0})
    assert main(["check", "--config", str(path), "--force"]) == 0
    told = capsys.readouterr().out
    assert "plate.csv: 6 wells, 3 treated, 3 control, 2 arms" in told
    assert "1 event known" in told
