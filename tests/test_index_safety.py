"""What must never happen to an index: other files taken away, calibration on its own references, figures that flatter
unsaid, memory that grows with its square, a traceback for what a person gave.
"""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from cellvigil.bundle import files
from cellvigil.bundle.index import ReferenceCell, open_index
from cellvigil.errors import BadFile, BundleError, UsageError
from cellvigil.neighbours import ExactSearch, GraphSearch, open_search
from cellvigil.stills import read_image
from cellvigil_indexes.changing import Choice, chosen, held_already, parted, without_cells
from cellvigil_indexes.cli import main
from cellvigil_indexes.collected import Collected
from cellvigil_indexes.draft import draft_of
from cellvigil_indexes.inputs.coco import read_coco
from cellvigil_indexes.inputs.faults import Faults
from cellvigil_indexes.inputs.label_table import read_labels
from cellvigil_indexes.settings import IndexSettings
from cellvigil_indexes.target import repeats
from cellvigil_indexes.versions import succeed
from cellvigil_indexes.writing import write_index
from index_fixtures import PIXEL_UM, write_frames, write_plain_index


@pytest.fixture
def plain(tmp_path):
    return open_index(write_plain_index(tmp_path / "indexes" / "plain"))


@pytest.fixture
def parts(plain):
    """A draft of which the groups 8 and 9 are set aside, and all of its cells."""
    draft = draft_of(plain)
    aside = np.array([cell.group in ("8", "9") for cell in draft.collected.cells])
    held, own = draft.collected.rows(np.flatnonzero(aside)), draft.collected.rows(np.flatnonzero(~aside))
    return replace(draft, collected=own, set_aside=held), draft.collected


def _renamed(collected, group, class_name=None):
    cells = [replace(c, group=group, class_name=class_name or c.class_name) for c in collected.cells]
    return replace(collected, cells=cells)


def _cloud(count, seed):
    """Cells of two classes in 32 dimensions; vectors and references."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    vectors = (rng.normal(size=(count, 32)) + 2 * np.eye(2, 32)[labels]).astype(np.float32)
    cells = [ReferenceCell(("live", "dead")[k], f"{n}.png", (0, 0, 9, 9), str(n)) for n, k in enumerate(labels)]
    return Collected(cells, {"one": vectors}, np.zeros((count, 64, 64, 1), np.uint8))


@pytest.fixture
def along_one_axis(plain, tmp_path):
    """An index of two classes that is searched along its only discriminant axis, by a graph."""
    settings = IndexSettings(scaling="discriminant", search="hnsw")
    write_index(tmp_path / "axis", replace(draft_of(plain), collected=_cloud(800, 0), settings=settings))
    return open_index(tmp_path / "axis")


def test_cells_near_each_other_on_an_axis_are_not_taken_for_the_same(along_one_axis):
    assert (repeats(along_one_axis, _cloud(200, 1)) == -1).all()
    np.testing.assert_array_equal(repeats(along_one_axis, _cloud(800, 0)), np.arange(800))


def test_what_a_graph_over_axes_cannot_answer_is_searched_exactly(along_one_axis, monkeypatch):
    search, asked = open_search(along_one_axis), _cloud(20, 1).embeddings
    propose = GraphSearch._proposed
    monkeypatch.setattr(
        GraphSearch, "_proposed", lambda *given: np.pad(propose(*given)[:, :5], ((0, 0), (0, 5)), constant_values=-1)
    )
    np.testing.assert_array_equal(search.nearest(asked, 10).ids, search.exact.nearest(asked, 10).ids)


def test_only_a_bundle_is_replaced(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="is not replaced"), files.written_whole(folder, replace=True) as work:
        (work / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "thesis.txt"]


@pytest.mark.parametrize("name", ["", "."])
def test_no_name_does_not_take_all_indexes_away(lite0, tmp_path, capsys, name):
    kept = write_plain_index(tmp_path / "indexes" / "kept")
    frames = write_frames(tmp_path / "frames", 1)
    words = ("build", name, "--coco", frames, "--pixel-size", PIXEL_UM, "--crop-um", "20", "--force")
    places = ("--encoder", "efficientnet-lite0", "--encoders", lite0.parent, "--out", tmp_path / "indexes")
    assert main([str(word) for word in (*words, *places, "--device", "cpu")]) == 1
    assert "is not replaced" in capsys.readouterr().err
    assert len(open_index(kept)) == 20


def test_an_index_may_be_named_by_the_folder_one_is_in(plain, monkeypatch, capsys):
    monkeypatch.chdir(plain.folder)
    assert main(["drop", ".", "--cell", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kept_as"] == "plain.v1"
    assert len(open_index(plain.folder)) == len(plain) - 1


def test_a_change_cut_off_between_its_renames_is_explained(plain, capsys):
    after = succeed(plain, draft_of(plain), "change")
    after.folder.rename(plain.folder.with_name("plain.next"))
    assert main(["show", "plain", "--out", str(plain.folder.parent)]) == 1
    assert "a change was cut off: rename plain.next to plain" in capsys.readouterr().err


def test_the_former_version_is_told_by_its_real_name(plain, capsys):
    plain.folder.rename(plain.folder.with_name("other"))
    assert main(["drop", "other", "--out", str(plain.folder.parent), "--cell", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kept_as"] == "other.v1"


def test_cells_set_aside_are_known_again(parts):
    draft, every = parts
    there = held_already(draft, every)
    assert [every.cells[row] for row in np.flatnonzero(there >= 0)] == list(draft.set_aside.cells)
    assert [draft.set_aside.cells[row] for row in there[there >= 0]] == list(draft.set_aside.cells)


@pytest.mark.parametrize(("group", "references"), [("3", 20), ("8", 0)])
def test_fresh_cells_go_where_their_group_is(parts, group, references):
    draft, every = parts
    kept, aside = parted(draft, _renamed(every, group), draft.groups, 3)
    assert (len(kept), len(aside) if aside else 0) == (references, 20 - references)


def test_a_class_without_references_gets_some(parts):
    draft, every = parts
    kept, aside = parted(draft, _renamed(every, "8", "mitotic"), {**draft.groups, "mitotic": "alive"}, 3)
    assert (len(kept), aside) == (20, None)


def test_fresh_groups_are_shared_out_whole(parts):
    draft, every = parts
    cells = [replace(cell, group=f"new {n % 40}") for n, cell in enumerate(list(every.cells) * 10)]
    many = replace(every.rows(np.tile(np.arange(20), 10)), cells=cells)
    kept, aside = parted(draft, many, draft.groups, 3)
    assert {c.group for c in kept.cells}.isdisjoint(c.group for c in aside.cells)
    assert 0.1 < len(aside) / 200 < 0.3  # 4 of 20 were set aside


def test_dropped_images_calibrate_nothing_either(parts):
    draft, _ = parts
    cells = [replace(cell, image=f"bad/{cell.image}") for cell in draft.set_aside.cells[:1]]
    aside = replace(draft.set_aside, cells=[*cells, *draft.set_aside.cells[1:]])
    first = ReferenceCell("live", "bad/0.png", (0, 0, 9, 9), "0")
    own = replace(draft.collected, cells=[first, *draft.collected.cells[1:]])
    draft, choice = replace(draft, collected=own, set_aside=aside), Choice(images=["bad/*"])
    smaller = without_cells(draft, chosen(own.cells, choice), choice)
    assert len(smaller.collected) == len(own) - 1
    assert smaller.set_aside.cells == aside.cells[1:]


def _said(capsys, *words):
    code = main([str(word) for word in words])
    return code, capsys.readouterr()


@pytest.mark.parametrize("command", [("tune",), ("evaluate", "--folds", "2")])
@pytest.mark.parametrize("idle", [("--limit", "3"), ("--balance",), ("--pixel-size", "0.3"), ("--only", "a*")])
def test_options_that_would_change_nothing_are_refused(plain, capsys, command, idle):
    name, *rest = command
    code, said = _said(capsys, name, "plain", *rest, *idle, "--out", plain.folder.parent)
    assert code == 2
    assert f"{idle[0]} would change nothing" in said.err


def test_figures_of_cells_that_were_tuned_on_are_said_to_flatter(plain, capsys):
    out = ("--out", plain.folder.parent)
    grid = ("--k-min", "3", "--k-max", "10", "--threshold", "0.3", "--seeds", "1")
    look = ("evaluate", "plain", "--folds", "2", "--seeds", "1", "--baselines", "none", "--json", *out)
    _, before = _said(capsys, *look)
    assert not any("tune" in text for text in json.loads(before.out)["warnings"])
    assert any("--split-by group" in text for text in json.loads(before.out)["warnings"])
    assert _said(capsys, "tune", "plain", *grid, *out)[0] == 0
    _, after = _said(capsys, *look, "--split-by", "group")
    warnings = json.loads(after.out)["warnings"]
    assert any("chosen by `tune` on these very cells" in text for text in warnings)
    assert not any("--split-by group" in text for text in warnings)
    assert "flatters" in _said(capsys, "show", "plain", *out)[1].out


def test_a_table_of_trials_that_cannot_be_written_is_told_before_the_search(plain, capsys):
    code, said = _said(capsys, "tune", "plain", "--out", plain.folder.parent, "--trials", "absent/trials.parquet")
    assert code == 2
    assert "no such folder" in said.err
    assert "choosing" not in said.err


def test_shares_of_a_canberra_distance_are_not_called_squared(tmp_path, capsys):
    write_plain_index(tmp_path / "plain", metric="canberra", encoders=("one", "two"))
    assert "squared" not in _said(capsys, "show", "plain", "--out", tmp_path)[1].out


def test_a_search_that_leaves_everybody_out_keeps_no_table():
    vectors = np.random.default_rng(0).normal(size=(30_000, 2)).astype(np.float32)
    search = ExactSearch.of(["one"], [vectors], [1.0])
    tracemalloc.start()
    near = search.leaving_out(np.zeros(30_000, dtype=np.int32), 5, rows=np.arange(1024))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (near.ids == -1).all()
    assert peak < 350e6  # 1,024 x 30,000 distances and their numbers, sorted as whole numbers, were 1.2 GB


def test_a_report_of_an_index_smaller_than_five_cells(tmp_path, capsys):
    write_plain_index(tmp_path / "tiny", cells=4, groups=4)
    assert _said(capsys, "report", "tiny", "--projection", "pca", "--out", tmp_path, "--json")[0] == 0


def test_a_tiff_that_breaks_off_inside_its_compressed_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 60_000, (40, 40)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "cell.tif", pixels, compression="zlib")
    whole = bytearray((tmp_path / "cell.tif").read_bytes())
    whole[len(whole) // 2 :] = bytes(len(whole) - len(whole) // 2)
    (tmp_path / "cell.tif").write_bytes(bytes(whole))
    with pytest.raises(BadFile, match=r"cell\.tif"):
        read_image(tmp_path / "cell.tif")


def test_a_column_that_is_there_twice(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("experiment,plate,well,field,timepoint,cell,class,class\ne,p,A1,1,0,1,live,dead\n")
    with pytest.raises(UsageError, match="several columns class"):
        read_labels(table, Faults())


@pytest.mark.parametrize("size", ["Infinity", "NaN", "true", "0", '"0.3"'])
def test_a_pixel_size_that_is_none_is_not_taken(tmp_path, size):
    path = write_frames(tmp_path, 1)
    path.write_text(path.read_text().replace("{", f'{{"info": {{"pixel_size_um": {size}}}, ', 1))
    assert read_coco(path).pixel_size_um is None


def test_an_outline_in_an_image_of_impossible_size_is_named(tmp_path):
    path = write_frames(tmp_path, 1)
    path.write_text(path.read_text().replace('"height": 120', '"height": 1200000000000'))
    with pytest.raises(UsageError, match=r"make no sense: 6 \(frame0\.png"):
        read_coco(path)


@pytest.mark.parametrize("rule", ["range:0:inf", "range:-inf:5", "range:nan:5"])
def test_an_intensity_range_has_two_ends(tmp_path, capsys, rule):
    code, said = _said(
        capsys,
        "build",
        "x",
        "--images",
        write_frames(tmp_path / "a" / "b", 1).parent.parent,
        "--encoder",
        "e",
        "--intensity",
        rule,
        "--out",
        tmp_path,
    )
    assert (code, "is no intensity rule" in said.err) == (2, True)
