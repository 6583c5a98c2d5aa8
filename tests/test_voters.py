"""Several opinions made one: against a slow twin in exact fractions, and the same whatever a cell is batched with."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellvigil import decide, pipeline
from cellvigil.bundle.calibration import Calibration
from cellvigil.bundle.index import Voter
from cellvigil.data import NOVEL
from cellvigil.neighbours import ExactSearch, VotersSearch, open_search
from cellvigil_indexes.aligned import aligned_index
from test_decide import reference
from voter_cells import alignment, source, target

CLASSES = 3
FAR = np.ones(1, np.float32)


def opinion(labels, ids, **kwargs):
    """What a voter of 12 cells says of a cell whose neighbours are `ids`."""
    index = reference(labels, classes=CLASSES, k_min=2, k_max=4, **kwargs)
    distances = np.arange(1, len(ids) + 1, dtype=np.float32)[None]
    rule = decide.Settings.of(index)
    return decide.call(np.asarray([ids], np.int32), distances, index, rule)


def twin(calls, weights):
    """The same vote in fractions of one, a class and a voter at a time."""
    total = [Fraction(0)] * CLASSES
    for one, weight in zip(calls, weights, strict=True):
        for class_id in range(CLASSES):
            share = Fraction(float(one.vote_share[0, class_id])).limit_denominator(1000)
            total[class_id] += Fraction(weight, sum(weights)) * share
    best = max(range(CLASSES), key=lambda class_id: (total[class_id], -class_id))
    agree = [place for place, one in enumerate(calls) if one.best_ids[0] == best]
    heard = agree or range(len(calls))
    speaker = max(heard, key=lambda place: (weights[place], -place))
    return total, best, Fraction(sum(weights[place] for place in agree), sum(weights)), speaker


def with_voters(index, weights):
    whole = sum(weights)
    voters = [Voter(f"v{i}", weight / whole, "original", index) for i, weight in enumerate(weights)]
    return replace(index, voters=tuple(voters))


@given(st.data(), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_the_vote_is_that_of_a_slow_twin(data, weights):
    labels = data.draw(st.lists(st.integers(0, CLASSES - 1), min_size=12, max_size=12))
    rankings = [data.draw(st.permutations(range(12)))[:5] for _ in weights]
    calls = [opinion(labels, ids) for ids in rankings]
    index = with_voters(reference(labels, classes=CLASSES), weights)
    found = decide.combine(calls, FAR, index)
    total, best, agreement, speaker = twin(calls, weights)
    assert found.best_ids.tolist() == [best]
    assert found.vote_share[0].tolist() == pytest.approx([float(share) for share in total], abs=1e-6)
    assert found.agreement[0] == pytest.approx(float(agreement))
    assert found.neighbours[0].tolist() == calls[speaker].neighbours[0].tolist()
    assert (found.k[0], found.entropy[0]) == (calls[speaker].k[0], calls[speaker].entropy[0])
    assert np.isnan(found.probabilities).all()
    assert found.conformal_set.all()
    assert found.voters == len(weights)


def test_equal_shares_go_to_the_lower_class_and_rounding_is_no_difference():
    labels = [0] * 4 + [1] * 4 + [2] * 4
    calls = [opinion(labels, ids) for ids in ([8, 9, 10, 11, 0], [0, 1, 2, 3, 8], [8, 9, 10, 11, 0])]
    index = with_voters(reference(labels, classes=CLASSES), (1, 3, 2))  # 1/6 + 2/6 against 3/6
    found = decide.combine(calls, FAR, index)
    assert found.best_ids.tolist() == [0]
    assert found.agreement[0] == pytest.approx(0.5)


def test_agreement_of_all_is_exactly_one_and_no_voter_need_agree():
    labels = [0] * 4 + [1] * 4 + [2] * 4
    same = [opinion(labels, [0, 1, 2, 3, 4])] * 3
    index = with_voters(reference(labels, classes=CLASSES), (1, 1, 1))
    assert decide.combine(same, FAR, index).agreement[0] == 1
    half = np.array([[0.4, 0.6, 0.0]], np.float32), np.array([[0.4, 0.0, 0.6]], np.float32)
    calls = [replace(same[0], vote_share=share, best_ids=share.argmax(axis=1).astype(np.int16)) for share in half]
    split = decide.combine(calls, FAR, with_voters(index, (1, 1)))
    assert (split.best_ids[0], split.agreement[0]) == (0, 0)


def test_novelty_counts_the_witnesses_of_the_class_that_are_at_least_as_far_out():
    labels = [0] * 4 + [1] * 4 + [2] * 4
    calls = [opinion(labels, [0, 1, 2, 3, 4])] * 2
    index = reference(labels, classes=CLASSES, novelty=[0.5, 1, 2, 3, 9, 9])
    index = replace(index, novelty_labels=np.array([0, 0, 0, 0, 1, 2], np.int16))
    found = decide.combine(calls, np.array([2], np.float32), with_voters(index, (1, 3)))
    assert found.novelty_p[0] == pytest.approx((1 + 2) / (1 + 4))


@pytest.mark.parametrize(
    ("agreement", "unknown", "asks"),
    [(1.0, False, False), (2 / 3, False, False), (0.6, False, True), (1.0, True, True), (np.nan, False, False)],
)
def test_an_expert_is_asked_where_a_third_of_the_voters_disagrees_or_the_cell_is_unknown(agreement, unknown, asks):
    found = decide.for_expert(np.array([agreement], np.float32), np.array([unknown]))
    assert found.tolist() == [asks]


def test_opinions_and_voters_must_be_as_many():
    labels = [0] * 4 + [1] * 4 + [2] * 4
    index = with_voters(reference(labels, classes=CLASSES), (1, 1))
    with pytest.raises(ValueError, match="2 voters cannot have 1 opinions"):
        decide.combine([opinion(labels, [0, 1, 2, 3])], FAR, index)


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    index = source(tmp_path_factory.mktemp("voters") / "home")
    return aligned_index(index, alignment(index), witnesses=target(150, 7))


def called(index, vectors, **kwargs):
    return pipeline.called(vectors, index, open_search(index), decide.Settings.of(index), **kwargs)


def test_a_cell_is_called_the_same_alone_and_among_others(aligned):
    vectors = target(60)
    whole = called(aligned, vectors)
    for row in range(0, 120, 7):
        alone = called(aligned, {name: block[row : row + 1] for name, block in vectors.items()})
        for name in ("best_ids", "vote_share", "entropy", "k", "novelty_p", "agreement", "neighbours"):
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(whole, name)[row])


def test_no_cells_are_no_calls(aligned):
    assert len(called(aligned, target(0))) == 0


def test_voters_put_right_what_the_original_space_gets_wrong(aligned):
    truth = np.repeat([0, 1], 200)
    calls = called(aligned, target(200))
    assert aligned.classes == ("live", "dead")
    assert np.mean(calls.best_ids == truth) > 0.95
    alone = aligned.voters[0].index
    off = pipeline.called(target(200), alone, ExactSearch.over(alone), decide.Settings.of(alone))
    assert np.mean(off.best_ids == truth) < 0.9
    assert calls.agreement[calls.best_ids != off.best_ids].max() == pytest.approx(0.8)


def test_novelty_is_valid_for_target_cells_that_the_fit_has_not_seen(aligned):
    p = called(aligned, target(1000, 55)).novelty_p
    for level in (0.05, 0.1, 0.5):
        assert np.mean(p <= level) == pytest.approx(level, abs=0.05)


@pytest.mark.parametrize(("same_device", "rejected"), [(True, True), (False, False)])
def test_what_is_far_from_all_witnesses_is_unknown_where_the_source_says_it_is_that_device(
    aligned, same_device, rejected
):
    strange = {name: block + 40 for name, block in target(10).items()}
    calls = called(aligned, strange, rejection=decide.Rejection(same_device=same_device))
    assert set(calls.unknown_reason) == ({NOVEL} if rejected else {""})
    known = called(aligned, target(200, 9), rejection=decide.Rejection(same_device=same_device))
    assert known.unknown.mean() < 0.05


def test_without_witnesses_there_is_no_novelty_and_nothing_is_rejected(tmp_path):
    index = source(tmp_path / "home")
    bare = aligned_index(index, alignment(index))
    calls = called(bare, target(5), rejection=decide.Rejection(same_device=True, min_probability=0.9))
    assert np.isnan(calls.novelty_p).all()
    assert not calls.unknown.any()
    assert isinstance(bare.calibration, Calibration)
    assert bare.calibration.novel_below is None


def test_an_index_with_voters_is_searched_by_theirs_and_no_graph(aligned):
    search = open_search(replace(aligned, search="hnsw"))
    assert isinstance(search, VotersSearch)
    assert len(search.searches) == len(aligned.voters)
    with pytest.raises(ValueError, match="3 voters: search it by theirs"):
        pipeline.called(target(2), aligned, ExactSearch.over(aligned), decide.Settings.of(aligned))


def test_a_vector_of_an_encoder_that_one_voter_needs_must_be_there(aligned):
    with pytest.raises(ValueError, match="no embeddings of encoder two"):
        called(aligned, {"one": target(2)["one"]})


def test_a_part_of_the_index_is_one_for_every_voter(aligned):
    part = aligned.subset(np.arange(0, len(aligned), 2))
    assert {len(voter.index) for voter in part.voters} == {len(part)}
    assert np.mean(called(part, target(50)).best_ids == np.repeat([0, 1], 50)) > 0.9
