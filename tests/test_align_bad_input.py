"""What no alignment can be made of, or only a poor one: said clearly, and nothing is left behind."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from aligned_fixtures import build_reference, flattened, write_device
from cellvigil.bundle.index import open_index
from cellvigil.decide import Settings
from cellvigil.errors import BundleError, UsageError
from cellvigil.neighbours import open_search
from cellvigil.pipeline import called
from cellvigil_indexes.aligned import aligned_index, write_aligned
from cellvigil_indexes.carrying import Asked, carried
from cellvigil_indexes.cli import main
from cellvigil_indexes.commands import align as align_command
from conftest import once_for_all
from index_fixtures import STATES, write_frames, write_plain_index


def devices(base: Path) -> Path:
    """An index of three states, one of two of them, and cells of another microscope."""
    with (base / "built.txt").open("w") as out, contextlib.redirect_stdout(out):
        build_reference(base)
        build_reference(base, classes=("live", "dead"), name="two")
    write_device(base / "sorted", 40)
    return base


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    """Made once, read only."""
    return once_for_all(tmp_path_factory, "withheld", devices)


@pytest.fixture
def run(base, tmp_path, capsys):
    """`align NAME ...` into tmp_path/out, which a refusal leaves empty; (code, result, stderr)."""
    (tmp_path / "out").mkdir()

    def command(name, *words):
        where = ("--encoders", base / "encoders", "--device", "cpu", "--out", tmp_path / "out", "--no-cache", "--json")
        code = main([str(word) for word in ("align", base / "indexes" / name, *words, *where)])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else None, said.err

    return command


def nothing_left(tmp_path) -> bool:
    return list((tmp_path / "out").iterdir()) == []


def test_a_target_of_one_class_drops_no_class_that_it_has(base, run, tmp_path):
    one = write_device(tmp_path / "one", 60, only=("live",))
    code, result, error = run("states", "--images", one, "--to", "one", "--force", "--score")
    assert code == 0, error
    assert "live" in result["kept"]
    assert set(result["kept"]) | set(result["dropped"]) >= set(STATES)


def test_a_target_of_one_class_is_refused_and_says_why(base, run, tmp_path):
    one = write_device(tmp_path / "one", 60, only=("live",))
    code, result, error = run("states", "--images", one, "--to", "one")
    assert code in (1, 2)
    assert result is None
    assert any(words in error for words in ("the fit is not accepted", "hardly any of these cells are"))
    assert nothing_left(tmp_path)


def test_a_group_that_the_mixture_hardly_sees_is_missing_whatever_the_fit_says(base, run, tmp_path, monkeypatch):
    """The fit's shares are drawn towards even ones: real targets of live cells alone passed for a third dead."""
    fit = align_command.carried

    def sure(index, *rest):
        found = fit(index, *rest)
        classes = {name: {"share": 0.96 if index.groups[name] == "alive" else 0.02} for name in index.classes}
        even = dict.fromkeys(found.shares, 1 / len(found.shares))
        return replace(found, accepted=True, shares=even, shared=replace(found.shared, told={"classes": classes}))

    monkeypatch.setattr(align_command, "carried", sure)
    code, _, error = run("states", "--images", write_device(tmp_path / "one", 60, only=("live",)), "--to", "one")
    assert code == 2
    assert "hardly any of these cells are" in error
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("cells", [1, 5, 19])
def test_fewer_cells_than_tell_anything_are_refused(run, tmp_path, cells):
    few = write_device(tmp_path / "few", 10)
    for path in sorted(few.rglob("*.png"))[cells:]:
        path.unlink()
    code, _, error = run("states", "--images", few)
    assert code == 2
    assert f"{cells} cells" in error
    assert nothing_left(tmp_path)


def test_few_cells_end_in_an_index_or_in_a_refusal_that_says_why(run, tmp_path):
    few = write_device(tmp_path / "few", 8)
    code, result, error = run("states", "--images", few)
    if code == 0:
        assert open_index(Path(result["folder"])).voters
    else:
        assert error.splitlines()[-1].startswith("cellvigil-index: ")
        assert nothing_left(tmp_path)


def test_identical_cells_are_refused(base, run, tmp_path):
    (tmp_path / "same").mkdir()
    for number in range(40):
        shutil.copyfile(base / "sorted" / "live" / "0.png", tmp_path / "same" / f"{number}.png")
    code, _, error = run("states", "--images", tmp_path / "same")
    assert code == 2
    assert "same" in error or "differ" in error
    assert nothing_left(tmp_path)


def test_cells_of_a_class_that_the_index_lacks_are_doubted_more_than_others(base):
    """One class withheld: where no cluster of it stands apart (`test_align_foreign`), its cells' voters agree less."""
    index, whole = (open_index(base / "indexes" / name) for name in ("two", "states"))
    rng = np.random.default_rng(0)
    shift = {e.name: rng.normal(size=e.dimension).astype(np.float32) * 0.3 for e in index.encoders}
    target = {name: np.asarray(whole.embeddings[name]) + shift[name] for name in shift}
    foreign = np.array(whole.classes)[whole.labels] == "debris"
    opened = aligned_index(index, carried(index, target, Asked()), witnesses=target)
    agreement = called(target, opened, open_search(opened), Settings.of(opened)).agreement
    assert agreement[foreign].mean() < agreement[~foreign].mean()


def test_clouds_that_hang_together_by_nothing_are_aligned(base):
    """A disconnected graph: parts far apart, each of more cells than a cell has neighbours."""
    index = open_index(base / "indexes" / "states")
    labels = np.asarray(index.labels)
    target = {
        e.name: (np.asarray(index.embeddings[e.name]) + 1000.0 * labels[:, None]).astype(np.float32)
        for e in index.encoders
    }
    alignment = carried(index, target, Asked(graph_k=3))
    assert alignment.voters
    assert set(alignment.classes) <= set(index.classes)


@pytest.mark.parametrize("side", ["target", "reference"])
def test_an_encoder_that_one_side_lacks_is_named(base, side):
    index = open_index(base / "indexes" / "states")
    target = {e.name: np.asarray(index.embeddings[e.name]) for e in index.encoders}
    if side == "target":
        del target["other"]
    else:
        index = replace(index, encoders=index.encoders[:1])
    with pytest.raises(UsageError, match=f"the {side} has no vectors of"):
        carried(index, target, Asked())


def test_an_encoder_bundle_that_is_not_there_is_named(base, run, tmp_path):
    code = main(["align", str(base / "indexes" / "states"), "--images", str(base / "sorted"),
                 "--encoders", str(tmp_path / "none"), "--out", str(tmp_path / "out")])  # fmt: skip
    assert code == 1
    assert nothing_left(tmp_path)


def test_frames_for_an_index_of_pictures_are_refused(run, tmp_path):
    write_frames(tmp_path / "frames", 3)
    code, _, error = run("states", "--frames", tmp_path / "frames", "--pixel-size", 0.5)
    assert code == 2
    assert "fitted whole" in error
    assert nothing_left(tmp_path)


def test_pictures_without_a_scale_for_an_index_of_frames_are_refused(base, tmp_path, capsys):
    write_plain_index(tmp_path / "indexes" / "live", encoders=("lookup",))
    code = main(["align", "live", "--images", str(base / "sorted"), "--out", str(tmp_path / "indexes"),
                 "--encoders", str(base / "encoders")])  # fmt: skip
    assert code == 2
    assert "how large is a pixel" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"), [("nowhere", "no such"), ("text.txt", "no COCO file"), ("broken.json", "no JSON")]
)
def test_a_target_that_is_none_is_refused(run, tmp_path, name, said):
    if "." in name:
        (tmp_path / name).write_text("hello")
    code, _, error = run("states", "--target", tmp_path / name)
    assert code == 2
    assert said in error
    assert nothing_left(tmp_path)


def test_pictures_that_do_not_open_are_named_or_left_out(base, run, tmp_path):
    flat = flattened(base / "sorted", tmp_path / "flat")
    (flat / "broken.png").write_bytes(b"no picture")
    code, _, error = run("states", "--images", flat)
    assert code == 1
    assert "broken.png" in error
    assert nothing_left(tmp_path)
    code, result, error = run("states", "--images", flat, "--skip-bad", "--force")
    assert code == 0, error
    assert any("broken.png" in text for text in result["warnings"])


def test_noise_is_not_accepted_and_leaves_nothing_unless_forced(run, tmp_path):
    """Pictures of nothing: halves of them agree on no call, so exit code 1, and no folder."""
    (tmp_path / "noise").mkdir()
    rng = np.random.default_rng(0)
    for number in range(80):
        cv2.imwrite(str(tmp_path / "noise" / f"{number}.png"), rng.integers(0, 255, (48, 40), dtype=np.uint8))
    code, result, error = run("states", "--images", tmp_path / "noise")
    assert code == 1
    assert result is None
    assert "not accepted" in error
    assert "--force" in error
    assert nothing_left(tmp_path)
    code, result, error = run("states", "--images", tmp_path / "noise", "--force")
    assert code == 0, error
    assert result["accepted"] is False
    assert open_index(Path(result["folder"])).manifest["alignment"]["accepted"] is False


def test_an_aligned_index_is_not_aligned_again(base, run, tmp_path):
    code, result, error = run("states", "--images", base / "sorted", "--to", "once", "--force")
    assert code == 0, error
    again = open_index(Path(result["folder"]))
    target = {e.name: np.asarray(again.embeddings[e.name]) for e in again.encoders}
    alignment = carried(open_index(base / "indexes" / "states"), target, Asked(method="zscore"))
    with pytest.raises(UsageError, match="aligned already"):
        aligned_index(again, alignment)
    code = main(["align", str(again.folder), "--images", str(base / "sorted"), "--out", str(tmp_path / "out"),
                 "--encoders", str(base / "encoders"), "--to", "again", "--no-cache"])  # fmt: skip
    assert code == 2
    assert not (tmp_path / "out" / "again").exists()


def test_a_write_that_fails_leaves_nothing(base, tmp_path):
    index = open_index(base / "indexes" / "states")
    target = {e.name: np.asarray(index.embeddings[e.name]) + np.float32(0.5) for e in index.encoders}
    alignment = carried(index, target, Asked(method="zscore"))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("not a bundle")
    with pytest.raises(BundleError, match="there is a bundle of this name already"):
        write_aligned(tmp_path / "there", index, alignment)
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["mine.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
