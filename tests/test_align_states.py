"""An index of states carried by control cells alone: deaths stay callable, and a doubtful fit is not accepted."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cellvigil.errors import UsageError
from cellvigil_indexes.aligning.maps.affine import applied
from cellvigil_indexes.aligning.states.align import FEWEST, StatesSettings, align_states
from cellvigil_indexes.aligning.states.boundary import drawn_in
from cellvigil_indexes.aligning.states.shifting import best_kind, energy, shift, typical
from cellvigil_indexes.aligning.states.spanning import check_spans, missing_groups
from cellvigil_indexes.aligning.values import ORIGINAL
from cellvigil_indexes.calling import ewc
from states_cells import CALLING, CLASSES, GROUPS, Device, bank_of_cells, called_by, cells_of, seen_by

SETTINGS = StatesSettings(calling=CALLING)


def dead_recall(best: np.ndarray, labels: np.ndarray) -> float:
    return float(np.isin(best[labels > 0], (1, 2)).mean())


@pytest.mark.parametrize(
    "device", [Device(), Device(offset=14.0), Device(gain=0.6), Device(offset=14.0, gain=1.5)], ids=str
)
def test_later_deaths_stay_callable_when_the_first_cells_are_all_alive(device: Device) -> None:
    bank = bank_of_cells()
    control = seen_by(device.seen(cells_of((300, 0, 0), 21)[0]))
    late, labels = cells_of((150, 60, 90), 22)
    unshifted = ewc(bank, seen_by(late), CALLING).best
    fit = align_states(bank, control, ["live"], SETTINGS)
    best = called_by(fit, bank, seen_by(device.seen(late)))
    assert dead_recall(best, labels) >= dead_recall(unshifted, labels) - 0.03
    assert (best[labels == 0] == 0).mean() >= (unshifted[labels == 0] == 0).mean() - 0.06
    assert fit.accepted, fit.told["why_not"]


def test_no_class_and_no_reference_is_dropped() -> None:
    bank = bank_of_cells()
    fit = align_states(bank, seen_by(Device(offset=14.0).seen(cells_of((300, 0, 0), 21)[0])), ["live"], SETTINGS)
    assert fit.classes == CLASSES
    assert fit.shared is None
    assert np.array_equal(fit.rows, np.arange(len(bank)))
    assert all(len(block) == len(bank) for voter in fit.voters for block in voter.vectors.values())
    assert sum(voter.weight for voter in fit.voters) == pytest.approx(1)
    assert fit.shares["live"] > 0.9
    json.dumps(fit.told, allow_nan=False)


def test_nothing_moves_on_one_device() -> None:
    bank = bank_of_cells()
    fit = align_states(bank, seen_by(cells_of((300, 0, 0), 21)[0]), ["live"], SETTINGS)
    assert {voter.space for voter in fit.voters} == {ORIGINAL}
    for voter in fit.voters:
        assert all(np.array_equal(block, bank.embeddings[name]) for name, block in voter.vectors.items())


def test_a_few_dying_cells_among_the_controls_do_not_pull_the_shift() -> None:
    bank = bank_of_cells(encoders=1)
    device = Device(offset=14.0)
    alive = cells_of((300, 0, 0), 21)[0]
    dying = np.concatenate([alive, cells_of((0, 9, 15), 23)[0]])
    settings = replace(SETTINGS, kind="mean")
    late, labels = cells_of((150, 60, 90), 22)
    recalls = [
        dead_recall(
            called_by(align_states(bank, seen_by(device.seen(cells), 1), ["live"], settings), bank,
                      seen_by(device.seen(late), 1)), labels,
        )
        for cells in (alive, dying)
    ]  # fmt: skip
    assert abs(recalls[0] - recalls[1]) <= 0.03


def test_a_device_that_makes_live_cells_look_dead_is_not_trusted() -> None:
    """Only live cells move, onto where the reference has its dead ones: halves agree, the two spaces do not."""
    bank = bank_of_cells()
    centre = bank.embeddings["encoder0"][bank.labels == 2].mean(axis=0)
    moved = cells_of((300, 0, 0), 21)[0] + 0.9 * centre
    fit = align_states(bank, seen_by(np.asarray(moved, dtype=np.float32)), ["live"], SETTINGS)
    assert not fit.accepted
    assert fit.told["voters_agreement"] < SETTINGS.least_voters
    assert "death" in fit.told["why_not"][-1]


def test_a_fit_that_two_halves_disagree_on_is_not_accepted() -> None:
    fit = align_states(
        bank_of_cells(), seen_by(Device(offset=14.0).seen(cells_of((300, 0, 0), 21)[0])), ["live"],
        replace(SETTINGS, least_agreement=1.01),
    )  # fmt: skip
    assert not fit.accepted
    assert "halves" in fit.told["why_not"][0]


def _controls(cells: int) -> dict[str, np.ndarray]:
    return seen_by(cells_of((cells, 0, 0), 21)[0])


@pytest.mark.parametrize(
    ("target", "present", "settings", "says"),
    [
        (_controls(100), [], SETTINGS, "no class is said to be present"),
        (_controls(100), ["alive"], SETTINGS, "alive is no class"),
        (_controls(FEWEST - 1), ["live"], SETTINGS, "too little"),
        ({"encoder0": _controls(100)["encoder0"]}, ["live"], SETTINGS, "encoder1"),
        (_controls(100), ["live"], replace(SETTINGS, kind="fgw"), "no map for states"),
        ({name: np.ones_like(block) for name, block in _controls(100).items()}, ["live"], SETTINGS, "the same"),
        ({name: block * np.nan for name, block in _controls(100).items()}, ["live"], SETTINGS, "not finite"),
    ],
)
def test_what_cannot_be_fitted_is_refused(target: dict, present: list, settings: StatesSettings, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        align_states(bank_of_cells(), target, present, settings)


def test_the_typical_cells_leave_out_those_of_another_class() -> None:
    cells, labels = cells_of((200, 0, 20), 3)
    assert not (labels[typical(cells)] == 2).any()


@pytest.mark.parametrize(
    ("device", "kind"), [(Device(), "none"), (Device(offset=14.0), "mean"), (Device(offset=14.0, gain=3.0), "zscore")]
)
def test_the_simplest_map_that_does_is_taken(device: Device, kind: str) -> None:
    own, theirs = cells_of((300, 0, 0), 1)[0], device.seen(cells_of((300, 0, 0), 2)[0])
    assert best_kind(own, np.arange(300, dtype=np.int32), theirs).kind == kind


def test_collapsed_references_are_further_off_than_unmoved_ones() -> None:
    own, theirs = cells_of((200, 0, 0), 1)[0], cells_of((200, 0, 0), 2)[0]
    collapsed = np.repeat(theirs.mean(axis=0, keepdims=True), 200, axis=0)
    assert energy(collapsed.astype(float), theirs.astype(float)) > 10 * energy(own.astype(float), theirs.astype(float))


@pytest.mark.parametrize("kind", ["none", "mean", "zscore", "coral", "monge"])
def test_every_kind_of_shift_carries_the_middle_to_the_middle(kind: str) -> None:
    own, theirs = cells_of((200, 0, 0), 1)[0], Device(offset=8.0, gain=1.3).seen(cells_of((200, 0, 0), 2)[0])
    carried = applied(shift(kind, own, theirs), own)
    wanted = own if kind == "none" else theirs
    assert np.allclose(carried.mean(axis=0), wanted.mean(axis=0), atol=1e-3)


def test_absent_classes_are_drawn_in_as_wholes() -> None:
    bank = bank_of_cells(encoders=1)
    block = bank.embeddings["encoder0"]
    drawn = drawn_in(block, bank.labels, [0], 0.5)
    assert np.array_equal(drawn[bank.labels == 0], block[bank.labels == 0])
    for label in (1, 2):
        rows = bank.labels == label
        gap, before = (part[rows].mean(axis=0) - block[bank.labels == 0].mean(axis=0) for part in (drawn, block))
        assert np.allclose(gap, before / 2, atol=1e-4)
        assert np.allclose(np.cov(drawn[rows].T), np.cov(block[rows].T), atol=1e-3)


@pytest.mark.parametrize(
    ("shares", "missing"),
    [
        ({"live": 0.6, "apoptotic": 0.2, "necrotic": 0.2}, ()),
        ({"live": 0.97, "apoptotic": 0.02, "necrotic": 0.01}, ("dying", "dead")),
        ({"live": 0.5, "necrotic": 0.5}, ("dying",)),
        ({"debris": 1.0}, ("alive", "dying", "dead")),
        ({"live": 0.09, "apoptotic": 0.02, "necrotic": 0.02, "debris": 0.87}, ()),
    ],
)
def test_a_target_spans_the_groups_that_have_a_share(shares: dict, missing: tuple) -> None:
    groups = {**GROUPS, "debris": "artefact"}
    assert missing_groups(shares, groups) == missing


def test_an_all_alive_warm_up_is_refused_for_types() -> None:
    bank = bank_of_cells()
    fit = align_states(bank, _controls(300), ["live"], SETTINGS)
    with pytest.raises(UsageError, match="dying or dead") as caught:
        check_spans(fit.shares, GROUPS)
    assert "states" in str(caught.value)


def test_only_groups_that_the_index_has_are_asked_for() -> None:
    assert missing_groups({"live": 0.7, "dead": 0.3}, {"live": "alive", "dead": "dead"}) == ()
    with pytest.raises(UsageError, match="mystery"):
        missing_groups({"mystery": 1.0}, GROUPS)
