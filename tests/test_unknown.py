"""Cells that the daemon calls unknown: only on the index's own device, only with a calibrated index, and it says so."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from cellvigil import config
from cellvigil.bundle.confusion import IndexConfusion
from cellvigil.bundle.encoder import open_encoder
from cellvigil.bundle.index import ReferenceCell, open_index
from cellvigil.cli import main
from cellvigil.data import CallConfusion
from cellvigil.service.opening import Bundles, open_bundles, open_kitchen, warnings_of
from cellvigil.table import rows
from cellvigil_indexes.collected import Collected
from cellvigil_indexes.draft import Draft
from cellvigil_indexes.settings import IndexSettings
from cellvigil_indexes.writing import write_index
from lab import Lab
from test_decide import CALIBRATED, CONFIDENCE, calibration, reference

GROUPS = {"live": "alive", "dead": "dead"}
CONFUSION = CallConfusion(((3, 1, 0, 0), (0, 7, 1, 0), (0, 0, 2, 0)), (1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory, state_indexes, lite0):
    """A folder with an index `far` of vectors that no live cell comes near, calibrated; and the lab's own index."""
    folder = tmp_path_factory.mktemp("far")
    shutil.copytree(state_indexes / "states", folder / "states")
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 2
    vectors = (100 + 0.05 * labels[:, None] + rng.normal(size=(300, 1280))).astype(np.float32)
    cells = [ReferenceCell(list(GROUPS)[label], f"{i}.png", (0, 0, 9, 9), str(i)) for i, label in enumerate(labels)]
    collected = Collected(cells, {lite0.name: vectors}, np.zeros((300, 64, 64, 1), np.uint8))
    rule = open_index(folder / "states").image_rule
    encoders = {lite0.name: open_encoder(lite0).sha256}
    write_index(folder / "far", Draft(collected, None, GROUPS, encoders, [lite0.name], rule, IndexSettings(), {}))
    return folder


@pytest.mark.parametrize(("same_device", "state"), [(True, {"unknown"}), (False, {"live", "dead"})])
def test_novel_cells_become_unknown_where_the_source_says_so(lab: Lab, elsewhere, same_device, state):
    lab.film(timepoints=1)
    source = {"index": "far", "same_device_as_index": same_device}
    path = lab.config_file(source=source, classify={"indexes": str(elsewhere)})
    assert main(["once", "--config", str(path)]) == 0
    found = [row for batch in rows(lab.store) for row in batch.to_pylist()]
    assert len(found) > 3
    assert {row["state"] for row in found} <= state
    assert {row["unknown_reason"] for row in found} == ({"novel"} if same_device else {None})
    assert all(row["novelty_p"] < 0.01 for row in found)  # reported either way
    assert all(0 < row["probability"] < 1 for row in found)


def test_the_recipe_has_what_the_configuration_says(lab: Lab, elsewhere):
    classify = {"indexes": str(elsewhere), "min_probability": 0.7}
    settings = lab.config(source={"same_device_as_index": True}, classify=classify)
    rejection = open_kitchen(settings, open_bundles(settings)).recipes["scope"].rejection
    assert (rejection.same_device, rejection.min_probability) == (True, 0.7)


def test_check_warns_of_a_floor_that_has_no_effect(lab: Lab, capsys):
    path = lab.config_file(classify={"indexes": str(lab.indexes), "min_probability": 0.9})
    main(["check", "--config", str(path)])
    assert "warn  index         source scope: index states has no calibrated probability" in capsys.readouterr().out


NO_PROBABILITY = "classify.min_probability has no effect"
NO_NOVELTY = "same_device_as_index has no effect"
OVERRIDDEN = "was calibrated for its own k_min"
NOT_CORRECTED = "is overridden by classify: shares are not corrected"


@pytest.mark.parametrize(
    ("fitted", "source", "classify", "said"),
    [
        (None, {}, {}, []),
        (None, {"same_device_as_index": True}, {"min_probability": 0.5}, [NO_PROBABILITY, NO_NOVELTY]),
        (calibration(None, novel_below=None), {}, {"min_probability": 0.5}, [NO_PROBABILITY]),
        (calibration(), {"same_device_as_index": True}, {"min_probability": 0.5}, [NOT_CORRECTED]),
        (calibration(CONFIDENCE), {}, {"k_min": 2}, [OVERRIDDEN, NOT_CORRECTED]),
        (calibration(CONFIDENCE), {}, {"k_min": 2, "min_probability": 0.5}, [NO_PROBABILITY, NOT_CORRECTED]),
        (calibration(CONFIDENCE), {}, {"k_min": 3}, []),  # as the index says itself
        (calibration(None), {}, {"k_min": 2}, [NOT_CORRECTED]),
        (calibration(novel_below=None), {"same_device_as_index": True}, {}, [NO_NOVELTY]),
    ],
)
def test_settings_that_have_no_effect_are_told_of(tmp_path, fitted, source, classify, said):
    given = {"name": "a", "kind": "gen5", "path": "in", "timezone": "UTC", "index": "i", **source}
    settings = config.parse({"sources": [given], "classify": classify}, base=tmp_path)
    index = replace(reference(**CALIBRATED, calibration=fitted), confusion=IndexConfusion(CONFUSION, None, {}))
    found = warnings_of(settings, Bundles({"a": index}, {}))
    assert len(found) == len(said)
    for text, part in zip(found, said, strict=True):
        assert text.startswith("source a: index hand ")
        assert part in text


@pytest.mark.parametrize(
    ("confusion", "why"),
    [(None, "it is of an older version"), (IndexConfusion(None, None, {"why_not": "all of one group"}), "one group")],
)
def test_an_index_that_does_not_know_its_errors_is_told_of(tmp_path, confusion, why):
    given = {"name": "a", "kind": "gen5", "path": "in", "timezone": "UTC", "index": "i"}
    index = replace(reference(**CALIBRATED, calibration=calibration()), confusion=confusion)
    (text,) = warnings_of(config.parse({"sources": [given]}, base=tmp_path), Bundles({"a": index}, {}))
    assert why in text
    assert "shares are not corrected; build it again" in text


@pytest.mark.parametrize("value", [-0.1, 1.1, "high"])
def test_a_floor_outside_0_to_1_is_refused(tmp_path, value):
    given = {"name": "a", "kind": "gen5", "path": "in", "timezone": "UTC", "index": "i"}
    with pytest.raises(config.UsageError, match=r"classify\.min_probability"):
        config.parse({"sources": [given], "classify": {"min_probability": value}}, base=tmp_path)
