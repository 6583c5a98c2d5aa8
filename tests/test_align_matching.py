from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellvigil.errors import UsageError
from cellvigil_indexes.aligning.sharing.matching import (
    MEANS,
    PAIRS,
    MatchSettings,
    Similarity,
    enhanced,
    loud,
    match,
    probability,
    similarity,
)
from cellvigil_indexes.aligning.sharing.refining import refine
from cellvigil_indexes.aligning.sharing.scores import cluster_accuracy, global_accuracy, score
from cellvigil_indexes.aligning.values import Clusters, Matches
from cellvigil_indexes.bank import Bank

NAMES = ("one", "two", "three", "four", "five")


def bank(vectors, labels, classes=None, *, encoder="a", **more):
    count = classes or max(labels) + 1
    blocks = {encoder: np.asarray(vectors, dtype=np.float32), **more}
    return Bank(NAMES[:count], blocks, np.asarray(labels, dtype=np.int16), np.zeros(len(labels), dtype=np.int32))


def grouped(labels):
    labels = np.asarray(labels, dtype=np.int32)
    return Clusters(labels, tuple(np.flatnonzero(labels == one) for one in range(labels.max() + 1)))


def slow_similarity(block, members, references, labels, classes, centred):
    """Equations 17 to 19 over the full cosine matrix, in loops."""
    block, references = np.asarray(block, dtype=np.float64), np.asarray(references, dtype=np.float64)
    if centred:
        block = block - np.mean([block[members == one].mean(axis=0) for one in np.unique(members)], axis=0)
        references = references - np.mean([references[labels == one].mean(axis=0) for one in np.unique(labels)], axis=0)
    cosines = np.array([[u @ v / (np.linalg.norm(u) * np.linalg.norm(v)) for v in references] for u in block])
    clusters = members.max() + 1
    means = [[cosines[np.ix_(members == c, labels == k)].mean() for k in range(classes)] for c in range(clusters)]
    rows = [cosines[members == c] for c in range(clusters)]
    columns = [cosines[:, labels == k] for k in range(classes)]
    return Similarity(
        np.array(means),
        np.array([one.mean() for one in rows]),
        np.array([one.std() for one in rows]),
        np.array([one.mean() for one in columns]),
        np.array([one.std() for one in columns]),
    )


def slow_scores(similarities, spread):
    """Steps 1 to 7 of appendix A.2, cluster by cluster and class by class."""
    clusters, classes = similarities[0].means.shape
    out = np.zeros((2, clusters, classes))
    for c in range(clusters):
        for k in range(classes):
            for way in (0, 1):
                score_sum, wins = 0.0, 0
                for one in similarities:
                    line = one.means[c] if way == 0 else one.means[:, k]
                    centre = (one.row_mean[c], one.column_mean[k])[way]
                    width = (one.row_spread[c], one.column_spread[k])[way]
                    if spread == MEANS:
                        centre, width = line.mean(), line.std()
                    score_sum += np.tanh(3 * ((one.means[c, k] - centre) / width - 0.5))
                    wins += one.means[c, k] == line.max()
                out[way, c, k] = (score_sum / len(similarities) + 2 * wins / len(similarities) - 1) / 2
    return out


@pytest.mark.parametrize(
    ("row", "column", "expected"), [(1, 1, 1.0), (-1, -1, -7 / 3), (1, -1, 1 - 2 / (3 * 2**0.5)), (0, 0, 0.0)]
)
def test_equation_23_is_as_printed(row, column, expected):
    assert probability(np.array([[float(row)]]), np.array([[float(column)]]))[0, 0] == pytest.approx(expected)


@pytest.mark.parametrize(("value", "expected"), [(0.5, 0.0), (1.0, 0.9051), (0.0, -0.9051), (2.0, 0.9998)])
def test_the_enhancing_function(value, expected):
    assert enhanced(np.array(value)) == pytest.approx(expected, abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000), st.integers(2, 5), st.integers(2, 4), st.integers(2, 9), st.booleans(),
    st.sampled_from([PAIRS, MEANS]),
)  # fmt: skip
def test_sums_give_what_the_full_cosine_matrix_gives(seed, clusters, classes, dimensions, centred, spread):
    rng = np.random.default_rng(seed)
    members = rng.permutation(np.r_[np.arange(clusters), rng.integers(0, clusters, 20)]).astype(np.int32)
    labels = rng.permutation(np.r_[np.arange(classes), rng.integers(0, classes, 25)]).astype(np.int16)
    target, references = {}, {}
    for name in ("a", "b"):
        target[name] = (rng.normal(size=(len(members), dimensions)) + 1).astype(np.float32)
        references[name] = (rng.normal(size=(len(labels), dimensions)) + 1).astype(np.float32)
    reference = bank(references["a"], labels, classes, b=references["b"])
    expected = [
        slow_similarity(target[n], members, references[n], labels, classes, centred) for n in ("a", "b")
    ]  # fmt: skip
    for name, wanted in zip(("a", "b"), expected, strict=True):
        found = similarity(target[name], grouped(members), reference, name, centred=centred)
        for field in ("means", "row_mean", "row_spread", "column_mean", "column_spread"):
            np.testing.assert_allclose(getattr(found, field), getattr(wanted, field), atol=1e-6)
    found = match(target, grouped(members), reference, MatchSettings(centred=centred, spread=spread))
    row, column = slow_scores(expected, spread)
    np.testing.assert_allclose(found.row, row, atol=1e-4)
    np.testing.assert_allclose(found.column, column, atol=1e-4)
    np.testing.assert_allclose(found.probability, np.clip(probability(row, column), 0, 1), atol=1e-3)


def with_signal(value):
    one = np.ones((1, 1))
    return Similarity(one, np.ones(1), np.full(1, value), np.ones(1), np.ones(1))


@pytest.mark.parametrize(
    ("signals", "kept"),
    [
        ({"a": 0.2, "b": 0.06, "c": 0.01}, ("a", "b")),  # the quiet one is left out
        ({"a": 0.2, "b": 0.035, "c": 0.01}, ("a", "b")),  # lowered to 3 %
        ({"a": 0.2, "b": 0.0, "c": 0.0}, ("a", "b", "c")),  # lowered to nothing
        ({"a": 0.001}, ("a",)),  # the only one there is
    ],
)
def test_quiet_encoders_are_left_out_until_two_are_left(signals, kept):
    assert loud({name: with_signal(value) for name, value in signals.items()}, MatchSettings()) == kept


def blobs(seed, labels, dimensions=8, shift=0.0):
    rng = np.random.default_rng(99)
    middles = rng.normal(size=(5, dimensions)) * 4
    rng = np.random.default_rng(seed)
    return (middles[np.asarray(labels)] + rng.normal(size=(len(labels), dimensions)) * 0.3 + shift).astype(np.float32)


def test_clusters_are_matched_with_their_classes():
    labels, members = np.repeat([0, 1, 2, 3, 4], 12), np.repeat([0, 1, 2], 15)
    truth = np.array([4, 1, 3])[members]
    found = match({"a": blobs(1, truth)}, grouped(members), bank(blobs(0, labels), labels))
    assert found.best.tolist() == [4, 1, 3]
    assert found.encoders == ("a",)


def test_identical_cells_match_without_nan():
    labels = np.repeat([0, 1], 10)
    same = np.ones((20, 8), dtype=np.float32)
    for references in (blobs(0, labels), same):
        for centred in (False, True):
            found = match({"a": same}, grouped(np.zeros(20)), bank(references, labels), MatchSettings(centred=centred))
            assert np.isfinite(found.probability).all()
            assert np.isfinite(found.row).all()
    assert found.best.tolist() == [-1]  # nothing tells the two classes apart


def test_a_class_without_cells_matches_nothing():
    labels = np.repeat([0, 2], 10)
    found = match({"a": blobs(1, labels)}, grouped(labels // 2), bank(blobs(0, labels), labels, 3))
    assert found.best.tolist() == [0, 2]
    assert (found.probability[:, 1] == 0).all()


def test_encoders_that_the_target_lacks_are_done_without():
    labels = np.repeat([0, 1, 2], 10)
    reference = bank(blobs(0, labels), labels, b=blobs(5, labels))
    assert match({"a": blobs(1, labels), "x": blobs(2, labels)}, grouped(labels), reference).encoders == ("a",)
    with pytest.raises(UsageError, match="none of the reference's encoders"):
        match({"x": blobs(1, labels)}, grouped(labels), reference)


def test_vectors_of_another_length_are_refused():
    labels = np.repeat([0, 1, 2], 10)
    with pytest.raises(UsageError, match="5 numbers a cell in the target, 8 in the reference"):
        match({"a": blobs(1, labels)[:, :5]}, grouped(labels), bank(blobs(0, labels), labels))


@pytest.mark.parametrize("wrong", [{"spread": "all"}, {"least_probability": 1.5}, {"signal_step": 0.0}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(UsageError):
        MatchSettings(**wrong)


def made(probabilities, best):
    """Matches whose score vectors say what their probabilities do."""
    sure = np.array(probabilities, dtype=np.float64)
    return Matches(2 * sure - 1, 2 * sure - 1, sure, np.array(best, dtype=np.int32), ("a",))


OWN = made(np.eye(3), [0, 1, 2])


def test_without_further_sets_nothing_is_changed():
    matches = made([[0.7, 0.6, 0], [0, 0, 0.2]], [0, -1])
    found = refine(matches, [], OWN, least=0.6)
    assert found.best.tolist() == [0, -1]
    assert found.changed == ()


def test_a_cluster_among_those_of_another_label_is_relabelled():
    """As in figure 4: its own best score is wrong by a little, and five clusters of another set show it."""
    further = made(
        [*[[0.6, 0.72, 0.0]] * 5, *[[0.9, 0.0, 0.1]] * 5, *[[0.0, 0.1, 0.9]] * 5], [1] * 5 + [0] * 5 + [2] * 5
    )
    matches = made([[0.70, 0.68, 0.0], [0.92, 0.02, 0.1], [0.0, 0.1, 0.95]], [0, 0, 2])
    found = refine(matches, [further], OWN, least=0.6)
    assert found.best.tolist() == [1, 0, 2]
    assert found.changed == (0,)
    assert found.places.shape == (3 + 15 + 3, 2)
    np.testing.assert_array_equal(found.places, refine(matches, [further], OWN, least=0.6).places)


def test_score_vectors_that_are_all_alike_are_placed_all_the_same():
    alike = made([[0.5, 0.5, 0.5]] * 4, [-1] * 4)
    found = refine(alike, [alike], made([[0.5] * 3] * 3, [0, 1, 2]), least=0.6)
    assert np.isfinite(found.places).all()


@pytest.mark.parametrize(
    ("kept", "there", "expected"),
    [
        (("one", "two"), ("one", "two"), 1.0),
        (("one", "two", "three"), ("one", "two"), 2 / 3),  # one of three absent classes stayed
        (("one",), ("one", "two"), 0.5),
        (NAMES, NAMES, 1.0),  # nothing to filter
        (NAMES, ("one",), 0.0),
        (("one",), ("one", "foreign"), 1.0),  # what the reference lacks cannot be kept
    ],
)
def test_equation_24(kept, there, expected):
    assert global_accuracy(kept, there, NAMES) == pytest.approx(expected)


def test_equation_5_is_the_mean_of_both():
    clusters = grouped([0, 0, 0, 1, 1, 2, 2])
    truth = np.array(["one", "one", "two", "three", "three", "foreign", "foreign"])
    matches = made(np.zeros((3, 5)), [0, 1, -1])
    assert cluster_accuracy(clusters, matches, NAMES, truth) == pytest.approx(2 / 3)
    found = score(("one", "two", "three"), clusters, matches, NAMES, truth)
    assert found.accuracy == pytest.approx((1.0 + 2 / 3) / 2)
