"""`cellvigil-index report`: what stands on the page, whatever the index is like."""

from __future__ import annotations

import contextlib
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from cellvigil.neighbours import ExactSearch
from cellvigil_indexes.cli import main
from cellvigil_indexes.report.spaces import spaces_of
from cellvigil_indexes.report.write import write_report
from report_fixtures import HOSTILE, write_reportable

SIZE_BOUND = 16_000_000
"""Bytes of a page, with as many classes as it shows and thumbnails of noise."""


class Page(HTMLParser):
    """What a browser would make of it, as far as a test asks."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.style = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.style = tag == "style"

    def handle_endtag(self, tag):
        self.style = self.style and tag != "style"

    def handle_data(self, data):
        if not self.style:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def reported(capsys, folder, *more):
    """Run the command; returns the printed JSON and the page."""
    code = main(["report", folder.name, "--out", str(folder.parent), "--projection", "pca", "--json", *more])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    result = json.loads(printed.out)
    return result, Path(result["html"]).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """(result, text of the page, index) of an index that has all there is."""
    folder = tmp_path_factory.mktemp("indexes") / "all"
    index = write_reportable(folder)
    target = folder.parent / "page.html"
    result_file = folder.parent / "result.json"
    arguments = ["report", "all", "--out", str(folder.parent), "--html", str(target), "--projection", "pca", "--json"]
    with result_file.open("w") as file, contextlib.redirect_stdout(file):
        assert main(arguments) == 0
    return json.loads(result_file.read_text()), target.read_text(encoding="utf-8"), index


def test_the_page_needs_nothing_but_itself(everything):
    _, text, _ = everything
    page = Page(text)
    assert not page.all("script")
    assert not page.all("link")
    assert not page.all("iframe")
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:image/")), (tag, name)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
    assert not re.search(r"url\((?!#)|@import", text)
    policy = next(meta for meta in page.all("meta") if "http-equiv" in meta)
    assert policy["content"].startswith("default-src 'none'")


def test_foreign_names_are_text_and_nothing_else(everything):
    _, text, index = everything
    page = Page(text)
    assert all(attributes.get("src", "").startswith("data:") for attributes in page.all("img"))
    assert not any("onerror" in attributes for _, attributes in page.tags)
    for name in (*HOSTILE, "<i>somewhere</i>", "plate/<b>"):
        assert " ".join(name.split()) in page.text
    assert set(HOSTILE) == set(index.classes)


def test_a_screen_reader_finds_its_way(everything):
    _, text, _ = everything
    page = Page(text)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for link in page.all("a"):
        assert link["href"].removeprefix("#") in ids
    assert all(image.get("alt") for image in page.all("img"))
    assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in page.all("svg"))
    assert len(page.all("table")) == len(page.all("caption"))
    assert {header.get("scope") for header in page.all("th")} == {"col", "row"}
    assert page.all("html")[0]["lang"] == "en"


def test_references_inside_drawings_hit(everything):
    _, text, _ = everything
    ids = set(re.findall(r'\bid="([^"]+)"', text))
    used = re.findall(r'xlink:href="#([^"]+)"', text) + re.findall(r"url\(#([^)]+)\)", text)
    assert used
    assert set(used) <= ids


@pytest.mark.parametrize(
    "words",
    [
        "240 reference cells",
        "is below 0.3, or 40 are reached",
        "class separability",
        "RBF CKA, debiased",
        "components for 95 % of variance",
        "share of leading components",
        "Held out: macro accuracy 80.0 %",
        "Macro accuracy by k_min",
        "Macro accuracy by k_max",
        "Confusion: true class by row",
        "Reliability diagram",
        "Coverage of the conformal sets",
        "C = (1 - H) x 100 %",
        "Wrong calls",
        "Right calls",
        "Earlier versions",
        "First two principal components, as asked",
        "kept and not used: spare (6-d)",
    ],
)
def test_everything_that_is_known_is_shown(everything, words):
    _, text, _ = everything
    assert words in Page(text).text


def test_the_numbers_are_printed_too(everything):
    result, _, index = everything
    assert result["bytes"] < SIZE_BOUND
    assert [space["name"] for space in result["spaces"]] == ["first", "second", "spare", "chosen combination"]
    assert [space["chosen"] for space in result["spaces"]] == [False, False, False, True]
    for space in result["spaces"]:
        assert space["separability"] == pytest.approx(space["intra"] - 2 * space["inter"])
    assert sum(result["distance_shares"].values()) == pytest.approx(1)
    assert sum(result["spaces"][-1]["component_shares"].values()) == pytest.approx(1)
    np.testing.assert_allclose(np.diag(result["cka"]["debiased"]), 1)
    assert result["trials"]["count"] == 32
    assert result["trials"]["best"]["encoders"] == ["first", "second"]
    assert result["out_of_fold"]["accuracy"] == pytest.approx(index.manifest["evaluation"]["accuracy"])
    assert set(result["out_of_fold"]["auroc"]) == {"C of the papers", "vote share", "probability"}
    assert 0.5 < result["out_of_fold"]["accuracy"] < 1
    assert result["calibration"]["conformal"]["measured"]["by_class"].keys() == set(HOSTILE)


def test_the_combination_is_the_distance_that_calls_use(tmp_path):
    index = write_reportable(tmp_path / "unit", scaling="unit", tuned=False, aside=0, cells=40)
    space = spaces_of(index, np.arange(len(index)))[-1]
    near = ExactSearch.over(index).nearest({name: block[:5] for name, block in index.embeddings.items()}, 8)
    away = np.linalg.norm(space.vectors[:5, None] - space.vectors[None], axis=2)
    np.testing.assert_allclose(np.sort(away, axis=1)[:, :8], near.distances, atol=1e-4)


CASES = {
    "one class": {"classes": ("only",), "cells": 12, "aside": 0},
    "one encoder": {"encoders": ("first",), "used": ("first",), "cells": 30},
    "one of two encoders": {"encoders": ("first", "second"), "used": ("second",), "cells": 30, "aside": 0},
    "two cells": {"classes": ("a", "b"), "cells": 2, "aside": 0, "k_min": 2},
    "one cell": {"classes": ("a",), "cells": 1, "aside": 0, "k_min": 2},
    "one group": {"cells": 30, "groups": 1, "aside": 0},
    "canberra": {"metric": "canberra", "cells": 60, "aside": 0},
    "half precision": {"storage": "float16", "cells": 60, "aside": 0},
    "grey": {"channels": 1, "cells": 30, "aside": 0},
    "all alike": {"spread": 0.0, "cells": 30, "aside": 0},
    "never wrong": {"spread": 0.01, "cells": 130},
}


@pytest.mark.parametrize("case", CASES)
def test_every_index_has_a_page(case, tmp_path, capsys):
    index = write_reportable(tmp_path / "odd", tuned=False, **CASES[case])
    result, text = reported(capsys, index.folder)
    assert result["html"] == str(tmp_path / "odd.html")
    assert sum(space["chosen"] for space in result["spaces"]) == 1
    page = Page(text).text
    assert "cellvigil-index tune odd" in page
    assert "nan" not in re.sub(r"[a-z]nan|nan[a-z]", "", page.lower())
    if case in ("one group", "one cell"):
        assert result["out_of_fold"] is None
        assert "there are no examples" in page


def test_a_page_stays_small(tmp_path, capsys):
    classes = tuple(f"class {i}" for i in range(61))
    index = write_reportable(tmp_path / "large", classes=classes, cells=61 * 14, aside=0, tuned=False)
    result, text = reported(capsys, index.folder)
    assert result["bytes"] == len(text.encode()) < SIZE_BOUND
    assert "Of 1 further classes no cells are shown" in Page(text).text


def test_the_bundle_stays_as_it_is(tmp_path, capsys):
    index = write_reportable(tmp_path / "kept", tuned=False, aside=0, cells=30)
    before = {path: path.stat().st_mtime_ns for path in sorted(index.folder.rglob("*"))}
    for target in (index.folder / "page.html", index.folder, tmp_path):
        assert main(["report", str(index.folder), "--html", str(target), "--projection", "pca"]) == 2
        assert "--html" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in sorted(index.folder.rglob("*"))} == before
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_garbled_table_of_trials_is_named(tmp_path, capsys):
    index = write_reportable(tmp_path / "bad", tuned=False, aside=0, cells=30)
    (index.folder / "trials.parquet").write_bytes(b"PAR1 is not enough")
    assert main(["report", "bad", "--out", str(tmp_path), "--projection", "pca"]) == 1
    assert "trials.parquet" in capsys.readouterr().err


def test_two_reports_of_one_index_are_the_same(tmp_path):
    index = write_reportable(tmp_path / "same", cells=60, aside=0, tuned=False)
    now = datetime(2026, 1, 2, tzinfo=UTC)
    for name in ("a.html", "b.html"):
        write_report(index, tmp_path / name, projection="pca", now=now, tell=lambda _step: None)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
