"""Which indexes get a graph, what their manifest says of it, and how they open."""

from __future__ import annotations

import numpy as np
import pytest

from cellvigil import decide, pipeline
from cellvigil.bundle.index import open_index
from cellvigil.errors import BundleError, UsageError
from cellvigil.neighbours import open_search
from cellvigil_indexes.searching import graphs
from cellvigil_indexes.settings import IndexSettings
from graph_fixtures import DIMENSIONS, exact_over, states
from index_fixtures import write_plain_index


@pytest.mark.parametrize(
    ("cells", "metric", "wanted", "kind", "why"),
    [
        (49_999, "l2", "auto", "exact", "49,999"),
        (50_000, "l2", "auto", "hnsw", "50,000"),
        (500_000, "canberra", "auto", "exact", "Canberra"),
        (500_000, "l2", "exact", "exact", "asked for"),
        (10, "l2", "hnsw", "hnsw", "asked for"),
    ],
)
def test_the_choice_and_its_reason(cells, metric, wanted, kind, why):
    chosen, reason = graphs.choose(cells, metric, wanted)
    assert chosen == kind
    assert why in reason


def test_no_graph_by_canberra():
    with pytest.raises(UsageError, match="Canberra"):
        graphs.choose(10, "canberra", "hnsw")


def test_what_prepare_leaves_in_the_bundle(tmp_path):
    exact = exact_over(states(np.random.default_rng(10), 500, DIMENSIONS)[0])
    assert graphs.prepare(tmp_path, exact, IndexSettings())["search"] == "exact"
    assert not list(tmp_path.iterdir())
    said = graphs.prepare(tmp_path, exact, IndexSettings(search="hnsw", k_max=30))
    assert said["search"] == "hnsw"
    assert "30 nearest" in said["search_why"]
    assert said["graph"]["nodes"] == 500
    assert {path.name for path in tmp_path.iterdir()} == {"graph.faiss", "graph_nodes.npy"}


def test_a_graph_that_finds_too_little_is_taken_only_where_it_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(graphs, "PAYS_FROM", 100)
    monkeypatch.setattr(graphs, "RECALL_WANTED", 1.01)  # nothing is good enough
    exact = exact_over(states(np.random.default_rng(11), 300, DIMENSIONS)[0])
    said = graphs.prepare(tmp_path, exact, IndexSettings())
    assert (said["search"], said["graph"]) == ("exact", None)
    assert "%" in said["search_why"]
    assert not list(tmp_path.iterdir())
    assert graphs.prepare(tmp_path, exact, IndexSettings(search="hnsw"))["search"] == "hnsw"


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_a_bundle_with_a_graph_opens_and_calls_as_one_without(tmp_path, storage):
    by_graph, by_all = (
        open_index(write_plain_index(tmp_path / wanted, cells=800, search=wanted, storage=storage, k_max=50))
        for wanted in ("hnsw", "exact")
    )
    assert (by_graph.search, by_all.search) == ("hnsw", "exact")
    assert "asked for" in by_graph.manifest["search_why"]
    assert by_graph.manifest["graph"]["recall"] >= 0.99
    queries = {"one": np.asarray(by_all.embeddings["one"][::7], dtype=np.float32) + np.float32(0.05)}
    searches = [open_search(index) for index in (by_graph, by_all)]
    assert [search.deepens for search in searches] == [True, False]
    settings = decide.Settings.of(by_all)
    calls = [pipeline.called(queries, by_all, search, settings) for search in searches]
    assert np.mean(calls[0].best_ids == calls[1].best_ids) >= 0.99
    assert np.mean(calls[0].neighbours == calls[1].neighbours) >= 0.99


def test_a_bundle_whose_graph_was_altered_is_refused(tmp_path):
    folder = write_plain_index(tmp_path / "index", cells=100, search="hnsw")
    nodes = np.load(folder / "graph_nodes.npy")
    np.save(folder / "graph_nodes.npy", nodes[::-1])
    with pytest.raises(BundleError, match="graph_nodes"):
        open_index(folder)


def test_an_index_by_canberra_gets_no_graph(tmp_path):
    with pytest.raises(UsageError, match="Canberra"):
        write_plain_index(tmp_path / "index", metric="canberra", search="hnsw")
    assert not list(tmp_path.iterdir())
