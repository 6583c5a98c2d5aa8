"""The section of a report on how an index was carried to another device, and the record that it is drawn from."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from aligned_fixtures import hand_made
from cellvigil_indexes.aligned import write_aligned
from cellvigil_indexes.aligning.recorded import record_of
from cellvigil_indexes.aligning.sharing.matching import probability
from cellvigil_indexes.report.charts import chart
from cellvigil_indexes.report.score_plots import score_plot
from cellvigil_indexes.report.write import write_report
from report_fixtures import HOSTILE, write_reportable
from test_report_browser import browser, opened
from test_report_page import Page

__all__ = ["browser"]  # a fixture

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(the reference, the alignment, the target's vectors, the folder of all) of a hand-made alignment."""
    folder = tmp_path_factory.mktemp("aligned")
    index = write_reportable(folder / "all")
    rng = np.random.default_rng(3)
    rows = rng.permutation(len(index))[:120]
    target = {
        encoder.name: (np.asarray(index.embeddings[encoder.name])[rows] * 1.5 + 4).astype(np.float32)
        for encoder in index.encoders
    }
    return index, hand_made(index, target, least=0.0), target, folder


@pytest.fixture(scope="module")
def reported(made):
    """(numbers, page) of the aligned index."""
    index, alignment, target, folder = made
    whole = write_aligned(
        folder / "carried", index, alignment, witnesses=target, target_provenance={"cells": 150, "fit_cells": 120}
    )
    numbers = write_report(whole, folder / "carried.html", projection="pca", now=NOW, tell=lambda _step: None)
    return numbers, (folder / "carried.html").read_text(encoding="utf-8")


def test_the_record_is_json_and_says_all(made):
    index, alignment, _, _ = made
    record = json.loads(json.dumps(record_of(alignment, index.classes), allow_nan=False))
    assert record["kept"] == list(index.classes)
    assert record["dropped"] == []
    assert record["unmatched"] == {"unmatched 1": 4}
    assert sum(each["cells"] for each in record["clusters"]) == 120
    assert np.array(record["scores"]["row"]).shape == (len(record["clusters"]), len(index.classes))
    sure = np.clip(probability(np.array(record["scores"]["row"]), np.array(record["scores"]["column"])), 0, 1)
    np.testing.assert_allclose(record["scores"]["probability"], sure, atol=1e-3)
    for each, row in zip(record["clusters"], record["scores"]["probability"], strict=True):
        assert each["probability"] == max(row)
        assert record["scores"]["classes"][row.index(max(row))] == each["match"]


def test_the_page_has_the_section_with_pictures_of_both_sides_and_a_plot_a_cluster(reported):
    numbers, text = reported
    page = Page(text)
    assert "Alignment" in page.text
    assert numbers["alignment"]["accepted"] is True
    words = [each["aria-label"] for each in page.all("svg")]
    assert sum("projection before alignment" in each for each in words) == 1
    assert sum("projection after alignment" in each for each in words) == 1
    assert sum("Scores of cluster" in each for each in words) == len(numbers["alignment"]["clusters"])
    assert "93.0 %" in page.text
    assert "88.0 %" in page.text
    for voter in numbers["alignment"]["voters"]:
        assert voter["name"] in page.text


def test_names_and_warnings_from_elsewhere_stay_text(reported):
    _, text = reported
    page = Page(text)
    assert not page.all("script")
    assert "<b>mind</b> the gap" in page.text
    for name in HOSTILE:
        assert " ".join(name.split()) in page.text


def test_an_index_that_was_not_aligned_has_no_such_section(made, tmp_path):
    index, _, _, _ = made
    write_report(index, tmp_path / "plain.html", projection="pca", now=NOW, tell=lambda _step: None)
    assert 'id="alignment"' not in (tmp_path / "plain.html").read_text(encoding="utf-8")


def test_a_bundle_without_cells_of_the_target_draws_no_projection_and_says_so(made, tmp_path):
    index, alignment, _, _ = made
    whole = write_aligned(tmp_path / "bare", index, alignment)
    write_report(whole, tmp_path / "bare.html", projection="pca", now=NOW, tell=lambda _step: None)
    text = (tmp_path / "bare.html").read_text(encoding="utf-8")
    assert "keeps no cell of the target" in text
    assert "projection before alignment" not in text


@pytest.mark.parametrize("classes", [1, 2, 8, 40])
def test_labels_of_a_score_plot_do_not_cover_each_other_and_the_match_has_one(classes):
    rng = np.random.default_rng(classes)
    row, column = rng.uniform(-1, 1, (2, classes))
    row[0] = column[0] = 1.0
    drawn = str(chart("plot", "scores", (2.5, 2.55), score_plot(row, column, 0)))
    assert "1: 1.00" in drawn
    written = re.findall(r">(\d+)(?:: [\d.]+)?</text>", drawn)
    assert len(written) <= classes + 6  # six ticks


def test_not_accepted_is_said_in_the_page(made, tmp_path: Path):
    index, _, target, _ = made
    alignment = hand_made(index, target, accepted=False)
    whole = write_aligned(tmp_path / "forced", index, alignment, witnesses=target)
    numbers = write_report(whole, tmp_path / "forced.html", projection="pca", now=NOW, tell=lambda _step: None)
    assert numbers["alignment"]["accepted"] is False
    assert "written by --force" in (tmp_path / "forced.html").read_text(encoding="utf-8")


def test_it_opens_in_a_browser_without_a_message(browser, made, reported, tmp_path):
    assert reported
    document, messages = opened(browser, made[3] / "carried.html", tmp_path / "profile")
    assert messages == []
    assert 'id="alignment"' in document
    assert "<title>Reference index carried</title>" in document
