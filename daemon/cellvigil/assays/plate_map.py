"""`plate.csv`: which well got what, as a biologist keeps it. Reads the one file it is given; docs/response.md."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from cellvigil.assays.sheet import Faults, Line, Sheet, Wrong, read_sheet
from cellvigil.assays.times import moment
from cellvigil.assays.wells import well_of
from cellvigil.platemap import BLANK, CONTROL, ROLES, TREATED, Row, WellPlan

COLUMNS = {
    "well": ("well_id",),
    "compound": ("drug", "substance"),
    "dose": ("concentration", "conc"),
    "unit": ("dose_unit",),
    "vehicle": ("solvent",),
    "role": (),
    "group": ("replicate_group",),
    "cell_line": ("cellline",),
    "treated_at": (),
    "experiment": (),
    "plate": (),
}
"""The columns, and other names that are taken for them."""

_DOSE = re.compile(
    r"(?P<number>[+-]?(?:\d[\d.,]*|[.,]\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>[^\d\s].*)?", re.ASCII | re.DOTALL
)
_MOLAR = {name.lower(): name for name in ("uM", "nM", "pM", "fM", "mM")}
_MASS = re.compile(r"(?P<mass>[pnum]?g)/(?P<volume>[um]?l)", re.IGNORECASE)
_VEHICLES = {"dmso", "pbs", "water", "medium", "media", "vehicle", "ethanol", "etoh", "control", "none", "untreated"}


def read_plate_map(path: Path, *, timezone: str = "") -> tuple[Row, ...]:
    """The rows of a plate map. `timezone`: of times without an offset; "" = UTC, as for the images.

    Raises UsageError that names every wrong cell.
    """
    sheet = read_sheet(path, COLUMNS, needs=("well",), measured="dose")
    faults = Faults(path)
    first: dict[tuple[str, str, str], int] = {}
    rows = []
    for line in sheet.lines:
        row = _row(line, sheet, timezone, faults)
        if row is None:
            continue
        place = (row.experiment, row.plate, row.plan.well)
        before = first.setdefault(place, line.number)
        if before != line.number:
            what = f"{row.plan.well} stands in line {before} already, for the same plate: take one of the two away"
            faults.add(line.number, "well", what)
        rows.append(row)
    faults.settle()
    return tuple(rows)


def _row(line: Line, sheet: Sheet, timezone: str, faults: Faults) -> Row | None:
    """One row; None where something is wrong with it, which is noted."""
    cells, number, before = line.cells, line.number, len(faults)
    well = faults.taken(number, "well", lambda: _well(cells["well"]))
    dose = faults.taken(number, "dose", lambda: dose_of(cells["dose"], (cells["unit"], sheet.unit), sheet.delimiter))
    value, unit = dose or (None, "")
    role = faults.taken(number, "role", lambda: _role(cells, value)) if dose else None
    if value and not cells["compound"]:
        faults.add(number, "compound", f"a dose of {cells['dose']} of what? Name the compound")
    treated_at = faults.taken(number, "treated_at", lambda: _treated(cells["treated_at"], timezone))
    if len(faults) > before:
        return None
    plan = WellPlan(
        well=well or "",
        role=role or "",
        compound=cells["compound"],
        dose=value,
        unit=unit,
        vehicle=cells["vehicle"],
        group=cells["group"],
        cell_line=cells["cell_line"],
        treated_at=treated_at,
    )
    return Row(plan, cells["experiment"], cells["plate"])


def _well(text: str) -> str:
    if not text:
        raise Wrong("which well? Write it like B3, or empty the line")
    try:
        return well_of(text)
    except Wrong:
        raise Wrong(f"{text!r} is no well: write it like B3, each well in a line of its own") from None


def _treated(text: str, timezone: str) -> datetime | None:
    return moment(text, timezone) if text else None


def dose_of(text: str, units: tuple[str, str], delimiter: str) -> tuple[float | None, str]:
    """Amount and unit of a dose as written: "10", "10 uM", "1e-3", "10,5" where a comma parts no cells.

    `units`: what its unit column and the header say ("" = nothing); all that is said must agree. Raises Wrong.
    """
    match = _DOSE.fullmatch(text) if text else None
    if text and match is None:
        raise Wrong(f"{text!r} is no dose: write it like 10 or 10 uM")
    if match is None:
        return None, ""
    told = dict.fromkeys(unit_of(one) for one in (match["unit"] or "", *units) if one)
    if len(told) > 1:
        raise Wrong(f"two units, {' and '.join(told)}: say it in one place, or the same in both")
    value = _number(match["number"], delimiter)
    if not math.isfinite(value) or value < 0:
        raise Wrong(f"{text!r} is no dose: it must be 0 or more")
    return value, next(iter(told), "")


def unit_of(text: str) -> str:
    """A unit in one spelling: a micro sign becomes u, molar units and masses a volume get their capitals."""
    plain = "".join(text.split()).replace("\u00b5", "u").replace("\u03bc", "u")
    if plain.lower() in _MOLAR:
        return _MOLAR[plain.lower()]
    if match := _MASS.fullmatch(plain):
        return f"{match['mass'].lower()}/{match['volume'].lower().replace('l', 'L')}"
    return plain


def _number(text: str, delimiter: str) -> float:
    """The number; a comma is decimal where it parts no cells. One that may be thousands or decimals is not guessed."""
    commas, points = text.count(","), text.count(".")
    if commas and delimiter == ",":
        raise Wrong(f"{text!r}: write decimals with a point, and thousands without a comma")
    if commas and delimiter == "\t" and re.fullmatch(r"[1-9]\d{0,2},\d{3}", text):
        raise Wrong(f"{text!r} may be a thousand or a decimal: write it without a comma")
    if commas + points > 1:
        raise Wrong(f"{text!r} is no number: write decimals with one point, and thousands without anything")
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise Wrong(f"{text!r} is no number: write it like 10.5 or 1e-3") from None


def _role(cells: Mapping[str, str], dose: float | None) -> str:
    """The role as written, or as the rest of the row says where that leaves no doubt. Raises Wrong."""
    if cells["role"]:
        return _told_role(cells["role"])
    choose = f"write {', '.join(ROLES[:-1])} or {ROLES[-1]} in column role"
    compound = cells["compound"]
    if compound and dose:
        if compound.lower() in _VEHICLES or compound.lower() == cells["vehicle"].lower():
            raise Wrong(f"is {compound} the treatment or the vehicle? If it is the vehicle: {choose}")
        return TREATED
    if dose == 0 or (cells["vehicle"] and not compound):
        return CONTROL
    if compound:
        raise Wrong(f"{compound} without a dose: give the dose, or {choose}")
    if any(cells[name] for name in ("group", "cell_line", "treated_at")):
        raise Wrong(f"no compound, no dose and no vehicle: is it a control, or empty? {choose.capitalize()}")
    return BLANK


def _told_role(text: str) -> str:
    role = text.lower()
    if role in ROLES:
        return role
    if "pos" in role:
        raise Wrong(f"{text!r} is no role: a positive control is treated")
    near = {"n": CONTROL, "c": CONTROL, "v": CONTROL, "u": CONTROL, "t": TREATED, "d": TREATED}.get(role[0], BLANK)
    raise Wrong(f"{text!r} is no role, did you mean {near!r}? There are {', '.join(ROLES)}")
