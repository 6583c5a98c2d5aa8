"""Plate maps as people make them: read whatever the spreadsheet did to them, and every wrong cell named at once."""

from __future__ import annotations

import contextlib
import csv
import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellvigil.assays.plate_map import read_plate_map, unit_of
from cellvigil.errors import UsageError
from cellvigil.platemap import BLANK, CONTROL, NO_PLAN, TREATED, Row, WellPlan, plan_of

BERLIN = "Europe/Berlin"


def read(folder: Path, text: str | bytes, timezone: str = BERLIN) -> list[Row]:
    path = folder / "plate.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_plate_map(path, timezone=timezone))


def plans(folder: Path, text: str | bytes, timezone: str = BERLIN) -> dict[str, WellPlan]:
    return {row.plan.well: row.plan for row in read(folder, text, timezone)}


def fault(folder: Path, text: str | bytes) -> str:
    with pytest.raises(UsageError) as caught:
        read(folder, text)
    assert str(folder / "plate.csv") in str(caught.value)
    return str(caught.value)


def test_a_full_map_is_read(tmp_path: Path) -> None:
    text = (
        "well,compound,dose,unit,vehicle,role,group,cell_line,treated_at,experiment,plate\n"
        "B03,Raptinal,10,uM,DMSO,treated,high,HeLa,2026-11-20 18:05,240301*,Plate ?\n"
    )
    at = datetime(2026, 11, 20, 17, 5, tzinfo=UTC)
    plan = WellPlan("B3", TREATED, "Raptinal", 10.0, "uM", "DMSO", "high", "HeLa", at)
    assert read(tmp_path, text) == [Row(plan, "240301*", "Plate ?")]
    assert plan.dose_text == "10 uM"


DIALECTS = {
    "European Excel": "Well;Compound;Dose\r\nB3;Raptinal;10,5 µM\r\n".encode("utf-8-sig"),
    "old Excel": "WELL;COMPOUND;DOSE;UNIT\r\nb3;Raptinal;10,5;µM\r\n".encode("cp1252"),
    "Excel, Unicode text": "well\tcompound\tdose\r\nB3\tRaptinal\t10,5 \u03bcM\r\n".encode("utf-16"),
    "sep=": b"sep=;\r\nwell;compound;dose\r\nB3;Raptinal;10.5uM\r\n",
    "unit in the header": b"well,compound,dose_uM\nB3,Raptinal,10.5\n",
    "unit in brackets": "well,compound,Dose [µM]\nB3,Raptinal,10.5\n".encode(),
    "unit in parentheses": b"well,compound,Concentration (uM)\nB3,Raptinal,1.05e1\n",
    "unit said twice": b"well,compound,dose [uM],unit\nB3,Raptinal,10.5 uM,um\n",
    "quotes and blanks": b'"well", "compound","dose"\n " b03 ",Raptinal ,  "10.5  uM"\n',
    "empty lines and trailing separators": b"\n;;;;\nwell;compound;dose;;\n;;;;\nB3;Raptinal;10,5 uM;;\n;;\n\n",
    "other words": b"WELL,Drug,Replicate Group,Conc,Dose-Unit\nB3,Raptinal,,10.5,uM\n",
    "old Mac": b"well,compound,dose\rB3,Raptinal,10.5 uM\r",
    "line breaks in a cell": b'well,compound,dose\nB3,Raptinal,"10.5\nuM"\n',
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_spreadsheets_do_to_a_map_changes_nothing(tmp_path: Path, dialect: str) -> None:
    assert plans(tmp_path, DIALECTS[dialect]) == {"B3": WellPlan("B3", TREATED, "Raptinal", 10.5, "uM")}


@pytest.mark.parametrize(("text", "unit"), [("µM", "uM"), ("um", "uM"), ("NM", "nM"), ("µg/ml", "ug/mL"),
                                            ("ng / uL", "ng/uL"), ("%", "%"), ("M", "M"), ("IU", "IU")])  # fmt: skip
def test_one_unit_has_one_spelling(text: str, unit: str) -> None:
    assert unit_of(text) == unit


@pytest.mark.parametrize(
    ("cells", "role"),
    [
        ("Raptinal,10,,", TREATED),
        ("Raptinal,0,DMSO,", CONTROL),
        (",0,,", CONTROL),
        (",,DMSO,", CONTROL),
        (",,,", BLANK),
        (",,,Control", CONTROL),
        ("Staurosporine,1,,TREATED", TREATED),
        ("DMSO,0.1,,control", CONTROL),
    ],
)
def test_a_role_that_is_missing_follows_from_the_row(tmp_path: Path, cells: str, role: str) -> None:
    assert plans(tmp_path, f"well,compound,dose,vehicle,role\nA1,{cells}\n")["A1"].role == role


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ("Raptinal,,,,", "column role: Raptinal without a dose"),
        ("DMSO,0.1,,,", "column role: is DMSO the treatment or the vehicle?"),
        ("EtOH,1,EtOH,,", "is EtOH the treatment"),
        (",,,,HeLa", "is it a control, or empty?"),
        ("Raptinal,1,,positive,", "a positive control is treated"),
        ("Raptinal,1,,negative,", "did you mean 'control'"),
        (",10,,,", "column compound: a dose of 10 of what?"),
    ],
)
def test_a_role_that_is_in_doubt_is_asked_for(tmp_path: Path, cells: str, told: str) -> None:
    assert told in fault(tmp_path, f"well,compound,dose,vehicle,role,cell_line\nA1,{cells}\n")


@pytest.mark.parametrize(
    ("dose", "told"),
    [
        ("ten", "'ten' is no dose: write it like 10 or 10 uM"),
        ("-1", "must be 0 or more"),
        ("1e999", "must be 0 or more"),
        ('"1,000"', "write decimals with a point, and thousands without a comma"),
        ("1.000.000", "write decimals with one point"),
        ("10 nM", "two units, nM and uM"),
    ],
)
def test_a_dose_is_never_guessed(tmp_path: Path, dose: str, told: str) -> None:
    assert told in fault(tmp_path, f"well,compound,dose,unit\nA1,X,{dose},uM\n")


def test_a_thousand_or_a_decimal_in_a_tabbed_file_is_asked_for(tmp_path: Path) -> None:
    assert "may be a thousand or a decimal" in fault(tmp_path, "well\tcompound\tdose\nA1\tX\t1,000\n")
    assert plans(tmp_path, "well\tcompound\tdose\nA1\tX\t0,125\n")["A1"].dose == 0.125
    assert plans(tmp_path, "well;compound;dose\nA1;X;3,333\n")["A1"].dose == 3.333


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-20 18:05", (2026, 11, 20, 17, 5)),
        ("2026-11-20T18:05:30+00:00", (2026, 11, 20, 18, 5, 30)),
        ("2026-11-20 18:05Z", (2026, 11, 20, 18, 5)),
        ("2026-11-20 8:05 +0100", (2026, 11, 20, 7, 5)),
        ("20.11.2026 18:05", (2026, 11, 20, 17, 5)),
        ("2026-07-01 18:05", (2026, 7, 1, 16, 5)),
        ("2026-10-25 02:30+01:00", (2026, 10, 25, 1, 30)),
    ],
)
def test_times_are_those_of_the_microscopes_clock(tmp_path: Path, text: str, at: tuple[int, ...]) -> None:
    found = plans(tmp_path, f"well,role,treated_at\nA1,control,{text}\n")["A1"].treated_at
    assert found == datetime(*at, tzinfo=UTC)  # type: ignore[arg-type,misc]
    assert found.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("2026-10-25 02:30", "was twice, since the clocks of Europe/Berlin went back: "
         "write 2026-10-25 02:30+02:00 or 2026-10-25 02:30+01:00"),
        ("2026-03-29 02:30", "never was"),
        ("2026-11-20", "no time of day: write it like 2026-11-20 18:05"),
        ("11/20/2026 18:05", "without guessing"),
        ("46346.75", "without guessing"),
        ("2026-13-20 18:05", "is no time"),
        ("0026-11-20 18:05", "nobody filmed"),
        ("9999-12-31 23:59-12:00", "nobody filmed"),
        ("2026-11-20 25:05", "is no time"),
    ],
)  # fmt: skip
def test_a_time_in_doubt_is_asked_for(tmp_path: Path, text: str, told: str) -> None:
    message = fault(tmp_path, f"well,role,treated_at\nA1,control,{text}\n")
    assert "line 2, column treated_at" in message
    assert told in message


def test_every_wrong_cell_is_named_at_once_with_its_line(tmp_path: Path) -> None:
    text = "well,role,compound,dose\n\nA1,control,,\nX99,treated,X,1\nB2,tretaed,X,1\nA01,control,,\n"
    text += ",control,,\nB3,treated,X,no\n"
    message = fault(tmp_path, text)
    for told in (
        "line 4, column well: 'X99' is no well",
        "line 5, column role: 'tretaed' is no role, did you mean 'treated'",
        "line 6, column well: A1 stands in line 3 already",
        "line 7, column well: which well?",
        "line 8, column dose: 'no' is no dose",
    ):
        assert told in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no row"),
        ("\n ; \n", "holds no row"),
        (",1,2,3\nA,DMSO,DMSO,X 10\n", "looks like a plate drawn as a grid"),
        (
            "well,role\nA1-A3,control\n",
            "line 2, column well: 'A1-A3' is no well: write it like B3, each well in a line",
        ),
        ("wel,role\nA1,control\n", "line 1, column wel: unknown column, did you mean 'well'?"),
        ("role\ncontrol\n", "no column 'well'"),
        ("well,role,Treated At,treated_at\n", "a second column 'treated_at'"),
        ("well,dose_uM,dose\nA1,0,0\n", "a second column 'dose'"),
        ("well,role\nA1,control,extra\n", "line 2, column 3: 'extra' stands under no header"),
        ('well,role\nA1,"control\nB1,control\n', "line 2: unexpected end of data"),
        (b"PK\x03\x04" + bytes(50), "a workbook, no CSV"),
        (b"well,role\nA1,con\0trol\n", "is no text"),
    ],
)
def test_what_is_no_map_is_told_with_what_to_do(tmp_path: Path, text: str | bytes, told: str) -> None:
    assert told in fault(tmp_path, text)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be read: No such file.*gone\.csv"):
        read_plate_map(tmp_path / "gone.csv", timezone="UTC")


def test_a_message_stays_readable_when_everything_is_wrong(tmp_path: Path) -> None:
    message = fault(tmp_path, "well,role\n" + "A1,what\n" * 384)
    assert message.count("column role") == 40
    assert "and 344 more" in message


def test_the_wells_of_a_1536_well_plate_are_known(tmp_path: Path) -> None:
    assert set(plans(tmp_path, "well,role\naf48,control\nAA01,control\nZ9,control\n")) == {"AF48", "AA1", "Z9"}


def rows_for(*places: tuple[str, str]) -> list[Row]:
    """One row of well A1 a place; its compound is the place, so that one sees which holds."""
    return [Row(WellPlan("A1", TREATED, compound="/".join(place)), *place) for place in places]


@pytest.mark.parametrize(
    ("places", "holds"),
    [
        ([("", ""), ("", "Plate 1")], "/Plate 1"),
        ([("run", ""), ("", "Plate 1")], "run/"),
        ([("run", ""), ("run", "Plate *")], "run/Plate *"),
        ([("run", "Plate *"), ("run", "*")], "run/Plate *"),
        ([("*", ""), ("r?n", "")], "r?n/"),
        ([("ru*", "Plate 1"), ("run", "")], "run/"),
        ([("r*", ""), ("*n", "")], "*n/"),
        ([("other", "Plate 1"), ("", "")], "/"),
        ([("[run]", "")], ""),
    ],
)
def test_the_most_specific_row_holds(places: list[tuple[str, str]], holds: str) -> None:
    plan = plan_of(rows_for(*places), "run", "Plate 1")
    assert (plan.wells["A1"].compound if plan.wells else "") == holds
    if len({len(place[0]) for place in places}) > 1:  # of equals the one further down; else the order says nothing
        assert plan_of(reversed(rows_for(*places)), "run", "Plate 1") == plan


def test_rows_of_one_plate_leave_the_other_wells_of_the_general_map(tmp_path: Path) -> None:
    rows = read(tmp_path, "well,role,compound,dose,plate\nA1,control,,,\nA2,treated,X,1,\nA2,treated,Y,1,Plate 2\n")
    assert plan_of(rows, "run", "Plate 1").wells["A2"].compound == "X"
    assert plan_of(rows, "run", "Plate 2").wells["A2"].compound == "Y"
    assert plan_of(rows, "run", "Plate 2").controls("A2") == ("A1",)
    assert plan_of([], "run", "Plate 2") is NO_PLAN


def test_arms_name_the_cell_line_only_where_there_are_several(tmp_path: Path) -> None:
    text = "well,role,compound,dose,vehicle,group,cell_line\nA1,control,,,DMSO,,HeLa\nA2,control,,,PBS,,HeLa\n"
    text += "A3,treated,X,1 uM,PBS,,HeLa\nA4,treated,X,1 uM,water,high,HeLa\nA5,blank,,,,,\n"
    one = plan_of(read(tmp_path, text), "run", "Plate 1")
    assert [one.arm(well) for well in ("A1", "A3", "A4", "A5", "Z9")] == ["control", "X 1 uM", "high", "blank", ""]
    assert (one.controls("A3"), one.controls("A4"), one.controls("A1")) == (("A2",), ("A1", "A2"), ())
    two = plan_of(read(tmp_path, f"{text}B1,control,,,,,U2OS\n"), "run", "Plate 1")
    assert [two.arm(well) for well in ("A3", "A4", "A5", "B1")] == [
        "HeLa: X 1 uM",
        "HeLa: high",
        "blank",
        "U2OS: control",
    ]
    assert two.controls("A4") == ("A1", "A2")


WELLS = st.builds(lambda row, column: f"{row}{column}", st.sampled_from([*"ABCH", "AA", "AF"]), st.integers(1, 48))
NAMES = st.text(st.sampled_from("abcXYZ 0123-µé;,\"'\t"), max_size=8).map(lambda text: " ".join(text.split()))
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2050, 1, 1)).map(lambda at: at.replace(microsecond=0, tzinfo=UTC))  # noqa: DTZ001 - made aware


@st.composite
def maps(draw: st.DrawFn) -> list[Row]:
    rows = []
    for well in draw(st.lists(WELLS, min_size=1, max_size=6, unique=True)):
        role = draw(st.sampled_from([TREATED, CONTROL, BLANK]))
        dose = draw(st.floats(1e-9, 1e6)) if role == TREATED else draw(st.sampled_from([None, 0.0]))
        plan = WellPlan(
            well=well,
            role=role,
            compound=f"c{draw(NAMES)}" if dose else draw(NAMES),
            dose=dose,
            unit="uM" if dose is not None else "",
            vehicle=draw(NAMES),
            group=draw(NAMES),
            cell_line=draw(NAMES),
            treated_at=draw(st.none() | TIMES),
        )
        rows.append(Row(plan, draw(NAMES), draw(NAMES)))
    return rows


@st.composite
def spellings(draw: st.DrawFn) -> tuple[list[Row], bytes]:
    """A map, and a spreadsheet of it in some dialect."""
    rows = draw(maps())
    delimiter = draw(st.sampled_from(",;\t"))
    comma = draw(st.booleans()) and delimiter == ";"
    unit = draw(st.sampled_from(["cell", "column", "header"]))
    header = ["well", "role", "compound", "dose", "unit", "vehicle", "group", "cell_line", "treated_at", "experiment",
              "plate"]  # fmt: skip
    titles = [draw(st.sampled_from([name, name.upper(), name.replace("_", " ").title()])) for name in header]
    if unit == "header":
        titles[3] = draw(st.sampled_from(["dose_uM", "Dose [µM]", "DOSE (um)"]))
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=draw(st.sampled_from(["\n", "\r\n"])))
    writer.writerow(titles)
    for row in rows:
        plan = row.plan
        dose = "" if plan.dose is None else repr(plan.dose).replace(".", "," if comma else ".")
        letters = plan.well.rstrip("0123456789")
        padded = f"{letters}{int(plan.well[len(letters) :]):02d}"
        writer.writerow(
            [draw(st.sampled_from([plan.well, padded, padded.lower()])), plan.role, plan.compound,
             f"{dose} uM" if dose and unit == "cell" else dose, "uM" if unit == "column" else "", plan.vehicle,
             plan.group, plan.cell_line, plan.treated_at.isoformat() if plan.treated_at else "", row.experiment,
             row.plate]
        )  # fmt: skip
        if draw(st.booleans()):
            out.write("\r\n")
    return rows, out.getvalue().encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])))


@given(case=spellings())
def test_a_map_comes_back_from_any_dialect(
    case: tuple[list[Row], bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows, content = case
    found = read(tmp_path_factory.mktemp("map"), content)
    assert found == [replace(row, plan=replace(row.plan)) for row in rows]


@given(
    content=st.binary(max_size=200)
    | st.lists(
        st.sampled_from(["well", "dose", "role", "treated_at", "A1", "b03", "1,5", "1e9", "DMSO", "control",
                         "0001-01-01 00:00", "9999-12-31 23:59-23:59", "2026-10-25 02:30",
                         '"', ",", ";", "\t", "\n", "\r", " ", "µ", "sep=;"]),
        max_size=60,
    ).map(lambda parts: "".join(parts).encode())
)  # fmt: skip
def test_whatever_a_file_holds_is_read_or_told(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    for head in (b"", b"well,dose,role,treated_at\n"):
        with contextlib.suppress(UsageError):
            read(tmp_path_factory.mktemp("any"), head + content)
