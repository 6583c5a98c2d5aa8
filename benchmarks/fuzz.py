"""Coverage-guided fuzzing of everything that reads what others wrote: TIFFs, their metadata, `.vol` archives, names.

    python benchmarks/fuzz.py --minutes 10

Needs atheris (not one of the tests' packages: `pip install atheris` into an environment that has cellvigil). Each
target runs in a process of its own, begins with the small files of tests/bad_files.py and sound ones, and ends at the
first input that makes it raise anything but BadFile or NotYet, take 20 s or 2 GB; that input is kept and told.
"""
# ruff: noqa: PLC0415 - atheris counts the branches of what is imported under its eyes

from __future__ import annotations

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "daemon"), str(HERE.parent / "tests")]
TARGETS = ("tiff", "ometiff", "vol", "xml", "names")
BTI_VALUES = (
    "Date", "Time", "Daylight", "KineticTimeMs", "KineticSequence", "PixelWidth", "PixelHeight", "ImageWidthMicrons",
    "ImageHeightMicrons", "Well", "Color",
)  # fmt: skip
OME_VALUES = (
    "DimensionOrder", "SizeX", "SizeY", "SizeZ", "SizeC", "SizeT", "PhysicalSizeX", "PhysicalSizeY",
    "PhysicalSizeXUnit",
)  # fmt: skip
TIMEOUT_S, MOST_MB, LONGEST = 20, 2048, 1 << 16


def main() -> int:
    """Run every target for its share of the time; exit code 1 if one found something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all targets together (%(default)s)")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--keep", type=Path, default=Path("build/fuzz"), help="where inputs that crash go (%(default)s)"
    )
    parser.add_argument("--one", choices=TARGETS, help=argparse.SUPPRESS)
    args, rest = parser.parse_known_args()
    if args.one:
        return run_one(args.one, rest)
    seconds = int(args.minutes * 60 / len(args.targets))
    args.keep.mkdir(parents=True, exist_ok=True)
    print(
        f"{'target':8} {'executions':>11} {'a second':>9} {'edges':>7} {'features':>9} {'inputs':>7}  result",
        flush=True,
    )
    return max(watch_one(target, seconds, args.seed, args.keep) for target in args.targets)


def watch_one(target: str, seconds: int, seed: int, keep: Path) -> int:
    """One target's run, told in a line."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        command = [
            sys.executable, __file__, "--one", target, str(corpus), f"-max_total_time={seconds}", f"-seed={seed}",
            f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={MOST_MB}", f"-max_len={LONGEST}",
            f"-artifact_prefix={keep}/{target}-",
            "-print_final_stats=1", "-close_fd_mask=1",
        ]  # fmt: skip
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    log = done.stderr
    (keep / f"{target}.log").write_text(log, encoding="utf-8")
    cov, features, inputs = last(r"cov: (\d+) ft: (\d+) corp: (\d+)", log, 3)
    (executions,) = (
        last(r"stat::number_of_executed_units:\s*(\d+)", log, 1) if "stat::" in log else last(r"#(\d+)", log, 1)
    )
    result = "nothing found" if done.returncode == 0 else f"exit code {done.returncode}: {told(log)}"
    speed = executions / max(1, seconds)
    print(f"{target:8} {executions:11} {speed:9.0f} {cov:7} {features:9} {inputs:7}  {result}", flush=True)
    return int(done.returncode != 0)


def last(pattern: str, log: str, groups: int) -> tuple[int, ...]:
    """The last match's numbers; zeros if there is none."""
    found = list(re.finditer(pattern, log))
    return tuple(int(number) for number in found[-1].groups()) if found else (0,) * groups


def told(log: str) -> str:
    """What the log says of a crash."""
    lines = [line for line in log.splitlines() if re.search(r"Error|Exception|SUMMARY|Test unit written", line)]
    return " | ".join(lines[-3:])[:400]


def run_one(target: str, arguments: list[str]) -> int:
    """Fuzz one target in this process, until libFuzzer has enough."""
    import atheris

    with atheris.instrument_imports(include=["cellvigil.sources", "cellvigil.store.names", "tifffile", "zipfile"]):
        import tifffile  # noqa: F401

        import cellvigil.sources.registry
        import cellvigil.store.names  # noqa: F401
    write_seeds(target, Path(arguments[0]))
    scratch = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    test = made(target, scratch)

    def once(data: bytes) -> None:
        from cellvigil.errors import BadFile, NotYet

        with contextlib.suppress(BadFile, NotYet):
            test(data)

    atheris.Setup([sys.argv[0], *arguments], once)
    atheris.Fuzz()
    return 0


def write_seeds(target: str, corpus: Path) -> None:
    """Sound files, and the small ones of the tests' corpus."""
    from bad_files import CASES
    from source_files import bti_xml, ri_tag, texture, tiff_bytes, write_vol

    sound = [
        tiff_bytes(texture(), description=bti_xml(), metadata=None),
        tiff_bytes(texture(), compression="zlib"),
        tiff_bytes(texture(), bigtiff=True, byteorder=">"),
        tiff_bytes(texture(), extratags=ri_tag(1.33, 1.4)),
        tiff_bytes(texture(), ome=True, metadata={"axes": "YX", "PhysicalSizeX": 0.3, "PhysicalSizeY": 0.3}),
        tiff_bytes(texture(), imagej=True, resolution=(3, 3), metadata={"unit": "um"}),
        bti_xml().encode(),
        b"02/01/25|20:00:10|TRUE|11550000|13|1224|904|394|291|B2|GFP",
        b"XYZCT|16|16|1|1|1|0.3|0.3|nm|2025-02-01T20:00:10+14:00",
        b"A1_02_1_1_Bright Field_001.tif",
        b"240301_180000_x/240301_180005_Plate 1/B2_1_Bright Field_1_001_02.tif",
        write_vol(corpus / "seed.vol", {f"f{i}.tif": tiff_bytes(texture(8, 8)) for i in range(2)}).read_bytes(),
    ]
    for number, data in enumerate(sound):
        (corpus / f"sound-{number}").write_bytes(data)
    if target == "names":
        for number, bad in enumerate(CASES.values()):
            (corpus / f"name-{number}").write_bytes(bad.name.encode("utf-8", "surrogateescape"))
        return
    for number, (case, bad) in enumerate(CASES.items()):
        if case.startswith("special") or any(word in case for word in ("bomb", "million", "MB", "100,001", "again")):
            continue
        path = corpus / f"bad-{number}"
        bad.write(path)
        if path.stat().st_size > LONGEST:
            path.unlink()


def made(target: str, scratch: Path) -> Callable[[bytes], None]:
    """What is done with one input."""
    from cellvigil import config

    limits = config.Limits(max_file_mb=4, max_pixels=1_000_000, max_pages=16, max_members=200, max_metadata_mb=0.2)
    if target == "tiff":
        return lambda data: read_pixels(data, limits)
    if target == "xml":
        return lambda data: read_xml(data.decode("utf-8", "replace"), limits)
    if target == "names":
        formats = [format_for(kind, scratch, limits) for kind in ("gen5", "nanolive", "ometiff", "plain")]
        return lambda data: read_name(data.decode("utf-8", "surrogateescape"), formats)
    kind, name = {"ometiff": ("ometiff", "a.ome.tif"), "vol": ("nanolive", "a.vol")}[target]
    fmt = format_for(kind, scratch, limits)
    return lambda data: read_file(data, fmt, scratch, name)


def format_for(kind: str, root: Path, limits: Any) -> Any:
    """A source's format."""
    from cellvigil.sources.registry import format_of
    from source_files import make_source

    pattern = {"pattern": r"(?P<well>[A-Z]+\d+)_t(?P<time>\d+)"} if kind == "plain" else {}
    return format_of(make_source(root, kind, **pattern), limits)


def read_pixels(data: bytes, limits: Any) -> None:
    """A TIFF in memory."""
    from cellvigil.sources import bti, tiff

    with tiff.opened(data, "x.tif", limits) as file:
        bti.parse(tiff.description(file), "x.tif", limits)
        tiff.read_planes(file, data, "x.tif", rule="focus", limits=limits)
        tiff.pixel_size_um(file)


def read_file(data: bytes, fmt: Any, root: Path, name: str) -> None:
    """A container in a folder: its parts are found, and the first three read."""
    from cellvigil.data import FileStat
    from cellvigil.sources.intake import take

    (root / name).write_bytes(data)
    told = (root / name).stat()
    for part, _ in take(fmt, root, FileStat(name, told.st_size, told.st_mtime_ns))[:3]:
        fmt.read(root, part.path)


def read_xml(text: str, limits: Any) -> None:
    """Both microscopes' metadata: the text itself, and sound documents whose values are its parts."""
    from source_files import bti_xml

    read_document(text, limits)
    values = [escape(part, {'"': "&quot;"}) for part in text.split("|")]
    read_document(bti_xml(**dict(zip(BTI_VALUES, values, strict=False))), limits)
    told = "".join(f' {name}="{value}"' for name, value in zip(OME_VALUES, values, strict=False))
    date = f"<AcquisitionDate>{values[-1]}</AcquisitionDate>"
    plane = f'<Plane TheT="{values[0]}" DeltaT="{values[-1]}"/>'
    read_document(f"<OME><Image>{date}<Pixels{told}><TiffData/>{plane}</Pixels></Image></OME>", limits)


def read_document(text: str, limits: Any) -> None:
    """One document, by both rules."""
    from cellvigil.errors import BadFile
    from cellvigil.sources import bti, ome

    zone = ZoneInfo("Europe/Berlin")
    if (found := bti.parse(text, "x", limits)) is not None:
        bti.acquired_at(found, zone, "251026_013000")
    with contextlib.suppress(BadFile):
        ome.check_sizes(text, "x", limits, pages=3, smallest=100)
    for image in ome.parse(text, "x", zone, limits):
        ome.moment(image, 1)


def read_name(text: str, formats: Sequence[Any]) -> None:
    """A path by every source's rules, and as a name in the store."""
    from cellvigil.errors import BadFile
    from cellvigil.store.names import original, row_and_column, segment

    made = segment(text)
    if made in ("", ".", "..") or "/" in made or original(made) not in (text, None):
        raise ValueError(f"{text!r} becomes {made!r}")
    if not all(part.isalnum() for part in row_and_column(text)):
        raise ValueError(f"{text!r} becomes {row_and_column(text)}")
    for fmt in formats:
        with contextlib.suppress(BadFile):
            fmt.sight(text)


if __name__ == "__main__":
    sys.exit(main())
