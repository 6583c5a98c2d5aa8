"""The shipped alignment on made domains with a known shift and known shares: does it find both, and say when not?"""

from __future__ import annotations

import numpy as np
import pytest

from align_gaussians import ENCODERS, bank_of, domain
from cellvigil.errors import UsageError
from cellvigil_indexes.aligning import voters
from cellvigil_indexes.aligning.align import AlignSettings, align
from cellvigil_indexes.aligning.choosing import SPLIT_HALF, VOTERS, halves, judged
from cellvigil_indexes.aligning.values import ALIGNED, ORIGINAL, Alignment, Clusters, Matches, Shared

pytest.importorskip("ot")
PLAIN = AlignSettings(filter=False)


def called(bank, alignment: Alignment, cells):
    own = [alignment.classes.index(bank.classes[label]) for label in bank.labels[alignment.rows]]
    labels = np.array(own, dtype=np.int16)
    return voters.asked(alignment.voters, labels, len(alignment.classes), cells)


def right(said, truth) -> float:
    return float(np.mean([np.mean(said[truth == label] == label) for label in np.unique(truth)]))


@pytest.mark.parametrize("counts", [(60, 60, 60), (110, 45, 20), (20, 45, 110)])
def test_finds_shares_and_shift_whatever_the_mixture(counts):
    bank = bank_of(*domain((40, 40, 40), 0), 3)
    target, truth = domain(counts, 1, moved=True)
    found = align(bank, target, PLAIN)
    assert right(called(bank, found, target).best, truth) > 0.97
    assert np.allclose(list(found.shares.values()), np.array(counts) / sum(counts), atol=0.08)
    assert found.accepted, found.told["why_not"]


def test_calls_new_cells_of_the_device_singly_as_together():
    bank = bank_of(*domain((40, 40, 40), 0), 3)
    target, _ = domain((70, 30, 30), 1, moved=True)
    fresh, truth = domain((30, 30, 30), 2, moved=True)
    found = align(bank, target, PLAIN)
    together = called(bank, found, fresh)
    assert right(together.best, truth) > 0.97
    for cell in (0, 40, 80):
        alone = called(bank, found, {name: block[cell : cell + 1] for name, block in fresh.items()})
        assert np.array_equal(alone.shares[0], together.shares[cell])


@pytest.mark.parametrize("method", ["auto", "fgw", "fgw-relaxed"])
def test_a_transport_follows_the_alpha_that_is_asked_for(method):
    bank = bank_of(*domain((30, 30), 0), 2)
    target, _ = domain((50, 20), 1, moved=True)
    by_features, by_structure = (
        align(bank, target, AlignSettings(method=method, filter=False, alpha=alpha)).voters[-2].vectors
        for alpha in (0.0, 0.9)
    )
    name = next(iter(by_features))
    assert not np.array_equal(by_features[name], by_structure[name])


def test_an_encoder_weighs_what_it_is_given():
    bank = bank_of(*domain((30, 30), 0), 2)
    target, _ = domain((40, 40), 1, moved=True)
    heavy, light = ENCODERS[:2]
    found = align(bank, target, AlignSettings(method="zscore", filter=False, weights=((heavy, 3.0),)))
    weights = {voter.encoders: voter.weight for voter in found.voters}
    assert weights[(heavy,)] == pytest.approx(3 * weights[(light,)])
    assert weights[(heavy, light)] == pytest.approx(2 * weights[(light,)])
    assert sum(weights.values()) == pytest.approx(1)
    with pytest.raises(UsageError, match="above 0"):
        AlignSettings(weights=((heavy, 0.0),))


def test_weights_sum_to_one_and_agreement_is_a_share():
    bank = bank_of(*domain((30, 30), 0), 2)
    target, _ = domain((40, 40), 1, moved=True)
    for voting, spaces in (("one", {ALIGNED}), ("mapped", {ALIGNED}), ("both", {ALIGNED, ORIGINAL})):
        found = align(bank, target, AlignSettings(filter=False, voting=voting))
        assert {voter.space for voter in found.voters} == spaces
        assert sum(voter.weight for voter in found.voters) == pytest.approx(1.0)
        assert len({voter.name for voter in found.voters}) == len(found.voters)
        said = called(bank, found, target)
        assert ((said.agreement >= 0) & (said.agreement <= 1 + 1e-9)).all()
        np.testing.assert_allclose(said.shares.sum(axis=1), 1.0, atol=1e-5)


def test_is_the_same_twice():
    bank = bank_of(*domain((30, 30, 30), 0), 3)
    target, _ = domain((50, 30, 20), 1, moved=True)
    one, two = (align(bank, target, PLAIN) for _ in range(2))
    for a, b in zip(one.voters, two.voters, strict=True):
        assert all(np.array_equal(a.vectors[name], b.vectors[name]) for name in a.vectors)
    assert one.told["split_half"] == two.told["split_half"]


@pytest.mark.parametrize("method", ["none", "zscore", "coral", "fgw"])
def test_a_single_map_is_taken_as_asked(method):
    bank = bank_of(*domain((30, 30, 30), 0), 3)
    target, truth = domain((40, 40, 40), 1, moved=True)
    found = align(bank, target, AlignSettings(method=method, filter=False))
    assert found.told["method"] == method
    assert {voter.space for voter in found.voters} == {ORIGINAL if method == "none" else ALIGNED}
    if method != "none":
        assert right(called(bank, found, target).best, truth) > 0.9


def test_a_device_that_shows_nothing_of_the_classes_is_not_accepted():
    bank = bank_of(*domain((40, 40, 40), 0), 3)
    rng = np.random.default_rng(0)
    noise = {name: rng.normal(size=(120, block.shape[1])).astype(np.float32) for name, block in bank.embeddings.items()}
    found = align(bank, noise, PLAIN)
    assert not found.accepted
    assert any("halves" in why for why in found.told["why_not"])


def test_references_of_two_devices_are_fitted_apart_and_pooled():
    here, labels = domain((40, 40, 40), 0)
    there, others = domain((30, 30, 0), 3)
    there = {name: block * 1.5 - 4.0 for name, block in there.items()}  # a third device, without the last class
    joined = {name: np.concatenate([here[name], there[name]]) for name in here}
    bank = bank_of(joined, np.concatenate([labels, others]), 3)
    target, truth = domain((60, 30, 30), 1, moved=True)
    origins = np.repeat([0, 1], [len(labels), len(others)]).astype(np.int32)
    found = align(bank, target, PLAIN, origins=origins)
    assert len(found.told["references"]) == 2
    assert set(found.rows[found.rows >= 120]) <= set(range(120, 180))
    assert right(called(bank, found, target).best, truth) > 0.9


def test_one_encoder_is_enough():
    bank = bank_of(*domain((40, 40), 0, encoders=("first",)), 2)
    target, truth = domain((80, 30), 1, moved=True, encoders=("first",))
    found = align(bank, target, PLAIN)
    assert right(called(bank, found, target).best, truth) > 0.95


def test_one_class_of_the_reference_is_called_and_warned_of():
    bank = bank_of(*domain((40,), 0), 1)
    target, _ = domain((50,), 1, moved=True)
    found = align(bank, target, PLAIN)
    assert found.shares == {"class 0": 1.0}
    assert any("one class" in text for text in found.told["warnings"])


def test_a_target_of_one_class_is_warned_of():
    bank = bank_of(*domain((40, 40, 40), 0), 3)
    target, _ = domain((0, 400, 0), 1, moved=True)
    found = align(bank, target, PLAIN)
    assert not found.accepted or any("one class" in text for text in found.told["warnings"])


def test_a_target_in_which_one_class_alone_is_seen_is_not_accepted():
    """Its halves agree, and so do the voters, whatever the fit: these tell nothing here."""
    bank = bank_of(*domain((40, 40, 40), 0), 3)
    target, _ = domain((0, 100, 0), 1, moved=True)
    found = align(bank, target, AlignSettings())
    assert [name for name, told in found.shared.told["classes"].items() if told["seen_by"]] == ["class 0"]
    assert found.shared.kept == bank.classes
    assert not found.accepted
    assert "no class is seen in the target but class 0" in found.told["why_not"][0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda cells: {"first": cells["first"]}, "the target has no vectors of second"),
        (lambda cells: {**cells, "third": cells["first"]}, "the reference has no vectors of third"),
        (lambda cells: {name: block[:19] for name, block in cells.items()}, "19 target cells"),
        (lambda cells: {name: np.repeat(block[:1], 50, axis=0) for name, block in cells.items()}, "are the same"),
        (lambda cells: {**cells, "first": np.full_like(cells["first"], np.nan)}, "not finite"),
        (lambda cells: {**cells, "first": cells["first"][:30]}, "differ between encoders"),
    ],
)
def test_says_what_is_wrong_with_a_target(change, words):
    bank = bank_of(*domain((20, 20), 0), 2)
    target, _ = domain((30, 30), 1, moved=True)
    with pytest.raises(UsageError, match=words):
        align(bank, change(target), PLAIN)


@pytest.mark.parametrize("wrong", [{"method": "magic"}, {"voting": "loud"}, {"alpha": 1.5}, {"runs": 0}, {"subset": 1}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(UsageError):
        AlignSettings(**wrong)


@pytest.mark.parametrize(
    ("split_half", "agreement", "accepted"),
    [
        (SPLIT_HALF, VOTERS, True),
        (SPLIT_HALF - 0.01, 1.0, False),
        (1.0, VOTERS - 0.01, False),
        (float("nan"), 1.0, False),
    ],
)
def test_a_fit_is_accepted_on_both_agreements(split_half, agreement, accepted):
    verdict = judged(split_half, agreement)
    assert verdict.accepted is accepted
    assert bool(verdict.why_not) is not accepted


def test_halves_are_all_cells_once():
    one, two = halves(41, 3)
    assert sorted([*one, *two]) == list(range(41))


def shared_of(kept, dropped, clusters, best, unmatched):
    central = tuple(np.flatnonzero(clusters == one) for one in range(len(best)))
    scores = np.zeros((len(best), len(kept) + len(dropped)))
    matches = Matches(scores, scores, scores, np.array(best, dtype=np.int32), ENCODERS)
    return Shared(kept, dropped, Clusters(clusters.astype(np.int32), central), matches, {}, unmatched)


def test_dropped_classes_are_no_references():
    bank = bank_of(*domain((40, 40, 40), 0), 3)
    target, truth = domain((60, 40, 0), 1, moved=True)
    shared = shared_of(("class 0", "class 1"), ("class 2",), truth, [0, 1], np.empty(0, dtype=np.int64))
    found = align(bank, target, shared=shared)
    assert found.classes == ("class 0", "class 1")
    assert set(bank.labels[found.rows]) == {0, 1}
    assert right(called(bank, found, target).best, truth) > 0.97


def test_clusters_that_match_no_class_make_no_new_one():
    bank = bank_of(*domain((40, 40), 0), 2)
    target, truth = domain((60, 40), 1, moved=True)
    shared = shared_of(bank.classes, (), truth, [-1, 1], np.flatnonzero(truth == 0))
    assert align(bank, target, AlignSettings(unmatched=True), shared=shared).extra_labels == ()


def test_looks_for_the_classes_itself():
    bank = bank_of(*domain((60, 60, 60), 0), 3)
    target, truth = domain((80, 80, 0), 1, moved=True)
    found = align(bank, target)
    assert found.shared is not None
    assert {"class 0", "class 1"} <= set(found.classes)
    assert right(called(bank, found, target).best, truth) > 0.9
