"""Indexes of channels from every kind of input, and what else is done with them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow.csv
import pytest
import tifffile

from cellvigil.bundle.encoder import open_encoder
from cellvigil.bundle.index import ReferenceIndex, open_index, reference_cells
from cellvigil.classify import classify
from cellvigil.cli import main
from cellvigil.encoder import open_session
from cellvigil.service.serve import once
from cellvigil.table import write_table
from cellvigil_indexes.cli import main as index_command
from channel_lab import (
    BRIGHT,
    CHANNELS,
    DYE,
    NUCLEI,
    PATTERN,
    UM,
    fields,
    grid_bundle,
    grid_means,
    planes,
    plate,
    write_ome,
)
from conftest import once_for_all
from lab import Lab

FRAME = (120, 200)
CROP_UM = 20.0
NAMES = ("GFP", "DAPI", "TRITC")


@pytest.fixture(scope="session")
def encoders(tmp_path_factory) -> Path:
    """Small encoders of 3 and 4 channels, in a folder."""

    def make(folder: Path) -> Path:
        for count in (3, 4):
            grid_bundle(folder, name=f"grid{count}", channels=count)
        return folder

    return once_for_all(tmp_path_factory, "grids", make)


def cell(state: str, seed: int, shape=(48, 48), centres=((24, 24),)) -> np.ndarray:
    """Three channels (3, Y, X) u16: cells that are bright in the first if dead, in the second if live."""
    rng = np.random.default_rng(seed)
    made = rng.normal(500, 20, (3, *shape))
    for y, x in centres:
        for channel, level in enumerate((9000, 800, 3000) if state == "dead" else (800, 9000, 3000)):
            plane = np.ascontiguousarray(made[channel])
            cv2.circle(plane, (x, y), 9, level, -1)
            made[channel] = plane
    return made.clip(0, 65535).astype(np.uint16)


def write_pages(path: Path, planes: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, planes, photometric="minisblack")
    return path


@pytest.fixture
def singles(tmp_path) -> Path:
    """One folder a class of single cells in three pages."""
    for state in ("live", "dead"):
        for number in range(12):
            write_pages(tmp_path / "cells" / state / f"{number}.tif", cell(state, number))
    return tmp_path / "cells"


def coco(folder: Path, seed: int = 0) -> Path:
    """Frames of six cells in three pages, boxes beside them."""
    images, notes = [], []
    for number in range(4):
        state = ("live", "dead")[number % 2]
        centres = [(30 + 60 * (place // 3), 35 + 60 * (place % 3)) for place in range(6)]
        write_pages(folder / f"{number}.tif", cell(state, seed + number, FRAME, centres))
        images.append({"id": number, "file_name": f"{number}.tif", "height": FRAME[0], "width": FRAME[1]})
        for y, x in centres:
            note = {"id": len(notes), "image_id": number, "category_id": number % 2 + 1}
            notes.append({**note, "bbox": [x - 10, y - 10, 21, 21]})
    categories = [{"id": 1, "name": "live"}, {"id": 2, "name": "dead"}]
    path = folder / "labels.json"
    path.write_text(json.dumps({"images": images, "annotations": notes, "categories": categories}))
    return path


def run(encoders: Path, out: Path, *options: object) -> int:
    return index_command([str(each) for each in (*options, "--encoders", encoders, "--out", out)])


CHOSEN = ("--channels", ",".join(NAMES))


@pytest.mark.parametrize(("encoder", "how", "dimension"), [("grid3", ("--per-channel",), 36), ("grid3", (), 12)])
def test_single_cells_of_several_pages(singles, encoders, tmp_path, encoder, how, dimension):
    out = tmp_path / "indexes"
    assert run(encoders, out, "build", "cells", "--images", singles, "--encoder", encoder, *CHOSEN, *how) == 0
    index = open_index(out / "cells")
    vectors = index.embeddings[encoder]
    assert vectors.shape[1] == dimension
    assert index.encoders[0].dimension == dimension
    assert index.encoders[0].sha256 != open_encoder(encoders / encoder).sha256
    assert index.thumbnails.shape[1:] == (64, 64, 3)  # a composite, for a person
    assert index.image_rule.channels == NAMES
    low, high = index.manifest["provenance"]["channel_ranges"]["DAPI"]
    assert low < 500 < 8000 < high
    # The vectors are those of the pictures: each channel by its own range, 0 to 255, brought to 32 pixels.
    row = next(n for n, one in enumerate(reference_cells(index)) if one.image == "dead/0.tif")
    planes = cell("dead", 0)
    ranges = index.manifest["provenance"]["channel_ranges"]
    shown = [
        np.rint(np.clip((planes[n] - ranges[c][0]) * 255 / np.diff(ranges[c]), 0, 255)) for n, c in enumerate(NAMES)
    ]
    small = [cv2.resize(each.astype(np.uint8), (32, 32), interpolation=cv2.INTER_AREA) for each in shown]
    pixels = np.stack(small, axis=-1)[None]
    wanted = (
        np.concatenate([grid_means(np.repeat(pixels[..., n : n + 1], 3, axis=3)) for n in range(3)], axis=1)
        if how
        else grid_means(pixels)
    )
    np.testing.assert_allclose(np.asarray(vectors[row]), wanted[0], atol=2e-3)


def test_annotated_frames_of_several_pages_and_all_that_may_follow(encoders, tmp_path, capsys):
    """--coco, then evaluate, add, tune, report, align: commands that embed anew, and that only look at vectors."""
    out, labels = tmp_path / "indexes", coco(tmp_path / "frames")
    given = ("--coco", labels, "--pixel-size", 0.5)
    common = ("--crop-um", CROP_UM, "--encoder", "grid3", *CHOSEN, "--per-channel", "--mask", "--cell-diameter", 9)
    assert run(encoders, out, "build", "assay", *given, *common) == 0
    assert "channels GFP, DAPI, TRITC, each by itself" in capsys.readouterr().out
    assert run(encoders, out, "evaluate", "assay", *given, "--baselines", "none", "--json") == 0
    assert run(encoders, out, "add", "assay", "--coco", coco(tmp_path / "more", 70), "--pixel-size", 0.5) == 0
    assert index_command(["tune", "assay", "--out", str(out), "--k-max", "5", "--threshold", "0.3"]) == 0
    assert index_command(["report", "assay", "--out", str(out)]) == 0
    assert (out / "assay.html").stat().st_size > 10_000
    assert index_command(["show", "assay", "--out", str(out)]) == 0
    index = open_index(out / "assay")
    assert index.image_rule.per_channel
    assert index.encoders[0].dimension == 36


@pytest.mark.parametrize(("crop_um", "warned"), [(24, True), (16, False)])
def test_cells_at_another_scale_than_a_multi_channel_encoder_was_shown_are_told(tmp_path, capsys, crop_um, warned):
    """One that normalises each picture by itself, of 32 px: crops of 48 px are resized, those of 32 px are not."""
    outside = {"side": 32, "resample": "area", "shortest": 0}
    grid_bundle(tmp_path / "own", channels=4, preprocessing={"outside_the_graph": outside, "mean": [], "std": []})
    for state in ("live", "dead"):
        for number in range(6):
            planes = np.concatenate([cell(state, number), cell(state, 50 + number)[:1]])
            write_pages(tmp_path / "cells" / state / f"{number}.tif", planes)
    given = ("--images", tmp_path / "cells", "--pixel-size", 0.5, "--crop-um", crop_um, "--channels", "A,B,C,D")
    assert run(tmp_path / "own", tmp_path / "indexes", "build", "cells", *given, "--encoder", "grid4") == 0
    assert ("--crop-um 16 shows cells at their own scale" in capsys.readouterr().out) == warned


@pytest.mark.parametrize("how", [(), ("--per-channel",)])
def test_single_images_are_classified_by_their_channels(singles, encoders, tmp_path, capsys, how):
    out = tmp_path / "indexes"
    run(encoders, out, "build", "cells", "--images", singles, "--encoder", "grid3", *CHOSEN, *how)
    fresh = [write_pages(tmp_path / f"{state}.tif", cell(state, 99)) for state in ("live", "dead")]
    capsys.readouterr()
    common = ["--index", "cells", "--indexes", str(out), "--encoders", str(encoders)]
    page = tmp_path / "why.html"
    assert main(["classify", *map(str, fresh), *common, "--json", "--html", str(page)]) == 0
    told = json.loads(capsys.readouterr().out)["cells"]
    assert [each["best"] for each in told] == ["live", "dead"]
    assert page.stat().st_size > 1000
    assert main(["classify", str(singles / "dead" / "3.tif"), *common, "--json"]) == 0
    (same,) = json.loads(capsys.readouterr().out)["cells"]
    assert same["best"] == "dead"
    known = reference_cells(open_index(out / "cells"))
    assert same["reference"] is None or known[same["reference"]].image == "dead/3.tif"
    assert main(["classify", str(write_pages(tmp_path / "two.tif", cell("live", 1)[:2])), *common]) == 1
    assert "2 planes without names are not the channels GFP, DAPI, TRITC" in capsys.readouterr().err


def test_cells_of_a_store_in_the_channels_that_it_kept(lite0, state_indexes, encoders, tmp_path):
    """Watched by a grey index, and looked at by its channels afterwards, in ranges over the stored frames."""
    lab = Lab(tmp_path, state_indexes, lite0.parent)
    plate(lab.images, tmp_path / "work", rounds=1)
    channels = {"segment": BRIGHT, "required": list(CHANNELS)}
    source = {"kind": "ometiff", "pattern": PATTERN, "channels": channels}
    once(lab.config(source=source, response={"min_focus": 0}))
    write_table(lab.store, tmp_path / "cells.csv")
    cells = pyarrow.csv.read_csv(tmp_path / "cells.csv")
    classes = [{"A1": "live", "B1": "dead"}[well] for well in cells["well"].to_pylist()]
    pyarrow.csv.write_csv(cells.append_column("class", [classes]), tmp_path / "labelled.csv")
    given = ("--store", lab.store, "--labels", tmp_path / "labelled.csv", "--channel", BRIGHT)
    out = tmp_path / "indexes"
    looked_at = ("--encoder", "grid3", "--channels", f"{DYE},{NUCLEI}", "--per-channel", "--crop-um", 28)
    assert run(encoders, out, "build", "again", *given, *looked_at) == 0
    index = open_index(out / "again")
    assert len(index) + index.manifest["calibration"].get("set_aside", 0) <= len(classes)
    dye = np.asarray(index.embeddings["grid3"])[:, :4].mean(axis=1)
    means = [np.median(dye[np.asarray(index.labels) == n]) for n in range(2)]
    assert means[index.classes.index("dead")] > 1.5 * means[index.classes.index("live")]
    missing = ("--encoder", "grid3", "--channels", "Cy5", "--per-channel", "--crop-um", 28)
    assert run(encoders, out, "build", "none", *given, *missing) == 1
    assert run(encoders, out, "build", "masked", *given, *looked_at, "--mask") == 0
    classified_outlines(open_index(out / "masked"), encoders / "grid3", tmp_path)


def classified_outlines(index: ReferenceIndex, encoder: Path, folder: Path) -> None:
    """Single cells that only the channel shows in which the index's cells were outlined, and it does not look at."""
    (bright, centres), *_ = fields(folder / "other", 1, seed=99)
    far = 70
    inner = ((centres >= far) & (centres < np.array(bright.shape) - far)).all(axis=1)
    made = planes(bright, centres, dead=False, seed=99)
    made[DYE] = np.random.default_rng(1).normal(700, 14, bright.shape).astype(np.uint16)
    paths = []
    for number, (y, x) in enumerate(centres[inner].round().astype(int)):
        own = {name: plane[y - far : y + far + 1, x - far : x + far + 1] for name, plane in made.items()}
        paths.append(folder / f"{number}.ome.tif")
        write_ome(paths[-1], own)
    answers = list(classify(paths, index, [open_session(open_encoder(encoder), device="cpu")], pixel_size_um=UM))
    assert answers
    for answer in answers:
        assert 0.3 < (answer.picture == answer.picture[0, 0]).all(axis=2).mean() < 0.95


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--encoder", "grid4", *CHOSEN), "takes 4 channels, and the image rule gives 3 at once"),
        (("--encoder", "grid4", *CHOSEN, "--per-channel"), "each channel by itself"),
        (("--encoder", "grid4"), "takes 4 channels at once, and the image rule gives grey"),
        (("--encoder", "grid3", "--per-channel"), "--per-channel needs --channels"),
        (("--encoder", "grid3", *CHOSEN, "--colour", "grey"), "both say what is looked at"),
        (("--encoder", "grid3", "--channels", "A,B"), "takes 3 channels, and the image rule gives 2"),
        (("--encoder", "grid3", "--channels", "A,B", "--per-channel"), "3 planes without names"),
        (("--encoder", "grid3", "--channel", "GFP"), "--channel is for frames of a --store"),
    ],
)
def test_what_does_not_go_together(singles, encoders, tmp_path, capsys, options, told):
    assert run(encoders, tmp_path / "indexes", "build", "cells", "--images", singles, *options) != 0
    assert told in capsys.readouterr().err
    assert not (tmp_path / "indexes" / "cells").exists()


def test_pictures_without_channels_are_refused_by_name(singles, encoders, tmp_path, capsys):
    cv2.imwrite(str(singles / "live" / "photo.png"), np.zeros((40, 40, 3), np.uint8))
    given = ("--images", singles, "--encoder", "grid3", *CHOSEN)
    assert run(encoders, tmp_path / "indexes", "build", "cells", *given) == 1
    told = capsys.readouterr().err
    assert "no TIFF of several channels" in told
    assert "photo.png" in told
    assert run(encoders, tmp_path / "indexes", "build", "cells", *given, "--skip-bad") == 0


@pytest.mark.parametrize("names", ["", "A,,B", "A,A"])
def test_channel_names_that_are_none(names, singles, encoders, tmp_path):
    assert (
        run(encoders, tmp_path, "build", "cells", "--images", singles, "--encoder", "grid3", "--channels", names) == 2
    )


def test_the_cache_knows_channels_apart(singles, encoders, tmp_path):
    """The same images by other channels, or in another order, are other vectors."""
    out, found = tmp_path / "indexes", []
    for number, names in enumerate(("GFP,DAPI,TRITC", "DAPI,GFP,TRITC", "GFP,DAPI,TRITC")):
        given = ("--images", singles, "--encoder", "grid3", "--channels", names, "--per-channel", "--set-aside", "0")
        assert run(encoders, out, "build", f"cells{number}", *given) == 0
        found.append(np.asarray(open_index(out / f"cells{number}").embeddings["grid3"]))
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[0], found[1])  # pages without names: by order, whatever they are called
    named = tmp_path / "named"
    for path in sorted(singles.rglob("*.tif")):
        write_named(named / path.relative_to(singles), tifffile.imread(path))
    vectors = []
    for number, names in enumerate(("GFP,DAPI", "DAPI,GFP")):
        given = ("--images", named, "--encoder", "grid3", "--channels", names, "--per-channel", "--set-aside", "0")
        assert run(encoders, out, "build", f"named{number}", *given) == 0
        vectors.append(np.asarray(open_index(out / f"named{number}").embeddings["grid3"]))
    np.testing.assert_array_equal(vectors[0][:, :12], vectors[1][:, 12:])
    assert not np.array_equal(vectors[0], vectors[1])


def write_named(path: Path, planes: np.ndarray) -> None:
    write_ome(path, dict(zip(NAMES, planes, strict=True)), NAMES)
