"""Alignment on the stream from outside: a real service, a real fit in a process of its own, real signals."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import pytest
import tifffile
from prometheus_client import CollectorRegistry

from align_lab import CELLS, FRAMES, aligned, build_recorded, bundles, film_plate, fits_running, kept, told
from cellvigil.bundle.index import open_index
from cellvigil.cli import main
from cellvigil.data import FrameKey
from cellvigil.errors import BundleError, StoreFull, UsageError
from cellvigil.metrics import AlignmentMetrics
from cellvigil.service.catching_up import CatchingUp
from cellvigil.service.opening import open_bundles, open_kitchen
from cellvigil.service.serve import once
from cellvigil.store.gone import folder_of
from cellvigil.store.reader import plate_lines
from cellvigil.store.recover import plate_folders
from cellvigil.store.rows import read_table
from cellvigil.store.writer import open_store
from conftest import once_for_all
from lab import Lab, Service


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory, lite0: Path) -> Path:
    return once_for_all(tmp_path_factory, "recorded", lambda out: build_recorded(out, lite0))


@pytest.fixture
def lab(tmp_path: Path, recorded: Path, lite0: Path) -> Lab:
    """A source whose frames were called unaligned, and that nobody aligned so far."""
    shutil.copytree(recorded, tmp_path, dirs_exist_ok=True)
    return Lab(tmp_path, tmp_path / "indexes", lite0.parent)


@pytest.fixture
def base(lab: Lab) -> str:
    return open_index(lab.indexes / "states").sha256


def test_a_fit_is_taken_when_its_cells_are_there_and_stands_through_a_restart(lab: Lab, base: str) -> None:
    film_plate(lab, "Plate 2", 1)
    with lab.service(**aligned()) as service:
        assert told(service) == ("waiting", base)
        service.wait_for(lambda: told(service)[0] == "aligned")
        fitted = told(service)[1]
        service.wait_for(lambda: service.committed() >= 3)
        service.wait_for(lambda: bundles(lab) == {fitted})  # those from before are called again
        assert "aligned: fitted on" in service.get("/")
        assert service.terminate() == 0
    assert open_index(lab.root / "state/aligned/scope/1").sha256 == fitted == kept(lab)["sha256"]
    film_plate(lab, "Plate 3", 1)
    with lab.service(**aligned()) as service:
        assert told(service) == ("aligned", fitted)
        service.wait_for(lambda: service.committed() >= 3)
        assert service.terminate() == 0
    assert bundles(lab) == {fitted}
    assert kept(lab)["number"] == 1
    frames = [frame.key for series in lab.ledger().series() for frame in lab.ledger().frames(series)]
    assert len(frames) == len(set(frames)) == FRAMES + 6
    _check_records(lab, base, fitted)


def test_types_are_fitted_on_the_stream_and_swapped_in(lab: Lab, base: str) -> None:
    """Full transport, classes looked for: the frames that were there are called again by its voters."""
    assert once(lab.config(**aligned(mode="types")))["counted"] == 0
    fitted = kept(lab)
    index = open_index(lab.root / "state/aligned/scope/1")
    told_of = index.alignment or {}
    assert (told_of["accepted"], told_of["of"]["sha256"]) == (True, base)
    assert set(told_of["kept"]) | set(told_of["dropped"]) == {"live", "debris"}
    assert len(index.voters) > 1
    assert fitted["cells"] >= CELLS
    assert bundles(lab) == {index.sha256} == {fitted["sha256"]}


def test_only_an_index_that_makes_the_same_pictures_is_swapped_in(lab: Lab) -> None:
    settings = lab.config()
    kitchen = open_kitchen(settings, open_bundles(settings))
    recipe = kitchen.recipes["scope"]
    other = replace(recipe, index=replace(recipe.index, image_rule=replace(recipe.index.image_rule, crop_um=30.0)))
    with pytest.raises(ValueError, match="image rule"):
        kitchen.recipes.swap("scope", other)
    same = replace(recipe, provenance={"index": "another"})
    kitchen.recipes.swap("scope", same)
    assert kitchen.recipes["scope"] is same
    for encoder in kitchen.encoders.values():
        encoder.close()


def _check_records(lab: Lab, base: str, fitted: str) -> None:
    """Every frame's record says which index called it first, and how that was aligned; the old calls are there."""
    ledger, first = lab.ledger(), set()
    for folder in plate_folders(lab.store):
        lines = plate_lines(folder)
        marks = {line["setting"]: line["provenance"] for line in lines if line["kind"] == "setting"}
        for line in (line for line in lines if line["kind"] == "frame"):
            made = marks[line["setting"]]
            first.add((line["bundle"], made.get("alignment", "off")))
            assert made["index"] == line["bundle"]
            key = FrameKey(*line["key"])
            for sha256 in {base if line["bundle"] == base else fitted, fitted}:
                table = ledger.bundle(key.series, sha256).table
                assert len(read_table(folder / line["path"], table, line["t"], line["n_cells"])["k"]) == line["n_cells"]
            assert ledger.bundle(key.series, fitted).aligned_from == base
    assert first == {(base, "off"), (base, "waiting"), (fitted, "aligned")}


def test_a_service_killed_during_its_fit_leaves_no_process_and_fits_again(lab: Lab, base: str) -> None:
    with lab.service(**aligned()) as service:
        service.wait_for(lambda: _nice(lab) == [19], every=0.01)
        service.kill()
        _wait_gone(lab)
    assert bundles(lab) == {base}
    with lab.service(**aligned()) as service:
        service.wait_for(lambda: told(service)[0] == "aligned", every=0.01)
        service.kill()  # right after it
    fitted = kept(lab)["sha256"]
    with lab.service(**aligned()) as service:
        assert told(service) == ("aligned", fitted)
        service.wait_for(lambda: bundles(lab) == {fitted})
        assert service.terminate() == 0
    keys = [frame.key for frame in lab.ledger().frames(lab.ledger().series()[0])]
    assert len(keys) == len(set(keys)) == FRAMES


def test_a_stopped_service_stops_its_fit(lab: Lab) -> None:
    with lab.service(**aligned()) as service:
        service.wait_for(lambda: fits_running(lab.root), every=0.01)
        assert service.terminate() == 0
        assert fits_running(lab.root) == []
    assert not (lab.root / "state/aligned/scope/kept.json").exists()


def test_a_fit_that_fails_is_told_and_tried_again_with_twice_the_cells(lab: Lab, base: str) -> None:
    for folder in (lab.store, lab.images):
        shutil.rmtree(folder)
    lab.images.mkdir()
    with lab.service(**aligned(warm_up_cells=60)) as service:
        assert service.address  # it has opened its index
        labels = lab.indexes / "states" / "labels.npy"
        good = labels.read_bytes()
        _put(labels, good[:-1] + b"\1")
        film_plate(lab, "Plate 2", 2)
        service.wait_for(lambda: told(service) == ("failed", base))
        assert service.value("cellvigil_alignment_fit_failures_total", source="scope") == 1
        assert "is not the file its manifest describes" in service.log.read_text()
        assert "CellvigilAlignmentFailed" in service.get("/")
        cells = json.loads((lab.root / "state/aligned/scope/failed.json").read_text())["cells"]
        _put(labels, good)
        film_plate(lab, "Plate 3", 3)
        service.wait_for(lambda: len(_begun(service)) == 2)
        assert _begun(service)[0] == cells
        assert _begun(service)[1] >= 2 * cells
        assert service.terminate() == 0


def test_once_fits_too_and_recalls_what_was_called_otherwise(lab: Lab, base: str) -> None:
    before = _files(lab)
    done = once(lab.config(**aligned()), recall=True)
    fitted = kept(lab)["sha256"]
    assert bundles(lab) == {fitted}
    assert before.items() <= _files(lab).items()  # no chunk was written over
    assert (done["recalled"] + done["called_before"], done["recall_failed"]) == (FRAMES, 0)
    again = once(lab.config(**aligned()), recall=True)
    assert (again["recalled"], again["called_before"]) == (0, FRAMES)
    back = once(lab.config(), recall=True)  # alignment is off: the index as it is is in force again
    assert back["recalled"] == FRAMES
    assert bundles(lab) == {base}
    assert before.items() <= _files(lab).items()


def test_a_recall_that_is_killed_goes_on_where_it_was(lab: Lab, base: str) -> None:
    once(lab.config(**aligned()))
    once(lab.config(), recall=True)
    assert bundles(lab) == {base}
    fitted, path = kept(lab)["sha256"], lab.config_file(**aligned())
    process = subprocess.Popen([sys.executable, "-m", "cellvigil", "once", "--recall", "--config", str(path)])
    while process.poll() is None and not Counter(_last_calls(lab))[fitted]:
        time.sleep(0.005)
    process.kill()
    process.wait()
    some = Counter(_last_calls(lab))
    assert some[fitted] >= 1
    done = once(lab.config(**aligned()), recall=True)
    assert done["recalled"] + done["called_before"] == FRAMES
    assert Counter(_last_calls(lab)) == {fitted: FRAMES}


def test_frames_called_again_before_the_disk_was_full_are_counted(
    lab: Lab, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, registry, now = lab.config(), CollectorRegistry(), datetime.now(UTC)
    kitchen = open_kitchen(settings, open_bundles(settings))
    recipe = kitchen.recipes["scope"]
    other = replace(recipe, index=replace(recipe.index, sha256="12" * 32))
    room, real = itertools.count(), os.statvfs

    def statvfs(path: Path) -> os.statvfs_result:
        if next(room) >= 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path)

    def counted() -> float | None:
        return registry.get_sample_value("cellvigil_recalled_frames_total", {"source": "scope"})

    with contextlib.closing(open_store(lab.store, min_free_mb=1.0)) as store:
        catching_up = CatchingUp("scope", store, AlignmentMetrics(registry))
        catching_up.begin(now)
        catching_up.look(base, now)
        with monkeypatch.context() as patch:
            patch.setattr(os, "statvfs", statvfs)
            with pytest.raises(StoreFull):
                catching_up.work(other, 60.0)
        assert (counted(), catching_up.busy) == (3, True)
        catching_up.work(other, 60.0)
        assert (counted(), catching_up.busy) == (FRAMES, False)
    for encoder in kitchen.encoders.values():
        encoder.close()


def test_drift_asks_for_a_refit_and_only_a_person_gets_one(lab: Lab) -> None:
    once(lab.config(**aligned()))
    first = kept(lab)
    film_plate(lab, "Plate 2", 2, _blur)
    with lab.service(**aligned(drift_limit=1.5)) as service:
        service.wait_for(lambda: service.committed() >= 6)
        service.wait_for(lambda: (service.value("cellvigil_alignment_drift_ratio", source="scope") or 0) > 1.5)
        assert service.value("cellvigil_alignment_drift_limit_ratio", source="scope") == 1.5
        assert "CellvigilAlignmentDrift" in service.get("/")
        assert "a refit is asked for" in service.log.read_text()
        assert kept(lab) == first
        config = str(lab.root / "config.yaml")
        assert main(["align", "--config", config, "--refit", "elsewhere"]) == 2
        assert main(["align", "--config", config, "--refit", "scope"]) == 0
        service.wait_for(lambda: kept(lab)["number"] == 2)
        service.wait_for(lambda: told(service) == ("aligned", kept(lab)["sha256"]))
        assert service.terminate() == 0
    assert bundles(lab) == {first["sha256"]}  # no frame came since; those of the first fit keep their calls
    assert open_index(lab.root / "state/aligned/scope/1").sha256 == first["sha256"]


def test_an_aligned_index_that_is_gone_is_an_error_until_a_new_fit_is_asked_for(lab: Lab) -> None:
    once(lab.config(**aligned()))
    shutil.rmtree(lab.root / "state/aligned/scope/1")
    with pytest.raises(BundleError, match=r"cellvigil align --refit scope"):
        once(lab.config(**aligned()))
    assert main(["align", "--config", str(lab.config_file(**aligned())), "--refit", "scope"]) == 0
    once(lab.config(**aligned()))
    assert kept(lab)["number"] == 2


def test_an_aligned_index_that_is_another_than_the_fit_is_an_error(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    once(lab.config(**aligned()))
    manifest = lab.root / "state/aligned/scope/1/manifest.json"
    said = json.loads(manifest.read_text())
    _put(manifest, json.dumps({**said, "threshold": 0.9}).encode())  # sound, and another
    with pytest.raises(BundleError, match=r"the fit that is in force is .*cellvigil align --refit scope"):
        once(lab.config(**aligned()))
    assert main(["check", "--force", "--config", str(lab.config_file(**aligned()))]) == 1
    assert "but the fit that is in force is" in capsys.readouterr().out


def test_no_fit_is_made_of_an_index_that_is_aligned_already(lab: Lab) -> None:
    once(lab.config(**aligned()))
    source = {**aligned()["source"], "index": str(lab.root / "state/aligned/scope/1")}
    with pytest.raises(UsageError, match=r"is aligned already.*made of, states"):
        once(lab.config(source=source))


def test_a_fit_that_cannot_be_kept_is_not_made_twice(lab: Lab) -> None:
    in_the_way = lab.root / "state/aligned/scope/kept.json"
    with lab.service(**aligned()) as service:
        service.wait_for(lambda: fits_running(lab.root), every=0.01)
        in_the_way.mkdir()  # as a disk that cannot be written
        service.wait_for(lambda: "alignment is put off" in service.log.read_text())
        in_the_way.rmdir()
        service.wait_for(lambda: told(service)[0] == "aligned")
        assert len(_begun(service)) == 1
        assert service.terminate() == 0


@pytest.mark.parametrize("module", ["networkx", "ot"])
def test_check_says_what_types_lacks(
    lab: Lab, module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as where it is not installed
    assert main(["check", "--force", "--config", str(lab.config_file(**aligned(mode="types")))]) == 1
    assert f"mode types needs {module}, not installed" in capsys.readouterr().out
    assert main(["check", "--force", "--config", str(lab.config_file(**aligned()))]) == 0


def test_another_basis_is_fitted_anew(lab: Lab) -> None:
    once(lab.config(**aligned()))
    once(lab.config(**aligned(wells="t0")))
    assert (kept(lab)["number"], kept(lab)["basis"]["wells"]) == (2, "t0")


def test_the_command_tells_how_a_source_stands(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(lab.config_file(**aligned(warm_up_cells=70)))
    assert main(["align", "--config", path]) == 0
    assert capsys.readouterr().out == "scope: no fit yet\n"
    assert main(["check", "--force", "--config", path]) == 0
    assert "to be fitted on 70 cells; unaligned until then" in capsys.readouterr().out
    once(lab.config(**aligned()))
    assert main(["align", "--config", path, "--json"]) == 0
    [told_of] = json.loads(capsys.readouterr().out)
    assert (told_of["fit"], told_of["bundle"], told_of["refit_asked"]) == (1, kept(lab)["sha256"], None)
    assert told_of["cells"] >= CELLS
    assert main(["check", "--force", "--config", path]) == 0
    assert f"align: fitted on {told_of['cells']} cells" in capsys.readouterr().out
    strange = str(lab.config_file(**aligned(present=["round"])))
    assert main(["check", "--force", "--config", strange]) == 1
    assert "present names round (scope); index states has live, debris" in capsys.readouterr().out


def _last_calls(lab: Lab) -> list[str]:
    ledger = lab.ledger()
    return [ledger.calls(frame.key, 0)[0] for frame in ledger.frames(ledger.series()[0])]


def _files(lab: Lab) -> dict[str, bytes]:
    """The chunks of the plate, by name."""
    [series] = lab.ledger().series()
    folder = folder_of(lab.store, series)
    return {str(path): path.read_bytes() for path in folder.rglob("c.*") if path.is_file()}


def _begun(service: Service) -> list[int]:
    """Cells of each fit that was begun."""
    return [int(cells) for cells in re.findall(r"the fit begins .*cells=(\d+)", service.log.read_text())]


def _put(path: Path, data: bytes) -> None:
    """Another file in its place: what has the old one mapped keeps that."""
    path.with_suffix(".new").write_bytes(data)
    path.with_suffix(".new").replace(path)


def _nice(lab: Lab) -> list[int]:
    return [os.getpriority(os.PRIO_PROCESS, fit) for fit in fits_running(lab.root)]


def _blur(path: Path) -> None:
    """The image as a microscope with other optics would have taken it."""
    with tifffile.TiffFile(path) as file:
        pixels, said = file.asarray(), file.pages[0].tags[270].value
    blurred = cv2.GaussianBlur(pixels, (0, 0), 3.0)
    tifffile.imwrite(path, blurred, description=said, metadata=None)


def _wait_gone(lab: Lab) -> None:
    until = time.monotonic() + 30
    while fits_running(lab.root):
        assert time.monotonic() < until, "the fit outlived its service"
        time.sleep(0.05)
