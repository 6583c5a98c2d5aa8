"""Cells in images: measuring labels, the tools of the segmenter, and the segmenter on drawn and rehearsed fields."""

from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellvigil import config
from cellvigil.rehearse import holotomography, optics
from cellvigil.rehearse.assay import Assay, simulate
from cellvigil.rehearse.truth import cell_rows
from cellvigil.segment import cells_from_labels, opencv_segmenter
from cellvigil.segment.regions import Merging, basins, joined, waisted

small_labels = hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 5))


# ---- labels to cells


def measured_slowly(labels, shape, pixel_um, margin_um):
    """What `cells_from_labels` promises, pixel by pixel."""
    rows, columns = labels.shape
    raw = np.array(
        [
            [labels[int((y + 0.5) * rows / shape[0]), int((x + 0.5) * columns / shape[1])] for x in range(shape[1])]
            for y in range(shape[0])
        ]
    )
    cells = []
    for label in sorted(set(raw.ravel().tolist()) - {0}):
        at = [(y, x) for y in range(shape[0]) for x in range(shape[1]) if raw[y, x] == label]
        ys, xs = [y for y, _ in at], [x for _, x in at]
        room_um = min(
            min(ys) * pixel_um[0], (shape[0] - 1 - max(ys)) * pixel_um[0],
            min(xs) * pixel_um[1], (shape[1] - 1 - max(xs)) * pixel_um[1],
        )  # fmt: skip
        touches = (
            min(ys) == 0 or min(xs) == 0 or max(ys) == shape[0] - 1 or max(xs) == shape[1] - 1 or room_um < margin_um
        )
        box = (min(ys), min(xs), max(ys) + 1, max(xs) + 1)
        area = len(at) * pixel_um[0] * pixel_um[1]
        cells.append((sum(ys) / len(at), sum(xs) / len(at), box, area, touches, at))
    return cells


@given(small_labels, st.integers(1, 3), st.integers(1, 3), st.sampled_from([0.25, 0.5, 2.0]), st.integers(0, 6))
def test_cells_from_labels_measures_like_counting_pixels(labels, up_y, up_x, size_um, margin):
    shape = (labels.shape[0] * up_y, labels.shape[1] * up_x)
    pixel_um = (size_um, 2 * size_um)
    margin_um = margin * size_um
    cells = cells_from_labels(labels, shape, pixel_um, margin_um)
    expected = measured_slowly(labels, shape, pixel_um, margin_um)
    assert len(cells) == len(expected)
    assert cells.labels.shape == shape
    for row, (y, x, box, area, touches, at) in enumerate(expected):
        np.testing.assert_allclose(cells.centroids_px[row], (y, x), rtol=1e-5)
        assert tuple(cells.boxes_px[row]) == box
        assert cells.areas_um2[row] == pytest.approx(area, rel=1e-5)
        assert bool(cells.touches_edge[row]) == touches
        assert {tuple(place) for place in np.argwhere(cells.labels == row + 1)} == set(at)


def test_an_empty_field_has_no_cells():
    cells = cells_from_labels(np.zeros((5, 5), np.int32), (20, 30), (0.5, 0.5))
    assert len(cells) == 0
    assert cells.labels.shape == (20, 30)
    assert cells.boxes_px.shape == (0, 4)
    assert cells.centroids_px.shape == (0, 2)


def test_a_cell_that_leaves_no_raw_pixel_is_dropped():
    labels = np.zeros((9, 9), np.int32)
    labels[0, 0], labels[3:6, 3:6] = 1, 2
    cells = cells_from_labels(labels, (3, 3), (1.0, 1.0))
    assert len(cells) == 1
    assert cells.labels[1, 1] == 1


def test_negative_labels_are_refused():
    with pytest.raises(ValueError, match="positive"):
        cells_from_labels(np.full((2, 2), -1, np.int32), (2, 2), (1.0, 1.0))


# ---- the segmenter's tools


@given(st.data(), st.integers(2, 7), st.integers(2, 7))
def test_a_basin_is_where_the_climb_ends(data, rows, columns):
    heights = data.draw(st.permutations(range(rows * columns)))
    height = np.array(heights, dtype=np.float32).reshape(rows, columns)
    mask = data.draw(hnp.arrays(np.bool_, (rows, columns)))

    def climbed(y, x):
        around = [
            (v, u) for v in range(max(0, y - 1), min(rows, y + 2)) for u in range(max(0, x - 1), min(columns, x + 2))
        ]
        best = max(around, key=lambda place: height[place])
        return best if best == (y, x) else climbed(*best)

    regions = basins(height, mask)
    summit = {}
    for place in np.ndindex(rows, columns):
        top = climbed(*place)
        if not mask[place] or not mask[top]:
            assert regions[place] == 0
            continue
        assert summit.setdefault(top, regions[place]) == regions[place] > 0
    assert len(set(summit.values())) == len(summit)


def strips(widths, border_heights, height=12):
    """Regions side by side, and a landscape that is flat but for the borders between them."""
    regions = np.repeat(np.arange(1, len(widths) + 1), widths)[None].repeat(height, axis=0).astype(np.int32)
    land = np.zeros(regions.shape, dtype=np.float32)
    for edge, level in zip(np.cumsum(widths)[:-1], border_heights, strict=True):
        land[:, edge] = level
    return np.pad(regions, 1), np.pad(land, 1)


@pytest.mark.parametrize(
    ("heights", "left"),
    [((0.1, 0.1), 1), ((0.1, 5.0), 2), ((5.0, 5.0), 3), ((5.0, 0.1), 2)],
    ids=["weak borders fall", "the strong one stands", "both stand", "the other stands"],
)
def test_regions_are_joined_across_weak_borders_only(heights, left):
    regions, land = strips((12, 12, 12), heights)
    assert joined(regions, land, Merging(cell_area=144)).max() == left


@settings(deadline=None)
@given(small_labels, st.data())
def test_joining_only_ever_joins_whole_touching_regions(labels, data):
    land = data.draw(hnp.arrays(np.float32, labels.shape, elements=st.floats(0, 2, width=32)))
    result = joined(labels, land, Merging(cell_area=6))
    np.testing.assert_array_equal(result == 0, labels == 0)
    for label in set(labels.ravel().tolist()):
        assert len(set(result[labels == label].tolist())) == 1
    assert set(result.ravel().tolist()) - {0} == set(range(1, result.max() + 1))


def test_no_border_falls_when_none_is_below_the_stop():
    regions, land = strips((12, 12), (1.0,))
    assert joined(regions, land, Merging(cell_area=144, stop=1e-6)).max() == 2


@pytest.mark.parametrize(
    ("discs", "bodies"),
    [(((30, 30, 14),), 1), (((30, 26, 14), (30, 50, 14)), 2), (((30, 30, 14), (30, 36, 14)), 1),
     (((30, 20, 10), (30, 36, 10), (30, 52, 10)), 3)],
    ids=["one", "two that touch", "one that is long", "a row of three"],
)  # fmt: skip
def test_a_body_is_cut_at_its_waists(discs, bodies):
    mask = np.zeros((60, 76), np.uint8)
    for y, x, radius in discs:
        cv2.circle(mask, (x, y), radius, 1, -1)
    cut = waisted(mask.astype(np.int32), diameter=28)
    assert len(np.unique(cut)) - 1 == bodies
    assert not (cut[mask == 0]).any()
    assert (cut > 0).sum() >= 0.98 * mask.sum()


# ---- the segmenter on drawn fields

UM = 0.322
SHAPE = (300, 400)
CELLS = (
    (50, 60, 8.0),
    (50, 300, 10.0),
    (150, 100, 7.0),
    (150, 148, 7.5),
    (230, 300, 9.0),
    (230, 358, 8.5),
    (240, 60, 6.5),
)
"""y, x in pixels of UM; radius in um. The third and fourth, and the fifth and sixth, touch."""


def depth_um(y, x, radius, shape=SHAPE):
    """Micrometres below the outline of a round cell, negative outside."""
    rows, columns = np.indices(shape, dtype=np.float32)
    return radius - np.hypot(rows - y, columns - x) * UM


def drawn(look, rng, noise=3.0, cells=CELLS):
    """A field of round cells with a label-free look, on uneven ground, as (Y, X) u8."""
    canvas = np.zeros(SHAPE, dtype=np.float32)
    grain = cv2.GaussianBlur(rng.standard_normal(SHAPE, dtype=np.float32), (0, 0), 2) * 4
    for y, x, radius in cells:
        depth = depth_um(y, x, radius)
        inside = 1 / (1 + np.exp(-np.clip(depth / 0.15, -50, 50)))
        if look == "bright body":
            canvas = np.maximum(canvas, inside * (70 + 12 * grain))
            continue
        halo = 40 * np.exp(-(((depth + 0.9) / 0.8) ** 2)) * (1 - inside)
        rim = -60 * np.exp(-(((depth - 0.5) / 0.8) ** 2)) * inside
        canvas = canvas * (1 - inside) + halo + rim + 12 * grain * inside
        canvas += (-18 if look == "phase" else 0) * inside
    light = 110 + 25 * np.linspace(-1, 1, SHAPE[1])[None] - 15 * np.linspace(-1, 1, SHAPE[0])[:, None] ** 2
    base = 40 if look == "bright body" else light
    return np.clip(base + canvas + rng.normal(0, noise, SHAPE), 0, 255).astype(np.uint8)


def segmented(image, um=UM, **changes):
    """Labels on the image's own grid."""
    labels = opencv_segmenter(config.Segment(**changes))(image, um)
    assert labels.dtype == np.int32
    return cells_from_labels(labels, image.shape, (um, um))


def found_once(cells, truth, scale=1.0):
    """How many true centres lie in a mask that no other true centre lies in."""
    owners = [int(cells.labels[int(y * scale), int(x * scale)]) for y, x, _ in truth]
    return sum(owner > 0 and owners.count(owner) == 1 for owner in owners)


@pytest.mark.parametrize("look", ["bright field", "phase", "bright body"])
@pytest.mark.parametrize("noise", [1.0, 4.0])
def test_every_drawn_cell_is_found_once_also_where_two_touch(look, noise):
    cells = segmented(drawn(look, np.random.default_rng(1), noise))
    assert len(cells) == len(CELLS)
    assert found_once(cells, CELLS) == len(CELLS)
    for y, x, radius in CELLS:
        area = cells.areas_um2[cells.labels[y, x] - 1]
        assert area == pytest.approx(np.pi * radius**2, rel=0.35)


@pytest.mark.parametrize("um", [0.2, 0.5, 0.7])
def test_the_cells_do_not_depend_on_the_pixel_size(um):
    image = drawn("bright field", np.random.default_rng(2), 2.0)
    scale = UM / um
    size = (round(SHAPE[1] * scale), round(SHAPE[0] * scale))
    other = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    cells = segmented(other, um)
    assert len(cells) == len(CELLS)
    assert found_once(cells, CELLS, scale) == len(CELLS)


@pytest.mark.parametrize(("gain", "offset"), [(0.5, 60), (0.5, 120), (1.2, -20)])
def test_the_cells_do_not_depend_on_lamp_and_contrast(gain, offset):
    image = np.clip(drawn("bright field", np.random.default_rng(3)) * gain + offset, 0, 255).astype(np.uint8)
    assert found_once(segmented(image), CELLS) == len(CELLS)


FIELDS = np.random.default_rng(4)
EMPTY = {
    "black": np.zeros(SHAPE),
    "white": np.full(SHAPE, 255),
    "even grey": np.full(SHAPE, 128),
    "quiet noise": FIELDS.normal(128, 0.6, SHAPE),
    "noise": FIELDS.normal(128, 6, SHAPE),
    "loud noise": FIELDS.normal(128, 40, SHAPE),
    "smooth noise": 128 + 15 * cv2.GaussianBlur(FIELDS.normal(0, 5, SHAPE), (0, 0), 1.5),
    "a slope": np.linspace(60, 200, SHAPE[1])[None] + FIELDS.normal(0, 3, SHAPE),
    "one pixel": np.full((1, 1), 9),
    "a line": np.full((1, 300), 9),
}


@pytest.mark.parametrize("field", EMPTY.values(), ids=EMPTY)
def test_nothing_is_found_where_nothing_is(field):
    assert len(segmented(np.clip(field, 0, 255).astype(np.uint8))) == 0


def test_size_limits_are_square_micrometres():
    image = drawn("bright field", np.random.default_rng(5))
    areas = [np.pi * radius**2 for *_, radius in CELLS]
    large = segmented(image, min_area_um2=200.0)
    assert 0 < len(large) < len(CELLS)
    assert large.areas_um2.min() >= 190
    small = segmented(image, max_area_um2=200.0)
    assert 0 < len(small) < len(CELLS)
    assert len(large) + len(small) == len(areas)


def test_sensitivity_finds_fainter_cells():
    rng = np.random.default_rng(6)
    image = drawn("phase", rng, 0.5).astype(np.float32)
    faint = np.clip(128 + 0.08 * (image - cv2.GaussianBlur(image, (0, 0), 40)) + rng.normal(0, 2, SHAPE), 0, 255)
    faint = faint.astype(np.uint8)
    assert len(segmented(faint, sensitivity=0.3)) < len(segmented(faint, sensitivity=2.0))


def test_a_cell_cut_by_the_border_is_marked():
    image = drawn("bright field", np.random.default_rng(7), cells=((150, 4, 8.0), (150, 200, 8.0)))
    cells = segmented(image)
    assert sorted(cells.touches_edge.tolist()) == [False, True]


# ---- the segmenter on rehearsed fields


@dataclass
class Score:
    true: int = 0
    found: int = 0
    masks: int = 0
    right: int = 0


def score(cells, rows):
    """One to one, nearest first: a mask's centre within the true cell's radius."""
    truth = np.array([(row.y_px, row.x_px, row.radius_px) for row in rows])
    apart = np.hypot(*(cells.centroids_px[:, None, axis] - truth[None, :, axis] for axis in (0, 1))) / truth[:, 2]
    taken_mask, taken_cell = set(), set()
    for mask, cell in np.argwhere(apart < 1)[np.argsort(apart[apart < 1], kind="stable")].tolist():
        if mask not in taken_mask and cell not in taken_cell:
            taken_mask.add(mask)
            taken_cell.add(cell)
    inner = {int(mask) for mask in np.flatnonzero(~cells.touches_edge)}
    wanted = {index for index, row in enumerate(rows) if row.detectable}
    return Score(len(wanted), len(wanted & taken_cell), len(inner), len(inner & taken_mask))


@pytest.mark.parametrize("kind", ["gen5", "nanolive"])
def test_rehearsed_cells_are_found(kind):
    assay = Assay(seed=11, kind=kind, timepoints=7, wells=("A1", "B1"), treated=("B1",), defocus_rate=0, bubble_rate=0)
    render = optics.bright_field if kind == "gen5" else holotomography.refractive_index
    scenes = [scene for scene in simulate(assay) if scene.timepoint % 3 == 0]
    pictures = [render(scene, assay.optics).astype(np.float32) for scene in scenes]
    low, high = (1.33, 1.40) if kind == "nanolive" else np.percentile(np.stack(pictures), (0.1, 99.9))
    segmenter, um = opencv_segmenter(config.Segment()), assay.micrometres_a_pixel
    total = Score()
    for scene, picture in zip(scenes, pictures, strict=True):
        image = np.rint(np.clip((picture - low) / (high - low) * 255, 0, 255)).astype(np.uint8)
        cells = cells_from_labels(segmenter(image, um), image.shape, (um, um))
        one = score(cells, cell_rows(scene, assay.frame_shape, um, assay.mitosis))
        for name in ("true", "found", "masks", "right"):
            setattr(total, name, getattr(total, name) + getattr(one, name))
    assert total.found / total.true >= 0.9
    assert total.right / total.masks >= 0.9
