"""The figures that `benchmarks/transfer.py` prints: recall of each class, balanced accuracy, and its interval."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from cellvigil_indexes.bank import Bank

_PATH = Path(__file__).resolve().parents[1] / "benchmarks" / "transfer.py"


@pytest.fixture(scope="module")
def transfer():
    found = importlib.util.spec_from_file_location("transfer_benchmark", _PATH)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    try:
        found.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[found.name]


TRUTH = np.array(["neutrophil"] * 6 + ["eosinophil"] * 2 + ["lymphocyte"] * 2)


def test_every_class_counts_alike_and_one_without_cells_not(transfer):
    said = np.array(["neutrophil"] * 3 + ["monocyte"] * 3 + ["eosinophil", "neutrophil", "lymphocyte", "lymphocyte"])
    np.testing.assert_allclose(transfer.recalls(said, TRUTH), [0.5, 0.5, 1.0, np.nan])
    assert transfer.balanced(said, TRUTH) == pytest.approx(2 / 3)


def test_an_interval_holds_the_figure_and_narrows_with_cells(transfer):
    rng = np.random.default_rng(0)
    widths = []
    for times in (20, 200):
        truth = np.tile(TRUTH, times)
        said = np.where(rng.random(len(truth)) < 0.7, truth, "monocyte")
        low, high = transfer.interval(said, truth)
        assert low <= transfer.balanced(said, truth) <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_keeps_the_classes_in_the_order_asked_for(transfer):
    cells = {"one": np.arange(8, dtype=np.float32)[:, None]}
    bank = Bank(("b", "a", "c", "d"), cells, np.arange(8, dtype=np.int16) % 4, np.arange(8, dtype=np.int32))
    part = transfer.only(bank, ("a", "b"))
    assert part.classes == ("a", "b")
    assert part.labels.tolist() == [1, 0, 1, 0]
    assert part.embeddings["one"][:, 0].tolist() == [0, 1, 4, 5]
