"""How an index's calls go wrong: measured when it is written, kept in its manifest, told in each plate's journal."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cellvigil import decide
from cellvigil.bundle.calibration import Calibration
from cellvigil.bundle.confusion import IndexConfusion, confusion_as_dict, confusion_from_dict
from cellvigil.bundle.files import MANIFEST
from cellvigil.bundle.index import ReferenceCell, open_index
from cellvigil.cli import main
from cellvigil.data import CallConfusion, ImageRule
from cellvigil.errors import BundleError
from cellvigil.journal import read
from cellvigil.ledger import Ledger, called_by, joined
from cellvigil_indexes.bank import bank_of
from cellvigil_indexes.calibrating import NOVEL_BELOW
from cellvigil_indexes.calibrating.confusing import UNMEASURED, correlation_of, effect_of
from cellvigil_indexes.calling import ewc
from cellvigil_indexes.cli import main as index_command
from cellvigil_indexes.collected import Collected
from cellvigil_indexes.crossfit import parts_of
from cellvigil_indexes.draft import Draft, draft_of
from cellvigil_indexes.settings import IndexSettings
from cellvigil_indexes.versions import succeed
from cellvigil_indexes.writing import write_index
from index_fixtures import write_plain_index
from lab import Lab
from test_decide import CONFIDENCE, reference

GROUPS = {"live": "alive", "dying": "dying", "dead": "dead"}


def written(folder, *, cells=240, groups=60, apart=1.6, lone=False, **settings):
    """An index of three classes that overlap; `lone`: all cells of the last class are of one group."""
    rng = np.random.default_rng(5)
    labels = np.minimum(rng.integers(0, 4, cells), 2)
    vectors = (rng.normal(size=(cells, 6)) + apart * np.eye(6)[labels]).astype(np.float32)
    names = [f"g{0 if lone and label == 2 else 1 + i % groups}" for i, label in enumerate(labels)]
    references = [
        ReferenceCell(list(GROUPS)[label], f"{i}.png", (0, 0, 9, 9), names[i]) for i, label in enumerate(labels)
    ]
    collected = Collected(references, {"one": vectors}, np.zeros((cells, 64, 64, 1), np.uint8))
    rule = ImageRule(pixel_size_um=0.5, crop_um=20.0)
    draft = Draft(collected, None, GROUPS, {"one": "0" * 64}, ["one"], rule, IndexSettings(k_max=20, **settings), {})
    write_index(folder, draft)
    return open_index(folder)


@pytest.mark.parametrize(
    "settings", [{}, {"reweight": False}, {"metric": "canberra"}, {"scaling": "discriminant"}], ids=str
)
def test_the_confusion_is_what_an_index_without_a_cells_groups_would_call(tmp_path, settings):
    index = written(tmp_path / "index", **settings)
    bank, how = bank_of(index), IndexSettings(k_max=20, **settings)
    parts, counts, novel = parts_of(bank), np.zeros((3, 4), int), 0
    rejecting = np.zeros((3, 4), int)
    for part in np.unique(parts):
        asked = np.flatnonzero(parts == part)
        rest = bank.rows(np.flatnonzero(parts != part))
        called = ewc(rest, {"one": bank.embeddings["one"][asked]}, how)
        for row, best in zip(asked, called.best, strict=True):
            truth = bank.labels[row]
            counts[truth, best] += 1
            others = np.flatnonzero((bank.labels == best) & (np.arange(len(bank)) != row))
            p = (1 + np.sum(index.novelty[others] >= index.novelty[row])) / (1 + len(others))
            novel += p < NOVEL_BELOW
            rejecting[truth, 3 if p < NOVEL_BELOW else best] += 1
    assert index.confusion.plain.counts == tuple(map(tuple, counts.tolist()))
    assert 0 < np.trace(counts) < counts.sum()  # some are right, some wrong
    # A class too small for so small a p-value never rejects.
    if index.calibration.novel_below is None:
        assert index.confusion.rejecting is None
    else:
        assert index.confusion.rejecting.counts == tuple(map(tuple, rejecting.tolist()))
    assert index.confusion.measured["cells"] == len(index)


def test_novel_cells_stand_in_the_unknown_column_where_novel_cells_are_rejected(tmp_path):
    index = written(tmp_path / "index", cells=900, groups=300)
    plain, rejecting = (np.array(one.counts) for one in (index.confusion.plain, index.confusion.rejecting))
    assert plain[:, 3].tolist() == [0, 0, 0]
    assert 0 < rejecting[:, 3].sum() < 0.03 * plain.sum()  # p below 0.01, of cells like the references
    assert (plain[:, :3] - rejecting[:, :3]).sum(axis=1).tolist() == rejecting[:, 3].tolist()


def test_a_class_of_one_group_leaves_no_confusion_and_says_why(tmp_path, capsys):
    index = written(tmp_path / "index", lone=True)
    assert (index.confusion.plain, index.confusion.rejecting) == (None, None)
    assert "no cell of dead can be judged" in index.confusion.measured["why_not"]
    assert index_command(["show", str(index.folder)]) == 0
    assert "not corrected for its errors: no cell of dead can be judged" in capsys.readouterr().out


def test_every_version_of_an_index_has_its_own(tmp_path):
    folder = write_plain_index(tmp_path / "plain", cells=60, groups=20)
    first = open_index(folder)
    assert first.confusion.plain.counts == ((30, 0, 0), (0, 30, 0))
    assert index_command(["drop", str(folder), "--group", "3"]) == 0
    assert sum(map(sum, open_index(folder).confusion.plain.counts)) == 57
    fewer = draft_of(open_index(folder))
    tuned = succeed(open_index(folder), fewer, "tuned")
    assert sum(map(sum, tuned.confusion.plain.counts)) == 57


def test_an_index_of_an_older_version_has_none(tmp_path, capsys):
    folder = write_plain_index(tmp_path / "plain")
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    del manifest["confusion"]
    path.write_text(json.dumps(manifest))
    index = open_index(folder)
    assert index.confusion is None
    assert decide.confusion_of(index, decide.Settings.of(index), decide.Rejection()) is None
    assert index_command(["show", str(folder)]) == 0
    assert "it is of an older version" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [
        {"plain": {"counts": [[1, 2, 0]], "effects": [1.0, 1.0]}},
        {"plain": {"counts": [[1, 2], [1, 2]], "effects": [1.0, 1.0]}},
        {"plain": {"counts": [[1, -2, 9], [1, 2, 3]], "effects": [1.0, 1.0]}},
        {"plain": {"counts": [[0, 0, 0], [1, 2, 3]], "effects": [1.0, 1.0]}},
        {"plain": {"counts": [[1, 2, 3], [1, 2, 3]], "effects": [0.5, 1.0]}},
        {"plain": {"counts": [[1, 2, 3], [1, 2, 3]], "effects": [float("nan"), 1.0]}},
        {"plain": {"counts": "many", "effects": [1.0, 1.0]}},
        {"plain": {"effects": [1.0, 1.0]}},
        {"plain": 5},
    ],
)
def test_a_garbled_confusion_is_told(tmp_path, change):
    folder = write_plain_index(tmp_path / "plain", cells=60, groups=20)
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["confusion"] |= change
    path.write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="garbles"):
        open_index(folder)


def test_a_manifest_keeps_all_of_it():
    one = CallConfusion(((3, 1, 0), (0, 7, 2)), (1.0, 2.5))
    for rejecting in (one, None):
        whole = IndexConfusion(one, rejecting, {"how": "by hand"})
        assert confusion_from_dict(json.loads(json.dumps(confusion_as_dict(whole))), 2) == whole


# --- design effects


def slow_correlation(tables):
    """One-way analysis of variance of indicator vectors, cell by cell."""
    between = within = spread = 0.0
    free_between = free_within = 0
    for table in tables:
        cells = [(g, c) for g, row in enumerate(table) for c, n in enumerate(row) for _ in range(n)]
        one_hot = np.eye(table.shape[1])
        grand = np.mean([one_hot[c] for _, c in cells], axis=0)
        for g in range(len(table)):
            mine = np.array([one_hot[c] for h, c in cells if h == g])
            between += len(mine) * np.sum((mine.mean(axis=0) - grand) ** 2)
            within += np.sum((mine - mine.mean(axis=0)) ** 2)
            spread -= len(mine) ** 2 / len(cells)
        spread += len(cells)
        free_between += len(table) - 1
        free_within += len(cells) - len(table)
    if not free_between or not free_within or not between + within:
        return 0.0
    size, outer, inner = spread / free_between, between / free_between, within / free_within
    whole = outer + (size - 1) * inner
    return (outer - inner) / whole if whole > 1e-9 else 0.0


@given(
    st.lists(
        st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3).filter(any), min_size=1, max_size=6),
        min_size=1,
        max_size=3,
    )
)
@example([[[0, 1, 1]], [[0, 0, 1], [0, 0, 1]]])  # nothing to divide by
def test_the_correlation_is_that_of_the_analysis_of_variance(tables):
    arrays = [np.array(table) for table in tables]
    assert correlation_of(arrays)[0] == pytest.approx(slow_correlation(arrays), abs=1e-9)


@pytest.mark.parametrize("rho", [0.0, 0.05, 0.3])
def test_effects_are_what_makes_a_row_scatter_so_much(rho):
    """A class's rates over many indexes scatter as those of cells / effect independent cells do."""
    rng = np.random.default_rng(3)
    sizes = rng.integers(1, 30, 60)
    right, draws = 0.8, 400
    shares, effects = [], []
    for _ in range(draws):
        rates = rng.beta(right * (1 / rho - 1), (1 - right) * (1 / rho - 1), 60) if rho else np.full(60, right)
        hits = rng.binomial(sizes, rates)
        table = np.stack([hits, sizes - hits], axis=1)
        shares.append(hits.sum() / sizes.sum())
        effects.append(effect_of(table, max(0.0, correlation_of([table])[0])))
    expected = right * (1 - right) / sizes.sum() * np.mean(effects)
    assert 0.75 < np.var(shares, ddof=1) / expected < 1.25
    assert min(effects) >= 1


def test_few_groups_are_taken_for_correlated_and_single_cells_as_they_are(tmp_path):
    few = written(tmp_path / "few", groups=3).confusion
    assert few.measured["correlation_basis"] == "default"
    sizes = 240 / 3
    assert all(effect > 1 + (0.3 * sizes - 1) * UNMEASURED * 0.5 for effect in few.plain.effects)
    single = written(tmp_path / "single", groups=240).confusion
    assert (single.measured["correlation"], single.measured["correlation_basis"]) == (None, "one cell a group")
    assert single.plain.effects == (1.0, 1.0, 1.0)


# --- which of them holds


ONE = CallConfusion(((3, 1, 0), (0, 7, 2)), (1.0, 2.0))
OTHER = CallConfusion(((3, 0, 1), (0, 5, 4)), (1.0, 2.0))
NO_P = Calibration(None, None, None, {})
NOVEL = Calibration(None, None, 0.01, {})


@pytest.mark.parametrize(
    ("calibration", "rejection", "changes", "expected"),
    [
        (NOVEL, decide.Rejection(), {}, (ONE, False)),
        (NOVEL, decide.Rejection(same_device=True), {}, (OTHER, False)),
        (NO_P, decide.Rejection(same_device=True), {}, (ONE, False)),  # nothing is ever rejected then
        (None, decide.Rejection(same_device=True), {}, (ONE, False)),
        (NO_P, decide.Rejection(min_probability=0.5), {}, (ONE, False)),  # has no effect either
        (Calibration(CONFIDENCE, None, None, {}), decide.Rejection(min_probability=0.5), {}, (None, True)),
        (NOVEL, decide.Rejection(), {"k_min": 5}, (None, True)),
        (NOVEL, decide.Rejection(), {"k_max": 50}, (None, True)),
        (NOVEL, decide.Rejection(), {"threshold": 0.1}, (None, True)),
        (NOVEL, decide.Rejection(), {"k_min": 3, "k_max": 100, "threshold": 0.3}, (ONE, False)),  # the index's own
    ],
)
def test_the_confusion_is_that_of_the_way_a_source_calls(calibration, rejection, changes, expected):
    index = replace(reference([0, 1, 0, 1], calibration=calibration), confusion=IndexConfusion(ONE, OTHER, {}))
    settings = decide.Settings.of(index, **changes)
    found = decide.confusion_of(index, settings, rejection), decide.overrides(index, settings, rejection)
    assert found == expected


# --- in the journal


def bundle_lines(lab: Lab):
    (journal,) = lab.store.rglob("journal.jsonl")
    return [line for line in read(journal) if line["kind"] == "bundle"]


@pytest.fixture
def filmed(lab: Lab):
    lab.film(timepoints=2)
    return lab


def once(lab: Lab, **changes):
    assert main(["once", "--config", str(lab.config_file(**changes))]) == 0
    (series,) = lab.ledger().series()
    (called,) = lab.ledger().bundles(series)
    return called


def test_a_store_alone_tells_how_its_index_goes_wrong(filmed: Lab):
    called = once(filmed)
    confusion = open_index(filmed.indexes / "states").confusion.plain
    for row, counts, effect in zip(called.confusion, confusion.counts, confusion.effects, strict=True):
        assert row == tuple(cells / effect for cells in counts)
    assert not called.overridden
    assert once(filmed) == called  # after a restart
    assert len(bundle_lines(filmed)) == 1


def test_settings_of_another_kind_take_it_away(filmed: Lab):
    called = once(filmed, classify={"indexes": str(filmed.indexes), "threshold": 0.11})
    assert (called.confusion, called.overridden) == (None, True)
    (line,) = bundle_lines(filmed)
    assert (line["confusion"], line["confusion_overridden"]) == (None, True)


def test_settings_changed_in_mid_assay_take_it_away_for_good(filmed: Lab):
    second, third = (next(filmed.images.rglob(f"{well}_*_002.tif")) for well in ("A1", "B1"))
    kept = {path: path.rename(filmed.root / path.name) for path in (second, third)}
    assert not once(filmed).overridden
    kept[second].rename(second)
    assert once(filmed, classify={"indexes": str(filmed.indexes), "threshold": 0.11}).overridden
    kept[third].rename(third)
    called = once(filmed)  # as at first, but cells between were called otherwise
    assert (called.confusion, called.overridden) == (None, True)
    assert len(bundle_lines(filmed)) == 2


def line_of(confusion=None, *, overridden=False, **more):
    line = {"kind": "bundle", "sha256": "ab", "classes": ["a", "b"], "groups": {}, "table": "t", **more}
    line["series"] = ["s", "e", "p"]
    if confusion is not None:
        line["confusion"] = {"counts": confusion.counts, "effects": confusion.effects}
    if overridden:
        line["confusion_overridden"] = True
    return line


def test_a_journal_of_before_there_were_confusions_folds():
    ledger = Ledger()
    ledger.add({**line_of(), "seq": 1})
    (called,) = ledger.bundles(("s", "e", "p"))
    assert (called.confusion, called.overridden) == (None, False)
    ledger.add({**line_of(ONE), "seq": 2})
    (called,) = ledger.bundles(("s", "e", "p"))
    assert called.confusion == ((3.0, 1.0, 0.0), (0.0, 3.5, 1.0))


WAYS = [line_of(), line_of(ONE), line_of(OTHER), line_of(overridden=True)]


@pytest.mark.parametrize("lines", list(itertools.product(WAYS, repeat=3)))
def test_lines_of_one_index_say_the_same_in_any_order(lines):
    said = {str(line.get("confusion")) for line in lines} - {"None"}
    mixed = len(said) > 1 or any(line.get("confusion_overridden") for line in lines)
    for order in itertools.permutations(lines):
        whole = called_by(order[0])
        for line in order[1:]:
            whole = joined(whole, called_by(line))
        assert whole.overridden is mixed
        assert (whole.confusion is not None) is (bool(said) and not mixed)
        assert joined(whole, whole) == whole
