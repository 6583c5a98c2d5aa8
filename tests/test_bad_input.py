"""Whatever lies in the folder or the configuration: a clear error or one quarantine entry, and nothing lost."""

import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from cellvigil import config
from cellvigil.cli import main
from cellvigil.errors import BundleError, UsageError
from cellvigil.service.serve import once, run
from lab import Lab

PLATE = "240301_180000_Rehearsal/240301_180005_Plate 1"
QUICK = {"source": {"frame_timeout_s": 0.5}}  # patience with files that are not whole


def images_of(lab: Lab) -> list:
    return sorted((lab.images / PLATE).glob("*.tif"))


def truncated(path):
    path.write_bytes(path.read_bytes()[:-2000])


def emptied(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("this is no image, whatever its name says\n" * 20)


def png(path):
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 200)


def garbled(path):
    data = bytearray(path.read_bytes())
    data[4:8] = b"\xff\xff\xff\x7f"  # the first page is far beyond the end
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("spoil", "reasons"),
    [
        (truncated, {"truncated"}),
        (emptied, {"empty"}),
        (text, {"wrong_type"}),
        (png, {"wrong_type"}),
        (garbled, {"truncated", "unreadable"}),
    ],
)
def test_a_bad_file_costs_one_quarantine_entry_and_the_others_are_counted(lab: Lab, spoil, reasons):
    lab.film(timepoints=2)
    bad = images_of(lab)[1]
    spoil(bad)
    with lab.service(**QUICK) as service:
        service.wait_for(lambda: service.value("cellvigil_frames_total", source="scope", outcome="quarantined") == 1)
        service.wait_for(lambda: service.value("cellvigil_frames_total", source="scope", outcome="counted") == 3)
        assert service.terminate() == 0
    found = lab.quarantined()
    assert set(found) == {bad.name}
    assert found[bad.name] in reasons


def test_a_file_that_is_mended_later_is_taken_after_all(lab: Lab):
    lab.film(timepoints=1)
    bad = images_of(lab)[0]
    whole = bad.read_bytes()
    text(bad)
    assert once(lab.config(**QUICK))["quarantined"] == 1
    bad.write_bytes(whole)
    assert {what: n for what, n in once(lab.config(**QUICK)).items() if n} == {"counted": 1}
    assert len(lab.ledger().frames(lab.ledger().series()[0])) == 2


def test_a_wrong_name_is_quarantined_with_the_pattern_it_should_have(lab: Lab):
    lab.film(timepoints=1)
    shutil.copy(images_of(lab)[0], lab.images / PLATE / "holiday.tif")
    done = once(lab.config())
    assert (done["counted"], done["quarantined"]) == (2, 1)
    assert lab.quarantined() == {"holiday.tif": "bad_name"}


def test_a_frame_whose_pixel_size_is_unknown_names_the_key_that_sets_it(lab: Lab):
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 4000, (120, 140), dtype=np.uint16)
        tifffile.imwrite(lab.images / f"A1_t{number}.tif", pixels)
    source = {"kind": "plain", "pattern": r"(?P<well>[A-Z]\d+)_t(?P<time>\d+)\.tif", "timezone": "", "channels": {}}
    done = once(lab.config(source=source))
    assert done["quarantined"] == 3
    assert set(lab.quarantined().values()) == {"no_pixel_size"}
    assert "sources[].pixel_size_um" in (lab.root / "state" / "quarantine.jsonl").read_text()
    # Told the scale, the same files become frames: the verdict was on the configuration, not on them.
    assert once(lab.config(source={**source, "pixel_size_um": 0.5}))["counted"] == 3


def test_an_image_of_another_size_on_the_same_plate_is_put_aside(lab: Lab):
    lab.film(timepoints=2)
    other = images_of(lab)[-1]
    with tifffile.TiffFile(other) as tiff:
        pixels, description = tiff.asarray(), tiff.pages.first.description
    tifffile.imwrite(other, pixels[:-20], description=description)
    done = once(lab.config())
    assert (done["counted"], done["quarantined"]) == (3, 1)
    assert lab.quarantined() == {other.name: "geometry_changed"}


def test_a_frame_without_a_cell_is_a_frame(lab: Lab):
    for number in range(3):
        flat = np.full((160, 200), 20000, np.uint16)
        flat += np.random.default_rng(number).integers(0, 300, flat.shape, dtype=np.uint16)
        tifffile.imwrite(lab.images / f"A1_t{number}.tif", flat)
    source = {
        "kind": "plain", "pattern": r"(?P<well>[A-Z]\d+)_t(?P<time>\d+)\.tif", "timezone": "", "channels": {},
        "pixel_size_um": 0.5,
    }  # fmt: skip
    done = once(lab.config(source=source))
    ledger = lab.ledger()
    [series] = ledger.series()
    assert done["counted"] + done["excluded"] == 3
    assert [frame.n_cells for frame in ledger.frames(series)] == [0, 0, 0]


def test_a_frame_without_its_segmentation_channel_is_told_of_and_taken_when_it_comes(lab: Lab):
    lab.film(timepoints=2, stain_every=1)
    bright = [path for path in images_of(lab) if "Bright Field" in path.name]
    held = bright[0].read_bytes()
    bright[0].unlink()
    channels = {"segment": "Bright Field", "required": ["GFP"]}
    with lab.service(source={"frame_timeout_s": 0.5, "channels": channels}) as service:
        service.wait_for(lambda: service.value("cellvigil_frames_total", source="scope", outcome="counted") == 3)
        service.wait_for(lambda: service.value("cellvigil_frames_total", source="scope", outcome="stalled") == 1)
        assert set(lab.quarantined().values()) == {"incomplete"}
        bright[0].write_bytes(held)
        service.wait_for(lambda: service.value("cellvigil_frames_total", source="scope", outcome="counted") == 4)
        assert service.terminate() == 0


def test_a_misspelt_key_is_named_with_the_nearest_right_one(lab: Lab, capsys: pytest.CaptureFixture[str]):
    path = lab.config_file(source={"setle_scans": 3}, metrics={"prot": 9000})
    assert main(["check", "--config", str(path)]) == 2
    said = capsys.readouterr().err
    assert "'sources.0.setle_scans', did you mean 'settle_scans'?" in said
    assert "'metrics.prot', did you mean 'port'?" in said
    assert "at least 1 item" not in said


def test_a_folder_that_is_not_there_is_an_error_that_names_it(lab: Lab, capsys: pytest.CaptureFixture[str]):
    path = lab.config_file(source={"path": "nowhere"})
    assert main(["run", "--config", str(path)]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_a_port_in_use_is_an_error_that_names_the_key(lab: Lab):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match=r"metrics\.port"):
            run(lab.config(metrics={"port": taken.getsockname()[1]}))


def test_an_index_that_is_not_there_is_named_with_those_that_are(lab: Lab):
    with pytest.raises(BundleError, match=r"'stats'.*there are: states"):
        once(lab.config(source={"index": "stats"}))


def test_an_index_whose_encoder_is_not_there_says_how_to_make_it(lab: Lab, tmp_path):
    with pytest.raises(BundleError, match="cellvigil-export run efficientnet-lite0"):
        once(lab.config(encoder={"path": str(tmp_path / "none")}))


def test_an_encoder_that_was_tampered_with_is_refused(lab: Lab, tmp_path):
    shutil.copytree(lab.encoders, tmp_path / "encoders")
    model = tmp_path / "encoders" / "efficientnet-lite0" / "model.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(bytes(data))
    with pytest.raises(BundleError, match=r"model\.onnx is not the file"):
        once(lab.config(encoder={"path": str(tmp_path / "encoders")}))


def test_two_daemons_never_write_one_store(lab: Lab):
    lab.film(timepoints=1)
    with lab.service() as service:
        service.wait_for(lambda: service.committed() == 2)
        assert main(["once", "--config", str(lab.config_file())]) == 1
        assert service.terminate() == 0


def test_the_shipped_configuration_shows_every_key_with_its_default(tmp_path):
    text = (Path(__file__).parents[1] / "config.yaml").read_text(encoding="utf-8")
    shown = yaml.safe_load(text)
    parsed = config.parse(shown, base=tmp_path)
    for name, section in config.Config.model_fields.items():
        assert name in shown
        if name not in {"sources", "version", "state_dir"}:
            assert set(shown[name]) == set(type(getattr(parsed, name)).model_fields)
        if name not in {"sources", "version"}:
            bare = config.parse({"sources": shown["sources"]}, base=tmp_path)
            assert getattr(parsed, name) == getattr(bare, name), f"{name}: {section}"
    assert set(shown["sources"][0]) == set(config.Source.model_fields)
    needed = {key: shown["sources"][0][key] for key in ("name", "kind", "path", "timezone", "index", "channels")}
    assert parsed.sources == config.parse({"sources": [needed]}, base=tmp_path).sources
