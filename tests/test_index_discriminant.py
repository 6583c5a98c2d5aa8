"""`--scale discriminant`: an index that is searched along axes fitted on its own reference cells."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cellvigil import decide, pipeline
from cellvigil.bundle.index import ReferenceCell, open_index
from cellvigil.data import ImageRule
from cellvigil.errors import BundleError, UsageError
from cellvigil.neighbours import open_search
from cellvigil_indexes import discriminant
from cellvigil_indexes.bank import bank_of
from cellvigil_indexes.calling import ewc
from cellvigil_indexes.collected import Collected
from cellvigil_indexes.draft import Draft, draft_of
from cellvigil_indexes.evaluating.certifying import certified
from cellvigil_indexes.evaluating.parts import part_of
from cellvigil_indexes.settings import IndexSettings
from cellvigil_indexes.splitting import folds, units_of
from cellvigil_indexes.tuning.choose import choose
from cellvigil_indexes.tuning.grid import Grid
from cellvigil_indexes.versions import succeed
from cellvigil_indexes.writing import write_index

CLASSES = ("live", "dying", "dead")
ALONG = IndexSettings(k_max=48, scaling="discriminant")


def drawn(counts, seed, dimensions=40):
    """Classes that differ in two dimensions, and vary fourfold in all others: plain distances are mostly noise."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(3), counts)).astype(np.int16)
    vectors = rng.normal(size=(len(labels), dimensions)) * 4
    vectors[:, :2] = rng.normal(size=(len(labels), 2)) + 5 * np.array([[0, 0], [1, 0], [0, 1]])[labels]
    return vectors.astype(np.float32), labels


def written(folder, settings=ALONG, *, share=0, counts=(200, 120, 80), **more):
    vectors, labels = drawn(counts, 1)
    cells = [ReferenceCell(CLASSES[label], f"{i}.png", (0, 0, 9, 9), str(i // 2)) for i, label in enumerate(labels)]
    collected = Collected(
        cells, {"e": vectors, "f": vectors[:, ::-1].copy()}, np.zeros((len(cells), 64, 64, 1), np.uint8)
    )
    groups, encoders = dict.fromkeys(CLASSES, "none"), {"e": "0" * 64, "f": "1" * 64}
    write_index(folder, Draft(collected, None, groups, encoders, ["e", "f"], ImageRule(), settings, {}, **more))
    return open_index(folder)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return written(tmp_path_factory.mktemp("along") / "index")


def live(seed=7, counts=(100, 100, 100)):
    vectors, labels = drawn(counts, seed)
    return {"e": vectors, "f": vectors[:, ::-1].copy()}, labels


def called(index, embeddings):
    return pipeline.called(embeddings, index, open_search(index), decide.Settings.of(index))


def test_it_finds_what_plain_distances_miss(index, tmp_path):
    embeddings, labels = live()
    plain = written(tmp_path / "plain", IndexSettings(k_max=48))
    assert np.mean(called(index, embeddings).best_ids == labels) > 0.9
    assert np.mean(called(plain, embeddings).best_ids == labels) < 0.7


def test_what_is_read_is_what_was_fitted(index):
    axes = discriminant.fit(index.embeddings["e"], index.labels)
    np.testing.assert_array_equal(index.projections["e"].matrix, axes.matrix)
    np.testing.assert_array_equal(index.projected["e"], axes.of(index.embeddings["e"]))
    assert index.projected["e"].shape == (400, 2)


def test_the_bundle_calls_as_plain_arrays_do(index):
    embeddings, _ = live()
    calls, plain = called(index, embeddings), ewc(bank_of(index), embeddings, ALONG)
    np.testing.assert_array_equal(calls.best_ids, plain.best)
    np.testing.assert_array_equal(calls.k, plain.k)


def test_a_call_does_not_depend_on_its_batch(index):
    embeddings, _ = live()
    whole = called(index, embeddings)
    for row in (0, 150, 299):
        alone = called(index, {name: block[row : row + 1] for name, block in embeddings.items()})
        np.testing.assert_array_equal(alone.neighbours[0], whole.neighbours[row])
        np.testing.assert_array_equal(alone.probabilities[0], whole.probabilities[row])


def test_ordinary_new_cells_are_not_novel(index):
    """References measured along their own axes would make one new cell in four look strange."""
    p = called(index, live()[0]).novelty_p
    assert np.mean(p < 0.05) < 0.1


def test_its_probability_holds_for_new_cells(index):
    embeddings, labels = live(11, (200, 120, 80))
    calls = called(index, embeddings)
    sure = calls.probabilities[np.arange(len(labels)), calls.best_ids]
    assert sure.mean() == pytest.approx(np.mean(calls.best_ids == labels), abs=0.05)


def test_its_first_figure_is_not_taken_along_its_own_axes(index):
    embeddings, labels = live(13, (200, 120, 80))
    right = np.mean(called(index, embeddings).best_ids == labels)
    assert index.manifest["evaluation"]["accuracy"] == pytest.approx(right, abs=0.06)


def test_a_change_fits_the_axes_again(tmp_path):
    before = written(tmp_path / "index")
    draft = draft_of(before)
    fewer = draft.collected.rows(np.arange(300))
    after = succeed(
        before, Draft(**{**{f: getattr(draft, f) for f in draft.__dataclass_fields__}, "collected": fewer}), "x"
    )
    axes = discriminant.fit(after.embeddings["e"], after.labels)
    np.testing.assert_array_equal(after.projections["e"].matrix, axes.matrix)


def test_a_part_of_it_knows_nothing_of_the_rest(index):
    rows = np.arange(0, 400, 2)
    part = part_of(index, rows)
    axes = discriminant.fit(index.embeddings["e"][rows], index.labels[rows])
    np.testing.assert_array_equal(part.projections["e"].matrix, axes.matrix)
    caller = certified(index, rows, 0)
    assert caller.index.calibration is not None
    assert caller.index.calibration.confidence is not None


def test_tuning_scores_what_an_index_of_the_split_would_call(index):
    bank = bank_of(index)
    splits = folds(bank.labels, units_of(bank.groups, "group"), 3, 0, bank.classes)
    grid = Grid(k_min=(3,), k_max=(48,), threshold=(0.3,), reweight=(True,), scaling=("none", "discriminant"))
    tuned = choose(bank, grid, splits)
    assert tuned.settings.scaling == "discriminant"
    for trial in tuned.trials:
        for split, score in zip(splits, trial.scores, strict=True):
            asked = bank.rows(split.validation)
            best = ewc(bank.rows(split.reference), asked.embeddings, trial.settings, trial.encoders).best
            recalls = [np.mean(best[asked.labels == c] == c) for c in range(3)]
            assert score == pytest.approx(np.mean(recalls), abs=1e-9)


def test_canberra_has_no_axes():
    with pytest.raises(UsageError, match="no Canberra distance"):
        IndexSettings(scaling="discriminant", metric="canberra")
    assert ("canberra", "discriminant") not in Grid(metric=("l2", "canberra")).spaces


def test_one_class_has_no_axes(tmp_path):
    with pytest.raises(UsageError, match="one class"):
        written(tmp_path / "one", counts=(40, 0, 0))


def test_a_bundle_that_lost_its_cells_along_the_axes_is_not_opened(tmp_path):
    folder = written(tmp_path / "index").folder
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"]["projected_e.npy"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"does not list projected_e\.npy"):
        open_index(folder)


def test_half_precision_calls_the_same(tmp_path):
    index = written(tmp_path / "half", IndexSettings(k_max=48, scaling="discriminant", storage="float16"))
    assert index.embeddings["e"].dtype == np.float16
    assert index.manifest["storage_check"]["agreement"] >= 0.995
    embeddings, labels = live()
    assert np.mean(called(index, embeddings).best_ids == labels) > 0.9


def test_a_graph_stands_over_the_axes(tmp_path):
    index = written(tmp_path / "graph", IndexSettings(k_max=48, scaling="discriminant", search="hnsw"))
    embeddings, labels = live()
    assert np.mean(called(index, embeddings).best_ids == labels) > 0.9
