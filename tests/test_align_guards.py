"""Where death is common: 80 % of the target's cells are dead, 10 % of the reference's. Shares follow the truth."""

from dataclasses import replace

import numpy as np
import pytest

from cellvigil_indexes.aligning.align import AlignSettings, align
from cellvigil_indexes.aligning.maps.catalogue import MAPS
from cellvigil_indexes.aligning.states.align import StatesSettings, align_states
from cellvigil_indexes.aligning.states.spanning import missing_groups
from cellvigil_indexes.bank import Bank
from cellvigil_indexes.calling import ewc
from states_cells import CALLING, CLASSES, GROUPS, Device, bank_of_cells, called_by, cells_of, seen_by

DEVICE = Device(offset=14.0, gain=1.2)
REFERENCE, TREATED, CONTROL = (260, 12, 28), (40, 20, 240), (300, 0, 0)


@pytest.fixture(scope="module")
def reference() -> Bank:
    return bank_of_cells(REFERENCE)


@pytest.fixture(scope="module")
def treated() -> tuple[dict[str, np.ndarray], np.ndarray]:
    cells, labels = cells_of(TREATED, 31)
    return seen_by(DEVICE.seen(cells)), labels


def dead_share(best: np.ndarray) -> float:
    return float((best == CLASSES.index("necrotic")).mean())


def test_balanced_transport_forces_the_references_shares(reference: Bank, treated: tuple) -> None:
    """Why the guards are there."""
    target, labels = treated
    mapped = MAPS["fgw"](reference.embeddings["encoder0"], reference.labels, target["encoder0"], None)
    alone = replace(reference, embeddings={"encoder0": mapped.vectors})
    found = dead_share(ewc(alone, target, CALLING).best)
    assert abs(found - dead_share(labels)) > 0.3


def test_types_follow_the_truth_within_five_points(reference: Bank, treated: tuple) -> None:
    target, labels = treated
    fit = align(reference, target, AlignSettings(filter=False, unmatched=False))
    assert abs(dead_share(called_by(fit, reference, target)) - dead_share(labels)) <= 0.05
    assert abs(fit.shares["necrotic"] - dead_share(labels)) <= 0.1


def test_states_fitted_on_controls_follow_the_truth_within_five_points(reference: Bank, treated: tuple) -> None:
    target, labels = treated
    controls = seen_by(DEVICE.seen(cells_of(CONTROL, 32)[0]))
    fit = align_states(reference, controls, ["live"], StatesSettings(calling=CALLING))
    assert abs(dead_share(called_by(fit, reference, target)) - dead_share(labels)) <= 0.05
    assert abs(dead_share(called_by(fit, reference, controls))) <= 0.05
    assert fit.accepted, fit.told["why_not"]


def test_a_treated_target_without_live_cells_does_not_span_the_groups() -> None:
    assert missing_groups({"live": 0.02, "apoptotic": 0.08, "necrotic": 0.9}, GROUPS) == ("alive",)
