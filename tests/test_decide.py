"""The vote, worked by hand from the paper's formulas and against a slow twin in exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellvigil import decide
from cellvigil.bundle.calibration import Calibration, Confidence, ConformalScores
from cellvigil.bundle.index import IndexEncoder, ReferenceIndex
from cellvigil.data import ImageRule
from cellvigil.errors import UsageError


def reference(labels, *, classes=2, novelty=None, k_min=3, k_max=100, threshold=0.3, reweight=True, calibration=None):
    """An index of cells with these labels; embeddings play no part in the vote."""
    cells = len(labels)
    return ReferenceIndex(
        folder=Path("nowhere"),
        name="hand",
        sha256="f" * 64,
        classes=tuple(f"class{i}" for i in range(classes)),
        groups={f"class{i}": "none" for i in range(classes)},
        encoders=(IndexEncoder("e", "0" * 64, 1),),
        spare_encoders=(),
        image_rule=ImageRule(),
        k_min=k_min,
        k_max=k_max,
        threshold=threshold,
        reweight=reweight,
        metric="l2",
        search="exact",
        calibration=calibration,
        projections={},
        projected={},
        norms=None,
        embeddings={"e": np.zeros((cells, 1), np.float32)},
        labels=np.asarray(labels, dtype=np.int16),
        cell_groups=np.arange(cells, dtype=np.int32),
        novelty=np.full(cells, np.nan, np.float32) if novelty is None else np.asarray(novelty, np.float32),
        thumbnails=np.zeros((cells, 64, 64, 1), np.uint8),
        manifest={},
    )


def call(labels, distances=None, ids=None, **kwargs):
    """Call one cell whose nearest references are those of the index in order (or `ids`)."""
    index = reference(labels, **kwargs)
    ids = np.arange(len(labels)) if ids is None else np.asarray(ids)
    distances = np.arange(1, len(ids) + 1) if distances is None else np.asarray(distances)
    return decide.call(ids[None].astype(np.int32), distances[None].astype(np.float32), index, decide.Settings.of(index))


@pytest.mark.parametrize(
    ("k_min", "k_max", "size", "steps"),
    [
        (3, 100, 1000, (3, 6, 12, 24, 48, 96, 100)),
        (3, 96, 1000, (3, 6, 12, 24, 48, 96)),
        (3, 100, 50, (3, 6, 12, 24, 48, 50)),
        (10, 10, 1000, (10,)),
        (3, 100, 3, (3,)),
        (3, 100, 2, (2,)),
        (20, 1000, 1000, (20, 40, 80, 160, 320, 640, 1000)),
    ],
)
def test_depth_doubles_and_ends_at_the_smaller_of_k_max_and_the_index(k_min, k_max, size, steps):
    assert decide.depths(decide.Settings(k_min, k_max), size) == steps


def test_a_pure_neighbourhood_stops_at_once():
    # k = 3, labels 0 0 0: p = 1, H = -1 log 1 / log 3 = 0 < 0.3.
    calls = call([0, 0, 0, 1, 1, 1])
    assert (calls.k[0], calls.entropy[0], calls.best_ids[0]) == (3, 0.0, 0)


def test_a_mixed_neighbourhood_goes_deeper_until_it_is_pure_enough():
    # Nearest labels 1 0 0 | 0 0 0 | 0 0 0 0 0 0, threshold 0.3.
    # k = 3:  p = (2/3, 1/3): H = (2/3 log 1.5 + 1/3 log 3) / log 3 = 0.6365 / 1.0986 = 0.5794, not below 0.3
    # k = 6:  p = (5/6, 1/6): H = (5/6 log 1.2 + 1/6 log 6) / log 6 = 0.4506 / 1.7918 = 0.2515 < 0.3: stop
    calls = call([1, *[0] * 11])
    assert calls.k[0] == 6
    expected = (5 / 6 * math.log(1.2) + 1 / 6 * math.log(6)) / math.log(6)
    assert calls.entropy[0] == pytest.approx(expected, abs=1e-6)
    # Weights: N = 12, C = 2, N_0 = 11, N_1 = 1: w_0 = 12/22, w_1 = 12/2 = 6.
    # Sums at k = 6: class 0: 5 * 12/22 = 2.727, class 1: 1 * 6 = 6. Class 1 wins; shares 0.3125 and 0.6875.
    assert calls.best_ids[0] == 1
    assert calls.vote_share[0] == pytest.approx([2.727273 / 8.727273, 6 / 8.727273], abs=1e-6)


def test_without_reweighting_the_majority_wins():
    # As above, every w = 1: 5 against 1.
    calls = call([1, *[0] * 11], reweight=False)
    assert calls.best_ids[0] == 0
    assert calls.vote_share[0] == pytest.approx([5 / 6, 1 / 6])


def test_the_last_step_is_used_where_none_is_pure_enough():
    # Labels alternate: H = 1 log 2 / log k at even k, lowest at k = 8: log 2 / log 8 = 1/3 > 0.3.
    calls = call([0, 1] * 4)
    assert calls.k[0] == 8
    assert calls.entropy[0] == pytest.approx(1 / 3)


def test_entropy_ignores_the_weights():
    # Equation 1 is "independent from the re-weighting": with p weighted, k = 6 above would not have stopped.
    heavy, light = call([1, *[0] * 11]), call([1, *[0] * 11], reweight=False)
    assert heavy.entropy[0] == light.entropy[0]
    assert heavy.k[0] == light.k[0]


@pytest.mark.parametrize(
    ("labels", "distances", "best", "why"),
    [
        # N_0 = N_1 = N_2 = 1, k = 3: every class has one neighbour and the same weight.
        ([2, 0, 1], [1, 2, 3], 2, "the nearest neighbour's class"),
        ([2, 1, 0], [1, 1, 1], 0, "equal distances: the lower class id"),
        ([2, 1, 0], [1, 1, 2], 1, "the lower id among the nearest only"),
    ],
)
def test_ties(labels, distances, best, why):
    assert call(labels, distances, classes=3).best_ids[0] == best, why


def test_sums_that_are_equal_tie_however_they_round():
    # N_0 = 3, N_1 = 1, k = 4: class 0: 3 w_0 = 3 * 4/(2*3) = 2; class 1: w_1 = 4/2 = 2. A tie; class 1 is nearer.
    # Summed one by one, 4/6 + 4/6 + 4/6 need not be 2.
    calls = call([1, 0, 0, 0], k_min=4, k_max=4)
    assert calls.best_ids[0] == 1
    assert calls.vote_share[0] == pytest.approx([0.5, 0.5])


def test_neighbours_fields_and_what_is_not_known_yet():
    calls = call([0, 0, 1, 0], ids=[3, 1, 0, 2])
    assert calls.neighbours.tolist() == [[3, 1, 0, 2, -1]]
    assert np.isnan(calls.probabilities).all()
    assert not calls.unknown.any()
    assert calls.unknown_reason == ("",)
    assert calls.agreement.tolist() == [1.0]
    assert np.isnan(calls.novelty_p).all()
    assert calls.bundle_sha256 == "f" * 64


@pytest.mark.parametrize(
    ("distances", "p"),
    [
        ([1, 1, 1, 9], 5 / 5),  # score 1: all 4 references of class 0 are at least as far out
        ([3, 3, 3, 9], 4 / 5),  # score 3 (a tie counts): 3 of 4
        ([4, 5, 6, 9], 2 / 5),  # score 5: 1 of 4
        ([9, 9, 9, 9], 1 / 5),  # score 9: none
    ],
)
def test_novelty_is_a_conformal_p_value_over_the_called_class(distances, p):
    # Novelty of the references of class 0: 2, 3, 4, 5; class 1's (0.1) plays no part.
    calls = call([0, 0, 0, 0, 1], distances=distances, ids=[0, 1, 2, 3], novelty=[2, 3, 4, 5, 0.1])
    assert calls.best_ids[0] == 0
    assert calls.novelty_p[0] == pytest.approx(p)


def test_no_cells_make_no_calls():
    index = reference([0, 1, 1])
    calls = decide.call(np.zeros((0, 3), np.int32), np.zeros((0, 3), np.float32), index, decide.Settings.of(index))
    assert len(calls) == 0
    assert calls.vote_share.shape == (0, 2)


CONFIDENCE = Confidence(0.2, {"share": 2.0, "share_log_odds": 0.3, "depth": -0.1, "novelty_p": 1.0})
CALIBRATED = {
    "labels": [0, 0, 0, 0, 1, 1, 1, 2],
    "classes": 3,
    "novelty": [1, 2, 3, 4, 1, 2, 3, 1],
    "k_max": 6,
}


def calibration(confidence=CONFIDENCE, sets=None, novel_below=0.3):
    return Calibration(confidence, sets, novel_below, {})


def call_calibrated(ids, distances, *, fitted=None, rejection=None, **settings):
    index = reference(**CALIBRATED, calibration=fitted or calibration())
    rule = decide.Settings.of(index, **settings)
    distances = np.asarray([distances], np.float32)
    return decide.call(np.asarray([ids], np.int32), distances, index, rule, rejection=rejection)


def test_the_called_class_has_the_probability_of_being_right_and_the_others_the_rest():
    calls = call_calibrated([0, 1, 4, 2, 7, 5], [1, 1, 1, 2, 2, 2])
    # k = 3: two of class 0 (N 4), one of class 1 (N 3), H = 0.58; k = 6: 3, 2 and 1, H = 0.56: the last step.
    # Weights 1/4, 1/3, 1: sums 3/4, 2/3, 1: class 2 is called.
    share = np.array([3 / 4, 2 / 3, 1]) / (3 / 4 + 2 / 3 + 1)
    p = 2 / 2  # score 1: class 2's one reference, at 1, is at least as far out
    logit = 0.2 + 2.0 * share[2] + 0.3 * math.log((share[2] + 0.02) / (1.02 - share[2])) - 0.1 * 1 + 1.0 * p
    right = 1 / (1 + math.exp(-logit))
    rest = (1 - right) / (share[0] + share[1])
    assert calls.best_ids[0] == 2
    assert calls.probabilities[0] == pytest.approx([rest * share[0], rest * share[1], right], abs=1e-6)
    assert calls.probabilities[0].sum() == pytest.approx(1)


def test_where_nothing_else_voted_the_rest_is_shared_evenly():
    calls = call_calibrated([0, 1, 2], [1, 1, 1])
    assert calls.probabilities[0, 1] == calls.probabilities[0, 2] > 0
    assert calls.probabilities[0].sum() == pytest.approx(1)


def test_overridden_settings_have_no_probability():
    assert np.isnan(call_calibrated([0, 1, 2], [1, 1, 1], k_min=2).probabilities).all()
    assert np.isnan(call_calibrated([0, 1, 2], [1, 1, 1], threshold=0.4).probabilities).all()


FAR, NEAR = [9.0, 9.0, 9.0], [1.0, 1.0, 1.0]  # novelty_p 1/5 and 5/5 of class 0
HOME = decide.Rejection(same_device=True)


@pytest.mark.parametrize(
    ("distances", "rejection", "fitted", "reason"),
    [
        (FAR, HOME, calibration(), "novel"),
        (NEAR, HOME, calibration(), ""),
        (FAR, None, calibration(), ""),
        (FAR, decide.Rejection(), calibration(), ""),
        (FAR, HOME, calibration(novel_below=0.2), ""),  # 1/5 is not below
        (FAR, HOME, calibration(novel_below=None), ""),
        (NEAR, decide.Rejection(min_probability=0.999), calibration(), "uncertain"),
        (NEAR, decide.Rejection(min_probability=0.5), calibration(), ""),
        (NEAR, decide.Rejection(min_probability=0.999), calibration(None), ""),  # no floor without a probability
        (FAR, decide.Rejection(same_device=True, min_probability=0.999), calibration(), "novel"),
    ],
)
def test_what_makes_a_cell_unknown(distances, rejection, fitted, reason):
    calls = call_calibrated([0, 1, 2], distances, rejection=rejection, fitted=fitted)
    assert calls.unknown_reason == (reason,)
    assert calls.unknown.tolist() == [bool(reason)]
    assert calls.best_ids[0] == 0


def test_nothing_is_rejected_and_every_class_possible_without_calibration():
    index = reference(**CALIBRATED)
    ids, distances = np.array([[0, 1, 2]], np.int32), np.array([FAR], np.float32)
    rejection = decide.Rejection(same_device=True, min_probability=0.9)
    calls = decide.call(ids, distances, index, decide.Settings.of(index), rejection=rejection)
    assert not calls.unknown.any()
    assert np.isnan(calls.probabilities).all()
    assert calls.conformal_set.all()


SETS = ConformalScores(4, 0.9, [[0.1 * i for i in range(1, 10)], [0.1 * i for i in range(1, 10)], []])


def test_a_set_looks_at_its_own_depth_whatever_the_vote_did():
    # Four nearest: 0 0 0 1 at 1 1 1 3. Class 0: 1 other + 1/(1 + 3) = 1.25, class 1: 3 + 3/(3 + 1) = 3.75,
    # class 2: 4 + 3/(3 + 1) = 4.75; scores are 0.9 at most: p = 1/10, not above 1 - 0.9, for all. Pools: 2 takes all.
    fitted = calibration(sets=SETS)
    calls = call_calibrated([0, 1, 2, 4], [1, 1, 1, 3], fitted=fitted)
    assert calls.k[0] == 3
    assert calls.conformal_set.tolist() == [[False, False, False]]
    # All four of class 0 at 1: 0 + 1/2, of whose scores 0.5 and more there are 5: p = 6/10.
    assert call_calibrated([0, 1, 2, 3], [1, 1, 1, 1], fitted=fitted).conformal_set.tolist() == [[True, False, False]]


def test_neighbours_wanted_at_first_and_at_most():
    index = reference(**CALIBRATED, calibration=calibration(sets=SETS))
    rule = decide.Settings.of(index)
    assert decide.first_depth(index, rule) == 5  # kept for "why"
    assert decide.neighbours_needed(index, rule) == 6
    deep = reference(**CALIBRATED, calibration=calibration(sets=ConformalScores(7, 0.9, [[], [], []])))
    assert decide.first_depth(deep, rule) == decide.neighbours_needed(deep, rule) == 7


def test_columns_that_were_not_fetched_change_nothing():
    """-1 would be the last reference's label, here the only one of class 2."""
    fitted = calibration(sets=SETS)
    ids, distances = [0, 1, 2, 4], [1, 1, 1, 3]
    plain = call_calibrated(ids, distances, fitted=fitted)
    padded = call_calibrated([*ids, -1, -1], [*distances, math.inf, math.inf], fitted=fitted)
    for name in ("best_ids", "k", "entropy", "vote_share", "probabilities", "conformal_set", "novelty_p"):
        np.testing.assert_array_equal(getattr(padded, name), getattr(plain, name))


@pytest.mark.parametrize("ids", [[0, 4, 7, -1, -1, -1], [0, -1, -1, -1, -1, -1]])
def test_too_few_neighbours_for_the_entropy_are_an_error(ids):
    with pytest.raises(ValueError, match="fewer neighbours"):
        call_calibrated(ids, [1, 1, 1, 2, 2, 2])


def test_too_few_neighbours_for_the_set_are_an_error():
    with pytest.raises(ValueError, match="the 4 neighbours"):
        call_calibrated([0, 1, 2, -1], [1, 1, 1, 1], fitted=calibration(sets=SETS))


def test_sizes_may_differ_from_cell_to_cell():
    labels = np.array([[1, 0, 0]] * 2)
    depth = decide.stop(labels, 2, decide.Settings(3, 3))
    sizes = np.array([[4, 1], [1, 4]])
    distances = np.ones((2, 3), np.float32)
    assert decide.vote(depth, labels, distances, sizes).tolist() == [1, 0]
    assert decide.vote_share(depth.counts, sizes) == pytest.approx(np.array([[1 / 3, 2 / 3], [8 / 9, 1 / 9]]))


@pytest.mark.parametrize("wrong", [{"k_min": 1}, {"k_min": 9, "k_max": 8}, {"threshold": 1.5}])
def test_settings_that_contradict_are_refused(wrong):
    with pytest.raises(UsageError):
        decide.Settings(**wrong)


def test_overrides_come_before_the_index():
    index = reference([0, 1], k_min=3, k_max=50, threshold=0.2, reweight=False)
    assert decide.Settings.of(index, k_max=9) == decide.Settings(3, 9, 0.2, False)


def slow_call(labels, distances, sizes, given_settings):
    """The paper's procedure for one cell, neighbour by neighbour, in exact fractions."""
    k = given_settings.k_min
    while True:
        k = min(k, given_settings.k_max, len(labels))
        shares = [Fraction(labels[:k].count(c), k) for c in set(labels[:k])]
        entropy = -sum(float(p) * math.log(p) for p in shares) / math.log(k) if k > 1 else 0.0
        if entropy < given_settings.threshold or k == min(given_settings.k_max, len(labels)):
            break
        k *= 2
    total, classes = sum(sizes), len(sizes)
    weights = [Fraction(total, classes * n) if given_settings.reweight else Fraction(1) for n in sizes]
    sums = [sum((weights[c] for label in labels[:k] if label == c), Fraction(0)) for c in range(classes)]
    used = list(zip(distances[:k], labels[:k], strict=True))
    nearest = [min((d for d, label in used if label == c), default=math.inf) for c in range(classes)]
    best = min(range(classes), key=lambda c: (-sums[c], nearest[c], c))
    return best, k, entropy, [float(s / sum(sums)) for s in sums]


@st.composite
def neighbourhoods(draw):
    classes = draw(st.integers(1, 4))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=40))
    labels += [c for c in range(classes) if c not in labels]
    cells = draw(st.integers(1, 6))
    orders = [draw(st.permutations(range(len(labels)))) for _ in range(cells)]
    gaps = [draw(st.lists(st.sampled_from([0, 0, 1, 2]), min_size=len(labels), max_size=len(labels))) for _ in orders]
    k_min = draw(st.integers(2, 5))
    # Thresholds that no entropy of these k hits exactly: on such a hit the two ways of summing may round apart.
    rule = decide.Settings(k_min, draw(st.integers(k_min, 45)), draw(st.sampled_from([0.0, 0.2003, 0.5003, 0.9003])))
    return labels, classes, np.array(orders), np.cumsum(gaps, axis=1), rule, draw(st.booleans())


@settings(max_examples=150, deadline=None)
@given(neighbourhoods())
def test_against_the_slow_twin(case):
    labels, classes, ids, distances, rule, reweight = case
    rule = decide.Settings(rule.k_min, rule.k_max, rule.threshold, reweight)
    index = reference(labels, classes=classes)
    calls = decide.call(ids.astype(np.int32), distances.astype(np.float32), index, rule)
    sizes = [labels.count(c) for c in range(classes)]
    for row in range(len(ids)):
        near = [labels[i] for i in ids[row]]
        best, k, entropy, share = slow_call(near, distances[row].tolist(), sizes, rule)
        assert (calls.best_ids[row], calls.k[row]) == (best, k)
        assert calls.entropy[row] == pytest.approx(entropy, abs=1e-6)
        assert calls.vote_share[row] == pytest.approx(share, abs=1e-6)
