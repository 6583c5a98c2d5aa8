from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from cellvigil.errors import UsageError
from cellvigil_indexes.aligning.sharing.common_axes import Common, common_axes, registered
from cellvigil_indexes.aligning.sharing.find import LOUVAIN, PAPER, SharingSettings, shared_classes
from cellvigil_indexes.aligning.sharing.mixture import mixture_of
from cellvigil_indexes.aligning.sharing.told import seen_alone
from cellvigil_indexes.bank import Bank

NAMES = ("one", "two", "three", "four", "five")
DIMENSIONS = 12


def middles():
    return np.random.default_rng(4).normal(size=(6, DIMENSIONS)) * 3


def cells(seed, counts, *, shift=0.0, stretch=1.0):
    """Vectors and class ids of made cells; class 5 is of no reference."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    vectors = middles()[labels] + rng.normal(size=(len(labels), DIMENSIONS))
    return ((vectors * stretch) + shift).astype(np.float32), labels


def reference(counts=(60, 60, 60, 60, 60), names=("a", "b")):
    labels = cells(0, counts)[1]
    blocks = {name: cells(seed, counts)[0] for seed, name in enumerate(names)}
    return Bank(NAMES, blocks, labels.astype(np.int16), np.zeros(len(labels), dtype=np.int32))


def target(counts, names=("a", "b"), seed=50, **how):
    return {name: cells(seed + number, counts, **how)[0] for number, name in enumerate(names)}, cells(0, counts)[1]


@pytest.mark.parametrize("method", [PAPER, LOUVAIN])
@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_three_of_five_classes_are_kept_under_a_shift(method, shift):
    blocks, _ = target((70, 0, 50, 0, 60), shift=shift, stretch=1.0 + shift / 4)
    found = shared_classes(reference(), blocks, SharingSettings(methods=(method,)))
    assert found.kept == ("one", "three", "five")
    assert found.dropped == ("two", "four")
    assert len(found.clusters.labels) == 180
    assert found.told["classes"]["two"]["seen_by"] == []


def test_the_letter_finds_them_where_nothing_is_shifted():
    blocks, _ = target((70, 0, 50, 0, 60))
    found = shared_classes(reference(), blocks, SharingSettings.letter())
    assert found.kept == ("one", "three", "five")


def test_clusters_of_a_class_that_the_reference_lacks_match_nothing():
    blocks, truth = target((60, 0, 60, 0, 60, 60))
    found = shared_classes(reference(), blocks)
    foreign = np.flatnonzero(truth == 5)
    assert np.isin(foreign, found.unmatched).mean() > 0.9
    assert np.isin(np.flatnonzero(truth != 5), found.unmatched).mean() < 0.1


def test_more_cells_than_a_subset_are_judged_by_several_runs():
    blocks, _ = target((300, 0, 200, 0, 12))
    settings = SharingSettings(subset=150, runs=4, least_share=None)
    found = shared_classes(reference(), blocks, settings)
    assert found.votes["one"] == found.votes["three"] == 1.0
    assert found.told["runs"] == 4
    assert len(found.clusters.labels) == 512
    assert all(rows.max() < 512 for rows in found.clusters.central)
    again = shared_classes(reference(), blocks, settings)
    assert again.votes == found.votes
    np.testing.assert_array_equal(again.clusters.labels, found.clusters.labels)


def test_a_class_too_small_for_a_cluster_is_kept_by_its_share():
    blocks, _ = target((120, 0, 120, 0, 8))
    assert "five" not in shared_classes(reference(), blocks, SharingSettings(least_share=None)).kept
    assert shared_classes(reference(), blocks).kept == ("one", "three", "five")


def test_the_mixture_gives_the_shares_under_a_shift():
    blocks, truth = target((120, 0, 60, 0, 20), shift=1.5)
    found = mixture_of(common_axes(blocks, reference(), ("a", "b"))).shares
    np.testing.assert_allclose(found, np.bincount(truth, minlength=5) / len(truth), atol=0.02)


def test_registering_takes_the_shift_out():
    blocks, truth = target((90, 0, 60, 0, 90), shift=3.0)
    common = common_axes(blocks, reference(), ("a", "b"))
    groups = np.unique(truth, return_inverse=True)[1].astype(np.int32)
    _, before = Common(common.target, common.reference).class_means()
    near = registered(common, groups, 3)
    _, means = near.class_means()
    away = [np.linalg.norm(near.together[truth == label].mean(axis=0) - means[label]) for label in (0, 2, 4)]
    apart = [np.linalg.norm(common.together[truth == label].mean(axis=0) - before[label]) for label in (0, 2, 4)]
    assert max(away) < 0.5 * max(apart)


@pytest.mark.parametrize("settings", [SharingSettings(), SharingSettings.letter()])
def test_a_target_of_one_class_keeps_it(settings):
    blocks, _ = target((0, 0, 80, 0, 0))
    found = shared_classes(reference(), blocks, settings)
    assert "three" in found.kept
    assert not [name for name in NAMES if name != "three" and found.told["classes"][name]["seen_by"]]


def test_where_one_class_alone_is_found_nothing_is_dropped():
    """Everything in one clump looks like that: two opinions that name one class agree whatever is there."""
    blocks, _ = target((0, 0, 80, 0, 0))
    found = shared_classes(reference(), blocks, SharingSettings(least_agreement=0.0))
    assert [name for name in NAMES if found.told["classes"][name]["seen_by"]] == ["three"]
    assert found.kept == NAMES
    assert found.dropped == ()
    assert "one class alone" in found.told["kept_whole"]
    assert len(found.unmatched) == 0
    assert seen_alone(found.told) == "three"
    assert "agree on 0%" in shared_classes(reference(), blocks).told["kept_whole"]


def test_a_class_is_seen_alone_only_where_there_are_others_to_see():
    blocks, _ = target((70, 0, 50, 0, 60))
    assert seen_alone(shared_classes(reference(), blocks).told) == ""
    assert seen_alone(shared_classes(reference((60, 0, 0, 0, 0)), blocks).told) == ""
    assert seen_alone({}) == ""


@pytest.mark.parametrize("settings", [SharingSettings(), SharingSettings.letter()])
def test_identical_cells_are_no_error_and_values_stay_finite(settings):
    blocks = {name: np.ones((40, DIMENSIONS), dtype=np.float32) for name in ("a", "b")}
    found = shared_classes(reference(), blocks, settings)
    assert np.isfinite(found.matches.probability).all()
    assert found.kept
    json.dumps(dict(found.told), allow_nan=False)


def test_one_encoder_is_enough():
    blocks, _ = target((70, 0, 50, 0, 60), names=("b",))
    found = shared_classes(reference(), blocks)
    assert found.kept == ("one", "three", "five")
    assert found.matches.encoders == ("b",)


def test_where_nothing_is_found_all_is_kept_and_told():
    blocks, _ = target((0, 0, 0, 0, 0, 60))
    settings = SharingSettings(least_share=None, matching=replace(SharingSettings().matching, least_probability=1.0))
    found = shared_classes(reference(), blocks, settings)
    assert found.kept == NAMES
    assert found.told["kept_whole"]


def test_where_the_two_opinions_disagree_nothing_is_dropped_nor_foreign():
    """A device that turns the space: its cells lie among the classes in a way that no shift explains."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(DIMENSIONS, DIMENSIONS)))[0]
    blocks = {name: (block @ turn).astype(np.float32) for name, block in target((60, 0, 60, 0, 60))[0].items()}
    free = shared_classes(reference(), blocks, SharingSettings(least_agreement=0.0))
    found = shared_classes(reference(), blocks)
    assert free.dropped
    assert found.told["confidence"] < 0.6
    assert found.kept == NAMES
    assert "agree" in found.told["kept_whole"]
    assert len(found.unmatched) == 0


def test_a_reference_of_one_class_is_kept():
    blocks, _ = target((70, 0, 50, 0, 60))
    found = shared_classes(reference((60, 0, 0, 0, 0)), blocks)
    assert found.kept == ("one",)
    assert found.told["kept_whole"]


def test_further_sets_are_taken_in():
    blocks, _ = target((70, 0, 50, 0, 60), shift=1.0)
    more = [target((40, 40, 40, 0, 40), seed=70, shift=-1.0)[0]]
    assert set(shared_classes(reference(), blocks, others=more).kept) >= {"one", "three", "five"}


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        (target((5, 0, 3))[0], "fewer than the 10"),
        ({"x": target((30, 30))[0]["a"]}, "none of the reference's encoders"),
    ],
)
def test_targets_that_cannot_be_judged_are_refused(blocks, words):
    with pytest.raises(UsageError, match=words):
        shared_classes(reference(), blocks)


@pytest.mark.parametrize("wrong", [{"methods": ()}, {"methods": ("kmeans",)}, {"space": "x"}, {"runs": 0}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(UsageError):
        SharingSettings(**wrong)
