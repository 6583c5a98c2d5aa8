"""What an index knows of its certainty: fitted on cells held out, kept in the manifest, and true of new cells."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from cellvigil import decide
from cellvigil.bundle.index import ReferenceCell, open_index
from cellvigil.data import ImageRule
from cellvigil.errors import UsageError
from cellvigil.neighbours import ExactSearch
from cellvigil_indexes.calibrating import logistic
from cellvigil_indexes.collected import Collected
from cellvigil_indexes.draft import Draft
from cellvigil_indexes.measures.coverage import coverage
from cellvigil_indexes.measures.reliability import reliability
from cellvigil_indexes.setaside import split, wanted
from cellvigil_indexes.settings import IndexSettings
from cellvigil_indexes.writing import write_index

CLASSES = ("live", "dying", "dead")
MEANS = np.random.default_rng(2).normal(size=(3, 8)).astype(np.float32)


def blobs(counts, *, seed, groups=None, far=0.0):
    """Labelled cells of overlapping classes; each its own group unless `groups` says how many there are."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(3), counts))
    vectors = (MEANS[labels] + rng.normal(size=(len(labels), 8)) + far).astype(np.float32)
    named = [str(i if groups is None else i % groups) for i in range(len(labels))]
    cells = [
        ReferenceCell(CLASSES[label], f"{i}.png", (0, 0, 9, 9), group)
        for i, (label, group) in enumerate(zip(labels, named, strict=True))
    ]
    return labels, Collected(cells, {"e": vectors}, np.zeros((len(labels), 64, 64, 1), np.uint8))


def written(folder, collected, *, share=0.1, **chosen):
    rules = IndexSettings(**{"k_max": 48, **chosen})
    kept, aside = split(collected, CLASSES, share, k_min=rules.k_min)
    groups = dict.fromkeys(CLASSES, "none")
    write_index(folder, Draft(kept, aside, groups, {"e": "0" * 64}, ["e"], ImageRule(), rules, {}))
    return open_index(folder)


def called(index, vectors, **kwargs):
    rule = decide.Settings.of(index)
    near = ExactSearch.over(index).nearest({"e": vectors}, decide.neighbours_needed(index, rule))
    return decide.call(near.ids, near.distances, index, rule, **kwargs)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    _, collected = blobs((600, 300, 190), seed=1, groups=300)
    return written(tmp_path_factory.mktemp("calibrated") / "index", collected)


@pytest.fixture(scope="module")
def fresh(index):
    """New cells of the same classes in the same proportions, and what the index calls them."""
    labels, collected = blobs((1200, 600, 380), seed=99)
    return labels, called(index, collected.embeddings["e"], rejection=decide.Rejection(same_device=True))


def test_the_probability_holds_for_new_cells(fresh):
    labels, calls = fresh
    best = calls.probabilities[np.arange(len(labels)), calls.best_ids].astype(float)
    found = reliability(best, calls.best_ids == labels)
    assert found.error < 0.07  # the fit itself rests on 980 cells, a fifth of them wrong
    assert 0.6 < found.accuracy < 0.95  # else there would be nothing to tell apart
    assert calls.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert (calls.probabilities >= 0).all()


def test_the_sets_hold_the_true_class_as_promised(index, fresh):
    labels, calls = fresh
    scores = index.calibration.conformal
    cells = [len(each) for each in scores.by_class]
    assert min(cells) >= 9
    found = coverage(calls.conformal_set, labels, CLASSES)
    for name, n in zip(CLASSES, cells, strict=True):  # one draw of n cells: a beta variable
        deviation = np.sqrt(0.9 * 0.1 / (n + 2))
        assert 0.9 - 4 * deviation < found.by_class[name].covered < 0.9 + 1 / (n + 1) + 4 * deviation
    assert 1 < found.mean_size < 3


def test_what_was_measured_is_kept_in_the_manifest(index):
    kept = json.loads((index.folder / "manifest.json").read_text())["calibration"]["measured"]
    assert kept["confidence"]["out_of_fold"]["error"] < 0.1
    assert kept["confidence"]["cells"] == len(index)
    assert kept["conformal"]["promise"] == 0.9
    assert 0.8 < kept["conformal"]["measured"]["covered"] <= 1
    assert set(kept["conformal"]["measured"]["by_class"]) == set(CLASSES)
    assert kept["conformal"]["promised_a_class"] == list(CLASSES)
    assert kept["novelty"]["set_aside"]["rejected"] < 0.05


def test_novel_cells_are_rejected_on_the_own_device_only(index, fresh):
    _, calls = fresh
    assert np.mean(calls.unknown) < 0.03  # 1 in 100 of each class, give or take
    _, strange = blobs((20, 20, 20), seed=7, far=9.0)
    at_home = called(index, strange.embeddings["e"], rejection=decide.Rejection(same_device=True))
    assert at_home.unknown.all()
    assert set(at_home.unknown_reason) == {"novel"}
    abroad = called(index, strange.embeddings["e"])
    assert not abroad.unknown.any()
    np.testing.assert_array_equal(abroad.novelty_p, at_home.novelty_p)


def test_a_call_does_not_depend_on_its_batch(index):
    _, cells = blobs((30, 20, 10), seed=3)
    vectors = cells.embeddings["e"]
    whole = called(index, vectors)
    for row in (0, 17, 59):
        alone = called(index, vectors[row : row + 1])
        np.testing.assert_array_equal(alone.probabilities[0], whole.probabilities[row])
        np.testing.assert_array_equal(alone.conformal_set[0], whole.conformal_set[row])


@pytest.mark.parametrize(
    ("counts", "groups", "said"),
    [
        ((20, 15, 10), None, {"confidence": "45 reference cells in 45 groups; it takes 100 in 10"}),
        ((80, 60, 40), 5, {"confidence": "in 5 groups; it takes 100 in 10"}),
        ((20, 15, 10), 1, {"confidence": "other groups have too few cells"}),
    ],
)
def test_too_few_cells_calibrate_nothing_and_say_why(tmp_path, counts, groups, said):
    _, collected = blobs(counts, seed=1, groups=groups)
    found = written(tmp_path / "index", collected, share=0.0).calibration
    assert (found.confidence, found.conformal, found.novel_below) == (None, None, None)
    assert said["confidence"] in found.measured["confidence"]["why_not"]
    assert found.measured["conformal"]["why_not"] == "no cells were set aside"
    assert "no class has the cells" in found.measured["novelty"]["why_not"]


def test_an_index_that_is_never_wrong_has_no_probability(tmp_path):
    labels, collected = blobs((60, 60, 60), seed=1)
    apart = Collected(collected.cells, {"e": np.eye(3, 8, dtype=np.float32)[labels]}, collected.thumbnails)
    found = written(tmp_path / "index", apart).calibration
    assert found.confidence is None
    assert "all of the" in found.measured["confidence"]["why_not"]


def test_deep_votes_do_not_lean_against_the_own_class(tmp_path):
    """Left out of its own class, a cell would see k = N - 1 votes with one of its own class missing."""
    _, collected = blobs((60, 60, 60), seed=4)
    index = written(tmp_path / "index", collected, share=0.0, k_min=30, k_max=1000, threshold=0.0)
    assert index.calibration.measured["confidence"]["right"] > 90  # chance is 60


def test_more_share_never_lowers_the_probability_and_more_novelty_never_raises_it(index):
    confidence = index.calibration.confidence
    share, p = (each.ravel() for each in np.meshgrid(np.linspace(0.2, 1, 50), np.linspace(0.002, 1, 50)))
    for k in (3, 12, 48):
        known = decide.features(share, np.full(share.size, k), p, index.k_min)
        right = decide.probability_right(confidence, known).reshape(50, 50)
        assert (np.diff(right, axis=0) >= 0).all()  # along novelty_p
        assert (np.diff(right, axis=1) >= 0).all()  # along the share
        assert ((right > 0) & (right < 1)).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4))
def test_the_signs_hold_whatever_the_cells_say(seed, wrong_way):
    """Even where a larger share means more mistakes: then it counts for nothing."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(200, 3))
    right = rng.random(200) < 1 / (1 + np.exp(wrong_way * features[:, 0] - features[:, 2]))
    _, weights = logistic.fit(features, right, not_negative=[0, 2])
    assert weights[0] == 0
    assert weights[2] >= 0


def test_the_fit_is_that_of_scikit_learn_where_no_sign_is_in_the_way():
    rng = np.random.default_rng(8)
    features = rng.normal(size=(400, 3)) * [1, 5, 0.1] + [2, -7, 0]
    right = rng.random(400) < 1 / (1 + np.exp(-(features - [2, -7, 0]) @ [1.5, 0.3, -6]))
    intercept, weights = logistic.fit(features, right, not_negative=[0])
    spread = features.std(axis=0)
    twin = LogisticRegression(C=1 / logistic.RIDGE, tol=1e-10, max_iter=1000)
    twin.fit((features - features.mean(axis=0)) / spread, right)
    assert weights == pytest.approx(twin.coef_[0] / spread, rel=1e-4)
    own = twin.intercept_[0] - float((twin.coef_[0] / spread) @ features.mean(axis=0))
    assert intercept == pytest.approx(own, rel=1e-4)


def test_a_fit_needs_right_and_wrong_cells():
    with pytest.raises(ValueError, match="all or none"):
        logistic.fit(np.ones((5, 1)), np.ones(5, dtype=bool), [])


@pytest.mark.parametrize(
    ("cells", "share", "aside"),
    [
        (220, 0.1, 19),  # 22: nearer to 19 than to 29
        (90, 0.1, 9),
        (45, 0.1, 9),  # 4.5: half of 9
        (40, 0.1, 4),  # its share only: compared together with other small classes
        (10, 0.1, 1),
        (3, 0.1, 0),
        (1000, 0.3, 299),
        (10**6, 0.1, 999),
    ],
)
def test_how_many_of_a_class_are_set_aside(cells, share, aside):
    assert wanted(cells, share) == aside


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(1, 60)] * 3), st.integers(1, 40), st.sampled_from([0.0, 0.1, 0.3]), st.integers(2, 6))
def test_setting_aside_parts_whole_groups_and_leaves_references(counts, groups, share, k_min):
    labels, collected = blobs(counts, seed=sum(counts), groups=groups)
    kept, aside = split(collected, CLASSES, share, k_min=k_min)
    there = [] if aside is None else [cell.image for cell in aside.cells]
    assert sorted([cell.image for cell in kept.cells] + there) == sorted(cell.image for cell in collected.cells)
    if aside is None:
        return
    assert share > 0
    assert len(aside) >= 9
    assert not {cell.group for cell in kept.cells} & {cell.group for cell in aside.cells}
    for class_id, name in enumerate(CLASSES):
        left = sum(cell.class_name == name for cell in kept.cells)
        assert left >= k_min or left == np.count_nonzero(labels == class_id)
    for part in (kept, aside):
        rows = [int(cell.image.removesuffix(".png")) for cell in part.cells]
        assert rows == sorted(rows)
        np.testing.assert_array_equal(part.embeddings["e"], collected.embeddings["e"][rows])


def test_single_cells_are_set_aside_by_class_and_whatever_their_vectors():
    _, collected = blobs((220, 90, 90), seed=1)
    other = Collected(collected.cells, {"e": -collected.embeddings["e"]}, collected.thumbnails)
    _, aside = split(collected, CLASSES, 0.1, k_min=3)
    assert [sum(cell.class_name == name for cell in aside.cells) for name in CLASSES] == [19, 9, 9]
    assert split(other, CLASSES, 0.1, k_min=3)[1].cells == aside.cells
    assert split(collected, CLASSES, 0.1, seed=1, k_min=3)[1].cells != aside.cells


@pytest.mark.parametrize("share", [1.0, -0.1, 2.0])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(UsageError, match="share"):
        split(blobs((20, 20, 20), seed=1)[1], CLASSES, share, k_min=3)
