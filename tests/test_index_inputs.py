"""What a labelled folder or annotation file says: masks, boxes, classes, choice and groups."""

from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellvigil.errors import BadFile, UsageError
from cellvigil_indexes.inputs import masks
from cellvigil_indexes.inputs.coco import read_coco
from cellvigil_indexes.inputs.folders import read_folders
from cellvigil_indexes.inputs.images import read_image
from cellvigil_indexes.inputs.labelled import grouped, selected

# A 9 x 7 image with a 4 x 3 block and one pixel; the compressed text was made by pycocotools.
BLOCK = np.zeros((9, 7), dtype=bool)
BLOCK[2:6, 1:4] = BLOCK[4, 5] = True
COMPRESSED = ";45000;MM"
RUNS = [11, 4, 5, 4, 5, 4, 16, 1, 13]


@pytest.mark.parametrize("counts", [COMPRESSED, RUNS])
def test_both_kinds_of_run_lengths(counts):
    assert (masks.mask_of({"size": [9, 7], "counts": counts}, 9, 7) == BLOCK).all()


def compress(runs):
    """COCO's writer, from its description: 5 bits a character, low bits first, differences from the fourth on."""
    text = ""
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != (-1 if bits & 0x10 else 0)
            text += chr((bits | (0x20 if more else 0)) + 48)
    return text


def test_the_twin_writes_what_pycocotools_writes():
    assert compress(RUNS) == COMPRESSED


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_masks_survive_compression(mask):
    flat = np.concatenate([[False], mask.T.ravel()])
    edges = np.flatnonzero(np.diff(flat))
    runs = np.diff([0, *edges, mask.size]).tolist()
    height, width = mask.shape
    assert (masks.mask_of({"size": [height, width], "counts": compress(runs)}, height, width) == mask).all()


@pytest.mark.parametrize(
    ("polygon", "area"),
    [
        ([2, 1, 6, 1, 6, 5, 2, 5], 16),  # whole numbers are pixel corners: 4 x 4 pixels
        ([2.4, 1.4, 5.6, 1.4, 5.6, 4.6, 2.4, 4.6], 16),  # their centres (2.5 .. 5.5) are inside all the same
        ([2.6, 1.6, 5.4, 1.6, 5.4, 4.4, 2.6, 4.4], 4),  # and here only those at 3.5 and 4.5
        ([0, 0, 8, 0, 0, 8], 28),  # below the diagonal of 8 x 8, whose own pixels' centres lie on the edge
        ([-5, -5, 5, -5, 5, 5, -5, 5], 25),  # what is outside the image is cut off
    ],
)
def test_polygons_hold_the_pixels_whose_centres_are_inside(polygon, area):
    assert masks.polygon_mask([polygon], 10, 10).sum() == area


def test_polygons_are_united():
    two = [[0, 0, 4, 0, 4, 4, 0, 4], [2, 2, 6, 2, 6, 6, 2, 6]]
    assert masks.polygon_mask(two, 10, 10).sum() == 28


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [9, 7], "counts": [60]},
        {"size": [9, 7], "counts": [-1, 64]},
        {"size": [7, 9], "counts": COMPRESSED},
        {"size": [9, 7], "counts": ";45000;M]"},
        {"size": [9, 7], "counts": "\x7f"},
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, float("nan")]],
        "circle",
    ],
)
def test_masks_that_make_no_sense_are_refused(segmentation):
    with pytest.raises(ValueError, match=r"."):
        masks.mask_of(segmentation, 9, 7)


def coco(folder, *, notes, images=("a.png",), categories=("live", "dead"), info=None):
    """An annotation file and its (blank) images, 20 x 30 pixels."""
    for name in images:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.zeros((20, 30), np.uint8))
    content = {
        "info": info or {},
        "images": [{"id": i, "file_name": name, "height": 20, "width": 30} for i, name in enumerate(images)],
        "categories": [{"id": 10 + i, "name": name} for i, name in enumerate(categories)],
        "annotations": [{"id": i, "image_id": 0, "category_id": 10, **note} for i, note in enumerate(notes)],
    }
    path = folder / "labels.json"
    path.write_text(json.dumps(content))
    return path


def test_a_box_gives_box_and_centre(tmp_path):
    found = read_coco(coco(tmp_path, notes=[{"bbox": [4, 6, 3, 5], "category_id": 11}], info={"pixel_size_um": 0.5}))
    (cell,) = found.images[0].cells
    # x 4, 5, 6 and y 6 .. 10: the middle pixels are 5 and 8.
    assert (cell.class_name, cell.box_px, cell.centre_px, cell.mask) == ("dead", (6, 4, 11, 7), (8.0, 5.0), None)
    assert found.classes == ["live", "dead"]
    assert found.pixel_size_um == 0.5


def test_a_mask_comes_before_the_box_and_is_centred_on_its_mass(tmp_path):
    ell = [4, 4, 12, 4, 12, 6, 6, 6, 6, 12, 4, 12]
    note = {"bbox": [4, 4, 8, 8], "segmentation": [ell]}
    (cell,) = read_coco(coco(tmp_path, notes=[note])).images[0].cells
    # 8 x 2 pixels along x (mean y 4.5, x 7.5) and 2 x 6 below (mean y 8.5, x 4.5), 28 in all.
    assert cell.centre_px == pytest.approx(((16 * 4.5 + 12 * 8.5) / 28, (16 * 7.5 + 12 * 4.5) / 28))
    assert cell.box_px == (4, 4, 12, 12)
    assert cell.mask is not None
    assert cell.mask.sum() == 28


def test_a_box_is_cut_at_the_border_but_keeps_its_centre(tmp_path):
    (cell,) = read_coco(coco(tmp_path, notes=[{"bbox": [-4, 15, 8, 10]}])).images[0].cells
    assert cell.box_px == (15, 0, 20, 4)
    assert cell.centre_px == (19.5, -0.5)


def test_crowds_are_left_out_and_images_without_cells_are_kept(tmp_path):
    path = coco(tmp_path, notes=[{"bbox": [1, 1, 5, 5], "iscrowd": 1}], images=("a.png", "b.png"))
    assert [len(image.cells) for image in read_coco(path).images] == [0, 0]


def test_images_are_found_beside_the_file_in_images_or_where_told(tmp_path):
    path = coco(tmp_path / "images", notes=[])
    beside = path.rename(tmp_path / "labels.json")
    assert read_coco(beside).images[0].path == tmp_path / "images" / "a.png"
    (tmp_path / "else").mkdir()
    moved = beside.rename(tmp_path / "else" / "labels.json")
    with pytest.raises(UsageError, match=r"a\.png is not there.*--image-root"):
        read_coco(moved)
    assert read_coco(moved, tmp_path / "images").images[0].name == "a.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ("[]", "no COCO object"),
        ('{"images": []}', "categories"),
        ('{"images": [], "categories": [], "annotations": [{"image_id": 7}]}', "7"),
    ],
)
def test_a_file_that_is_no_coco_is_refused(tmp_path, text, message):
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_coco(path)


GOOD = {"bbox": [1, 1, 5, 5]}


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"bbox": [40, 1, 5, 5]}, "boxes that lie outside the image: 2 (a.png: box [40.0, 1.0, 5.0, 5.0]"),
        ({"bbox": [1, -9, 5, 5]}, "boxes that lie outside the image: 2"),
        ({"bbox": [1, 1, 0, 5]}, "boxes without an area: 2"),
        ({"bbox": [1, 1, float("nan"), 5]}, "boxes without an area: 2"),
        ({"bbox": [1, 1, 0.3, 0.3]}, "boxes that cover no pixel: 2"),
        ({"bbox": [1, 1, 5]}, "outlines or boxes that make no sense: 2 (a.png: "),
        ({}, "outlines or boxes that make no sense: 2"),
        ({"bbox": [1, 1, 5, 5], "segmentation": [[1, 1, 2, 1, 3, 1]]}, "outlines that cover no pixel: 2"),
        ({"bbox": [1, 1, 5, 5], "segmentation": {"size": [7, 9], "counts": [63]}}, "make no sense: 2"),
        ({"bbox": [1, 1, 5, 5], "category_id": 99}, "annotations of unknown categories: 2 (category 99, category 99)"),
        ({"bbox": [1, 1, 5, 5], "image_id": 5}, "annotations of images that are not listed: 2 (image 5, image 5)"),
        ({"bbox": [1, 1, 5, 5], "id": 0}, "annotations whose number was used before: 2 (id 0"),
    ],
)
def test_bad_annotations_are_counted_and_named_and_refused_or_left_out(tmp_path, bad, told):
    path = coco(tmp_path, notes=[GOOD, bad, {**GOOD, "category_id": 11}, bad])
    with pytest.raises(UsageError, match=re.escape(told)) as caught:
        read_coco(path)
    assert caught.value.exit_code == 2
    found = read_coco(path, skip_bad=True)
    assert [cell.class_name for cell in found.images[0].cells] == ["live", "dead"]
    (warning,) = found.warnings
    assert told in warning
    assert warning.startswith("left out: ")
    assert list(found.provenance["left_out"].values()) == [2]


def test_all_that_is_wrong_is_told_at_once_and_a_long_list_is_cut(tmp_path):
    outside = [{"bbox": [40 + place, 1, 5, 5]} for place in range(5)]
    with pytest.raises(UsageError) as caught:
        read_coco(coco(tmp_path, notes=[*outside, {**GOOD, "category_id": 99}]))
    said = str(caught.value)
    assert "outside the image: 5 (" in said
    assert "[42.0," in said
    assert "[43.0," not in said
    assert "unknown categories: 1" in said
    assert "--skip-bad" in said


@pytest.mark.parametrize(
    ("change", "told", "left"),
    [
        ({"id": 1, "file_name": "gone.png"}, "see --image-root): 1 (gone.png)", ["a.png"]),
        ({"id": 0, "file_name": "b.png"}, "listed twice: 1 (b.png)", ["a.png"]),
        ({"id": 1, "file_name": "a.png"}, "listed twice: 1 (a.png)", ["a.png"]),
        ({"id": 1, "file_name": "b.png", "height": None}, "without height and width: 1 (b.png)", ["a.png"]),
    ],
)
def test_bad_images_go_with_their_annotations(tmp_path, change, told, left):
    path = coco(tmp_path, notes=[GOOD, {**GOOD, "image_id": change["id"]}], images=("a.png", "b.png"))
    content = json.loads(path.read_text())
    content["images"][1] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=re.escape(told)):
        read_coco(path)
    assert [image.name for image in read_coco(path, skip_bad=True).images] == left


def test_categories_that_differ_in_case_only(tmp_path):
    path = coco(tmp_path, notes=[GOOD, {**GOOD, "category_id": 11}], categories=("live", "Live"))
    with pytest.raises(UsageError, match=r"differ in case only: 1 \('live' and 'Live'\)"):
        read_coco(path)
    found = read_coco(path, skip_bad=True)
    assert found.classes == ["live"]
    assert [cell.class_name for cell in found.images[0].cells] == ["live", "live"]
    assert read_coco(coco(tmp_path, notes=[GOOD], categories=("live", "live"))).classes == ["live"]


def test_boxes_that_reach_over_the_border_are_told_but_kept(tmp_path):
    found = read_coco(coco(tmp_path, notes=[{"bbox": [-4, 15, 9, 6]}, {"bbox": [25, 1, 5.5, 5]}]))
    assert [cell.box_px for cell in found.images[0].cells] == [(15, 0, 20, 5), (1, 25, 6, 30)]
    assert found.warnings == [
        "boxes reach over the image's border and were cut there: 1 (a.png: box [-4.0, 15.0, 9.0, 6.0])"
    ]


def test_nothing_left(tmp_path):
    path = coco(tmp_path, notes=[])
    path.write_text(path.read_text().replace('"height": 20', '"height": 0'))
    with pytest.raises(UsageError, match="nothing is left of the annotation file"):
        read_coco(path, skip_bad=True)


def test_folders_are_classes(tmp_path):
    for name in ("live/1.png", "live/deeper/2.JPG", "dead/3.tif", "dead/notes.txt", "dead/.hidden.png", "empty/readme"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = read_folders(tmp_path)
    assert [(image.name, image.cells[0].class_name) for image in found.images] == [
        ("dead/3.tif", "dead"),
        ("live/1.png", "live"),
        ("live/deeper/2.JPG", "live"),
    ]
    assert found.classes == ["dead", "empty", "live"]


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_folder_without_images_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="one folder a class"):
        read_folders(tmp_path / name)


def test_class_folders_that_differ_in_case_only(tmp_path):
    for name in ("Live/1.png", "live/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("the file system takes the two names for one")
    with pytest.raises(UsageError, match=r"class folders that differ in case only: 1 \('Live' and 'live'\)"):
        read_folders(tmp_path)
    found = read_folders(tmp_path, skip_bad=True)
    assert found.classes == ["Live"]
    assert {image.cells[0].class_name for image in found.images} == {"Live"}


@pytest.fixture
def images(tmp_path):
    names = ("p1/b_1.png", "p1/b_2.png", "p2/cell_1.png")
    return read_coco(coco(tmp_path, notes=[], images=names)).images


@pytest.mark.parametrize(
    ("only", "exclude", "left"),
    [
        ([], [], ["p1/b_1.png", "p1/b_2.png", "p2/cell_1.png"]),
        (["b_*"], [], ["p1/b_1.png", "p1/b_2.png"]),
        (["b_*", "p2/*"], ["*_1.png"], ["p1/b_2.png"]),
        ([], ["p1/*"], ["p2/cell_1.png"]),
    ],
)
def test_only_and_exclude(images, only, exclude, left):
    assert [image.name for image in selected(images, only, exclude)] == left


def test_a_choice_that_leaves_nothing_is_refused(images):
    with pytest.raises(UsageError, match="none of the 3 images"):
        selected(images, ["*.bmp"], [])


@pytest.mark.parametrize(
    ("rule", "groups"),
    [
        ("image", ["p1/b_1.png", "p1/b_2.png", "p2/cell_1.png"]),
        ("folder", ["p1", "p1", "p2"]),
        ("([a-z]+)_", ["b", "b", "cell"]),
        ("p[0-9]", ["p1", "p1", "p2"]),
    ],
)
def test_groups(images, rule, groups):
    assert [image.group for image in grouped(images, rule)] == groups


@pytest.mark.parametrize(("rule", "message"), [("(", "neither image"), ("b_", "does not fit p2/cell_1.png")])
def test_group_rules_that_do_not_work(images, rule, message):
    with pytest.raises(UsageError, match=message):
        grouped(images, rule)


RED = np.zeros((4, 5, 3), np.uint8)
RED[..., 0] = 200


def _png(path, pixels):
    cv2.imwrite(str(path), pixels)


def _tiff(path, pixels, **how):
    tifffile.imwrite(path, pixels, **how)


@pytest.mark.parametrize(
    ("write", "shape", "dtype", "first"),
    [
        (lambda p: _png(p, RED[..., ::-1]), (3, 4, 5), np.uint8, 200),
        (lambda p: _png(p, np.full((4, 5, 4), 7, np.uint8)), (3, 4, 5), np.uint8, 7),
        (lambda p: _png(p, np.full((4, 5), 3000, np.uint16)), (1, 4, 5), np.uint16, 3000),
        (lambda p: _tiff(p, RED, photometric="rgb"), (3, 4, 5), np.uint8, 200),
        (
            lambda p: _tiff(p, np.moveaxis(RED, 2, 0), photometric="rgb", planarconfig="separate"),
            (3, 4, 5),
            np.uint8,
            200,
        ),
        (lambda p: _tiff(p, np.full((4, 5), 1.337, np.float32)), (1, 4, 5), np.float32, np.float32(1.337)),
    ],
)
def test_images_come_as_channels_rows_columns(tmp_path, write, shape, dtype, first):
    path = tmp_path / "image.png"  # what is inside counts, not the name
    write(path)
    pixels = read_image(path)
    assert (pixels.shape, pixels.dtype, pixels[0, 0, 0]) == (shape, dtype, first)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"not an image", "unreadable"), (b"II*\0junk", "unreadable"), (None, "unreadable")],
)
def test_images_that_do_not_open(tmp_path, content, reason):
    path = tmp_path / "image.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadFile) as caught:
        read_image(path)
    assert caught.value.reason == reason
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("pixels", [np.zeros((3, 4, 5, 6), np.uint8), np.zeros((4, 5), np.float64)])
def test_images_of_another_kind_are_refused(tmp_path, pixels):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, pixels, photometric="minisblack")
    with pytest.raises(BadFile, match=r"neither grey|not supported"):
        read_image(path)
