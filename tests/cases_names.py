"""Names of image files as microscopes write them, and what they say. Data only; read by the tests of the sources."""

from __future__ import annotations

from typing import NamedTuple


class Gen5Name(NamedTuple):
    """A Gen5 file name and its parts."""

    name: str
    well: str
    field: str
    number: int
    channel: str
    z: int | None = None
    derived: str = ""


GEN5_NAMES = [
    # Form A: WELL_READSTEP_CHANNELINDEX_FIELD_CHANNELNAME_NNN
    Gen5Name("A1_01_1_4_Phase Contrast_001.tif", "A1", "4", 1, "Phase Contrast"),
    Gen5Name("B2_03_2_1_GFP_014.tif", "B2", "1", 14, "GFP"),
    Gen5Name("A9_-1_2_1_GFP_001.tif", "A9", "1", 1, "GFP"),
    Gen5Name("P24_02_1_12_Bright Field_100.tiff", "P24", "12", 100, "Bright Field"),
    Gen5Name("AF48_01_1_1_GFP 469,525_001.TIF", "AF48", "1", 1, "GFP 469,525"),
    Gen5Name("B3_02_1_1_Bright_Field_001.tif", "B3", "1", 1, "Bright_Field"),
    Gen5Name("A1_01_1_1_DAPI_-1.tif", "A1", "1", -1, "DAPI"),
    Gen5Name("A01_01_1_01_DAPI_001.tif", "A1", "1", 1, "DAPI"),
    # ... derived images
    Gen5Name("A1_-1_1_1_Stitched[Channel1 300,400]_001.tif", "A1", "1", 1, "Channel1 300,400", derived="Stitched"),
    Gen5Name("A1_-1_1_1_Tsf[Phase Contrast]_001.tif", "A1", "1", 1, "Phase Contrast", derived="Tsf"),
    Gen5Name(
        "A1_-2_3_1_Tsf[Stitched[Channel 3 600,650]]_001.tif",
        "A1",
        "1",
        1,
        "Channel 3 600,650",
        derived="Tsf[Stitched]",
    ),
    # ... z in the field's token
    Gen5Name("B3_02_1_1Z0_Bright Field_001.tif", "B3", "1", 1, "Bright Field", 0),
    Gen5Name("B3_02_1_2Z11_Bright Field_007.tif", "B3", "2", 7, "Bright Field", 11),
    # ... regions of interest: B1ROI14 is well B1, field ROI14
    Gen5Name("B1ROI14_02_1_1_Bright Field_001.tif", "B1", "ROI14", 1, "Bright Field"),
    Gen5Name("B1ROI14_02_1_2_Bright Field_001.tif", "B1", "ROI14-2", 1, "Bright Field"),
    Gen5Name("A1ROI2_01_1_1Z1_Confocal DAPI_001.tif", "A1", "ROI2", 1, "Confocal DAPI", 1),
    # Form B: WELL_N[Zk]_CHANNELNAME_C_NNN_[step]
    Gen5Name("P24_1_Bright Field_1_001_02.tif", "P24", "1", 1, "Bright Field"),
    Gen5Name("B2_1_Bright Field_1_003_02.tif", "B2", "1", 3, "Bright Field"),
    Gen5Name("A1_1Z0_DAPI_1_001_.tif", "A1", "1", 1, "DAPI", 0),
    Gen5Name("A1_1Z4_DAPI_1_003_.tif", "A1", "1", 3, "DAPI", 4),
    Gen5Name("A1_1_488_1_001_02.tif", "A1", "1", 1, "488"),
    Gen5Name("H10_1_Stitched[AandB_Phase Contrast]_1_001_-1.tif", "H10", "1", 1, "Phase Contrast", derived="Stitched"),
    # Form C: WELL_READSTEP_SPn[Zk]_Cn_CHANNELNAME_TNNN
    Gen5Name("B2_02_SP10Z10_C1_Bright Field_T001.tif", "B2", "10", 1, "Bright Field", 10),
    Gen5Name("B2_02_SP3_C2_GFP_T012.tif", "B2", "3", 12, "GFP"),
]

GEN5_WRONG = [
    "holiday.tif",
    "A1.tif",
    "A0_01_1_1_DAPI_001.tif",
    "A49_01_1_1_DAPI_001.tif",
    "AG1_01_1_1_DAPI_001.tif",
    "a1_01_1_1_DAPI_001.tif",
    "A1_01_1_1_DAPI_001 - Copy.tif",
    "A1_01_1_1__001.tif",
    "A1_01_1_x_DAPI_001.tif",
    "A\N{ARABIC-INDIC DIGIT ONE}_01_1_1_DAPI_001.tif",
    "plate 1/Experiment overview.tiff",
]

NO_IMAGES = [
    "Thumbs.db",
    "notes.txt",
    "experiment.xpt",
    "A1_01_1_1_DAPI_001.tif.tmp",
    "A1_01_1_1_DAPI_001.tif.part",
    ".A1_01_1_1_DAPI_001.tif",
    "._A1_01_1_1_DAPI_001.tif",
    "~A1_01_1_1_DAPI_001.tif",
    ".snapshot/A1_01_1_1_DAPI_001.tif",
    "",
]


class Folder(NamedTuple):
    """Where an image stands, the rules, and what they make of it. The source's name is "scope"."""

    path: str
    rule: str
    series: str
    experiment: str
    plate: str
    folder: str


_TOP, _INNER = "250201_164233_Kinetic", "250201_164712_Plate 1"
_NAME = "B2_01_1_1_GFP_001.tif"

FOLDERS = [
    Folder(f"{_TOP}/{_INNER}/{_NAME}", "dated_folder", "folder", _TOP, "Plate 1", f"{_TOP}/{_INNER}"),
    Folder(f"{_TOP}/{_INNER}/{_NAME}", "dated_folder", "merge", "Kinetic", "Plate 1", f"{_TOP}/{_INNER}"),
    Folder(f"{_TOP}/{_INNER}/B2/{_NAME}", "dated_folder", "folder", _TOP, "Plate 1", f"{_TOP}/{_INNER}"),
    Folder(f"{_TOP}/{_INNER}/ID_B2 info/{_NAME}", "dated_folder", "folder", _TOP, "Plate 1", f"{_TOP}/{_INNER}"),
    Folder(f"{_TOP}/{_INNER}/A1/{_NAME}", "dated_folder", "folder", _TOP, "Plate 1", f"{_TOP}/{_INNER}"),
    Folder(f"{_INNER}/{_NAME}", "dated_folder", "folder", _INNER, "Plate 1", _INNER),
    Folder(f"{_INNER}/{_NAME}", "dated_folder", "merge", "Plate 1", "Plate 1", _INNER),
    Folder(f"lab/{_TOP}/{_INNER}/{_NAME}", "dated_folder", "folder", _TOP, "Plate 1", f"lab/{_TOP}/{_INNER}"),
    Folder(f"{_TOP}/Assay plate/{_NAME}", "dated_folder", "folder", _TOP, "Assay plate", _TOP),
    Folder(f"250201_164712/{_NAME}", "dated_folder", "folder", "250201_164712", "Plate 1", "250201_164712"),
    Folder(f"drug/plate 7/{_NAME}", "dated_folder", "folder", "drug", "plate 7", "drug/plate 7"),
    Folder(f"drug/{_NAME}", "dated_folder", "folder", "drug", "Plate 1", "drug"),
    Folder(f"1A_241128_111010_Plate 1_try/{_NAME}", "dated_folder", "folder", "1A_241128_111010_Plate 1_try",
           "Plate 1", "1A_241128_111010_Plate 1_try"),
    Folder(f"B2/{_NAME}", "dated_folder", "folder", "scope", "Plate 1", ""),
    Folder(f"C3/{_NAME}", "dated_folder", "folder", "C3", "Plate 1", "C3"),
    Folder(_NAME, "dated_folder", "folder", "scope", "Plate 1", ""),
    Folder(f"{_TOP}/{_INNER}/{_NAME}", "parent", "folder", f"{_TOP}_{_INNER}", "Plate 1", f"{_TOP}/{_INNER}"),
    Folder(f"{_TOP}/{_INNER}/{_NAME}", "parent", "merge", "Kinetic_Plate 1", "Plate 1", f"{_TOP}/{_INNER}"),
    Folder(_NAME, "parent", "folder", "scope", "Plate 1", ""),
    Folder(f"{_TOP}/{_INNER}/{_NAME}", "source", "folder", "scope", "Plate 1", f"{_TOP}/{_INNER}"),
]  # fmt: skip


class PatternName(NamedTuple):
    """A configured pattern, a path, and what it says."""

    pattern: str
    path: str
    well: str
    field: str
    number: int
    folder: str
    channel: str = ""
    z: int | None = None


PATTERN_NAMES = [
    PatternName(r"t(?P<time>\d+)\.tif", "t03.tif", "A1", "1", 3, ""),
    PatternName(
        r"(?P<well>[A-H]\d+)_f(?P<field>\d+)_t(?P<time>\d+)_(?P<channel>\w+)\.png",
        "C07_f002_t0012_phase.png",
        "C7",
        "2",
        12,
        "",
        "phase",
    ),
    PatternName(r"_z(?P<z>\d+)_T(?P<time>\d+)", "day 1/x_z4_T9.tif", "A1", "1", 9, "day 1", z=4),
    # Without a number the time point is the path, less what tells images of one time point apart.
    PatternName(r".", "sub/img_7.png", "A1", "1", -1, "sub/img_7.png"),
    PatternName(r"(?P<well>[A-H]\d+)_(?P<channel>[a-z]+)", "B2_bf first.png", "B2", "1", -1, "_ first.png", "bf"),
    # A date is no number of a time point.
    PatternName(r"(?P<time>\d{4}-\d\d-\d\d)", "2025-02-01.png", "A1", "1", -1, "2025-02-01.png"),
]

PATTERN_WRONG = [
    (r"^t(?P<time>\d+)\.tif$", "t03_mask.tif"),
    (r"(?P<well>\w+)_", "ctrl_1.png"),
    (r"z(?P<z>\w+)\.", "zero.png"),
]
