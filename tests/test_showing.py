"""The page at / of a real service: it shows what /metrics says and what was committed last, whatever happens."""

from __future__ import annotations

import contextlib
import re
import shutil
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellvigil.board.values import GROUP_COLOURS
from cellvigil.ledger import CommittedFrame, Ledger
from cellvigil.store.gone import folder_of
from cellvigil.store.planes import FULL_LEVEL, read_mask
from cellvigil.store.plate import chunk_name
from lab import Lab, Service
from plate_lines import frame_line
from store_records import SERIES
from test_service_retention import once_later

SHEETS = {"plate_map": "plate.csv", "events": "events.csv", "frame_timeout_s": 2}


def wells_of(page: str) -> dict[str, str]:
    """What the page tells of each well, in full."""
    told = (unescape(text) for text in re.findall(r'data-told="([^"]*)"', page))
    return {re.split(r"[ :\n]", text, maxsplit=1)[0]: text for text in told}


def caption(service: Service) -> str:
    found = re.search(r"<figcaption>(.*?)</figcaption>", service.get("/"))
    return "" if found is None else unescape(found[1])


def picture(service: Service) -> np.ndarray:
    """frame.jpg, decoded: (Y, X, 3) BGR."""
    with urllib.request.urlopen(f"{service.address}/frame.jpg", timeout=10) as answer:
        assert answer.headers["Content-Type"] == "image/jpeg"
        decoded = cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


def last_of(ledger: Ledger) -> CommittedFrame:
    """The slow twin: of all frames the one with the newest commit."""
    frames = [frame for series in ledger.series() for frame in ledger.frames(series)]
    return max(frames, key=lambda frame: frame.committed_at)


@pytest.fixture
def service(lab: Lab) -> Iterator[Service]:
    """A service that has taken three time points of a control and a treated well."""
    with filmed(lab) as running:
        yield running


@pytest.fixture(scope="module")
def standing(
    tmp_path_factory: pytest.TempPathFactory, state_indexes: Path, lite0: Path
) -> Iterator[tuple[Lab, Service]]:
    """The same, for tests that only look."""
    root = tmp_path_factory.mktemp("standing")
    (root / "images").mkdir()
    lab = Lab(root, state_indexes, lite0.parent)
    with filmed(lab) as running:
        yield lab, running


@contextlib.contextmanager
def filmed(lab: Lab) -> Iterator[Service]:
    frames = lab.film()
    with lab.service(source=SHEETS) as running:
        running.wait_for(lambda: running.committed() == frames)
        running.tallied()
        yield running


def test_the_wells_figures_are_those_of_metrics(standing: tuple[Lab, Service]) -> None:
    lab, service = standing
    told = wells_of(service.get("/"))
    assert set(told) == {"A1", "B1"}
    cells = {
        (dict(labels)["well"], dict(labels)["state"]): value
        for (name, labels), value in service.samples().items()
        if name == "cellvigil_cells"
    }
    assert len(cells) == 2 * 5
    for (well, state), value in cells.items():
        assert f"\n{state}: {value:.0f}" in told[well]
    plate = "/".join(lab.ledger().series()[0])
    for well in told:
        share = service.value("cellvigil_state_share", plate=plate, well=well, state="live", estimate="plain")
        low = service.value("cellvigil_state_share_low", plate=plate, well=well, state="live", estimate="plain")
        assert f"= {share:.1%} ({low:.1%} to " in told[well]
    assert told["B1"].startswith("B1 (Raptinal 10 uM, treated)\n")


def test_the_last_frame_is_the_one_that_was_committed_last_also_after_a_restart(lab: Lab, service: Service) -> None:
    last = last_of(lab.ledger())
    words = f"{'/'.join(last.key.series)}, well {last.key.well}, field {last.key.field}: "
    assert caption(service).startswith(words)
    before = picture(service)
    assert service.terminate() == 0
    with lab.service(source=SHEETS) as again:
        assert caption(again).startswith(words)
        assert (picture(again) == before).all()
        first = next(lab.images.rglob("A1_*_001.tif"))
        shutil.copy(first, first.with_name(first.name.replace("_001", "_004")))
        again.wait_for(lambda: "well A1, " in caption(again) and (picture(again) != before).any())
        newest = last_of(lab.ledger())
        assert (newest.key.well, newest.key.timepoint) == (
            "A1",
            max(t for _, t in lab.ledger().places(last.key.series)),
        )


def test_the_cells_are_outlined_by_the_state_they_were_called(standing: tuple[Lab, Service]) -> None:
    lab, service = standing
    frame = last_of(lab.ledger())
    shown = picture(service)
    field = folder_of(lab.store, frame.key.series) / frame.path
    labels = read_mask(field, frame.t, shown.shape[:2])
    assert labels is not None
    assert labels.max() == frame.n_cells > 0
    saturation = shown.max(axis=2).astype(int) - shown.min(axis=2)
    coloured = [number for number in range(1, frame.n_cells + 1) if saturation[labels == number].max() > 60]
    assert len(coloured) > frame.n_cells / 2  # the others are grey: unknown
    assert (
        saturation[cv2.dilate((labels > 0).astype(np.uint8), np.ones((17, 17), np.uint8)) == 0].max() < 20
    )  # but for JPEG's blocks
    greens = saturation > 60
    red, green, blue = (int(GROUP_COLOURS["alive"][0][place : place + 2], 16) for place in (1, 3, 5))
    near = np.abs(shown[greens].astype(int) - (blue, green, red)).max(axis=1) < 60
    assert near.mean() > 0.3  # most cells live


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "damaged"])
def test_where_the_pixels_cannot_be_had_the_words_remain(lab: Lab, service: Service, *, gone: bool) -> None:
    last = last_of(lab.ledger())
    assert service.terminate() == 0
    pixels = folder_of(lab.store, last.key.series) / last.path / FULL_LEVEL / chunk_name(FULL_LEVEL, last.t)
    pixels.unlink() if gone else pixels.write_bytes(b"no pixels")
    with lab.service(source=SHEETS) as again:
        page = again.get("/")
        assert "Its pixels are no longer kept, or cannot be read." in page
        assert "<img" not in page
        assert caption(again).startswith("/".join(last.key.series))
        with pytest.raises(urllib.error.HTTPError, match="404"):
            again.get("/frame.jpg")
        again.tallied()
        assert set(wells_of(again.get("/"))) == {"A1", "B1"}


def test_retention_drops_the_pixels(lab: Lab, service: Service) -> None:
    last = last_of(lab.ledger())
    assert service.terminate() == 0
    once_later(lab, 2, store={"retention": {"pixels_days": 1, "warn_hours": 0}})
    with lab.service(source=SHEETS) as again:
        assert "pixels are no longer kept" in again.get("/")
        assert caption(again).startswith(f"{'/'.join(last.key.series)}, well {last.key.well}, ")


def test_before_the_first_frame(lab: Lab) -> None:
    with lab.service() as service:
        page = service.get("/")
        assert "There is none yet." in page
        assert "<td>never</td>" in page
        assert "working</strong>" in page
        with pytest.raises(urllib.error.HTTPError, match="404"):
            service.get("/frame.jpg")


def test_a_full_disk_is_told(lab: Lab) -> None:
    lab.film(timepoints=1)
    with lab.service(store={"min_free_mb": 1e9}) as service:
        service.wait_for(lambda: ">paused</strong>" in service.get("/"))
        assert "CellvigilStoreFull" in service.get("/")


def test_a_folder_that_is_away_is_told_and_its_return(lab: Lab, service: Service) -> None:
    assert "CellvigilSourceAway" not in service.get("/")
    away = lab.images.with_name("away")
    lab.images.rename(away)
    service.wait_for(lambda: "CellvigilSourceAway" in service.get("/"))
    assert '<td class="critical">away</td>' in service.get("/")
    assert ">in trouble</strong>" in service.get("/")
    away.rename(lab.images)
    service.wait_for(lambda: "CellvigilSourceAway" not in service.get("/"))


def test_a_wrong_plate_map_and_a_refused_file_are_told(lab: Lab, service: Service) -> None:
    (lab.root / "plate.csv").write_text("well,role\nnonsense,control\n")
    service.wait_for(lambda: "CellvigilPlateMapWrong" in service.get("/"))
    refused = lab.images / "240301_180000_Rehearsal" / "240301_180005_Plate 1" / "A1_01_1_1_Bright Field_009.tif"
    assert "<td>0</td></tr>" in service.get("/")
    refused.write_bytes(b"MM\x00\x2a no image at all" * 9)
    service.wait_for(lambda: service.value("cellvigil_frames_total", source="scope", outcome="quarantined"), 30)
    service.wait_for(lambda: "<td>1</td></tr>" in service.get("/"))


def test_many_at_once_get_the_same(standing: tuple[Lab, Service]) -> None:
    _, service = standing
    with ThreadPoolExecutor(32) as pool:
        pages = list(pool.map(lambda _: service.get("/"), range(32)))
        pictures = list(pool.map(lambda _: picture(service).tobytes(), range(32)))
    assert all(set(wells_of(page)) == {"A1", "B1"} for page in pages)
    assert len(set(pictures)) == 1


def test_no_other_file_is_served(standing: tuple[Lab, Service]) -> None:
    _, service = standing
    for path in ("/frame.jpg/..", "/../config.yaml", "//etc/passwd", "/store", "/%2e%2e/config.yaml"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            service.get(path)


def test_the_texts_are_escaped_wherever_they_come_from(lab: Lab) -> None:
    lab.film(timepoints=1)
    plate = lab.images / "240301_180000_Rehearsal" / "240301_180005_Plate 1"
    plate.rename(plate.with_name("240301_180005_<img src=x onerror=alert(1)>"))
    sheet = lab.root / "plate.csv"
    sheet.write_text(sheet.read_text().replace("Raptinal", '</style><script>alert("1")</script>'))
    with lab.service(source={"plate_map": "plate.csv"}) as service:
        service.wait_for(lambda: service.committed() == 2)
        service.tallied()
        page = service.wait_for(lambda: ("alert" in (text := service.get("/"))) and text)
    assert "<script" not in page
    assert page.count("<img") == 1  # the last frame
    assert "&lt;script&gt;" in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_its_store_is_only_read(standing: tuple[Lab, Service]) -> None:
    lab, service = standing

    def files() -> set[tuple[Path, int]]:
        return {(path, path.stat().st_mtime_ns) for path in lab.store.rglob("*") if path.is_file()}

    before = files()
    service.get("/")
    picture(service)
    assert files() == before


@given(st.permutations(range(6)))
def test_the_last_frame_of_a_plate_is_its_newest_line_in_whatever_order_they_are_read(order: list[int]) -> None:
    ledger = Ledger()
    assert ledger.last_frame(SERIES) is None
    lines = [frame_line(well, t, counts={"live": 5}) for t, well in ((3, "A1"), (0, "A1"), (1, "B1"), (2, "A1"))]
    shift = {"well": "A1", "timepoint": 0, "field": "1", "shift": 0.0, "peak": 1.0, "before": -1, "after": 0}
    again = frame_line("A1", 3, counts={"live": 4}, revision=1)
    lines += [again, {"kind": "shift", "series": list(SERIES), **shift}]
    for place in order:
        ledger.add({"seq": place, **lines[place]})
    last = ledger.last_frame(SERIES)
    assert last is not None
    assert (last.key.well, last.key.timepoint, last.revision) == ("A1", 3, 1)
    ledger.add({"kind": "gone", "series": list(SERIES), "seq": 9})
    assert ledger.last_frame(SERIES) is None
