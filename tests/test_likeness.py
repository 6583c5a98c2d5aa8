"""Near-copies among pictures of cells: found where they are, and only there."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellvigil.data import Fit, ImageRule, IntensityRule
from cellvigil_indexes.inputs import leaks, likeness
from cellvigil_indexes.inputs.coco import read_coco
from cellvigil_indexes.inputs.folders import read_folders
from cellvigil_indexes.inputs.pictures import picture_rule, pictures
from cellvigil_indexes.inputs.scene import pixels_of
from index_fixtures import draw, ground


def cells(count: int, *, seed: int = 0, states=("live", "dead")) -> np.ndarray:
    """Drawn cells with ground of their own, (n, 64, 64, 1)."""
    found = []
    for number in range(count):
        canvas = ground((64, 64), seed + number)
        draw(canvas, states[number % len(states)], 32, 32)
        rng = np.random.default_rng(seed + number)
        for y, x in rng.integers(5, 59, (6, 2)).tolist():
            cv2.circle(canvas, (x, y), 4, int(rng.integers(0, 255)), -1)
        found.append(canvas)
    return np.stack(found)[..., None]


def saved_again(picture: np.ndarray, quality: int) -> np.ndarray:
    _, data = cv2.imencode(".jpg", picture[..., 0], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)[..., None]


def test_copies_are_found_whatever_was_done_to_them():
    own = cells(12)
    brighter = np.clip(own[3] * 0.8 + 30, 0, 255).astype(np.uint8)
    larger = cv2.resize(cv2.resize(own[4], (90, 90)), (64, 64))[..., None]
    both = np.concatenate([own, [saved_again(own[2], 70), brighter, larger, own[5]]])
    assert likeness.copies(both).tolist() == [[2, 12], [3, 13], [4, 14], [5, 15]]
    colour = np.repeat(both, 3, axis=3)
    assert likeness.copies(colour).tolist() == likeness.copies(both).tolist()


def test_cells_on_empty_ground_are_no_copies_though_they_share_a_hash():
    """Two smooth blobs differ in hardly a bit of the hash; the small pictures tell them apart."""
    y, x = np.mgrid[:64, :64] - 32
    blobs = [np.exp(-(y**2 + x**2) / (2 * width**2)) for width in (5.0, 8.0)]
    two = np.stack([(100 + 120 * blob).astype(np.uint8) for blob in blobs])[..., None]
    assert len(likeness.pairs(likeness.hashes(two), 16)) == 1
    assert len(likeness.copies(two)) == 0


def test_flat_pictures_are_like_nothing_and_none_is_fine():
    assert len(likeness.copies(np.full((5, 64, 64, 1), 90, np.uint8))) == 0
    assert likeness.copies(np.empty((0, 64, 64, 3), np.uint8)).shape == (0, 2)


def slow_pairs(codes: list[int], within: int) -> list[list[int]]:
    return [
        [first, second]
        for first in range(len(codes))
        for second in range(first + 1, len(codes))
        if (codes[first] ^ codes[second]).bit_count() <= within
    ]


@st.composite
def near_hashes(draw_from):
    """Hashes of which many differ in a few bits."""
    base = draw_from(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
    flips = st.lists(st.integers(0, 63), max_size=6)
    made = draw_from(st.lists(st.tuples(st.sampled_from(base), flips), max_size=40))
    return [code ^ sum({1 << bit for bit in bits}) for code, bits in made]


@pytest.mark.parametrize("exact", [20_000, 0], ids=["all", "bands"])
@settings(max_examples=60, deadline=None)
@given(codes=near_hashes(), within=st.integers(0, 8))
def test_pairs_are_those_of_the_slow_way(exact, codes, within):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likeness, "_EXACT", exact)
        patch.setattr(likeness, "_BLOCK", 7)
        found = likeness.pairs(np.array(codes, dtype=np.uint64), within)
    assert found.tolist() == slow_pairs(codes, within)


def test_the_first_of_a_cluster_stays_and_so_does_what_is_no_copy_of_it():
    chain = np.array([[0, 1], [1, 2], [3, 4]])
    assert likeness.firsts(chain, list("aaaaa")).tolist() == [True, False, True, True, False]
    assert likeness.firsts(chain, list("aaabc")).tolist() == [True, False, True, True, True]
    assert likeness.firsts(np.empty((0, 2), int), list("ab")).tolist() == [True, True]


def test_pairs_across_groups_and_against_labels():
    pairs = np.array([[0, 1], [1, 2], [2, 3]])
    assert likeness.straddling(pairs, ["p", "p", "q", "q"]).tolist() == [[1, 2]]
    assert likeness.conflicting(pairs, ["live", "dead", "dead", "dead"]).tolist() == [[0, 1]]


def real_cells(found, rule, pixel_um):
    how = picture_rule(rule, found.images, pixel_um)
    made = [(i.name, pictures(i, pixels_of(i), how, [Fit(64)])[Fit(64)]) for i in found.images if i.cells]
    return [name for name, each in made for _ in each], np.concatenate([each for _, each in made])


def test_copies_among_real_cells(real_images):
    """`livedead` holds six pairs of one cell in two fields (looked at one by one); the 30 um crops show little else."""
    found = read_coco(real_images / "livedead" / "annotations.coco.json")
    rule = ImageRule(pixel_size_um=0.75, crop_um=30.0, intensity=IntensityRule("full"))
    names, made = real_cells(found, rule, 0.75)
    pairs = likeness.copies(made)
    assert {frozenset((names[a], names[b])) for a, b in pairs.tolist()} == {
        frozenset((f"b_b_({a}).png", f"b_b_({b}).png")) for a, b in ((831, 856), (1911, 878), (1900, 1897), (715, 740))
    }
    assert len(pairs) == 6
    assert len(likeness.pairs(likeness.hashes(made), 0)) > 15, "the hash alone would merge different cells"


def test_no_two_real_blood_cells_are_copies(real_images):
    found = read_folders(real_images / "pbc")
    found = replace(found, images=found.images[::3])
    rule = ImageRule(intensity=IntensityRule("full"), colour="rgb", frame_normalised=False)
    names, made = real_cells(found, rule, None)
    assert len(names) == 457
    assert len(likeness.copies(made)) == 0


def test_too_many_cells_to_compare_is_not_none_found(monkeypatch):
    monkeypatch.setattr(leaks, "_MOST", 5)
    pictures = np.zeros((4, 64, 64, 1), np.uint8)
    assert leaks.between(pictures, pictures) is None
