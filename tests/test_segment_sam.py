"""SAM as a segmenter: its pure parts against slow twins, tiles, prompts, the choice of masks, and a whole segmentation.

The model behind the whole segmentations is `segmenter_fixtures`: tiny ONNX graphs run by the real session. The real
MobileSAM's own figures are in test_segment_mobile_sam.py.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellvigil import config
from cellvigil.bundle.segmenter import open_segmenter
from cellvigil.segment import opencv_segmenter
from cellvigil.segment.sam import MARGIN, sam_segmenter
from cellvigil.segment.sam_choice import Limits, best_boxes, best_masks, from_boxes, from_grid, painted, shared
from cellvigil.segment.sam_masks import Mask, cut_out, largest_piece, on_frame, trimmed, without_holes
from cellvigil.segment.sam_prompts import box_prompts, boxes_of, grid_prompts
from cellvigil.segment.sam_session import open_sam
from cellvigil.segment.sam_tiles import LEAST_CELL, owner, picture_of, tiles_of, to_picture
from segmenter_fixtures import SIDE, segmenter_bundle

bits = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))


# ---- slow twins


def lines_slowly(lines, wanted):
    """Lines (n, m) as (wanted, m): each the mean of those near it, weighed by a triangle as wide as the step."""
    step = len(lines) / wanted
    wide = max(step, 1.0)
    made = []
    for place in range(wanted):
        weights = [max(0.0, 1 - abs((line + 0.5) - (place + 0.5) * step) / wide) for line in range(len(lines))]
        made.append(sum(weight * line for weight, line in zip(weights, lines, strict=True)) / sum(weights))
    return np.array(made)


def pieces_slowly(there):
    """Every connected piece (by sides) as a set of places."""
    left = {tuple(place) for place in np.argwhere(there).tolist()}
    found = []
    while left:
        edge, piece = [left.pop()], set()
        while edge:
            y, x = edge.pop()
            piece.add((y, x))
            for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if near in left:
                    left.remove(near)
                    edge.append(near)
        found.append(piece)
    return found


def bilinear_slowly(logits, y, x):
    """One value between the four around it, held at the border."""
    rows, columns = logits.shape
    y, x = min(max(y, 0.0), rows - 1), min(max(x, 0.0), columns - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
    upper = logits[top, left] * (1 - (x - left)) + logits[top, right] * (x - left)
    lower = logits[bottom, left] * (1 - (x - left)) + logits[bottom, right] * (x - left)
    return upper * (1 - (y - top)) + lower * (y - top)


def suppressed_slowly(masks, max_overlap, overlap):
    """Greedy: the best that is left stands, and takes away what overlaps it by more."""
    left, kept = sorted(masks, key=lambda mask: -mask.quality), []
    while left:
        best, *left = left
        kept.append(best)
        left = [mask for mask in left if overlap(best, mask) <= max_overlap]
    return kept


def places_of(mask):
    return {(int(y) + mask.box[0], int(x) + mask.box[1]) for y, x in np.argwhere(mask.bits)}


@st.composite
def some_masks(draw, most=8, side=14):
    """Masks of rectangles with bites out of them, no two of one quality."""
    masks = []
    qualities = draw(st.permutations(range(most)))
    for number in range(draw(st.integers(0, most))):
        y, x = draw(st.integers(0, side - 2)), draw(st.integers(0, side - 2))
        height, width = draw(st.integers(1, side - y)), draw(st.integers(1, side - x))
        there = draw(hnp.arrays(np.bool_, (height, width), elements=st.sampled_from([True, True, True, False])))
        mask = trimmed((y, x, y + height, x + width), there, (qualities[number] + 1) / 10, 1.0)
        if mask is not None:
            masks.append(mask)
    return masks


# ---- masks


@given(bits)
def test_the_largest_piece_is_kept_and_nothing_else(there):
    kept = {tuple(place) for place in np.argwhere(largest_piece(there)).tolist()}
    pieces = pieces_slowly(there)
    assert kept in (pieces or [set()])
    assert len(kept) == max((len(piece) for piece in pieces), default=0)


@given(bits, st.integers(1, 12))
def test_small_holes_are_filled_and_bays_are_not(there, largest):
    open_ground = np.pad(~there, 1, constant_values=True)
    expected = there.copy()
    for piece in pieces_slowly(open_ground):
        if (0, 0) not in piece and len(piece) < largest:
            for y, x in piece:
                expected[y - 1, x - 1] = True
    np.testing.assert_array_equal(without_holes(there, largest), expected)


@settings(max_examples=30)
@given(
    hnp.arrays(np.float32, (6, 7), elements=st.floats(-8, 8, width=32)),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([0.6, 1.0, 2.5]),
)
def test_a_mask_on_the_frame_is_what_interpolating_each_pixel_gives(logits, height, width, scale):
    tile = tiles_of((height, width), 1e9, 28)[0]
    tile = replace(tile, rows=24, columns=28, scale=scale)
    box = (height // 3, width // 4, height, width)
    fine = on_frame(logits, tile, box)
    for y in range(box[0], box[2]):
        for x in range(box[1], box[3]):
            v, u = (y + 0.5) * 24 / height / 4 - 0.5, (x + 0.5) * 28 / width / 4 - 0.5
            assert fine[y - box[0], x - box[1]] == pytest.approx(bilinear_slowly(logits, v, u), abs=1e-4)


@given(hnp.arrays(np.float32, (8, 8), elements=st.floats(-4, 4, width=32)), st.integers(3, 50), st.integers(3, 50))
def test_a_mask_is_cut_out_whole_with_its_stability(logits, height, width):
    """Cutting out must change nothing: as if the whole frame were interpolated and measured."""
    tile = tiles_of((height, width), 1e9, 32)[0]
    mask = cut_out(logits, 0.9, tile, (height, width))
    whole = on_frame(logits[: -(-tile.rows // 4), : -(-tile.columns // 4)], tile, (0, 0, height, width))
    kept = largest_piece(whole > 0)
    if mask is None:
        assert not (whole > 0).any()
        return
    assert places_of(mask) == {tuple(place) for place in np.argwhere(kept).tolist()} or mask.area == kept.sum()
    assert mask.area == kept.sum() == mask.bits.sum()
    assert mask.stability == pytest.approx((whole > 1).sum() / max((whole > -1).sum(), 1))
    assert mask.bits.any(axis=1)[[0, -1]].all()
    assert mask.bits.any(axis=0)[[0, -1]].all()


def test_a_sharp_mask_is_stable_and_a_soft_one_is_not():
    y, x = np.mgrid[:32, :32]
    away = np.hypot(y - 15.5, x - 15.5)
    tile = tiles_of((128, 128), 1e9, 128)[0]
    sharp, soft = (cut_out((10 - away).astype(np.float32) * slope, 0.9, tile, (128, 128)) for slope in (20.0, 0.2))
    assert sharp is not None
    assert soft is not None
    assert sharp.stability > 0.95 > soft.stability
    assert sharp.area == pytest.approx(np.pi * 40**2, rel=0.03)


# ---- which masks stand


@given(some_masks(), st.sampled_from([0.0, 0.3, 0.7, 1.0]))
def test_of_two_boxes_that_overlap_the_better_stands(masks, max_overlap):
    def overlap(one, other):
        (a, b, c, d), (e, f, g, h) = one.box, other.box
        both = max(0, min(c, g) - max(a, e)) * max(0, min(d, h) - max(b, f))
        return np.float32(both) / np.float32((c - a) * (d - b) + (g - e) * (h - f) - both)

    assert best_boxes(masks, max_overlap) == suppressed_slowly(masks, max_overlap, overlap)


@given(some_masks(), st.sampled_from([0.0, 0.3, 0.7, 1.0]))
def test_of_two_masks_that_share_pixels_the_better_stands(masks, max_overlap):
    def overlap(one, other):
        return len(places_of(one) & places_of(other)) / min(one.area, other.area)

    assert best_masks(masks, max_overlap) == suppressed_slowly(masks, max_overlap, overlap)


@given(some_masks(most=2))
def test_shared_pixels_are_counted(masks):
    for one in masks:
        for other in masks:
            assert shared(one, other) == len(places_of(one) & places_of(other))


@given(some_masks())
def test_where_masks_overlap_the_better_is_seen(masks):
    labels = painted(enumerate(masks, start=1), (16, 16))
    for y, x in np.ndindex(16, 16):
        over = [number for number, mask in enumerate(masks, start=1) if (y, x) in places_of(mask)]
        expected = max(over, key=lambda number: masks[number - 1].quality, default=0)
        assert labels[y, x] == expected


ANY = Limits(min_iou=0.0, min_stability=0.0, min_area=1, max_area=1e9, max_overlap=0.7)


@given(some_masks(), st.floats(0, 1), st.integers(1, 40))
def test_a_grid_s_labels_are_whole_cells_within_the_limits(masks, min_iou, min_area):
    limits = replace(ANY, min_iou=min_iou, min_area=min_area)
    labels = from_grid(masks, (16, 16), limits)
    admitted = [mask for mask in masks if mask.iou >= min_iou and mask.area >= min_area]
    assert len(np.unique(labels[labels > 0])) <= len(admitted)
    for label in np.unique(labels[labels > 0]):
        mine = {tuple(place) for place in np.argwhere(labels == label).tolist()}
        assert len(pieces_slowly(labels == label)) == 1
        assert len(mine) >= min_area
        assert any(mine <= places_of(mask) for mask in admitted)


@st.composite
def cells_and_answers(draw):
    """A label image with gaps in its numbers, and an answer, good or bad or none, for each label."""
    labels = draw(hnp.arrays(np.int32, (14, 14), elements=st.sampled_from([0, 0, 1, 2, 3, 5])))
    masks = [draw(some_masks(most=1, side=14)) for _ in range(int(labels.max(initial=0)))]
    return labels, [
        replace(mask[0], iou=draw(st.sampled_from([0.5, 0.9, 0.95])), stability=draw(st.sampled_from([0.8, 0.97])))
        if mask
        else None
        for mask in masks
    ]


@given(cells_and_answers(), st.integers(1, 30), st.sampled_from([0.0, 0.3, 0.7]))
def test_every_cell_keeps_one_outline_s_a_or_its_own(given_, min_area, max_overlap):
    """Nothing is lost and nothing made up, whatever SAM answers; a refused cell keeps its own outline to the pixel."""
    cells, masks = given_
    limits = Limits(0.88, 0.95, min_area, 100, max_overlap)
    before = cells.copy()
    labels = from_boxes(masks, cells, limits)
    np.testing.assert_array_equal(cells, before)
    assert set(np.unique(labels)) - {0} == set(np.unique(cells)) - {0}
    for label in set(np.unique(cells).tolist()) - {0}:
        mask, mine = masks[label - 1], labels == label
        if mask is None or not limits.admit(mask):
            np.testing.assert_array_equal(mine, cells == label)
        elif not np.array_equal(mine, cells == label):
            seen = {tuple(place) for place in np.argwhere(mine).tolist()}
            assert seen <= places_of(mask)
            assert len(seen) >= max((1 - max_overlap) * mask.area, min_area)
            assert len(pieces_slowly(mine)) == 1


def test_two_cells_that_answer_with_one_mask_stay_two():
    cells = np.zeros((20, 20), np.int32)
    cells[4:10, 4:10], cells[4:10, 10:16] = 1, 2
    both = Mask((4, 4, 10, 16), np.ones((6, 12), np.bool_), 0.9, 1.0, 72)
    labels = from_boxes([both, replace(both, iou=0.95)], cells, replace(ANY, min_area=4))
    assert {1, 2} <= set(np.unique(labels).tolist())
    np.testing.assert_array_equal(labels == 1, cells == 1)


# ---- tiles and prompts


@given(st.integers(1, 3000), st.integers(1, 3000), st.floats(2, 400))
def test_tiles_cover_the_frame_and_hold_each_cell_whole(height, width, diameter):
    tiles = tiles_of((height, width), diameter, 1024)
    for tile in tiles:
        assert 0 <= tile.y <= tile.y + tile.height <= height
        assert 0 <= tile.x <= tile.x + tile.width <= width
        assert 1 <= tile.rows <= 1024
        assert 1 <= tile.columns <= 1024
        assert diameter * tile.scale >= LEAST_CELL - 1e-6 or max(height, width) == 1
    for y, x in np.random.default_rng(0).uniform(0, (height, width), (20, 2)).tolist():
        home = tiles[owner(tiles, y, x)]
        inside = home.depth(y, x)
        assert inside >= 0
        # Deep enough for the cell around it, unless the frame itself ends there.
        if len(tiles) > 1:
            ends = min(y, height - y, x, width - x)
            assert inside >= min(ends, diameter, home.height / 4, home.width / 4) - 2


def test_a_frame_of_large_cells_is_one_picture_its_longer_side_the_whole_width():
    (tile,) = tiles_of((904, 1224), 56, 1024)
    assert (tile.rows, tile.columns) == (756, 1024)
    assert len(tiles_of((904, 1224), 20, 1024)) > 1


def test_a_picture_is_grey_in_three_channels_and_black_beyond():
    image = np.random.default_rng(1).integers(1, 256, (60, 90), dtype=np.uint8)
    (tile,) = tiles_of(image.shape, 1e9, 90)
    picture = picture_of(image, tile, 90)
    assert picture.shape == (90, 90, 3)
    np.testing.assert_array_equal(picture[:60], np.repeat(image[..., None], 3, axis=2))
    assert not picture[60:].any()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.floats(20, 90), st.integers(0, 9))
def test_a_picture_is_the_tile_resized_as_slow_weighing_does(height, width, diameter, seed):
    """Bilinear, and antialiased where it is made smaller: SAM's image processor. At most one grey level apart."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    for tile in tiles_of(image.shape, diameter, 32)[:2]:
        part = image[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width].astype(float)
        wanted = lines_slowly(lines_slowly(part, tile.rows).T, tile.columns).T
        picture = picture_of(image, tile, 32).astype(float)
        assert np.abs(picture[: tile.rows, : tile.columns] - wanted[..., None]).max() <= 1.0 + 1e-6
        assert not picture[tile.rows :].any()
        assert not picture[:, tile.columns :].any()


@given(st.integers(1, 3000), st.integers(1, 3000), st.floats(2, 400))
def test_each_tile_s_longer_side_is_the_whole_picture_s(height, width, diameter):
    """Of what the image processor would make of the tile: its longest side 1024, the other rounded half up."""
    for tile in tiles_of((height, width), diameter, 1024):
        scale = 1024 / max(tile.height, tile.width)
        assert (tile.rows, tile.columns) == tuple(max(1, int(n * scale + 0.5)) for n in (tile.height, tile.width))


@pytest.mark.parametrize(
    ("shape", "centre", "diameter"),
    [
        ((1021, 2048), (400.0, 1500.0), 300),
        ((904, 1224), (300.0, 700.0), 160),
        ((512, 512), (200.0, 310.0), 90),
        ((210, 300), (90.0, 140.0), 60),
        ((700, 900), (331.0, 512.0), 21),  # in tiles
    ],
)
def test_what_stands_in_the_picture_comes_back_to_where_it_was(shape, centre, diameter):
    """The picture's own brightness as logits: a disc is cut out where it lies in the frame, at its size."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    away = np.hypot(y + 0.5 - centre[0], x + 0.5 - centre[1])
    image = np.clip(128 + 120 * (diameter / 2 - away) / (diameter / 2), 0, 255).astype(np.uint8)
    tiles = tiles_of(shape, diameter, SIDE)
    assert (len(tiles) > 1) == (diameter == 21)
    tile = tiles[owner(tiles, *centre)]
    picture = picture_of(image, tile, SIDE)[..., 0].astype(np.float32)
    logits = (picture.reshape(SIDE // 4, 4, SIDE // 4, 4).mean(axis=(1, 3)) - 128) / 8
    mask = cut_out(logits, 0.9, tile, shape)
    assert mask is not None
    ys, xs = np.nonzero(mask.bits)
    found = (ys.mean() + mask.box[0] + 0.5, xs.mean() + mask.box[1] + 0.5)
    assert found == pytest.approx(centre, abs=0.02 * diameter)
    assert mask.area == pytest.approx(np.pi * diameter**2 / 4, rel=0.06)


@settings(max_examples=30)
@given(st.integers(20, 400), st.integers(20, 400), st.floats(8, 60))
def test_a_point_lies_in_the_picture_where_its_pixel_is(height, width, diameter):
    image = np.zeros((height, width), np.uint8)
    for tile in tiles_of((height, width), diameter, 128):
        y, x = tile.y + tile.height // 2, tile.x + tile.width // 3
        image[:] = 0
        image[y, x] = 255
        picture = picture_of(image, tile, 128)[..., 0].astype(float)
        at = to_picture(tile, np.array([x + 0.5, y + 0.5], np.float32))
        if picture.any():
            heavy = [(picture.sum(axis=axis) * np.arange(128)).sum() / picture.sum() for axis in (0, 1)]
            assert np.abs(at - heavy).max() <= max(1.0, tile.scale)


@given(hnp.arrays(np.int32, (9, 11), elements=st.integers(0, 5)))
def test_boxes_are_where_the_labels_are(labels):
    boxes = boxes_of(labels, 5)
    for label in range(1, 6):
        ys, xs = np.nonzero(labels == label)
        expected = (ys.min(), xs.min(), ys.max() + 1, xs.max() + 1) if len(ys) else (0, 0, 0, 0)
        assert tuple(boxes[label - 1]) == expected


def test_a_box_is_its_two_corners_within_the_frame():
    (tile,) = tiles_of((50, 100), 1e9, 200)
    prompts = box_prompts(np.array([[0, 10, 20, 40]], np.float32), tile, 5)
    np.testing.assert_allclose(prompts.points, [[[9.5, -0.5], [89.5, 49.5]]])
    np.testing.assert_array_equal(prompts.labels, [[2, 3]])


@settings(max_examples=30)
@given(st.integers(1, 900), st.integers(1, 900), st.integers(1, 12), st.floats(4, 100))
def test_the_points_of_all_tiles_together_cover_the_frame_once(height, width, side, diameter):
    tiles = tiles_of((height, width), diameter, 256)
    alone = grid_prompts(tiles[0], tiles[:1], side)
    assert len(alone) <= side * side
    assert max(len(np.unique(alone.points[:, 0, axis])) for axis in (0, 1)) == side
    np.testing.assert_array_equal(alone.labels, np.tile([1, -1], (len(alone), 1)))
    for tile in tiles:
        for x, y in grid_prompts(tile, tiles, side).points[:, 0].tolist():
            back_y = tile.y + (y + 0.5) * tile.height / tile.rows
            back_x = tile.x + (x + 0.5) * tile.width / tile.columns
            deepest = max(other.depth(back_y, back_x) for other in tiles)
            assert tile.depth(back_y, back_x) >= deepest - 0.01


# ---- whole segmentations


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return open_sam(open_segmenter(segmenter_bundle(tmp_path_factory.mktemp("toy"))), device="cpu", threads=1)


def disc_image(shape, centres, radius):
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.full(shape, 90, np.uint8)
    labels = np.zeros(shape, np.int32)
    for number, (cy, cx) in enumerate(centres, start=1):
        there = np.hypot(y - cy, x - cx) < radius
        image[there], labels[there] = 200, number
    return image, labels


def overlap_of(one, other):
    return (one & other).sum() / (one | other).sum()


@pytest.mark.parametrize(("shape", "radius"), [((300, 400), 20.0), ((200, 150), 12.0), ((700, 900), 8.0)])
def test_boxes_give_each_cell_an_outline_in_its_box(toy, shape, radius):
    """The model answers with the ellipse in each box; the last frame is cut into tiles."""
    rng = np.random.default_rng(5)
    places = [(y, x) for y in range(40, shape[0] - 40, 60) for x in range(40, shape[1] - 40, 60)]
    centres = [(y + rng.uniform(-5, 5), x + rng.uniform(-5, 5)) for y, x in places]
    image, truth = disc_image(shape, centres, radius)
    wanted = config.Segment(method="sam", cell_diameter_um=2 * radius, min_area_um2=20.0)
    assert (len(tiles_of(shape, 2 * radius, SIDE)) > 1) == (radius == 8.0)
    labels = sam_segmenter(wanted, toy, lambda _image, _um: truth)(image, 1.0)
    assert labels.shape == shape
    _, in_box = disc_image(shape, centres, radius * (1 + 2 * MARGIN))
    for number in range(1, len(centres) + 1):
        assert overlap_of(labels == number, in_box == number) > 0.85


def test_a_cell_that_its_tile_cuts_off_keeps_its_own_outline(toy):
    """SAM sees but a part of it; its outline would end in a straight line where the tile does."""
    shape, diameter = (700, 900), 16.0
    tiles = tiles_of(shape, diameter, SIDE)
    first = tiles[0]
    end = first.x + first.width  # of the first tile, inside the frame
    long, at_the_frame, small = 1, 2, 3
    cells = np.zeros(shape, np.int32)
    cells[90:102, end - 100 : end + 40] = long
    cells[0:16, 40:56] = at_the_frame
    cells[40:56, 110:126] = small
    assert end < shape[1]
    assert not any(tile.x <= end - 100 and end + 40 <= tile.x + tile.width for tile in tiles)
    wanted = config.Segment(method="sam", cell_diameter_um=diameter, min_area_um2=20.0, max_area_um2=5000.0)
    labels = sam_segmenter(wanted, toy, lambda _image, _um: cells)(np.full(shape, 128, np.uint8), 1.0)
    np.testing.assert_array_equal(labels == long, cells == long)
    for asked in (at_the_frame, small):  # the model's ellipses: the frame's own border cuts nothing off
        assert overlap_of(labels == asked, cells == asked) > 0.7
        assert not np.array_equal(labels == asked, cells == asked)


def test_labels_on_a_coarser_grid_are_brought_to_the_image_s(toy):
    image, truth = disc_image((200, 300), [(60, 60), (120, 200)], 24)
    wanted = config.Segment(method="sam", cell_diameter_um=48.0)
    coarse = np.ascontiguousarray(truth[::2, ::2])
    labels = sam_segmenter(wanted, toy, lambda _image, _um: coarse)(image, 1.0)
    assert labels.shape == image.shape
    _, in_box = disc_image((200, 300), [(60, 60), (120, 200)], 24 * (1 + 2 * MARGIN))
    for number in (1, 2):
        assert overlap_of(labels == number, in_box == number) > 0.85


@pytest.mark.parametrize("points", [4, 9])
def test_a_grid_finds_what_the_model_sees_once_each(toy, points):
    """The model sees a disc at every point: as many cells as points, where these lie apart."""
    image = np.full((320, 320), 128, np.uint8)
    sam = config.Sam(prompts="grid", points_per_side=points)
    wanted = config.Segment(method="sam", cell_diameter_um=26.0, min_area_um2=100.0, max_area_um2=400.0, sam=sam)
    labels = sam_segmenter(wanted, toy, opencv_segmenter(wanted))(image, 1.0)
    assert len(np.unique(labels)) - 1 == points * points
    areas = np.bincount(labels.ravel())[1:]
    np.testing.assert_allclose(areas[areas > 0], np.pi * (14 * 320 / 512) ** 2, rtol=0.1)


def test_an_image_without_cells_asks_nothing_and_has_none(toy):
    image = np.full((100, 120), 128, np.uint8)
    labels = sam_segmenter(config.Segment(method="sam"), toy, opencv_segmenter(config.Segment()))(image, 0.5)
    assert labels.shape == image.shape
    assert not labels.any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 300), (40, 3)])
@pytest.mark.parametrize("prompts", ["boxes", "grid"])
def test_odd_shapes_are_no_error(toy, shape, prompts):
    image = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    wanted = config.Segment(method="sam", sam=config.Sam(prompts=prompts, points_per_side=3))
    whole = np.ones(shape, np.int32)
    labels = sam_segmenter(wanted, toy, lambda _image, _um: whole)(image, 0.7)
    assert labels.shape == shape
    assert labels.dtype == np.int32


def test_the_same_image_gives_the_same_labels_and_stays_as_it_was(toy):
    image, truth = disc_image((200, 200), [(60, 60), (120, 130)], 20)
    image.flags.writeable = False
    run = sam_segmenter(config.Segment(method="sam", cell_diameter_um=40.0), toy, lambda _image, _um: truth)
    np.testing.assert_array_equal(run(image, 1.0), run(image, 1.0))
