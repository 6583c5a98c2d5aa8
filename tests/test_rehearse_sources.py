"""The daemon's own readers make of a rehearsal's files what the truth says."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellvigil import config
from cellvigil.rehearse import optics
from cellvigil.rehearse.assay import Assay, simulate
from cellvigil.rehearse.holotomography import refractive_index
from cellvigil.rehearse.run import run, source_settings
from cellvigil.sources.registry import format_of

ASSAY = Assay(wells=("A1", "C12"), treated=("C12",), fields=2, timepoints=2, shape=(128, 160), cells=6, stain_every=2)


def source_of(assay: Assay, folder: Path) -> config.Source:
    settings: dict[str, Any] = {"name": "rehearsal", "index": "demo", "path": str(folder), **source_settings(assay)}
    return config.parse({"sources": [settings]}, base=folder).sources[0]


@pytest.mark.parametrize("kind", ["gen5", "nanolive"])
def test_every_file_is_read_as_the_frame_it_is(tmp_path: Path, kind: str) -> None:
    assay = replace(ASSAY, kind=kind)
    done = run(assay, tmp_path)
    reader = format_of(source_of(assay, done.images), config.Limits())
    scenes = {(scene.well.name, str(scene.field), scene.timepoint): scene for scene in simulate(assay)}
    seen = set()
    for file in sorted(done.images.rglob("*.tif")):
        path = file.relative_to(done.images).as_posix()
        reader.finished(done.images, path)
        sighting, plane = reader.sight(path), reader.read(done.images, path)
        assert sighting is not None
        assert sighting.experiment == "240301_180000_Rehearsal"
        if kind == "gen5":
            assert sighting.plate == "Plate 1"
        place = (sighting.well, sighting.field, sighting.number - 1)
        scene = scenes[place]
        if sighting.channel == "GFP":
            truth = optics.dead_stain(scene, assay.optics)
        elif kind == "gen5":
            truth = optics.bright_field(scene, assay.optics)
            seen.add(place)
        else:
            truth = refractive_index(scene, assay.optics)
            seen.add(place)
        np.testing.assert_allclose(plane.pixels[0], truth, atol=0 if kind == "gen5" else 2e-6)
    assert seen == set(scenes)


def test_the_gen5_reader_finds_scale_and_times(tmp_path: Path) -> None:
    done = run(ASSAY, tmp_path)
    reader = format_of(source_of(ASSAY, done.images), config.Limits())
    name = "240301_180000_Rehearsal/240301_180005_Plate 1/C12_01_1_1_Bright Field_002.tif"
    plane = reader.read(done.images, name)
    assert plane.pixel_size_um == pytest.approx((0.322, 0.322), abs=1e-6)
    started = datetime(2024, 3, 1, 18, tzinfo=UTC)
    assert plane.acquired_at == started + timedelta(hours=2, seconds=4)  # the third visit, two seconds each
    assert plane.elapsed_ms == (2 * 3600 + 4) * 1000
    assert plane.number == 1
